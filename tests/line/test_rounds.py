"""However many processes work, what is done for everybody is done by one of them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from app import rounds
from app.jobs import reconcile
from app.jobs.reconcile import KEPT
from app.nouns import Installation
from infra.github.app import GitHubApp
from tests.line.conftest import Stages
from tests.line.conversations import notes
from tests.line.stage import Stage

LISTS = ("/app/hook/deliveries", "/app/installations")


@pytest.fixture
async def stage(raise_stage: Stages, sample: Path) -> Stage:
    return await raise_stage({"octo/fairshare": sample}, notes(), working=False)


def asked(stage: Stage) -> Counter[str]:
    return Counter(one.path for one in stage.github.world.requests if one.path in LISTS)


async def test_of_many_processes_one_asks_github(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "CATCH_UP_AFTER_SECONDS", 0.1)
    monkeypatch.setattr(rounds, "LOOKED_AT_EVERY_SECONDS", 0.1)
    before = asked(stage)
    async with AsyncExitStack() as stack:
        for _ in range(8):
            await stack.enter_async_context(stage.at_work())
        await asyncio.sleep(3)
    assert asked(stage) - before == Counter({"/app/hook/deliveries": 1})


async def test_it_is_another_ones_turn_when_the_next_is_due(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CATCH_UP_AFTER_SECONDS", "SYNC_EVERY_SECONDS", "LOOKED_AT_EVERY_SECONDS"):
        monkeypatch.setattr(rounds, name, 0.1)
    monkeypatch.setattr(rounds, "CATCH_UP_EVERY_SECONDS", 0.5)
    before = asked(stage)
    async with asyncio.timeout(30), stage.at_work():
        while set(asked(stage) - before) != set(LISTS):
            await asyncio.sleep(0.05)
    first = asked(stage) - before
    async with asyncio.timeout(30), stage.at_work():
        while not all((asked(stage) - before - first)[path] >= 2 for path in LISTS):
            await asyncio.sleep(0.1)


async def test_who_takes_longer_than_the_lease_is_not_doubled(stage: Stage) -> None:
    at_once = most = begun = 0

    async def act(_: object) -> rounds.Done:
        nonlocal at_once, most, begun
        begun, at_once = begun + 1, at_once + 1
        most = max(most, at_once)
        await asyncio.sleep(4 if begun == 1 else 0)
        at_once -= 1
        return rounds.Done(timedelta(seconds=0.1))

    async def another() -> None:
        while begun < 2:
            await rounds._round(stage.house, "slow", 3.0, act)
            await asyncio.sleep(0.05)

    async with asyncio.timeout(30):
        await asyncio.gather(*(another() for _ in range(4)))
    assert (most, begun >= 2) == (1, True)


async def test_a_renewal_under_way_at_the_end_is_not_heard_behind_it(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    under_way, said = asyncio.Event(), list[timedelta]()
    end_round = type(stage.house.store).end_round

    async def slow(store: object, name: str, pause: timedelta, since: datetime | None = None) -> None:
        under_way.set()
        await asyncio.sleep(0.3)
        said.append(pause)
        await end_round(stage.house.store, name, pause, since)  # type: ignore[arg-type]

    monkeypatch.setattr(type(stage.house.store), "end_round", slow)

    async def act(_: object) -> rounds.Done:
        await under_way.wait()
        return rounds.Done(timedelta(0))

    async with asyncio.timeout(30):
        await rounds._round(stage.house, "slow", 0.6, act)
    assert said == [timedelta(seconds=0.6), timedelta(0)]
    assert await stage.house.store.begin_round("slow", timedelta(0)) is not None


async def test_who_dies_over_one_holds_it_no_longer(stage: Stage) -> None:
    async def hang(_: object) -> rounds.Done:
        await asyncio.sleep(3600)
        raise AssertionError

    over = asyncio.create_task(rounds._round(stage.house, "slow", 3.0, hang))
    await asyncio.sleep(4)
    assert await stage.house.store.begin_round("slow", timedelta(0)) is None
    over.cancel()
    await asyncio.wait([over])
    assert over.cancelled()
    async with asyncio.timeout(30):
        while await stage.house.store.begin_round("slow", timedelta(0)) is None:
            await asyncio.sleep(0.1)


async def test_what_a_process_told_is_forgotten_once_another_looked(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CATCH_UP_AFTER_SECONDS", "LOOKED_AT_EVERY_SECONDS"):
        monkeypatch.setattr(rounds, name, 0.1)
    monkeypatch.setattr(rounds, "CATCH_UP_EVERY_SECONDS", 1.0)
    told: list[tuple[int, float]] = []
    monkeypatch.setattr(stage.house.watch, "missed", lambda *one: told.append(one))

    async def looked(house: object, since: object) -> rounds.CaughtUp:
        told.append((3, 4000.0))
        return rounds.CaughtUp(stage.house.clock(), timedelta(seconds=1))

    monkeypatch.setattr(rounds, "catch_up", looked)
    keeping = asyncio.create_task(rounds._keep_caught_up(stage.house))
    try:
        async with asyncio.timeout(20):
            while len(told) < 3:
                await asyncio.sleep(0.05)
            assert set(told) == {(3, 4000.0)}, "while it is the one that looks, its figure stands"
            while told[-1] != (0, 0.0):
                # Again and again, for the process's own word of its last round may come behind it.
                await stage.house.store.end_round("deliveries", timedelta(hours=1))
                await asyncio.sleep(0.05)
        await asyncio.sleep(0.5)
        assert told.count((0, 0.0)) == 1
    finally:
        keeping.cancel()
        await asyncio.wait([keeping])


async def test_a_list_that_is_long_is_read_less_often(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "A_PAGE", 0.01)
    installed = await rounds.sync_installations(stage.house)
    await stage.open_issue("Something")
    await stage.settled()
    delivered = len(stage.github.world.deliveries)
    looked = await rounds.catch_up(stage.house, stage.house.clock() - KEPT)
    assert installed == timedelta(seconds=100 * rounds.SYNC_SECONDS_A_PAGE)
    assert looked.pause >= timedelta(seconds=100 * rounds.CATCH_UP_SECONDS_A_PAGE) * delivered > timedelta(0)


async def test_what_is_lost_just_before_is_asked_for_as_soon_as_its_pause_is_over(stage: Stage) -> None:
    listening, stage.github.world.app_url = stage.github.world.app_url, "http://127.0.0.1:1/webhooks/github"
    await stage.open_issue("Something")
    await stage.settled()
    stage.github.world.app_url = listening
    looked = await rounds.catch_up(stage.house, stage.house.clock() - KEPT)
    assert timedelta(seconds=rounds.SOONEST_SECONDS) <= looked.pause <= reconcile.FIRST_PAUSE


async def test_who_installs_again_while_the_list_is_read_is_not_paused_by_it(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = GitHubApp.installations

    async def slowly(app: GitHubApp, **how: Any) -> Sequence[Installation]:
        found = await read(app, **how)
        stage.github.install("octo")
        await stage.settled()
        return found

    tenant = stage.installation

    async def present() -> Installation:
        async with stage.house.store.transaction(tenant) as transaction:
            known = await transaction.installation()
        assert known is not None
        return known

    stage.github.uninstall("octo")
    await stage.settled()
    assert (await present()).uninstalled_at is not None
    with monkeypatch.context() as during:
        during.setattr(GitHubApp, "installations", slowly)
        await rounds.sync_installations(stage.house)
    again = await present()
    assert again.present_id != tenant
    assert again.uninstalled_at is None


async def test_what_a_list_leaves_out_is_asked_for_alone_before_it_is_paused(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where something on an earlier page went while the list was read."""

    async def nothing(app: GitHubApp, **how: Any) -> Sequence[Installation]:
        return []

    tenant = stage.installation

    async def paused() -> bool:
        await rounds.sync_installations(stage.house)
        async with stage.house.store.transaction(tenant) as transaction:
            known = await transaction.installation()
        assert known is not None
        return known.uninstalled_at is not None

    monkeypatch.setattr(GitHubApp, "installations", nothing)
    assert not await paused()
    stage.github.world.app_url = None  # nobody is told
    stage.github.uninstall("octo")
    assert await paused()


async def test_an_installation_that_stands_as_github_lists_it_is_not_written_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Installation] = []
    listed = rounds.presence.listed

    async def noted(store: object, told: Installation) -> int:
        written.append(told)
        return await listed(stage.house.store, told)

    monkeypatch.setattr(rounds.presence, "listed", noted)
    await rounds.sync_installations(stage.house)
    assert written == []
    async with stage.house.store.transaction(stage.installation) as transaction:
        known = await transaction.installation()
        assert known is not None
        await transaction.put_installation(replace(known, account_login="renamed-since"))
    await rounds.sync_installations(stage.house)
    assert [one.account_login for one in written] == [known.account_login]
    await rounds.sync_installations(stage.house)
    assert len(written) == 1


async def test_a_service_of_many_listens_before_it_has_looked_through_all_of_them(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = asked(stage)
    monkeypatch.setattr(rounds, "FEW", 0)
    await rounds.take_up(stage.house)
    assert asked(stage) == before
    monkeypatch.setattr(rounds, "FEW", 1)
    await rounds.take_up(stage.house)
    assert asked(stage) - before == Counter({"/app/installations": 1})
