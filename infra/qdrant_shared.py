"""A Qdrant server's layout: one collection for each dimension and one for sparse vectors, in which a name is a tenant.

https://qdrant.tech/documentation/guides/multitenancy/
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from qdrant_client import QdrantClient, models

Vectors = NDArray[np.float32]
Payload = Mapping[str, str]
Hit = tuple[str, float, Payload]

_PREFIX = "magicode-"
_SPARSE = "magicode-terms"
_DENSE, _TERMS = "dense", "terms"
_TENANT, _WITHIN = "tenant", "within"
_OWN = [_TENANT, _WITHIN]
_PAGE = 1000
_BATCH = 256
_MOST_NAMES = 10_000


class Shared:
    """Implements `infra.qdrant.Layout` on a server, or in memory for tests of this layout."""

    def __init__(self, url: str | None, api_key: str | None, timeout_seconds: int) -> None:
        self._url = url
        self._api_key = api_key
        self._timeout = timeout_seconds
        self._opened: QdrantClient | None = None
        self._opening = threading.Lock()

    def ensure(self, collection: str, dimension: int) -> None:
        client = self._client()
        name = _physical(dimension)
        for other in self._existing():
            if other != name and client.count(other, count_filter=_tenant(collection)).count:
                client.delete(other, points_selector=models.FilterSelector(filter=_tenant(collection)))
        if not client.collection_exists(name):
            self._create(client, name, dimension)

    def upsert(
        self, collection: str, ids: Sequence[str], vectors: Vectors, payloads: Sequence[Payload]
    ) -> None:
        points = [
            models.PointStruct(id=one, vector={_DENSE: vector.tolist()}, payload=_marked(collection, payload))
            for one, vector, payload in zip(ids, vectors, payloads, strict=True)
        ]
        self._write(_physical(vectors.shape[1]), points)

    def upsert_sparse(
        self,
        collection: str,
        ids: Sequence[str],
        weights: Sequence[Mapping[int, float]],
        payloads: Sequence[Payload],
    ) -> None:
        points = [
            models.PointStruct(id=one, vector={_TERMS: _sparse(terms)}, payload=_marked(collection, payload))
            for one, terms, payload in zip(ids, weights, payloads, strict=True)
        ]
        self._write(_SPARSE, points)

    def search(self, collection: str, vectors: Vectors, limit: int) -> list[list[Hit]]:
        client = self._client()
        name = _physical(vectors.shape[1])
        if not client.collection_exists(name):
            return [[] for _ in vectors]
        requests = [
            models.QueryRequest(
                query=vector.tolist(),
                using=_DENSE,
                filter=_tenant(collection),
                limit=limit,
                with_payload=_WITHOUT_OWN,
            )
            for vector in vectors
        ]
        return [_hits(answer.points) for answer in client.query_batch_points(name, requests)]

    def search_sparse(self, collection: str, weights: Mapping[int, float], limit: int) -> list[Hit]:
        client = self._client()
        if not weights or not client.collection_exists(_SPARSE):
            return []
        answer = client.query_points(
            _SPARSE,
            query=_sparse(weights),
            using=_TERMS,
            query_filter=_tenant(collection),
            limit=limit,
            with_payload=_WITHOUT_OWN,
        )
        return _hits(answer.points)

    def get(self, collection: str, ids: Sequence[str], fields: Sequence[str]) -> dict[str, Payload]:
        client = self._client()
        out: dict[str, Payload] = {}
        for name in self._existing():
            for start in range(0, len(ids), _PAGE):
                found = client.retrieve(
                    name, list(ids[start : start + _PAGE]), with_payload=[*fields, _TENANT]
                )
                out |= {
                    str(record.id): _own_out(record.payload)
                    for record in found
                    if (record.payload or {}).get(_TENANT) == collection
                }
        return out

    def scan(self, collection: str, fields: Sequence[str]) -> dict[str, Payload]:
        client = self._client()
        out: dict[str, Payload] = {}
        for name in self._existing():
            offset: models.ExtendedPointId | None = None
            while True:
                records, offset = client.scroll(
                    name,
                    scroll_filter=_tenant(collection),
                    limit=_PAGE,
                    offset=offset,
                    with_payload=list(fields) or False,
                    with_vectors=False,
                )
                out |= {str(record.id): record.payload or {} for record in records}
                if offset is None:
                    break
        return out

    def delete(self, collection: str, ids: Sequence[str]) -> None:
        client = self._client()
        for name in self._existing():
            for start in range(0, len(ids), _PAGE):
                wanted = models.HasIdCondition(has_id=list(ids[start : start + _PAGE]))
                chosen = models.Filter(must=[wanted, _is(_TENANT, collection)])
                client.delete(name, points_selector=models.FilterSelector(filter=chosen), wait=True)

    def names(self, within: str) -> set[str]:
        client = self._client()
        return {
            str(hit.value)
            for name in self._existing()
            for hit in client.facet(
                name, _TENANT, facet_filter=_inside(within), limit=_MOST_NAMES, exact=True
            ).hits
        }

    def drop(self, within: str) -> None:
        client = self._client()
        for name in self._existing():
            client.delete(name, points_selector=models.FilterSelector(filter=_inside(within)), wait=True)

    def count(self, within: str) -> int:
        client = self._client()
        return sum(
            client.count(name, count_filter=_inside(within), exact=True).count for name in self._existing()
        )

    def let_go(self) -> None:
        """Nothing of it is held here."""

    def close(self) -> None:
        if self._opened is not None:
            self._opened.close()

    def _client(self) -> QdrantClient:
        with self._opening:
            if self._opened is None:
                self._opened = self._open()
            return self._opened

    def _open(self) -> QdrantClient:
        if self._url is None:
            return QdrantClient(location=":memory:")
        return QdrantClient(
            url=self._url, api_key=self._api_key, timeout=self._timeout, check_compatibility=False
        )

    def _existing(self) -> list[str]:
        names = [found.name for found in self._client().get_collections().collections]
        return [name for name in names if name.startswith(_PREFIX)]

    def _create(self, client: QdrantClient, name: str, dimension: int) -> None:
        if dimension:
            # A tenant's own graph instead of one over all tenants: searches never walk through others' points.
            client.create_collection(
                name,
                vectors_config={_DENSE: models.VectorParams(size=dimension, distance=models.Distance.DOT)},
                hnsw_config=models.HnswConfigDiff(payload_m=16, m=0),
            )
        else:
            client.create_collection(
                name, vectors_config={}, sparse_vectors_config={_TERMS: models.SparseVectorParams()}
            )
        if self._url is None:
            return  # memory has no payload indexes
        keyword = models.KeywordIndexType.KEYWORD
        client.create_payload_index(
            name, _TENANT, field_schema=models.KeywordIndexParams(type=keyword, is_tenant=True)
        )
        client.create_payload_index(
            name, _WITHIN, field_schema=models.KeywordIndexParams(type=keyword, enable_hnsw=False)
        )

    def _write(self, name: str, points: list[models.PointStruct]) -> None:
        for start in range(0, len(points), _BATCH):
            self._client().upsert(name, points[start : start + _BATCH], wait=True)


_WITHOUT_OWN = models.PayloadSelectorExclude(exclude=_OWN)


def _physical(dimension: int) -> str:
    return f"{_PREFIX}{dimension}" if dimension else _SPARSE


def _marked(collection: str, payload: Payload) -> dict[str, object]:
    parts = collection.split("/")
    folders = ["/".join(parts[: depth + 1]) for depth in range(len(parts))]
    return {**payload, _TENANT: collection, _WITHIN: folders}


def _own_out(payload: Mapping[str, str] | None) -> Payload:
    return {field: value for field, value in (payload or {}).items() if field not in _OWN}


def _sparse(weights: Mapping[int, float]) -> models.SparseVector:
    positions = sorted(weights)
    return models.SparseVector(indices=positions, values=[float(weights[one]) for one in positions])


def _is(field: str, value: str) -> models.FieldCondition:
    return models.FieldCondition(key=field, match=models.MatchValue(value=value))


def _tenant(collection: str) -> models.Filter:
    return models.Filter(must=[_is(_TENANT, collection)])


def _inside(within: str) -> models.Filter:
    return models.Filter(must=[_is(_WITHIN, within)])


def _hits(points: Sequence[models.ScoredPoint]) -> list[Hit]:
    return [(str(hit.id), float(hit.score), hit.payload or {}) for hit in points]
