"""The App's own token, and an installation's that is minted when first needed, minted again once when refused, and revoked at
the end.

No token stands in a representation, a log or an error.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Final

import httpx
import jwt
from githubkit import GitHub
from githubkit.auth import BaseAuthStrategy

from infra.github.translate import date_told

_BEFORE: Final = timedelta(seconds=60)
_GOOD_FOR: Final = timedelta(minutes=9)
_KEPT_FOR: Final = timedelta(minutes=4)
"""Issued a minute ago "to protect against clock drift", and good for ten minutes at the most:
https://docs.github.com/en/apps/creating-github-apps/authenticating-with-a-github-app/generating-a-json-web-token-jwt-for-a-github-app#about-json-web-tokens-jwts"""


def _now() -> datetime:
    return datetime.now(UTC)


class AppToken(BaseAuthStrategy):
    """The App's credentials: a JWT that is made anew every few minutes, and by GitHub's clock once that turned out to be another
    than ours."""

    def __init__(self, app_id: str, private_key: str, *, now: Callable[[], datetime] = _now) -> None:
        self._app_id = app_id
        self._private_key = private_key
        self._now = now
        self._ahead = timedelta(0)
        self._made: tuple[datetime, str] | None = None

    def current(self) -> str:
        now = self._now()
        if self._made is None or not timedelta(0) <= now - self._made[0] < _KEPT_FOR:
            issued = now + self._ahead - _BEFORE
            claims = {"iss": self._app_id, "iat": issued, "exp": issued + _GOOD_FOR}
            self._made = now, jwt.encode(claims, self._private_key, algorithm="RS256")
        return self._made[1]

    def by_the_clock_of(self, response: httpx.Response) -> str:
        """Another token, made by the clock of whoever refused the last."""
        there = date_told(response.headers.get("date", ""))
        self._ahead = there - self._now() if there is not None else timedelta(0)
        self._made = None
        return self.current()

    def get_auth_flow(self, github: GitHub[AppToken]) -> httpx.Auth:  # type: ignore[override]  # noqa: ARG002
        return _AppFlow(self)


class _AppFlow(httpx.Auth):
    """A request refused with 401 had no effect, so it may be sent a second time."""

    def __init__(self, token: AppToken) -> None:
        self._token = token

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        request.headers["Authorization"] = f"Bearer {self._token.current()}"
        response = yield request
        if response.status_code == 401:
            request.headers["Authorization"] = f"Bearer {self._token.by_the_clock_of(response)}"
            yield request


class InstallationToken(BaseAuthStrategy):
    """The credentials of one reader or writer. Tokens are opaque and of no fixed length."""

    def __init__(self, mint: Callable[[], Awaitable[str]]) -> None:
        self._mint = mint
        self._token: str | None = None
        self._lock = asyncio.Lock()

    @property
    def minted(self) -> bool:
        return self._token is not None

    def forget(self) -> None:
        self._token = None

    async def current(self) -> str:
        async with self._lock:
            if self._token is None:
                self._token = await self._mint()
            return self._token

    async def renewed(self, refused: str) -> str:
        """A token other than the refused one: minted now, or already by somebody else who was refused."""
        async with self._lock:
            if self._token is None or self._token == refused:
                self._token = await self._mint()
            return self._token

    def get_auth_flow(self, github: GitHub[InstallationToken]) -> httpx.Auth:  # type: ignore[override]  # noqa: ARG002
        return _Flow(self)


class _Flow(httpx.Auth):
    """A request refused with 401 had no effect, so it may be sent a second time, writes too.

    httpx drops the header by itself when a redirect leaves the API's origin (archives do).
    """

    def __init__(self, token: InstallationToken) -> None:
        self._token = token

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        token = await self._token.current()
        request.headers["Authorization"] = f"Bearer {token}"
        response = yield request
        if response.status_code == 401:
            request.headers["Authorization"] = f"Bearer {await self._token.renewed(token)}"
            yield request
