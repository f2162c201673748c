"""One room: a process tree and a file system of its own, in which commands run one after another.

Nothing of it is on this machine's disk: the tree lies in the room's own memory-backed file system, whose size the
kernel limits, and is gone when the room's first process is. The service opens nothing in there by name.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

from app.errors import DefectError, RefusedError
from app.nouns import Finished, RoomLimits
from infra.sandbox import indexes, seccomp
from infra.sandbox.inside import FULL
from infra.sandbox.output import Kept
from infra.sandbox.watch import Watch

FOLDER = "/room"
TREE = f"{FOLDER}/tree"
HOME = f"{FOLDER}/home"
INSTALLED = f"{FOLDER}/installed"
TEMPORARY = f"{FOLDER}/temporary"
EMPTIED = ("/tmp", "/dev/shm", TEMPORARY)  # noqa: S108 - the room's own
PROXY_PORT = 3128
_INSIDE = Path(__file__).with_name("inside.py")
_LOOK_SECONDS = 0.1
_GRACE_SECONDS = 3.0
_CHUNK = 1 << 16
_KEPT_PATHS_BYTES = 8 << 20
_INDEX_BYTES = 4 << 30
_MODES = {"100755": 0o755}
_OPEN_FILES = 4096
_PATH = re.compile(r"(?!/)(?:(?!\.{0,2}(?:/|\Z))[^/\0]+(?:/|\Z))+(?<!/)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Held:
    """What the service holds of a room from outside: `first` is a descriptor of its first process, `uid` the user that
    enters, None for the service's own."""

    bwrap: asyncio.subprocess.Process
    first: int
    watch: Watch
    uid: int | None
    environ: Mapping[str, str]


@dataclass(slots=True)
class _Running:
    """A command under way. `told` is where its launcher says how it ended, a descriptor; `heard` is set when it has, or
    has gone without a word. `ended` is the limit that ended it."""

    process: asyncio.subprocess.Process
    told: int
    kept: Kept
    heard: asyncio.Event = field(default_factory=asyncio.Event)
    status: bytes = b""
    ended: str | None = None

    def hear(self) -> None:
        asyncio.get_running_loop().remove_reader(self.told)
        self.status = os.read(self.told, 256)
        self.heard.set()


class BubblewrapRoom:
    """Implements `app.ports.Room`."""

    def __init__(self, held: Held, limits: RoomLimits, allowed: Sequence[indexes.Index]) -> None:
        self._held = held
        self._limits = limits
        self._allowed = tuple(allowed)
        self._watch = held.watch
        self._files: dict[str, int] = {}
        self._kept: tuple[str, ...] = ()
        self._closed = False
        self._busy = asyncio.Lock()

    async def lay(self, modes: Mapping[str, str], read: Callable[[str], bytes]) -> None:
        """Raises RefusedError (`sandbox_full`), DefectError (`sandbox_path`, `sandbox_closed`)."""
        for path in modes:
            if not _PATH.fullmatch(path):
                raise DefectError("A path leads out of the sandbox's tree.", reason="sandbox_path")
        async with self._busy:
            self._files = {path: _MODES.get(mode, 0o644) for path, mode in modes.items()}
            plan = {
                "do": "lay",
                "folder": TREE,
                "empty": EMPTIED,
                "files": list(self._files.items()),
                "keep": self._kept,
            }
            async with self._entered(plan, stdin=asyncio.subprocess.PIPE) as process:
                await _send(process, self._files, read)
                code = await process.wait()
        if code == FULL:
            raise RefusedError("The repository does not fit into the sandbox.", reason="sandbox_full")
        if code != 0:
            raise DefectError("The sandbox could not be filled.", reason="sandbox_lay")

    async def keep(self) -> None:
        async with self._busy:
            plan = {"do": "look", "folder": TREE, "files": list(self._files.items())}
            told = bytearray()
            async with self._entered(plan, stdout=asyncio.subprocess.PIPE) as process:
                assert process.stdout is not None
                while data := await process.stdout.read(_CHUNK):
                    told += data
                    if len(told) > _KEPT_PATHS_BYTES:
                        raise RefusedError("Too many files were installed.", reason="sandbox_installed")
        try:
            found = json.loads(bytes(told))
        except ValueError as error:
            raise DefectError("The sandbox could not be read.", reason="sandbox_look") from error
        self._kept = tuple(str(path) for path in found)

    async def run(self, command: str, *, seconds: float, indexes: bool = False) -> Finished:
        async with self._busy, AsyncExitStack() as stack:
            environ = dict(self._held.environ)
            if indexes:
                environ |= _proxies()
                await stack.enter_async_context(self._way_out())
            return await self._run(command, seconds, environ)

    async def close(self) -> None:
        """Kills everything in the room at once and waits until it has gone. Safe to call twice."""
        if self._closed:
            return
        self._closed = True
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._held.first, signal.SIGKILL)
        with suppress(ProcessLookupError):
            self._held.bwrap.kill()
        try:
            await asyncio.shield(self._held.bwrap.wait())
        finally:
            self._watch.close()
            os.close(self._held.first)

    # --- one command -------------------------------------------------------------------------------------------------

    async def _run(self, command: str, seconds: float, environ: Mapping[str, str]) -> Finished:
        begun = time.monotonic()
        plan = {
            "do": "run",
            "folder": TREE,
            "argv": ["/bin/sh", "-c", command],
            "environ": environ,
            "filter": seccomp.program().hex(),
            "limits": self._process_limits(),
        }
        with _pipe() as (told, tell):
            async with self._entered(
                {**plan, "status": tell.fileno()}, stdout=asyncio.subprocess.PIPE, inherit=(tell.fileno(),)
            ) as process:
                tell.close()
                running = _Running(process, told.fileno(), Kept(self._limits.kept_output))
                await self._until_it_ends(running, seconds)
        if running.ended is not None:
            ended, code = running.ended, None
        else:
            ended, code = self._how(json.loads(running.status) if running.status else {})
        return Finished(ended, code, time.monotonic() - begun, running.kept.text())

    def _how(self, told: Mapping[str, int]) -> tuple[str, int | None]:
        """The end of what nobody ended, in words, and its exit code where it has one. A command that came to a limit
        between two looks of the watch fails by itself, and is told by what it leaves."""
        code = told.get("exit")
        if code == 0:
            return "exited", 0
        if told.get("left", 0) > self._limits.processes:
            return "processes", None
        if told.get("signal") == signal.SIGXFSZ or self._watch.full():
            return "disk", None
        return ("killed", None) if code is None else ("exited", code)

    async def _until_it_ends(self, running: _Running, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        loop.add_reader(running.told, running.hear)
        reading = asyncio.create_task(self._read(running))
        looking = asyncio.create_task(self._look(running))
        try:
            async with asyncio.timeout(seconds):
                await running.heard.wait()
        except TimeoutError:
            await self._stop(running, "timed_out")
        except asyncio.CancelledError:
            await self.close()
            raise
        finally:
            loop.remove_reader(running.told)
            looking.cancel()
            with suppress(asyncio.CancelledError):
                await looking
            if not running.status:
                await self.close()  # nobody has killed what the command left
            # Whatever held the pipe has been killed with the command, so its end is near.
            await asyncio.wait([reading], timeout=_GRACE_SECONDS)
            reading.cancel()

    async def _read(self, running: _Running) -> None:
        assert running.process.stdout is not None
        while data := await running.process.stdout.read(_CHUNK):
            running.kept.add(data)
            if running.kept.total > self._limits.output_bytes and running.ended is None:
                running.ended = "output"
                _terminate(running.process)

    async def _look(self, running: _Running) -> None:
        while True:
            passed = await asyncio.to_thread(self._watch.passed)
            if passed is not None:
                await self._stop(running, passed)
                return
            await asyncio.sleep(_LOOK_SECONDS)

    async def _stop(self, running: _Running, why: str) -> None:
        """Everything in the room but its first process is killed; where that does not work, the room is."""
        if running.ended is None:
            running.ended = why
        _terminate(running.process)
        try:
            async with asyncio.timeout(_GRACE_SECONDS):
                await running.heard.wait()
        except TimeoutError:
            await self.close()

    def _process_limits(self) -> dict[str, int]:
        limits = self._limits
        return {
            # One, not none: with none a kernel that pipes core dumps to a program of the machine's would pipe this one
            # too, memory and all (core(5), "Piping core dumps to a program"); one byte is too few for either kind.
            "RLIMIT_CORE": 1,
            "RLIMIT_FSIZE": limits.file_bytes,
            "RLIMIT_NOFILE": _OPEN_FILES,
            # Private writable memory of one process: it is counted at once, while the watch comes every now and then.
            # Not the address space, of which Go, Node and sanitizers reserve far more than they use.
            "RLIMIT_DATA": 4 * limits.memory_bytes,
            # From Linux 5.14 on counted within the room's user namespace. A little above what the watch ends a
            # command for, so that the end has a name.
            "RLIMIT_NPROC": limits.processes + 32,
        }

    # --- going in ----------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _entered(
        self,
        plan: Mapping[str, Any],
        *,
        stdin: int = asyncio.subprocess.DEVNULL,
        stdout: int = asyncio.subprocess.DEVNULL,
        inherit: Sequence[int] = (),
    ) -> AsyncIterator[asyncio.subprocess.Process]:
        """`inside.py` at work on a plan. Where the block is left early, by an error or because nobody waits any more, or
        the work does not end, the room goes with it."""
        process = await self._enter(plan, stdin, stdout, inherit)
        done = False
        try:
            yield process
            with suppress(TimeoutError):
                async with asyncio.timeout(_GRACE_SECONDS):
                    await process.wait()
                    done = True
        finally:
            if not done:
                await self.close()
                with suppress(ProcessLookupError):
                    process.kill()
                await asyncio.shield(process.wait())

    async def _enter(
        self,
        plan: Mapping[str, Any],
        stdin: int,
        stdout: int,
        inherit: Sequence[int],
    ) -> asyncio.subprocess.Process:
        """Starts `inside.py` with this plan, which no other process of this machine can read."""
        if self._closed:
            raise DefectError("This sandbox has been closed.", reason="sandbox_closed")
        letter = os.memfd_create("plan", os.MFD_CLOEXEC)
        try:
            full = {**plan, "room": self._held.first, "uid": self._held.uid}
            with os.fdopen(letter, "wb", closefd=False) as file:
                file.write(json.dumps(full).encode())
            os.lseek(letter, 0, os.SEEK_SET)
            return await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", "-B", str(_INSIDE), str(letter)),
                stdin=stdin,
                stdout=stdout,
                stderr=asyncio.subprocess.STDOUT,
                env={},
                cwd="/",
                pass_fds=(letter, self._held.first, *inherit),
                start_new_session=True,
            )
        except OSError as error:
            raise DefectError("The sandbox cannot be entered.", reason="sandbox_enter") from error
        finally:
            os.close(letter)

    @asynccontextmanager
    async def _way_out(self) -> AsyncIterator[None]:
        """The room's port to the package indexes; where there is none, there is none."""
        async with self._port() as port, indexes.serve(port, self._allowed, most_bytes=_INDEX_BYTES):
            yield

    @asynccontextmanager
    async def _port(self) -> AsyncIterator[socket.socket]:
        """A socket that listens on the room's own loopback. Raises DefectError (`sandbox_port`)."""
        ours, theirs = socket.socketpair()
        with ours, theirs:
            plan = {"do": "listen", "port": PROXY_PORT, "channel": theirs.fileno()}
            async with self._entered(plan, inherit=(theirs.fileno(),)) as process:
                theirs.close()
                ours.settimeout(_GRACE_SECONDS)
                try:
                    _, numbers, _, _ = await asyncio.to_thread(socket.recv_fds, ours, 1, 1)
                except TimeoutError:
                    numbers = []
                await process.wait()
        if not numbers:
            raise DefectError("The sandbox has no port for the package indexes.", reason="sandbox_port")
        with socket.socket(fileno=numbers[0]) as port:
            port.setblocking(False)
            yield port


async def _send(
    process: asyncio.subprocess.Process, paths: Mapping[str, int], read: Callable[[str], bytes]
) -> None:
    assert process.stdin is not None
    with suppress(ConnectionError):  # it ended early; its exit status says why
        for path in paths:
            content = read(path)
            process.stdin.write(len(content).to_bytes(8, "big"))
            process.stdin.write(content)
            await process.stdin.drain()
    process.stdin.close()


def _terminate(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        process.terminate()


@contextmanager
def _pipe() -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """The reading and the writing end."""
    read, write = os.pipe()
    with os.fdopen(read, "rb", buffering=0) as told, os.fdopen(write, "wb", buffering=0) as tell:
        yield cast("BinaryIO", told), cast("BinaryIO", tell)


def _proxies() -> dict[str, str]:
    """Where pip, npm, go and cargo look for a proxy; each reads one of these."""
    address = f"http://127.0.0.1:{PROXY_PORT}"
    names = (
        "http_proxy",
        "https_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "npm_config_proxy",
        "npm_config_https_proxy",
    )
    return dict.fromkeys(names, address) | {
        "GOPROXY": "https://proxy.golang.org",
        "CARGO_NET_OFFLINE": "false",
    }
