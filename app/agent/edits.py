"""Replaces one exact piece of a file and leaves every other byte as it was: encoding, BOM, line ends, final newline.

Pure: bytes in, bytes out. Refuses what is not text, what it cannot find, and what it finds more than once.
"""

from __future__ import annotations

import difflib
import re
from bisect import bisect_left
from dataclasses import dataclass

BOM = b"\xef\xbb\xbf"
_SNIFF = 8000  # how far git looks for a NUL: https://github.com/git/git/blob/master/xdiff-interface.c
_NEAR_LINES = 4000


class ToolError(Exception):
    """What the model did wrong and what would be right; it is told to the model and to nobody else."""


@dataclass(frozen=True, slots=True)
class Text:
    """A file's text, losslessly: `bom + body.encode(codec)` is the file again."""

    body: str
    codec: str
    bom: bytes = b""

    def encode(self) -> bytes:
        return self.bom + self.body.encode(self.codec)

    def lines(self) -> list[str]:
        """Without their line ends. A final newline does not begin another line."""
        lines = self.body.split("\n")
        if lines[-1] == "":
            lines.pop()
        return [line.removesuffix("\r") for line in lines]


@dataclass(frozen=True, slots=True)
class Replaced:
    """A file after an edit; the new text stands on these lines (1-based, inclusive)."""

    data: bytes
    start_line: int
    end_line: int


def is_binary(data: bytes) -> bool:
    return b"\0" in data[:_SNIFF]


def decode(data: bytes) -> Text:
    """UTF-8 where it is, else Latin-1, which gives each byte its own character and loses none."""
    bom = BOM if data.startswith(BOM) else b""
    rest = data[len(bom) :]
    try:
        return Text(rest.decode("utf-8"), "utf-8", bom)
    except UnicodeDecodeError:
        return Text(rest.decode("latin-1"), "latin-1", bom)


def replace(data: bytes, old: str, new: str) -> Replaced:
    """`data` with its one occurrence of `old` replaced by `new`. Raises ToolError.

    `\\n` in `old` matches `\\r\\n` too, and new lines get the line end of the line that they replace, or else the
    one that most of the file has. What `old` and `new` have in common at their ends is not touched at all.
    """
    if is_binary(data):
        raise ToolError("This is a binary file; only text can be edited.")
    text = decode(data)
    view, old, new = (each.replace("\r\n", "\n") for each in (text.body, old, new))
    at = _find_once(view, old, new)
    head, tail = _common_ends(old, new)
    start, end, middle = at + head, at + len(old) - tail, new[head : len(new) - tail]
    body = _splice(text.body, view, start, end, middle)
    try:
        changed = Text(body, text.codec, text.bom).encode()
    except UnicodeEncodeError as error:
        raise ToolError(
            f"The file is not UTF-8, and {error.object[error.start]!r} has no place in its encoding ({text.codec}). "
            "Use only characters of that encoding."
        ) from error
    first = view.count("\n", 0, at) + 1
    return Replaced(changed, first, first + new.removesuffix("\n").count("\n"))


def _find_once(view: str, old: str, new: str) -> int:
    if not old:
        raise ToolError("`old` is empty. Give the exact text to replace; `create` makes a new file.")
    if old == new:
        raise ToolError("`old` and `new` are the same; nothing would change.")
    at = view.find(old)
    if at < 0:
        raise ToolError(_not_found(view, old))
    if view.find(old, at + 1) >= 0:
        lines = [view.count("\n", 0, place) + 1 for place in _places(view, old, 10)]
        raise ToolError(
            f"`old` occurs {_count(view, old)} times (at lines {', '.join(map(str, lines))}). "
            "Give more of the lines around the one you mean, so that it occurs once."
        )
    return at


def _places(view: str, old: str, most: int) -> list[int]:
    places: list[int] = []
    at = view.find(old)
    while at >= 0 and len(places) < most:
        places.append(at)
        at = view.find(old, at + 1)
    return places


def _count(view: str, old: str) -> str:
    found = len(_places(view, old, 1000))
    return "1,000 or more" if found == 1000 else str(found)


def _common_ends(old: str, new: str) -> tuple[int, int]:
    most = min(len(old), len(new))
    head = next((i for i in range(most) if old[i] != new[i]), most)
    tail = next((i for i in range(most - head) if old[-1 - i] != new[-1 - i]), most - head)
    return head, tail


def _splice(body: str, view: str, start: int, end: int, middle: str) -> str:
    """`body`, of which `view` is the reading with plain line ends, with view[start:end] replaced."""
    if len(body) == len(view):
        return body[:start] + middle + body[end:]
    pairs = [
        match.start() - i for i, match in enumerate(re.finditer("\r\n", body))
    ]  # where they are in the view
    before, behind = start + bisect_left(pairs, start), end + bisect_left(pairs, end)
    crlf = frozenset(pairs)
    replaced = ["\r\n" if i in crlf else "\n" for i in range(start, end) if view[i] == "\n"]
    usual = "\r\n" if len(pairs) * 2 > view.count("\n") else "\n"
    first, *rest = middle.split("\n")
    ends = replaced[: len(rest)] + [usual] * (len(rest) - len(replaced))
    written = first + "".join(ending + line for ending, line in zip(ends, rest, strict=True))
    return body[:before] + written + body[behind:]


def _not_found(view: str, old: str) -> str:
    said = "`old` does not occur in the file"
    if re.match(r"\s*\d+\t", old):
        return f"{said}. Leave out the line numbers that `read` shows in front of each line."
    place = _nearest(view.split("\n"), old.strip("\n").split("\n"))
    if place is None:
        return f"{said}, nor anything like it. Read the file again."
    lines = view.split("\n")[place : place + old.strip("\n").count("\n") + 1]
    shown = "\n".join(f"{place + i + 1:>6}\t{line[:400]}" for i, line in enumerate(lines[:30]))
    why = " (only white space differs)" if "".join(lines).split() == "".join(old.split("\n")).split() else ""
    return f"{said}. The nearest text{why} is:\n{shown}\nCopy it exactly, without the line numbers."


def _nearest(lines: list[str], wanted: list[str]) -> int | None:
    """The index of the line where something most like `wanted` begins."""
    offset = next((i for i, line in enumerate(wanted) if line.strip()), None)
    if offset is None:
        return None
    target = wanted[offset].strip()
    stripped = [line.strip() for line in lines]
    if target in stripped:
        candidates = [i for i, line in enumerate(stripped) if line == target][:200]
        best = max(candidates, key=lambda i: _alike(stripped, i - offset, wanted))
        return max(0, best - offset)
    near = difflib.get_close_matches(
        target[:400], [line[:400] for line in stripped[:_NEAR_LINES]], n=1, cutoff=0.6
    )
    if not near:
        return None
    return max(0, next(i for i, line in enumerate(stripped) if line[:400] == near[0]) - offset)


def _alike(stripped: list[str], start: int, wanted: list[str]) -> int:
    inside = (i for i in range(len(wanted)) if 0 <= start + i < len(stripped))
    return sum(stripped[start + i] == wanted[i].strip() for i in inside)
