"""Real service processes for tests, started in well under a second from a fork server that has loaded everything already.

Each has an identity of its own, as containers have: a fresh DATA_DIR, unless it is given another's folder as a container is
given a volume. They share the stage's database, master key and exports, and end with the test, however that ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import multiprocessing
import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import httpx

from infra.postgres.queue import WorkerLimits
from tests.faults import points, victim
from tests.line.stage import Stage

_numbers = itertools.count(1)
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.faults.victim"])


class NotStartedError(AssertionError):
    """A service process ended before it was ready; the message is the end of its log."""


@dataclass
class Process:
    """`folder` is its DATA_DIR, `log` what it wrote to standard error, `url` where it listens (empty for a worker)."""

    name: str
    folder: Path
    log: Path
    role: str
    _process: ForkServerProcess = field(repr=False)
    _told: Connection = field(repr=False)
    url: str = ""
    _heard: set[str] = field(default_factory=set, repr=False)

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.is_alive()

    @property
    def exitcode(self) -> int | None:
        """As `multiprocessing` says it: -9 for who was killed; None while it lives."""
        return self._process.exitcode

    def kill(self) -> None:
        """SIGKILL."""
        self._signal(signal.SIGKILL)

    def pause(self) -> None:
        """SIGSTOP."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    async def stop(self, *, within: float = 120.0) -> None:
        """SIGTERM, as a new version is rolled out; returns once it has ended."""
        self._signal(signal.SIGTERM)
        await self.gone(within=within)

    async def gone(self, *, within: float = 120.0) -> None:
        """Returns once it has ended. Raises TimeoutError."""
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._process.sentinel, ended.set)
        try:
            async with asyncio.timeout(within):
                await ended.wait()
        finally:
            loop.remove_reader(self._process.sentinel)
        self._process.join()

    async def ready(self, *, within: float = 120.0) -> None:
        """Returns once it listens (`serve`) or works (`worker`). Raises NotStartedError where it ends before that."""
        wanted = "listening" if self.role == "serve" else "working"
        if wanted in self._heard:
            return
        async with asyncio.timeout(within):
            while await self._hears() != wanted:
                await asyncio.sleep(0.01)
            async with httpx.AsyncClient(trust_env=False) as client:
                while self.role == "serve":
                    with contextlib.suppress(httpx.TransportError):
                        if (await client.get(f"{self.url}/healthz")).is_success:
                            return
                    self._require_alive()
                    await asyncio.sleep(0.02)

    async def _hears(self) -> str | None:
        if not self._told.poll():
            self._require_alive()
            return None
        try:
            what, where = self._told.recv()
        except EOFError:
            await self.gone()
            raise NotStartedError(self.said()) from None
        self.url = where or self.url
        self._heard.add(str(what))
        return str(what)

    def _require_alive(self) -> None:
        if not self.alive:
            raise NotStartedError(self.said())

    def said(self) -> str:
        """The end of its log."""
        return self.log.read_text()[-4000:] if self.log.exists() else ""

    def failures(self) -> list[str]:
        """The lines of its log about jobs that failed, and about whatever is more than a warning."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [one for one in lines if "A job failed." in one or " ERROR " in one or " CRITICAL " in one]

    def _signal(self, number: signal.Signals) -> None:
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


@asynccontextmanager
async def service(
    stage: Stage,
    *,
    name: str = "service",
    role: str = "worker",
    environ: Mapping[str, str] | None = None,
    folder: Path | None = None,
    heartbeat: float | None = None,
    stalled_after: float | None = None,
    drain: float | None = None,
    takes: int | None = None,
    retry: float | None = None,
    tries: int = 5,
    index_words: bool = True,
    constants: Mapping[str, Any] | None = None,
    watch: points.Watch | None = None,
    ready: bool = True,
) -> AsyncIterator[Process]:
    """`role` is `serve` (takes webhooks, and works the jobs unless MAGICODE_WORKER is false) or `worker` (works the jobs).

    Seconds: `heartbeat`, `stalled_after` and `drain` are WorkerLimits', `retry` is the pause before a failed job's next try,
    `tries` times (None: as the service retries). `constants` are set in `app.worker`, such as
    {"SWEEP_EVERY_SECONDS": 1}, or elsewhere: {"app.jobs.reconcile:FIRST_PAUSE": …}. `index_words` puts a cheap encoder in the place of the embedding model. `folder` is another's
    DATA_DIR, `ready` False does not wait until it listens or works. Raises NotStartedError.
    """
    process = _started(
        stage,
        name,
        folder,
        victim.Options(
            role=role,
            environ=_environ(stage, environ),
            log=Path(),
            limits=_limits(heartbeat=heartbeat, stalled_after=stalled_after, drain=drain, takes=takes),
            retry_seconds=retry,
            tries=tries,
            index_words=index_words,
            constants=dict(constants or {}),
            watch=watch,
        ),
    )
    try:
        if ready:
            await process.ready()
        yield process
    finally:
        process.kill()
        await process.gone()
        process._told.close()


def _environ(stage: Stage, more: Mapping[str, str] | None) -> dict[str, str]:
    data = stage.folder / "data"
    return {
        **stage.environ,
        "MAGICODE_MASTER_KEY": f"file:{data / 'master.key'}",
        "MAGICODE_EXPORTS": str(data / "exports"),
        "MAGICODE_WORKER": "true",
        "MAGICODE_PORT": "0",
        **(more or {}),
    }


def _limits(*, takes: int | None, **seconds: float | None) -> WorkerLimits:
    given: dict[str, Any] = {
        name: timedelta(seconds=value) for name, value in seconds.items() if value is not None
    }
    return WorkerLimits(**given, **({} if takes is None else {"takes": takes}))


def _started(stage: Stage, name: str, folder: Path | None, options: victim.Options) -> Process:
    called = f"{name}-{next(_numbers)}"
    home = stage.folder / "processes"
    data = folder or home / called
    data.mkdir(parents=True, exist_ok=True)
    home.mkdir(parents=True, exist_ok=True)
    log = home / f"{called}.log"
    ours, theirs = _context.Pipe(duplex=False)
    environ = {**options.environ, "MAGICODE_DATA_DIR": str(data)}
    given = replace(options, environ=environ, log=log)
    process = _context.Process(target=victim.main, args=(given, theirs), name=called, daemon=True)
    process.start()
    theirs.close()
    return Process(called, data, log, options.role, process, ours)
