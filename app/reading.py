"""Run → Request: who asks, what exactly, about what. What cannot be worked on is answered here, not attempted."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime

from app.errors import GoneError, MissingError, UserError
from app.jobs import permission
from app.jobs.freeze import require_unchanged
from app.nouns import MEND, Action, Branch, Comment, Issue, Repository, Request, Run, Tree
from app.ports import RepositoryReader
from app.pulls import wording
from app.pulls.branch import Choice
from app.pulls.publish import choose_branch, require_ours
from app.pulls.recovery import was_published
from app.repofile import DEFAULT, PATH, RepoFile, parse
from app.scene import Scene
from webhooks.command import Verb

OPT_OUT = "no-magicode"
"""The label by which people say that MagiCode leaves an issue or a pull request alone."""

_CHANGES = frozenset({Verb.FIX, Verb.REVISE, Verb.RETRY, Verb.GO, MEND})
_WORKS = _CHANGES | {Verb.PLAN}

AUTHORS_ASKED_ABOUT = 20
"""People whose permission is looked up for their comments to count; what others wrote is left out."""


@dataclass(frozen=True, slots=True)
class Asked:
    """The request, what the base branch says about working here, and the branch that a change would go to."""

    request: Request
    repofile: RepoFile
    base_tree: Tree
    choice: Choice


async def read_request(scene: Scene) -> Asked:
    """Raises UserError and RefusedError that say what stands in the way."""
    run, reader = scene.run, scene.reader
    repository = await reader.repository()
    _require_workable(repository, is_pull_request=run.is_pull_request)
    await require_permission(scene)
    issue = await _issue(reader, run.number)
    comment = await scene.comment()
    published = await was_published(run, reader)
    if not published:
        _require_frozen(scene, issue, comment)
        await _require_open(scene, issue)
    tip = await _tip(reader, repository.default_branch)
    tree = await reader.tree(tip.sha)
    repofile = await _repofile(reader, tree)
    if repofile.base is not None and repofile.base != tip.name:
        tip = await _named_base(reader, repofile.base)
        tree = await reader.tree(tip.sha)
    words = await _words(scene, issue, comment)
    request = Request(
        repository=repository,
        number=run.number,
        title=words.title,
        body=words.body,
        instructions=words.instructions,
        untrusted=words.untrusted,
        base_ref=tip.name,
        base_sha=tip.sha,
        pull_request=await reader.pull_request(run.number) if run.is_pull_request else None,
    )
    choice = await choose_branch(run, reader, asked_on=request.pull_request)
    if choice.pull_request is not None and not choice.settled:
        await require_ours(choice.branch, reader)
    if not published:
        await _require_free(scene, issue, choice)
    return Asked(_from_where(request, choice), repofile, tree, choice)


async def require_permission(scene: Scene) -> None:
    """GitHub's own answer, asked anew each time. Raises permission.NotAllowedError."""
    run = scene.run
    granted = await scene.reader.permission(run.asker_login)
    allowed = permission.may_ask(granted, run.verb)
    await scene.record(Action.PERMISSION_CHECKED, login=run.asker_login, permission=granted, allowed=allowed)
    permission.require(granted, run.verb, run.asker_login)


def _from_where(request: Request, choice: Choice) -> Request:
    """A revision starts from the open pull request's head; anything else from the base branch."""
    pull = choice.pull_request
    if pull is None or choice.settled:
        return request
    return replace(
        request, pull_request=pull, base_ref=pull.base_ref, base_sha=pull.head_sha, is_revision=True
    )


def _require_workable(repository: Repository, *, is_pull_request: bool) -> None:
    if repository.archived:
        raise _why("archived")
    if repository.disabled:
        raise _why("disabled")
    if not repository.has_issues and not is_pull_request:
        raise _why("no_issues")


async def _tip(reader: RepositoryReader, default_branch: str) -> Branch:
    """A repository whose default branch is not there yet holds no commit."""
    try:
        return await reader.branch(default_branch)
    except MissingError:
        raise _why("repository_empty") from None


async def _named_base(reader: RepositoryReader, name: str) -> Branch:
    try:
        return await reader.branch(name)
    except MissingError:
        raise UserError(
            f"`{PATH}` names the branch `{name}` as `base`, and there is none.", reason="repofile_base"
        ) from None


async def _issue(reader: RepositoryReader, number: int) -> Issue:
    try:
        return await reader.issue(number)
    except GoneError:
        raise _why("no_issues") from None


def _require_frozen(scene: Scene, issue: Issue, comment: Comment | None) -> None:
    texts = [("issue.title", issue.title), ("issue.body", issue.body)]
    if comment is not None:
        texts.append(("comment.body", comment.body))
    require_unchanged(scene.run, scene.key, texts)


async def _require_open(scene: Scene, issue: Issue) -> None:
    """Whether people want work here at all. A question is answered on a closed issue too."""
    run = scene.run
    if run.verb in _CHANGES:
        if issue.state == "closed":
            raise UserError("This is closed, so I did nothing. Reopen it and ask again.", reason="closed")
        if issue.locked:
            raise _why("locked")
    if run.verb in _WORKS:
        _require_welcome(issue)
        if run.subject is not None:
            with suppress(
                MissingError, GoneError
            ):  # the issue was moved or deleted, or issues are switched off
                _require_welcome(await scene.reader.issue(run.subject))


def _require_welcome(issue: Issue) -> None:
    if any(label.casefold() == OPT_OUT for label in issue.labels):
        raise UserError(wording.opted_out(issue.number), reason="opted_out")


async def _require_free(scene: Scene, issue: Issue, choice: Choice) -> None:
    """Nobody's work is begun a second time; what has a pull request of ours already goes on there."""
    run, pull = scene.run, choice.pull_request
    if run.verb not in _WORKS:
        return
    if pull is not None:
        if pull.number != issue.number:
            _require_welcome(await scene.reader.issue(pull.number))
        return
    asked = {run.asker_login.casefold(), f"{scene.house.slug}[bot]".casefold()}
    if issue.assignees and asked.isdisjoint(one.casefold() for one in issue.assignees):
        raise UserError(wording.assigned(issue.assignees), reason="assigned")


async def _repofile(reader: RepositoryReader, tree: Tree) -> RepoFile:
    entry = next((one for one in tree.entries if one.path == PATH and one.mode in ("100644", "100755")), None)
    repofile = parse(await reader.blob(entry.sha)) if entry else DEFAULT
    if not repofile.enabled:
        raise UserError(
            f"`{PATH}` says `enabled: false`, so I do nothing in this repository.", reason="switched_off"
        )
    return repofile


@dataclass(frozen=True, slots=True)
class _Words:
    """Who may write here instructs. The issue of somebody who may not is quoted as untrusted, its title too."""

    title: str
    body: str
    instructions: tuple[str, ...]
    untrusted: tuple[str, ...]


async def _words(scene: Scene, issue: Issue, asking: Comment | None) -> _Words:
    """As they stood when it was asked: a comment that was written or edited since then is left out."""
    writers = _Writers(scene)
    ask = await scene.ask()
    asked_at = _asked_at(scene.run, asking)
    instructions = [
        one.body
        for one in await scene.reader.issue_comments(issue.number)
        if one.author.type != "Bot"
        and (asking is None or one.id != asking.id)
        and one.updated_at <= asked_at
        and await writers.include(one.author.login)
    ]
    if ask is not None and ask.words:
        instructions.append(_place(asking) + ask.words)
    if await writers.include(issue.author.login):
        return _Words(issue.title, issue.body, tuple(instructions), ())
    return _Words("", "", tuple(instructions), (f"{issue.title}\n\n{issue.body}".strip(),))


def _place(asking: Comment | None) -> str:
    """Which code `this` means, in a comment that stands on a line."""
    if asking is None or asking.path is None:
        return ""
    line = f", line {asking.line}" if asking.line is not None else ""
    return f"(Written on `{asking.path}`{line}.)\n"


def _asked_at(run: Run, asking: Comment | None) -> datetime:
    """By GitHub's own clock: the comment's time, or the one that a label's or an assignment's occasion names."""
    if asking is not None:
        return asking.updated_at
    try:
        stated = datetime.fromisoformat(run.occasion.partition(":")[2])
    except ValueError:
        return run.created_at
    return stated if stated.tzinfo else run.created_at


class _Writers:
    """Who may write here, asked once per person."""

    def __init__(self, scene: Scene) -> None:
        self._reader = scene.reader
        self._known: dict[str, bool] = {}

    async def include(self, login: str) -> bool:
        if login not in self._known:
            if len(self._known) >= AUTHORS_ASKED_ABOUT:
                return False
            try:
                granted = await self._reader.permission(login)
            except MissingError:
                granted = "none"
            self._known[login] = permission.may_ask(granted, "fix")
        return self._known[login]


def _why(reason: str) -> UserError:
    return UserError(wording.why(reason)[0], reason=reason)
