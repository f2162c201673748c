"""Deletion from its typed confirmation to the receipt, and the receipt for whoever holds its address."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from app import erasing
from app.custody.erase import Step, Wish
from app.custody.receipt import remains
from app.errors import MissingError, RefusedError, UserError
from app.house import House
from app.nouns import Erasure
from app.web.access import Allowed
from app.web.desk import Desk, Tenant, Visit
from app.web.overview import held
from app.web.session import COOKIE

LOOK_AGAIN_SECONDS = 2


class OtherNameError(UserError):
    """Nothing is deleted: what you typed is not the account's login."""


class NoReceiptError(MissingError):
    """There is no receipt at this address."""


async def begin(house: House, allowed: Allowed, typed: str) -> Erasure:
    """Begins the deletion, confirmed by the account's login; gives the one that began where it had begun already.

    Raises OtherNameError and LegalHoldError.
    """
    installation = allowed.installation
    if typed.strip().casefold() != installation.account_login.casefold():
        raise OtherNameError(reason="delete_wrong_name")
    await erasing.begin(house, installation.id, Wish("asked", allowed.actor))
    async with house.store.transaction(installation.id, erasing=True) as transaction:
        found = await transaction.erasure()
    if found is None:
        raise NoReceiptError(reason="no_erasure")
    return found


async def find(house: House, tenant: int, erasure_id: UUID) -> Erasure:
    """By its id, which nobody can guess. Raises NoReceiptError."""
    async with house.store.transaction(tenant, erasing=True) as transaction:
        found = await transaction.erasure()
    if found is None or found.id != erasure_id:
        raise NoReceiptError(reason="no_receipt")
    return found


def address(found: Erasure) -> str:
    return f"/receipts/{found.installation_id}/{found.id}"


def download(found: Erasure) -> Response:
    """Raises NoReceiptError before it is signed."""
    if found.receipt is None:
        raise NoReceiptError("It is not signed yet: the deletion is under way.", reason="not_signed")
    name = f"magicode-receipt-{found.installation_id}.json"
    return Response(
        found.receipt,
        media_type="application/json",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


_TOLD = (
    (Step.CLOSED, "nobody is at work for the installation, and nobody can begin"),
    (Step.TOLD, "requests that were at work were stopped, and say so on GitHub"),
    (Step.COUNTED, "everything was counted, and the log has its last entry"),
    (Step.VECTORS, "the vectors of the index are destroyed"),
    (Step.OBJECTS, "stored exports are destroyed"),
    (Step.KEY, "the data key is destroyed: what it sealed stays closed, wherever it is"),
    (Step.ROWS, "the rows are deleted"),
    (Step.SEARCHED, "all stores were searched again, and nothing was found"),
    (Step.SIGNED, "the receipt is signed"),
)


def _progress(found: Erasure) -> Sequence[tuple[str, bool]]:
    order = list(Step)
    reached = order.index(Step(found.step))
    return [(said, order.index(step) <= reached) for step, said in _TOLD]


def routes(desk: Desk) -> APIRouter:
    router = APIRouter(include_in_schema=False)
    house = desk.house

    async def page(visit: Visit, status: int = 200, problem: str | None = None) -> Response:
        now = house.clock()
        async with house.store.transaction(visit.tenant) as transaction:
            stored = await transaction.settings()
        return desk.pages.page(
            "deletion.html",
            visit.session,
            status,
            installation=visit.installation,
            here="deletion",
            held=await held(house, visit.tenant),
            hold=stored is not None and stored.legal_hold,
            remains=remains(now, now),
            problem=problem,
        )

    @router.get("/installations/{tenant}/deletion")
    async def look(request: Request, tenant: Tenant) -> Response:
        return await page(await desk.looks_at(request, tenant, "deletion"))

    @router.post("/installations/{tenant}/deletion")
    async def delete(request: Request, tenant: Tenant) -> Response:
        visit = await desk.sends(request, tenant)
        try:
            found = await begin(house, visit.allowed, visit.sent("account"))
        except OtherNameError as error:
            return await page(visit, 400, error.message)
        except RefusedError as error:
            return await page(visit, 409, error.message)
        return RedirectResponse(address(found), 303)

    @router.get("/receipts/{tenant}/{erasure_id}")
    async def receipt(request: Request, tenant: Tenant, erasure_id: UUID) -> Response:
        """Nobody administers what is gone, so whoever has the address sees it: it holds no name and nothing of what was deleted."""
        found = await find(house, tenant, erasure_id)
        signed: dict[str, Any] | None = None if found.receipt is None else json.loads(found.receipt)
        return desk.pages.page(
            "receipt.html",
            await desk.gate.cookies.session(request.cookies.get(COOKIE)),
            found=found,
            progress=_progress(found),
            signed=signed,
            refresh=None if signed is not None else LOOK_AGAIN_SECONDS,
        )

    @router.get("/receipts/{tenant}/{erasure_id}/receipt.json")
    async def receipt_file(tenant: Tenant, erasure_id: UUID) -> Response:
        return download(await find(house, tenant, erasure_id))

    return router
