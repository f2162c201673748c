"""Whom the operator has paused, as everybody who works sees it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import LiteralString

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

IS_PAUSED: LiteralString = (
    "EXISTS (SELECT FROM magicode_jobs.pauses WHERE installation_id IN (0, %(tenant)s::bigint))"
)
"""For a statement that is asked before each effect: no round trip of its own."""

_PAUSE = text("INSERT INTO magicode_jobs.pauses VALUES (:tenant) ON CONFLICT DO NOTHING RETURNING 1")
_RESUME = text("DELETE FROM magicode_jobs.pauses WHERE installation_id = :tenant RETURNING 1")
_PAUSES = text("SELECT installation_id, since FROM magicode_jobs.pauses ORDER BY 1")
_NOTE_SUSPENSION = text("UPDATE magicode_jobs.pauses SET suspended = true WHERE installation_id = :tenant")
_SUSPENDED = text(
    "SELECT EXISTS (SELECT FROM magicode_jobs.pauses WHERE installation_id = :tenant AND suspended)"
)
_SINCE = text("SELECT min(since) FROM magicode_jobs.pauses WHERE installation_id IN (0, :tenant)")


async def pause(connection: AsyncConnection, tenant: int) -> bool:
    return await connection.scalar(_PAUSE, {"tenant": tenant}) is not None


async def resume(connection: AsyncConnection, tenant: int) -> bool:
    return await connection.scalar(_RESUME, {"tenant": tenant}) is not None


async def pauses(connection: AsyncConnection) -> Mapping[int, datetime]:
    return {tenant: since.astimezone(UTC) for tenant, since in await connection.execute(_PAUSES)}


async def paused(connection: AsyncConnection, tenant: int) -> datetime | None:
    since: datetime | None = await connection.scalar(_SINCE, {"tenant": tenant})
    return None if since is None else since.astimezone(UTC)


async def note_suspension(connection: AsyncConnection, tenant: int) -> None:
    await connection.execute(_NOTE_SUSPENSION, {"tenant": tenant})


async def suspended(connection: AsyncConnection, tenant: int) -> bool:
    return bool(await connection.scalar(_SUSPENDED, {"tenant": tenant}))
