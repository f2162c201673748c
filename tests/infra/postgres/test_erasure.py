"""What the database itself holds to in an erasure: what may go, behind what, and what stays."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import psycopg
import pytest
import sqlalchemy.exc

from app.actionlog.ledger import Ledger
from app.custody.keys import Keys
from app.nouns import Action, Erasure, Installation
from infra.postgres.store import PostgresStore
from tests.conftest import Database

NOW = datetime(2027, 3, 1, tzinfo=UTC)
HEARD = timedelta(seconds=30)


class Master:
    id = "m"

    def wrap(self, key: bytes) -> bytes:
        return key[::-1]

    def unwrap(self, master_key_id: str, wrapped: bytes) -> bytes:
        return wrapped[::-1]


def erasure(tenant: int) -> Erasure:
    return Erasure(tenant, uuid4(), tenant, tenant * 10, "asked", NOW, "ada", "begun")


async def fill(store: PostgresStore, tenant: int) -> None:
    async with store.transaction(tenant) as transaction:
        await transaction.put_installation(Installation(tenant, tenant * 10, "acme", suspended=False))
    ledger = Ledger(store, Keys(Master()), lambda: NOW)
    for _ in range(3):
        await ledger.record(tenant, Action.COMMENT_CREATED)


async def test_the_log_goes_behind_a_destroyed_key_alone(store: PostgresStore) -> None:
    await fill(store, 1)
    async with store.transaction(1) as transaction:
        await transaction.begin_erasure(erasure(1))
    with pytest.raises(sqlalchemy.exc.DBAPIError, match="behind its key"):
        async with store.transaction(1, erasing=True) as transaction:
            await transaction.erase_rows()
    async with store.transaction(1, erasing=True) as transaction:
        assert (await transaction.row_counts())["installations"] == 1, "all of them went back"
        assert await transaction.destroy_key()
        assert not await transaction.destroy_key()
        removed = await transaction.erase_rows()
    assert (removed["entries"], removed["installations"], removed["data_keys"]) == (3, 1, 0)


async def test_the_log_goes_in_an_erasure_alone(store: PostgresStore) -> None:
    await fill(store, 1)
    async with store.transaction(1) as transaction:
        await transaction.destroy_key()
        with pytest.raises(sqlalchemy.exc.DBAPIError, match="in an erasure"):
            await transaction.erase_rows()
    async with store.transaction(1) as transaction:
        assert (await transaction.row_counts())["entries"] == 3


async def test_the_tombstone_stays_and_the_service_cannot_remove_it(
    store: PostgresStore, database: Database
) -> None:
    await fill(store, 1)
    async with store.transaction(1) as transaction:
        assert await transaction.begin_erasure(erasure(1))
        assert not await transaction.begin_erasure(erasure(1)), "a second one"
        await transaction.destroy_key()
        await transaction.erase_rows()
    async with store.transaction(1, erasing=True) as transaction:
        assert await transaction.erasure() is not None
        assert not any((await transaction.row_counts()).values())
    with psycopg.connect(database.service_url) as connection:
        connection.execute("SELECT set_config('magicode.installation', '1', false)")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("DELETE FROM magicode.erasures")


async def test_a_table_that_nobody_thought_of_is_counted_and_erased(
    store: PostgresStore, database: Database
) -> None:
    await fill(store, 1)
    await fill(store, 2)
    with psycopg.connect(database.owner_url) as connection:
        connection.execute("CREATE TABLE magicode.later (installation_id bigint, what text)")
        connection.execute("GRANT SELECT, INSERT, DELETE ON magicode.later TO magicode_service")
        connection.execute("INSERT INTO magicode.later VALUES (1, 'x'), (1, 'y'), (2, 'z')")
    async with store.transaction(1) as transaction:
        await transaction.begin_erasure(erasure(1))
        assert (await transaction.row_counts())["later"] == 2
        await transaction.destroy_key()
        assert (await transaction.erase_rows())["later"] == 2
        assert (await transaction.row_counts())["later"] == 0
    async with store.transaction(2) as transaction:
        assert (await transaction.row_counts())["later"] == 1


async def test_the_jobs_of_the_tenant_go_but_the_one_that_destroys_it(
    store: PostgresStore, database: Database
) -> None:
    for tenant in (1, 2):
        async with store.transaction(tenant) as transaction:
            await transaction.defer("work", lock=f"{tenant}", installation_id=tenant)
            await transaction.defer("follow", behind=True, delay_seconds=60, installation_id=tenant)
            await transaction.defer("erase", installation_id=tenant)
    with psycopg.connect(database.owner_url, autocommit=True) as connection:
        connection.execute("SET search_path = magicode_jobs")
        worker = connection.execute(
            "INSERT INTO procrastinate_workers DEFAULT VALUES RETURNING id"
        ).fetchone()
        assert worker is not None
        connection.execute("UPDATE procrastinate_jobs SET status = 'doing', worker_id = %s", worker)
        connection.execute(
            "UPDATE procrastinate_jobs SET status = 'todo', worker_id = NULL WHERE task_name = 'follow'"
        )
        async with store.transaction(1) as transaction:
            assert await transaction.jobs_at_work("erase", HEARD) == 1
            assert await transaction.drop_jobs("erase", HEARD) == 1
        connection.execute("UPDATE procrastinate_workers SET last_heartbeat = now() - interval '1 minute'")
        async with store.transaction(1) as transaction:
            assert await transaction.jobs_at_work("erase", HEARD) == 0
            assert await transaction.drop_jobs("erase", HEARD) == 1
        left = connection.execute(
            "SELECT args ->> 'installation_id', task_name FROM procrastinate_jobs ORDER BY 1, 2"
        ).fetchall()
    assert left == [("1", "erase"), ("2", "erase"), ("2", "follow"), ("2", "work")]
