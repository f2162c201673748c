"""The master key in a file that only its owner can read. It is made once and never written over but by a rotation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

from app.errors import SHORT, MagicodeError, ShortError
from infra.secrets import private
from infra.secrets.ring import DamagedError, Ring, line, new_key, written
from infra.secrets.ring import read as read_ring

_HOLDER = "file"


class MasterKeyFileError(MagicodeError):
    """The master key's file cannot be used. Give it mode 0600 and the service's own user, or restore it from a backup.

    Without it nothing that was sealed for a customer can be opened again, so it is never replaced silently.
    """


class FileMasterKey:
    """Implements app.ports.MasterKey, and its rotation, by a ring of keys in a 0600 file."""

    def __init__(self, path: Path) -> None:
        """Read the ring, or make the file with one key if there is none. Raises MasterKeyFileError."""
        self._path = path
        self._lock = Lock()  # what was read later is remembered later
        with _told():
            try:
                self._ring = _read(path)
            except FileNotFoundError:
                private.make(path, line(new_key()).encode())
                self._ring = _read(path)

    def __repr__(self) -> str:
        return f"FileMasterKey({self.id})"

    @property
    def id(self) -> str:
        return self._ring.id

    def wrap(self, key: bytes) -> bytes:
        """Under the file's current key, which another process may have changed. Raises MasterKeyFileError."""
        return self._again().wrap(key)

    def unwrap(self, master_key_id: str, wrapped: bytes) -> bytes:
        """Raises WrongMasterKeyError when no key of the file wrapped it, or the bytes were changed."""
        ring = self._ring
        if master_key_id not in ring and master_key_id.startswith(_HOLDER):
            ring = self._again()
        return ring.unwrap(master_key_id, wrapped)

    def begin(self) -> None:
        """A new current key, unless a rotation is under way already. Raises MasterKeyFileError."""
        with self._alone() as ring:
            turned = ring if ring.rotating else ring.turned()
            if turned != ring:
                private.replace(self._path, written(turned))
            self._ring = turned

    def finish(self, under: str, *, keep_old: bool) -> int:
        """Everything is wrapped by the key `under`. Returns how many old ones were removed: none where `under` is no
        longer the current one. Raises MasterKeyFileError."""
        with self._alone() as ring:
            left = ring.settled(keep_old=keep_old) if ring.id == under else ring
            if left != ring:
                private.replace(self._path, written(left))
            self._ring = left
            return len(ring.keys) - len(left.keys)

    def _again(self) -> Ring:
        with _told(), self._lock:
            self._ring = ring = _read(self._path)
        return ring

    @contextmanager
    def _alone(self) -> Iterator[Ring]:
        with _told(), private.locked(self._path):
            yield _read(self._path)


def _read(path: Path) -> Ring:
    return read_ring(_HOLDER, private.read(path))


@contextmanager
def _told() -> Iterator[None]:
    """The operating system's errors as ours; FileNotFoundError too, since a running service never makes a second file."""
    try:
        yield
    except private.ExposedError:
        raise MasterKeyFileError(reason="master_key_exposed") from None
    except DamagedError:
        raise MasterKeyFileError(reason="master_key_damaged") from None
    except OSError as error:
        if error.errno in SHORT:
            raise ShortError(reason="machine_short") from None
        raise MasterKeyFileError(reason="master_key_unreadable") from None
