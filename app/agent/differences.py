"""A change as a unified diff for a reader with little room: each file gets its fair share. Pure.

Not the diff that git applies: line ends are left out, and long files lose their middle.
"""

from __future__ import annotations

from collections.abc import Sequence

from app.agent import prompt
from app.agent.edits import decode, is_binary
from app.lines import Opcode, opcodes
from app.nouns import FileEdit

MAX_CHARACTERS = 60_000
MAX_FILES = 200
_MAX_LINE = 1_000
_CONTEXT = 3


def blocks(edits: Sequence[FileEdit], characters: int = MAX_CHARACTERS) -> list[str]:
    """A block for each file, `characters` in all. What is small is whole, what is left is shared by the large ones."""
    shown = edits[:MAX_FILES]
    diffs = [unified(edit) for edit in shown]
    most = _share([len(diff) for diff in diffs], characters)
    out = [
        prompt.block(
            "diff", prompt.trim(diff, most) + prompt.hidden_note(diff), path=edit.path, change=_kind(edit)
        )
        for edit, diff in zip(shown, diffs, strict=True)
    ]
    left = len(edits) - len(shown)
    return [*out, f"[{left:,} more files are changed and not shown]"] if left else out


def unified(edit: FileEdit) -> str:
    """One file's hunks."""
    if any(data is not None and is_binary(data) for data in (edit.before, edit.after)):
        return f"[binary: {_size(edit.before)} before, {_size(edit.after)} after]"
    before, after = _lines(edit.before), _lines(edit.after)
    if before == after:
        return "[only line ends, the byte order mark or the final newline differ]"
    return "\n".join(line[:_MAX_LINE] for line in _hunks(before, after))


def _hunks(before: Sequence[str], after: Sequence[str]) -> list[str]:
    out: list[str] = []
    for group in _groups(opcodes(before, after)):
        (_, i1, _, j1, _), (_, _, i2, _, j2) = group[0], group[-1]
        out.append(f"@@ -{i1 + 1},{i2 - i1} +{j1 + 1},{j2 - j1} @@")
        for tag, a1, a2, b1, b2 in group:
            if tag == "equal":
                out += [f" {line}" for line in before[a1:a2]]
            else:
                out += [f"-{line}" for line in before[a1:a2]] + [f"+{line}" for line in after[b1:b2]]
    return out


def _groups(codes: Sequence[Opcode]) -> list[list[Opcode]]:
    """What belongs into one hunk, with the lines around it."""
    groups: list[list[Opcode]] = [[]]
    for place, (tag, i1, i2, j1, j2) in enumerate(codes):
        if tag != "equal":
            groups[-1].append((tag, i1, i2, j1, j2))
            continue
        first, last = place == 0, place == len(codes) - 1
        if not first and not last and i2 - i1 <= 2 * _CONTEXT:
            groups[-1].append((tag, i1, i2, j1, j2))
            continue
        if not first:
            groups[-1].append((tag, i1, min(i2, i1 + _CONTEXT), j1, min(j2, j1 + _CONTEXT)))
        if not last:
            groups.append([(tag, max(i1, i2 - _CONTEXT), i2, max(j1, j2 - _CONTEXT), j2)])
    return [group for group in groups if group]


def _share(sizes: Sequence[int], room: int) -> int:
    """The most that one may have so that all fit."""
    left, most = room, room
    for place, size in enumerate(sorted(sizes)):
        most = left // (len(sizes) - place)
        if size > most:
            return most
        left -= size
    return room


def _kind(edit: FileEdit) -> str:
    return "created" if edit.before is None else "deleted" if edit.after is None else "changed"


def _size(data: bytes | None) -> str:
    return "nothing" if data is None else f"{len(data):,} bytes"


def _lines(data: bytes | None) -> list[str]:
    return [] if data is None else decode(data).lines()
