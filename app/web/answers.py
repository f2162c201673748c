"""How an error of ours is answered: a page for people, problem+json for programs; never more than its own words."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response

from app.errors import ErasedError, MagicodeError, MissingError, RefusedError, TransientError, UserError
from app.web.access import NoTokenError, NotYoursError
from app.web.signin import ForeignFormError, NoSignInError, NotSignedInError

if TYPE_CHECKING:
    from app.web.pages import Pages

API = "/api/"

POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self' {github}; base-uri 'none'; "
    "frame-ancestors 'none'"
)


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
        (RefusedError, 403),
        (UserError, 400),
        (TransientError, 503),
    ):
        if isinstance(error, kind):
            return status
    return 500


def install(web: FastAPI, pages: Pages, *, github: str) -> None:
    """`github` is where people sign in: a form may lead there, and nowhere else outside."""

    @web.exception_handler(MagicodeError)
    async def refused(request: Request, error: MagicodeError) -> Response:
        status = status_of(error)
        if request.url.path.startswith(API):
            return problem(status, error.reason, error.message if status != 500 else "")
        if isinstance(error, NotSignedInError) and request.method == "GET":
            there = request.url.path + (f"?{request.url.query}" if request.url.query else "")
            return RedirectResponse(f"/signin?then={quote(there, safe='')}", 303)
        return pages.sorry(request, status, error.message if status != 500 else "Something of ours broke.")

    @web.middleware("http")
    async def guarded(request: Request, call_next):  # type: ignore[no-untyped-def]
        response: Response = await call_next(request)
        response.headers.setdefault("X-Content-Type-Options", "nosniff")
        response.headers.setdefault("Referrer-Policy", "no-referrer")
        response.headers.setdefault("Content-Security-Policy", POLICY.format(github=github))
        response.headers.setdefault("Cache-Control", "no-store")
        return response


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
