"""Workers of one installation's own: its jobs are begun by them alone, and they begin nobody else's."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from app.errors import TransientError
from infra.postgres.connect import parameters
from infra.postgres.queue import WorkerLimits, still_held, work
from infra.postgres.store import PostgresStore
from infra.postgres.turns import FETCH
from tests.faults.test_fairness import _fill, _registered, pages

THEIRS, OTHERS, MORE = 7, 8, 9
QUICK = WorkerLimits(
    heartbeat=timedelta(seconds=0.2), stalled_after=timedelta(seconds=1), drain=timedelta(seconds=0.3)
)
KINDS: dict[str, dict[str, Any]] = {
    "locked": {"lock": "a"},
    "quick": {},
    "behind": {"lock": "a", "behind": True},
    "outside": {"outside": True},
}


class Worker:
    """What it began; a job ends at once unless it is held."""

    def __init__(self) -> None:
        self.begun: list[tuple[int, UUID]] = []
        self.held: set[UUID] = set()
        self.hold = asyncio.Event()
        self.fails: list[Exception] = []

    async def job(self, installation_id: int, run_id: UUID) -> None:
        self.begun.append((installation_id, run_id))
        if run_id in self.held:
            await self.hold.wait()
            await still_held()
            if self.fails:
                raise self.fails.pop()

    @property
    def whose(self) -> set[int]:
        return {tenant for tenant, _ in self.begun}


Open = Callable[..., Any]


@pytest.fixture
def worker(database: Any) -> Open:
    @asynccontextmanager
    async def opened(*only: int, concurrency: int = 2, limits: WorkerLimits = QUICK) -> AsyncIterator[Worker]:
        worker = Worker()

        async def gave_up(task: str, ids: object, error: BaseException) -> None:
            raise AssertionError(error)

        working = asyncio.create_task(
            work(
                database.service_url,
                {"work": worker.job},
                concurrency=concurrency,
                retry_after=lambda *_: timedelta(0),
                gave_up=gave_up,
                limits=limits,
                only=only,
            )
        )
        try:
            yield worker
        finally:
            worker.hold.set()
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)

    return opened


async def put(store: PostgresStore, tenant: int, kind: str = "quick", **how: Any) -> UUID:
    run_id = uuid4()
    given = {"lock": None, **KINDS[kind], **how}
    if given["lock"] is not None:
        given["lock"] = f"{tenant}:{given['lock']}:{run_id}"
    async with store.transaction(tenant) as transaction:
        await transaction.defer("work", installation_id=tenant, run_id=run_id, **given)
    return run_id


async def until(true: Callable[[], object], seconds: float = 30) -> None:
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.02)


def waiting(database: Any) -> list[tuple[str, int]]:
    """Each queue on which jobs are, and how many."""
    with psycopg.connect(database.owner_url) as connection:
        return connection.execute(
            "SELECT queue_name, count(*) FROM magicode_jobs.procrastinate_jobs GROUP BY 1 ORDER BY 1"
        ).fetchall()


async def test_hundreds_of_jobs_of_three_installations_are_each_done_where_they_belong(
    store: PostgresStore, worker: Open, database: Any
) -> None:
    async def some(tenant: int, rounds: int) -> list[UUID]:
        return [await put(store, tenant, kind) for _ in range(rounds) for kind in KINDS]

    asked = {tenant: await some(tenant, 15) for tenant in (THEIRS, OTHERS, MORE)}
    assert await store.dedicate(THEIRS)
    async with worker() as everybodys, worker(THEIRS) as own:
        for tenant, ids in zip(
            (THEIRS, OTHERS, MORE),
            await asyncio.gather(*(some(tenant, 10) for tenant in (THEIRS, OTHERS, MORE))),
            strict=True,
        ):
            asked[tenant] += ids
        await until(lambda: len(everybodys.begun) + len(own.begun) == 300)
        await until(lambda: waiting(database) == [])
    assert (own.whose, everybodys.whose) == ({THEIRS}, {OTHERS, MORE})
    for tenant, ids in asked.items():
        begun = Counter(run_id for whose, run_id in own.begun + everybodys.begun if whose == tenant)
        assert begun == Counter(ids), "each once"


@pytest.mark.parametrize("kind", KINDS)
async def test_without_a_worker_of_its_own_it_waits_and_at_the_end_everybodys_take_it(
    store: PostgresStore, worker: Open, kind: str
) -> None:
    before = await put(store, THEIRS, kind)
    await store.dedicate(THEIRS)
    assert not await store.dedicate(THEIRS), "it is so already"
    async with worker() as everybodys, worker(OTHERS) as anothers:
        after, another = await put(store, THEIRS, kind), await put(store, OTHERS, kind)
        await until(lambda: everybodys.begun == [(OTHERS, another)])
        await asyncio.sleep(1.5)
        assert len(everybodys.begun) == 1
        assert anothers.begun == [], "who is not dedicated is everybody's, whoever was started for it"
        async with worker(THEIRS) as own:
            await until(lambda: own.begun == [(THEIRS, before), (THEIRS, after)])
        last = await put(store, THEIRS, kind)
        await asyncio.sleep(1)
        assert len(everybodys.begun) == 1
        assert await store.share(THEIRS)
        assert not await store.share(THEIRS)
        await until(lambda: everybodys.begun[1:] == [(THEIRS, last)])


async def test_what_is_at_work_ends_where_it_is_and_is_put_back_to_its_own(
    store: PostgresStore, worker: Open
) -> None:
    ending, failing = await put(store, THEIRS), await put(store, THEIRS)
    async with worker() as everybodys, worker(THEIRS) as own:
        everybodys.held = {ending, failing}
        everybodys.fails = [TransientError(reason="away")]
        await until(lambda: len(everybodys.begun) == 2)
        await store.dedicate(THEIRS)
        await asyncio.sleep(1)
        assert own.begun == [], "it is somebody's already"
        everybodys.hold.set()
        await until(lambda: len(own.begun) == 1)
        await asyncio.sleep(1)
    assert len(everybodys.begun) == 2
    assert len(own.begun) == 1, "the other one has ended, and was still its worker's to end"


async def test_who_puts_a_job_there_meanwhile_is_waited_for(
    store: PostgresStore, worker: Open, database: Any
) -> None:
    """Its transaction began before the change and ends after it: it has seen nothing of it."""
    async with worker() as everybodys:
        async with store.transaction(THEIRS) as transaction:
            await transaction.defer("work", lock=None, installation_id=THEIRS, run_id=uuid4())
            changing = asyncio.create_task(store.dedicate(THEIRS))
            await asyncio.sleep(2.5)
            assert not changing.done()
            await asyncio.wait_for(put(store, OTHERS), 5)
        assert await changing
        await until(lambda: waiting(database) in ([], [(f"quick:{THEIRS}", 1)]))
        early = [whose for whose, _ in everybodys.begun if whose == THEIRS]
        # Begun before the change, or not at all.
        assert waiting(database) == ([] if early else [(f"quick:{THEIRS}", 1)])
        await put(store, THEIRS)
        await asyncio.sleep(1)
        assert [whose for whose, _ in everybodys.begun if whose == THEIRS] == early


async def test_a_job_for_later_keeps_its_time_and_the_others_their_order(
    store: PostgresStore, worker: Open, database: Any
) -> None:
    first = await put(store, THEIRS, "locked")
    await put(store, THEIRS, "locked", delay_seconds=3600)
    second = await put(store, THEIRS, "locked")
    await store.dedicate(THEIRS)
    async with worker(THEIRS, concurrency=1) as own:
        await until(lambda: len(own.begun) == 2)
        await asyncio.sleep(0.6)
    assert [run_id for _, run_id in own.begun] == [first, second]
    assert waiting(database) == [(f"locked:{THEIRS}", 1)]
    await store.share(THEIRS)
    async with worker() as everybodys:
        await asyncio.sleep(1)
        assert everybodys.begun == []


WORKER = """
import asyncio, sys
sys.path.insert(0, "")
from datetime import timedelta
from infra.postgres.queue import WorkerLimits, work

async def task(installation_id, run_id):
    print("began", flush=True)
    await asyncio.sleep(600)

async def gave_up(*_):
    pass

asyncio.run(work(sys.argv[1], {"work": task}, concurrency=1, retry_after=lambda *_: None, gave_up=gave_up, only=(7,),
                 limits=WorkerLimits(heartbeat=timedelta(seconds=0.2), stalled_after=timedelta(seconds=1))))
"""


@pytest.mark.parametrize("puts_back", ["everybody's", "its own"])
async def test_the_job_of_a_killed_worker_is_taken_up_by_its_own_kind_alone(
    store: PostgresStore, worker: Open, database: Any, puts_back: str
) -> None:
    await store.dedicate(THEIRS)
    run_id = await put(store, THEIRS, "locked")
    doomed = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WORKER, database.service_url, stdout=subprocess.PIPE
    )
    assert doomed.stdout is not None
    assert await doomed.stdout.readline() == b"began\n"
    doomed.kill()
    await doomed.wait()
    if puts_back == "everybody's":
        async with worker() as everybodys:
            with psycopg.connect(database.owner_url, autocommit=True) as connection:
                status = "SELECT status::text FROM magicode_jobs.procrastinate_jobs"
                await until(lambda: connection.execute(status).fetchall() == [("todo",)])
            await asyncio.sleep(1.5)
            assert everybodys.begun == []
    async with worker(THEIRS) as own:
        await until(lambda: own.begun == [(THEIRS, run_id)])
        await until(lambda: waiting(database) == [])


async def test_a_worker_of_several_gives_each_its_turn(store: PostgresStore, worker: Open) -> None:
    await store.dedicate(THEIRS)
    await store.dedicate(OTHERS)
    for _ in range(20):
        await put(store, THEIRS, "locked")
    for _ in range(3):
        await put(store, OTHERS, "locked")
    async with worker(THEIRS, OTHERS, concurrency=1) as own:
        await until(lambda: len(own.begun) == 23)
    assert [whose for whose, _ in own.begun[:7]].count(OTHERS) == 3


async def test_nobody_else_waits_for_how_much_is_asked_of_a_dedicated_one(
    store: PostgresStore, worker: Open
) -> None:
    """Its places are its own: what its workers have got to says nothing of where others are."""
    await store.dedicate(THEIRS)
    for _ in range(60):
        await put(store, THEIRS, "locked")
    for _ in range(20):
        await put(store, OTHERS, "locked")
    held = await put(store, THEIRS, "locked")
    async with worker(THEIRS, concurrency=1) as own:
        own.held = {held}
        await until(lambda: len(own.begun) == 61)
        new = await put(store, MORE, "locked")
        async with worker(concurrency=1) as everybodys:
            await until(lambda: len(everybodys.begun) == 21)
    assert everybodys.begun.index((MORE, new)) <= 2


async def test_what_everybodys_workers_take_over_takes_its_turn_like_what_is_new(
    store: PostgresStore, worker: Open
) -> None:
    await store.dedicate(THEIRS)
    for _ in range(30):
        await put(store, THEIRS, "locked")
    await store.share(THEIRS)
    await put(store, MORE, "locked")
    async with worker(concurrency=1) as everybodys:
        await until(lambda: len(everybodys.begun) == 31)
    assert [whose for whose, _ in everybodys.begun].index(MORE) <= 2


async def test_the_figures_tell_them_apart_and_name_nobody(store: PostgresStore) -> None:
    await store.dedicate(THEIRS)
    assert [one.queue for one in await store.queues()] == ["runs", "quick", "behind", "outside"]
    for tenant in (THEIRS, THEIRS, OTHERS):
        await put(store, tenant, "locked")
    await store.dedicate(MORE)
    await put(store, MORE, "locked")
    found = {one.queue: one.waiting for one in await store.queues()}
    assert found == {"runs": 1, "quick": 0, "behind": 0, "outside": 0, "own_runs": 3}


async def test_it_is_known_whether_a_worker_of_its_own_lives(store: PostgresStore, worker: Open) -> None:
    await store.dedicate(THEIRS)
    await store.dedicate(OTHERS)
    assert [(one.installation_id, one.heard_seconds) for one in await store.dedicated()] == [
        (THEIRS, None),
        (OTHERS, None),
    ]

    async def heard_at() -> float:
        """When it was heard last, by a clock that does not jump; 0 where it never was."""
        now, (theirs, others) = time.monotonic(), await store.dedicated()
        assert others.heard_seconds is None
        return 0 if theirs.heard_seconds is None else now - theirs.heard_seconds

    async with worker(), worker(THEIRS), asyncio.timeout(60):
        while not (first := await heard_at()):
            await asyncio.sleep(0.1)
        while await heard_at() < first + 1:  # it says so again and again
            await asyncio.sleep(0.1)
    last = await heard_at()
    await asyncio.sleep(2)
    assert abs(await heard_at() - last) < 1, "nobody says it any more"


async def test_ten_thousand_that_wait_for_their_own_workers_are_not_read_by_everybodys(
    store: PostgresStore, database: Any
) -> None:
    """They are the oldest and on the first places: a look past each of them would read tens of thousands of pages."""
    with psycopg.connect(**parameters(database.service_url)) as connection:
        _fill(connection)
        connection.execute("UPDATE procrastinate_jobs SET args = jsonb_build_object('installation_id', 7)")
        connection.commit()
        await store.dedicate(THEIRS)
        await put(store, OTHERS, "locked")
        assert waiting(database) == [("locked", 1), (f"locked:{THEIRS}", 10_000)]
        everybodys = {"queue": "locked", "worker": _registered(connection)}
        connection.commit()
        # The first look passes what the change left behind in the index, and marks it as gone.
        assert len(connection.execute(FETCH, everybodys).fetchall()) == 1
        connection.commit()
        assert connection.execute(FETCH, everybodys).fetchall() == []
        connection.commit()
        assert pages(connection, FETCH, everybodys) < 1000
