"""The sweep over all installations: what is too old goes, and what is paused for too long is destroyed.

`magicode retention` and the worker, every hour, do the same. One installation's trouble keeps no other one waiting.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from app import erasing
from app.custody.erase import Wish
from app.custody.retention import Retention, Swept, is_due
from app.errors import ErasedError, MagicodeError
from app.house import House
from app.jobs.accept import NOBODY, STILL_OPEN
from app.ports import Store, Transaction

log = logging.getLogger(__name__)

Begin = Callable[[int, str], Awaitable[object]]
"""Begins the deletion of an installation, for a reason."""


async def sweep_house(
    house: House,
    installation_id: int | None = None,
    *,
    dry: bool = False,
    anyway: bool = False,
    actor: str = "magicode",
) -> Sequence[Swept]:
    """All installations, or one."""
    rules = Retention(house.store, house.ledger, house.objects, house.clock, sorted(STILL_OPEN))
    whom = await everybody(house.store) if installation_id is None else [installation_id]
    return await sweep(rules, whom, partial(begin, house), dry=dry, anyway=anyway, actor=actor)


async def everybody(store: Store) -> Sequence[int]:
    """All that something is kept of: the service's own chain too, by the defaults."""
    return [NOBODY, *sorted(one for one in await store.installation_ids() if one != NOBODY)]


async def sweep(
    rules: Retention,
    installations: Sequence[int],
    begins: Begin | None,
    *,
    dry: bool = False,
    anyway: bool = False,
    actor: str = "magicode",
) -> Sequence[Swept]:
    """Each in its turn; what was destroyed meanwhile is passed over. `begins` None: no deletion is begun."""
    done = []
    for one in installations:
        try:
            swept = await rules.sweep(one, dry=dry, anyway=anyway, actor=actor)
            if swept.erase is not None and begins is not None and not dry:
                await begins(one, swept.erase)
        except ErasedError:
            continue
        except MagicodeError as error:
            log.warning(
                "What an installation no longer wants to be kept could not be removed; trying again later.",
                extra={"installation_id": one, "reason": error.reason},
            )
            continue
        done.append(swept)
    return done


async def begin(house: House, installation_id: int, reason: str) -> bool:
    """False where somebody came back in the meantime, or it has begun already."""

    async def still(transaction: Transaction) -> bool:
        return await is_due(transaction, house.clock)

    return await erasing.begin(house, installation_id, Wish(reason), still=still)
