"""A connection's pipeline whose server goes away in the middle."""

from __future__ import annotations

import asyncio
import os
import signal

import psycopg
import pytest
from psycopg.pq import PipelineStatus

from infra.postgres.connect import Connection, in_step, parameters
from tests.conftest import Database
from tests.faults.servers import CRASH, IMMEDIATE, own_server


@pytest.mark.parametrize("how", [IMMEDIATE, signal.SIGTERM, CRASH])
async def test_a_pipeline_whose_server_goes_behind_its_last_statement_says_that_the_connection_is_lost(
    how: signal.Signals,
) -> None:
    with own_server() as server:
        connection = await Connection.connect(**parameters(server.url))
        try:
            with pytest.raises(psycopg.OperationalError):
                await deserted(connection, how)
            assert connection.closed
        finally:
            await connection.close()


async def deserted(connection: Connection, how: signal.Signals) -> None:
    async with connection.pipeline():
        await connection.execute("SELECT pg_sleep(60)")
        os.kill(connection.info.backend_pid, how)
        await asyncio.sleep(0.5)


async def test_a_pipeline_that_could_not_begin_leaves_nothing_behind(database: Database) -> None:
    connection = await Connection.connect(**parameters(database.service_url))
    await connection.close()
    with pytest.raises(psycopg.OperationalError):
        async with connection.pipeline():
            pass
    assert connection._pipeline is None


async def test_whoever_is_cancelled_when_a_pipeline_has_just_begun_has_left_it(database: Database) -> None:
    connection = await Connection.connect(**parameters(database.service_url))
    try:
        await connection.execute("SELECT 1")
        await connection.rollback()
        await asyncio.sleep(0.02)  # behind it psycopg gives others a turn, whatever was done

        async def enters() -> None:
            async with connection.pipeline():
                await asyncio.sleep(60)

        entering = asyncio.create_task(enters())
        await asyncio.sleep(0)
        assert connection.pgconn.pipeline_status == PipelineStatus.ON, "it has begun"
        entering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await entering
        assert connection._pipeline is None
        assert in_step(connection)
        found = await (await connection.execute("SELECT 7")).fetchone()
        assert found == (7,)
    finally:
        await connection.close()
