"""Which commits and branches are ours to write to, and whether the repository's rules let us: asked before each push."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

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


def by_us(commit: Commit) -> bool:
    """Our trailer, and no person as its author (GitHub names none where it knows no account for the address)."""
    by_a_bot = commit.author_login is None or commit.author_login.endswith("[bot]")
    return by_a_bot and wording.has_trailer(commit.message)


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
    if not by_us(commit):
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
