"""What GitHub calls the repositories of an installation now: nothing of ours keeps their names."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from app.errors import DeniedError, ErasedError, GoneError, MissingError, TransientError
from app.house import House
from app.nouns import Repository

BELIEVED = timedelta(minutes=5)
REMEMBERED = 1_000
LARGEST_ID = 2**63 - 1
"""PostgreSQL's bigint."""


class Names:
    """A page is shown without names rather than not at all where GitHub does not tell them."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._known: OrderedDict[int, tuple[datetime, Mapping[int, str]]] = OrderedDict()

    async def of(self, tenant: int) -> Mapping[int, str]:
        """Full names by id, at most five minutes old where GitHub can be asked; none where it never could."""
        known, now = self._known.get(tenant), self._house.clock()
        if known is not None and now - known[0] < BELIEVED:
            return known[1]
        try:
            found = await self._ask(tenant)
        except (TransientError, MissingError, GoneError, DeniedError):
            names: Mapping[int, str] = {} if known is None else known[1]
        else:
            names = {one.id: one.full_name for one in found}
        self._known[tenant] = (now, names)
        self._known.move_to_end(tenant)
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return names

    async def id_of(self, tenant: int, named: str) -> int | None:
        """The repository that is meant by its id or its full name; None for a name that GitHub does not know it by now."""
        if named.isascii() and named.isdigit():
            return min(int(named[:19]), LARGEST_ID)
        names = await self.of(tenant)
        return next((one for one, name in names.items() if name.casefold() == named.casefold()), None)

    async def _ask(self, tenant: int) -> Sequence[Repository]:
        """Of an installation that is there: what strangers type in is not worth a question to GitHub."""
        try:
            async with self._house.store.transaction(tenant) as transaction:
                there = await transaction.installation()
        except ErasedError:
            there = None
        return () if there is None else await self._house.github.repositories(tenant)
