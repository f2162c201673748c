"""A request that cannot be worked on is answered, not attempted: no model is called, and the answer says what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from app.nouns import Run, RunState
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
    scenario,
)
from tests.line.seen import until
from tests.line.stage import Stage


@pytest.fixture
async def stage(raise_stage: Stages, sample: Path) -> Stage:
    return await raise_stage({"octo/fairshare": sample}, notes())


async def by_hand(stage: Stage, method: str, path: str, *, user: str = "wim", **body: Any) -> Any:
    answer = await stage.client(user).request(
        method, f"/repos/{stage.repository}{path}", json=body if method != "GET" else None
    )
    assert answer.is_success, answer.text
    return answer.json() if answer.content else None


async def an_issue(stage: Stage, **how: Any) -> int:
    return int((await by_hand(stage, "POST", "/issues", title=TITLE, body=BODY, **how))["number"])


async def refused(stage: Stage, reason: str) -> Run:
    """The only run: refused for this, with no model asked, no branch and no pull request."""
    (run,) = await stage.ended()
    assert (run.state, run.reason) == (RunState.REFUSED, reason)
    assert await asked_of_the_model(stage) == []
    assert await branches(stage) == []
    assert not [one for one in await stage.pulls() if one["user"]["login"] == "magicode[bot]"]
    return run


# --- assigned --------------------------------------------------------------------------------------------------------


async def test_what_is_assigned_to_somebody_else_is_not_begun(stage: Stage) -> None:
    number = await an_issue(stage, assignees=["ada"])
    await stage.comment(number, ASK)
    said = await ended_well_told(stage, await refused(stage, "assigned"))
    assert "assigned to `ada`" in said
    assert "@ada" not in said


async def test_the_one_whom_it_is_assigned_to_may_ask(stage: Stage) -> None:
    number = await an_issue(stage, assignees=["ada"])
    await stage.comment(number, ASK, user="ada")
    (run,) = await stage.ended()
    assert run.state is RunState.OPENED
    assert await one_pull_request(stage, head=f"magicode/issue-{number}")


async def test_the_asker_among_the_assignees_is_enough(stage: Stage) -> None:
    number = await an_issue(stage, assignees=["ada", "wim"])
    await stage.comment(number, ASK)
    (run,) = await stage.ended()
    assert run.state is RunState.OPENED


async def test_the_app_among_the_assignees_is_asked_by_being_assigned(stage: Stage) -> None:
    number = await an_issue(stage, assignees=["ada"])
    await by_hand(stage, "POST", f"/issues/{number}/assignees", assignees=["magicode[bot]"])
    (run,) = await stage.ended()
    assert run.state is RunState.OPENED, run.reason


async def test_what_was_begun_goes_on_after_it_was_assigned_to_somebody_else(stage: Stage) -> None:
    number = await ask(stage)
    await stage.ended()
    await by_hand(stage, "POST", f"/issues/{number}/assignees", assignees=["ada"])
    await stage.comment(number, "@magicode fix it once more")
    runs = await stage.ended(2)
    assert [run.state for run in runs] == [RunState.OPENED, RunState.UPDATED]


# --- already fixed ---------------------------------------------------------------------------------------------------


async def their_pull_request(stage: Stage, body: str, *, head: str = "their-fix", draft: bool = False) -> int:
    """By `ada`: a branch with a commit of its own, and a pull request for it."""
    base = (await by_hand(stage, "GET", "/git/ref/heads/main"))["object"]["sha"]
    tree = (
        await by_hand(
            stage, "POST", "/git/trees", user="ada", base_tree=base,
            tree=[{"path": "THEIRS.md", "mode": "100644", "type": "blob", "content": "theirs\n"}],
        )
    )["sha"]  # fmt: skip
    sha = (await by_hand(stage, "POST", "/git/commits", user="ada", message="m", tree=tree, parents=[base]))[
        "sha"
    ]
    await by_hand(stage, "POST", "/git/refs", user="ada", ref=f"refs/heads/{head}", sha=sha)
    pull = await by_hand(
        stage, "POST", "/pulls", user="ada", title="Theirs", body=body, head=head, base="main", draft=draft
    )
    return int(pull["number"])


@pytest.mark.parametrize("draft", [False, True])
async def test_what_an_open_pull_request_of_somebody_else_closes_is_not_begun_again(
    stage: Stage, draft: bool
) -> None:
    number = await an_issue(stage)
    pull = await their_pull_request(stage, f"Fixes #{number}", draft=draft)
    await stage.comment(number, ASK)
    said = await ended_well_told(stage, await refused(stage, "already_fixed"))
    assert f"#{pull} is open and closes this" in said


async def test_all_pull_requests_that_close_it_are_named(stage: Stage) -> None:
    number = await an_issue(stage)
    pulls = [
        await their_pull_request(stage, f"Fixes #{number}", head=head) for head in ("one-fix", "another-fix")
    ]
    await stage.comment(number, ASK)
    said = await ended_well_told(stage, await refused(stage, "already_fixed"))
    assert all(f"#{pull}" in said for pull in pulls)


async def test_a_pull_request_that_only_mentions_it_or_is_closed_stands_in_nobodys_way(stage: Stage) -> None:
    number = await an_issue(stage)
    await their_pull_request(stage, f"See #{number}", head="mentions")
    closed = await their_pull_request(stage, f"Fixes #{number}", head="closes")
    await by_hand(stage, "PATCH", f"/pulls/{closed}", state="closed")
    await stage.comment(number, ASK)
    (run,) = await stage.ended()
    assert run.state is RunState.OPENED, run.reason


async def test_our_own_pull_request_does_not_stand_in_our_way(stage: Stage) -> None:
    number = await ask(stage)
    await stage.ended()
    await stage.comment(number, "@magicode fix it once more")
    runs = await stage.ended(2)
    assert [run.state for run in runs] == [RunState.OPENED, RunState.UPDATED]


# --- opted out -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("label", ["no-magicode", "No-MagiCode"])
async def test_the_label_on_an_issue_keeps_the_app_away(stage: Stage, label: str) -> None:
    number = await an_issue(stage, labels=[label])
    await stage.comment(number, ASK)
    said = await ended_well_told(stage, await refused(stage, "opted_out"))
    assert f"`no-magicode` on #{number}" in said


async def test_the_label_on_the_pull_request_holds_for_the_issue_too(stage: Stage) -> None:
    number = await ask(stage)
    await stage.ended()
    pull = (await one_pull_request(stage, head=f"magicode/issue-{number}"))["number"]
    asked = len(await asked_of_the_model(stage))
    await by_hand(stage, "POST", f"/issues/{pull}/labels", labels=["no-magicode"])
    await stage.comment(number, "@magicode fix it once more")
    await stage.ended(2)
    await stage.comment(pull, "@magicode write it once more")
    _, *after = await stage.ended(3)
    assert {(run.state, run.reason) for run in after} == {(RunState.REFUSED, "opted_out")}
    assert len(await asked_of_the_model(stage)) == asked


async def test_the_label_on_the_issue_holds_for_its_pull_request_too(stage: Stage) -> None:
    number = await ask(stage)
    await stage.ended()
    pull = (await one_pull_request(stage, head=f"magicode/issue-{number}"))["number"]
    asked = len(await asked_of_the_model(stage))
    await by_hand(stage, "POST", f"/issues/{number}/labels", labels=["no-magicode"])
    await stage.comment(pull, "@magicode write it once more")
    _, run = await stage.ended(2)
    assert (run.state, run.reason) == (RunState.REFUSED, "opted_out")
    assert len(await asked_of_the_model(stage)) == asked


async def test_a_repository_file_that_switches_the_app_off_is_obeyed(
    raise_stage: Stages, sample: Path
) -> None:
    (sample / ".github").mkdir(exist_ok=True)
    (sample / ".github" / "magicode.yml").write_text("enabled: false\n")
    stage = await raise_stage({"octo/fairshare": sample}, notes())
    await ask(stage)
    assert "enabled: false" in await ended_well_told(stage, await refused(stage, "switched_off"))


# --- closed, locked --------------------------------------------------------------------------------------------------


async def test_a_closed_issue_is_not_worked_on(stage: Stage) -> None:
    number = await an_issue(stage)
    await by_hand(stage, "PATCH", f"/issues/{number}", state="closed")
    await stage.comment(number, ASK)
    await refused(stage, "closed")
    (said,) = await ours(stage, number)
    assert "This is closed" in said


async def test_a_locked_issue_is_not_worked_on_and_nothing_is_said_where_nothing_can_be(stage: Stage) -> None:
    number = await an_issue(stage)
    await by_hand(stage, "PUT", f"/issues/{number}/lock")
    await stage.comment(number, ASK)
    await refused(stage, "locked")
    assert await ours(stage, number) == []


@pytest.mark.parametrize(
    ("method", "route", "given", "reason"),
    [
        ("PATCH", "", {"state": "closed"}, "closed"),
        ("PUT", "/lock", {}, "locked"),
        ("POST", "/labels", {"labels": ["no-magicode"]}, "opted_out"),
    ],
)
async def test_what_is_taken_back_while_the_change_is_made_is_not_published(
    raise_stage: Stages, sample: Path, method: str, route: str, given: dict[str, Any], reason: str
) -> None:
    slow = create("NOTES.md", "A note.\n") | {"slow": {"seconds": 8}}
    stage = await raise_stage({"octo/fairshare": sample}, playbook(scenario(slow, finish())))
    number = await ask(stage)

    async def asking() -> bool:
        return bool(await asked_of_the_model(stage))

    await until(asking)
    await by_hand(stage, method, f"/issues/{number}{route}", **given)
    (run,) = await stage.ended()
    assert (run.state, run.reason) == (RunState.REFUSED, reason)
    assert (await branches(stage), await stage.pulls()) == ([], [])


async def test_what_is_closed_locked_or_assigned_is_still_answered_when_no_work_is_asked_for(
    stage: Stage,
) -> None:
    number = await an_issue(stage, assignees=["ada"], labels=["no-magicode"])
    await by_hand(stage, "PATCH", f"/issues/{number}", state="closed")
    await stage.comment(number, "@magicode help")
    (run,) = await stage.ended()
    assert (run.state, run.reason) == (RunState.ANSWERED, "help")


# --- plans and questions ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "reason"), [({"assignees": ["ada"]}, "assigned"), ({"labels": ["no-magicode"]}, "opted_out")]
)
async def test_no_plan_is_made_for_what_is_assigned_or_opted_out(
    stage: Stage, how: dict[str, Any], reason: str
) -> None:
    number = await an_issue(stage, **how)
    await stage.comment(number, "@magicode plan")
    await ended_well_told(stage, await refused(stage, reason))


async def test_a_plan_is_made_where_others_have_a_pull_request(raise_stage: Stages, sample: Path) -> None:
    words = {
        "summary": "Write it.",
        "files": [{"path": "NOTES.md", "change": "The note."}],
        "steps": ["Write."],
        "risks": [],
    }
    turn = {"calls": [{"tool": "plan", "arguments": words}]}
    stage = await raise_stage({"octo/fairshare": sample}, playbook(scenario(turn)))
    number = await an_issue(stage)
    await their_pull_request(stage, f"Fixes #{number}")
    await stage.comment(number, "@magicode plan")
    (run,) = await stage.ended()
    assert run.state is RunState.ANSWERED, run.reason


async def test_a_question_is_answered_whatever_stands_in_the_way_of_work(
    raise_stage: Stages, sample: Path
) -> None:
    turn = {"calls": [{"tool": "answer", "arguments": {"text": "It shares amounts."}}]}
    stage = await raise_stage({"octo/fairshare": sample}, playbook(scenario(turn)))
    number = await an_issue(stage, assignees=["ada"], labels=["no-magicode"])
    await their_pull_request(stage, f"Fixes #{number}")
    await by_hand(stage, "PATCH", f"/issues/{number}", state="closed")
    await stage.comment(number, "@magicode explain what it does")
    (run,) = await stage.ended()
    assert run.state is RunState.ANSWERED, run.reason
    assert "It shares amounts." in (await ours(stage, number))[0]
