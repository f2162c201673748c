"""The search: every byte of files and streams, against all forms of all words at once, and inside what is compressed.

Says where a word was found and which one, never what stands around it.
"""

from __future__ import annotations

import mmap
import re
import zlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import re2

from app.prove.words import NOT_UNPACKED, Canary, forms

CHUNK = 8 << 20
OVERLAP = 256
"""Bytes that two chunks share: longer than the longest form of a word."""
_MOST_INFLATED = 64 << 20
_DEEPEST = 3
_PACKED = re.compile(
    rb"\x78[\x01\x5e\x9c\xda]|\x1f\x8b\x08|PK\x03\x04.{4}\x08\x00|"
    + b"|".join(re.escape(mark) for mark in NOT_UNPACKED.values()),
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Hit:
    """A word that was found: in which place and file, at which byte, in which form, and what it had been planted in.

    `inside` says which compressed stream of the file it was in; `offset` is then counted in what came out of it.
    """

    place: str
    where: str
    offset: int
    form: str
    source: str
    inside: str = ""


@dataclass(slots=True)
class Searched:
    """What was looked through in one place."""

    place: str
    files: int = 0
    bytes: int = 0
    inflated_streams: int = 0
    inflated_bytes: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    not_unpacked: Counter[str] = field(default_factory=Counter)


class Search:
    """Knows all forms of all words. One may search many places."""

    def __init__(self, canaries: Iterable[Canary]) -> None:
        self._known = [(canary, form) for canary in canaries for form in forms(canary.word)]
        gap = rb"(?s:.)"
        self._patterns = []
        for _, form in self._known:
            pattern = gap.join(re2.escape(part) for part in form.parts)
            pattern = b"(?i:" + pattern + b")" if form.anycase else pattern
            self._patterns.append(pattern)
        options = re2.Options()
        options.encoding = re2.Options.Encoding.LATIN1
        options.max_mem = 1 << 30
        options.never_capture = True
        self._options = options
        self._any = re2.compile(b"|".join(self._patterns), options)

    def file(self, path: Path, searched: Searched, where: str = "") -> list[Hit]:
        """Every byte of a regular file. One that is gone or may not be read is counted as left out, with the reason."""
        try:
            with path.open("rb") as stream:
                size = path.stat().st_size
                if size == 0:
                    searched.files += 1
                    return []
                with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
                    hits = self._through(data, searched, where or str(path), "", 0)
        except (OSError, ValueError) as error:
            searched.left_out[type(error).__name__] += 1
            return []
        searched.files += 1
        searched.bytes += size
        return hits

    def data(self, data: bytes, searched: Searched, where: str) -> list[Hit]:
        """Every byte of this."""
        searched.files += 1
        searched.bytes += len(data)
        return self._through(data, searched, where, "", 0)

    def _through(
        self, data: bytes | mmap.mmap, searched: Searched, where: str, inside: str, depth: int
    ) -> list[Hit]:
        hits: dict[Hit, None] = {}
        for at in range(0, len(data), CHUNK):
            chunk = data[at : at + CHUNK + OVERLAP]
            hits |= dict.fromkeys(self._plainly(chunk, at, searched.place, where, inside))
            if depth < _DEEPEST:
                for packed in _PACKED.finditer(chunk):
                    if packed.start() < CHUNK:
                        hits |= dict.fromkeys(
                            self._unpacked(
                                data, at + packed.start(), packed[0], searched, where, inside, depth
                            )
                        )
        return list(hits)

    def _plainly(self, chunk: bytes, base: int, place: str, where: str, inside: str) -> list[Hit]:
        hits = []
        for found in self._any.finditer(chunk):
            at = base + found.start()
            hits += [Hit(place, where, at, form, source, inside) for form, source in self._which(found[0])]
        return hits

    def _which(self, data: bytes) -> list[tuple[str, str]]:
        """The form and the source of what was found; asked only then, which is rare, or the proof has failed."""
        return [
            (form.name, canary.source)
            for (canary, form), pattern in zip(self._known, self._patterns, strict=True)
            if re2.fullmatch(pattern, data, self._options)
        ][:1]

    def _unpacked(  # noqa: PLR0917 a stream: in what, where, and how deep
        self,
        data: bytes | mmap.mmap,
        at: int,
        mark: bytes,
        searched: Searched,
        where: str,
        inside: str,
        depth: int,
    ) -> list[Hit]:
        for name, first in NOT_UNPACKED.items():
            if mark == first:
                searched.not_unpacked[name] += 1
                return []
        kind, bits, start = _kind(data, at, mark)
        out = _inflated(data, start, bits)
        if not out:
            return []
        searched.inflated_streams += 1
        searched.inflated_bytes += len(out)
        said = f"{inside} {kind} at {at}".strip()
        return self._through(out, searched, where, said, depth + 1)


def _kind(data: bytes | mmap.mmap, at: int, mark: bytes) -> tuple[str, int, int]:
    """Its name, zlib's window bits for it, and where its stream begins."""
    if mark.startswith(b"\x1f\x8b"):
        return "gzip", 31, at
    if mark.startswith(b"PK"):
        head = data[at : at + 30]
        return (
            "ZIP member",
            -15,
            at + 30 + int.from_bytes(head[26:28], "little") + int.from_bytes(head[28:30], "little"),
        )
    return "zlib", 15, at


def _inflated(data: bytes | mmap.mmap, start: int, bits: int) -> bytes:
    """What comes out, also of a stream that breaks off; most of what looks like a beginning is none."""
    unpacking = zlib.decompressobj(bits)
    out = bytearray()
    try:
        while not unpacking.eof and start < len(data) and len(out) < _MOST_INFLATED:
            # Little at first, since most beginnings are none.
            piece = data[start : start + (1 << 16 if out else 512)]
            out += unpacking.decompress(piece, _MOST_INFLATED)
            start += len(piece)
    except zlib.error:
        pass  # what came out until then is looked at
    return bytes(out)
