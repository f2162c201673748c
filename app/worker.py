"""The working process: takes jobs from the queue and plays runs; and the web process, which by default works too.

The jobs' outermost edge is in `infra/postgres/queue.py`: nothing here catches what it does not understand.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial
from itertools import chain, repeat
from typing import Any, ParamSpec
from uuid import UUID

import uvicorn

from app import exporting, rounds
from app.beside import turn_away
from app.ending import give_up
from app.erasing import erase, erase_later
from app.errors import (
    SHORT,
    SUSPENDED,
    DeniedError,
    ErasedError,
    ShortError,
    SupersededError,
    TransientError,
    UserError,
)
from app.following import follow, forget
from app.house import House
from app.jobs import states
from app.jobs.events import SENDS
from app.jobs.retries import retry_after
from app.jobs.tasks import Task
from app.line import play
from app.main import create
from app.nouns import Run, RunEvent
from app.ports import Watch
from app.refreshing import refresh
from app.restoring import require_reapplied
from app.scene import acknowledge
from app.settings import Settings
from app.settling import NOT_FOUND_YET, settle, settle_later
from app.telling import send, tell_accepted
from app.web.health import alone
from app.web.patience import config as serving
from app.wiring import open_house
from app.workspace.storage import sweep
from infra.postgres.queue import WorkerLimits, still_held
from infra.postgres.queue import work as work_queue

P = ParamSpec("P")

START_WITHIN_SECONDS = 300.0
SWEEP_EVERY_SECONDS = 60.0
NICENESS = 5
"""Of a process that only works: on a machine with a web process the latter goes first, since GitHub waits for its answer."""

LIMITS = WorkerLimits()

log = logging.getLogger(__name__)


async def serve(read: Settings, environ: Mapping[str, str]) -> None:
    """The web process until it is cancelled, and the worker beside it unless the settings say otherwise.

    Raises CannotListenError before anything else is started.
    """
    with _listener(read.host, read.port) as listener:
        await _serve(read, environ, listener)


async def _serve(read: Settings, environ: Mapping[str, str], listener: socket.socket) -> None:
    async with _opened(read, environ) as house:
        await rounds.take_up(house)
        beside = (lambda: work_jobs(house, read.concurrency, read.dedicated_to)) if read.worker else None
        leaving = asyncio.Event()
        config = serving(create(house, beside=beside, leaving=leaving), read.trusted_proxies)
        _set_apart()
        log.info("Listening.", extra={"address": listener.getsockname()})
        await _until_cancelled(Server(config), listener, leaving)


class CannotListenError(UserError):
    """The address in MAGICODE_HOST and MAGICODE_PORT (a worker's: MAGICODE_WORKER_PORT) cannot be listened on."""


def _listener(host: str, port: int) -> socket.socket:
    """Bound, but not listening: nobody connects before somebody answers. Raises CannotListenError."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise CannotListenError(
            f"MAGICODE_HOST and MAGICODE_PORT (a worker's: MAGICODE_WORKER_PORT) say {host}:{port}, and that cannot be listened on: {error.strerror}."
        ) from None
    return listener


class Server(uvicorn.Server):
    """Leaves the process's signals to whoever runs the event loop: uvicorn's own handling ends the process with the
    signal, before PostgreSQL is stopped and the workspace swept."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _until_cancelled(
    server: uvicorn.Server, listener: socket.socket, leaving: asyncio.Event | None = None
) -> None:
    """Serve; when cancelled, let the requests under way be answered first."""
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        await asyncio.shield(serving)
    except asyncio.CancelledError:
        if leaving is not None:
            leaving.set()
        server.should_exit = True
        await serving
        raise


async def work(read: Settings, environ: Mapping[str, str]) -> None:
    """The working process until it is told to stop. Raises CannotListenError, where it is to say how it is, before anything else."""
    async with AsyncExitStack() as stack:
        listener = None
        if read.worker_port is not None:
            listener = stack.enter_context(_listener(read.host, read.worker_port))
        house = await stack.enter_async_context(_opened(read, environ))
        if listener is not None:
            answering = asyncio.create_task(_until_cancelled(Server(serving(alone(house))), listener))
            answering.add_done_callback(_say_if_broken)
            stack.push_async_callback(_ended, [answering])
        _set_apart()
        os.nice(NICENESS)
        await work_jobs(house, read.concurrency, read.dedicated_to)


def _set_apart() -> None:
    """What is there when the process begins stays to its end: a look through all of it for garbage takes a third of a second,
    in which nobody is answered. https://docs.python.org/3/library/gc.html#gc.freeze"""
    gc.collect()
    gc.freeze()


@asynccontextmanager
async def _opened(read: Settings, environ: Mapping[str, str]) -> AsyncIterator[House]:
    """The house, once what it needs is there: a database that is started at the same time is not ready at the same time.

    Raises what `_guarded` raises; TransientErrors after five minutes of trying.
    """
    async with AsyncExitStack() as stack:
        waited = 0.0
        for pause in chain((1.0, 2.0, 4.0, 8.0), repeat(15.0)):
            try:
                house = await stack.enter_async_context(_guarded(read, environ))
                break
            except TransientError as error:
                if waited >= START_WITHIN_SECONDS:
                    raise
                log.warning("Not ready to start; trying again.", extra={"reason": error.reason})
            waited += pause
            await asyncio.sleep(pause)
        yield house


@asynccontextmanager
async def _guarded(read: Settings, environ: Mapping[str, str]) -> AsyncIterator[House]:
    """None that would serve or work on what was deleted. Raises what `open_house` and `require_reapplied` raise."""
    async with open_house(read, environ) as house:
        await require_reapplied(house)
        yield house


async def work_jobs(
    house: House,
    concurrency: int,
    only: Sequence[int] = (),
    *,
    limits: WorkerLimits = LIMITS,
    retry_after: Callable[[BaseException, int], timedelta | None] = retry_after,
) -> None:
    """Work until cancelled, and do what is done for everybody where it is this process's turn; or work for these installations
    `only`, and leave to the others what is everybody's."""
    house = replace(house, held=still_held)

    async def gave_up(task: str, ids: Mapping[str, int | UUID | None], error: BaseException) -> None:
        if task == Task.ERASE:
            await erase_later(house, _id(ids, "installation_id"))
        elif task == Task.EXPORT:
            await exporting.give_up(house, _id(ids, "installation_id"), _uuid(ids, "export_id"))
        elif task in (Task.WORK, Task.BLOCKED):
            whose = (_id(ids, "installation_id"), _uuid(ids, "run_id"))
            await _give_up(house, *whose, error, blocked=task == Task.BLOCKED)
        elif task == Task.SETTLE and isinstance(error, TransientError) and error.reason != NOT_FOUND_YET:
            # GitHub was away for minutes: without another look a draft stays one, and failing checks are told to nobody.
            run = await _run(house, _id(ids, "installation_id"), _uuid(ids, "run_id"))
            if run is not None:
                await settle_later(house, run)

    everybodys = () if only else rounds.kept(house)
    keeping = [asyncio.create_task(keep) for keep in (*everybodys, _keep_swept(house))]
    for task in keeping:
        task.add_done_callback(_say_if_broken)
    try:
        await work_queue(
            house.service_url,
            tasks(house),
            concurrency=concurrency,
            retry_after=retry_after,
            gave_up=_unless_erased(gave_up),
            limits=limits,
            only=only,
        )
    finally:
        await _ended(keeping)


def tasks(house: House) -> Mapping[str, Callable[..., Awaitable[None]]]:
    """What each job does. A job whose run has ended or was taken over does nothing, nor does one of an installation whose data
    is being destroyed or was."""

    async def on_work(installation_id: int, run_id: UUID) -> None:
        with suppress(SupersededError):
            run = await states.begin(house.store, installation_id, run_id, house.clock)
            if run.attempt == 1 and run.started_at is not None:
                house.watch.begun(run.verb, (run.started_at - run.created_at).total_seconds())
            await _playing(house, run)

    async def on_blocked(installation_id: int, run_id: UUID) -> None:
        with suppress(SupersededError):
            run = await states.begin(house.store, installation_id, run_id, house.clock, blocked=True)
            await turn_away(house, run)

    async def on_export(installation_id: int, export_id: UUID) -> None:
        with suppress(SupersededError):
            await exporting.make(house, installation_id, export_id)

    async def on_send(event: RunEvent, **ids: Any) -> None:
        with suppress(SupersededError):
            await send(house, event, **ids)

    async def on_erase(installation_id: int) -> None:
        await erase(house, installation_id)

    jobs: dict[str, Callable[..., Awaitable[None]]] = {
        Task.ACKNOWLEDGE.value: _with_run(house, acknowledge),
        Task.WORK.value: on_work,
        Task.BLOCKED.value: on_blocked,
        Task.SETTLE.value: _with_run(house, settle),
        Task.FOLLOW.value: partial(follow, house),
        Task.FORGET.value: partial(forget, house),
        Task.REFRESH.value: _with_run(house, refresh),
        Task.EXPORT.value: on_export,
        Task.TELL_ACCEPTED.value: _with_run(house, tell_accepted),
        **{task.value: partial(on_send, event) for event, task in SENDS.items()},
    }
    jobs = {name: _unless_suspended(house, job) for name, job in jobs.items()}
    safe = {name: _unless_erased(job) for name, job in jobs.items()} | {Task.ERASE.value: on_erase}
    return {name: _watched(house.watch, name, job) for name, job in safe.items()}


def _with_run(house: House, act: Callable[[House, Run], Awaitable[object]]) -> Callable[..., Awaitable[None]]:
    """A job that needs the run's row, and has nothing to do where that is gone."""

    async def with_run(installation_id: int, run_id: UUID) -> None:
        if (run := await _run(house, installation_id, run_id)) is not None:
            await act(house, run)

    return with_run


def _watched(watch: Watch, name: str, job: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    async def watched(**ids: Any) -> None:
        with watch.job(name, ids.get("run_id")):
            await job(**ids)

    return watched


def _unless_suspended(house: House, job: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """What GitHub refuses since whoever runs this service has suspended a paused installation goes on when they let it."""

    async def unless_suspended(**ids: Any) -> None:
        try:
            await job(**ids)
        except DeniedError as error:
            if error.reason == SUSPENDED:
                await house.held()
            raise

    return unless_suspended


def _unless_erased(job: Callable[P, Awaitable[None]]) -> Callable[P, Awaitable[None]]:
    async def unless_erased(*given: P.args, **named: P.kwargs) -> None:
        with suppress(ErasedError), shortages():
            await job(*given, **named)

    return unless_erased


@contextmanager
def shortages() -> Iterator[None]:
    """What this machine lacks for the moment is no defect of ours: the job is tried again."""
    try:
        yield
    except OSError as error:
        if error.errno in SHORT:
            raise ShortError(reason="machine_short") from error
        raise


async def _keep_swept(house: House) -> None:
    """The trees of a process that was killed go while others on this machine live on, and not when the next one starts."""
    while True:
        await asyncio.sleep(SWEEP_EVERY_SECONDS)
        with suppress(OSError):
            await asyncio.to_thread(sweep, house.workspace_root)


def _say_if_broken(task: asyncio.Task[None]) -> None:
    """At once, since nobody waits for what goes on beside the work until that ends."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.critical("What is done periodically broke off.", exc_info=error)


async def _ended(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Cancels until they have ended: on Python 3.11 `asyncio.wait_for`, which psycopg uses, can swallow a cancellation."""
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=1)
    for task in tasks:
        if not task.cancelled():
            task.result()


async def _playing(house: House, run: Run) -> None:
    """A repository or installation that is gone cannot be told anything: the end is in the log alone."""
    try:
        await play(house, run)
    except UserError as error:
        await give_up(house, run, error)


async def _give_up(
    house: House, installation_id: int, run_id: UUID, error: BaseException, *, blocked: bool
) -> None:
    with suppress(SupersededError):
        run = await states.begin(house.store, installation_id, run_id, house.clock, blocked=blocked)
        await give_up(house, run, error)


async def _run(house: House, installation_id: int, run_id: UUID) -> Run | None:
    async with house.store.transaction(installation_id) as transaction:
        return await transaction.run(run_id)


def _id(ids: Mapping[str, int | UUID | None], name: str) -> int:
    value = ids[name]
    assert isinstance(value, int)
    return value


def _uuid(ids: Mapping[str, int | UUID | None], name: str) -> UUID:
    value = ids[name]
    assert isinstance(value, UUID)
    return value
