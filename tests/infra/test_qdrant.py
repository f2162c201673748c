"""The folder: one process, nothing left after a deletion, nothing opened before it is needed."""

from __future__ import annotations

import asyncio
import threading
import uuid

import numpy as np
import pytest

from app.errors import DefectError, TransientError
from infra.qdrant import FolderInUseError, QdrantPoints

VECTORS = np.eye(3, dtype=np.float32)
IDS = [str(uuid.UUID(int=n + 1, version=4)) for n in range(3)]


async def test_nothing_is_opened_before_the_first_call(tmp_path):
    QdrantPoints(path=tmp_path / "q")
    assert not (tmp_path / "q").exists()


async def test_a_folder_that_another_has_open_says_what_to_do(tmp_path):
    first = QdrantPoints(path=tmp_path / "q")
    await first.ensure("one", 3)
    second = QdrantPoints(path=tmp_path / "q")
    with pytest.raises(FolderInUseError) as trouble:
        await second.count("one", {})
    assert trouble.value.reason == "folder_in_use"
    assert "MAGICODE_QDRANT_URL" in trouble.value.message
    assert str(tmp_path) not in trouble.value.message
    await first.close()
    assert await second.count("one", {}) == 0
    await second.close()


async def test_points_are_there_again_after_a_restart(tmp_path):
    first = QdrantPoints(path=tmp_path / "q")
    await first.ensure("one", 3)
    await first.upsert("one", IDS, VECTORS, [{"file": str(n)} for n in range(3)])
    await first.close()
    again = QdrantPoints(path=tmp_path / "q")
    assert await again.count("one", {}) == 3
    assert (await again.search("one", VECTORS[1], {}, 1))[0][0] == IDS[1]
    await again.close()


async def test_what_was_deleted_is_no_longer_in_the_files(tmp_path):
    points = QdrantPoints(path=tmp_path / "q")
    await points.ensure("one", 3)
    await points.upsert("one", IDS, VECTORS, [{"file": f"remarkable{n}"} for n in range(3)])
    assert b"remarkable1" in raw(tmp_path)
    await points.delete("one", {"file": "remarkable1"})
    assert b"remarkable1" not in raw(tmp_path)
    assert b"remarkable2" in raw(tmp_path)
    await points.drop("one")
    assert b"remarkable" not in raw(tmp_path)
    await points.close()


def raw(where) -> bytes:
    return b"".join(path.read_bytes() for path in where.rglob("*") if path.is_file())


async def test_the_folder_is_private(tmp_path):
    points = QdrantPoints(path=tmp_path / "q")
    await points.ensure("one", 3)
    assert (tmp_path / "q").stat().st_mode & 0o777 == 0o700
    await points.close()


async def test_the_event_loop_goes_on_while_points_are_written(tmp_path):
    points = QdrantPoints(path=tmp_path / "q")
    await points.ensure("one", 3)
    ids = [str(uuid.UUID(int=n + 1, version=4)) for n in range(300)]
    turns = 0
    async with asyncio.TaskGroup() as group:
        writing = group.create_task(points.upsert("one", ids, np.tile(VECTORS, (100, 1)), [{} for _ in ids]))
        while not writing.done():
            await asyncio.sleep(0.001)
            turns += 1
    assert turns > 5
    await points.close()


async def test_a_server_that_does_not_answer_is_transient():
    points = QdrantPoints(url="http://127.0.0.1:9", timeout_seconds=2)
    with pytest.raises(TransientError) as trouble:
        await points.count("one", {})
    assert trouble.value.reason == "qdrant_away"
    await points.close()


@pytest.fixture
def answering():
    """A server that answers every request with one status."""
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Handler(BaseHTTPRequestHandler):
        status = 503

        def do_GET(self) -> None:
            self.send_response(self.status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield Handler, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("status", "kind"), [(503, TransientError), (429, TransientError), (401, DefectError)]
)
async def test_a_server_that_refuses_is_busy_or_a_defect(answering, status, kind):
    handler, url = answering
    handler.status = status
    points = QdrantPoints(url=url, api_key=None, timeout_seconds=5)
    with pytest.raises(kind):
        await points.count("one", {})
    await points.close()
