"""Whose a commit is: hands off whatever a person made or amended, also below a merge of ours."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from app.errors import RefusedError
from app.pulls import wording
from app.pulls.ours import by_us, our_head, ours_down_to
from app.pulls.publish import require_ours

BRANCH = "magicode/issue-3"
OURS = f"Ours\n\n{wording.trailer(UUID(int=1))}"


@pytest.fixture
def branch(github: Any) -> Any:
    github.write("main", "ada", "Begin", a_py="1", b_py="1")
    github.refs[BRANCH] = github.refs["main"]
    github.write(BRANCH, "magicode[bot]", OURS, a_py="ours")
    return github


def head(github: Any) -> Any:
    return github.commits[github.refs[BRANCH]]


@pytest.mark.parametrize("committer", [None, "web-flow", "magicode[bot]"])
def test_a_commit_that_github_or_a_bot_committed_is_ours(branch: Any, committer: str | None) -> None:
    assert by_us(replace(head(branch), committer_login=committer))


def test_a_commit_of_ours_that_a_person_amended_is_not(branch: Any) -> None:
    assert not by_us(replace(head(branch), committer_login="wim"))


def test_a_commit_with_our_trailer_by_a_person_is_not(branch: Any) -> None:
    branch.write(BRANCH, "wim", OURS, a_py="wims")
    assert not by_us(head(branch))


async def test_a_push_just_before_our_merge_makes_the_branch_theirs_for_good(branch: Any, run: Any) -> None:
    """GitHub merges into the branch as it is, so the merge can stand on a commit that we never saw."""
    await branch.create_pull_request(title="t", body="", head=BRANCH, base="main", draft=False)
    pull = next(iter(branch.pulls.values()))
    branch.write(BRANCH, "wim", "By hand", a_py="wims")
    moved = branch.write("main", "ada", "More", b_py="2")
    await branch.merge(BRANCH, moved, OURS)
    assert by_us(head(branch))
    assert not await ours_down_to(head(branch), branch)
    with pytest.raises(RefusedError) as refused:
        await require_ours(BRANCH, branch)
    assert refused.value.reason == "human_commits"
    with pytest.raises(RefusedError) as refused:
        await our_head(run(), pull, branch)
    assert refused.value.reason == "human_commits"


async def test_a_merge_on_our_own_commit_is_ours(branch: Any) -> None:
    for text in "23":
        moved = branch.write("main", "ada", "More", b_py=text)
        await branch.merge(BRANCH, moved, OURS)
    assert await ours_down_to(head(branch), branch)
    await require_ours(BRANCH, branch)
