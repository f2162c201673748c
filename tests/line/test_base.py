"""The base branch moved: what becomes of our pull requests, told by their commits and by what stands in their comments."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from app import refreshing
from app.jobs import accept
from infra.models.playbook import Playbook
from infra.simulator.ci import CiJob, Code, passing
from tests.line.conftest import Stages
from tests.line.conversations import (
    ask,
    asked_of_the_model,
    create,
    ended_well_told,
    finish,
    one_pull_request,
    ours,
    playbook,
    reasons,
    scenario,
    writes_of,
)
from tests.line.seen import act, comment_of_ours, commit, commits, get, push, text, tip, until
from tests.line.stage import Stage

LINES = "".join(f"line {number}\n" for number in range(30))
OURS = LINES.replace("line 2\n", "two\n")
BELOW = LINES.replace("line 28\n", "twenty-eight\n")
BOTH = OURS.replace("line 28\n", "twenty-eight\n")
SAME_LINE = LINES.replace("line 2\n", "zwei\n")
"""What merges with ours: BELOW does, SAME_LINE does not."""


def edit(path: str, old: str, new: str) -> dict[str, Any]:
    return {"calls": [{"tool": "edit", "arguments": {"path": path, "old": old, "new": new}}]}


def script(*, slow: float = 0.0) -> Playbook:
    more = create("MORE.md", "More.\n")
    if slow:
        more["slow"] = {"seconds": slow}
    return playbook(
        scenario(more, finish("Write more"), when="once more"),
        scenario(edit("LONG.md", "line 2\n", "two\n"), finish("Count in words")),
    )


@pytest.fixture
async def stages(raise_stage: Stages, sample: Path, monkeypatch: pytest.MonkeyPatch) -> Stages:
    """A service that looks at a moved base at once."""
    monkeypatch.setattr(accept, "FOLLOW_AFTER_SECONDS", 0.1)
    monkeypatch.setattr(refreshing, "LATER_SECONDS", 0.2)
    (sample / "LONG.md").write_text(LINES)

    async def up(book: Playbook | None = None, **how: Any) -> Stage:
        return await raise_stage({"octo/fairshare": sample}, book or script(), **how)

    return up


@pytest.fixture
async def stage(stages: Stages) -> Stage:
    return await stages()


async def opened(stage: Stage) -> tuple[int, int, str]:
    """An issue, our pull request that solves it, and the branch of that."""
    issue = await ask(stage)
    await stage.ended()
    pull = await one_pull_request(stage, head=f"magicode/issue-{issue}")
    return issue, int(pull["number"]), f"magicode/issue-{issue}"


async def looked(stage: Stage, sha: str, *, quiet: float = 1.0) -> None:
    """Until all that a push brings about has been brought about."""
    await stage.settled()

    async def still() -> bool:
        before = len(stage.github.world.requests)
        await asyncio.sleep(quiet)
        return len(stage.github.world.requests) == before

    await until(still)
    assert await tip(stage, "main") == sha


async def moved(stage: Stage, branch: str, before: str) -> dict[str, Any]:
    """The newest commit of the branch, once it is another than this."""

    async def look() -> bool:
        return await tip(stage, branch) != before

    await until(look)
    return await commit(stage, await tip(stage, branch))


# --- it merges cleanly -----------------------------------------------------------------------------------------------


async def test_a_base_that_touched_the_same_file_is_merged_forward_and_ci_runs_on_it(stages: Stages) -> None:
    def ci(code: Code) -> list[CiJob]:
        return [passing("tests", "ok")]

    stage = await stages()
    stage.github.on_push(ci)
    issue, pull, branch = await opened(stage)
    before = await tip(stage, branch)
    main = await push(stage, "main", "LONG.md", BELOW)
    merge = await moved(stage, branch, before)
    assert [one["sha"] for one in merge["parents"]] == [before, main], "on top of ours: nothing was forced"
    assert merge["message"].startswith(f"Merge main into {branch}\n")
    assert await text(stage, "LONG.md", branch) == BOTH
    assert (await get(stage, f"/compare/main...{branch}"))["behind_by"] == 0

    async def green() -> bool:
        runs = (await get(stage, f"/commits/{merge['sha']}/check-runs"))["check_runs"]
        return bool(runs) and all(one["conclusion"] == "success" for one in runs)

    await until(green)
    assert len(await ours(stage, issue)) == 1, "the commit says it; nobody needs another comment"
    assert await ours(stage, pull) == []


async def test_a_base_that_touched_other_files_leaves_the_branch_as_it_is(stage: Stage) -> None:
    issue, _, branch = await opened(stage)
    before, wrote = await tip(stage, branch), len(await writes_of(stage))
    said = await ours(stage, issue)
    await looked(stage, await push(stage, "main", "OTHER.md", "Other work.\n"))
    assert await tip(stage, branch) == before
    assert await ours(stage, issue) == said
    assert len(await writes_of(stage)) == wrote


async def test_where_a_ruleset_wants_branches_up_to_date_any_push_is_merged(stage: Stage) -> None:
    checks = {
        "type": "required_status_checks",
        "parameters": {
            "required_status_checks": [{"context": "tests"}],
            "strict_required_status_checks_policy": True,
        },
    }
    conditions = {"ref_name": {"include": ["~DEFAULT_BRANCH"], "exclude": []}}
    issue, _, branch = await opened(stage)
    before = await tip(stage, branch)
    main = await push(stage, "main", "OTHER.md", "Other work.\n", user="ada")
    await looked(stage, main)
    assert await tip(stage, branch) == before
    await act(
        stage, "POST", "/rulesets", user="ada", name="strict", enforcement="active",
        conditions=conditions, rules=[checks], bypass_actors=[{"actor_id": 5, "actor_type": "RepositoryRole", "bypass_mode": "always"}],
    )  # fmt: skip
    main = await push(stage, "main", "ANOTHER.md", "More of it.\n", user="ada")
    merge = await moved(stage, branch, before)
    assert [one["sha"] for one in merge["parents"]] == [before, main]
    assert await text(stage, "ANOTHER.md", branch) == "More of it.\n"
    assert len(await ours(stage, issue)) == 1


async def test_a_revision_behind_its_base_works_on_the_merged_code(stage: Stage) -> None:
    _, pull, branch = await opened(stage)
    before = await tip(stage, branch)
    main = await push(stage, "main", "OTHER.md", "Other work.\n")
    await looked(stage, main)
    assert await tip(stage, branch) == before
    await stage.comment(pull, "@magicode write it once more")
    runs = await stage.ended(2)
    assert reasons(runs)[1] == ("revise", "updated", "updated")
    assert await commits(stage, pull) == ["Count in words", f"Merge main into {branch}", "Write more"]
    newest = await commit(stage, await tip(stage, branch))
    merge = await commit(stage, newest["parents"][0]["sha"])
    assert [one["sha"] for one in merge["parents"]] == [before, main]
    assert merge["sha"] in str((await asked_of_the_model(stage))[-2]["body"]), "that is what the model saw"
    assert await text(stage, "OTHER.md", branch) == "Other work.\n"
    assert await text(stage, "MORE.md", branch) == "More.\n"


async def test_a_push_while_a_run_is_at_work_there_is_merged_once_it_has_ended(stages: Stages) -> None:
    stage = await stages(script(slow=3))
    _, pull, branch = await opened(stage)
    asked = len(await asked_of_the_model(stage))
    await stage.comment(pull, "@magicode write it once more")

    async def at_work() -> bool:
        return len(await asked_of_the_model(stage)) > asked

    await until(at_work)
    main = await push(stage, "main", "LONG.md", BELOW)
    await stage.ended(2)
    revised = (await stage.ended(2))[1].head_sha
    assert revised is not None
    merge = await moved(stage, branch, revised)
    assert [one["sha"] for one in merge["parents"]] == [revised, main]
    assert await text(stage, "LONG.md", branch) == BOTH
    assert await text(stage, "MORE.md", branch) == "More.\n"


# --- it conflicts ----------------------------------------------------------------------------------------------------


async def test_a_conflict_is_told_once_however_many_pushes_follow(stage: Stage) -> None:
    issue, pull, branch = await opened(stage)
    before = await tip(stage, branch)
    main = await push(stage, "main", "LONG.md", SAME_LINE)
    said = await comment_of_ours(stage, issue, "does not merge cleanly")
    assert "- `LONG.md`" in said["body"]
    assert f"#{pull}" in said["body"]
    await looked(stage, main)
    wrote = len(await writes_of(stage))
    for number in range(3):
        main = await push(stage, "main", f"OTHER_{number}.md", "Other work.\n")
    main = await push(stage, "main", "LONG.md", SAME_LINE.replace("line 9", "neun"))
    await looked(stage, main)
    told = await ours(stage, issue)
    assert told == [said["body"]], "one comment, and it has not changed"
    assert await ours(stage, pull) == []
    # Each push is tried, and a merge that GitHub refuses writes nothing.
    assert [one for one in (await writes_of(stage))[wrote:] if "merges" not in one[1]] == []
    assert await tip(stage, branch) == before


async def test_a_conflict_stays_told_when_the_checks_end(stages: Stages) -> None:
    stage = await stages()
    workflow = stage.github.on_push(lambda code: [passing("tests", "ok")])
    workflow.hold()
    issue, _, _ = await opened(stage)
    await push(stage, "main", "LONG.md", SAME_LINE)
    await comment_of_ours(stage, issue, "does not merge cleanly")
    await workflow.release()
    said = (await comment_of_ours(stage, issue, "check(s) passed"))["body"]
    assert "does not merge cleanly" in said
    assert said.count("`LONG.md`") == 1
    assert len(await ours(stage, issue)) == 1


async def test_a_conflict_that_is_over_is_told_no_longer(stage: Stage) -> None:
    issue, _, branch = await opened(stage)
    before = await tip(stage, branch)
    await push(stage, "main", "LONG.md", SAME_LINE)
    await comment_of_ours(stage, issue, "does not merge cleanly")
    main = await push(stage, "main", "LONG.md", LINES)

    async def told() -> bool:
        (said,) = await ours(stage, issue)
        return "does not merge cleanly" not in said

    await until(told)
    await looked(stage, main)
    (said,) = await ours(stage, issue)
    assert "merges cleanly again" in said
    assert await text(stage, "LONG.md", branch) == OURS
    assert (await get(stage, f"/compare/{before}...{branch}"))["behind_by"] == 0


async def test_a_revision_on_a_conflicting_branch_is_made_and_names_what_conflicts(stage: Stage) -> None:
    issue, pull, branch = await opened(stage)
    before = await tip(stage, branch)
    await push(stage, "main", "LONG.md", SAME_LINE)
    await comment_of_ours(stage, issue, "does not merge cleanly")
    await stage.comment(pull, "@magicode write it once more")
    runs = await stage.ended(2)
    assert reasons(runs)[1] == ("revise", "updated", "updated")
    said = await ended_well_told(stage, runs[1], pull)
    assert "`LONG.md`" in said
    newest = await commit(stage, await tip(stage, branch))
    assert [one["sha"] for one in newest["parents"]] == [before]


# --- what is left alone ----------------------------------------------------------------------------------------------


async def test_a_branch_that_a_person_committed_to_is_never_updated(stage: Stage) -> None:
    issue, _, branch = await opened(stage)
    theirs = await push(stage, branch, "BY_HAND.md", "By hand.\n")
    await comment_of_ours(stage, issue, "theirs now")
    await looked(stage, await push(stage, "main", "LONG.md", BELOW))
    assert await tip(stage, branch) == theirs


async def test_a_person_who_pushes_to_both_at_once_keeps_the_branch(stages: Stages) -> None:
    stage = await stages(working=False)
    async with stage.at_work():
        _, _, branch = await opened(stage)
    theirs = await push(stage, branch, "BY_HAND.md", "By hand.\n")
    main = await push(stage, "main", "LONG.md", BELOW)
    await stage.settled()
    async with stage.at_work():
        await looked(stage, main)
    assert await tip(stage, branch) == theirs


async def test_a_closed_pull_request_is_not_updated(stage: Stage) -> None:
    issue, pull, branch = await opened(stage)
    before = await tip(stage, branch)
    await act(stage, "PATCH", f"/pulls/{pull}", state="closed")
    await comment_of_ours(stage, issue, "It was closed")
    await looked(stage, await push(stage, "main", "LONG.md", BELOW))
    assert await tip(stage, branch) == before


async def test_a_push_to_another_branch_is_nothing_to_ours(stage: Stage) -> None:
    _, _, branch = await opened(stage)
    before = await tip(stage, branch)
    main = await tip(stage, "main")
    await act(stage, "POST", "/git/refs", ref="refs/heads/other", sha=main)
    await push(stage, "other", "LONG.md", BELOW)
    await looked(stage, main)
    assert await tip(stage, branch) == before
