"""An installation token that is minted when first needed, minted again once when refused, and revoked at the end.

The token stands in no representation, no log and no error.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable

import httpx
from githubkit import GitHub
from githubkit.auth import BaseAuthStrategy


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
