"""What `embeddings.collection.Points` promises, on every implementation that needs no server."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from embeddings.collection import Points
from infra.qdrant import QdrantPoints

AXES = np.eye(4, dtype=np.float32)
IDS = [str(uuid.UUID(int=n + 1, version=4)) for n in range(4)]


@pytest.fixture(params=["folder", "memory", "one collection for all"])
async def points(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Points]:
    store = {
        "folder": lambda: QdrantPoints(path=tmp_path / "qdrant"),
        "memory": QdrantPoints,
        "one collection for all": lambda: QdrantPoints(shared=True),
    }[request.param]()
    yield store
    await store.close()


async def fill(points: Points, collection: str = "one") -> None:
    await points.ensure(collection, 4)
    payloads = [{"repository": "r1" if n < 3 else "r2", "file": f"f{n // 2}", "n": str(n)} for n in range(4)]
    await points.upsert(collection, IDS, AXES, payloads)


async def test_a_collection_that_does_not_exist_is_an_empty_one(points):
    assert await points.count("none", {}) == 0
    assert list(await points.search("none", AXES[0], {}, 5)) == []
    assert await points.values("none", "file", {}) == set()
    await points.delete("none", {"file": "f"})
    await points.drop("none")


async def test_the_nearest_comes_first_with_its_cosine_and_payload(points):
    await fill(points)
    query = np.array([0.8, 0.6, 0, 0], dtype=np.float32)
    hits = list(await points.search("one", query, {}, 2))
    assert [hit[0] for hit in hits] == IDS[:2]
    assert [hit[1] for hit in hits] == pytest.approx([0.8, 0.6], abs=1e-6)
    assert hits[0][2]["n"] == "0"


async def test_a_search_is_narrowed_by_what_it_is_given(points):
    await fill(points)
    assert [hit[0] for hit in await points.search("one", AXES[0], {"repository": "r2"}, 9)] == [IDS[3]]
    both = await points.search("one", AXES[0], {"repository": "r1", "file": ["f1", "f7"]}, 9)
    assert [hit[0] for hit in both] == [IDS[2]]


async def test_upserting_an_id_again_replaces_it(points):
    await fill(points)
    await points.upsert("one", IDS[:1], AXES[3:4], [{"repository": "r9", "file": "new"}])
    assert await points.count("one", {}) == 4
    assert await points.values("one", "file", {"repository": "r9"}) == {"new"}
    assert await points.values("one", "n", {"repository": "r9"}) == set()


async def test_upserting_nothing_does_nothing(points):
    await points.ensure("one", 4)
    await points.upsert("one", [], AXES[:0], [])
    assert await points.count("one", {}) == 0


async def test_the_values_of_a_field_are_told(points):
    await fill(points)
    assert await points.values("one", "file", {}) == {"f0", "f1"}
    assert await points.values("one", "file", {"repository": "r2"}) == {"f1"}


async def test_a_deletion_removes_what_matches_and_nothing_else(points):
    await fill(points)
    await points.delete("one", {"repository": "r1", "file": ["f0"]})
    assert await points.count("one", {}) == 2
    assert await points.count("one", {"file": "f0"}) == 0


async def test_a_deletion_without_conditions_empties_the_collection(points):
    await fill(points)
    await fill(points, "two")
    await points.delete("one", {})
    assert await points.count("one", {}) == 0
    assert await points.count("two", {}) == 4


async def test_collections_know_nothing_of_each_other(points):
    await fill(points)
    await points.ensure("two", 4)
    assert await points.count("two", {}) == 0
    assert list(await points.search("two", AXES[0], {}, 5)) == []
    await points.drop("two")
    assert await points.count("one", {}) == 4
    await points.drop("one")
    assert await points.count("one", {}) == 0


async def test_ensuring_twice_keeps_the_points_and_another_dimension_empties_them(points):
    await fill(points)
    await points.ensure("one", 4)
    assert await points.count("one", {}) == 4
    await points.ensure("one", 6)
    assert await points.count("one", {}) == 0
    await points.upsert("one", IDS[:1], np.ones((1, 6), dtype=np.float32), [{"file": "x"}])
    assert await points.count("one", {}) == 1


async def test_many_points_are_all_told(points):
    await points.ensure("one", 4)
    ids = [str(uuid.UUID(int=n + 1, version=4)) for n in range(1500)]
    vectors = np.tile(AXES[:1], (1500, 1))
    await points.upsert("one", ids, vectors, [{"file": str(n)} for n in range(1500)])
    assert len(await points.values("one", "file", {})) == 1500
    assert await points.count("one", {}) == 1500
