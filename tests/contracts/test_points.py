"""What `embeddings.collection.Points` promises, on every implementation; the server's layout in memory and over HTTP."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from embeddings.collection import Points
from infra.qdrant import QdrantPoints
from tests.qdrant_server import running

AXES = np.eye(4, dtype=np.float32)
IDS = [str(uuid.UUID(int=n + 1, version=4)) for n in range(40)]
ONE, TWO, OTHER = "i1/r1/g1/chunks", "i1/r2/g1/chunks", "i2/r1/g1/chunks"
WEIGHTS = [{1: 1.0, 2**32 - 1: 2.0}, {1: 0.5, 7: 1.0}, {9: 1.5}]


@pytest.fixture(params=["folder", "memory", "one collection for all", "server"])
async def points(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Points]:
    async with running() as server:
        store = {
            "folder": lambda: QdrantPoints(path=tmp_path / "qdrant"),
            "memory": QdrantPoints,
            "one collection for all": lambda: QdrantPoints(shared=True),
            "server": lambda: QdrantPoints(url=server.url),
        }[request.param]()
        yield store
        await store.close()


async def fill(points: Points, collection: str = ONE, ids: list[str] = IDS[:4]) -> None:
    await points.ensure(collection, 4)
    await points.upsert(collection, ids, AXES, [{"place": f"p{n}", "n": str(n)} for n in range(4)])


async def fill_sparse(points: Points, collection: str = "i1/r1/g1/files", first: int = 10) -> None:
    await points.ensure(collection, 0)
    payloads = [{"count": str(n)} for n in range(3)]
    await points.upsert_sparse(collection, IDS[first : first + 3], WEIGHTS, payloads)


async def test_a_collection_that_does_not_exist_is_an_empty_one(points):
    assert await points.count(ONE) == 0
    assert [list(hits) for hits in await points.search(ONE, AXES[:2], 5)] == [[], []]
    assert list(await points.search_sparse(ONE, {1: 1.0}, 5)) == []
    assert await points.scan(ONE, ["n"]) == {}
    assert await points.get(ONE, IDS[:1], []) == {}
    assert await points.names("i1") == set()
    await points.delete(ONE, IDS[:1])
    await points.drop(ONE)
    await points.drop("i1")


async def test_the_nearest_comes_first_with_its_cosine_and_payload(points):
    await fill(points)
    query = np.array([[0.8, 0.6, 0, 0]], dtype=np.float32)
    [hits] = await points.search(ONE, query, 2)
    assert [hit[0] for hit in hits] == IDS[:2]
    assert [hit[1] for hit in hits] == pytest.approx([0.8, 0.6], abs=1e-6)
    assert hits[0][2] == {"place": "p0", "n": "0"}


async def test_each_row_has_an_answer_of_its_own(points):
    await fill(points)
    answers = await points.search(ONE, AXES[[2, 1]], 1)
    assert [[hit[0] for hit in hits] for hits in answers] == [[IDS[2]], [IDS[1]]]


async def test_a_sparse_search_ranks_by_the_product_and_finds_nothing_unrelated(points):
    await fill_sparse(points)
    hits = await points.search_sparse("i1/r1/g1/files", {1: 1.0, 2**32 - 1: 3.0, 8: 1.0}, 9)
    assert [(hit[0], hit[1]) for hit in hits] == [
        (IDS[10], pytest.approx(7.0, rel=1e-3)),
        (IDS[11], pytest.approx(0.5, rel=1e-3)),
    ]
    assert hits[0][2] == {"count": "0"}
    assert list(await points.search_sparse("i1/r1/g1/files", {8: 1.0, 10: 1.0}, 9)) == []
    assert list(await points.search_sparse("i1/r1/g1/files", {}, 9)) == []
    assert len(await points.search_sparse("i1/r1/g1/files", {1: 1.0}, 1)) == 1


async def test_a_sparse_search_knows_what_was_written_and_deleted_since_the_last(points):
    await fill_sparse(points)
    files = "i1/r1/g1/files"
    assert [hit[0] for hit in await points.search_sparse(files, {9: 1.0}, 9)] == [IDS[12]]
    await points.upsert_sparse(files, [IDS[20], IDS[12]], [{9: 1.0}, {9: 0.25}], [{}, {}])
    assert [hit[0] for hit in await points.search_sparse(files, {9: 1.0}, 9)] == [IDS[20], IDS[12]]
    await points.delete(files, [IDS[20]])
    assert [hit[0] for hit in await points.search_sparse(files, {9: 1.0}, 9)] == [IDS[12]]
    await points.drop(files)
    assert list(await points.search_sparse(files, {9: 1.0}, 9)) == []


async def test_a_sparse_vector_may_be_empty(points):
    await points.ensure("i1/r1/g1/files", 0)
    await points.upsert_sparse("i1/r1/g1/files", IDS[:1], [{}], [{"left_out": "minified"}])
    assert await points.scan("i1/r1/g1/files", ["left_out"]) == {IDS[0]: {"left_out": "minified"}}
    assert list(await points.search_sparse("i1/r1/g1/files", {0: 1.0}, 5)) == []


async def test_upserting_an_id_again_replaces_it(points):
    await fill(points)
    await points.upsert(ONE, IDS[:1], AXES[3:4], [{"place": "new"}])
    assert await points.count(ONE) == 4
    assert await points.get(ONE, IDS[:1], ["place", "n"]) == {IDS[0]: {"place": "new"}}
    [hits] = await points.search(ONE, AXES[3:4], 2)
    assert {hit[0] for hit in hits} == {IDS[0], IDS[3]}


async def test_upserting_nothing_does_nothing(points):
    await points.ensure(ONE, 4)
    await points.upsert(ONE, [], AXES[:0], [])
    await points.upsert_sparse("i1/r1/g1/files", [], [], [])
    await points.delete(ONE, [])
    assert await points.count("i1") == 0


async def test_points_are_told_by_their_ids_and_all_together(points):
    await fill(points)
    assert await points.get(ONE, [IDS[1], IDS[9]], ["n"]) == {IDS[1]: {"n": "1"}}
    assert await points.get(ONE, [IDS[1]], []) == {IDS[1]: {}}
    assert await points.scan(ONE, ["n", "nothing"]) == {IDS[n]: {"n": str(n)} for n in range(4)}
    assert await points.scan(ONE, []) == {IDS[n]: {} for n in range(4)}


async def test_a_deletion_removes_what_is_named_and_nothing_else(points):
    await fill(points)
    await points.delete(ONE, [IDS[0], IDS[9]])
    assert await points.count(ONE) == 3
    assert (await points.scan(ONE, [])).keys() == set(IDS[1:4])
    [hits] = await points.search(ONE, AXES[:1], 9)
    assert IDS[0] not in {hit[0] for hit in hits}
    await points.upsert(ONE, IDS[:1], AXES[:1], [{"n": "again"}])
    assert await points.get(ONE, IDS[:1], ["n"]) == {IDS[0]: {"n": "again"}}


async def test_collections_know_nothing_of_each_other(points):
    await fill(points)
    await points.ensure(TWO, 4)
    assert await points.count(TWO) == 0
    assert [list(hits) for hits in await points.search(TWO, AXES[:1], 5)] == [[]]
    assert await points.get(TWO, IDS[:4], ["n"]) == {}
    await points.delete(TWO, IDS[:4])
    await points.drop(TWO)
    assert await points.count(ONE) == 4


async def test_a_folder_is_counted_and_dropped_with_all_inside(points):
    await fill(points)
    await fill_sparse(points)
    await fill(points, TWO, IDS[20:24])
    await fill(points, OTHER, IDS[30:34])
    assert await points.names("i1/r1") == {ONE, "i1/r1/g1/files"}
    assert await points.names("i1") == {ONE, "i1/r1/g1/files", TWO}
    assert [await points.count(name) for name in ("i1", "i1/r1", "i1/r1/g1/files", "i2")] == [11, 7, 3, 4]
    await points.drop("i1/r1")
    assert [await points.count(name) for name in ("i1", "i1/r1", "i2")] == [4, 0, 4]
    await points.drop("i1")
    assert await points.names("i1") == set()
    assert await points.count("i2") == 4


async def test_a_name_that_begins_like_another_is_not_inside_of_it(points):
    await fill(points, "i1/r1/g1/chunks")
    await fill(points, "i1/r11/g1/chunks", IDS[20:24])
    assert await points.count("i1/r1") == 4
    await points.drop("i1/r1")
    assert await points.count("i1/r11") == 4


async def test_ensuring_twice_keeps_the_points_and_another_dimension_empties_them(points):
    await fill(points)
    await points.ensure(ONE, 4)
    assert await points.count(ONE) == 4
    await points.ensure(ONE, 6)
    assert await points.count(ONE) == 0
    await points.upsert(ONE, IDS[:1], np.eye(6, dtype=np.float32)[:1], [{"n": "x"}])
    assert await points.count(ONE) == 1
    await points.ensure(ONE, 0)
    assert await points.count(ONE) == 0


async def test_what_was_dropped_can_be_made_again(points):
    await fill(points)
    await points.drop("i1")
    await fill(points)
    assert await points.count("i1") == 4


async def test_many_points_are_all_told(points):
    await points.ensure(ONE, 4)
    ids = [str(uuid.UUID(int=n + 1, version=4)) for n in range(1500)]
    vectors = np.tile(AXES[:1], (1500, 1))
    await points.upsert(ONE, ids, vectors, [{"n": str(n)} for n in range(1500)])
    assert {payload["n"] for payload in (await points.scan(ONE, ["n"])).values()} == {
        str(n) for n in range(1500)
    }
    assert len(await points.get(ONE, ids, [])) == await points.count(ONE) == 1500
    await points.delete(ONE, ids)
    assert await points.count(ONE) == 0
