"""Issues, their labels, assignees, locks and comments.

https://docs.github.com/rest/issues
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from starlette.responses import Response

from infra.simulator import conversation, payloads
from infra.simulator.answers import forbidden, gone, invalid_field, not_found
from infra.simulator.call import Body, Call, endpoint
from infra.simulator.conversation import checked_body, checked_title, find_issue
from infra.simulator.shapes_people import comment as comment_shape
from infra.simulator.shapes_people import issue as issue_shape
from infra.simulator.shapes_people import label as label_shape
from infra.simulator.shapes_people import labels as labels_shape
from infra.simulator.shapes_people import user as user_shape
from infra.simulator.state import ROLES, Comment, Issue, Label, Repo, World

_LOCK_REASONS = ("off-topic", "too heated", "resolved", "spam")
_STATE_REASONS = ("completed", "not_planned", "duplicate", "reopened")


def has_role(call: Call, repo: Repo, role: str) -> bool:
    """Whether the caller's role is enough. An installation has none, its permissions were asked for already."""
    return call.by_app or ROLES.index(call.role_in(repo)) >= ROLES.index(role)


# --- issues ----------------------------------------------------------------------------------------------------------


@endpoint("POST", "/repos/{owner}/{repo}/issues", creates_content=True)
async def create_issue(call: Call) -> Response:
    repo = call.repo("issues", "write", role="read")
    if not repo.has_issues:
        raise gone(conversation.ISSUES_ARE_OFF)
    body = await call.body()
    title = checked_title("Issue", _title(body))
    text = checked_body("Issue", body.string_or("body", None))
    # Those without push access have their labels and assignees dropped without a word.
    trusted = has_role(call, repo, "triage")
    names = conversation.label_names(body.list_or("labels", [])) if trusted else []
    logins = body.strings_or("assignees", []) if trusted else []
    users = conversation.assignees(call.world, repo, logins)
    now = call.world.now()
    one = Issue(
        call.world.next_id(), repo.next_number(), title, text, call.actor.id, now, now, by_app=call.by_app
    )
    repo.issues[one.number] = one
    await conversation.announce(call.world, repo, one, "opened", call.actor)
    await conversation.set_labels(call.world, repo, one, call.actor, names)
    await conversation.set_assignees(call.world, repo, one, call.actor, users)
    return call.answer(issue_shape(call.world, repo, one), 201)


def _title(body: Body) -> str:
    """GitHub takes a number for a title, too."""
    title = body.get("title")
    return str(title) if isinstance(title, int) and not isinstance(title, bool) else body.string("title")


@endpoint("GET", "/repos/{owner}/{repo}/issues")
async def list_issues(call: Call) -> Response:
    repo = call.repo_any(("issues", "read"), ("pull_requests", "read"))
    state = call.query("state", "open")
    if state not in ("open", "closed", "all"):
        raise invalid_field("Issue", "state")
    found = [
        one for one in repo.issues.values() if state in ("all", one.state) and (one.pull or repo.has_issues)
    ]
    if wanted := {name.lower() for name in call.query("labels").split(",") if name}:
        found = [one for one in found if wanted <= {name.lower() for name in one.labels}]
    if creator := call.query("creator").lower():
        found = [one for one in found if call.world.user(one.user_id).login.lower() == creator]
    if assignee := call.query("assignee").lower():
        found = [one for one in found if _assigned(call.world, one, assignee)]
    if since := _since(call):
        found = [one for one in found if one.updated_at >= since]
    found.sort(key=_order(call.query("sort", "created")), reverse=call.query("direction", "desc") != "asc")
    return call.page(found, lambda one: issue_shape(call.world, repo, one))


def _order(sort: str) -> Any:
    keys: dict[str, Any] = {
        "updated": lambda one: (one.updated_at, one.number),
        "comments": lambda one: (len(one.comments), one.number),
    }
    return keys.get(sort, lambda one: one.number)


def _assigned(world: World, one: Issue, login: str) -> bool:
    if login in ("none", "*"):
        return bool(one.assignee_ids) == (login == "*")
    return any(world.user(who).login.lower() == login for who in one.assignee_ids)


def _since(call: Call) -> datetime | None:
    said = call.query("since")
    if not said:
        return None
    try:
        moment = datetime.fromisoformat(said)
    except ValueError as error:
        raise invalid_field("Issue", "since") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=call.world.now().tzinfo)


@endpoint("GET", "/repos/{owner}/{repo}/issues/{issue_number}")
async def get_issue(call: Call) -> Response:
    repo, one = find_issue(call)
    return call.answer(issue_shape(call.world, repo, one))


@endpoint("PATCH", "/repos/{owner}/{repo}/issues/{issue_number}")
async def update_issue(call: Call) -> Response:
    repo, one = find_issue(call, "write", role="triage", author_role="read")
    body = await call.body()
    title = checked_title("Issue", _title(body)) if body.get("title") is not None else None
    text = checked_body("Issue", body.string_or("body", None))
    text = "" if "body" in body and text is None else text
    state, reason = _state(body)
    trusted = has_role(call, repo, "triage")
    names = conversation.label_names(body.list_or("labels", [])) if trusted and "labels" in body else None
    users = None
    if trusted and "assignees" in body:
        users = conversation.assignees(call.world, repo, body.strings_or("assignees", []))
    if one.pull and state == "open" and one.state == "closed":
        # Reopening a pull request has conditions of its own: https://docs.github.com/rest/pulls/pulls
        from infra.simulator.routes.pulls import check_can_reopen  # noqa: PLC0415  # pulls builds on this module

        await check_can_reopen(repo, one)
    await conversation.edit(call.world, repo, one, call.actor, title=title, body=text)
    if names is not None:
        await conversation.set_labels(call.world, repo, one, call.actor, names)
    if users is not None:
        await conversation.set_assignees(call.world, repo, one, call.actor, users)
    if state is not None:
        await conversation.set_state(call.world, repo, one, call.actor, state, reason=reason)
    return call.answer(issue_shape(call.world, repo, one))


def _state(body: Body) -> tuple[str | None, str | None]:
    state, reason = body.string_or("state", None), body.string_or("state_reason", None)
    if state not in (None, "open", "closed"):
        raise invalid_field("Issue", "state")
    if reason is not None and reason not in _STATE_REASONS:
        raise invalid_field("Issue", "state_reason")
    return state, reason


# --- labels ----------------------------------------------------------------------------------------------------------


@endpoint("GET", "/repos/{owner}/{repo}/labels")
async def list_repository_labels(call: Call) -> Response:
    repo = call.repo_any(("issues", "read"), ("pull_requests", "read"))
    return call.page(repo.labels.values(), lambda one: label_shape(call.world, repo, one))


@endpoint("POST", "/repos/{owner}/{repo}/labels", creates_content=True)
async def create_label(call: Call) -> Response:
    repo = call.repo_any(("issues", "write"), ("pull_requests", "write"))
    body = await call.body()
    name = conversation.label_names([body.string("name")])[0]
    color = body.string_or("color", "ededed")
    if len(color) != 6 or any(letter not in "0123456789abcdefABCDEF" for letter in color):
        raise invalid_field("Label", "color")
    if name.lower() in repo.labels:
        raise invalid_field("Label", "name", "already_exists")
    one = Label(call.world.next_id(), name, color.lower(), body.string_or("description", None))
    repo.labels[name.lower()] = one
    return call.answer(label_shape(call.world, repo, one), 201)


@endpoint("GET", "/repos/{owner}/{repo}/issues/{issue_number}/labels")
async def list_labels(call: Call) -> Response:
    repo, one = find_issue(call)
    return call.page(labels_shape(call.world, repo, one), lambda shape: shape)


@endpoint("POST", "/repos/{owner}/{repo}/issues/{issue_number}/labels")
async def add_labels(call: Call) -> Response:
    repo, one = find_issue(call, "write", role="triage")
    names = conversation.label_names((await call.body()).list_or("labels", []))
    await conversation.set_labels(call.world, repo, one, call.actor, [*one.labels, *names])
    return call.answer(labels_shape(call.world, repo, one))


@endpoint("PUT", "/repos/{owner}/{repo}/issues/{issue_number}/labels")
async def replace_labels(call: Call) -> Response:
    repo, one = find_issue(call, "write", role="triage")
    names = conversation.label_names((await call.body()).list_or("labels", []))
    await conversation.set_labels(call.world, repo, one, call.actor, names)
    return call.answer(labels_shape(call.world, repo, one))


@endpoint("DELETE", "/repos/{owner}/{repo}/issues/{issue_number}/labels/{name}")
async def remove_label(call: Call) -> Response:
    repo, one = find_issue(call, "write", role="triage")
    gone_name = call.text("name").lower()
    if gone_name not in {name.lower() for name in one.labels}:
        raise not_found_label()
    left = [name for name in one.labels if name.lower() != gone_name]
    await conversation.set_labels(call.world, repo, one, call.actor, left)
    return call.answer(labels_shape(call.world, repo, one))


def not_found_label() -> Exception:
    error = not_found()
    error.message = "Label does not exist"
    return error


# --- assignees and locks ---------------------------------------------------------------------------------------------


@endpoint("GET", "/repos/{owner}/{repo}/assignees")
async def list_assignees(call: Call) -> Response:
    repo = call.repo_any(("issues", "read"), ("pull_requests", "read"))
    found = [who for who in call.world.users.values() if conversation.assignable(call.world, repo, who.login)]
    return call.page(found, lambda who: user_shape(call.world, who))


@endpoint("POST", "/repos/{owner}/{repo}/issues/{issue_number}/assignees")
async def add_assignees(call: Call) -> Response:
    repo, one = find_issue(call, "write", role="triage")
    added = conversation.assignees(call.world, repo, (await call.body()).strings_or("assignees", []))
    present = [call.world.user(who) for who in one.assignee_ids]
    await conversation.set_assignees(call.world, repo, one, call.actor, [*present, *added])
    return call.answer(issue_shape(call.world, repo, one), 201)


@endpoint("DELETE", "/repos/{owner}/{repo}/issues/{issue_number}/assignees")
async def remove_assignees(call: Call) -> Response:
    repo, one = find_issue(call, "write", role="triage")
    removed = {login.lower() for login in (await call.body()).strings_or("assignees", [])}
    present = [call.world.user(who) for who in one.assignee_ids]
    left = [who for who in present if who.login.lower() not in removed]
    await conversation.set_assignees(call.world, repo, one, call.actor, left)
    return call.answer(issue_shape(call.world, repo, one))


@endpoint("PUT", "/repos/{owner}/{repo}/issues/{issue_number}/lock")
async def lock_issue(call: Call) -> Response:
    repo, one = find_issue(call, "write", role="triage")
    reason = (await call.body()).string_or("lock_reason", None)
    if reason is not None and reason not in _LOCK_REASONS:
        raise invalid_field("Issue", "lock_reason")
    was, one.locked, one.active_lock_reason = one.locked, True, reason
    if not was:
        conversation.touch(call.world, one)
        await conversation.announce(call.world, repo, one, "locked", call.actor)
    return call.nothing()


@endpoint("DELETE", "/repos/{owner}/{repo}/issues/{issue_number}/lock")
async def unlock_issue(call: Call) -> Response:
    repo, one = find_issue(call, "write", role="triage")
    was, one.locked, one.active_lock_reason = one.locked, False, None
    if was:
        conversation.touch(call.world, one)
        await conversation.announce(call.world, repo, one, "unlocked", call.actor)
    return call.nothing()


# --- comments --------------------------------------------------------------------------------------------------------


def check_not_locked(call: Call, repo: Repo, one: Issue) -> None:
    """A locked conversation takes comments from people with write access; an App has no such access."""
    if one.locked and (call.by_app or not has_role(call, repo, "write")):
        raise forbidden("Unable to create comment because issue is locked.")


def comment_text(body: Body) -> str:
    """Raises 422 for a comment that is empty or too long."""
    text = body.string("body")
    if not text.strip():
        raise invalid_field("IssueComment", "body", "missing_field")
    checked_body("IssueComment", text)
    return text


@endpoint("POST", "/repos/{owner}/{repo}/issues/{issue_number}/comments", creates_content=True)
async def create_comment(call: Call) -> Response:
    repo, one = find_issue(call, "write", role="read")
    check_not_locked(call, repo, one)
    text = comment_text(await call.body())
    now = call.world.now()
    made = Comment(call.world.next_id(), one.number, call.actor.id, text, now, now, by_app=call.by_app)
    one.comments[made.id] = made
    conversation.touch(call.world, one)
    _announce_comment(call, repo, one, made, "created")
    return call.answer(comment_shape(call.world, repo, made), 201)


def _announce_comment(call: Call, repo: Repo, one: Issue, made: Comment, action: str, **extra: Any) -> None:
    payload = payloads.issue_comment(call.world, repo, one, made, call.actor)
    call.world.emit("issue_comment", action, repo, {**payload, **extra})


@endpoint("GET", "/repos/{owner}/{repo}/issues/{issue_number}/comments")
async def list_comments(call: Call) -> Response:
    repo, one = find_issue(call)
    since = _since(call)
    found = [made for made in one.comments.values() if since is None or made.updated_at >= since]
    return call.page(found, lambda made: comment_shape(call.world, repo, made))


def find_comment(call: Call, level: str = "read", *, role: str | None = None) -> tuple[Repo, Issue, Comment]:
    """The path's comment, for its author or for those with `role`."""
    repo = call.visible()
    wanted = call.number("comment_id")
    one = next((issue for issue in repo.issues.values() if wanted in issue.comments), None)
    mine = (
        one is not None
        and call.caller.user is not None
        and one.comments[wanted].user_id == call.caller.user.id
    )
    call.require_any(repo, *conversation.alternatives(one, level), role="read" if mine else role)
    if one is None or not (repo.has_issues or one.pull):
        raise not_found() if one is None else gone(conversation.ISSUES_ARE_OFF)
    return repo, one, one.comments[wanted]


@endpoint("GET", "/repos/{owner}/{repo}/issues/comments/{comment_id}")
async def get_comment(call: Call) -> Response:
    repo, _, made = find_comment(call)
    return call.answer(comment_shape(call.world, repo, made))


@endpoint("PATCH", "/repos/{owner}/{repo}/issues/comments/{comment_id}")
async def update_comment(call: Call) -> Response:
    repo, one, made = find_comment(call, "write", role="write")
    text = comment_text(await call.body())
    was, made.body, made.updated_at = made.body, text, call.world.now()
    if was != text:
        _announce_comment(call, repo, one, made, "edited", changes={"body": {"from": was}})
    return call.answer(comment_shape(call.world, repo, made))


@endpoint("DELETE", "/repos/{owner}/{repo}/issues/comments/{comment_id}")
async def delete_comment(call: Call) -> Response:
    repo, one, made = find_comment(call, "write", role="write")
    del one.comments[made.id]
    _announce_comment(call, repo, one, made, "deleted")
    return call.nothing()


endpoints = [
    create_issue,
    list_issues,
    get_issue,
    update_issue,
    list_repository_labels,
    create_label,
    list_labels,
    add_labels,
    replace_labels,
    remove_label,
    list_assignees,
    add_assignees,
    remove_assignees,
    lock_issue,
    unlock_issue,
    create_comment,
    list_comments,
    get_comment,
    update_comment,
    delete_comment,
]
