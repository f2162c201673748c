"""Reactions on issues, issue comments and review comments.

https://docs.github.com/rest/reactions/reactions
"""

from __future__ import annotations

from starlette.responses import Response

from infra.simulator.answers import invalid_field, not_found
from infra.simulator.call import Call, endpoint
from infra.simulator.conversation import find_issue
from infra.simulator.routes.issues import check_not_locked, find_comment, has_role
from infra.simulator.routes.reviews import find_review_comment
from infra.simulator.shapes_people import REACTIONS
from infra.simulator.shapes_people import reaction as reaction_shape
from infra.simulator.state import Reaction, Repo


async def _react(call: Call, reacted: list[Reaction]) -> Response:
    """201 for a new reaction, 200 for one that this account has already given."""
    content = (await call.body()).string("content")
    if content not in REACTIONS:
        raise invalid_field("Reaction", "content")
    for one in reacted:
        if one.user_id == call.actor.id and one.content == content:
            return call.answer(reaction_shape(call.world, one))
    one = Reaction(call.world.next_id(), call.actor.id, content, call.world.now())
    reacted.append(one)
    return call.answer(reaction_shape(call.world, one), 201)


def _list(call: Call, reacted: list[Reaction]) -> Response:
    content = call.query("content")
    if content and content not in REACTIONS:
        raise invalid_field("Reaction", "content")
    found = [one for one in reacted if content in ("", one.content)]
    return call.page(found, lambda one: reaction_shape(call.world, one))


def _remove(call: Call, repo: Repo, reacted: list[Reaction]) -> Response:
    """One's own reaction; those of others go with write access."""
    wanted = call.number("reaction_id")
    one = next((one for one in reacted if one.id == wanted), None)
    if one is None or (one.user_id != call.actor.id and (call.by_app or not has_role(call, repo, "write"))):
        raise not_found()
    reacted.remove(one)
    return call.nothing()


@endpoint("POST", "/repos/{owner}/{repo}/issues/{issue_number}/reactions")
async def react_to_issue(call: Call) -> Response:
    repo, one = find_issue(call, "write", role="read")
    check_not_locked(call, repo, one)
    return await _react(call, one.reactions)


@endpoint("GET", "/repos/{owner}/{repo}/issues/{issue_number}/reactions")
async def list_issue_reactions(call: Call) -> Response:
    _, one = find_issue(call)
    return _list(call, one.reactions)


@endpoint("DELETE", "/repos/{owner}/{repo}/issues/{issue_number}/reactions/{reaction_id}")
async def remove_issue_reaction(call: Call) -> Response:
    repo, one = find_issue(call, "write", role="read")
    return _remove(call, repo, one.reactions)


@endpoint("POST", "/repos/{owner}/{repo}/issues/comments/{comment_id}/reactions")
async def react_to_comment(call: Call) -> Response:
    repo, one, made = find_comment(call, "write", role="read")
    check_not_locked(call, repo, one)
    return await _react(call, made.reactions)


@endpoint("GET", "/repos/{owner}/{repo}/issues/comments/{comment_id}/reactions")
async def list_comment_reactions(call: Call) -> Response:
    _, _, made = find_comment(call)
    return _list(call, made.reactions)


@endpoint("DELETE", "/repos/{owner}/{repo}/issues/comments/{comment_id}/reactions/{reaction_id}")
async def remove_comment_reaction(call: Call) -> Response:
    repo, _, made = find_comment(call, "write", role="read")
    return _remove(call, repo, made.reactions)


@endpoint("POST", "/repos/{owner}/{repo}/pulls/comments/{comment_id}/reactions")
async def react_to_review_comment(call: Call) -> Response:
    repo, one, made = find_review_comment(call, "write", role="read")
    check_not_locked(call, repo, one)
    return await _react(call, made.reactions)


@endpoint("GET", "/repos/{owner}/{repo}/pulls/comments/{comment_id}/reactions")
async def list_review_comment_reactions(call: Call) -> Response:
    _, _, made = find_review_comment(call)
    return _list(call, made.reactions)


@endpoint("DELETE", "/repos/{owner}/{repo}/pulls/comments/{comment_id}/reactions/{reaction_id}")
async def remove_review_comment_reaction(call: Call) -> Response:
    repo, _, made = find_review_comment(call, "write", role="read")
    return _remove(call, repo, made.reactions)


endpoints = [
    react_to_issue,
    list_issue_reactions,
    remove_issue_reaction,
    react_to_comment,
    list_comment_reactions,
    remove_comment_reaction,
    react_to_review_comment,
    list_review_comment_reactions,
    remove_review_comment_reaction,
]
