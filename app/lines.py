"""Which lines of two texts are the same, in bounded time whatever the texts are. Pure."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import TypeVar

Line = TypeVar("Line", bound=Hashable)
Opcode = tuple[str, int, int, int, int]
"""https://docs.python.org/3/library/difflib.html#difflib.SequenceMatcher.get_opcodes"""

_MOST_WORK = 4_000_000  # lines before times lines after; beyond it the whole middle counts as replaced
_MOST_PAIRS = 200_000


def opcodes(before: Sequence[Line], after: Sequence[Line]) -> list[Opcode]:
    """difflib's, with the equal ends taken off first. Lines that repeat too often begin no match, and what is very long in
    between is replaced as a whole."""
    most = min(len(before), len(after))
    head = next((i for i in range(most) if before[i] != after[i]), most)
    tail = next((i for i in range(most - head) if before[-1 - i] != after[-1 - i]), most - head)
    old, new = before[head : len(before) - tail], after[head : len(after) - tail]
    out: list[Opcode] = [("equal", 0, head, 0, head)] if head else []
    if old and new and len(old) * len(new) <= _MOST_WORK:
        common = _too_common(old, new)
        matcher = difflib.SequenceMatcher(common.__contains__, old, new, autojunk=False)
        out += [
            (tag, i1 + head, i2 + head, j1 + head, j2 + head) for tag, i1, i2, j1, j2 in matcher.get_opcodes()
        ]
    elif old or new:
        tag = "replace" if old and new else "delete" if old else "insert"
        out.append((tag, head, head + len(old), head, head + len(new)))
    if tail:
        out.append(("equal", len(before) - tail, len(before), len(after) - tail, len(after)))
    return out


def changed(before: Sequence[Line], after: Sequence[Line]) -> tuple[int, int]:
    """How many lines were added and removed."""
    codes = [code for code in opcodes(before, after) if code[0] != "equal"]
    return sum(code[4] - code[3] for code in codes), sum(code[2] - code[1] for code in codes)


def _too_common(before: Sequence[Line], after: Sequence[Line]) -> frozenset[Line]:
    """The lines without which few enough pairs of equal lines are left; difflib's time grows with these."""
    old, new = Counter(before), Counter(after)
    pairs = {line: old[line] * new[line] for line in old.keys() & new.keys()}
    left = sum(pairs.values())
    common = set()
    for line, count in sorted(pairs.items(), key=lambda pair: (-pair[1], repr(pair[0]))):
        if left <= _MOST_PAIRS:
            break
        common.add(line)
        left -= count
    return frozenset(common)
