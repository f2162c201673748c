"""Where bytes may stay: the service's folders, the machine's shared ones, and what a database and an index hold inside.

Files of others in shared folders are looked through where they changed since the proof began; nothing there is written.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import psycopg
from psycopg import sql

from app.prove.search import Hit, Search, Searched
from app.prove.stage import Folders

POSTGRES, POSTGRES_VALUES, QDRANT, REST_OF_DATA = (
    "PostgreSQL's data directory, WAL and server log included",
    "PostgreSQL's values through SQL, decompressed, system catalogues included",
    "Qdrant's files, and their values through SQLite",
    "the rest of the data folder",
)
LOG, TEMPORARY, WORKING, HOME, MEMORY, SHARED = (
    "the service's standard output and error, at level DEBUG",
    "the service's temporary folder",
    "the service's working folder: cores, crash and coverage files",
    "the service's home",
    "workspaces and sandboxes in memory",
    "the machine's shared folders, what changed since the proof began",
)
_SHARED_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm", "/var/log")  # noqa: S108 only read
_LARGEST_SHARED = 512 << 20
_SQLITE = b"SQLite format 3\0"
_WAL_PAGE, _WAL_HEAD = 8192, 24


def folders(search: Search, where: Folders) -> list[tuple[Searched, list[Hit]]]:
    """The service's own folders, every byte."""
    postgres, qdrant = where.data / "postgres", where.data / "qdrant"
    return [
        _folder(search, POSTGRES, postgres, also=_wal),
        _folder(search, QDRANT, qdrant, also=_sqlite),
        _folder(search, REST_OF_DATA, where.data, leave=(postgres, qdrant)),
        _folder(search, LOG, where.log),
        _folder(search, TEMPORARY, where.temporary),
        _folder(search, WORKING, where.working),
        _folder(search, HOME, where.user),
        _folder(search, MEMORY, where.memory),
    ]


def shared(search: Search, where: Folders, since: float) -> tuple[Searched, list[Hit]]:
    """Temporary folders, shared memory and logs of the machine; what is larger than 512 MiB is left out, and counted."""
    searched, hits = Searched(SHARED), []
    roots = {Path(tempfile.gettempdir()), *map(Path, _SHARED_FOLDERS), *_core_folders()}
    seen: set[tuple[int, int]] = set()
    for root in sorted(roots):
        for path, found in _files(root, (where.home, where.memory)):
            if found.st_mtime < since or (found.st_dev, found.st_ino) in seen:
                continue
            seen.add((found.st_dev, found.st_ino))
            if found.st_size > _LARGEST_SHARED:
                searched.left_out["larger than 512 MiB"] += 1
                continue
            hits += search.file(path, searched)
    return searched, hits


def core_pattern() -> str:
    """Where the kernel puts the cores of what crashes (core(5)); empty where that cannot be read."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/core_pattern").read_text(encoding="utf-8").strip()
    return ""


def _core_folders() -> list[Path]:
    pattern = core_pattern()
    return [Path(pattern).parent] if pattern.startswith("/") and Path(pattern).parent != Path("/") else []


def values(search: Search, urls: list[str]) -> tuple[Searched, list[Hit]]:
    """Every row of every table of these databases, as the superuser: what TOAST compresses is seen through here.

    Raises psycopg.Error.
    """
    searched, hits = Searched(POSTGRES_VALUES), []
    for url in urls:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CHECKPOINT")
            tables = connection.execute(
                "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
                "WHERE c.relkind IN ('r', 'm', 'S') ORDER BY 1, 2"
            ).fetchall()
            for schema, name in tables:
                for form in ("text", "binary"):
                    with suppress(psycopg.errors.FeatureNotSupported, psycopg.errors.UndefinedFunction):
                        hits += search.data(
                            _copied(connection, schema, name, form), searched, f"{schema}.{name}"
                        )
    return searched, hits


def _copied(connection: psycopg.Connection, schema: str, name: str, form: str) -> bytes:
    statement = sql.SQL("COPY (SELECT * FROM {}) TO STDOUT (FORMAT {})").format(
        sql.Identifier(schema, name), sql.SQL(form)
    )
    with connection.cursor().copy(statement) as rows:
        return b"".join(bytes(row) for row in rows)


Also = Callable[[Search, Path, Searched], list[Hit]]


def _folder(
    search: Search, place: str, folder: Path, *, leave: tuple[Path, ...] = (), also: Also | None = None
) -> tuple[Searched, list[Hit]]:
    searched, hits = Searched(place), []
    for path, _ in _files(folder, leave):
        hits += search.file(path, searched, str(path.relative_to(folder)))
        if also is not None:
            hits += also(search, path, searched)
    return searched, hits


def _files(folder: Path, leave: tuple[Path, ...]) -> Iterator[tuple[Path, os.stat_result]]:
    """Regular files; links are not followed, since what they lead to is looked at where it is."""
    for root, names, files in os.walk(folder):
        names[:] = [name for name in names if Path(root, name) not in leave]
        for name in files:
            path = Path(root, name)
            with suppress(OSError):
                found = path.lstat()
                if stat.S_ISREG(found.st_mode):
                    yield path, found


def _wal(search: Search, path: Path, searched: Searched) -> list[Hit]:
    """A segment of the write-ahead log without the heads of its pages, by which a word may be cut in two."""
    if path.parent.name != "pg_wal" or len(path.name) != 24:
        return []
    data = path.read_bytes()
    joined = b"".join(data[at + _WAL_HEAD : at + _WAL_PAGE] for at in range(0, len(data), _WAL_PAGE))
    return search.data(joined, searched, f"{path.name} without page heads")


def _sqlite(search: Search, path: Path, searched: Searched) -> list[Hit]:
    """Every value of every table, by which what is spread over pages is joined."""
    with path.open("rb") as stream:
        if stream.read(len(_SQLITE)) != _SQLITE:
            return []
    hits = []
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for name in names:
            quoted = '"' + name.replace('"', '""') + '"'
            rows = connection.execute(f"SELECT * FROM {quoted}")  # noqa: S608 the table's own name, quoted
            data = b"\n".join(_bytes(value) for row in rows for value in row)
            hits += search.data(data, searched, f"{path.name}: {name}")
    return hits


def _bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogateescape")
