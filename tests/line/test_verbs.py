"""What can be asked for beside a change: explain, undo, retry, cancel, and one run at a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

from app.nouns import RunState
from infra.models.playbook import Playbook
from infra.postgres.queue import WorkerLimits
from tests.line.conftest import Stages, Words
from tests.line.conversations import (
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
    prompts,
    reasons,
    scenario,
    writes_of,
)
from tests.line.seen import (
    act,
    comment_of_ours,
    commit,
    commits,
    get,
    push,
    text,
    their_pull_request,
    tip,
    tree,
    until,
)
from tests.line.stage import Stage
from tests.line.test_once import a_worker_process

COMMENTS_ALONE = {
    "/repos/{owner}/{repo}/issues/{issue_number}/comments",
    "/repos/{owner}/{repo}/issues/comments/{comment_id}",
    "/repos/{owner}/{repo}/issues/comments/{comment_id}/reactions",
    "/graphql",  # which review threads are read by
}
EDITING = {"edit", "create", "delete", "apply_patch", "run_checks", "finish"}
SOON: dict[str, Any] = {"retry_after": lambda error, taken: QUICK if taken < 5 else None}
NEVER: dict[str, Any] = {"retry_after": lambda error, taken: None}


def answering(text: str = "It rounds down, in `fairshare/split.py`.", **more: Any) -> dict[str, Any]:
    return {"calls": [{"tool": "answer", "arguments": {"kind": "finding", "text": text, **more}}]}


def in_threads() -> dict[str, Any]:
    """A finish that leaves the replies in review threads to us."""
    said = finish("Write another note", "One note was not enough.")
    said["calls"][0]["arguments"]["replies"] = []
    return said


def script() -> Playbook:
    explained = {"name": "a question", "when": {"system_contains": "Your task is to answer"}}
    return playbook(
        explained | {"turns": [answering()]},
        scenario(create("MORE.md", "More.\n"), in_threads(), in_threads(), when="curlew"),
        scenario(
            create("MORE.md", "More.\n"),
            finish("Write another note", "One note was not enough."),
            when="once more",
        ),
        scenario(create("NOTES.md", "A note.\n"), finish()),
    )


@pytest.fixture
async def stage(raise_stage: Stages, sample: Path) -> Stage:
    return await raise_stage({"octo/fairshare": sample}, script())


@pytest.fixture
async def idle(raise_stage: Stages, sample: Path) -> Stage:
    """Accepts, and works when a test says so."""
    return await raise_stage({"octo/fairshare": sample}, script(), working=False)


async def opened(stage: Stage) -> tuple[int, int]:
    """An issue and our pull request that solves it; their numbers."""
    issue = await ask(stage)
    await stage.ended()
    pull = await one_pull_request(stage, head=f"magicode/issue-{issue}")
    return issue, int(pull["number"])


async def status_of(stage: Stage, number: int, count: int) -> str:
    """The status comment of the newest of so many ended runs."""
    runs = await stage.ended(count)
    return await ended_well_told(stage, runs[count - 1], number)


# --- explain ---------------------------------------------------------------------------------------------------------


async def offered(stage: Stage) -> set[str]:
    """The tools that the model was offered for the newest question."""
    return {tool["name"] for tool in (await asked_of_the_model(stage))[-1]["body"]["tools"]}


async def test_a_question_on_an_issue_is_answered_and_nothing_else_is_written(stage: Stage) -> None:
    number = await ask(stage, "@magicode explain how a cent is rounded")
    (run,) = await stage.ended()
    assert reasons([run]) == [("explain", "answered", "explained")]
    (said,) = await ours(stage, number)
    assert "**Explained**." in said
    assert "It rounds down, in `fairshare/split.py`." in said
    assert (await branches(stage), await stage.pulls()) == ([], [])
    assert {route for _, route in await writes_of(stage)} <= COMMENTS_ALONE
    assert not await offered(stage) & EDITING


async def test_a_question_on_a_closed_issue_is_answered_too(stage: Stage) -> None:
    number = await stage.open_issue("How are cents rounded?")
    await act(stage, "PATCH", f"/issues/{number}", state="closed")
    await stage.comment(number, "@magicode explain")
    (run,) = await stage.ended()
    assert reasons([run]) == [("explain", "answered", "explained")]
    await comment_of_ours(stage, number, "It rounds down")


async def test_a_question_on_our_pull_request_is_about_its_own_code(stage: Stage) -> None:
    _, pull = await opened(stage)
    before = await tip(stage, "magicode/issue-1")
    wrote = len(await writes_of(stage))
    await stage.comment(pull, "@magicode explain what the note is for")
    runs = await stage.ended(2)
    assert reasons(runs)[1] == ("explain", "answered", "explained")
    await comment_of_ours(stage, pull, "It rounds down")
    assert await tip(stage, "magicode/issue-1") == before
    assert {route for _, route in (await writes_of(stage))[wrote:]} <= COMMENTS_ALONE
    assert not await offered(stage) & EDITING
    assert before in str((await asked_of_the_model(stage))[-1]["body"]), "it is told which commit it sees"


async def test_a_question_on_somebody_elses_pull_request_is_about_its_own_code(stage: Stage) -> None:
    pull = await their_pull_request(stage)
    theirs = await tip(stage, "theirs")
    await stage.comment(pull, "@magicode explain this")
    (run,) = await stage.ended()
    assert reasons([run]) == [("explain", "answered", "explained")]
    await comment_of_ours(stage, pull, "It rounds down")
    assert await tip(stage, "theirs") == theirs
    assert {route for _, route in await writes_of(stage)} <= COMMENTS_ALONE
    assert theirs in str((await asked_of_the_model(stage))[-1]["body"])
    assert await branches(stage) == []


async def test_a_question_in_a_thread_is_answered_there_in_plain_words(stage: Stage) -> None:
    _, pull = await opened(stage)
    await act(
        stage,
        "POST",
        f"/pulls/{pull}/comments",
        body="@magicode explain why",
        path="NOTES.md",
        line=1,
        side="RIGHT",
        commit_id=await tip(stage, "magicode/issue-1"),
    )
    runs = await stage.ended(2)
    assert reasons(runs)[1] == ("explain", "answered", "explained")
    (reply,) = await replies(stage, pull)
    assert reply.split("\n", 1)[1] == "It rounds down, in `fairshare/split.py`."


async def replies(stage: Stage, pull: int) -> list[str]:
    """What the App said in review threads."""
    said = await get(stage, f"/pulls/{pull}/comments")
    return [str(one["body"]) for one in said if one["user"]["login"] == "magicode[bot]"]


# --- undo ------------------------------------------------------------------------------------------------------------


async def test_undo_restores_the_tree_byte_for_byte_and_goes_one_further_each_time(stage: Stage) -> None:
    issue, pull = await opened(stage)
    branch = f"magicode/issue-{issue}"
    first, first_tree = await tip(stage, branch), await tree(stage, branch)
    await stage.comment(issue, "@magicode fix it once more")
    await stage.ended(2)
    second = await tip(stage, branch)
    assert await text(stage, "MORE.md", branch) == "More.\n"

    await stage.comment(pull, "@magicode undo")
    runs = await stage.ended(3)
    assert reasons(runs)[2] == ("undo", "updated", "undone")
    undone = await commit(stage, await tip(stage, branch))
    assert [one["sha"] for one in undone["parents"]] == [second], "forward, on top of what it takes back"
    assert undone["tree"]["sha"] == first_tree
    said = await ended_well_told(stage, runs[2], pull)
    assert "**Undone**" in said
    assert f"{undone['sha'][:10]} takes back what {second[:10]} changed" in said

    await stage.comment(pull, "@magicode undo")
    await stage.ended(4)
    again = await commit(stage, await tip(stage, branch))
    assert [one["sha"] for one in again["parents"]] == [undone["sha"]]
    assert again["tree"]["sha"] == await tree(stage, "main")
    assert first[:10] in await ended_well_told(stage, (await stage.ended(4))[3], pull)

    await stage.comment(pull, "@magicode undo")
    runs = await stage.ended(5)
    assert reasons(runs)[4] == ("undo", "refused", "nothing_to_undo")
    await ended_well_told(stage, runs[4], pull)
    assert await tip(stage, branch) == again["sha"]
    assert await commits(stage, pull) == [
        "Write the note",
        "Write another note",
        "Undo: Write another note",
        "Undo: Write the note",
    ]


async def test_undo_on_the_issue_takes_back_the_change_on_its_pull_request(stage: Stage) -> None:
    issue, pull = await opened(stage)
    await stage.comment(issue, "@magicode undo")
    runs = await stage.ended(2)
    assert reasons(runs)[1] == ("undo", "updated", "undone")
    assert await commits(stage, pull) == ["Write the note", "Undo: Write the note"]


async def test_undo_where_there_is_no_pull_request_says_so(stage: Stage) -> None:
    number = await ask(stage, "@magicode undo")
    (run,) = await stage.ended()
    assert reasons([run]) == [("undo", "refused", "no_pull_request")]
    said = await ended_well_told(stage, run, number)
    assert "There is no open pull request of mine here" in said
    assert await branches(stage) == []


async def test_undo_on_somebody_elses_pull_request_is_refused(stage: Stage) -> None:
    pull = await their_pull_request(stage)
    before = await tip(stage, "theirs")
    await stage.comment(pull, "@magicode undo")
    (run,) = await stage.ended()
    assert reasons([run]) == [("undo", "refused", "not_our_pull_request")]
    assert await tip(stage, "theirs") == before


async def test_undo_after_a_persons_commit_is_refused(stage: Stage) -> None:
    issue, pull = await opened(stage)
    theirs = await push(stage, f"magicode/issue-{issue}", "BY_HAND.md", "x\n")
    await stage.comment(pull, "@magicode undo")
    runs = await stage.ended(2)
    assert reasons(runs)[1] == ("undo", "refused", "human_commits")
    assert "It is theirs now" in await ended_well_told(stage, runs[1], pull)
    assert await tip(stage, f"magicode/issue-{issue}") == theirs


async def test_undo_leaves_what_came_from_the_base_branch_since(stage: Stage) -> None:
    issue, pull = await opened(stage)
    branch = f"magicode/issue-{issue}"
    await push(stage, "main", "OTHER.md", "Other work.\n")
    await stage.comment(issue, "@magicode fix it once more")  # which brings the branch up to its base first
    await stage.ended(2)
    assert await text(stage, "OTHER.md", branch) == "Other work.\n"
    for count in (3, 4):
        await stage.comment(pull, "@magicode undo")
        runs = await stage.ended(count)
        assert reasons(runs)[count - 1] == ("undo", "updated", "undone")
    assert await tree(stage, branch) == await tree(stage, "main"), "ours is gone, theirs is not"


async def test_undo_of_what_an_update_from_the_base_touched_too_is_left_to_a_person(
    raise_stage: Stages, sample: Path
) -> None:
    lines = "".join(f"line {number}\n" for number in range(30))
    (sample / "LONG.md").write_text(lines)
    first = {"calls": [{"tool": "edit", "arguments": {"path": "LONG.md", "old": "line 2\n", "new": "two\n"}}]}
    book = playbook(
        scenario(create("MORE.md", "More.\n"), finish("More"), when="once more"), scenario(first, finish())
    )
    stage = await raise_stage({"octo/fairshare": sample}, book)
    issue, pull = await opened(stage)
    await push(stage, "main", "LONG.md", lines.replace("line 28\n", "twenty-eight\n"))
    await stage.comment(issue, "@magicode fix it once more")
    await stage.ended(2)
    await stage.comment(pull, "@magicode undo")
    await stage.ended(3)
    before = await tip(stage, f"magicode/issue-{issue}")
    await stage.comment(pull, "@magicode undo")
    runs = await stage.ended(4)
    assert reasons(runs)[3] == ("undo", "refused", "undo_over_merge")
    said = await ended_well_told(stage, runs[3], pull)
    assert "`LONG.md`" in said
    assert await tip(stage, f"magicode/issue-{issue}") == before


@pytest.mark.parametrize(
    ("method", "route"), [("POST", "/git/commits$"), ("PATCH", "/git/refs/"), ("PATCH", "/pulls/2$")]
)
@pytest.mark.parametrize("kind", ["drop_after", "status"])
async def test_an_undo_whose_write_fails_or_whose_answer_is_lost_is_one_commit(
    idle: Stage, method: str, route: str, kind: str
) -> None:
    async with idle.at_work():
        issue, pull = await opened(idle)
    await idle.comment(pull, "@magicode undo")
    await idle.settled()
    await idle.fault(kind=kind, method=method, route=route, status=502)
    async with idle.at_work(**SOON):
        runs = await idle.ended(2)
    assert any(one.fault for one in idle.github.world.requests), "the fault was met"
    assert (reasons(runs)[1], runs[1].attempt) == (("undo", "updated", "undone"), 2)
    await once_undone(idle, issue, pull)


async def once_undone(stage: Stage, issue: int, pull: int) -> None:
    assert await commits(stage, pull) == ["Write the note", "Undo: Write the note"]
    assert await tree(stage, f"magicode/issue-{issue}") == await tree(stage, "main")
    (found,) = await stage.pulls()
    assert "## A change was undone" in found["body"]
    assert len(await ours(stage, pull)) == 1
    await ended_well_told(stage, (await stage.ended(2))[1], pull)


@pytest.mark.long
@pytest.mark.parametrize(("method", "route"), [("POST", "/git/commits"), ("PATCH", "/git/refs/heads/")])
async def test_an_undo_whose_worker_is_killed_is_one_commit(
    idle: Stage, tmp_path: Path, method: str, route: str
) -> None:
    async with idle.at_work():
        issue, pull = await opened(idle)
    await idle.comment(pull, "@magicode undo")
    await idle.settled()
    await idle.fault(kind="drop_after", method=method, route=route)

    async def met() -> bool:
        return any(one.fault for one in idle.github.world.requests)

    async with a_worker_process(idle, tmp_path / "other") as process:
        await until(met, within=60)
        process.kill()
    takes_over = WorkerLimits(heartbeat=timedelta(seconds=0.2), stalled_after=timedelta(seconds=1))
    async with idle.at_work(limits=takes_over, **SOON):
        await idle.ended(2)
    await once_undone(idle, issue, pull)


# --- retry -----------------------------------------------------------------------------------------------------------


async def fails(stage: Stage, count: int) -> None:
    """Works until so many runs have ended, while GitHub takes no blob."""
    await stage.fault(kind="status", method="POST", route="/git/blobs$")
    async with stage.at_work(**NEVER):
        runs = await stage.ended(count)
    assert reasons(runs)[count - 1][1:] == ("failed", "github_unavailable")


async def test_retry_after_a_failed_fix_opens_the_pull_request(idle: Stage) -> None:
    issue = await ask(idle)
    await fails(idle, 1)
    assert await idle.pulls() == []
    assert "`retry`" in (await ours(idle, issue))[0] or "ask again" in (await ours(idle, issue))[0]
    await idle.comment(issue, "@magicode retry", user="ada")
    async with idle.at_work():
        runs = await idle.ended(2)
    assert reasons(runs)[1] == ("retry", "opened", "opened")
    await one_pull_request(idle, head=f"magicode/issue-{issue}")
    await ended_well_told(idle, runs[1], issue)


async def review(stage: Stage, pull: int, body: str, *on_lines: str, user: str = "wim") -> None:
    comments = [{"path": "NOTES.md", "line": 1, "side": "RIGHT", "body": each} for each in on_lines]
    await act(
        stage,
        "POST",
        f"/pulls/{pull}/reviews",
        user=user,
        event="REQUEST_CHANGES",
        body=body,
        comments=comments,
    )


async def test_retry_after_a_failed_review_works_on_its_words_and_answers_its_threads(
    raise_stage: Stages, sample: Path
) -> None:
    book = playbook(
        scenario(create("MORE.md", "More.\n"), in_threads(), in_threads(), when="hoopoe"),
        scenario(create("NOTES.md", "A note.\n"), finish()),
    )
    stage = await raise_stage({"octo/fairshare": sample}, book, working=False)
    async with stage.at_work():
        issue, pull = await opened(stage)
    await review(stage, pull, "It lacks the hoopoe.", "Where is it?", "And what of this?")
    await fails(stage, 2)
    assert len(await replies(stage, pull)) == 2, "each thread was told why not"
    asked = len(await asked_of_the_model(stage))
    await stage.comment(pull, "@magicode retry", user="ada")
    async with stage.at_work():
        runs = await stage.ended(3)
    assert reasons(runs)[2] == ("retry", "updated", "updated")
    told = str((await asked_of_the_model(stage))[asked]["body"])
    assert "It lacks the hoopoe." in told
    assert "Where is it?" in told
    assert await commits(stage, pull) == ["Write the note", "Write another note"]
    head = await tip(stage, f"magicode/issue-{issue}")
    done = [one for one in await replies(stage, pull) if head[:10] in one]
    assert len(done) == 2
    assert all("Write another note" in one for one in done), "what was done, where the model left that out"


async def test_retry_after_a_refused_request_does_it_once_nothing_stands_in_the_way(stage: Stage) -> None:
    issue = await stage.open_issue("The note is wrong", "Please write one.")
    await act(stage, "POST", f"/issues/{issue}/labels", labels=["no-magicode"])
    await stage.comment(issue, "@magicode fix this")
    runs = await stage.ended()
    assert reasons(runs) == [("fix", "refused", "opted_out")]
    await stage.comment(issue, "@magicode retry")
    runs = await stage.ended(2)
    assert reasons(runs)[1] == ("retry", "refused", "opted_out")
    await act(stage, "DELETE", f"/issues/{issue}/labels/no-magicode")
    await stage.comment(issue, "@magicode retry")
    runs = await stage.ended(3)
    assert reasons(runs)[2] == ("retry", "opened", "opened")
    await one_pull_request(stage, head=f"magicode/issue-{issue}")


async def test_retry_where_the_last_request_succeeded_revises_what_is_open(stage: Stage) -> None:
    issue, pull = await opened(stage)
    await stage.comment(issue, "@magicode retry, and write it once more")
    runs = await stage.ended(2)
    assert reasons(runs)[1] == ("retry", "updated", "updated")
    assert await commits(stage, pull) == ["Write the note", "Write another note"]
    assert len(await stage.pulls()) == 1


async def test_retry_on_a_pull_request_works_on_what_is_open_there(stage: Stage) -> None:
    issue, pull = await opened(stage)
    said = {"path": "NOTES.md", "line": 1, "side": "RIGHT", "body": "Say where the curlew is."}
    await act(stage, "POST", f"/pulls/{pull}/reviews", event="COMMENT", body="A thought.", comments=[said])
    await stage.comment(pull, "@magicode retry")
    runs = await stage.ended(2)
    assert reasons(runs)[1] == ("retry", "updated", "updated")
    assert "curlew" in await prompts(stage)
    newest = await commit(stage, await tip(stage, f"magicode/issue-{issue}"))
    assert len(await commits(stage, pull)) == 2
    assert newest["message"].startswith("Write another note")


async def test_retry_by_a_reader_is_refused(stage: Stage) -> None:
    _, pull = await opened(stage)
    await stage.comment(pull, "@magicode retry", user="rita")
    runs = await stage.ended(2)
    assert reasons(runs)[1] == ("retry", "refused", "no_write_permission")
    assert await commits(stage, pull) == ["Write the note"]


async def test_retry_of_an_undo_that_failed_is_an_undo(idle: Stage) -> None:
    async with idle.at_work():
        issue, pull = await opened(idle)
    await idle.comment(pull, "@magicode undo")
    await idle.fault(kind="status", method="POST", route="/git/commits$")
    async with idle.at_work(**NEVER):
        await idle.ended(2)
    await idle.comment(pull, "@magicode retry")
    async with idle.at_work():
        runs = await idle.ended(3)
    assert (runs[2].verb, runs[2].state) == ("retry", RunState.UPDATED)
    assert await commits(idle, pull) == ["Write the note", "Undo: Write the note"]
    assert await tree(idle, f"magicode/issue-{issue}") == await tree(idle, "main")


# --- cancel ----------------------------------------------------------------------------------------------------------

SECONDS = 5.0


async def cancelled(stage: Stage, number: int) -> str:
    """The status comment of what was at work, within five seconds of the word; nothing was published."""
    began = time.monotonic()
    await stage.comment(number, "@magicode cancel")
    said = await comment_of_ours(stage, number, "**Cancelled**.")
    assert time.monotonic() - began < SECONDS
    assert (await branches(stage), await stage.pulls()) == ([], [])
    await comment_of_ours(stage, number, "**Answered**.", "told to stop")
    return str(said["body"])


async def test_cancel_while_the_model_is_silent(raise_stage: Stages, sample: Path) -> None:
    slow = create("NOTES.md", "A note.\n") | {"slow": {"seconds": 120}}
    stage = await raise_stage({"octo/fairshare": sample}, playbook(scenario(slow, finish())))
    number = await ask(stage)

    async def asked() -> bool:
        return bool(await asked_of_the_model(stage))

    await until(asked)
    said = await cancelled(stage, number)
    assert "Stopped, as asked; nothing more was written." in said
    assert "No model was called" not in said, "one was, and may send its bill"


class Slow(Words):
    """An encoder that takes its time."""

    def __init__(self) -> None:
        self.begun = 0

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.begun += 1
        time.sleep(0.5)
        return super().encode(texts)


async def test_cancel_while_indexing_is_under_way(raise_stage: Stages, sample: Path) -> None:
    for number in range(1200):
        (sample / f"part_{number}.py").write_text(f"def part_{number}():\n    return {number}\n")
    encoder = Slow()
    stage = await raise_stage({"octo/fairshare": sample}, notes(), encoder=encoder)
    issue = await ask(stage)

    async def begun() -> bool:
        return encoder.begun > 1

    await until(begun)
    await cancelled(stage, issue)
    after = encoder.begun
    await asyncio.sleep(2)
    assert encoder.begun <= after + 1, "it goes on no longer"
    assert await asked_of_the_model(stage) == []


async def test_cancel_while_the_checks_run_leaves_nothing_of_them(raise_stage: Stages, sample: Path) -> None:
    (sample / ".github" / "magicode.yml").write_text("checks: ['sleep 61.73']\n")
    stage = await raise_stage({"octo/fairshare": sample}, notes())
    issue = await ask(stage)

    async def running() -> bool:
        return bool(sleeping("61.73"))

    await until(running)
    await cancelled(stage, issue)
    assert sleeping("61.73") == []


def sleeping(seconds: str) -> list[int]:
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if words[-1:] == [seconds] or f"sleep {seconds}" in " ".join(words):
            found.append(process.pid)
    return found


async def test_cancel_while_the_code_is_fetched(raise_stage: Stages, sample: Path) -> None:
    stage = await raise_stage({"octo/fairshare": sample}, notes())
    await stage.fault(kind="delay", method="GET", route="/tarball/", seconds=20)
    issue = await ask(stage)

    async def fetching() -> bool:
        return any("/tarball/" in one.path for one in stage.github.world.requests)

    await until(fetching)
    await cancelled(stage, issue)
    assert await asked_of_the_model(stage) == []


async def test_a_request_behind_others_is_cancelled_while_they_go_on(
    raise_stage: Stages, sample: Path
) -> None:
    """All workers are taken, and the word is heard all the same."""
    slow = create("NOTES.md", "A note.\n") | {"slow": {"seconds": 6}}
    stage = await raise_stage({"octo/fairshare": sample}, playbook(scenario(slow, finish())), working=False)
    first, second = await ask(stage), await ask(stage)
    await stage.settled()
    async with stage.at_work(concurrency=1):
        await until(lambda: _asked(stage))
        await stage.comment(second, "@magicode cancel")
        await comment_of_ours(stage, second, "told to stop")
        await stage.ended(3)
    await comment_of_ours(stage, second, "**Cancelled**.")
    assert await branches(stage) == [f"magicode/issue-{first}"]


async def _asked(stage: Stage) -> bool:
    return bool(await asked_of_the_model(stage))


# --- one run at a time -----------------------------------------------------------------------------------------------


def slowly_once_more() -> Playbook:
    more = create("MORE.md", "More.\n") | {"slow": {"seconds": 8}}
    return playbook(
        scenario(more, finish("Write another note"), when="once more"),
        scenario(create("NOTES.md", "A note.\n"), finish()),
    )


@pytest.mark.parametrize("first", ["issue", "pull request"])
async def test_an_issue_and_its_pull_request_are_one_subject(
    raise_stage: Stages, sample: Path, first: str
) -> None:
    stage = await raise_stage({"octo/fairshare": sample}, slowly_once_more())
    issue, pull = await opened(stage)
    here, there = (issue, pull) if first == "issue" else (pull, issue)
    asked = len(await asked_of_the_model(stage))
    await stage.comment(here, "@magicode write it once more")

    async def at_work() -> bool:
        return len(await asked_of_the_model(stage)) > asked

    await until(at_work)
    status = await comment_of_ours(stage, here, "**Working on it.**")
    await stage.comment(there, "@magicode write it differently", user="ada")
    await stage.comment(there, "@magicode help")
    busy = await comment_of_ours(stage, there, "Another request is at work here")
    assert status["html_url"] in busy["body"], "it links to what is at work, wherever that was asked"
    await comment_of_ours(stage, there, "`magicode cancel`")
    runs = await stage.ended(4)
    assert runs[1].state is RunState.UPDATED
    assert {(run.state.value, run.reason) for run in runs[2:]} == {("answered", "help"), ("refused", "busy")}
    assert await commits(stage, pull) == ["Write the note", "Write another note"]


async def test_cancel_on_the_issue_stops_what_is_at_work_on_its_pull_request(
    raise_stage: Stages, sample: Path
) -> None:
    slow = create("MORE.md", "More.\n") | {"slow": {"seconds": 60}}
    book = playbook(
        scenario(slow, finish(), when="once more"), scenario(create("NOTES.md", "A.\n"), finish())
    )
    stage = await raise_stage({"octo/fairshare": sample}, book)
    issue, pull = await opened(stage)
    asked = len(await asked_of_the_model(stage))
    await stage.comment(pull, "@magicode write it once more")

    async def at_work() -> bool:
        return len(await asked_of_the_model(stage)) > asked

    await until(at_work)
    await stage.comment(issue, "@magicode cancel")
    await comment_of_ours(stage, pull, "**Cancelled**.")
    assert await commits(stage, pull) == ["Write the note"]


# --- why not ---------------------------------------------------------------------------------------------------------


def asks_back() -> Playbook:
    question = answering("Which of the two notes?") | {}
    question["calls"][0]["arguments"]["kind"] = "question"
    return playbook(scenario(question, when="Change it"), scenario(create("NOTES.md", "A note.\n"), finish()))


async def test_a_review_that_is_answered_with_a_question_gets_it_in_each_thread(
    raise_stage: Stages, sample: Path
) -> None:
    stage = await raise_stage({"octo/fairshare": sample}, asks_back())
    _, pull = await opened(stage)
    await review(stage, pull, "Change it.", "This one.", "And this one.")
    runs = await stage.ended(2)
    assert reasons(runs)[1] == ("revise", "answered", "question")
    said = await replies(stage, pull)
    assert len(said) == 2
    assert all("Nothing was changed for this. Which of the two notes?" in one for one in said)
    assert await commits(stage, pull) == ["Write the note"]
    await comment_of_ours(stage, pull, "**A question first**.", "Which of the two notes?")


Stands = Callable[[Stage, int, int], Awaitable[object]]


async def a_persons_commit(stage: Stage, issue: int, pull: int) -> None:
    await push(stage, f"magicode/issue-{issue}", "BY_HAND.md", "x\n")


async def a_label(stage: Stage, issue: int, pull: int) -> None:
    await act(stage, "POST", f"/issues/{pull}/labels", labels=["no-magicode"])


async def a_file_that_cannot_be_read(stage: Stage, issue: int, pull: int) -> None:
    await push(stage, "main", ".github/magicode.yml", "enabeld: true\n")


IN_THE_WAY: Mapping[str, tuple[Stands, str]] = {
    "human_commits": (a_persons_commit, "It is theirs now"),
    "opted_out": (a_label, "`no-magicode`"),
    "repofile_invalid": (a_file_that_cannot_be_read, "enabeld"),
}


@pytest.mark.parametrize("reason", IN_THE_WAY)
async def test_a_review_that_is_refused_is_told_why_in_each_thread(stage: Stage, reason: str) -> None:
    in_the_way, words = IN_THE_WAY[reason]
    issue, pull = await opened(stage)
    await in_the_way(stage, issue, pull)
    before = await tip(stage, f"magicode/issue-{issue}")
    await review(stage, pull, "Not yet.", "Change this.", "And this.")
    runs = await stage.ended(2)
    assert reasons(runs)[1] == ("revise", "refused", reason)
    said = await replies(stage, pull)
    assert len(said) == 2
    assert all("Nothing was changed for this." in one and words in one for one in said)
    assert await tip(stage, f"magicode/issue-{issue}") == before


async def test_a_review_by_a_reader_is_told_so_once_and_not_in_each_thread(stage: Stage) -> None:
    _, pull = await opened(stage)
    await review(stage, pull, "@magicode write it once more", "Change this.", "And this.", user="rita")
    runs = await stage.ended(2)
    assert reasons(runs)[1] == ("revise", "refused", "no_write_permission")
    assert await replies(stage, pull) == []
    assert len(await ours(stage, pull)) == 1


async def test_a_review_while_another_request_is_at_work_is_told_so_in_each_thread(
    raise_stage: Stages, sample: Path
) -> None:
    stage = await raise_stage({"octo/fairshare": sample}, slowly_once_more())
    issue, pull = await opened(stage)
    asked = len(await asked_of_the_model(stage))
    await stage.comment(issue, "@magicode write it once more")

    async def at_work() -> bool:
        return len(await asked_of_the_model(stage)) > asked

    await until(at_work)
    await review(stage, pull, "Not yet.", "Change this.", "And this.")
    runs = await stage.ended(3)
    assert reasons(runs)[2] == ("revise", "refused", "busy")
    said = await replies(stage, pull)
    assert len(said) == 2
    assert all("Another request is at work here" in one for one in said)
