"""Which branch a run publishes to: told from GitHub's state alone, never from a model, a clock or chance."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from app.errors import DefectError
from app.nouns import PullRequest

PREFIX: Final = "magicode/"


@dataclass(frozen=True, slots=True)
class Choice:
    """`pull_request` is the open one to revise, or the one that this very run opened, whatever became of it since.

    `settled` says that the latter is closed or merged by now: there is nothing left to do, and no next one is begun.
    """

    branch: str
    pull_request: PullRequest | None = None
    settled: bool = False


def names(number: int) -> Iterator[str]:
    """`magicode/issue-<n>`, then `-2`, `-3` …"""
    first = f"{PREFIX}issue-{number}"
    yield first
    suffix = 2
    while True:
        yield f"{first}-{suffix}"
        suffix += 1


def is_ours(branch: str) -> bool:
    return branch.startswith(PREFIX) and len(branch) > len(PREFIX)


def judge(branch: str, pulls: Sequence[PullRequest], opened_marker: str) -> Choice | None:
    """What this branch name is good for, from the pull requests in any state that have it as their head.

    None: its pull requests are all closed, and none of them is this run's: the next name is tried.
    """
    if not is_ours(branch):
        raise DefectError(f"A branch outside {PREFIX} was about to be written to.", reason="foreign_branch")
    still_open = next((one for one in pulls if one.state == "open"), None)
    if still_open is not None:
        return Choice(branch, still_open)
    this_runs = next((one for one in pulls if opened_marker in one.body), None)
    if this_runs is not None:
        return Choice(branch, this_runs, settled=True)
    return None if pulls else Choice(branch)
