"""The one way in which a ref moves: judged by the rules, swapped in git, then told to whoever listens.

Every route that creates, moves or deletes a branch or tag goes through `move`; a merge names its pull request.
"""

from __future__ import annotations

from infra.simulator import payloads
from infra.simulator.answers import ApiError, not_accessible, unprocessable
from infra.simulator.auth import Caller
from infra.simulator.protection import Move, judge
from infra.simulator.state import ZERO_SHA, Issue, Repo, World

WORKFLOWS = ".github/workflows/"


class MovedError(ApiError):
    """Somebody else moved the ref in between."""

    def __init__(self, found: str | None, expected: str) -> None:
        super().__init__(409, f"is at {found} but expected {expected}")


async def move(
    world: World,
    repo: Repo,
    caller: Caller,
    ref: str,
    after: str,
    *,
    before: str,
    pull: Issue | None = None,
    refusal_status: int = 422,
) -> None:
    """Moves a full `ref` from `before` to `after`; all zeros stand for none.

    Raises `refusal_status` when a rule or protection forbids it, 422 for a workflow file without the `workflows`
    permission, 409 when the ref was no longer at `before`. Webhooks and pull requests follow.
    """
    assert caller.user is not None
    async with repo.lock:
        refusal = await judge(world, repo, caller, Move(ref, before, after, pull))
        if refusal is not None:
            raise refusal.error(refusal_status)
        if after != ZERO_SHA:
            await _refuse_workflows(repo, caller, after)
        if not await repo.git.update_ref(ref, after, before):
            raise MovedError(await repo.git.ref(ref), before)
    repo.pushed_at = repo.updated_at = world.now()
    world.emit("push", None, repo, await payloads.push(world, repo, ref, before, after, caller.user))
    for listener in world.ref_listeners:
        await listener(world, repo, ref, before, after, caller.user)


def touches_workflows(path: str) -> bool:
    return path.startswith(WORKFLOWS)


def may_write_workflows(caller: Caller) -> bool:
    return caller.kind != "installation" or caller.permissions.get("workflows") == "write"


def require_workflows(caller: Caller, path: str) -> None:
    """403 for a tree or contents route that names a workflow file."""
    if touches_workflows(path) and not may_write_workflows(caller):
        raise not_accessible()


async def _refuse_workflows(repo: Repo, caller: Caller, after: str) -> None:
    """What a push says: https://docs.github.com/apps/creating-github-apps/registering-a-github-app/choosing-permissions-for-a-github-app"""
    if may_write_workflows(caller):
        return
    known = [f"^{sha}" for _, sha, kind in await repo.git.refs() if kind == "commit"]
    out = await repo.git.run(
        "log", "--format=", "--name-only", "-z", "-c", "--root", after, *known, "--", WORKFLOWS
    )
    for path in out.decode("utf-8", "replace").split("\0"):
        if touches_workflows(path.strip()):
            raise unprocessable(
                f"refusing to allow a GitHub App to create or update workflow `{path.strip()}` without `workflows` permission"
            )
