"""The people of an installation who have a role of their own: seen, given one, and left to GitHub again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from fastapi import APIRouter, Request
from fastapi.responses import Response

from app import choosing
from app.custody import members, settings
from app.custody.members import Administrator, Wanted
from app.custody.settings import Member
from app.house import House
from app.nouns import Account, Role
from app.web.choices import back, or_said
from app.web.desk import Desk, Tenant, Visit

ROLES: Final = {
    Role.VIEWER: "sees the runs of the repositories that GitHub lets them read, and asks for nothing",
    Role.REQUESTER: "asks where GitHub lets them write, and administers nothing",
    Role.ADMINISTRATOR: "administers this installation; what they may do to code stays what GitHub says",
}


async def known(house: House, tenant: int) -> Sequence[Member]:
    """By their logins."""
    async with house.store.transaction(tenant) as transaction:
        return members.sorted_by_login(await settings.read(transaction))


async def give(house: House, tenant: int, by: Administrator, login: str, role: str) -> members.Changed:
    """Raises what `choosing.give` raises, and SettingError for what is no login or no role."""
    wanted = Wanted(members.read_login(login), members.read_role(role))
    return await choosing.give(house, tenant, by, wanted)


def routes(desk: Desk) -> APIRouter:
    router = APIRouter(include_in_schema=False)
    house = desk.house

    async def members_page(visit: Visit, status: int = 200, **said: object) -> Response:
        told = {"problem": None, "typed": "", "chosen": Role.VIEWER} | said
        return desk.pages.page(
            "members.html",
            visit.session,
            status,
            installation=visit.installation,
            here="members",
            members=await known(house, visit.tenant),
            roles=ROLES,
            **told,
        )

    @router.get("/installations/{tenant}/members")
    async def look(request: Request, tenant: Tenant) -> Response:
        return await members_page(await desk.looks_at(request, tenant, "members"))

    @router.post("/installations/{tenant}/members")
    async def change(request: Request, tenant: Tenant) -> Response:
        visit = await desk.sends(request, tenant)
        login, role = visit.sent("login"), visit.sent("role")

        async def done() -> Response:
            await give(house, tenant, visit.administrator, login, role)
            return back(tenant, "members")

        return await or_said(done, lambda **said: members_page(visit, typed=login, chosen=role, **said))

    @router.post("/installations/{tenant}/members/remove")
    async def remove(request: Request, tenant: Tenant) -> Response:
        """By the id, since another account may have the login by now. Also where there is none."""
        visit = await desk.sends(request, tenant)
        person = visit.sent("person")

        async def done() -> Response:
            here = await known(house, tenant)
            one = next((each for each in here if str(each.id) == person), None)
            if one is not None:
                whom = Account(one.id, one.login, "User")
                await choosing.give(house, tenant, visit.administrator, Wanted(one.login, None), present=whom)
            return back(tenant, "members")

        return await or_said(done, lambda **said: members_page(visit, **said))

    return router
