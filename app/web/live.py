"""One run as it happens, in server-sent events: the page's own piece, anew whenever something was written down.

Refuses to watch for ever: a browser comes again by itself, and is then asked anew who it is and what it may see.
https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any, Final, TypeVar

from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from app.actionlog.export import opened
from app.actionlog.exported import ExportedEntry
from app.errors import ErasedError, RefusedError, TransientError, UserError
from app.house import House
from app.nouns import Run
from app.web import unheard
from app.web.journey import Journey, journey
from app.web.pages import Pages

LASTS_SECONDS: Final = 240.0
"""Shorter than the five minutes for which GitHub's answer is believed."""
LOOK_SECONDS: Final = 1.0
LONGEST_LOOK_SECONDS: Final = 3.0
"""Between two looks, while little happens."""
SILENT_SECONDS: Final = 15.0
"""A proxy takes a connection that says nothing for a dead one."""
OF_ONE_PERSON: Final = 6
IN_ALL: Final = 100

T = TypeVar("T")

_AGAIN: Final = "retry: 2000\n\n"
"""Milliseconds after which a browser comes again."""


class TooManyWatchingError(TransientError):
    """Too many pages are open that watch runs. Close some of them, or load this one again later."""


class Streams:
    """How many there are, and when all of them are to end: a server that leaves waits for whom it answers."""

    def __init__(self, leaving: asyncio.Event) -> None:
        self.leaving = leaving
        self._open: Counter[int] = Counter()

    @contextmanager
    def one(self, person_id: int) -> Iterator[None]:
        """A place for as long as the block lasts: nobody else comes between the look for it and the taking.

        Raises TooManyWatchingError.
        """
        if self._open[person_id] >= OF_ONE_PERSON or self._open.total() >= IN_ALL:
            raise TooManyWatchingError(reason="too_many_watching")
        self._open[person_id] += 1
        try:
            yield
        finally:
            self._open[person_id] -= 1
            if not self._open[person_id]:
                del self._open[person_id]


class Stream(StreamingResponse):
    """Has its place before anything is sent, and none once it is over, however it ends: what it would tell may never be asked for,
    as where the client has left."""

    media_type = "text/event-stream"

    def __init__(self, told: AsyncIterator[str], place: AbstractContextManager[None]) -> None:
        super().__init__(told, headers={"X-Accel-Buffering": "no"})
        self._place = place

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises TooManyWatchingError, for which there is still time to be the answer."""
        with self._place:
            await super().__call__(scope, receive, send)


class Watching:
    """What was read of a run so far: only what is new is read again."""

    def __init__(self, house: House, run: Run) -> None:
        self._house = house
        self._run = run
        self._entries: list[ExportedEntry] = []

    async def look(self) -> Journey | None:
        """As it is now; None where the run is gone. Raises TransientError."""
        house, tenant = self._house, self._run.installation_id
        try:
            async with house.store.transaction(tenant) as transaction:
                run = await transaction.run(self._run.id)
            if run is None:
                return None
            after = self._entries[-1].seq if self._entries else 0
            new = opened(house.store, house.keys, tenant, run_id=run.id, after_seq=after)
            self._entries += [one async for one in new]
        except ErasedError:
            return None
        return journey(run, self._entries)


async def events(
    house: House,
    pages: Pages,
    leaving: asyncio.Event,
    run: Run,
    may: Callable[[], Coroutine[Any, Any, None]],
    *,
    repository: str | None,
) -> AsyncIterator[str]:
    """`journey` with the piece of the page, and `end` when the run has ended.

    Before each look `may` raises a UserError or a RefusedError where whoever watches may not any more: nothing more is told, and a
    browser that comes again hears why.
    """
    yield _AGAIN
    watching, shown, until = Watching(house, run), "", time.monotonic() + LASTS_SECONDS
    spoken, pause = time.monotonic(), LOOK_SECONDS
    while time.monotonic() < until and not leaving.is_set():
        with suppress(
            TransientError
        ):  # the database is briefly away, or the service paused: the page stays as it is
            try:
                await _to_its_end(may())
            except (UserError, RefusedError):
                return
            now = await _to_its_end(watching.look())
            if now is None or now.run.state.ended:
                yield _event("end", "")
                return
            piece = pages.piece("journey.html", run=now.run, journey=now, repository=repository, lasted=0)
            pause = min(pause * 1.25, LONGEST_LOOK_SECONDS) if piece == shown else LOOK_SECONDS
            if piece != shown:
                shown, spoken = piece, time.monotonic()
                yield _event("journey", piece)
        if time.monotonic() - spoken > SILENT_SECONDS:
            spoken = time.monotonic()
            yield ": still here\n\n"
        with suppress(TimeoutError):
            await asyncio.wait_for(leaving.wait(), pause)


async def _to_its_end(look: Coroutine[Any, Any, T]) -> T:
    """What the look gives. A browser may leave at any moment, and a query that is broken off costs its connection."""
    doing = asyncio.ensure_future(look)
    try:
        return await asyncio.shield(doing)
    except asyncio.CancelledError:
        unheard.leave(doing)
        raise


def _event(name: str, text: str) -> str:
    lines = "".join(f"data: {line}\n" for line in text.split("\n"))
    return f"event: {name}\n{lines}\n"
