"""Whose turn it is to ask GitHub: one line for all processes, by the database's clock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from app.errors import LimitedError
from app.nouns import GitHubShare, GitHubTurn
from infra.github.pace import Shared
from infra.postgres.paces import PostgresPaces
from infra.postgres.store import PostgresStore
from tests.conftest import Database

SHARE = GitHubShare(timedelta(seconds=1), writes_per_minute=70, writes_per_hour=480, points_per_minute=720)


@pytest.fixture
async def paces(store: PostgresStore) -> PostgresPaces:
    return store.paces


@pytest.fixture
async def other(database: Database) -> AsyncIterator[PostgresPaces]:
    """Another process's."""
    store = PostgresStore(database.service_url)
    yield store.paces
    await store.close()


async def turn(
    paces: PostgresPaces, share: GitHubShare = SHARE, installation: int = 1, **how: Any
) -> GitHubTurn:
    asked = {"points": 5, "writes": True, "urgent": False, "longest": timedelta(days=2), **how}
    return await paces.turn(installation, share, **asked)


def aged(database: Database, by: str) -> None:
    with psycopg.connect(database.owner_url, autocommit=True) as connection:
        connection.execute(f"UPDATE magicode_jobs.github_turns SET at = at - interval '{by}'")  # type: ignore[arg-type]


def seconds(waits: list[GitHubTurn]) -> list[int]:
    return [round(one.wait.total_seconds()) for one in waits]


async def test_writes_of_two_processes_have_one_line(paces: PostgresPaces, other: PostgresPaces) -> None:
    share = GitHubShare(timedelta(seconds=10))
    waits = await asyncio.gather(*(turn(one, share) for one in (paces, other) * 4))
    assert sorted(seconds(list(waits))) == [0, 10, 20, 30, 40, 50, 60, 70]
    assert (await turn(paces, share, installation=2)).wait.total_seconds() < 1, "another's line is another"


async def test_a_turn_that_is_too_far_away_is_not_taken(paces: PostgresPaces) -> None:
    share = GitHubShare(timedelta(seconds=40))
    soon = timedelta(seconds=30)
    assert [(await turn(paces, share, longest=soon)).taken for _ in range(3)] == [True, False, False]


async def test_no_hour_and_no_minute_holds_more_than_its_share(
    paces: PostgresPaces, database: Database
) -> None:
    share = GitHubShare(timedelta(0), writes_per_minute=3, writes_per_hour=5)
    waits = [await turn(paces, share) for _ in range(7)]
    assert seconds(waits) == [0, 0, 0, 60, 60, 3600, 3600]
    aged(database, "2 hours 1 minute")
    assert seconds([await turn(paces, share)]) == [0]
    with psycopg.connect(database.owner_url) as connection:
        (left,) = connection.execute("SELECT count(*) FROM magicode_jobs.github_turns").fetchone() or (None,)
    assert left == 1, "what no window holds any more is forgotten"


async def test_points_are_counted_by_the_minute(paces: PostgresPaces, database: Database) -> None:
    share = GitHubShare(points_per_minute=25)
    assert seconds([await turn(paces, share, points=10, writes=False) for _ in range(3)]) == [0, 0, 60]
    assert seconds([await turn(paces, share, points=5, writes=False)]) == [60], "behind the one that waits"
    aged(database, "121 seconds")
    assert seconds([await turn(paces, share, points=20, writes=False)]) == [0]


async def test_what_github_refused_to_one_is_asked_by_nobody(
    paces: PostgresPaces, other: PostgresPaces
) -> None:
    await paces.hold(1, timedelta(minutes=50), spare=False)
    await other.hold(1, timedelta(minutes=5), spare=False)
    assert seconds([await turn(other, urgent=urgent) for urgent in (False, True)]) == [3000, 3001]


async def test_the_spare_is_kept_for_what_is_urgent(paces: PostgresPaces, other: PostgresPaces) -> None:
    await paces.hold(1, timedelta(minutes=50), spare=True)
    assert seconds([await turn(other, urgent=urgent) for urgent in (True, False)]) == [0, 3000]


async def test_the_services_role_reads_nobodys_turns(database: Database) -> None:
    for table in ("github_turns", "github_holds"):
        with (
            psycopg.connect(database.service_url) as connection,
            pytest.raises(psycopg.errors.InsufficientPrivilege),
        ):
            connection.execute(f"SELECT * FROM magicode_jobs.{table}")  # type: ignore[arg-type]


# --- as a token's requests use it ------------------------------------------------------------------------------------


async def test_what_becomes_of_a_run_can_be_said_when_nothing_else_can_be_written(
    paces: PostgresPaces,
) -> None:
    share = GitHubShare(timedelta(0), writes_per_minute=1000, writes_per_hour=102)
    work, words = Shared(paces, 1, share), Shared(paces, 1, share, urgent=True)
    await work.begin()
    for _ in range(2):
        await work.write()
    with pytest.raises(LimitedError) as begun:
        await work.begin()
    assert (begun.value.reason, begun.value.retry_after is not None) == ("paced", True)
    for _ in range(60):
        await work.write()
    with pytest.raises(LimitedError):
        await work.write()
    for _ in range(40):
        await words.write()
    with pytest.raises(LimitedError):
        await words.write()


async def test_the_last_of_the_hours_requests_are_kept_for_words(paces: PostgresPaces) -> None:
    work, words = Shared(paces, 1, SHARE), Shared(paces, 1, SHARE, urgent=True)
    told = {
        "date": "Sat, 21 Nov 2026 12:00:00 GMT",
        "x-ratelimit-limit": "5000",
        "x-ratelimit-reset": "1795264200",  # 12:30
    }
    await work.seen({**told, "x-ratelimit-remaining": "101"})
    await work.read()
    await work.seen({**told, "x-ratelimit-remaining": "100"})
    with pytest.raises(LimitedError) as limited:
        await work.write()
    assert round((limited.value.retry_after or timedelta(0)).total_seconds() / 60) == 30
    await words.write()
    await words.read()


async def test_reads_are_asked_for_ten_at_a_time(paces: PostgresPaces, database: Database) -> None:
    work = Shared(paces, 1, SHARE)
    for _ in range(11):
        await work.read()
    with psycopg.connect(database.owner_url) as connection:
        rows = connection.execute("SELECT points FROM magicode_jobs.github_turns").fetchall()
    assert rows == [(10,), (10,)]
