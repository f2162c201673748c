"""The runs on pages: a list of them, and one as it happens; to be stopped and tried again by whoever may write there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode
from uuid import UUID

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from app import steering
from app.actionlog.export import opened
from app.errors import ErasedError, MissingError, UserError
from app.house import House
from app.nouns import Account, Run, RunState
from app.web import journey, live, policy
from app.web.access import Allowed, NotYoursError, Scope
from app.web.desk import Desk, Tenant
from app.web.journey import Journey
from app.web.session import Session
from webhooks.command import Verb

PAGE = 50
ALL_VERBS = tuple(sorted({*(one.value for one in Verb), "mend"}))


class UnknownFilterError(UserError):
    """There is no such state or kind of request, or the App is not installed on a repository of this name."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which runs are asked for, as it was typed; `repository_id` is whose name or id was."""

    repository: str = ""
    state: str = ""
    verb: str = ""
    repository_id: int | None = None

    def query(self, **more: object) -> str:
        given = {"repository": self.repository, "state": self.state, "verb": self.verb}
        return urlencode({name: str(value) for name, value in (given | more).items() if value})

    def require_readable(self) -> None:
        """Raises UnknownFilterError."""
        known = (not self.state or self.state in set(RunState)) and (not self.verb or self.verb in ALL_VERBS)
        if not known or (self.repository and self.repository_id is None):
            raise UnknownFilterError(reason="filter_unknown")


@dataclass(frozen=True, slots=True)
class Viewer:
    """Somebody before runs; `whole`: an administrator, who sees those of each repository and the other pages."""

    session: Session
    allowed: Allowed
    whole: bool


async def read_wanted(desk: Desk, tenant: int, given: Mapping[str, str]) -> Wanted:
    repository, state, verb = (given.get(name, "").strip()[:200] for name in ("repository", "state", "verb"))
    return Wanted(repository, state, verb, await desk.names.id_of(tenant, repository) if repository else None)


async def some(
    house: House, tenant: int, wanted: Wanted, beyond: UUID | None, limit: int
) -> tuple[Sequence[Run], UUID | None]:
    """At most so many, newest first, and the one that the next page comes behind."""
    async with house.store.transaction(tenant) as transaction:
        found = await transaction.runs(
            repository_id=wanted.repository_id,
            state=RunState(wanted.state) if wanted.state else None,
            verb=wanted.verb or None,
            beyond=beyond,
            limit=limit + 1,
        )
    shown = found[:limit]
    return shown, shown[-1].id if len(found) > limit else None


async def find(house: House, tenant: int, run_id: UUID) -> Run:
    """Raises NotYoursError where there is none: nobody learns by asking which there are."""
    try:
        async with house.store.transaction(tenant) as transaction:
            found = await transaction.run(run_id)
    except ErasedError:
        found = None
    if found is None:
        raise NotYoursError
    return found


async def require_somebody(desk: Desk, request: Request, tenant: int) -> None:
    """Nobody in particular is no reason to ask GitHub anything. Raises NoTokenError, ScopeError and NotSignedInError."""
    if await desk.shown(request, tenant, Scope.RUNS) is None:
        await desk.gate.session(request)


async def viewed(desk: Desk, request: Request, tenant: int, repository_id: int | None) -> Allowed:
    """A token with the scope `runs`, an administrator's session, or that of somebody who may read this repository.

    Raises NoTokenError, ScopeError, NotSignedInError and NotYoursError.
    """
    allowed = await desk.shown(request, tenant, Scope.RUNS)
    if allowed is None:
        seen = await viewer(desk, await desk.gate.session(request), tenant, repository_id)
        allowed = seen.allowed
    await desk.looks.at(allowed, "runs")
    return allowed


async def find_for(desk: Desk, request: Request, tenant: int, run_id: UUID) -> Run:
    """A run that whoever calls may see; who may not does not learn that it is there. Raises what `viewed` raises."""
    try:
        run = await find(desk.house, tenant, run_id)
    except NotYoursError:
        await viewed(desk, request, tenant, None)
        raise
    await viewed(desk, request, tenant, run.repository_id)
    return run


async def find_to_steer(desk: Desk, request: Request, tenant: int, run_id: UUID) -> tuple[Run, Session]:
    """A run, and the session of somebody who may write where it works, with its form key.

    Raises ScopeError for a token: nobody on GitHub stands behind it. And NotSignedInError, ForeignFormError, NotYoursError.
    """
    session = await desk.signs(request)
    run = await find(desk.house, tenant, run_id)
    await steers(desk, tenant, run, session.person)
    await desk.admits(request, tenant, session.person)
    return run, session


async def travelled(house: House, run: Run) -> Journey:
    found = [one async for one in opened(house.store, house.keys, run.installation_id, run_id=run.id)]
    return journey.journey(run, found)


async def viewer(desk: Desk, session: Session, tenant: int, repository_id: int | None) -> Viewer:
    """An administrator, or somebody who may read this repository. Raises NotYoursError."""
    try:
        return Viewer(session, await desk.access.administrator(tenant, session.person), whole=True)
    except NotYoursError:
        if repository_id is None:
            raise
    return Viewer(session, await desk.access.may_read(tenant, repository_id, session.person), whole=False)


async def steers(desk: Desk, tenant: int, run: Run, person: Account) -> None:
    """GitHub is asked anew. Raises NotYoursError for somebody who may not write to the run's repository."""
    await desk.access.may_write(tenant, run.repository_id, person, anew=True)


async def _may_steer(desk: Desk, run: Run, person: Account) -> bool:
    try:
        await desk.access.may_write(run.installation_id, run.repository_id, person)
    except NotYoursError:
        return False
    return True


def routes(desk: Desk) -> APIRouter:
    router = APIRouter(include_in_schema=False)
    house = desk.house

    @router.get("/installations/{tenant}/runs")
    async def look(request: Request, tenant: Tenant, beyond: UUID | None = None) -> Response:
        session = await desk.gate.session(request)
        wanted = await read_wanted(desk, tenant, request.query_params)
        seen = await viewer(desk, session, tenant, wanted.repository_id)
        await desk.looks.at(seen.allowed, "runs")
        problem: str | None = None
        shown: Sequence[Run] = ()
        further = None
        try:
            wanted.require_readable()
            shown, further = await some(house, tenant, wanted, beyond, PAGE)
        except UserError as error:
            problem = error.message
        return desk.pages.page(
            "runs.html",
            session,
            400 if problem else 200,
            installation=seen.allowed.installation,
            here="runs",
            whole=seen.whole,
            wanted=wanted,
            shown=shown,
            further=further,
            first=beyond is None,
            names=await desk.names.of(tenant),
            states=[one.value for one in RunState],
            verbs=ALL_VERBS,
            problem=problem,
        )

    async def one(seen: Viewer, run: Run, status: int = 200, problem: str | None = None) -> Response:
        steerable = await _may_steer(desk, run, seen.session.person)
        async with house.store.transaction(run.installation_id) as transaction:
            there = await steering.requests_there(transaction, run)
        page = desk.pages.page(
            "run.html",
            seen.session,
            status,
            installation=seen.allowed.installation,
            here="runs",
            whole=seen.whole,
            **await told(desk, run),
            steerable=steerable,
            stoppable=steering.stoppable(run),
            retryable=steering.retryable(run, there),
            problem=problem,
        )
        page.headers[policy.HEADER] = policy.policy(house.github_web_url, script=not run.state.ended)
        return page

    @router.get("/installations/{tenant}/runs/{run_id}")
    async def look_at_one(request: Request, tenant: Tenant, run_id: UUID) -> Response:
        session = await desk.gate.session(request)
        run = await find(house, tenant, run_id)
        seen = await viewer(desk, session, tenant, run.repository_id)
        await desk.looks.at(seen.allowed, "runs")
        return await one(seen, run)

    @router.get("/installations/{tenant}/runs/{run_id}/live")
    async def watch(request: Request, tenant: Tenant, run_id: UUID) -> Response:
        session = await desk.gate.session(request)
        run = await find(house, tenant, run_id)

        async def may() -> None:
            await viewer(desk, await desk.gate.session(request), tenant, run.repository_id)

        await may()
        name = (await desk.names.of(tenant)).get(run.repository_id)
        told_live = live.events(house, desk.pages, desk.streams.leaving, run, may, repository=name)
        return live.Stream(told_live, desk.streams.one(session.person.id))

    @router.post("/installations/{tenant}/runs/{run_id}/stop")
    async def stop(request: Request, tenant: Tenant, run_id: UUID) -> Response:
        session = await desk.fills_in(request)
        run = await find(house, tenant, run_id)
        await steers(desk, tenant, run, session.person)
        try:
            await steering.stop(house, tenant, run_id, session.person.login)
        except UserError as error:
            return await one(await viewer(desk, session, tenant, run.repository_id), run, 409, error.message)
        return RedirectResponse(f"/installations/{tenant}/runs/{run_id}", 303)

    @router.post("/installations/{tenant}/runs/{run_id}/retry")
    async def retry(request: Request, tenant: Tenant, run_id: UUID) -> Response:
        session = await desk.fills_in(request)
        run = await find(house, tenant, run_id)
        await steers(desk, tenant, run, session.person)
        try:
            again = await steering.try_again(house, tenant, run_id, session.person)
        except (UserError, steering.BusyThereError) as error:
            message = "The issue is not there any more." if isinstance(error, MissingError) else error.message
            return await one(await viewer(desk, session, tenant, run.repository_id), run, 409, message)
        return RedirectResponse(f"/installations/{tenant}/runs/{again.id}", 303)

    return router


async def told(desk: Desk, run: Run) -> dict[str, object]:
    """What the page and each piece of it that comes while it is open are made of."""
    names = await desk.names.of(run.installation_id)
    return {
        "run": run,
        "journey": await travelled(desk.house, run),
        "repository": names.get(run.repository_id),
        "lasted": journey.lasted(run, desk.house.clock()),
    }
