"""Qdrant is away, hangs, forgets, answers nonsense, its folder is lost, damaged or somebody else's: no request fails for that."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from qdrant_client import models

from app.nouns import RunState
from embeddings.repository import RepositoryIndex
from infra.qdrant import QdrantPoints
from tests.claims import case, claim
from tests.faults.promises import kept, quiet
from tests.line.conftest import Stages, Words
from tests.line.conversations import ask, logged, notes, reasons
from tests.line.stage import Stage
from tests.qdrant_server import QdrantServer, running

GROUP = "What lies around it fails"


@pytest.fixture
async def qdrant() -> AsyncIterator[QdrantServer]:
    async with running() as server:
        yield server


@asynccontextmanager
async def with_points(stage: Stage, points: QdrantPoints) -> AsyncIterator[None]:
    """The stage's house with this store in the place of its own."""

    def index(key: bytes, installation_id: int, repository_id: int) -> RepositoryIndex:
        return RepositoryIndex(points, Words(), key, installation_id, repository_id)

    before = stage.house
    stage.house = replace(before, index=index, points=points)
    try:
        yield
    finally:
        stage.house = before
        await points.close()


async def asked_and_done(stage: Stage, count: int) -> None:
    await ask(stage)
    runs = await stage.ended(count)
    await quiet(stage)
    assert {run.state for run in runs} == {RunState.OPENED}, reasons(runs)
    assert {run.attempt for run in runs} == {1}, "it is not even tried again for that"


async def indexed(stage: Stage) -> list[dict[str, Any]]:
    return await logged(stage, "index.updated")


OUTCOME = "The run goes on with what names and words find, its log says that there was no index, and the next run has one again"


@pytest.mark.parametrize(
    ("how", "after"),
    [
        case(GROUP, f"A Qdrant server {what}", OUTCOME, how, after)
        for what, how, after in (
            ("answers 503", 503, 0),
            ("answers 429 with a delay", 429, 0),
            ("answers 500 from its fifth request on", 500, 4),
            ("takes requests and says nothing", "silent", 0),
            ("answers with a web page", "garbled", 0),
            ("loses all collections in mid-run", "lost", 12),
        )
    ],
)
async def test_a_qdrant_server_in_trouble_fails_no_request(
    raise_stage: Stages, sample: Path, qdrant: QdrantServer, how: int | str, after: int
) -> None:
    stage = await raise_stage({"octo/fairshare": sample}, notes(), working=False)
    async with with_points(stage, QdrantPoints(url=qdrant.url, timeout_seconds=1)), stage.at_work():
        qdrant.how, qdrant.after = how, after
        await asked_and_done(stage, 1)
        assert any("failed" in one for one in await indexed(stage)), await indexed(stage)
    qdrant.how = None
    async with with_points(stage, QdrantPoints(url=qdrant.url)), stage.at_work():
        await asked_and_done(stage, 2)
        rebuilt = (await indexed(stage))[-1]
        assert rebuilt.get("files", 0) > 0, "and the next one has an index again"
    await kept(stage, runs=2)


@claim(
    GROUP,
    "A Qdrant server's collection has the right name and vectors of another dimension",
    "The run goes on without an index, and its log says so",
)
async def test_a_collection_of_another_dimension_fails_no_request(
    raise_stage: Stages, sample: Path, qdrant: QdrantServer
) -> None:
    wrong = models.VectorParams(size=3, distance=models.Distance.DOT)
    qdrant.client.create_collection(f"magicode-{Words.dimension}", vectors_config={"dense": wrong})
    stage = await raise_stage({"octo/fairshare": sample}, notes(), working=False)
    async with with_points(stage, QdrantPoints(url=qdrant.url)), stage.at_work():
        await asked_and_done(stage, 1)
        assert (await indexed(stage))[-1] == {"failed": "qdrant_refused"}
    await kept(stage, runs=1)


@claim(GROUP, "A Qdrant server is not there at all (connection refused)", OUTCOME)
async def test_a_qdrant_server_that_is_away_fails_no_request(raise_stage: Stages, sample: Path) -> None:
    stage = await raise_stage({"octo/fairshare": sample}, notes(), working=False)
    async with with_points(stage, QdrantPoints(url="http://127.0.0.1:1")), stage.at_work():
        await asked_and_done(stage, 1)
        assert (await indexed(stage))[-1] == {"failed": "qdrant_away"}
    await kept(stage, runs=1)


# --- the local folder ------------------------------------------------------------------------------------------------


def files_of(root: Path, name: str) -> list[Path]:
    found = list(root.rglob(name))
    assert found
    return found


def lost(root: Path) -> None:
    shutil.rmtree(root)


def cut_short(root: Path) -> None:
    for one in files_of(root, "meta.json"):
        one.write_text(one.read_text()[: one.stat().st_size // 2])


def overwritten(root: Path) -> None:
    for one in files_of(root, "storage.sqlite"):
        one.write_bytes(b"\x00not a database" * 1000)


def flipped(root: Path) -> None:
    """Bytes in the middle of a page of points."""
    for one in files_of(root, "storage.sqlite"):
        content = bytearray(one.read_bytes())
        for place in range(200, len(content), 97):
            content[place] ^= 0xFF
        one.write_bytes(content)


@pytest.mark.parametrize(
    "breaks",
    [
        case(GROUP, f"The local index's {what} between two runs", "It is rebuilt by the next request", breaks)
        for what, breaks in (
            ("folder is lost", lost),
            ("list of collections is cut short", cut_short),
            ("files are overwritten", overwritten),
            ("files have bits flipped", flipped),
        )
    ],
)
async def test_a_lost_or_damaged_folder_is_rebuilt(
    raise_stage: Stages, sample: Path, tmp_path: Path, breaks: Callable[[Path], None]
) -> None:
    root = tmp_path / "vectors"
    stage = await raise_stage({"octo/fairshare": sample}, notes(), working=False)
    async with with_points(stage, QdrantPoints(path=root)), stage.at_work():
        await asked_and_done(stage, 1)
    before = (await indexed(stage))[-1]
    breaks(root)
    async with with_points(stage, QdrantPoints(path=root)), stage.at_work():
        await asked_and_done(stage, 2)
    assert (await indexed(stage))[-1]["files"] == before["files"]
    assert (await indexed(stage))[-1]["embedded"] == before["embedded"], "all of it was embedded anew"
    await kept(stage, runs=2)


@claim(
    GROUP,
    "The local index's folder is removed under the running service",
    "The next request builds it anew in its place, not into files that nobody can find again",
)
async def test_a_folder_removed_under_the_service_is_rebuilt(
    raise_stage: Stages, sample: Path, tmp_path: Path
) -> None:
    root = tmp_path / "vectors"
    stage = await raise_stage({"octo/fairshare": sample}, notes(), working=False)
    async with with_points(stage, QdrantPoints(path=root)), stage.at_work():
        await asked_and_done(stage, 1)
        shutil.rmtree(root)
        await asked_and_done(stage, 2)
        first, second = await indexed(stage)
        assert second["embedded"] == first["embedded"]
        assert files_of(root, "storage.sqlite")
    await kept(stage, runs=2)


@claim(
    GROUP,
    "Another process holds the local index's folder",
    "The run goes on without an index, nothing of the other's is removed, and the log says so",
)
async def test_a_folder_of_somebody_elses_is_left_alone(
    raise_stage: Stages, sample: Path, tmp_path: Path
) -> None:
    root = tmp_path / "vectors"
    stage = await raise_stage({"octo/fairshare": sample}, notes(), working=False)
    async with with_points(stage, QdrantPoints(path=root)), stage.at_work():
        await asked_and_done(stage, 1)
    held = QdrantPoints(path=root)
    shelf = next(path for path in root.rglob("meta.json"))
    inside = shelf.parent.relative_to(root).as_posix()
    await held.scan(f"{inside}/chunks", [])
    async with with_points(stage, QdrantPoints(path=root)), stage.at_work():
        await asked_and_done(stage, 2)
        assert (await indexed(stage))[-1] == {"failed": "folder_in_use"}
    assert await held.count(f"{inside}/chunks") > 0
    await held.close()
    await kept(stage, runs=2)
