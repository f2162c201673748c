"""Webhooks: addresses of the customer's own that are told of runs. Made, tried and removed; the secret is shown once."""

from __future__ import annotations

import secrets
from collections.abc import Collection
from uuid import UUID

from fastapi import APIRouter, Request
from fastapi.responses import Response

from app.custody import hooks
from app.custody.hooks import KnownHook
from app.house import House
from app.nouns import RunEvent
from app.telling import Sent, ping
from app.web.access import Allowed
from app.web.choices import back, or_said
from app.web.desk import Desk, Tenant, Visit

EVENTS = {
    RunEvent.ACCEPTED: "a request was accepted",
    RunEvent.STARTED: "its work began",
    RunEvent.ENDED: "it ended, with what became of it",
}

_NO_ANSWER = {
    "hook_refused": "its address leads into a network that is not public",
    "hook_silent": "it took longer than ten seconds",
    "hook_unreachable": "it could not be reached",
}


async def make_hook(
    house: House, allowed: Allowed, url: str, events: Collection[str]
) -> tuple[KnownHook, str]:
    """The hook, and its secret, which is shown this once. Raises as app.custody.hooks.make."""
    return await hooks.make(
        house.store,
        house.keys,
        house.ledger,
        house.clock,
        house.receivers,
        installation_id=allowed.installation.id,
        by=allowed.actor,
        url=url,
        events=events,
        new_id=house.new_id,
        random=secrets.token_bytes,
    )


def routes(desk: Desk) -> APIRouter:
    router = APIRouter(include_in_schema=False)
    house = desk.house

    async def hooks_page(visit: Visit, status: int = 200, **said: object) -> Response:
        told = {"problem": None, "made": None, "tried": None} | said
        return desk.pages.page(
            "hooks.html",
            visit.session,
            status,
            installation=visit.installation,
            here="hooks",
            hooks=await hooks.known_hooks(house.store, house.keys, visit.tenant),
            most=hooks.AT_MOST,
            events=EVENTS,
            **told,
        )

    @router.get("/installations/{tenant}/hooks")
    async def look_at_hooks(request: Request, tenant: Tenant) -> Response:
        return await hooks_page(await desk.looks_at(request, tenant, "hooks"))

    @router.post("/installations/{tenant}/hooks")
    async def make(request: Request, tenant: Tenant) -> Response:
        """Its page is the only place where the secret is ever shown, so it is not left by a redirect."""
        visit = await desk.sends(request, tenant)

        async def done() -> Response:
            _, secret = await make_hook(house, visit.allowed, visit.sent("url"), visit.all_sent("event"))
            return await hooks_page(visit, made=secret)

        return await or_said(done, lambda **said: hooks_page(visit, **said))

    @router.post("/installations/{tenant}/hooks/{hook_id}/remove")
    async def remove(request: Request, tenant: Tenant, hook_id: UUID) -> Response:
        visit = await desk.sends(request, tenant)
        await hooks.remove(
            house.store, house.ledger, installation_id=tenant, by=visit.allowed.actor, hook_id=hook_id
        )
        return back(tenant, "hooks")

    @router.post("/installations/{tenant}/hooks/{hook_id}/ping")
    async def send_ping(request: Request, tenant: Tenant, hook_id: UUID) -> Response:
        visit = await desk.sends(request, tenant)

        async def done() -> Response:
            return await hooks_page(
                visit, tried=_told(await ping(house, tenant, hook_id, visit.allowed.actor))
            )

        return await or_said(done, lambda **said: hooks_page(visit, **said))

    return router


def _told(sent: Sent) -> str:
    if sent.taken:
        return f"The test was sent and taken: the receiver answered {sent.status}."
    if sent.status is not None:
        return f"The test was sent and not taken: the receiver answered {sent.status}, and a status of 2xx is expected."
    return f"The test was not taken: {_NO_ANSWER.get(sent.why, 'there was no answer')}."
