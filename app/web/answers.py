"""How an error of ours is answered: a page for people, problem+json for programs; never more than its own words."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.custody.erase import LegalHoldError
from app.errors import (
    AlreadyExistsError,
    ErasedError,
    MagicodeError,
    MissingError,
    RefusedError,
    TransientError,
    UserError,
)
from app.steering import BusyThereError, NotRetryableError, NotStoppableError
from app.web import policy, unheard
from app.web.access import NoTokenError, NotYoursError, TooManyError
from app.web.live import TooManyWatchingError
from app.web.once import IdempotencyKeyReusedError, StillAtWorkError
from app.web.signin import ForeignFormError, NoSignInError, NotSignedInError

if TYPE_CHECKING:
    from app.web.pages import Pages

API = "/api/"
WEBHOOKS = "/webhooks/"
"""Whose bodies are read, and held to their size, elsewhere."""
LARGEST_FORM = 64 * 1024

ANSWERED_WITHIN_SECONDS = 20.0
"""People give up later than that, and so do proxies (60 s with AWS's load balancers)."""

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "interest-cohort=(), browsing-topics=()",
    "Cache-Control": "no-store",
}
"""https://developer.mozilla.org/docs/Web/Security/Practical_implementation_guides"""
HSTS = "max-age=63072000"

log = logging.getLogger(__name__)


def status_of(error: MagicodeError) -> int:
    """The first that fits, from the particular to the general."""
    for kind, status in (
        (NotSignedInError, 401),
        (NoTokenError, 401),
        (NotYoursError, 404),
        (ErasedError, 410),
        (MissingError, 404),
        (ForeignFormError, 403),
        (NoSignInError, 501),
        (LegalHoldError, 409),
        (NotStoppableError, 409),
        (NotRetryableError, 409),
        (BusyThereError, 409),
        (AlreadyExistsError, 409),
        (StillAtWorkError, 409),
        (IdempotencyKeyReusedError, 422),
        (TooManyError, 429),
        (TooManyWatchingError, 429),
        (RefusedError, 403),
        (UserError, 400),
        (TransientError, 503),
    ):
        if isinstance(error, kind):
            return status
    return 500


def install(web: FastAPI, pages: Pages, *, github: str, secure: bool = False) -> None:
    """`github` is where people sign in: a form may lead there, and nowhere else outside. `secure`: people come by https."""

    @web.exception_handler(MagicodeError)
    async def refused(request: Request, error: MagicodeError) -> Response:
        status = status_of(error)
        if status == 500:
            log.error("A request met a mistake of ours.", extra={"reason": error.reason})
        if isinstance(error, NotSignedInError) and request.method == "GET" and not _is_api(request):
            there = request.url.path + (f"?{request.url.query}" if request.url.query else "")
            return RedirectResponse(f"/signin?then={quote(there, safe='')}", 303)
        said = error.message if status != 500 else "Something of ours broke."
        return _with_hints(_answer(request, pages, status, error.reason, said), status, error)

    @web.exception_handler(RequestValidationError)
    async def unreadable(request: Request, error: RequestValidationError) -> Response:
        """Names what could not be read, and never what was sent: it may be a key."""
        places = [".".join(str(part) for part in one["loc"][1:]) for one in error.errors()]
        if any(one["loc"][0] == "path" for one in error.errors()):
            return _answer(request, pages, 404, "not_found", "There is nothing here.")
        named = ", ".join(dict.fromkeys(place for place in places if place)) or "the body"
        return _answer(request, pages, 400, "unreadable", f"This cannot be read: {named}.")

    @web.exception_handler(HTTPException)
    async def stopped(request: Request, error: HTTPException) -> Response:
        """What the router itself says no to, such as an address that is none."""
        phrase = HTTPStatus(error.status_code).phrase
        said = "There is nothing here." if error.status_code == 404 else f"{phrase}."
        answer = _answer(request, pages, error.status_code, phrase.lower().replace(" ", "_"), said)
        for name, value in (error.headers or {}).items():
            answer.headers[name] = value
        return answer

    @web.exception_handler(ClientDisconnect)
    async def gone(request: Request, error: ClientDisconnect) -> Response:  # noqa: ARG001 (as handlers are called)
        """Who sent it does not wait for an answer."""
        return problem(400, "incomplete", "The request ended before its end.")

    async def late(scope: Scope, receive: Receive, send: Send) -> None:
        request, error = Request(scope), TransientError(reason="silent")
        await _answer(request, pages, status_of(error), error.reason, error.message)(scope, receive, send)

    web.add_middleware(InTime, late=late)
    always = {**HEADERS, policy.HEADER: policy.policy(github)}
    web.add_middleware(_Guard, headers=always | ({"Strict-Transport-Security": HSTS} if secure else {}))


class _Guard:
    """Turns away what is not to be read, and gives each answer the headers that it does not have of its own."""

    def __init__(self, app: ASGIApp, headers: Mapping[str, str]) -> None:
        self._app = app
        self._headers = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def answered(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
            await send(message)

        request = Request(scope)
        refused = _smuggled(request) or _too_large(request)
        await (refused or self._app)(scope, receive, answered)


class InTime:
    """Lets `late` answer where nothing else has begun to within `seconds`, counted from the last piece of the request: a database
    can be there and say nothing. A query cannot be broken off there, so the work goes on, and nobody hears what comes of it.

    Deliveries are left alone: GitHub waits for ten seconds, and acceptance has a limit of its own.
    """

    def __init__(self, app: ASGIApp, late: ASGIApp, seconds: float = ANSWERED_WITHIN_SECONDS) -> None:
        self._app = app
        self._late = late
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(WEBHOOKS):
            await self._app(scope, receive, send)
            return
        clock = asyncio.get_running_loop().time
        began, given_up, until = asyncio.Event(), False, clock() + self._seconds

        async def heard() -> Message:
            nonlocal until
            message = await receive()
            until = clock() + self._seconds
            return message

        async def said(message: Message) -> None:
            began.set()
            if not given_up:
                await send(message)

        doing: asyncio.Future[None] = asyncio.ensure_future(_run(self._app, scope, heard, said))
        beginning = asyncio.ensure_future(began.wait())
        either: set[asyncio.Future[Any]] = {doing, beginning}
        try:
            while not (began.is_set() or doing.done()) and (left := until - clock()) > 0:
                await asyncio.wait(either, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if began.is_set() or doing.done():
                await doing
                return
        except asyncio.CancelledError:
            doing.cancel()
            raise
        finally:
            beginning.cancel()
        given_up = True
        unheard.leave(doing)
        log.warning("A request was not answered in time.")
        await self._late(scope, receive, send)


async def _run(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    await app(scope, receive, send)


def problem(status: int, reason: str, detail: str) -> JSONResponse:
    """https://www.rfc-editor.org/rfc/rfc9457"""
    return JSONResponse(
        {
            "type": f"urn:magicode:{reason}",
            "title": reason.replace("_", " "),
            "status": status,
            "detail": detail,
        },
        status,
        media_type="application/problem+json",
    )


def _is_api(request: Request) -> bool:
    return request.url.path.startswith(API)


def _answer(request: Request, pages: Pages, status: int, reason: str, said: str) -> Response:
    if _is_api(request):
        return problem(status, reason, said)
    return pages.sorry(request, status, said)


def _with_hints(answer: Response, status: int, error: MagicodeError) -> Response:
    if status == 401:
        answer.headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, TransientError) and error.retry_after is not None:
        answer.headers["Retry-After"] = str(math.ceil(error.retry_after.total_seconds()))
    return answer


def _smuggled(request: Request) -> Response | None:
    """Two lengths of one body: a proxy before us may have believed the other one, and what is left over is a request that it
    never saw. https://www.rfc-editor.org/rfc/rfc9112#section-6.3"""
    if "content-length" in request.headers and "transfer-encoding" in request.headers:
        answer = problem(400, "two_lengths", "The length of a body is said once.")
        answer.headers["Connection"] = "close"
        return answer
    return None


def _too_large(request: Request) -> Response | None:
    """Forms and documents are small; one that does not say its size is not read at all."""
    if request.url.path.startswith(WEBHOOKS):
        return None
    claimed = request.headers.get("content-length")
    if claimed is None and "transfer-encoding" in request.headers:
        return problem(411, "length_required", "Say how long the body is.")
    if claimed is not None and (not claimed.isdigit() or int(claimed) > LARGEST_FORM):
        return problem(413, "too_large", f"A body here has at most {LARGEST_FORM} bytes.")
    return None
