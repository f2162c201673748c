"""Which files of a repository tell agents how to work there, read from the base commit."""

from __future__ import annotations

from app.agent.cleaning import seen
from app.agent.edits import decode, is_binary
from app.ports import Workspace

MAX_FILES = 8
MAX_CHARACTERS = 16_000
MAX_ALL_CHARACTERS = 40_000
_MAX_BYTES = (
    16 * MAX_CHARACTERS
)  # cleaning takes its time, and most of a huge file would be thrown away after it

_ANYWHERE = ("AGENTS.md", "CLAUDE.md")
_ROOT = (
    "AGENTS.md",
    "CLAUDE.md",
    ".github/copilot-instructions.md",
    "CONTRIBUTING.md",
    ".github/CONTRIBUTING.md",
    "docs/CONTRIBUTING.md",
)
_FOREIGN = frozenset(("node_modules", "vendor", "third_party", "site-packages", "testdata", "fixtures"))


def collect(workspace: Workspace) -> tuple[tuple[str, str], ...]:
    """(path, cleaned text) of each instruction file: the root's own first, then by depth. Long ones are cut, and say so."""
    found: list[tuple[str, str]] = []
    room = MAX_ALL_CHARACTERS
    for path in _candidates(workspace):
        data = _beginning(workspace.read(path))
        if is_binary(data):
            continue
        text = seen(decode(data).body).strip()
        most = min(MAX_CHARACTERS, room)
        if not text or most < 200:
            continue
        if len(text) > most:
            text = f"{text[:most]}\n[cut here; `read` shows the rest of the file]"
        room -= len(text)
        found.append((path, text))
        if len(found) == MAX_FILES:
            break
    return tuple(found)


def _beginning(data: bytes) -> bytes:
    """Whole lines of it, where there are lines."""
    if len(data) <= _MAX_BYTES:
        return data
    lines, newline, _ = data[:_MAX_BYTES].rpartition(b"\n")
    return lines + newline or data[:_MAX_BYTES]


def _candidates(workspace: Workspace) -> list[str]:
    paths = [entry.path for entry in workspace.entries()]
    here = set(paths)
    nested = [path for path in paths if "/" in path and path.rpartition("/")[2] in _ANYWHERE]
    own = [path for path in nested if not _FOREIGN.intersection(path.split("/")[:-1])]
    return [path for path in _ROOT if path in here] + sorted(own, key=lambda path: (path.count("/"), path))
