"""Reading and writing rows of one tenant as nouns. Row-level security keeps a transaction to its tenant; each statement
names the tenant as well.
"""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, RowMapping, Table
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

N = TypeVar("N")


class TenantRows:
    """An open transaction of one tenant."""

    def __init__(self, connection: AsyncConnection, installation_id: int) -> None:
        self._connection = connection
        self._tenant = installation_id

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
