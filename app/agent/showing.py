"""How code and long results are shown to the model, and the exact call that shows it what was left out."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from app.agent import prompt
from app.agent.arguments import Arguments, GrepFor, ListIn, ReadLines, ReadOutput, SearchFor
from app.agent.edits import ToolError, decode
from app.agent.prompt import How

MAX_OUTPUT = 24_000
MAX_LINES = 500
MAX_LINE = 2_000

_NUMBERED = re.compile(r"\s*(\d{1,9})\t")
_PLACE = re.compile(r'<code-[0-9a-f]{16} path=("(?:[^"\\]|\\.)*") lines="(\d+)-(\d+)">$')


def show(path: str, data: bytes, start: int | None, end: int | None) -> str:
    """Numbered lines of a text file, as many as fit, and a note on what was left out and how to see it."""
    text = decode(data)
    lines = text.lines()
    if not lines:
        return f"`{path}` is empty."
    first = start or 1
    if first > len(lines):
        raise ToolError(f"`{path}` has {len(lines):,} lines; line {first:,} is behind its end.")
    if end is not None and end < first:
        raise ToolError("`end_line` is before `start_line`.")
    shown: list[str] = []
    room = MAX_OUTPUT - 1000
    for number, line in enumerate(lines[first - 1 : min(end or len(lines), first - 1 + MAX_LINES)], first):
        whole = prompt.numbered(number, line[:MAX_LINE])
        if len(line) > MAX_LINE:
            whole += f" [this line goes on for {len(line) - MAX_LINE:,} characters more]"
        room -= len(whole) + 1
        if room < 0 and shown:
            break
        shown.append(whole)
    last = first + len(shown) - 1
    body = "\n".join(shown)
    return f"{body}\n[{'; '.join(_notes(path, data, first, last, end))}]{prompt.hidden_note(body)}"


def _notes(path: str, data: bytes, first: int, last: int, end: int | None) -> list[str]:
    text = decode(data)
    total = len(text.lines())
    notes = [f"`{path}` lines {first}-{last} of {total}"]
    if last < min(end or total, total):
        notes.append(f"for more, read with start_line={last + 1}")
    if text.codec != "utf-8":
        notes.append("not UTF-8; shown as Latin-1")
    if "\r\n" in text.body:
        notes.append("line ends are CRLF and stay so")
    if last == total and not text.body.endswith("\n"):
        notes.append("no newline at the end")
    return notes


# --- how to see the rest ---------------------------------------------------------------------------------------------


def again(tool: str, wanted: Arguments, **changes: object) -> str:
    """The call that shows what was left out."""
    given = {key: value for key, value in wanted.model_dump().items() if value is not None} | changes
    told = ", ".join(f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in given.items())
    return f"to see them: `{tool}` with {told}"


def unsaid(_first: int, _lost: Sequence[str]) -> str:
    return "they cannot be shown"


def of_read(wanted: Any, _first: int, lost: Sequence[str]) -> str:
    numbers = [int(found[1]) for line in lost if (found := _NUMBERED.match(line))]
    if not numbers:
        return in_part(wanted, 0, lost)
    span = {"path": wanted.path, "start_line": min(numbers), "end_line": max(numbers)}
    return again("read", ReadLines.model_validate(span))


def of_output(wanted: ReadOutput, _first: int, lost: Sequence[str]) -> str:
    numbers = [int(found[1]) for line in lost if (found := _NUMBERED.match(line))]
    if not numbers:
        return in_part(wanted, 0, lost)
    return again("read_output", wanted, start_line=min(numbers), end_line=max(numbers))


def of_grep(wanted: GrepFor, first: int, _lost: Sequence[str]) -> str:
    return again("grep", wanted, skip=wanted.skip + first)


def of_list(wanted: ListIn, first: int, _lost: Sequence[str]) -> str:
    return again("list", wanted, skip=wanted.skip + first)


def of_search(wanted: SearchFor, _first: int, lost: Sequence[str]) -> str:
    places = [(json.loads(found[1]), found[2], found[3]) for line in lost if (found := _PLACE.match(line))]
    if not places:
        return again("search", wanted, limit=max(1, wanted.limit // 2))
    path, start, end = places[0]
    return again("read", ReadLines(path=path, start_line=int(start), end_line=int(end)))


def in_part(_wanted: Any, _first: int, _lost: Sequence[str]) -> str:
    return "to see them, make this call by itself, or ask for less"


def of_run(number: int) -> How:
    def rest(first: int, lost: Sequence[str]) -> str:
        wanted = ReadOutput(command=number)
        return again("read_output", wanted, start_line=first + 1, end_line=first + max(len(lost), 1))

    return rest
