"""Points in Qdrant: a folder of this process, memory, or a server; the same calls for all three.

A folder holds one collection for each name and may be open in one process at a time; local mode searches every point
of a collection, so small collections are what makes it quick. A server holds one collection for each dimension, in
which the name is a tenant (https://qdrant.tech/documentation/guides/multitenancy/).
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from app.errors import DefectError, TransientError

T = TypeVar("T")
Where = Mapping[str, str | Collection[str]]

_TENANT = "tenant"
_PAGE = 1000
_INDEXED = ("repository", "file", "head")
_REFUSALS = (429, 500, 502, 503, 504)


class FolderInUseError(TransientError):
    """Another process has this Qdrant folder open, and local mode allows one. Stop that process, or run a Qdrant server
    and set MAGICODE_QDRANT_URL."""


class QdrantPoints:
    """Implements `embeddings.collection.Points`. Opens nothing before its first call.

    All methods raise TransientError when Qdrant is away or busy (`qdrant_away`, `folder_in_use`) and DefectError when
    it refuses what we sent (`qdrant_refused`).
    """

    def __init__(
        self,
        *,
        path: Path | None = None,
        url: str | None = None,
        api_key: str | None = None,
        shared: bool | None = None,
        timeout_seconds: int = 30,
    ) -> None:
        """`url` a server, else `path` a folder, else memory. `shared`: one collection for all names; a server's default."""
        self._path = path if url is None else None
        self._url = url
        self._api_key = api_key
        self._shared = shared if shared is not None else url is not None
        self._timeout = timeout_seconds
        self._opened: QdrantClient | None = None
        self._opening = threading.Lock()
        # Local mode keeps its state in plain lists and SQLite connections: one thread only.
        self._threads = ThreadPoolExecutor(8 if url is not None else 1, thread_name_prefix="qdrant")

    async def ensure(self, collection: str, dimension: int) -> None:
        await self._do(lambda client: self._ensure(client, collection, dimension))

    async def upsert(
        self,
        collection: str,
        ids: Sequence[str],
        vectors: NDArray[np.float32],
        payloads: Sequence[Mapping[str, str]],
    ) -> None:
        if not ids:
            return
        points = [
            models.PointStruct(id=point, vector=vector.tolist(), payload=self._payload(collection, payload))
            for point, vector, payload in zip(ids, vectors, payloads, strict=True)
        ]
        name = self._physical(collection, vectors.shape[1])
        await self._do(lambda client: client.upsert(name, points, wait=True))

    async def search(
        self, collection: str, vector: NDArray[np.float32], where: Where, limit: int
    ) -> Sequence[tuple[str, float, Mapping[str, str]]]:
        name = self._physical(collection, vector.shape[0])

        def query(client: QdrantClient) -> list[models.ScoredPoint]:
            if not client.collection_exists(name):
                return []
            return client.query_points(
                name,
                query=vector.tolist(),
                query_filter=self._filter(collection, where),
                limit=limit,
                with_payload=True,
            ).points

        return [(str(hit.id), float(hit.score), hit.payload or {}) for hit in await self._do(query)]

    async def values(self, collection: str, field: str, where: Where) -> set[str]:
        return await self._do(lambda client: self._values(client, collection, field, where))

    async def delete(self, collection: str, where: Where) -> None:
        def run(client: QdrantClient) -> None:
            for name in self._existing(client, collection):
                selector = models.FilterSelector(filter=self._filter(collection, where) or models.Filter())
                client.delete(name, points_selector=selector, wait=True)
                self._compact(name)

        await self._do(run)

    async def drop(self, collection: str) -> None:
        def run(client: QdrantClient) -> None:
            for name in self._existing(client, collection):
                self._drop(client, name, collection)

        await self._do(run)

    async def count(self, collection: str, where: Where) -> int:
        def run(client: QdrantClient) -> int:
            return sum(
                client.count(name, count_filter=self._filter(collection, where), exact=True).count
                for name in self._existing(client, collection)
            )

        return await self._do(run)

    async def close(self) -> None:
        """Closes the folder's files, or the connections. The object cannot be used afterwards."""

        def run() -> None:
            with self._opening:
                if self._opened is not None:
                    self._opened.close()

        await asyncio.get_running_loop().run_in_executor(self._threads, run)
        self._threads.shutdown(wait=False)

    async def _do(self, work: Callable[[QdrantClient], T]) -> T:
        def run() -> T:
            try:
                return work(self._client())
            except ResponseHandlingException as error:
                raise TransientError("Qdrant does not answer.", reason="qdrant_away") from error
            except UnexpectedResponse as error:
                if error.status_code in _REFUSALS:
                    raise TransientError("Qdrant is busy.", reason="qdrant_away") from error
                raise DefectError(
                    f"Qdrant refused a call ({error.status_code}).", reason="qdrant_refused"
                ) from error

        return await asyncio.get_running_loop().run_in_executor(self._threads, run)

    def _client(self) -> QdrantClient:
        with self._opening:
            if self._opened is None:
                self._opened = self._open()
            return self._opened

    def _open(self) -> QdrantClient:
        if self._url is not None:
            return QdrantClient(
                url=self._url, api_key=self._api_key, timeout=self._timeout, check_compatibility=False
            )
        if self._path is None:
            return QdrantClient(location=":memory:")
        self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            return QdrantClient(path=str(self._path))
        except RuntimeError as error:  # what local mode raises for a held lock, and for nothing else
            raise FolderInUseError from error

    # --- one collection for each name, or one for all ---

    def _physical(self, collection: str, dimension: int) -> str:
        return f"magicode-{dimension}" if self._shared else collection

    def _existing(self, client: QdrantClient, collection: str) -> list[str]:
        if self._shared:
            names = [found.name for found in client.get_collections().collections]
            return [name for name in names if name.startswith("magicode-")]
        return [collection] if client.collection_exists(collection) else []

    def _payload(self, collection: str, payload: Mapping[str, str]) -> dict[str, str]:
        return {**payload, _TENANT: collection} if self._shared else dict(payload)

    def _filter(self, collection: str, where: Where) -> models.Filter | None:
        conditions: list[models.Condition] = [
            models.FieldCondition(
                key=field,
                match=models.MatchValue(value=wanted)
                if isinstance(wanted, str)
                else models.MatchAny(any=list(wanted)),
            )
            for field, wanted in where.items()
        ]
        if self._shared:
            conditions.append(models.FieldCondition(key=_TENANT, match=models.MatchValue(value=collection)))
        return models.Filter(must=conditions) if conditions else None

    def _ensure(self, client: QdrantClient, collection: str, dimension: int) -> None:
        name = self._physical(collection, dimension)
        if self._shared:
            for other in self._existing(client, collection):
                if other != name:
                    self._drop(client, other, collection)
        if client.collection_exists(name):
            parameters = client.get_collection(name).config.params.vectors
            if isinstance(parameters, models.VectorParams) and parameters.size == dimension:
                return
            client.delete_collection(name)
        self._create(client, name, dimension)

    def _create(self, client: QdrantClient, name: str, dimension: int) -> None:
        # A tenant's own graph instead of one over all tenants: searches never walk through others' points.
        graph = models.HnswConfigDiff(payload_m=16, m=0) if self._shared else None
        client.create_collection(
            name,
            vectors_config=models.VectorParams(size=dimension, distance=models.Distance.COSINE),
            hnsw_config=graph,
        )
        if self._url is None:
            return  # local mode has no payload indexes
        tenant = models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, is_tenant=True)
        client.create_payload_index(name, _TENANT, field_schema=tenant)
        for field in _INDEXED:
            client.create_payload_index(name, field, field_schema=models.PayloadSchemaType.KEYWORD)

    def _drop(self, client: QdrantClient, name: str, collection: str) -> None:
        if self._shared:
            selector = models.FilterSelector(filter=self._filter(collection, {}) or models.Filter())
            client.delete(name, points_selector=selector, wait=True)
            self._compact(name)
        else:
            client.delete_collection(name)

    def _values(self, client: QdrantClient, collection: str, field: str, where: Where) -> set[str]:
        found: set[str] = set()
        for name in self._existing(client, collection):
            # Local mode sorts all ids for every page, so there it is one page.
            page = _PAGE if self._url is not None else max(client.count(name).count, 1)
            offset: models.ExtendedPointId | None = None
            while True:
                records, offset = client.scroll(
                    name,
                    scroll_filter=self._filter(collection, where),
                    limit=page,
                    offset=offset,
                    with_payload=[field],
                    with_vectors=False,
                )
                found.update(
                    record.payload[field] for record in records if record.payload and field in record.payload
                )
                if offset is None:
                    break
        return found

    def _compact(self, name: str) -> None:
        """SQLite leaves deleted rows in its file's free pages; rewriting the file removes them."""
        if self._path is None:
            return
        storage = self._path / "collection" / name / "storage.sqlite"
        with closing(sqlite3.connect(storage)) as connection:
            connection.execute("VACUUM")
