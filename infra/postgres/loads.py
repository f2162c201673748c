"""What waits in the queues and what is at work, counted for whoever runs the service."""

from __future__ import annotations

from typing import LiteralString

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.nouns import QueueLoad
from infra.postgres.turns import BEHIND_QUEUE, LOCKED_QUEUE, OUTSIDE_QUEUE, QUICK_QUEUE

_OWN = "own_"
_SHARED = {LOCKED_QUEUE: "runs", QUICK_QUEUE: "quick", BEHIND_QUEUE: "behind", OUTSIDE_QUEUE: "outside"}
NAMES = _SHARED | {f"{queue}:": f"{_OWN}{name}" for queue, name in _SHARED.items()}

_DUE: LiteralString = "status = 'todo' AND (scheduled_at IS NULL OR scheduled_at <= now())"
# The first job to be put on a queue is the one with the lowest id; when that was, Procrastinate's own trigger writes down. One
# that was put back waits from its own time on.
_LOADS = text(
    "SELECT counted.*, extract(epoch FROM now() - greatest(oldest.scheduled_at, put.at)) AS seconds FROM ("  # noqa: S608 ours
    f" SELECT substring(queue_name FROM '^[^:]*:?') AS queue_name, count(*) FILTER (WHERE {_DUE}) AS waiting,"
    " count(*) FILTER (WHERE status = 'doing') AS working,"
    f" count(*) FILTER (WHERE status = 'todo' AND scheduled_at > now()) AS later, min(id) FILTER (WHERE {_DUE}) AS first"
    " FROM magicode_jobs.procrastinate_jobs GROUP BY 1) AS counted"
    " LEFT JOIN magicode_jobs.procrastinate_jobs AS oldest ON oldest.id = counted.first"
    " LEFT JOIN LATERAL (SELECT min(at) AS at FROM magicode_jobs.procrastinate_events"
    " WHERE job_id = counted.first AND type = 'deferred') AS put ON true"
)


async def loads(connection: AsyncConnection) -> list[QueueLoad]:
    """Of each queue that we have, also where nothing is on it; of those of installations with workers of their own where there is,
    and all of them together, since a figure names nobody."""
    found = {row.queue_name: row for row in await connection.execute(_LOADS)}
    return [
        QueueLoad(name, row.waiting, row.working, row.later, max(float(row.seconds or 0), 0.0))
        if (row := found.get(queue)) is not None
        else QueueLoad(name, 0, 0, 0, 0.0)
        for queue, name in NAMES.items()
        if queue in found or not name.startswith(_OWN)
    ]
