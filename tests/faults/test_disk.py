"""Disks are full, memory-backed space is short, file descriptors run out: visible, nothing half, and over once there is room."""

from __future__ import annotations

import asyncio
import os
import resource
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from app.errors import MagicodeError
from app.nouns import RunState
from embeddings.repository import RepositoryIndex
from infra.objects.folder import FolderObjects
from infra.qdrant import QdrantPoints
from infra.secrets.file import FileMasterKey
from tests.claims import claim
from tests.faults.processes import service
from tests.faults.promises import kept, quiet
from tests.line.conftest import Stages, Words
from tests.line.conversations import ask, ended_well_told, notes, reasons
from tests.line.stage import Stage

GROUP = "What lies around it fails"

SOON = timedelta(milliseconds=200)


@contextmanager
def small(folder: Path, size: str) -> Iterator[Path]:
    """A file system of so much memory; skipped where none can be mounted."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", str(folder)],
        check=False,
        capture_output=True,
    )
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Nothing more fits."""
    path = folder / "other people's"
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return path


@claim(
    GROUP,
    "A repository is larger than all the memory-backed space that there is",
    "Refused at once with both sizes named; nothing is left behind, and a smaller one is worked on",
)
async def test_a_tree_that_can_never_fit_is_refused(
    raise_stage: Stages, sample: Path, tmp_path: Path
) -> None:
    (sample / "large.bin").write_bytes(os.urandom(3 << 20))
    with small(tmp_path / "memory", "4m") as root:
        stage = await raise_stage(
            {"octo/fairshare": sample}, notes(), working=False, environ={"MAGICODE_WORKSPACE_DIR": str(root)}
        )
        async with stage.at_work():
            await ask(stage)
            (run,) = await stage.ended()
            await quiet(stage)
        assert (run.state, run.reason) == (RunState.REFUSED, "repository_too_large_here")
        assert "4194304 bytes" in await ended_well_told(stage, run)
        assert list(root.iterdir()) == []
        await kept(stage, runs=1)


@claim(
    GROUP,
    "The memory-backed space is full of others' trees when a run begins",
    "The run waits, leaves nothing behind, and is done once there is room",
)
async def test_a_tree_that_does_not_fit_now_waits(raise_stage: Stages, sample: Path, tmp_path: Path) -> None:
    with small(tmp_path / "memory", "8m") as root:
        stage = await raise_stage(
            {"octo/fairshare": sample}, notes(), working=False, environ={"MAGICODE_WORKSPACE_DIR": str(root)}
        )
        others = fill(root)
        failed = asyncio.Event()

        def again(*_: object) -> timedelta:
            failed.set()
            return SOON

        async with stage.at_work(retry_after=again):
            await ask(stage)
            async with asyncio.timeout(100):
                await failed.wait()
            assert list(root.iterdir()) == [others]
            others.unlink()
            (run,) = await stage.ended()
            await quiet(stage)
        assert run.state is RunState.OPENED
        assert list(root.iterdir()) == []
        await kept(stage, runs=1)


@claim(
    GROUP,
    "The disk is full while an export is written, and while the master key's file is made",
    "Neither is there half: no export, no key, no draft; both are made once there is room",
)
async def test_nothing_is_half_written_on_a_full_disk(tmp_path: Path) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield bytes(1 << 16)

    with small(tmp_path / "disk", "1m") as folder:
        objects = FolderObjects(folder / "exports")
        with pytest.raises(MagicodeError):
            await objects.put("1/export", pieces())
        assert await objects.names("1") == []
        filled = fill(folder)
        with pytest.raises(MagicodeError):
            FileMasterKey(folder / "master.key")
        assert not [path for path in folder.iterdir() if "master.key" in path.name]
        filled.unlink()
        key = FileMasterKey(folder / "master.key")
        assert FileMasterKey(folder / "master.key").id == key.id


@asynccontextmanager
async def with_index_on(stage: Stage, folder: Path) -> AsyncIterator[None]:
    points = QdrantPoints(path=folder)

    def index(key: bytes, installation_id: int, repository_id: int) -> RepositoryIndex:
        return RepositoryIndex(points, Words(), key, installation_id, repository_id)

    before, stage.house = stage.house, replace(stage.house, index=index, points=points)
    try:
        yield
    finally:
        stage.house = before
        await points.close()


@claim(
    GROUP,
    "The disk of the local index is full",
    "The run goes on without an index; the next one has it once there is room",
)
async def test_an_index_that_has_no_room_fails_no_request(
    raise_stage: Stages, sample: Path, tmp_path: Path
) -> None:
    stage = await raise_stage({"octo/fairshare": sample}, notes(), working=False)
    with small(tmp_path / "disk", "3m") as folder:
        filled = fill(folder)
        async with with_index_on(stage, folder / "qdrant"), stage.at_work():
            await ask(stage)
            await stage.ended()
            filled.unlink()
            await ask(stage)
            runs = await stage.ended(2)
            await quiet(stage)
    assert [run.state for run in runs] == [RunState.OPENED, RunState.OPENED], reasons(runs)
    updates = [dict(one.details or {}) for one in await stage.log() if one.action == "index.updated"]
    assert updates[0] == {"failed": "qdrant_away"}
    assert updates[-1]["files"] > 0
    await kept(stage, runs=2)


@pytest.mark.long
@claim(
    GROUP,
    "A working process has no file descriptor left (RLIMIT_NOFILE)",
    "No request is lost: what it cannot do it tries again, or another does, and each ends once",
)
async def test_a_process_without_file_descriptors_loses_no_request(raise_stage: Stages, sample: Path) -> None:
    stage = await raise_stage({"octo/fairshare": sample}, notes(), working=False)
    async with service(stage, name="starved", heartbeat=0.5, stalled_after=3, retry=0.5, tries=100) as worker:
        _limit(worker.pid, _open(worker.pid) + 1)
        await ask(stage)
        await ask(stage)
        await asyncio.sleep(5)
        _limit(worker.pid, 1024)
        runs = await stage.ended(2)
        await quiet(stage)
        await worker.stop()
    assert {run.state for run in runs} == {RunState.OPENED}, reasons(runs)
    await kept(stage, runs=2)


def _limit(pid: int, files: int) -> None:
    _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (files, hard))


def _open(pid: int) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
