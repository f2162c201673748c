"""A branch merged into another without a pull request.

*Unsettled*: the status by which GitHub refuses a merge into a branch whose rules forbid it; here it is 409, as for a
file that may not be committed. The message says which rule.

https://docs.github.com/rest/branches/branches#merge-a-branch
"""

from __future__ import annotations

from starlette.responses import Response

from infra.simulator import refs, shapes_git
from infra.simulator.answers import ApiError, conflict
from infra.simulator.call import Call, endpoint
from infra.simulator.routes.gitdata import filled
from infra.simulator.routes.pulls import commit_by_github

_DOCS = "https://docs.github.com/rest/branches/branches#merge-a-branch"


@endpoint("POST", "/repos/{owner}/{repo}/merges")
async def merge(call: Call) -> Response:
    """201 with the merge commit, even where the base could simply move forward; 204 when it has the head already."""
    repo = call.repo("contents", "write")
    body = await call.body()
    base, head = body.string("base"), body.string("head")
    message = body.string_or("commit_message", "") or f"Merge {head} into {base}"
    await filled(repo)
    tip = await repo.git.branch(base)
    if tip is None:
        raise ApiError(404, "Base does not exist", docs=_DOCS)
    other = await repo.git.resolve(head)
    if other is None:
        raise ApiError(404, "Head does not exist", docs=_DOCS)
    if await repo.git.is_ancestor(other, tip):
        return call.nothing()
    tree = await repo.git.merge_tree(tip, other)
    if tree is None or await repo.git.merge_base(tip, other) is None:
        raise conflict("Merge conflict")
    sha = await commit_by_github(
        call.world, repo, call.actor, tree=tree, parents=(tip, other), message=message.rstrip("\n") + "\n"
    )
    await refs.move(call.world, repo, call.caller, f"refs/heads/{base}", sha, before=tip, refusal_status=409)
    made = await repo.git.commit(sha)
    assert made is not None
    return call.answer(shapes_git.commit(call.world, repo, made), 201)


endpoints = [merge]
