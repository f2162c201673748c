"""The master key is rotated again and again while a request is worked on."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

from app.actionlog.ledger import Ledger
from app.actionlog.verify import verify
from app.custody.keys import Keys
from app.custody.rotation import Rotation
from app.demo import COMMENT, ISSUE_BODY, ISSUE_TITLE
from app.nouns import Action, RunState
from infra.models.playbook import Playbook
from infra.secrets import FileMasterKey
from tests.line.conftest import Stages
from tests.line.stage import Stage


async def rotate(stage: Stage, settle_seconds: float) -> None:
    """As another process does it."""
    master, store = FileMasterKey(stage.folder / "data" / "master.key"), stage.house.store
    keys = Keys(master)
    ledger = Ledger(store, keys, lambda: datetime.now(UTC))
    await Rotation(store, master, keys, ledger, settle_seconds=settle_seconds).run("operator")


async def test_a_request_ends_as_always_while_the_master_key_is_rotated(
    raise_stage: Stages, sample: Path, sample_playbook: Playbook
) -> None:
    stage = await raise_stage({"octo/fairshare": sample}, sample_playbook)
    number = await stage.open_issue(ISSUE_TITLE, ISSUE_BODY)
    ended = asyncio.ensure_future(stage.ended())
    await stage.comment(number, COMMENT)
    rotations = 0
    while not ended.done():
        stage.house.keys.forget()  # type: ignore[attr-defined]
        known = stage.installation in await stage.house.store.keyed_ids()
        await rotate(stage, 0.1)
        rotations += known
    (run,) = await ended
    await stage.settled()
    assert run.state is RunState.OPENED
    log = await stage.log()
    rewrapped = [entry for entry in log if entry.action == Action.KEY_ROTATED]
    assert len(rewrapped) >= rotations > 1, "each that was begun when there was a data key"
    assert [entry.details["to"] for entry in rewrapped[:-1]] == [
        entry.details["from"] for entry in rewrapped[1:]
    ]
    assert verify(log).ok
    assert len((stage.folder / "data" / "master.key").read_text().splitlines()) == 1
