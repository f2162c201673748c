"""How long a database that is away is waited for: by who works a job for a while, by who answers somebody not at all.

A PostgreSQL that is restarted is back within seconds; work of minutes is not to begin anew for that.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from contextvars import ContextVar
from typing import Any, Final, TypeVar

from procrastinate import PsycopgConnector
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import Job
from procrastinate.manager import JobManager

from infra.postgres.errors import is_read_only, is_transient
from infra.postgres.turns import FETCH, TAKE_PLACES

T = TypeVar("T")

PATIENCE: ContextVar[float] = ContextVar("PATIENCE", default=0.0)
"""Seconds for which a transaction waits to begin."""

AT_WORK_SECONDS: Final = 60.0
"""What a job waits; one that meets a longer outage is tried again by the queue."""

_PAUSE_SECONDS: Final = 1.0
_FORGOTTEN_SECONDS: Final = 86_400.0

log = logging.getLogger(__name__)


class PatientJobs(JobManager):
    """The queue as a worker sees it that stays at work while the database is away: what it has in its hands goes on, and what
    it has to say is said as soon as somebody listens.

    A job that was handed out in an answer that got lost is put back; nobody else would, since this worker lives. A server
    that takes no writes is not waited for: other connections may lead to one that does, and the whole pool is made anew.
    """

    def __init__(self, connector: PsycopgConnector, leaving: asyncio.Event) -> None:
        super().__init__(connector)
        self._leaving = leaving
        self._held: defaultdict[int, dict[int, int]] = defaultdict(dict)
        """Of each worker the jobs in its hands, and which attempt of each."""
        self._unsure: set[int] = set()
        self._served: dict[int, str] = {}

    async def fetch_job(self, queues: Iterable[str] | None, worker_id: int) -> Job | None:
        try:
            if worker_id in self._unsure:
                await self._put_back_unknown(worker_id)
            job = await self._next(queues, worker_id)
        except ConnectorException as error:
            if not _passes(error):
                raise
            self._unsure.add(worker_id)
            await self._pause(error)
            return None
        if job is not None and job.id is not None:
            self._held[worker_id][job.id] = job.attempts
        return job

    async def _next(self, queues: Iterable[str] | None, worker_id: int) -> Job | None:
        """Of several queues, as who works for some alone has them, each has its turn."""
        names = sorted(queues or ())
        last = self._served.get(worker_id, "")
        await self.connector.execute_query_async(TAKE_PLACES, queues=names)
        for queue in [name for name in names if name > last] + [name for name in names if name <= last]:
            rows = await self.connector.execute_query_all_async(FETCH, queue=queue, worker=worker_id)
            if rows:
                self._served[worker_id] = queue
                return Job.from_row(rows[0])
        return None

    async def update_heartbeat(self, worker_id: int) -> None:
        update = super().update_heartbeat
        await self.until_heard(lambda: update(worker_id))

    async def listen_for_jobs(self, *, on_notification: Any, queues: Iterable[str] | None = None) -> None:
        listen = super().listen_for_jobs
        await self.until_heard(lambda: listen(on_notification=on_notification, queues=queues))

    async def list_jobs_to_abort_async(self, queue: str | None = None) -> Iterable[int]:  # noqa: ARG002
        """None: a run is cancelled by its own row."""
        return ()

    async def prune_stalled_workers(self, seconds_since_heartbeat: float) -> list[int]:
        """Forgets whom nobody heard of for a day: who was not heard for seconds may be alive, as after an outage of the
        database, and its jobs are not to be torn from it by that."""
        return await super().prune_stalled_workers(max(seconds_since_heartbeat, _FORGOTTEN_SECONDS))

    async def done_with(self, job: Job, say: Callable[[], Awaitable[T]]) -> T:
        """Says what became of a job that is in this worker's hands; from then on it is not."""
        said = await self.until_heard(say)
        if job.worker_id is not None and job.id is not None:
            held = self._held[job.worker_id]
            # What had been heard at once was handed out again, while it was being said once more.
            if held.get(job.id) == job.attempts:
                del held[job.id]
        return said

    async def until_heard(self, say: Callable[[], Awaitable[T]]) -> T:
        """Says it again until the database has heard it, or the worker leaves. Raises ConnectorException for what does not
        pass by itself."""
        while True:
            try:
                return await say()
            except ConnectorException as error:
                if not _passes(error) or self._leaving.is_set():
                    raise
                await self._pause(error)

    async def _put_back_unknown(self, worker_id: int) -> None:
        rows = await self.connector.execute_query_all_async(
            "UPDATE procrastinate_jobs SET status = 'todo', worker_id = NULL"
            " WHERE worker_id = %(worker)s AND status = 'doing' AND id <> ALL(%(held)s::bigint[]) RETURNING id",
            worker=worker_id,
            held="{" + ",".join(str(one) for one in self._held[worker_id]) + "}",
        )
        self._unsure.discard(worker_id)
        if rows:
            log.warning(
                "Jobs whose handing out was not heard of were put back.",
                extra={"jobs": [row["id"] for row in rows]},
            )

    async def _pause(self, error: ConnectorException) -> None:
        log.warning(
            "The queue is out of reach; trying again.", extra={"error": type(error.__cause__).__name__}
        )
        await asyncio.sleep(_PAUSE_SECONDS)


def _passes(error: ConnectorException) -> bool:
    return is_transient(error) and not is_read_only(error)
