"""The working process: takes jobs from the queue and plays runs; and the web process, which by default works too.

The jobs' outermost edge is in `infra/postgres/queue.py`: nothing here catches what it does not understand.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from itertools import chain, repeat
from typing import ParamSpec
from uuid import UUID

import uvicorn

from app import exporting
from app.beside import turn_away
from app.ending import give_up
from app.erasing import erase, erase_later
from app.errors import ErasedError, MagicodeError, RefusedError, SupersededError, TransientError, UserError
from app.following import follow
from app.house import House
from app.jobs import presence, reconcile, states
from app.jobs.accept import NOBODY
from app.jobs.retries import retry_after
from app.jobs.tasks import Task
from app.line import play
from app.main import create
from app.nouns import Action, Run
from app.refreshing import refresh
from app.retaining import sweep_house
from app.scene import acknowledge
from app.settings import Settings
from app.settling import settle, settle_later
from app.wiring import open_house
from infra.postgres.queue import WorkerLimits
from infra.postgres.queue import work as work_queue

P = ParamSpec("P")

SYNC_EVERY_SECONDS = 300.0
RETAIN_AFTER_SECONDS = 60.0
RETAIN_EVERY_SECONDS = 3600.0
CATCH_UP_AFTER_SECONDS = (2.0, 16.0)
"""First when the web process listens; then when whatever was lost before our start is old enough to be asked for."""
CATCH_UP_EVERY_SECONDS = 60.0

LIMITS = WorkerLimits()

log = logging.getLogger(__name__)


async def serve(read: Settings, environ: Mapping[str, str]) -> None:
    """The web process until it is cancelled, and the worker beside it unless the settings say otherwise.

    Raises CannotListenError before anything else is started.
    """
    with _listener(read.host, read.port) as listener:
        await _serve(read, environ, listener)


async def _serve(read: Settings, environ: Mapping[str, str], listener: socket.socket) -> None:
    async with open_house(read, environ) as house:
        await sync_installations(house)
        beside = (lambda: work_jobs(house, read.concurrency)) if read.worker else None
        config = uvicorn.Config(
            create(house, beside=beside), log_config=None, access_log=False, server_header=False
        )
        log.info("Listening.", extra={"address": listener.getsockname()})
        await _until_cancelled(_Server(config), listener)


class CannotListenError(UserError):
    """The address in MAGICODE_HOST and MAGICODE_PORT cannot be listened on."""


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
            f"MAGICODE_HOST and MAGICODE_PORT say {host}:{port}, and that cannot be listened on: {error.strerror}."
        ) from None
    return listener


class _Server(uvicorn.Server):
    """Leaves the process's signals to whoever runs the event loop: uvicorn's own handling ends the process with the
    signal, before PostgreSQL is stopped and the workspace swept."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _until_cancelled(server: uvicorn.Server, listener: socket.socket) -> None:
    """Serve; when cancelled, let the requests under way be answered first."""
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        await asyncio.shield(serving)
    except asyncio.CancelledError:
        server.should_exit = True
        await serving
        raise


async def work(read: Settings, environ: Mapping[str, str]) -> None:
    """The working process until it is told to stop."""
    async with open_house(read, environ) as house:
        await work_jobs(house, read.concurrency)


async def work_jobs(
    house: House,
    concurrency: int,
    *,
    limits: WorkerLimits = LIMITS,
    retry_after: Callable[[BaseException, int], timedelta | None] = retry_after,
) -> None:
    """Work until cancelled, keep the list of installations as GitHub has it, and ask again for what was missed."""

    async def gave_up(task: str, ids: Mapping[str, int | UUID | None], error: BaseException) -> None:
        if task == Task.ERASE:
            await erase_later(house, _id(ids, "installation_id"))
        elif task == Task.EXPORT:
            await exporting.give_up(house, _id(ids, "installation_id"), _uuid(ids, "export_id"))
        elif task in (Task.WORK, Task.BLOCKED):
            await _give_up(house, _id(ids, "installation_id"), _uuid(ids, "run_id"), error)
        elif task == Task.SETTLE and isinstance(error, TransientError):
            # GitHub was away for minutes: without another look a draft stays one, and failing checks are told to nobody.
            run = await _run(house, _id(ids, "installation_id"), _uuid(ids, "run_id"))
            if run is not None:
                await settle_later(house, run)

    keeping = [
        asyncio.create_task(_keep_installations(house)),
        asyncio.create_task(_keep_caught_up(house)),
        asyncio.create_task(_keep_no_longer(house)),
    ]
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
        )
    finally:
        await _ended(keeping)


def tasks(house: House) -> Mapping[str, Callable[..., Awaitable[None]]]:
    """What each job does. A job whose run has ended or was taken over does nothing, nor does one of an installation whose data
    is being destroyed or was."""

    async def on_acknowledge(installation_id: int, run_id: UUID) -> None:
        if (run := await _run(house, installation_id, run_id)) is not None:
            await acknowledge(house, run)

    async def on_work(installation_id: int, run_id: UUID) -> None:
        with suppress(SupersededError):
            await _playing(house, await states.begin(house.store, installation_id, run_id, house.clock))

    async def on_blocked(installation_id: int, run_id: UUID) -> None:
        with suppress(SupersededError):
            await turn_away(house, await states.begin(house.store, installation_id, run_id, house.clock))

    async def on_settle(installation_id: int, run_id: UUID) -> None:
        if (run := await _run(house, installation_id, run_id)) is not None:
            await settle(house, run)

    async def on_refresh(installation_id: int, run_id: UUID) -> None:
        if (run := await _run(house, installation_id, run_id)) is not None:
            await refresh(house, run)

    async def on_follow(installation_id: int, repository_id: int) -> None:
        await follow(house, installation_id, repository_id)

    async def on_erase(installation_id: int) -> None:
        await erase(house, installation_id)

    async def on_export(installation_id: int, export_id: UUID) -> None:
        with suppress(SupersededError):
            await exporting.make(house, installation_id, export_id)

    jobs: dict[str, Callable[..., Awaitable[None]]] = {
        Task.ACKNOWLEDGE.value: on_acknowledge,
        Task.WORK.value: on_work,
        Task.BLOCKED.value: on_blocked,
        Task.SETTLE.value: on_settle,
        Task.FOLLOW.value: on_follow,
        Task.REFRESH.value: on_refresh,
        Task.EXPORT.value: on_export,
    }
    return {name: _unless_erased(job) for name, job in jobs.items()} | {Task.ERASE.value: on_erase}


def _unless_erased(job: Callable[P, Awaitable[None]]) -> Callable[P, Awaitable[None]]:
    async def unless_erased(*given: P.args, **named: P.kwargs) -> None:
        with suppress(ErasedError):
            await job(*given, **named)

    return unless_erased


async def sync_installations(house: House) -> None:
    """Take up the installations that GitHub lists, and pause those that it no longer does: their webhooks may have come
    while nobody listened. One that came since we looked is not missed."""
    try:
        known = await house.store.installation_ids()
        there = set()
        for installation in await house.github.installations():
            with suppress(ErasedError):
                there.add(await presence.listed(house.store, installation))
        for tenant in known:
            if tenant not in there:
                with suppress(ErasedError):
                    await presence.unlisted(house.store, tenant, house.clock)
    except MagicodeError as error:
        log.warning(
            "The installations could not be listed; trying again later.", extra={"reason": error.reason}
        )


async def catch_up(house: House, since: datetime) -> datetime:
    """Ask GitHub to redeliver what it could not deliver from `since` on; returns from when on to look the next time.

    Any number of workers may do this: what one has just asked for is not due for another, and what comes twice is
    accepted once.
    """
    try:
        now = house.clock()
        missed = reconcile.missed(await house.github.deliveries(since), now)
        for one in reconcile.due(missed, now):
            try:
                await house.github.redeliver(one.newest.id)
            except (UserError, RefusedError) as error:
                log.warning("GitHub will not redeliver an event.", extra={"reason": error.reason})
                continue
            async with house.store.transaction(NOBODY) as transaction:
                await house.ledger.append(
                    transaction,
                    NOBODY,
                    Action.WEBHOOK_REDELIVERY_ASKED,
                    "magicode",
                    None,
                    {"delivery": one.newest.guid, "event": one.newest.event, "attempts": one.attempts},
                )
    except MagicodeError as error:
        log.warning("What was missed could not be asked for again.", extra={"reason": error.reason})
        return since
    return reconcile.look_from(missed, now)


async def _keep_caught_up(house: House) -> None:
    since = house.clock() - reconcile.KEPT
    for pause in chain(CATCH_UP_AFTER_SECONDS, repeat(CATCH_UP_EVERY_SECONDS)):
        await asyncio.sleep(pause)
        since = await catch_up(house, since)


async def _keep_installations(house: House) -> None:
    while True:
        await asyncio.sleep(SYNC_EVERY_SECONDS)
        await sync_installations(house)


async def _keep_no_longer(house: House) -> None:
    """What is older than its installation wants goes; workers that do so at once do it once."""
    for pause in chain([RETAIN_AFTER_SECONDS], repeat(RETAIN_EVERY_SECONDS)):
        await asyncio.sleep(pause)
        try:
            await sweep_house(house)
        except MagicodeError as error:
            log.warning("What is too old could not be looked for.", extra={"reason": error.reason})


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


async def _give_up(house: House, installation_id: int, run_id: UUID, error: BaseException) -> None:
    with suppress(SupersededError):
        await give_up(house, await states.begin(house.store, installation_id, run_id, house.clock), error)


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
