"""Asking again, elsewhere, and to stop: what a conversation leads to on GitHub."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from app.nouns import RunState
from tests.line.conftest import Stages
from tests.line.conversations import (
    ASK,
    BODY,
    TITLE,
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
    prompts,
    reasons,
    repo_of,
    scenario,
)
from tests.line.seen import get, until
from tests.line.stage import Stage


@pytest.fixture
async def stage(raise_stage: Stages, sample: Path) -> Stage:
    return await raise_stage({"octo/fairshare": sample}, notes())


async def by_hand(stage: Stage, method: str, route: str, /, *, user: str = "wim", **body: Any) -> Any:
    answer = await stage.client(user).request(method, f"/repos/{stage.repository}{route}", json=body or None)
    assert answer.is_success, answer.text
    return answer.json() if answer.content else None


async def subjects(stage: Stage, number: int) -> list[str]:
    commits = await by_hand(stage, "GET", f"/pulls/{number}/commits")
    return [one["commit"]["message"].split("\n", 1)[0] for one in commits]


async def push(stage: Stage, branch: str, user: str = "wim") -> str:
    """A person's commit on a branch; its sha."""
    made = await by_hand(
        stage, "PUT", "/contents/BY_HAND.md", user=user, message="By hand", content="eA==", branch=branch
    )
    return str(made["commit"]["sha"])


# --- while the pull request is open ----------------------------------------------------------------------------------


async def test_asking_again_adds_a_commit_to_the_same_pull_request(stage: Stage) -> None:
    number = await ask(stage)
    (first,) = await stage.ended()
    before = await one_pull_request(stage, head=f"magicode/issue-{number}")
    await stage.comment(number, "@magicode fix it once more")
    _, second = await stage.ended(2)
    assert (second.state, second.pull_request) == (RunState.UPDATED, first.pull_request)
    pull = await one_pull_request(stage, head=f"magicode/issue-{number}")
    assert await subjects(stage, pull["number"]) == ["Write the note", "Write another note"]
    assert pull["head"]["sha"] == second.head_sha != before["head"]["sha"]
    assert "One note was not enough." in pull["body"]
    assert f"Fixes #{number}" in pull["body"]
    assert not pull["draft"]
    for run in (first, second):
        await ended_well_told(stage, run)
    assert len(await ours(stage, number)) == 2


async def test_plain_words_on_our_pull_request_revise_it(stage: Stage) -> None:
    number = await ask(stage)
    await stage.ended()
    await stage.comment(number + 1, "@magicode write it once more, please")
    runs = await stage.ended(2)
    assert (runs[1].verb, runs[1].state, runs[1].pull_request) == ("revise", RunState.UPDATED, number + 1)
    pull = await one_pull_request(stage, head=f"magicode/issue-{number}")
    assert await subjects(stage, pull["number"]) == ["Write the note", "Write another note"]
    await ended_well_told(stage, runs[1])
    assert len(await ours(stage, number + 1)) == 1
    assert "Fixes" not in (await message_of(stage, pull["head"]["sha"]))


async def message_of(stage: Stage, sha: str) -> str:
    return str((await by_hand(stage, "GET", f"/git/commits/{sha}"))["message"])


async def test_a_review_and_a_comment_on_a_line_revise_our_pull_request(stage: Stage) -> None:
    number = await ask(stage)
    await stage.ended()
    await by_hand(
        stage,
        "POST",
        f"/pulls/{number + 1}/reviews",
        event="REQUEST_CHANGES",
        body="@magicode revise: once more",
    )
    runs = await stage.ended(2)
    assert reasons(runs)[1] == ("revise", "updated", "updated")
    pull = await one_pull_request(stage, head=f"magicode/issue-{number}")
    await by_hand(
        stage,
        "POST",
        f"/pulls/{pull['number']}/comments",
        body="@magicode why is this here? Say nothing once more.",
        path="NOTES.md",
        line=1,
        side="RIGHT",
        commit_id=pull["head"]["sha"],
    )
    runs = await stage.ended(3)
    assert runs[2].occasion.startswith("review-comment:")
    assert runs[2].verb == "revise"
    await ended_well_told(stage, runs[1])
    await ended_well_told(stage, runs[2])
    assert '(Written on the file named "NOTES.md", line 1.)\nwhy is this here?' in await prompts(stage)


async def test_somebody_elses_pull_request_is_refused_clearly(stage: Stage) -> None:
    base = (await by_hand(stage, "GET", "/git/ref/heads/main"))["object"]["sha"]
    await by_hand(stage, "POST", "/git/refs", ref="refs/heads/theirs", sha=base)
    await push(stage, "theirs")
    theirs = await by_hand(stage, "POST", "/pulls", title="Mine", head="theirs", base="main")
    await stage.comment(theirs["number"], "@magicode revise this")
    (run,) = await stage.ended()
    assert (run.state, run.reason) == (RunState.REFUSED, "not_our_pull_request")
    assert "not opened by me" in await ended_well_told(stage, run)
    assert len(await subjects(stage, theirs["number"])) == 1
    assert await asked_of_the_model(stage) == []


async def test_hands_off_a_branch_that_a_person_committed_to(stage: Stage) -> None:
    number = await ask(stage)
    await stage.ended()
    asked = len(await asked_of_the_model(stage))
    theirs = await push(stage, f"magicode/issue-{number}")
    await stage.comment(number, "@magicode fix it once more")
    runs = await stage.ended(2)
    assert (runs[1].state, runs[1].reason) == (RunState.REFUSED, "human_commits")
    assert "leave it alone" in await ended_well_told(stage, runs[1])
    pull = await one_pull_request(stage, head=f"magicode/issue-{number}")
    assert pull["head"]["sha"] == theirs
    assert len(await asked_of_the_model(stage)) == asked, "no model is paid for what cannot be published"


async def test_a_commit_pushed_while_the_model_works_is_not_overwritten(
    raise_stage: Stages, sample: Path
) -> None:
    slow = create("MORE.md", "More.\n") | {"slow": {"seconds": 3}}
    book = playbook(
        scenario(slow, finish(), when="once more"), scenario(create("NOTES.md", "A note.\n"), finish())
    )
    stage = await raise_stage({"octo/fairshare": sample}, book)
    number = await ask(stage)
    await stage.ended()
    asked = len(await asked_of_the_model(stage))
    await stage.comment(number, "@magicode fix it once more")
    while len(await asked_of_the_model(stage)) == asked:
        await asyncio.sleep(0.05)
    theirs = await push(stage, f"magicode/issue-{number}")
    runs = await stage.ended(2)
    assert (runs[1].state, runs[1].reason) == (RunState.REFUSED, "human_commits")
    pull = await one_pull_request(stage, head=f"magicode/issue-{number}")
    assert pull["head"]["sha"] == theirs


# --- after it was closed ---------------------------------------------------------------------------------------------


async def test_after_a_closed_one_another_is_opened_beside_it(stage: Stage) -> None:
    number = await ask(stage)
    await stage.ended()
    await by_hand(stage, "PATCH", f"/pulls/{number + 1}", state="closed")
    await stage.settled()
    assert len(await stage.runs()) == 1, "only a new request starts another"
    await stage.comment(number, ASK)
    runs = await stage.ended(2)
    assert runs[1].state is RunState.OPENED
    assert await branches(stage) == [f"magicode/issue-{number}", f"magicode/issue-{number}-2"]
    assert [one["state"] for one in await stage.pulls()] == ["open", "closed"]


async def test_after_a_merged_one_a_reopened_issue_gets_another(stage: Stage) -> None:
    number = await ask(stage)
    await stage.ended()
    await by_hand(stage, "PUT", f"/pulls/{number + 1}/merge", user="ada", merge_method="squash")
    await stage.comment(number, "@magicode fix it once more")
    runs = await stage.ended(2)
    if repo_of(stage).issues[number].state == "closed":
        assert (runs[1].state, runs[1].reason) == (RunState.REFUSED, "closed")
        await ended_well_told(stage, runs[1])
    await by_hand(stage, "PATCH", f"/issues/{number}", state="open")
    await stage.comment(number, "@magicode fix it once more, now")
    runs = await stage.ended(3)
    assert runs[2].state is RunState.OPENED
    assert f"magicode/issue-{number}-2" in await branches(stage)
    assert len(await stage.pulls(state="open")) == 1


# --- stopping --------------------------------------------------------------------------------------------------------


async def test_cancel_stops_a_run_that_waits_for_the_model(raise_stage: Stages, sample: Path) -> None:
    slow = create("NOTES.md", "A note.\n") | {"slow": {"seconds": 60}}
    stage = await raise_stage({"octo/fairshare": sample}, playbook(scenario(slow, finish())))
    number = await ask(stage)
    while not await asked_of_the_model(stage):
        await asyncio.sleep(0.05)
    await stage.comment(number, "@magicode cancel", user="rita")
    runs = await stage.ended(1)
    assert (runs[1].state, runs[1].reason) == (RunState.REFUSED, "no_write_permission")
    assert runs[0].state is RunState.RUNNING, "a reader stops nothing"
    began = time.monotonic()
    await stage.comment(number, "@magicode cancel", user="ada")
    runs = await stage.ended(3)
    assert time.monotonic() - began < 10
    assert (runs[0].state, runs[0].reason) == (RunState.CANCELLED, "cancelled")
    assert runs[2].state is RunState.ANSWERED
    assert "told to stop" in await ended_well_told(stage, runs[2])
    await ended_well_told(stage, runs[0])
    assert await stage.pulls() == []
    assert await branches(stage) == []


async def test_a_cancelled_run_names_the_branch_that_it_had_made(raise_stage: Stages, sample: Path) -> None:
    stage = await raise_stage({"octo/fairshare": sample}, notes())
    await stage.fault(kind="delay", method="POST", route="/git/refs$", seconds=6)
    number = await ask(stage)
    async with asyncio.timeout(60):
        while not any(one.path.endswith("/git/refs") for one in stage.github.world.requests):
            await asyncio.sleep(0.02)
    await stage.comment(number, "@magicode cancel")
    runs = await stage.ended(2)
    assert runs[0].state is RunState.CANCELLED
    assert f"`magicode/issue-{number}`" in await ended_well_told(stage, runs[0])
    assert await stage.pulls() == []


async def test_cancel_ends_a_run_that_waits_to_be_tried_again(raise_stage: Stages, sample: Path) -> None:
    stage = await raise_stage({"octo/fairshare": sample}, notes(), working=False)
    number = await ask(stage)
    await stage.settled()
    await stage.fault(kind="status", method="POST", route="/git/blobs$")
    async with stage.at_work(retry_after=lambda error, taken: timedelta(minutes=5)):
        async with asyncio.timeout(60):
            while not any(one.fault for one in stage.github.world.requests):
                await asyncio.sleep(0.02)
        await asyncio.sleep(0.5)
        await stage.comment(number, "@magicode cancel")
        runs = await stage.ended(2, within=15)
    assert (runs[0].state, runs[0].attempt) == (RunState.CANCELLED, 2)
    await ended_well_told(stage, runs[0])
    assert await stage.pulls() == []


async def test_cancel_with_nothing_at_work_says_so(stage: Stage) -> None:
    await ask(stage, "@magicode cancel")
    (run,) = await stage.ended()
    assert run.state is RunState.ANSWERED
    assert "Nothing is at work here" in await ended_well_told(stage, run)


# --- other ways to ask -----------------------------------------------------------------------------------------------


async def test_the_label_starts_a_run_and_another_label_does_not(stage: Stage) -> None:
    number = await stage.open_issue(TITLE, BODY)
    await by_hand(stage, "POST", f"/issues/{number}/labels", labels=["bug"])
    await by_hand(stage, "POST", f"/issues/{number}/labels", labels=["magicode"])
    (run,) = await stage.ended()
    assert (run.state, run.comment_id) == (RunState.OPENED, None)
    await ended_well_told(stage, run)
    reactions = await until(partial(get, stage, f"/issues/{number}/reactions"))
    assert [one["content"] for one in reactions] == ["eyes"]
    assert len(await stage.runs()) == 1


async def test_an_assignment_to_the_app_starts_a_run_and_one_to_a_person_does_not(stage: Stage) -> None:
    number = await stage.open_issue(TITLE, BODY)
    await by_hand(stage, "POST", f"/issues/{number}/assignees", assignees=["wim"])
    await by_hand(stage, "POST", f"/issues/{number}/assignees", assignees=["magicode[bot]"])
    (run,) = await stage.ended()
    assert (run.state, run.comment_id) == (RunState.OPENED, None)
    assert run.occasion.startswith("assigned:")
    await ended_well_told(stage, run)
    assert len(await stage.runs()) == 1


@pytest.mark.parametrize(
    ("comment", "reason", "said"),
    [
        ("@magicode fxi this", "help", "Did you mean `fix`?"),
        ("@magicode", "help", "`magicode fix`"),
    ],
)
async def test_what_is_no_request_for_a_change_is_answered(
    stage: Stage, comment: str, reason: str, said: str
) -> None:
    number = await ask(stage, comment)
    (run,) = await stage.ended()
    assert (run.state, run.reason) == (RunState.ANSWERED, reason)
    assert said in await ended_well_told(stage, run)
    assert len(await ours(stage, number)) == 1
    assert await asked_of_the_model(stage) == []
    assert await stage.pulls() == []


async def test_a_question_is_answered_with_the_models_words_made_inert(
    raise_stage: Stages, sample: Path
) -> None:
    words = "It is meant so. Ask @octo/everyone. ![](https://example.com/x.png) Fixes #1"
    book = playbook(scenario({"calls": [{"tool": "answer", "arguments": {"text": words}}]}))
    stage = await raise_stage({"octo/fairshare": sample}, book)
    number = await ask(stage, "@magicode fix this: is it meant so?")
    (run,) = await stage.ended()
    assert run.state is RunState.ANSWERED
    said = await ended_well_told(stage, run)
    assert "It is meant so." in said
    assert "@octo" not in said
    assert "example.com/x.png" not in said
    assert f"Fixes #{number}" not in said
