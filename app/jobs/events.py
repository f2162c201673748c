"""What happens to a run becomes jobs that tell its installation's hooks, in the transaction in which it happens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from app.jobs.tasks import Task
from app.nouns import Run, RunEvent
from app.ports import Transaction

SENDS: Final[Mapping[RunEvent, Task]] = {
    RunEvent.ACCEPTED: Task.SEND_ACCEPTED,
    RunEvent.STARTED: Task.SEND_STARTED,
    RunEvent.ENDED: Task.SEND_ENDED,
}


async def announce(transaction: Transaction, event: RunEvent, run: Run) -> None:
    """A job for each hook that wants to hear of it."""
    for hook in await transaction.hooks():
        if event in hook.events.split():
            await transaction.defer(
                SENDS[event],
                outside=True,
                installation_id=run.installation_id,
                hook_id=hook.id,
                run_id=run.id,
                attempt=run.attempt,
                tries=0,
            )
