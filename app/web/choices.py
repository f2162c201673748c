"""Settings, the legal hold and the customer's own keys of model providers: each with a form."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from app import choosing
from app.custody import provider_keys, settings
from app.custody.settings import PROVIDERS, SETTINGS
from app.errors import RefusedError, UserError
from app.web.desk import Desk, Tenant, Visit

HOLD = "legal-hold"


def routes(desk: Desk) -> APIRouter:
    router = APIRouter(include_in_schema=False)
    house = desk.house

    async def settings_page(visit: Visit, status: int = 200, **said: object) -> Response:
        found = await choosing.overview(house, visit.tenant)
        shown = settings.shown(found.settings)
        told = {"problem": None, "at": None, "typed": None, "note": None} | said
        return desk.pages.page(
            "settings.html",
            visit.session,
            status,
            installation=visit.installation,
            here="settings",
            rows=[(one, shown[one.name]) for one in SETTINGS if one.name != HOLD],
            hold=shown[HOLD],
            held=found.settings.legal_hold is not None,
            keys=found.keys,
            providers=PROVIDERS,
            destinations=[(one, found.settings.allows(one)) for one in found.destinations],
            fingerprint=found.receipts_fingerprint,
            **told,
        )

    @router.get("/installations/{tenant}/settings")
    async def look(request: Request, tenant: Tenant) -> Response:
        return await settings_page(await desk.looks_at(request, tenant, "settings"))

    @router.post("/installations/{tenant}/settings")
    async def change(request: Request, tenant: Tenant) -> Response:
        visit = await desk.sends(request, tenant)
        name, value = visit.sent("name"), visit.sent("value")

        async def done() -> Response:
            await settings.change(
                house.store,
                house.ledger,
                house.clock,
                installation_id=tenant,
                by=visit.allowed.actor,
                wanted=settings.wanted(f"{name} {value}"),
            )
            return back(tenant, "settings", f"#{settings.find(name).name}")

        return await or_said(done, lambda **said: settings_page(visit, at=name, typed=value, **said))

    @router.post("/installations/{tenant}/provider-keys")
    async def put_key(request: Request, tenant: Tenant) -> Response:
        visit = await desk.sends(request, tenant)

        async def done() -> Response:
            saved = await provider_keys.put(
                house.store,
                house.keys,
                house.ledger,
                house.clock,
                house.key_check,
                installation_id=tenant,
                by=visit.allowed.actor,
                provider=visit.sent("provider"),
                key=visit.sent("key"),
                base_url=visit.sent("base_url"),
            )
            if saved.checked:
                return back(tenant, "settings", "#keys")
            note = f"The key is kept, and runs will use it, but it was not checked. {saved.why}"
            return await settings_page(visit, at="keys", note=note)

        return await or_said(done, lambda **said: settings_page(visit, at="keys", **said))

    @router.post("/installations/{tenant}/provider-keys/remove")
    async def remove_key(request: Request, tenant: Tenant) -> Response:
        visit = await desk.sends(request, tenant)

        async def done() -> Response:
            await provider_keys.remove(
                house.store,
                house.keys,
                house.ledger,
                installation_id=tenant,
                by=visit.allowed.actor,
                provider=visit.sent("provider"),
            )
            return back(tenant, "settings", "#keys")

        return await or_said(done, lambda **said: settings_page(visit, at="keys", **said))

    return router


def back(tenant: int, where: str, place: str = "") -> Response:
    """To the page, so that loading it again sends nothing again."""
    return RedirectResponse(f"/installations/{tenant}/{where}{place}", 303)


async def or_said(
    done: Callable[[], Awaitable[Response]], page: Callable[..., Awaitable[Response]]
) -> Response:
    """What was done, or the same page with what stood in the way."""
    try:
        return await done()
    except (UserError, RefusedError) as error:
        return await page(status=400 if isinstance(error, UserError) else 403, problem=error.message)
