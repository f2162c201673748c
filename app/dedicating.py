"""Workers of one installation's own: nobody else's job is done where its runs are, and its runs are done nowhere else."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from app.actionlog.ledger import Ledger
from app.containing import OPERATOR, require_known
from app.errors import ErasedError
from app.nouns import Action
from app.ports import Store


@dataclass(frozen=True, slots=True)
class Dedicated:
    """`own`: workers of its own work for it now. `changed` False: it was so already."""

    installation_id: int
    own: bool
    changed: bool


async def dedicate(store: Store, ledger: Ledger, installation_id: int) -> Dedicated:
    """From here on its jobs are begun by workers that were started for it alone, and wait where there is none. What is at work ends
    where it is. Raises UnknownHereError, ErasedError."""
    await require_known(store, installation_id)
    changed = await store.dedicate(installation_id)
    await ledger.record(installation_id, Action.WORKERS_DEDICATED, OPERATOR, None, {"new": changed})
    return Dedicated(installation_id, True, changed)


async def share(store: Store, ledger: Ledger, installation_id: int) -> Dedicated:
    """Everybody's workers begin its jobs again, also where nothing of it is left but what destroys the rest."""
    changed = await store.share(installation_id)
    with suppress(ErasedError):
        if not changed:
            await require_known(store, installation_id)
        await ledger.record(installation_id, Action.WORKERS_SHARED, OPERATOR, None, {"new": changed})
    return Dedicated(installation_id, False, changed)
