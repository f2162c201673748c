"""Tokens of the API: made for an installation, shown once, removed."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from fastapi import APIRouter, Request
from fastapi.responses import Response

from app.errors import UserError
from app.house import House
from app.nouns import ApiToken
from app.web.access import Scope, make_token, remove_token
from app.web.choices import back, or_said
from app.web.desk import Desk, Tenant, Visit

DAYS = (7, 30, 90, 365)

SCOPES = {
    Scope.RUNS: "read the runs, their states and figures",
    Scope.LOG: "read the action log, verify it and download it",
    Scope.EXPORT: "ask for exports and download them",
    Scope.SETTINGS: "read and change settings, set and remove provider keys, make webhooks, which are told of the runs",
    Scope.DELETE: "destroy all that is held",
}


async def tokens(house: House, tenant: int) -> list[ApiToken]:
    """Newest first, those that have ended too."""
    async with house.store.transaction(tenant) as transaction:
        return list(await transaction.api_tokens())


def read_scopes(named: list[str]) -> frozenset[Scope]:
    """Raises UserError."""
    try:
        return frozenset(Scope(one) for one in named)
    except ValueError:
        known = ", ".join(f"`{one}`" for one in Scope)
        raise UserError(f"A token may do some of these: {known}.", reason="token_scope") from None


def read_days(text: str) -> timedelta:
    """Raises UserError."""
    if not (text.isascii() and text.isdigit() and len(text) < 6):
        raise UserError("Say for how many days, such as `30`.", reason="token_time")
    return timedelta(days=int(text))


def routes(desk: Desk) -> APIRouter:
    router = APIRouter(include_in_schema=False)
    house = desk.house

    async def tokens_page(visit: Visit, status: int = 200, **said: object) -> Response:
        now = house.clock()
        known = [(one, one.expires_at <= now) for one in await tokens(house, visit.tenant)]
        told = {"problem": None, "made": None} | said
        return desk.pages.page(
            "tokens.html",
            visit.session,
            status,
            installation=visit.installation,
            here="tokens",
            tokens=known,
            scopes=SCOPES,
            days=DAYS,
            **told,
        )

    @router.get("/installations/{tenant}/tokens")
    async def look_at_tokens(request: Request, tenant: Tenant) -> Response:
        return await tokens_page(await desk.looks_at(request, tenant, "tokens"))

    @router.post("/installations/{tenant}/tokens")
    async def make(request: Request, tenant: Tenant) -> Response:
        """Its page is the only place where the token is ever shown, so it is not left by a redirect."""
        visit = await desk.sends(request, tenant)

        async def done() -> Response:
            scopes, lasts = read_scopes(list(visit.all_sent("scope"))), read_days(visit.sent("days"))
            token, _ = await make_token(house, visit.allowed, scopes, lasts)
            return await tokens_page(visit, made=token)

        return await or_said(done, lambda **said: tokens_page(visit, **said))

    @router.post("/installations/{tenant}/tokens/{token_id}/remove")
    async def remove(request: Request, tenant: Tenant, token_id: UUID) -> Response:
        visit = await desk.sends(request, tenant)
        await remove_token(house, visit.allowed, token_id)
        return back(tenant, "tokens")

    return router
