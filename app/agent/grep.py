"""Looks for a regular expression in the files of the draft, in linear time whatever the expression (RE2)."""

from __future__ import annotations

from collections.abc import Sequence

import re2
from pathspec import GitIgnoreSpec

from app.agent.draft import Draft
from app.agent.edits import ToolError, decode, is_binary

MAX_FILE_BYTES = 2_000_000
MAX_MATCHES = 200
MAX_PER_FILE = 40
MAX_LINE = 300


def select(paths: Sequence[str], glob: str) -> list[str]:
    """The paths that match `glob`, which reads as a line of .gitignore does. Raises ToolError."""
    try:
        spec = GitIgnoreSpec.from_lines([glob])
    except ValueError as error:
        raise ToolError(f"`{glob}` is not a pattern; write it like `src/**/*.py` or `*.md`.") from error
    return list(spec.match_files(paths))


def grep(draft: Draft, pattern: str, glob: str | None) -> str:
    """`path:line: text` for each line that matches, capped, with a note on what the cap left out."""
    options = re2.Options()
    options.log_errors = False
    try:
        whole, line = re2.compile(f"(?m:{pattern})", options), re2.compile(pattern, options)
    except re2.error as error:
        said = error.args[0]
        said = said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
        raise ToolError(
            f"RE2 does not accept this pattern: {said}. It has no look-around and no back-references; "
            "escape special characters with a backslash."
        ) from error
    paths = draft.paths() if glob is None else select(draft.paths(), glob)
    found: list[str] = []
    skipped = 0
    total = files = 0
    for path in sorted(paths):
        if (draft.size(path) or 0) > MAX_FILE_BYTES:
            skipped += 1
            continue
        hits = _in_file(draft.read(path), whole, line)
        total, files = total + len(hits), files + bool(hits)
        shown = hits[: min(MAX_PER_FILE, MAX_MATCHES - len(found))]
        found += [f"{path}:{number}: {text[:MAX_LINE]}" for number, text in shown]
    if not found:
        return f"No line of {len(paths):,} files matches." + _skipped(skipped)
    left_out = (
        f" The first {len(found):,} are shown; narrow the pattern or the glob." if total > len(found) else ""
    )
    return "\n".join(found) + f"\n[{total:,} lines in {files:,} files match.{left_out}{_skipped(skipped)}]"


def _in_file(data: bytes, whole: re2._Regexp, line: re2._Regexp) -> list[tuple[int, str]]:
    if is_binary(data):
        return []
    text = decode(data)
    if whole.search(text.body.replace("\r\n", "\n").encode("utf-8")) is None:
        return []
    return [(i, one) for i, one in enumerate(text.lines(), 1) if line.search(one) is not None]


def _skipped(count: int) -> str:
    return f" {count:,} files over {MAX_FILE_BYTES:,} bytes were not searched." if count else ""
