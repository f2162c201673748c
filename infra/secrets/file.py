"""Where the master key lives: by default a file that only its owner can read. It is made once and never written over."""

from __future__ import annotations

import binascii
import hashlib
import os
import secrets
import stat
from pathlib import Path

from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

from app.errors import DefectError, MagicodeError

_KEY_BYTES = 32
_HEADER = "magicode-master-key-1 "  # then 64 hexadecimal digits and a line's end


class MasterKeyFileError(MagicodeError):
    """The master key's file cannot be used. Give it mode 0600 and the service's own user, or restore it from a backup.

    Without it nothing that was sealed for a customer can be opened again, so it is never replaced silently.
    """


class WrongMasterKeyError(DefectError):
    """A data key was wrapped by another master key than the one in use. Bring back the file that wrapped it."""


class FileMasterKey:
    """Implements app.ports.MasterKey by AES key wrap (RFC 3394) under a key from a 0600 file.

    https://www.rfc-editor.org/rfc/rfc3394
    """

    def __init__(self, path: Path) -> None:
        """Read the key, or make the file if there is none. Raises MasterKeyFileError."""
        self._key = _read_or_make(path)
        self._id = "file:" + hashlib.sha256(b"magicode/master-key-id" + self._key).hexdigest()[:16]

    def __repr__(self) -> str:
        return f"FileMasterKey({self._id})"

    @property
    def id(self) -> str:
        return self._id

    def wrap(self, key: bytes) -> bytes:
        return aes_key_wrap(self._key, key)

    def unwrap(self, master_key_id: str, wrapped: bytes) -> bytes:
        """Raises WrongMasterKeyError when another master key wrapped it, or the bytes were changed."""
        if master_key_id != self._id:
            raise WrongMasterKeyError
        try:
            return aes_key_unwrap(self._key, wrapped)
        except (InvalidUnwrap, ValueError):
            raise WrongMasterKeyError(
                "A wrapped data key was changed.", reason="wrapped_key_changed"
            ) from None


def _read_or_make(path: Path) -> bytes:
    try:
        return _read(path)
    except FileNotFoundError:
        _make(path)
        return _read(path)


def _read(path: Path) -> bytes:
    # Without O_NONBLOCK, opening a named pipe would wait for its writer.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        raise
    except OSError:
        raise MasterKeyFileError(reason="master_key_unreadable") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_mode & 0o077 or status.st_uid != os.geteuid():
            raise MasterKeyFileError(reason="master_key_exposed")
        text = os.read(descriptor, 1024)
    finally:
        os.close(descriptor)
    try:
        header, digits = text[: len(_HEADER)].decode("ascii"), text[len(_HEADER) :].strip()
        key = bytes.fromhex(digits.decode("ascii"))
    except (UnicodeDecodeError, ValueError, binascii.Error):
        raise MasterKeyFileError(reason="master_key_damaged") from None
    if header != _HEADER or len(key) != _KEY_BYTES:
        raise MasterKeyFileError(reason="master_key_damaged")
    return key


def _make(path: Path) -> None:
    """Whole or not at all, and never over another's: the new file is linked into place only where none is."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(f"{_HEADER}{secrets.token_hex(_KEY_BYTES)}\n".encode())
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            return
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    finally:
        draft.unlink()
