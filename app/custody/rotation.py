"""Rotation of the master key: every data key is wrapped anew, one short transaction each, while the service runs.

Begun again after a crash it goes on where it was. It never removes an old master key while anything may be wrapped by it.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from app.custody.keys import Keys
from app.errors import DefectError, ErasedError, TransientError, WrongMasterKeyError
from app.nouns import Action
from app.ports import Appends, MasterKey, Store

SERVICE = 0
"""The service's own chain has a data key too."""

SETTLE_SECONDS = 10.0
"""How long a transaction may take that added a data key under the master key of before, for an installation that nobody
knew yet. Those of known installations are waited for."""

_PASSES = 20

Sleep = Callable[[float], Awaitable[None]]
Tell = Callable[[str], None]


class RotatingMasterKey(MasterKey, Protocol):
    """A master key that can be changed for a new one. Its methods may block."""

    def begin(self) -> None:
        """Makes a new current key, or goes on with a rotation that was begun and not finished."""
        ...

    def finish(self, under: str, *, keep_old: bool) -> int:
        """Everything is wrapped by the key `under`. Returns how many old ones it removed: none where another is current."""
        ...


class MasterKeyMovedError(TransientError):
    """Another rotation of the master key began meanwhile. Run this one again: it goes on where it was."""


class UnreadableKeysError(DefectError):
    """Some data keys were wrapped by a master key that is not at hand, so the old one was not removed. Name the master key
    that wrapped them in MAGICODE_MASTER_KEY, behind the present one, and rotate again."""

    def __init__(self, installations: tuple[int, ...]) -> None:
        said = inspect.cleandoc(type(self).__doc__ or "")
        super().__init__(f"{said} Installations: {', '.join(map(str, installations))}.")


@dataclass(frozen=True, slots=True)
class Rotated:
    """`rewrapped` data keys were moved by this call, of `keys` in all; `removed` old master keys went out of the ring."""

    master_key: str
    keys: int
    rewrapped: int
    removed: int


@dataclass(slots=True)
class _Tally:
    keyed: set[int] = field(default_factory=set)
    rewrapped: set[int] = field(default_factory=set)
    unreadable: set[int] = field(default_factory=set)
    waited_for: set[int] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Rotation:
    """What a rotation needs. `keys` are to be over `master`; `keep` writes down elsewhere how the data keys are wrapped now, before
    nobody can open any more how they were."""

    store: Store
    master: RotatingMasterKey
    keys: Keys
    ledger: Appends
    sleep: Sleep = asyncio.sleep
    settle_seconds: float = SETTLE_SECONDS
    tell: Tell = lambda _: None
    keep: Callable[[], Awaitable[object]] | None = None

    async def run(self, actor: str, *, keep_old: bool = False) -> Rotated:
        """From a new master key, or from where the last rotation stopped, to the old one's removal.

        Raises UnreadableKeysError, MasterKeyMovedError, TransientError, and what the master key raises; each time
        everything can be read as before, and running it again goes on.
        """
        await asyncio.to_thread(self.master.begin)
        under, tally = self.master.id, _Tally()
        self.tell(f"The master key is {under} now. Wrapping the data keys anew.")
        await self._pass(under, actor, tally)
        self.tell(
            f"{len(tally.rewrapped)} done. Waiting {self.settle_seconds:g} s for what was begun before."
        )
        await self.sleep(self.settle_seconds)
        for _ in range(_PASSES):
            if not await self._pass(under, actor, tally):
                break
        else:
            raise MasterKeyMovedError
        if tally.unreadable:
            raise UnreadableKeysError(tuple(sorted(tally.unreadable)))
        if self.keep is not None:
            await self.keep()
        async with self.store.transaction(SERVICE) as transaction:
            await self.ledger.append(
                transaction,
                SERVICE,
                Action.KEY_ROTATED,
                actor,
                None,
                {
                    "to": under,
                    "data_keys": len(tally.keyed),
                    "rewrapped": len(tally.rewrapped),
                    "old_kept": keep_old,
                },
            )
        # Last: from here on a new run would begin another rotation.
        removed = await asyncio.to_thread(self.master.finish, under, keep_old=keep_old)
        return Rotated(under, len(tally.keyed), len(tally.rewrapped), removed)

    async def _pass(self, under: str, actor: str, tally: _Tally) -> int:
        """How many were re-wrapped in one look at every tenant."""
        known = {
            SERVICE,
            *await self.store.installation_ids(),
            *await self.store.erased_ids(),
            *await self.store.keyed_ids(),
        }
        moved = 0
        for tenant in sorted(known - tally.unreadable):
            try:
                done = await self._tenant(tenant, under, actor, tally)
            except WrongMasterKeyError:
                tally.unreadable.add(tenant)
                continue
            if done:
                tally.rewrapped.add(tenant)
                moved += 1
        return moved

    async def _tenant(self, tenant: int, under: str, actor: str, tally: _Tally) -> bool:
        """False when it has no data key, or its key is under the master key already."""
        try:
            return await self._moved(tenant, under, actor, tally, erasing=False)
        except ErasedError:
            # An erasure at work needs the data key until it destroys it.
            return await self._moved(tenant, under, actor, tally, erasing=True)

    async def _moved(self, tenant: int, under: str, actor: str, tally: _Tally, *, erasing: bool) -> bool:
        while True:
            async with self.store.transaction(tenant, erasing=erasing) as transaction:
                stored = await transaction.wrapped_key()
            if stored is None and tenant not in tally.waited_for:
                # Somebody may be adding one under the old master key just now.
                tally.waited_for.add(tenant)
                await self.store.alone(tenant)
                continue
            if stored is None:
                tally.keyed.discard(tenant)
                return False
            tally.keyed.add(tenant)
            if stored[0] == under:
                return False
            fresh = await self.keys.rewrapped(stored)
            if fresh[0] != under:
                raise MasterKeyMovedError
            async with self.store.transaction(tenant, erasing=erasing) as transaction:
                if await transaction.replace_wrapped_key(stored, fresh):
                    if not erasing:  # whose log goes with the rest
                        facts = {"from": stored[0], "to": fresh[0]}
                        await self.ledger.append(transaction, tenant, Action.KEY_ROTATED, actor, None, facts)
                    return True
