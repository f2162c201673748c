"""Where a comment's line stands in a file's patch."""

from __future__ import annotations

import re
from dataclasses import dataclass

_HUNK = re.compile(r"@@ -(\d+)(?:,\d+)? \+(\d+)(?:,\d+)? @@")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a line stands in a patch: its position below the first hunk header, and the hunk up to and with it."""

    position: int
    hunk: str


def find_line(patch: str, line: int, side: str) -> Place | None:
    """Where line `line` (1-based) of the old (`LEFT`) or new (`RIGHT`) file stands; None when the patch lacks it."""
    hunk: list[str] = []
    old = new = 0
    for position, text in enumerate(patch.split("\n")):
        header = _HUNK.match(text)
        if header:
            hunk, old, new = [text], int(header[1]) - 1, int(header[2]) - 1
            continue
        hunk.append(text)
        old += text[:1] in {" ", "-"}
        new += text[:1] in {" ", "+"}
        here = text[:1] in ({" ", "-"} if side == "LEFT" else {" ", "+"})
        if here and line == (old if side == "LEFT" else new):
            return Place(position, "\n".join(hunk))
    return None


def line_at(patch: str, position: int) -> tuple[int, str] | None:
    """The line number and side at a position (1 is the line below the first header): the opposite of `find_line`."""
    old = new = 0
    for at, text in enumerate(patch.split("\n")):
        header = _HUNK.match(text)
        if header:
            old, new = int(header[1]) - 1, int(header[2]) - 1
            continue
        old += text[:1] in {" ", "-"}
        new += text[:1] in {" ", "+"}
        if at == position:
            return (old, "LEFT") if text.startswith("-") else (new, "RIGHT")
    return None


def follow(patch: str, line: int) -> int | None:
    """Where a line (1-based) of the old file stands in the new one; None where the patch takes it away."""
    old = new = 0
    for text in patch.split("\n"):
        header = _HUNK.match(text)
        if header:
            if line < int(header[1]):
                break
            old, new = int(header[1]) - 1, int(header[2]) - 1
            continue
        old += text[:1] in {" ", "-"}
        new += text[:1] in {" ", "+"}
        if line == old and text[:1] in {" ", "-"}:
            return new if text[:1] == " " else None
    return line + new - old
