"""Reading and writing rows of one tenant as nouns. Row-level security keeps a transaction to its tenant; each statement
names the tenant as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any, LiteralString, TypeVar

import psycopg
from psycopg.rows import dict_row
from sqlalchemy import ColumnElement, RowMapping, Table
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

N = TypeVar("N")

Late = list[tuple[LiteralString, Mapping[str, object]]]
"""Statements that nothing of the same transaction comes behind."""


class TenantRows:
    """An open transaction of one tenant.

    What acceptance and every entry of the log run goes straight to the driver: a statement that is known beforehand takes
    it a third of the time.
    """

    def __init__(
        self,
        connection: AsyncConnection,
        driver: psycopg.AsyncConnection[Any],
        installation_id: int,
        wrapped_key: tuple[str, bytes] | None = None,
        late: Late | None = None,
    ) -> None:
        """`wrapped_key` as it was read when the tenant was entered; what is put into `late` is sent along with the commit."""
        self._connection = connection
        self._driver = driver
        self._tenant = installation_id
        self._wrapped_key = wrapped_key
        self._late: Late = [] if late is None else late

    async def _rows(self, statement: LiteralString, values: Mapping[str, object]) -> Sequence[dict[str, Any]]:
        async with self._driver.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(statement, values)
            return await cursor.fetchall()

    async def _row(self, statement: LiteralString, values: Mapping[str, object]) -> dict[str, Any] | None:
        async with self._driver.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(statement, values)
            return await cursor.fetchone()

    def _ours(self, table: Table) -> ColumnElement[bool]:
        return table.c.installation_id == self._tenant

    async def _one(self, kind: type[N], statement: Any) -> N | None:
        row = (await self._connection.execute(statement)).mappings().first()
        return None if row is None else made(kind, row)

    async def _all(self, kind: type[N], statement: Any) -> list[N]:
        return [made(kind, row) for row in (await self._connection.execute(statement)).mappings()]

    async def _put(self, table: Table, noun: Any) -> None:
        values = values_of(noun)
        identity = [column.name for column in table.primary_key]
        await self._connection.execute(
            upsert(table)
            .values(**values, installation_id=self._tenant)
            .on_conflict_do_update(
                index_elements=identity,
                set_={name: value for name, value in values.items() if name not in identity},
            )
        )


def values_of(noun: Any) -> dict[str, Any]:
    return {field.name: getattr(noun, field.name) for field in fields(noun)}


def made(kind: type[N], row: RowMapping) -> N:
    return kind(**{field.name: plain(row[field.name]) for field in fields(kind)})  # type: ignore[arg-type]


def plain(value: Any) -> Any:
    """Times in UTC, as a clock of ours gives them."""
    return value.astimezone(UTC) if isinstance(value, datetime) else value
