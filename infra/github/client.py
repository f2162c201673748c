"""githubkit as it is used here: one pool of connections, no retry, no cache, and no write that turns into a read."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final, TypeVar

import httpx
from githubkit import GitHub, Response
from githubkit.auth import BaseAuthStrategy
from githubkit.cache import MemCacheStrategy
from githubkit.throttling import BaseThrottler

from app.errors import TransientError
from infra.github.announce import send

A = TypeVar("A", bound=BaseAuthStrategy)

TIMEOUT: Final = httpx.Timeout(30.0, connect=10.0)


class _GitHub(GitHub[A]):
    """githubkit's own reading of rate limits raises ValueError for a `Retry-After` that is a date; `translate` reads them."""

    def _check_rate_limit(self, response: Response[Any]) -> None:  # noqa: ARG002
        return None

    def _extract_retry_after(self, response: Response[Any]) -> timedelta:  # noqa: ARG002
        return timedelta(0)


def client(
    auth: A, *, api_url: str, transport: httpx.AsyncBaseTransport, throttler: BaseThrottler | None = None
) -> GitHub[A]:
    """githubkit's own retry is off: it repeats writes that may have had their effect. So is its cache of answers."""
    return _GitHub(
        auth,
        base_url=api_url,
        user_agent="MagiCode",
        timeout=TIMEOUT,
        follow_redirects=True,
        http_cache=False,
        auto_retry=False,
        cache_strategy=MemCacheStrategy(),
        throttler=throttler,
        async_transport=transport,
        async_event_hooks={"response": [_no_write_becomes_a_read]},
    )


class Pooled(httpx.AsyncBaseTransport):
    """One pool of connections for all of githubkit's clients, which it opens and closes around each request. Nothing leaves
    through it unannounced, and no write that was held up."""

    def __init__(self, pool: httpx.AsyncBaseTransport) -> None:
        self._pool = pool

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return await send(request, self._pool.handle_async_request)

    async def close(self) -> None:
        await self._pool.aclose()


async def _no_write_becomes_a_read(response: httpx.Response) -> None:
    """HTTP clients follow a POST's 301 and 302 with a GET; 307 and 308 repeat the write as it was.

    https://docs.github.com/en/rest/using-the-rest-api/best-practices-for-using-the-rest-api#follow-redirects
    """
    if response.request.method not in ("GET", "HEAD") and response.status_code in (301, 302, 303):
        raise TransientError(
            "The repository has moved; its new name is asked for.", reason="repository_moved"
        )
