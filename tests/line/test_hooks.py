"""Customers' own addresses are told of whole requests: signed, once for each thing that happens, for a day, and in the log."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from app import steering, telling
from app.actionlog.verify import verify
from app.custody import hooks
from app.errors import ErasedError, SupersededError
from app.jobs.retries import HOOK_AWAY, Away
from app.nouns import Account, Erasure, Run, RunEvent, RunState
from app.telling import send
from infra.postgres.custody_rows import CustodyRows
from tests.app.web.browser import opened
from tests.conftest import Database
from tests.line.conftest import Stages
from tests.line.conversations import BODY, TITLE, ask, logged, notes
from tests.line.seen import until
from tests.line.stage import Stage
from tests.receiver import answers, receiving

ENVIRON = {"MAGICODE_HOOK_HOSTS": "127.0.0.1"}
SOON = Away(timedelta(milliseconds=50), timedelta(milliseconds=200), timedelta(seconds=30))


@pytest.fixture
async def stage(raise_stage: Stages, sample: Path) -> Stage:
    return await raise_stage({"octo/fairshare": sample}, notes(), environ=ENVIRON)


@pytest.fixture
async def idle(raise_stage: Stages, sample: Path) -> Stage:
    return await raise_stage({"octo/fairshare": sample}, notes(), environ=ENVIRON, working=False)


async def hooked(stage: Stage, url: str, *events: RunEvent) -> tuple[UUID, str]:
    """A hook's id and its secret."""
    house = stage.house
    made, secret = await hooks.make(
        house.store,
        house.keys,
        house.ledger,
        house.clock,
        house.receivers,
        installation_id=stage.installation,
        by="ada",
        url=url,
        events=events or list(RunEvent),
        new_id=uuid4,
        random=lambda count: bytes(range(count)),
    )
    return made.id, secret


def jobs(database: Database) -> dict[str, int]:
    with psycopg.connect(database.owner_url) as connection:
        rows = connection.execute(
            "SELECT task_name, count(*) FROM magicode_jobs.procrastinate_jobs GROUP BY 1"
        ).fetchall()
    return {str(name): int(count) for name, count in rows}


async def sent_now(stage: Stage, hook: UUID, run: Run, event: RunEvent = RunEvent.ENDED, **how: Any) -> None:
    """One try, as a job makes it."""
    given = {"attempt": run.attempt, "tries": 0} | how
    house = given.pop("house", stage.house)
    await send(house, event, stage.installation, hook, run.id, **given)


async def played(stage: Stage) -> Run:
    await ask(stage)
    return (await stage.ended())[-1]


# --- what is told ----------------------------------------------------------------------------------------------------


async def test_each_event_of_a_request_arrives_signed_and_says_what_the_api_says(stage: Stage) -> None:
    async with receiving() as receiver:
        hook, secret = await hooked(stage, receiver.url)
        run = await played(stage)
        got = await receiver.heard(3)
        async with opened(stage) as browser:
            await browser.sign_in("ada")
            shown = (await browser.api("GET", f"/installations/{stage.installation}/runs")).json()["runs"][0]
    assert all(one.signed_with(secret) for one in got)
    assert all(one.headers["content-type"] == "application/json" for one in got)
    told: Mapping[str, Any] = {one.told["type"]: one.told for one in got}
    assert set(told) == set(RunEvent)
    assert len({one.id for one in got}) == 3
    assert {one["installation_id"] for one in told.values()} == {stage.installation}
    assert told["run.ended"]["data"] == shown
    assert (shown["state"], shown["pull_request"]) == ("opened", run.pull_request)
    assert told["run.ended"]["timestamp"] == shown["ended_at"]
    assert told["run.started"]["timestamp"] == shown["started_at"]
    accepted, started = told["run.accepted"]["data"], told["run.started"]["data"]
    assert (accepted["state"], accepted["attempts"], accepted["started_at"]) == ("queued", 0, None)
    assert (started["state"], started["attempts"], started["ended_at"]) == ("running", 1, None)
    assert accepted["id"] == started["id"] == str(run.id)
    for one in got:
        for word in (TITLE, BODY, "NOTES", "fairshare", "@magicode"):
            assert word not in one.body.decode()

    async def written() -> bool:
        return len(await logged(stage, "webhook.sent")) >= len(got)

    await until(written)
    entries = await stage.log()
    assert verify(entries).ok
    sent = [entry for entry in entries if entry.action == "webhook.sent"]
    assert sorted(str((one.details or {})["event"]) for one in sent) == sorted(RunEvent)
    assert {(one.run_id, (one.details or {})["hook"]) for one in sent} == {(str(run.id), str(hook))}
    assert {((one.details or {})["status"], (one.details or {})["attempt"]) for one in sent} == {(204, 1)}
    assert "of-the-address" not in str(entries)
    (known,) = await hooks.known_hooks(stage.house.store, stage.house.keys, stage.installation)
    assert known.last_status == 204


async def test_a_hook_hears_what_it_chose_and_others_beside_it_the_rest(stage: Stage) -> None:
    async with receiving() as ends, receiving() as begins:
        await hooked(stage, ends.url, RunEvent.ENDED)
        await hooked(stage, begins.url, RunEvent.ACCEPTED, RunEvent.STARTED)
        await played(stage)
        told = [one.told["type"] for one in (*await ends.heard(1), *await begins.heard(2))]
    assert sorted(told) == sorted(RunEvent)
    assert len(ends.got) == 1


async def test_a_request_that_is_tried_again_on_its_page_is_accepted_too(idle: Stage) -> None:
    await ask(idle)
    await idle.settled()
    (run,) = await idle.runs()
    async with idle.house.store.transaction(idle.installation) as transaction:
        await transaction.update_run(
            run.id, state=RunState.FAILED, reason="defect", ended_at=datetime.now(UTC)
        )
    async with receiving() as receiver:
        await hooked(idle, receiver.url, RunEvent.ACCEPTED)
        wim = Account(run.asker_id, "wim", "User")
        again = await steering.try_again(idle.house, idle.installation, run.id, wim)
        async with idle.at_work():
            (got,) = await receiver.heard(1)
    assert (got.told["type"], got.told["data"]["id"]) == ("run.accepted", str(again.id))


async def test_without_a_hook_acceptance_asks_for_none_and_puts_nothing_more_on_the_queue(
    idle: Stage, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_: CustodyRows) -> None:
        raise AssertionError("acceptance looks for hooks")

    with monkeypatch.context() as patched:
        patched.setattr(CustodyRows, "hooks", refused)
        await ask(idle)
        await idle.settled()
    assert jobs(database) == {"acknowledge": 1, "work": 1}
    await hooked(idle, "http://127.0.0.1:1/")
    with monkeypatch.context() as patched:
        patched.setattr(CustodyRows, "hooks", refused)
        await ask(idle)
        await idle.settled()
    assert jobs(database) == {"acknowledge": 2, "work": 2, "tell_accepted": 1}


# --- until it is taken -----------------------------------------------------------------------------------------------


async def test_a_receiver_that_fails_and_is_away_is_told_once_it_is_back_under_the_same_id(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telling, "HOOK_AWAY", SOON)
    async with receiving() as receiver:
        receiver.next = [answers(500), answers(302, "Location: http://127.0.0.1:1/")]
        receiver.always = answers(503)
        await hooked(stage, receiver.url, RunEvent.ENDED)
        await played(stage)
        first = await receiver.heard(3)
    async with asyncio.timeout(20):
        while "hook_unreachable" not in {one["why"] for one in await logged(stage, "webhook.sent")}:
            await asyncio.sleep(0.1)
    async with receiving(receiver.port) as back:
        (got,) = await back.heard(1)

        async def taken() -> bool:
            return (await logged(stage, "webhook.sent"))[-1]["status"] == 204

        await until(taken)
        await asyncio.sleep(1)
        assert len(back.got) == 1, "what was taken is not sent again"
    assert {one.id for one in (*first, got)} == {got.id}
    assert {one.body for one in (*first, got)} == {got.body}
    tries = await logged(stage, "webhook.sent")
    assert [one["attempt"] for one in tries] == list(range(1, len(tries) + 1))
    assert [one["status"] for one in tries[:3]] == [500, 302, 503]
    assert tries[-1]["status"] == 204


async def test_after_a_day_it_is_given_up(
    stage: Stage, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited, tries = timedelta(0), 0
    while (pause := HOOK_AWAY.pause(tries)) is not None:
        waited, tries = waited + pause, tries + 1
    assert timedelta(days=1) <= waited < timedelta(days=1, hours=4)
    assert tries < 30
    brief = Away(timedelta(milliseconds=10), timedelta(milliseconds=20), timedelta(milliseconds=40))
    monkeypatch.setattr(telling, "HOOK_AWAY", brief)
    async with receiving() as receiver:
        receiver.always = answers(500)
        await hooked(stage, receiver.url, RunEvent.ENDED)
        await played(stage)
        await receiver.heard(4)
        async with asyncio.timeout(20):
            while jobs(database).get("send_ended", 0):
                await asyncio.sleep(0.1)
        assert len(receiver.got) == 4
    assert len(await logged(stage, "webhook.sent")) == 4
    assert len(await hooks.known_hooks(stage.house.store, stage.house.keys, stage.installation)) == 1


async def test_a_receiver_that_says_that_it_is_gone_is_told_nothing_more(stage: Stage) -> None:
    async with receiving() as receiver:
        receiver.always = answers(410)
        hook, _ = await hooked(stage, receiver.url, RunEvent.ENDED)
        await played(stage)
        await receiver.heard(1)
        async with asyncio.timeout(20):
            while await hooks.known_hooks(stage.house.store, stage.house.keys, stage.installation):
                await asyncio.sleep(0.1)
        assert len(receiver.got) == 1
    removed = [one for one in await logged(stage, "setting.changed") if one["new"] == "removed"]
    assert removed == [{"name": "hook", "hook": str(hook), "new": "removed", "why": "gone"}]


async def test_who_died_behind_the_request_sends_it_again_under_the_same_id(stage: Stage) -> None:
    run = await played(stage)
    async with receiving() as receiver:
        hook, secret = await hooked(stage, receiver.url)
        for event in RunEvent:
            for _ in range(2):
                await sent_now(stage, hook, run, event)
        other, _ = await hooked(stage, receiver.url)
        await sent_now(stage, other, run)
    got = receiver.got
    assert all(one.signed_with(secret) for one in got)
    for first, second in ((0, 1), (2, 3), (4, 5)):
        assert (got[first].id, got[first].body) == (got[second].id, got[second].body)
    assert len({one.id for one in got}) == 4, "each hook and each event has its own"


# --- nobody is told --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["suspended", "uninstalled", "plan", "removed", "taken over", "begun again"])
async def test_nothing_is_sent(stage: Stage, how: str) -> None:
    run, house, now = await played(stage), stage.house, datetime.now(UTC)

    async def taken_over() -> None:
        raise SupersededError(reason="superseded")

    async with receiving() as receiver:
        hook, _ = await hooked(stage, receiver.url)
        await sent_now(stage, hook, run)
        assert len(receiver.got) == 1, "it would be"
        if how == "removed":
            await hooks.remove(
                house.store, house.ledger, installation_id=stage.installation, by="ada", hook_id=hook
            )
        else:
            async with house.store.transaction(stage.installation) as transaction:
                there = await transaction.installation()
                assert there is not None
                if how == "begun again":
                    await transaction.update_run(run.id, state=RunState.RUNNING, attempt=run.attempt + 1)
                changed = {
                    "suspended": replace(there, suspended=True),
                    "uninstalled": replace(there, uninstalled_at=now),
                    "plan": replace(there, plan_cancelled_at=now),
                }
                await transaction.put_installation(changed.get(how, there))
        if how == "taken over":
            with pytest.raises(SupersededError):
                await sent_now(stage, hook, run, house=replace(house, held=taken_over))
        else:
            await sent_now(stage, hook, run)
        assert len(receiver.got) == 1


async def test_nothing_is_sent_for_an_installation_whose_erasure_has_begun(stage: Stage) -> None:
    run = await played(stage)
    async with receiving() as receiver:
        hook, _ = await hooked(stage, receiver.url)
        gone = Erasure(
            stage.installation, uuid4(), stage.installation, 1, "asked", datetime.now(UTC), None, "begun"
        )
        async with stage.house.store.transaction(stage.installation) as transaction:
            await transaction.begin_erasure(gone)
        with pytest.raises(ErasedError):
            await sent_now(stage, hook, run)
        assert receiver.got == []


async def test_a_slow_receiver_holds_up_no_request(stage: Stage) -> None:
    """Ten events that nobody answers wait beside the work, and not before it."""
    async with receiving() as receiver:
        receiver.always = _never
        for _ in range(hooks.AT_MOST):
            await hooked(stage, receiver.url)
        await played(stage)
        await receiver.heard(1)
        await ask(stage)
        runs = await stage.ended(2, within=60)
        assert [run.state for run in runs] == [RunState.OPENED] * 2


async def _never(_writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(30)
