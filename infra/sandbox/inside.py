"""Enters a room that bubblewrap made and does one thing there: runs a command, lays files, looks, or opens a port.

`room.py` starts it as a program of its own, with the service's interpreter and an empty environment. It imports
nothing of the house, and everything else before it enters, since inside there is nothing of ours to import. Until the
command takes its place it cannot be traced from inside: a process that joined a user namespace is not dumpable
(https://man7.org/linux/man-pages/man2/ptrace.2.html).
"""

# Paths are bytes here, and nothing is imported that is not needed.
# ruff: noqa: PTH101, PTH103, PTH106, PTH108, PTH123, PTH208

from __future__ import annotations

import array
import ctypes
import errno
import json
import os
import resource
import signal
import socket
import stat
import sys
from contextlib import suppress
from typing import Any, BinaryIO, NoReturn

# https://man7.org/linux/man-pages/man2/setns.2.html; with a pidfd all are joined at once, from Linux 5.8 on.
_CLONE_NEWNS, _CLONE_NEWCGROUP, _CLONE_NEWUTS, _CLONE_NEWIPC = 0x00020000, 0x02000000, 0x04000000, 0x08000000
_CLONE_NEWUSER, _CLONE_NEWPID, _CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
_EVERY_NAMESPACE = (
    _CLONE_NEWNS
    | _CLONE_NEWCGROUP
    | _CLONE_NEWUTS
    | _CLONE_NEWIPC
    | _CLONE_NEWUSER
    | _CLONE_NEWPID
    | _CLONE_NEWNET
)
# https://man7.org/linux/man-pages/man2/prctl.2.html
_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 1, 22, 24, 38
_SECCOMP_MODE_FILTER = 2
_LAST_CAPABILITY = 63
_NICE = 10  # the service answers first
FULL = 28  # the exit status that says that what was to be laid did not fit


class _Stopped(BaseException):
    """The service wants the command ended."""


def main() -> int:
    signal.signal(signal.SIGTERM, _stop)
    with os.fdopen(int(sys.argv[1]), "rb") as file:
        plan: dict[str, Any] = json.load(file)
    libc = ctypes.CDLL(None, use_errno=True)
    _be_killed_first()
    _become(plan["uid"])
    if libc.setns(plan["room"], _EVERY_NAMESPACE) != 0:
        raise OSError(ctypes.get_errno(), "the room cannot be entered")
    os.close(plan["room"])
    _prctl(libc, _PR_SET_PDEATHSIG, signal.SIGKILL)
    if plan["do"] == "listen":
        return _listen(plan)
    if plan["do"] == "run":
        return _run(plan, libc)
    child = os.fork()
    if child == 0:
        os._exit(_lay(plan) if plan["do"] == "lay" else _look(plan))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _stop(_signal: int, _frame: object) -> NoReturn:
    raise _Stopped


def _be_killed_first() -> None:
    """When the machine's memory runs out the kernel is to end what runs here, not the service (proc(5))."""
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")


def _become(uid: int | None) -> None:
    if uid is None:
        return
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


def _prctl(libc: ctypes.CDLL, option: int, *arguments: Any) -> None:
    padded = [*arguments, 0, 0, 0, 0][:4]
    if libc.prctl(option, *(ctypes.c_ulong(one) if isinstance(one, int) else one for one in padded)) != 0:
        raise OSError(ctypes.get_errno(), "a limit of the sandbox could not be set")


# --- a command -------------------------------------------------------------------------------------------------------


def _run(plan: dict[str, Any], libc: ctypes.CDLL) -> int:
    """How the command ended goes to `plan["status"]`; then everything else that runs in the room is killed."""
    told: dict[str, int] = {}
    try:
        child = os.fork()
        if child == 0:
            _command(plan, libc)
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        told = {"exit": code} if code >= 0 else {"signal": -code}
    except _Stopped:
        told = {"signal": int(signal.SIGKILL)}
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    told["left"] = sum(name.isdecimal() for name in os.listdir("/proc"))
    sweeper = os.fork()
    if sweeper == 0:
        # From inside, -1 is every process of the room but its first and this one, all in one step (kill(2)).
        try:
            os.kill(-1, signal.SIGKILL)
        except ProcessLookupError:
            os._exit(0)
        os._exit(0)
    os.waitpid(sweeper, 0)
    os.write(plan["status"], json.dumps(told).encode())
    return 0


def _command(plan: dict[str, Any], libc: ctypes.CDLL) -> NoReturn:
    """Takes the command's place: no descriptor, no right, no signal of ours goes along."""
    try:
        for number in (signal.SIGTERM, signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        os.setsid()
        os.nice(_NICE)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.closerange(3, 1 << 20)
        for name, most in plan["limits"].items():
            _limit(getattr(resource, name), most)
        for capability in range(_LAST_CAPABILITY + 1):
            libc.prctl(_PR_CAPBSET_DROP, ctypes.c_ulong(capability), 0, 0, 0)  # beyond the last: EINVAL
        _prctl(libc, _PR_SET_NO_NEW_PRIVS, 1)
        os.chdir(plan["folder"])
        _filter(libc, bytes.fromhex(plan["filter"]))
        os.execve(plan["argv"][0], plan["argv"], plan["environ"])  # noqa: S606 - it is the shell
    except OSError as error:
        os.write(2, f"The command could not be started: {os.strerror(error.errno or 0)}\n".encode())
    os._exit(126)


def _limit(which: int, most: int) -> None:
    _, hard = resource.getrlimit(which)
    if hard != resource.RLIM_INFINITY:
        most = min(most, hard)
    resource.setrlimit(which, (most, most))


class _Program(ctypes.Structure):
    """struct sock_fprog (linux/filter.h)."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def _filter(libc: ctypes.CDLL, code: bytes) -> None:
    program = _Program(len(code) // 8, code)
    _prctl(libc, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program))


# --- files -----------------------------------------------------------------------------------------------------------


def _lay(plan: dict[str, Any]) -> int:
    """Standard input: for each path of `plan["files"]`, in order, its length in eight bytes and its content."""
    os.umask(0o022)
    try:
        for folder in plan["empty"]:
            _restore(folder)
            _clear(b"", {}, set(), set())
        _restore(plan["folder"])
        files = {os.fsencode(path): mode for path, mode in plan["files"]}
        _clear(b"", files, _parents(files), {os.fsencode(path) for path in plan["keep"]})
        with os.fdopen(0, "rb") as source:
            for path, mode in files.items():
                _place(source, path, mode)
    except RecursionError:
        return 1  # folders nested deeper than anything is deep
    except OSError as error:
        return FULL if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else 1
    return 0


def _restore(folder: str) -> None:
    """Makes it a folder that can be written, whatever commands have put in its place, and enters it."""
    with suppress(FileNotFoundError):
        if not stat.S_ISDIR(os.lstat(folder).st_mode):
            os.unlink(folder)
    os.makedirs(folder, exist_ok=True)
    os.chmod(folder, 0o755)  # noqa: S103 - the room's one user is all that can see it
    os.chdir(folder)


def _parents(files: dict[bytes, int]) -> set[bytes]:
    found: set[bytes] = set()
    for path in files:
        parent = path.rpartition(b"/")[0]
        while parent and parent not in found:
            found.add(parent)
            parent = parent.rpartition(b"/")[0]
    return found


def _clear(folder: bytes, files: dict[bytes, int], folders: set[bytes], keep: set[bytes]) -> None:
    """Removes what commands have left: all but the files to be laid, their folders, and what was installed."""
    for name in os.listdir(folder or b"."):
        path = folder + b"/" + name if folder else name
        is_folder = stat.S_ISDIR(os.lstat(path).st_mode)
        if is_folder and path in folders:
            os.chmod(path, 0o755)  # noqa: S103 - the room's one user is all that can see it
            _clear(path, files, folders, keep)
        elif path not in keep and (is_folder or path in folders or path not in files):
            _remove(path, is_folder)


def _remove(path: bytes, is_folder: bool) -> None:
    if not is_folder:
        os.unlink(path)
        return
    os.chmod(path, 0o700)
    for name in os.listdir(path):
        inner = path + b"/" + name
        _remove(inner, stat.S_ISDIR(os.lstat(inner).st_mode))
    os.rmdir(path)


def _place(source: BinaryIO, path: bytes, mode: int) -> None:
    """A new file each time: what a command may have linked to the old one is left with the old one."""
    parent = path.rpartition(b"/")[0]
    if parent:
        os.makedirs(parent, exist_ok=True)
    with suppress(FileNotFoundError):
        os.unlink(path)
    left = int.from_bytes(source.read(8), "big")
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    try:
        while left:
            chunk = source.read(min(left, 1 << 20))
            if not chunk:
                raise OSError(errno.EIO, "the files ended early")
            left -= len(chunk)
            while chunk:
                chunk = chunk[os.write(file, chunk) :]
    finally:
        os.close(file)


def _look(plan: dict[str, Any]) -> int:
    """To standard output: what the tree holds beyond `plan["files"]`, whole folders where they can be named."""
    os.chdir(plan["folder"])
    files = {os.fsencode(path): mode for path, mode in plan["files"]}
    folders = _parents(files)
    found: list[str] = []
    waiting = [b""]
    while waiting:
        folder = waiting.pop()
        for name in os.listdir(folder or b"."):
            path = folder + b"/" + name if folder else name
            if path in folders and stat.S_ISDIR(os.lstat(path).st_mode):
                waiting.append(path)
            elif path not in files:
                found.append(os.fsdecode(path))
    with os.fdopen(1, "wb") as target:
        target.write(json.dumps(found).encode())
    return 0


# --- the port of the package indexes ---------------------------------------------------------------------------------


def _listen(plan: dict[str, Any]) -> int:
    """Opens a port on the room's own loopback and hands it out: a socket stays in the network where it was made."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as port:
        port.bind(("127.0.0.1", plan["port"]))
        port.listen(64)
        with socket.socket(fileno=plan["channel"]) as channel:
            # SCM_RIGHTS, https://man7.org/linux/man-pages/man7/unix.7.html
            channel.sendmsg(
                [b"p"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [port.fileno()]))]
            )
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (OSError, RecursionError, _Stopped):
        sys.exit(1)  # silently: standard output and error are the command's
