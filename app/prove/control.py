"""The search proves itself: other words are left in every place and in every form, and each of them has to be found."""

from __future__ import annotations

import base64
import gzip
import io
import urllib.parse
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg

from app.prove import places
from app.prove.search import Search, Searched
from app.prove.stage import Folders
from app.prove.words import Canary, fresh

Make = Callable[[str], bytes]

PGLZ, LZ4 = (
    "a compressed value in PostgreSQL, deleted again (pglz)",
    "a compressed value in PostgreSQL, deleted again (lz4)",
)


def forms_found(folder: Path) -> dict[str, bool]:
    """A file for each form in a scratch folder, and whether the search finds what is in it."""
    found = {}
    for name, data in _examples():
        canary = Canary(name, 0, fresh())
        path = folder / "control"
        path.write_bytes(b"\0before" + data(canary.word) + b"behind\0")
        found[name] = bool(Search([canary]).file(path, Searched("scratch")))
        path.unlink()
    return found


def _examples() -> Iterator[tuple[str, Make]]:
    yield "plain", lambda word: word.encode()
    yield "upper case", lambda word: word.upper().encode()
    yield "title case", lambda word: word.title().encode()
    yield "hex, lower", lambda word: word.encode().hex().encode()
    yield "hex, upper", lambda word: word.encode().hex().upper().encode()
    for shift in range(3):
        yield f"base64, aligned at {shift}", _based(base64.b64encode, shift)
        yield f"base64 for URLs, aligned at {shift}", _based(base64.urlsafe_b64encode, shift)
    for encoding in ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"):
        yield encoding, _encoded(encoding)
    yield "URL-encoded", lambda word: "".join(f"%{ord(one):02X}" for one in word).encode()
    yield "JSON-escaped", lambda word: "".join(f"\\u{ord(one):04x}" for one in word).encode()
    yield "in a URL", lambda word: urllib.parse.quote(f"a {word}/ä").encode()
    yield "zlib", lambda word: zlib.compress(b"text " * 50 + word.encode(), 9)
    yield "gzip", lambda word: gzip.compress(b"text " * 50 + word.encode())
    yield "gzip in zlib", lambda word: zlib.compress(gzip.compress(word.encode()))
    yield "a ZIP's member", _zipped
    yield "pglz literals", _literals


def _based(encode: Callable[[bytes], bytes], shift: int) -> Make:
    return lambda word: encode(b"x" * shift + word.encode() + b"yz")


def _encoded(encoding: str) -> Make:
    return lambda word: word.encode(encoding)


def _zipped(word: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("member", b"text " * 50 + word.encode())
    return out.getvalue()


def _literals(word: str) -> bytes:
    """As PostgreSQL's own compression writes what does not repeat: a byte of flags before each eight."""
    plain = f"text {word} text".encode()
    return b"".join(b"\0" + plain[at : at + 8] for at in range(0, len(plain), 8))


# --- in the places themselves ----------------------------------------------------------------------------------------


def leave(where: Folders, url: str) -> list[tuple[str, Canary]]:
    """A word in each of the places, which is returned with it. Raises psycopg.Error, OSError."""
    left = [
        (place, Canary(f"control: {place}", 0, fresh()))
        for place in (
            places.QDRANT,
            places.REST_OF_DATA,
            places.LOG,
            places.TEMPORARY,
            places.WORKING,
            places.HOME,
            places.MEMORY,
        )
    ]
    spots = (
        where.data / "qdrant",
        where.data,
        where.log,
        where.temporary,
        where.working,
        where.user,
        where.memory,
    )
    for (_, canary), folder in zip(left, spots, strict=True):
        folder.mkdir(exist_ok=True)
        (folder / "left-by-the-control").write_bytes(zlib.compress(canary.word.encode()))
    values = Canary("control: a value", 0, fresh())
    return [*left, (places.POSTGRES_VALUES, values), *_in_postgres(url, values)]


def _in_postgres(url: str, kept: Canary) -> list[tuple[str, Canary]]:
    """In a table of its own, one value stays; the compressed ones are deleted, and lie in dead rows and in the log."""
    left = []
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA prove_control")
        connection.execute("CREATE TABLE prove_control.kept (value bytea)")
        packed = zlib.compress(kept.word.encode())
        connection.execute("INSERT INTO prove_control.kept VALUES (%s)", [packed])
        for source, method in ((PGLZ, "pglz"), (LZ4, "lz4")):
            canary = Canary(f"control: {source}", 0, fresh())
            try:
                connection.execute(f"CREATE TABLE prove_control.{method} (value text COMPRESSION {method})")
            except psycopg.errors.FeatureNotSupported:
                continue
            text = f"some {canary.word} text " + "again and again " * 300
            connection.execute(f"INSERT INTO prove_control.{method} VALUES (%s)", [text])  # noqa: S608 one of two names of ours
            connection.execute(f"DELETE FROM prove_control.{method}")  # noqa: S608 one of two names of ours
            left.append((places.POSTGRES, canary))
    return left
