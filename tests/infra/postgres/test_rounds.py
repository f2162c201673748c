"""What one process does for everybody: one has it, it is due again in time, and nobody holds it for ever."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from app.nouns import Installation, Round
from infra.postgres.store import PostgresStore
from tests.conftest import Database

HOUR = timedelta(hours=1)


def an_hour_later(database: Database) -> None:
    with psycopg.connect(database.owner_url, autocommit=True) as owner:
        owner.execute("UPDATE magicode_jobs.rounds SET next_at = next_at - interval '1 hour'")


async def test_of_fifty_that_ask_at_once_one_has_it(store: PostgresStore) -> None:
    asked = await asyncio.gather(*(store.begin_round("a", HOUR) for _ in range(50)))
    assert sorted(asked, key=str) == [None] * 49 + [Round(None)]


async def test_it_is_due_again_after_its_pause_and_goes_on_from_where_it_came_to(
    store: PostgresStore, database: Database
) -> None:
    since = datetime(2026, 11, 1, tzinfo=UTC)
    assert await store.begin_round("a", HOUR) == Round(None)
    await store.end_round("a", HOUR, since)
    assert await store.begin_round("a", HOUR) is None
    an_hour_later(database)
    assert await store.begin_round("a", HOUR) == Round(since)
    await store.end_round("a", timedelta(0))
    assert await store.begin_round("a", HOUR) == Round(since), "one that came nowhere forgets nothing"


async def test_whoever_dies_over_it_is_replaced_when_the_lease_has_run_out(
    store: PostgresStore, database: Database
) -> None:
    assert await store.begin_round("a", HOUR) == Round(None)
    assert await store.begin_round("a", HOUR) is None
    an_hour_later(database)
    assert await store.begin_round("a", HOUR) == Round(None)


async def test_rounds_do_not_wait_for_each_other(store: PostgresStore) -> None:
    assert await store.begin_round("a", HOUR) == Round(None)
    assert await store.begin_round("b", HOUR) == Round(None)


# --- what stands as GitHub lists it ------------------------------------------------------------------------------------

OCTO = Installation(7, 70, "octo", suspended=False, github_id=7)


async def put(store: PostgresStore, installation: Installation) -> None:
    async with store.transaction(installation.id) as transaction:
        await transaction.put_installation(installation)


def listed(installation: Installation) -> Installation:
    """As GitHub's list has it: no tenant of ours."""
    return replace(installation, id=installation.present_id, github_id=None)


async def test_what_stands_just_so_is_found_under_its_present_id(store: PostgresStore) -> None:
    back = replace(OCTO, id=3, github_id=30, account_id=33, account_login="came-back")
    await put(store, OCTO)
    await put(store, back)
    assert await store.standing([listed(OCTO), listed(back)]) == {7: 7, 30: 3}
    assert await store.standing([]) == {}


@pytest.mark.parametrize(
    "change",
    [
        {"account_login": "renamed"},
        {"account_id": 71},
        {"account_type": "Organization" if OCTO.account_type == "User" else "User"},
        {"suspended": True},
    ],
    ids=lambda change: next(iter(change)),
)
async def test_what_github_lists_otherwise_is_not(store: PostgresStore, change: dict[str, Any]) -> None:
    await put(store, OCTO)
    assert await store.standing([listed(replace(OCTO, **change))]) == {}


async def test_what_was_uninstalled_or_is_unknown_is_not(store: PostgresStore) -> None:
    await put(store, replace(OCTO, uninstalled_at=datetime(2026, 11, 1, tzinfo=UTC)))
    assert await store.standing([listed(OCTO), listed(replace(OCTO, id=8, github_id=8))]) == {}


def test_who_asks_without_knowing_learns_nothing(database: Database) -> None:
    """It is asked in nobody's name: whatever of a row is not said comes to no answer."""
    with psycopg.connect(database.owner_url, autocommit=True) as owner:
        owner.execute(
            "INSERT INTO magicode.installations (installation_id, account_id, account_login, account_type, suspended) VALUES (7, 70, 'octo', 'User', false)"
        )
    asked = "SELECT * FROM magicode.standing(ARRAY[7::bigint], ARRAY[{}::bigint], ARRAY[{}], ARRAY['User'], ARRAY[false])"
    with psycopg.connect(database.service_url) as service:
        assert service.execute(asked.format("NULL", "'octo'")).fetchall() == []
        assert service.execute(asked.format("70", "NULL")).fetchall() == []
        assert service.execute(asked.format("70", "'octo'")).fetchall() == [(7, 7)]
