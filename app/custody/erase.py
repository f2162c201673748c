"""Destroys everything of an installation, step by step, and proves it: a durable job that any worker goes on with.

Each step may be done again, and what it found is noted in the row of the erasure in the transaction that ends it. It refuses to
write a receipt while anything is left: what is found when the stores are searched again is destroyed again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Protocol
from uuid import UUID

from app.custody import settings
from app.custody.backups import drop_kept_key
from app.custody.keys import Keys
from app.custody.receipt import Destroyed, Signer, receipt
from app.custody.tombstones import RESTORED, Tombstones
from app.errors import (
    DefectError,
    RefusedError,
    SupersededError,
    TransientError,
    UserError,
    WrongMasterKeyError,
)
from app.nouns import Action, Entry, Erasure, Facts, Installation
from app.ports import Appends, Clock, Fence, Objects, Recorder, Store, Transaction
from embeddings.collection import Points
from embeddings.forget import drop, shelf_of

PAUSE_SECONDS = 0.1
"""Between two looks whether a job of the installation is still at work."""


class Step(StrEnum):
    """How far an erasure is: each names what has been done."""

    BEGUN = "begun"
    CLOSED = "closed"  # nobody is at work, and nobody can begin
    TOLD = "told"  # runs that were at work say on GitHub that they were stopped
    COUNTED = "counted"  # and the last entry is in the log
    VECTORS = "vectors"
    OBJECTS = "objects"
    KEY = "key"
    ROWS = "rows"
    SEARCHED = "searched"  # and nothing was found
    SIGNED = "signed"
    DELIVERED = "delivered"


class UnknownInstallationError(UserError):
    """Nothing is stored of an installation with this id."""


class LegalHoldError(RefusedError):
    """A legal hold is on: nothing is deleted until an administrator takes it off."""


class NotEmptyError(TransientError):
    """Something was found after the deletion; it is destroyed again."""


class AtWorkError(TransientError):
    """Jobs of the installation are still at work; they end by themselves."""


# --- how it begins ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Wish:
    """Who wants an installation to be destroyed and why (`Erasure.reason`), and where the receipt is to be written, if anywhere."""

    reason: str
    asked_by: str | None = None
    repository_id: int | None = None
    number: int | None = None
    comment_id: int | None = None


async def require_no_hold(transaction: Transaction) -> None:
    """Raises LegalHoldError, which says whose the hold is and since when."""
    stored = await transaction.settings()
    if stored is None or not stored.legal_hold:
        return
    hold = (await settings.read(transaction)).legal_hold
    by, at = (stored.changed_by, stored.changed_at) if hold is None else (hold.by, hold.since)
    raise LegalHoldError(
        f"Nothing is deleted: {by} put a legal hold on this account's data, on {at.astimezone(UTC):%Y-%m-%d at %H:%M} UTC. "
        "It stops every deletion until it is taken off in the settings.",
        reason="legal_hold",
    )


async def begin(
    transaction: Transaction,
    installation_id: int,
    wish: Wish,
    *,
    ledger: Appends,
    keys: Keys,
    clock: Clock,
    new_id: Callable[[], UUID],
) -> bool:
    """Writes down in this transaction that the installation is to be destroyed; from its commit on nobody enters it. The
    caller puts the job on the queue in the same transaction. False where one had begun already.

    Raises LegalHoldError, and UnknownInstallationError where nothing is stored of it.
    """
    known = await transaction.installation()
    if known is None and not any((await transaction.row_counts()).values()):
        raise UnknownInstallationError(
            f"Nothing is stored of an installation {installation_id}.", reason="unknown_installation"
        )
    data_key = await keys.data_key(transaction)
    # Holds the chain, as who puts a hold on does: the second of the two sees the first.
    await transaction.last_entry()
    await require_no_hold(transaction)
    # Named now, since a master key that is lost meanwhile must not leave vectors behind that nobody can name.
    shelf = shelf_of(data_key, installation_id)
    erasure = replace(_erasure(installation_id, known, wish, new_id(), clock()), shelf=shelf)
    if not await transaction.begin_erasure(erasure):
        return False
    await ledger.append(
        transaction,
        installation_id,
        Action.ERASURE_BEGUN,
        wish.asked_by or "magicode",
        None,
        {"erasure": str(erasure.id), "reason": wish.reason},
    )
    return True


async def begin_again(transaction: Transaction, erasure: Erasure, *, keys: Keys) -> bool:
    """Writes down that what a backup brought back is destroyed once more, under the erasure's own id, as `begin` does; `erasure` is the
    list's. No hold stops it: it was taken off before the first time. The key may be gone already. False where one has begun."""
    with suppress(WrongMasterKeyError):
        key = await keys.existing_key(transaction)
        if key is not None and erasure.shelf is None:
            erasure = replace(erasure, shelf=shelf_of(key, erasure.installation_id))
    return await transaction.begin_erasure(erasure)


def _erasure(
    installation_id: int, known: Installation | None, wish: Wish, erasure_id: UUID, now: datetime
) -> Erasure:
    return Erasure(
        installation_id=installation_id,
        id=erasure_id,
        github_id=installation_id if known is None else known.present_id,
        account_id=0 if known is None else known.account_id,
        reason=wish.reason,
        asked_at=now,
        asked_by=wish.asked_by,
        step=Step.BEGUN.value,
        repository_id=wish.repository_id,
        number=wish.number,
        comment_id=wish.comment_id,
    )


# --- how it goes on --------------------------------------------------------------------------------------------------


class Faces(Protocol):
    """What an erasure says to people."""

    async def stopped(self, erasure: Erasure, record: Recorder, fence: Fence) -> None:
        """Tells those whose runs were at work; what cannot be told is left. Its rows and its log are still there."""
        ...

    async def deliver(self, erasure: Erasure, fence: Fence) -> None:
        """Hands the receipt over, once; returns also where nobody is there to take it. Nothing else is left by then."""
        ...


@dataclass(frozen=True, slots=True)
class Eraser:
    """`task` names the job that plays this, which is the one that is left on the queue. `heard_within` is how long ago a worker
    that lives was last heard of, `patience` how long the others' jobs are waited for in one go. `listed` is the list that outlives
    the database, None where none is kept.
    """

    store: Store
    ledger: Appends
    keys: Keys
    points: Points
    objects: Objects
    faces: Faces
    signer: Callable[[], Awaitable[Signer]]
    clock: Clock
    sleep: Callable[[float], Awaitable[None]]
    task: str
    heard_within: timedelta
    patience: timedelta = timedelta(seconds=60)
    listed: Tombstones | None = None

    async def finish(self, installation_id: int) -> Erasure:
        """Goes on where whoever was at it before left off, to the end; gives the tombstone that remains.

        Raises TransientError to be called again, SupersededError where another worker took it up meanwhile, and
        UnknownInstallationError where none has begun.
        """
        erasure = await self._taken_up(installation_id)
        while erasure.ended_at is None:
            erasure = await _STEPS[Step(erasure.step)](self, erasure)
        return erasure

    # --- the steps ---

    async def _close(self, erasure: Erasure) -> Erasure:
        """Waits until who was inside has left. What they hold outside of transactions breaks off at its next one.

        In the list first: were the database lost in the middle, an older one would know nothing of what was asked for.
        """
        if self.listed is not None:
            await self.listed.put(erasure)
        tenant = erasure.installation_id
        await self.store.alone(tenant)
        give_up_at = self.clock() + self.patience
        while True:
            async with self._held(erasure) as transaction:
                at_work = await transaction.jobs_at_work(self.task, self.heard_within)
                dropped = await transaction.drop_jobs(self.task, self.heard_within)
                jobs = _facts(erasure).get("jobs", 0) + dropped
                if not at_work and not dropped:
                    now = self.clock().isoformat()
                    return await _note(transaction, erasure, step=Step.CLOSED, jobs=jobs, closed_at=now)
                if dropped:
                    erasure = await _note(transaction, erasure, jobs=jobs)
            if self.clock() > give_up_at:
                raise AtWorkError(reason="jobs_at_work", retry_after=timedelta(seconds=5))
            await self.sleep(PAUSE_SECONDS)

    async def _tell(self, erasure: Erasure) -> Erasure:
        with suppress(WrongMasterKeyError):  # nothing can be written down any more, so nothing is done
            await self.faces.stopped(erasure, _Recorder(self, erasure), self._fence(erasure))
        async with self._held(erasure) as transaction:
            return await _note(transaction, erasure, step=Step.TOLD)

    async def _count(self, erasure: Erasure) -> Erasure:
        """What is there, and the log's last entry. A key that a backup left out was destroyed before, and nothing is sealed without."""
        tenant = erasure.installation_id
        vectors = 0 if erasure.shelf is None else await self.points.count(erasure.shelf)
        objects = len(await self.objects.names(str(tenant)))
        async with self._held(erasure) as transaction:
            found = await transaction.wrapped_key()
            if found is None and erasure.reason == RESTORED:
                head, (master_key_id, wrapped) = await transaction.last_entry(), _DESTROYED_BEFORE
            else:
                head = await self._last_entry(transaction, erasure, vectors=vectors, objects=objects)
                master_key_id, wrapped = await _wrapped(transaction)
            return await _note(
                transaction,
                erasure,
                step=Step.COUNTED,
                vectors=vectors,
                objects=objects,
                master_key_id=_told(master_key_id),
                wrapped_sha256=hashlib.sha256(wrapped).hexdigest(),
                log_head=f"{head.seq}:{head.hash}:{tenant}" if head else f"0:{'0' * 64}:{tenant}",
            )

    async def _last_entry(self, transaction: Transaction, erasure: Erasure, **counts: int) -> Entry:
        """The log's end. Where the master key is lost nothing can be sealed any more, and the log ends as it is."""
        facts: Facts = {
            "erasure": str(erasure.id),
            "reason": erasure.reason,
            "rows": sum((await transaction.row_counts()).values()),
            **counts,
        }
        actor, tenant = erasure.asked_by or "magicode", erasure.installation_id
        try:
            return await self.ledger.append(transaction, tenant, Action.DATA_DELETED, actor, None, facts)
        except WrongMasterKeyError:
            last = await transaction.last_entry()
            if last is None:
                raise
            return last

    async def _drop_vectors(self, erasure: Erasure) -> Erasure:
        if erasure.shelf is not None:
            await drop(self.points, erasure.shelf)
        async with self._held(erasure) as transaction:
            return await _note(transaction, erasure, step=Step.VECTORS)

    async def _drop_objects(self, erasure: Erasure) -> Erasure:
        for name in await self.objects.names(str(erasure.installation_id)):
            await self.objects.delete(name)
        async with self._held(erasure) as transaction:
            return await _note(transaction, erasure, step=Step.OBJECTS)

    async def _destroy_key(self, erasure: Erasure) -> Erasure:
        if self.listed is not None:
            await drop_kept_key(self.listed.objects, erasure.installation_id)
        async with self._held(erasure) as transaction:
            destroyed = {"data_keys": int(await transaction.destroy_key())}
            erasure = await _note(transaction, erasure, step=Step.KEY, rows=_more_rows(erasure, destroyed))
        # Other processes ask the database for the wrapped key before they look into their memory.
        self.keys.forget()
        return erasure

    async def _erase_rows(self, erasure: Erasure) -> Erasure:
        async with self._held(erasure) as transaction:
            rows = _more_rows(erasure, await transaction.erase_rows())
            return await _note(transaction, erasure, step=Step.ROWS, rows=rows)

    async def _search(self, erasure: Erasure) -> Erasure:
        """Once more through all stores. What is found goes back to be destroyed."""
        tenant, shelf = erasure.installation_id, erasure.shelf
        vectors = 0 if shelf is None else await self.points.count(shelf)
        collections = 0 if shelf is None else len(await self.points.names(shelf))
        objects = len(await self.objects.names(str(tenant)))
        async with self._held(erasure) as transaction:
            found = {
                **await transaction.row_counts(),
                "vectors": vectors,
                "collections": collections,
                "objects": objects,
                "jobs": await transaction.drop_jobs(self.task, self.heard_within)
                + await transaction.jobs_at_work(self.task, self.heard_within),
            }
            if not any(found.values()):
                return await _note(
                    transaction,
                    erasure,
                    step=Step.SEARCHED,
                    found=found,
                    searched_at=self.clock().isoformat(),
                )
            again = _facts(erasure)
            await _note(
                transaction,
                erasure,
                step=Step.COUNTED,
                vectors=again.get("vectors", 0) + vectors,
                objects=again.get("objects", 0) + objects,
            )
        raise NotEmptyError(reason="not_empty", retry_after=timedelta(seconds=1))

    async def _sign(self, erasure: Erasure) -> Erasure:
        """Where one was given before a backup brought it all back, that one stays."""
        if erasure.receipt is not None:
            async with self._held(erasure) as transaction:
                return await _note(transaction, erasure, step=Step.SIGNED)
        signed = (await self.signer()).sign(receipt(_destroyed(erasure)))
        async with self._held(erasure) as transaction:
            await transaction.update_erasure(receipt=json.dumps(signed, indent=2))
            return await _note(transaction, erasure, step=Step.SIGNED)

    async def _deliver(self, erasure: Erasure) -> Erasure:
        """The end: who asked and where is forgotten too. None comes to it that is not in the list with its receipt."""
        if self.listed is not None:
            await self.listed.put(erasure)
        await self.faces.deliver(erasure, self._fence(erasure))
        async with self._held(erasure) as transaction:
            await _note(transaction, erasure, step=Step.DELIVERED)
            return await transaction.update_erasure(
                asked_by=None,
                repository_id=None,
                number=None,
                comment_id=None,
                shelf=None,
                facts="{}",
                ended_at=self.clock(),
            )

    # --- one worker at a time ---

    def _fence(self, erasure: Erasure) -> Fence:
        async def held() -> None:
            async with self._held(erasure):
                pass

        return held

    async def _taken_up(self, installation_id: int) -> Erasure:
        """Whoever held it before is fenced off from here on."""
        async with self.store.transaction(installation_id, erasing=True) as transaction:
            erasure = await transaction.erasure(lock=True)
            if erasure is None:
                raise UnknownInstallationError(reason="no_erasure")
            if erasure.ended_at is not None:
                return erasure
            return await _note(transaction, erasure, attempt=_facts(erasure).get("attempt", 0) + 1)

    @asynccontextmanager
    async def _held(self, erasure: Erasure) -> AsyncIterator[Transaction]:
        """A transaction of the tenant for this attempt at this step. Raises SupersededError."""
        async with self.store.transaction(erasure.installation_id, erasing=True) as transaction:
            now = await transaction.erasure(lock=True)
            attempt = _facts(erasure).get("attempt")
            if now is None or now.step != erasure.step or _facts(now).get("attempt") != attempt:
                raise SupersededError(reason="superseded")
            yield transaction


_STEPS: Mapping[Step, Callable[[Eraser, Erasure], Awaitable[Erasure]]] = {
    Step.BEGUN: Eraser._close,
    Step.CLOSED: Eraser._tell,
    Step.TOLD: Eraser._count,
    Step.COUNTED: Eraser._drop_vectors,
    Step.VECTORS: Eraser._drop_objects,
    Step.OBJECTS: Eraser._destroy_key,
    Step.KEY: Eraser._erase_rows,
    Step.ROWS: Eraser._search,
    Step.SEARCHED: Eraser._sign,
    Step.SIGNED: Eraser._deliver,
}
"""What is done next, by what was done last."""


@dataclass(frozen=True, slots=True)
class _Recorder:
    """Writes down what is still said in the installation's name; implements app.ports.Recorder."""

    eraser: Eraser
    erasure: Erasure

    async def __call__(
        self, action: Action, actor: str = "magicode", **facts: str | int | float | bool | None
    ) -> Any:
        async with self.eraser._held(self.erasure) as transaction:
            return await self.eraser.ledger.append(
                transaction, self.erasure.installation_id, action, actor, None, facts
            )


def _told(master_key_id: str) -> str:
    """For a public comment: its kind and a fingerprint, since a name that AWS gives holds the operator's account."""
    kind = "aws-kms" if master_key_id.startswith("arn:") else master_key_id.partition(":")[0]
    return f"{kind}:{hashlib.sha256(master_key_id.encode()).hexdigest()[:16]}"


_DESTROYED_BEFORE = ("destroyed", b"")


async def _wrapped(transaction: Transaction) -> tuple[str, bytes]:
    found = await transaction.wrapped_key()
    if found is None:
        raise DefectError(reason="no_data_key")
    return found


async def _note(
    transaction: Transaction, erasure: Erasure, *, step: Step | None = None, **facts: object
) -> Erasure:
    """In the row of the erasure, with what was noted before."""
    noted = json.dumps(_facts(erasure) | facts)
    return await transaction.update_erasure(step=(step or Step(erasure.step)).value, facts=noted)


def _facts(erasure: Erasure) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(erasure.facts)
    return found


def _more_rows(erasure: Erasure, removed: Mapping[str, int]) -> dict[str, int]:
    """How many rows of each table were removed in all: a search that finds some has them removed again."""
    rows: dict[str, int] = dict(_facts(erasure).get("rows", {}))
    for table, count in removed.items():
        rows[table] = rows.get(table, 0) + count
    return rows


def _destroyed(erasure: Erasure) -> Destroyed:
    facts = _facts(erasure)
    return Destroyed(
        installation_id=erasure.installation_id,
        github_id=erasure.github_id,
        account_id=erasure.account_id,
        erasure_id=erasure.id,
        reason=erasure.reason,
        asked_at=erasure.asked_at,
        closed_at=datetime.fromisoformat(facts["closed_at"]),
        searched_at=datetime.fromisoformat(facts["searched_at"]),
        rows=facts["rows"],
        vectors=facts["vectors"],
        objects=facts["objects"],
        jobs=facts["jobs"],
        master_key_id=facts["master_key_id"],
        wrapped_sha256=facts["wrapped_sha256"],
        log_head=facts["log_head"],
        found=facts["found"],
    )


__all__: Sequence[str] = [
    "AtWorkError",
    "Eraser",
    "Faces",
    "LegalHoldError",
    "NotEmptyError",
    "Step",
    "UnknownInstallationError",
    "Wish",
    "begin",
    "begin_again",
    "require_no_hold",
]
