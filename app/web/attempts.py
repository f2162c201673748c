"""How often somebody may try to sign in: from one address, and all addresses together. Bounded in memory; of this process alone."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict, deque
from datetime import datetime, timedelta

from app.ports import Clock
from app.web.access import TooManyError

FROM_ONE_AT_MOST = 200
"""A sign-in takes two: going to GitHub, and coming back. A whole office, or all behind a proxy that is not trusted, may have one address."""
FROM_ALL_AT_MOST = 2_000
WITHIN = timedelta(minutes=10)
REMEMBERED = 10_000
"""Addresses. Who has more of them is stopped by the limit of all together."""


class TooManySignInsError(TooManyError):
    """There were too many sign-ins from here, or all in all. Wait a few minutes."""


class Attempts:
    """Counts attempts, whether they come to anything or not."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._from: OrderedDict[str, deque[datetime]] = OrderedDict()
        self._all: deque[datetime] = deque()

    def count(self, address: str | None) -> None:
        """Raises TooManySignInsError."""
        now, place = self._clock(), place_of(address)
        mine = self._from.setdefault(place, deque())
        self._from.move_to_end(place)
        while len(self._from) > REMEMBERED:
            self._from.popitem(last=False)
        _take(mine, now, FROM_ONE_AT_MOST)
        _take(self._all, now, FROM_ALL_AT_MOST)


def _take(taken: deque[datetime], now: datetime, at_most: int) -> None:
    while taken and now - taken[0] >= WITHIN:
        taken.popleft()
    if len(taken) >= at_most:
        raise TooManySignInsError(reason="too_many_sign_ins", retry_after=taken[0] + WITHIN - now)
    taken.append(now)


def place_of(address: str | None) -> str:
    """What counts as one address: of IPv6 the first half, since whoever has one address there has all of these."""
    try:
        found = ipaddress.ip_address(address or "")
    except ValueError:
        return ""
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((found, 64), strict=False))
    return str(found)
