"""Files that only their owner can read: read with care, and replaced whole or not at all."""

from __future__ import annotations

import fcntl
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LARGEST = 64 * 1024  # AWS Secrets Manager's own limit for a secret, which is plenty here

# Without O_NONBLOCK, opening a named pipe would wait for its writer.
_CAREFUL = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class ExposedError(OSError):
    """The file is no plain file, is another user's, or others than its owner can reach it."""


def read(path: Path) -> bytes:
    """The file's bytes. Raises ExposedError; FileNotFoundError and other OSErrors as they come, links among them."""
    descriptor = os.open(path, os.O_RDONLY | _CAREFUL)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_mode & 0o077 or status.st_uid != os.geteuid():
            raise ExposedError
        content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise OSError("too large")
    return content


def make(path: Path, content: bytes) -> None:
    """Whole or not at all, and never over another's: the new file is linked into place only where none is."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        _write(draft, content, os.O_EXCL)
        os.link(draft, path)
    except FileExistsError:
        return
    finally:
        draft.unlink(missing_ok=True)
    _settle(path.parent)


def replace(path: Path, content: bytes) -> None:
    """Whole or not at all. To be called under `locked`: the draft's name is always the same, so that a crash leaves at
    most one behind, which the next call writes over."""
    draft = path.with_name(f".{path.name}.next")
    _write(draft, content, os.O_TRUNC)
    draft.replace(path)
    _settle(path.parent)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Alone with the file among those who lock it. Raises OSError where it cannot be opened for writing."""
    while True:
        descriptor = os.open(path, os.O_RDWR | _CAREFUL)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            # Who held the lock before may have put another file in this one's place.
            if os.path.samestat(os.fstat(descriptor), path.lstat()):
                yield
                return
        finally:
            os.close(descriptor)


def _write(path: Path, content: bytes, how: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | how | _CAREFUL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, 0o600)
        file.write(content)
        file.flush()
        os.fsync(descriptor)


def _settle(folder: Path) -> None:
    """A name in a folder outlives a power cut only once the folder has been written."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
