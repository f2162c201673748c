"""Run → Request: who asks, what exactly, about what. What cannot be worked on is answered here, not attempted."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

from app.custody.members import Administrator
from app.errors import DefectError, GoneError, MissingError, UserError
from app.jobs import permission
from app.jobs.freeze import require_unchanged
from app.nouns import (
    MEND,
    Account,
    Action,
    Branch,
    Comment,
    Given,
    Issue,
    PullRequest,
    Repository,
    Request,
    Tree,
)
from app.ports import RepositoryReader
from app.pulls import wording
from app.pulls.branch import Choice, is_ours
from app.pulls.lookup import AGAIN_SECONDS, Sleep, found
from app.pulls.publish import choose_branch, require_ours
from app.pulls.recovery import was_published
from app.repofile import DEFAULT, PATH, RepoFile, parse, require_readable
from app.scene import Scene
from app.words import Words, read_words
from app.workspace.tree import REGULAR
from webhooks.command import Verb

OPT_OUT = "no-magicode"
"""The label by which people say that MagiCode leaves an issue or a pull request alone."""

_CHANGES = frozenset({Verb.FIX, Verb.REVISE, Verb.RETRY, Verb.GO, MEND})
_WORKS = _CHANGES | {Verb.PLAN}


@dataclass(frozen=True, slots=True)
class Asked:
    """The request, what the base branch and the installation say about working here (`left_alone`: the kinds of files that are),
    the base's own commit, and the branch that a change goes to (None for a question)."""

    request: Request
    repofile: RepoFile
    base_tree: Tree
    base_tip: str
    left_alone: Sequence[str] = ()
    choice: Choice | None = None

    @property
    def target(self) -> Choice:
        """Raises DefectError for a question, which changes nothing."""
        if self.choice is None:
            raise DefectError(reason="no_target")
        return self.choice


async def read_request(scene: Scene, *, changes: bool = True) -> Asked:
    """Raises UserError and RefusedError that say what stands in the way; `changes` False: of a question alone."""
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
    tip = await _tip(reader, repository.default_branch, scene.house.sleep)
    tree = await reader.tree(tip.sha)
    repofile = await _repofile(reader, tree)
    if repofile.base is not None and repofile.base != tip.name:
        tip = await _named_base(reader, repofile.base, scene.house.sleep)
        tree = await reader.tree(tip.sha)
    words = await read_words(scene, issue)
    request = Request(
        repository=repository,
        number=run.number,
        title=words.title,
        body=words.body,
        instructions=words.instructions,
        untrusted=words.untrusted,
        base_ref=tip.name,
        base_sha=tip.sha,
        pull_request=await _asked_on(reader, run.number, words) if run.is_pull_request else None,
        threads=scene.threads,
    )
    chosen = await scene.chosen()
    repofile = repofile.model_copy(update={"plan_first": repofile.plan_first or chosen.plan_first})
    asked = Asked(request, repofile, tree, tip.sha, chosen.left_alone)
    return await _with_target(scene, asked, issue, published=published) if changes else _as_seen(asked)


async def _asked_on(reader: RepositoryReader, number: int, words: Words) -> PullRequest:
    """Without its own words where they are quoted as untrusted already."""
    pull = await reader.pull_request(number)
    return replace(pull, title="", body="") if words.untrusted else pull


async def _with_target(scene: Scene, asked: Asked, issue: Issue, *, published: bool) -> Asked:
    """Where a change would go, and that nobody else is at it."""
    run, reader, request = scene.run, scene.reader, asked.request
    choice = await choose_branch(run, reader, asked_on=request.pull_request)
    if choice.pull_request is not None and not choice.settled:
        await require_ours(choice.branch, reader)
    if not published:
        await _require_free(scene, issue, choice)
    return replace(asked, request=_from_where(request, choice), choice=choice)


def _as_seen(asked: Asked) -> Asked:
    """What a question is about: the pull request's own code where it is asked there, else the base branch's."""
    pull = asked.request.pull_request
    if pull is None:
        return asked
    return replace(asked, request=replace(asked.request, base_ref=pull.base_ref, base_sha=pull.head_sha))


async def require_plan(scene: Scene) -> None:
    """Raises UserError (`plan_ended`) where the account's plan is over: what is answered beside the line is answered still."""
    async with scene.house.store.transaction(scene.run.installation_id) as transaction:
        installation = await transaction.installation()
    if installation is not None and installation.plan_cancelled_at is not None:
        raise _why("plan_ended")


async def require_permission(scene: Scene) -> Given | None:
    """GitHub's own answer and the asker's role in the installation, asked anew each time; the role, if they have one.

    Raises permission.NotAllowedError.
    """
    run = scene.run
    given = await _given(scene)
    granted = await _permission(scene)
    allowed = permission.may_ask(granted, run.verb, given)
    role = {} if given is None else {"role": given.role.value}
    await scene.record(
        Action.PERMISSION_CHECKED, login=run.asker_login, permission=granted, allowed=allowed, **role
    )
    permission.require(granted, run.verb, run.asker_login, given)
    return given


async def _given(scene: Scene) -> Given | None:
    """Raises DefectError where the settings cannot be read: nobody is allowed anything then."""
    return (await scene.roles())(scene.run.asker_id)


async def _permission(scene: Scene) -> str:
    """`none` is not believed at once: that is how somebody who is not found looks, and whoever has none can hardly have asked."""
    for pause in AGAIN_SECONDS:
        granted = await scene.reader.permission(scene.run.asker_login, scene.run.asker_id)
        if granted != "none":
            return granted
        await scene.house.sleep(pause)
    return await scene.reader.permission(scene.run.asker_login, scene.run.asker_id)


async def require_administrator(scene: Scene) -> Administrator:
    """GitHub's own answer about every repository of the installation, for what concerns the data of all of them; of somebody who
    was appointed, whether GitHub still knows them there.

    Raises permission.NotAllowedError.
    """
    run, github = scene.run, scene.house.github
    person = Account(run.asker_id, run.asker_login, "User")
    given = await _given(scene)
    permission.require_role(run.verb, run.asker_login, given)
    asked = github.administers if given is None else github.knows
    allowed = await asked(run.installation_id, person, witness=scene.witness)
    role = {} if given is None else {"role": given.role.value}
    await scene.record(
        Action.PERMISSION_CHECKED, login=run.asker_login, scope="installation", allowed=allowed, **role
    )
    if not allowed and given is not None:
        raise permission.NotAllowedError(
            f"{given.by} gave {run.asker_login} the role `{given.role}` in this installation, but GitHub does not say any more that "
            f"{run.asker_login} has a right in one of its repositories. An administrator can write the same comment.",
            reason="not_an_administrator",
        )
    if not allowed:
        raise permission.NotAllowedError(
            f"`{run.verb}` concerns the data of every repository of this installation, and GitHub does not say that "
            f"{run.asker_login} administers all of them. Somebody who does can write the same comment.",
            reason="not_an_administrator",
        )
    return Administrator(person, given)


async def require_unedited(scene: Scene) -> None:
    """Raises EditedSinceError where the comment that asks, or what it stands under, is not what it was at the trigger."""
    _require_frozen(scene, await _issue(scene.reader, scene.run.number), await scene.comment())


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


async def _tip(reader: RepositoryReader, default_branch: str, sleep: Sleep) -> Branch:
    """A repository whose default branch is not there holds no commit; one that is not found at once may be there all the same."""
    try:
        return await found(partial(reader.branch, default_branch), sleep)
    except MissingError:
        raise _why("repository_empty") from None


async def _named_base(reader: RepositoryReader, name: str, sleep: Sleep) -> Branch:
    try:
        return await found(partial(reader.branch, name), sleep)
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
    if scene.run.verb == MEND:
        return  # nobody's text asks for it
    texts = [("issue.title", issue.title), ("issue.body", issue.body)]
    if comment is not None:
        texts.append(("comment.body", comment.body))
    require_unchanged(scene.run, scene.key, texts)


async def _require_open(scene: Scene, issue: Issue) -> None:
    """Whether people want work here at all. A question is answered on a closed issue too."""
    run = scene.run
    if run.verb in _CHANGES:
        if issue.state == "closed" and issue.is_pull_request:
            raise _why("pull_request_closed")  # as a run is told that was at work when it was closed
        if issue.state == "closed":
            raise UserError("This is closed, so I changed nothing. Reopen it and ask again.", reason="closed")
        if issue.locked:
            raise _why("locked")
    if run.verb in _WORKS:
        _require_welcome(issue)
        if run.subject is not None:
            # The issue may have been moved or deleted, or issues were switched off.
            with suppress(MissingError, GoneError):
                about = partial(scene.reader.issue, run.subject)
                _require_welcome(await found(about, scene.house.sleep))


async def require_wanted(scene: Scene) -> None:
    """Raises UserError where people do not want work here any more: it was closed, locked or taken from us while the change was made.
    What an earlier attempt has published is not asked about."""
    if not await was_published(scene.run, scene.reader):
        await _require_open(scene, await _issue(scene.reader, scene.run.number))


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
    if run.verb in _CHANGES and not issue.is_pull_request:
        closing = await scene.reader.closing_pull_requests(issue.number)
        if others := [one.number for one in closing if not _is_ours(one, run.repository_id)]:
            raise UserError(wording.already_fixed(others), reason="already_fixed")


def _is_ours(pull: PullRequest, repository_id: int) -> bool:
    return is_ours(pull.head_ref) and pull.head_repository_id == repository_id


async def rules_of(reader: RepositoryReader, sleep: Sleep) -> RepoFile:
    """The repository's file on its default branch. Raises UserError where it cannot be read or switches us off."""
    tip = await _tip(reader, (await reader.repository()).default_branch, sleep)
    return await _repofile(reader, await reader.tree(tip.sha))


async def _repofile(reader: RepositoryReader, tree: Tree) -> RepoFile:
    entry = next((one for one in tree.entries if one.path == PATH), None)
    if entry is None:
        return DEFAULT
    require_readable(regular=entry.mode in REGULAR, size=entry.size or 0)
    repofile = parse(await reader.blob(entry.sha))
    if not repofile.enabled:
        raise UserError(
            f"`{PATH}` says `enabled: false`, so I do nothing in this repository.", reason="switched_off"
        )
    return repofile


def _why(reason: str) -> UserError:
    return UserError(wording.why(reason)[0], reason=reason)
