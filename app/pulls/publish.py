"""A verified change becomes one pull request: blobs, tree, commit, branch, draft, ready. The only writing of code.

Everything is looked for before it is made, so that a run that is started again after a crash at any point ends with
the same one pull request. It refuses to write outside `magicode/`, to a protected branch, against the repository's
rules, over somebody else's commit, and backwards.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

from app.errors import (
    AlreadyExistsError,
    DeniedError,
    InvalidError,
    MissingError,
    StoppedError,
    TransientError,
)
from app.nouns import Action, Branch, Change, Commit, Publication, PullRequest, Request, Run, TreeChange
from app.ports import Fence, Recorder, RepositoryReader, RepositoryWriter
from app.pulls import body, wording
from app.pulls.branch import Choice, is_ours, judge, names
from app.pulls.ours import RulesGuard, by_us, head_of, obey_rules, ours_down_to, refused

PERMISSIONS = {"contents": "write", "pull_requests": "write", "metadata": "read"}
"""What the publisher's token is narrowed to."""


@dataclass(frozen=True, slots=True)
class PublishSettings:
    """`ready_after_seconds` gives checks the time to appear before the draft is looked at.

    `keep_draft` leaves marking it as ready to a person.
    """

    ready_after_seconds: float = 2.0
    template: str | None = None
    keep_draft: bool = False


async def publish(
    run: Run,
    request: Request,
    change: Change,
    *,
    reader: RepositoryReader,
    writer: RepositoryWriter,
    fence: Fence,
    record: Recorder,
    guard: RulesGuard,
    ledger_head: str,
    settings: PublishSettings | None = None,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Publication:
    """Opens the pull request of an issue, or revises the one that is open.

    Raises RefusedError (`human_commits`, `branch_moved`, `branch_protected`, `not_our_pull_request`, `pull_request_closed`, and what
    `guard` refuses), InvalidError where GitHub refuses, TransientError where trying again from the start may help,
    SupersededError and StoppedError from the fence.
    """
    publisher = _Publisher(
        run, request, change, reader, writer, fence, record, guard, ledger_head, settings or PublishSettings(),
        sleep,
    )  # fmt: skip
    try:
        return await publisher.publish()
    except MissingError as error:
        # What was written a moment ago is not everywhere at once; a repository that is gone is told by the next look at it.
        raise TransientError(error.message, reason="not_there_yet") from None


@dataclass(frozen=True, slots=True)
class _Publisher:
    run: Run
    request: Request
    change: Change
    reader: RepositoryReader
    writer: RepositoryWriter
    fence: Fence
    record: Recorder
    guard: RulesGuard
    ledger_head: str
    settings: PublishSettings
    sleep: Callable[[float], Awaitable[None]]

    async def publish(self) -> Publication:
        choice = await choose_branch(self.run, self.reader, asked_on=self.request.pull_request)
        if choice.settled and choice.pull_request is not None:
            pull = choice.pull_request
            commit = await self.reader.commit(pull.head_sha)
            return Publication(pull, choice.branch, commit.sha, commit.verified, created=True)
        if self.request.is_revision and choice.pull_request is None:
            # A person ended it while it was being revised: what they turned down comes back when it is asked for again.
            raise refused("pull_request_closed")
        head = await head_of(self.reader, choice.branch)
        message = body.commit_message(
            self.run.id, self.change, number=self.run.number, closes=not self.run.is_pull_request
        )
        base_ref = choice.pull_request.base_ref if choice.pull_request else self.request.base_ref
        await obey_rules(
            self.reader, self.guard, branch=choice.branch, base_ref=base_ref, head=head, message=message
        )
        commit = await self._commit(choice, head, message)
        pull = await self._pull_request(choice, commit.sha)
        created = wording.opened_marker(self.run.id) in pull.body
        if created and pull.draft and not self.settings.keep_draft:
            pull = await self._ready(pull, commit.sha)
        return Publication(pull, choice.branch, commit.sha, commit.verified, created=created)

    # --- the commit and its branch -----------------------------------------------------------------------------------

    async def _commit(self, choice: Choice, head: Branch | None, message: str) -> Commit:
        """This run's commit, on the branch: the one that is there already, or a new one."""
        if head is None and choice.pull_request is not None:
            # The branch of an open pull request vanished between two looks; GitHub closes that pull request.
            raise TransientError("The branch is being deleted.", reason="branch_moved")
        revising = choice.pull_request is not None
        if head is not None:
            there = await self._adopt(head, revising=revising)
            if there is not None:
                return there
        made = await self._make_commit(message)
        await self.fence()
        try:
            if head is None:
                await self.writer.create_ref(choice.branch, made.sha)
                await self.record(Action.REF_CREATED, branch=choice.branch, sha=made.sha)
            else:
                await self.writer.update_ref(choice.branch, made.sha)
                await self.record(Action.REF_UPDATED, branch=choice.branch, sha=made.sha)
        except AlreadyExistsError:
            return await self._look_again(choice.branch)
        except InvalidError as error:
            if error.reason not in ("not_fast_forward", "ref_race"):
                raise
            return await self._look_again(choice.branch)
        except MissingError:
            raise TransientError("The branch is being deleted.", reason="branch_moved") from None
        return made

    async def _look_again(self, branch: str) -> Commit:
        """Somebody was quicker: an earlier attempt of this run, whose commit is taken, or somebody else."""
        head = await head_of(self.reader, branch)
        there = await self._adopt(head, revising=False) if head is not None else None
        if there is None:
            raise TransientError("The branch moved while it was written to.", reason="branch_moved")
        return there

    async def _adopt(self, head: Branch, *, revising: bool) -> Commit | None:
        """What stands at the head of our branch: this run's commit (taken), ours to build on (None), or not ours."""
        commit = await self.reader.commit(head.sha)
        if not revising and head.sha == self.request.base_sha:
            return None
        if not by_us(commit):
            raise refused("human_commits")
        if wording.has_trailer(commit.message, self.run.id) and len(commit.parents) == 1:
            return commit  # a merge is this run's update from the base branch, on which its change is built
        if head.sha != self.request.base_sha:
            raise refused("branch_moved")
        return None

    async def _make_commit(self, message: str) -> Commit:
        base_tree = await self.reader.tree_sha(self.request.base_sha)
        changes = [await self._tree_change(edit.path, edit.mode, edit.after) for edit in self.change.edits]
        await self.fence()
        tree = await self.writer.create_tree(base_tree, changes)
        await self.fence()
        commit = await self.writer.create_commit(message, tree, [self.request.base_sha])
        await self.record(
            Action.COMMIT_CREATED,
            sha=commit.sha,
            parent=self.request.base_sha,
            files=len(changes),
            verified=commit.verified,
        )
        return commit

    async def _tree_change(self, path: str, mode: str, after: bytes | None) -> TreeChange:
        if after is None:
            return TreeChange(path, mode, None)
        await self.fence()
        return TreeChange(path, mode, await self.writer.create_blob(after))

    # --- the pull request --------------------------------------------------------------------------------------------

    async def _pull_request(self, choice: Choice, sha: str) -> PullRequest:
        if choice.pull_request is None:
            return await self._open(choice.branch, sha)
        return await self._revise(choice.pull_request, sha)

    async def _revise(self, pull: PullRequest, sha: str) -> PullRequest:
        if wording.marker(self.run.id) in pull.body:
            return pull
        revised_body = body.revised_body(
            pull.body, self.run.id, self.change, ledger_head=self.ledger_head, commit_sha=sha
        )
        await self._still_ours()
        revised = await self.writer.update_pull_request(pull.number, body=revised_body)
        await self.record(Action.PULL_REQUEST_UPDATED, number=revised.number, branch=revised.head_ref)
        return revised

    async def _open(self, branch: str, sha: str) -> PullRequest:
        await self.fence()
        try:
            pull = await self._create(branch, sha, draft=True)
        except AlreadyExistsError:
            # GitHub's "already exists" speaks of open ones only, and somebody may have opened it just now.
            for found in await self.reader.pull_requests(head_branch=branch, state="open"):
                return await self._revise(found, sha)
            raise TransientError("A pull request came and went.", reason="pull_request_moved") from None
        except InvalidError as error:
            if error.reason != "drafts_unsupported":
                raise
            await self.fence()
            pull = await self._create(branch, sha, draft=False)
        await self.record(
            Action.PULL_REQUEST_OPENED,
            number=pull.number,
            branch=branch,
            base=pull.base_ref,
            draft=pull.draft,
        )
        return pull

    async def _create(self, branch: str, sha: str, *, draft: bool) -> PullRequest:
        new_body = body.pull_request_body(
            self.run.id,
            self.change,
            number=self.run.number,
            closes=not self.run.is_pull_request,
            ledger_head=self.ledger_head,
            template=self.settings.template,
            commit_sha=sha,
        )
        return await self.writer.create_pull_request(
            title=body.title(self.change, self.run.number),
            body=new_body,
            head=branch,
            base=self.request.base_ref,
            draft=draft,
        )

    async def _ready(self, pull: PullRequest, sha: str) -> PullRequest:
        """Ready for review when no check is pending or failed: what failed may be ours to mend first. A draft that GitHub will
        not let us mark stays one."""
        await self.sleep(self.settings.ready_after_seconds)
        checks = await self.reader.checks(sha)
        if checks.pending or checks.failed:
            return pull
        await self._still_ours()
        try:
            await self.writer.mark_ready(pull)
        except (DeniedError, InvalidError):
            return pull
        await self.record(Action.PULL_REQUEST_UPDATED, number=pull.number, ready=True)
        return await self.reader.pull_request(pull.number)

    async def _still_ours(self) -> None:
        """The fence behind the commit on an open pull request: too late to be stopped halfway, not to be taken over."""
        with suppress(StoppedError):
            await self.fence()


async def choose_branch(run: Run, reader: RepositoryReader, *, asked_on: PullRequest | None = None) -> Choice:
    """Where this run publishes, and with which open pull request, from GitHub's own state.

    Ask it before the work starts, too: where it names an open pull request, the work starts from that one's head.
    A branch that an earlier run of ours left without a pull request is passed over. Raises RefusedError
    (`not_our_pull_request`) for a pull request (`asked_on`) that we did not open.
    """
    opened = wording.opened_marker(run.id)
    if asked_on is not None and run.is_pull_request:
        if not is_ours(asked_on.head_ref) or asked_on.head_repository_id != run.repository_id:
            raise refused("not_our_pull_request")
        pulls = await reader.pull_requests(head_branch=asked_on.head_ref)
        choice = judge(asked_on.head_ref, pulls, opened)
        if choice is None or choice.pull_request is None:
            raise refused("pull_request_closed")
        return choice
    candidates = names(run.number)
    while True:
        name = next(candidates)
        pulls = await reader.pull_requests(head_branch=name)
        choice = judge(name, pulls, opened)
        if choice is None or (choice.pull_request is None and await _left_by_another_run(run, reader, name)):
            continue
        return choice


async def require_ours(branch: str, reader: RepositoryReader) -> None:
    """Hands off a branch that somebody else has committed to: RefusedError (`human_commits`)."""
    head = await head_of(reader, branch)
    if head is not None and not await ours_down_to(await reader.commit(head.sha), reader):
        raise refused("human_commits")


async def _left_by_another_run(run: Run, reader: RepositoryReader, branch: str) -> bool:
    head = await head_of(reader, branch)
    if head is None:
        return False
    commit = await reader.commit(head.sha)
    return by_us(commit) and not wording.has_trailer(commit.message, run.id)
