"""Asked before each outside effect: does this worker still hold the run, and is it still wanted?"""

from __future__ import annotations

from app.errors import StoppedError, SupersededError
from app.nouns import Run
from app.ports import Store


class RunFence:
    """Implements app.ports.Fence for one attempt of one run, by asking the database each time."""

    def __init__(self, store: Store, run: Run) -> None:
        self._store = store
        self._run = run

    async def __call__(self) -> None:
        """Raises SupersededError when the attempt is no longer the current one, StoppedError when cancelled."""
        async with self._store.transaction(self._run.installation_id) as transaction:
            current = await transaction.run(self._run.id)
        if current is None or current.attempt != self._run.attempt or current.state.ended:
            raise SupersededError(reason="superseded")
        if current.cancel_requested:
            raise StoppedError(reason="cancelled")
