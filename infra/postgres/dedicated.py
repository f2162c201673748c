"""Who has workers of its own: whoever stands in the table is worked for by those alone, on queues of its own.

A job's queue is chosen by the database, where it is put there and where it is put back (0017_dedicated.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC
from typing import LiteralString

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.nouns import Dedication

# Whoever has put a job on the queue and not committed yet has not seen the change: it is waited for, and nobody begins before it
# is made. In short turns, since everybody else's jobs wait behind it.
_WAIT_BRIEFLY = text("SET LOCAL lock_timeout = '1s'")
_ALONE = text("LOCK TABLE magicode_jobs.procrastinate_jobs IN SHARE ROW EXCLUSIVE MODE")

_DEDICATE = text("INSERT INTO magicode_jobs.dedicated VALUES (:tenant) ON CONFLICT DO NOTHING RETURNING 1")
_SHARE = text("DELETE FROM magicode_jobs.dedicated WHERE installation_id = :tenant RETURNING 1")
_MOVE = text(
    "UPDATE magicode_jobs.procrastinate_jobs SET status = 'todo'"
    " WHERE status = 'todo' AND args ->> 'installation_id' = CAST(CAST(:tenant AS bigint) AS text)"
)
"""To where they belong now: the trigger looks at each."""
_DEDICATED = text(
    "SELECT installation_id, since, heard_at, now() AS now FROM magicode_jobs.dedicated ORDER BY 1"
)

HEARD: LiteralString = (
    "UPDATE magicode_jobs.dedicated SET heard_at = now() WHERE installation_id = ANY(%(only)s::bigint[])"
)


def queues(queue: str, only: Sequence[int]) -> list[str]:
    """Where a worker takes its jobs: of everybody who has no workers of its own, or of these alone."""
    return [f"{queue}:{tenant}" for tenant in only] or [queue]


async def dedicate(connection: AsyncConnection, tenant: int, *, own: bool) -> bool:
    """Its workers are its `own` from now on, or everybody's; False: it was so. What waits changes over, what is at work ends where
    it is."""
    await connection.execute(_WAIT_BRIEFLY)
    await connection.execute(_ALONE)
    changed = await connection.scalar(_DEDICATE if own else _SHARE, {"tenant": tenant}) is not None
    await connection.execute(_MOVE, {"tenant": tenant})
    return changed


async def dedicated(connection: AsyncConnection) -> list[Dedication]:
    return [
        Dedication(
            row.installation_id,
            row.since.astimezone(UTC),
            None if row.heard_at is None else (row.now - row.heard_at).total_seconds(),
        )
        for row in await connection.execute(_DEDICATED)
    ]
