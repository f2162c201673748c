"""The action log on a page: filtered, downloaded as a stream, its chain recomputed while one looks on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse
from starlette.datastructures import QueryParams

from app.actionlog.export import Format
from app.actionlog.filters import KINDS
from app.actionlog.verify import told
from app.errors import TransientError, UserError
from app.house import House
from app.web import entries
from app.web.access import Allowed
from app.web.desk import Desk, Sight, Tenant
from app.web.session import Session

_OF_A_RUN = ("kind", "since", "until", "after", "format")


def routes(desk: Desk) -> APIRouter:
    router = APIRouter(include_in_schema=False)
    house = desk.house

    async def sight(request: Request, tenant: int) -> tuple[Session, Sight, QueryParams]:
        session = await desk.gate.session(request)
        seen = await desk.may_see(tenant, run_of(request), session.person)
        return session, seen, narrowed(seen, request)

    @router.get("/installations/{tenant}/actions")
    async def look(request: Request, tenant: Tenant) -> Response:
        session, seen, given = await sight(request, tenant)
        await looked(desk, seen, request)
        problem, query, shown = None, "", None
        try:
            asked = await entries.read_question(house, tenant, given)
            query = asked.query()
            after, before = (entries.read_number(given.get(name)) for name in ("after", "before"))
            shown = await entries.page(house, tenant, asked.only, after=after, before=before)
        except UserError as error:
            problem = error.message
        return desk.pages.page(
            "actions.html",
            session,
            400 if problem else 200,
            installation=seen.allowed.installation,
            here="actions",
            whole=seen.whole,
            typed=entries.typed_in(given),
            query=query,
            shown=shown,
            problem=problem,
            kinds=KINDS,
            formats=[one.value for one in Format],
            head=str(await house.ledger.head(tenant)),
        )

    @router.get("/installations/{tenant}/actions/download")
    async def download(request: Request, tenant: Tenant) -> Response:
        _, seen, given = await sight(request, tenant)
        return await downloaded(desk, seen.allowed, given)

    @router.post("/installations/{tenant}/actions/verify")
    async def verify(request: Request, tenant: Tenant) -> Response:
        visit = await desk.sends(request, tenant)
        anchors = entries.read_anchors(visit.sent("heads"))
        await desk.looks.at(visit.allowed, "log")
        return desk.pages.stream(
            "verified.html",
            visit.session,
            installation=visit.installation,
            here="actions",
            steps=_steps(house, tenant, visit.sent("heads")),
            anchors=len(anchors),
        )

    return router


def run_of(request: Request) -> UUID | None:
    """None for what is no run's id: who may not see the whole log then sees nothing."""
    try:
        return entries.read_run(request.query_params.get("run"))
    except UserError:
        return None


def narrowed(seen: Sight, request: Request) -> QueryParams:
    """What the log is asked for. Who sees one run alone asks for nothing but that run: by a repository's name, say, they
    could find out whether it is there."""
    given = request.query_params
    if seen.whole:
        return given
    kept = {name: given[name] for name in _OF_A_RUN if name in given}
    return QueryParams({**kept, "run": str(run_of(request))})


async def looked(desk: Desk, seen: Sight, request: Request) -> None:
    """Writes the look down: at the log, or at one run's entries by somebody who sees no more."""
    await desk.looks.at(seen.allowed, "log", None if seen.whole else run_of(request))


async def downloaded(desk: Desk, allowed: Allowed, given: QueryParams) -> Response:
    """The log, or the part that the address asks for, in the format that it names. Raises UserError."""
    tenant = allowed.installation.id
    asked = await entries.read_question(desk.house, tenant, given)
    try:
        form = Format(given.get("format", Format.JSONL.value))
    except ValueError:
        known = ", ".join(f"`{one}`" for one in Format)
        raise UserError(f"A log is downloaded as one of {known}.", reason="format_unknown") from None
    await desk.looks.taken(allowed, "log", format=form.value, whole=asked.only.whole)
    ending = "txt" if form is Format.TEXT else form.value
    part = "" if asked.only.whole else "-part"
    return StreamingResponse(
        entries.text(desk.house, tenant, form, asked.only),
        media_type=entries.TYPES[form],
        headers={
            "Content-Disposition": f'attachment; filename="magicode-actions-{tenant}{part}.{ending}"',
            "X-Accel-Buffering": "no",
        },
    )


async def _steps(house: House, tenant: int, heads: str) -> AsyncIterator[dict[str, Any]]:
    """What the page shows while it is made. Whatever breaks is said there: the page's beginning is with the reader by then."""
    try:
        async for found in entries.verified(house, tenant, entries.read_anchors(heads)):
            if isinstance(found, int):
                yield {"count": found, "report": None, "lines": (), "problem": None}
            else:
                yield {"count": found.entries, "report": found, "lines": tuple(told(found)), "problem": None}
    except TransientError as error:
        yield {"count": 0, "report": None, "lines": (), "problem": error.message}
