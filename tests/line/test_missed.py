"""What GitHub could not deliver while the service was away is asked for again, and done once."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from app.demo import COMMENT, ISSUE_BODY, ISSUE_TITLE
from app.jobs.accept import NOBODY
from app.jobs.reconcile import KEPT
from app.nouns import RunState
from app.rounds import catch_up
from infra.models.playbook import Playbook
from tests.line.conftest import Stages
from tests.line.stage import Stage

NOWHERE = "http://127.0.0.1:1/webhooks/github"


@pytest.fixture
async def away(raise_stage: Stages, sample: Path, sample_playbook: Playbook) -> Stage:
    """A service that was out of reach, a minute ago, when somebody asked for something; nobody works yet."""
    stage = await raise_stage({"octo/fairshare": sample}, sample_playbook, working=False)
    ours, stage.github.world.app_url = stage.github.world.app_url, NOWHERE
    number = await stage.open_issue(ISSUE_TITLE, ISSUE_BODY)
    await stage.comment(number, COMMENT)
    await stage.settled()
    for delivery in stage.github.world.deliveries:
        delivery.delivered_at -= timedelta(minutes=1)
    stage.github.world.app_url = ours
    assert await stage.runs() == []
    return stage


def attempts(stage: Stage, event: str) -> list[int]:
    return [one.status_code for one in stage.github.world.deliveries if one.event == event]


async def test_a_request_made_while_we_were_away_is_done_exactly_once(away: Stage) -> None:
    async with away.at_work():
        (run,) = await away.ended()
        await away.settled()
    assert run.state is RunState.OPENED
    assert len(await away.pulls()) == 1
    assert attempts(away, "issue_comment")[:2] == [0, 202]
    asked = [entry for entry in await away.log(NOBODY) if entry.action == "webhook.redelivery_asked"]
    lost = {one.guid for one in away.github.world.deliveries if one.status_code == 0}
    assert {entry.details["delivery"] for entry in asked} == lost
    assert len(asked) == len(lost)


async def test_several_workers_that_look_at_once_lead_to_one_run(away: Stage) -> None:
    since = away.house.clock() - KEPT
    await asyncio.gather(*(catch_up(away.house, since) for _ in range(3)))
    await away.settled()
    async with away.at_work():
        (run,) = await away.ended()
    assert run.state is RunState.OPENED
    assert len(await away.pulls()) == 1


async def test_nothing_is_asked_for_again_once_it_was_taken(away: Stage) -> None:
    since = away.house.clock() - KEPT
    since = (await catch_up(away.house, since)).since
    await away.settled()
    before = len(away.github.world.deliveries)
    for _ in range(2):
        since = (await catch_up(away.house, since)).since
    await away.settled()
    assert len(away.github.world.deliveries) == before
    assert len(await away.runs()) == 1


async def test_githubs_own_trouble_is_tried_again_later_from_the_same_place(away: Stage) -> None:
    since = away.house.clock() - KEPT
    await away.fault(kind="status", method="GET", route="/app/hook/deliveries", status=503, times=99)
    assert (await catch_up(away.house, since)).since == since
    assert await away.runs() == []


async def test_an_event_that_github_will_not_repeat_does_not_hold_up_the_others(away: Stage) -> None:
    await away.fault(kind="status", method="POST", route="/attempts$", status=404, times=1)
    await catch_up(away.house, away.house.clock() - KEPT)
    await away.settled()
    assert sum(one.redelivery for one in away.github.world.deliveries) >= 1
