"""Signing in with GitHub, and out again. GitHub says who it is; whether that person may see something is asked each time."""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
import re
from dataclasses import dataclass
from datetime import timedelta

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response

from app.errors import UserError
from app.ports import SignIn
from app.web.attempts import Attempts
from app.web.session import COOKIE, LASTS, SIGN_IN_LASTS, SIGNING_IN, Cookies, Session

RETURN = "/signin/github"

_HERE = re.compile(r"/(?![/\\])[\x21-\x7e]{0,500}")
"""A path of ours: nothing that a browser would take for another host."""

log = logging.getLogger(__name__)


class NotSignedInError(UserError):
    """Nobody is signed in."""


class NoSignInError(UserError):
    """Signing in is not set up here: the operator sets MAGICODE_CLIENT_ID, MAGICODE_CLIENT_SECRET and MAGICODE_PUBLIC_URL."""


class StaleSignInError(UserError):
    """This sign-in was begun in another browser, or too long ago. Please begin once more."""


class ForeignFormError(UserError):
    """This form was not sent from a page of ours, or from one of an earlier session. Load the page again."""


@dataclass(frozen=True, slots=True)
class Gate:
    """`sign_in` is None where the App's OAuth credentials are not set."""

    cookies: Cookies
    sign_in: SignIn | None
    public_url: str | None
    attempts: Attempts

    @property
    def secure(self) -> bool:
        return bool(self.public_url and self.public_url.startswith("https:"))

    async def session(self, request: Request) -> Session:
        """Raises NotSignedInError."""
        found = await self.cookies.session(request.cookies.get(COOKIE))
        if found is None:
            raise NotSignedInError
        return found

    def require_form(self, session: Session, form_key: str | None) -> None:
        """Raises ForeignFormError."""
        if form_key is None or not hmac.compare_digest(session.form_key.encode(), form_key.encode()):
            raise ForeignFormError

    def set(self, response: Response, name: str, value: str, lasts: timedelta) -> None:
        response.set_cookie(
            name,
            value,
            max_age=int(lasts.total_seconds()),
            path="/",
            secure=self.secure,
            httponly=True,
            samesite="lax",
        )


def routes(gate: Gate) -> APIRouter:
    router = APIRouter(include_in_schema=False)

    @router.get("/signin")
    async def begin(request: Request, then: str = "/") -> Response:
        sign_in, public_url = _ready(gate)
        gate.attempts.count(_address(request))
        cookie, begun = await gate.cookies.begin_sign_in(then if _HERE.fullmatch(then) else "/")
        challenge = base64.urlsafe_b64encode(hashlib.sha256(begun.verifier.encode()).digest())
        response = RedirectResponse(
            sign_in.authorize_url(begun.state, challenge.rstrip(b"=").decode(), f"{public_url}{RETURN}"), 303
        )
        gate.set(response, SIGNING_IN, cookie, SIGN_IN_LASTS)
        return response

    @router.get(RETURN)
    async def come_back(request: Request, code: str = "", state: str = "") -> Response:
        sign_in, public_url = _ready(gate)
        gate.attempts.count(_address(request))
        begun = await gate.cookies.signing_in(request.cookies.get(SIGNING_IN))
        if begun is None or not code or not hmac.compare_digest(begun.state.encode(), state.encode()):
            raise StaleSignInError
        person = await sign_in.person(code, begun.verifier, f"{public_url}{RETURN}")
        cookie, _ = await gate.cookies.begin(person)
        response = RedirectResponse(begun.then, 303)
        gate.set(response, COOKIE, cookie, LASTS)
        response.delete_cookie(SIGNING_IN, path="/")
        log.info("Somebody signed in.", extra={"account": person.id})
        return response

    @router.post("/signout")
    async def leave(request: Request, form_key: str = Form(""), everywhere: str = Form("")) -> Response:
        session = await gate.session(request)
        gate.require_form(session, form_key)
        await (gate.cookies.end_everywhere(session) if everywhere else gate.cookies.end(session))
        response = RedirectResponse("/", 303)
        response.delete_cookie(COOKIE, path="/")
        return response

    return router


def _address(request: Request) -> str | None:
    """As the server tells it: `X-Forwarded-For` counts there where it comes from MAGICODE_TRUSTED_PROXIES, and nowhere else."""
    return request.client.host if request.client else None


def _ready(gate: Gate) -> tuple[SignIn, str]:
    if gate.sign_in is None or gate.public_url is None:
        raise NoSignInError
    return gate.sign_in, gate.public_url
