"""The rotation of the master key on the real store, with a crash at each of its steps."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from app.actionlog.ledger import Ledger
from app.custody.keys import Keys
from app.custody.rotation import (
    MasterKeyMovedError,
    Rotated,
    RotatingMasterKey,
    Rotation,
    UnreadableKeysError,
)
from app.errors import ErasedError, WrongMasterKeyError
from app.nouns import Action, Erasure, Installation
from infra.postgres.store import PostgresStore
from infra.secrets import FileMasterKey, private
from infra.secrets.choose import open_master_key
from tests.aws import Aws, aws, moto_url

__all__ = ["aws", "moto_url"]

Register = Callable[..., Awaitable[Any]]
TENANTS = (0, 1, 2)


def now() -> datetime:
    return datetime.now(UTC)


def lines(path: Path) -> int:
    return len(path.read_text().splitlines())


async def no_sleep(_: float) -> None:
    return


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "master.key"


def rotation(store: Any, master: RotatingMasterKey, **changes: Any) -> Rotation:
    keys = Keys(master)
    given: dict[str, Any] = {"sleep": no_sleep} | changes
    return Rotation(store, master, keys, Ledger(store, keys, now), **given)


async def rotate(store: Any, master: RotatingMasterKey, **changes: Any) -> Rotated:
    return await rotation(store, master, **changes).run("operator")


async def data_keys(store: PostgresStore, keys: Keys, tenants: Any = TENANTS) -> dict[int, bytes]:
    found = {}
    for tenant in tenants:
        async with store.transaction(tenant) as transaction:
            found[tenant] = await keys.data_key(transaction)
    return found


async def wrapped_by(store: PostgresStore, tenants: Any = TENANTS) -> set[str]:
    found = set()
    for tenant in tenants:
        async with store.transaction(tenant) as transaction:
            stored = await transaction.wrapped_key()
            assert stored is not None
            found.add(stored[0])
    return found


async def entries(store: PostgresStore, tenant: int) -> list[str]:
    async with store.transaction(tenant) as transaction:
        return [entry.action for entry, _ in await transaction.entries()]


async def test_every_data_key_is_wrapped_anew_and_the_old_master_key_is_gone(
    store: PostgresStore, register: Register, path: Path
) -> None:
    await register(1)
    await register(2)
    await register(3)  # has no data key
    old = FileMasterKey(path)
    before = await data_keys(store, Keys(old))
    done = await rotate(store, FileMasterKey(path))
    assert (done.keys, done.rewrapped, done.removed) == (3, 3, 1)
    assert done.master_key != old.id
    assert await wrapped_by(store) == {done.master_key}
    assert lines(path) == 1
    assert await data_keys(store, Keys(FileMasterKey(path))) == before
    for tenant in (1, 2):
        assert await entries(store, tenant) == [Action.KEY_ROTATED]
    assert await entries(store, 0) == [Action.KEY_ROTATED, Action.KEY_ROTATED]
    assert await entries(store, 3) == []


async def test_the_old_master_key_is_kept_on_request(
    store: PostgresStore, register: Register, path: Path
) -> None:
    await register(1)
    await register(2)
    before = await data_keys(store, Keys(FileMasterKey(path)))
    done = await rotation(store, FileMasterKey(path)).run("operator", keep_old=True)
    assert done.removed == 0
    assert lines(path) == 2
    again = await rotate(store, FileMasterKey(path))
    assert again.master_key != done.master_key
    assert again.removed == 2
    assert await data_keys(store, Keys(FileMasterKey(path))) == before


# --- crashes ---------------------------------------------------------------------------------------------------------


class CrashError(Exception):
    """The process ends here."""


class Steps:
    """Counts the steps, and crashes at one of them."""

    def __init__(self, crash_at: int) -> None:
        self.left = crash_at

    def __call__(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise CrashError

    @property
    def crashed(self) -> bool:
        return self.left <= 0


class CrashingStore:
    """A store whose process may end before and after each transaction, and before and after each write within it."""

    def __init__(self, store: PostgresStore, step: Steps) -> None:
        self._store = store
        self._step = step

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    @asynccontextmanager
    async def transaction(self, tenant: int, *, erasing: bool = False) -> AsyncIterator[Any]:
        self._step()
        async with self._store.transaction(tenant, erasing=erasing) as transaction:
            yield CrashingTransaction(transaction, self._step)
            self._step()
        self._step()


class CrashingTransaction:
    def __init__(self, transaction: Any, step: Steps) -> None:
        self._transaction = transaction
        self._step = step

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transaction, name)

    async def replace_wrapped_key(self, old: tuple[str, bytes], new: tuple[str, bytes]) -> bool:
        self._step()
        replaced = await self._transaction.replace_wrapped_key(old, new)
        self._step()
        return bool(replaced)


class CrashingMaster:
    def __init__(self, master: FileMasterKey, step: Steps) -> None:
        self._master = master
        self._step = step

    def __getattr__(self, name: str) -> Any:
        return getattr(self._master, name)

    def begin(self) -> None:
        self._step()
        self._master.begin()
        self._step()

    def finish(self, under: str, *, keep_old: bool) -> int:
        self._step()
        removed = self._master.finish(under, keep_old=keep_old)
        self._step()
        return removed


def crash_in_the_file(step: Steps, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the draft, between the draft and its taking the file's place, and after that."""
    write, settle = private._write, private._settle

    def stepping_write(*given: Any) -> None:
        step()
        write(*given)
        step()

    def stepping_settle(folder: Path) -> None:
        step()
        settle(folder)

    monkeypatch.setattr(private, "_write", stepping_write)
    monkeypatch.setattr(private, "_settle", stepping_settle)


async def test_a_crash_at_any_step_loses_nothing_and_a_second_run_finishes(
    store: PostgresStore, register: Register, path: Path
) -> None:
    await register(1)
    await register(2)
    before = await data_keys(store, Keys(FileMasterKey(path)))
    for crash_at in range(1, 200):
        running = Keys(FileMasterKey(path), remember=timedelta(0))
        step = Steps(crash_at)
        with pytest.MonkeyPatch.context() as patch:
            crash_in_the_file(step, patch)
            try:
                await rotate(CrashingStore(store, step), CrashingMaster(FileMasterKey(path), step))
            except CrashError:
                pass
            else:
                assert not step.crashed
        assert await data_keys(store, running) == before
        assert await data_keys(store, Keys(FileMasterKey(path))) == before
        done = await rotate(store, FileMasterKey(path))
        assert await wrapped_by(store) == {done.master_key}
        assert FileMasterKey(path).id == done.master_key
        assert lines(path) == 1
        assert [each.name for each in path.parent.iterdir()] == [path.name]
        assert await data_keys(store, running) == before
        if not step.crashed:
            break
    else:
        pytest.fail("it never came to its end")
    assert crash_at > 40


async def test_the_log_says_each_rewrapping_once_whatever_crashed(
    store: PostgresStore, register: Register, path: Path
) -> None:
    await register(1)
    await register(2)
    await data_keys(store, Keys(FileMasterKey(path)))
    for crash_at in range(12, 24):
        step = Steps(crash_at)
        master = FileMasterKey(path)
        master.begin()
        with pytest.raises(CrashError):
            await rotate(CrashingStore(store, step), CrashingMaster(FileMasterKey(path), step))
        await rotate(store, FileMasterKey(path))
    assert await entries(store, 1) == [Action.KEY_ROTATED] * 12


# --- others at work --------------------------------------------------------------------------------------------------


async def test_runs_and_new_installations_go_on_meanwhile(
    store: PostgresStore, register: Register, path: Path
) -> None:
    chance = random.Random(5)
    first = {tenant: await register(tenant) for tenant in range(1, 6)}
    before = await data_keys(store, Keys(FileMasterKey(path)), first)
    made: dict[int, bytes] = {}
    stop = asyncio.Event()

    async def read(tenant: int) -> None:
        keys = Keys(FileMasterKey(path), remember=timedelta(0))
        while not stop.is_set():
            async with store.transaction(tenant) as transaction:
                await asyncio.sleep(chance.random() / 100)
                assert await keys.existing_key(transaction) == before[tenant]

    async def come(tenant: int, keys: Keys) -> None:
        await asyncio.sleep(chance.random() * 5)  # over all of the rotations
        async with store.transaction(tenant) as transaction:
            await asyncio.sleep(chance.random() / 50)
            await transaction.put_installation(Installation(tenant, tenant, f"account-{tenant}", False))
            made[tenant] = await keys.data_key(transaction)
            await asyncio.sleep(chance.random() / 10)

    running = Keys(FileMasterKey(path), remember=timedelta(0))
    readers = [asyncio.ensure_future(read(tenant)) for tenant in first]
    comers = asyncio.gather(*(come(tenant, running) for tenant in range(100, 130)))
    for _ in range(3):
        # Longer than any transaction here takes on a busy machine, as the service's own is longer than any of its.
        done = await rotate(store, FileMasterKey(path), sleep=asyncio.sleep, settle_seconds=2)
    await comers
    done = await rotate(store, FileMasterKey(path))
    stop.set()
    await asyncio.gather(*readers)
    everybody = {**before, **made}
    assert len(made) == 30
    assert await wrapped_by(store, everybody) == {done.master_key}
    assert await data_keys(store, Keys(FileMasterKey(path)), everybody) == everybody


async def test_two_rotations_at_once_are_one(store: PostgresStore, register: Register, path: Path) -> None:
    await register(1)
    await register(2)
    before = await data_keys(store, Keys(FileMasterKey(path)))
    both = [FileMasterKey(path), FileMasterKey(path)]
    for master in both:
        master.begin()
    found = await asyncio.gather(*(rotate(store, master) for master in both), return_exceptions=True)
    done = [one for one in found if isinstance(one, Rotated)]
    assert done
    assert all(isinstance(one, Rotated | MasterKeyMovedError) for one in found)
    assert sum(one.rewrapped for one in done) == 3
    assert await entries(store, 1) == [Action.KEY_ROTATED]
    assert await data_keys(store, Keys(FileMasterKey(path))) == before


async def test_a_data_key_added_under_the_old_master_key_is_waited_for(
    store: PostgresStore, register: Register, path: Path
) -> None:
    """A process that read the ring just before the rotation began, and commits its first data key late."""
    await register(1)
    master = FileMasterKey(path)
    wrapped = (master.id, master.wrap(bytes(32)))
    added, go_on = asyncio.Event(), asyncio.Event()

    async def late() -> None:
        async with store.transaction(1) as transaction:
            await transaction.add_wrapped_key(*wrapped)
            added.set()
            await go_on.wait()

    adding = asyncio.ensure_future(late())
    await added.wait()
    rotating = asyncio.ensure_future(rotate(store, FileMasterKey(path)))
    await asyncio.sleep(0.3)
    assert not rotating.done()
    go_on.set()
    await adding
    done = await rotating
    assert await wrapped_by(store, [1]) == {done.master_key}
    assert (await data_keys(store, Keys(FileMasterKey(path)), [1]))[1] == bytes(32)


async def test_a_first_data_key_follows_a_rotation_that_began_while_it_was_added(
    store: PostgresStore, register: Register, path: Path
) -> None:
    await register(1)
    rotating = FileMasterKey(path)
    keys = Keys(FileMasterKey(path))
    async with store.transaction(1) as transaction:
        add = transaction.add_wrapped_key

        async def add_and_rotate(*wrapped: Any) -> tuple[str, bytes]:
            stored = await add(*wrapped)
            rotating.begin()
            return stored

        transaction.add_wrapped_key = add_and_rotate  # type: ignore[method-assign]
        key = await keys.data_key(transaction)
    rotating.finish(rotating.id, keep_old=False)
    assert await data_keys(store, Keys(FileMasterKey(path)), [1]) == {1: key}


async def test_a_data_key_that_was_rewrapped_since_it_was_read_is_read_once_more(
    store: PostgresStore, register: Register, path: Path
) -> None:
    await register(1)
    [before] = (await data_keys(store, Keys(FileMasterKey(path)), [1])).values()
    late = Keys(FileMasterKey(path))
    async with store.transaction(1) as transaction:
        await rotate(store, FileMasterKey(path))
        late._master._again()  # type: ignore[attr-defined]
        assert await late.existing_key(transaction) == before


# --- what cannot be opened, and what is being destroyed -------------------------------------------------------------


async def test_a_data_key_that_nobody_can_open_keeps_the_old_master_key(
    store: PostgresStore, register: Register, path: Path, tmp_path: Path
) -> None:
    for tenant in (1, 2, 3):
        await register(tenant)
    foreign = tmp_path / "foreign.key"
    await data_keys(store, Keys(FileMasterKey(foreign)), [2])
    before = await data_keys(store, Keys(FileMasterKey(path)), [0, 1, 3])
    with pytest.raises(UnreadableKeysError, match="Installations: 2"):
        await rotate(store, FileMasterKey(path))
    assert lines(path) == 3  # both keys, and that it is not finished
    assert await wrapped_by(store, [0, 1, 3]) == {FileMasterKey(path).id}
    both = open_master_key(f"file:{path},file:{foreign}", tmp_path / "none")
    await rotate(store, both)
    await rotate(store, FileMasterKey(path))
    assert lines(path) == 1
    assert await data_keys(store, Keys(FileMasterKey(path)), [0, 1, 3]) == before
    assert await wrapped_by(store) == {FileMasterKey(path).id}


async def test_an_installation_whose_erasure_is_at_work_keeps_a_key_that_can_be_read(
    store: PostgresStore, register: Register, path: Path
) -> None:
    await register(1)
    [before] = (await data_keys(store, Keys(FileMasterKey(path)), [1])).values()
    async with store.transaction(1) as transaction:
        await transaction.begin_erasure(Erasure(1, uuid4(), 1, 10, "asked", now(), "mona", "begun"))
    with pytest.raises(ErasedError):
        await data_keys(store, Keys(FileMasterKey(path)), [1])
    done = await rotate(store, FileMasterKey(path))
    async with store.transaction(1, erasing=True) as transaction:
        stored = await transaction.wrapped_key()
        assert stored is not None
        assert stored[0] == done.master_key
        assert await Keys(FileMasterKey(path)).existing_key(transaction) == before
        assert list(await transaction.entries()) == []


async def test_a_data_key_that_is_destroyed_meanwhile_stays_destroyed(
    store: PostgresStore, register: Register, path: Path
) -> None:
    await register(1)
    await data_keys(store, Keys(FileMasterKey(path)), [0, 1])
    work = rotation(store, FileMasterKey(path))
    rewrapped = work.keys.rewrapped

    async def destroy_then(stored: tuple[str, bytes]) -> tuple[str, bytes]:
        async with store.transaction(1) as transaction:
            await transaction.destroy_key()
        return await rewrapped(stored)

    work.keys.rewrapped = destroy_then  # type: ignore[method-assign]
    done = await work.run("operator")
    assert done.keys == 1
    async with store.transaction(1) as transaction:
        assert await transaction.wrapped_key() is None


async def test_a_destroyed_data_key_is_of_no_use_to_those_who_remember_it(
    store: PostgresStore, register: Register, path: Path
) -> None:
    await register(1)
    keys = Keys(FileMasterKey(path))
    [before] = (await data_keys(store, keys, [1])).values()
    async with store.transaction(1) as transaction:
        assert await keys.existing_key(transaction) == before
        assert await transaction.destroy_key()
        assert await keys.existing_key(transaction) is None
    async with store.transaction(1) as transaction:
        assert await keys.existing_key(transaction) is None


# --- AWS -------------------------------------------------------------------------------------------------------------


async def test_an_alias_that_moved_is_a_rotation(store: PostgresStore, register: Register, aws: Aws) -> None:
    await register(1)
    await register(2)
    old, new = aws.key(), aws.key()
    alias = aws.alias(old)
    master = open_master_key(f"aws-kms:{alias}", Path("none"))
    before = await data_keys(store, Keys(master))
    assert await wrapped_by(store) == {old}
    aws.move_alias(alias, new)
    done = await rotate(store, open_master_key(f"aws-kms:{alias}", Path("none")))
    assert (done.master_key, done.rewrapped) == (new, 3)
    assert await wrapped_by(store) == {new}
    assert await data_keys(store, Keys(master)) == before
    again = await rotate(store, master)
    assert (again.master_key, again.rewrapped) == (new, 0)


async def test_a_secret_gets_a_new_version_and_the_one_before_loses_its_label(
    store: PostgresStore, register: Register, aws: Aws
) -> None:
    await register(1)
    await register(2)
    secret = aws.secret()
    running = Keys(open_master_key(f"aws-secretsmanager:{secret}", Path("none")))
    before = await data_keys(store, running)
    done = await rotate(store, open_master_key(f"aws-secretsmanager:{secret}", Path("none")))
    assert (done.rewrapped, done.removed) == (3, 1)
    assert aws.labels(secret) == [["AWSCURRENT"]]
    assert await wrapped_by(store) == {done.master_key}
    assert await data_keys(store, running) == before


async def test_data_moves_from_the_file_to_kms_while_others_run(
    store: PostgresStore, register: Register, aws: Aws, path: Path
) -> None:
    await register(1)
    await register(2)
    before = await data_keys(store, Keys(FileMasterKey(path)))
    key = aws.key()
    running = Keys(open_master_key(f"file:{path},aws-kms:{key}", path), remember=timedelta(0))
    assert await data_keys(store, running) == before
    done = await rotate(store, open_master_key(f"aws-kms:{key},file:{path}", path))
    assert done.master_key == key
    assert await wrapped_by(store) == {key}
    assert await data_keys(store, running) == before
    assert await data_keys(store, Keys(open_master_key(f"aws-kms:{key}", path))) == before
    with pytest.raises(WrongMasterKeyError):
        await data_keys(store, Keys(FileMasterKey(path)))
