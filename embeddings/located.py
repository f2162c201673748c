"""From what the store answers to places in a given tree: lines are never taken from the store, but found again.

A chunk's id names its path and its text, so cutting the file as the tree has it tells where the chunk is now; one whose
text is not in the tree is not found.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from embeddings.chunk import Chunk, chunk
from embeddings.collection import PLACE, Entry, Hit, Shelf, Tree
from embeddings.index import Readable, readable


@dataclass(frozen=True, slots=True)
class Place:
    """A chunk of the tree, and how near it is."""

    path: str
    chunk: Chunk
    score: float


class Cuts:
    """The files of one tree, cut when asked for, each once. Made for one search, so that nothing of it lasts."""

    def __init__(self, shelf: Shelf, tree: Tree) -> None:
        """Reads nothing yet; all the rest reads and computes, and belongs into a thread."""
        self._shelf = shelf
        self._tree = tree
        self._chunks: dict[str, tuple[Chunk, ...]] = {}
        self._ids: dict[str, dict[str, list[Chunk]]] = {}

    @cached_property
    def entries(self) -> dict[str, Entry]:
        """The files that are worth reading, by their paths."""
        return {entry.path: entry for entry in self._readable.entries}

    @cached_property
    def files(self) -> dict[str, Entry]:
        """The files that are worth reading, by their ids in the store."""
        return {self._shelf.file_id(entry): entry for entry in self.entries.values()}

    def of(self, path: str) -> tuple[Chunk, ...]:
        """The file's chunks; none for what is not in the tree or not worth reading."""
        if path not in self._chunks:
            here = path in self.entries
            rules, structure = self._readable.rules, self._shelf.structure
            self._chunks[path] = chunk(path, self._tree.read(path), rules, structure).chunks if here else ()
        return self._chunks[path]

    def located(self, hits: Iterable[Hit]) -> list[Place]:
        """Where the chunks of a dense search are in this tree, in the hits' order; what is not in it is left out. A chunk
        that stands in its file twice is two places."""
        out: list[Place] = []
        for point, score, payload in hits:
            path = self._shelf.protection.unseal(payload.get(PLACE, ""), point)
            if path is None:
                continue
            if path not in self._ids:
                self._ids[path] = self._by_id(path)
            out += [Place(path, piece, score) for piece in self._ids[path].get(point, ())]
        return out

    @cached_property
    def _readable(self) -> Readable:
        return readable(self._tree)

    def _by_id(self, path: str) -> dict[str, list[Chunk]]:
        out: dict[str, list[Chunk]] = {}
        for piece in self.of(path):
            out.setdefault(self._shelf.chunk_id(path, piece), []).append(piece)
        return out
