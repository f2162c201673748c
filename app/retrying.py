"""What `retry` means: the last request here that came to nothing, with its own words and review threads."""

from __future__ import annotations

from app.nouns import BESIDE_VERBS, RunState
from app.scene import Scene
from webhooks.command import Verb

CAME_TO_NOTHING = frozenset({RunState.FAILED, RunState.REFUSED, RunState.CANCELLED})


async def what_is_retried(scene: Scene) -> str:
    """The verb to play. Where the last request came to something, or there was none, it is the plain one."""
    run = scene.run
    async with scene.house.store.transaction(run.installation_id) as transaction:
        runs = await transaction.runs(repository_id=run.repository_id, number=run.number)
    before = (one for one in runs if one.id != run.id and one.verb not in {*BESIDE_VERBS, Verb.RETRY})
    last = next((one for one in before if one.state.ended and one.blocked_by is None), None)
    if last is not None and last.state in CAME_TO_NOTHING:
        scene.origin = last
        return last.verb
    return Verb.REVISE if run.is_pull_request else Verb.FIX
