"""Deletion, step by step on the real store: what a crash leaves at any point, the next worker finishes."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from sqlalchemy import text

from app.actionlog.ledger import Ledger
from app.custody import settings
from app.custody.erase import (
    AtWorkError,
    Eraser,
    LegalHoldError,
    Step,
    UnknownInstallationError,
    Wish,
    begin,
)
from app.custody.keys import Keys
from app.custody.receipt import Signer, verify
from app.custody.settings import InstallationSettings, LegalHold
from app.errors import ErasedError, SupersededError, TransientError, WrongMasterKeyError
from app.nouns import Action, Erasure, Hook, Installation, StoredSettings
from app.ports import Fence, Recorder
from embeddings.forget import shelf_of
from infra.objects.folder import FolderObjects
from infra.postgres.store import PostgresStore, PostgresTransaction
from infra.qdrant import QdrantPoints
from tests.app.custody.fuse import CrashError, Fuse, Fused, FusedStore

TASK = "erase"
SIGNER = Signer(bytes(range(32)))
NOW = datetime(2027, 3, 1, 12, tzinfo=UTC)
WISH = Wish("asked", "ada", 5, 6, 7)


class Master:
    id = "m"

    def wrap(self, key: bytes) -> bytes:
        return key[::-1]

    def unwrap(self, master_key_id: str, wrapped: bytes) -> bytes:
        return wrapped[::-1]


@dataclass
class People:
    """GitHub, as far as a deletion speaks there: comments are found again by who they are about."""

    stopped_told: list[int] = field(default_factory=list)
    receipts: list[str] = field(default_factory=list)

    async def stopped(self, erasure: Erasure, record: Recorder, fence: Fence) -> None:
        await fence()
        if erasure.installation_id not in self.stopped_told:
            self.stopped_told.append(erasure.installation_id)
        await record(Action.COMMENT_UPDATED, number=1)

    async def deliver(self, erasure: Erasure, fence: Fence) -> None:
        assert erasure.receipt is not None
        if erasure.receipt not in self.receipts:
            await fence()
            self.receipts.append(erasure.receipt)


@dataclass
class Place:
    """Two installations on one set of stores, each with rows, vectors and objects."""

    store: PostgresStore
    points: QdrantPoints
    objects: FolderObjects
    keys: Keys
    people: People = field(default_factory=People)
    now: datetime = NOW

    def clock(self) -> datetime:
        self.now += timedelta(milliseconds=1)
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.store, self.keys, self.clock)

    def eraser(self, fuse: Fuse | None = None) -> Eraser:
        """As a process of its own would have it: with a memory of its own."""
        keys = Keys(Master())
        store: Any = self.store if fuse is None else FusedStore(self.store, fuse)

        def fused(inner: Any) -> Any:
            return inner if fuse is None else Fused(inner, fuse)

        async def signer() -> Signer:
            return SIGNER

        return Eraser(
            store=store,
            ledger=Ledger(store, keys, self.clock),
            keys=keys,
            points=fused(self.points),
            objects=fused(self.objects),
            faces=fused(self.people),
            signer=signer,
            clock=self.clock,
            sleep=self.sleep,
            task=TASK,
            heard_within=timedelta(seconds=30),
            patience=timedelta(seconds=2),
        )

    async def fill(self, tenant: int) -> str:
        """The name of its shelf."""
        async with self.store.transaction(tenant) as transaction:
            await transaction.put_installation(Installation(tenant, tenant * 10, f"account-{tenant}", False))
            key = await self.keys.data_key(transaction)
            await transaction.add_delivery(str(uuid4()), "push", None, "x")
            await transaction.defer("work", lock=f"{tenant}:1:1", installation_id=tenant, run_id=uuid4())
            await transaction.put_settings(StoredSettings("{}", False, "ada", NOW))
            await transaction.put_hook(Hook(uuid4(), b"sealed", "run.ended", "ada", NOW))
        for number in range(3):
            await self.ledger.record(tenant, Action.COMMENT_CREATED, facts={"number": number})
        shelf = shelf_of(key, tenant)
        for repository in ("r1", "r2"):
            collection = f"{shelf}/{repository}/g/chunks"
            await self.points.ensure(collection, 4)
            await self.points.upsert(
                collection,
                [str(uuid4()) for _ in range(3)],
                np.eye(3, 4, dtype=np.float32),
                [{"place": "x"}] * 3,
            )
        await self.objects.put(f"{tenant}/{uuid4()}", _pieces())
        return shelf

    async def begin(self, tenant: int, wish: Wish = WISH) -> bool:
        async with self.store.transaction(tenant) as transaction:
            return await begin(
                transaction, tenant, wish, ledger=self.ledger, keys=self.keys, clock=self.clock, new_id=uuid4
            )

    async def left(self, tenant: int, shelf: str) -> dict[str, int]:
        async with self.store.transaction(tenant, erasing=True) as transaction:
            rows = dict(await transaction.row_counts())
        return {
            **rows,
            "vectors": await self.points.count(shelf),
            "collections": len(await self.points.names(shelf)),
            "objects": len(await self.objects.names(str(tenant))),
        }

    async def row(self, tenant: int) -> Erasure:
        async with self.store.transaction(tenant, erasing=True) as transaction:
            found = await transaction.erasure()
        assert found is not None
        return found


async def _pieces() -> AsyncIterator[bytes]:
    yield b"sealed"


@pytest.fixture
async def place(store: PostgresStore, tmp_path: Path) -> AsyncIterator[Place]:
    points = QdrantPoints(path=tmp_path / "qdrant")
    yield Place(store, points, FolderObjects(tmp_path / "objects"), Keys(Master()))
    await points.close()


async def test_a_deletion_destroys_all_of_one_installation_and_nothing_of_another(place: Place) -> None:
    shelf, other = await place.fill(1), await place.fill(2)
    before = await place.left(2, other)
    chain = await place.ledger.head(2)
    assert await place.begin(1)
    erasure = await place.eraser().finish(1)
    assert not any((await place.left(1, shelf)).values())
    assert await place.left(2, other) == before
    assert await place.ledger.head(2) == chain
    signed = json.loads(erasure.receipt or "")
    assert verify(signed, [SIGNER.public_key]).ok
    assert signed["destroyed"] == {
        "rows": {
            "api_tokens": 0,
            "data_keys": 1,
            "deliveries": 1,
            "entries": 6,
            "exports": 0,
            "hooks": 1,
            "installations": 1,
            "kept_answers": 0,
            "provider_keys": 0,
            "runs": 0,
            "settings": 1,
        },
        "vectors": 6,
        "objects": 1,
        "jobs": 1,
    }
    assert signed["log_head"].startswith("6:")
    assert place.people.receipts == [erasure.receipt]


async def test_the_key_that_another_process_remembers_opens_nothing_any_more(place: Place) -> None:
    await place.fill(1)
    other = Keys(Master())
    async with place.store.transaction(1) as transaction:
        assert await other.data_key(transaction)
    await place.begin(1)
    await place.eraser().finish(1)
    with pytest.raises(ErasedError):
        async with place.store.transaction(1):
            raise AssertionError("entered")
    async with place.store.transaction(1, erasing=True) as transaction:
        assert await other.existing_key(transaction) is None


async def test_a_receipt_names_no_account_of_the_operators_at_amazon(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stands in a public comment, and the name of a key in KMS holds the account's number."""
    monkeypatch.setattr(Master, "id", "arn:aws:kms:eu-central-1:210987654321:key/1234")
    await place.fill(1)
    await place.begin(1)
    text = (await place.eraser().finish(1)).receipt
    assert text is not None
    assert "210987654321" not in text
    assert json.loads(text)["key"]["master_key_id"].startswith("aws-kms:")


async def test_the_tombstone_keeps_no_name_and_no_place(place: Place) -> None:
    await place.fill(1)
    await place.begin(1)
    assert (await place.row(1)).asked_by == "ada"
    erasure = await place.eraser().finish(1)
    assert erasure == await place.row(1)
    assert (erasure.asked_by, erasure.repository_id, erasure.number, erasure.comment_id) == (None,) * 4
    assert (erasure.shelf, erasure.facts, erasure.step) == (None, "{}", Step.DELIVERED)
    assert erasure.ended_at is not None
    assert not re.search(r"\bada\b", erasure.receipt or ""), "a digest may hold these letters"


async def test_nobody_enters_from_the_beginning_on_and_none_comes_back_afterwards(place: Place) -> None:
    await place.fill(1)
    await place.begin(1)
    for _ in range(2):
        with pytest.raises(ErasedError):
            await place.ledger.record(1, Action.COMMENT_CREATED)
        with pytest.raises(ErasedError):
            async with place.store.transaction(1) as transaction:
                await transaction.put_installation(Installation(1, 10, "again", False))
        await place.eraser().finish(1)


async def test_one_that_was_begun_begins_no_second_time(place: Place) -> None:
    await place.fill(1)
    assert await place.begin(1)
    first = await place.row(1)
    with pytest.raises(ErasedError):
        await place.begin(1)
    assert (await place.row(1)).id == first.id
    once = await place.eraser().finish(1)
    assert await place.eraser().finish(1) == once


async def test_a_legal_hold_stops_it_and_says_whose_it_is(place: Place) -> None:
    shelf = await place.fill(1)
    async with place.store.transaction(1) as transaction:
        await transaction.put_settings(StoredSettings("{}", True, "lea", NOW))
    before = await place.left(1, shelf)
    with pytest.raises(LegalHoldError, match=r"lea.*2027-03-01 at 12:00"):
        await place.begin(1)
    first = InstallationSettings(legal_hold=LegalHold(by="max", since=NOW - timedelta(days=1)))
    async with place.store.transaction(1) as transaction:
        await transaction.put_settings(StoredSettings(first.model_dump_json(), True, "lea", NOW))
    with pytest.raises(LegalHoldError, match=r"max.*2027-02-28 at 12:00"):
        await place.begin(1)
    assert await place.left(1, shelf) == before


@pytest.mark.parametrize("first", ["put_settings", "begin_erasure"])
async def test_of_a_hold_and_a_deletion_at_once_the_second_is_refused(
    place: Place, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    """Nobody is told of a hold that held nothing."""
    await place.fill(1)
    there, goes_on = asyncio.Event(), asyncio.Event()
    write = getattr(PostgresTransaction, first)

    async def late(transaction: PostgresTransaction, told: Any) -> Any:
        there.set()
        await goes_on.wait()
        return await write(transaction, told)

    async def hold() -> None:
        on = settings.wanted("legal-hold on")
        await settings.change(place.store, place.ledger, place.clock, installation_id=1, by="lea", wanted=on)

    monkeypatch.setattr(PostgresTransaction, first, late)
    acts = (hold, partial(place.begin, 1)) if first == "put_settings" else (partial(place.begin, 1), hold)
    quick = asyncio.create_task(acts[0]())
    await there.wait()
    slow = asyncio.create_task(acts[1]())
    await asyncio.wait([slow], timeout=0.5)
    goes_on.set()
    await quick
    with pytest.raises((LegalHoldError, ErasedError)):
        await slow


async def test_what_nobody_knows_is_not_deleted(place: Place) -> None:
    with pytest.raises(UnknownInstallationError):
        await place.begin(99)
    with pytest.raises(UnknownInstallationError):
        await place.eraser().finish(99)


async def test_what_is_left_of_an_installation_without_its_row_is_deleted(place: Place) -> None:
    shelf = await place.fill(1)
    async with place.store.transaction(1) as transaction:
        await transaction._connection.execute(text("DELETE FROM magicode.installations"))
    await place.begin(1)
    await place.eraser().finish(1)
    assert not any((await place.left(1, shelf)).values())


async def test_an_open_transaction_is_waited_for(place: Place) -> None:
    shelf = await place.fill(1)
    inside, leave = asyncio.Event(), asyncio.Event()

    async def late() -> None:
        async with place.store.transaction(1) as transaction:
            inside.set()
            await leave.wait()
            await transaction.add_delivery("late", "push", None, "x")

    writing = asyncio.create_task(late())
    await inside.wait()
    await place.begin(1)
    erasing = asyncio.create_task(place.eraser().finish(1))
    await asyncio.sleep(0.3)
    assert not erasing.done()
    assert (await place.row(1)).step == Step.BEGUN
    leave.set()
    await writing
    receipt = json.loads((await erasing).receipt or "")
    assert receipt["destroyed"]["rows"]["deliveries"] == 2
    assert not any((await place.left(1, shelf)).values())


async def test_a_master_key_that_is_lost_on_the_way_holds_nothing_up(place: Place) -> None:
    shelf = await place.fill(1)
    await place.begin(1)

    class Lost(Master):
        id = "n"

        def unwrap(self, master_key_id: str, wrapped: bytes) -> bytes:
            raise WrongMasterKeyError

    keys = Keys(Lost())
    eraser = replace(place.eraser(), keys=keys, ledger=Ledger(place.store, keys, place.clock))
    erasure = await eraser.finish(1)
    signed = json.loads(erasure.receipt or "")
    assert signed["destroyed"]["vectors"] == 6
    assert signed["log_head"].startswith("4:"), "three comments, and that the deletion began"
    assert not any((await place.left(1, shelf)).values())


# --- crashes ---------------------------------------------------------------------------------------------------------


async def _effects(place: Place) -> Sequence[str]:
    """Every effect of one whole deletion, in order: found by doing it."""
    fuse = Fuse()
    await place.fill(1)
    await place.begin(1)
    await place.eraser(fuse).finish(1)
    return fuse.met


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_a_crash_before_or_after_every_single_effect_ends_in_one_receipt(place: Place) -> None:
    effects = await _effects(place)
    assert len(effects) > 2 * len(Step), effects
    seen: set[str] = set()
    other = await place.fill(2)
    untouched = await place.left(2, other)
    tenant = 100
    for at in range(len(effects)):
        for after in (False, True):
            tenant += 1
            place.people = People()
            shelf = await place.fill(tenant)
            await place.begin(tenant)
            with pytest.raises(CrashError):
                await place.eraser(Fuse(at, after)).finish(tenant)
            seen.add((await place.row(tenant)).step)
            erasure = await place.eraser().finish(tenant)
            told = f"{effects[at]} ({at}, {'after' if after else 'before'})"
            assert not any((await place.left(tenant, shelf)).values()), told
            assert erasure.ended_at is not None, told
            assert place.people.receipts == [erasure.receipt], told
            signed = json.loads(erasure.receipt or "")
            assert verify(signed, [SIGNER.public_key]).ok, told
            destroyed = signed["destroyed"]
            assert (destroyed["vectors"], destroyed["objects"], destroyed["jobs"]) == (6, 1, 1), told
            assert (destroyed["rows"]["data_keys"], destroyed["rows"]["deliveries"]) == (1, 1), told
    assert seen == {str(one) for one in Step}, "each step was crashed in"
    assert await place.left(2, other) == untouched


async def test_crashes_in_a_row_end_in_one_receipt(place: Place) -> None:
    shelf = await place.fill(1)
    await place.begin(1)
    crashes = 0
    while True:
        try:
            erasure = await place.eraser(Fuse(crashes // 2, after=True)).finish(1)
            break
        except CrashError:
            crashes += 1
            assert crashes < 100
    assert crashes > 5
    assert not any((await place.left(1, shelf)).values())
    assert place.people.receipts == [erasure.receipt]


# --- two at once, and what comes in between --------------------------------------------------------------------------


async def test_who_was_thought_dead_is_fenced_off_by_who_took_over(place: Place) -> None:
    shelf = await place.fill(1)
    await place.begin(1)
    reached, go_on = asyncio.Event(), asyncio.Event()

    class Slow(People):
        async def stopped(self, erasure: Erasure, record: Recorder, fence: Fence) -> None:
            reached.set()
            await go_on.wait()
            await record(Action.COMMENT_UPDATED, number=1)

    lost = place.eraser()
    lost = replace(lost, faces=Slow())
    late = asyncio.create_task(lost.finish(1))
    await reached.wait()
    erasure = await place.eraser().finish(1)
    go_on.set()
    with pytest.raises(SupersededError):
        await late
    assert not any((await place.left(1, shelf)).values()), "not even the key that an entry would have needed"
    assert place.people.receipts == [erasure.receipt]


async def test_many_at_once_end_in_one_receipt(place: Place) -> None:
    shelf = await place.fill(1)
    await place.begin(1)
    ends = await asyncio.gather(*(place.eraser().finish(1) for _ in range(6)), return_exceptions=True)
    assert all(isinstance(one, Erasure | SupersededError) for one in ends)
    erasure = await place.eraser().finish(1)
    assert not any((await place.left(1, shelf)).values())
    assert place.people.receipts == [erasure.receipt]


@pytest.mark.parametrize("what", ["vectors", "objects", "collection"])
async def test_what_appears_while_it_goes_on_is_found_and_no_receipt_is_given_before_it_is_gone(
    place: Place, what: str
) -> None:
    shelf = await place.fill(1)
    await place.begin(1)
    eraser = place.eraser()

    class Late:
        """Somebody writes once more behind the drop."""

        def __init__(self) -> None:
            self.wrote = False

        def __getattr__(self, name: str) -> Any:
            return getattr(place.points, name)

        async def drop(self, within: str) -> None:
            await place.points.drop(within)

        async def names(self, within: str) -> set[str]:
            if not self.wrote:
                self.wrote = True
                if what == "objects":
                    await place.objects.put("1/late", _pieces())
                else:
                    await place.points.ensure(f"{shelf}/late/g/chunks", 4)
                if what == "vectors":
                    await place.points.upsert(
                        f"{shelf}/late/g/chunks", [str(uuid4())], np.eye(1, 4, dtype=np.float32), [{}]
                    )
            return await place.points.names(within)

        async def count(self, within: str) -> int:
            return await place.points.count(within)

    points: Any = Late()
    eraser = replace(eraser, points=points)
    with pytest.raises(TransientError, match="found"):
        await eraser.finish(1)
    assert (await place.row(1)).receipt is None
    assert place.people.receipts == []
    await place.eraser().finish(1)
    assert not any((await place.left(1, shelf)).values())
    assert len(place.people.receipts) == 1


async def test_a_job_in_a_living_workers_hands_is_waited_for_and_a_dead_workers_is_not(
    place: Place, database: Any
) -> None:
    import psycopg

    shelf = await place.fill(1)
    async with await psycopg.AsyncConnection.connect(database.owner_url, autocommit=True) as connection:
        await connection.execute("SET search_path = magicode_jobs")
        worker = await (
            await connection.execute("INSERT INTO procrastinate_workers DEFAULT VALUES RETURNING id")
        ).fetchone()
        assert worker is not None
        await connection.execute(
            "UPDATE procrastinate_jobs SET status = 'doing', worker_id = %s WHERE task_name = 'work'", worker
        )
        await place.begin(1)
        with pytest.raises(AtWorkError):
            await place.eraser().finish(1)
        assert (await place.row(1)).step == Step.BEGUN
        await connection.execute(
            "UPDATE procrastinate_workers SET last_heartbeat = now() - interval '1 minute'"
        )
        erasure = await place.eraser().finish(1)
        jobs = await (await connection.execute("SELECT count(*) FROM procrastinate_jobs")).fetchone()
    assert jobs == (0,)
    assert json.loads(erasure.receipt or "")["destroyed"]["jobs"] == 1
    assert not any((await place.left(1, shelf)).values())
