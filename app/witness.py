"""Sees to it that each request to GitHub stands in the action log: writes one by one and beforehand, reads counted together.

A write's entry is there before the write is sent, so that no crash can hide it; other entries say what came of it. So is what
makes or ends a token. Of what is only read, a process that is killed hides the last few.
Keeps no path, no name and no text: a request is its method and GitHub's own template of its route.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final, Self

from app.errors import ErasedError, TransientError
from app.nouns import Action
from app.ports import Fence, Recorder

OWN_EVERY_SECONDS: Final = 300.0
"""The App's own look at GitHub, each minute, is written down this often."""

UNTOLD_AT_MOST: Final = 50
"""Reads are counted up to here before they are written down, whatever follows."""

_ASKS: Final = ("GET ", "HEAD ", "POST /graphql")
"""What changes nothing, with `changes` False, asks: by these."""

log = logging.getLogger(__name__)


async def unfenced() -> None:
    """Nobody can take this work over."""


class Witness:
    """Implements app.ports.Witness over one chain. `facts` are said in each entry beside the requests.

    `fence` says whether whoever writes still holds the work: it is asked before each write is written down, and once more
    where that write was held up before it left.
    """

    def __init__(self, record: Recorder, *, fence: Fence = unfenced, **facts: str | int) -> None:
        self._record = record
        self._fence = fence
        self._facts = facts
        self._read: Counter[str] = Counter()

    async def __call__(self, request: str, *, changes: bool) -> None:
        """Raises what the fence and the log raise: a write that cannot be written down is not made."""
        if not changes:
            self._read[request] += 1
            await self._tell_in_time(request)
            return
        await self.still()
        await self.flush()
        await to_its_end(self._record(Action.GITHUB_WRITE, "magicode", **{"request": request, **self._facts}))

    async def _tell_in_time(self, request: str) -> None:
        """A token is made only if that could be written down. It is revoked in any case, and what is read may be told later."""
        if request.startswith("POST ") and not request.startswith(_ASKS):
            await self.flush()
        elif not request.startswith(_ASKS) or self._read.total() >= UNTOLD_AT_MOST:
            with suppress(ErasedError, TransientError):
                await self.flush()

    async def still(self) -> None:
        """Raises what the fence raises."""
        await self._fence()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def flush(self) -> None:
        """Writes down what was read since the last time. What could not be is kept for the next."""
        if not self._read:
            return
        read, self._read = self._read, Counter()
        try:
            await to_its_end(self._record(Action.GITHUB_READ, "magicode", **{**read, **self._facts}))
        except TransientError:
            self._read.update(read)
            raise

    async def close(self) -> None:
        """The last of it. An installation whose data is being destroyed has no log any more; that the database is away must
        not hide what else went wrong."""
        try:
            await self.flush()
        except ErasedError:
            return
        except TransientError as error:
            log.warning(
                "Reads of GitHub could not be written down.",
                extra={"reason": error.reason, "requests": self._read.total()},
            )


class OwnWitness(Witness):
    """Of what the App asks for itself, by no installation's token: written down now and then, and at the end."""

    def __init__(
        self, record: Recorder, monotonic: Callable[[], float], every_seconds: float = OWN_EVERY_SECONDS
    ) -> None:
        super().__init__(record)
        self._monotonic = monotonic
        self._every = every_seconds
        self._next = monotonic() + every_seconds

    async def __call__(self, request: str, *, changes: bool) -> None:
        await super().__call__(request, changes=changes)
        if self._monotonic() >= self._next:
            self._next = self._monotonic() + self._every
            await self.flush()


async def to_its_end(work: Coroutine[Any, Any, object]) -> None:
    """Who is told to stop meanwhile stops afterwards: an entry that is half written might be written twice."""
    writing = asyncio.ensure_future(work)
    try:
        await asyncio.shield(writing)
    except asyncio.CancelledError:
        await asyncio.wait({writing})
        raise
