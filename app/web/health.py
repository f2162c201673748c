"""What the machinery around a process asks it: is it alive, is it ready, and what it has seen, in figures.

Refuses to show figures to whoever has not the token for them: they tell how a business goes.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from app.errors import TransientError
from app.house import House
from app.web import unheard

T = TypeVar("T")

PING_SECONDS = 3.0

log = logging.getLogger(__name__)


def alone(house: House) -> FastAPI:
    """Nothing but these doors: what a process has that takes no webhooks."""
    web = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    doors(web, house)
    return web


def doors(web: FastAPI, house: House) -> None:
    """`/healthz`, `/readyz` and `/metrics`."""

    @web.get("/healthz", include_in_schema=False)
    async def healthz() -> JSONResponse:
        return JSONResponse({"status": "alive"})

    @web.get("/readyz", include_in_schema=False)
    async def readyz() -> JSONResponse:
        try:
            await soon(house.store.ping(), PING_SECONDS)
        except TransientError as error:
            return JSONResponse({"status": "waiting", "reason": error.reason}, 503)
        return JSONResponse({"status": "ready"})

    @web.get("/metrics", include_in_schema=False)
    async def metrics(request: Request) -> Response:
        """https://prometheus.io/docs/instrumenting/exposition_formats/"""
        if house.metrics_token is None:
            return JSONResponse({"status": "closed", "reason": "MAGICODE_METRICS_TOKEN is not set"}, 403)
        if not _shown(request, house.metrics_token):
            return JSONResponse({"status": "closed"}, 401, {"WWW-Authenticate": "Bearer"})
        try:
            queues = await soon(house.store.queues(), PING_SECONDS)
        except TransientError:
            queues = None
        text, kind = house.watch.told(queues)
        return Response(text, media_type=kind)


def _shown(request: Request, token: str) -> bool:
    kind, _, given = request.headers.get("authorization", "").partition(" ")
    same = hmac.compare_digest(given.strip().encode("utf-8", "surrogateescape"), token.encode())
    return kind.lower() == "bearer" and same


async def soon(work: Coroutine[Any, Any, T], seconds: float) -> T:
    """What the work gives. Raises TransientError (`database_silent`) where it takes longer, as it does where the database
    neither answers nor refuses: a query cannot be broken off there, so it goes on, and nobody waits for what comes of it."""
    doing = asyncio.ensure_future(work)
    await asyncio.wait({doing}, timeout=seconds)
    if not doing.done():
        unheard.leave(doing)
        raise TransientError(reason="database_silent")
    return doing.result()
