"""Pull requests: opened, listed, edited, merged, brought up to date; and what a push does to them.

https://docs.github.com/rest/pulls/pulls
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response

from infra.simulator import conversation, diffs, pullwork, refs, shapes_git
from infra.simulator.answers import (
    ApiError,
    conflict,
    forbidden,
    invalid_field,
    not_found,
    unprocessable,
    validation_failed,
)
from infra.simulator.auth import Caller
from infra.simulator.call import Body, Call, endpoint
from infra.simulator.conversation import announce, checked_body, checked_title
from infra.simulator.git import Changed, CommitObject, Person, commit_payload
from infra.simulator.protection import Move, judge
from infra.simulator.shapes_people import (
    Json,
    Standing,
    api,
    diff_entry,
    pull_full,
    pull_of,
    pull_simple,
    side,
)
from infra.simulator.shapes_people import user as user_shape
from infra.simulator.signing import sign
from infra.simulator.state import ROLES, ZERO_SHA, Issue, PullRequest, Repo, User, World
from infra.simulator.suites import latest

_METHODS = {
    "merge": ("allow_merge_commit", "Merge commits are not allowed on this repository."),
    "squash": ("allow_squash_merge", "Squash merges are not allowed on this repository."),
    "rebase": ("allow_rebase_merge", "Rebase merges are not allowed on this repository."),
}


# --- shapes ----------------------------------------------------------------------------------------------------------


def simple(world: World, repo: Repo, one: Issue) -> Json:
    pull = pull_of(one)
    source = world.repositories.get(pull.head_repository_id or 0)
    head_repository = shapes_git.repository(world, source) if source else None
    head = side(world, source, pull.head_ref, pull.head_sha, head_repository)
    base = side(world, repo, pull.base_ref, pull.base_sha, shapes_git.repository(world, repo))
    return pull_simple(world, repo, one, head=head, base=base)


async def full(world: World, repo: Repo, one: Issue, *, judged: bool = True) -> Json:
    """`judged`: whether GitHub has already worked out if it can be merged."""
    standing = await pullwork.measure(repo, pull_of(one))
    if judged and one.state == "open":
        standing = await _judge(world, repo, one, standing)
    return pull_full(world, one, simple(world, repo, one), standing=standing)


async def _judge(world: World, repo: Repo, one: Issue, counted: Standing) -> Standing:
    pull = pull_of(one)
    clean = await pullwork.merges_cleanly(repo, pull)
    if not clean:
        state = "dirty"
    elif pull.draft:
        state = "draft"
    elif await _is_blocked(world, repo, pull, one):
        state = "blocked"
    else:
        state = "unstable" if _failing(repo, pull.head_sha) else "clean"
    return Standing(
        counted.commits, counted.additions, counted.deletions, counted.changed_files, clean, state
    )


async def _is_blocked(world: World, repo: Repo, pull: PullRequest, one: Issue) -> bool:
    """Whether the rules would refuse the merge by somebody who may bypass none of them."""
    since = await pullwork.start(repo.git, pull) or ZERO_SHA
    move = Move(f"refs/heads/{pull.base_ref}", since, pull.head_sha, one)
    return await judge(world, repo, Caller(world, "anonymous"), move) is not None


def _failing(repo: Repo, sha: str) -> bool:
    good = ("success", "neutral", "skipped")
    runs = latest([run for run in repo.check_runs.values() if run.head_sha == sha])
    newest = {status.context: status.state for status in repo.statuses if status.sha == sha}
    return any(run.conclusion not in good for run in runs) or set(newest.values()) - {"success"} != set()


# --- finding ---------------------------------------------------------------------------------------------------------


def find_pull(
    call: Call, level: str = "read", *, role: str | None = None, author_role: str | None = None
) -> tuple[Repo, Issue]:
    """The path's pull request. Raises 404 when the number is no pull request's."""
    repo = call.visible()
    one = repo.issues.get(call.number("pull_number"))
    author = one is not None and call.caller.user is not None and one.user_id == call.caller.user.id
    call.require(repo, "pull_requests", level, role=(author_role or role) if author else role)
    if one is None or one.pull is None:
        raise not_found()
    return repo, one


def open_between(repo: Repo, head_repository_id: int | None, head: str, base: str) -> Issue | None:
    """The open pull request from this branch to that one: there is never more than one."""
    for one in repo.issues.values():
        pull = one.pull
        if (
            pull
            and one.state == "open"
            and (pull.head_repository_id, pull.head_ref, pull.base_ref) == (head_repository_id, head, base)
        ):
            return one
    return None


# --- opening ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Sides:
    source: Repo
    head: str
    head_sha: str
    base: str
    base_sha: str


@endpoint("POST", "/repos/{owner}/{repo}/pulls", creates_content=True)
async def create_pull(call: Call) -> Response:
    repo = call.repo("pull_requests", "write", role="read")
    body = await call.body()
    head, base = body.string("head"), body.string("base")
    if body.get("title") is None:
        raise invalid_field("PullRequest", "title", "missing_field")
    title = checked_title("PullRequest", body.string("title"))
    text = checked_body("Issue", body.string_or("body", None))
    draft = body.boolean_or("draft", False)
    async with repo.lock:
        sides = await _sides(call, repo, head, base)
        await _check_new(repo, sides)
        one = _opened(call, repo, sides, title, text, draft=draft)
        pull_of(one).maintainer_can_modify = body.boolean_or(
            "maintainer_can_modify", sides.source.id != repo.id
        )
        await pullwork.keep_head(repo, sides.source, pull_of(one))
    await announce(call.world, repo, one, "opened", call.actor)
    return call.answer(
        await full(call.world, repo, one, judged=False),
        201,
        {"Location": f"{api(call.world, repo)}/pulls/{one.number}"},
    )


def _opened(call: Call, repo: Repo, sides: _Sides, title: str, text: str | None, *, draft: bool) -> Issue:
    world, now = call.world, call.world.now()
    one = Issue(world.next_id(), repo.next_number(), title, text, call.actor.id, now, now, by_app=call.by_app)
    one.pull = PullRequest(
        world.next_id(),
        one.number,
        sides.source.id,
        sides.head,
        sides.head_sha,
        sides.base,
        sides.base_sha,
        draft=draft,
    )
    repo.issues[one.number] = one
    return one


async def _sides(call: Call, repo: Repo, head: str, base: str) -> _Sides:
    """Raises 422 naming the side whose branch there is not."""
    owner, colon, branch = head.partition(":")
    source = network_member(call.world, repo, owner) if colon else repo
    head_ref = branch if colon else head
    base_sha = await repo.git.branch(base)
    head_sha = await source.git.branch(head_ref) if source is not None and call.caller.sees(source) else None
    errors = []
    if base_sha is None:
        errors.append({"resource": "PullRequest", "field": "base", "code": "invalid"})
    if head_sha is None:
        errors.append({"resource": "PullRequest", "field": "head", "code": "invalid"})
    if source is None or base_sha is None or head_sha is None:
        raise validation_failed(*errors)
    if call.caller.kind == "user" and ROLES.index(source.role(call.actor)) < ROLES.index("write"):
        raise validation_failed(
            {"resource": "PullRequest", "code": "custom", "message": "must be a collaborator"}
        )
    return _Sides(source, head_ref, head_sha, base, base_sha)


def network_member(world: World, repo: Repo, owner: str) -> Repo | None:
    """The repository of this network that `owner` has."""
    if repo.owner.lower() == owner.lower():
        return repo
    network = {repo.id, repo.parent_id}
    forks = (
        each
        for each in world.repositories.values()
        if each.parent_id in network - {None} or each.id == repo.parent_id
    )
    return next((each for each in forks if each.owner.lower() == owner.lower()), None)


async def _check_new(repo: Repo, sides: _Sides) -> None:
    label = sides.head if sides.source.id == repo.id else f"{sides.source.owner}:{sides.head}"
    if open_between(repo, sides.source.id, sides.head, sides.base) is not None:
        message = f"A pull request already exists for {sides.source.owner}:{sides.head}."
        raise validation_failed({"resource": "PullRequest", "code": "custom", "message": message})
    if sides.source.id != repo.id:
        await repo.git.run("fetch", "-q", "--no-tags", "--", str(sides.source.git.directory), sides.head_sha)
    if not await repo.git.commits(sides.head_sha, f"^{sides.base_sha}", limit=1):
        message = f"No commits between {sides.base} and {label}"
        raise validation_failed({"resource": "PullRequest", "code": "custom", "message": message})
    if await repo.git.merge_base(sides.base_sha, sides.head_sha) is None:
        message = f"The {label} branch has no history in common with {sides.base}"
        raise validation_failed({"resource": "PullRequest", "code": "custom", "message": message})


# --- reading ---------------------------------------------------------------------------------------------------------


@endpoint("GET", "/repos/{owner}/{repo}/pulls")
async def list_pulls(call: Call) -> Response:
    repo = call.repo("pull_requests", "read")
    state = call.query("state", "open")
    if state not in ("open", "closed", "all"):
        raise invalid_field("PullRequest", "state")
    found = [one for one in repo.issues.values() if one.pull and state in ("all", one.state)]
    owner, colon, branch = call.query("head").partition(":")
    if colon:  # GitHub ignores a head that does not say whose it is
        found = [one for one in found if _from(call.world, pull_of(one), owner, branch)]
    if base := call.query("base"):
        found = [one for one in found if pull_of(one).base_ref == base]
    sort = call.query("sort", "created")
    keys: dict[str, Any] = {
        "updated": lambda one: (one.updated_at, one.number),
        "popularity": lambda one: (len(one.comments), one.number),
    }
    downwards = call.query("direction", "desc" if sort == "created" else "asc") != "asc"
    found.sort(key=keys.get(sort, lambda one: one.number), reverse=downwards)
    return call.page(found, lambda one: simple(call.world, repo, one))


def _from(world: World, pull: PullRequest, owner: str, branch: str) -> bool:
    source = world.repositories.get(pull.head_repository_id or 0)
    return source is not None and source.owner.lower() == owner.lower() and pull.head_ref == branch


@endpoint("GET", "/repos/{owner}/{repo}/pulls/{pull_number}")
async def get_pull(call: Call) -> Response:
    repo, one = find_pull(call)
    accepted = call.request.headers.get("accept", "")
    if "diff" in accepted:
        pull = pull_of(one)
        since = await pullwork.start(repo.git, pull)
        text = await repo.git.diff(since or pull.base_sha, pull.head_sha)
        return Response(text, media_type="application/vnd.github.diff; charset=utf-8")
    return call.answer(await full(call.world, repo, one))


@endpoint("GET", "/repos/{owner}/{repo}/pulls/{pull_number}/files")
async def list_files(call: Call) -> Response:
    repo, one = find_pull(call)
    pull = pull_of(one)
    changed = await pullwork.files(repo.git, pull)
    return call.page(changed[:3000], lambda file: diff_entry(call.world, repo, file, pull.head_sha))


@endpoint("GET", "/repos/{owner}/{repo}/pulls/{pull_number}/commits")
async def list_commits(call: Call) -> Response:
    repo, one = find_pull(call)
    shas, headers = call.cut((await pullwork.commits(repo.git, pull_of(one)))[:250])
    found = [await repo.git.commit(sha) for sha in shas]
    shaped = [shapes_git.commit(call.world, repo, one) for one in found if one is not None]
    return call.answer(shaped, headers=headers)


@endpoint("GET", "/repos/{owner}/{repo}/pulls/{pull_number}/merge")
async def get_merged(call: Call) -> Response:
    _, one = find_pull(call)
    if not pull_of(one).merged:
        raise not_found()
    return call.nothing()


# --- editing ---------------------------------------------------------------------------------------------------------


async def check_can_reopen(repo: Repo, one: Issue) -> None:
    """Raises 422 where GitHub would not reopen: merged, branch gone, or another one open between the same branches."""
    pull = pull_of(one)
    problem = None
    if pull.merged:
        problem = "The pull request cannot be reopened."
    elif pull.head_repository_id == repo.id and await repo.git.branch(pull.head_ref) is None:
        problem = f"The {pull.head_ref} branch was deleted or recreated."
    elif other := open_between(repo, pull.head_repository_id, pull.head_ref, pull.base_ref):
        problem = f"There is already an open pull request (#{other.number}) from {pull.head_ref} to {pull.base_ref}."
    elif pull.head_repository_id == repo.id:
        tip = await repo.git.branch(pull.head_ref)
        if tip is not None and not await repo.git.is_ancestor(pull.head_sha, tip):
            problem = f"The {pull.head_ref} branch was force-pushed or recreated."
    if problem is not None:
        raise invalid_field("PullRequest", "state", "custom", f"state cannot be changed. {problem}")


@endpoint("PATCH", "/repos/{owner}/{repo}/pulls/{pull_number}")
async def update_pull(call: Call) -> Response:
    repo, one = find_pull(call, "write", role="triage", author_role="read")
    body = await call.body()
    title = body.string_or("title", None)
    title = checked_title("PullRequest", title) if title is not None else None
    text = checked_body("Issue", body.string_or("body", None))
    text = "" if "body" in body and text is None else text
    state = body.string_or("state", None)
    if state not in (None, "open", "closed"):
        raise invalid_field("PullRequest", "state")
    if state == "open" and one.state == "closed":
        await check_can_reopen(repo, one)
    base = body.string_or("base", None)
    if base is not None and base != pull_of(one).base_ref:
        await _rebase(call, repo, one, base)
    pull_of(one).maintainer_can_modify = body.boolean_or(
        "maintainer_can_modify", pull_of(one).maintainer_can_modify
    )
    await conversation.edit(call.world, repo, one, call.actor, title=title, body=text)
    if state is not None:
        await conversation.set_state(call.world, repo, one, call.actor, state)
        await _catch_up(repo, one)
    return call.answer(await full(call.world, repo, one))


async def _catch_up(repo: Repo, one: Issue) -> None:
    """A reopened pull request stands where its branch stands now."""
    pull = pull_of(one)
    tip = await repo.git.branch(pull.head_ref) if pull.head_repository_id == repo.id else None
    if one.state == "open" and tip is not None and tip != pull.head_sha:
        pull.head_sha = tip
        await pullwork.keep_head(repo, repo, pull)


async def _rebase(call: Call, repo: Repo, one: Issue, base: str) -> None:
    pull = pull_of(one)
    sha = await repo.git.branch(base)
    if one.state == "closed":
        raise invalid_field(
            "PullRequest", "base", "custom", "Cannot change the base branch of a closed pull request."
        )
    if sha is None:
        message = f"Proposed base branch '{base}' was not found"
        raise invalid_field("PullRequest", "base", "invalid", message)
    if open_between(repo, pull.head_repository_id, pull.head_ref, base) is not None:
        message = f"A pull request already exists for base branch '{base}' and head branch '{pull.head_ref}'"
        raise invalid_field("PullRequest", "base", "invalid", message)
    if not await repo.git.commits(pull.head_sha, f"^{sha}", limit=1):
        message = f"There are no new commits between base branch '{base}' and head branch '{pull.head_ref}'"
        raise invalid_field("PullRequest", "base", "invalid", message)
    changes = {"base": {"ref": {"from": pull.base_ref}, "sha": {"from": pull.base_sha}}}
    pull.base_ref, pull.base_sha = base, sha
    conversation.touch(call.world, one)
    await announce(call.world, repo, one, "edited", call.actor, changes=changes)


async def set_draft(world: World, repo: Repo, one: Issue, sender: User, draft: bool) -> None:
    """GitHub offers this through GraphQL alone."""
    pull = pull_of(one)
    if pull.draft != draft:
        pull.draft = draft
        conversation.touch(world, one)
        await announce(world, repo, one, "converted_to_draft" if draft else "ready_for_review", sender)


@endpoint("POST", "/repos/{owner}/{repo}/pulls/{pull_number}/requested_reviewers")
async def request_reviewers(call: Call) -> Response:
    repo, one = find_pull(call, "write", role="triage", author_role="read")
    body = await call.body()
    asked = []
    for login in body.strings_or("reviewers", []):
        who = call.world.user_by_login(login)
        if who is None or who.type == "Bot" or repo.role(who) == "none":
            raise unprocessable(
                "Reviews may only be requested from collaborators. One or more of the users or teams you specified "
                f"is not a collaborator of the {repo.full_name} repository."
            )
        if who.id == one.user_id:
            raise unprocessable("Review cannot be requested from pull request author.")
        asked.append(who)
    pull = pull_of(one)
    for who in asked:
        if who.id not in pull.requested_reviewer_ids:
            pull.requested_reviewer_ids.append(who.id)
            conversation.touch(call.world, one)
            shape = user_shape(call.world, who)
            await announce(call.world, repo, one, "review_requested", call.actor, requested_reviewer=shape)
    return call.answer(simple(call.world, repo, one), 201)


# --- merging ---------------------------------------------------------------------------------------------------------


@endpoint("PUT", "/repos/{owner}/{repo}/pulls/{pull_number}/merge")
async def merge_pull(call: Call) -> Response:
    repo = call.visible()
    call.require(repo, "contents", "write")
    one = repo.issues.get(call.number("pull_number"))
    if one is None or one.pull is None:
        raise not_found()
    pull, body = one.pull, await call.body()
    method = body.string_or("merge_method", "merge")
    _check_mergeable(repo, one, body, method)
    tip = await repo.git.branch(pull.base_ref)
    tree = await repo.git.merge_tree(tip, pull.head_sha) if tip else None
    if tip is None or tree is None:
        raise ApiError(405, "Pull Request is not mergeable")
    sha = await _merged(call, repo, one, method=method, tip=tip, tree=tree, body=body)
    pull.merging = True
    try:
        await refs.move(
            call.world,
            repo,
            call.caller,
            f"refs/heads/{pull.base_ref}",
            sha,
            before=tip,
            pull=one,
            refusal_status=405,
        )
    except ApiError as error:
        if error.status == 409:
            raise ApiError(405, "Base branch was modified. Review and try the merge again.") from error
        raise
    finally:
        pull.merging = False
    await _finish(call.world, repo, one, call.actor, sha)
    if repo.delete_branch_on_merge and pull.head_repository_id == repo.id:
        ref = f"refs/heads/{pull.head_ref}"
        await refs.move(call.world, repo, call.caller, ref, ZERO_SHA, before=pull.head_sha)
    return call.answer({"sha": sha, "merged": True, "message": "Pull Request successfully merged"})


def _check_mergeable(repo: Repo, one: Issue, body: Body, method: str) -> None:
    pull = pull_of(one)
    if method not in _METHODS:
        raise invalid_field("PullRequest", "merge_method")
    if one.state == "closed":
        raise ApiError(405, "Pull Request is not mergeable")
    if pull.draft:
        raise ApiError(405, "Pull Request is still a draft")
    if body.string_or("sha", pull.head_sha) != pull.head_sha:
        raise conflict("Head branch was modified. Review and try the merge again.")
    setting, refusal = _METHODS[method]
    if not getattr(repo, setting):
        raise ApiError(405, refusal)


async def _merged(call: Call, repo: Repo, one: Issue, *, method: str, tip: str, tree: str, body: Body) -> str:
    """The commit that the base will stand at."""
    pull = pull_of(one)
    found = [await repo.git.commit(sha) for sha in await pullwork.commits(repo.git, pull)]
    brought = [commit for commit in found if commit is not None]
    if method == "rebase":
        return await _replayed(call, repo, brought, tip)
    title, message = _words(call.world, repo, one, brought, method)
    title = body.string_or("commit_title", title)
    message = body.string_or("commit_message", message)
    author = call.world.user(one.user_id) if method == "squash" else call.actor
    parents = (tip, pull.head_sha) if method == "merge" else (tip,)
    text = f"{title}\n\n{message}".rstrip("\n") + "\n"
    return await commit_by_github(call.world, repo, author, tree=tree, parents=parents, message=text)


def _words(
    world: World, repo: Repo, one: Issue, brought: Sequence[CommitObject], method: str
) -> tuple[str, str]:
    """https://docs.github.com/pull-requests/collaborating-with-pull-requests/incorporating-changes-from-a-pull-request"""
    pull = pull_of(one)
    if method == "merge":
        source = world.repositories.get(pull.head_repository_id or 0, repo)
        return f"Merge pull request #{one.number} from {source.owner}/{pull.head_ref}", one.title
    if len(brought) == 1:
        title, _, message = brought[0].message.partition("\n")
        return f"{title} (#{one.number})", message.strip("\n")
    listed = "\n\n".join(f"* {commit.message.rstrip()}" for commit in brought)
    return f"{one.title} (#{one.number})", listed


async def commit_by_github(
    world: World, repo: Repo, author: User, *, tree: str, parents: Sequence[str], message: str
) -> str:
    """What GitHub commits on somebody's behalf carries its own name as committer and its signature."""
    now = world.now()
    by = Person(author.name or author.login, author.email, now)
    github = Person("GitHub", "noreply@github.com", now)
    signature = sign(world, commit_payload(tree, parents, by, github, message))
    return await repo.git.write_commit(
        tree=tree, parents=parents, author=by, committer=github, message=message, signature=signature
    )


async def _replayed(call: Call, repo: Repo, brought: Sequence[CommitObject], tip: str) -> str:
    """Each commit again on top of the base, with its author and message, committed by whoever merges."""
    committer = Person(call.actor.name or call.actor.login, call.actor.email, call.world.now())
    for one in brought:
        if len(one.parents) != 1:
            raise ApiError(405, "This branch can't be rebased")
        # What `tip` holds, as if it had been committed on the parent: then the parent is the merge's base.
        stand_in = await repo.git.write_commit(
            tree=await repo.git.tree_of(tip),
            parents=one.parents,
            author=committer,
            committer=committer,
            message="base\n",
        )
        tree = await repo.git.merge_tree(stand_in, one.sha)
        if tree is None:
            raise ApiError(405, "This branch can't be rebased")
        tip = await repo.git.write_commit(
            tree=tree, parents=(tip,), author=one.author, committer=committer, message=one.message
        )
    return tip


async def _finish(world: World, repo: Repo, one: Issue, merger: User, sha: str) -> None:
    """Marks it merged, and closes what its text says it fixes when the base is the default branch."""
    pull = pull_of(one)
    pull.merged_at, pull.merged_by_id, pull.merge_commit_sha = world.now(), merger.id, sha
    await conversation.set_state(world, repo, one, merger, "closed")
    if pull.base_ref == repo.default_branch:
        for fixed in pullwork.closed_by_words(repo, f"{one.title}\n{one.body or ''}"):
            await conversation.set_state(world, repo, fixed, merger, "closed", reason="completed")


@endpoint("PUT", "/repos/{owner}/{repo}/pulls/{pull_number}/update-branch")
async def update_branch(call: Call) -> Response:
    repo, one = find_pull(call, "write", role="read")
    pull = pull_of(one)
    source = call.world.repositories.get(pull.head_repository_id or 0)
    if source is None or source.id != repo.id:
        raise unprocessable("The head repository of this pull request cannot be updated from here.")
    if call.caller.kind == "user" and ROLES.index(source.role(call.actor)) < ROLES.index("write"):
        raise forbidden("Must have push access to the head branch.")
    if one.state == "closed":
        raise unprocessable("Pull request is closed")
    expected = (await call.body()).string_or("expected_head_sha", pull.head_sha)
    if expected != pull.head_sha:
        raise unprocessable("expected head sha didn\u2019t match current head ref.")
    tip = await repo.git.branch(pull.base_ref)
    if tip is None or await repo.git.is_ancestor(tip, pull.head_sha):
        raise unprocessable("There are no new commits on the base branch.")
    tree = await repo.git.merge_tree(pull.head_sha, tip)
    if tree is None:
        raise unprocessable("merge conflict between base and head")
    message = f"Merge branch '{pull.base_ref}' into {pull.head_ref}\n"
    sha = await commit_by_github(
        call.world, repo, call.actor, tree=tree, parents=(pull.head_sha, tip), message=message
    )
    await refs.move(call.world, repo, call.caller, f"refs/heads/{pull.head_ref}", sha, before=pull.head_sha)
    url = f"{api(call.world, repo)}/pulls/{one.number}"
    return call.answer({"message": "Updating pull request branch.", "url": url}, 202)


# --- what a push does ------------------------------------------------------------------------------------------------


async def on_ref_change(world: World, repo: Repo, ref: str, before: str, after: str, pusher: User) -> None:  # noqa: PLR0917  # a state.RefListener
    """A branch moved: pull requests from it follow, those into it may be merged by it, words in commits close issues."""
    if not ref.startswith("refs/heads/"):
        return
    branch = ref.removeprefix("refs/heads/")
    for target in list(world.repositories.values()):
        for one in list(target.issues.values()):
            pull = one.pull
            if pull and one.state == "open" and (pull.head_repository_id, pull.head_ref) == (repo.id, branch):
                await _head_moved(world, target, one, after, pusher)
    for one in list(repo.issues.values()):
        if one.pull and one.state == "open" and one.pull.base_ref == branch and not one.pull.merging:
            await _base_moved(world, repo, one, after, pusher)
    if branch == repo.default_branch and after != ZERO_SHA:
        await _close_by_commits(world, repo, before, after, pusher)


async def _head_moved(world: World, repo: Repo, one: Issue, after: str, pusher: User) -> None:
    pull = pull_of(one)
    if after == ZERO_SHA:
        await conversation.set_state(world, repo, one, pusher, "closed")
        return
    before, pull.head_sha = pull.head_sha, after
    left = pull.base_sha
    pull.base_sha = await repo.git.branch(pull.base_ref) or pull.base_sha
    await pullwork.keep_head(repo, world.repositories[pull.head_repository_id or 0], pull)
    await _follow_lines(repo, pull, left=left, right=before)
    conversation.touch(world, one)
    await announce(world, repo, one, "synchronize", pusher, before=before, after=after)
    if await repo.git.is_ancestor(after, pull.base_sha):
        await conversation.set_state(world, repo, one, pusher, "closed")


async def _base_moved(world: World, repo: Repo, one: Issue, after: str, pusher: User) -> None:
    pull = pull_of(one)
    if after == ZERO_SHA:
        await conversation.set_state(world, repo, one, pusher, "closed")
    elif await repo.git.is_ancestor(pull.head_sha, after):
        await _finish(world, repo, one, pusher, after)


async def _follow_lines(repo: Repo, pull: PullRequest, *, left: str, right: str) -> None:
    """Comments go with their line; where it was changed or left the diff they lose their place and keep the original one.

    `left` and `right` are the base and the head as they were.
    """
    if not pull.review_comments:
        return
    patches = {file.path: file.patch or "" for file in await pullwork.files(repo.git, pull)}
    old_start = await repo.git.merge_base(left, right) or left
    new_start = await pullwork.start(repo.git, pull) or pull.base_sha
    moves = {
        "LEFT": await repo.git.changes(old_start, new_start),
        "RIGHT": await repo.git.changes(right, pull.head_sha),
    }
    for made in pull.review_comments.values():
        if made.line is None or made.subject_type == "file":
            continue
        line = _followed(moves[made.side], made.path, made.line)
        place = diffs.find_line(patches.get(made.path, ""), line, made.side) if line is not None else None
        if line is None or place is None:
            made.line = made.position = made.start_line = None
            continue
        if made.start_line is not None:
            made.start_line = _followed(moves[made.start_side or made.side], made.path, made.start_line)
        made.line, made.position, made.commit_id = line, place.position, pull.head_sha


def _followed(changed: Sequence[Changed], path: str, line: int) -> int | None:
    """Where a line stands after a change; None where the change touched it, or removed or renamed its file."""
    file = next((one for one in changed if path in (one.path, one.previous)), None)
    if file is None:
        return line
    return diffs.follow(file.patch, line) if file.path == path and file.patch is not None else None


async def _close_by_commits(world: World, repo: Repo, before: str, after: str, pusher: User) -> None:
    known = () if before == ZERO_SHA else (f"^{before}",)
    messages = await repo.git.run("log", "--max-count=1000", "--format=%B", after, *known)
    for fixed in pullwork.closed_by_words(repo, messages.decode("utf-8", "replace")):
        await conversation.set_state(world, repo, fixed, pusher, "closed", reason="completed")


endpoints = [
    create_pull,
    list_pulls,
    get_pull,
    list_files,
    list_commits,
    get_merged,
    update_pull,
    request_reviewers,
    merge_pull,
    update_branch,
]
