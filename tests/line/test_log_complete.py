"""The action log is complete: what the simulated GitHub and the simulated provider recorded, held against it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from app.actionlog.entry import timestamp
from app.nouns import RunState
from tests.line import accounts
from tests.line.conftest import Stages
from tests.line.conversations import (
    QUICK,
    ask,
    asked_of_the_model,
    create,
    finish,
    notes,
    playbook,
    scenario,
)
from tests.line.seen import act, until
from tests.line.stage import Stage
from tests.line.test_once import a_worker_process
from tests.line.test_whole_conversation import ci, script

SOON: dict[str, Any] = {"retry_after": lambda error, taken: QUICK if taken < 5 else None}


@asynccontextmanager
async def accounted(stage: Stage, **how: Any) -> AsyncIterator[None]:
    """A worker for the length of the block; afterwards each request that reached GitHub and the model stands in the log."""
    async with stage.at_work(**{**SOON, **how}):
        yield
        await quiet(stage)
    await close_own(stage)
    await complete(stage)


async def close_own(stage: Stage) -> None:
    """As at the service's end: what the App asked for itself is written down."""
    await stage.house.github.own.close()  # type: ignore[attr-defined]


async def quiet(stage: Stage, seconds: float = 0.7) -> None:
    """Once GitHub was asked nothing for a while."""
    seen = -1
    while seen != len(stage.github.world.requests):
        seen = len(stage.github.world.requests)
        await asyncio.sleep(seconds)
        await stage.settled()


async def complete(stage: Stage) -> None:
    entries, told = await accounts.said(stage)
    seen = accounts.recorded(stage)
    assert accounts.missing(seen, told) == {}, "every request that reached GitHub stands in the log"
    more = accounts.unseen(seen, told)
    assert sum(more.values()) == accounts.faulted(stage), f"and nothing else does: {more}"
    asked, tried = await accounts.attempts(stage, entries)
    assert asked == tried, "and so does every request to the provider"
    assert accounts.ends_of_attempts(entries) == tried, "with what came of it"


@pytest.fixture
async def idle(raise_stage: Stages, sample: Path) -> Stage:
    return await raise_stage({"octo/fairshare": sample}, notes(), working=False)


async def test_the_log_of_a_request_misses_nothing_and_a_dropped_entry_would_be_missed(idle: Stage) -> None:
    async with accounted(idle):
        await ask(idle)
        (run,) = await idle.ended()
    assert run.state is RunState.OPENED
    entries, told = await accounts.said(idle)
    seen = accounts.recorded(idle)
    dropped = 0
    for entry in entries:
        if entry.action in ("github.read", "github.write"):
            rest = told - accounts.written([entry], idle.installation)
            assert accounts.missing(seen, rest), "the comparison sees that this entry is gone"
            dropped += 1
    assert dropped > 10
    mints = seen[idle.installation, accounts.MINT]
    assert mints == accounts.tokens(entries, "token.minted") == seen[idle.installation, accounts.REVOKE]
    assert mints == accounts.tokens(entries, "token.revoked")


async def test_a_write_stands_in_the_log_before_it_is_sent(idle: Stage) -> None:
    """What reads said before it stands before it too."""
    async with accounted(idle):
        await ask(idle)
        await idle.ended()
    entries = await idle.log()
    actions = [(one.action, str((one.details or {}).get("request", ""))) for one in entries]
    at = actions.index(("github.write", "POST /repos/{owner}/{repo}/git/refs"))
    assert entries[at].seq < next(one.seq for one in entries if one.action == "ref.created")
    done = [
        one.at for one in idle.github.world.requests if (one.method, one.path[-9:]) == ("POST", "/git/refs")
    ]
    assert entries[at].at < timestamp(done[0])


async def test_faults_and_retries_are_counted_each(idle: Stage) -> None:
    await ask(idle)
    await idle.settled()
    await idle.fault(kind="status", method="GET", route="/git/", status=502, times=2)
    await idle.fault(kind="drop_before", method="GET", route="/installation/repositories", times=2)
    await idle.fault(kind="drop_after", method="POST", route="/git/trees$", times=1)
    await idle.fault(kind="status", method="POST", route="/access_tokens$", status=502, times=1, skip=2)
    async with accounted(idle):
        (run,) = await idle.ended()
    assert run.state is RunState.OPENED
    assert accounts.faulted(idle) >= 5


async def test_a_refused_request_and_a_cancelled_one(raise_stage: Stages, sample: Path) -> None:
    slow = {**create("NOTES.md", "x\n"), "slow": {"seconds": 20, "after_chunks": 1}}
    stage = await raise_stage({"octo/fairshare": sample}, playbook(scenario(slow, finish())), working=False)
    async with accounted(stage):
        await ask(stage, user="rita", by="rita")
        await stage.ended(1)
        number = await ask(stage)

        async def asking() -> bool:
            return bool(await asked_of_the_model(stage))

        await until(asking)
        await stage.comment(number, "@magicode cancel")
        runs = await stage.ended(3)
    assert [run.state for run in runs] == [RunState.REFUSED, RunState.CANCELLED, RunState.ANSWERED]
    failed = [one.details for one in await stage.log() if one.action == "model.failed"]
    assert [(one["reason"], one["attempts"]) for one in failed if one] == [("cancelled", 1)]


async def test_a_service_that_is_stopped_in_the_middle_writes_down_what_it_did(
    raise_stage: Stages, sample: Path
) -> None:
    slow = {**create("NOTES.md", "x\n"), "slow": {"seconds": 20, "after_chunks": 1}}
    book = playbook(scenario(slow, finish()))
    stage = await raise_stage({"octo/fairshare": sample}, book, afterwards=accounts.missing_nothing)
    await ask(stage)

    async def asking() -> bool:
        return bool(await asked_of_the_model(stage))

    await until(asking)


@pytest.mark.parametrize(
    "trouble",
    [
        {"overload": {"times": 2, "retry_after_seconds": 0}},
        {"disconnect": {"times": 1}},
        {"broken": {"times": 1, "kind": "failing"}},
    ],
)
async def test_attempts_at_the_model_that_bring_no_answer(
    raise_stage: Stages, sample: Path, trouble: dict[str, Any]
) -> None:
    turn = {**create("NOTES.md", "x\n"), **trouble}
    stage = await raise_stage({"octo/fairshare": sample}, playbook(scenario(turn, finish())), working=False)
    async with accounted(stage):
        await ask(stage)
        (run,) = await stage.ended()
    assert run.state is RunState.OPENED
    (failed,) = [one.details or {} for one in await stage.log() if one.action == "model.failed"]
    (times,) = [one["times"] for one in trouble.values()]
    assert (failed["reason"], failed["attempts"]) == ("answered_later", times)


@pytest.mark.long
async def test_a_whole_conversation_from_a_plan_to_the_merge(raise_stage: Stages, sample: Path) -> None:
    """Plan, go, a review's revision, failing checks mended, undone, merged, and the index that follows the merge."""
    stage = await raise_stage({"octo/fairshare": sample}, script(), working=False)
    stage.github.on_push(ci)
    async with accounted(stage):
        issue = await ask(stage, "@magicode plan")
        await stage.ended(1)
        await stage.comment(issue, "@magicode go")
        await stage.ended(2, within=90)
        (pull,) = await stage.pulls()
        number = int(pull["number"])
        await act(
            stage,
            "POST",
            f"/pulls/{number}/reviews",
            event="REQUEST_CHANGES",
            body="One thing.",
            commit_id=pull["head"]["sha"],
            comments=[
                {"path": "NOTES.md", "line": 1, "side": "RIGHT", "body": "@magicode please add a second line"}
            ],
        )
        # The revision, and the run that mends what it broke.
        await stage.ended(4, within=90)
        await stage.comment(number, "@magicode undo")
        runs = await stage.ended(5, within=90)
        # What was undone may fail as it did before; that is looked into behind these.
        five = ["plan", "go", "revise", "mend", "undo"]
        assert [run.verb for run in runs] in (five, [*five, "mend"])
        await quiet(stage, 1.5)
        merged = await stage.client("ada").put(f"/repos/{stage.repository}/pulls/{number}/merge", json={})
        if not merged.is_success:
            await act(stage, "PATCH", f"/pulls/{number}", state="closed")

        async def followed() -> bool:
            return any(one.action == "index.updated" and one.run_id is None for one in await stage.log())

        if merged.is_success:
            await until(followed)
    assert stage.github.world.log_requests, "a job's log was read from the other host"


@pytest.mark.long
async def test_a_write_of_a_worker_that_was_killed_stands_in_the_log(idle: Stage, tmp_path: Path) -> None:
    await ask(idle)
    await idle.settled()
    world = idle.github.world

    def refs() -> int:
        return sum((one.method, one.path[-9:]) == ("POST", "/git/refs") for one in world.requests)

    await idle.fault(kind="drop_after", method="POST", route="/git/refs$")
    async with a_worker_process(idle, tmp_path / "other") as process:

        async def met() -> bool:
            return refs() > 0

        await until(met)
        process.kill()
    writes = accounts.written(
        [one for one in await idle.log() if one.action == "github.write"], idle.installation
    )
    sent = Counter(
        {
            what: count
            for what, count in accounts.recorded(idle).items()
            if what[0] == idle.installation
            and what[1].split(" ")[0] != "GET"
            and what[1] not in (accounts.MINT, accounts.REVOKE, "POST /graphql")
        }
    )
    assert sent[idle.installation, "POST /repos/{owner}/{repo}/git/refs"] == 1
    assert accounts.missing(sent, writes) == {}
