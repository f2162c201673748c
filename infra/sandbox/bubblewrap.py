"""Makes rooms with bubblewrap (https://github.com/containers/bubblewrap): namespaces for everything, rights for nothing.

A room sees /usr read-only, a few public files of /etc, and file systems of its own in memory. It sees no folder of the
service's, no home, no other process, no network but its own loopback, and an environment built from empty.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
import sys
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path

from app.errors import DefectError
from app.nouns import RoomLimits
from infra.sandbox import seccomp
from infra.sandbox.indexes import DEFAULT, Index
from infra.sandbox.room import FOLDER, HOME, INSTALLED, TEMPORARY, TREE, BubblewrapRoom, Held
from infra.sandbox.watch import Watch

log = logging.getLogger(__name__)

_UNUSABLE = "sandbox_unusable"
_NO_COMMANDS = "commands cannot be started in the sandbox where MagiCode runs"
_NOBODY = 65534
_INNER_USER = "1000"
_SMALL_BYTES = 256 << 20
_READY_SECONDS = 20.0
_PROBE = RoomLimits(memory_bytes=256 << 20, disk_bytes=1 << 20)
_SMALL_FOLDERS = ("/dev/shm", "/tmp")  # noqa: S108 - the room's own
# The first process has one right that commands lack, one that is worth nothing in a user namespace: whoever has fewer
# rights can neither trace it nor write to its memory, and so cannot live on in it (capabilities(7), ptrace(2)).
_RIGHT_OF_THE_FIRST = "CAP_WAKE_ALARM"
_SYSTEM = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_PUBLIC_ETC = (
    "/etc/alternatives",
    "/etc/ca-certificates",
    "/etc/ca-certificates.conf",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/etc/pki/tls/certs",
    "/etc/pki/ca-trust/extracted",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/mime.types",
    "/etc/protocols",
    "/etc/services",
)
_JAVA = "java-*-openjdk"  # Debian's runtimes link their settings there, and do not start without
_OUR_ETC = {
    "/etc/passwd": f"root:x:0:0:root:/root:/usr/sbin/nologin\ncheck:x:{_INNER_USER}:{_INNER_USER}::{HOME}:/bin/sh\n"
    "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    "/etc/group": f"root:x:0:\ncheck:x:{_INNER_USER}:\nnogroup:x:65534:\n",
    "/etc/hosts": "127.0.0.1 localhost sandbox\n::1 localhost\n",
    "/etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\nservices: files\nprotocols: files\n",
    "/etc/resolv.conf": "",
    "/etc/hostname": "sandbox\n",
}
# Everything but the first process can be killed from inside; the first also buries who has lost its parent.
_FIRST = "echo ready; exec >/dev/null 2>&1; while :; do sleep 86400; done"


class BubblewrapSandbox:
    """Implements `app.ports.Sandbox`."""

    def __init__(
        self,
        *,
        indexes: Sequence[Index] = DEFAULT,
        tools: Sequence[Path] = (),
        hidden: Sequence[Path] = (),
        executable: str = "bwrap",
    ) -> None:
        """`tools` are folders that rooms see too, read-only, such as a language's toolchain outside /usr: each, or its
        `bin`, is on the path. `hidden` are folders that no room may see even where they lie below those or /usr."""
        self._indexes = tuple(indexes)
        self._tools = tuple(path.resolve() for path in tools)
        self._hidden = tuple(path.resolve() for path in hidden)
        self._executable = executable
        self._works = False
        self._turn = asyncio.Lock()

    async def why_not(self) -> str | None:
        """Makes one room to see, each time that it is asked until it has worked once."""
        async with self._turn:
            why_not = None if self._works else await self._probe()
            self._works = why_not is None
            return why_not

    @asynccontextmanager
    async def open(self, limits: RoomLimits) -> AsyncIterator[BubblewrapRoom]:
        room = await self._make(limits)
        try:
            yield room
        finally:
            await room.close()

    async def _probe(self) -> str | None:
        if sys.platform != "linux":
            return "the sandbox needs Linux"
        if not seccomp.knows():
            return "the sandbox does not know this kind of processor"
        if shutil.which(self._executable) is None:
            return "bubblewrap is not installed where MagiCode runs"
        try:
            async with self.open(_PROBE) as room:
                finished = await room.run("true", seconds=_READY_SECONDS)
        except DefectError as error:
            return error.message if error.reason == _UNUSABLE else _NO_COMMANDS
        return None if finished.exit_code == 0 else _NO_COMMANDS

    async def _make(self, limits: RoomLimits) -> BubblewrapRoom:
        uid = _NOBODY if os.geteuid() == 0 else None
        environ = _environ(self._tools)
        with ExitStack() as letters:
            arguments, inherited = self._arguments(limits, letters)
            told, tell = os.pipe()
            letters.callback(os.close, told)
            try:
                process = await asyncio.create_subprocess_exec(
                    self._executable,
                    *arguments,
                    *("--info-fd", str(tell)),
                    *("--", "/bin/sh", "-c", _FIRST),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.PIPE,
                    env={"PATH": os.environ.get("PATH", os.defpath)},
                    cwd="/",
                    pass_fds=(tell, *inherited),
                    user=uid,
                    group=uid,
                    extra_groups=None if uid is None else (),
                )
            except OSError as error:
                raise _unusable("bubblewrap cannot be started where MagiCode runs") from error
            finally:
                os.close(tell)
            try:
                held = await self._hold(process, told, limits, uid, environ)
            except BaseException:
                with suppress(ProcessLookupError):
                    process.kill()
                await asyncio.shield(process.wait())
                raise
        return BubblewrapRoom(held, limits, self._indexes)

    async def _hold(
        self,
        process: asyncio.subprocess.Process,
        told: int,
        limits: RoomLimits,
        uid: int | None,
        environ: dict[str, str],
    ) -> Held:
        """Waits until the room's first process runs. It cannot be another by then: bwrap has not yet been waited for."""
        assert process.stdout is not None
        try:
            async with asyncio.timeout(_READY_SECONDS):
                ready = await process.stdout.readline()
        except TimeoutError:
            ready = b""
        if ready != b"ready\n":
            raise await _why(process)
        with ExitStack() as undo:
            try:
                pid = int(json.loads(os.read(told, 4096))["child-pid"])
                first = os.pidfd_open(pid)
                undo.callback(os.close, first)
                flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
                processes = os.open(f"/proc/{pid}/root/proc", flags)
                undo.callback(os.close, processes)
                disks = []
                for folder in (FOLDER, *_SMALL_FOLDERS):
                    disks.append(os.open(f"/proc/{pid}/root{folder}", flags))
                    undo.callback(os.close, disks[-1])
            except (OSError, ValueError, KeyError) as error:
                raise _unusable("a sandbox cannot be looked into where MagiCode runs") from error
            undo.pop_all()
        return Held(process, first, Watch(processes, disks, limits), uid, environ)

    def _arguments(self, limits: RoomLimits, letters: ExitStack) -> tuple[list[str], list[int]]:
        """bwrap's own, in the order in which it carries them out, and the descriptors that they name (bwrap(1))."""
        rights = ["--unshare-all", "--unshare-user", "--disable-userns", "--die-with-parent", "--new-session"]
        rights += [
            "--as-pid-1",
            "--cap-drop",
            "ALL",
            "--cap-add",
            _RIGHT_OF_THE_FIRST,
            "--uid",
            _INNER_USER,
            "--gid",
            _INNER_USER,
        ]
        rights += ["--hostname", "sandbox", "--clearenv", "--setenv", "PATH", "/usr/bin:/bin"]
        seen = [*_system(), *_bound(_PUBLIC_ETC), *_bound(map(str, sorted(Path("/etc").glob(_JAVA))))]
        own = ["--proc", "/proc", "--dev", "/dev"]
        for folder in _SMALL_FOLDERS:
            own += ["--size", str(min(_SMALL_BYTES, limits.disk_bytes)), "--perms", "1777", "--tmpfs", folder]
        own += ["--remount-ro", "/dev", "--dir", "/run", "--dir", "/var", "--symlink", TEMPORARY, "/var/tmp"]  # noqa: S108
        own += ["--size", str(limits.disk_bytes), "--tmpfs", FOLDER]
        for folder in (TREE, HOME, INSTALLED):
            own += ["--dir", folder]
        own += ["--perms", "1777", "--dir", TEMPORARY]
        inherited = []
        for path, content in _OUR_ETC.items():
            inherited.append(_letter(content.encode(), letters))
            own += ["--perms", "0444", "--file", str(inherited[-1]), path]
        inherited.append(_letter(seccomp.program(), letters))
        own += [*_bound(str(path) for path in self._tools), *self._covers()]
        own += ["--remount-ro", "/", "--chdir", TREE, "--seccomp", str(inherited[-1])]
        return [*rights, *seen, *own], inherited

    def _covers(self) -> list[str]:
        """An empty folder over each hidden one that would be seen."""
        visible = (Path("/usr"), *(Path(path) for path in _SYSTEM), *self._tools)
        found: list[str] = []
        for path in self._hidden:
            if path.is_dir() and any(path.is_relative_to(one) for one in visible):
                found += ["--size", "4096", "--tmpfs", str(path), "--remount-ro", str(path)]
        return found


def _system() -> list[str]:
    """/usr, and the old top folders as they are here: links into it, or folders."""
    found = ["--ro-bind", "/usr", "/usr"]
    for path in _SYSTEM:
        if Path(path).is_symlink():
            found += ["--symlink", str(Path(path).readlink()), path]
        elif Path(path).is_dir():
            found += ["--ro-bind", path, path]
    return found


def _bound(paths: Iterable[str]) -> list[str]:
    return [word for path in paths if Path(path).exists() for word in ("--ro-bind", path, path)]


def _letter(content: bytes, letters: ExitStack) -> int:
    """A file in memory that bwrap reads by its descriptor."""
    number = os.memfd_create("letter", os.MFD_CLOEXEC)
    letters.callback(os.close, number)
    with os.fdopen(number, "wb", closefd=False) as file:
        file.write(content)
    os.lseek(number, 0, os.SEEK_SET)
    return number


def _environ(tools: Sequence[Path]) -> dict[str, str]:
    """All that a command finds in its environment; nothing of the service's is copied."""
    path = [f"{INSTALLED}/venv/bin", f"{INSTALLED}/bin", f"{TREE}/node_modules/.bin"]
    path += [str(tool / "bin" if (tool / "bin").is_dir() else tool) for tool in tools]
    path += ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
    return {
        "PATH": ":".join(path),
        "HOME": HOME,
        "USER": "check",
        "LOGNAME": "check",
        "SHELL": "/bin/sh",
        "TMPDIR": TEMPORARY,
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "TERM": "dumb",
        "NO_COLOR": "1",
        "CI": "true",  # test runners that would wait for changes end instead
        "VIRTUAL_ENV": f"{INSTALLED}/venv",
        "PYTHONDONTWRITEBYTECODE": "1",  # bytecode of the tree before an edit could pass for that after it
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_CACHE_DIR": "1",
        "PIP_NO_INPUT": "1",
        "SETUPTOOLS_SCM_PRETEND_VERSION": "0.0.0",  # there is no git history to read a version from
        "npm_config_cache": f"{INSTALLED}/npm",
        "npm_config_update_notifier": "false",
        "npm_config_audit": "false",
        "npm_config_fund": "false",
        "GOPATH": f"{INSTALLED}/go",
        "GOCACHE": f"{INSTALLED}/go-build",
        "GOTOOLCHAIN": "local",
        "GOPROXY": "off",
        "CARGO_HOME": f"{INSTALLED}/cargo",
        "CARGO_NET_OFFLINE": "true",
    }


async def _why(process: asyncio.subprocess.Process) -> DefectError:
    """What bwrap said goes to the log, since it may name folders of this machine; people are told the kind of trouble."""
    with suppress(ProcessLookupError):
        process.kill()
    assert process.stderr is not None
    said = (await process.stderr.read()).decode("utf-8", "replace").strip()
    await process.wait()
    log.warning("bubblewrap made no room", extra={"said": said[:500]})
    if "Unknown option" in said:
        return _unusable("bubblewrap is older than 0.8 where MagiCode runs")
    if "namespace" in said or "uid map" in said or "NEWUSER" in said:
        return _unusable("the machine that MagiCode runs on lets it make no user namespaces")
    return _unusable("bubblewrap does not work where MagiCode runs")


def _unusable(why: str) -> DefectError:
    return DefectError(why, reason=_UNUSABLE)
