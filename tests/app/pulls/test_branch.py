"""Which branch: from GitHub's pull requests alone, the same each time it is asked."""

from __future__ import annotations

from itertools import islice
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import DefectError
from app.nouns import PullRequest
from app.pulls.branch import Choice, is_ours, judge, names

MARK = "<!-- mine -->"


def _pull(number: int, state: str, body: str = "", **changes: Any) -> PullRequest:
    return PullRequest(number, "n", "t", body, state, False, False, "h", "s", 7, "main", "b", "u")


def choose(number: int, pulls: dict[str, list[PullRequest]], mark: str) -> Choice:
    """The first name that is good for something, as the publisher looks for it."""
    judged = (judge(name, pulls.get(name, []), mark) for name in names(number))
    return next(choice for choice in judged if choice is not None)


def test_the_names_are_the_issues_number_and_then_counted() -> None:
    assert list(islice(names(3), 3)) == ["magicode/issue-3", "magicode/issue-3-2", "magicode/issue-3-3"]


def test_the_first_name_is_used_when_nothing_is_there() -> None:
    assert choose(3, {}, MARK).branch == "magicode/issue-3"


def test_an_open_pull_request_is_revised() -> None:
    assert judge("magicode/issue-3", [_pull(9, "open"), _pull(8, "closed")], MARK) is not None
    choice = choose(3, {"magicode/issue-3": [_pull(9, "open")]}, MARK)
    assert choice.pull_request is not None
    assert choice.pull_request.number == 9
    assert not choice.settled


def test_this_runs_own_closed_pull_request_settles_it() -> None:
    choice = choose(3, {"magicode/issue-3": [_pull(9, "closed", MARK)]}, MARK)
    assert choice.settled
    assert choice.branch == "magicode/issue-3"


@given(st.integers(0, 8))
def test_each_closed_pull_request_moves_on_by_one(closed: int) -> None:
    pulls = {name: [_pull(i, "closed")] for i, name in enumerate(islice(names(3), closed))}
    assert choose(3, pulls, MARK).branch == next(islice(names(3), closed, None))


@pytest.mark.parametrize("branch", ["main", "magicode/", "magicode", "feature/magicode/x", "Magicode/x"])
def test_a_branch_outside_our_prefix_is_never_chosen(branch: str) -> None:
    assert not is_ours(branch)
    with pytest.raises(DefectError):
        judge(branch, [], MARK)
