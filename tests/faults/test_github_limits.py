"""GitHub's limits are kept by all processes together, and waited for where they are met all the same; tokens of any length, clocks
that differ, repositories that move."""

from __future__ import annotations

import asyncio
import functools
import logging
import secrets
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

import infra.github.app
import infra.simulator.auth
from app.jobs import retries
from app.jobs.tasks import lock_of
from app.nouns import GitHubShare, Run, RunState
from infra.simulator.auth import new_installation_token
from infra.simulator.state import Token
from tests.claims import case, claim
from tests.conftest import Database
from tests.faults.github_faults import soon
from tests.faults.processes import service
from tests.faults.promises import kept, quiet
from tests.lengths import Lengths
from tests.line.conftest import Stages
from tests.line.conversations import (
    BODY,
    TITLE,
    ask,
    asked_of_the_model,
    notes,
    one_pull_request,
    ours,
    repo_of,
)
from tests.line.seen import commits, until
from tests.line.stage import Stage

GROUP = "GitHub misbehaves"
Record = Callable[[str, object], None]


@pytest.fixture
async def idle(raise_stage: Stages, sample: Path) -> Stage:
    return await raise_stage({"octo/fairshare": sample}, notes(), working=False)


# --- limits ----------------------------------------------------------------------------------------------------------


def put_back(database: Database) -> list[float]:
    """In how many seconds each job that waits for a time is due."""
    with psycopg.connect(database.owner_url) as connection:
        rows = connection.execute(
            "SELECT extract(epoch FROM scheduled_at - now()) FROM magicode_jobs.procrastinate_jobs"
            " WHERE status = 'todo' AND scheduled_at > now() AND task_name = 'work'"
        ).fetchall()
    return [float(row[0]) for row in rows]


def _asked_for(stage: Stage) -> int:
    """Requests by tokens of the stage's installation."""
    return sum(one.installation_id == stage.installation for one in stage.github.world.requests)


async def hasten(stage: Stage) -> None:
    """As if the time had come."""
    (run,) = await stage.runs()
    lock = lock_of(run)
    assert lock is not None
    async with stage.house.store.transaction(stage.installation) as transaction:
        await transaction.hasten(lock)


@pytest.mark.parametrize(
    ("status", "header"),
    [
        case(
            GROUP,
            f"The hour's 5,000 requests are used up in the middle of a request ({status}), and come back in 50 minutes",
            "The request waits for those 50 minutes without counting a failed try, its worker serves others meanwhile, and then it "
            "opens its one pull request",
            status,
            None,
        )
        for status in (403, 429)
    ]
    + [
        case(
            GROUP,
            "A secondary limit names 20 minutes, in the middle of a request",
            "The request waits for so long without counting a failed try, its worker serves others meanwhile, and then it opens its "
            "one pull request",
            403,
            "retry-after",
        ),
        case(
            GROUP,
            "A secondary limit names no time, in the middle of a request",
            "The request waits for a minute, and longer each time; then it opens its one pull request",
            429,
            "none",
        ),
    ],
)
async def test_a_limit_is_waited_for_and_is_no_failure(
    idle: Stage, database: Database, tmp_path: Path, status: int, header: str | None
) -> None:
    small = tmp_path / "small"
    small.mkdir()
    (small / "README.md").write_text("# Small\n")
    other = await idle.github.add_account("other", {"notes": small}, people={"wim": "write"})
    await ask(idle)
    await idle.settled()
    seconds = 3000 if header is None else 1200
    how: dict[str, Any] = {"kind": "primary_limit", "seconds": seconds, "status": status}
    if header is not None:
        how = {
            "kind": "secondary_limit",
            "seconds": seconds,
            "status": status,
            "header": header,
            "holds": True,
        }
    await idle.fault(method="POST", route="/git/commits$", installation=idle.installation, **how)
    async with idle.at_work(1):
        due = await until(lambda: asyncio.to_thread(put_back, database))
        least = 50 if header == "none" else seconds - 90
        assert all(least < one <= seconds + 5 for one in due), due
        asked = _asked_for(idle)
        number = await idle.open_issue(TITLE, BODY, repository="other/notes")
        await idle.comment(number, "@magicode fix this", repository="other/notes")

        async def served() -> list[Run]:
            async with idle.house.store.transaction(other.id) as transaction:
                return [run for run in await transaction.runs() if run.state is RunState.OPENED]

        await until(served)
        (run,) = await idle.runs()
        assert (run.state, run.attempt) == (RunState.RUNNING, 1)
        assert _asked_for(idle) == asked, "nobody asks GitHub before its time"
        idle.github.world.clock_offset += timedelta(seconds=seconds + 1)
        await hasten(idle)
        (run,) = await idle.ended()
        await quiet(idle)
    assert (run.state, run.attempt) == (RunState.OPENED, 2)
    await kept(idle, runs=2, complete=False)


@claim(
    GROUP,
    "The hour's share of what the App may write (a little less than GitHub's 500) is used up when a request comes",
    "It is not begun: no model is paid. Its comment says until when it waits; after that it opens its one pull request",
)
async def test_a_spent_hour_is_waited_for_visibly(
    raise_stage: Stages, sample: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    share = functools.partial(GitHubShare, writes_per_hour=104)
    monkeypatch.setattr(infra.github.app, "GitHubShare", share)
    stage = await raise_stage(
        {"octo/fairshare": sample},
        notes(),
        working=False,
        environ={"MAGICODE_WRITE_INTERVAL_SECONDS": "0.01"},
    )
    spent = share(spacing=timedelta(0), writes_per_minute=1000)
    for _ in range(4):
        await stage.house.store.paces.turn(  # type: ignore[attr-defined]
            stage.installation, spent, points=1, writes=True, urgent=False, longest=timedelta(0)
        )
    number = await ask(stage)
    async with stage.at_work():
        due = await until(lambda: asyncio.to_thread(put_back, database))
        assert all(3400 < one <= 3600 for one in due), due
        (said,) = await until(lambda: ours(stage, number))
        assert "**Waiting.**" in said
        assert " UTC" in said
        assert not reacted(stage), "what is left is for saying what becomes of the run"
        assert await asked_of_the_model(stage) == []
        assert await stage.pulls() == []
        with psycopg.connect(database.owner_url, autocommit=True) as connection:
            connection.execute("UPDATE magicode_jobs.github_turns SET at = at - interval '61 minutes'")
        await hasten(stage)
        (run,) = await stage.ended()
        await quiet(stage)
    assert run.state is RunState.OPENED
    await kept(stage, runs=1, complete=False)


def reacted(stage: Stage) -> bool:
    return any(one.path.endswith("/reactions") for one in stage.github.world.requests)


@claim(
    GROUP,
    "A run waits for limits for more than six hours in all",
    "It fails and its comment says why; asking again opens the pull request",
)
async def test_no_limit_is_waited_for_for_ever(
    idle: Stage, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.line.WAITS_FOR", timedelta(0))
    number = await ask(idle)
    await idle.settled()
    await idle.fault(kind="secondary_limit", seconds=600, method="POST", route="/git/commits$")
    async with idle.at_work(retry_after=soon):
        (run,) = await idle.ended()
        assert (run.state, run.reason) == (RunState.FAILED, "rate_limited")
        (said,) = await ours(idle, number)
        assert "**Failed**" in said
        await idle.comment(number, "@magicode retry")
        _, again = await idle.ended(2)
        await quiet(idle)
    assert again.state is RunState.OPENED
    await kept(idle, runs=2)


@pytest.mark.long
@pytest.mark.timeout(1800)
@claim(
    GROUP,
    "Several processes work on requests of one installation at once, and GitHub counts with its real limits (80 writes of content a "
    "minute, 500 an hour, 900 points a minute, 100 requests at once)",
    "No limit is met, no minute sees more than 66 writes, and every request opens its pull request",
)
async def test_processes_keep_an_installations_pace_together(
    idle: Stage, lengths: Lengths, record_property: Record
) -> None:
    processes, requests = lengths.choose(suite=(2, 4), prove=(8, 40))
    numbers = [await idle.open_issue(f"{TITLE} ({n})", BODY) for n in range(requests)]
    for number in numbers:
        await idle.comment(number, "@magicode fix this")
    await idle.settled()
    idle.github.simulator.usage.met.clear()
    begun = len(idle.github.world.requests)
    paced = {"MAGICODE_WRITE_INTERVAL_SECONDS": "1", "MAGICODE_CONCURRENCY": "4"}
    async with AsyncExitStack() as stack:
        for n in range(processes):
            await stack.enter_async_context(service(idle, name=f"worker-{n}", environ=paced))
        runs = await idle.ended(requests, within=1500)
        await quiet(idle, seconds=3)
    asked = idle.github.world.requests[begun:]
    writes = sorted(
        one.at for one in asked if one.caller == "installation" and one.permissions and _writes(one)
    )
    most = max(sum(at <= one < at + timedelta(minutes=1) for one in writes) for at in writes)
    record_property("processes", processes)
    record_property("requests", requests)
    record_property("writes", len(writes))
    record_property("most writes in a minute", most)
    assert idle.github.simulator.usage.met == []
    assert most <= 66
    assert {run.state for run in runs} == {RunState.OPENED}
    await kept(idle, runs=requests)


def _writes(record: Any) -> bool:
    return any(permission.endswith(":write") for permission in record.permissions)


# --- GitHub away for long --------------------------------------------------------------------------------------------


@claim(
    GROUP,
    "GitHub answers nothing but 503 in the middle of a request, for longer than it is tried again",
    "As soon as GitHub is back the comment says that it failed and why, and asking again opens the pull request; it never stays at "
    "'working'",
)
async def test_an_outage_that_outlasts_all_tries_is_told_when_it_is_over(idle: Stage) -> None:
    number = await ask(idle)
    await idle.settled()
    begins = {"method": "POST", "route": "/git/blobs$", "installation": idle.installation}
    await idle.fault(kind="status", status=503, times=10_000, **begins)
    tried = 0

    def tries(error: BaseException, taken_before: int) -> timedelta | None:
        nonlocal tried
        tried += 1
        if tried == 1:  # from here on all else is away too
            idle.github.simulator.faults.add(
                {"kind": "status", "status": 503, "times": 10_000, "installation": idle.installation}
            )
        return soon(error, taken_before)

    async with idle.at_work(retry_after=tries):

        async def given_up() -> bool:
            return tried >= retries.TAKES

        await until(given_up)
        await asyncio.sleep(0.5)
        (run,) = await idle.runs()
        assert run.state is RunState.RUNNING, "nobody could be told yet"
        idle.github.simulator.faults.waiting.clear()
        (run,) = await idle.ended()
        assert (run.state, run.reason) == (RunState.FAILED, "github_unavailable")
        (said,) = await ours(idle, number)
        assert "**Failed**" in said
        await idle.comment(number, "@magicode retry")
        _, again = await idle.ended(2)
        await quiet(idle)
    assert again.state is RunState.OPENED
    await kept(idle, runs=2)


# --- tokens, clocks, names -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "short",
    [
        case(GROUP, f"Tokens of {length} characters", f"{outcome}; no token stands in a log or a row", short)
        for length, outcome, short in (
            (40, "A request opens its pull request", True),
            (520, "A request opens its pull request", False),
        )
    ],
)
async def test_tokens_of_any_length(
    idle: Stage,
    database: Database,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    short: bool,
) -> None:
    def forty(*given: Any) -> Token:
        token = new_installation_token(*given)
        del idle.github.world.tokens[token.value]
        token.value = "ghs_" + secrets.token_hex(18)
        return idle.github.world.tokens.setdefault(token.value, token)

    if short:
        monkeypatch.setattr(infra.simulator.auth, "new_installation_token", forty)
    number = await ask(idle)
    await idle.settled()
    await idle.fault(kind="revoked", method="POST", route="/git/commits$")
    seen: set[str] = set()
    with caplog.at_level(logging.DEBUG):
        async with idle.at_work(retry_after=soon):
            while not all(run.state.ended for run in await idle.runs()):
                seen |= set(idle.github.world.tokens)
                await asyncio.sleep(0.01)
            await quiet(idle)
        infra_log = caplog.text
    installations = {one for one in seen if one.startswith("ghs_")}
    assert {len(one) == 40 for one in installations} == {short}
    assert short or all(len(one) > 400 for one in installations)
    stored = await asyncio.to_thread(everything, database)
    for token in installations:
        assert token not in infra_log
        assert token[4:30] not in stored
    await one_pull_request(idle, head=f"magicode/issue-{number}")
    await kept(idle, runs=1, complete=False)


def everything(database: Database) -> str:
    """Each row of each table of ours, as text."""
    with psycopg.connect(database.owner_url) as connection:
        tables = connection.execute(
            "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname LIKE 'magicode%'"
        ).fetchall()
        return "\n".join(
            str(row)
            for (table,) in tables
            for row in connection.execute(f"SELECT t::text FROM {table} AS t").fetchall()  # type: ignore[arg-type]
        )


@pytest.mark.parametrize(
    "minutes",
    [
        case(
            GROUP,
            f"GitHub's clock is {abs(minutes)} minutes {'ahead of' if minutes > 0 else 'behind'} ours",
            "The App's own token is made by GitHub's clock, and a request opens its pull request",
            minutes,
        )
        for minutes in (2, -2, 30, -30)
    ],
)
async def test_clocks_that_differ(idle: Stage, minutes: int) -> None:
    idle.github.world.clock_offset += timedelta(minutes=minutes)
    number = await ask(idle)
    async with idle.at_work(retry_after=soon):
        (run,) = await idle.ended()
        await quiet(idle)
    assert (run.state, run.attempt) == (RunState.OPENED, 1)
    await one_pull_request(idle, head=f"magicode/issue-{number}")
    await kept(idle, runs=1, complete=False)


@pytest.mark.parametrize(
    ("method", "route"),
    [
        case(
            GROUP,
            f"The repository is renamed while {words}",
            "The request goes on under the new name: one pull request, each effect once",
            method,
            route,
        )
        for words, method, route in (
            ("its code is fetched", "GET", "/tarball/"),
            ("a blob is written", "POST", "/git/blobs$"),
            ("the commit is written", "POST", "/git/commits$"),
            ("the branch is made", "POST", "/git/refs$"),
            ("the pull request is opened", "POST", "/pulls$"),
        )
    ],
)
async def test_a_repository_that_is_renamed_meanwhile(idle: Stage, method: str, route: str) -> None:
    number = await ask(idle)
    await idle.settled()
    await idle.fault(kind="delay", method=method, route=route, seconds=1.5)

    async def held_up() -> bool:
        return any(one.fault == "delay" for one in idle.github.world.requests)

    async with idle.at_work(retry_after=soon):
        await until(held_up)
        repo = repo_of(idle)
        repo.former_names.add(repo.full_name.lower())
        repo.name = "fairer-share"
        idle.repository = repo.full_name
        (run,) = await idle.ended()
        await quiet(idle)
    assert run.state is RunState.OPENED
    pull = await one_pull_request(idle, head=f"magicode/issue-{number}")
    assert await commits(idle, pull["number"]) == ["Write the note"]
    await kept(idle, runs=1)
