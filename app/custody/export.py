"""All that is held about an installation as one ZIP of documented JSON and CSV, made as a stream.

What changes is read in one moment, and kept compressed for as long as it is being written; the log, which only grows, is read
page by page up to the head of that moment.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import zlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final
from uuid import UUID

from app.custody.exported_files import (
    FILES,
    FORMAT,
    LEFT_OUT,
    MANIFEST,
    README,
    document,
    readme,
)
from app.custody.hooks import known_within
from app.custody.provider_keys import last_four, opened
from app.custody.receipt import remains
from app.custody.settings import read as read_settings
from app.custody.usage import Usage
from app.custody.zipping import Archive, Counted
from app.nouns import Entry
from app.ports import Keys, Store, Transaction

Row = Mapping[str, object]
Rows = Callable[[], AsyncIterator[Row]]

KEPT: Final = timedelta(days=7)
"""How long an export can be fetched."""

_PAGE: Final = 5000
_FORMULAS: Final = ("=", "+", "-", "@", "\t", "\r", "'")
_LAST: Final = datetime.max.replace(tzinfo=UTC)


class Held:
    """Rows in memory, compressed: some forty bytes each."""

    def __init__(self) -> None:
        self._pages: list[bytes] = []

    def add(self, rows: Sequence[Row]) -> None:
        self._pages.append(zlib.compress(json.dumps(rows, separators=(",", ":")).encode(), 6))

    def __iter__(self) -> Iterator[Row]:
        for page in self._pages:
            yield from json.loads(zlib.decompress(page))


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What is held of an installation but its log and its vectors, as of `last`, the log's last entry then."""

    installation_id: int
    at: datetime
    last: Entry | None
    key: bytes | None
    tables: Mapping[str, Held]
    provider_keys: Sequence[Row]
    hooks: Sequence[Row]
    settings: Row
    retention: Row


@dataclass(frozen=True, slots=True)
class Contents:
    """All that goes into an archive. `entries` gives the log's entries up to `head`, each time that it is called."""

    export_id: UUID
    snapshot: Snapshot
    head: str
    entries: Rows
    vectors: Sequence[Row]


@dataclass(slots=True)
class Made:
    """What is known of an archive once it has been written."""

    size: int = 0
    files: list[Row] = field(default_factory=list)
    _hashed: hashlib._Hash = field(default_factory=hashlib.sha256)

    @property
    def sha256(self) -> str:
        return self._hashed.hexdigest()

    def take(self, piece: bytes) -> None:
        self.size += len(piece)
        self._hashed.update(piece)


# --- what is read in one moment --------------------------------------------------------------------------------------


async def take_snapshot(store: Store, keys: Keys, installation_id: int, at: datetime) -> Snapshot:
    """Raises ErasedError once an erasure has begun."""
    async with store.snapshot(installation_id) as transaction:
        tables = {
            name: await _held(transaction, name, list(document(file).columns))
            for name, file in _TABLES.items()
        }
        settings = await read_settings(transaction)
        own = await opened(transaction, keys, installation_id)
        return Snapshot(
            installation_id=installation_id,
            at=at,
            last=await transaction.entry_before(_LAST),
            key=await keys.existing_key(transaction),
            tables=tables,
            provider_keys=[
                {
                    "provider": one.provider,
                    "last_four": last_four(own[one.provider].key) if one.provider in own else "",
                    "base_url": own[one.provider].base_url if one.provider in own else None,
                    "created_by": one.created_by,
                    "created_at": _plain(one.created_at),
                    "checked_at": _plain(one.checked_at),
                }
                for one in await transaction.provider_keys()
            ],
            hooks=[
                {
                    "id": str(one.id),
                    "host": one.host,
                    "events": list(one.events),
                    "created_by": one.created_by,
                    "created_at": _plain(one.created_at),
                    "last_at": _plain(one.last_at),
                    "last_status": one.last_status,
                }
                for one in await known_within(transaction, keys, installation_id)
            ],
            settings=await _settings(transaction, settings.model_dump(mode="json")),
            retention={
                "runs_months": settings.runs_months,
                "log_months": settings.log_months,
                "exports_days": KEPT.days,
                "uninstalled_days": settings.uninstalled_days,
                "erasure": None,
                "remains": [
                    {"where": one.where, "what": one.what, "until": _plain(one.until)}
                    for one in remains(at, at)
                ],
            },
        )


_TABLES: Final = {
    "installations": "installation.json",
    "data_keys": "data_key.json",
    "api_tokens": "api_tokens.json",
    "exports": "exports.json",
    "runs": "runs.csv",
    "deliveries": "deliveries.csv",
}
"""Those whose rows are exported as they are, and a file that says which columns."""


async def _held(transaction: Transaction, table: str, columns: Sequence[str]) -> Held:
    held, skip = Held(), 0
    while True:
        rows = await transaction.rows(table, limit=_PAGE, skip=skip)
        held.add([{name: _plain(row[name]) for name in columns} for row in rows])
        if len(rows) < _PAGE:
            return held
        skip += _PAGE


async def _settings(transaction: Transaction, chosen: object) -> Row:
    stored = await transaction.settings()
    return {
        "document": chosen,
        "legal_hold": stored is not None and stored.legal_hold,
        "changed_by": None if stored is None else stored.changed_by,
        "changed_at": None if stored is None else _plain(stored.changed_at),
    }


def _plain(value: object) -> object:
    """As JSON says it."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return str(value) if isinstance(value, Decimal | UUID) else value


# --- how it is written -----------------------------------------------------------------------------------------------


async def archive(contents: Contents, made: Made) -> AsyncIterator[bytes]:
    """The ZIP in pieces; `made` knows it once the last one was given."""
    into = Archive(contents.snapshot.at)
    for file in _files(contents):
        async for piece in into.add(file):
            made.take(piece)
            yield piece
    made.files = [
        {
            "name": one.name,
            "what": document(one.name).what,
            "sha256": one.sha256,
            "bytes": one.bytes,
            "rows": one.rows,
        }
        for one in into.packed
    ]
    async for piece in into.add(Counted(MANIFEST, _texts(_manifest(contents, made)))):
        made.take(piece)
        yield piece
    end = into.end()
    made.take(end)
    yield end


def _manifest(contents: Contents, made: Made) -> str:
    return _json(
        {
            "format": FORMAT,
            "installation_id": contents.snapshot.installation_id,
            "export_id": str(contents.export_id),
            "made_at": _plain(contents.snapshot.at),
            "log_head": contents.head,
            "files": made.files,
            "left_out": [{"what": what, "why": why} for what, why in LEFT_OUT.items()],
        }
    )


def _files(contents: Contents) -> Iterator[Counted]:
    """In the order of `FILES`; each is made when it is its turn, since the usage is known behind the log."""
    snapshot, usage = contents.snapshot, Usage()
    tables = {
        name: list(held) for name, held in snapshot.tables.items() if name not in ("runs", "deliveries")
    }
    for row in snapshot.tables["runs"]:
        usage.run(row)

    async def watched() -> AsyncIterator[Row]:
        async for row in contents.entries():
            usage.entry(row)
            yield row

    whole: Mapping[str, Callable[[], object]] = {
        "installation.json": lambda: next(iter(tables["installations"]), {}),
        "settings.json": lambda: snapshot.settings,
        "retention.json": lambda: snapshot.retention,
        "data_key.json": lambda: next(iter(tables["data_keys"]), {"master_key_id": None}),
        "provider_keys.json": lambda: snapshot.provider_keys,
        "api_tokens.json": lambda: tables["api_tokens"],
        "hooks.json": lambda: snapshot.hooks,
        "exports.json": lambda: tables["exports"],
        "vectors.json": lambda: contents.vectors,
    }
    listed: Mapping[str, Rows] = {
        "runs.csv": lambda: _each(snapshot.tables["runs"]),
        "runs.jsonl": lambda: _each(snapshot.tables["runs"]),
        "deliveries.csv": lambda: _each(snapshot.tables["deliveries"]),
        "actions.jsonl": watched,
        "actions.csv": contents.entries,
        "usage.csv": lambda: _each(usage.rows()),
    }
    for one in FILES:
        if one.name == README:
            text = readme(snapshot.installation_id, snapshot.at, contents.head)
            yield Counted(README, _texts(text))
        elif one.name in whole:
            value = whole[one.name]()
            count = len(value) if isinstance(value, list | tuple) else None
            yield Counted(one.name, _texts(_json(value)), lambda count=count: count)  # type: ignore[misc]
        else:
            yield _listed(one.name, list(one.columns), listed[one.name]())


def _listed(name: str, columns: Sequence[str], rows: AsyncIterator[Row]) -> Counted:
    count = 0

    async def counted() -> AsyncIterator[Row]:
        nonlocal count
        async for row in rows:
            count += 1
            yield row

    text = _table(columns, counted()) if name.endswith(".csv") else _lines(counted())
    return Counted(name, text, lambda: count)


async def _lines(rows: AsyncIterator[Row]) -> AsyncIterator[str]:
    async for row in rows:
        yield json.dumps(row, ensure_ascii=True, separators=(",", ":")) + "\n"


async def _table(columns: Sequence[str], rows: AsyncIterator[Row]) -> AsyncIterator[str]:
    """As RFC 4180 says, https://www.rfc-editor.org/rfc/rfc4180, with nothing in it that a spreadsheet would run."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(columns)
    async for row in rows:
        yield _taken(out)
        writer.writerow([_cell(row[name]) for name in columns])
    yield _taken(out)


def _taken(out: io.StringIO) -> str:
    text = out.getvalue()
    out.seek(0)
    out.truncate()
    return text


def _cell(value: object) -> str:
    if isinstance(value, Mapping):
        return json.dumps(value, sort_keys=True)
    text = "" if value is None else str(value)
    return f"'{text}" if text.startswith(_FORMULAS) else text


def _json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=True) + "\n"


async def _texts(*texts: str) -> AsyncIterator[str]:
    for text in texts:
        yield text


async def _each(rows: Iterable[Row]) -> AsyncIterator[Row]:
    for row in rows:
        yield row
