"""Makes the new text of a range: lines that stay keep their bytes and their line ends, the others are written. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

Step = int | str
"""A line of the result: an int keeps that line of the old text, a str is put in."""

_LEAF = 10_000
_WORK = 2_000_000


@dataclass(slots=True)
class Work:
    """How much comparing is left, in pairs of lines. `gave_up`: some stretch was too much and counts as changed."""

    left: int = _WORK
    gave_up: bool = False


def steps(old: Sequence[str], new: Sequence[str], work: Work) -> list[Step]:
    """`new` told by the lines of `old` that it keeps, in about linear time: lines that both have once come first."""
    out: list[Step] = []
    at_old = at_new = 0
    for i, j in [*_anchors(old, new), (len(old), len(new))]:
        out += _between(old, new, (at_old, i), (at_new, j), work)
        if i < len(old):
            out.append(i)
        at_old, at_new = i + 1, j + 1
    return out


def _anchors(old: Sequence[str], new: Sequence[str]) -> list[tuple[int, int]]:
    """Equal lines at both ends, and between them the longest run of those that both texts have exactly once."""
    most = min(len(old), len(new))
    head = next((i for i in range(most) if old[i] != new[i]), most)
    tail = next((i for i in range(most - head) if old[-1 - i] != new[-1 - i]), most - head)
    there = _once(old, head, len(old) - tail)
    here = _once(new, head, len(new) - tail)
    both = sorted((there[text], j) for text, j in here.items() if text in there)
    middle = _rising(both)
    ends = [(len(old) - k, len(new) - k) for k in range(tail, 0, -1)]
    return [*((i, i) for i in range(head)), *middle, *ends]


def _once(lines: Sequence[str], start: int, stop: int) -> dict[str, int]:
    seen: dict[str, int] = {}
    for i in range(start, stop):
        seen[lines[i]] = -1 if lines[i] in seen else i
    return {text: i for text, i in seen.items() if i >= 0}


def _rising(pairs: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The longest subsequence whose second figures rise (patience sorting)."""
    tops: list[int] = []
    piles: list[int] = []
    before: list[int] = []
    for n, (_, j) in enumerate(pairs):
        pile = bisect_left(tops, j)
        before.append(piles[pile - 1] if pile else -1)
        if pile == len(tops):
            tops.append(j)
            piles.append(n)
        else:
            tops[pile], piles[pile] = j, n
    out: list[tuple[int, int]] = []
    n = piles[-1] if piles else -1
    while n >= 0:
        out.append(pairs[n])
        n = before[n]
    return out[::-1]


def _between(
    old: Sequence[str], new: Sequence[str], rows: tuple[int, int], columns: tuple[int, int], work: Work
) -> list[Step]:
    """The longest common subsequence of a small stretch; a large one counts as changed."""
    (i, i_end), (j, j_end) = rows, columns
    added: list[Step] = list(new[j:j_end])
    cells = (i_end - i) * (j_end - j)
    if not cells:
        return added
    if cells > min(_LEAF, work.left):
        work.gave_up = True
        return added
    work.left -= cells
    best = [[0] * (j_end - j + 1) for _ in range(i_end - i + 1)]
    for x in range(i_end - i - 1, -1, -1):
        for y in range(j_end - j - 1, -1, -1):
            same = old[i + x] == new[j + y]
            best[x][y] = best[x + 1][y + 1] + 1 if same else max(best[x + 1][y], best[x][y + 1])
    out: list[Step] = []
    x = y = 0
    while y < j_end - j:
        if x < i_end - i and old[i + x] == new[j + y]:
            out.append(i + x)
            x, y = x + 1, y + 1
        elif x < i_end - i and best[x + 1][y] >= best[x][y + 1]:
            x += 1
        else:
            out.append(new[j + y])
            y += 1
    return out


@dataclass(frozen=True, slots=True)
class Line:
    """A line, or a part of one, as the file has it, with its own line end; the last of a range has none."""

    text: str
    end: str


def compose(there: Sequence[Line], told: Sequence[Step], usual: str) -> str:
    """The text that `told` makes of `there`: kept lines byte for byte, new ones with the end of the line whose place
    they take, or else the usual one."""
    out: list[Line] = []
    waiting: list[str] = []
    past = 0
    for step in [*told, len(there)]:
        if isinstance(step, str):
            waiting.append(step)
            continue
        ends = [line.end or usual for line in there[past:step]]
        ends += [usual] * (len(waiting) - len(ends))
        out += [Line(text, end) for text, end in zip(waiting, ends, strict=False)]
        waiting, past = [], step + 1
        if step < len(there):
            out.append(there[step])
    whole = [line.text + (line.end or usual) for line in out[:-1]]
    return "".join(whole) + (out[-1].text if out else "")
