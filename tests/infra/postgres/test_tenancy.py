"""Every way in which the store reads or changes rows, walked as one tenant beside another who has rows everywhere."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
import sqlalchemy.exc

from app.actionlog.entry import genesis
from app.errors import ErasedError
from app.nouns import (
    ApiToken,
    DataExport,
    Entry,
    Erasure,
    Hook,
    Installation,
    KeptAnswer,
    ProviderKey,
    Run,
    RunState,
    StoredSettings,
)
from app.ports import Transaction
from infra.postgres.store import PostgresStore, PostgresTransaction
from tests.conftest import Database
from tests.infra.postgres.test_requests import ask

MINE, THEIRS = 1, 2
NOW = datetime(2026, 11, 21, 9, tzinfo=UTC)
LATER = NOW + timedelta(days=1000)
RUN, EXPORT, TOKEN, HOOK = uuid4(), uuid4(), uuid4(), uuid4()
REPOSITORY, NUMBER, BRANCH = 77, 5, "magicode/issue-5"
MARK = "theirs"
"""Stands in each of the other tenant's rows, in whatever takes a word."""


def run(installation: int, identity: UUID = RUN) -> Run:
    return Run(
        id=identity,
        installation_id=installation,
        repository_id=REPOSITORY,
        number=NUMBER,
        is_pull_request=False,
        verb="fix",
        occasion="comment:1",
        comment_id=1,
        asker_id=9,
        asker_login=MARK,
        meaning="m",
        input_hash="h",
        cost_limit_usd=None,
        state=RunState.OPENED,
        attempt=1,
        blocked_by=None,
        cancel_requested=False,
        reason=MARK,
        status_comment_id=None,
        branch=BRANCH,
        base_sha=None,
        head_sha=None,
        pull_request=6,
        input_tokens=0,
        cached_tokens=0,
        output_tokens=0,
        cost_usd=Decimal(0),
        created_at=NOW,
        started_at=None,
        ended_at=NOW,
    )


def at_work() -> Run:
    return replace(run(THEIRS, uuid4()), state=RunState.RUNNING, meaning="m2", ended_at=None, number=8)


def entry(installation: int) -> Entry:
    return Entry(installation, 1, NOW, MARK, "x", RUN, b"", "", genesis(installation), MARK)


def erasure(installation: int) -> Erasure:
    return Erasure(installation, uuid4(), installation, 20, "asked", NOW, MARK, "begun")


EXPORTED = DataExport(EXPORT, "made", MARK, NOW, place=MARK)
OWN_KEY = ProviderKey("openai", MARK.encode(), MARK, NOW)
ANSWER = KeptAnswer(MARK, MARK, NOW, LATER, 200, MARK.encode())
CLAIM = KeptAnswer("claimed", MARK, NOW, LATER)
CHOSEN = StoredSettings(f'{{"is":"{MARK}"}}', True, MARK, NOW)


async def furnish(store: PostgresStore) -> Run:
    """The other tenant has a row in each table, and a job in each state of the queue."""
    await store.pause(THEIRS)
    await store.dedicate(THEIRS)
    async with store.transaction(THEIRS) as there:
        await there.put_installation(Installation(THEIRS, 20, MARK, suspended=False))
        await there.add_delivery(MARK, MARK, MARK, MARK)
        await there.add_run(run(THEIRS))
        busy = await there.add_run(at_work())
        await there.add_wrapped_key(MARK, MARK.encode())
        await there.add_entry(entry(THEIRS), MARK.encode())
        await there.put_settings(CHOSEN)
        await there.put_provider_key(OWN_KEY)
        await there.put_hook(Hook(HOOK, MARK.encode(), MARK, MARK, NOW))
        await there.put_export(EXPORTED)
        await there.put_api_token(ApiToken(TOKEN, MARK, MARK, MARK, NOW, NOW))
        for claim in (ANSWER, CLAIM):
            assert await there.claim_answer(replace(claim, status=None, sealed=None), NOW) is None
        assert await there.keep_answer(ANSWER)
        await there.defer("work", lock="theirs", delay_seconds=60, installation_id=THEIRS)
        assert await there.begin_erasure(erasure(THEIRS))
    return busy


Call = Callable[[PostgresTransaction, Run], Awaitable[object]]

CALLS: Mapping[str, Call] = {
    "add_delivery": lambda t, _: t.add_delivery(MARK, "e", None, "o"),
    "add_run": lambda t, _: t.add_run(replace(run(MINE), asker_login="mine", reason=None)),
    "run": lambda t, busy: t.run(busy.id, lock=True),
    "active_run": lambda t, busy: t.active_run(REPOSITORY, busy.number),
    "opened_for": lambda t, _: t.opened_for(REPOSITORY, 6),
    "runs": lambda t, _: t.runs(repository_id=REPOSITORY),
    "add_request": lambda t, _: ask(t, replace(run(MINE), asker_login="mine", reason=None), MARK),
    "update_run": lambda t, busy: t.update_run(busy.id, reason="changed"),
    "run_by_branch": lambda t, _: t.run_by_branch(REPOSITORY, BRANCH),
    "put_installation": lambda t, _: t.put_installation(Installation(THEIRS, 20, "mine", suspended=True)),
    "installation": lambda t, _: t.installation(),
    "wrapped_key": lambda t, _: t.wrapped_key(),
    "add_wrapped_key": lambda t, _: t.add_wrapped_key("k", b"mine"),
    "replace_wrapped_key": lambda t, _: t.replace_wrapped_key((MARK, MARK.encode()), ("k", b"mine")),
    "destroy_key": lambda t, _: t.destroy_key(),
    "settings": lambda t, _: t.settings(),
    "put_settings": lambda t, _: t.put_settings(StoredSettings("{}", False, "mine", NOW)),
    "provider_keys": lambda t, _: t.provider_keys(),
    "put_provider_key": lambda t, _: t.put_provider_key(ProviderKey("openai", b"mine", "mine", NOW)),
    "remove_provider_key": lambda t, _: t.remove_provider_key("openai"),
    "hooks": lambda t, _: t.hooks(),
    "put_hook": lambda t, _: t.put_hook(Hook(HOOK, b"mine", "mine", "mine", NOW)),
    "note_hook": lambda t, _: t.note_hook(HOOK, NOW, 200),
    "remove_hook": lambda t, _: t.remove_hook(HOOK),
    "exports": lambda t, _: t.exports(),
    "put_export": lambda t, _: t.put_export(DataExport(EXPORT, "asked", "mine", NOW)),
    "remove_export": lambda t, _: t.remove_export(EXPORT),
    "export_written": lambda t, _: t.export_written(EXPORT, 50),
    "api_tokens": lambda t, _: t.api_tokens(),
    "put_api_token": lambda t, _: t.put_api_token(ApiToken(TOKEN, "h", "mine", "mine", NOW, NOW)),
    "remove_api_token": lambda t, _: t.remove_api_token(TOKEN),
    "claim_answer": lambda t, _: t.claim_answer(replace(ANSWER, fingerprint="mine"), LATER),
    "keep_answer": lambda t, _: t.keep_answer(replace(CLAIM, status=201, sealed=b"mine")),
    "release_answer": lambda t, _: t.release_answer(CLAIM.key, CLAIM.made_at),
    "prune_answers": lambda t, _: t.prune_answers(LATER),
    "erasure": lambda t, _: t.erasure(lock=True),
    "begin_erasure": lambda t, _: t.begin_erasure(replace(erasure(THEIRS), asked_by="mine")),
    "update_erasure": lambda t, _: t.update_erasure(step="changed"),
    "erase_rows": lambda t, _: t.erase_rows(),
    "row_counts": lambda t, _: t.row_counts(),
    "rows": lambda t, _: t.rows("runs", limit=10),
    "spent": lambda t, _: t.spent(NOW - timedelta(days=1)),
    "used": lambda t, _: t.used(NOW - timedelta(days=1)),
    "opened_within": lambda t, _: t.opened_within(NOW - timedelta(days=1)),
    "prune_runs": lambda t, _: t.prune_runs(LATER),
    "prune_deliveries": lambda t, _: t.prune_deliveries(LATER),
    "entry_before": lambda t, _: t.entry_before(LATER),
    "prune_entries": lambda t, _: t.prune_entries(1),
    "drop_jobs": lambda t, _: t.drop_jobs("none", timedelta(seconds=30)),
    "jobs_at_work": lambda t, _: t.jobs_at_work("none", timedelta(days=1)),
    "last_entry": lambda t, _: t.last_entry(),
    "add_entry": lambda t, _: t.add_entry(entry(THEIRS), b"mine"),
    "entries": lambda t, _: t.entries(),
    "entry_counts": lambda t, _: t.entry_counts(NOW - timedelta(days=1), LATER),
}
"""Each with what belongs to the other tenant, wherever something can be named."""

NO_ROWS_OF_TENANTS = {
    "defer": "puts a job on the queue, whose arguments are ids alone",
    "waits": "asks the queue about a lock, whose name holds the tenant",
    "hasten": "asks the queue about a lock, whose name holds the tenant",
}


def test_no_way_to_the_rows_is_left_out() -> None:
    ways = {
        name for name, _ in inspect.getmembers(Transaction, inspect.isfunction) if not name.startswith("_")
    }
    assert ways == CALLS.keys() | NO_ROWS_OF_TENANTS.keys()


def everything_of(database: Database, installation: int) -> dict[str, list[Any]]:
    """All rows of a tenant, and its jobs, seen past the policies."""
    with psycopg.connect(database.owner_url) as connection:
        tables = connection.execute(
            "SELECT table_schema || '.' || table_name FROM information_schema.columns"
            " WHERE column_name = 'installation_id' AND table_schema LIKE 'magicode%'"
        ).fetchall()
        found = {
            table: connection.execute(
                f"SELECT * FROM {table} WHERE installation_id = {installation} ORDER BY 1, 2"
            ).fetchall()
            for (table,) in tables
        }
        found["jobs"] = connection.execute(
            "SELECT * FROM magicode_jobs.procrastinate_jobs WHERE args ->> 'installation_id' = %s",
            [str(installation)],
        ).fetchall()
    assert len(found) >= 10
    return found


@pytest.mark.parametrize("way", sorted(CALLS))
async def test_no_way_finds_or_changes_anything_of_another_tenant(
    way: str, store: PostgresStore, database: Database
) -> None:
    busy = await furnish(store)
    before = everything_of(database, THEIRS)
    assert all(before.values()), "the other tenant has a row everywhere"
    answer: object = None
    try:
        async with store.transaction(MINE) as here:
            answer = await CALLS[way](here, busy)
    except KeyError:
        answer = "not there"
    except sqlalchemy.exc.DBAPIError as error:
        answer = type(error.orig)
        assert answer is psycopg.errors.InsufficientPrivilege
    except psycopg.errors.InsufficientPrivilege:
        answer = "refused"
    assert MARK not in repr(answer)
    assert everything_of(database, THEIRS) == before


async def test_the_walk_would_notice(store: PostgresStore, database: Database) -> None:
    """The same ways, walked as the tenant itself, do find and change what is there."""
    busy = await furnish(store)
    noticed = set()
    for way in sorted(CALLS.keys() - {"prune_entries", "erase_rows", "add_entry", "add_wrapped_key"}):
        before = everything_of(database, THEIRS)
        async with store.transaction(THEIRS, erasing=True) as there:
            answer = await CALLS[way](there, busy)
        if MARK in repr(answer) or everything_of(database, THEIRS) != before:
            noticed.add(way)
    assert {
        "runs",
        "entries",
        "exports",
        "provider_keys",
        "note_hook",
        "remove_hook",
        "update_run",
        "drop_jobs",
    } <= noticed


async def test_nobody_enters_a_tenant_whose_erasure_has_begun(store: PostgresStore) -> None:
    await furnish(store)
    with pytest.raises(ErasedError):
        async with store.transaction(THEIRS):
            raise AssertionError("entered")
    async with store.transaction(THEIRS, erasing=True) as there:
        assert await there.erasure() is not None
    async with store.transaction(MINE) as here:
        assert await here.erasure() is None


async def test_an_erasure_waits_for_whoever_is_inside(store: PostgresStore) -> None:
    inside, may_leave = asyncio.Event(), asyncio.Event()

    async def somebody() -> None:
        async with store.transaction(THEIRS) as there:
            inside.set()
            await may_leave.wait()
            await there.add_delivery("late", "e", None, "o")

    staying = asyncio.create_task(somebody())
    await inside.wait()
    waiting = asyncio.create_task(store.alone(THEIRS))
    await asyncio.wait_for(store.alone(MINE), 5)
    assert not waiting.done()
    may_leave.set()
    await staying
    await asyncio.wait_for(waiting, 5)


async def test_the_tenant_behind_githubs_present_id_is_found(store: PostgresStore) -> None:
    assert await store.tenant_of(41) == 41, "one that is new stands for itself"
    again = Installation(7, 70, "acme", suspended=False, github_id=41)
    async with store.transaction(7) as there:
        await there.put_installation(again)
        assert await there.installation() == again
    assert await store.tenant_of(41) == 7
    assert list(await store.tenants_of_account(70)) == [7]
    async with store.transaction(7) as there:
        await there.begin_erasure(Erasure(7, uuid4(), 41, 70, "asked", NOW, None, "begun"))
    async with store.transaction(7, erasing=True) as there:
        await there.erase_rows()
    assert await store.tenant_of(41) == 7, "the tombstone keeps it"
    assert list(await store.tenants_of_account(70)) == []
    assert list(await store.erased_ids()) == [7]
