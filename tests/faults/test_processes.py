"""The service processes of these tests are what they are said to be: real, of an identity of their own, and gone when told."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from app.nouns import RunState
from tests.claims import claim
from tests.faults.points import AFTER, Point, Watch
from tests.faults.processes import service
from tests.faults.promises import kept, quiet
from tests.line.conftest import Stages
from tests.line.conversations import ask, notes
from tests.line.stage import Stage

GROUP = "Killed at any point"


@pytest.fixture
async def idle(raise_stage: Stages, sample: Path) -> Stage:
    return await raise_stage({"octo/fairshare": sample}, notes(), working=False)


@claim(
    GROUP,
    "A process that takes webhooks and one that works are started, paused, killed and followed by others with other identities",
    "The request ends once, in one pull request",
)
async def test_processes_start_stop_and_die_as_told(idle: Stage) -> None:
    started = time.monotonic()
    async with (
        service(idle, role="serve", environ={"MAGICODE_WORKER": "false"}) as web,
        service(idle, name="first", retry=0.1) as first,
    ):
        print(f"two processes within {time.monotonic() - started:.2f} s")
        assert psutil.Process(first.pid).nice() > psutil.Process(web.pid).nice(), "who asks is answered first"
        idle.github.world.app_url = f"{web.url}/webhooks/github"
        first.pause()
        await ask(idle)
        await idle.settled()
        first.resume()
        first.kill()
        await first.gone()
        assert (first.alive, first.exitcode) == (False, -9)
        async with service(idle, name="second", retry=0.1, heartbeat=0.2, stalled_after=1) as second:
            assert second.folder != first.folder
            (run,) = await idle.ended()
            await quiet(idle)
            await second.stop()
    assert run.state is RunState.OPENED
    await kept(idle, runs=1)


@claim(
    GROUP,
    "Two workers on one machine: one is killed with the code of a repository in its memory-backed workspace",
    "The other, which lives on, removes what was left and goes on with the run",
)
async def test_what_a_killed_process_held_in_memory_is_swept_by_one_that_lives_on(
    idle: Stage, tmp_path: Path
) -> None:
    workspaces = tmp_path / "workspaces"
    where = {"MAGICODE_WORKSPACE_DIR": str(workspaces)}
    soon: dict[str, Any] = {"environ": where, "retry": 0.1, "heartbeat": 0.2, "stalled_after": 2}
    async with service(idle, name="other", constants={"SWEEP_EVERY_SECONDS": 0.2}, **soon) as other:
        other.pause()
        dies = Watch(kill=Point("workspace make", 1, AFTER))
        async with service(idle, name="victim", watch=dies, **soon) as victim:
            await ask(idle)
            await victim.gone()
        assert len(list(workspaces.iterdir())) == 1, "the tree is left, and so is the machine's memory"
        other.resume()
        (run,) = await idle.ended()
        await quiet(idle)
        assert list(workspaces.iterdir()) == []
        await other.stop()
    assert run.state is RunState.OPENED
    await kept(idle, runs=1)
