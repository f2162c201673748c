"""Several workers on one database: each run is one's at a time, all get their turn, and who wakes up late writes nothing."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
import pytest

from app.actionlog.export import opened
from app.actionlog.verify import ExportedEntry
from app.nouns import Run, RunState
from infra.simulator.state import RequestRecord
from tests.claims import case, claim
from tests.faults.asking import ask_on, issues, repositories, unlimited
from tests.faults.points import BEFORE, Point, Watch, read_trace
from tests.faults.processes import Process, service
from tests.faults.promises import kept, quiet
from tests.lengths import Lengths
from tests.line.conftest import Stages
from tests.line.conversations import ask, notes
from tests.line.stage import Stage

GROUP = "Several workers"
SEED = 6
QUICK: dict[str, Any] = {"heartbeat": 0.3, "stalled_after": 4.0, "retry": 0.1, "tries": 8}
"""As the service takes over and tries again, without its waits."""

SOON: dict[str, Any] = {"retry": 0.2, "tries": 8}
"""As it tries again, without its waits."""

AT_LENGTH: dict[str, Any] = {}
"""As the service does: heartbeats each 10 s, taken for dead after 30 s."""


@pytest.fixture
async def idle(raise_stage: Stages, sample: Path) -> Stage:
    """Accepts, and works when a test says so."""
    stage = await raise_stage(repositories(sample, 3), notes(), working=False)
    unlimited(stage)
    return stage


async def until(true: Callable[[], Awaitable[object]], *, within: float) -> None:
    async with asyncio.timeout(within):
        while not await true():
            await asyncio.sleep(0.1)


async def all_runs(stage: Stage) -> Sequence[Run]:
    async with stage.house.store.transaction(stage.installation) as transaction:
        return await transaction.runs(limit=1_000_000)


async def ended(stage: Stage, count: int, *, within: float) -> None:
    async def look() -> bool:
        return sum(run.state.ended for run in await all_runs(stage)) >= count

    await until(look, within=within)


async def the_log(stage: Stage) -> list[ExportedEntry]:
    return [entry async for entry in opened(stage.house.store, stage.house.keys, stage.installation)]


@asynccontextmanager
async def workers(stage: Stage, count: int, **how: Any) -> Any:
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(service(stage, name=f"worker-{number}", **how))
            for number in range(count)
        ]


# --- many ------------------------------------------------------------------------------------------------------------


def overlapping(entries: Iterable[ExportedEntry]) -> list[str]:
    """Runs of which a later attempt had begun and an earlier one did something all the same, by the log."""
    begun: dict[str, int] = {}
    twice = []
    for entry in entries:
        details = entry.details or {}
        if entry.action == "run.started":
            attempt = int(str(details["attempt"]))
            if attempt <= begun.get(str(entry.run_id), 0):
                twice.append(f"attempt {attempt} of {entry.run_id} began twice")
            begun[str(entry.run_id)] = attempt
    return twice


def side_by_side(entries: Iterable[ExportedEntry], runs: Sequence[Run]) -> list[str]:
    """Issues on which two runs that change something were at work at the same time."""
    about = {str(run.id): (run.repository_id, run.about) for run in runs if run.verb != "help"}
    blocked = {str(run.id) for run in runs if run.blocked_by is not None}
    at_work: dict[tuple[int, int], str] = {}
    found = []
    for entry in entries:
        run, place = str(entry.run_id), about.get(str(entry.run_id))
        if place is None or run in blocked:
            continue
        if entry.action == "run.started":
            if at_work.get(place, run) != run:
                found.append(f"{run} began while {at_work[place]} was at work")
            at_work[place] = run
        elif entry.action == "run.ended":
            at_work.pop(place, None)
    return found


@pytest.mark.parametrize(
    "count",
    [
        case(
            GROUP,
            f"{words} processes on one database, dozens of requests on many issues and several on one",
            "No run is worked on by two at once, no issue has two runs at work, every request ends, and every promise is kept",
            count,
            marks=(pytest.mark.long,),
        )
        for count, words in ((2, "Two"), (4, "Four"), (8, "Eight"))
    ],
)
async def test_many_workers_share_the_work(
    idle: Stage, count: int, lengths: Lengths, record_property: Any
) -> None:
    if count != 4 and not lengths.at_length:
        pytest.skip("at length: `make prove`")
    wanted = lengths.choose(suite=12, prove=60)
    dice = random.Random(SEED + count)
    print(f"seed {SEED + count}")
    places = await issues(idle, wanted // 2)
    words = [dice.choice(["fix this", "fix this", "help", "explain the ledger"]) for _ in range(wanted)]
    async with workers(idle, count, **SOON):
        await ask_on(idle, [*places, places[0], places[0]], words)
        await ended(idle, wanted, within=lengths.choose(suite=200, prove=900))
        await quiet(idle)
    runs, entries = await all_runs(idle), await the_log(idle)
    record_property("requests", wanted)
    assert overlapping(entries) == []
    assert side_by_side(entries, runs) == []
    assert {run.attempt for run in runs} == {1}, "nobody took anything over"
    await kept(idle, runs=wanted)


@claim(
    GROUP,
    "Workers are killed and others join in the middle of a burst of requests, again and again",
    "Every request ends once, and every promise is kept",
)
@pytest.mark.long
async def test_workers_that_die_and_join_in_the_middle_of_a_burst_lose_nothing(
    idle: Stage, lengths: Lengths, record_property: Any
) -> None:
    wanted, deaths = lengths.choose(suite=(5, 2), prove=(40, 20))
    dice = random.Random(SEED)
    print(f"seed {SEED}")
    places = await issues(idle, wanted)
    async with AsyncExitStack() as stack:
        living = [await stack.enter_async_context(service(idle, name="first", **QUICK)) for _ in range(2)]
        await ask_on(idle, places, ["fix this"] * wanted)
        for _ in range(deaths):
            await asyncio.sleep(dice.uniform(0.5, 3))
            living.pop(dice.randrange(len(living))).kill()
            living.append(await stack.enter_async_context(service(idle, name="next", **QUICK)))
        await ended(idle, wanted, within=lengths.choose(suite=200, prove=900))
        await quiet(idle)
    record_property("workers that died", deaths)
    assert overlapping(await the_log(idle)) == []
    await kept(idle, runs=wanted)


@claim(
    GROUP,
    "A steady stream of requests on one issue, while somebody asks once on another",
    "The single request does not wait for the stream's end",
)
@pytest.mark.long
async def test_nobody_starves_behind_a_stream(idle: Stage) -> None:
    busy, alone = await issues(idle, 2)
    async with workers(idle, 2, **SOON):
        stream = asyncio.create_task(ask_on(idle, [busy], ["help"] * 20, at_once=2))
        await asyncio.sleep(1)
        await ask_on(idle, [alone], ["explain the ledger"])
        await stream
        await ended(idle, 21, within=200)
        await quiet(idle)
    runs = await all_runs(idle)
    (single,) = (run for run in runs if run.verb == "explain")
    assert single.started_at is not None
    assert single.started_at < max(_ended_at(run) for run in runs if run is not single), (
        "it waited for the stream's end"
    )
    await kept(idle, runs=21)


def _ended_at(run: Run) -> datetime:
    assert run.ended_at is not None
    return run.ended_at


# --- paused and woken ------------------------------------------------------------------------------------------------


def wrote(requests: Iterable[RequestRecord]) -> list[str]:
    """What was asked for with a permission to write. Who wakes up may give its token back."""
    return [
        f"{one.method} {one.path}"
        for one in requests
        if any(permission.endswith(":write") for permission in one.permissions)
    ]


def stopped(process: Process) -> bool:
    return psutil.Process(process.pid).status() == psutil.STATUS_STOPPED


async def paused_and_woken(
    stage: Stage,
    point: Point,
    *,
    limits: dict[str, Any] = QUICK,
    seconds: float = 0,
    within: float = 120,
) -> list[str]:
    """One process stops at this point, another takes its work over and ends it, and the first is woken, after so many seconds at
    least. What the first then wrote on GitHub."""
    loop = asyncio.get_running_loop()
    async with service(stage, name="paused", watch=Watch(stop=point), **limits) as first:
        await ask(stage)
        while not stopped(first):
            assert first.alive, first.said()
            assert loop.time() < loop.time() + within
            if (await all_runs(stage)) and all(run.state.ended for run in await all_runs(stage)):
                await asyncio.sleep(2)
                assert stopped(first), f"it never came to {point}"
            await asyncio.sleep(0.05)
        since = loop.time()
        async with service(stage, name="follower", **limits) as second:
            await ended(stage, 1, within=within)
            await quiet(stage)
            await second.stop()
        await asyncio.sleep(max(0, since + seconds - loop.time()))
        before = len(stage.github.world.requests)
        first.resume()
        await asyncio.sleep(2)
        await quiet(stage)
        assert first.alive, "it goes on and works on other things"
        await first.stop()
    return wrote(stage.github.world.requests[before:])


MOMENTS = {
    "github POST /repos/{owner}/{repo}/issues/{issue_number}/comments": "the first word on the issue",
    "github POST /repos/{owner}/{repo}/git/blobs": "the first blob, its write token in hand",
    "github POST /repos/{owner}/{repo}/git/commits": "the commit",
    "github POST /repos/{owner}/{repo}/git/refs": "the branch",
    "github POST /repos/{owner}/{repo}/pulls": "the pull request",
    "github POST /graphql markPullRequestReadyForReview": "marking it as ready",
    "github POST /repos/{owner}/{repo}/issues/comments/{comment_id}/reactions": "the reaction",
}

IN_SHORT = ("/comments", "/git/refs", "/pulls")


@pytest.mark.parametrize(
    "label",
    [
        case(
            GROUP,
            f"Right before {what} leaves, its last look at whether the run is its own behind it, a worker is stopped; another takes "
            "over and ends the run; then the first is woken",
            "It writes nothing on GitHub, and every promise is kept",
            label,
            marks=(pytest.mark.long,),
        )
        for label, what in MOMENTS.items()
    ],
)
async def test_a_worker_that_is_woken_writes_nothing(idle: Stage, label: str, lengths: Lengths) -> None:
    if not lengths.at_length and not label.endswith(IN_SHORT):
        pytest.skip("at length: `make prove`")
    assert await paused_and_woken(idle, Point(label, 1, BEFORE)) == []
    await kept(idle, runs=1)


@claim(
    GROUP,
    "A worker is stopped for two minutes, with the service's own limits, right before it opens the pull request, and woken after "
    "another has opened it",
    "It writes nothing on GitHub, and there is one pull request",
)
@pytest.mark.long
@pytest.mark.timeout(600)
async def test_a_worker_that_is_stopped_for_two_minutes_writes_nothing(idle: Stage, lengths: Lengths) -> None:
    if not lengths.at_length:
        pytest.skip("at length: `make prove`")
    point = Point("github POST /repos/{owner}/{repo}/pulls", 1, BEFORE)
    assert await paused_and_woken(idle, point, limits=AT_LENGTH, seconds=120, within=300) == []
    (pull,) = await idle.pulls()
    assert pull["state"] == "open"
    await kept(idle, runs=1)


@claim(
    GROUP,
    "A worker is stopped at each effect and each commit of a whole run in turn, found by watching one; another takes over each "
    "time; then the first is woken",
    "It never writes on GitHub, and every promise is kept",
)
@pytest.mark.long
@pytest.mark.timeout(3600)
async def test_a_worker_may_be_stopped_anywhere(
    idle: Stage, lengths: Lengths, tmp_path: Path, record_property: Any
) -> None:
    trace = tmp_path / "trace"
    async with service(idle, name="watched", watch=Watch(trace=trace), **QUICK):
        await ask(idle)
        await ended(idle, 1, within=120)
        await quiet(idle)
    points = [one for one in read_trace(trace) if one.side == BEFORE and not one.label.startswith("http ")]
    assert len(points) > 20
    dice = random.Random(SEED)
    dice.shuffle(points)
    asked = 1
    late: dict[str, list[str]] = defaultdict(list)
    for point in points[: lengths.choose(suite=1, prove=len(points))]:
        asked += 1
        found = await _woken_once(idle, point, asked)
        if found:
            late[str(point)] += found
    record_property("moments", asked - 1)
    assert late == {}
    await kept(idle, runs=asked)


async def _woken_once(stage: Stage, point: Point, count: int) -> list[str]:
    """As `paused_and_woken`, on a stage where other requests have ended; nothing where this time it came elsewhere."""
    async with service(stage, name="paused", watch=Watch(stop=point), **QUICK) as first:
        await ask(stage)

        async def there() -> bool:
            done = sum(run.state.ended for run in await all_runs(stage)) == count
            return stopped(first) or (done and await _still_going(first))

        await until(there, within=120)
        async with service(stage, name="follower", **QUICK) as second:
            await ended(stage, count, within=150)
            await quiet(stage)
            await second.stop()
        before = len(stage.github.world.requests)
        first.resume()
        await asyncio.sleep(1.5)
        await quiet(stage)
        await first.stop()
    return wrote(stage.github.world.requests[before:])


async def _still_going(process: Process) -> bool:
    await asyncio.sleep(1)
    return not stopped(process)


@claim(
    GROUP,
    "A worker is stopped for good in the middle of a transaction that holds the account's log",
    "Others are held up for seconds, no request is lost, and what was begun is done by another",
)
@pytest.mark.long
async def test_a_worker_that_is_stopped_inside_a_transaction_holds_nobody_up_for_long(
    idle: Stage, record_property: Any
) -> None:
    loop = asyncio.get_running_loop()
    label = "commit app.actionlog.ledger:Ledger.record run.started"
    async with service(idle, name="paused", watch=Watch(stop=Point(label, 1, BEFORE)), **QUICK) as first:
        await ask(idle)

        async def held() -> bool:
            return stopped(first)

        await until(held, within=60)
        since = loop.time()
        async with service(idle, name="follower", **QUICK):
            await ended(idle, 1, within=150)
            record_property("seconds until it was done", round(loop.time() - since, 1))
            await quiet(idle)
        first.kill()
    (run,) = await all_runs(idle)
    assert run.state is RunState.OPENED
    await kept(idle, runs=1)


# --- of one installation's own ---------------------------------------------------------------------------------------


@claim(
    GROUP,
    "An installation has workers of its own. One of everybody's works from the beginning; the installation's own one is started, is "
    "killed in the middle of a run, and is followed by another",
    "Nothing of the installation's is begun but by its own: its requests wait for them, and each ends once",
)
@pytest.mark.long
async def test_an_installation_with_workers_of_its_own_is_worked_for_by_nobody_else(idle: Stage) -> None:
    own = {"MAGICODE_DEDICATED_TO": str(idle.installation)}
    stop = Watch(stop=Point("github POST /repos/{owner}/{repo}/git/commits", 1, BEFORE))
    assert await idle.house.store.dedicate(idle.installation)
    async with service(idle, name="everybodys", **QUICK) as everybodys:
        places = await issues(idle, 3)
        await ask_on(idle, places, ["fix this"] * 3)
        await asyncio.sleep(3)
        assert not await the_starts(idle), "nobody has begun"
        async with service(idle, name="own", environ=own, watch=stop, **QUICK) as first:
            async with asyncio.timeout(60):
                while not stopped(first):
                    await asyncio.sleep(0.05)
            begun = await the_starts(idle)
            first.kill()
        await asyncio.sleep(QUICK["stalled_after"] + 4)
        assert await the_starts(idle) == begun, "what was put back is nobody else's either"
        async with service(idle, name="its-follower", environ=own, **QUICK):
            await ended(idle, 3, within=200)
            await quiet(idle)
        assert everybodys.alive
        assert await idle.house.store.share(idle.installation)
        await ask_on(idle, await issues(idle, 1), ["fix this"])
        await ended(idle, 4, within=100)
        await quiet(idle)
    await kept(idle, runs=4)


async def the_starts(stage: Stage) -> list[str]:
    return [str(entry.run_id) for entry in await the_log(stage) if entry.action == "run.started"]
