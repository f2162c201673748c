"""What happens to an issue or a pull request's issue side, and the webhook that each happening sends.

The routes check who may; what is done here is done.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from infra.simulator import payloads
from infra.simulator.answers import gone, invalid_field, not_found, validation_failed
from infra.simulator.call import Call
from infra.simulator.shapes_people import label as label_shape
from infra.simulator.shapes_people import user as user_shape
from infra.simulator.state import Issue, Label, Repo, User, World

LONGEST_BODY = 65_536
LONGEST_TITLE = 256
ISSUES_ARE_OFF = "Issues has been disabled in this repository."


def checked_body(resource: str, body: str | None) -> str | None:
    """Raises 422 for a body that is too long: GitHub keeps 65,536 characters."""
    if body is not None and len(body) > LONGEST_BODY:
        said = f"ody is too long (maximum is {LONGEST_BODY} characters)"
        if resource == "Issue":  # pull requests, too, are refused under this name
            raise invalid_field(resource, "body", "custom", f"b{said}")
        raise invalid_field(resource, "data", "unprocessable", f"B{said}")
    return body


def checked_title(resource: str, title: str) -> str:
    if not title.strip():
        raise invalid_field(resource, "title", "missing_field")
    if len(title) > LONGEST_TITLE:
        message = f"title is too long (maximum is {LONGEST_TITLE} characters)"
        raise invalid_field(resource, "title", "custom", message)
    return title


def alternatives(one: Issue | None, level: str) -> tuple[tuple[str, str], ...]:
    """The permissions of which an App needs one: on a pull request's conversation either will do.

    https://docs.github.com/rest/authentication/permissions-required-for-github-apps
    """
    if one is not None and one.pull is None:
        return (("issues", level),)
    return (("issues", level), ("pull_requests", level))


def find_issue(
    call: Call, level: str = "read", *, role: str | None = None, author_role: str | None = None
) -> tuple[Repo, Issue]:
    """The path's issue or pull request. `author_role` is the role that will do for its author.

    Raises 404 when there is none, 410 for an issue (not a pull request) where issues are switched off.
    """
    repo = call.visible()
    one = repo.issues.get(call.number("issue_number"))
    if one is None and (moved := repo.transferred.get(call.number("issue_number"))) is not None:
        call.redirect_issue(*moved)
    author = one is not None and call.caller.user is not None and one.user_id == call.caller.user.id
    call.require_any(repo, *alternatives(one, level), role=(author_role or role) if author else role)
    if one is None:
        raise not_found()
    if not repo.has_issues and one.pull is None:
        raise gone(ISSUES_ARE_OFF)
    return repo, one


async def transfer(world: World, repo: Repo, number: int, target: Repo, sender: User) -> Issue:
    """An issue and its comments move to another repository of the account, under a new number.

    https://docs.github.com/issues/tracking-your-work-with-issues/administering-issues/transferring-an-issue-to-another-repository
    """
    one = repo.issues.pop(number)
    told = payloads.issues(world, repo, one, sender)
    one.number = target.next_number()
    repo.transferred[number] = (target.id, one.number)
    target.issues[one.number] = one
    for comment in one.comments.values():
        comment.issue_number = one.number
    new = payloads.issues(world, target, one, sender)
    changes = {"new_issue": new["issue"], "new_repository": new["repository"]}
    world.emit("issues", "transferred", repo, {**told, "changes": changes})
    return one


async def announce(world: World, repo: Repo, one: Issue, action: str, sender: User, **extra: Any) -> None:
    """Sends `issues` or, for a pull request, `pull_request`; both know the same actions."""
    if one.pull is None:
        world.emit("issues", action, repo, {**payloads.issues(world, repo, one, sender), **extra})
    else:
        payload = {**await payloads.pull_request(world, repo, one, sender), **extra}
        world.emit("pull_request", action, repo, payload)


def touch(world: World, one: Issue) -> None:
    one.updated_at = world.now()


async def edit(
    world: World, repo: Repo, one: Issue, sender: User, *, title: str | None = None, body: str | None = None
) -> None:
    """A new title, a new body; None leaves either as it is."""
    changes: dict[str, Any] = {}
    if title is not None and title != one.title:
        changes["title"] = {"from": one.title}
        one.title = title
    if body is not None and body != (one.body or ""):
        changes["body"] = {"from": one.body or ""}
        one.body = body
    if changes:
        touch(world, one)
        await announce(world, repo, one, "edited", sender, changes=changes)


async def set_state(
    world: World, repo: Repo, one: Issue, sender: User, state: str, *, reason: str | None = None
) -> None:
    """Closes or reopens. `reason`: "completed", "not_planned", "duplicate" or "reopened"; issues alone have one."""
    if state == one.state:
        if one.pull is None and reason is not None and state == "closed":
            one.state_reason = reason
        return
    one.state = state
    touch(world, one)
    closing = state == "closed"
    one.closed_at = world.now() if closing else None
    one.closed_by_id = sender.id if closing else None
    if one.pull is None:
        one.state_reason = reason or ("completed" if closing else "reopened")
    await announce(world, repo, one, "closed" if closing else "reopened", sender)


def label_names(values: Sequence[Any]) -> list[str]:
    """Labels come as strings or as objects with a name."""
    names = []
    for value in values:
        name = value.get("name") if isinstance(value, dict) else value
        if not isinstance(name, str) or not name.strip() or len(name) > 50:
            raise validation_failed({"value": value, "resource": "Label", "field": "name", "code": "invalid"})
        names.append(name)
    return names


async def set_labels(world: World, repo: Repo, one: Issue, sender: User, names: Sequence[str]) -> None:
    """Makes `names` the issue's labels; a label that the repository lacks is created, as GitHub does."""
    wanted: dict[str, Label] = {}
    for name in names:
        known = repo.labels.setdefault(name.lower(), Label(world.next_id(), name))
        wanted[name.lower()] = known
    before = {name.lower(): name for name in one.labels}
    one.labels = [found.name for found in wanted.values()]
    for key, found in wanted.items():
        if key not in before:
            touch(world, one)
            await announce(world, repo, one, "labeled", sender, label=label_shape(world, repo, found))
    for key in before:
        if key not in wanted:
            touch(world, one)
            await announce(
                world, repo, one, "unlabeled", sender, label=label_shape(world, repo, repo.labels[key])
            )


def assignable(world: World, repo: Repo, login: str) -> User | None:
    """People with access, and the bot of the App where it is installed."""
    who = world.user_by_login(login)
    if who is None:
        return None
    if who.id == world.app.bot_id:
        return who if world.installation_of(repo) else None
    return who if repo.role(who) != "none" else None


def assignees(world: World, repo: Repo, logins: Sequence[str]) -> list[User]:
    """Raises 422 naming the first login that cannot be assigned here."""
    found = []
    for login in logins:
        who = assignable(world, repo, login)
        if who is None:
            raise validation_failed(
                {"value": login, "resource": "Issue", "field": "assignees", "code": "invalid"}
            )
        found.append(who)
    return found


async def set_assignees(world: World, repo: Repo, one: Issue, sender: User, users: Sequence[User]) -> None:
    wanted = list(dict.fromkeys(who.id for who in users))
    before, one.assignee_ids = one.assignee_ids, wanted
    for ids, others, action in ((wanted, before, "assigned"), (before, wanted, "unassigned")):
        for who in ids:
            if who not in others:
                touch(world, one)
                await announce(world, repo, one, action, sender, assignee=user_shape(world, world.user(who)))
