"""The store keeps its promises: one tenant, one commit, nothing left behind."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import conninfo

from app.errors import TransientError
from app.nouns import Entry, Installation, Job, Run, RunState
from app.ports import Transaction
from infra.embedded.postgres import SUPERUSER
from infra.postgres.store import PostgresStore

NOW = datetime(2026, 11, 20, 12, 30, 1, 123456, tzinfo=UTC)


def a_run(**changes: object) -> Run:
    run = Run(
        id=uuid4(), installation_id=1, repository_id=5, number=7, is_pull_request=False, verb="fix",
        occasion="comment:9", comment_id=9, asker_id=3, asker_login="mona", meaning=uuid4().hex, input_hash="h",
        cost_limit_usd=Decimal("1.5"), state=RunState.QUEUED, attempt=0, blocked_by=None, cancel_requested=False,
        reason=None, status_comment_id=None, branch=None, base_sha=None, head_sha=None, pull_request=None,
        input_tokens=0, cached_tokens=0, output_tokens=0, cost_usd=Decimal(0), created_at=NOW, started_at=None,
        ended_at=None,
    )  # fmt: skip
    return replace(run, **changes)  # type: ignore[arg-type]


def an_entry(seq: int) -> Entry:
    return Entry(1, seq, NOW, "mona", "a", None, b"s", "d", "p", str(seq))


async def test_a_run_comes_back_as_it_went_in(store: PostgresStore) -> None:
    run = a_run()
    async with store.transaction(1) as transaction:
        assert await transaction.add_run(run) == run
    async with store.transaction(1) as transaction:
        assert await transaction.run(run.id) == run
        assert await transaction.runs() == [run]
        assert await transaction.active_run(5, 7) == run


async def test_the_same_meaning_is_one_run(store: PostgresStore) -> None:
    first, second = a_run(meaning="m"), a_run(meaning="m")
    async with store.transaction(1) as transaction:
        await transaction.add_run(first)
        assert (await transaction.add_run(second)).id == first.id
    async with store.transaction(2) as transaction:
        other = replace(second, installation_id=2)
        assert (await transaction.add_run(other)).id == second.id, "another tenant's meaning is another run"


async def test_twenty_requests_at_once_leave_one_at_work(store: PostgresStore) -> None:
    async def add() -> Run:
        async with store.transaction(1) as transaction:
            return await transaction.add_run(a_run())

    runs = await asyncio.gather(*(add() for _ in range(20)))
    free = [run for run in runs if run.blocked_by is None]
    assert len(free) == 1
    assert {run.blocked_by for run in runs} == {None, free[0].id}


async def test_a_verb_beside_the_work_neither_blocks_nor_is_blocked(store: PostgresStore) -> None:
    async with store.transaction(1) as transaction:
        await transaction.add_run(a_run(verb="cancel"))
        work = await transaction.add_run(a_run())
        assert work.blocked_by is None
        assert (await transaction.add_run(a_run(verb="logs"))).blocked_by is None
        active = await transaction.active_run(5, 7)
    assert active is not None
    assert active.id == work.id


async def test_a_run_is_updated_and_only_in_columns_that_may_change(store: PostgresStore) -> None:
    run = a_run()
    async with store.transaction(1) as transaction:
        await transaction.add_run(run)
        changed = await transaction.update_run(
            run.id, state=RunState.OPENED, branch="magicode/issue-7", ended_at=NOW
        )
        assert changed == replace(run, state=RunState.OPENED, branch="magicode/issue-7", ended_at=NOW)
        assert await transaction.run_by_branch(5, "magicode/issue-7") == changed
        assert await transaction.active_run(5, 7) is None
        with pytest.raises(TypeError):
            await transaction.update_run(run.id, meaning="x")
        with pytest.raises(KeyError):
            await transaction.update_run(uuid4(), attempt=1)


async def test_what_raises_leaves_nothing(store: PostgresStore, database: Any) -> None:
    async def fail_at_the_end() -> None:
        async with store.transaction(1) as transaction:
            await transaction.add_delivery("g", "issues", None, "accepted")
            await transaction.defer("work", installation_id=1, run_id=uuid4())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail_at_the_end()
    async with store.transaction(1) as transaction:
        assert await transaction.add_delivery("g", "issues", None, "accepted")
        assert not await transaction.add_delivery("g", "issues", None, "accepted")
    assert _count(database, "magicode_jobs.procrastinate_jobs") == 0


async def test_a_job_carries_ids_alone(store: PostgresStore) -> None:
    async with store.transaction(1) as transaction:
        with pytest.raises(TypeError):
            await transaction.defer("work", text="the issue's body")


async def test_the_data_key_is_added_once(store: PostgresStore) -> None:
    seen = [asyncio.Event(), asyncio.Event()]

    async def add(wrapped: bytes) -> tuple[str, bytes]:
        async with store.transaction(1) as transaction:
            assert await transaction.wrapped_key() is None
            seen[wrapped == b"a"].set()
            await asyncio.gather(*(one.wait() for one in seen))
            return await transaction.add_wrapped_key("file:1", wrapped)

    found = await asyncio.gather(add(b"a"), add(b"b"))
    assert found[0] == found[1]


async def test_appends_at_once_make_one_chain(store: PostgresStore) -> None:
    async def append() -> None:
        async with store.transaction(1) as transaction:
            last = await transaction.last_entry()
            seq = 1 if last is None else last.seq + 1
            await transaction.add_entry(an_entry(seq), b"salt")

    await asyncio.gather(*(append() for _ in range(20)))
    async with store.transaction(1) as transaction:
        found = await transaction.entries()
        assert [entry.seq for entry, _ in found] == list(range(1, 21))
        assert found[0] == (an_entry(1), b"salt")
        assert [entry.seq for entry, _ in await transaction.entries(after_seq=18)] == [19, 20]


async def test_an_entry_that_ends_a_transaction_comes_with_its_jobs_and_its_commit(
    store: PostgresStore, database: Any
) -> None:
    job = Job("work", {"installation_id": 1, "run_id": uuid4()})
    async with store.transaction(1) as transaction:
        await transaction.add_delivery("g", "issues", None, "accepted")
        await transaction.add_entry(an_entry(1), b"salt", [job, job], ends=True)
        assert await transaction.entries() == []
    async with store.transaction(1) as transaction:
        assert [entry.seq for entry, _ in await transaction.entries()] == [1]
    assert _count(database, "magicode_jobs.procrastinate_jobs") == 2


async def test_an_entry_that_ends_a_transaction_is_gone_with_it(store: PostgresStore, database: Any) -> None:
    async def fail_behind_it() -> None:
        async with store.transaction(1) as transaction:
            await transaction.add_entry(an_entry(1), b"salt", ends=True)
            raise ZeroDivisionError

    async def twice() -> None:
        async with store.transaction(1) as transaction:
            await transaction.add_delivery("g", "issues", None, "accepted")
            await transaction.add_entry(an_entry(1), b"salt")
            job = Job("work", {"installation_id": 1, "run_id": uuid4()})
            await transaction.add_entry(an_entry(1), b"salt", [job], ends=True)

    with pytest.raises(ZeroDivisionError):
        await fail_behind_it()
    with pytest.raises(psycopg.errors.UniqueViolation):
        await twice()
    for table in ("magicode.entries", "magicode.deliveries", "magicode_jobs.procrastinate_jobs"):
        assert _count(database, table) == 0, table
    async with store.transaction(1) as transaction:
        assert await transaction.last_entry() is None, "its connection is good for the next one"


async def test_each_connection_that_died_in_the_pool_is_replaced_without_anybody_noticing(
    store: PostgresStore, database: Any
) -> None:
    everyone = asyncio.Barrier(8)

    async def beside_others() -> None:
        async with store.transaction(1) as transaction:
            await everyone.wait()
            await transaction.installation()

    await asyncio.gather(*(beside_others() for _ in range(8)))
    _end_all_connections(database)
    async with store.transaction(1) as transaction:
        assert await transaction.installation() is None
    await asyncio.gather(*(beside_others() for _ in range(8)))


async def test_the_reconciler_sees_ids_and_nothing_else(
    store: PostgresStore, register: Callable[..., Awaitable[Installation]]
) -> None:
    await register(7)
    await register(3)
    assert await store.installation_ids() == [3, 7]
    async with store.transaction(3) as transaction:
        assert await transaction.installation() == Installation(3, 30, "account-3", suspended=False)
        await transaction.put_installation(Installation(3, 30, "renamed", suspended=True))
        assert await transaction.installation() == Installation(3, 30, "renamed", suspended=True)


async def test_a_connection_that_died_in_the_pool_is_replaced(store: PostgresStore, database: Any) -> None:
    await store.ping()
    _end_all_connections(database)
    await store.ping()


async def test_a_connection_that_dies_during_a_transaction_is_a_transient_error(
    store: PostgresStore, database: Any
) -> None:
    async def read() -> None:
        async with store.transaction(1) as transaction:
            _end_all_connections(database)
            await transaction.installation()

    async def defer() -> None:
        async with store.transaction(1) as transaction:
            _end_all_connections(database)
            await transaction.defer("work", run_id=uuid4())

    for step in (read, defer):
        with pytest.raises(TransientError):
            await step()


async def _nothing(_: Transaction) -> None: ...


async def _look_at_the_log(transaction: Transaction) -> None:
    await transaction.last_entry()


async def _write_into_the_log(transaction: Transaction) -> None:
    last = await transaction.last_entry()
    await transaction.add_entry(an_entry(last.seq + 1 if last else 1), b"salt")


async def _ask(transaction: Transaction) -> None:
    await transaction.add_request(
        a_run(number=uuid4().int % 2**31), guid=uuid4().hex, event="e", action=None, outcome="o", since=NOW, reasons=[], at_most=1
    )  # fmt: skip


@pytest.mark.parametrize("step", [_nothing, _look_at_the_log, _write_into_the_log, _ask])
async def test_a_transaction_of_a_process_that_stands_still_is_ended(
    database: Any, step: Callable[[Transaction], Awaitable[None]]
) -> None:
    """However its last statements were sent: what holds a lock is never let wait for ever."""
    shorter = conninfo.make_conninfo(
        database.service_url, options="-c idle_in_transaction_session_timeout=500ms"
    )
    impatient = PostgresStore(shorter)

    async def stands_still() -> None:
        async with impatient.transaction(1) as transaction:
            await step(transaction)
            idle = "pg_stat_activity WHERE state LIKE 'idle in transaction%' AND datname = current_database()"
            async with asyncio.timeout(30):
                while _count(database, idle) > 0:
                    await asyncio.sleep(0.1)
            await transaction.installation()

    try:
        known = 0
        while known < 3:  # behind the first, statements are known to the connection
            with contextlib.suppress(TransientError):  # a machine that stands still is as impatient
                async with impatient.transaction(1) as transaction:
                    await step(transaction)
                known += 1
        with pytest.raises(TransientError):
            await stands_still()
    finally:
        await impatient.close()


async def test_a_database_that_is_away_is_a_transient_error(database: Any) -> None:
    away = PostgresStore("postgresql://nobody@/none?host=/nonexistent")
    with pytest.raises(TransientError):
        await away.ping()


async def test_a_connection_that_somebody_left_out_of_step_is_nobodys_again(store: PostgresStore) -> None:
    used: list[int] = []
    for _ in range(2):
        async with store.transaction(1) as transaction:
            driver = transaction._driver
            used.append(driver.info.backend_pid)
        driver.pgconn.enter_pipeline_mode()
    async with store.transaction(1) as transaction:
        used.append(transaction._driver.info.backend_pid)
    assert len(set(used)) == 3


async def test_whoever_is_cancelled_wherever_they_wait_leaves_the_next_one_its_answers(
    database: Any, register: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """psycopg gives others a turn wherever it was busy for longer than this: behind each step, whatever was done in it."""
    monkeypatch.setattr(psycopg.waiting, "MAX_BUSY_TIME", 0.0)
    await register(1)
    store = PostgresStore(database.service_url, connections=1)
    try:
        for waits in itertools.count(1):
            asking = asyncio.create_task(cancelled_at(waits, one_of_each(store)))
            with contextlib.suppress(asyncio.CancelledError):
                await asking
            async with store.transaction(1) as transaction:
                assert transaction._driver._pipeline is None
                assert await transaction.installation() is not None, "there is one"
                assert await transaction.add_wrapped_key("m", b"w") == ("m", b"w")
                assert await transaction.destroy_key(), "it was there"
            if not asking.cancelled():
                break
        assert waits > 20
    finally:
        await store.close()


@types.coroutine
def cancelled_at(waits: int, asks: Coroutine[Any, Any, None]) -> Generator[Any, Any, None]:
    """Goes on until it waits for so many times."""
    error, steps = None, asks.__await__()
    for wait in itertools.count(1):
        try:
            what = steps.send(None) if error is None else steps.throw(error)
        except StopIteration:
            return
        error = None
        if wait == waits and (task := asyncio.current_task()):
            task.cancel()
        try:
            yield what
        except asyncio.CancelledError as raised:
            error = raised


async def one_of_each(store: PostgresStore) -> None:
    """Transactions that begin, ask and end in each way that the store has."""
    async with store.transaction(1) as transaction:
        await transaction.last_entry()
        await transaction.installation()
        await transaction.defer("work", installation_id=1)
    async with store.snapshot(1) as transaction:
        await transaction.row_counts()


async def test_a_mistake_of_ours_is_not_called_transient(store: PostgresStore) -> None:
    with pytest.raises(Exception, match="runs_state_check") as caught:
        async with store.transaction(1) as transaction:
            await transaction.add_run(a_run(state="lost"))
    assert not isinstance(caught.value, TransientError)


def _count(database: Any, table: str) -> int:
    with psycopg.connect(database.owner_url) as connection:
        row = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
    assert row is not None
    return int(row[0])


def _end_all_connections(database: Any) -> None:
    server = database.server
    name = database.owner_url.partition("@/")[2].partition("?")[0]
    with psycopg.connect(server.url(SUPERUSER, "postgres"), autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name]
        )
