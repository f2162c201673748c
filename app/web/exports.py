"""Exports: asked for, watched while one is made, fetched while it is there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response, StreamingResponse

from app import exporting
from app.custody.exported_files import FILES
from app.errors import MissingError
from app.house import House
from app.nouns import DataExport
from app.web.access import Allowed
from app.web.desk import Desk, Tenant, Visit

LOOK_AGAIN_SECONDS = 2


@dataclass(frozen=True, slots=True)
class Known:
    """An export, and whether it can be fetched now, or is being made."""

    export: DataExport
    ready: bool
    underway: bool

    @property
    def state(self) -> str:
        """`made` that is over is `expired`."""
        if self.export.state == exporting.MADE and not self.ready:
            return "expired"
        return self.export.state


async def known(house: House, tenant: int) -> Sequence[Known]:
    """Newest first."""
    async with house.store.transaction(tenant) as transaction:
        found = await transaction.exports()
    now = house.clock()
    return [
        Known(
            one,
            ready=one.state == exporting.MADE and one.expires_at is not None and one.expires_at > now,
            underway=one.state == exporting.ASKED and one.asked_at > now - exporting.UNDERWAY_FOR,
        )
        for one in found
    ]


async def find(house: House, tenant: int, export_id: UUID) -> Known:
    """Raises MissingError."""
    for one in await known(house, tenant):
        if one.export.id == export_id:
            return one
    raise MissingError("This export is not there (any more).", reason="export_gone")


async def fetched(desk: Desk, allowed: Allowed, export_id: UUID) -> Response:
    """The plain ZIP, as a stream. Raises MissingError while it is not there."""
    tenant = allowed.installation.id
    export, pieces = await exporting.open_export(desk.house, tenant, export_id)
    await desk.looks.taken(allowed, "export", export=str(export_id), sha256=export.sha256)
    day = export.asked_at.strftime("%Y-%m-%d")
    headers = {"Content-Disposition": f'attachment; filename="magicode-export-{tenant}-{day}.zip"'}
    if export.size is not None:
        headers["Content-Length"] = str(export.size)
    return StreamingResponse(pieces, media_type="application/zip", headers=headers)


def routes(desk: Desk) -> APIRouter:
    router = APIRouter(include_in_schema=False)
    house = desk.house

    def page(visit: Visit, shown: Sequence[Known], *, one: bool) -> Response:
        """Loads itself again only for as long as something is being made."""
        return desk.pages.page(
            "exports.html",
            visit.session,
            installation=visit.installation,
            here="exports",
            shown=shown,
            one=one,
            files=FILES,
            refresh=LOOK_AGAIN_SECONDS if any(each.underway for each in shown) else None,
        )

    @router.get("/installations/{tenant}/exports")
    async def look(request: Request, tenant: Tenant) -> Response:
        visit = await desk.looks_at(request, tenant, "exports")
        return page(visit, await known(house, tenant), one=False)

    @router.post("/installations/{tenant}/exports")
    async def ask(request: Request, tenant: Tenant) -> Response:
        """One at a time: asking again while one is made leads to that one."""
        visit = await desk.sends(request, tenant)
        asked = await exporting.ask(house, tenant, visit.allowed.actor)
        return RedirectResponse(f"/installations/{tenant}/exports/{asked.id}", 303)

    @router.get("/installations/{tenant}/exports/{export_id}")
    async def look_at_one(request: Request, tenant: Tenant, export_id: UUID) -> Response:
        visit = await desk.looks_at(request, tenant, "exports")
        return page(visit, [await find(house, tenant, export_id)], one=True)

    @router.get("/installations/{tenant}/exports/{export_id}/download")
    async def download(request: Request, tenant: Tenant, export_id: UUID) -> Response:
        session = await desk.gate.session(request)
        return await fetched(desk, await desk.access.administrator(tenant, session.person), export_id)

    return router
