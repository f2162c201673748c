"""Who stands before an installation's pages, and who calls its API: everything that is asked before anything is answered."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

from fastapi import Path, Request
from starlette.datastructures import FormData

from app.custody.members import Administrator
from app.errors import ErasedError
from app.house import House
from app.nouns import Account, Installation
from app.web import once
from app.web.access import Access, Allowed, NotYoursError, Scope, ScopeError
from app.web.live import Streams
from app.web.looks import Looks
from app.web.names import LARGEST_ID, Names
from app.web.pages import Pages
from app.web.session import Session
from app.web.signin import Gate

FORM_KEY = "X-Form-Key"
"""The header in which a browser's script shows the form key of its session."""

READS = frozenset({"GET", "HEAD"})


Tenant = Annotated[int, Path(ge=1, le=LARGEST_ID, description="The installation's id.", examples=[100002])]


@dataclass(frozen=True, slots=True)
class Visit:
    """An administrator before a page; `form` is what was sent, from a page of ours."""

    session: Session
    allowed: Allowed
    form: FormData

    @property
    def installation(self) -> Installation:
        return self.allowed.installation

    @property
    def tenant(self) -> int:
        return self.allowed.installation.id

    @property
    def administrator(self) -> Administrator:
        """Who changes somebody's role."""
        return Administrator(self.session.person, self.allowed.given)

    def sent(self, name: str) -> str:
        value = self.form.get(name)
        return value.strip() if isinstance(value, str) else ""

    def all_sent(self, name: str) -> Sequence[str]:
        return [value for value in self.form.getlist(name) if isinstance(value, str)]


@dataclass(frozen=True, slots=True)
class Sight:
    """Somebody before the log: of all of it, or of one run's entries alone."""

    allowed: Allowed
    whole: bool


@dataclass(frozen=True, slots=True)
class Desk:
    house: House
    gate: Gate
    access: Access
    looks: Looks
    names: Names
    streams: Streams
    pages: Pages

    async def looks_at(self, request: Request, tenant: int, what: str) -> Visit:
        """Raises NotSignedInError and NotYoursError."""
        session = await self.gate.session(request)
        allowed = await self.access.administrator(tenant, session.person)
        await self.looks.at(allowed, what)
        return Visit(session, allowed, FormData())

    async def sends(self, request: Request, tenant: int) -> Visit:
        """What changes something: the form is one of ours, and GitHub is asked anew.

        Raises NotSignedInError, ForeignFormError and NotYoursError.
        """
        session, form = await self._filled_in(request)
        return Visit(session, await self.access.administrator(tenant, session.person, anew=True), form)

    async def fills_in(self, request: Request) -> Session:
        """Somebody who sends a form of ours; what they may do is still to be asked.

        Raises NotSignedInError and ForeignFormError.
        """
        session, _ = await self._filled_in(request)
        return session

    async def _filled_in(self, request: Request) -> tuple[Session, FormData]:
        session = await self.gate.session(request)
        form = await request.form(max_files=0, max_fields=100)
        key = form.get("form_key")
        self.gate.require_form(session, key if isinstance(key, str) else None)
        return session, form

    async def may_see(self, tenant: int, run_id: UUID | None, person: Account) -> Sight:
        """All of the log for administrators, one run's entries for whoever may write to its repository.

        Raises NotYoursError.
        """
        try:
            return Sight(await self.access.administrator(tenant, person), whole=True)
        except NotYoursError:
            repository_id = None if run_id is None else await self._repository_of(tenant, run_id)
            if repository_id is None:
                raise
        return Sight(await self.access.may_write(tenant, repository_id, person), whole=False)

    async def calls(self, request: Request, tenant: int, scope: Scope | None) -> Allowed:
        """A token with this scope (None: any), or an administrator's session, which shows its form key where it changes something.

        Raises NoTokenError, NotSignedInError, ForeignFormError and NotYoursError.
        """
        allowed = await self.shown(request, tenant, scope)
        if allowed is None:
            return await self.calls_as_person(request, tenant)
        await once.admitted(request, self.house, tenant, allowed.actor)
        return allowed

    async def shown(self, request: Request, tenant: int, scope: Scope | None) -> Allowed | None:
        """Whose token was shown; None where none was. Raises NoTokenError and ScopeError."""
        token = _token(request)
        return None if token is None else await self.access.bearer(tenant, token, scope)

    async def calls_for_log(self, request: Request, tenant: int, run_id: UUID | None) -> Sight:
        """A token with the scope `log`, or a session that may see all of the log or one run's entries.

        Raises NoTokenError, ScopeError, NotSignedInError and NotYoursError.
        """
        allowed = await self.shown(request, tenant, Scope.LOG)
        if allowed is not None:
            return Sight(allowed, whole=True)
        return await self.may_see(tenant, run_id, (await self.gate.session(request)).person)

    async def calls_as_person(self, request: Request, tenant: int) -> Allowed:
        """What a token may never do, such as making tokens."""
        return (await self.visits(request, tenant)).allowed

    async def visits(self, request: Request, tenant: int) -> Visit:
        """An administrator who calls the API in person: who changes somebody's role, no token stands for.

        Raises ScopeError, NotSignedInError, ForeignFormError and NotYoursError.
        """
        session = await self.signs(request)
        changes = request.method not in READS
        allowed = await self.access.administrator(tenant, session.person, anew=changes)
        await self.admits(request, tenant, session.person)
        return Visit(session, allowed, FormData())

    async def admits(self, request: Request, tenant: int, person: Account) -> None:
        """Behind the last question whether this person may. What was asked before under the same key ends here.

        Raises IdempotencyKeyError, IdempotencyKeyReusedError, StillAtWorkError and AnsweredError.
        """
        await once.admitted(request, self.house, tenant, f"person:{person.id}")

    async def signs(self, request: Request) -> Session:
        """A person, not a token; with the form key where something is changed. What they may do is still to be asked.

        Raises ScopeError, NotSignedInError and ForeignFormError.
        """
        if _token(request) is not None:
            raise ScopeError
        session = await self.gate.session(request)
        if request.method not in READS:
            self.gate.require_form(session, request.headers.get(FORM_KEY))
        return session

    async def _repository_of(self, tenant: int, run_id: UUID) -> int | None:
        with suppress(ErasedError):
            async with self.house.store.transaction(tenant) as transaction:
                run = await transaction.run(run_id)
            return None if run is None else run.repository_id
        return None


def _token(request: Request) -> str | None:
    kind, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else None
