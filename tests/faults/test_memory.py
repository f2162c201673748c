"""How much memory the service takes: idle, and for a run on a repository of 5,000 files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from app.nouns import RunState
from tests.claims import case, claim
from tests.faults.measured import large, measured, peak, reset_peak, resident
from tests.line.conftest import Stages
from tests.line.conversations import ask, notes
from tests.line.stage import Stage

GROUP = "Load and fairness"
IDLE_MB = 400
RUN_MB = {"elsewhere": 100, "words": 300}
"""Where the vectors lie elsewhere, and where they lie in the process, as without a Qdrant server: two thirds of what a run adds
are what is kept of 5,000 files."""
FILES = 5000


@claim(
    GROUP,
    "The web process is started by the command line and has nothing to do",
    f"It takes less than {IDLE_MB} MB of memory",
)
async def test_an_idle_web_process_is_small(
    raise_stage: Stages, sample: Path, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    stage = await raise_stage({"octo/fairshare": sample}, notes(), working=False)
    async with measured(stage, "serve", tmp_path / "web", {"MAGICODE_WORKER": "false"}) as process:
        took = resident(process.pid)
    record_property("megabytes", took)
    assert 20 < took < IDLE_MB


@pytest.mark.long
@pytest.mark.parametrize(
    "role",
    [
        case(
            GROUP,
            f"A worker without the embedding model {where} is idle, then works on a request in a repository of {FILES:,} files, then on"
            " another",
            f"Idle it takes less than {IDLE_MB} MB; a run and the next one add less than {RUN_MB[role]} MB at their worst, the tree in"
            " memory-backed storage not counted; each opens its pull request",
            role,
        )
        for role, where in (
            ("elsewhere", "whose vectors are not kept in its process"),
            ("words", "and without a Qdrant server"),
        )
    ],
)
async def test_a_run_on_a_large_repository_adds_little(
    role: str, raise_stage: Stages, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    stage = await raise_stage({"octo/large": large(tmp_path / "large", FILES)}, notes(), working=False)
    async with measured(stage, role, tmp_path / "worker", {"MAGICODE_SANDBOX": "false"}) as process:
        idle = resident(process.pid)
        added = [await _run(stage, process.pid, idle, number) for number in (1, 2)]
    record_property("idle megabytes", idle)
    record_property("megabytes that runs added", added)
    assert 20 < idle < IDLE_MB
    assert max(added) < RUN_MB[role], (idle, added)


async def _run(stage: Stage, pid: int, idle: int, number: int) -> int:
    """How far beyond `idle` the process went for a run."""
    reset_peak(pid)
    await ask(stage)
    run = (await stage.ended(number, within=240))[-1]
    assert run.state is RunState.OPENED, run.reason
    return peak(pid) - idle
