"""Writes down that somebody looked at what is held, or took it: once an hour for each person and kind of look."""

from __future__ import annotations

from collections import OrderedDict
from datetime import datetime, timedelta
from uuid import UUID

from app.house import House
from app.nouns import Action
from app.web.access import Allowed

STANDS_FOR = timedelta(hours=1)
REMEMBERED = 10_000


class Looks:
    """Page after page of the log would bury the log, so an entry says for how many minutes it stands.

    What was written down is remembered by this process alone: another one writes an entry of its own.
    """

    def __init__(self, house: House) -> None:
        self._house = house
        self._since: OrderedDict[tuple[int, str, str, UUID | None], datetime] = OrderedDict()

    async def at(self, allowed: Allowed, what: str, run_id: UUID | None = None) -> None:
        """Before it is shown. `what` is `overview`, `runs`, `usage`, `settings`, `members`, `tokens`, `hooks`, `log`, `exports` or `deletion`."""
        look = (allowed.installation.id, allowed.actor, what, run_id)
        now, since = self._house.clock(), self._since.get(look)
        if since is not None and now - since < STANDS_FOR:
            return
        await self._house.ledger.record(
            allowed.installation.id,
            Action.DATA_LOOKED,
            allowed.actor,
            None,
            {
                "what": what,
                "run": None if run_id is None else str(run_id),
                "stands_for_minutes": int(STANDS_FOR.total_seconds()) // 60,
            },
        )
        self._since[look] = now
        self._since.move_to_end(look)
        while len(self._since) > REMEMBERED:
            self._since.popitem(last=False)

    async def taken(self, allowed: Allowed, what: str, **facts: str | int | bool | None) -> None:
        """Each download is an entry, which is written before the first byte leaves."""
        await self._house.ledger.record(
            allowed.installation.id, Action.DATA_EXPORTED, allowed.actor, None, {"what": what, **facts}
        )
