"""The folder: one process, nothing left after a deletion, nothing opened before it is needed."""

from __future__ import annotations

import asyncio
import shutil
import threading
import uuid

import numpy as np
import pytest

from app.errors import DefectError, TransientError
from infra.qdrant import FolderInUseError, QdrantPoints
from infra.qdrant_folders import OPEN_AT_ONCE

VECTORS = np.eye(3, dtype=np.float32)
IDS = [str(uuid.UUID(int=n + 1, version=4)) for n in range(3)]


async def test_nothing_is_opened_before_the_first_call(tmp_path):
    QdrantPoints(path=tmp_path / "q")
    assert not (tmp_path / "q").exists()


async def test_a_folder_that_another_has_open_says_what_to_do(tmp_path):
    first = QdrantPoints(path=tmp_path / "q")
    await first.ensure("i/r/one", 3)
    second = QdrantPoints(path=tmp_path / "q")
    with pytest.raises(FolderInUseError) as trouble:
        await second.scan("i/r/one", [])
    assert trouble.value.reason == "folder_in_use"
    assert "MAGICODE_QDRANT_URL" in trouble.value.message
    assert str(tmp_path) not in trouble.value.message
    await first.close()
    assert await second.scan("i/r/one", []) == {}
    await second.close()


async def test_two_processes_may_have_two_repositories_open(tmp_path):
    first, second = QdrantPoints(path=tmp_path / "q"), QdrantPoints(path=tmp_path / "q")
    await fill(first, "i/one/chunks")
    await fill(second, "i/two/chunks")
    assert await first.count("i") == 6
    await first.close()
    await second.close()


async def fill(points: QdrantPoints, collection: str, first: int = 0) -> None:
    await points.ensure(collection, 3)
    ids = [str(uuid.UUID(int=n + 1 + first, version=4)) for n in range(3)]
    await points.upsert(collection, ids, VECTORS, [{"place": f"remarkable{n}"} for n in range(3)])


async def test_points_are_there_again_after_a_restart(tmp_path):
    first = QdrantPoints(path=tmp_path / "q")
    await fill(first, "i/r/one")
    await first.ensure("i/r/terms", 0)
    await first.upsert_sparse("i/r/terms", IDS[:2], [{7: 1.5}, {2**32 - 1: 1.0}], [{}, {"n": "1"}])
    await first.close()
    again = QdrantPoints(path=tmp_path / "q")
    assert await again.count("i") == 5
    assert await again.count("i/r/one") == 3
    [hits] = await again.search("i/r/one", VECTORS[1:2], 1)
    assert hits == [(IDS[1], 1.0, {"place": "remarkable1"})]
    assert await again.search_sparse("i/r/terms", {2**32 - 1: 2.0}, 1) == [(IDS[1], 2.0, {"n": "1"})]
    await again.upsert("i/r/one", IDS[:1], VECTORS[2:], [{}])
    assert await again.count("i") == 5
    await again.close()


async def test_what_was_written_survives_a_process_that_is_killed(tmp_path):
    """What `upsert` has returned from is in the files, though nothing was closed."""
    points = QdrantPoints(path=tmp_path / "q")
    await fill(points, "i/r/one")
    shutil.copytree(tmp_path / "q", tmp_path / "copy")
    again = QdrantPoints(path=tmp_path / "copy")
    assert (await again.scan("i/r/one", ["place"]))[IDS[2]] == {"place": "remarkable2"}
    await points.close()
    await again.close()


async def test_what_was_deleted_or_replaced_is_no_longer_in_the_files(tmp_path):
    points = QdrantPoints(path=tmp_path / "q")
    await fill(points, "i/r/one")
    assert b"remarkable1" in raw(tmp_path)
    await points.delete("i/r/one", IDS[1:2])
    assert b"remarkable1" not in raw(tmp_path)
    await points.upsert("i/r/one", IDS[2:3], VECTORS[:1], [{"place": "another"}])
    assert b"remarkable2" not in raw(tmp_path)
    assert b"remarkable0" in raw(tmp_path)
    await points.drop("i/r/one")
    assert b"remarkable" not in raw(tmp_path)
    await points.close()


async def test_a_dropped_folder_leaves_no_file(tmp_path):
    points = QdrantPoints(path=tmp_path / "q")
    await fill(points, "i/r/one")
    await fill(points, "i/s/one")
    await points.drop("i/r")
    assert not (tmp_path / "q" / "i" / "r").exists()
    assert await points.names("i") == {"i/s/one"}
    await points.close()
    await QdrantPoints(path=tmp_path / "q").drop("i")
    assert not (tmp_path / "q" / "i").exists()


async def test_few_folders_are_open_at_once_and_the_others_are_not_forgotten(tmp_path):
    points = QdrantPoints(path=tmp_path / "q")
    names = [f"i/r{n}/one" for n in range(OPEN_AT_ONCE + 2)]
    for n, name in enumerate(names):
        await fill(points, name, 10 * n)
        await points.ensure(f"i/r{n}/terms", 0)
        await points.upsert_sparse(f"i/r{n}/terms", [str(uuid.UUID(int=500 + n))], [{n: 1.0}], [{}])
        assert len(await points.search_sparse(f"i/r{n}/terms", {n: 1.0}, 1)) == 1
    other = QdrantPoints(path=tmp_path / "q")
    assert len(await other.scan(names[0], [])) == 3
    with pytest.raises(FolderInUseError):
        await other.scan(names[-1], [])
    await other.close()
    for name in names:
        assert len((await points.search(name, VECTORS[:1], 9))[0]) == 3
    assert len(await points.search_sparse("i/r0/terms", {0: 1.0}, 1)) == 1
    assert await points.count("i") == 4 * len(names)
    await points.close()


def raw(where) -> bytes:
    return b"".join(path.read_bytes() for path in where.rglob("*") if path.is_file())


async def test_the_folder_is_private(tmp_path):
    points = QdrantPoints(path=tmp_path / "q")
    await points.ensure("i/r/one", 3)
    assert (tmp_path / "q").stat().st_mode & 0o777 == 0o700
    await points.close()


async def test_the_event_loop_goes_on_while_points_are_written(tmp_path, monkeypatch):
    points = QdrantPoints(path=tmp_path / "q")
    await points.ensure("one", 3)
    ids = [str(uuid.UUID(int=n + 1, version=4)) for n in range(300)]
    begun, go_on = threading.Event(), threading.Event()
    upsert = points._layout.upsert

    def slow(*given):
        begun.set()
        go_on.wait(60)
        upsert(*given)

    monkeypatch.setattr(points._layout, "upsert", slow)
    turns = 0
    async with asyncio.TaskGroup() as group:
        writing = group.create_task(points.upsert("one", ids, np.tile(VECTORS, (100, 1)), [{} for _ in ids]))
        while turns < 10 and not writing.done():
            await asyncio.sleep(0.001)
            turns += begun.is_set()
        go_on.set()
    assert turns == 10
    assert await points.count("one") == len(ids)
    await points.close()


async def test_who_is_told_to_stop_stops_when_nothing_is_written_any_more(tmp_path, monkeypatch):
    points = QdrantPoints(path=tmp_path)
    await points.ensure("a/b", 4)
    begun, go_on, written = threading.Event(), threading.Event(), threading.Event()
    upsert = points._layout.upsert

    def slow(*given):
        begun.set()
        go_on.wait(10)
        upsert(*given)
        written.set()

    monkeypatch.setattr(points._layout, "upsert", slow)
    writing = asyncio.create_task(fill(points, "a/b"))
    await asyncio.to_thread(begun.wait, 10)
    writing.cancel()
    await asyncio.sleep(0.05)
    assert not writing.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert written.is_set()
    await points.close()


async def test_a_collection_that_went_away_meanwhile_can_be_written_again_later(tmp_path):
    points = QdrantPoints(path=tmp_path / "q")
    with pytest.raises(TransientError):
        await points.upsert("i/r/one", IDS, VECTORS, [{} for _ in IDS])
    await points.close()


async def test_a_server_that_does_not_answer_is_transient():
    points = QdrantPoints(url="http://127.0.0.1:9", timeout_seconds=2)
    with pytest.raises(TransientError) as trouble:
        await points.count("one")
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
        await points.count("one")
    await points.close()
