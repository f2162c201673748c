"""Points in Qdrant: a folder of this machine, memory, or a server; the same calls for all three.

It keeps two layouts apart, `infra.qdrant_folders` for the client's own local mode and `infra.qdrant_shared` for a server,
sees to it that local mode is used by one thread, and turns the client's errors into ours.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from json import JSONDecodeError
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from app.errors import DefectError, TransientError
from infra.qdrant_folders import FolderInUseError, Folders
from infra.qdrant_shared import Shared

__all__ = ["FolderInUseError", "QdrantPoints"]

T = TypeVar("T")
Vectors = NDArray[np.float32]
Payload = Mapping[str, str]
Hit = tuple[str, float, Payload]

_REFUSALS = (429, 500, 502, 503, 504)


class Layout(Protocol):
    """`embeddings.collection.Points` without the event loop."""

    def ensure(self, collection: str, dimension: int) -> None: ...
    def upsert(
        self, collection: str, ids: Sequence[str], vectors: Vectors, payloads: Sequence[Payload]
    ) -> None: ...
    def upsert_sparse(
        self,
        collection: str,
        ids: Sequence[str],
        weights: Sequence[Mapping[int, float]],
        payloads: Sequence[Payload],
    ) -> None: ...
    def search(self, collection: str, vectors: Vectors, limit: int) -> list[list[Hit]]: ...
    def search_sparse(self, collection: str, weights: Mapping[int, float], limit: int) -> list[Hit]: ...
    def get(self, collection: str, ids: Sequence[str], fields: Sequence[str]) -> dict[str, Payload]: ...
    def scan(self, collection: str, fields: Sequence[str]) -> dict[str, Payload]: ...
    def delete(self, collection: str, ids: Sequence[str]) -> None: ...
    def names(self, within: str) -> set[str]: ...
    def drop(self, within: str) -> None: ...
    def count(self, within: str) -> int: ...
    def let_go(self) -> None: ...
    def close(self) -> None: ...


class QdrantPoints:
    """Implements `embeddings.collection.Points`. Opens nothing before its first call.

    All methods raise TransientError when Qdrant is away or busy (`qdrant_away`, `folder_in_use`) or no longer has the
    collection that is worked on (`qdrant_lost`), and DefectError when
    it refuses what we sent (`qdrant_refused`).
    """

    def __init__(
        self,
        *,
        path: Path | None = None,
        url: str | None = None,
        api_key: str | None = None,
        shared: bool = False,
        timeout_seconds: int = 30,
    ) -> None:
        """`url` a server, else `path` a folder, else memory, which `shared` lays out as a server."""
        self._layout: Layout = (
            Shared(url, api_key, timeout_seconds) if url is not None or shared else Folders(path)
        )
        # Local mode keeps its state in plain lists and SQLite connections: one thread only.
        self._threads = ThreadPoolExecutor(8 if url is not None else 1, thread_name_prefix="qdrant")

    async def ensure(self, collection: str, dimension: int) -> None:
        await self._do(lambda: self._layout.ensure(collection, dimension))

    async def upsert(
        self, collection: str, ids: Sequence[str], vectors: Vectors, payloads: Sequence[Payload]
    ) -> None:
        if ids:
            await self._do(lambda: self._layout.upsert(collection, ids, vectors, payloads))

    async def upsert_sparse(
        self,
        collection: str,
        ids: Sequence[str],
        weights: Sequence[Mapping[int, float]],
        payloads: Sequence[Payload],
    ) -> None:
        if ids:
            await self._do(lambda: self._layout.upsert_sparse(collection, ids, weights, payloads))

    async def search(self, collection: str, vectors: Vectors, limit: int) -> list[list[Hit]]:
        return await self._do(lambda: self._layout.search(collection, vectors, limit))

    async def search_sparse(self, collection: str, weights: Mapping[int, float], limit: int) -> list[Hit]:
        return await self._do(lambda: self._layout.search_sparse(collection, weights, limit))

    async def get(self, collection: str, ids: Sequence[str], fields: Sequence[str]) -> dict[str, Payload]:
        return await self._do(lambda: self._layout.get(collection, ids, fields)) if ids else {}

    async def scan(self, collection: str, fields: Sequence[str]) -> dict[str, Payload]:
        return await self._do(lambda: self._layout.scan(collection, fields))

    async def delete(self, collection: str, ids: Sequence[str]) -> None:
        if ids:
            await self._do(lambda: self._layout.delete(collection, ids))

    async def names(self, within: str) -> set[str]:
        return await self._do(lambda: self._layout.names(within))

    async def drop(self, within: str) -> None:
        await self._do(lambda: self._layout.drop(within))

    async def count(self, within: str) -> int:
        return await self._do(lambda: self._layout.count(within))

    async def close(self) -> None:
        """Closes the folder's files, or the connections. The object cannot be used afterwards."""
        await asyncio.get_running_loop().run_in_executor(self._threads, self._layout.close)
        self._threads.shutdown(wait=False)

    async def _do(self, work: Callable[[], T]) -> T:
        def run() -> T:
            try:
                return work()
            except ResourceExhaustedResponse as error:  # what the client makes of a 429 that names a delay
                raise TransientError("Qdrant is busy.", reason="qdrant_away") from error
            except (
                ResponseHandlingException,
                JSONDecodeError,
            ) as error:  # the second for what is no JSON at all
                raise TransientError("Qdrant does not answer.", reason="qdrant_away") from error
            except (sqlite3.Error, OSError) as error:
                # The local folder's: a full disk, damaged or vanished files, no file descriptor left.
                self._layout.let_go()
                raise TransientError("The index's files cannot be used.", reason="qdrant_away") from error
            except UnexpectedResponse as error:
                if error.status_code == 404:
                    raise TransientError("Qdrant has lost the collection.", reason="qdrant_lost") from error
                if error.status_code in _REFUSALS:
                    raise TransientError("Qdrant is busy.", reason="qdrant_away") from error
                raise DefectError(
                    f"Qdrant refused a call ({error.status_code}).", reason="qdrant_refused"
                ) from error

        # A thread cannot be stopped: who is told to stop meanwhile stops when nothing is written any more.
        working = asyncio.get_running_loop().run_in_executor(self._threads, run)
        try:
            return await asyncio.shield(working)
        except asyncio.CancelledError:
            await asyncio.wait({working})
            working.exception()  # nobody is there to be told
            raise
