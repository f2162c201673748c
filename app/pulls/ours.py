"""Which commits and branches are ours to write to, and whether the repository's rules let us: asked before each push."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from app.errors import MissingError, RefusedError
from app.nouns import Branch, Commit, PullRequest, Rule, Run
from app.ports import RepositoryReader
from app.pulls import wording
from app.pulls.branch import is_ours


class RulesGuard(Protocol):
    """Refuses (RefusedError) what the repository's effective rules and protection would not let us write."""

    def __call__(
        self,
        *,
        branch: str,
        branch_rules: Sequence[Rule],
        branch_protected: bool,
        base: str,
        base_rules: Sequence[Rule],
        base_protected: bool,
        commit_message: str,
    ) -> None: ...


MERGES_LOOKED_THROUGH: Final = 50
"""Updates from the base branch in a row."""

GITHUB_ITSELF: Final = "web-flow"
"""The account that GitHub commits as, for what is made through its API and its pages."""


def by_us(commit: Commit) -> bool:
    """Our trailer, and no person as its author or committer: who amends our commit keeps its author and its message.

    GitHub names no account where it knows none for the address.
    """
    made_by = (commit.author_login, commit.committer_login)
    no_person = all(one is None or one == GITHUB_ITSELF or one.endswith("[bot]") for one in made_by)
    return no_person and wording.has_trailer(commit.message)


async def ours_down_to(commit: Commit, reader: RepositoryReader) -> bool:
    """Whether this commit is ours, and what our updates from the base branch were merged into: a person's push can come
    between our last look and such a merge, which then stands on top of it."""
    at = commit
    for _ in range(MERGES_LOOKED_THROUGH):
        if not by_us(at):
            return False
        if len(at.parents) < 2:
            return True
        at = await reader.commit(at.parents[0])
    return by_us(at)


def refused(reason: str) -> RefusedError:
    return RefusedError(wording.why(reason)[0], reason=reason)


async def head_of(reader: RepositoryReader, name: str) -> Branch | None:
    """The branch, or None where there is none. Raises MissingError for a repository without any commit."""
    try:
        return await reader.branch(name)
    except MissingError as error:
        if error.reason == "repository_empty":
            raise
        return None


async def our_head(run: Run, pull: PullRequest, reader: RepositoryReader) -> Commit:
    """The commit at the head of a pull request of ours.

    Raises RefusedError: `not_our_pull_request`, `human_commits`, `pull_request_closed` where the branch is gone.
    """
    if not is_ours(pull.head_ref) or pull.head_repository_id != run.repository_id:
        raise refused("not_our_pull_request")
    head = await head_of(reader, pull.head_ref)
    if head is None:
        raise refused("pull_request_closed")
    commit = await reader.commit(head.sha)
    if not await ours_down_to(commit, reader):
        raise refused("human_commits")
    return commit


async def obey_rules(
    reader: RepositoryReader,
    guard: RulesGuard,
    *,
    branch: str,
    base_ref: str,
    head: Branch | None,
    message: str,
) -> None:
    """Raises RefusedError where `guard` says no, or where the branch is protected (`branch_protected`).

    Rulesets answer for a branch that does not exist yet; classic protection is seen on one that does. `protected` is also
    what GitHub says of a branch that a ruleset covers, such as one that forbids force pushes everywhere: those rules are
    kept one by one. https://docs.github.com/en/rest/branches/branches#list-branches
    """
    base = await reader.branch(base_ref)
    rules = await reader.rules(branch)
    protected = head is not None and head.protected and not rules
    guard(
        branch=branch,
        branch_rules=rules,
        branch_protected=protected,
        base=base.name,
        base_rules=await reader.rules(base.name),
        base_protected=base.protected,
        commit_message=message,
    )
    if protected:
        raise refused("branch_protected")
