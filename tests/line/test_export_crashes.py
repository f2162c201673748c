"""An export whose process ends at any one place is finished by the next: one object, one row, one comment."""

from __future__ import annotations

import asyncio
import hashlib
import io
import zipfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from app import exporting
from app.actionlog.ledger import Ledger
from app.errors import SupersededError
from app.exporting import open_export
from app.house import House
from app.nouns import Action, Run, RunState
from app.worker import tasks
from infra.objects.folder import FolderObjects
from tests.app.custody.fuse import CrashError, Fuse, Fused, FusedGitHub, FusedStore
from tests.line.conftest import Stages
from tests.line.conversations import notes, ours
from tests.line.stage import Stage


@pytest.fixture
async def stage(raise_stage: Stages, sample: Path) -> Stage:
    stage = await raise_stage({"octo/fairshare": sample}, notes(), working=False)
    # Hundreds of requests in a minute are what is tested here.
    limits = stage.github.world.limits
    limits.content_per_minute = limits.content_per_hour = limits.points_per_minute = 1_000_000
    limits.installation_per_hour = limits.user_per_hour = 1_000_000
    return stage


def fused(house: House, fuse: Fuse) -> House:
    store: Any = FusedStore(house.store, fuse)
    github: Any = FusedGitHub(house.github, fuse)
    objects: Any = Fused(house.objects, fuse)
    ledger = Ledger(store, house.keys, house.clock)
    return replace(house, store=store, github=github, objects=objects, ledger=ledger)


async def asked(stage: Stage) -> tuple[int, Run]:
    """An administrator's request, accepted and not begun."""
    number = await stage.open_issue("All of it")
    await stage.comment(number, "@magicode export", user="ada")
    await stage.settled()
    (run,) = [run for run in await stage.runs() if run.number == number]
    return number, run


async def play(house: House, run: Run) -> None:
    """The jobs that are on the queue for it, as a worker takes them up: also again, after a crash."""
    async with house.store.transaction(run.installation_id) as transaction:
        now = await transaction.run(run.id)
    assert now is not None
    if not now.state.ended:
        await tasks(house)["work"](installation_id=run.installation_id, run_id=run.id)
    await exporting.make(house, run.installation_id, run.id)


async def finished(stage: Stage, number: int, run: Run) -> None:
    """What must be, whatever happened before."""
    async with stage.house.store.transaction(stage.installation) as transaction:
        (export,) = [one for one in await transaction.exports() if one.id == run.id]
    names = await stage.house.objects.names(str(stage.installation))
    assert [name for name in names if str(run.id) in name] == [export.place]
    assert not list(stage.folder.rglob(".draft-*"))
    (said,) = await ours(stage, number)
    assert "Your export is ready" in said
    assert str(export.sha256) in said
    _, pieces = await open_export(stage.house, stage.installation, export.id)
    whole = b"".join([piece async for piece in pieces])
    assert hashlib.sha256(whole).hexdigest() == export.sha256
    archive = zipfile.ZipFile(io.BytesIO(whole))
    assert archive.testzip() is None
    names = archive.namelist()
    assert min(map(len, names)) >= 8
    entries = [
        one
        for one in await stage.log()
        if one.action == Action.DATA_EXPORTED and (one.details or {}).get("export") == str(run.id)
    ]
    assert len(entries) == 1
    for path in (stage.folder / "data" / "exports").rglob("*"):
        # Not four bytes alone, which stand in one of some thousand sealed ones by chance.
        plain = [whole[:8], *(one.encode() for one in names)]
        assert path.is_dir() or not [one for one in plain if one in path.read_bytes()]


async def effects(stage: Stage) -> Sequence[str]:
    """Every effect of one whole export, from the request to the last word, in order: found by doing it."""
    fuse = Fuse()
    number, run = await asked(stage)
    await play(fused(stage.house, fuse), run)
    await finished(stage, number, run)
    return fuse.met


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_a_crash_at_every_single_effect_ends_in_one_export(stage: Stage, after: bool) -> None:
    met = await effects(stage)
    assert {"FolderObjects.put", "GitHub.minted", "commit"} <= set(met)
    assert len(met) > 30, met
    for at, name in enumerate(met):
        number, run = await asked(stage)
        with pytest.raises(CrashError):
            await play(fused(stage.house, Fuse(at, after)), run)
        try:
            await play(stage.house, run)
            await finished(stage, number, run)
        except AssertionError as error:
            raise AssertionError(f"{name} ({at})") from error


class Dying(FolderObjects):
    """The process ends in the middle of a write: what lies there already is tidied up by nobody."""

    async def put(self, name: str, pieces: AsyncIterator[bytes]) -> int:
        path = self._path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.with_name(f".draft-{path.name}-0123456789abcdef").open("wb") as file:
            async for piece in pieces:
                file.write(piece)
                raise CrashError("in the middle of put")
        raise AssertionError


async def test_a_crash_in_the_middle_of_writing_leaves_nothing_behind(stage: Stage) -> None:
    number, run = await asked(stage)
    dying = replace(stage.house, objects=Dying(stage.folder / "data" / "exports"))
    for _ in range(2):
        with pytest.raises(CrashError):
            await play(dying, run)
    assert list(stage.folder.rglob(".draft-*"))
    await play(stage.house, run)
    await finished(stage, number, run)


async def test_a_worker_that_was_thought_dead_and_comes_back_changes_nothing(stage: Stage) -> None:
    number, run = await asked(stage)

    class Late(Fused):
        """Another worker finishes while this one writes."""

        async def put(self, name: str, pieces: AsyncIterator[bytes]) -> int:
            size = int(await self.inner.put(name, pieces))
            await play(stage.house, run)
            return size

    late: Any = Late(stage.house.objects, Fuse())
    with pytest.raises(SupersededError):
        await play(replace(stage.house, objects=late), run)
    await finished(stage, number, run)


async def test_a_worker_that_comes_back_while_another_one_writes_hands_out_nothing_of_its_own(
    stage: Stage,
) -> None:
    number, run = await asked(stage)
    await tasks(stage.house)["work"](installation_id=run.installation_id, run_id=run.id)
    comes_back, has_noted = asyncio.Event(), asyncio.Event()

    class First(Fused):
        """Has written, and is not heard of until another one writes."""

        async def put(self, name: str, pieces: AsyncIterator[bytes]) -> int:
            size = int(await self.inner.put(name, pieces))
            comes_back.set()
            await has_noted.wait()
            return size

    class Second(Fused):
        async def put(self, name: str, pieces: AsyncIterator[bytes]) -> int:
            has_noted.set()
            await asyncio.wait([first])
            return int(await self.inner.put(name, pieces))

    slow: Any = First(stage.house.objects, Fuse())
    quick: Any = Second(stage.house.objects, Fuse())
    made = partial(exporting.make, installation_id=run.installation_id, export_id=run.id)
    first = asyncio.create_task(made(replace(stage.house, objects=slow)))
    await comes_back.wait()
    await made(replace(stage.house, objects=quick))
    with pytest.raises(SupersededError):
        await first
    await finished(stage, number, run)


async def test_one_that_cannot_be_made_says_so_and_leaves_nothing(stage: Stage) -> None:
    number, run = await asked(stage)
    await tasks(stage.house)["work"](installation_id=run.installation_id, run_id=run.id)
    await stage.house.objects.put(f"{stage.installation}/{run.id}-half", _one())
    for _ in range(2):
        await exporting.give_up(stage.house, stage.installation, run.id)
    async with stage.house.store.transaction(stage.installation) as transaction:
        (export,) = await transaction.exports()
    assert export.state == "failed"
    assert await stage.house.objects.names(str(stage.installation)) == []
    (said,) = await ours(stage, number)
    assert "No export" in said
    await exporting.make(stage.house, stage.installation, run.id)
    assert await stage.house.objects.names(str(stage.installation)) == []
    (ended,) = await stage.runs()
    assert ended.state is RunState.ANSWERED


async def _one() -> AsyncIterator[bytes]:
    yield b"half"
