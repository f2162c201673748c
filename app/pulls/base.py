"""The base branch moved: our branch is brought up to date with a merge where that is clean, and what conflicts is named.

It never forces, never rebases, and never touches a branch whose head is not ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from app.errors import InvalidError
from app.nouns import Action, Commit, PullRequest, Rule, Run
from app.ports import Fence, Recorder, RepositoryReader, RepositoryWriter
from app.pulls import body
from app.pulls.ours import RulesGuard, by_us, obey_rules, our_head, refused
from app.pulls.sides import touched_by_both


@dataclass(frozen=True, slots=True)
class Updated:
    """The base is merged into the branch by this commit."""

    commit_sha: str
    verified: bool


@dataclass(frozen=True, slots=True)
class UpToDate:
    """The branch has all that its base has."""


@dataclass(frozen=True, slots=True)
class Conflicts:
    """It does not merge cleanly: `paths` were changed on both sides. Nothing was written."""

    paths: tuple[str, ...]


class Need(StrEnum):
    """Why a branch has to be brought up to date before anybody merges it."""

    DEMANDED = "demanded"
    SAME_FILES = "same_files"


async def needed(pull: PullRequest, reader: RepositoryReader) -> Need | None:
    """Whether the base moved in a way that matters: a rule wants the branch up to date, or both touched the same files.

    A classic protection that wants it is not shown to us; there, GitHub's own button says so.
    https://docs.github.com/en/rest/repos/rules#get-rules-for-a-branch
    """
    comparison = await reader.compare(pull.base_ref, pull.head_sha)
    if not comparison.behind_by:
        return None
    if _demanded(await reader.rules(pull.base_ref)):
        return Need.DEMANDED
    tip = await reader.branch(pull.base_ref)
    both = await touched_by_both(reader, comparison.merge_base_sha, pull.head_sha, tip.sha)
    return Need.SAME_FILES if both else None


async def update_from_base(
    run: Run,
    pull: PullRequest,
    *,
    reader: RepositoryReader,
    writer: RepositoryWriter,
    fence: Fence,
    record: Recorder,
    guard: RulesGuard,
) -> Updated | UpToDate | Conflicts:
    """Merges the base branch into our branch, where it has what ours has not.

    The merge carries the run's trailer. Done twice, it is up to date the second time. Raises RefusedError (`not_our_pull_request`,
    `pull_request_closed`, `human_commits`, `branch_protected`, and what `guard` refuses), InvalidError where GitHub's
    rules refuse, SupersededError and StoppedError from the fence.
    """
    head = await our_head(run, pull, reader)
    if pull.state != "open":
        raise refused("pull_request_closed")
    comparison = await reader.compare(pull.base_ref, head.sha)
    if not comparison.behind_by:
        return UpToDate()
    tip = await reader.branch(pull.base_ref)
    message = body.merge_message(run.id, pull.base_ref, pull.head_ref)
    await obey_rules(
        reader,
        guard,
        branch=pull.head_ref,
        base_ref=pull.base_ref,
        head=await reader.branch(pull.head_ref),
        message=message,
    )
    await fence()
    try:
        merged = await writer.merge(pull.head_ref, tip.sha, message)
    except InvalidError as error:
        if error.reason != "merge_conflict":
            raise
        return Conflicts(await touched_by_both(reader, comparison.merge_base_sha, head.sha, tip.sha))
    if merged is None:
        return UpToDate()
    await record(Action.REF_UPDATED, branch=pull.head_ref, sha=merged.sha, merged=tip.sha)
    return await _on_ours(reader, head, merged)


async def _on_ours(reader: RepositoryReader, head: Commit, merged: Commit) -> Updated:
    """GitHub merges into the branch as it is at that moment: a person may have pushed since we looked. Their commit is
    whole below the merge, and the branch is theirs from here on. https://docs.github.com/en/rest/branches/branches#merge-a-branch
    """
    below = merged.parents[0]
    if below != head.sha and not by_us(await reader.commit(below)):
        raise refused("human_commits")
    return Updated(merged.sha, merged.verified)


def _demanded(rules: Sequence[Rule]) -> bool:
    return any(
        rule.type == "required_status_checks"
        and rule.parameters.get("strict_required_status_checks_policy") is True
        for rule in rules
    )
