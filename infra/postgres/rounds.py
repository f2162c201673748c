"""What one process of all does for everybody: whose it is, when it is due again, how far it came."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.nouns import Round

# By the database's clock, which is the same for all of them.
_BEGIN = text(
    "INSERT INTO magicode_jobs.rounds AS round (name, next_at) VALUES (:name, now() + :lease)"
    " ON CONFLICT (name) DO UPDATE SET next_at = excluded.next_at WHERE round.next_at <= now() RETURNING since"
)
_END = text(
    "UPDATE magicode_jobs.rounds SET next_at = now() + :pause, since = coalesce(:since, since) WHERE name = :name"
)


async def begin(connection: AsyncConnection, name: str, lease: timedelta) -> Round | None:
    row = (await connection.execute(_BEGIN, {"name": name, "lease": lease})).first()
    if row is None:
        return None
    return Round(None if row.since is None else row.since.astimezone(UTC))


async def end(connection: AsyncConnection, name: str, pause: timedelta, since: datetime | None) -> None:
    await connection.execute(_END, {"name": name, "pause": pause, "since": since})
