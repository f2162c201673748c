"""The web process: GitHub's webhooks in, health out, and by default the worker beside them.

Refuses to hold a request open for anything but the one transaction that accepts it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from weakref import WeakValueDictionary

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from app.erasing import signer
from app.errors import TransientError
from app.house import House
from app.jobs.accept import Accepted, Kind, accept
from app.web import health
from app.web.health import soon
from app.web.rooms import mount
from webhooks.command import Command
from webhooks.errors import TakesLongError, TooLargeError, WebhookError
from webhooks.notices import Received
from webhooks.receive import LARGEST_BODY, receive

ACCEPT_SECONDS = 8.0
"""GitHub waits for ten: https://docs.github.com/en/webhooks/using-webhooks/best-practices-for-using-webhooks#respond-within-10-seconds"""

AT_ONCE = 4
SHORT_BODY, SHORT_TEXT = 65_536, 500
"""Bytes of a delivery and characters of a comment that are read within some milliseconds whatever they hold."""

log = logging.getLogger(__name__)


def create(
    house: House,
    *,
    beside: Callable[[], Awaitable[None]] | None = None,
    leaving: asyncio.Event | None = None,
) -> FastAPI:
    """The web application. `beside` runs for as long as it does: the worker, where one process is both. So does listening to the
    house's relay, where it has one. `leaving` says that the
    server is about to: whoever watches a run is let go, since it waits for all whom it answers."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        works: list[Awaitable[None]] = [beside()] if beside else []
        if house.relay is not None:
            works.append(house.relay.carry(web))
        tasks = [asyncio.ensure_future(work) for work in works]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            for task in tasks:
                with suppress(asyncio.CancelledError):
                    await task

    # Redirected, an address with a slash too many would lead to whatever host the request names.
    web = FastAPI(
        title="MagiCode",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    room, doors = Room(), Doors()

    async def github(request: Request) -> JSONResponse:
        began = house.monotonic()
        with room.held() as hold:
            answer, outcome, reason = await _webhook(house, request, hold, doors)
        house.watch.delivered(outcome, reason, house.monotonic() - began)
        return answer

    # Nothing of it is FastAPI's to read, and GitHub waits.
    web.add_route("/webhooks/github", github, methods=["POST"])

    health.doors(web, house)

    @web.get("/.well-known/magicode-receipts.json")
    async def receipts() -> JSONResponse:
        """Whose signature is on the receipts of deletions."""
        try:
            return JSONResponse((await signer(house)).keys_document())
        except TransientError as error:
            return JSONResponse({"reason": error.reason}, 503)

    mount(web, house, leaving or asyncio.Event())
    return web


class Doors:
    """Lets a few deliveries of an installation in at once. More would but wait for one another at the end of its log, each with
    a connection to the database in its hands, and other installations' would wait with them."""

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self._at_once = at_once
        self._doors: WeakValueDictionary[int | None, asyncio.Semaphore] = WeakValueDictionary()

    def of(self, installation_id: int | None) -> asyncio.Semaphore:
        """There as long as somebody is in it or before it."""
        door = self._doors.get(installation_id)
        if door is None:
            door = self._doors[installation_id] = asyncio.Semaphore(self._at_once)
        return door


async def _webhook(
    house: House, request: Request, hold: Callable[[int], None], doors: Doors
) -> tuple[JSONResponse, str, str]:
    """The answer, and in a word or two what became of the delivery."""
    try:
        body = await _body(request, hold)
        received = await _read(house, request.headers, body)
    except WebhookError as error:
        log.warning("A delivery was refused.", extra={"reason": error.reason, "status": error.status})
        said = {"outcome": "refused", "reason": error.reason, "message": error.message}
        return JSONResponse(said, error.status), "refused", error.reason
    try:
        accepted = await soon(_accept(house, received, doors), ACCEPT_SECONDS)
    except TransientError as error:
        # GitHub lists a failed delivery for three days, so it is not lost: the reconciler asks for it again.
        log.warning("A delivery could not be written down.", extra={"reason": error.reason})
        answer = JSONResponse({"outcome": "unavailable", "reason": error.reason}, 503)
        return answer, "unavailable", error.reason
    # Order is not guaranteed: a request that overtook its installation's own event has to come again.
    early = accepted.kind is Kind.UNKNOWN_INSTALLATION and isinstance(received.outcome, Command)
    run = str(accepted.run.id) if accepted.run else None
    answer = JSONResponse(
        {"outcome": accepted.kind.value, "reason": accepted.reason or None, "run": run}, 503 if early else 202
    )
    return answer, accepted.kind.value, accepted.reason


async def _read(house: House, headers: Mapping[str, str], body: bytes) -> Received:
    """At once where that takes no time, as of nearly all; else in a thread: the grammar of a hostile comment takes a seventh of a second
    with 8,000 characters, and more than a second with 65,536. Raises WebhookError."""
    read = partial(
        receive, headers, body, secrets=house.webhook_secrets, slug=house.slug, app_id=house.app_id
    )
    if len(body) <= SHORT_BODY:
        with suppress(TakesLongError):
            return read(longest=SHORT_TEXT)
    return await asyncio.to_thread(read)


async def _accept(house: House, received: Received, doors: Doors) -> Accepted:
    async with doors.of(received.installation_id):
        return await accept(
            received,
            store=house.store,
            ledger=house.ledger,
            keys=house.keys,
            clock=house.clock,
            new_id=house.new_id,
        )


async def _body(request: Request, hold: Callable[[int], None]) -> bytes:
    """At most LARGEST_BODY, whatever the Content-Length claims. Raises TooLargeError as soon as there is more, and what
    `hold` raises for each piece."""
    claimed = request.headers.get("content-length", "")
    if claimed.isdigit() and int(claimed) > LARGEST_BODY:
        raise TooLargeError(reason="too_large")
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > LARGEST_BODY:
            raise TooLargeError(reason="too_large")
        hold(len(chunk))
        chunks.append(chunk)
    return b"".join(chunks)


MOST_HELD = 10 * LARGEST_BODY
"""Bytes of all bodies that are being read: whose they are is known only once the last byte is there."""


class NoRoomError(TransientError):
    """Too many large deliveries are being read. GitHub keeps this one, and it is asked for again."""


class Room:
    """For the bodies of all requests that are under way in this process."""

    def __init__(self) -> None:
        self._taken = 0

    @contextmanager
    def held(self) -> Iterator[Callable[[int], None]]:
        """Gives what takes room for so many bytes until the block ends, and raises NoRoomError where there is none."""
        mine = 0

        def take(count: int) -> None:
            nonlocal mine
            if self._taken + count > MOST_HELD:
                raise NoRoomError(reason="no_room")
            self._taken += count
            mine += count

        try:
            yield take
        finally:
            self._taken -= mine
