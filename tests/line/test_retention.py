"""Retention on a whole service: who stays away too long is destroyed, who comes back is not, and the worker looks by itself."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from app import retaining, rounds
from app.actionlog.ledger import Ledger
from app.actionlog.verify import verify
from app.custody import settings
from app.custody.retention import Retention, Swept, months_before
from app.errors import TransientError
from app.house import House
from app.nouns import Action, Erasure, RunState
from tests.line.conftest import Stages
from tests.line.conversations import ask, notes, ours
from tests.line.seen import until
from tests.line.stage import Stage


@pytest.fixture
async def stage(raise_stage: Stages, sample: Path) -> Stage:
    return await raise_stage({"octo/fairshare": sample}, notes())


def later(house: House, **by: float) -> House:
    """The same house, so much later."""
    return replace(house, clock=lambda: datetime.now(UTC) + timedelta(**by))


async def erasure_of(stage: Stage, tenant: int) -> Erasure | None:
    async with stage.house.store.transaction(tenant, erasing=True) as transaction:
        return await transaction.erasure()


async def uninstalled(stage: Stage, tenant: int) -> None:
    stage.github.uninstall("octo")

    async def paused() -> bool:
        async with stage.house.store.transaction(tenant) as transaction:
            known = await transaction.installation()
        return known is not None and known.uninstalled_at is not None

    await until(paused)


async def test_who_stays_away_for_ninety_days_is_destroyed(stage: Stage) -> None:
    await ask(stage)
    await stage.ended()
    tenant = stage.installation
    await uninstalled(stage, tenant)
    await retaining.sweep_house(later(stage.house, days=89))
    assert await erasure_of(stage, tenant) is None
    swept = await retaining.sweep_house(later(stage.house, days=91))
    assert {one.installation_id: one.erase for one in swept} == {0: None, tenant: "uninstalled"}

    async def destroyed() -> bool:
        found = await erasure_of(stage, tenant)
        return found is not None and found.ended_at is not None

    await until(destroyed)
    found = await erasure_of(stage, tenant)
    assert found is not None
    assert found.reason == "uninstalled"
    again = await retaining.sweep_house(later(stage.house, days=92))
    assert [one.installation_id for one in again] == [0], "what was destroyed is passed over"


async def test_who_installs_again_is_taken_up_where_they_were(stage: Stage) -> None:
    await ask(stage)
    await stage.ended()
    tenant = stage.installation
    await uninstalled(stage, tenant)
    stage.github.install("octo")

    async def back() -> bool:
        async with stage.house.store.transaction(tenant) as transaction:
            known = await transaction.installation()
        return known is not None and known.uninstalled_at is None

    await until(back)
    await retaining.sweep_house(later(stage.house, days=91))
    assert await erasure_of(stage, tenant) is None
    async with stage.house.store.transaction(tenant) as transaction:
        assert len(await transaction.runs()) == 1
    await ask(stage)

    async def done() -> bool:
        async with stage.house.store.transaction(tenant) as transaction:
            return [one.state for one in await transaction.runs()] == [RunState.OPENED] * 2

    await until(done)


async def test_who_comes_back_between_the_look_and_the_deletion_is_not_destroyed(stage: Stage) -> None:
    tenant = stage.installation
    await uninstalled(stage, tenant)

    class ComesBack(Retention):
        async def sweep(self, installation_id: int, **how: Any) -> Swept:
            found = await super().sweep(installation_id, **how)
            async with stage.house.store.transaction(tenant) as transaction:
                known = await transaction.installation()
                assert known is not None
                await transaction.put_installation(replace(known, uninstalled_at=None))
            return found

    house = later(stage.house, days=91)
    rules = ComesBack(house.store, house.ledger, house.objects, house.clock, ())
    (swept,) = await retaining.sweep(rules, [tenant], lambda one, reason: retaining.begin(house, one, reason))
    assert swept.erase == "uninstalled"
    assert await erasure_of(stage, tenant) is None


async def test_while_it_is_uninstalled_no_run_begins(stage: Stage) -> None:
    number = await stage.open_issue("Later")
    tenant = stage.installation
    await uninstalled(stage, tenant)
    await stage.comment(number, "@magicode fix this")
    await stage.settled()
    async with stage.house.store.transaction(tenant) as transaction:
        assert await transaction.runs() == []
    assert await ours(stage, number) == []


async def test_one_installations_trouble_keeps_no_other_waiting(stage: Stage) -> None:
    """The settings of one cannot be read; the service's own chain and others are looked at all the same."""

    class Troubled(Retention):
        async def sweep(self, installation_id: int, **how: Any) -> Swept:
            if installation_id == 0:
                raise TransientError(reason="database_away")
            return await super().sweep(installation_id, **how)

    house = stage.house
    rules = Troubled(house.store, house.ledger, house.objects, house.clock, ())
    done = await retaining.sweep(rules, await retaining.everybody(house.store), None)
    assert [one.installation_id for one in done] == [stage.installation]


async def old_entries(stage: Stage, count: int) -> None:
    """As if the log had begun more than a year ago."""
    tenant, house = stage.installation, stage.house
    for place in range(count):
        at = months_before(house.clock(), 14) + timedelta(days=place)
        await Ledger(house.store, house.keys, lambda at=at: at).record(tenant, Action.CODE_FETCHED)  # type: ignore[misc]


async def test_the_worker_looks_by_itself(
    raise_stage: Stages, sample: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "RETAIN_AFTER_SECONDS", 0.1)
    stage = await raise_stage({"octo/fairshare": sample}, notes(), working=False)
    await old_entries(stage, 5)
    async with asyncio.timeout(30), stage.at_work():
        while not any(entry.action == "retention.applied" for entry in await stage.log()):
            await asyncio.sleep(0.1)
    log = await stage.log()
    assert log[0].seq > 1
    assert verify(log).ok


async def magicode(stage: Stage, *arguments: str, typed: str = "") -> tuple[int, str, str]:
    bare = {name: value for name, value in os.environ.items() if not name.startswith("MAGICODE_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "app.cli",
        *arguments,
        env={**bare, **stage.environ, "MAGICODE_LOG_LEVEL": "ERROR"},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate(typed.encode())
    return process.returncode or 0, out.decode(), err.decode()


@pytest.mark.long
async def test_the_command_says_what_would_go_and_removes_it(raise_stage: Stages, sample: Path) -> None:
    stage = await raise_stage({"octo/fairshare": sample}, notes(), working=False)
    await old_entries(stage, 5)
    tenant = stage.installation
    code, out, err = await magicode(stage, "retention", "--dry-run", "--json")
    assert code == 0, err
    would = {one["installation_id"]: one["entries"] for one in json.loads(out)}
    assert would[tenant] == 4
    assert (await stage.log())[0].seq == 1
    code, out, err = await magicode(stage, "retention", "--installation", str(tenant))
    assert code == 0, err
    assert out == f"{tenant}: removed: 0 runs, 0 deliveries, 4 entries of the log, 0 exports.\n"
    log = await stage.log()
    assert (log[0].seq, log[-1].actor) == (5, "operator")
    house = stage.house
    await settings.change(
        house.store,
        house.ledger,
        house.clock,
        installation_id=tenant,
        by="ada",
        wanted=settings.wanted("legal-hold on"),
    )
    _, out, _ = await magicode(stage, "retention", "--installation", str(tenant))
    assert "a legal hold is on" in out


@pytest.mark.long
async def test_the_operator_keeps_a_key_that_a_customer_gives_from_standard_input(
    raise_stage: Stages, sample: Path
) -> None:
    hosts = {"MAGICODE_MODEL_HOSTS": "127.0.0.1"}
    stage = await raise_stage({"octo/fairshare": sample}, notes(), working=False, environ=hosts)
    named = ("--installation", str(stage.installation))
    key = stage.environ["ANTHROPIC_API_KEY"]
    given = ("provider-keys", "set", "anthropic", "--base-url", stage.model_url, *named)
    code, out, err = await magicode(stage, *given, "--json", typed=f"{key}\n")
    assert code == 0, err
    document = json.loads(out)
    assert (document["provider"], document["checked"]) == ("anthropic", True)
    assert key not in out + err
    code, out, err = await magicode(stage, *given, typed="sk-another-one-that-nobody-has\n")
    assert code == 1
    assert "refused the API key" in err
    code, out, _ = await magicode(stage, "provider-keys", "list", *named)
    assert code == 0
    assert out.count("\n") == 1
    assert stage.model_url in out
    assert key not in out
    code, out, _ = await magicode(stage, "provider-keys", "remove", "anthropic", *named)
    assert (code, out) == (0, "Removed.\n")
    code, out, _ = await magicode(stage, "provider-keys", "list", *named)
    assert (code, out) == (0, "")
    code, _, err = await magicode(stage, "provider-keys", "list", "--installation", "424242")
    assert code == 1
    assert "No installation with this id" in err
