"""Looks for a regular expression in the files of the draft, in linear time whatever the expression (RE2)."""

from __future__ import annotations

import json
from collections.abc import Sequence

import re2

from app.agent.draft import Draft
from app.agent.edits import ToolError, decode, is_binary
from app.agent.prompt import one_line
from app.patterns import PathPatterns

MAX_FILE_BYTES = 2_000_000
MAX_MATCHES = 200
MAX_PER_FILE = 40
MAX_LINE = 300
MAX_CUT = 5


def select(paths: Sequence[str], glob: str) -> list[str]:
    """The paths that match `glob`, which reads as a line of .gitignore does. Raises ToolError."""
    try:
        patterns = PathPatterns([glob])
    except ValueError as error:
        raise ToolError(f"`{glob}` is not a pattern; write it like `src/**/*.py` or `*.md`.") from error
    return [path for path in paths if patterns.match(path) is not None]


def grep(draft: Draft, pattern: str, glob: str | None, skip: int = 0) -> str:
    """`path:line: text` for each line that matches, capped, with notes on what the caps left out and how to see it.

    Of one file among several at most MAX_PER_FILE lines count. `skip` passes over so many of the lines.
    """
    whole, line = _compiled(pattern)
    paths = sorted(draft.paths() if glob is None else select(draft.paths(), glob))
    per_file = MAX_PER_FILE if len(paths) > 1 else None
    found: list[str] = []
    cut: list[str] = []
    skipped = total = files = 0
    for path in paths:
        if (draft.size(path) or 0) > MAX_FILE_BYTES:
            skipped += 1
            continue
        hits = _in_file(draft.read(path), whole, line)
        total, files = total + len(hits), files + bool(hits)
        if per_file is not None and len(hits) > per_file:
            cut.append(
                f"{len(hits) - per_file:,} more in {one_line(path)}: glob={json.dumps(_only(path))}, skip={per_file}."
            )
        name = one_line(path)
        found += [f"{name}:{number}: {text[:MAX_LINE]}" for number, text in hits[:per_file]]
    if not found:
        return f"No line of {len(paths):,} files matches." + _skipped(skipped)
    shown = found[skip : skip + MAX_MATCHES]
    notes = [f"{total:,} lines in {files:,} files match."]
    if len(shown) < len(found):
        notes.append(f"Lines {skip + 1}-{skip + len(shown)} of {len(found):,} are shown.")
    if skip + len(shown) < len(found):
        notes.append(f"For more, the same with skip={skip + len(shown)}.")
    return "\n".join(shown) + f"\n[{' '.join(notes + cut[:MAX_CUT])}{_skipped(skipped)}]"


def _compiled(pattern: str) -> tuple[re2._Regexp, re2._Regexp]:
    """For a whole text and for one line."""
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(f"(?m:{pattern})", options), re2.compile(pattern, options)
    except re2.error as error:
        said = error.args[0]
        said = said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
        raise ToolError(
            f"RE2 does not accept this pattern: {said}. It has no look-around and no back-references; "
            "escape special characters with a backslash."
        ) from error


def _only(path: str) -> str:
    """The glob of this one file."""
    return "/" + "".join(f"\\{c}" if c in "*?[]\\" else c for c in path)


def _in_file(data: bytes, whole: re2._Regexp, line: re2._Regexp) -> list[tuple[int, str]]:
    if is_binary(data):
        return []
    text = decode(data)
    if whole.search(text.body.replace("\r\n", "\n").encode("utf-8")) is None:
        return []
    return [(i, one) for i, one in enumerate(text.lines(), 1) if line.search(one) is not None]


def _skipped(count: int) -> str:
    return f" {count:,} files over {MAX_FILE_BYTES:,} bytes were not searched." if count else ""
