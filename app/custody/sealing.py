"""A stream sealed in pieces under an installation's key: nothing of it lies open, and none of it is held whole.

Each piece is bound to the export, to its place and to whether it is the last, so that pieces that were dropped, doubled,
put elsewhere or cut off at the end are found.
"""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator
from typing import Final
from uuid import UUID

from app.custody.keys import SealBrokenError
from app.ports import Keys

PURPOSE: Final = b"magicode/exports"
PIECE_BYTES: Final = 1 << 18
_MARK: Final = b"MCX1"
"""How a sealed export begins; a byte for whether it is the last and the sealed length stand before each piece."""
_HEAD: Final = struct.Struct(">BI")
_OVERHEAD: Final = 64


class Sealed:
    """Seals and opens one export. `key` is the installation's data key."""

    def __init__(self, keys: Keys, key: bytes, installation_id: int, export_id: UUID) -> None:
        self._keys = keys
        self._place = f"export|{installation_id}|{export_id}"
        # A key of its own for each export keeps the random nonces far from ever meeting.
        self._key = keys.derive(key, PURPOSE + b"/" + export_id.bytes)

    async def seal(self, plain: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        held, number = bytearray(), 0
        yield _MARK
        async for piece in plain:
            held += piece
            while len(held) > PIECE_BYTES:
                yield self._piece(bytes(held[:PIECE_BYTES]), number, last=False)
                del held[:PIECE_BYTES]
                number += 1
        yield self._piece(bytes(held), number, last=True)

    async def open(self, sealed: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Raises SealBrokenError where anything was changed or is missing; what came before it was right."""
        read = _Read(sealed)
        if await read.exactly(len(_MARK)) != _MARK:
            raise SealBrokenError
        number, last = 0, False
        while not last:
            flag, length = _HEAD.unpack(await read.exactly(_HEAD.size))
            if flag not in (0, 1) or length > PIECE_BYTES + _OVERHEAD:
                raise SealBrokenError
            last = flag == 1
            body = await read.exactly(length)
            if plain := self._keys.open(self._key, body, self._bound(number, last=last)):
                yield plain
            number += 1
        if not await read.ended():
            raise SealBrokenError

    def _piece(self, plain: bytes, number: int, *, last: bool) -> bytes:
        sealed = self._keys.seal(self._key, plain, self._bound(number, last=last))
        return _HEAD.pack(last, len(sealed)) + sealed

    def _bound(self, number: int, *, last: bool) -> bytes:
        return f"{self._place}|{number}|{'last' if last else 'more'}".encode()


class _Read:
    """A stream of pieces of any size, read by size."""

    def __init__(self, stream: AsyncIterator[bytes]) -> None:
        self._stream = stream
        self._held = bytearray()

    async def exactly(self, count: int) -> bytes:
        """Raises SealBrokenError where it ends before."""
        while len(self._held) < count:
            piece = await anext(self._stream, None)
            if piece is None:
                raise SealBrokenError
            self._held += piece
        taken = bytes(self._held[:count])
        del self._held[:count]
        return taken

    async def ended(self) -> bool:
        return not self._held and not [piece async for piece in self._stream if piece]
