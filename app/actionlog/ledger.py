"""Appends to an installation's chain, inside somebody's transaction or in one of its own; it never changes an entry."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

from app.actionlog.entry import (
    DETAILS_PURPOSE,
    SALT_BYTES,
    SALT_PURPOSE,
    canonical,
    details_hash,
    entry_hash,
    genesis,
    place,
    timestamp,
)
from app.errors import DefectError
from app.nouns import Action, Entry, Facts, Job
from app.ports import Clock, Keys, Store, Transaction


@dataclass(frozen=True, slots=True)
class Head:
    """How long a chain is and the hash of its last entry: what is quoted in comments and pull requests.

    An empty chain has `seq` 0 and the genesis hash.
    """

    seq: int
    hash: str
    installation_id: int

    def __str__(self) -> str:
        """`SEQ:HASH:INSTALLATION`, the form in which `magicode actions verify` takes a quoted head."""
        return f"{self.seq}:{self.hash}:{self.installation_id}"


class NotPrunableError(DefectError):
    """Entries can be removed from the log's beginning only: up to one that is there and that others follow."""


class Ledger:
    """The action log of all installations. Raises app.errors.DefectError for facts that cannot be written."""

    def __init__(
        self, store: Store, keys: Keys, clock: Clock, random: Callable[[int], bytes] = secrets.token_bytes
    ) -> None:
        self._store = store
        self._keys = keys
        self._clock = clock
        self._random = random

    async def append(  # noqa: PLR0917 - the order is the port's, app.ports.Appends
        self,
        transaction: Transaction,
        installation_id: int,
        action: Action,
        actor: str,
        run_id: UUID | None,
        facts: Facts,
        jobs: Sequence[Job] = (),
        *,
        ends: bool = False,
    ) -> Entry:
        """Add an entry within an open transaction of this installation; it is there if and only if that commits, and so are the
        jobs that come of it.

        The chain stays locked until the transaction ends, so no two such jobs take the same place in the queue; `ends` says that
        nothing comes behind it, and makes that time shorter by a round trip. A clock that went back is held at the last entry's
        time, so that the times never run backwards.
        """
        details = canonical(facts)
        key = await self._keys.data_key(transaction)
        last = await transaction.last_entry()
        seq = last.seq + 1 if last else 1
        at = self._clock()
        if last and at < last.at:
            at = last.at
        salt = self._random(SALT_BYTES)
        bound = place(installation_id, seq)
        hashed = details_hash(salt, facts)
        previous = last.hash if last else genesis(installation_id)
        entry = Entry(
            installation_id=installation_id,
            seq=seq,
            at=at,
            actor=actor,
            action=str(action),
            run_id=run_id,
            sealed=self._keys.seal(self._keys.derive(key, DETAILS_PURPOSE), details, bound),
            details_hash=hashed,
            previous_hash=previous,
            hash=entry_hash(
                installation_id=installation_id,
                seq=seq,
                at=timestamp(at),
                actor=actor,
                action=str(action),
                run_id=run_id,
                details_hash=hashed,
                previous_hash=previous,
            ),
        )
        # The salt is sealed too: left in clear it would outlive the key, and short details could be guessed from it.
        sealed_salt = self._keys.seal(self._keys.derive(key, SALT_PURPOSE), salt, bound)
        await transaction.add_entry(entry, sealed_salt, jobs, ends=ends)
        return entry

    async def record(
        self,
        installation_id: int,
        action: Action,
        actor: str = "magicode",
        run_id: UUID | None = None,
        facts: Facts | None = None,
    ) -> Entry:
        """Add an entry in a transaction of its own."""
        async with self._store.transaction(installation_id) as transaction:
            return await self.append(
                transaction, installation_id, action, actor, run_id, facts or {}, ends=True
            )

    async def note_pruning(
        self,
        transaction: Transaction,
        installation_id: int,
        up_to_seq: int,
        *,
        actor: str = "magicode",
        facts: Facts | None = None,
    ) -> Entry:
        """Attest, in the transaction that removes them and before it does, that entries up to `up_to_seq` go.

        A log that begins behind them is sound because of this entry. Raises NotPrunableError where the last of them is not
        there, or is the chain's head: then nothing may be removed.
        """
        found = await transaction.entries(after_seq=up_to_seq - 1, limit=2)
        if len(found) < 2 or found[0][0].seq != up_to_seq:
            raise NotPrunableError
        told = {**(facts or {}), "up_to_seq": up_to_seq, "up_to_hash": found[0][0].hash}
        return await self.append(transaction, installation_id, Action.RETENTION_APPLIED, actor, None, told)

    def recorder(self, installation_id: int, run_id: UUID | None) -> RunRecorder:
        """What a run's stations record with; implements app.ports.Recorder."""
        return RunRecorder(self, installation_id, run_id)

    async def head(self, installation_id: int) -> Head:
        """The chain's present head, to be quoted where this service cannot take it back."""
        async with self._store.transaction(installation_id) as transaction:
            last = await transaction.last_entry()
        seq, hashed = (last.seq, last.hash) if last else (0, genesis(installation_id))
        return Head(seq, hashed, installation_id)


@dataclass(frozen=True, slots=True)
class RunRecorder:
    """Writes one run's actions; each call commits by itself."""

    ledger: Ledger
    installation_id: int
    run_id: UUID | None

    async def __call__(
        self, action: Action, actor: str = "magicode", **facts: str | int | float | bool | None
    ) -> Entry:
        return await self.ledger.record(self.installation_id, action, actor, self.run_id, facts)
