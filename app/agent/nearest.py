"""Says what in a file is most like a text that is not there, and in what the two differ, so that the next try is right.

Linear in the file: words and whole lines vote for a place, and only a handful of places are compared closely.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

from app.agent.matching import Reading

_WORDS = 40
_HITS = 200  # of one word; what is more frequent says nothing about the place
_CLOSE = 24
_COMPARED = 300  # characters of a line
_SHOWN_LINES = 30
_SHOWN = 400


def describe(reading: Reading, old: str) -> str | None:
    """The nearest text with its line numbers, and the difference where it can be named; None where nothing is alike."""
    wanted = old.strip("\n").split("\n")
    place = _place(reading, wanted)
    if place is None:
        return None
    lines = _region(reading, place, wanted)
    hint = difference(wanted, lines)
    shown = "\n".join(
        f"{place + i + 1:>6}\t{_window(line, wanted[i] if i < len(wanted) else '')}"
        for i, line in enumerate(lines[:_SHOWN_LINES])
    )
    return f"The nearest text{f' ({hint})' if hint else ''} is:\n{shown}"


def difference(wanted: Sequence[str], there: Sequence[str]) -> str:
    """In what alone two texts differ, or nothing where it is more than one thing."""
    asked, have = "\n".join(wanted), "\n".join(there)
    if _without_white(asked) == _without_white(have) and len(wanted) == len(there):
        return "only white space differs"
    if _filled(wanted) == _filled(there):
        return "only blank lines differ"
    if asked.casefold() == have.casefold():
        return "only upper and lower case differ"
    if unicodedata.normalize("NFC", asked) == unicodedata.normalize("NFC", have):
        return "the same letters, composed differently in Unicode"
    return _look_alike(asked, have)


def _without_white(text: str) -> str:
    return text.translate({9: None, 32: None})


def _look_alike(asked: str, have: str) -> str:
    if len(asked) != len(have):
        return ""
    pairs = [(a, b) for a, b in zip(asked, have, strict=True) if a != b]
    if not pairs or len(pairs) > 20 or any(a.isascii() and b.isascii() for a, b in pairs):
        return ""
    a, b = pairs[0]
    return f"the file has {_name(b)} where `old` has {_name(a)}"


def _name(character: str) -> str:
    return f"U+{ord(character):04X} {unicodedata.name(character, 'without a name')}"


def _filled(lines: Sequence[str]) -> list[str]:
    return [line.strip() for line in lines if line.strip()]


def _region(reading: Reading, place: int, wanted: Sequence[str]) -> list[str]:
    """As many lines as are wanted, or more or fewer of them where that is because of blank lines."""
    lines = _lines(reading, place, 2 * len(wanted) + 8)
    left = len(_filled(wanted))
    for upto, line in enumerate(lines, 1):
        left -= bool(line.strip())
        if not left:
            same = _filled(lines[:upto]) == _filled(wanted)
            return lines[:upto] if same else lines[: len(wanted)]
    return lines[: len(wanted)]


def _lines(reading: Reading, place: int, count: int) -> list[str]:
    if not reading.many_lines:
        return reading.lines[place : place + count]
    at = 0
    for _ in range(place):
        at = reading.view.index("\n", at) + 1
    return reading.view[at : at + count * _COMPARED].split("\n")[:count]


def _window(line: str, wanted: str) -> str:
    """The part of a long line that is most like what was wanted."""
    if len(line) <= _SHOWN:
        return line
    hits = [line.find(word) for word in sorted(set(re.findall(r"\w{3,}", wanted[:2000])), key=len)[::-1][:8]]
    at = max(0, next((hit for hit in hits if hit >= 0), 0) - _SHOWN // 2)
    return f"{'[…]' if at else ''}{line[at : at + _SHOWN]}[…]"


def _place(reading: Reading, wanted: Sequence[str]) -> int | None:
    """The line, from 0, where something most like `wanted` begins."""
    by_lines = None if reading.many_lines else _by_lines(reading, wanted)
    return by_lines if by_lines is not None else _by_words(reading, wanted)


def _by_lines(reading: Reading, wanted: Sequence[str]) -> int | None:
    """Where most of the lines stand as they are, white space aside."""
    offsets: dict[str, list[int]] = {}
    for i, line in enumerate(wanted[:2000]):
        bare = line.strip()
        if len(bare) > 2:
            offsets.setdefault(bare, []).append(i)
    votes: Counter[int] = Counter()
    seen: Counter[str] = Counter()
    for n, line in enumerate(reading.bare[1:-1].split("\n")):
        if line in offsets and seen[line] < _HITS:
            seen[line] += 1
            for i in offsets[line][:5]:
                votes[max(0, n - i)] += len(line)
    if not votes:
        return None
    most = max(votes.values())
    return min(n for n, count in votes.items() if count == most)


def _by_words(reading: Reading, wanted: Sequence[str]) -> int | None:
    """Where the words of the most telling line stand together."""
    telling = max(range(len(wanted)), key=lambda i: len(set(re.findall(r"\w+", wanted[i][:2000]))))
    target = wanted[telling].strip()[:2000]
    lowered = reading.view.lower()
    votes: Counter[int] = Counter()
    for word in list(dict.fromkeys(re.findall(r"\w+", target.lower())))[:_WORDS]:
        pieces = {word: 4, word[:3]: 1, word[-3:]: 1} if len(word) > 3 else {word: 2}
        for piece, weight in pieces.items():
            for line in _lines_with(lowered, piece):
                votes[line] += weight
    close = [line for line, _ in votes.most_common(_CLOSE)]
    scored = [(_alike(target, _lines(reading, line, 1)), -line) for line in close]
    if not scored or max(scored)[0] < 0.4:
        return None
    return max(0, -max(scored)[1] - telling)


def _lines_with(view: str, piece: str) -> set[int]:
    """The lines that hold it, from 0; none where it is all over the file."""
    lines: set[int] = set()
    line = counted = hits = 0
    at = view.find(piece)
    while at >= 0:
        hits += 1
        if hits > _HITS:
            return set()
        line += view.count("\n", counted, at)
        counted = at
        lines.add(line)
        at = view.find(piece, at + 1)
    return lines


def _alike(target: str, lines: Sequence[str]) -> float:
    line = lines[0] if lines else ""
    if len(line) > 4 * _COMPARED:
        return 0.5 if target[:_COMPARED] else 0.0
    asked, there = target[:_COMPARED].lower(), line.strip()[:_COMPARED].lower()
    return difflib.SequenceMatcher(None, asked, there, autojunk=False).ratio()
