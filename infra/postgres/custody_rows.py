"""The installation, its key, what it has chosen, and the removal of all of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final, LiteralString
from uuid import UUID

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Row,
    Table,
    and_,
    bindparam,
    delete,
    func,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import insert as upsert

from app.nouns import (
    ApiToken,
    DataExport,
    Entry,
    Erasure,
    Hook,
    Installation,
    KeptAnswer,
    ProviderKey,
    RunState,
    StoredSettings,
    UsedThere,
)
from infra.postgres.entry_rows import entry_of
from infra.postgres.rows import TenantRows, made, plain, values_of
from infra.postgres.run_rows import AT_WORK
from infra.postgres.tables import (
    KEYS_SCHEMA,
    SCHEMA,
    api_tokens,
    data_keys,
    deliveries,
    entries,
    erasures,
    exports,
    hooks,
    installations,
    kept_answers,
    metadata,
    provider_keys,
    runs,
    settings,
)

# Built once, as what acceptance runs in run_rows.py.
_ADD_KEY = upsert(data_keys).on_conflict_do_nothing().returning(data_keys.c.installation_id)
_TENANT: BindParameter[int] = bindparam("tenant")
_INSTALLATION = select(installations).where(installations.c.installation_id == _TENANT)
_INSTALLATION_LOCKED = _INSTALLATION.with_for_update()
_KEY: LiteralString = (
    "SELECT master_key_id, wrapped FROM magicode_keys.data_keys WHERE installation_id = %(tenant)s"
)
_SETTINGS = settings
"""The table, by a name that a parameter does not hide."""
_HOOKED = (
    update(installations)
    .where(installations.c.installation_id == _TENANT)
    .values(hooked=select(hooks.c.id).where(hooks.c.installation_id == _TENANT).exists())
)
_EPOCH: Final = date(1970, 1, 1)
_USED = text(
    f"""
    SELECT floor(extract(epoch FROM created_at) / 86400)::integer AS day, repository_id, state,
      CASE WHEN reason IN ('merged', 'closed_unmerged') THEN reason END AS reason, count(*) AS runs,
      sum(input_tokens::double precision) AS input_tokens, sum(cached_tokens::double precision) AS cached_tokens,
      sum(output_tokens::double precision) AS output_tokens, sum(cost_usd) AS cost_usd
    FROM {SCHEMA}.runs WHERE installation_id = :tenant AND created_at >= :since
    GROUP BY 1, 2, 3, 4
    """  # noqa: S608 (our own schema's name)
)
"""Whole numbers below 2**53 are exact as double precision, and added up in half the time."""
_OPENED_WITHIN = text(
    f"""
    SELECT count(*), percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds), percentile_cont(0.9) WITHIN GROUP (ORDER BY seconds)
    FROM (
      SELECT extract(epoch FROM ended_at - created_at) AS seconds FROM {SCHEMA}.runs
      WHERE installation_id = :tenant AND created_at >= :since AND state = 'opened' AND ended_at IS NOT NULL
    ) AS opened
    """  # noqa: S608 (our own schema's name)
)
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


class CustodyRows(TenantRows):
    """The part of `app.ports.Transaction` that is about what is held for a customer."""

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

    async def installation(self, *, lock: bool = False) -> Installation | None:
        statement = _INSTALLATION_LOCKED if lock else _INSTALLATION
        found = await self._connection.execute(statement, {"tenant": self._tenant})
        row = found.mappings().first()
        if row is None:
            return None
        return installation_of(row)

    async def wrapped_key(self, *, anew: bool = False) -> tuple[str, bytes] | None:
        if self._wrapped_key is None or anew:
            row = await self._row(_KEY, {"tenant": self._tenant})
            self._wrapped_key = None if row is None else (row["master_key_id"], bytes(row["wrapped"]))
        return self._wrapped_key

    async def add_wrapped_key(self, master_key_id: str, wrapped: bytes) -> tuple[str, bytes]:
        added = await self._connection.execute(
            _ADD_KEY, {"installation_id": self._tenant, "master_key_id": master_key_id, "wrapped": wrapped}
        )
        if added.first() is not None:
            return master_key_id, wrapped
        found = await self.wrapped_key(anew=True)
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
        self._wrapped_key = None
        return changed.rowcount == 1

    async def destroy_key(self) -> bool:
        gone = await self._connection.execute(
            delete(data_keys).where(data_keys.c.installation_id == self._tenant)
        )
        self._wrapped_key = None
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

    async def remove_provider_key(self, provider: str) -> ProviderKey | None:
        named = (self._ours(provider_keys), provider_keys.c.provider == provider)
        return await self._one(ProviderKey, delete(provider_keys).where(*named).returning(*provider_keys.c))

    async def hooks(self) -> Sequence[Hook]:
        ordered = select(hooks).where(self._ours(hooks)).order_by(hooks.c.created_at, hooks.c.id)
        return await self._all(Hook, ordered)

    async def put_hook(self, hook: Hook) -> None:
        await self._put(hooks, hook)
        await self._note_hooked()

    async def note_hook(self, hook_id: UUID, at: datetime, status: int | None) -> bool:
        noted = await self._connection.execute(
            update(hooks)
            .where(self._ours(hooks), hooks.c.id == hook_id)
            .values(last_at=at, last_status=status)
        )
        return noted.rowcount == 1

    async def remove_hook(self, hook_id: UUID) -> bool:
        await self.installation(lock=True)
        gone = await self._connection.execute(delete(hooks).where(self._ours(hooks), hooks.c.id == hook_id))
        await self._note_hooked()
        return gone.rowcount == 1

    async def _note_hooked(self) -> None:
        """The row is locked first, so that of two at once the second sees what the first has left."""
        await self.installation(lock=True)
        await self._connection.execute(_HOOKED, {"tenant": self._tenant})

    async def exports(self) -> Sequence[DataExport]:
        newest = exports.c.asked_at.desc()
        return await self._all(DataExport, select(exports).where(self._ours(exports)).order_by(newest))

    async def put_export(self, export: DataExport) -> None:
        await self._put(exports, export)

    async def export_written(self, export_id: UUID, percent: int) -> None:
        being_made = (self._ours(exports), exports.c.id == export_id, exports.c.state == "asked")
        await self._connection.execute(update(exports).where(*being_made).values(percent=percent))

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

    # --- what writes of the API were answered ------------------------------------------------------------------------

    async def claim_answer(self, claim: KeptAnswer, stale: datetime) -> KeptAnswer | None:
        there = kept_answers.c
        values = values_of(claim)
        over = or_(
            there.until <= claim.made_at,
            and_(there.status.is_(None), there.made_at <= stale, there.fingerprint == claim.fingerprint),
        )
        while True:
            taken = await self._connection.execute(
                upsert(kept_answers)
                .values(**values, installation_id=self._tenant)
                .on_conflict_do_update(
                    index_elements=["installation_id", "key"],
                    set_={name: value for name, value in values.items() if name != "key"},
                    where=over,
                )
                .returning(there.key)
            )
            if taken.first() is not None:
                return None
            found = await self._one(
                KeptAnswer, select(kept_answers).where(self._ours(kept_answers), there.key == claim.key)
            )
            if found is not None:  # and where it was released just now, it is free
                return found

    async def keep_answer(self, answer: KeptAnswer) -> bool:
        kept = await self._connection.execute(
            update(kept_answers)
            .where(self._claimed(answer.key, answer.made_at))
            .values(status=answer.status, sealed=answer.sealed)
        )
        return kept.rowcount == 1

    async def release_answer(self, key: str, made_at: datetime) -> None:
        await self._connection.execute(delete(kept_answers).where(self._claimed(key, made_at)))

    async def prune_answers(self, ended: datetime) -> int:
        due = self._ours(kept_answers) & (kept_answers.c.until <= ended)
        return await self._removed(kept_answers, due, dry=False)

    def _claimed(self, key: str, made_at: datetime) -> ColumnElement[bool]:
        """A claim is the one that was made then: who takes it over makes another one."""
        there = kept_answers.c
        return and_(
            self._ours(kept_answers), there.key == key, there.made_at == made_at, there.status.is_(None)
        )

    # --- erasure and retention ---------------------------------------------------------------------------------------

    async def erasure(self, *, lock: bool = False) -> Erasure | None:
        statement = select(erasures).where(self._ours(erasures))
        return await self._one(Erasure, statement.with_for_update() if lock else statement)

    async def begin_erasure(self, erasure: Erasure) -> bool:
        values = values_of(erasure) | {"installation_id": self._tenant}
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
        return made(Erasure, row)

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
        return [{name: plain(value) for name, value in row.items()} for row in found.mappings()]

    async def spent(self, since: datetime) -> Decimal:
        total = select(func.coalesce(func.sum(runs.c.cost_usd), 0)).where(
            self._ours(runs), runs.c.started_at >= since
        )
        return Decimal(await self._connection.scalar(total) or 0)

    async def used(self, since: datetime) -> Sequence[UsedThere]:
        found = await self._connection.execute(_USED, {"tenant": self._tenant, "since": since})
        return sorted(map(_used_there, found), key=lambda one: (one.day, one.repository_id, one.state))

    async def opened_within(self, since: datetime) -> tuple[int, float, float]:
        found = await self._connection.execute(_OPENED_WITHIN, {"tenant": self._tenant, "since": since})
        count, half, most = found.one()
        return int(count), float(half or 0), float(most or 0)

    async def prune_runs(
        self,
        before: datetime,
        *,
        spared: Sequence[str] = (),
        spared_since: datetime | None = None,
        dry: bool = False,
    ) -> int:
        due = self._ours(runs) & (runs.c.ended_at < before) & ~AT_WORK
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
        return None if row is None else entry_of(row)

    async def prune_entries(self, up_to_seq: int) -> int:
        return int(await self._connection.scalar(_PRUNE_ENTRIES, {"up_to": up_to_seq}) or 0)

    async def drop_jobs(self, keep: str, heard_within: timedelta) -> int:
        values = {"tenant": self._tenant, "keep": keep, "heard": heard_within}
        gone = await self._connection.execute(_DROP_JOBS, values)
        return gone.rowcount

    async def jobs_at_work(self, but: str, heard_within: timedelta) -> int:
        values = {"tenant": self._tenant, "but": but, "heard": heard_within}
        return int(await self._connection.scalar(_JOBS_AT_WORK, values) or 0)

    async def _tables(self) -> Sequence[tuple[str, str]]:
        """Every table that holds rows of tenants, but the tombstones': asked of the catalogue, so that no new one is forgotten."""
        found = await self._connection.execute(_TABLES)
        return [(row.schema, row.name) for row in found]


def installation_of(row: Mapping[Any, Any]) -> Installation:
    names = [field.name for field in fields(Installation) if field.name != "id"]
    return Installation(id=row["installation_id"], **{name: row[name] for name in names})


def _used_there(row: Row[Any]) -> UsedThere:
    return UsedThere(
        day=_EPOCH + timedelta(days=row.day),
        repository_id=row.repository_id,
        state=RunState(row.state),
        reason=row.reason,
        runs=row.runs,
        input_tokens=int(row.input_tokens),
        cached_tokens=int(row.cached_tokens),
        output_tokens=int(row.output_tokens),
        cost_usd=Decimal(row.cost_usd),
    )
