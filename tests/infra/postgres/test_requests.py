"""A delivery and what it asks for are written down in one go, as they would be one after the other."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from app.nouns import Run, RunState
from app.ports import Transaction
from infra.postgres.store import PostgresStore
from tests.infra.postgres.test_store import NOW, a_run, an_entry

REFUSED = ["no_write_permission"]
HOUR = timedelta(hours=1)


async def ask(transaction: Transaction, run: Run, guid: str = "g", *, at_most: int = 2) -> Run | None:
    return await transaction.add_request(
        run,
        guid=guid,
        event="issue_comment",
        action=None,
        outcome="command:fix",
        since=NOW - HOUR,
        reasons=REFUSED,
        at_most=at_most,
    )


def deliveries(database: Any) -> list[tuple[int, str, str, str | None, str]]:
    with psycopg.connect(database.owner_url) as connection:
        return connection.execute(
            "SELECT installation_id, guid, event, action, outcome FROM magicode.deliveries ORDER BY guid"
        ).fetchall()


def chain_is_locked(database: Any) -> bool:
    with psycopg.connect(database.owner_url) as owner:
        held = owner.execute(
            "SELECT FROM pg_locks JOIN pg_database ON pg_database.oid = database AND datname = current_database()"
            " WHERE locktype = 'advisory' AND granted"
            " AND (classid::bigint << 32) | objid::bigint = hashtextextended('magicode.chain', 1)"
        )
        return held.rowcount > 0


async def test_both_are_there_and_the_log_waits_for_the_entry(store: PostgresStore, database: Any) -> None:
    run = a_run()
    async with store.transaction(1) as transaction:
        await transaction.add_entry(an_entry(1), b"s")
    async with store.transaction(1) as transaction:
        assert await ask(transaction, run) == run
        assert chain_is_locked(database)
        assert await transaction.last_entry() == an_entry(1)
        await transaction.add_entry(an_entry(2), b"s")
        assert await transaction.last_entry() == an_entry(2), "asked for anew once it was taken"
    async with store.transaction(1) as transaction:
        assert await transaction.run(run.id) == run
    assert deliveries(database) == [(1, "g", "issue_comment", None, "command:fix")]


async def test_the_first_of_a_log_has_none_before_it(store: PostgresStore) -> None:
    async with store.transaction(1) as transaction:
        assert await ask(transaction, a_run()) is not None
        assert await transaction.last_entry() is None


async def test_what_was_asked_already_is_not_asked_twice(store: PostgresStore, database: Any) -> None:
    first = a_run(meaning="m")
    async with store.transaction(1) as transaction:
        await ask(transaction, first)
    async with store.transaction(1) as transaction:
        assert await ask(transaction, replace(first, id=uuid4())) == first
        assert not chain_is_locked(database), "whoever has its row may wait for the log"
    async with store.transaction(1) as transaction:
        assert await ask(transaction, replace(first, id=uuid4()), "another") == first
        assert await transaction.runs() == [first]
    assert [one[1] for one in deliveries(database)] == ["another", "g"]


async def test_another_request_about_the_same_is_blocked(store: PostgresStore) -> None:
    async with store.transaction(1) as transaction:
        first = await ask(transaction, a_run(), "1")
        second = await ask(transaction, a_run(), "2")
    assert first is not None
    assert second is not None
    assert (first.blocked_by, second.blocked_by) == (None, first.id)


async def test_who_asked_in_vain_too_often_is_not_heard(store: PostgresStore, database: Any) -> None:
    refused = {"state": RunState.REFUSED, "reason": REFUSED[0]}
    async with store.transaction(1) as transaction:
        await transaction.add_run(a_run(**refused))
        await transaction.add_run(a_run(**refused, created_at=NOW - 2 * HOUR))
        await transaction.add_run(a_run(**refused | {"reason": "another"}))
        await transaction.add_run(a_run(**refused, asker_id=4))
        assert await ask(transaction, a_run(), "heard") is not None, (
            "one of the last hour, of that kind, of his own"
        )
        await transaction.add_run(a_run(**refused))
        unheard = a_run(number=8)
        assert await ask(transaction, unheard, "unheard") is None
        assert await transaction.run(unheard.id) is None
        assert await ask(transaction, a_run(number=9, asker_id=4), "another") is not None
    assert [one[1] for one in deliveries(database)] == ["another", "heard", "unheard"]


async def test_the_same_request_at_once_is_one_run_and_one_delivery(
    store: PostgresStore, database: Any
) -> None:
    wanted = a_run(meaning="m")

    async def once() -> Run | None:
        async with store.transaction(1) as transaction:
            added = await ask(transaction, replace(wanted, id=uuid4()))
            await asyncio.sleep(0.01)
            return added

    runs = await asyncio.gather(*(once() for _ in range(20)))
    assert len({run.id for run in runs if run is not None}) == 1
    assert len(deliveries(database)) == 1


async def test_nothing_of_it_stays_where_the_transaction_fails(store: PostgresStore, database: Any) -> None:
    run = a_run()

    async def fails() -> None:
        async with store.transaction(1) as transaction:
            await ask(transaction, run)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fails()
    async with store.transaction(1) as transaction:
        assert await transaction.run(run.id) is None
    assert deliveries(database) == []
    assert not chain_is_locked(database)
