"""What runs inside a service process of the tests: `magicode serve` or `magicode worker`, at other paces where a test says so.

It is the fork server's preloaded module: what is imported here is there already when a process starts.
"""

from __future__ import annotations

import asyncio
import ctypes
import importlib
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import app.cli
import app.wiring
import app.worker
from app import settings
from infra.postgres.queue import WorkerLimits
from infra.telemetry import set_up
from tests.faults import points
from tests.line.conftest import Words

_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Options:
    """`constants` are set in `app.worker` by their names, and elsewhere as `module:NAME`; `retry_seconds` None retries as the service does. `watch` is what is done
    at the points (tests/faults/points.py)."""

    role: str
    environ: Mapping[str, str]
    log: Path
    limits: WorkerLimits = field(default_factory=WorkerLimits)
    retry_seconds: float | None = None
    tries: int = 5
    index_words: bool = True
    constants: Mapping[str, Any] = field(default_factory=dict)
    watch: points.Watch | None = None


def main(options: Options, told: Connection) -> None:
    """The process, until it is told to stop (SIGTERM) or is killed. `told` is sent its address and that it works."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    log = os.open(options.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for standard in (1, 2):
        os.dup2(log, standard)
    set_up(options.environ.get("MAGICODE_LOG_LEVEL", "INFO"), sys.__stderr__)
    _settle_in(options, told)
    if options.watch is not None:
        points.install(options.watch)
    read = settings.read(options.environ)
    role: dict[str, Callable[..., Coroutine[Any, Any, None]]] = {
        "serve": app.worker.serve,
        "worker": app.worker.work,
    }
    asyncio.run(_until_stopped(role[options.role](read, options.environ)))


async def _until_stopped(work: Coroutine[Any, Any, None]) -> None:
    working = asyncio.ensure_future(work)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, working.cancel)
    await asyncio.wait({working})
    if not working.cancelled():
        working.result()


def _settle_in(options: Options, told: Connection) -> None:
    """The service itself as it is, with the paces, the encoder and the word to the test that this test wants."""
    for constant, value in options.constants.items():
        where, _, name = constant.rpartition(":")
        module = importlib.import_module(where or "app.worker")
        if not hasattr(module, name):
            raise AttributeError(constant)
        setattr(module, name, value)
    if options.index_words:
        setattr(app.wiring, "BundledEncoder", lambda *_, **__: Words())  # noqa: B010
    how: dict[str, Any] = {"limits": options.limits}
    if options.retry_seconds is not None:
        how["retry_after"] = partial(_retry_after, timedelta(seconds=options.retry_seconds), options.tries)
    app.worker.work_jobs = _telling(app.worker.work_jobs, told, how)
    worker = logging.getLogger("app.worker")
    worker.setLevel(logging.INFO)  # where it listens is to be heard however quiet the service is told to be
    worker.addHandler(_Listening(told))


def _retry_after(pause: timedelta, tries: int, _: BaseException, taken: int) -> timedelta | None:
    return pause if taken < tries else None


def _telling(
    work: Callable[..., Awaitable[None]], told: Connection, how: Mapping[str, Any]
) -> Callable[..., Awaitable[None]]:
    async def work_jobs(*given: Any) -> None:
        told.send(("working", ""))
        await work(*given, **how)

    return work_jobs


class _Listening(logging.Handler):
    """Tells on which port the service listens, which is a free one."""

    def __init__(self, told: Connection) -> None:
        super().__init__()
        self._told = told

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage() == "Listening.":
            host, port = getattr(record, "address")[:2]  # noqa: B009
            self._told.send(("listening", f"http://{host}:{port}"))
