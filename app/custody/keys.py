"""A data key per installation, wrapped by the master key, and the sealing done under it; nothing here writes in clear.

The unwrapped keys stay in this process for a short while only, and the master key is asked in a thread. The wrapped key is read from the store every time, so
that a destroyed key is gone at once, whatever is remembered here.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import timedelta

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from app.errors import DefectError, WrongMasterKeyError
from app.ports import MasterKey, Transaction

KEY_BYTES = 32
_NONCE_BYTES = 12
_VERSION = b"\x01"  # of the sealed format: version, nonce, ciphertext with its tag

Random = Callable[[int], bytes]
"""So many unpredictable bytes."""


class SealBrokenError(DefectError):
    """These bytes were not sealed under this key and for this place: the key was destroyed, or they were changed."""


class Keys:
    """Implements app.ports.Keys over a master key. One for the process; safe to share between tasks."""

    def __init__(
        self,
        master: MasterKey,
        *,
        random: Random = secrets.token_bytes,
        monotonic: Callable[[], float] = time.monotonic,
        remember: timedelta = timedelta(minutes=5),
        remember_at_most: int = 256,
    ) -> None:
        self._master = master
        self._random = random
        self._monotonic = monotonic
        self._remember_seconds = remember.total_seconds()
        self._remember_at_most = remember_at_most
        self._unwrapped: OrderedDict[tuple[str, bytes], tuple[float, bytes]] = OrderedDict()

    async def data_key(self, transaction: Transaction) -> bytes:
        """The installation's data key, made on first use.

        Two first uses at once agree: the store keeps the one that came first, and that one is returned to both.
        """
        stored = await transaction.wrapped_key()
        if stored is None:
            stored = await self._add(transaction)
        key = await self._opened(transaction, stored)
        if key is None:
            raise SealBrokenError(
                "The data key was destroyed while it was read.", reason="data_key_destroyed"
            )
        return key

    async def existing_key(self, transaction: Transaction) -> bytes | None:
        """The installation's data key, or None when none was made or it was destroyed."""
        stored = await transaction.wrapped_key()
        return await self._opened(transaction, stored) if stored else None

    async def rewrapped(self, stored: tuple[str, bytes]) -> tuple[str, bytes]:
        """The same data key under the present master key, opened once to see that it can be.

        Raises WrongMasterKeyError when nobody at hand wrapped it.
        """
        key = await self._unwrap(*stored)
        fresh = await self._wrap(key)
        if await self._unwrap(*fresh) != key:
            raise DefectError(
                "A data key came back changed from the master key.", reason="master_key_unsound"
            )
        return fresh

    async def unwrapped(self, stored: tuple[str, bytes]) -> bytes:
        """A data key that is kept elsewhere than in the store. Raises WrongMasterKeyError when nobody at hand wrapped it."""
        return await self._unwrap(*stored)

    def derive(self, key: bytes, purpose: bytes) -> bytes:
        """A 32-byte subkey by HKDF-SHA256; the data key is uniformly random, so only the expand step is needed.

        https://www.rfc-editor.org/rfc/rfc5869#section-3.3
        """
        return HKDFExpand(algorithm=SHA256(), length=KEY_BYTES, info=purpose).derive(key)

    def seal(self, key: bytes, plaintext: bytes, aad: bytes) -> bytes:
        """AES-256-GCM under a random nonce; `aad` binds the result to its place."""
        nonce = self._random(_NONCE_BYTES)
        return _VERSION + nonce + AESGCM(key).encrypt(nonce, plaintext, _VERSION + aad)

    def open(self, key: bytes, sealed: bytes, aad: bytes) -> bytes:
        """What was sealed. Raises SealBrokenError."""
        start = len(_VERSION)
        if sealed[:start] != _VERSION or len(sealed) < start + _NONCE_BYTES:
            raise SealBrokenError
        nonce = sealed[start : start + _NONCE_BYTES]
        try:
            return AESGCM(key).decrypt(nonce, sealed[start + _NONCE_BYTES :], _VERSION + aad)
        except InvalidTag:
            raise SealBrokenError from None

    def forget(self) -> None:
        """Drop every unwrapped key from this process."""
        self._unwrapped.clear()

    async def _add(self, transaction: Transaction) -> tuple[str, bytes]:
        """A new data key, or the one that somebody else added first.

        The master key may have been rotated between the wrapping and the adding, and a rotation looks for keys to re-wrap
        once: so it is asked again when the row is there, and no row is left behind under an old master key.
        """
        key = self._random(KEY_BYTES)
        ours = await self._wrap(key)
        stored = await transaction.add_wrapped_key(*ours)
        if stored != ours:
            return stored
        newer = await self._wrap(key)
        if newer[0] != ours[0] and await transaction.replace_wrapped_key(ours, newer):
            return newer
        return ours

    async def _wrap(self, key: bytes) -> tuple[str, bytes]:
        """With the id of the master key that did it: wrapping is what finds out that there is a new one."""
        while True:
            name = self._master.id
            wrapped = await asyncio.to_thread(self._master.wrap, key)
            if self._master.id == name:
                return name, wrapped

    async def _opened(self, transaction: Transaction, stored: tuple[str, bytes]) -> bytes | None:
        """None when it was destroyed meanwhile. What a rotation re-wrapped since it was read is read once more."""
        try:
            return await self._unwrap(*stored)
        except WrongMasterKeyError:
            again = await transaction.wrapped_key(anew=True)
            if again == stored:
                raise
            return await self._unwrap(*again) if again else None

    async def _unwrap(self, master_key_id: str, wrapped: bytes) -> bytes:
        """In a thread, since a key service may be far away."""
        name = (master_key_id, bytes(wrapped))
        self._drop_expired()
        if (known := self._unwrapped.get(name)) is not None:
            return known[1]
        key = await asyncio.to_thread(self._master.unwrap, master_key_id, wrapped)
        if len(key) != KEY_BYTES:
            raise DefectError("The unwrapped data key has the wrong length.", reason="data_key_length")
        self._unwrapped.pop(name, None)  # another may have been quicker
        self._unwrapped[name] = (self._monotonic() + self._remember_seconds, key)
        while len(self._unwrapped) > self._remember_at_most:
            self._unwrapped.popitem(last=False)
        return key

    def _drop_expired(self) -> None:
        """They are in the order in which they came, which is that in which they go."""
        now = self._monotonic()
        while self._unwrapped and next(iter(self._unwrapped.values()))[0] <= now:
            self._unwrapped.popitem(last=False)
