"""From an issue to a merge, whole: each step is looked for on GitHub and not in our own tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from infra.models.playbook import Playbook
from infra.simulator.ci import CiJob, Code, failing, passing
from tests.line.conftest import Stages
from tests.line.conversations import BODY, TITLE, create, edit, finish, plans, playbook, scenario
from tests.line.seen import act, comment_of_ours, get, text, until
from tests.line.stage import Stage

LOG = """\
============================= test session starts ==============================
collected 3 items

tests/test_note.py F..                                                   [100%]

=================================== FAILURES ===================================
E       AssertionError: the note says tpyo, it should say typo
FAILED tests/test_note.py::test_the_note_is_spelled - AssertionError: the note says tpyo
========================= 1 failed, 2 passed in 0.04s ==========================
"""


def script() -> Playbook:
    said = finish("Say it in the second line", "A reviewer asked for a second line.")
    said["calls"][0]["arguments"]["replies"] = [
        {"comment_id": "{thread:int}", "text": "The second line says it now."}
    ]
    return playbook(
        plans(),
        scenario(
            edit("NOTES.md", "tpyo", "typo"),
            finish("Spell the note", "CI's spelling test failed."),
            when="FAILED tests/test_note.py",
        ),
        scenario(
            {**edit("NOTES.md", "A note.\n", "A note.\nIt holds a tpyo.\n")},
            {**said, "capture": [r"(?s)comment_id[=\" :]+(?P<thread>\d+)"]},
            when="second line",
        ),
        scenario(create("NOTES.md", "A note.\n"), finish()),
    )


def ci(code: Code) -> list[CiJob]:
    bad = "tpyo" in code.text("NOTES.md")
    return [failing("tests", LOG) if bad else passing("tests", "3 passed"), passing("lint")]


@pytest.fixture
async def stage(raise_stage: Stages, sample: Path) -> Stage:
    stage = await raise_stage({"octo/fairshare": sample}, script())
    stage.github.on_push(ci)
    return stage


async def said(stage: Stage, number: int, *words: str) -> str:
    return str((await comment_of_ours(stage, number, *words))["body"])


async def head(stage: Stage, pull: int) -> str:
    return str((await get(stage, f"/pulls/{pull}"))["head"]["sha"])


async def moved(stage: Stage, pull: int, sha: str) -> dict[str, Any]:
    """The newest commit once the pull request's head is another than this."""

    async def look() -> Any:
        return (await head(stage, pull)) != sha

    await until(look)
    return dict(await get(stage, f"/git/commits/{await head(stage, pull)}"))


@pytest.mark.long
async def test_from_an_issue_over_plan_review_and_red_ci_to_the_merge(stage: Stage) -> None:
    # issue → plan: nothing is changed, and the plan stands in one comment
    issue = await stage.open_issue(TITLE, f"{BODY}")
    await stage.comment(issue, "@magicode plan")
    plan = await said(stage, issue, "Write the note that is missing.", "**Cost:**")
    assert "NOTES.md" in plan
    assert await stage.pulls() == []

    # go → pull request: a draft that becomes ready once CI has passed
    await stage.ended()
    await stage.comment(issue, "@magicode go")
    (pull,) = await until(stage.pulls)
    number, branch = int(pull["number"]), f"magicode/issue-{issue}"
    assert pull["head"]["ref"] == branch
    assert f"Fixes #{issue}" in pull["body"]

    async def is_ready() -> bool:
        return not (await get(stage, f"/pulls/{number}"))["draft"]

    await until(is_ready)
    assert await text(stage, "NOTES.md", branch) == "A note.\n"
    opened = await head(stage, number)

    # inline review → revision: one new commit on top, and a reply in the thread
    review = await act(
        stage,
        "POST",
        f"/pulls/{number}/reviews",
        event="REQUEST_CHANGES",
        body="One thing.",
        commit_id=opened,
        comments=[
            {"path": "NOTES.md", "line": 1, "side": "RIGHT", "body": "@magicode please add a second line"}
        ],
    )
    assert review["state"] == "CHANGES_REQUESTED"
    revised = await moved(stage, number, opened)
    assert [one["sha"] for one in revised["parents"]] == [opened]

    async def replies() -> list[dict[str, Any]]:
        comments = await get(stage, f"/pulls/{number}/comments")
        return [one for one in comments if one["user"]["login"] == "magicode[bot]"]

    (reply,) = await until(replies)
    assert reply["in_reply_to_id"] is not None
    assert "The second line says it now." in reply["body"]
    assert revised["sha"][:7] in reply["body"]

    # failing CI → fix: another commit on top, with no word from anybody
    mended = await moved(stage, number, revised["sha"])
    assert [one["sha"] for one in mended["parents"]] == [revised["sha"]]
    assert "typo" in await text(stage, "NOTES.md", branch)
    status = await said(stage, number, "Try 1 of 3")
    assert mended["sha"][:7] in status

    async def green() -> bool:
        runs = await get(stage, f"/commits/{mended['sha']}/check-runs")
        return bool(runs["check_runs"]) and all(one["conclusion"] == "success" for one in runs["check_runs"])

    await until(green)

    # a human pushes → hands off: red CI on their commit is theirs, and so is the branch
    theirs = (
        await act(
            stage,
            "PUT",
            "/contents/BY_HAND.md",
            message="By hand",
            content="eA==",
            branch=branch,
        )
    )["commit"]["sha"]
    await said(stage, issue, "theirs now")
    await stage.comment(number, "@magicode please add a second line")
    await said(stage, number, "It is theirs now")
    assert await head(stage, number) == theirs

    # merge: said once, and nothing begins there again
    await act(stage, "PUT", f"/pulls/{number}/merge", merge_method="squash")
    await said(stage, issue, "It was merged.")
    await stage.settled()
    assert [one["number"] for one in await stage.pulls()] == [number]
    assert len([one for one in await stage.comments(number) if "Try " in one["body"]]) == 1
