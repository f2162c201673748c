"""The web process: GitHub's webhooks in, health out, and by default the worker beside them.

Refuses to hold a request open for anything but the one transaction that accepts it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from app.erasing import signer
from app.errors import TransientError
from app.house import House
from app.jobs.accept import accept
from app.web.rooms import mount
from webhooks.errors import TooLargeError, WebhookError
from webhooks.receive import LARGEST_BODY, receive

log = logging.getLogger(__name__)


def create(house: House, *, beside: Callable[[], Awaitable[None]] | None = None) -> FastAPI:
    """The web application. `beside` runs for as long as it does: the worker, where one process is both."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        task = asyncio.ensure_future(beside()) if beside else None
        try:
            yield
        finally:
            if task:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

    web = FastAPI(title="MagiCode", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)

    @web.post("/webhooks/github")
    async def github(request: Request) -> JSONResponse:
        return await _webhook(house, request)

    @web.get("/healthz")
    async def healthz() -> JSONResponse:
        return JSONResponse({"status": "alive"})

    @web.get("/readyz")
    async def readyz() -> JSONResponse:
        try:
            await house.store.ping()
        except TransientError as error:
            return JSONResponse({"status": "waiting", "reason": error.reason}, 503)
        return JSONResponse({"status": "ready"})

    @web.get("/.well-known/magicode-receipts.json")
    async def receipts() -> JSONResponse:
        """Whose signature is on the receipts of deletions."""
        try:
            return JSONResponse((await signer(house)).keys_document())
        except TransientError as error:
            return JSONResponse({"reason": error.reason}, 503)

    mount(web, house)
    return web


async def _webhook(house: House, request: Request) -> JSONResponse:
    try:
        body = await _body(request)
        # In a thread: the grammar of a hostile comment of 65,536 characters takes a second.
        received = await asyncio.to_thread(
            receive,
            request.headers,
            body,
            secrets=house.webhook_secrets,
            slug=house.slug,
            app_id=house.app_id,
        )
    except WebhookError as error:
        log.warning("A delivery was refused.", extra={"reason": error.reason, "status": error.status})
        return JSONResponse(
            {"outcome": "refused", "reason": error.reason, "message": error.message}, error.status
        )
    try:
        accepted = await accept(
            received,
            store=house.store,
            ledger=house.ledger,
            keys=house.keys,
            clock=house.clock,
            new_id=house.new_id,
        )
    except TransientError as error:
        # GitHub lists a failed delivery for three days, so it is not lost: the reconciler asks for it again.
        log.warning("A delivery could not be written down.", extra={"reason": error.reason})
        return JSONResponse({"outcome": "unavailable", "reason": error.reason}, 503)
    run = str(accepted.run.id) if accepted.run else None
    return JSONResponse({"outcome": accepted.kind.value, "reason": accepted.reason or None, "run": run}, 202)


async def _body(request: Request) -> bytes:
    """At most LARGEST_BODY, whatever the Content-Length claims. Raises TooLargeError as soon as there is more."""
    claimed = request.headers.get("content-length", "")
    if claimed.isdigit() and int(claimed) > LARGEST_BODY:
        raise TooLargeError(reason="too_large")
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > LARGEST_BODY:
            raise TooLargeError(reason="too_large")
        chunks.append(chunk)
    return b"".join(chunks)
