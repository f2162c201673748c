"""Memory-backed directories for the length of a run: made private, removed at the end, swept at start-up.

Files in them are named by content hash, so no name of a repository ever becomes a name on this machine.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from app.errors import DefectError, LimitedError

_MEMORY = frozenset({"tmpfs", "ramfs"})
_NAME = re.compile(r"magicode-(?P<run>[A-Za-z0-9_-]{1,64})-(?P<pid>[0-9]{1,10})(?P<making>\.[0-9a-f]{16})?")
_LOCK = "lock"
_MAKING_SECONDS = 60
LOOK_AGAIN = timedelta(seconds=10)
"""After so long it is looked whether an earlier try has left."""
_UNUSABLE = "The workspace directory cannot be made or written: see MAGICODE_WORKSPACE_DIR."
_MOUNTS = Path("/proc/mounts")
_SHARED = Path("/dev/shm")  # noqa: S108 - each run's directory below it is made 0700 by mkdir, which follows no link


@dataclass(frozen=True, slots=True)
class Root:
    """Where workspaces are made. `statement` says to the operator what that means for code at rest."""

    path: Path
    memory_backed: bool
    statement: str


def find_root(preferred: Path | None = None, *, mounts: Path = _MOUNTS, shared: Path = _SHARED) -> Root:
    """The settings' directory, else shared memory, else the temporary directory with a plain statement.

    Raises DefectError (`workspace_root_unusable`) when the settings' directory cannot be written.
    """
    if preferred is not None:
        try:
            preferred.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise DefectError(_UNUSABLE, reason="workspace_root_unusable") from error
        if not os.access(preferred, os.W_OK | os.X_OK):
            raise DefectError(_UNUSABLE, reason="workspace_root_unusable")
        return _root(preferred.resolve(), memory_backed(preferred.resolve(), mounts=mounts))
    if shared.is_dir() and os.access(shared, os.W_OK | os.X_OK) and memory_backed(shared, mounts=mounts):
        return _root(shared, True)
    temporary = Path(tempfile.gettempdir()).resolve()
    return _root(temporary, memory_backed(temporary, mounts=mounts))


def _root(path: Path, in_memory: bool) -> Root:
    if in_memory:
        return Root(path, True, "Workspaces are kept in memory-backed storage.")
    return Root(
        path,
        False,
        "Workspaces are on a disk: no memory-backed directory was found. Code touches that disk for the length of a "
        "run and is removed afterwards, but its blocks may be recovered. Set MAGICODE_WORKSPACE_DIR to a tmpfs.",
    )


def memory_backed(path: Path, *, mounts: Path = _MOUNTS) -> bool:
    """Whether the file system that holds `path` lives in memory, by the kernel's own table (proc(5)); False if unknown."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return False
    best, kind = -1, ""
    for line in lines:
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = Path(re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[1]))
        if (point == path or point in path.parents) and len(point.parts) >= best:
            best, kind = len(point.parts), fields[2]
    return kind in _MEMORY


@contextmanager
def run_directory(root: Path, run_id: str) -> Iterator[Path]:
    """A directory of this run and process, 0700, locked while it is in use and removed whatever happens.

    Raises LimitedError (`workspace_in_use`) where this process has not heard yet that a try of its own was taken over, by itself
    as by anybody: after an outage of the database. Raises DefectError (`workspace_name`).
    """
    name = f"magicode-{run_id}-{os.getpid()}"
    if not _NAME.fullmatch(name):
        raise DefectError("A run's id holds letters, digits and hyphens only.", reason="workspace_name")
    path, making = root / name, root / f"{name}.{secrets.token_hex(8)}"
    making.mkdir(mode=0o700)
    lock = -1
    try:
        # Locked before it has its name: what has one and is not locked is a leftover, whosever process number that is now.
        lock = os.open(making / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        _take_name(making, path)
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)
    finally:
        shutil.rmtree(making, ignore_errors=True)
        if lock >= 0:
            os.close(lock)


def _take_name(making: Path, path: Path) -> None:
    """In a container every process has the same number as the one before it that was killed at the same run."""
    for last in (False, True):
        try:
            making.rename(path)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
            if last or _in_use(path, os.getpid()):
                raise LimitedError(
                    "An earlier try of this run has not left its workspace yet.",
                    reason="workspace_in_use",
                    retry_after=LOOK_AGAIN,
                ) from error
            shutil.rmtree(path, ignore_errors=True)
        else:
            return


def sweep(root: Path) -> int:
    """Remove what dead processes left below `root`; return how many workspaces that were.

    A workspace is in use while its lock is held, whichever process or container holds it. One that has no name of its own yet
    is in the making for a moment. Others' directories and links are left alone.
    """
    removed = 0
    for path in sorted(root.iterdir()):
        match = _NAME.fullmatch(path.name)
        if match is None or not _ours(path):
            continue
        if _age(path) < _MAKING_SECONDS if match["making"] else _in_use(path, int(match["pid"])):
            continue
        shutil.rmtree(path, ignore_errors=True)
        removed += not path.exists()
    return removed


def _ours(path: Path) -> bool:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()


def _in_use(path: Path, pid: int) -> bool:
    try:
        lock = os.open(path / _LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        # It is being removed, or was made by an older program.
        return _alive(pid) and _age(path) < _MAKING_SECONDS
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def _age(path: Path) -> float:
    """Seconds since its last change; 0 when it has gone meanwhile."""
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
