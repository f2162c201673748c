"""Whose turn it is: the place that a job takes in its queue, so that nobody's thousand requests keep another's one waiting.

Start-time fair queueing. The lowest place is begun first, and of equal ones the oldest. A job's place is one behind what is
being worked on, and two behind the last of its own installation: whoever has asked for nothing yet comes next, ahead of the
next one of whoever has asked for much, and who comes after that does not come ahead of it again. What waits for a time of
its own takes its place when that has come. A place is kept as the job's negated priority, by which Procrastinate fetches.
https://en.wikipedia.org/wiki/Fair_queuing
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, LiteralString
from uuid import UUID

import psycopg
from psycopg.types.json import Jsonb

from app.nouns import Job

LOCKED_QUEUE = "locked"
QUICK_QUEUE = "quick"
BEHIND_QUEUE = "behind"
OUTSIDE_QUEUE = "outside"

DEFER: LiteralString = """
WITH job AS (
    SELECT %(queue)s::varchar AS queue, %(task)s::varchar AS task, %(lock)s::text AS lock, %(tenant)s::text AS tenant,
           %(arguments)s::jsonb AS arguments, %(delay)s::interval AS delay
)
INSERT INTO magicode_jobs.procrastinate_jobs (queue_name, task_name, priority, lock, args, scheduled_at)
SELECT queue, task, -magicode_jobs.place(queue, tenant), lock, arguments, now() + delay
FROM job RETURNING id
"""
TAKE_PLACES: LiteralString = """
WITH due AS (
    SELECT id, queue_name AS queue, args ->> 'installation_id' AS tenant, scheduled_at
    FROM magicode_jobs.procrastinate_jobs
    WHERE status = 'todo' AND queue_name = ANY(%(queues)s) AND scheduled_at <= now()
    FOR UPDATE SKIP LOCKED
), numbered AS (
    SELECT *, row_number() OVER (PARTITION BY queue, tenant ORDER BY scheduled_at, id) AS number FROM due
), placed AS (
    SELECT id, 2 - 2 * number - max(CASE number WHEN 1 THEN magicode_jobs.place(queue, tenant) END)
        OVER (PARTITION BY queue, tenant) AS priority
    FROM numbered
)
UPDATE magicode_jobs.procrastinate_jobs AS job SET priority = placed.priority, scheduled_at = NULL
FROM placed WHERE job.id = placed.id
"""
"""Those whose time has come take a place, as if they came now. It is looked for once for each installation: ten thousand that come to
its own workers' queues at once would otherwise take six seconds, and take 0.3."""
# As Procrastinate's own, which compares each job with every other one to find those of its lock: where ten thousand wait that
# takes minutes. OFFSET keeps the planner from doing the same. Jobs of one lock keep the order in which they came, whatever their
# places are: a place that had to mind the others' would be looked for among all that wait. What is paused keeps its place too.
FETCH: LiteralString = """
UPDATE magicode_jobs.procrastinate_jobs SET status = 'doing', worker_id = %(worker)s
WHERE id = (
    SELECT id FROM magicode_jobs.procrastinate_jobs AS job
    WHERE status = 'todo' AND scheduled_at IS NULL AND queue_name = %(queue)s AND (job.lock IS NULL OR NOT EXISTS (
        SELECT FROM magicode_jobs.procrastinate_jobs AS other
        WHERE other.status = 'doing' AND other.lock = job.lock OFFSET 0
    ) AND NOT EXISTS (
        SELECT FROM magicode_jobs.procrastinate_jobs AS other
        WHERE other.status = 'todo' AND other.lock = job.lock
          AND other.id < job.id OFFSET 0
    )) AND NOT EXISTS (
        SELECT FROM magicode_jobs.pauses WHERE installation_id IN (0, (job.args ->> 'installation_id')::bigint) OFFSET 0
    )
    ORDER BY priority DESC, id LIMIT 1 FOR UPDATE OF job SKIP LOCKED
)
RETURNING *
"""


async def defer(
    connection: psycopg.AsyncConnection[Any],
    task: str,
    *,
    lock: str | None,
    delay_seconds: float,
    behind: bool,
    outside: bool,
    arguments: Mapping[str, object],
) -> int:
    """Puts a job on the queue by way of somebody else's open transaction; its id.

    Two of an installation at once may take the same place, unless their transactions hold its chain. Raises TypeError for an
    argument that is not an id (a whole number or a UUID).
    """
    values = placed(Job(task, arguments, lock), delay_seconds=delay_seconds, behind=behind, outside=outside)
    row = await (await connection.execute(DEFER, values)).fetchone()
    if row is None:
        raise AssertionError("an INSERT without a conflict returns its row")
    return int(row[0])


def placed(
    job: Job, *, delay_seconds: float = 0, behind: bool = False, outside: bool = False
) -> dict[str, object]:
    """What DEFER takes. Raises TypeError for an argument that is not an id."""
    ids = _to_json(job.ids)
    within = QUICK_QUEUE if job.lock is None else LOCKED_QUEUE
    return {
        "queue": OUTSIDE_QUEUE if outside else BEHIND_QUEUE if behind else within,
        "task": job.task,
        "lock": job.lock,
        "tenant": str(ids.get("installation_id")),
        "arguments": Jsonb(ids),
        # By the database's clock, which also says when it is due: that of this machine may be another's.
        "delay": timedelta(seconds=delay_seconds) if delay_seconds > 0 else None,
    }


def _to_json(arguments: Mapping[str, object]) -> dict[str, str | int | None]:
    out: dict[str, str | int | None] = {}
    for name, value in arguments.items():
        if isinstance(value, UUID):
            out[name] = str(value)
        elif value is None or (isinstance(value, int) and not isinstance(value, bool)):
            out[name] = value
        else:
            raise TypeError(f"a job carries ids alone, and {name} is a {type(value).__name__}")
    return out
