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
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
    """A command under way, and what ended it early."""

    process: asyncio.subprocess.Process
    ended: str | None = None
    kept: Kept = field(default_factory=lambda: Kept(0))


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
            plan = {"do": "lay", "folder": TREE, "files": list(self._files.items()), "keep": self._kept}
            process = await self._enter(plan, stdin=asyncio.subprocess.PIPE)
            try:
                await _send(process, self._files, read)
                code = await process.wait()
            finally:
                await self._end(process)
        if code == FULL:
            raise RefusedError("The repository does not fit into the sandbox.", reason="sandbox_full")
        if code != 0:
            raise DefectError("The sandbox could not be filled.", reason="sandbox_lay")

    async def keep(self) -> None:
        async with self._busy:
            plan = {"do": "look", "folder": TREE, "files": list(self._files.items())}
            process = await self._enter(plan, stdout=asyncio.subprocess.PIPE)
            try:
                assert process.stdout is not None
                told = bytearray()
                while data := await process.stdout.read(_CHUNK):
                    told += data
                    if len(told) > _KEPT_PATHS_BYTES:
                        raise RefusedError(
                            "What was installed holds too many files.", reason="sandbox_installed"
                        )
                await process.wait()
            finally:
                await self._end(process)
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
            await asyncio.shield(_gone(self._held.bwrap))
        finally:
            self._watch.close()
            os.close(self._held.first)

    # --- one command -------------------------------------------------------------------------------------------------

    async def _run(self, command: str, seconds: float, environ: Mapping[str, str]) -> Finished:
        begun = time.monotonic()
        told, tell = os.pipe()
        os.set_blocking(told, False)
        try:
            process = await self._enter(
                {
                    "do": "run",
                    "status": tell,
                    "folder": TREE,
                    "argv": ["/bin/sh", "-c", command],
                    "environ": environ,
                    "filter": seccomp.program().hex(),
                    "limits": self._process_limits(),
                },
                stdout=asyncio.subprocess.PIPE,
                inherit=(tell,),
            )
        except BaseException:
            os.close(told)
            raise
        finally:
            os.close(tell)
        status = b""
        running = _Running(process, kept=Kept(self._limits.kept_output))
        try:
            await self._until_it_ends(running, seconds)
            with suppress(BlockingIOError):
                status = os.read(told, 256)
        finally:
            os.close(told)
            await self._end(process)
        if running.ended is not None:
            ended, code = running.ended, None
        else:
            ended, code = self._how(json.loads(status) if status else {})
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
        reading = asyncio.create_task(self._read(running))
        looking = asyncio.create_task(self._look(running))
        try:
            async with asyncio.timeout(seconds):
                await running.process.wait()
        except TimeoutError:
            await self._stop(running, "timed_out")
        except asyncio.CancelledError:
            await self.close()
            raise
        finally:
            looking.cancel()
            with suppress(asyncio.CancelledError):
                await looking
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
                await running.process.wait()
        except TimeoutError:
            await self.close()

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        """For a block that is left early, by an error or because nobody waits any more: the room goes with it."""
        if process.returncode is None:
            await self.close()
            with suppress(ProcessLookupError):
                process.kill()
            await asyncio.shield(_gone(process))

    def _process_limits(self) -> dict[str, int]:
        limits = self._limits
        return {
            "RLIMIT_CORE": 0,
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

    async def _enter(
        self,
        plan: Mapping[str, Any],
        *,
        stdin: int = asyncio.subprocess.DEVNULL,
        stdout: int = asyncio.subprocess.DEVNULL,
        inherit: Sequence[int] = (),
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
        with ours:
            with theirs:
                plan = {"do": "listen", "port": PROXY_PORT, "channel": theirs.fileno()}
                process = await self._enter(plan, inherit=(theirs.fileno(),))
            try:
                ours.settimeout(_GRACE_SECONDS)
                _, numbers, _, _ = await asyncio.to_thread(socket.recv_fds, ours, 1, 1)
                await process.wait()
            except TimeoutError:
                numbers = []
            finally:
                await self._end(process)
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


async def _gone(process: asyncio.subprocess.Process) -> None:
    await process.wait()


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
