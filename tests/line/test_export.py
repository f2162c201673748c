"""An export from the comment to the ZIP, on the whole service."""

from __future__ import annotations

import asyncio
import csv
import hashlib
import io
import json
import zipfile
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest

from app.actionlog.anchors import Anchor
from app.exporting import open_export
from app.nouns import Action, DataExport, RunState
from tests.line.conftest import Stages
from tests.line.conversations import ask, notes, ours
from tests.line.stage import Stage


@pytest.fixture
async def stage(raise_stage: Stages, sample: Path) -> Stage:
    return await raise_stage({"octo/fairshare": sample}, notes())


async def exports(stage: Stage) -> list[DataExport]:
    async with stage.house.store.transaction(stage.installation) as transaction:
        return list(await transaction.exports())


async def exported(stage: Stage, number: int) -> tuple[DataExport, str]:
    """The export, and what its answer says once it says that the export is there."""
    async with asyncio.timeout(60):
        while True:
            said = [one for one in await ours(stage, number) if "Your export is ready" in one]
            if said:
                (export,) = await exports(stage)
                return export, said[0]
            await asyncio.sleep(0.05)


async def unzipped(stage: Stage, export: DataExport) -> zipfile.ZipFile:
    _, pieces = await open_export(stage.house, stage.installation, export.id)
    return zipfile.ZipFile(io.BytesIO(b"".join([piece async for piece in pieces])))


async def test_an_administrators_comment_makes_an_export_that_only_a_private_link_leads_to(
    stage: Stage,
) -> None:
    number = await ask(stage)
    (fixed,) = await stage.ended()
    assert fixed.state is RunState.OPENED
    await stage.comment(number, "@magicode export", user="ada")
    export, said = await exported(stage, number)
    assert f"{stage.house.public_url}/installations/{stage.installation}/exports/{export.id}" in said
    assert str(export.sha256) in said
    assert (export.state, export.asked_by) == ("made", "ada")
    assert export.expires_at is not None
    assert export.made_at is not None
    assert export.expires_at - export.made_at == timedelta(days=7)
    assert "fairshare" not in said

    archive = await unzipped(stage, export)
    assert archive.testzip() is None
    manifest = json.loads(archive.read("manifest.json"))
    for one in manifest["files"]:
        data = archive.read(one["name"])
        assert hashlib.sha256(data).hexdigest() == one["sha256"], one["name"]
        assert len(data) == one["bytes"]
    assert sorted([*(one["name"] for one in manifest["files"]), "manifest.json"]) == sorted(
        archive.namelist()
    )
    runs = list(csv.DictReader(io.StringIO(archive.read("runs.csv").decode(), newline="")))
    assert sorted(run["verb"] for run in runs) == ["export", "fix"]
    used = list(csv.DictReader(io.StringIO(archive.read("usage.csv").decode(), newline="")))
    assert sum(int(row["input_tokens"]) for row in used) == fixed.input_tokens > 0
    assert sum(int(row["calls"]) for row in used) > 0
    assert [row["vectors"] > 0 for row in json.loads(archive.read("vectors.json"))]

    log = await stage.log()
    head = Anchor.parse(manifest["log_head"])
    lines = [json.loads(line) for line in archive.read("actions.jsonl").splitlines()]
    assert len(lines) == head.seq
    assert lines[-1]["hash"] == head.hash == log[len(lines) - 1].hash
    (entry,) = [one for one in log if one.action == Action.DATA_EXPORTED]
    assert entry.actor == "ada"
    assert entry.details is not None
    assert entry.details["sha256"] == export.sha256
    assert entry.details["bytes"] == export.size


async def test_nothing_of_it_lies_open_at_rest(stage: Stage) -> None:
    number = await ask(stage, "@magicode export", user="ada")
    export, _ = await exported(stage, number)
    (name,) = await stage.house.objects.names(str(stage.installation))
    assert name == export.place
    kept = b"".join([piece async for piece in stage.house.objects.get(name)])
    _, pieces = await open_export(stage.house, stage.installation, export.id)
    whole = b"".join([piece async for piece in pieces])
    for plain in (whole[:8], b"runs.csv", b"README", b"octo/"):
        assert plain not in kept
    files = [path for path in stage.folder.rglob("*") if path.is_file() and "github" not in path.parts]
    assert not [path for path in files if zipfile.is_zipfile(path)]


@pytest.mark.parametrize("user", ["wim", "rita"])
async def test_who_does_not_administer_the_installation_gets_nothing(stage: Stage, user: str) -> None:
    number = await ask(stage, "@magicode export", user=user)
    (run,) = await stage.ended()
    assert (run.state, run.reason) in (
        (RunState.REFUSED, "not_an_administrator"),
        (RunState.REFUSED, "no_write_permission"),
    )
    assert await exports(stage) == []
    assert await stage.house.objects.names(str(stage.installation)) == []
    assert len(await ours(stage, number)) == 1


async def test_a_second_one_while_one_is_made_is_told_of_the_first(raise_stage: Stages, sample: Path) -> None:
    stage = await raise_stage({"octo/fairshare": sample}, notes(), working=False)
    number = await stage.open_issue("All of it")
    async with stage.house.store.transaction(stage.installation) as transaction:
        first = DataExport(UUID(int=7), "asked", "ada", stage.house.clock())
        await transaction.put_export(first)
    await stage.comment(number, "@magicode export", user="ada")
    async with stage.at_work():
        (run,) = await stage.ended()
    assert (run.state, run.reason) == (RunState.ANSWERED, "export_underway")
    assert [one.id for one in await exports(stage)] == [first.id]
    assert str(first.id) in (await ours(stage, number))[-1]


async def test_without_a_web_address_the_answer_says_how_the_operator_fetches_it(
    raise_stage: Stages, sample: Path
) -> None:
    stage = await raise_stage({"octo/fairshare": sample}, notes(), working=False)
    stage.house = replace(stage.house, public_url=None)
    number = await ask(stage, "@magicode export", user="ada")
    async with stage.at_work():
        _, said = await exported(stage, number)
    assert f"`magicode data export --installation {stage.installation} --out FILE.zip`" in said
    assert "http" not in said
