"""A ring of master keys: the current one wraps, those before it only unwrap, until nothing is wrapped by them any more."""

from __future__ import annotations

import binascii
import hashlib
import secrets
from dataclasses import dataclass, field, replace

from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

from app.errors import WrongMasterKeyError

KEY_BYTES = 32
CHANGED = "wrapped_key_changed"
"""Why a wrapped key is not unwrapped: its master key is at hand, and these are not the bytes that it made."""
_HEADER = "magicode-master-key-1 "  # then 64 hexadecimal digits and a line's end
_ROTATING = "rotating"


class DamagedError(ValueError):
    """This is no ring."""


@dataclass(frozen=True, slots=True)
class Ring:
    """`keys` has the current one first. `rotating`: not all that the older ones wrapped is known to be re-wrapped.

    `holder` is the beginning of the ids, and says where the ring is kept.
    """

    holder: str
    keys: tuple[bytes, ...] = field(repr=False)
    rotating: bool = False

    @property
    def id(self) -> str:
        return self._id(self.keys[0])

    def __contains__(self, master_key_id: str) -> bool:
        return any(self._id(key) == master_key_id for key in self.keys)

    def wrap(self, key: bytes) -> bytes:
        """AES key wrap under the current key: https://www.rfc-editor.org/rfc/rfc3394"""
        return aes_key_wrap(self.keys[0], key)

    def unwrap(self, master_key_id: str, wrapped: bytes) -> bytes:
        """Raises WrongMasterKeyError when no key of this ring wrapped it, or the bytes were changed."""
        own = next((key for key in self.keys if self._id(key) == master_key_id), None)
        if own is None:
            raise WrongMasterKeyError
        try:
            return aes_key_unwrap(own, wrapped)
        except (InvalidUnwrap, ValueError):
            raise WrongMasterKeyError("A wrapped data key was changed.", reason=CHANGED) from None

    def turned(self) -> Ring:
        """With a new current key."""
        return replace(self, keys=(new_key(), *self.keys), rotating=True)

    def settled(self, *, keep_old: bool) -> Ring:
        """After everything was re-wrapped under the current key."""
        return replace(self, keys=self.keys if keep_old else self.keys[:1], rotating=False)

    def _id(self, key: bytes) -> str:
        return f"{self.holder}:" + hashlib.sha256(b"magicode/master-key-id" + key).hexdigest()[:16]


def new_key() -> bytes:
    return secrets.token_bytes(KEY_BYTES)


def line(key: bytes) -> str:
    """One key as it is written down."""
    return f"{_HEADER}{key.hex()}\n"


def written(ring: Ring) -> bytes:
    """The whole ring, a key a line; `rotating` is a line at the end."""
    return ("".join(map(line, ring.keys)) + (f"{_ROTATING}\n" if ring.rotating else "")).encode()


def read(holder: str, content: bytes) -> Ring:
    """What `written` wrote; one line with one key is a ring as well. Raises DamagedError."""
    try:
        lines = content.decode("ascii").splitlines()
    except UnicodeDecodeError:
        raise DamagedError from None
    rotating = lines[-1:] == [_ROTATING]
    keys = tuple(map(_key, lines[:-1] if rotating else lines))
    if not keys:
        raise DamagedError
    return Ring(holder, keys, rotating)


def _key(text: str) -> bytes:
    header, digits = text[: len(_HEADER)], text[len(_HEADER) :].strip()
    try:
        key = bytes.fromhex(digits)
    except (ValueError, binascii.Error):
        raise DamagedError from None
    if header != _HEADER or len(key) != KEY_BYTES:
        raise DamagedError
    return key
