"""The action log's entries, appended one behind the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any, LiteralString
from uuid import UUID

from psycopg.rows import dict_row
from sqlalchemy import TextClause, func, select, text

from app.nouns import Entry, EntryCount, Job
from infra.postgres.rows import TenantRows, plain
from infra.postgres.tables import entries, runs
from infra.postgres.turns import DEFER, placed

CHAIN: LiteralString = "pg_advisory_xact_lock(hashtextextended('magicode.chain', %(installation_id)s))"
_ADD_ENTRY: LiteralString = (
    f"INSERT INTO {entries.fullname} ({', '.join(entries.c.keys())})"  # noqa: S608 names of ours
    f" VALUES ({', '.join(f'%({column.name})s' for column in entries.c)})"
)
LAST_ENTRY: LiteralString = (
    f"SELECT {', '.join(entries.c.keys())} FROM {entries.fullname}"  # noqa: S608 names of ours
    " WHERE installation_id = %(tenant)s ORDER BY seq DESC LIMIT 1"
)


def _names(column: LiteralString) -> TextClause:
    """Every word that stands in this column of the tenant's entries: each is looked up once, however many entries have it."""
    return text(
        f"""
        WITH RECURSIVE names (name) AS (
          SELECT min({column}) FROM {entries.fullname} WHERE installation_id = :tenant
          UNION ALL
          SELECT (SELECT min({column}) FROM {entries.fullname} WHERE installation_id = :tenant AND {column} > names.name)
          FROM names WHERE names.name IS NOT NULL
        )
        SELECT name FROM names WHERE name IS NOT NULL
        """  # noqa: S608 names of ours
    )


_ACTIONS, _ACTORS = _names("action"), _names("actor")


class EntryRows(TenantRows):
    """The part of `app.ports.Transaction` that is the action log."""

    async def last_entry(self) -> Entry | None:
        async with self._driver.cursor(row_factory=dict_row) as cursor:
            # Two statements, sent at once: the second sees what was committed while the first waited. Fetching inside of
            # the pipeline would ask once more.
            async with self._driver.pipeline():
                await self._driver.execute(f"SELECT {CHAIN}", {"installation_id": self._tenant})
                await cursor.execute(LAST_ENTRY, {"tenant": self._tenant})
            row = await cursor.fetchone()
        return None if row is None else entry_of(row)

    async def add_entry(
        self, entry: Entry, salt: bytes, jobs: Sequence[Job] = (), *, ends: bool = False
    ) -> None:
        values = {field.name: getattr(entry, field.name) for field in fields(Entry)}
        statements = [(_ADD_ENTRY, values | {"salt": salt}), *((DEFER, placed(job)) for job in jobs)]
        if ends:
            self._late.extend(statements)
            return
        # Sent at once: others wait for the chain.
        async with self._driver.pipeline():
            for statement, named in statements:
                await self._driver.execute(statement, named)

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
            statement = statement.where(column.action.in_(await self._kinds(actions)))
        if actor is not None:
            asked = [one for one in await self._words(_ACTORS) if one.lower() == actor.lower()]
            statement = statement.where(column.actor.in_(asked))
        if repository_id is not None:
            elsewhere = select(runs.c.id).where(
                runs.c.installation_id == self._tenant,
                runs.c.id == column.run_id,
                runs.c.repository_id != repository_id,
            )
            statement = statement.where(~elsewhere.exists())
        found = await self._connection.execute(statement)
        return [(entry_of(row), bytes(row["salt"])) for row in found.mappings()]

    async def entry_counts(
        self, since: datetime, until: datetime, actions: Sequence[str] = ()
    ) -> Sequence[EntryCount]:
        column = entries.c
        statement = (
            select(column.action, func.count(), func.min(column.at), func.max(column.at))
            .where(column.installation_id == self._tenant, column.at >= since, column.at < until)
            .group_by(column.action)
            .order_by(column.action)
        )
        if actions:
            statement = statement.where(column.action.in_(await self._kinds(actions)))
        found = await self._connection.execute(statement)
        return [EntryCount(action, count, plain(first), plain(last)) for action, count, first, last in found]

    async def _kinds(self, actions: Sequence[str]) -> Sequence[str]:
        """Those that are in the log, of kinds that are named whole or by their first parts."""
        below = tuple(f"{action}." for action in actions)
        return [one for one in await self._words(_ACTIONS) if one in actions or one.startswith(below)]

    async def _words(self, statement: TextClause) -> Sequence[str]:
        return (await self._connection.scalars(statement, {"tenant": self._tenant})).all()


def entry_of(row: Mapping[Any, Any]) -> Entry:
    values: Mapping[str, Any] = {field.name: row[field.name] for field in fields(Entry)}
    return Entry(**{**values, "at": plain(values["at"]), "sealed": bytes(values["sealed"])})
