"""`app.ports.Store` on PostgreSQL: one tenant and one commit per transaction.

The tenant is set inside each transaction and dies with it; nothing is ever set on a session, since sessions are pooled.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar
from uuid import UUID

import psycopg
from sqlalchemy import (
    BindParameter,
    ColumnElement,
    RowMapping,
    Table,
    TextClause,
    bindparam,
    delete,
    func,
    insert,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.engine.interfaces import IsolationLevel
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from app.errors import ErasedError
from app.nouns import (
    BESIDE_VERBS,
    ApiToken,
    DataExport,
    Entry,
    Erasure,
    Installation,
    ProviderKey,
    Run,
    RunState,
    StoredSettings,
)
from infra.postgres.connect import parameters
from infra.postgres.errors import DatabaseAwayError, is_transient, translated
from infra.postgres.queue import Deferrer
from infra.postgres.tables import (
    KEYS_SCHEMA,
    SCHEMA,
    TENANT_SETTING,
    api_tokens,
    data_keys,
    deliveries,
    entries,
    erasures,
    exports,
    installations,
    metadata,
    provider_keys,
    runs,
    settings,
)

N = TypeVar("N")

_ENTER = text(f"SELECT {SCHEMA}.enter(:tenant)")
_NO_TENANT = text(f"SELECT set_config('{TENANT_SETTING}', '', true)")
_ALONE = text(f"SELECT {SCHEMA}.alone(:tenant)")
_TENANT_OF = text(f"SELECT {SCHEMA}.tenant_of(:github_id)")
_TENANTS_OF_ACCOUNT = text(f"SELECT {SCHEMA}.tenants_of_account(:account_id)")
_KEYED_IDS = text(f"SELECT {SCHEMA}.keyed_ids()")
_ERASED_IDS = text(f"SELECT {SCHEMA}.erased_ids()")
ALONE_TRIES = 600
ALONE_PAUSE_SECONDS = 0.05
"""For half a minute: transactions are short, and one that waits longer than this is broken off by the database."""
_LOCK_CHAIN = text("SELECT pg_advisory_xact_lock(hashtextextended('magicode.chain', :tenant))")
_INSTALLATION_IDS = text(f"SELECT {SCHEMA}.installation_ids()")
_AT_WORK = (
    runs.c.state.in_([RunState.QUEUED.value, RunState.RUNNING.value])
    & runs.c.blocked_by.is_(None)
    & runs.c.verb.not_in(sorted(BESIDE_VERBS))
)
# Built once: acceptance is quick, and building and keying a statement of thirty columns takes longer than running it.
_ADD_DELIVERY = (
    upsert(deliveries).values(received_at=func.now()).on_conflict_do_nothing().returning(deliveries.c.guid)
)
_ABOUT = func.coalesce(runs.c.subject, runs.c.number)
_ADD_RUN = upsert(runs).on_conflict_do_nothing().returning(*runs.c)
_ADD_KEY = upsert(data_keys).on_conflict_do_nothing().returning(data_keys.c.installation_id)
_ADD_ENTRY = insert(entries)
_TENANT: BindParameter[int] = bindparam("tenant")
_INSTALLATION = select(installations).where(installations.c.installation_id == _TENANT)
_KEY = select(data_keys.c.master_key_id, data_keys.c.wrapped).where(data_keys.c.installation_id == _TENANT)
_LAST_ENTRY = (
    select(entries).where(entries.c.installation_id == _TENANT).order_by(entries.c.seq.desc()).limit(1)
)
_RUN_COLUMNS = frozenset(field.name for field in fields(Run)) - {
    "id",
    "installation_id",
    "meaning",
    "created_at",
}


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


class PostgresTransaction:
    """`app.ports.Transaction`. Row-level security keeps it to its tenant; the statements name the tenant as well."""

    def __init__(self, connection: AsyncConnection, installation_id: int, deferrer: Deferrer) -> None:
        self._connection = connection
        self._tenant = installation_id
        self._deferrer = deferrer

    # --- deliveries and runs -----------------------------------------------------------------------------------------

    async def add_delivery(self, guid: str, event: str, action: str | None, outcome: str) -> bool:
        added = await self._connection.execute(
            _ADD_DELIVERY,
            {
                "installation_id": self._tenant,
                "guid": guid,
                "event": event,
                "action": action,
                "outcome": outcome,
            },
        )
        return added.first() is not None

    async def add_run(self, run: Run) -> Run:
        """As the port says; the run comes back with `blocked_by` set when another is at work on the subject."""
        wanted = _run_values(run) | {"installation_id": self._tenant}
        while True:
            row = (await self._connection.execute(_ADD_RUN, wanted)).mappings().first()
            if row is None:
                row = (
                    (await self._connection.execute(self._runs().where(runs.c.meaning == run.meaning)))
                    .mappings()
                    .first()
                )
            if row is not None:
                return _run(row)
            # Not the meaning stood in the way, so the one place at work on this subject did. If its holder has just
            # ended, the place is free and the next turn takes it.
            active = await self.active_run(run.repository_id, run.about)
            wanted["blocked_by"] = None if active is None else active.id

    async def run(self, run_id: UUID, *, lock: bool = False) -> Run | None:
        statement = self._runs().where(runs.c.id == run_id)
        return await self._one_run(statement.with_for_update() if lock else statement)

    async def active_run(self, repository_id: int, number: int) -> Run | None:
        return await self._one_run(
            self._runs().where(runs.c.repository_id == repository_id, number == _ABOUT, _AT_WORK)
        )

    async def opened_for(self, repository_id: int, pull_request: int) -> int | None:
        opener = await self._one_run(
            self._runs()
            .where(
                runs.c.repository_id == repository_id,
                runs.c.pull_request == pull_request,
                runs.c.branch.is_not(None),
            )
            .order_by(runs.c.created_at)
            .limit(1)
        )
        return None if opener is None else opener.about

    async def runs(
        self,
        *,
        repository_id: int | None = None,
        number: int | None = None,
        about: int | None = None,
        verb: str | None = None,
        state: RunState | None = None,
        limit: int = 100,
    ) -> Sequence[Run]:
        statement = self._runs().order_by(runs.c.created_at.desc(), runs.c.id).limit(limit)
        if repository_id is not None:
            statement = statement.where(runs.c.repository_id == repository_id)
        if number is not None:
            statement = statement.where(runs.c.number == number)
        if about is not None:
            statement = statement.where(about == _ABOUT)
        if verb is not None:
            statement = statement.where(runs.c.verb == verb)
        if state is not None:
            statement = statement.where(runs.c.state == state.value)
        return [_run(row) for row in (await self._connection.execute(statement)).mappings()]

    async def update_run(self, run_id: UUID, **columns: object) -> Run:
        """Raises KeyError for a run that is not there, TypeError for a column that a run does not have or never changes."""
        unknown = columns.keys() - _RUN_COLUMNS
        if unknown:
            raise TypeError(f"a run has no column to change named {', '.join(sorted(unknown))}")
        changed = await self._connection.execute(
            update(runs)
            .where(runs.c.installation_id == self._tenant, runs.c.id == run_id)
            .values(**columns)
            .returning(*runs.c)
        )
        row = changed.mappings().first()
        if row is None:
            raise KeyError(run_id)
        return _run(row)

    async def run_by_branch(self, repository_id: int, branch: str) -> Run | None:
        return await self._one_run(
            self._runs()
            .where(runs.c.repository_id == repository_id, runs.c.branch == branch)
            .order_by(runs.c.created_at.desc())
            .limit(1)
        )

    # --- the installation and its key --------------------------------------------------------------------------------

    async def put_installation(self, installation: Installation) -> None:
        values = {
            "account_id": installation.account_id,
            "account_login": installation.account_login,
            "account_type": installation.account_type,
            "suspended": installation.suspended,
            "github_id": installation.github_id,
            "uninstalled_at": installation.uninstalled_at,
            "plan_cancelled_at": installation.plan_cancelled_at,
        }
        await self._connection.execute(
            upsert(installations)
            .values(installation_id=installation.id, **values)
            .on_conflict_do_update(index_elements=["installation_id"], set_=values)
        )

    async def installation(self) -> Installation | None:
        found = await self._connection.execute(_INSTALLATION, {"tenant": self._tenant})
        row = found.mappings().first()
        if row is None:
            return None
        names = [field.name for field in fields(Installation) if field.name != "id"]
        return Installation(id=row["installation_id"], **{name: row[name] for name in names})

    async def wrapped_key(self) -> tuple[str, bytes] | None:
        found = await self._connection.execute(_KEY, {"tenant": self._tenant})
        row = found.first()
        return None if row is None else (row.master_key_id, bytes(row.wrapped))

    async def add_wrapped_key(self, master_key_id: str, wrapped: bytes) -> tuple[str, bytes]:
        added = await self._connection.execute(
            _ADD_KEY, {"installation_id": self._tenant, "master_key_id": master_key_id, "wrapped": wrapped}
        )
        if added.first() is not None:
            return master_key_id, wrapped
        found = await self.wrapped_key()
        if found is None:
            raise KeyError("the data key was removed while one was added")
        return found

    async def replace_wrapped_key(self, old: tuple[str, bytes], new: tuple[str, bytes]) -> bool:
        changed = await self._connection.execute(
            update(data_keys)
            .where(
                data_keys.c.installation_id == self._tenant,
                data_keys.c.master_key_id == old[0],
                data_keys.c.wrapped == old[1],
            )
            .values(master_key_id=new[0], wrapped=new[1])
        )
        return changed.rowcount == 1

    async def destroy_key(self) -> bool:
        gone = await self._connection.execute(
            delete(data_keys).where(data_keys.c.installation_id == self._tenant)
        )
        return gone.rowcount == 1

    # --- settings, keys of the customer's own, exports ---------------------------------------------------------------

    async def settings(self) -> StoredSettings | None:
        return await self._one(StoredSettings, select(settings).where(self._ours(settings)))

    async def put_settings(self, settings: StoredSettings) -> None:
        await self._put(_SETTINGS, settings)

    async def provider_keys(self) -> Sequence[ProviderKey]:
        ordered = provider_keys.c.provider
        return await self._all(
            ProviderKey, select(provider_keys).where(self._ours(provider_keys)).order_by(ordered)
        )

    async def put_provider_key(self, key: ProviderKey) -> None:
        await self._put(provider_keys, key)

    async def remove_provider_key(self, provider: str) -> bool:
        gone = await self._connection.execute(
            delete(provider_keys).where(self._ours(provider_keys), provider_keys.c.provider == provider)
        )
        return gone.rowcount == 1

    async def exports(self) -> Sequence[DataExport]:
        newest = exports.c.asked_at.desc()
        return await self._all(DataExport, select(exports).where(self._ours(exports)).order_by(newest))

    async def put_export(self, export: DataExport) -> None:
        await self._put(exports, export)

    async def remove_export(self, export_id: UUID) -> None:
        await self._connection.execute(delete(exports).where(self._ours(exports), exports.c.id == export_id))

    async def api_tokens(self) -> Sequence[ApiToken]:
        newest = api_tokens.c.created_at.desc()
        return await self._all(
            ApiToken, select(api_tokens).where(self._ours(api_tokens)).order_by(newest, api_tokens.c.id)
        )

    async def put_api_token(self, token: ApiToken) -> None:
        await self._put(api_tokens, token)

    async def remove_api_token(self, token_id: UUID) -> bool:
        gone = await self._connection.execute(
            delete(api_tokens).where(self._ours(api_tokens), api_tokens.c.id == token_id)
        )
        return gone.rowcount == 1

    # --- erasure and retention ---------------------------------------------------------------------------------------

    async def erasure(self, *, lock: bool = False) -> Erasure | None:
        statement = select(erasures).where(self._ours(erasures))
        return await self._one(Erasure, statement.with_for_update() if lock else statement)

    async def begin_erasure(self, erasure: Erasure) -> bool:
        values = _values(erasure) | {"installation_id": self._tenant}
        added = await self._connection.execute(
            upsert(erasures)
            .values(**values)
            .on_conflict_do_nothing(index_elements=["installation_id"])
            .returning(erasures.c.id)
        )
        return added.first() is not None

    async def update_erasure(self, **columns: object) -> Erasure:
        changed = await self._connection.execute(
            update(erasures).where(self._ours(erasures)).values(**columns).returning(*erasures.c)
        )
        row = changed.mappings().first()
        if row is None:
            raise KeyError(self._tenant)
        return _made(Erasure, row)

    async def erase_rows(self) -> Mapping[str, int]:
        removed: dict[str, int] = {}
        for schema, table in await self._tables():
            if table == entries.name:
                removed[table] = int(await self._connection.scalar(_ERASE_ENTRIES) or 0)
            else:
                statement = text(f"DELETE FROM {schema}.{table} WHERE installation_id = :tenant")  # noqa: S608 (the catalogue's names)
                removed[table] = (
                    await self._connection.execute(statement, {"tenant": self._tenant})
                ).rowcount
        return removed

    async def row_counts(self) -> Mapping[str, int]:
        counted: dict[str, int] = {}
        for schema, table in await self._tables():
            statement = text(f"SELECT count(*) FROM {schema}.{table} WHERE installation_id = :tenant")  # noqa: S608 (the catalogue's names)
            counted[table] = int(await self._connection.scalar(statement, {"tenant": self._tenant}) or 0)
        return counted

    async def rows(self, table: str, *, limit: int, skip: int = 0) -> Sequence[Mapping[str, object]]:
        known = next(one for one in metadata.tables.values() if one.name == table)
        statement = select(known).where(self._ours(known)).order_by(*known.primary_key).limit(limit)
        found = await self._connection.execute(statement.offset(skip))
        return [{name: _plain(value) for name, value in row.items()} for row in found.mappings()]

    async def spent(self, since: datetime) -> Decimal:
        total = select(func.coalesce(func.sum(runs.c.cost_usd), 0)).where(
            self._ours(runs), runs.c.started_at >= since
        )
        return Decimal(await self._connection.scalar(total) or 0)

    async def prune_runs(
        self,
        before: datetime,
        *,
        spared: Sequence[str] = (),
        spared_since: datetime | None = None,
        dry: bool = False,
    ) -> int:
        due = self._ours(runs) & (runs.c.ended_at < before) & ~_AT_WORK
        if spared_since is not None:
            due &= or_(runs.c.reason.is_(None), runs.c.reason.not_in(spared), runs.c.ended_at < spared_since)
        return await self._removed(runs, due, dry=dry)

    async def prune_deliveries(self, before: datetime, *, dry: bool = False) -> int:
        due = self._ours(deliveries) & (deliveries.c.received_at < before)
        return await self._removed(deliveries, due, dry=dry)

    async def _removed(self, table: Table, due: ColumnElement[bool], *, dry: bool) -> int:
        if dry:
            counted = select(func.count()).select_from(table).where(due)
            return int(await self._connection.scalar(counted) or 0)
        return (await self._connection.execute(delete(table).where(due))).rowcount

    async def entry_before(self, before: datetime) -> Entry | None:
        found = await self._connection.execute(
            select(entries)
            .where(self._ours(entries), entries.c.at < before)
            .order_by(entries.c.seq.desc())
            .limit(1)
        )
        row = found.mappings().first()
        return None if row is None else _entry(row)

    async def prune_entries(self, up_to_seq: int) -> int:
        return int(await self._connection.scalar(_PRUNE_ENTRIES, {"up_to": up_to_seq}) or 0)

    async def drop_jobs(self, keep: str, heard_within: timedelta) -> int:
        values = {"tenant": self._tenant, "keep": keep, "heard": heard_within}
        gone = await self._connection.execute(_DROP_JOBS, values)
        return gone.rowcount

    async def jobs_at_work(self, but: str, heard_within: timedelta) -> int:
        values = {"tenant": self._tenant, "but": but, "heard": heard_within}
        return int(await self._connection.scalar(_JOBS_AT_WORK, values) or 0)

    # --- the action log ----------------------------------------------------------------------------------------------

    async def last_entry(self) -> Entry | None:
        await self._connection.execute(_LOCK_CHAIN, {"tenant": self._tenant})
        found = await self._connection.execute(_LAST_ENTRY, {"tenant": self._tenant})
        row = found.mappings().first()
        return None if row is None else _entry(row)

    async def add_entry(self, entry: Entry, salt: bytes) -> None:
        values = {field.name: getattr(entry, field.name) for field in fields(Entry)}
        await self._connection.execute(_ADD_ENTRY, values | {"salt": salt})

    async def entries(
        self,
        *,
        after_seq: int = 0,
        run_id: UUID | None = None,
        limit: int = 1000,
        since: datetime | None = None,
        until: datetime | None = None,
        actions: Sequence[str] = (),
        actor: str | None = None,
        repository_id: int | None = None,
    ) -> Sequence[tuple[Entry, bytes]]:
        column = entries.c
        statement = (
            select(entries)
            .where(column.installation_id == self._tenant, column.seq > after_seq)
            .order_by(column.seq)
            .limit(limit)
        )
        if run_id is not None:
            statement = statement.where(column.run_id == run_id)
        if since is not None:
            statement = statement.where(column.at >= since)
        if until is not None:
            statement = statement.where(column.at < until)
        if actions:
            named = [column.action.startswith(f"{action}.", autoescape=True) for action in actions]
            statement = statement.where(or_(column.action.in_(actions), *named))
        if actor is not None:
            statement = statement.where(func.lower(column.actor) == actor.lower())
        if repository_id is not None:
            elsewhere = select(runs.c.id).where(
                runs.c.installation_id == self._tenant,
                runs.c.id == column.run_id,
                runs.c.repository_id != repository_id,
            )
            statement = statement.where(~elsewhere.exists())
        found = await self._connection.execute(statement)
        return [(_entry(row), bytes(row["salt"])) for row in found.mappings()]

    # --- the queue ---------------------------------------------------------------------------------------------------

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

    async def _tables(self) -> Sequence[tuple[str, str]]:
        """Every table that holds rows of tenants, but the tombstones': asked of the catalogue, so that no new one is forgotten."""
        found = await self._connection.execute(_TABLES)
        return [(row.schema, row.name) for row in found]

    def _ours(self, table: Table) -> ColumnElement[bool]:
        return table.c.installation_id == self._tenant

    async def _one(self, kind: type[N], statement: Any) -> N | None:
        row = (await self._connection.execute(statement)).mappings().first()
        return None if row is None else _made(kind, row)

    async def _all(self, kind: type[N], statement: Any) -> list[N]:
        return [_made(kind, row) for row in (await self._connection.execute(statement)).mappings()]

    async def _put(self, table: Table, noun: Any) -> None:
        values = _values(noun)
        identity = [column.name for column in table.primary_key]
        await self._connection.execute(
            upsert(table)
            .values(**values, installation_id=self._tenant)
            .on_conflict_do_update(
                index_elements=identity,
                set_={name: value for name, value in values.items() if name not in identity},
            )
        )

    def _runs(self) -> Any:
        return select(runs).where(runs.c.installation_id == self._tenant)

    async def _one_run(self, statement: Any) -> Run | None:
        row = (await self._connection.execute(statement)).mappings().first()
        return None if row is None else _run(row)


_SETTINGS = settings
"""The table, by a name that a parameter does not hide."""
_ERASE_ENTRIES = text(f"SELECT {SCHEMA}.erase_entries()")
_PRUNE_ENTRIES = text(f"SELECT {SCHEMA}.prune_entries(:up_to)")
_TABLES = text(
    """
    SELECT t.table_schema AS schema, t.table_name AS name
    FROM information_schema.tables AS t JOIN information_schema.columns AS c USING (table_schema, table_name)
    WHERE t.table_schema = ANY(:schemas) AND t.table_type = 'BASE TABLE' AND c.column_name = 'installation_id'
      AND t.table_name <> :tombstones
    ORDER BY 1, 2
    """
).bindparams(schemas=[SCHEMA, KEYS_SCHEMA], tombstones=erasures.name)
_DROP_JOBS = text(
    "DELETE FROM magicode_jobs.procrastinate_jobs AS job WHERE job.task_name <> :keep"
    " AND (job.args ->> 'installation_id')::bigint = :tenant"
    " AND (job.status <> 'doing' OR NOT EXISTS (SELECT FROM magicode_jobs.procrastinate_workers AS worker"
    " WHERE worker.id = job.worker_id AND worker.last_heartbeat > now() - :heard))"
)
_JOBS_AT_WORK = text(
    "SELECT count(*) FROM magicode_jobs.procrastinate_jobs AS job"
    " JOIN magicode_jobs.procrastinate_workers AS worker ON worker.id = job.worker_id"
    " WHERE job.status = 'doing' AND job.task_name <> :but"
    " AND (job.args ->> 'installation_id')::bigint = :tenant AND worker.last_heartbeat > now() - :heard"
)
_WAITS = text(
    "SELECT EXISTS (SELECT 1 FROM magicode_jobs.procrastinate_jobs WHERE lock = :lock AND status = 'todo')"
)
_HASTEN = text(
    "UPDATE magicode_jobs.procrastinate_jobs SET scheduled_at = NULL"
    " WHERE lock = :lock AND status = 'todo' AND scheduled_at > now()"
)


def _values(noun: Any) -> dict[str, Any]:
    return {field.name: getattr(noun, field.name) for field in fields(noun)}


def _made(kind: type[N], row: RowMapping) -> N:
    return kind(**{field.name: _plain(row[field.name]) for field in fields(kind)})  # type: ignore[arg-type]


def _plain(value: Any) -> Any:
    """Times in UTC, as a clock of ours gives them."""
    return value.astimezone(UTC) if isinstance(value, datetime) else value


def _run_values(run: Run) -> dict[str, object]:
    return {field.name: getattr(run, field.name) for field in fields(Run)}


def _run(row: RowMapping) -> Run:
    values: Mapping[str, Any] = {field.name: row[field.name] for field in fields(Run)}
    times = {name: _utc(values[name]) for name in ("created_at", "started_at", "ended_at")}
    return Run(**{**values, **times, "state": RunState(values["state"])})


def _entry(row: RowMapping) -> Entry:
    values: Mapping[str, Any] = {field.name: row[field.name] for field in fields(Entry)}
    return Entry(**{**values, "at": _utc(values["at"]), "sealed": bytes(values["sealed"])})


def _utc(at: datetime | None) -> datetime | None:
    return None if at is None else at.astimezone(UTC)
