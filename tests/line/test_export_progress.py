"""How far an export is stands in its row while it is written, for the page that shows it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from app import exporting
from app.custody import zipping
from app.custody.export import Contents, Made, archive
from app.nouns import Action, DataExport
from tests.line.conftest import Stages
from tests.line.conversations import notes
from tests.line.stage import Stage


async def row(stage: Stage) -> DataExport:
    async with stage.house.store.transaction(stage.installation) as transaction:
        (found,) = await transaction.exports()
    return found


async def test_who_waits_for_an_export_sees_how_far_it_is(
    raise_stage: Stages, sample: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "TOLD_EVERY", timedelta(0))
    stage = await raise_stage({"octo/fairshare": sample}, notes(), working=False)
    for number in range(40):
        facts = {"what": "log", "number": number}
        await stage.house.ledger.record(stage.installation, Action.DATA_LOOKED, "ada", None, facts)
    asked = await exporting.ask(stage.house, stage.installation, "ada")
    seen: list[int] = []

    async def watched(contents: Contents, into: Made) -> AsyncIterator[bytes]:
        async for piece in archive(contents, into):
            seen.append((await row(stage)).percent)
            yield piece

    monkeypatch.setattr(exporting, "archive", watched)
    monkeypatch.setattr(zipping, "PIECE_BYTES", 256)
    await exporting.make(stage.house, stage.installation, asked.id)
    assert seen == sorted(seen)
    assert seen[0] == 0
    assert seen[-1] == 99
    assert len({one for one in seen if 0 < one < 99}) > 1
    assert ((await row(stage)).state, (await row(stage)).percent) == ("made", 100)


async def test_one_that_is_made_is_not_said_to_be_less(raise_stage: Stages, sample: Path) -> None:
    """A worker that was thought dead goes on writing for nobody."""
    stage = await raise_stage({"octo/fairshare": sample}, notes(), working=False)
    asked = await exporting.ask(stage.house, stage.installation, "ada")
    await exporting.make(stage.house, stage.installation, asked.id)
    async with stage.house.store.transaction(stage.installation) as transaction:
        await transaction.export_written(asked.id, 40)
    assert (await row(stage)).percent == 100
