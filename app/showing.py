"""What `@magicode logs` answers: figures of the last request there, and where its details are; never the details."""

from __future__ import annotations

from app.actionlog.export import opened
from app.actionlog.summary import summary
from app.nouns import BESIDE_VERBS, Outcome, Run, RunState
from app.pulls import handover
from app.scene import Scene

LOOKED_AT = 200
"""How many requests back the last one that did something is looked for."""


async def answer(scene: Scene) -> Outcome:
    """Whoever may write here may ask; that was looked at before."""
    house, run = scene.house, scene.run
    last = await _last(scene)
    told = None
    if last is not None:
        entries = [one async for one in opened(house.store, house.keys, run.installation_id, run_id=last.id)]
        told = summary(entries)
    link = None
    if house.public_url is not None:
        link = f"{house.public_url}/installations/{run.installation_id}/actions"
        if last is not None:
            link += f"?run={last.id}"
    head = await house.ledger.head(run.installation_id)
    said = handover.logs(told, link, str(head), None if last is None else str(last.id), house.slug)
    return Outcome(RunState.ANSWERED, "logs", said)


async def _last(scene: Scene) -> Run | None:
    """The newest run about the same issue or pull request that was more than an answer beside the work."""
    run = scene.run
    async with scene.house.store.transaction(run.installation_id) as transaction:
        runs = await transaction.runs(repository_id=run.repository_id, about=run.about, limit=LOOKED_AT)
    return next((one for one in runs if one.id != run.id and one.verb not in BESIDE_VERBS), None)
