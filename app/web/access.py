"""Who may do what for an installation: GitHub's own answer, at most five minutes old, the role that somebody was given there, or a
token that an administrator made.

A yes is asked for anew where something is to be changed. Each question to GitHub is an entry in the installation's log, whoever it was about.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from uuid import UUID

from app.custody import settings
from app.errors import (
    DeniedError,
    ErasedError,
    GoneError,
    MissingError,
    PausedError,
    RefusedError,
    TransientError,
    UserError,
)
from app.house import House
from app.jobs.permission import may_ask, may_read
from app.nouns import Account, Action, ApiToken, Given, Installation, Role
from app.scene import written_down

BELIEVED = timedelta(minutes=5)
REMEMBERED = 10_000
LONGEST = timedelta(days=365)
ASKED_AT_MOST = 60
ASKED_WITHIN = timedelta(minutes=10)
PAUSED = timedelta(minutes=1)
"""When whoever is paused may look again."""
"""How often one person may make this process ask GitHub about access."""

CALLS_AT_MOST = 1_000
CALLS_WITHIN = timedelta(minutes=1)
"""How often one token may call this process: more than a program needs that waits for its answers, and less than would keep people's
pages waiting."""

_TOKEN = re.compile(r"mgc_([0-9]{1,19})_([A-Za-z0-9_-]{43})", re.ASCII)


class Scope(StrEnum):
    """What a token of the API may do. Each may read what the installation's summary says."""

    RUNS = "runs"
    LOG = "log"
    EXPORT = "export"
    SETTINGS = "settings"
    DELETE = "delete"


class NotYoursError(RefusedError):
    """Only an administrator of this installation may see this: the account itself, somebody who administers every repository that
    the App is installed on, or whom one of them appointed."""


class NoTokenError(UserError):
    """This token is not one of this installation's, or it has ended. An administrator makes one on the installation's page."""


class ScopeError(RefusedError):
    """This token may not do this; an administrator can make one that may, but for what only a person may do."""


class TooManyError(TransientError):
    """You asked about access too often. Wait a few minutes."""


class TooManyCallsError(TooManyError):
    """This token called too often. Wait as long as Retry-After says."""


@dataclass(frozen=True, slots=True)
class _Question:
    """Whether somebody administers a tenant (`what`: `administer`) or is known there at all (`known`), or may do `what` (`read`,
    `write`) in one of its repositories."""

    tenant: int
    person_id: int
    repository_id: int | None = None
    what: str = "administer"


@dataclass(frozen=True, slots=True)
class Allowed:
    """Somebody who may act for this installation; `actor` is what the log says of them. `given` is the role of their own by which
    a person may."""

    installation: Installation
    actor: str
    given: Given | None = None


class Access:
    """Asks GitHub by way of the App: a person who signed in needs to have granted nothing."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._known: OrderedDict[_Question, tuple[datetime, bool]] = OrderedDict()
        self._asked: OrderedDict[int, deque[datetime]] = OrderedDict()
        self._calls: OrderedDict[UUID, tuple[datetime, int]] = OrderedDict()
        self._listed: tuple[datetime, Mapping[str, Sequence[int]]] | None = None

    async def administrator(self, tenant: int, person: Account, *, anew: bool = False) -> Allowed:
        """Raises NotYoursError, also where there is no such installation: nobody learns by asking which there are."""
        installation, given = await self._entered(tenant, person)
        if given is not None:
            allowed = given.role is Role.ADMINISTRATOR and await self._answer(
                _Question(tenant, person.id, what="known"),
                person,
                partial(self._house.github.knows, tenant, person),
                anew=anew,
            )
        elif installation.account_type == "User":
            allowed = settings.owns(installation, person.id)
        else:
            allowed = await self._answer(
                _Question(tenant, person.id),
                person,
                partial(self._house.github.administers, tenant, person),
                anew=anew,
            )
        if not allowed or (anew and not await self._is_still(given, tenant, person)):
            raise NotYoursError
        await self._require_going(tenant)
        return Allowed(installation, person.login, given)

    async def may_write(
        self, tenant: int, repository_id: int, person: Account, *, anew: bool = False
    ) -> Allowed:
        """For what concerns one repository; no viewer may. Raises NotYoursError."""
        return await self._may(_Question(tenant, person.id, repository_id, "write"), person, anew=anew)

    async def may_read(self, tenant: int, repository_id: int, person: Account) -> Allowed:
        """Everybody may read a public repository. Raises NotYoursError."""
        return await self._may(_Question(tenant, person.id, repository_id, "read"), person)

    async def _may(self, question: _Question, person: Account, *, anew: bool = False) -> Allowed:
        installation, given = await self._entered(question.tenant, person)
        if question.what == "write" and given is not None and given.role is Role.VIEWER:
            raise NotYoursError
        if not await self._answer(question, person, partial(self._has_right, question, person), anew=anew):
            raise NotYoursError
        if anew and not await self._is_still(given, question.tenant, person):
            raise NotYoursError
        await self._require_going(question.tenant)
        return Allowed(installation, person.login, given)

    async def own(self, person: Account) -> Sequence[Installation]:
        """Those on the person's own account; GitHub is not asked."""
        found = []
        for tenant in await self._house.store.tenants_of_account(person.id):
            with suppress(NotYoursError):
                found.append(await self._installation(tenant))
        return [one for one in found if one.account_type == "User" and one.account_id == person.id]

    async def named(self, login: str, person: Account) -> Allowed:
        """The installation on the account of this login, for its administrator. Raises NotYoursError in all other cases."""
        self._count(person)
        for github_id in (await self._by_login()).get(login.strip().removeprefix("@").casefold(), ()):
            with suppress(NotYoursError):
                return await self.administrator(await self._house.store.tenant_of(github_id), person)
        raise NotYoursError

    async def bearer(self, tenant: int, token: str, scope: Scope | None) -> Allowed:
        """Raises NoTokenError, TooManyCallsError and ScopeError."""
        known = None
        found = _TOKEN.fullmatch(token)
        if found is not None and int(found[1]) == tenant:
            try:
                async with self._house.store.transaction(tenant) as transaction:
                    tokens = await transaction.api_tokens()
                    installation = await transaction.installation()
            except ErasedError:
                raise NoTokenError from None
            hashed = _hash(token)
            known = next((one for one in tokens if hmac.compare_digest(one.hash, hashed)), None)
        if known is None or known.expires_at <= self._house.clock() or installation is None:
            raise NoTokenError
        self._count_call(known.id)
        if scope is not None and scope not in known.scopes.split():
            raise ScopeError
        await self._require_going(tenant)
        return Allowed(installation, f"token:{known.id}")

    async def _require_going(self, tenant: int) -> None:
        """Raises PausedError: who holds a stolen session or token gets nothing either. Only who may look at it learns that."""
        if await self._house.store.paused(tenant) is not None:
            raise PausedError(reason="paused", retry_after=PAUSED)

    async def _installation(self, tenant: int) -> Installation:
        try:
            async with self._house.store.transaction(tenant) as transaction:
                found = await transaction.installation()
        except ErasedError:
            found = None
        if found is None:
            raise NotYoursError
        return found

    async def _entered(self, tenant: int, person: Account) -> tuple[Installation, Given | None]:
        """The installation and the person's own role there, as they are now: a role that was changed counts at once.

        Raises NotYoursError, and DefectError where the settings cannot be read: nobody is allowed anything then.
        """
        try:
            async with self._house.store.transaction(tenant) as transaction:
                found = await transaction.installation()
                chosen = await settings.read(transaction) if found is not None else None
        except ErasedError:
            found = chosen = None
        if found is None or chosen is None:
            raise NotYoursError
        return found, chosen.given(found, person.id)

    async def _is_still(self, given: Given | None, tenant: int, person: Account) -> bool:
        """Before anything is changed: GitHub may have been asked for seconds, and somebody's role changed meanwhile."""
        return (await self._entered(tenant, person))[1] == given

    async def _answer(
        self, question: _Question, person: Account, ask: Callable[[], Awaitable[bool]], *, anew: bool = False
    ) -> bool:
        known = self._known.get(question)
        fresh = known is not None and self._house.clock() - known[0] < BELIEVED
        # A no is believed in any case: a stranger who tries again and again would fill somebody else's log.
        if known is not None and fresh and not (anew and known[1]):
            return known[1]
        self._count(person)
        asked_at = self._house.clock()
        try:
            answer = await ask()
        except (MissingError, GoneError, DeniedError):
            answer = False
        scope = "installation" if question.repository_id is None else "repository"
        try:
            await self._house.ledger.record(
                question.tenant,
                Action.PERMISSION_CHECKED,
                "magicode",
                None,
                {
                    "login": person.login,
                    "scope": scope,
                    "repository": question.repository_id,
                    "allowed": answer,
                },
            )
        except ErasedError:
            raise NotYoursError from None
        self._known[question] = (asked_at, answer)
        self._known.move_to_end(question)
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return answer

    async def _has_right(self, question: _Question, person: Account) -> bool:
        if question.repository_id is None:
            raise AssertionError("a right is one in a repository")
        reading = self._house.github.reader(question.tenant, question.repository_id)
        record = self._house.ledger.recorder(question.tenant, None)
        async with written_down(reading, record, "read", "read") as reader:
            granted = await reader.permission(person.login, person.id)
        return may_read(granted) if question.what == "read" else may_ask(granted, "fix")

    async def _by_login(self) -> Mapping[str, Sequence[int]]:
        """GitHub's present ids of the installations by their accounts' logins, in one list for everybody who asks."""
        now = self._house.clock()
        if self._listed is None or now - self._listed[0] >= BELIEVED:
            found: dict[str, list[int]] = {}
            for one in await self._house.github.installations():
                found.setdefault(one.account_login.casefold(), []).append(one.id)
            self._listed = (now, found)
        return self._listed[1]

    def _count_call(self, token: UUID) -> None:
        """Raises TooManyCallsError."""
        now = self._house.clock()
        since, count = self._calls.get(token, (now, 0))
        if now - since >= CALLS_WITHIN:
            since, count = now, 0
        if count >= CALLS_AT_MOST:
            raise TooManyCallsError(reason="too_many_calls", retry_after=since + CALLS_WITHIN - now)
        self._calls[token] = (since, count + 1)
        self._calls.move_to_end(token)
        while len(self._calls) > REMEMBERED:
            self._calls.popitem(last=False)

    def _count(self, person: Account) -> None:
        """Raises TooManyError: each question costs the installation that it is about some of GitHub's patience."""
        now = self._house.clock()
        asked = self._asked.setdefault(person.id, deque())
        self._asked.move_to_end(person.id)
        while asked and now - asked[0] >= ASKED_WITHIN:
            asked.popleft()
        if len(asked) >= ASKED_AT_MOST:
            raise TooManyError(reason="too_many", retry_after=asked[0] + ASKED_WITHIN - now)
        asked.append(now)
        while len(self._asked) > REMEMBERED:
            self._asked.popitem(last=False)


async def make_token(
    house: House,
    allowed: Allowed,
    scopes: frozenset[Scope],
    lasts: timedelta,
    random: Callable[[int], str] = secrets.token_urlsafe,
) -> tuple[str, ApiToken]:
    """The token, which is shown this once, and what is kept of it. Raises UserError for a time that is none."""
    if not timedelta(0) < lasts <= LONGEST:
        raise UserError(f"A token lasts from a minute to {LONGEST.days} days.", reason="token_time")
    tenant, now = allowed.installation.id, house.clock()
    token = f"mgc_{tenant}_{random(32)}"
    kept = ApiToken(
        id=house.new_id(),
        hash=_hash(token),
        scopes=" ".join(sorted(scopes)),
        created_by=allowed.actor,
        created_at=now,
        expires_at=now + lasts,
    )
    async with house.store.transaction(tenant) as transaction:
        await transaction.put_api_token(kept)
        await house.ledger.append(
            transaction,
            tenant,
            Action.SETTING_CHANGED,
            allowed.actor,
            None,
            {
                "name": "api-token",
                "token": str(kept.id),
                "scopes": kept.scopes,
                "days": lasts.days,
                "new": "made",
            },
        )
    return token, kept


async def remove_token(house: House, allowed: Allowed, token_id: UUID) -> bool:
    """False when there is none; it is of no use from this moment."""
    tenant = allowed.installation.id
    async with house.store.transaction(tenant) as transaction:
        if not await transaction.remove_api_token(token_id):
            return False
        await house.ledger.append(
            transaction,
            tenant,
            Action.SETTING_CHANGED,
            allowed.actor,
            None,
            {"name": "api-token", "token": str(token_id), "new": "removed"},
        )
        return True


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
