"""Signing in with GitHub: the page where a person agrees, the exchange of the code, and revoking what came of it.

https://docs.github.com/apps/creating-github-apps/authenticating-with-a-github-app/generating-a-user-access-token-for-a-github-app

Instead of a password one says who one is; the cookie `user_session` remembers it. Unsettled, and so as strict as can be
thought: which error a wrong or missing PKCE verifier gets (here that of a wrong code, and the code is spent), what a
challenge method other than S256 gets (here a refused authorization), and whether the App may register no callback URL
(here any address of the machine itself will then do).
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from datetime import timedelta
from html import escape
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from infra.simulator import auth
from infra.simulator.answers import (
    bad_credentials,
    not_found,
    requires_authentication,
    unprocessable,
    validation_failed,
)
from infra.simulator.call import Call, endpoint
from infra.simulator.state import SignInCode, Token, User, World

CODE_LIFETIME = timedelta(minutes=10)
"""https://docs.github.com/apps/oauth-apps/building-oauth-apps/authorizing-oauth-apps#2-users-are-redirected-back-to-your-site-by-github"""

COOKIE = "user_session"
_ASKED = (
    "client_id",
    "redirect_uri",
    "state",
    "code_challenge",
    "code_challenge_method",
    "login",
    "response_type",
)
_HERE = ("127.0.0.1", "localhost", "::1")
_ERRORS = {
    "incorrect_client_credentials": "The client_id and/or client_secret passed are incorrect.",
    "redirect_uri_mismatch": "The redirect_uri MUST match the registered callback URL for this application.",
    "bad_verification_code": "The code passed is incorrect or expired.",
    "bad_refresh_token": "The refresh token passed is incorrect or expired.",
    "unsupported_grant_type": "The grant_type passed is not supported.",
    "access_denied": "The user has denied your application access.",
    "invalid_request": "The code_challenge_method must be S256.",
}
_TROUBLE = "https://docs.github.com/apps/managing-oauth-apps/troubleshooting-{}-errors/#{}"


# --- the page --------------------------------------------------------------------------------------------------------


@endpoint("GET", "/login/oauth/authorize", limited=False)
async def authorize(call: Call) -> Response:
    """Who is signed in and agreed before goes straight back; everybody else is asked."""
    asked = {name: call.query(name) for name in _ASKED}
    refused = _refused(call, asked)
    if refused is not None:
        return refused
    person = call.world.user_by_login(call.request.cookies.get(COOKIE, ""))
    if person is not None and person.id in call.world.authorizations and not asked["login"]:
        return _back(call, asked, person)
    return HTMLResponse(_page(call, asked))


@endpoint("POST", "/login/oauth/authorize", limited=False)
async def agree(call: Call) -> Response:
    """The page's form: `person` is who agrees; none is nobody."""
    asked = dict(parse_qsl((await call.request.body()).decode(), keep_blank_values=True))
    refused = _refused(call, asked)
    if refused is not None:
        return refused
    named = asked.get("person", "")
    if not named:
        return _sent_back(call, asked, _trouble("access_denied", "authorization-request"))
    person = call.world.user_by_login(named)
    if person is None or person.type != "User":
        raise not_found()
    call.world.authorizations.add(person.id)
    answer = _back(call, asked, person)
    answer.set_cookie(COOKIE, person.login, httponly=True, samesite="lax")
    return answer


def entered(world: World, login: str, to: str) -> Response:
    """The desk's way in: this browser is the person's, who agreed to the App before, and goes on to `to` on this machine. Raises
    404 for nobody, 422 for an address elsewhere."""
    person = world.user_by_login(login)
    if person is None or person.type != "User":
        raise not_found()
    if not _of_this_machine(to):
        raise unprocessable("to is an address of this machine")
    world.authorizations.add(person.id)
    answer = RedirectResponse(to, 302)
    answer.set_cookie(COOKIE, person.login, httponly=True, samesite="lax")
    return answer


def _refused(call: Call, asked: dict[str, str]) -> Response | None:
    """An address that is not registered is never redirected to; the first registered one is told.

    https://docs.github.com/apps/oauth-apps/maintaining-oauth-apps/troubleshooting-authorization-request-errors
    """
    if asked.get("client_id") != call.world.app.client_id:
        raise not_found()
    if not _registered(call, asked.get("redirect_uri", "")):
        if not call.world.app.callback_urls:
            return HTMLResponse(f"<p>{_ERRORS['redirect_uri_mismatch']}</p>", 400)
        asked["redirect_uri"] = call.world.app.callback_urls[0]
        return _sent_back(call, asked, _trouble("redirect_uri_mismatch", "authorization-request"))
    if asked.get("code_challenge") and asked.get("code_challenge_method") != "S256":
        return _sent_back(call, asked, _trouble("invalid_request", "authorization-request"))
    return None


def _registered(call: Call, uri: str) -> bool:
    known = call.world.app.callback_urls
    if known:
        return uri in ("", *known)
    return _of_this_machine(uri)


def _of_this_machine(uri: str) -> bool:
    parts = urlsplit(uri)
    return parts.scheme in ("http", "https") and parts.hostname in _HERE


def _back(call: Call, asked: dict[str, str], person: User) -> RedirectResponse:
    code = secrets.token_hex(10)
    call.world.sign_in_codes[code] = SignInCode(
        user_id=person.id,
        redirect_uri=asked.get("redirect_uri", ""),
        challenge=asked.get("code_challenge") or None,
        expires_at=call.world.now() + CODE_LIFETIME,
    )
    return _sent_back(call, asked, {"code": code})


def _sent_back(call: Call, asked: dict[str, str], told: dict[str, str]) -> RedirectResponse:
    uri = asked.get("redirect_uri") or call.world.app.callback_urls[0]
    state = {"state": asked["state"]} if asked.get("state") else {}
    joint = "&" if "?" in uri else "?"
    return RedirectResponse(f"{uri}{joint}{urlencode({**told, **state})}", 302)


def _page(call: Call, asked: dict[str, str]) -> str:
    kept = "".join(
        f'<input type="hidden" name="{name}" value="{escape(value)}">' for name, value in asked.items()
    )
    people = [one.login for one in call.world.users.values() if one.type == "User"]
    people.sort(key=lambda login: login.lower() != asked["login"].lower())
    buttons = "".join(
        f'<p><button name="person" value="{escape(login)}">Sign in as {escape(login)}</button></p>'
        for login in people
    )
    name = escape(call.world.app.name)
    return (
        f'<!doctype html><meta charset="utf-8"><title>Authorize {name}</title>'
        f"<p><small>simulated GitHub</small></p><h1>Authorize {name}</h1>"
        f'<form method="post" action="/login/oauth/authorize">{kept}{buttons}'
        '<p><button name="person" value="">Cancel</button></p></form>'
    )


# --- the exchange ----------------------------------------------------------------------------------------------------


@endpoint("POST", "/login/oauth/access_token", limited=False)
async def access_token(call: Call) -> Response:
    """Refusals come with the status of success, and in the form that `Accept` asks for.

    https://docs.github.com/apps/oauth-apps/maintaining-oauth-apps/troubleshooting-oauth-app-access-token-request-errors
    """
    told = _exchanged(call, await _sent(call))
    if "application/json" in call.request.headers.get("accept", ""):
        return JSONResponse(told)
    return Response(urlencode(told), media_type="application/x-www-form-urlencoded")


async def _sent(call: Call) -> dict[str, str]:
    """Query, form or JSON: GitHub takes all three."""
    sent = dict(call.request.query_params)
    raw = await call.request.body()
    if "json" in call.request.headers.get("content-type", ""):
        try:
            body = json.loads(raw or b"{}")
        except ValueError:
            body = {}
        return sent | {str(name): str(value) for name, value in dict(body).items()}
    return sent | dict(parse_qsl(raw.decode("utf-8", "replace")))


def _exchanged(call: Call, sent: dict[str, str]) -> dict[str, Any]:
    app = call.world.app
    given = f"{sent.get('client_id')}:{sent.get('client_secret')}"
    if not secrets.compare_digest(given.encode(), f"{app.client_id}:{app.client_secret}".encode()):
        return _trouble("incorrect_client_credentials", "oauth-app-access-token-request")
    kind = sent.get("grant_type", "authorization_code")
    if kind == "refresh_token":
        return _renewed(call, sent.get("refresh_token", ""))
    if kind != "authorization_code":
        return _trouble("unsupported_grant_type", "oauth-app-access-token-request")
    return _redeemed(call, sent)


def _redeemed(call: Call, sent: dict[str, str]) -> dict[str, Any]:
    code = call.world.sign_in_codes.get(sent.get("code", ""))
    if code is None or code.expires_at <= call.world.now():
        return _trouble("bad_verification_code", "oauth-app-access-token-request")
    if sent.get("redirect_uri", code.redirect_uri) != code.redirect_uri:
        return _trouble("redirect_uri_mismatch", "oauth-app-access-token-request")
    del call.world.sign_in_codes[sent["code"]]
    if code.challenge is not None and _challenge(sent.get("code_verifier", "")) != code.challenge:
        return _trouble("bad_verification_code", "oauth-app-access-token-request")
    return _pair(auth.new_sign_in_token(call.world, call.world.user(code.user_id)))


def _renewed(call: Call, refresh: str) -> dict[str, Any]:
    """Both tokens are new, and the old ones end.

    https://docs.github.com/apps/creating-github-apps/authenticating-with-a-github-app/refreshing-user-access-tokens
    """
    old = next((one for one in call.world.tokens.values() if refresh and one.refresh == refresh), None)
    if old is None or old.user_id is None or old.expires_at is None:
        return _trouble("bad_refresh_token", "oauth-app-access-token-request")
    if old.expires_at - auth.SIGN_IN_LIFETIME + auth.REFRESH_LIFETIME <= call.world.now():
        return _trouble("bad_refresh_token", "oauth-app-access-token-request")
    del call.world.tokens[old.value]
    return _pair(auth.new_sign_in_token(call.world, call.world.user(old.user_id)))


def _pair(token: Token) -> dict[str, Any]:
    return {
        "access_token": token.value,
        "expires_in": int(auth.SIGN_IN_LIFETIME.total_seconds()),
        "refresh_token": token.refresh,
        "refresh_token_expires_in": int(auth.REFRESH_LIFETIME.total_seconds()),
        "token_type": "bearer",
        "scope": "",
    }


def _challenge(verifier: str) -> str:
    """https://www.rfc-editor.org/rfc/rfc7636#section-4.2"""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def _trouble(error: str, where: str) -> dict[str, str]:
    uri = _TROUBLE.format(where, error.replace("_", "-"))
    return {"error": error, "error_description": _ERRORS[error], "error_uri": uri}


# --- what came of it -------------------------------------------------------------------------------------------------


@endpoint("DELETE", "/applications/{client_id}/token")
async def delete_token(call: Call) -> Response:
    """By the App's client id and secret alone: https://docs.github.com/rest/apps/oauth-applications#delete-an-app-token"""
    if call.caller.kind == "anonymous":
        raise requires_authentication()
    if call.caller.kind != "client":
        raise bad_credentials()
    if call.text("client_id") != call.world.app.client_id:
        raise not_found()
    value = (await call.body()).string("access_token")
    token = call.world.tokens.get(value)
    if token is None or token.refresh is None:
        raise validation_failed(
            {"resource": "OauthAccess", "code": "custom", "message": "access_token is not valid"}
        )
    del call.world.tokens[value]
    return call.nothing()


endpoints = [authorize, agree, access_token, delete_token]
