"""Who may do what for an installation: GitHub's own answer, at most five minutes old, or a token that an administrator made."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from app.errors import ErasedError, GoneError, MissingError, RefusedError, UserError
from app.house import House
from app.nouns import Account, Action, ApiToken, Installation

BELIEVED = timedelta(minutes=5)
REMEMBERED = 10_000
LONGEST = timedelta(days=365)

_TOKEN = re.compile(r"mgc_([0-9]{1,19})_([A-Za-z0-9_-]{43})", re.ASCII)


class Scope(StrEnum):
    """What a token of the API may do. Each may read what the installation's summary says."""

    LOG = "log"
    EXPORT = "export"
    SETTINGS = "settings"
    DELETE = "delete"


class NotYoursError(RefusedError):
    """Only an administrator of this installation may see this: the account itself, or somebody who administers every
    repository that the App is installed on."""


class NoTokenError(UserError):
    """This token is not one of ours, has ended, or may not do this. An administrator makes one on the installation's page."""


@dataclass(frozen=True, slots=True)
class Allowed:
    """Somebody who may act for this installation; `actor` is what the log says of them."""

    installation: Installation
    actor: str


class Access:
    """Asks GitHub by way of the App: a person who signed in needs to have granted nothing."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._known: OrderedDict[tuple[int, int], tuple[datetime, bool]] = OrderedDict()

    async def administrator(self, tenant: int, person: Account) -> Allowed:
        """Raises NotYoursError, also where there is no such installation: nobody learns by asking which there are."""
        installation = await self._installation(tenant)
        if not await self._administers(installation, person):
            raise NotYoursError
        return Allowed(installation, person.login)

    async def may_write(self, tenant: int, repository_id: int, person: Account) -> Allowed:
        """For what concerns one repository. Raises NotYoursError."""
        installation = await self._installation(tenant)
        try:
            async with self._house.github.reader(tenant, repository_id) as reader:
                permission = await reader.permission(person.login)
        except (MissingError, GoneError):
            raise NotYoursError from None
        if permission not in ("admin", "write"):
            raise NotYoursError
        return Allowed(installation, person.login)

    async def bearer(self, tenant: int, token: str, scope: Scope | None) -> Allowed:
        """Raises NoTokenError."""
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
        if scope is not None and scope not in known.scopes.split():
            raise NoTokenError(reason="scope")
        return Allowed(installation, f"token:{known.id}")

    async def _installation(self, tenant: int) -> Installation:
        try:
            async with self._house.store.transaction(tenant) as transaction:
                found = await transaction.installation()
        except ErasedError:
            found = None
        if found is None:
            raise NotYoursError
        return found

    async def _administers(self, installation: Installation, person: Account) -> bool:
        if installation.account_type == "User":
            return installation.account_id == person.id
        known = self._known.get((installation.id, person.id))
        if known is not None and self._house.clock() - known[0] < BELIEVED:
            return known[1]
        try:
            answer = await self._house.github.administers(installation.id, person)
        except (MissingError, GoneError):
            answer = False
        self._known[installation.id, person.id] = (self._house.clock(), answer)
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return answer


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
            {"setting": "api_token", "token": str(kept.id), "scopes": kept.scopes, "days": lasts.days},
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
            {"setting": "api_token", "token": str(token_id), "removed": True},
        )
        return True


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
