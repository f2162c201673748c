"""`app.ports.Store` on PostgreSQL: one tenant and one commit per transaction.

The tenant is set inside each transaction and dies with it; nothing is ever set on a session, since sessions are pooled.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from sqlalchemy import TextClause, text
from sqlalchemy.engine.interfaces import IsolationLevel
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from app.errors import ErasedError
from infra.postgres.connect import parameters
from infra.postgres.custody_rows import CustodyRows
from infra.postgres.entry_rows import EntryRows
from infra.postgres.errors import DatabaseAwayError, is_transient, translated
from infra.postgres.queue import Deferrer
from infra.postgres.run_rows import RunRows
from infra.postgres.tables import SCHEMA, TENANT_SETTING

_ENTER = text(f"SELECT {SCHEMA}.enter(:tenant)")
_NO_TENANT = text(f"SELECT set_config('{TENANT_SETTING}', '', true)")
_ALONE = text(f"SELECT {SCHEMA}.alone(:tenant)")
_TENANT_OF = text(f"SELECT {SCHEMA}.tenant_of(:github_id)")
_TENANTS_OF_ACCOUNT = text(f"SELECT {SCHEMA}.tenants_of_account(:account_id)")
_KEYED_IDS = text(f"SELECT {SCHEMA}.keyed_ids()")
_ERASED_IDS = text(f"SELECT {SCHEMA}.erased_ids()")
_INSTALLATION_IDS = text(f"SELECT {SCHEMA}.installation_ids()")
_WAITS = text(
    "SELECT EXISTS (SELECT 1 FROM magicode_jobs.procrastinate_jobs WHERE lock = :lock AND status = 'todo')"
)
_HASTEN = text(
    "UPDATE magicode_jobs.procrastinate_jobs SET scheduled_at = NULL"
    " WHERE lock = :lock AND status = 'todo' AND scheduled_at > now()"
)
ALONE_TRIES = 600
ALONE_PAUSE_SECONDS = 0.05
"""For half a minute: transactions are short, and one that waits longer than this is broken off by the database."""


class PostgresStore:
    """Opens transactions as the service's role. Each method raises DatabaseAwayError (a TransientError) while the
    database is out of reach; a connection that died in the pool is replaced without anybody noticing."""

    def __init__(self, service_url: str, *, pool_size: int = 5, overflow: int = 10) -> None:
        known = parameters(service_url)

        async def connect(*_: Any, **__: Any) -> psycopg.AsyncConnection[Any]:
            return await psycopg.AsyncConnection.connect(**known)

        self._engine: AsyncEngine = create_async_engine(
            "postgresql+psycopg://",
            async_creator=connect,
            pool_size=pool_size,
            max_overflow=overflow,
            pool_timeout=10,
            pool_recycle=1800,
            pool_use_lifo=True,
        )
        self._deferrer = Deferrer()

    async def close(self) -> None:
        await self._engine.dispose()

    async def ping(self) -> None:
        """Raises DatabaseAwayError when the database does not answer."""
        with translated():
            async with self._connection() as connection:
                await connection.execute(text("SELECT 1"))

    @asynccontextmanager
    async def transaction(
        self, installation_id: int, *, erasing: bool = False
    ) -> AsyncIterator[PostgresTransaction]:
        with translated():
            async with self._connection(installation_id, erasing=erasing) as connection:
                yield PostgresTransaction(connection, installation_id, self._deferrer)

    @asynccontextmanager
    async def snapshot(self, installation_id: int) -> AsyncIterator[PostgresTransaction]:
        with translated():
            async with self._connection(installation_id, isolation="REPEATABLE READ") as connection:
                yield PostgresTransaction(connection, installation_id, self._deferrer)

    async def alone(self, installation_id: int) -> None:
        """Tried again and again rather than waited for: who waits for the lock would hold up whoever comes behind."""
        with translated():
            for _ in range(ALONE_TRIES):
                async with self._connection() as connection:
                    if await connection.scalar(_ALONE, {"tenant": installation_id}):
                        return
                await asyncio.sleep(ALONE_PAUSE_SECONDS)
        raise DatabaseAwayError(reason="tenant_busy")

    async def installation_ids(self) -> Sequence[int]:
        return await self._ids(_INSTALLATION_IDS)

    async def keyed_ids(self) -> Sequence[int]:
        return await self._ids(_KEYED_IDS)

    async def erased_ids(self) -> Sequence[int]:
        return await self._ids(_ERASED_IDS)

    async def tenants_of_account(self, account_id: int) -> Sequence[int]:
        return await self._ids(_TENANTS_OF_ACCOUNT, account_id=account_id)

    async def tenant_of(self, github_id: int) -> int:
        found = await self._ids(_TENANT_OF, github_id=github_id)
        return next((one for one in found if one is not None), github_id)

    async def _ids(self, statement: TextClause, **values: int) -> Sequence[int]:
        with translated():
            async with self._connection() as connection:
                return list((await connection.scalars(statement, values)).all())

    @asynccontextmanager
    async def _connection(
        self,
        tenant: int | None = None,
        *,
        erasing: bool = False,
        isolation: IsolationLevel = "READ COMMITTED",
    ) -> AsyncIterator[AsyncConnection]:
        """A transaction's connection with its tenant entered, committed unless the block raises. Raises ErasedError."""
        connection, erased = await self._begin(tenant, isolation)
        try:
            if erased and not erasing:
                raise ErasedError
            yield connection
            await connection.commit()
        finally:
            await connection.close()

    async def _begin(self, tenant: int | None, isolation: IsolationLevel) -> tuple[AsyncConnection, bool]:
        """The first statement tells whether the pooled connection still lives; if not, one new one is tried."""
        for last in (False, True):
            connection = await self._engine.connect()
            try:
                if isolation != "READ COMMITTED":
                    await connection.execution_options(isolation_level=isolation)
                if tenant is None:
                    await connection.execute(_NO_TENANT)
                    erased = False
                else:
                    erased = bool(await connection.scalar(_ENTER, {"tenant": tenant}))
            except DBAPIError as error:
                await connection.close()
                if last or not is_transient(error):
                    raise
            except BaseException:
                await connection.close()
                raise
            else:
                return connection, erased
        raise AssertionError("unreachable")


class PostgresTransaction(RunRows, CustodyRows, EntryRows):
    """`app.ports.Transaction`; what is about the queue stands here."""

    def __init__(self, connection: AsyncConnection, installation_id: int, deferrer: Deferrer) -> None:
        super().__init__(connection, installation_id)
        self._deferrer = deferrer

    async def defer(
        self,
        task: str,
        *,
        lock: str | None = None,
        delay_seconds: float = 0,
        behind: bool = False,
        **arguments: object,
    ) -> int:
        raw = await self._connection.get_raw_connection()
        driver = raw.driver_connection
        if not isinstance(driver, psycopg.AsyncConnection):
            raise TypeError("the store speaks through psycopg")
        return await self._deferrer.defer(
            driver, task, lock=lock, delay_seconds=delay_seconds, behind=behind, arguments=arguments
        )

    async def waits(self, lock: str) -> bool:
        return bool((await self._connection.execute(_WAITS, {"lock": lock})).scalar())

    async def hasten(self, lock: str) -> None:
        await self._connection.execute(_HASTEN, {"lock": lock})
