"""Durable jobs: at once, one at a time per lock, again after trouble, and never lost with a worker."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from app.errors import SupersededError, TransientError
from infra.embedded.postgres import SUPERUSER
from infra.postgres import queue
from infra.postgres.queue import WorkerLimits, WorkerLostError, still_held, work
from infra.postgres.store import PostgresStore

QUICK = WorkerLimits(
    heartbeat=timedelta(seconds=0.2), stalled_after=timedelta(seconds=1), drain=timedelta(seconds=0.3)
)


def at_once(error: BaseException, taken_before: int) -> timedelta | None:
    return timedelta(0) if isinstance(error, TransientError) and taken_before < 2 else None


class Office:
    """Workers under test, and who gave up on what."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.given_up: list[tuple[str, Mapping[str, Any], BaseException]] = []
        self._workers: list[asyncio.Task[None]] = []

    def open(
        self,
        tasks: Mapping[str, Callable[..., Awaitable[None]]],
        *,
        concurrency: int = 2,
        limits: WorkerLimits = QUICK,
        retry_after: Callable[[BaseException, int], timedelta | None] = at_once,
    ) -> asyncio.Task[None]:
        async def gave_up(task: str, ids: Mapping[str, Any], error: BaseException) -> None:
            self.given_up.append((task, ids, error))

        worker = asyncio.create_task(
            work(
                self.url,
                tasks,
                concurrency=concurrency,
                retry_after=retry_after,
                gave_up=gave_up,
                limits=limits,
            )
        )
        self._workers.append(worker)
        return worker

    async def close(self) -> None:
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)


@pytest.fixture
async def office(database: Any) -> AsyncIterator[Office]:
    office = Office(database.service_url)
    yield office
    await office.close()


async def until(true: Callable[[], bool], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come about in time"
        await asyncio.sleep(0.02)


def jobs(database: Any) -> list[tuple[Any, ...]]:
    with psycopg.connect(database.owner_url) as connection:
        return connection.execute(
            "SELECT task_name, status::text, attempts FROM procrastinate_jobs"
        ).fetchall()


@pytest.fixture(autouse=True)
def search_path(database: Any) -> None:
    with psycopg.connect(database.owner_url, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {connection.info.dbname} SET search_path = magicode_jobs")


async def put(store: PostgresStore, task: str = "work", lock: str | None = None, **ids: object) -> None:
    async with store.transaction(1) as transaction:
        await transaction.defer(task, lock=lock, **ids)


async def test_a_job_begins_at_once_with_its_ids_and_is_gone_afterwards(
    store: PostgresStore, office: Office, database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "_POLL_SECONDS", 120.0)  # so that only a notification is quick
    began: list[dict[str, Any]] = []

    async def task(**ids: Any) -> None:
        began.append(ids)

    await put(store, run_id=uuid4())
    office.open({"work": task})
    await until(lambda: len(began) == 1)
    put_there: list[UUID] = []
    while len(began) == 1 and len(put_there) < 5:
        # A notification that comes while the worker looks is not heard: it is to have looked.
        await asyncio.sleep(0.6)
        put_there.append(uuid4())
        await put(store, installation_id=1, run_id=put_there[-1])
        with contextlib.suppress(AssertionError):
            await until(lambda: len(began) > 1, seconds=5)
    await until(lambda: len(began) == 1 + len(put_there), seconds=5)
    assert began[1:] == [{"installation_id": 1, "run_id": one} for one in put_there]
    assert isinstance(began[1]["run_id"], UUID)
    await until(lambda: jobs(database) == [])


async def test_one_at_a_time_per_lock_while_others_and_short_jobs_go_on(
    store: PostgresStore, office: Office
) -> None:
    running: dict[int, int] = {}
    most: dict[int, int] = {}
    done: list[int] = []

    async def task(number: int) -> None:
        running[number] = running.get(number, 0) + 1
        most[number] = max(most.get(number, 0), running[number])
        await asyncio.sleep(0.1)
        running[number] -= 1
        done.append(number)

    hold = asyncio.Event()

    async def long(number: int) -> None:
        await hold.wait()

    for _ in range(3):
        await put(store, lock="1:5:7", number=7)
    await put(store, lock="1:5:8", number=8)
    office.open({"work": task, "long": long}, concurrency=4)
    await until(lambda: len(done) == 4)
    assert most == {7: 1, 8: 1}
    for number in range(6):
        await put(store, "long", lock=f"l{number}", number=number)
    await put(store, number=9)
    await until(lambda: 9 in done)
    assert not hold.is_set(), "no short job waits for a long one"
    hold.set()


async def test_a_transient_failure_is_tried_again_and_a_lasting_one_told(
    store: PostgresStore, office: Office, database: Any, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[str] = []

    async def flaky(run_id: UUID) -> None:
        calls.append("flaky")
        if len(calls) < 3:
            raise TransientError("the Kraken of Vilnius")

    async def broken(run_id: UUID) -> None:
        raise ValueError("the Kraken of Vilnius")

    async def away(run_id: UUID) -> None:
        raise TransientError

    caplog.set_level(logging.DEBUG)
    office.open({"flaky": flaky, "broken": broken, "away": away})
    ids = [uuid4(), uuid4(), uuid4()]
    for name, run_id in zip(("flaky", "broken", "away"), ids, strict=True):
        await put(store, name, run_id=run_id)
    await until(lambda: len(calls) == 3 and len(office.given_up) == 2)
    await until(lambda: jobs(database) == [])
    assert {(task, given["run_id"], type(error)) for task, given, error in office.given_up} == {
        ("broken", ids[1], ValueError),
        ("away", ids[2], TransientError),
    }
    assert "Kraken" not in caplog.text


async def test_a_failure_that_cannot_be_told_at_once_is_told_later(
    store: PostgresStore, database: Any, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[str] = []

    async def gave_up(task: str, ids: Mapping[str, Any], error: BaseException) -> None:
        told.append(task)
        if len(told) == 1:
            raise ValueError("the Kraken of Vilnius")

    async def broken(run_id: UUID) -> None:
        raise ValueError

    worker = asyncio.create_task(
        work(
            database.service_url,
            {"work": broken},
            concurrency=1,
            retry_after=at_once,
            gave_up=gave_up,
            limits=QUICK,
        )
    )
    await put(store, run_id=uuid4())
    await until(lambda: len(told) == 2)
    await until(lambda: jobs(database) == [])
    worker.cancel()
    await asyncio.wait({worker})
    assert "Kraken" not in caplog.text


async def test_what_is_running_when_the_worker_is_told_to_stop_is_put_back(
    store: PostgresStore, office: Office, database: Any
) -> None:
    began = asyncio.Event()

    async def endless(run_id: UUID) -> None:
        began.set()
        await asyncio.Event().wait()

    worker = office.open({"work": endless})
    await put(store, lock="a", run_id=uuid4())
    await began.wait()
    worker.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await worker
    assert jobs(database) == [("work", "todo", 1)]
    assert office.given_up == []


WORKER = """
import asyncio, os, sys
from datetime import timedelta
from infra.postgres.queue import WorkerLimits, work

async def task(run_id):
    print("began", flush=True)
    await asyncio.sleep(600)

async def gave_up(*_):
    pass

asyncio.run(work(sys.argv[1], {"work": task}, concurrency=1, retry_after=lambda *_: None, gave_up=gave_up,
                 limits=WorkerLimits(heartbeat=timedelta(seconds=0.2), stalled_after=timedelta(seconds=1))))
"""


async def test_the_job_of_a_killed_worker_is_taken_up_by_another(
    store: PostgresStore, office: Office, database: Any
) -> None:
    taken: list[UUID] = []

    async def task(run_id: UUID) -> None:
        taken.append(run_id)

    run_id = uuid4()
    await put(store, lock="a", run_id=run_id)
    doomed = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WORKER, database.service_url, stdout=subprocess.PIPE
    )
    assert doomed.stdout is not None
    assert await doomed.stdout.readline() == b"began\n"
    doomed.kill()
    await doomed.wait()
    office.open({"work": task})
    office.open({"work": task})
    await until(lambda: taken == [run_id])
    await until(lambda: jobs(database) == [])
    await asyncio.sleep(0.5)
    assert taken == [run_id]


async def test_a_job_that_kills_each_worker_is_given_up_in_the_end(
    store: PostgresStore, office: Office, database: Any
) -> None:
    async def never(run_id: UUID) -> None:
        raise AssertionError("it has killed enough workers")

    run_id = uuid4()
    await put(store, run_id=run_id)
    with psycopg.connect(database.owner_url) as connection:
        connection.execute("""UPDATE procrastinate_jobs SET args = args || '{"~~lost": 10}'""")
    office.open({"work": never})
    await until(lambda: len(office.given_up) == 1)
    task, ids, error = office.given_up[0]
    assert (task, ids["run_id"], type(error)) == ("work", run_id, WorkerLostError)
    await until(lambda: jobs(database) == [])


async def test_each_reason_has_tries_of_its_own_and_neither_counts_as_a_lost_worker(
    store: PostgresStore, office: Office
) -> None:
    """Twenty pauses of the database do not use up what is there for an error of GitHub's."""
    told: list[tuple[str, int]] = []
    fails = ["away"] * 12 + ["other"] * 2 + ["away"]

    async def task(run_id: UUID) -> None:
        if fails:
            raise TransientError(reason=fails.pop(0))
        told.append(("done", 0))

    def counted(error: BaseException, taken_before: int) -> timedelta | None:
        assert isinstance(error, TransientError)
        told.append((error.reason, taken_before))
        return timedelta(0)

    office.open({"work": task}, retry_after=counted)
    await put(store, run_id=uuid4())
    await until(lambda: ("done", 0) in told, seconds=60)
    assert told == [*(("away", n) for n in range(12)), ("other", 0), ("other", 1), ("away", 12), ("done", 0)]
    assert office.given_up == []


async def test_what_is_hastened_while_it_is_at_work_begins_anew_at_once_when_it_is_put_back(
    store: PostgresStore, office: Office
) -> None:
    began: list[float] = []
    hastened = asyncio.Event()

    async def task(run_id: UUID) -> None:
        began.append(time.monotonic())
        if len(began) == 1:
            await hastened.wait()
            raise TransientError(reason="away")

    office.open({"work": task}, retry_after=lambda error, taken: timedelta(minutes=10))
    await put(store, lock="a", run_id=uuid4())
    await until(lambda: len(began) == 1)
    async with store.transaction(1) as transaction:
        await transaction.hasten("a")
    hastened.set()
    await until(lambda: len(began) == 2)


async def test_a_worker_that_comes_back_from_the_dead_does_not_end_anothers_job(
    store: PostgresStore, office: Office, database: Any
) -> None:
    hold = [asyncio.Event(), asyncio.Event()]
    began: list[int] = []

    async def task(run_id: UUID) -> None:
        began.append(len(began))
        await hold[began[-1]].wait()

    office.open({"work": task})
    await put(store, lock="a", run_id=uuid4())
    await until(lambda: began == [0])  # it is the only worker, so it takes the job over from itself
    with psycopg.connect(database.owner_url) as connection:
        connection.execute("UPDATE procrastinate_jobs SET worker_id = NULL")  # its worker was pruned as dead
    await until(lambda: began == [0, 1])
    hold[0].set()
    await asyncio.sleep(0.5)
    assert [row[1] for row in jobs(database)] == ["doing"]
    hold[1].set()
    await until(lambda: jobs(database) == [])


async def test_work_goes_on_after_the_database_was_away(
    store: PostgresStore, office: Office, database: Any
) -> None:
    done: list[UUID] = []

    async def task(run_id: UUID) -> None:
        done.append(run_id)

    office.open({"work": task})
    await put(store, run_id=uuid4())
    await until(lambda: len(done) == 1)
    with psycopg.connect(database.server.url(SUPERUSER, "postgres"), autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'magicode_service'"
        )
    await put(store, run_id=uuid4())
    await until(lambda: len(done) == 2)


async def test_a_worker_can_be_stopped_at_any_moment(store: PostgresStore, office: Office) -> None:
    async def task(run_id: UUID) -> None:
        await asyncio.sleep(0.01)

    for moment in range(12):
        worker = office.open({"work": task})
        await put(store, run_id=uuid4())
        await asyncio.sleep(moment * 0.02)
        worker.cancel()
        await asyncio.wait({worker}, timeout=10)
        assert worker.cancelled()


async def test_a_delayed_job_waits(store: PostgresStore, office: Office) -> None:
    done: list[float] = []

    async def task(run_id: UUID) -> None:
        done.append(time.monotonic())

    office.open({"work": task})
    asked = time.monotonic()
    async with store.transaction(1) as transaction:
        await transaction.defer("work", delay_seconds=1, run_id=uuid4())
    await until(lambda: len(done) == 1)
    assert 1 <= done[0] - asked < 3


async def test_a_job_of_a_task_that_only_a_newer_program_knows_waits_for_it(
    store: PostgresStore, office: Office, database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.postgres.queue._FOR_ANOTHER", timedelta(seconds=0.3))
    done: list[str] = []

    async def old(number: int) -> None:
        done.append(f"old {number}")

    async def new(number: int) -> None:
        done.append(f"new {number}")

    await put(store, "newest", number=1)
    await put(store, "work", number=2)
    office.open({"work": old})
    await until(lambda: done == ["old 2"])
    await until(lambda: "work" not in [job[0] for job in jobs(database)])
    await asyncio.sleep(1)
    assert [job[:2] for job in jobs(database)] in ([("newest", "todo")], [("newest", "doing")])
    office.open({"work": old, "newest": new})
    await until(lambda: done == ["old 2", "new 1"])
    await until(lambda: jobs(database) == [])


async def test_who_works_on_a_job_learns_when_another_has_it(
    store: PostgresStore, office: Office, database: Any
) -> None:
    held: list[bool] = []
    go_on = asyncio.Event()

    async def task(number: int) -> None:
        if held:
            return
        await still_held()
        held.append(True)
        await go_on.wait()
        try:
            await still_held()
        except SupersededError:
            held.append(False)

    await put(store, number=1)
    office.open({"work": task})
    await until(lambda: held == [True])
    with psycopg.connect(database.owner_url, autocommit=True) as connection:
        connection.execute(
            "UPDATE magicode_jobs.procrastinate_jobs SET status = 'todo', worker_id = NULL, attempts = attempts + 1"
        )
    go_on.set()
    await until(lambda: held == [True, False])
    await still_held()  # outside of a job there is nothing to lose


async def test_a_job_that_its_worker_has_left_behind_holds_nothing_any_more(
    store: PostgresStore, office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "_AFTERMATH_SECONDS", 0.1)
    begun, left, told = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def deaf(**ids: Any) -> None:
        begun.set()
        while not left.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await left.wait()
        with pytest.raises(SupersededError):
            await still_held()
        told.set()
        await asyncio.Event().wait()

    worker = office.open({"work": deaf})
    await put(store)
    await asyncio.wait_for(begun.wait(), 15)
    worker.cancel()
    await asyncio.wait({worker})
    left.set()
    await asyncio.wait_for(told.wait(), 15)
    assert office.given_up == []
