"""What `retry` means: the last request here that came to nothing, with its own words and review threads."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from app.jobs import states
from app.jobs.permission import NOT_THEIRS
from app.nouns import BESIDE_VERBS, Run, RunState
from app.scene import Scene
from webhooks.command import Verb

CAME_TO_NOTHING = frozenset({RunState.FAILED, RunState.REFUSED, RunState.CANCELLED})


async def what_is_retried(scene: Scene) -> str:
    """The verb to play. Where the last request came to something, or there was none, it is the plain one.

    `up to $…` of the retried request holds for it and its retries together, unless the retry names another.
    """
    run = scene.run
    async with scene.house.store.transaction(run.installation_id) as transaction:
        runs = await transaction.runs(repository_id=run.repository_id, number=run.number)
    before = [one for one in runs if one.id != run.id and one.verb not in BESIDE_VERBS]
    asked = (one for one in before if one.verb != Verb.RETRY and one.reason not in NOT_THEIRS)
    last = next((one for one in asked if one.state.ended and one.blocked_by is None), None)
    if last is not None and last.state in CAME_TO_NOTHING:
        scene.origin = last
        limit = _left(last, before)
        if run.cost_limit_usd is None and limit is not None:
            scene.run = await states.note(scene.house.store, run, cost_limit_usd=limit)
        return last.verb
    return Verb.REVISE if run.is_pull_request else Verb.FIX


def _left(last: Run, before: Sequence[Run]) -> Decimal | None:
    """What the request and its retries so far have left of its limit."""
    if last.cost_limit_usd is None:
        return None
    retries = (one for one in before if one.verb == Verb.RETRY and one.created_at > last.created_at)
    return max(last.cost_limit_usd - last.cost_usd - sum(one.cost_usd for one in retries), Decimal(0))
