"""Keeps writes of one installation apart, as GitHub asks for.

At least one second between requests that create content:
https://docs.github.com/en/rest/using-the-rest-api/best-practices-for-using-the-rest-api#pause-between-mutative-requests
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable


class Pace:
    """Lets one write through at a time, each at least `interval_seconds` after the one before it began."""

    def __init__(
        self,
        interval_seconds: float,
        *,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._interval = interval_seconds
        self._now = now
        self._sleep = sleep
        self._next = 0.0

    async def __call__(self) -> None:
        """Waits for this write's turn. A turn is taken before the wait, so that waiting writes queue up."""
        now = self._now()
        turn = max(now, self._next)
        self._next = turn + self._interval
        if turn > now:
            await self._sleep(turn - now)
