"""What is done to a database that came back from a backup, before anybody works on it: everybody is paused, what was deleted since is
deleted again, and what opens doors ends.

Each step finds what an earlier attempt has done, so that it may be begun again after a crash anywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from app import erasing
from app.custody.backups import KEYS, Backups
from app.custody.tombstones import RESTORED
from app.errors import ErasedError, UserError
from app.house import House
from app.jobs.accept import NOBODY
from app.nouns import Action, Erasure
from app.ports import Transaction

OPERATOR = "operator"


class NoListError(UserError):
    """MAGICODE_BACKUPS is not set: without the list of deletions nobody knows what was deleted since the backup was made."""


class EmptyPlaceError(UserError):
    """There is nothing where MAGICODE_BACKUPS says: is the folder mounted, is the bucket's prefix right? Where neither a backup was made
    nor anything deleted so far, run `magicode backup` first."""


class KeysMissingError(UserError):
    """This database came back from a backup, and keys that go with it are not in it: run `magicode restored`, which puts them there."""


class DeletedComesBackError(UserError):
    """This database lacks deletions that were done: it came back from a backup. Run `magicode restored`, which does them again; until
    then nothing is served and nothing is worked."""


@dataclass(frozen=True, slots=True)
class Restored:
    """`erased_again` came back with the backup and are destroyed once more. `tokens` of the API were removed, and every browser is
    signed out. `keyless` have rows and no key, and are in no list: what is theirs was destroyed, and their rows can be deleted.
    `last_entry` is the last thing that the logs know of: what came behind it is lost."""

    installations: int
    erased_again: tuple[int, ...]
    keyless: tuple[int, ...]
    tokens: int
    last_entry: datetime | None


async def require_reapplied(house: House) -> None:
    """Raises KeysMissingError, DeletedComesBackError where the list has an erasure of which the database knows nothing, and TransientError where
    nobody can say. By names alone: an installation is erased once, since a new one of the same account has an id of its own."""
    async with house.store.transaction(NOBODY) as transaction:
        # In this order: another process may begin on an empty database at the same moment, and its first entry comes with the key.
        if await transaction.last_entry() is not None and await transaction.wrapped_key(anew=True) is None:
            raise KeysMissingError
    listed = erasing.tombstones(house)
    if listed is None:
        return
    if await listed.installations() - set(await house.store.erased_ids()):
        raise DeletedComesBackError


async def restored(house: House) -> Restored:
    """The service is stopped meanwhile, and paused from here on until the operator lets it go on.

    Raises NoListError, EmptyPlaceError, ForeignTombstoneError before anything is removed, and what an erasure raises.
    """
    listed = erasing.tombstones(house)
    if listed is None or house.backups is None:
        raise NoListError
    if not await house.backups.names(KEYS) and not await listed.installations():
        raise EmptyPlaceError
    await house.store.pause(NOBODY)
    await Backups(house.backups, house.keys, house.clock).put_keys(house.store)
    tombstones = await listed.read()
    known = set(await house.store.erased_ids())
    missing = {tenant: one for tenant, one in tombstones.items() if tenant not in known}
    here = [tenant for tenant in await house.store.installation_ids() if tenant not in missing]
    marked = [one for tenant in here if (one := await _mark(house, tenant)) is not None]
    await house.store.end_every_session()
    # Last, since it is by them that a process which starts sees whether all this was done.
    for erasure in missing.values():
        await erasing.begin_again(house, erasure)
    await _finish(house, tombstones)
    again = await _again(house, tombstones)
    last = await _mark_service(house, again)
    keyless = tuple(one.tenant for one in marked if one.keyless)
    times = [one.last_at for one in marked if one.last_at is not None] + ([last] if last else [])
    return Restored(len(here), again, keyless, sum(one.tokens for one in marked), max(times, default=None))


@dataclass(frozen=True, slots=True)
class _Marked:
    tenant: int
    keyless: bool
    tokens: int
    last_at: datetime | None


async def _mark(house: House, tenant: int) -> _Marked | None:
    """Removes the API's tokens, which may have been taken away since, and says in the log what happened to it; both or neither.
    None where it is being destroyed."""
    try:
        async with house.store.transaction(tenant) as transaction:
            last = await transaction.last_entry()
            tokens = await transaction.api_tokens()
            for token in tokens:
                await transaction.remove_api_token(token.id)
            keyless = last is not None and await transaction.wrapped_key() is None
            # Nobody works, so it stands last where an earlier attempt wrote it.
            if not keyless and (last is None or last.action != Action.SERVICE_RESTORED or tokens):
                await _append(house, transaction, tenant, last.at if last else None, {"tokens": len(tokens)})
    except ErasedError:
        return None
    return _Marked(tenant, keyless, len(tokens), last.at if last else None)


async def _mark_service(house: House, again: tuple[int, ...]) -> datetime | None:
    async with house.store.transaction(NOBODY) as transaction:
        last = await transaction.last_entry()
        if last is None or last.action != Action.SERVICE_RESTORED:
            await _append(house, transaction, NOBODY, last.at if last else None, {"erased_again": len(again)})
        return last.at if last else None


async def _append(
    house: House, transaction: Transaction, tenant: int, last_at: datetime | None, facts: Mapping[str, int]
) -> None:
    upto = None if last_at is None else last_at.astimezone(UTC).isoformat()
    await house.ledger.append(
        transaction, tenant, Action.SERVICE_RESTORED, OPERATOR, None, {"as_of": upto, **facts}
    )


async def _finish(house: House, tombstones: Mapping[int, Erasure]) -> None:
    """Those of an earlier attempt too. What was begun before the backup was made is the worker's to go on with."""
    for tenant in tombstones:
        erasure = await erasing.tombstone(house, tenant)
        if erasure is not None and erasure.ended_at is None and erasure.reason == RESTORED:
            await erasing.erase(house, tenant)


async def _again(house: House, tombstones: Mapping[int, Erasure]) -> tuple[int, ...]:
    found = [(tenant, await erasing.tombstone(house, tenant)) for tenant in sorted(tombstones)]
    return tuple(tenant for tenant, one in found if one is not None and one.reason == RESTORED)
