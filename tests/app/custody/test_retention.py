"""What is removed and when, on the real store: runs, deliveries, the log's beginning, exports, and what stops it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.actionlog.export import opened
from app.actionlog.ledger import Ledger
from app.actionlog.verify import verify
from app.custody import retention, settings
from app.custody.keys import Keys
from app.custody.retention import Retention, Swept, months_before
from app.errors import ErasedError
from app.jobs.accept import STILL_OPEN
from app.nouns import Action, DataExport, Erasure, Installation, KeptAnswer, Run, RunState
from app.ports import Store
from tests.conftest import Database

NOW = datetime.now(UTC)
Register = Callable[..., Awaitable[Any]]


class Master:
    id = "turned"

    def wrap(self, key: bytes) -> bytes:
        return key[::-1]

    def unwrap(self, _master_key_id: str, wrapped: bytes) -> bytes:
        return wrapped[::-1]


KEYS = Keys(Master())


class Shelf:
    """As much of `app.ports.Objects` as retention needs."""

    def __init__(self, *names: str) -> None:
        self.held = set(names)

    async def put(self, name: str, pieces: AsyncIterator[bytes]) -> int:
        raise NotImplementedError

    def get(self, name: str) -> AsyncIterator[bytes]:
        raise NotImplementedError

    async def names(self, within: str) -> Sequence[str]:
        return sorted(one for one in self.held if one.startswith(f"{within}/"))

    async def delete(self, name: str) -> None:
        self.held.discard(name)


def rules(store: Store, *, now: datetime = NOW, objects: Shelf | None = None) -> Retention:
    ledger = Ledger(store, KEYS, lambda: now)
    return Retention(store, ledger, objects or Shelf(), lambda: now, sorted(STILL_OPEN))


def a_run(
    ended: datetime | None, *, reason: str = "answered", state: RunState | None = None, tenant: int = 1
) -> Run:
    began = (ended or NOW) - timedelta(minutes=5)
    return Run(
        id=uuid4(),
        installation_id=tenant,
        repository_id=7,
        number=int(began.timestamp()),
        is_pull_request=False,
        verb="fix",
        occasion="comment:1",
        comment_id=1,
        asker_id=1,
        asker_login="wim",
        meaning=uuid4().hex,
        input_hash="",
        cost_limit_usd=None,
        state=state or (RunState.ANSWERED if ended else RunState.RUNNING),
        attempt=1,
        blocked_by=None,
        cancel_requested=False,
        reason=reason if ended else None,
        status_comment_id=None,
        branch="magicode/issue-1",
        base_sha=None,
        head_sha=None,
        pull_request=5,
        input_tokens=0,
        cached_tokens=0,
        output_tokens=0,
        cost_usd=Decimal("1.5"),
        created_at=began,
        started_at=began,
        ended_at=ended,
    )


async def add(store: Store, *runs: Run) -> None:
    for one in runs:
        async with store.transaction(one.installation_id) as transaction:
            await transaction.add_run(one)


async def left(store: Store, tenant: int = 1) -> set[UUID]:
    async with store.transaction(tenant) as transaction:
        return {one.id for one in await transaction.runs()}


async def entries_at(store: Store, *moments: datetime, tenant: int = 1) -> None:
    for one in moments:
        ledger = Ledger(store, KEYS, lambda one=one: one)  # type: ignore[misc]
        await ledger.record(tenant, Action.CODE_FETCHED, facts={"files": 1})


async def log(store: Store, tenant: int = 1) -> list[Any]:
    return [one async for one in opened(store, KEYS, tenant)]


async def choose(store: Store, words: str) -> None:
    ledger = Ledger(store, KEYS, lambda: NOW)
    await settings.change(
        store, ledger, lambda: NOW, installation_id=1, by="ada", wanted=settings.wanted(words)
    )


def ago(months: int, days: int = 0) -> datetime:
    return months_before(NOW, months) - timedelta(days=days)


async def test_answers_of_the_api_go_after_their_day_without_a_word_and_not_under_a_legal_hold(
    store: Store, register: Register
) -> None:
    await register(1)
    over = KeptAnswer("over", "f", NOW - timedelta(days=2), NOW - timedelta(days=1))
    young = KeptAnswer("young", "f", NOW, NOW + timedelta(days=1))
    async with store.transaction(1) as transaction:
        for one in (over, young):
            assert await transaction.claim_answer(one, NOW - timedelta(days=3)) is None

    async def kept() -> int:
        async with store.transaction(1) as transaction:
            return (await transaction.row_counts())["kept_answers"]

    await rules(store).sweep(1, dry=True)
    await choose(store, "legal-hold on")
    await rules(store).sweep(1)
    assert await kept() == 2
    await choose(store, "legal-hold off")
    entries = len(await log(store))
    assert (await rules(store).sweep(1)).removed == 0
    assert await kept() == 1
    assert len(await log(store)) == entries


async def test_runs_that_ended_too_long_ago_go_and_others_stay(store: Store, register: Register) -> None:
    await register(1)
    await register(2)
    old, young, at_work = a_run(ago(12, 1)), a_run(ago(12) + timedelta(days=1)), a_run(None)
    others = a_run(ago(30), tenant=2)
    await add(store, old, young, at_work, others)
    swept = await rules(store).sweep(1)
    assert swept.runs == 1
    assert await left(store) == {young.id, at_work.id}
    assert await left(store, 2) == {others.id}


async def test_the_runs_of_open_pull_requests_are_remembered_for_twelve_months(
    store: Store, register: Register
) -> None:
    await register(1)
    await choose(store, "keep-runs 1 month")
    opened_draft = a_run(ago(3), reason="opened_as_draft", state=RunState.OPENED)
    still_open = a_run(ago(11), reason="opened", state=RunState.OPENED)
    merged = a_run(ago(3), reason="merged", state=RunState.OPENED)
    very_old = a_run(ago(13), reason="opened", state=RunState.OPENED)
    await add(store, opened_draft, still_open, merged, very_old)
    assert (await rules(store).sweep(1)).runs == 2
    assert await left(store) == {opened_draft.id, still_open.id}


async def test_the_logs_beginning_goes_and_what_is_left_still_verifies(
    store: Store, register: Register
) -> None:
    await register(1)
    await entries_at(store, ago(20), ago(15), ago(12, 1), ago(2), ago(1))
    swept = await rules(store).sweep(1)
    assert (swept.entries, swept.up_to_seq) == (3, 3)
    found = await log(store)
    assert [one.seq for one in found] == [4, 5, 6]
    assert found[-1].action == "retention.applied"
    told = dict(found[-1].details)
    assert (told["up_to_seq"], told["entries"], told["runs"]) == (3, 3, 0)
    assert verify(found).ok
    beheaded = [one for one in found if one.action != "retention.applied"]
    assert not verify(beheaded).ok, "without the attestation a cut beginning is a cut beginning"


async def test_a_long_beginning_goes_in_parts_so_that_nobody_waits_long(
    store: Store, register: Register
) -> None:
    await register(1)
    await entries_at(store, *(ago(20) + timedelta(days=day) for day in range(11)), ago(1))
    swept = await replace(rules(store), at_once=4).sweep(1)
    assert (swept.entries, swept.up_to_seq) == (11, 11)
    found = await log(store)
    assert [dict(one.details)["up_to_seq"] for one in found if one.action == "retention.applied"] == [
        4,
        8,
        11,
    ]
    assert verify(found).ok


async def test_where_all_of_the_log_is_old_its_head_stays(store: Store, register: Register) -> None:
    await register(1)
    await entries_at(store, ago(20), ago(15), ago(14))
    assert (await rules(store).sweep(1)).entries == 2
    found = await log(store)
    assert [one.seq for one in found] == [3, 4]
    assert verify(found).ok


async def test_a_log_with_one_entry_and_one_with_none_are_left_alone(
    store: Store, register: Register
) -> None:
    await register(1)
    await register(2)
    await entries_at(store, ago(20))
    assert (await rules(store).sweep(1)).removed == 0
    assert (await rules(store).sweep(2)).removed == 0
    assert len(await log(store)) == 1
    assert await log(store, 2) == []


async def test_a_log_that_is_kept_longer_than_the_runs_is_kept(store: Store, register: Register) -> None:
    await register(1)
    await entries_at(store, ago(20), ago(15))
    await add(store, a_run(ago(20)))
    await choose(store, "keep-log 24 months")
    swept = await rules(store).sweep(1)
    assert (swept.runs, swept.entries, swept.up_to_seq) == (1, 0, None)
    assert [one.action for one in await log(store)][-1] == "retention.applied"
    assert verify(await log(store)).ok


async def test_old_deliveries_go(store: Store, register: Register, database: Database) -> None:
    await register(1)
    async with store.transaction(1) as transaction:
        for guid in ("old", "young"):
            await transaction.add_delivery(guid, "issues", None, "ping")
    with psycopg.connect(database.owner_url) as connection:
        connection.execute("SET ROLE magicode_owner")
        connection.execute("SELECT set_config('magicode.installation', '1', false)")
        connection.execute(
            "UPDATE magicode.deliveries SET received_at = now() - interval '31 days' WHERE guid = 'old'"
        )
    assert (await rules(store).sweep(1)).deliveries == 1
    assert (await rules(store).sweep(1, anyway=True)).deliveries == 0


async def test_a_legal_hold_stops_all_of_it(store: Store, register: Register) -> None:
    await register(1)
    await entries_at(store, ago(20), ago(15))
    await add(store, a_run(ago(20)))
    await put_export(store, an_export(NOW - timedelta(days=1)))
    await paused(store, uninstalled_at=NOW - timedelta(days=200))
    await choose(store, "legal-hold on")
    shelf = Shelf("1/export")
    swept = await rules(store, objects=shelf).sweep(1, anyway=True)
    assert swept == Swept(1, held=True)
    assert len(await left(store)) == 1
    assert len(await log(store)) == 3
    assert shelf.held == {"1/export"}
    await choose(store, "legal-hold off")
    swept = await rules(store, objects=shelf).sweep(1, anyway=True)
    assert (swept.runs, swept.exports, swept.erase) == (1, 1, "uninstalled")


async def test_a_dry_run_says_what_would_go_and_removes_nothing(store: Store, register: Register) -> None:
    await register(1)
    await entries_at(store, ago(20), ago(15), ago(1))
    await add(store, a_run(ago(20)), a_run(ago(1)))
    await put_export(store, an_export(NOW - timedelta(days=1)))
    shelf = Shelf("1/export")
    dry = await rules(store, objects=shelf).sweep(1, dry=True)
    assert (dry.runs, dry.entries, dry.exports) == (1, 2, 1)
    assert len(await left(store)) == 2
    assert len(await log(store)) == 3
    assert shelf.held == {"1/export"}
    wet = await rules(store, objects=shelf).sweep(1)
    assert (wet.runs, wet.deliveries, wet.entries, wet.exports) == (1, 0, 2, 1)


async def test_workers_that_sweep_at_once_do_it_once(store: Store, register: Register) -> None:
    await register(1)
    await entries_at(store, ago(20), ago(15), ago(1))
    await add(store, *(a_run(ago(20, day)) for day in range(5)))
    swept = await asyncio.gather(*(rules(store).sweep(1, anyway=True) for _ in range(6)))
    assert sum(one.runs for one in swept) == 5
    assert sum(one.entries for one in swept) == 2
    found = await log(store)
    assert [one.action for one in found].count("retention.applied") == 1
    assert verify(found).ok


async def test_an_hourly_look_removes_once_a_day_and_at_once_after_a_change(
    store: Store, register: Register
) -> None:
    await register(1)
    await add(store, a_run(ago(20)), a_run(ago(11)))
    assert (await rules(store).sweep(1)).runs == 1
    await add(store, a_run(ago(20)))
    assert (await rules(store, now=NOW + timedelta(hours=1)).sweep(1)).runs == 0
    assert (await rules(store, now=NOW + timedelta(hours=21)).sweep(1)).runs == 1
    later = NOW + timedelta(hours=22)
    ledger = Ledger(store, KEYS, lambda: later)
    wanted = settings.wanted("keep-runs 2 months")
    await settings.change(store, ledger, lambda: later, installation_id=1, by="ada", wanted=wanted)
    assert (await rules(store, now=NOW + timedelta(hours=23)).sweep(1)).runs == 1


async def test_nothing_old_leaves_no_entry(store: Store, register: Register) -> None:
    await register(1)
    await entries_at(store, ago(1))
    await add(store, a_run(ago(1)))
    assert (await rules(store).sweep(1)).removed == 0
    assert len(await log(store)) == 1


# --- exports ---------------------------------------------------------------------------------------------------------


def an_export(expires: datetime | None, *, state: str = "made", asked: datetime = NOW) -> DataExport:
    place = "1/export" if state == "made" else None
    return DataExport(uuid4(), state, "ada", asked, place=place, expires_at=expires)


async def put_export(store: Store, export: DataExport) -> None:
    async with store.transaction(1) as transaction:
        await transaction.put_export(export)


async def test_exports_that_can_be_fetched_no_longer_go_with_their_objects(
    store: Store, register: Register
) -> None:
    await register(1)
    young = replace(an_export(NOW + timedelta(days=1)), place="1/young")
    asked = an_export(None, state="asked")
    failed = an_export(None, state="failed", asked=NOW - timedelta(days=8))
    for one in (an_export(NOW - timedelta(seconds=1)), young, asked, failed):
        await put_export(store, one)
    shelf = Shelf("1/export", "1/young")
    assert (await rules(store, objects=shelf).sweep(1)).exports == 2
    assert shelf.held == {"1/young"}
    async with store.transaction(1) as transaction:
        assert {one.id for one in await transaction.exports()} == {young.id, asked.id}


# --- who stays away --------------------------------------------------------------------------------------------------


async def paused(store: Store, **since: datetime) -> None:
    async with store.transaction(1) as transaction:
        await transaction.put_installation(Installation(1, 10, "octo", False, **since))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("since", "reason"),
    [
        ({}, None),
        ({"uninstalled_at": NOW - timedelta(days=89)}, None),
        ({"uninstalled_at": NOW - timedelta(days=90)}, "uninstalled"),
        ({"plan_cancelled_at": NOW - timedelta(days=28)}, None),
        ({"plan_cancelled_at": NOW - timedelta(days=30)}, "plan_cancelled"),
        ({"plan_cancelled_at": NOW + timedelta(days=10)}, None),
        (
            {"plan_cancelled_at": NOW + timedelta(days=10), "uninstalled_at": NOW - timedelta(days=90)},
            "uninstalled",
        ),
        ({"plan_cancelled_at": NOW - timedelta(days=30), "uninstalled_at": NOW}, "plan_cancelled"),
        (
            {
                "plan_cancelled_at": NOW - timedelta(days=10),
                "uninstalled_at": NOW - timedelta(days=80),
            },
            None,
        ),
        (
            {
                "plan_cancelled_at": NOW - timedelta(days=30),
                "uninstalled_at": NOW - timedelta(days=80),
            },
            "plan_cancelled",
        ),
    ],
)
async def test_what_is_paused_for_long_enough_is_due_to_be_destroyed(
    store: Store, register: Register, since: dict[str, datetime], reason: str | None
) -> None:
    await register(1)
    await paused(store, **since)
    assert (await rules(store).sweep(1)).erase == reason
    async with store.transaction(1) as transaction:
        assert await retention.is_due(transaction, lambda: NOW) == (reason is not None)


async def test_who_wants_nothing_kept_is_due_at_once_and_who_comes_back_is_not(
    store: Store, register: Register
) -> None:
    await register(1)
    await choose(store, "keep-uninstalled 0 days")
    await paused(store, uninstalled_at=NOW)
    assert (await rules(store).sweep(1)).erase == "uninstalled"
    await paused(store, plan_cancelled_at=NOW)
    assert (await rules(store).sweep(1)).erase == "plan_cancelled"
    await paused(store)
    assert (await rules(store).sweep(1)).erase is None


async def test_what_is_being_destroyed_is_passed_over(store: Store, register: Register) -> None:
    await register(1)
    async with store.transaction(1) as transaction:
        erasure = Erasure(1, uuid4(), 1, 10, "asked", NOW, "ada", "begun")
        assert await transaction.begin_erasure(erasure)
    with pytest.raises(ErasedError):
        await rules(store).sweep(1)


@given(st.dates(date(2000, 1, 1), date(2100, 1, 1)), st.integers(0, 240))
def test_months_before_is_the_same_day_or_the_months_last(day: date, months: int) -> None:
    found = months_before(datetime(day.year, day.month, day.day, 7, 30, tzinfo=UTC), months)
    assert (day.year * 12 + day.month) - (found.year * 12 + found.month) == months
    assert found.day == day.day or (found.day < day.day and (found + timedelta(days=1)).day == 1)
