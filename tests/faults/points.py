"""The points at which a process can be killed: before and after each outside effect and each commit.

They are found where all of them have to pass, so that an effect that is added tomorrow is a point without anybody saying so:
the HTTP transports, the commits of the store, the queue's own calls, and whatever the stores of vectors, of objects and of
trees do that is not known to be reading.
"""

from __future__ import annotations

import inspect
import os
import signal
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import httpx
import httpx2
from procrastinate.manager import JobManager
from sqlalchemy import text

import app.workspace.open
from app.ports import Objects
from embeddings.collection import Points
from infra.github import announce
from infra.github.permissions import ROUTES
from infra.objects.folder import FolderObjects
from infra.postgres import queue, store
from infra.qdrant import QdrantPoints

ROOT = Path(__file__).parents[2]
APP = f"{ROOT / 'app'}{os.sep}"

BEFORE, AFTER, LOOK = "before", "after", "look"

READS_POINTS = frozenset({"search", "search_sparse", "get", "scan", "names", "count", "close"})
READS_OBJECTS = frozenset({"get", "names"})
"""What changes nothing; every other method of these ports is a point."""

_WROTE = text("SELECT pg_current_xact_id_if_assigned() IS NOT NULL")
"""https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-INFO-SNAPSHOT: what only read has no id."""


@dataclass(frozen=True, slots=True, order=True)
class Point:
    """The `number`-th time (from 1) that a process comes to `label`, before or after what it names is done."""

    label: str
    number: int
    side: str

    def __str__(self) -> str:
        return f"{self.side} {self.label} #{self.number}"


@dataclass(frozen=True, slots=True)
class Watch:
    """`trace` is the file that each point is written to; at `kill` the process kills itself, with nothing said to anybody; at
    `stop` it is stopped (SIGSTOP) until somebody wakes it."""

    trace: Path | None = None
    kill: Point | None = None
    stop: Point | None = None


def read_trace(path: Path) -> list[Point]:
    """The points that a process came to, in order; those of the side LOOK changed nothing."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [Point(label, int(number), side) for label, number, side in (line.split("\t") for line in lines)]


def install(watch: Watch) -> None:
    """From now on this process writes each point down, and dies at the one that it is to die at."""
    points = _Points(watch)
    _watch_requests(points)
    _watch_commits(points)
    _watch_queue(points)
    _watch_stores(points)
    _watch_workspaces(points)


class _Points:
    def __init__(self, watch: Watch) -> None:
        self._kill = watch.kill
        self._stop = watch.stop
        self._met: Counter[str] = Counter()
        self._trace = (
            None
            if watch.trace is None
            else os.open(watch.trace, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        )

    def begin(self, label: str) -> Callable[[], None]:
        """Before it is done; what is returned is called after."""
        self._met[label] += 1
        number = self._met[label]
        self._at(Point(label, number, BEFORE))
        return lambda: self._at(Point(label, number, AFTER))

    def look(self, label: str) -> None:
        """What changes nothing: nobody is killed there, but that it was met is told."""
        self._write(Point(label, 0, LOOK))

    async def around(self, label: str, effect: Callable[[], Awaitable[Any]]) -> Any:
        done = self.begin(label)
        answer = await effect()
        done()
        return answer

    def _at(self, point: Point) -> None:
        self._write(point)
        if point == self._kill:
            os.kill(os.getpid(), signal.SIGKILL)
        if point == self._stop:
            os.kill(os.getpid(), signal.SIGSTOP)

    def _write(self, point: Point) -> None:
        if self._trace is not None:
            os.write(self._trace, f"{point.label}\t{point.number}\t{point.side}\n".encode())


# --- requests --------------------------------------------------------------------------------------------------------


def _watch_requests(points: _Points) -> None:
    """Every HTTP client of the service ends in one of these two transports."""
    for transport, label in ((httpx.AsyncHTTPTransport, _github), (httpx2.AsyncHTTPTransport, _provider)):
        _wrap(points, transport, "handle_async_request", label)


def _github(_: Any, request: httpx.Request) -> str | None:
    """None for what GitHub is only asked."""
    sending = announce._sending.get()
    if sending is None:
        return f"http {request.method} {request.url.host}"
    return None if sending.request in _READS else f"github {sending.request}"


def sent_as(name: str) -> str:
    """As `infra.github.calls` announces it."""
    route, (kind, _, operation) = ROUTES[name], name.partition(".")
    return f"{route.method} {route.template}" + (f" {operation}" if kind == "graphql" else "")


_READS = frozenset(sent_as(name) for name, route in ROUTES.items() if route.access == "read")


def _provider(_: Any, request: httpx2.Request) -> str:
    return f"model {request.method} {request.url.path}"


# --- PostgreSQL ------------------------------------------------------------------------------------------------------


def _watch_commits(points: _Points) -> None:
    """Those that wrote something. The store's connections pass here, whoever opened the transaction."""
    committed = store.commit

    async def commit(opened: Any) -> None:
        if not opened.late and not await opened.connection.scalar(_WROTE):
            points.look(f"{LOOK} {_caller(sys._getframe(1))}")
            await committed(opened)
            return
        label = _caller(sys._getframe(1))
        await points.around(f"commit {label}", lambda: committed(opened))

    setattr(store, "commit", commit)  # noqa: B010


def _caller(frame: FrameType | None) -> str:
    """The innermost place in app/ that is above the store: `module:function`, for one that opens transactions for others whose it
    is too, and what is written into the log where that is all."""
    places: list[str] = []
    while frame is not None:
        code = frame.f_code
        if code.co_filename.startswith(APP):
            where = Path(code.co_filename).relative_to(ROOT).with_suffix("")
            action = frame.f_locals.get("action") if where.name == "ledger" else None
            places.append(f"{'.'.join(where.parts)}:{code.co_qualname}" + (f" {action}" if action else ""))
            if not code.co_flags & inspect.CO_ASYNC_GENERATOR:
                break
        frame = frame.f_back
    return " for ".join(places) or "nobody"


def site(label: str) -> str | None:
    """Where in app/ the transaction of this label is opened; None for what is no transaction."""
    kind, _, where = label.partition(" ")
    return where.split(" ")[0] if kind in ("commit", LOOK) else None


# --- the queue -------------------------------------------------------------------------------------------------------


def _watch_queue(points: _Points) -> None:
    """A job is taken, ended or put back. Putting it on the queue is part of a commit; heartbeats change nothing for anybody."""
    taking = JobManager.fetch_job

    async def fetch_job(self: Any, *given: Any, **named: Any) -> Any:
        job = await taking(self, *given, **named)
        if job is not None:
            points.begin(f"queue take {job.task_name}")()
        return job

    JobManager.fetch_job = fetch_job  # type: ignore[method-assign]
    for name, word in (("finish_job", "end"), ("retry_job", "put back")):

        def label(_: Any, job: Any, *__: Any, word: str = word, **___: Any) -> str:
            return f"queue {word} {job.task_name}"

        _wrap(points, queue._OwnJobsOnly, name, label)


# --- vectors, objects, trees -----------------------------------------------------------------------------------------


def _watch_stores(points: _Points) -> None:
    for port, kind, reads, word in (
        (Points, QdrantPoints, READS_POINTS, "vectors"),
        (Objects, FolderObjects, READS_OBJECTS, "objects"),
    ):
        for name in changing(port, reads):
            _wrap(points, kind, name, lambda *_, label=f"{word} {name}", **__: label)


def changing(port: type, reads: frozenset[str]) -> list[str]:
    """A port's methods that are not known to change nothing."""
    return [
        name
        for name, _ in inspect.getmembers(port, inspect.isfunction)
        if not name.startswith("_") and name not in reads
    ]


def _watch_workspaces(points: _Points) -> None:
    made = getattr(app.workspace.open, "run_directory")  # noqa: B009

    @contextmanager
    def run_directory(root: Path, run_id: str) -> Iterator[Path]:
        making = points.begin("workspace make")
        with made(root, run_id) as path:
            making()
            try:
                yield path
            finally:
                forgetting = points.begin("workspace forget")
        forgetting()

    setattr(app.workspace.open, "run_directory", run_directory)  # noqa: B010


def _wrap(points: _Points, kind: Any, name: str, label: Callable[..., str | None]) -> None:
    done = getattr(kind, name)

    async def around(*given: Any, **named: Any) -> Any:
        called = label(*given, **named)
        if called is None:
            return await done(*given, **named)
        return await points.around(called, lambda: done(*given, **named))

    setattr(kind, name, around)
