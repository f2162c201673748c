"""PostgreSQL dies, is restarted, refuses, stands still, takes no writes: every request is there afterwards, and ends once."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import psutil
import psycopg
import pytest

import app.rounds
from app.errors import TransientError
from app.jobs import reconcile
from app.nouns import RunState
from infra.models.playbook import Playbook
from infra.postgres.queue import WorkerLimits
from tests.claims import case, claim
from tests.faults.asking import unlimited
from tests.faults.processes import Process, service
from tests.faults.promises import kept, quiet
from tests.faults.servers import CRASH, FAST, IMMEDIATE, Server, own_server
from tests.lengths import Lengths
from tests.line.conftest import Words
from tests.line.conversations import (
    ask,
    asked_of_the_model,
    create,
    finish,
    plans,
    playbook,
    reasons,
    scenario,
)
from tests.line.seen import until
from tests.line.stage import Stage, staged
from tests.line.test_mending import mends

pytestmark = pytest.mark.long

GROUP = "What lies around it fails"

SOON = {"app.rounds:CATCH_UP_AFTER_SECONDS": 1.0, "app.rounds:CATCH_UP_EVERY_SECONDS": 5.0}


@pytest.fixture
def server() -> Iterator[Server]:
    with own_server() as server:
        yield server


@asynccontextmanager
async def on(
    server: Server, folder: Path, sample: Path, script: Playbook, **how: Any
) -> AsyncIterator[Stage]:
    """A stage on this server, whose looks at the database wait until it is there."""
    async with staged(
        folder, {"octo/fairshare": sample}, script, database_url=server.url, encoder=Words(), **how
    ) as stage:
        yield stage


def conversation() -> Playbook:
    """A plan, a note, another note, and an answer to each red check."""
    mending = mends(slow=1.0).scenarios
    more = scenario(create("MORE.md", "More of it.\n"), finish("Write another note"), when="once more")
    own = playbook(
        plans(), more, scenario(create("NOTES.md", "A note.\n") | {"slow": {"seconds": 2}}, finish())
    )
    return Playbook(scenarios=[*own.scenarios[:-1], *mending[:-1], own.scenarios[-1]])


class Play:
    """People who ask for one thing after another, seldom enough to leave the machine to others."""

    def __init__(self, stage: Stage, chance: random.Random) -> None:
        self.stage = stage
        self.chance = chance
        self.asked = 0
        self.issues: list[int] = []

    async def go_on(self, until: float, every: float) -> None:
        while time.monotonic() < until:
            await self.chance.choice(
                (self._fix, self._fix, self._plan, self._again, self._cancel, self._help)
            )()
            await asyncio.sleep(self.chance.uniform(0.5, 1.5) * every)

    async def _new(self, comment: str) -> None:
        self.issues.append(await ask(self.stage, comment))
        self.asked += 1

    async def _fix(self) -> None:
        await self._new("@magicode fix this")

    async def _plan(self) -> None:
        await self._new("@magicode plan")

    async def _help(self) -> None:
        await self._new("@magicode help")

    async def _cancel(self) -> None:
        await self._new("@magicode fix this")
        await asyncio.sleep(self.chance.uniform(0.0, 4.0))
        await self.stage.comment(self.issues[-1], "@magicode cancel")
        self.asked += 1

    async def _again(self) -> None:
        """On one of the pull requests that stand open, or on an issue once more."""
        pulls = await self.stage.pulls(state="open")
        if pulls:
            await self.stage.comment(
                self.chance.choice(pulls)["number"], "@magicode revise: write it once more"
            )
            self.asked += 1
        elif self.issues:
            await self.stage.comment(self.chance.choice(self.issues), "@magicode fix this")
            self.asked += 1


async def restarts(server: Server, chance: random.Random, until: float) -> dict[str, int]:
    """Every 5 to 40 s, gone for a moment or for some seconds; how often in which way."""
    done = {"killed": 0, "stopped at once": 0, "shut down": 0}
    ways = dict(zip(done, (CRASH, IMMEDIATE, FAST), strict=True))
    while (pause := chance.uniform(5, 40)) < until - time.monotonic():
        await asyncio.sleep(pause)
        way = chance.choice(list(ways))
        await server.stop(ways[way])
        await asyncio.sleep(chance.choice((0.0, 0.0, 1.0, 4.0)))
        await server.start()
        done[way] += 1
    return done


async def all_ended(stage: Stage, count: int, within: float) -> None:
    """Once so many requests, and all that came of them, have ended."""
    deadline = time.monotonic() + within
    while True:
        runs = await stage.runs()
        asked = [run for run in runs if run.verb != "mend"]
        if len(asked) >= count and all(run.state.ended for run in runs):
            return
        assert time.monotonic() < deadline, (count, len(asked), reasons(runs))
        await asyncio.sleep(0.5)


@pytest.mark.timeout(4800)
@claim(
    GROUP,
    "PostgreSQL is killed, stopped and restarted every 5 to 40 seconds while people ask for fixes, plans, revisions and cancel some",
    "Each request ends once and is told once; no pull request, commit or comment twice; what GitHub was answered 503 is asked for again",
)
async def test_a_database_that_comes_and_goes_loses_nothing(
    server: Server,
    tmp_path: Path,
    sample: Path,
    lengths: Lengths,
    record_property: Callable[[str, Any], None],
) -> None:
    seed = random.randrange(2**32) if lengths.at_length else 6
    print(f"seed {seed}")
    chance, seconds = random.Random(seed), lengths.choose(suite=300.0, prove=3600.0)
    async with on(server, tmp_path / "stage", sample, conversation(), working=False) as stage:
        async with (
            service(stage, role="serve", environ={"MAGICODE_WORKER": "false"}) as web,
            service(stage, name="worker", constants=SOON, heartbeat=2, stalled_after=8) as worker,
        ):
            stage.github.world.app_url = f"{web.url}/webhooks/github"
            unlimited(stage)  # an hour of it takes more than GitHub lets one installation ask
            play, until = Play(stage, chance), time.monotonic() + seconds
            every = lengths.choose(suite=8.0, prove=20.0)
            happened, _ = await asyncio.gather(restarts(server, chance, until), play.go_on(until, every))
            await all_ended(stage, play.asked, within=300)
            await quiet(stage, seconds=3)
            assert web.alive
            assert worker.alive
            spent = sum(sum(psutil.Process(one.pid).cpu_times()[:4]) for one in (web, worker))
            await worker.stop()
            await web.stop()
        looked = await kept(stage, runs=None)
        asked = [run for run in looked.runs if run.verb != "mend"]
        assert len(asked) == play.asked
        failed = [one for one in reasons(asked) if one[1] == RunState.FAILED.value]
        assert not failed, "\n".join([str(failed), *worker.failures()])
        refused = sum(one.status_code not in (0, 202) for one in stage.github.world.deliveries)
    print(f"{happened}, {play.asked} requests, {refused} deliveries refused, {spent:.0f} s of processor time")
    record_property("restarts", sum(happened.values()))
    record_property("requests", play.asked)
    record_property("deliveries answered 5xx", refused)


# --- it refuses, stands still, takes no writes -----------------------------------------------------------------------

ROLE = "magicode_service"
AWAY = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{ROLE}'"


@asynccontextmanager
async def gone(server: Server) -> AsyncIterator[None]:
    await server.stop(IMMEDIATE)
    yield
    await server.start()


@asynccontextmanager
async def full(server: Server) -> AsyncIterator[None]:
    server.says(f"ALTER ROLE {ROLE} CONNECTION LIMIT 0", AWAY)
    yield
    server.says(f"ALTER ROLE {ROLE} CONNECTION LIMIT -1")


@asynccontextmanager
async def refusing(server: Server) -> AsyncIterator[None]:
    server.says(f"ALTER ROLE {ROLE} NOLOGIN", AWAY)
    yield
    server.says(f"ALTER ROLE {ROLE} LOGIN")


@asynccontextmanager
async def read_only(server: Server) -> AsyncIterator[None]:
    server.says("ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()")
    async with asyncio.timeout(30):
        while not _is_read_only(server):
            await asyncio.sleep(0.05)
    yield
    with psycopg.connect(server.admin_url, autocommit=True) as connection:
        connection.execute("SET default_transaction_read_only = off")
        connection.execute("ALTER SYSTEM RESET default_transaction_read_only")
        connection.execute("SELECT pg_reload_conf()")


def _is_read_only(server: Server) -> bool:
    with psycopg.connect(server.url) as connection:
        return connection.execute("SHOW default_transaction_read_only").fetchone() == ("on",)


@asynccontextmanager
async def silent(server: Server) -> AsyncIterator[None]:
    with server.standing_still():
        yield


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was missed is asked for again within seconds, so that a test need not wait for minutes."""
    monkeypatch.setattr(app.rounds, "CATCH_UP_EVERY_SECONDS", 2.0)
    monkeypatch.setattr(app.rounds, "CATCH_UP_AFTER_SECONDS", 2.0)
    monkeypatch.setattr(reconcile, "FIRST_PAUSE", timedelta(seconds=2))
    monkeypatch.setattr(reconcile, "GROWTH", 1)


async def answered(stage: Stage, path: str) -> tuple[int, float]:
    """The status of a GET, and after how many seconds it came."""
    began = time.monotonic()
    async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
        status = (await client.get(f"{stage.url}{path}")).status_code
    return status, time.monotonic() - began


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    "breaks",
    [
        case(GROUP, f"PostgreSQL {what} while a run is at work, and somebody asks for more", outcome, breaks)
        for what, outcome, breaks in (
            (
                "is gone",
                "/readyz, a page and the webhook answer 503; both requests end well once it is back",
                gone,
            ),
            ("has no connection to spare", "503; both requests end well once there are some", full),
            ("refuses the service's role", "503; both requests end well once it is let in again", refusing),
            ("takes no writes, as after a failover", "503; both requests end well once it does", read_only),
            (
                "neither answers nor refuses",
                "503 within GitHub's ten seconds; both requests end well",
                silent,
            ),
        )
    ],
)
async def test_a_database_that_is_away_delays_and_loses_nothing(
    server: Server, tmp_path: Path, sample: Path, breaks: Callable[[Server], Any]
) -> None:
    slow = playbook(scenario(create("NOTES.md", "A note.\n") | {"slow": {"seconds": 4}}, finish()))
    async with on(server, tmp_path / "stage", sample, slow, working=False) as stage:
        async with stage.at_work(limits=QUICK_TAKEOVER):
            await ask(stage)
            await until(lambda: asked_of_the_model(stage))
            async with breaks(server):
                status, seconds = await answered(stage, "/readyz")
                assert status == 503
                assert seconds < 10
                status, seconds = await answered(stage, f"/receipts/{stage.installation}/{uuid4()}")
                assert status == 503
                assert seconds < 25
                await ask(stage)
                await stage.settled()
                refused = [one for one in stage.github.world.deliveries if one.event == "issue_comment"][-1]
                assert refused.status_code == 503
                assert refused.duration < 10
                assert (await answered(stage, "/healthz"))[0] == 200, (
                    "the process lives, and is not to be killed"
                )
                await asyncio.sleep(3)
            await until(lambda: ready(stage))
            runs = await stage.ended(2)
            await quiet(stage)
        assert [run.state for run in runs] == [RunState.OPENED, RunState.OPENED], reasons(runs)
        await kept(stage, runs=2)


async def ready(stage: Stage) -> bool:
    return (await answered(stage, "/readyz"))[0] == 200


QUICK_TAKEOVER = WorkerLimits(heartbeat=timedelta(seconds=1), stalled_after=timedelta(seconds=3))


@claim(
    GROUP,
    "A run works for longer than a restart of PostgreSQL takes",
    "It goes on where it was: it is not begun anew, and its model is not paid twice",
)
async def test_a_restart_in_the_middle_of_a_models_answer_costs_nothing(
    server: Server, tmp_path: Path, sample: Path
) -> None:
    slow = playbook(scenario(create("NOTES.md", "A note.\n") | {"slow": {"seconds": 6}}, finish()))
    async with on(server, tmp_path / "stage", sample, slow, working=False) as stage:
        async with stage.at_work(limits=QUICK_TAKEOVER):
            await ask(stage)
            await until(lambda: asked_of_the_model(stage))
            await server.stop(FAST)
            await asyncio.sleep(4)
            await server.start()
            (run,) = await stage.ended()
            await quiet(stage)
        assert (run.state, run.attempt) == (RunState.OPENED, 1)
        assert len(await asked_of_the_model(stage)) == 3, "two turns and a second look"
        await kept(stage, runs=1)


@claim(
    GROUP,
    "The service is started before PostgreSQL is",
    "It waits, listens as soon as the database is there, and works",
)
async def test_a_service_that_starts_before_its_database_waits_for_it(
    server: Server, tmp_path: Path, sample: Path
) -> None:
    async with on(server, tmp_path / "stage", sample, conversation(), working=False) as stage:
        await server.stop(FAST)
        async with service(stage, role="worker", constants=SOON, ready=False) as worker:
            await until(lambda: _said(worker, "Not ready to start"))
            await server.start()
            await ask(stage)
            (run,) = await stage.ended()
            await quiet(stage)
            await worker.stop()
        assert run.state is RunState.OPENED
        await kept(stage, runs=1)


async def _said(process: Process, words: str) -> bool:
    return words in process.said()


@claim(
    GROUP,
    "The embedded PostgreSQL is killed (SIGKILL) while a run is at work",
    "The service starts it again by itself; the request ends once, and no process of the old server is left",
)
async def test_the_embedded_server_that_was_killed_is_started_again(tmp_path: Path, sample: Path) -> None:
    slow = playbook(scenario(create("NOTES.md", "A note.\n") | {"slow": {"seconds": 3}}, finish()))
    async with staged(
        tmp_path / "stage",
        {"octo/fairshare": sample},
        slow,
        database_url="",
        encoder=Words(),
        working=False,
    ) as stage:
        folder = stage.folder / "data" / "postgres"
        pid = int((folder / "postmaster.pid").read_text().split()[0])
        old = [psutil.Process(pid), *psutil.Process(pid).children()]
        async with stage.at_work(limits=QUICK_TAKEOVER):
            await ask(stage)
            await until(lambda: asked_of_the_model(stage))
            os.kill(pid, CRASH)
            await until(lambda: ready(stage))
            (run,) = await stage.ended()
            await quiet(stage)
        assert run.state is RunState.OPENED
        assert not [one for one in old if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
        await kept(stage, runs=1)


@claim(
    GROUP,
    "Two transactions wait for each other (deadlock)",
    "The one that PostgreSQL breaks off is tried again, and is no defect",
)
async def test_a_deadlock_is_tried_again(server: Server, tmp_path: Path, sample: Path) -> None:
    async with on(server, tmp_path / "stage", sample, conversation(), working=False) as stage:
        await ask(stage)
        await ask(stage)
        await stage.settled()
        first, second = await stage.runs()
        with psycopg.connect(server.admin_url) as other:
            other.execute("SET deadlock_timeout = '60s'")
            other.execute("SELECT FROM magicode.runs WHERE id = %s FOR UPDATE", [second.id])
            with pytest.raises(TransientError, match="PostgreSQL"):
                await crossing(stage, other, first.id, second.id)
        async with stage.at_work():
            runs = await stage.ended(2)
            await quiet(stage)
        assert {run.state for run in runs} == {RunState.OPENED}
        await kept(stage, runs=2)


async def crossing(stage: Stage, other: psycopg.Connection[Any], mine: UUID, theirs: UUID) -> None:
    """Takes a run's row, and then one that somebody else holds who waits for the first."""
    async with stage.house.store.transaction(stage.installation) as transaction:
        await transaction.run(mine, lock=True)
        waits = asyncio.create_task(
            asyncio.to_thread(other.execute, "SELECT FROM magicode.runs WHERE id = %s FOR UPDATE", [mine])
        )
        try:
            await asyncio.sleep(0.3)
            await transaction.run(theirs, lock=True)
        finally:
            await asyncio.wait({waits}, timeout=5)
