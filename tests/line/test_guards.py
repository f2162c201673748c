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
    ended_well_told,
    notes,
    one_pull_request,
    ours,
)
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


# --- opted out -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("label", ["no-magicode", "No-MagiCode"])
async def test_the_label_on_an_issue_keeps_the_app_away(stage: Stage, label: str) -> None:
    number = await an_issue(stage, labels=[label])
    await stage.comment(number, ASK)
    said = await ended_well_told(stage, await refused(stage, "opted_out"))
    assert f"`no-magicode` on #{number}" in said


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
    assert "closed" in await ended_well_told(stage, await refused(stage, "closed"))


async def test_a_locked_issue_is_not_worked_on_and_nothing_is_said_where_nothing_can_be(stage: Stage) -> None:
    number = await an_issue(stage)
    await by_hand(stage, "PUT", f"/issues/{number}/lock")
    await stage.comment(number, ASK)
    await refused(stage, "locked")
    assert await ours(stage, number) == []


async def test_what_is_closed_locked_or_assigned_is_still_answered_when_no_work_is_asked_for(
    stage: Stage,
) -> None:
    number = await an_issue(stage, assignees=["ada"], labels=["no-magicode"])
    await by_hand(stage, "PATCH", f"/issues/{number}", state="closed")
    await stage.comment(number, "@magicode help")
    (run,) = await stage.ended()
    assert (run.state, run.reason) == (RunState.ANSWERED, "help")
