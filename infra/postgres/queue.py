"""Durable jobs by Procrastinate, in the same database as what they are about.

A job is put on the queue inside the transaction of the row it belongs to, carries ids alone, and is deleted when it
ends. Jobs with a lock run one at a time per lock, in the order they came; those without one are short and have a
worker of their own, so that an acknowledgement never waits for somebody's pull request. What nobody waits for runs
behind both, one job at a time, and what waits for strangers' machines beside all of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import traceback
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, LiteralString
from uuid import UUID

import psycopg
from procrastinate import App, BaseRetryStrategy, JobContext, PsycopgConnector, RetryDecision
from procrastinate.exceptions import AppNotOpen, ConnectorException, UniqueViolation
from procrastinate.jobs import Job, Status
from procrastinate.worker import Worker

from app.errors import MagicodeError, PausedError, SupersededError, TransientError
from infra.postgres.connect import parameters
from infra.postgres.dedicated import HEARD, queues
from infra.postgres.errors import is_transient, translated
from infra.postgres.patience import AT_WORK_SECONDS, PATIENCE, PatientJobs
from infra.postgres.pauses import IS_PAUSED
from infra.postgres.turns import BEHIND_QUEUE, LOCKED_QUEUE, OUTSIDE_QUEUE, QUICK_QUEUE

Ids = Mapping[str, int | UUID | None]
GaveUp = Callable[[str, Ids, BaseException], Awaitable[None]]

_QUICK_CONCURRENCY = 4
_OUTSIDE_CONCURRENCY = 8
_POLL_SECONDS = 0.5
_SHORTEST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 15.0
_AFTERMATH_SECONDS = 5.0
_RECONNECT_SECONDS = 5.0
"""For so long the pool itself tries to connect, more and more seldom; then whoever asks makes it begin again."""
_TELLING_PAUSES = (1.0, 5.0, 25.0)
_FOR_ANOTHER = timedelta(seconds=5)
"""How long a job of a task that is not known here is left to those who may know it."""
_PAUSED = timedelta(seconds=30)
"""How long a job that a pause met in the middle is put off; whether it is then taken up is looked at anew."""
_LOCK_TAKEN = "procrastinate_jobs_lock_idx_v1"

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


async def work(
    service_url: str,
    tasks: Mapping[str, Callable[..., Awaitable[None]]],
    *,
    concurrency: int,
    retry_after: Callable[[BaseException, int], timedelta | None],
    gave_up: GaveUp,
    limits: WorkerLimits = WorkerLimits(),
    only: Sequence[int] = (),
) -> None:
    """Work until cancelled; then running jobs get `limits.drain` to end, and those that do not are put back.

    For everybody who has no workers of its own, or for these installations `only`.

    `retry_after(error, times it was taken up before)` says when a failed job is tried again; None ends it, and then
    `gave_up(task, its ids, error)` tells whoever waits. A lost database pauses the work. Tasks must not block the
    event loop for as long as `limits.stalled_after`, or another worker takes their job over.
    """

    def app(leaving: asyncio.Event) -> App:
        connector = PsycopgConnector(
            kwargs=parameters(service_url),
            min_size=1,
            max_size=6,
            timeout=10,
            reconnect_timeout=_RECONNECT_SECONDS,
        )
        new = App(connector=connector)
        new.job_manager = jobs = _OwnJobsOnly(connector, frozenset(tasks), leaving)
        for name, function in tasks.items():
            guarded = _guard(name, function, retry_after, gave_up, limits.takes)
            new.task(name=name, pass_context=True, retry=_AsTheGuardSaid(jobs))(guarded)
        return new

    # Nobody is cancelled in the middle of a query: on Python 3.11 `asyncio.wait_for`, which psycopg uses, can swallow a
    # cancellation. It is turned into an event here, and the parts leave of their own accord.
    stop = asyncio.Event()
    whole = asyncio.create_task(_work_until(stop, app, concurrency, limits, only))
    try:
        await asyncio.wait({whole})
    except asyncio.CancelledError:
        stop.set()
        await asyncio.wait({whole})
        raise
    whole.result()


async def _work_until(
    stop: asyncio.Event,
    app: Callable[[asyncio.Event], App],
    concurrency: int,
    limits: WorkerLimits,
    only: Sequence[int],
) -> None:
    pause = _SHORTEST_PAUSE_SECONDS
    while not stop.is_set():
        started = time.monotonic()
        leaving = asyncio.Event()
        try:
            await _work_until_broken(stop, leaving, app(leaving), concurrency, limits=limits, only=only)
        except (ConnectorException, psycopg.Error) as error:
            log.warning("The queue is out of reach; trying again.", extra={"error": type(error).__name__})
        if time.monotonic() - started > 60:
            pause = _SHORTEST_PAUSE_SECONDS
        await _sleep(stop, pause)
        pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)


async def _work_until_broken(
    stop: asyncio.Event,
    leaving: asyncio.Event,
    app: App,
    concurrency: int,
    *,
    limits: WorkerLimits,
    only: Sequence[int],
) -> None:
    async with app.open_async():
        workers = [
            _worker(app, name, at_once, limits, only)
            for name, at_once in (
                (LOCKED_QUEUE, concurrency),
                (QUICK_QUEUE, _QUICK_CONCURRENCY),
                (BEHIND_QUEUE, 1),
                (OUTSIDE_QUEUE, _OUTSIDE_CONCURRENCY),
            )
        ]
        parts = [asyncio.create_task(worker.run()) for worker in workers]  # type: ignore[no-untyped-call]
        parts.append(asyncio.create_task(_take_up_stalled(leaving, app, workers, limits, only)))
        told = asyncio.create_task(stop.wait())
        await asyncio.wait([told, *parts], return_when=asyncio.FIRST_COMPLETED)
        asked = told.done()
        told.cancel()
        leaving.set()
        await _end(workers, set(parts), limits)
        # All are looked at: what nobody has looked at is printed by asyncio, with all that it says.
        broke = [part.exception() for part in parts if part.done() and not part.cancelled()]
        if not asked and (error := next(filter(None, broke), None)) is not None:
            raise error


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


def _worker(app: App, queue: str, concurrency: int, limits: WorkerLimits, only: Sequence[int]) -> Worker:
    return Worker(
        app,
        name=queue,
        queues=queues(queue, only),
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
    """Not a failure to report: the guard wants the job tried again after `delay`, which is the `tries`-th for this `reason`."""

    def __init__(self, delay: timedelta, reason: str = "", tries: int = 0) -> None:
        super().__init__()
        self.delay = delay
        self.reason = reason
        self.tries = tries


class _EndedError(Exception):
    """The job failed for good, and whoever waits was told."""


class _AsTheGuardSaid(BaseRetryStrategy):
    def __init__(self, jobs: _OwnJobsOnly) -> None:
        self._jobs = jobs

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:
        if isinstance(exception, asyncio.CancelledError):  # the worker is shutting down
            exception = _AgainError(timedelta(0))
        if not isinstance(exception, _AgainError):
            return None
        self._jobs.again_after(job, exception)
        return RetryDecision(retry_in={"seconds": 0})


def _guard(
    name: str,
    function: Callable[..., Awaitable[None]],
    retry_after: Callable[[BaseException, int], timedelta | None],
    gave_up: GaveUp,
    takes: int,
) -> Callable[..., Awaitable[None]]:
    """The worker's outermost edge: no error's message passes it, since Procrastinate would log it."""

    async def guarded(context: JobContext, **arguments: Any) -> None:
        _at_work.set(context)
        PATIENCE.set(AT_WORK_SECONDS)
        ids, counted = _from_json(arguments)
        if counted.get(_LOST, 0) >= takes:
            await _tell(gave_up, name, ids, WorkerLostError(reason="worker_lost"))
            return
        try:
            await function(**ids)
        except Exception as error:  # noqa: BLE001 the worker's outermost edge
            reason = error.reason if isinstance(error, MagicodeError) else ""
            tries = counted.get(reason, 0)
            delay = retry_after(error, tries)
            log.warning(
                "A job failed.",
                extra={"task": name, "job_id": context.job.id, "error": type(error).__name__, "frames": _frames(error),
                       "retry_seconds": None if delay is None else delay.total_seconds()},
            )  # fmt: skip
            if delay is not None:
                raise _AgainError(delay, reason, tries + 1) from None
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
    raise _AgainError(timedelta(minutes=5)) from None


def _frames(error: BaseException) -> list[str]:
    return [f"{frame.name}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]


_at_work: ContextVar[JobContext | None] = ContextVar("_at_work", default=None)


async def still_held() -> None:
    """Raises SupersededError where the job that is worked on here is another worker's by now, PausedError where its installation
    is paused, DatabaseAwayError where nobody can tell. Outside of a job there is nothing to lose."""
    context = _at_work.get()
    if context is None:
        return
    try:
        with translated():
            held = await context.app.job_manager.connector.execute_query_one_async(
                "SELECT EXISTS (SELECT FROM procrastinate_jobs WHERE id = %(job)s AND worker_id = %(worker)s"  # noqa: S608 ours
                f" AND attempts = %(taken)s AND status = 'doing') AS held, {IS_PAUSED} AS paused",
                job=context.job.id,
                worker=context.job.worker_id,
                taken=context.job.attempts,
                tenant=context.job.task_kwargs.get("installation_id"),
            )
    except AppNotOpen:  # the worker has left without this job, which will be taken up by another
        raise SupersededError(reason="superseded") from None
    if not held["held"]:
        raise SupersededError(reason="superseded")
    if held["paused"]:
        raise PausedError(reason="paused", retry_after=_PAUSED)


class _OwnJobsOnly(PatientJobs):
    """A worker that was taken for dead and comes back can no longer end or put back what was taken over.

    Putting a job back counts as an attempt, so the attempt tells even where the same worker took it up again. Jobs of tasks
    that are not `known` are a newer program's, which works beside this one while the service is brought up to date: they are
    left on the queue for it.
    """

    def __init__(self, connector: PsycopgConnector, known: frozenset[str], leaving: asyncio.Event) -> None:
        super().__init__(connector, leaving)
        self._known = known
        self._again: dict[int | None, _AgainError] = {}

    def again_after(self, job: Job, again: _AgainError) -> None:
        """How the job is to be put back next."""
        self._again[job.id] = again

    async def fetch_job(self, queues: Iterable[str] | None, worker_id: int) -> Job | None:
        while True:
            try:
                job = await super().fetch_job(queues, worker_id)
            except UniqueViolation as error:
                # Two jobs of one lock were put on the queue at the same moment and taken by two workers at once.
                if error.constraint_name != _LOCK_TAKEN:
                    raise
                return None
            if job is None or job.task_name in self._known:
                return job
            log.warning("A job of an unknown task was left to another worker.", extra={"job_id": job.id})
            await self.connector.execute_query_async(
                "UPDATE procrastinate_jobs SET status = 'todo', worker_id = NULL,"
                " scheduled_at = now() + %(later)s::interval"
                " WHERE id = %(job)s AND worker_id = %(worker)s AND status = 'doing'",
                job=job.id,
                worker=worker_id,
                later=_FOR_ANOTHER,
            )

    async def finish_job(self, job: Job, status: Status, delete_job: bool) -> None:
        await self.done_with(
            job,
            lambda: self.connector.execute_query_async(
                "SELECT procrastinate_finish_job_v1(id, %(status)s, %(delete)s) FROM procrastinate_jobs"
                " WHERE id = %(job)s AND worker_id = %(worker)s AND attempts = %(taken)s"
                " AND status = 'doing'",
                job=job.id,
                worker=job.worker_id,
                taken=job.attempts,
                status=status.value,
                delete=delete_job,
            ),
        )

    async def retry_job(
        self,
        job: Job,
        retry_at: datetime | None = None,  # noqa: ARG002 - the database's clock says when, as it does when it is fetched
        priority: int | None = None,  # noqa: ARG002
        queue: str | None = None,  # noqa: ARG002
        lock: str | None = None,  # noqa: ARG002
    ) -> None:
        again = self._again.pop(job.id, _AgainError(timedelta(0)))
        await self.done_with(
            job,
            lambda: self.connector.execute_query_async(
                "UPDATE procrastinate_jobs SET status = 'todo', attempts = attempts + 1,"
                " scheduled_at = CASE WHEN args ? %(hastened)s::text OR %(delay)s::interval <= interval '0'"
                " THEN NULL ELSE now() + %(delay)s::interval END,"
                " args = (args - %(hastened)s::text) || %(counted)s"
                " WHERE id = %(job)s AND worker_id = %(worker)s AND attempts = %(taken)s AND status = 'doing'",
                job=job.id,
                worker=job.worker_id,
                taken=job.attempts,
                delay=again.delay,
                hastened=HASTENED,
                counted={f"{_COUNT}{again.reason}": again.tries} if again.tries else {},
            ),
        )


async def _take_up_stalled(
    leaving: asyncio.Event, app: App, workers: Sequence[Worker], limits: WorkerLimits, only: Sequence[int]
) -> None:
    """Put the jobs of dead workers back, again and again, whosever they were; and say that this one lives, where it is somebody's own.

    One statement that skips what others hold: Procrastinate's own list-then-retry, in two workers at once, would put
    a job back that a third has already begun. As a job of its own it would be lost with the worker that ran it.

    Silence proves a death only where the others could be heard: who was not heard itself lately (the database was away or
    stood still, or this process did) judges nobody, and gives all that live the time to speak up.
    """
    connector = app.job_manager.connector
    heard = 2 * limits.heartbeat
    answered = time.monotonic()
    while not leaving.is_set():
        own = [worker.worker_id for worker in workers if worker.worker_id is not None]
        try:
            # By itself: a judgement would wait for the database to come back, and be passed before anybody has spoken.
            await connector.execute_query_async("SELECT 1")
            silence, answered = time.monotonic() - answered, time.monotonic()
            if silence > (heard + limits.heartbeat).total_seconds():
                await _sleep(leaving, heard.total_seconds())
                continue
            if only:
                await connector.execute_query_async(HEARD, only=list(only))
            rows = await connector.execute_query_all_async(
                _PUT_BACK_STALLED, after=limits.stalled_after, own=own, heard=heard, lost=f"{_COUNT}{_LOST}"
            )
        except ConnectorException as error:
            if not is_transient(error):
                raise
            await _sleep(leaving, _SHORTEST_PAUSE_SECONDS)
            continue
        if rows:
            log.warning(
                "Jobs of a worker that is gone were put back.", extra={"jobs": [row["id"] for row in rows]}
            )
        await _sleep(leaving, limits.heartbeat.total_seconds() if own else _SHORTEST_PAUSE_SECONDS)


_PUT_BACK_STALLED: LiteralString = """
    WITH stalled AS (
        SELECT job.id FROM procrastinate_jobs AS job
        WHERE job.status = 'doing' AND NOT EXISTS (
            SELECT FROM procrastinate_workers AS worker
            WHERE worker.id = job.worker_id AND worker.last_heartbeat >= now() - %(after)s::interval
        ) AND EXISTS (
            SELECT FROM procrastinate_workers AS worker
            WHERE worker.id = ANY(%(own)s::bigint[]) AND worker.last_heartbeat >= now() - %(heard)s::interval
        )
        FOR UPDATE SKIP LOCKED
    )
    UPDATE procrastinate_jobs AS job SET status = 'todo', attempts = job.attempts + 1, scheduled_at = NULL,
        args = job.args || jsonb_build_object(%(lost)s::text, COALESCE((job.args ->> %(lost)s::text)::int, 0) + 1)
    FROM stalled WHERE job.id = stalled.id RETURNING job.id
"""


# --- ids, there and back ---------------------------------------------------------------------------------------------


_COUNT = "~"
_LOST = "~lost"
HASTENED = "~~hastened"
"""Beside its ids a job carries how often it was tried again, by the reason, and how often its worker was lost."""


def _from_json(arguments: Mapping[str, Any]) -> tuple[dict[str, int | UUID | None], dict[str, int]]:
    """The ids, and the counts."""
    ids = {
        name: UUID(value) if isinstance(value, str) else value
        for name, value in arguments.items()
        if not name.startswith(_COUNT)
    }
    counted = {
        name.removeprefix(_COUNT): value for name, value in arguments.items() if name.startswith(_COUNT)
    }
    return ids, counted
