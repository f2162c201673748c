"""An operator gives an installation workers of its own by one command, and takes them away again."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from app.nouns import Action, RunState
from tests.line.conftest import Stages
from tests.line.conversations import ask, ended_well_told, notes
from tests.line.stage import Stage
from tests.line.test_pause import magicode


async def up(raise_stage: Stages, sample: Path, *, working: bool = True) -> Stage:
    return await raise_stage({"octo/fairshare": sample}, notes(), working=working)


async def test_by_one_command_its_own_workers_alone_work_for_it_and_by_another_everybodys(
    raise_stage: Stages, sample: Path
) -> None:
    stage = await up(raise_stage, sample)
    tenant = stage.installation
    whom = ["dedicate", "--installation", str(tenant)]
    code, said, told = await magicode(stage, *whom)
    assert code == 0, told
    assert said.startswith(f"Installation {tenant}: is worked for by workers of its own alone.")
    assert f"MAGICODE_DEDICATED_TO={tenant} magicode worker" in said
    code, said, _ = await magicode(stage, *whom, "--json")
    assert (code, json.loads(said)) == (0, {"installation_id": tenant, "own": True, "changed": False})

    number = await ask(stage)
    await stage.settled()
    await asyncio.sleep(2)
    (run,) = await stage.runs()
    assert run.state is RunState.QUEUED
    code, said, _ = await magicode(stage, "dedicate", "--list")
    assert code == 0
    assert said.startswith(f"{tenant}: since 20")
    assert said.endswith("no worker yet\n")
    async with stage.at_work(only=[tenant]):
        (run,) = await stage.ended()
        assert run.state is RunState.OPENED
        code, said, _ = await magicode(stage, "dedicate", "--list", "--json")
        (listed,) = json.loads(said)
        assert listed["installation_id"] == tenant
        assert listed["heard_seconds"] < 30
    await ended_well_told(stage, run, number)

    code, said, _ = await magicode(stage, *whom, "--end")
    assert (code, said) == (0, f"Installation {tenant}: everybody's workers work for it again.\n")
    assert (await magicode(stage, *whom, "--end"))[1].endswith(": had no workers of its own.\n")
    await ask(stage)
    assert [one.state for one in await stage.ended(2)] == [RunState.OPENED] * 2
    logged = [
        (one.action, one.actor, (one.details or {})["new"])
        for one in await stage.log()
        if one.action.startswith("workers.")
    ]
    assert logged == [
        (Action.WORKERS_DEDICATED, "operator", True),
        (Action.WORKERS_DEDICATED, "operator", False),
        (Action.WORKERS_SHARED, "operator", True),
        (Action.WORKERS_SHARED, "operator", False),
    ]


async def test_an_own_worker_leaves_alone_what_is_everybodys(raise_stage: Stages, sample: Path) -> None:
    """It asks GitHub neither for the installations nor for what was missed, and removes nothing for its age."""
    stage = await up(raise_stage, sample, working=False)
    before = len(stage.github.world.requests)
    async with stage.at_work(only=[stage.installation]):
        await asyncio.sleep(4)
    assert len(stage.github.world.requests) == before
    async with stage.at_work(), asyncio.timeout(60):
        while len(stage.github.world.requests) == before:  # a look is seen here
            await asyncio.sleep(0.1)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "say whom"),
        (["--end"], 2, "say whom"),
        (["--list", "--end"], 2, "stands alone"),
        (["--list", "--installation", "7"], 2, "stands alone"),
        (["--installation", "0"], 2, "greater than or equal"),
        (["--installation", "999999"], 1, "No installation with this id"),
        (["--installation", "999999", "--end"], 1, "No installation with this id"),
    ],
)
async def test_wrong_use_is_told(
    raise_stage: Stages, sample: Path, arguments: list[str], code: int, said: str
) -> None:
    stage = await up(raise_stage, sample, working=False)
    came_to, out, err = await magicode(stage, "dedicate", *arguments)
    assert (came_to, out) == (code, "")
    assert said in " ".join(err.replace("│", " ").split())
    assert await stage.house.store.dedicated() == []
