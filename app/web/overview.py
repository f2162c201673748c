"""The installations that a person administers, and of each one what is held about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from app.house import House
from app.web.access import NotYoursError
from app.web.desk import Desk, Tenant
from embeddings.forget import shelf_of


@dataclass(frozen=True, slots=True)
class Held:
    """`counts` are rows by table, vectors and objects; `log_since` is the time of the first entry that is still there."""

    counts: Mapping[str, int]
    log_since: datetime | None
    log_head: str


async def held(house: House, tenant: int) -> Held:
    """What is there now, counted."""
    async with house.store.transaction(tenant) as transaction:
        counts = dict(await transaction.row_counts())
        first = await transaction.entries(limit=1)
        key = await house.keys.existing_key(transaction)
    counts["vectors"] = 0 if key is None else await house.points.count(shelf_of(key, tenant))
    counts["objects"] = len(await house.objects.names(str(tenant)))
    head = await house.ledger.head(tenant)
    return Held(counts, first[0][0].at if first else None, str(head))


def routes(desk: Desk) -> APIRouter:
    router = APIRouter(include_in_schema=False)

    @router.get("/installations")
    async def mine(request: Request, account: str = "") -> Response:
        """People's own accounts are known by their ids. Organizations are looked for when they are named, since GitHub is
        asked about each."""
        session = await desk.gate.session(request)
        problem = None
        if account.strip():
            try:
                found = await desk.access.named(account[:100], session.person)
                return RedirectResponse(f"/installations/{found.installation.id}", 303)
            except NotYoursError:
                problem = "There is no installation on this account that you administer."
        return desk.pages.page(
            "installations.html",
            session,
            404 if problem else 200,
            own=await desk.access.own(session.person),
            account=account[:100],
            problem=problem,
        )

    @router.get("/installations/{tenant}")
    async def overview(request: Request, tenant: Tenant) -> Response:
        visit = await desk.looks_at(request, tenant, "overview")
        return desk.pages.page(
            "overview.html",
            visit.session,
            installation=visit.installation,
            held=await held(desk.house, tenant),
            here="overview",
        )

    return router
