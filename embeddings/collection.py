"""What this room needs of a vector store, in primitives, and where in it a repository's points are.

A repository has one generation for each encoder and chunker version, and in it two collections:

- `chunks`: a dense vector for each chunk. Its id is a keyed hash of the path and of what the model read of the chunk, so
  that a changed file needs new points for its changed chunks alone, and branches share the rest.
- `files`: a sparse vector of weighted terms for each version of a file, and the ids of its chunks. It is written after
  its chunks and is the one source of truth: where it is, the file is whole.
"""

from __future__ import annotations

import base64
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from embeddings import chunk, lexicon
from embeddings.chunk import Chunk, passage
from embeddings.embed import Encoder, Vectors
from embeddings.languages import Structure, definitions
from embeddings.protect import Protection

PLACE = "place"
"""Of a chunk: its path, sealed."""
CHUNKS = "chunks"
"""Of a file: the ids of its chunks, packed by `packed`."""
COUNT = "count"
"""Of a file: how many different chunks it has."""
PATH = "path"
"""Of a file: its path's keyed name, the same for all versions."""
LEFT_OUT = "left_out"
"""Of a file that has no chunks: the reason."""

Hit = tuple[str, float, Mapping[str, str]]
"""A point's id, its score and its payload."""


class Points(Protocol):
    """A vector store. Collections are named like files of nested folders, `a/b/c`, and a collection that does not exist is
    an empty one. Ids are UUIDs, no two collections share one, and payload values are strings."""

    async def ensure(self, collection: str, dimension: int) -> None:
        """Make the collection, of sparse vectors where `dimension` is 0; one of another dimension is made anew, empty."""
        ...

    async def upsert(
        self, collection: str, ids: Sequence[str], vectors: Vectors, payloads: Sequence[Mapping[str, str]]
    ) -> None:
        """Durable when it returns. Points with these ids are replaced. The vectors are of length 1."""
        ...

    async def upsert_sparse(
        self,
        collection: str,
        ids: Sequence[str],
        weights: Sequence[Mapping[int, float]],
        payloads: Sequence[Mapping[str, str]],
    ) -> None:
        """As `upsert`. Positions are of 32 bits, weights positive, and kept to three digits."""
        ...

    async def search(self, collection: str, vectors: Vectors, limit: int) -> Sequence[Sequence[Hit]]:
        """For each row of `vectors` the points of the largest cosine, nearest first."""
        ...

    async def search_sparse(self, collection: str, weights: Mapping[int, float], limit: int) -> Sequence[Hit]:
        """The points of the largest product with `weights`, largest first; none that shares no position with them."""
        ...

    async def get(
        self, collection: str, ids: Sequence[str], fields: Sequence[str]
    ) -> dict[str, Mapping[str, str]]:
        """Those of these points that are there, with these fields of their payloads."""
        ...

    async def scan(self, collection: str, fields: Sequence[str]) -> dict[str, Mapping[str, str]]:
        """All points with these fields of their payloads."""
        ...

    async def delete(self, collection: str, ids: Sequence[str]) -> None: ...

    async def names(self, within: str) -> set[str]:
        """The collections in the folder `within`, at any depth."""
        ...

    async def drop(self, within: str) -> None:
        """Remove the collection, or all those in the folder, and what they left in files."""
        ...

    async def count(self, within: str) -> int:
        """The points of the collection, or of all those in the folder."""
        ...


class NoPoints:
    """A store of nothing: what is found without one is found by names and words alone. Implements Points."""

    async def ensure(self, collection: str, dimension: int) -> None: ...

    async def upsert(
        self, collection: str, ids: Sequence[str], vectors: Vectors, payloads: Sequence[Mapping[str, str]]
    ) -> None: ...

    async def upsert_sparse(
        self,
        collection: str,
        ids: Sequence[str],
        weights: Sequence[Mapping[int, float]],
        payloads: Sequence[Mapping[str, str]],
    ) -> None: ...

    async def search(self, collection: str, vectors: Vectors, limit: int) -> Sequence[Sequence[Hit]]:  # noqa: ARG002
        return [() for _ in vectors]

    async def search_sparse(
        self,
        collection: str,  # noqa: ARG002
        weights: Mapping[int, float],  # noqa: ARG002
        limit: int,  # noqa: ARG002
    ) -> Sequence[Hit]:
        return ()

    async def get(
        self,
        collection: str,  # noqa: ARG002
        ids: Sequence[str],  # noqa: ARG002
        fields: Sequence[str],  # noqa: ARG002
    ) -> dict[str, Mapping[str, str]]:
        return {}

    async def scan(self, collection: str, fields: Sequence[str]) -> dict[str, Mapping[str, str]]:  # noqa: ARG002
        return {}

    async def delete(self, collection: str, ids: Sequence[str]) -> None: ...

    async def names(self, within: str) -> set[str]:  # noqa: ARG002
        return set()

    async def drop(self, within: str) -> None: ...

    async def count(self, within: str) -> int:  # noqa: ARG002
        return 0


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


@dataclass(frozen=True)
class Shelf:
    """One repository's place in the store."""

    points: Points
    encoder: Encoder
    protection: Protection
    repository_id: int
    structure: Structure = definitions

    @cached_property
    def repository(self) -> str:
        """The folder of all that is stored of the repository."""
        return f"{self.protection.installation()}/{self.protection.repository(self.repository_id)}"

    @property
    def generation(self) -> str:
        """The folder of what this encoder and this chunker have made."""
        return f"{self.repository}/{self.protection.generation(f'{self.encoder.name} {chunk.VERSION}')}"

    @property
    def chunks(self) -> str:
        return f"{self.generation}/chunks"

    @property
    def files(self) -> str:
        return f"{self.generation}/files"

    def chunk_id(self, path: str, piece: Chunk) -> str:
        """The same for the same path and text wherever in the file it stands."""
        return self.protection.point(self.generation, "chunk", path, passage(path, piece))

    def file_id(self, entry: Entry) -> str:
        """The same for the same path and blob on every branch."""
        return self.protection.point(self.generation, "file", lexicon.VERSION, entry.path, entry.sha)

    def path_key(self, path: str) -> str:
        return self.protection.point(self.generation, "path", path)


def packed(ids: Iterable[str]) -> str:
    return base64.b64encode(b"".join(uuid.UUID(one).bytes for one in ids)).decode("ascii")


def unpacked(ids: str) -> list[str]:
    raw = base64.b64decode(ids)
    return [str(uuid.UUID(bytes=raw[start : start + 16])) for start in range(0, len(raw), 16)]
