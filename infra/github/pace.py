"""Keeps the requests of one installation apart, as GitHub asks for: so that its limits are not met, rather than obeyed.

"Pause between mutative requests" (a second), 80 writes of content a minute and 500 an hour, 900 points a minute (a read is 1, a
write 5), 100 requests at once; GitHub says that it may change them and has others:
https://docs.github.com/en/rest/using-the-rest-api/best-practices-for-using-the-rest-api#pause-between-mutative-requests
https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api#about-secondary-rate-limits
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Final, Protocol

from app.errors import LimitedError, TransientError
from app.nouns import GitHubShare
from app.ports import Paces
from infra.github.translate import wait_told

WAITED_IN_PLACE: Final = timedelta(minutes=2)
"""Whoever would wait longer for a turn is put back, and its worker does something else. Those who write at once wait some seconds
each, and begin nothing anew for that."""

READ_POINTS: Final = 1
WRITE_POINTS: Final = 5
TOGETHER: Final = 10
KEPT_SECONDS: Final = 10.0
"""Reads are asked for ten at a time, and those that are not used within ten seconds are given up: where a minute's points are
counted, none was used more than so long after it was taken."""

SPARE_WRITES: Final = 40
"""Of the hour's writes: for saying what becomes of the runs. Nothing else takes them."""

TO_BEGIN: Final = 60
"""Of the hour's writes beyond those: whoever begins with fewer left would stop in the middle, and pay for the model twice."""

SPARE_REQUESTS: Final = 100
UNTOLD: Final = timedelta(minutes=1)


class Pace(Protocol):
    """The turns of one token's requests. Each raises LimitedError where waiting in place would take too long."""

    async def write(self) -> None: ...

    async def read(self) -> None: ...

    async def revoke(self) -> None: ...

    async def begin(self) -> None: ...

    async def limited(self, error: LimitedError) -> None: ...

    async def seen(self, headers: Mapping[str, str]) -> None: ...


class Spaced:
    """In this process alone: one write at a time, each at least `interval_seconds` after the one before it began. 0: no pace, for
    a server that has no limits."""

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

    async def write(self) -> None:
        """Waits for this write's turn. A turn is taken before the wait, so that waiting writes queue up."""
        now = self._now()
        turn = max(now, self._next)
        self._next = turn + self._interval
        if turn > now:
            await self._sleep(turn - now)

    async def read(self) -> None:
        """At once."""

    async def revoke(self) -> None:
        """At once."""

    async def begin(self) -> None:
        """At once."""

    async def limited(self, error: LimitedError) -> None:
        """Nobody else is told."""

    async def seen(self, headers: Mapping[str, str]) -> None:
        """Nobody counts."""


class Shared:
    """Among all processes that work for this installation. `urgent` requests say what becomes of a run: something is kept in
    reserve for them."""

    def __init__(
        self,
        paces: Paces,
        installation_id: int,
        share: GitHubShare,
        *,
        urgent: bool = False,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._paces = paces
        self._installation_id = installation_id
        self._share = share
        self._urgent = urgent
        self._now = now
        self._sleep = sleep
        self._reads = 0
        self._reads_until = 0.0
        self._spared_until = 0.0

    async def write(self) -> None:
        spared = 0 if self._urgent else SPARE_WRITES
        await self._turn(WRITE_POINTS, writes=True, spared=spared)

    async def read(self) -> None:
        if self._reads == 0 or self._now() >= self._reads_until:
            await self._turn(TOGETHER * READ_POINTS, writes=False)
            self._reads, self._reads_until = TOGETHER, self._now() + KEPT_SECONDS
        self._reads -= 1

    async def revoke(self) -> None:
        """Counted, and not waited for: a token that lives on is worse than a minute with a few points more."""
        await self._ask(WRITE_POINTS, writes=False, spared=0, longest=timedelta(days=1))

    async def begin(self) -> None:
        """Whether enough of the hour is left for a whole run; nothing is taken."""
        wait, _ = await self._ask(
            0, writes=True, spared=SPARE_WRITES + TO_BEGIN, longest=-timedelta(seconds=1)
        )
        if wait > WAITED_IN_PLACE:
            raise _paced(wait)

    async def limited(self, error: LimitedError) -> None:
        """Nobody asks before then."""
        if error.reason != PACED:
            with suppress(TransientError):  # then each learns it from GitHub
                await self._paces.hold(self._installation_id, error.retry_after or UNTOLD, spare=False)

    async def seen(self, headers: Mapping[str, str]) -> None:
        """The last of the hour's requests are for saying what becomes of the runs."""
        limit, left = told(headers, "x-ratelimit-limit"), told(headers, "x-ratelimit-remaining")
        if limit is None or left is None or left > min(SPARE_REQUESTS, limit // 50):
            return
        wait = wait_told({**headers, "x-ratelimit-remaining": "0"})
        if wait is not None and self._now() >= self._spared_until:
            self._spared_until = self._now() + wait.total_seconds()
            with suppress(TransientError):  # the answer is not lost for that
                await self._paces.hold(self._installation_id, wait, spare=True)

    async def _turn(self, points: int, *, writes: bool, spared: int = 0) -> None:
        wait, taken = await self._ask(points, writes=writes, spared=spared, longest=WAITED_IN_PLACE)
        if not taken:
            raise _paced(wait)
        if wait > timedelta(0):
            await self._sleep(wait.total_seconds())

    async def _ask(
        self, points: int, *, writes: bool, spared: int, longest: timedelta
    ) -> tuple[timedelta, bool]:
        share = replace(self._share, writes_per_hour=max(1, self._share.writes_per_hour - spared))
        turn = await self._paces.turn(
            self._installation_id, share, points=points, writes=writes, urgent=self._urgent, longest=longest
        )
        return turn.wait, turn.taken


PACED: Final = "paced"


def _paced(wait: timedelta) -> LimitedError:
    return LimitedError(
        "This installation's share of GitHub's limits is used up for now.", reason=PACED, retry_after=wait
    )


def told(headers: Mapping[str, str], name: str) -> int | None:
    """The number that a header says; None where it says none."""
    said = headers.get(name, "")
    return int(said) if said.isascii() and said.isdecimal() and len(said) < 12 else None
