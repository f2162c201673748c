"""What a change looks like: unified diffs over exact bytes, and how many lines they add and remove."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence

from app.lines import Opcode, changed, opcodes
from app.nouns import FileEdit

CONTEXT = 3
_SNIFF = 8000  # how far git looks for a NUL: https://github.com/git/git/blob/master/xdiff-interface.c


def unified(edits: Iterable[FileEdit]) -> bytes:
    """The diff that `git apply` takes. Of binary files it names the blobs: git can delete one by that, and cannot make one."""
    return b"".join(_one(edit) for edit in edits)


def text(edits: Iterable[FileEdit]) -> str:
    """The same for people: bytes that are not UTF-8 become replacement characters."""
    return unified(edits).decode("utf-8", "replace")


def count(edit: FileEdit) -> tuple[int, int]:
    """Lines added and removed."""
    return changed(_lines(edit.before), _lines(edit.after))


def added_lines(edit: FileEdit) -> list[tuple[int, bytes]]:
    """The lines that are new, with their numbers (1-based) in the file afterwards, without line ends."""
    after = _lines(edit.after)
    found = opcodes(_lines(edit.before), after)
    return [
        (j + 1, after[j].rstrip(b"\r\n"))
        for tag, _, _, j1, j2 in found
        if tag != "equal"
        for j in range(j1, j2)
    ]


def is_binary(data: bytes | None) -> bool:
    """As git tells binary from text: by a NUL near the beginning."""
    return data is not None and b"\0" in data[:_SNIFF]


def _one(edit: FileEdit) -> bytes:
    if edit.before == edit.after:
        return b""
    old, new = _quoted(f"a/{edit.path}"), _quoted(f"b/{edit.path}")
    head = b"diff --git " + old + b" " + new + b"\n"
    if edit.before is None:
        head += b"new file mode " + edit.mode.encode() + b"\n"
    if edit.after is None:
        head += b"deleted file mode " + edit.mode.encode() + b"\n"
    old = b"/dev/null" if edit.before is None else old
    new = b"/dev/null" if edit.after is None else new
    if is_binary(edit.before) or is_binary(edit.after):
        # git deletes a binary file only by the whole names of its blobs.
        head += b"index %b..%b\n" % (_blob_name(edit.before), _blob_name(edit.after))
        return head + b"Binary files " + old + b" and " + new + b" differ\n"
    hunks = b"".join(_hunks(_lines(edit.before), _lines(edit.after)))
    # A name with a space in it is ended by a tab, as git does, so that it cannot run into a timestamp.
    old, new = (name + b"\t" if b" " in name else name for name in (old, new))
    return head + (b"--- " + old + b"\n+++ " + new + b"\n" + hunks if hunks else b"")


def _blob_name(content: bytes | None) -> bytes:
    """https://git-scm.com/book/en/v2/Git-Internals-Git-Objects"""
    if content is None:
        return b"0" * 40
    named = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False)
    return named.hexdigest().encode("ascii")


def _hunks(before: Sequence[bytes], after: Sequence[bytes]) -> Iterator[bytes]:
    for group in _grouped(opcodes(before, after)):
        (_, i1, _, j1, _), (_, _, i2, _, j2) = group[0], group[-1]
        out = [b"@@ -%b +%b @@\n" % (_range(i1, i2), _range(j1, j2))]
        for tag, a1, a2, b1, b2 in group:
            if tag == "equal":
                out += [_line(b" ", line) for line in before[a1:a2]]
                continue
            out += [_line(b"-", line) for line in before[a1:a2]]
            out += [_line(b"+", line) for line in after[b1:b2]]
        yield b"".join(out)


def _grouped(codes: Sequence[Opcode]) -> Iterator[list[Opcode]]:
    """Changes with CONTEXT equal lines around them; those that are near each other in one group."""
    group: list[Opcode] = []
    for at, (tag, i1, i2, j1, j2) in enumerate(codes):
        if tag != "equal":
            group.append((tag, i1, i2, j1, j2))
            continue
        length, last = i2 - i1, at == len(codes) - 1
        if group and not last and length <= 2 * CONTEXT:
            group.append((tag, i1, i2, j1, j2))
            continue
        if group:
            n = min(CONTEXT, length)
            yield [*group, (tag, i1, i1 + n, j1, j1 + n)]
        n = min(CONTEXT, length)
        group = [] if last else [(tag, i2 - n, i2, j2 - n, j2)]
    if any(tag != "equal" for tag, *_ in group):
        yield group


def _lines(data: bytes | None) -> list[bytes]:
    """With their ends; only `\\n` ends a line, as for git."""
    if not data:
        return []
    lines = [line + b"\n" for line in data.split(b"\n")]
    last = lines.pop()[:-1]
    return [*lines, last] if last else lines


def _line(sign: bytes, line: bytes) -> bytes:
    return sign + line if line.endswith(b"\n") else sign + line + b"\n\\ No newline at end of file\n"


def _range(start: int, end: int) -> bytes:
    length = end - start
    if length == 1:
        return b"%d" % (start + 1)
    return b"%d,%d" % (start + 1 if length else start, length)


def _quoted(path: str) -> bytes:
    """As git quotes names with control characters, quotes, backslashes or bytes above 127 (core.quotePath)."""
    raw = path.encode("utf-8", "surrogateescape")
    if all(0x20 <= byte < 0x7F and byte not in b'"\\' for byte in raw):
        return raw
    return b'"' + b"".join(_escaped(byte) for byte in raw) + b'"'


def _escaped(byte: int) -> bytes:
    if byte in b'"\\':
        return b"\\" + bytes([byte])
    return bytes([byte]) if 0x20 <= byte < 0x7F else b"\\%03o" % byte
