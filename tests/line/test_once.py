"""One request, one pull request: whatever is delivered twice, fails halfway, or dies."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from app import beside
from app.errors import LimitedError
from app.jobs import states
from app.jobs.retries import retry_after
from app.nouns import MEND, Run, RunState
from app.scene import Scene
from infra.postgres.queue import WorkerLimits
from infra.simulator import deliveries
from tests.line.conftest import Stages
from tests.line.conversations import (
    ASK,
    QUICK,
    ask,
    asked_of_the_model,
    branches,
    create,
    ended_well_told,
    finish,
    notes,
    one_pull_request,
    ours,
    playbook,
    repo_of,
    scenario,
)
from tests.line.stage import Stage

SOON: dict[str, Any] = {"retry_after": lambda error, taken: QUICK if taken < 5 else None}
"""As the service retries, without its waits."""


@pytest.fixture
async def idle(raise_stage: Stages, sample: Path) -> Stage:
    """Accepts, and works when a test says so."""
    return await raise_stage({"octo/fairshare": sample}, notes(), working=False)


async def delivered(stage: Stage, event: str = "issue_comment") -> Any:
    await stage.settled()
    return next(one for one in stage.github.world.deliveries if one.event == event)


async def post(stage: Stage, sent: Any, guid: str) -> int:
    headers = deliveries.headers(stage.github.world, sent) | {"X-GitHub-Delivery": guid}
    async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
        answer = await client.post(f"{stage.url}/webhooks/github", content=sent.body, headers=headers)
    return answer.status_code


async def test_redeliveries_and_copies_with_forged_ids_are_one_request(idle: Stage) -> None:
    number = await ask(idle)
    sent = await delivered(idle)
    deliveries.again(idle.github.world, sent)
    forged = await asyncio.gather(*(post(idle, sent, str(uuid.uuid4())) for _ in range(20)))
    same = await asyncio.gather(*(post(idle, sent, sent.guid) for _ in range(20)))
    assert set(forged) | set(same) == {202}
    await idle.settled()
    async with idle.at_work():
        (run,) = await idle.ended()
        deliveries.again(idle.github.world, sent)
        assert await post(idle, sent, str(uuid.uuid4())) == 202
        await idle.settled()
        await asyncio.sleep(1)
    assert run.state is RunState.OPENED
    assert len(await idle.runs()) == 1
    await one_pull_request(idle, head=f"magicode/issue-{number}")
    await ended_well_told(idle, run)
    assert len(await ours(idle, number)) == 1
    accepted = [entry for entry in await idle.log() if entry.action == "webhook.accepted" and entry.run_id]
    assert len(accepted) == 1, "a copy that changed nothing is no entry"


async def test_copies_that_arrive_at_once_are_one_request(raise_stage: Stages, sample: Path) -> None:
    stage = await raise_stage({"octo/fairshare": sample}, notes())
    stage.github.world.app_url = None
    number = await ask(stage)
    sent = await delivered(stage)
    answers = await asyncio.gather(*(post(stage, sent, str(uuid.uuid4())) for _ in range(20)))
    assert set(answers) == {202}
    (run,) = await stage.ended()
    assert run.state is RunState.OPENED
    assert len(await stage.pulls()) == 1
    assert len(await ours(stage, number)) == 1


async def test_a_request_behind_one_that_has_its_last_words_to_say_waits_for_hours_and_does_not_fail(
    raise_stage: Stages, sample: Path
) -> None:
    stage = await raise_stage({"octo/fairshare": sample}, notes(), working=False)
    number = await ask(stage)
    await stage.settled()
    (opener,) = await stage.runs()
    store, began = stage.house.store, stage.house.clock()
    behind = replace(
        opener, id=uuid.uuid4(), meaning="behind", number=number + 1, is_pull_request=True, blocked_by=opener.id, created_at=began
    )  # fmt: skip
    async with store.transaction(stage.installation) as transaction:
        await transaction.update_run(opener.id, state=RunState.RUNNING, pull_request=number + 1)
        await transaction.add_run(behind)
    now, looks = began, 0
    while now - began < timedelta(hours=6):
        with pytest.raises(LimitedError) as caught:
            await beside.turn_away(replace(stage.house, clock=lambda at=now: at), behind)
        pause = retry_after(caught.value, looks)
        assert pause is not None, f"given up after {now - began}"
        now, looks = now + pause, looks + 1
    assert retry_after(LimitedError(retry_after=timedelta(seconds=4)), 0) == timedelta(seconds=4)


async def queued(stage: Stage, like: Run, name: str, **changed: Any) -> Run:
    """A request like another one, written down behind whatever is at work there."""
    run = replace(like, id=uuid.uuid4(), meaning=name, occasion=name, state=RunState.QUEUED, **changed)
    async with stage.house.store.transaction(stage.installation) as transaction:
        return await transaction.add_run(run)


async def test_who_waits_for_mending_stops_nothing_that_came_in_between(
    idle: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ask(idle)
    await idle.settled()
    (asked,) = await idle.runs()
    store = idle.house.store
    async with store.transaction(idle.installation) as transaction:
        await transaction.update_run(asked.id, state=RunState.ANSWERED)
    mending = await queued(idle, asked, "head", verb=MEND)
    quicker, slower = await queued(idle, asked, "quicker"), await queued(idle, asked, "slower")
    assert (quicker.blocked_by, slower.blocked_by) == (mending.id, mending.id)

    async def meanwhile(scene: Scene) -> None:
        async with store.transaction(idle.installation) as transaction:
            await transaction.update_run(mending.id, state=RunState.CANCELLED)
        assert await states.unblock(store, quicker)

    monkeypatch.setattr(beside, "require_permission", meanwhile)
    with pytest.raises(LimitedError):
        await beside.turn_away(idle.house, slower)
    async with store.transaction(idle.installation) as transaction:
        at_work = await transaction.active_run(asked.repository_id, asked.about)
    assert at_work is not None
    assert (at_work.id, at_work.cancel_requested) == (quicker.id, False)


async def test_a_second_request_is_told_when_the_first_has_ended_since(idle: Stage) -> None:
    number = await ask(idle)
    await idle.settled()
    await idle.comment(number, "@magicode fix it differently", user="ada")
    await idle.settled()
    first = next(run for run in await idle.runs() if run.blocked_by is None)
    async with idle.house.store.transaction(idle.installation) as transaction:
        await transaction.update_run(first.id, state=RunState.ANSWERED)
    async with idle.at_work():
        _, second = await idle.ended(2)
    assert (second.state, second.reason) == (RunState.REFUSED, "busy")
    said = await ended_well_told(idle, second)
    assert "Another request was at work here" in said
    assert "**Next:** ask again." in said
    assert "is at work" not in said


async def test_a_second_request_while_one_is_at_work_gets_one_answer_with_a_link(
    raise_stage: Stages, sample: Path
) -> None:
    slow = playbook(
        scenario(create("NOTES.md", "A note.\n") | {"slow": {"seconds": 8}}, finish()),
    )
    stage = await raise_stage({"octo/fairshare": sample}, slow)
    number = await ask(stage)
    while not await asked_of_the_model_has_begun(stage):
        await asyncio.sleep(0.05)
    await stage.comment(number, "@magicode fix it differently", user="ada")
    first, second = await stage.ended(2)
    assert (first.state, second.state, second.reason) == (RunState.OPENED, RunState.REFUSED, "busy")
    assert second.blocked_by == first.id
    said = await ended_well_told(stage, second)
    status = next(
        one
        for one in await stage.comments(number)
        if one["body"].startswith(f"<!-- magicode:run:{first.id} ")
    )
    assert status["html_url"] in said
    assert len(await ours(stage, number)) == 2
    assert len(await stage.pulls()) == 1


async def asked_of_the_model_has_begun(stage: Stage) -> bool:
    return any(entry.action == "index.searched" for entry in await stage.log()) and bool(
        await asked_of_the_model(stage)
    )


# --- failures at each write ------------------------------------------------------------------------------------------

WRITES = [
    ("POST", "/issues/1/comments$"),
    ("POST", "/git/blobs$"),
    ("POST", "/git/trees$"),
    ("POST", "/git/commits$"),
    ("POST", "/git/refs$"),
    ("POST", "/pulls$"),
    ("POST", "/graphql$"),
    ("PATCH", "/issues/comments/"),
]


READS = {"/graphql$": 1, "/graphql": 1}
"""GraphQL is read, too: that many requests come before the first that writes."""


@pytest.mark.parametrize(("method", "route"), WRITES)
@pytest.mark.parametrize("kind", ["drop_after", "status"])
async def test_a_write_that_fails_or_whose_answer_is_lost_ends_in_one_pull_request(
    idle: Stage, method: str, route: str, kind: str
) -> None:
    number = await ask(idle)
    await idle.settled()
    await idle.fault(kind=kind, method=method, route=route, status=502, skip=READS.get(route, 0))
    async with idle.at_work(**SOON):
        (run,) = await idle.ended()
    assert any(one.fault for one in idle.github.world.requests), "the fault was met"
    assert (run.state, run.attempt) == (RunState.OPENED, 2)
    pull = await one_pull_request(idle, head=f"magicode/issue-{number}")
    assert (pull["draft"], pull["number"]) == (False, run.pull_request)
    assert await branches(idle) == [f"magicode/issue-{number}"]
    assert await commits_on(idle, pull["number"]) == ["Write the note"]
    await ended_well_told(idle, run)
    assert len(await ours(idle, number)) == 1


async def commits_on(stage: Stage, number: int) -> list[str]:
    answer = await stage.client().get(f"/repos/{stage.repository}/pulls/{number}/commits")
    return [one["commit"]["message"].split("\n", 1)[0] for one in answer.json()]


# --- workers that die ------------------------------------------------------------------------------------------------


@asynccontextmanager
async def a_worker_process(stage: Stage, folder: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """`magicode worker` as it is started anywhere else, killed for good at the end."""
    data = stage.folder / "data"
    await asyncio.to_thread(folder.mkdir)
    await asyncio.to_thread(shutil.copy, data / "master.key", folder / "master.key")
    given = dict(stage.environ) | {"MAGICODE_DATA_DIR": str(folder), "MAGICODE_WORKER": "true"}
    kept = {
        name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "PYTHONPATH")
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "app.cli", "worker", env=kept | given, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def until(true: Callable[[], Awaitable[bool]], within: float = 60) -> None:
    async with asyncio.timeout(within):
        while not await true():
            await asyncio.sleep(0.02)


@pytest.mark.long
@pytest.mark.parametrize(
    ("method", "route"),
    [("POST", "/git/commits"), ("POST", "/git/refs"), ("POST", "/pulls"), ("POST", "/graphql")],
)
async def test_a_worker_killed_in_the_middle_of_a_write_is_followed_by_another(
    idle: Stage, tmp_path: Path, method: str, route: str
) -> None:
    number = await ask(idle)
    await idle.settled()
    world = idle.github.world

    async def met() -> bool:
        seen = [one for one in world.requests if (one.method, one.path[-len(route) :]) == (method, route)]
        return len(seen) > READS.get(route, 0)

    # The effect takes place and its answer is lost, so that the process dies knowing nothing of it.
    await idle.fault(kind="drop_after", method=method, route=f"{route}$", skip=READS.get(route, 0))
    async with a_worker_process(idle, tmp_path / "other") as process:
        await until(met)
        process.kill()
    before = len(await asked_of_the_model(idle))
    committed = await branches(idle)
    takes_over = WorkerLimits(heartbeat=timedelta(seconds=0.2), stalled_after=timedelta(seconds=1))
    async with idle.at_work(limits=takes_over, **SOON):
        (run,) = await idle.ended()
    assert run.state is RunState.OPENED
    assert run.attempt >= 2
    if committed:
        assert len(await asked_of_the_model(idle)) == before, "the commit is there: no model is asked again"
    pull = await one_pull_request(idle, head=f"magicode/issue-{number}")
    assert not pull["draft"]
    assert "The note was missing." in pull["body"]
    assert await commits_on(idle, pull["number"]) == ["Write the note"]
    await ended_well_told(idle, run)
    assert len(await ours(idle, number)) == 1


async def test_what_is_on_our_branch_already_is_told_as_it_is_and_no_model_is_asked(idle: Stage) -> None:
    number = await ask(idle)
    await idle.settled()
    await idle.fault(kind="status", method="POST", route="/pulls$", times=2)
    async with idle.at_work(**SOON):
        (run,) = await idle.ended()
    assert (run.state, run.attempt) == (RunState.OPENED, 3)
    assert len(await asked_of_the_model(idle)) == 3, "two turns and a second look, once"
    pull = await one_pull_request(idle, head=f"magicode/issue-{number}")
    assert pull["title"] == "Write the note"
    assert "The note was missing." in pull["body"]
    assert "`NOTES.md` (created)" in pull["body"]
    assert "1 line(s) added, 0 removed" in pull["body"]
    assert "## What and why" in pull["body"], "the repository's own template is used here too"
    assert f"Fixes #{number}" in pull["body"]


async def test_an_issue_edited_after_the_commit_was_made_does_not_undo_it(idle: Stage) -> None:
    number = await ask(idle)
    await idle.settled()
    await idle.fault(kind="status", method="POST", route="/pulls$", times=1)

    async def committed() -> bool:
        return bool(await branches(idle))

    async with idle.at_work(retry_after=lambda error, taken: timedelta(seconds=2) if taken < 4 else None):
        await until(committed)
        await idle.client().patch(
            f"/repos/{idle.repository}/issues/{number}", json={"body": "Something else."}
        )
        (run,) = await idle.ended()
    assert run.state is RunState.OPENED
    await one_pull_request(idle, head=f"magicode/issue-{number}")


async def test_a_pull_request_merged_before_the_worker_could_say_so_is_not_opened_again(idle: Stage) -> None:
    number = await ask(idle)
    await idle.settled()
    await idle.fault(kind="status", method="POST", route="/graphql$", times=1, skip=READS["/graphql$"])

    async def opened() -> bool:
        return bool(await idle.pulls())

    async with idle.at_work(retry_after=lambda error, taken: timedelta(seconds=2) if taken < 4 else None):
        await until(opened)
        (pull,) = await idle.pulls()
        repo_of(idle).issues[pull["number"]].pull.draft = False  # type: ignore[union-attr]
        merged = await idle.client("ada").put(
            f"/repos/{idle.repository}/pulls/{pull['number']}/merge", json={}
        )
        assert merged.is_success, merged.text
        (run,) = await idle.ended()
    assert (run.state, run.pull_request) == (RunState.OPENED, pull["number"])
    assert len(await idle.pulls()) == 1
    assert await branches(idle) == [f"magicode/issue-{number}"]


async def test_a_worker_that_comes_back_from_the_dead_writes_nothing_more(idle: Stage) -> None:
    """Two workers hold one run: the later attempt counts, and the earlier one is fenced off."""
    number = await ask(idle)
    await idle.settled()
    await idle.fault(kind="delay", method="POST", route="/git/blobs$", seconds=3)
    async with idle.at_work(**SOON):
        await until(lambda: _asked(idle, "/git/blobs"))
        (run,) = await idle.runs()
        async with idle.house.store.transaction(idle.installation) as transaction:
            await transaction.update_run(run.id, attempt=run.attempt + 1)
        await asyncio.sleep(4)
    (run,) = await idle.runs()
    assert run.state is RunState.RUNNING, "whoever holds the run now has not ended it"
    assert await idle.pulls() == []
    assert await branches(idle) == []
    assert await ended_entries(idle) == 0
    assert len(await ours(idle, number)) == 1


async def _asked(stage: Stage, path: str) -> bool:
    return any(one.path.endswith(path) for one in stage.github.world.requests)


async def ended_entries(stage: Stage) -> int:
    return sum(entry.action == "run.ended" for entry in await stage.log())


async def test_a_run_that_failed_for_our_reasons_is_started_again_by_a_redelivery(idle: Stage) -> None:
    number = await ask(idle, ASK)
    sent = await delivered(idle)
    await idle.fault(kind="status", method="POST", route="/git/blobs$", times=6)
    async with idle.at_work(retry_after=lambda error, taken: QUICK if taken < 1 else None):
        (run,) = await idle.ended()
        assert (run.state, run.reason) == (RunState.FAILED, "github_unavailable")
        await ended_well_told(idle, run)
        await clear_faults(idle)
        deliveries.again(idle.github.world, sent)
        await idle.settled()
        await until(lambda: _is_open(idle))
        (run,) = await idle.ended()
    assert run.state is RunState.OPENED
    await one_pull_request(idle, head=f"magicode/issue-{number}")
    assert len(await ours(idle, number)) == 1


async def _is_open(stage: Stage) -> bool:
    return (await stage.runs())[0].state is RunState.OPENED


async def clear_faults(stage: Stage) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        (await client.delete(f"{stage.github.base_url}/_simulator/faults")).raise_for_status()
