"""Whoever asks for much waits for itself; whoever asks for one thing waits for what is at work and for nothing else."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest
from psycopg.types.json import Jsonb

from app.errors import TransientError
from app.jobs.tasks import Task
from app.nouns import Installation
from infra.postgres.connect import parameters
from infra.postgres.queue import work
from infra.postgres.store import PostgresStore
from infra.postgres.turns import DEFER, FETCH
from tests.claims import claim
from tests.line.conftest import Stages
from tests.line.conversations import ask as make_request
from tests.line.conversations import notes
from tests.line.stage import Stage

GROUP = "Load and fairness"
MUCH = 1000
MANY = 60
BUSY, OTHER = 1, 2


class Desk:
    """A worker whose jobs end one by one, when a test says so."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.ids: list[UUID] = []
        self.fails: set[UUID] = set()
        self._ends = asyncio.Semaphore(0)

    async def job(self, installation_id: int, run_id: UUID) -> None:
        self.begun.append(installation_id)
        self.ids.append(run_id)
        await self._ends.acquire()
        if run_id in self.fails:
            self.fails.discard(run_id)
            raise TransientError(reason="away")

    async def end(self, jobs: int = 1) -> None:
        """Ends that many, each once another one has begun in its place."""
        for _ in range(jobs):
            before = len(self.begun)
            self._ends.release()
            await self.reaches(before + 1)

    async def reaches(self, begun: int) -> None:
        async with asyncio.timeout(60):
            while len(self.begun) < begun:
                await asyncio.sleep(0.002)


async def ask(
    store: PostgresStore, installation: int, jobs: int = 1, *, lock: str | None = None, **how: Any
) -> list[UUID]:
    """Runs of an installation, each on an issue of its own unless they share a lock."""
    ids = [uuid4() for _ in range(jobs)]
    async with store.transaction(installation) as transaction:
        for one in ids:
            await transaction.defer(
                Task.WORK,
                lock=lock or f"{installation}:5:{one}",
                installation_id=installation,
                run_id=one,
                **how,
            )
    return ids


@pytest.fixture
def at_work(database: Any) -> Callable[..., Any]:
    @asynccontextmanager
    async def opened(concurrency: int = 1, again: timedelta | None = None) -> AsyncIterator[Desk]:
        desk = Desk()

        async def gave_up(task: str, ids: Mapping[str, Any], error: BaseException) -> None:
            raise AssertionError(error)

        jobs: Mapping[str, Callable[..., Awaitable[None]]] = {Task.WORK.value: desk.job}
        working = asyncio.create_task(
            work(
                database.service_url,
                jobs,
                concurrency=concurrency,
                retry_after=lambda _error, _taken: again,
                gave_up=gave_up,
            )
        )
        try:
            yield desk
        finally:
            for _ in range(50):
                desk._ends.release()
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)

    return opened


@claim(
    GROUP,
    "One installation makes 1,000 requests; while they are worked on, another one makes a single request",
    "The single request is begun next, as soon as one that was at work ends: it waits for less than one run's time",
)
@pytest.mark.parametrize("workers", [1, 3])
async def test_one_request_behind_a_thousand_is_begun_next(
    workers: int, store: PostgresStore, at_work: Callable[..., Any]
) -> None:
    await ask(store, BUSY, MUCH)
    async with at_work(workers) as desk:
        await desk.reaches(workers)
        await desk.end(7)
        await ask(store, OTHER)
        await desk.end(2)
    assert desk.begun[: workers + 7] == [BUSY] * (workers + 7)
    assert desk.begun[workers + 7] == OTHER
    assert desk.begun[workers + 8] == BUSY, "and then it goes on"


@claim(
    GROUP,
    "Three installations ask again as soon as they were answered, while a fourth one's 1,000 requests wait",
    "Each of the four gets at least a fifth of the work: nobody is overtaken for ever",
)
async def test_who_asked_for_much_goes_on_while_others_keep_asking(
    store: PostgresStore, at_work: Callable[..., Any]
) -> None:
    await ask(store, BUSY, MUCH)
    async with at_work(1) as desk:
        await desk.reaches(1)
        for other in (2, 3, 4):
            await ask(store, other)
        for _ in range(80):
            await desk.end()
            ended = desk.begun[-2]
            if ended != BUSY:
                await ask(store, ended)
    shares = Counter(desk.begun)
    assert sum(shares.values()) == 81
    assert all(shares[one] >= 81 / 5 for one in (BUSY, 2, 3, 4)), shares


@claim(
    GROUP,
    "Fifty installations make their first request, one as soon as another one's is begun, while one's 1,000 requests wait",
    "That one has a turn in each round of those that wait: who comes anew does not overtake it for ever",
)
async def test_ever_new_ones_do_not_overtake_for_ever(
    store: PostgresStore, at_work: Callable[..., Any]
) -> None:
    await ask(store, BUSY, MUCH)
    async with at_work(1) as desk:
        await desk.reaches(1)
        for new in range(100, 150):
            await ask(store, new)
            await desk.end()
    assert desk.begun.count(BUSY) >= 5, desk.begun
    assert desk.begun[-15:].count(BUSY) >= 1, "nor less and less"


@claim(
    GROUP,
    "Sixty requests of one installation fail and are due again later, at the same moment; then another asks",
    "What is tried again takes its turn like what is new: the other one is begun next",
)
async def test_what_is_tried_again_takes_its_turn(
    store: PostgresStore, at_work: Callable[..., Any], database: Any
) -> None:
    failing = await ask(store, BUSY, MANY)
    async with at_work(1, again=timedelta(hours=1)) as desk:
        desk.fails.update(failing)
        await desk.reaches(1)
        await desk.end(MANY - 1)
        (last,) = await ask(store, 3)
        await desk.end()
        assert desk.ids[-1] == last
        with psycopg.connect(**parameters(database.service_url), autocommit=True) as connection:
            connection.execute(
                "UPDATE magicode_jobs.procrastinate_jobs SET scheduled_at = now() WHERE status = 'todo'"
            )
        await desk.end(5)
        await ask(store, OTHER)
        await desk.end(2)
    assert desk.begun[MANY + 1 : MANY + 6] == [BUSY] * 5
    assert desk.begun[MANY + 6] == OTHER


@claim(
    GROUP,
    "A request is tried again behind a later one on the same issue, both among many others of the installation",
    "On one issue the order in which they came is kept",
)
async def test_jobs_of_one_lock_keep_their_order(store: PostgresStore, at_work: Callable[..., Any]) -> None:
    (first,) = await ask(store, BUSY, lock="1:5:9")
    await ask(store, BUSY, 5)
    (second,) = await ask(store, BUSY, lock="1:5:9")
    await ask(store, BUSY, 5)
    async with at_work(1, again=timedelta(seconds=0.2)) as desk:
        desk.fails.add(first)
        await desk.reaches(1)
        assert desk.ids == [first]
        await desk.end(1)
        await asyncio.sleep(0.4)
        await desk.end(11)
    assert desk.ids.index(second) > max(place for place, one in enumerate(desk.ids) if one == first)
    assert desk.ids.count(first) == 2


@claim(
    GROUP,
    "10,000 jobs of 50 installations wait, each for a lock of its own; the next one is fetched, and another one is put behind them",
    "The database reads a few hundred pages for either, and does not compare each with every other one",
)
def test_a_long_queue_is_not_searched(database: Any) -> None:
    arguments = Jsonb({"installation_id": 7, "run_id": str(uuid4())})
    new = {
        "queue": "locked",
        "task": "work",
        "lock": "7:5:1",
        "tenant": "7",
        "arguments": arguments,
        "delay": None,
    }
    with psycopg.connect(**parameters(database.service_url)) as connection:
        _fill(connection)
        worker = {"queue": "locked", "worker": _registered(connection)}
        assert pages(connection, FETCH, worker) < 1000
        assert pages(connection, DEFER, new) < 1000


@claim(
    GROUP,
    "The same, where the database made its plans while the queue was empty or had 50 jobs at work, and has not looked since",
    "A job is put behind the others by reading less than a thousand pages: the plan is none that grows with the queue",
)
@pytest.mark.parametrize("at_work", [0, 50])
def test_a_long_queue_is_not_searched_by_a_plan_for_a_short_one(database: Any, at_work: int) -> None:
    put = "PREPARE put(varchar, varchar, text, text, jsonb, interval) AS " + DEFER
    for number, name in enumerate(("queue", "task", "lock", "tenant", "arguments", "delay"), 1):
        put = put.replace(f"%({name})s", f"${number}")
    told = """EXECUTE put('locked', 'work', '7:5:1', '7', '{"installation_id": 7}', NULL)"""
    with psycopg.connect(**parameters(database.service_url)) as connection:
        if at_work:
            connection.execute(
                "INSERT INTO procrastinate_jobs (queue_name, task_name, priority, lock, args, status)"
                " SELECT 'locked', 'work', -n, '2:5:' || n, '{\"installation_id\": 7}', 'doing'"
                " FROM generate_series(1, %s) AS n",
                [at_work],
            )
            connection.commit()
            with psycopg.connect(database.owner_url, autocommit=True) as owner:
                owner.execute("ANALYZE magicode_jobs.procrastinate_jobs")
        connection.execute("SET plan_cache_mode = force_generic_plan")
        for statement in (put, told):
            connection.execute(statement.encode())
        _fill(connection)
        assert pages(connection, told, {}) < 1000


def _fill(connection: psycopg.Connection[Any]) -> None:
    connection.execute(
        "INSERT INTO procrastinate_jobs (queue_name, task_name, priority, lock, args)"
        " SELECT 'locked', 'work', -n, '1:5:' || n, jsonb_build_object('installation_id', n % 50)"
        " FROM generate_series(1, 10000) AS n"
    )
    connection.commit()


def _registered(connection: psycopg.Connection[Any]) -> int:
    row = connection.execute("SELECT worker_id FROM procrastinate_register_worker_v1()").fetchone()
    assert row is not None
    return int(row[0])


def pages(connection: psycopg.Connection[Any], statement: str, values: Mapping[str, object]) -> int:
    """How many a statement touches."""
    explained = "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + statement
    row = connection.execute(explained.encode(), values).fetchone()
    assert row is not None
    plan = row[0][0]["Plan"]
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


# --- acceptance ------------------------------------------------------------------------------------------------------


def signed(stage: Stage, installation: int, number: int) -> tuple[dict[str, str], bytes]:
    """The headers and the body of a request on an issue of its own."""
    world = stage.github.world
    payload = json.loads(next(one.body for one in world.deliveries if one.event == "issue_comment"))
    payload["comment"]["id"] = payload["issue"]["number"] = number
    payload["installation"]["id"] = installation
    body = json.dumps(payload).encode()
    signature = hmac.new(world.app.webhook_secret.encode(), body, hashlib.sha256).hexdigest()
    return {
        "Content-Type": "application/json",
        "X-GitHub-Event": "issue_comment",
        "X-GitHub-Delivery": str(uuid4()),
        "X-Hub-Signature-256": f"sha256={signature}",
    }, body


@claim(
    GROUP,
    "The end of one installation's log is held, and a hundred of its webhooks wait for it; another installation's comes",
    "The other one's is accepted at once: those that wait keep no connection from it. Then all of them are",
)
async def test_webhooks_that_wait_hold_up_nobody_else(
    raise_stage: Stages, sample: Path, database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.main.ACCEPT_SECONDS", 120)
    stage = await raise_stage({"octo/fairshare": sample}, notes(), working=False)
    await make_request(stage)
    await stage.settled()
    async with stage.house.store.transaction(900) as transaction:
        await transaction.put_installation(Installation(900, 901, "other", suspended=False))
    async with (
        await psycopg.AsyncConnection.connect(database.owner_url) as holder,
        httpx.AsyncClient(trust_env=False, timeout=120, limits=httpx.Limits(max_connections=None)) as client,
    ):

        async def post(installation: int, number: int) -> int:
            headers, body = signed(stage, installation, number)
            url = f"{stage.url}/webhooks/github"
            return (await client.post(url, content=body, headers=headers)).status_code

        await holder.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended('magicode.chain', %s))", [stage.installation]
        )
        waiting = [asyncio.create_task(post(stage.installation, number)) for number in range(1000, 1100)]
        await asyncio.sleep(1)
        assert await post(900, 1) == 202
        assert not any(one.done() for one in waiting)
        await holder.rollback()
        assert set(await asyncio.gather(*waiting)) == {202}
    async with stage.house.store.transaction(stage.installation) as transaction:
        assert len(await transaction.runs(limit=200)) == 101
