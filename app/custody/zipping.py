"""A ZIP written in pieces as its files come, with no more of it in memory than one piece, and a manifest of it at its end."""

from __future__ import annotations

import asyncio
import hashlib
import io
import zipfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

PIECE_BYTES: Final = 1 << 18
_READABLE: Final = 0o100600 << 16
"""Of a file in the archive: a regular one, for its owner."""


@dataclass(frozen=True, slots=True)
class Packed:
    """A file as it went into the archive. `rows` is what was said of it, None where it has none."""

    name: str
    sha256: str
    bytes: int
    rows: int | None


@dataclass(slots=True)
class Counted:
    """A file to be: its text in pieces, and how many rows it had once they have all been taken."""

    name: str
    text: AsyncIterator[str]
    rows: Callable[[], int | None] = lambda: None


class Archive:
    """Yields the ZIP while its files are taken one after the other; `packed` holds what went in so far."""

    def __init__(self, made_at: datetime) -> None:
        self.packed: list[Packed] = []
        self._at = made_at.astimezone(UTC)
        self._sink = _Sink()
        self._zip = zipfile.ZipFile(self._sink, "w", zipfile.ZIP_DEFLATED, allowZip64=True)

    async def add(self, file: Counted) -> AsyncIterator[bytes]:
        info = zipfile.ZipInfo(file.name, date_time=self._at.timetuple()[:6])
        info.compress_type = zipfile.ZIP_DEFLATED
        info.external_attr = _READABLE
        hashed, size, held = hashlib.sha256(), 0, bytearray()

        def pack() -> None:
            hashed.update(held)
            into.write(held)
            held.clear()

        # How long it will be is known to nobody yet: https://docs.python.org/3/library/zipfile.html#zipfile.ZipFile.open
        with self._zip.open(info, "w", force_zip64=True) as into:
            async for text in file.text:
                data = text.encode()
                size += len(data)
                held += data
                if len(held) >= PIECE_BYTES:
                    await asyncio.to_thread(pack)  # others are answered while this is compressed
                    if self._sink.held:
                        yield self._sink.take()
            pack()
        self.packed.append(Packed(file.name, hashed.hexdigest(), size, file.rows()))

    def end(self) -> bytes:
        """The rest, with the archive's list of its files."""
        self._zip.close()
        return self._sink.take()


class _Sink(io.RawIOBase):
    """A file that can only be written to, and is emptied by whoever reads."""

    def __init__(self) -> None:
        super().__init__()
        self._bytes = bytearray()

    @property
    def held(self) -> int:
        return len(self._bytes)

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        view = memoryview(data)  # type: ignore[arg-type]
        self._bytes += view
        return view.nbytes

    def take(self) -> bytes:
        taken = bytes(self._bytes)
        self._bytes.clear()
        return taken
