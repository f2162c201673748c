"""The search proves itself: other words are left in every place and in every form, and each of them has to be found."""

from __future__ import annotations

import base64
import gzip
import io
import tempfile
import urllib.parse
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from app.prove import places
from app.prove.search import Search, Searched
from app.prove.stage import Folders
from app.prove.words import Canary, fresh

Make = Callable[[str], bytes]

MARK = "control: "
"""How the sources of these words begin."""

_METHODS = ("pglz", "lz4")
_IN_FILES = (
    places.QDRANT,
    places.REST_OF_DATA,
    places.LOG,
    places.TEMPORARY,
    places.WORKING,
    places.HOME,
    places.MEMORY,
    places.SHARED,
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


@dataclass(frozen=True, slots=True)
class Left:
    """A word that is left in a place, to be found there. `method` is PostgreSQL's, for a value that is deleted again."""

    place: str
    canary: Canary
    method: str = ""


def words() -> list[Left]:
    """One for each place, and one for each of PostgreSQL's ways to compress."""
    named = [(place, f"in {place}", "") for place in _IN_FILES]
    named += [(places.POSTGRES_VALUES, "a value, compressed with zlib", "")]
    named += [
        (places.POSTGRES, f"a value, compressed with {method}, deleted again", method) for method in _METHODS
    ]
    return [Left(place, Canary(f"{MARK}{what}", 0, fresh()), method) for place, what, method in named]


@contextmanager
def left(everything: Sequence[Left], where: Folders, url: str) -> Iterator[list[Left]]:
    """Leaves them, and gives those that could be left: not every PostgreSQL knows every way to compress.

    Raises psycopg.Error, OSError.
    """
    spots = {
        places.QDRANT: where.data / "qdrant",
        places.REST_OF_DATA: where.data,
        places.LOG: where.log,
        places.TEMPORARY: where.temporary,
        places.WORKING: where.working,
        places.HOME: where.user,
        places.MEMORY: where.memory,
    }
    for one in everything:
        if one.place in spots:
            spots[one.place].mkdir(exist_ok=True)
            (spots[one.place] / "left-by-the-control").write_bytes(zlib.compress(one.canary.word.encode()))
    kept = [one for one in everything if one.place in _IN_FILES]
    kept += _in_postgres(url, [one for one in everything if one.place not in _IN_FILES])
    (shared,) = (one for one in everything if one.place == places.SHARED)
    with tempfile.NamedTemporaryFile(prefix="magicode-prove-control-") as file:
        file.write(shared.canary.word.encode())
        file.flush()
        yield kept


def _in_postgres(url: str, everything: Sequence[Left]) -> list[Left]:
    """In tables of its own. What is deleted again lies in dead rows and in the write-ahead log."""
    kept = []
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA prove_control")
        connection.execute("CREATE TABLE prove_control.kept (value bytea)")
        for one in everything:
            if not one.method:
                packed = zlib.compress(one.canary.word.encode())
                connection.execute("INSERT INTO prove_control.kept VALUES (%s)", [packed])
            elif not _deleted(
                connection, one.canary.word, sql.Identifier("prove_control", one.method), one.method
            ):
                continue
            kept.append(one)
    return kept


def _deleted(connection: psycopg.Connection, word: str, table: sql.Identifier, method: str) -> bool:
    """A value that was there for a moment, compressed; False where this PostgreSQL cannot compress so."""
    create = sql.SQL("CREATE TABLE {} (value text COMPRESSION {})").format(table, sql.Identifier(method))
    try:
        connection.execute(create)
    except psycopg.errors.FeatureNotSupported:
        return False
    text = f"some {word} text " + "again and again " * 300
    connection.execute(sql.SQL("INSERT INTO {} VALUES (%s)").format(table), [text])
    connection.execute(sql.SQL("DELETE FROM {}").format(table))
    return True
