"""The clock is wrong: ahead, behind, or jumping in the middle. Nothing is lost, and nothing is destroyed on a single wild reading."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from app.actionlog.ledger import Ledger
from app.jobs import reconcile
from app.nouns import RunState
from app.rounds import Steady, catch_up, clocks_agree
from tests.claims import case, claim
from tests.faults.promises import kept, quiet
from tests.line.conftest import Stages
from tests.line.conversations import (
    ask,
    asked_of_the_model,
    create,
    finish,
    notes,
    playbook,
    reasons,
    scenario,
)
from tests.line.seen import until
from tests.line.stage import Stage

GROUP = "What lies around it fails"


class Clock:
    """The machine's, set forward or back by a test."""

    def __init__(self) -> None:
        self.off = timedelta(0)

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.off


def set_clock(stage: Stage) -> Clock:
    """The service's clock, for what it does from here on."""
    clock, house = Clock(), stage.house
    stage.house = replace(house, clock=clock, ledger=Ledger(house.store, house.keys, clock))
    return clock


@pytest.mark.parametrize(
    "jumps",
    [
        case(GROUP, f"The clock jumps {what} while a run is at work", outcome, jumps)
        for what, jumps in (
            ("five hours ahead", (timedelta(hours=5),)),
            ("five hours back", (timedelta(hours=-5),)),
            ("a hundred days ahead and back again", (timedelta(days=100), timedelta(0))),
        )
        for outcome in ("The run goes on and ends well, and the log's times never run backwards",)
    ],
)
async def test_a_clock_that_jumps_in_the_middle_disturbs_no_run(
    raise_stage: Stages, sample: Path, jumps: tuple[timedelta, ...]
) -> None:
    slow = playbook(scenario(create("NOTES.md", "A note.\n") | {"slow": {"seconds": 2}}, finish()))
    stage = await raise_stage({"octo/fairshare": sample}, slow, working=False)
    clock = set_clock(stage)
    async with stage.at_work():
        await ask(stage)
        await until(lambda: asked_of_the_model(stage))
        clock.off = jumps[0]
        (first,) = await stage.ended()
        clock.off = jumps[-1]
        await ask(stage)
        runs = await stage.ended(2)
        await quiet(stage)
    assert {run.state for run in runs} == {RunState.OPENED}, reasons(runs)
    assert first.attempt == 1
    times = [entry.at for entry in await stage.log()]
    assert times == sorted(times)
    await kept(stage, runs=2)


@pytest.mark.parametrize(
    "off",
    [
        case(GROUP, f"Our clock is {what} GitHub's when a webhook is missed", outcome, off)
        for what, off in (
            ("twenty minutes ahead of", timedelta(minutes=20)),
            ("twenty minutes behind", timedelta(minutes=-20)),
            ("a hundred days ahead of", timedelta(days=100)),
        )
        for outcome in (
            "It is asked for again all the same, and so is what is missed after the clock was put right",
        )
    ],
)
async def test_what_was_missed_is_found_by_githubs_clock(
    raise_stage: Stages, sample: Path, off: timedelta, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconcile, "FIRST_PAUSE", timedelta(0))
    stage = await raise_stage({"octo/fairshare": sample}, notes(), working=False)
    clock, world = set_clock(stage), stage.github.world
    listening = world.app_url
    since = stage.house.clock() - reconcile.KEPT

    async def missed_and_found(count: int, since: datetime) -> datetime:
        world.app_url = "http://127.0.0.1:1/webhooks/github"
        await ask(stage)
        await stage.settled()
        world.app_url = listening
        since = (await catch_up(stage.house, since)).since
        await stage.settled()
        assert len(await stage.runs()) == count
        return since

    clock.off = off
    since = await missed_and_found(1, since)
    clock.off = timedelta(0)
    await missed_and_found(2, since)
    async with stage.at_work():
        runs = await stage.ended(2)
        await quiet(stage)
    assert {run.state for run in runs} == {RunState.OPENED}, reasons(runs)
    await kept(stage, runs=2)


@claim(
    GROUP,
    "The clock is a hundred days ahead when what is too old is to be removed",
    "The database's clock says otherwise, or an hour ago ours did: nothing is removed until it has kept still from one look to the next and both agree",
)
async def test_nothing_is_destroyed_on_a_wild_reading_of_the_clock(stage: Stage) -> None:
    clock = set_clock(stage)
    steady = Steady(stage.house)
    assert steady()
    clock.off = timedelta(days=100)
    assert not steady(), "it was set"
    clock.off = timedelta(0)
    assert not steady(), "and set again"
    assert steady(), "and has gone on by itself since"
    assert await clocks_agree(stage.house)
    for off in (timedelta(days=100), timedelta(days=-100), timedelta(minutes=11)):
        clock.off = off
        assert not await clocks_agree(stage.house)
    clock.off = timedelta(minutes=2)
    assert await clocks_agree(stage.house)
