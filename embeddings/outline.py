"""A map of a tree for a reader with little room: signatures of what matters most, names of more, counts of the rest.

The same tree and ranking give the same map. Reads what the index would read, and knows no more of a file than its syntax.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from embeddings.chunk import CODE, text_of
from embeddings.collection import Tree
from embeddings.imports import Modules
from embeddings.index import readable
from embeddings.languages import Definition, Structure, definitions
from embeddings.rules import Rules

MAX_SIGNATURES = 40
"""Of one file; of one that the ranking does not name a third."""
_FOR_SIGNATURES = 0.75
_FOR_NAMES = 0.9
_MAX_PATH = 200
_MAX_DRAWN = 200
"""So many files are parsed at most."""
_MAX_IMPORTERS = 2_000
_IMPORT_BYTES = 16_384
"""So much is read of so many files to find which ones others import."""
_MAX_BYTES = 256 << 10
"""Longer files are not parsed for their map: their signatures would not fit."""


async def outline(
    tree: Tree, ranked_paths: Sequence[str], characters: int, structure: Structure = definitions
) -> str:
    """At most `characters` characters; empty for a tree without text. `ranked_paths` are what matters most, best first.

    Raises what the tree's `read` raises.
    """
    return await asyncio.to_thread(drawn, tree, tuple(ranked_paths), characters, structure)


def drawn(
    tree: Tree, ranked_paths: Sequence[str], characters: int, structure: Structure = definitions
) -> str:
    """As `outline`, in this thread."""
    worth = readable(tree)
    paths = [entry.path for entry in worth.entries]
    sizes = {entry.path: entry.size or 0 for entry in worth.entries}
    first = [path for path in dict.fromkeys(ranked_paths) if path in sizes]
    order = first + _by_weight(tree, [path for path in paths if path not in set(first)])
    page = _Page(characters)
    programs = [path for path in order if CODE.search(path) and sizes[path] <= _MAX_BYTES]
    programs = programs[:_MAX_DRAWN]
    named = _signatures(tree, worth.rules, programs, frozenset(first), page, structure=structure)
    named |= _names([path for path in order if path not in named], page)
    _folders([entry.path for entry in tree.entries() if entry.path not in named], page)
    return page.text()


@dataclass(slots=True)
class _Page:
    """Lines within so many characters."""

    room: int
    lines: list[str]
    used: int = 0

    def __init__(self, room: int) -> None:
        self.room, self.lines, self.used = room, [], 0

    def add(self, lines: Sequence[str], share: float = 1.0) -> bool:
        """Whether they fitted into this share of the room; nothing is added of what did not."""
        size = sum(len(line) + 1 for line in lines)
        if self.used + size > self.room * share:
            return False
        self.lines += lines
        self.used += size
        return True

    def text(self) -> str:
        return "\n".join(self.lines)


def _by_weight(tree: Tree, paths: Sequence[str]) -> list[str]:
    """What other files import most comes first, then what stands near the top; programs before all else."""
    imported = _imported(tree, paths)
    return sorted(paths, key=lambda path: (CODE.search(path) is None, -imported[path], path.count("/"), path))


def _imported(tree: Tree, paths: Sequence[str]) -> Counter[str]:
    """How many files import each one."""
    modules = Modules(paths)
    counts: Counter[str] = Counter()
    programs = sorted((path for path in paths if CODE.search(path)), key=lambda path: (path.count("/"), path))
    for path in programs[:_MAX_IMPORTERS]:
        counts.update(modules.imported(path, text_of(tree.read(path)[:_IMPORT_BYTES])))
    return counts


def _signatures(
    tree: Tree,
    rules: Rules,
    paths: Sequence[str],
    ranked: frozenset[str],
    page: _Page,
    *,
    structure: Structure,
) -> set[str]:
    named: set[str] = set()
    for path in paths:
        content = tree.read(path)
        if rules.reason_of(path, content) is not None:
            continue
        most = MAX_SIGNATURES if path in ranked else MAX_SIGNATURES // 3
        told = _told(structure(path, text_of(content).split("\n")) or (), most)
        if not told:
            continue
        if page.add([_shown(path), *told], _FOR_SIGNATURES):
            named.add(path)
        elif page.used > page.room * _FOR_SIGNATURES * 0.9:
            break
    return named


def _told(held: Sequence[Definition], most: int) -> list[str]:
    """Signatures, each as far in as the definitions around it; the outer ones stay where they are too many."""
    depths: list[int] = []
    around: list[int] = []
    for one in held:
        while around and one.start >= around[-1]:
            around.pop()
        depths.append(len(around))
        around.append(one.end)
    kept = sorted(sorted(range(len(held)), key=lambda place: (depths[place], place))[:most])
    lines = [f"{'  ' * (min(depths[place], 6) + 1)}{_line(held[place])}" for place in kept]
    left = len(held) - len(kept)
    return [*lines, f"  … {left:,} more"] if left else lines


def _line(one: Definition) -> str:
    return " ".join((one.signature or one.name).split())


def _names(paths: Sequence[str], page: _Page) -> set[str]:
    named: set[str] = set()
    begun = False
    for path in paths:
        head = [] if begun else ["Other files:"]
        if not page.add([*head, f"  {_shown(path)}"], _FOR_NAMES):
            break
        begun = True
        named.add(path)
    return named


def _folders(paths: Sequence[str], page: _Page) -> None:
    """Where the files are that are not named, counted by their folders of the first two levels."""
    counts = Counter("/".join(path.split("/")[:-1][:2]) for path in paths)
    lines = [
        f"  {_shown(folder) + '/' if folder else '(top)'} ({count:,} files)"
        for folder, count in sorted(counts.items())
    ]
    if not lines:
        return
    page.add(["Files not named here, by folder:"])
    for place, line in enumerate(lines):
        if not page.add([line], 0.99 if place < len(lines) - 1 else 1.0):
            page.add([f"  … {len(lines) - place:,} more folders"])
            return


def _shown(path: str) -> str:
    """A path on one line, whatever it holds."""
    told = path if path.isprintable() else json.dumps(path)
    return told if len(told) <= _MAX_PATH else f"{told[: _MAX_PATH // 2]}…{told[-_MAX_PATH // 2 :]}"
