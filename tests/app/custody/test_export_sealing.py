"""A sealed stream: it comes back as it was, and nothing that was changed, dropped, moved or cut off does."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Sequence
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.custody.keys import Keys, SealBrokenError
from app.custody.sealing import PIECE_BYTES, Sealed

KEY = bytes(range(32))
EXPORT = UUID(int=5)


class Master:
    id = "m"

    def wrap(self, key: bytes) -> bytes:
        return key

    def unwrap(self, master_key_id: str, wrapped: bytes) -> bytes:
        return wrapped


KEYS = Keys(Master())


async def pieces(given: Sequence[bytes]) -> AsyncIterator[bytes]:
    for one in given:
        yield one


def sealer(key: bytes = KEY, tenant: int = 1, export: UUID = EXPORT) -> Sealed:
    return Sealed(KEYS, key, tenant, export)


async def sealed(given: Sequence[bytes]) -> bytes:
    return b"".join([one async for one in sealer().seal(pieces(given))])


async def opened(data: bytes, by: Sealed | None = None, size: int = 100_000) -> bytes:
    cut = [data[at : at + size] for at in range(0, len(data), size)]
    return b"".join([one async for one in (by or sealer()).open(pieces(cut))])


def frames(data: bytes) -> list[bytes]:
    """The parts of a sealed stream: the mark, then each piece with what stands before it."""
    found, at = [data[:4]], 4
    while at < len(data):
        length = 5 + struct.unpack(">BI", data[at : at + 5])[1]
        found.append(data[at : at + length])
        at += length
    return found


LONG = [bytes([number]) * PIECE_BYTES for number in range(4)]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.binary(max_size=300), max_size=8), st.integers(1, 500))
async def test_what_is_sealed_comes_back_however_it_is_cut(given: list[bytes], size: int) -> None:
    assert await opened(await sealed(given), size=size) == b"".join(given)


@pytest.mark.parametrize("more", [-1, 0, 1])
@pytest.mark.parametrize("times", [0, 1, 2])
async def test_sizes_around_a_piece_come_back(times: int, more: int) -> None:
    plain = bytes(max(0, times * PIECE_BYTES + more))
    assert await opened(await sealed([plain])) == plain


async def test_nothing_of_it_can_be_read_in_what_is_kept() -> None:
    data = await sealed([b"a plain text that is long enough " * 100])
    assert b"plain" not in data


async def test_pieces_that_were_dropped_doubled_swapped_or_cut_off_are_found() -> None:
    parts = frames(await sealed(LONG))
    assert len(parts) == 5
    changed = [
        *(parts[:at] + parts[at + 1 :] for at in range(5)),
        *([*parts[:at], parts[at], *parts[at:]] for at in range(5)),
        *(parts[:at] for at in range(5)),
        [parts[0], parts[2], parts[1], *parts[3:]],
        [*parts, b"x"],
        [*parts, *parts[1:]],
    ]
    for one in changed:
        with pytest.raises(SealBrokenError):
            await opened(b"".join(one))


async def test_one_that_was_cut_off_at_any_byte_is_found() -> None:
    data = await sealed([b"some bytes"])
    for end in range(len(data)):
        with pytest.raises(SealBrokenError):
            await opened(data[:end])


async def test_any_changed_byte_is_found() -> None:
    data = await sealed([b"some bytes"])
    for at in range(len(data)):
        changed = bytearray(data)
        changed[at] ^= 1
        with pytest.raises(SealBrokenError):
            await opened(bytes(changed))


async def test_it_opens_for_its_key_its_installation_and_its_export_alone() -> None:
    data = await sealed([b"some bytes"])
    for other in (sealer(key=bytes(32)), sealer(tenant=2), sealer(export=UUID(int=6))):
        with pytest.raises(SealBrokenError):
            await opened(data, other)


async def test_a_length_that_would_fill_the_memory_is_not_believed() -> None:
    data = b"MCX1" + struct.pack(">BI", 0, 0xFFFFFFFF)
    with pytest.raises(SealBrokenError):
        await opened(data + bytes(100))
