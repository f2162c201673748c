"""Qdrant's local mode, one folder of files for each folder of collections, opened when it is needed.

Local mode loads a folder whole, writes each point in a transaction of its own, evaluates filters and multiplies sparse
vectors in Python. So a search never filters, few folders are open at once, a batch of points is made durable once, and
sparse vectors are kept packed in the payload and multiplied here. A folder is open in one process at a time.
"""

from __future__ import annotations

import base64
import fcntl
import logging
import os
import pickle
import shutil
import sqlite3
import warnings
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from qdrant_client import QdrantClient, models
from qdrant_client.local.qdrant_local import QdrantLocal

from app.errors import TransientError

Vectors = NDArray[np.float32]
Payload = Mapping[str, str]
Hit = tuple[str, float, Payload]

log = logging.getLogger(__name__)

OPEN_AT_ONCE = 4
_DENSE = "dense"
_TERMS = "terms"
_META = "meta.json"  # local mode's own name for its list of a folder's collections
_POSITION, _WEIGHT = np.dtype("<u4"), np.dtype("<f2")
# A vector of 384 numbers and its payload are 2 KB: of SQLite's usual 4 KB half would stay empty.
_PAGE_BYTES = 16384


class DamagedError(Exception):
    """A collection's file is not what SQLite wrote."""


class FolderInUseError(TransientError):
    """Another process has this Qdrant folder open, and local mode allows one. Stop that process, or run a Qdrant server
    and set MAGICODE_QDRANT_URL."""


class Folders:
    """Implements `infra.qdrant.Layout` below a folder, or in memory. For one thread."""

    def __init__(self, root: Path | None) -> None:
        self._root = root
        self._open: OrderedDict[str, QdrantClient] = OrderedDict()
        self._terms: dict[str, _Terms] = {}

    def ensure(self, collection: str, dimension: int) -> None:
        folder, name = _split(collection)
        client = self._opened(folder) or self._made(folder)
        wanted = (
            {_DENSE: models.VectorParams(size=dimension, distance=models.Distance.DOT)} if dimension else {}
        )
        if client.collection_exists(name):
            if (client.get_collection(name).config.params.vectors or {}) == wanted:
                return
            client.delete_collection(name)
        self._terms.pop(collection, None)
        client.create_collection(name, vectors_config=wanted)
        connection = _connection(client, name)
        if connection is not None:
            connection.execute(f"PRAGMA page_size={_PAGE_BYTES}")
            connection.execute("VACUUM")
            _prepare(connection)

    def upsert(
        self, collection: str, ids: Sequence[str], vectors: Vectors, payloads: Sequence[Payload]
    ) -> None:
        # Not validated, and so not copied into lists of Python's floats: local mode takes an array as it is.
        points = [
            models.PointStruct.model_construct(id=one, vector={_DENSE: vector}, payload=dict(payload))
            for one, vector, payload in zip(ids, vectors.astype(np.float32), payloads, strict=True)
        ]
        self._write(collection, points)

    def upsert_sparse(
        self,
        collection: str,
        ids: Sequence[str],
        weights: Sequence[Mapping[int, float]],
        payloads: Sequence[Payload],
    ) -> None:
        packed = [_packed(one) for one in weights]
        points = [
            models.PointStruct.model_construct(
                id=one, vector={}, payload={**payload, _TERMS: base64.b64encode(raw).decode("ascii")}
            )
            for one, raw, payload in zip(ids, packed, payloads, strict=True)
        ]
        self._write(collection, points)
        if collection in self._terms:
            self._terms[collection].put(ids, packed)

    def search(self, collection: str, vectors: Vectors, limit: int) -> list[list[Hit]]:
        client, name = self._existing(collection)
        if client is None:
            return [[] for _ in vectors]
        answers = [
            client.query_points(name, query=vector, using=_DENSE, limit=limit, with_payload=True).points
            for vector in vectors.astype(np.float32)
        ]
        return [[(str(hit.id), float(hit.score), hit.payload or {}) for hit in hits] for hits in answers]

    def search_sparse(self, collection: str, weights: Mapping[int, float], limit: int) -> list[Hit]:
        client, name = self._existing(collection)
        if client is None:
            return []
        if collection not in self._terms:
            stored = self.scan(collection, [_TERMS])
            self._terms[collection] = _Terms()
            self._terms[collection].put(
                list(stored), [base64.b64decode(payload[_TERMS]) for payload in stored.values()]
            )
        best = self._terms[collection].nearest(weights, limit)
        without = models.PayloadSelectorExclude(exclude=[_TERMS])
        found = client.retrieve(name, [one for one, _ in best], with_payload=without)
        payloads = {str(record.id): record.payload or {} for record in found}
        return [(one, score, payloads[one]) for one, score in best if one in payloads]

    def get(self, collection: str, ids: Sequence[str], fields: Sequence[str]) -> dict[str, Payload]:
        client, name = self._existing(collection)
        if client is None:
            return {}
        found = client.retrieve(name, list(ids), with_payload=list(fields) or False)
        return {str(record.id): record.payload or {} for record in found}

    def scan(self, collection: str, fields: Sequence[str]) -> dict[str, Payload]:
        client, name = self._existing(collection)
        if client is None:
            return {}
        # Local mode sorts all ids for every page, so it is one page.
        records, _ = client.scroll(
            name,
            limit=max(client.count(name).count, 1),
            with_payload=list(fields) or False,
            with_vectors=False,
        )
        return {str(record.id): record.payload or {} for record in records}

    def delete(self, collection: str, ids: Sequence[str]) -> None:
        client, name = self._existing(collection)
        if client is None:
            return
        client.delete(name, points_selector=list(ids))
        self._make_durable(client, name)
        if collection in self._terms:
            self._terms[collection].remove(ids)

    def names(self, within: str) -> set[str]:
        found = {
            f"{folder}/{name}" if folder else name
            for folder in self._folders(within)
            for name in self._collections(folder)
        }
        return {name for name in found if name == within or name.startswith(f"{within}/")}

    def drop(self, within: str) -> None:
        folder, name = _split(within)
        client = self._opened(folder)
        if client is not None and client.collection_exists(name):
            client.delete_collection(name)
        for inner in [one for one in self._open if _is_within(one, within)]:
            self._open.pop(inner).close()
        self._terms = {one: terms for one, terms in self._terms.items() if not _is_within(one, within)}
        if self._root is not None and (self._root / within).exists():
            shutil.rmtree(self._root / within)

    def count(self, within: str) -> int:
        return sum(self._count(name) for name in self.names(within))

    def close(self) -> None:
        while self._open:
            self._open.popitem()[1].close()
        self._terms.clear()

    # --- folders ---

    def _existing(self, collection: str) -> tuple[QdrantClient | None, str]:
        folder, name = _split(collection)
        client = self._opened(folder)
        return (client if client is not None and client.collection_exists(name) else None), name

    def _opened(self, folder: str) -> QdrantClient | None:
        """None for a folder that does not exist."""
        if folder in self._open and self._is_gone(folder):
            self._forget(folder)
        if folder in self._open:
            self._open.move_to_end(folder)
            return self._open[folder]
        if self._root is None or not (self._root / folder / _META).exists():
            return None
        return self._made(folder)

    def _made(self, folder: str) -> QdrantClient:
        if self._root is None:
            client = QdrantClient(location=":memory:")
        else:
            while len(self._open) >= OPEN_AT_ONCE:
                oldest, other = self._open.popitem(last=False)
                other.close()
                self._terms = {one: terms for one, terms in self._terms.items() if _split(one)[0] != oldest}
            path = self._root / folder
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                client = _client(path)
            except _DAMAGE as error:
                if not _is_damage(error):
                    raise
                _discard(path)
                log.error(
                    "A damaged index was removed; it is built anew.", extra={"error": type(error).__name__}
                )
                path.mkdir(mode=0o700)
                client = _client(path)
        self._open[folder] = client
        return client

    def _is_gone(self, folder: str) -> bool:
        """Somebody removed its files: what is open would be written into nothing."""
        return self._root is not None and not (self._root / folder / _META).exists()

    def _forget(self, folder: str) -> None:
        self._open.pop(folder).close()
        self._terms = {one: terms for one, terms in self._terms.items() if _split(one)[0] != folder}

    def let_go(self) -> None:
        """After an error of the files: what is in memory may not be what is in them."""
        for folder in list(self._open):
            if self._root is not None:
                self._forget(folder)

    def _folders(self, within: str) -> list[str]:
        """The folder that `within` is in, and all those inside of it."""
        above = _split(within)[0]
        if self._root is None:
            return [one for one in self._open if one == above or _is_within(one, within)]
        out = [above] if (self._root / above / _META).exists() else []
        for path, folders, files in os.walk(self._root / within):
            if _META in files:
                folders[:] = [name for name in folders if name != "collection"]
                out.append(Path(path).relative_to(self._root).as_posix())
        return out

    def _collections(self, folder: str) -> list[str]:
        if self._root is not None and folder not in self._open:
            inner = self._root / folder / "collection"
            return [path.name for path in inner.iterdir()] if inner.exists() else []
        return [one.name for one in self._open[folder].get_collections().collections]

    def _count(self, collection: str) -> int:
        """Counted in the file where the folder is not open: loading it would cost seconds."""
        folder, name = _split(collection)
        if self._root is not None and folder not in self._open:
            file = self._root / folder / "collection" / name / "storage.sqlite"
            try:
                with closing(sqlite3.connect(file)) as connection:
                    return int(connection.execute("SELECT count(*) FROM points").fetchone()[0])
            except sqlite3.DatabaseError as error:
                if not _is_damage(error):
                    raise
                return 1  # nobody can count it, and it is not nothing
        return self._open[folder].count(name).count

    # --- files ---

    def _write(self, collection: str, points: list[models.PointStruct]) -> None:
        client, name = self._existing(collection)
        if client is None:
            raise TransientError("The collection went away while it was written to.", reason="qdrant_away")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            client.upsert(name, points)
        self._make_durable(client, name)

    def _make_durable(self, client: QdrantClient, name: str) -> None:
        connection = _connection(client, name)
        if connection is not None:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _split(collection: str) -> tuple[str, str]:
    folder, _, name = collection.rpartition("/")
    return folder, name


def _is_within(name: str, within: str) -> bool:
    return name == within or name.startswith(f"{within}/")


def _client(path: Path) -> QdrantClient:
    """Raises FolderInUseError, and what reading damaged files raises."""
    for file in path.glob("collection/*/storage.sqlite"):
        _check(file)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of many points, which is measured and documented
            client = QdrantClient(path=str(path))
    except RuntimeError as error:  # what local mode raises for a held lock, and for nothing else
        raise FolderInUseError from error
    for one in client.get_collections().collections:
        connection = _connection(client, one.name)
        if connection is not None:
            _prepare(connection)
    return client


def _check(file: Path) -> None:
    """Before its pickled points are read: a page that is damaged might otherwise show only when it is written to. Raises
    DamagedError, and sqlite3.DatabaseError for what is no database at all. https://www.sqlite.org/pragma.html#pragma_quick_check
    """
    with closing(sqlite3.connect(file)) as connection:
        if connection.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
            raise DamagedError


# What local mode raises for files that are not, or not wholly, what it wrote: its list is JSON, its points are pickled.
_DAMAGE = (
    DamagedError,
    sqlite3.DatabaseError,
    ImportError,
    OverflowError,
    pickle.UnpicklingError,
    EOFError,
    ValueError,
    LookupError,
    AttributeError,
    TypeError,
)


def _is_damage(error: BaseException) -> bool:
    """A disk that is full is no damage: https://www.sqlite.org/rescode.html"""
    if isinstance(error, sqlite3.Error):
        return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
    return True


def _discard(path: Path) -> None:
    """Raises FolderInUseError where another process has it open: what was read was then half written, and not damaged."""
    with (path / ".lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FolderInUseError from error
        shutil.rmtree(path)


def _connection(client: QdrantClient, name: str) -> sqlite3.Connection | None:
    """The collection's SQLite connection, which the client has no call for; None in memory."""
    local = client._client
    assert isinstance(local, QdrantLocal)
    storage = local.collections[name].storage
    return None if storage is None else storage.storage


def _prepare(connection: sqlite3.Connection) -> None:
    """Points are committed one by one: here that costs no wait for the disk, and `_make_durable` waits once for all of a
    batch. What is deleted is overwritten. https://www.sqlite.org/pragma.html
    """
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("PRAGMA secure_delete=ON")


def _packed(weights: Mapping[int, float]) -> bytes:
    positions = np.fromiter(weights.keys(), dtype=_POSITION, count=len(weights))
    values = np.fromiter(weights.values(), dtype=_WEIGHT, count=len(weights))
    return positions.tobytes() + values.tobytes()


class _Terms:
    """One collection's sparse vectors, by position: what local mode would multiply in Python, point by point."""

    def __init__(self) -> None:
        self._packed: dict[str, bytes] = {}
        self._inverted: tuple[list[str], NDArray[np.uint32], NDArray[np.int64], Vectors] | None = None

    def put(self, ids: Sequence[str], packed: Sequence[bytes]) -> None:
        self._packed.update(zip(ids, packed, strict=True))
        self._inverted = None

    def remove(self, ids: Sequence[str]) -> None:
        for one in ids:
            self._packed.pop(one, None)
        self._inverted = None

    def nearest(self, weights: Mapping[int, float], limit: int) -> list[tuple[str, float]]:
        if self._inverted is None:
            self._inverted = self._invert()
        ids, positions, rows, values = self._inverted
        scores = np.zeros(len(ids), dtype=np.float32)
        # Of the positions' own kind: for another, NumPy would copy them all.
        wanted = np.fromiter(weights.keys(), dtype=_POSITION, count=len(weights))
        starts = np.searchsorted(positions, wanted, "left")
        stops = np.searchsorted(positions, wanted, "right")
        for start, stop, weight in zip(starts, stops, weights.values(), strict=True):
            scores[rows[start:stop]] += weight * values[start:stop]
        best = np.argsort(-scores, kind="stable")[:limit]
        return [(ids[row], float(scores[row])) for row in best if scores[row] > 0]

    def _invert(self) -> tuple[list[str], NDArray[np.uint32], NDArray[np.int64], Vectors]:
        each = _POSITION.itemsize + _WEIGHT.itemsize
        ids = list(self._packed)
        lengths = np.array([len(raw) // each for raw in self._packed.values()], dtype=np.int64)
        cut = [_POSITION.itemsize * int(length) for length in lengths]
        pairs = list(zip(self._packed.values(), cut, strict=True))
        positions = np.frombuffer(b"".join(raw[:at] for raw, at in pairs), dtype=_POSITION)
        values = np.frombuffer(b"".join(raw[at:] for raw, at in pairs), dtype=_WEIGHT)
        rows = np.repeat(np.arange(len(ids)), lengths)
        order = np.argsort(positions, kind="stable")
        return ids, positions[order], rows[order], values[order].astype(np.float32)
