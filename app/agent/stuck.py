"""Tells when a conversation goes round in circles: the same calls again, or edits that undo each other. Pure."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from hashlib import sha256

from app.nouns import FileEdit, ToolCall

REPEATS = 3
RETURNS = 2


class Repetition:
    """How often the same calls were made in a row."""

    def __init__(self) -> None:
        self._last: tuple[str, ...] = ()
        self._times = 0

    def made(self, calls: Sequence[ToolCall]) -> int:
        """The count with these ones: 1 for calls that differ from those before."""
        told = tuple(
            f"{one.name} {json.dumps(one.arguments, sort_keys=True, default=str)} {one.raw}" for one in calls
        )
        self._times = self._times + 1 if told == self._last else 1
        self._last = told
        return self._times


class Circle:
    """The states that a draft has been in. A way back to an earlier state that is taken again is a circle; trying one
    thing, taking it back and trying another is none."""

    def __init__(self, edits: Sequence[FileEdit]) -> None:
        self._now = state(edits)
        self._seen = {self._now}
        self._ways: Counter[tuple[bytes, bytes]] = Counter()

    def moved(self, edits: Sequence[FileEdit]) -> bool:
        """True when this brought the draft back to an earlier state by a way back that it took before."""
        before, self._now = self._now, state(edits)
        if before == self._now or self._now not in self._seen:
            self._seen.add(self._now)
            return False
        self._ways[before, self._now] += 1
        return self._ways[before, self._now] >= RETURNS


def state(edits: Sequence[FileEdit]) -> bytes:
    """The same for the same draft, and for no other."""
    told = sha256()
    for one in edits:
        after = b"deleted" if one.after is None else sha256(one.after).digest()
        told.update(sha256(one.path.encode("utf-8", "surrogatepass")).digest() + sha256(after).digest())
    return told.digest()
