"""What a repository's past commits say about its files: which changed lately, and which together.

Optional: a tree without a history is ranked without. Nothing of it is stored.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

COMMITS = 1000
_TOGETHER = 12  # a commit of more files says nothing about which belong together
_FADES = 200  # after so many commits a change counts a third


class History(Protocol):
    """The commits that led to a tree, and no others: ancestors of its commit, and the commit itself."""

    def changed(self, limit: int) -> Sequence[Sequence[str]]:
        """The paths that each of the last `limit` commits changed, the newest first."""
        ...


@dataclass(frozen=True, slots=True)
class Past:
    """`recent` is between 0 and 1: 1 for what the last commit changed, and nothing for what none changed."""

    recent: Mapping[str, float]
    _beside: Mapping[str, Mapping[str, float]]
    _changes: Mapping[str, int]

    def together(self, path: str, other: str) -> float:
        """How probably a change of `other` changes `path` too, between 0 and 1."""
        shared = self._beside.get(other, {}).get(path, 0.0)
        return shared / (self._changes.get(other, 0) + 3.0)


def past(history: History | None, paths: Collection[str]) -> Past:
    """What the last commits say about these paths."""
    wanted = set(paths)
    recent: dict[str, float] = {}
    changes: Counter[str] = Counter()
    beside: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for age, changed in enumerate(history.changed(COMMITS) if history is not None else ()):
        here = [path for path in dict.fromkeys(changed) if path in wanted]
        for path in here:
            recent.setdefault(path, math.exp(-age / _FADES))
            changes[path] += 1
        if len(here) > 1 and len(changed) <= _TOGETHER:
            for path in here:
                beside[path].update(other for other in here if other != path)
    return Past(recent, beside, changes)
