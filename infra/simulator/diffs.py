"""What changed between two commits, as GitHub lists it: files with their patches, and where a comment's line stands in one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

_HUNK = re.compile(r"@@ -(\d+)(?:,\d+)? \+(\d+)(?:,\d+)? @@")
_STATUS = {"A": "added", "D": "removed", "M": "modified", "R": "renamed", "C": "copied", "T": "changed"}


class Git(Protocol):
    """Runs git in one repository and returns its standard output."""

    def __call__(self, *arguments: str) -> bytes: ...


@dataclass(frozen=True, slots=True)
class FileDiff:
    """One changed file. `patch` is None for binary files and pure renames."""

    path: str
    previous_path: str | None
    status: str
    blob_sha: str
    additions: int
    deletions: int
    patch: str | None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a line stands in a patch: its position below the first hunk header, and the hunk up to and with it."""

    position: int
    hunk: str


def changed_files(git: Git, before: str, after: str) -> tuple[FileDiff, ...]:
    """The files that differ between two commits or trees, in git's own order."""
    options = ("-M", "--no-ext-diff", "--no-textconv")
    raw = list(_raw(git("diff", "--raw", "-z", "--abbrev=40", *options, before, after)))
    counts = list(_numstat(git("diff", "--numstat", "-z", *options, before, after)))
    patches = _patches(git("diff", "-p", "--full-index", *options, before, after).decode("utf-8", "replace"))
    return tuple(
        FileDiff(path, previous, status, sha, added, deleted, patch)
        for (status, sha, previous, path), (added, deleted), patch in zip(raw, counts, patches, strict=True)
    )


def _raw(output: bytes) -> Iterator[tuple[str, str, str | None, str]]:
    fields = iter(output.decode("utf-8", "replace").split("\0"))
    for head in fields:
        if not head:
            return
        _, _, before, after, letter = head.split(" ")
        first = next(fields)
        renamed = letter[0] in "RC"
        sha = before if letter[0] == "D" else after
        yield _STATUS[letter[0]], sha, first if renamed else None, next(fields) if renamed else first


def _numstat(output: bytes) -> Iterator[tuple[int, int]]:
    fields = iter(output.split(b"\0"))
    for head in fields:
        if not head:
            return
        added, deleted, path = head.split(b"\t", 2)
        if not path:  # a rename's two names follow on their own
            next(fields)
            next(fields)
        yield (0, 0) if added == b"-" else (int(added), int(deleted))


def _patches(output: str) -> list[str | None]:
    patches: list[list[str]] = []
    for line in output.split("\n"):
        if line.startswith("diff --git "):
            patches.append([])
        elif patches and (patches[-1] or line.startswith("@@ ")):
            patches[-1].append(line)
    # The line break that ends one file's patch is not part of it.
    return ["\n".join(lines).removesuffix("\n") if lines else None for lines in patches]


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
    """The line number and side at a position; the opposite of `find_line`."""
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
