"""Takes back our last change on a pull request with a new commit: never forced, and never over other people's work.

What is taken back is told from the branch alone. An undo commit names what it undid in a trailer, so that asking again
takes back the change before it. Updates from the base branch stay: where one has touched the same files, a person decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from app.errors import InvalidError, MissingError, RefusedError, StoppedError, TransientError, UserError
from app.nouns import Action, Commit, Publication, PullRequest, Run, TreeChange
from app.ports import Fence, Recorder, RepositoryReader, RepositoryWriter
from app.pulls import body, wording
from app.pulls.ours import RulesGuard, by_us, obey_rules, our_head, refused
from app.pulls.sides import changed, files, same

FARTHEST = 200
"""Commits of a branch that are looked through for a change to take back."""


@dataclass(frozen=True, slots=True)
class Undone:
    """What was published, and the commit that it takes back."""

    publication: Publication
    undone_sha: str


async def undo(
    run: Run,
    pull: PullRequest,
    *,
    reader: RepositoryReader,
    writer: RepositoryWriter,
    fence: Fence,
    record: Recorder,
    guard: RulesGuard,
    ledger_head: str,
) -> Undone:
    """Reverts the last change of ours on the pull request that is not undone yet.

    A run that is started again finds its commit and takes it. Raises UserError (`nothing_to_undo`), RefusedError
    (`not_our_pull_request`, `pull_request_closed`, `human_commits`, `undo_over_merge`, `branch_protected`, and what
    `guard` refuses), InvalidError where GitHub refuses, TransientError (`branch_moved`), and what the fence raises.
    """
    return await _Undoer(run, pull, reader, writer, fence, record, guard, ledger_head).undo()


@dataclass(frozen=True, slots=True)
class _Target:
    """The change to take back, what it was made on, and whether the base branch was merged in since."""

    commit: Commit
    parent: Commit
    merged_since: bool


@dataclass(frozen=True, slots=True)
class _Undoer:
    run: Run
    pull: PullRequest
    reader: RepositoryReader
    writer: RepositoryWriter
    fence: Fence
    record: Recorder
    guard: RulesGuard
    ledger_head: str

    async def undo(self) -> Undone:
        head = await our_head(self.run, self.pull, self.reader)
        undone_sha = self._undone_by(head)
        if undone_sha is None:
            if self.pull.state != "open":
                raise refused("pull_request_closed")
            head, undone_sha = await self._take_back(head)
        pull = await self._say_so(head, undone_sha)
        return Undone(Publication(pull, pull.head_ref, head.sha, head.verified, created=False), undone_sha)

    def _undone_by(self, commit: Commit) -> str | None:
        """What this very run undid with this commit."""
        return body.undoes(commit.message) if wording.has_trailer(commit.message, self.run.id) else None

    async def _take_back(self, head: Commit) -> tuple[Commit, str]:
        target = await self._target(head)
        message = body.undo_message(self.run.id, target.commit.sha, target.commit.message)
        branch = await self.reader.branch(self.pull.head_ref)
        await obey_rules(
            self.reader,
            self.guard,
            branch=branch.name,
            base_ref=self.pull.base_ref,
            head=branch,
            message=message,
        )
        tree = await self._tree(head, target)
        await self.fence()
        commit = await self.writer.create_commit(message, tree, [head.sha])
        await self.record(
            Action.COMMIT_CREATED,
            sha=commit.sha,
            parent=head.sha,
            undoes=target.commit.sha,
            verified=commit.verified,
        )
        await self.fence()
        try:
            await self.writer.update_ref(branch.name, commit.sha)
        except InvalidError as error:
            if error.reason not in ("not_fast_forward", "ref_race"):
                raise
            return await self._look_again(target)
        except MissingError:
            raise TransientError("The branch is being deleted.", reason="branch_moved") from None
        await self.record(Action.REF_UPDATED, branch=branch.name, sha=commit.sha)
        return commit, target.commit.sha

    async def _look_again(self, target: _Target) -> tuple[Commit, str]:
        """Somebody was quicker: an earlier attempt of this run, whose commit is taken, a person, or another run of ours."""
        head = await our_head(self.run, self.pull, self.reader)
        if self._undone_by(head) != target.commit.sha:
            raise TransientError("The branch moved while it was written to.", reason="branch_moved")
        return head, target.commit.sha

    # --- what is taken back ------------------------------------------------------------------------------------------

    async def _target(self, head: Commit) -> _Target:
        """Back from the head along first parents, past what is undone already, as far as the base branch does not have it."""
        comparison = await self.reader.compare(self.pull.base_ref, head.sha)
        undone: set[str] = set()
        merged_since, at = False, head
        for _ in range(min(comparison.ahead_by, FARTHEST)):
            if not by_us(at) or not at.parents:
                break
            parent = await self.reader.commit(at.parents[0])
            takes_back = body.undoes(at.message)
            if takes_back is not None:
                undone.add(takes_back)
            elif len(at.parents) > 1:
                merged_since = True
            elif at.sha not in undone:
                return _Target(at, parent, merged_since)
            at = parent
        raise UserError(wording.why("nothing_to_undo")[0], reason="nothing_to_undo")

    async def _tree(self, head: Commit, target: _Target) -> str:
        """The tree from before the change; with the base merged in since, the head's with the change's files as they were."""
        if not target.merged_since:
            return target.parent.tree_sha
        changes = await self._inverse(head, target)
        await self.fence()
        return await self.writer.create_tree(head.tree_sha, changes)

    async def _inverse(self, head: Commit, target: _Target) -> Sequence[TreeChange]:
        """Exact, since no file of it has changed after it. Raises RefusedError (`undo_over_merge`) where one has."""
        before = await files(self.reader, target.parent.sha)
        after = await files(self.reader, target.commit.sha)
        now = await files(self.reader, head.sha)
        paths = sorted(changed(before, after))
        touched = [path for path in paths if not same(after.get(path), now.get(path))]
        if touched:
            raise RefusedError(wording.undo_over_merge(touched), reason="undo_over_merge")
        return [
            TreeChange(path, before[path].mode, before[path].sha)
            if path in before
            else TreeChange(path, after[path].mode, None)
            for path in paths
        ]

    # --- the pull request --------------------------------------------------------------------------------------------

    async def _say_so(self, commit: Commit, undone_sha: str) -> PullRequest:
        """Too late to be stopped halfway, not to be taken over."""
        pull = await self.reader.pull_request(self.pull.number)
        if wording.marker(self.run.id) in pull.body:
            return pull
        said = body.undone_body(
            pull.body,
            self.run.id,
            undone_sha=undone_sha,
            commit_sha=commit.sha,
            ledger_head=self.ledger_head,
        )
        with suppress(StoppedError):
            await self.fence()
        revised = await self.writer.update_pull_request(pull.number, body=said)
        await self.record(Action.PULL_REQUEST_UPDATED, number=revised.number, branch=revised.head_ref)
        return revised
