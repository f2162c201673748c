"""Reviews of a pull request and the comments on lines of its diff.

https://docs.github.com/rest/pulls/reviews and https://docs.github.com/rest/pulls/comments
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from starlette.responses import Response

from infra.simulator import conversation, diffs, payloads, pullwork
from infra.simulator.answers import ApiError, invalid_field, not_found, validation_failed
from infra.simulator.call import Body, Call, endpoint
from infra.simulator.conversation import checked_body
from infra.simulator.git import Changed
from infra.simulator.routes.issues import check_not_locked
from infra.simulator.routes.pulls import find_pull
from infra.simulator.shapes_people import legacy_review_comment, pull_of
from infra.simulator.shapes_people import review as review_shape
from infra.simulator.shapes_people import review_comment as comment_shape
from infra.simulator.state import Issue, PullRequest, Repo, Review, ReviewComment, ReviewThread, User, World

_STATES = {"APPROVE": "APPROVED", "REQUEST_CHANGES": "CHANGES_REQUESTED", "COMMENT": "COMMENTED"}
_RESOURCE = "PullRequestReviewComment"


def _refused(*reasons: str) -> ApiError:
    """Reviews are refused with a list of sentences."""
    return ApiError(422, "Unprocessable Entity", errors=reasons)


@dataclass(frozen=True, slots=True)
class _Spot:
    """Where on the diff a comment stands; a comment on a file stands at its first line."""

    path: str
    hunk: str
    line: int | None
    side: str
    start_line: int | None
    start_side: str | None
    position: int | None
    subject_type: str = "line"


# --- reviews ---------------------------------------------------------------------------------------------------------


def find_review(call: Call, level: str = "read", *, role: str | None = None) -> tuple[Repo, Issue, Review]:
    """The path's review. One that is still pending is seen by its author alone."""
    repo, one = find_pull(call, level, role=role)
    review = pull_of(one).reviews.get(call.number("review_id"))
    if review is None or not _sees(call, review):
        raise not_found()
    return repo, one, review


def _sees(call: Call, review: Review) -> bool:
    return review.state != "PENDING" or (
        call.caller.user is not None and call.caller.user.id == review.user_id
    )


@endpoint("POST", "/repos/{owner}/{repo}/pulls/{pull_number}/reviews", creates_content=True)
async def create_review(call: Call) -> Response:
    repo, one = find_pull(call, "write", role="read")
    check_not_locked(call, repo, one)
    body, pull = await call.body(), pull_of(one)
    text = checked_body("PullRequestReview", body.string_or("body", "")) or ""
    event, sent = body.string_or("event", None), body.list_or("comments", [])
    if event is not None:
        _check_event(call, one, event, text, has_comments=bool(sent))
    elif any(
        review.state == "PENDING" and review.user_id == call.actor.id for review in pull.reviews.values()
    ):
        raise _refused("User can only have one pending review per pull request")
    commit = await _commit(repo, pull, body)
    changed = await pullwork.files(repo.git, pull)
    spots = [(_review_spot(changed, each), each["body"]) for each in sent]
    now = call.world.now()
    state = _STATES[event] if event else "PENDING"
    review = Review(
        call.world.next_id(), one.number, call.actor.id, text, state, commit, now if event else None, now
    )
    pull.reviews[review.id] = review
    made = [_add_comment(call, pull, spot, said, review) for spot, said in spots]
    if event is not None:
        _submitted(call, repo, one, review, made)
    return call.answer(review_shape(call.world, repo, review))


def _submitted(call: Call, repo: Repo, one: Issue, review: Review, made: Sequence[ReviewComment]) -> None:
    world, pull = call.world, pull_of(one)
    if review.user_id in pull.requested_reviewer_ids:
        pull.requested_reviewer_ids.remove(review.user_id)
    conversation.touch(world, one)
    payload = payloads.pull_request_review(world, repo, one, review, call.actor)
    world.emit("pull_request_review", "submitted", repo, payload)
    for comment in made:
        _announce(call, repo, one, comment, "created")


def _check_event(call: Call, one: Issue, event: str, text: str, *, has_comments: bool) -> None:
    if event not in _STATES:
        raise ApiError(
            422,
            "Validation Failed",
            errors=[f"Variable $event of type PullRequestReviewEvent was provided invalid value: {event}"],
        )
    if event != "COMMENT" and one.user_id == call.actor.id:
        doing = "approve" if event == "APPROVE" else "request changes on"
        raise _refused(f"Review Can not {doing} your own pull request")
    if event == "REQUEST_CHANGES" and not text.strip():
        raise _refused("Review Can not request changes without a body")
    if event == "COMMENT" and not text.strip() and not has_comments:
        raise _refused("Review Body is required to comment")


async def _commit(repo: Repo, pull: PullRequest, body: Body) -> str:
    """The commit that the review speaks of: the head, or an earlier one of the pull request."""
    asked = body.string_or("commit_id", None)
    if asked is None or asked == pull.head_sha:
        return pull.head_sha
    if asked not in await pullwork.commits(repo.git, pull):
        raise invalid_field(
            "PullRequestReview", "commit_id", "custom", "commitOID is not part of the pull request"
        )
    return asked


def _review_spot(changed: Sequence[Changed], sent: Any) -> _Spot:
    """A review's comments are refused with other words than single comments are."""
    if (
        not isinstance(sent, Mapping)
        or not isinstance(sent.get("body"), str)
        or not isinstance(sent.get("path"), str)
    ):
        raise ApiError(422, 'Invalid request.\n\nFor \'comments\', "path" and "body" weren\'t supplied.')
    checked_body(_RESOURCE, sent["body"])
    file = next((each for each in changed if each.path == sent["path"]), None)
    if file is None:
        raise _refused("Path could not be resolved")
    spot = _place(file, Body(sent))
    if spot is None:
        raise _refused("Line could not be resolved")
    return spot


def _place(file: Changed, body: Body) -> _Spot | None:
    """By line and side, or by the older position. None: not a part of the diff."""
    patch = file.patch or ""
    side, line = body.string_or("side", "RIGHT"), body.integer_or("line", None)
    if line is None:
        found = diffs.line_at(patch, body.integer_or("position", 0))
        if found is None:
            return None
        line, side = found
    place = diffs.find_line(patch, line, side)
    if side not in ("LEFT", "RIGHT") or place is None:
        return None
    start, start_side = body.integer_or("start_line", None), body.string_or("start_side", None)
    if start is not None:
        start_side = start_side or side
        if diffs.find_line(patch, start, start_side) is None or (start_side == side and start >= line):
            return None
    return _Spot(file.path, place.hunk, line, side, start, start_side, place.position)


@endpoint("GET", "/repos/{owner}/{repo}/pulls/{pull_number}/reviews")
async def list_reviews(call: Call) -> Response:
    repo, one = find_pull(call)
    found = [review for review in pull_of(one).reviews.values() if _sees(call, review)]
    return call.page(found, lambda review: review_shape(call.world, repo, review))


@endpoint("GET", "/repos/{owner}/{repo}/pulls/{pull_number}/reviews/{review_id}")
async def get_review(call: Call) -> Response:
    repo, _, review = find_review(call)
    return call.answer(review_shape(call.world, repo, review))


@endpoint("GET", "/repos/{owner}/{repo}/pulls/{pull_number}/reviews/{review_id}/comments")
async def list_review_comments(call: Call) -> Response:
    repo, one, review = find_review(call)
    found = [made for made in pull_of(one).review_comments.values() if made.review_id == review.id]
    return call.page(found, lambda made: legacy_review_comment(call.world, repo, made))


@endpoint("PUT", "/repos/{owner}/{repo}/pulls/{pull_number}/reviews/{review_id}")
async def update_review(call: Call) -> Response:
    repo, one, review = find_review(call, "write", role="read")
    if review.user_id != call.actor.id:
        raise ApiError(403, "Must have admin rights to Repository.")
    text = (await call.body()).string("body")
    checked_body("PullRequestReview", text)
    was, review.body = review.body, text
    if was != text and review.state != "PENDING":
        extra = {"changes": {"body": {"from": was}}}
        payload = {**payloads.pull_request_review(call.world, repo, one, review, call.actor), **extra}
        call.world.emit("pull_request_review", "edited", repo, payload)
    return call.answer(review_shape(call.world, repo, review))


@endpoint("POST", "/repos/{owner}/{repo}/pulls/{pull_number}/reviews/{review_id}/events")
async def submit_review(call: Call) -> Response:
    repo, one, review = find_review(call, "write", role="read")
    body, pull = await call.body(), pull_of(one)
    if review.state != "PENDING" or review.user_id != call.actor.id:
        raise _refused("Could not submit this review; it is not pending")
    made = [comment for comment in pull.review_comments.values() if comment.review_id == review.id]
    text = checked_body("PullRequestReview", body.string_or("body", review.body)) or ""
    event = body.string("event")
    _check_event(call, one, event, text, has_comments=bool(made))
    review.state, review.body, review.submitted_at = _STATES[event], text, call.world.now()
    _submitted(call, repo, one, review, made)
    return call.answer(review_shape(call.world, repo, review))


@endpoint("PUT", "/repos/{owner}/{repo}/pulls/{pull_number}/reviews/{review_id}/dismissals")
async def dismiss_review(call: Call) -> Response:
    repo, one, review = find_review(call, "write", role="write")
    message = (await call.body()).string("message")
    if not message.strip():
        raise _refused("Message can't be blank")
    if review.state not in ("APPROVED", "CHANGES_REQUESTED"):
        raise _refused("Can not dismiss a commented pull request review")
    review.state = "DISMISSED"
    payload = payloads.pull_request_review(call.world, repo, one, review, call.actor)
    call.world.emit("pull_request_review", "dismissed", repo, payload)
    return call.answer(review_shape(call.world, repo, review))


# --- comments on lines -----------------------------------------------------------------------------------------------


def find_review_comment(
    call: Call, level: str = "read", *, role: str | None = None
) -> tuple[Repo, Issue, ReviewComment]:
    """The path's review comment, for its author or for those with `role`."""
    repo = call.visible()
    wanted = call.number("comment_id")
    one = next(
        (issue for issue in repo.issues.values() if issue.pull and wanted in issue.pull.review_comments), None
    )
    made = pull_of(one).review_comments[wanted] if one else None
    mine = made is not None and call.caller.user is not None and made.user_id == call.caller.user.id
    call.require(repo, "pull_requests", level, role="read" if mine else role)
    if one is None or made is None or not published(call, pull_of(one), made):
        raise not_found()
    return repo, one, made


def published(call: Call, pull: PullRequest, made: ReviewComment) -> bool:
    """Whether the caller may see a comment: one that came with a pending review is its author's alone."""
    review = pull.reviews.get(made.review_id or 0)
    return review is None or _sees(call, review)


def _announce(call: Call, repo: Repo, one: Issue, made: ReviewComment, action: str, **extra: Any) -> None:
    payload = payloads.pull_request_review_comment(call.world, repo, one, made, call.actor)
    call.world.emit("pull_request_review_comment", action, repo, {**payload, **extra})


def _add_comment(call: Call, pull: PullRequest, spot: _Spot, text: str, review: Review) -> ReviewComment:
    world, commit, now = call.world, review.commit_id, call.world.now()
    thread = ReviewThread(world.next_id(), pull.number, [])
    made = ReviewComment(
        id=world.next_id(),
        pull_number=pull.number,
        review_id=review.id,
        user_id=call.actor.id,
        body=text,
        path=spot.path,
        commit_id=commit,
        original_commit_id=commit,
        diff_hunk=spot.hunk,
        created_at=now,
        updated_at=now,
        line=spot.line,
        original_line=spot.line,
        start_line=spot.start_line,
        original_start_line=spot.start_line,
        side=spot.side,
        start_side=spot.start_side,
        position=spot.position,
        original_position=spot.position,
        subject_type=spot.subject_type,
        thread_id=thread.id,
    )
    thread.comment_ids.append(made.id)
    pull.threads[thread.id] = thread
    pull.review_comments[made.id] = made
    return made


def _lone_review(world: World, pull: PullRequest, author: User, commit: str) -> Review:
    """A comment made on its own still belongs to a review without a text."""
    now = world.now()
    review = Review(world.next_id(), pull.number, author.id, "", "COMMENTED", commit, now, now)
    pull.reviews[review.id] = review
    return review


@endpoint("POST", "/repos/{owner}/{repo}/pulls/{pull_number}/comments", creates_content=True)
async def create_review_comment(call: Call) -> Response:
    repo, one = find_pull(call, "write", role="read")
    check_not_locked(call, repo, one)
    body, pull = await call.body(), pull_of(one)
    text = _comment_text(body)
    if (parent := body.integer_or("in_reply_to", None)) is not None:
        return _reply(call, repo, one, parent, text)
    commit, path = body.string("commit_id"), body.string("path")
    if commit != pull.head_sha and commit not in await pullwork.commits(repo.git, pull):
        raise invalid_field(_RESOURCE, "commit_id", "custom", "commit_id is not part of the pull request")
    spot = _single_spot(await pullwork.files(repo.git, pull), path, body)
    review = _lone_review(call.world, pull, call.actor, commit)
    made = _add_comment(call, pull, spot, text, review)
    _submitted(call, repo, one, review, [made])
    return call.answer(comment_shape(call.world, repo, made), 201)


def _comment_text(body: Body) -> str:
    text = body.string("body")
    if not text.strip():
        raise invalid_field(_RESOURCE, "body", "missing_field")
    checked_body(_RESOURCE, text)
    return text


def _single_spot(changed: Sequence[Changed], path: str, body: Body) -> _Spot:
    file = next((each for each in changed if each.path == path), None)
    if file is None:
        raise validation_failed(
            {"resource": _RESOURCE, "code": "invalid", "field": "pull_request_review_thread.path"},
            {"resource": _RESOURCE, "code": "missing_field", "field": "pull_request_review_thread.diff_hunk"},
        )
    if body.string_or("subject_type", "line") == "file":
        return _Spot(path, "", 1, "RIGHT", None, None, 1, "file")
    spot = _place(file, body)
    if spot is None:
        field = "pull_request_review_thread.line"
        raise validation_failed(
            {
                "resource": _RESOURCE,
                "code": "custom",
                "field": field,
                "message": f"{field} must be part of the diff",
            },
            {"resource": _RESOURCE, "code": "missing_field", "field": "pull_request_review_thread.diff_hunk"},
        )
    return spot


@endpoint(
    "POST", "/repos/{owner}/{repo}/pulls/{pull_number}/comments/{comment_id}/replies", creates_content=True
)
async def reply(call: Call) -> Response:
    repo, one = find_pull(call, "write", role="read")
    check_not_locked(call, repo, one)
    return _reply(call, repo, one, call.number("comment_id"), _comment_text(await call.body()))


def _reply(call: Call, repo: Repo, one: Issue, parent_id: int, text: str) -> Response:
    """Only to a thread's first comment: GitHub has no replies to replies.

    https://docs.github.com/rest/pulls/comments#create-a-reply-for-a-review-comment
    """
    pull = pull_of(one)
    parent = pull.review_comments.get(parent_id)
    if parent is None or not published(call, pull, parent):
        raise not_found()
    if parent.in_reply_to_id is not None:
        raise invalid_field(_RESOURCE, "in_reply_to", "invalid")
    return call.answer(comment_shape(call.world, repo, add_reply(call, repo, one, parent, text)), 201)


def add_reply(call: Call, repo: Repo, one: Issue, beside: ReviewComment, text: str) -> ReviewComment:
    """Another comment in the thread of `beside`, with a review of its own."""
    pull, now = pull_of(one), call.world.now()
    checked_body(_RESOURCE, text)
    review = _lone_review(call.world, pull, call.actor, pull.head_sha)
    made = replace(
        beside,
        id=call.world.next_id(),
        review_id=review.id,
        user_id=call.actor.id,
        body=text,
        created_at=now,
        updated_at=now,
        in_reply_to_id=beside.in_reply_to_id or beside.id,
        reactions=[],
    )
    pull.review_comments[made.id] = made
    pull.threads[beside.thread_id or 0].comment_ids.append(made.id)
    _submitted(call, repo, one, review, [made])
    return made


# --- threads ---------------------------------------------------------------------------------------------------------


def set_resolved(call: Call, repo: Repo, one: Issue, thread: ReviewThread, *, resolved: bool) -> None:
    """GitHub offers this through GraphQL alone, and tells only of what has changed.

    https://docs.github.com/webhooks/webhook-events-and-payloads#pull_request_review_thread
    """
    if thread.resolved == resolved:
        return
    thread.resolved = resolved
    thread.resolved_by_id = call.actor.id if resolved else None
    payload = payloads.pull_request_review_thread(call.world, repo, one, thread, call.actor)
    action = "resolved" if resolved else "unresolved"
    call.world.emit("pull_request_review_thread", action, repo, payload)


@endpoint("GET", "/repos/{owner}/{repo}/pulls/{pull_number}/comments")
async def list_pull_comments(call: Call) -> Response:
    repo, one = find_pull(call)
    pull = pull_of(one)
    found = [made for made in pull.review_comments.values() if published(call, pull, made)]
    found.sort(key=lambda made: made.id, reverse=call.query("direction", "asc") == "desc")
    return call.page(found, lambda made: comment_shape(call.world, repo, made))


@endpoint("GET", "/repos/{owner}/{repo}/pulls/comments/{comment_id}")
async def get_review_comment(call: Call) -> Response:
    repo, _, made = find_review_comment(call)
    return call.answer(comment_shape(call.world, repo, made))


@endpoint("PATCH", "/repos/{owner}/{repo}/pulls/comments/{comment_id}")
async def update_review_comment(call: Call) -> Response:
    repo, one, made = find_review_comment(call, "write", role="write")
    text = _comment_text(await call.body())
    was, made.body, made.updated_at = made.body, text, call.world.now()
    if was != text:
        _announce(call, repo, one, made, "edited", changes={"body": {"from": was}})
    return call.answer(comment_shape(call.world, repo, made))


@endpoint("DELETE", "/repos/{owner}/{repo}/pulls/comments/{comment_id}")
async def delete_review_comment(call: Call) -> Response:
    repo, one, made = find_review_comment(call, "write", role="write")
    pull = pull_of(one)
    del pull.review_comments[made.id]
    thread = pull.threads[made.thread_id or 0]
    thread.comment_ids.remove(made.id)
    if not thread.comment_ids:
        del pull.threads[thread.id]
    _announce(call, repo, one, made, "deleted")
    return call.nothing()


endpoints = [
    create_review,
    list_reviews,
    get_review,
    list_review_comments,
    update_review,
    submit_review,
    dismiss_review,
    create_review_comment,
    reply,
    list_pull_comments,
    get_review_comment,
    update_review_comment,
    delete_review_comment,
]
