"""A run, a change, and a GitHub in memory that keeps the few facts the publisher relies on."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from app.errors import AlreadyExistsError, InvalidError, MissingError
from app.nouns import (
    Account,
    Action,
    Branch,
    Change,
    Checks,
    Comment,
    Commit,
    Comparison,
    FailedCheck,
    FileEdit,
    PullRequest,
    Repository,
    Request,
    ReviewThread,
    Rule,
    Run,
    RunState,
    Spending,
    Tree,
    TreeChange,
    TreeEntry,
)

NOW = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
BOT = Account(9, "magicode[bot]", "Bot")


def sha(*parts: object) -> str:
    return hashlib.sha1(repr(parts).encode()).hexdigest()


BASE_SHA = sha("base")


def a_run(**changes: Any) -> Run:
    run = Run(
        id=UUID(int=1),
        installation_id=1,
        repository_id=7,
        number=3,
        is_pull_request=False,
        verb="fix",
        occasion="comment:11",
        comment_id=11,
        asker_id=2,
        asker_login="wim",
        meaning="m",
        input_hash="h",
        cost_limit_usd=None,
        state=RunState.RUNNING,
        attempt=1,
        blocked_by=None,
        cancel_requested=False,
        reason=None,
        status_comment_id=None,
        branch=None,
        base_sha=None,
        head_sha=None,
        pull_request=None,
        input_tokens=0,
        cached_tokens=0,
        output_tokens=0,
        cost_usd=Decimal(0),
        created_at=NOW,
        started_at=NOW,
        ended_at=None,
    )
    return replace(run, **changes)


def a_change(**changes: Any) -> Change:
    change = Change(
        edits=(
            FileEdit("src/total.py", b"old\n", b"new\n"),
            FileEdit("docs/gone.md", b"x", None),
            FileEdit("run.sh", None, b"#!/bin/sh\n", "100755"),
        ),
        title="Count the last item too",
        summary="The loop stopped one short.",
        checked_how="Read the loop again.",
        looked_at=("src/total.py", "tests/test_total.py"),
        added_lines=2,
        removed_lines=2,
        spending=Spending(1200, 0, 340, Decimal("0.0123"), 0, 4, "scripted"),
    )
    return replace(change, **changes)


def a_request(**changes: Any) -> Request:
    repository = Repository(
        7, "octo", "sample", "main", True, False, False, True, 1, "https://github.com/octo/sample"
    )
    return replace(Request(repository, 3, "Total is wrong", "", (), (), "main", BASE_SHA), **changes)


class Crash(BaseException):
    """The process dies: nothing may catch this."""


@dataclass
class FakeGitHub:
    """Reader and writer of one repository in memory. `after_effect` runs after each effect, and may raise."""

    refs: dict[str, str] = field(default_factory=lambda: {"main": BASE_SHA})
    commits: dict[str, Commit] = field(
        default_factory=lambda: {BASE_SHA: Commit(BASE_SHA, sha("tree"), (), "First", "ada", True)}
    )
    trees: dict[str, tuple[str, tuple[TreeChange, ...]]] = field(default_factory=dict)
    files: dict[str, dict[str, TreeEntry]] = field(default_factory=lambda: {sha("tree"): {}})
    blobs: dict[str, bytes] = field(default_factory=dict)
    pulls: dict[int, PullRequest] = field(default_factory=dict)
    comments: dict[int, Comment] = field(default_factory=dict)
    reactions: set[tuple[str, int, str]] = field(default_factory=set)
    protected: set[str] = field(default_factory=set)
    ruled: dict[str, list[Rule]] = field(default_factory=dict)
    pending: int = 0
    effects: list[str] = field(default_factory=list)
    after_effect: Callable[[str], None] = lambda _: None
    refuse: dict[str, Exception] = field(default_factory=dict)
    next_number: int = 100
    threads: dict[int, ReviewThread] = field(default_factory=dict)
    failed: dict[str, list[FailedCheck]] = field(default_factory=dict)
    logs: dict[int, str] = field(default_factory=dict)

    def effect(self, name: str) -> None:
        self.effects.append(name)
        self.after_effect(name)

    def before(self, name: str) -> None:
        if name in self.refuse:
            raise self.refuse.pop(name)

    def number(self) -> int:
        self.next_number += 1
        return self.next_number

    # reading

    async def branch(self, name: str) -> Branch:
        if name not in self.refs:
            raise MissingError(reason="missing")
        return Branch(name, self.refs[name], name in self.protected)

    async def rules(self, branch: str) -> Sequence[Rule]:
        return self.ruled.get(branch, [])

    async def commit(self, wanted: str) -> Commit:
        return self.commits[wanted]

    async def tree_sha(self, wanted: str) -> str:
        return self.commits[wanted].tree_sha

    async def pull_requests(self, *, head_branch: str, state: str = "all") -> Sequence[PullRequest]:
        found = [one for one in self.pulls.values() if one.head_ref == head_branch]
        return sorted((p for p in found if state in ("all", p.state)), key=lambda p: -p.number)

    async def pull_request(self, number: int) -> PullRequest:
        return self.pulls[number]

    async def checks(self, wanted: str) -> Checks:
        return Checks(self.pending, 0, 0)

    async def issue_comments(self, number: int) -> Sequence[Comment]:
        return list(self.comments.values())

    async def issue_comment(self, comment_id: int) -> Comment:
        if comment_id not in self.comments:
            raise MissingError
        return self.comments[comment_id]

    async def tree(self, wanted: str) -> Tree:
        entries = self.files[self.commits[wanted].tree_sha]
        return Tree(self.commits[wanted].tree_sha, tuple(entries[path] for path in sorted(entries)))

    async def compare(self, base: str, head: str) -> Comparison:
        ours, theirs = (self.history(self.refs.get(one, one)) for one in (head, base))
        common = next(one for one in ours if one in theirs)
        return Comparison(len(set(ours) - set(theirs)), len(set(theirs) - set(ours)), common)

    async def failed_checks(self, wanted: str) -> Sequence[FailedCheck]:
        return self.failed.get(wanted, [])

    async def job_log(self, job_id: int, *, last_bytes: int) -> str:
        if job_id not in self.logs:
            raise MissingError
        return self.logs[job_id][-last_bytes:]

    async def review_threads(self, number: int) -> Sequence[ReviewThread]:
        return list(self.threads.values())

    def history(self, wanted: str) -> list[str]:
        """Newest first, each commit once, first parents before others."""
        seen: list[str] = []
        at = [wanted]
        while at:
            one = at.pop(0)
            if one not in seen:
                seen.append(one)
                at += self.commits[one].parents
        return seen

    # writing

    async def create_blob(self, content: bytes) -> str:
        self.before("create_blob")
        made = sha("blob", content)
        self.blobs[made] = content
        self.effect("create_blob")
        return made

    async def create_tree(self, base_tree: str, changes: Sequence[TreeChange]) -> str:
        files = dict(self.files.get(base_tree, {}))
        for one in changes:
            files.pop(one.path, None)
            if one.blob_sha is not None:
                files[one.path] = TreeEntry(one.path, one.mode, one.blob_sha, 1)
        made = sha("tree", *sorted((e.path, e.mode, e.sha) for e in files.values()))
        self.files[made] = files
        self.trees[made] = (base_tree, tuple(changes))
        self.effect("create_tree")
        return made

    async def create_commit(self, message: str, tree: str, parents: Sequence[str]) -> Commit:
        made = Commit(
            sha("commit", message, tree, parents, len(self.commits)),
            tree,
            tuple(parents),
            message,
            BOT.login,
            True,
        )
        self.commits[made.sha] = made
        self.effect("create_commit")
        return made

    async def create_ref(self, branch: str, wanted: str) -> None:
        self.before("create_ref")
        if branch in self.refs:
            raise AlreadyExistsError
        self.refs[branch] = wanted
        self.effect("create_ref")

    async def delete_ref(self, branch: str) -> None:
        self.before("delete_ref")
        if branch not in self.refs:
            raise MissingError
        del self.refs[branch]
        self.effect("delete_ref")

    async def update_ref(self, branch: str, wanted: str) -> None:
        self.before("update_ref")
        if self.refs[branch] not in self.commits[wanted].parents:
            raise InvalidError(reason="not_fast_forward")
        self.move(branch, wanted)
        self.effect("update_ref")

    async def merge(self, branch: str, head_sha: str, message: str) -> Commit | None:
        self.before("merge")
        ours = self.refs[branch]
        if head_sha in self.history(ours):
            return None
        parted = next(one for one in self.history(ours) if one in self.history(head_sha))
        old, here, there = (self.files[self.commits[one].tree_sha] for one in (parted, ours, head_sha))
        merged = dict(here)
        for path in old.keys() | there.keys():
            if old.get(path) == there.get(path):
                continue
            if here.get(path) not in (old.get(path), there.get(path)):
                raise InvalidError("It does not merge.", reason="merge_conflict")
            merged.pop(path, None)
            if path in there:
                merged[path] = there[path]
        made = self.commit_by(BOT.login, message, merged, ours, head_sha)
        self.move(branch, made)
        self.effect("merge")
        return self.commits[made]

    async def reply_in_thread(self, number: int, comment_id: int, body: str) -> Comment:
        self.before(f"reply {comment_id}")
        thread = self.threads[comment_id]
        made = Comment(self.number(), body, BOT, "https://github.com/c", NOW, NOW, reply_to=comment_id)
        self.threads[comment_id] = replace(thread, comments=(*thread.comments, made))
        self.effect("reply")
        return made

    async def create_pull_request(
        self, *, title: str, body: str, head: str, base: str, draft: bool
    ) -> PullRequest:
        self.before("create_pull_request")
        if any(p.head_ref == head and p.state == "open" for p in self.pulls.values()):
            raise AlreadyExistsError
        number = self.number()
        made = PullRequest(
            number, f"PR_{number}", title, body, "open", draft, False, head, self.refs[head], 7, base,
            self.refs[base], f"https://github.com/octo/sample/pull/{number}",
        )  # fmt: skip
        self.pulls[number] = made
        self.effect("create_pull_request")
        return made

    async def update_pull_request(
        self, number: int, *, title: str | None = None, body: str | None = None
    ) -> PullRequest:
        pull = self.pulls[number]
        self.pulls[number] = replace(
            pull, title=title or pull.title, body=body if body is not None else pull.body
        )
        self.effect("update_pull_request")
        return self.pulls[number]

    async def mark_ready(self, pull_request: PullRequest) -> None:
        self.before("mark_ready")
        self.pulls[pull_request.number] = replace(self.pulls[pull_request.number], draft=False)
        self.effect("mark_ready")

    async def create_comment(self, number: int, body: str) -> Comment:
        self.before("create_comment")
        made = Comment(self.number(), body, BOT, "https://github.com/c", NOW, NOW)
        self.comments[made.id] = made
        self.effect("create_comment")
        return made

    async def update_comment(self, comment_id: int, body: str) -> Comment:
        self.before("update_comment")
        self.comments[comment_id] = replace(self.comments[comment_id], body=body)
        self.effect("update_comment")
        return self.comments[comment_id]

    async def react(self, content: str, *, comment_id: int | None, number: int) -> None:
        self.before("react")
        self.reactions.add(("comment" if comment_id else "issue", comment_id or number, content))

    async def react_review_comment(self, content: str, comment_id: int) -> None:
        self.reactions.add(("review-comment", comment_id, content))

    # what people do

    def close(self, number: int, *, merged: bool = False) -> None:
        self.pulls[number] = replace(self.pulls[number], state="closed", merged=merged)

    def move(self, branch: str, wanted: str) -> None:
        self.refs[branch] = wanted
        for number, pull in self.pulls.items():
            if pull.head_ref == branch and pull.state == "open":
                self.pulls[number] = replace(pull, head_sha=wanted)

    def commit_by(self, login: str | None, message: str, files: dict[str, TreeEntry], *parents: str) -> str:
        tree = sha("tree", *sorted((e.path, e.mode, e.sha) for e in files.values()))
        self.files[tree] = files
        made = Commit(sha("by", login, message, tree, parents), tree, parents, message, login, False)
        self.commits[made.sha] = made
        return made.sha

    def write(self, branch: str, login: str, message: str, **texts: str | None) -> str:
        """Somebody's commit on a branch: `__` in a name stands for a slash and `_` for a dot, None removes the file."""
        files = dict(self.files[self.commits[self.refs[branch]].tree_sha])
        for name, text in texts.items():
            path = name.replace("__", "/").replace("_", ".")
            files.pop(path, None)
            if text is not None:
                files[path] = TreeEntry(path, "100644", sha("blob", text.encode()), len(text))
        made = self.commit_by(login, message, files, self.refs[branch])
        self.move(branch, made)
        return made

    def push(self, branch: str, message: str, login: str | None) -> str:
        made = Commit(
            sha("push", message, branch),
            sha("tree"),
            (self.refs.get(branch, BASE_SHA),),
            message,
            login,
            False,
        )
        self.commits[made.sha] = made
        self.refs[branch] = made.sha
        return made.sha


@dataclass
class Recorded:
    actions: list[tuple[Action, dict[str, object]]] = field(default_factory=list)

    async def __call__(self, action: Action, actor: str = "magicode", **facts: Any) -> Any:
        self.actions.append((action, facts))


@dataclass
class FakeClock:
    now: datetime = NOW

    def __call__(self) -> datetime:
        return self.now

    def pass_seconds(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def github() -> FakeGitHub:
    return FakeGitHub()


@pytest.fixture
def recorded() -> Recorded:
    return Recorded()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def run() -> Callable[..., Run]:
    return a_run


@pytest.fixture
def change() -> Callable[..., Change]:
    return a_change


@pytest.fixture
def request_() -> Callable[..., Request]:
    return a_request


@pytest.fixture
def no_sleep() -> Callable[[float], Awaitable[None]]:
    async def sleep(seconds: float) -> None:
        return None

    return sleep


@pytest.fixture
def crash() -> type[Crash]:
    return Crash
