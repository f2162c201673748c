"""A run that ends before its pull request takes its branch with it, also where GitHub does not find for a moment what is there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from app.nouns import RunState
from tests.line.conftest import Stages
from tests.line.conversations import ask, branches, ended_well_told, notes
from tests.line.stage import Stage


async def refused(raise_stage: Stages, sample: Path, route: str | None) -> Stage:
    """GitHub refuses the pull request, and from then on does not find once what is below `route`."""
    stage = await raise_stage({"octo/fairshare": sample}, notes(), working=False)
    faults = stage.github.simulator.faults
    refusal = {
        "kind": "status",
        "status": 403,
        "method": "POST",
        "route": "/pulls$",
        "message": "Forbidden",
        "times": 9,
    }
    faults.add(refusal)

    lost = [] if route is None else [route]

    def after_the_refusal(record: Any, _: Any) -> None:
        if (record.method, record.status) == ("POST", 403) and lost:
            once = {"kind": "status", "status": 404, "method": "GET", "message": "Not Found"}
            faults.add({**once, "route": lost.pop()})

    stage.github.simulator.observers.append(after_the_refusal)
    return stage


@pytest.mark.parametrize("route", [None, "/branches/magicode", "/commits/[0-9a-f]+$", "/pulls$"])
async def test_no_branch_is_left_of_a_run_that_was_refused_behind_it(
    raise_stage: Stages, sample: Path, route: str | None
) -> None:
    stage = await refused(raise_stage, sample, route)
    number = await ask(stage)
    await stage.settled()
    async with stage.at_work():
        (run,) = await stage.ended()
    assert run.state is RunState.REFUSED
    assert await stage.pulls() == []
    assert await branches(stage) == []
    assert "I removed it" in await ended_well_told(stage, run, number)
    waiting = stage.github.simulator.faults.waiting
    assert not [one for one in waiting if one.times and one.method == "GET"], "it was met"
