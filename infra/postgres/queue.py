"""Durable jobs by Procrastinate, in the same database as what they are about.

A job is put on the queue inside the transaction of the row it belongs to, carries ids alone, and is deleted when it
ends. Jobs with a lock run one at a time per lock, in the order they came; those without one are short and have a
worker of their own, so that an acknowledgement never waits for somebody's pull request. What nobody waits for runs
behind both, one job at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
from procrastinate import App, BaseRetryStrategy, JobContext, PsycopgConnector, RetryDecision
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import Job, Status
from procrastinate.manager import JobManager
from procrastinate.worker import Worker

from app.errors import TransientError
from infra.postgres.connect import parameters

Ids = Mapping[str, int | UUID | None]
GaveUp = Callable[[str, Ids, BaseException], Awaitable[None]]

LOCKED_QUEUE = "locked"
QUICK_QUEUE = "quick"
BEHIND_QUEUE = "behind"
_QUICK_CONCURRENCY = 4
_POLL_SECONDS = 0.5
_SHORTEST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 15.0
_AFTERMATH_SECONDS = 5.0
_TELLING_PAUSES = (1.0, 5.0, 25.0)

log = logging.getLogger(__name__)


class WorkerLostError(TransientError):
    """The worker ended without a word each time that it took this job up."""


@dataclass(frozen=True, slots=True)
class WorkerLimits:
    """How long things may take in a worker. `takes` bounds how often a job is taken up, crashes included."""

    heartbeat: timedelta = timedelta(seconds=10)
    stalled_after: timedelta = timedelta(seconds=30)
    drain: timedelta = timedelta(seconds=20)
    takes: int = 10


class Deferrer:
    """Puts jobs on the queue by way of somebody else's open transaction."""

    def __init__(self) -> None:
        self._app = App(connector=PsycopgConnector())  # never opened: each call brings its connection

    async def defer(
        self,
        connection: psycopg.AsyncConnection[Any],
        task: str,
        *,
        lock: str | None,
        delay_seconds: float,
        behind: bool,
        arguments: Mapping[str, object],
    ) -> int:
        """The job's id. Raises TypeError for an argument that is not an id (a whole number or a UUID)."""
        schedule_at = datetime.now(UTC) + timedelta(seconds=delay_seconds) if delay_seconds > 0 else None
        deferrer = self._app.configure_task(
            task,
            lock=lock,
            queue=BEHIND_QUEUE if behind else QUICK_QUEUE if lock is None else LOCKED_QUEUE,
            schedule_at=schedule_at,
            connection=connection,
        )
        return await deferrer.defer_async(**_to_json(arguments))


async def work(
    service_url: str,
    tasks: Mapping[str, Callable[..., Awaitable[None]]],
    *,
    concurrency: int,
    retry_after: Callable[[BaseException, int], timedelta | None],
    gave_up: GaveUp,
    limits: WorkerLimits = WorkerLimits(),
) -> None:
    """Work until cancelled; then running jobs get `limits.drain` to end, and those that do not are put back.

    `retry_after(error, times it was taken up before)` says when a failed job is tried again; None ends it, and then
    `gave_up(task, its ids, error)` tells whoever waits. A lost database pauses the work. Tasks must not block the
    event loop for as long as `limits.stalled_after`, or another worker takes their job over.
    """

    def app() -> App:
        connector = PsycopgConnector(kwargs=parameters(service_url), min_size=1, max_size=6, timeout=10)
        new = App(connector=connector)
        new.job_manager = _OwnJobsOnly(connector)
        for name, function in tasks.items():
            guarded = _guard(name, function, retry_after, gave_up, limits.takes)
            new.task(name=name, pass_context=True, retry=_AsTheGuardSaid())(guarded)
        return new

    # Nobody is cancelled in the middle of a query: on Python 3.11 `asyncio.wait_for`, which psycopg uses, can swallow a
    # cancellation. It is turned into an event here, and the parts leave of their own accord.
    stop = asyncio.Event()
    whole = asyncio.create_task(_work_until(stop, app, concurrency, limits))
    try:
        await asyncio.wait({whole})
    except asyncio.CancelledError:
        stop.set()
        await asyncio.wait({whole})
        raise
    whole.result()


async def _work_until(
    stop: asyncio.Event, app: Callable[[], App], concurrency: int, limits: WorkerLimits
) -> None:
    pause = _SHORTEST_PAUSE_SECONDS
    while not stop.is_set():
        started = time.monotonic()
        try:
            await _work_until_broken(stop, app(), concurrency, limits)
        except (ConnectorException, psycopg.Error) as error:
            log.warning("The queue is out of reach; trying again.", extra={"error": type(error).__name__})
        if time.monotonic() - started > 60:
            pause = _SHORTEST_PAUSE_SECONDS
        await _sleep(stop, pause)
        pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)


async def _work_until_broken(stop: asyncio.Event, app: App, concurrency: int, limits: WorkerLimits) -> None:
    async with app.open_async():
        leaving = asyncio.Event()
        workers = [
            _worker(app, LOCKED_QUEUE, concurrency, limits),
            _worker(app, QUICK_QUEUE, _QUICK_CONCURRENCY, limits),
            _worker(app, BEHIND_QUEUE, 1, limits),
        ]
        parts = [asyncio.create_task(worker.run()) for worker in workers]  # type: ignore[no-untyped-call]
        parts.append(asyncio.create_task(_take_up_stalled(leaving, app, limits)))
        told = asyncio.create_task(stop.wait())
        done, _ = await asyncio.wait([told, *parts], return_when=asyncio.FIRST_COMPLETED)
        told.cancel()
        leaving.set()
        await _end(workers, set(parts), limits)
        for part in done - {told}:
            part.result()


async def _end(workers: Sequence[Worker], parts: set[asyncio.Task[None]], limits: WorkerLimits) -> None:
    """Ask until all have left; past the drain and its aftermath cut them off, since the jobs' rows outlive us."""
    deadline = time.monotonic() + limits.drain.total_seconds() + _AFTERMATH_SECONDS
    while parts and time.monotonic() < deadline + _AFTERMATH_SECONDS:
        for worker in workers:
            worker.stop()  # type: ignore[no-untyped-call]
        if time.monotonic() > deadline:
            for part in parts:
                part.cancel()
        _, parts = await asyncio.wait(parts, timeout=0.2)
    if parts:
        log.error("A worker did not stop; its jobs will be taken up by another.")


async def _sleep(until: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(until.wait(), seconds)


def _worker(app: App, queue: str, concurrency: int, limits: WorkerLimits) -> Worker:
    return Worker(
        app,
        name=queue,
        queues=[queue],
        concurrency=concurrency,
        delete_jobs="always",
        install_signal_handlers=False,
        fetch_job_polling_interval=_POLL_SECONDS,
        shutdown_graceful_timeout=limits.drain.total_seconds(),
        update_heartbeat_interval=limits.heartbeat.total_seconds(),
        stalled_worker_timeout=limits.stalled_after.total_seconds(),
    )


# --- what one job may do to the queue ----------------------------------------------------------------------------


class _AgainError(Exception):
    """Not a failure to report: the guard wants the job tried again at `at`."""

    def __init__(self, at: datetime) -> None:
        super().__init__()
        self.at = at


class _EndedError(Exception):
    """The job failed for good, and whoever waits was told."""


class _AsTheGuardSaid(BaseRetryStrategy):
    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:  # noqa: ARG002
        if isinstance(exception, _AgainError):
            return RetryDecision(retry_at=exception.at)
        if isinstance(exception, asyncio.CancelledError):  # the worker is shutting down
            return RetryDecision(retry_at=datetime.now(UTC))
        return None


def _guard(
    name: str,
    function: Callable[..., Awaitable[None]],
    retry_after: Callable[[BaseException, int], timedelta | None],
    gave_up: GaveUp,
    takes: int,
) -> Callable[..., Awaitable[None]]:
    """The worker's outermost edge: no error's message passes it, since Procrastinate would log it."""

    async def guarded(context: JobContext, **arguments: Any) -> None:
        ids = _from_json(arguments)
        attempts = context.job.attempts
        if attempts >= takes:
            await _tell(gave_up, name, ids, WorkerLostError(reason="worker_lost"))
            return
        try:
            await function(**ids)
        except Exception as error:  # noqa: BLE001 the worker's outermost edge
            delay = retry_after(error, attempts)
            log.warning(
                "A job failed.",
                extra={"task": name, "job_id": context.job.id, "error": type(error).__name__, "frames": _frames(error),
                       "retry_seconds": None if delay is None else delay.total_seconds()},
            )  # fmt: skip
            if delay is not None:
                raise _AgainError(datetime.now(UTC) + delay) from None
            await _tell(gave_up, name, ids, error)
            raise _EndedError from None

    return guarded


async def _tell(gave_up: GaveUp, task: str, ids: Ids, error: BaseException) -> None:
    """Nobody's request ends in silence: telling is tried for half a minute, and after that the job stays."""
    for pause in _TELLING_PAUSES:
        try:
            await gave_up(task, ids, error)
        except Exception as failure:  # noqa: BLE001 the worker's outermost edge
            log.error(
                "A failed job could not be reported.",
                extra={"task": task, "error": type(failure).__name__, "frames": _frames(failure)},
            )
            await asyncio.sleep(pause)
        else:
            return
    raise _AgainError(datetime.now(UTC) + timedelta(minutes=5)) from None


def _frames(error: BaseException) -> list[str]:
    return [f"{frame.name}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]


class _OwnJobsOnly(JobManager):
    """A worker that was taken for dead and comes back can no longer end or put back what was taken over.

    Putting a job back counts as an attempt, so the attempt tells even where the same worker took it up again.
    """

    async def finish_job(self, job: Job, status: Status, delete_job: bool) -> None:
        await self.connector.execute_query_async(
            "SELECT procrastinate_finish_job_v1(id, %(status)s, %(delete)s) FROM procrastinate_jobs"
            " WHERE id = %(job)s AND worker_id = %(worker)s AND attempts = %(taken)s"
            " AND status = 'doing'",
            job=job.id,
            worker=job.worker_id,
            taken=job.attempts,
            status=status.value,
            delete=delete_job,
        )

    async def retry_job(
        self,
        job: Job,
        retry_at: datetime | None = None,
        priority: int | None = None,
        queue: str | None = None,
        lock: str | None = None,
    ) -> None:
        await self.connector.execute_query_async(
            "SELECT procrastinate_retry_job_v2(id, %(at)s, %(priority)s, %(queue)s, %(lock)s) FROM procrastinate_jobs"
            " WHERE id = %(job)s AND worker_id = %(worker)s AND attempts = %(taken)s"
            " AND status = 'doing'",
            job=job.id,
            worker=job.worker_id,
            taken=job.attempts,
            at=retry_at or datetime.now(UTC),
            priority=priority,
            queue=queue,
            lock=lock,
        )


async def _take_up_stalled(leaving: asyncio.Event, app: App, limits: WorkerLimits) -> None:
    """Put the jobs of dead workers back, again and again.

    One statement that skips what others hold: Procrastinate's own list-then-retry, in two workers at once, would put
    a job back that a third has already begun. As a job of its own it would be lost with the worker that ran it.
    """
    while not leaving.is_set():
        rows = await app.job_manager.connector.execute_query_all_async(
            """
            WITH stalled AS (
                SELECT job.id FROM procrastinate_jobs AS job
                WHERE job.status = 'doing' AND NOT EXISTS (
                    SELECT FROM procrastinate_workers AS worker
                    WHERE worker.id = job.worker_id AND worker.last_heartbeat >= now() - %(after)s::interval
                )
                FOR UPDATE SKIP LOCKED
            )
            SELECT id, procrastinate_retry_job_v2(id, now(), NULL, NULL, NULL) FROM stalled
            """,
            after=limits.stalled_after,
        )
        if rows:
            log.warning(
                "Jobs of a worker that is gone were put back.", extra={"jobs": [row["id"] for row in rows]}
            )
        await _sleep(leaving, limits.heartbeat.total_seconds())


# --- ids, there and back ---------------------------------------------------------------------------------------------


def _to_json(arguments: Mapping[str, object]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, value in arguments.items():
        if isinstance(value, UUID):
            out[name] = str(value)
        elif value is None or (isinstance(value, int) and not isinstance(value, bool)):
            out[name] = value
        else:
            raise TypeError(f"a job carries ids alone, and {name} is a {type(value).__name__}")
    return out


def _from_json(arguments: Mapping[str, Any]) -> dict[str, int | UUID | None]:
    return {name: UUID(value) if isinstance(value, str) else value for name, value in arguments.items()}
