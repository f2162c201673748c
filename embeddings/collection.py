"""What this room needs of a vector store, in primitives, and which of its fields mean what."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from embeddings.chunk import VERSION
from embeddings.embed import Encoder, Vectors
from embeddings.protect import Protection

REPOSITORY = "repository"
FILE = "file"
HEAD = "head"
"""Set on a file's first chunk, which is written last: where it is, the whole file is."""
PLACE = "place"

Where = Mapping[str, str | Collection[str]]
"""A conjunction: each field equals the string, or is one of the strings."""


class Points(Protocol):
    """A vector store. A collection that does not exist is an empty one. Ids are UUIDs; payload values are strings."""

    async def ensure(self, collection: str, dimension: int) -> None:
        """Make the collection; one of another dimension is emptied and made anew."""
        ...

    async def upsert(
        self, collection: str, ids: Sequence[str], vectors: Vectors, payloads: Sequence[Mapping[str, str]]
    ) -> None:
        """Durable when it returns. Points with these ids are replaced."""
        ...

    async def search(
        self, collection: str, vector: Vectors, where: Where, limit: int
    ) -> Sequence[tuple[str, float, Mapping[str, str]]]:
        """Id, cosine and payload, nearest first."""
        ...

    async def values(self, collection: str, field: str, where: Where) -> set[str]:
        """All values that this payload field has among the points."""
        ...

    async def delete(self, collection: str, where: Where) -> None: ...

    async def drop(self, collection: str) -> None: ...

    async def count(self, collection: str, where: Where) -> int: ...


class Entry(Protocol):
    """A readable file of a tree; `sha` is its blob's."""

    @property
    def path(self) -> str: ...

    @property
    def sha(self) -> str: ...

    @property
    def size(self) -> int | None: ...


class Tree(Protocol):
    """The readable files of one commit."""

    def entries(self) -> Sequence[Entry]: ...

    def read(self, path: str) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Shelf:
    """One repository's place in the store."""

    points: Points
    encoder: Encoder
    protection: Protection
    repository_id: int

    @property
    def collection(self) -> str:
        return self.protection.collection()

    @property
    def repository(self) -> str:
        return self.protection.repository(self.repository_id)

    def file(self, entry: Entry) -> str:
        return self.protection.file(
            self.repository_id, entry.path, entry.sha, f"{self.encoder.name} {VERSION}"
        )
