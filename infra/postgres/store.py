"""`app.ports.Store` on PostgreSQL: one tenant and one commit per transaction.

The tenant is set inside each transaction and dies with it; nothing is ever set on a session, since sessions are pooled.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any, LiteralString

import psycopg
from procrastinate.exceptions import ConnectorException
from psycopg.rows import dict_row
from sqlalchemy import TextClause, text
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from app.errors import ErasedError
from app.nouns import Dedication, Installation, QueueLoad, Round
from infra.postgres import dedicated, pauses, rounds
from infra.postgres.connect import Connection, in_step, parameters
from infra.postgres.custody_rows import CustodyRows, installation_of
from infra.postgres.errors import DatabaseAwayError, is_read_only, is_transient, translated
from infra.postgres.loads import loads
from infra.postgres.paces import PostgresPaces
from infra.postgres.patience import PATIENCE
from infra.postgres.queue import HASTENED
from infra.postgres.request_rows import RequestRows
from infra.postgres.rows import Late
from infra.postgres.tables import KEYS_SCHEMA, SCHEMA, TENANT_SETTING
from infra.postgres.turns import defer

# What is read along with entering is read by the tenant that was entered: a row of `entered` comes before those joined to it,
# and nothing but a loop over it can join them.
_ENTERED = f"installation_id = nullif(current_setting('{TENANT_SETTING}', true), '')::bigint"
_ENTER: LiteralString = (
    f"WITH entered AS MATERIALIZED (SELECT {SCHEMA}.enter(%(tenant)s) AS erased)"  # noqa: S608 names of ours
    f" SELECT erased, master_key_id, wrapped FROM entered LEFT JOIN {KEYS_SCHEMA}.data_keys ON {_ENTERED}"
)
_ARRIVE: LiteralString = (
    "WITH known AS MATERIALIZED"  # noqa: S608 names of ours
    f" (SELECT coalesce({SCHEMA}.tenant_of(%(github_id)s), %(github_id)s) AS tenant),"
    f" entered AS MATERIALIZED (SELECT tenant, {SCHEMA}.enter(tenant) AS erased FROM known)"
    f" SELECT tenant, erased, master_key_id, wrapped, there.* FROM entered"
    f" LEFT JOIN {KEYS_SCHEMA}.data_keys AS key ON key.{_ENTERED}"
    f" LEFT JOIN {SCHEMA}.installations AS there ON there.{_ENTERED}"
)
_NO_TENANT: LiteralString = f"SELECT set_config('{TENANT_SETTING}', '', true), false AS erased"
_NOW = text("SELECT clock_timestamp()")
_READ_ONLY = text("SHOW transaction_read_only")
_ALONE = text(f"SELECT {SCHEMA}.alone(:tenant)")
_TENANT_OF = text(f"SELECT {SCHEMA}.tenant_of(:github_id)")
_TENANTS_OF_ACCOUNT = text(f"SELECT {SCHEMA}.tenants_of_account(:account_id)")
_KEYED_IDS = text(f"SELECT {SCHEMA}.keyed_ids()")
_ERASED_IDS = text(f"SELECT {SCHEMA}.erased_ids()")
_INSTALLATION_IDS = text(f"SELECT {SCHEMA}.installation_ids()")
_STANDING = text(
    f"SELECT github_id, tenant FROM {SCHEMA}.standing(CAST(:ids AS bigint[]), CAST(:accounts AS bigint[]),"  # noqa: S608 ours
    " CAST(:logins AS text[]), CAST(:types AS text[]), CAST(:suspensions AS boolean[]))"
)
_WAITS = text(
    "SELECT EXISTS (SELECT 1 FROM magicode_jobs.procrastinate_jobs WHERE lock = :lock AND status = 'todo')"
)
_HASTEN = text(
    "UPDATE magicode_jobs.procrastinate_jobs"
    " SET scheduled_at = CASE status WHEN 'todo' THEN NULL ELSE scheduled_at END,"
    " args = CASE status WHEN 'doing' THEN args || jsonb_build_object(CAST(:mark AS text), 1) ELSE args END"
    " WHERE lock = :lock AND (status = 'doing' OR (status = 'todo' AND scheduled_at > now()))"
)
"""One that is at work and is then put back begins anew at once, too."""
ALONE_TRIES = 600
ALONE_PAUSE_SECONDS = 0.05
"""For half a minute: transactions are short, and one that waits longer than this is broken off by the database."""

DEDICATE_TRIES = 20
DEDICATE_PAUSE_SECONDS = 0.5
"""For half a minute, as above: a second of waiting each time, and in between whoever came meanwhile."""

_AGAIN_SECONDS = 0.5
_READS_AT_LEISURE = text("SET LOCAL idle_in_transaction_session_timeout = '60s'")
"""Nobody waits for who only reads, and what is read may be handed on to somewhere slow."""
_BEGIN_SESSION = text(f"SELECT {SCHEMA}.begin_session(:session, :person, :sealed, :ends, :most)")
_SESSION = text(f"SELECT {SCHEMA}.session(:session)")
_END_SESSION = text(f"SELECT {SCHEMA}.end_session(:session)")
_END_SESSIONS = text(f"SELECT {SCHEMA}.end_sessions(:person)")
_END_EVERY_SESSION = text(f"SELECT {SCHEMA}.end_every_session()")


class PostgresStore:
    """Opens transactions as the service's role. Each method raises DatabaseAwayError (a TransientError) while the
    database is out of reach; a connection that died in the pool is replaced without anybody noticing."""

    def __init__(self, service_url: str, *, connections: int = 15) -> None:
        known = parameters(service_url)

        async def connect(*_: Any, **__: Any) -> Connection:
            return await Connection.connect(**known)

        self._engine: AsyncEngine = create_async_engine(
            "postgresql+psycopg://",
            async_creator=connect,
            pool_size=connections,
            max_overflow=0,  # one beyond the pool would be made anew each time, and know no statement
            pool_timeout=10,
            pool_recycle=1800,
            hide_parameters=True,  # an error's words reach the log, and what was to be stored must not
            pool_use_lifo=True,
        )
        self._most = connections

    async def close(self) -> None:
        await self._engine.dispose()

    async def ping(self) -> None:
        """Raises DatabaseAwayError when the database does not answer, or takes no writes (`database_read_only`)."""
        with translated():
            async with self._connection() as opened:
                if await opened.connection.scalar(_READ_ONLY) == "on":
                    await opened.connection.invalidate()
                    raise DatabaseAwayError(reason="database_read_only")

    async def begin_session(
        self, session: str, person: str, sealed: bytes, ends: datetime, *, most: int
    ) -> None:
        begun = {"session": session, "person": person, "sealed": sealed, "ends": ends, "most": most}
        with translated():
            async with self._connection() as opened:
                await opened.connection.execute(_BEGIN_SESSION, begun)

    async def session(self, session: str) -> bytes | None:
        with translated():
            async with self._connection() as opened:
                found = await opened.connection.scalar(_SESSION, {"session": session})
        return None if found is None else bytes(found)

    async def end_session(self, session: str) -> None:
        with translated():
            async with self._connection() as opened:
                await opened.connection.execute(_END_SESSION, {"session": session})

    async def end_sessions(self, person: str) -> None:
        with translated():
            async with self._connection() as opened:
                await opened.connection.execute(_END_SESSIONS, {"person": person})

    async def end_every_session(self) -> None:
        with translated():
            async with self._connection() as opened:
                await opened.connection.execute(_END_EVERY_SESSION)

    @property
    def paces(self) -> PostgresPaces:
        return PostgresPaces(self._plain)

    @asynccontextmanager
    async def _plain(self) -> AsyncIterator[AsyncConnection]:
        async with self._connection() as opened:
            yield opened.connection

    async def now(self) -> datetime:
        with translated():
            async with self._connection() as opened:
                found = await opened.connection.scalar(_NOW)
        assert isinstance(found, datetime)
        return found.astimezone(UTC)

    async def queues(self) -> Sequence[QueueLoad]:
        with translated():
            async with self._connection() as opened:
                return await loads(opened.connection)

    async def begin_round(self, name: str, lease: timedelta) -> Round | None:
        with translated():
            async with self._connection() as opened:
                return await rounds.begin(opened.connection, name, lease)

    async def end_round(self, name: str, pause: timedelta, since: datetime | None = None) -> None:
        with translated():
            async with self._connection() as opened:
                await rounds.end(opened.connection, name, pause, since)

    async def pause(self, installation_id: int) -> bool:
        with translated():
            async with self._connection() as opened:
                return await pauses.pause(opened.connection, installation_id)

    async def resume(self, installation_id: int) -> bool:
        with translated():
            async with self._connection() as opened:
                return await pauses.resume(opened.connection, installation_id)

    async def pauses(self) -> Mapping[int, datetime]:
        with translated():
            async with self._connection() as opened:
                return await pauses.pauses(opened.connection)

    async def paused(self, installation_id: int) -> datetime | None:
        with translated():
            async with self._connection() as opened:
                return await pauses.paused(opened.connection, installation_id)

    async def note_suspension(self, installation_id: int) -> None:
        with translated():
            async with self._connection() as opened:
                await pauses.note_suspension(opened.connection, installation_id)

    async def suspended(self, installation_id: int) -> bool:
        with translated():
            async with self._connection() as opened:
                return await pauses.suspended(opened.connection, installation_id)

    async def dedicate(self, installation_id: int) -> bool:
        return await self._dedicate(installation_id, own=True)

    async def share(self, installation_id: int) -> bool:
        return await self._dedicate(installation_id, own=False)

    async def _dedicate(self, installation_id: int, *, own: bool) -> bool:
        with translated():
            for _ in range(DEDICATE_TRIES):
                try:
                    async with self._connection() as opened:
                        return await dedicated.dedicate(opened.connection, installation_id, own=own)
                except OperationalError as error:
                    if not isinstance(error.orig, psycopg.errors.LockNotAvailable):
                        raise
                await asyncio.sleep(DEDICATE_PAUSE_SECONDS)
        raise DatabaseAwayError(reason="queue_busy")

    async def dedicated(self) -> Sequence[Dedication]:
        with translated():
            async with self._connection() as opened:
                return await dedicated.dedicated(opened.connection)

    @asynccontextmanager
    async def transaction(
        self, installation_id: int, *, erasing: bool = False
    ) -> AsyncIterator[PostgresTransaction]:
        with translated():
            async with self._connection(_ENTER, {"tenant": installation_id}, erasing=erasing) as opened:
                # What destroys a key looks for itself: it may have waited for the tenant since.
                yield opened.transaction(installation_id, None if erasing else _key(opened.row))

    @asynccontextmanager
    async def arrival(self, github_id: int) -> AsyncIterator[tuple[PostgresTransaction, Installation | None]]:
        with translated():
            async with self._connection(_ARRIVE, {"github_id": github_id}) as opened:
                row = opened.row
                known = None if row["installation_id"] is None else installation_of(row)
                yield opened.transaction(row["tenant"], _key(row)), known

    @asynccontextmanager
    async def snapshot(self, installation_id: int) -> AsyncIterator[PostgresTransaction]:
        with translated():
            entering = self._connection(_ENTER, {"tenant": installation_id}, snapshot=True)
            async with entering as opened:
                await opened.connection.execute(_READS_AT_LEISURE)
                yield opened.transaction(installation_id, _key(opened.row))

    async def alone(self, installation_id: int) -> None:
        """Tried again and again rather than waited for: who waits for the lock would hold up whoever comes behind."""
        with translated():
            for _ in range(ALONE_TRIES):
                async with self._connection() as opened:
                    if await opened.connection.scalar(_ALONE, {"tenant": installation_id}):
                        return
                await asyncio.sleep(ALONE_PAUSE_SECONDS)
        raise DatabaseAwayError(reason="tenant_busy")

    async def standing(self, listed: Sequence[Installation]) -> Mapping[int, int]:
        told = {
            "ids": [one.id for one in listed],
            "accounts": [one.account_id for one in listed],
            "logins": [one.account_login for one in listed],
            "types": [one.account_type for one in listed],
            "suspensions": [one.suspended for one in listed],
        }
        with translated():
            async with self._connection() as opened:
                found = await opened.connection.execute(_STANDING, told)
                return {row.github_id: row.tenant for row in found}

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
            async with self._connection() as opened:
                return list((await opened.connection.scalars(statement, values)).all())

    @asynccontextmanager
    async def _connection(
        self,
        entering: LiteralString = _NO_TENANT,
        values: Mapping[str, int] = MappingProxyType({}),
        *,
        erasing: bool = False,
        snapshot: bool = False,
    ) -> AsyncIterator[_Open]:
        """A transaction's connection with its tenant entered; committed unless the block raises. Raises ErasedError."""
        opened = await self._begin(entering, values, snapshot=snapshot)
        try:
            if opened.row["erased"] and not erasing:
                raise ErasedError
            yield opened
            await commit(opened)
        except (SQLAlchemyError, psycopg.Error, ConnectorException) as error:
            if is_read_only(error) or opened.driver.closed:
                await opened.connection.invalidate()
            raise
        finally:
            await opened.connection.close()

    async def _begin(self, entering: LiteralString, values: Mapping[str, int], *, snapshot: bool) -> _Open:
        """The first statement tells whether the pooled connection still lives; if not, another one is tried at once, as long as
        there may be one, and then again and again for as long as whoever asks is patient."""
        until = time.monotonic() + PATIENCE.get()
        tried = dead = 0
        while True:
            try:
                return await self._entered(entering, values, snapshot=snapshot)
            except (SQLAlchemyError, psycopg.Error, ConnectionError) as error:
                if not is_transient(error):
                    raise
                dead += isinstance(error, _FoundDeadError)
                if isinstance(error, _FoundDeadError) and dead <= self._most:
                    continue
                tried += 1
                if tried > 1 and time.monotonic() >= until:
                    raise
            if tried > 1:
                await asyncio.sleep(_AGAIN_SECONDS)

    async def _entered(self, entering: LiteralString, values: Mapping[str, int], *, snapshot: bool) -> _Open:
        connection = await self._engine.connect()
        try:
            driver = await _driver(connection)
            if not in_step(driver):
                await connection.invalidate()
                raise _FoundDeadError
            try:
                async with driver.cursor(row_factory=dict_row) as cursor:
                    async with driver.pipeline():  # BEGIN is sent along
                        if snapshot:
                            await driver.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                        await cursor.execute(entering, values)
                    row = await cursor.fetchone()
            except psycopg.OperationalError:
                if not driver.closed:
                    raise
                await connection.invalidate()
                raise _FoundDeadError from None
        except BaseException:
            await connection.close()
            raise
        if row is None:
            raise AssertionError("entering tells of one tenant")
        return _Open(connection, driver, row)


class _FoundDeadError(psycopg.OperationalError):
    """A connection of the pool had died, or was left out of step, and others there may have been: each is found out once."""


@dataclass(frozen=True, slots=True)
class _Open:
    """A transaction's connection, and what entering its tenant told. `late` is sent along with its commit."""

    connection: AsyncConnection
    driver: psycopg.AsyncConnection[Any]
    row: dict[str, Any]
    late: Late = field(default_factory=list)

    def transaction(self, installation_id: int, key: tuple[str, bytes] | None) -> PostgresTransaction:
        return PostgresTransaction(self.connection, self.driver, installation_id, key, self.late)


async def commit(opened: _Open) -> None:
    """Every transaction of the store ends here, or is taken back."""
    if not opened.late:
        await opened.driver.commit()
        return
    async with opened.driver.pipeline():
        for statement, values in opened.late:
            await opened.driver.execute(statement, values)
        await opened.driver.execute("COMMIT", prepare=False)


async def _driver(connection: AsyncConnection) -> psycopg.AsyncConnection[Any]:
    driver = (await connection.get_raw_connection()).driver_connection
    if not isinstance(driver, psycopg.AsyncConnection):
        raise TypeError("the store speaks through psycopg")
    return driver


def _key(row: Mapping[str, Any]) -> tuple[str, bytes] | None:
    return None if row["wrapped"] is None else (row["master_key_id"], bytes(row["wrapped"]))


class PostgresTransaction(RequestRows, CustodyRows):
    """`app.ports.Transaction`; what is about the queue stands here."""

    async def defer(
        self,
        task: str,
        *,
        lock: str | None = None,
        delay_seconds: float = 0,
        behind: bool = False,
        outside: bool = False,
        **arguments: object,
    ) -> int:
        return await defer(
            self._driver,
            task,
            lock=lock,
            delay_seconds=delay_seconds,
            behind=behind,
            outside=outside,
            arguments=arguments,
        )

    async def waits(self, lock: str) -> bool:
        return bool((await self._connection.execute(_WAITS, {"lock": lock})).scalar())

    async def hasten(self, lock: str) -> None:
        await self._connection.execute(_HASTEN, {"lock": lock, "mark": HASTENED})
