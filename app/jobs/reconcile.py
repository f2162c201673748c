"""Which of GitHub's deliveries never reached us and are to be asked for again; it decides and asks for nothing itself.

GitHub does not retry: https://docs.github.com/en/webhooks/using-webhooks/handling-failed-webhook-deliveries
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from app import grants
from app.nouns import Delivery

KEPT = timedelta(days=3)
"""https://docs.github.com/en/webhooks/testing-and-troubleshooting-webhooks/redelivering-webhooks"""

EVENTS = grants.EVENTS | {"installation", "installation_repositories"}
"""What we act on; a lost `ping` is no loss."""

ATTEMPTS = 8
FIRST_PAUSE = timedelta(seconds=15)
"""Longer than the ten seconds that GitHub waits for an answer: before, an attempt may still be under way."""
GROWTH = 4
"""Each pause is so many times the last one: eight attempts reach over a day and a half of being out of reach."""

CLAIMED = timedelta(minutes=5)

OVERLAP = timedelta(minutes=10)
"""The list is read again so far back: for attempts that ended after it was read, and clocks that differ."""


@dataclass(frozen=True, slots=True)
class Missed:
    """An event of which no attempt was acknowledged. `newest` is its last attempt, the `attempts`-th."""

    newest: Delivery
    first_at: datetime
    attempts: int

    @property
    def due_at(self) -> datetime:
        return self.newest.delivered_at + FIRST_PAUSE * int(GROWTH ** (self.attempts - 1))

    def claim(self, now: datetime) -> str:
        """What whoever asks for it writes down first, so that no other does: until the next attempt is in the list, or for
        `CLAIMED` where none comes of it."""
        return f"{self.newest.guid}:{self.attempts}:{int(now.timestamp() // CLAIMED.total_seconds())}"


def missed(deliveries: Iterable[Delivery], now: datetime) -> list[Missed]:
    """The events worth asking for again, now or later, oldest first: of a kind that we act on, acknowledged in no
    attempt, young enough for GitHub to have them still, and not yet given up. An event whose first attempt is not
    in the list was settled or given up before the list begins."""
    events: dict[str, list[Delivery]] = defaultdict(list)
    for delivery in deliveries:
        if delivery.event in EVENTS:
            events[delivery.guid].append(delivery)
    found = [
        Missed(
            newest=max(attempts, key=lambda one: (one.delivered_at, one.id)),
            first_at=min(one.delivered_at for one in attempts if not one.redelivery),
            attempts=len(attempts),
        )
        for attempts in events.values()
        if not any(one.acknowledged for one in attempts) and not all(one.redelivery for one in attempts)
    ]
    return sorted(
        (one for one in found if one.attempts < ATTEMPTS and now - one.first_at < KEPT),
        key=lambda one: one.first_at,
    )


def due(events: Iterable[Missed], now: datetime) -> list[Missed]:
    """Those whose pause is over. An event that somebody else has just asked for is not due."""
    return [one for one in events if one.due_at <= now]


def look_from(events: Iterable[Missed], now: datetime) -> datetime:
    """From when on the list must be read the next time: whatever is older is settled."""
    return min((one.first_at for one in events), default=now) - OVERLAP


def githubs_now(deliveries: Sequence[Delivery], since: datetime) -> datetime:
    """GitHub's time when it last delivered anything, which is never after its present one; `since` where it did not.

    What was lost, and from when on to look again, is judged by this: a clock of ours that was days ahead for a moment would
    else pass over all that comes until it is that day.
    """
    return max((one.delivered_at for one in deliveries), default=since + OVERLAP)
