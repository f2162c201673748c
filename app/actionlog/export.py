"""Hands an installation its log: details opened, salts beside them, so that the reader can verify every hash alone."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterator
from enum import StrEnum
from uuid import UUID

from app.actionlog.entry import DETAILS_PURPOSE, SALT_PURPOSE, place, timestamp
from app.actionlog.verify import ExportedEntry
from app.errors import DefectError
from app.nouns import Entry
from app.ports import Keys, Store

PAGE = 500
"""Entries read in one transaction."""


class Format(StrEnum):
    """JSON: one document. JSON lines: an entry a line. CSV: for a spreadsheet. Text: for reading; it cannot be verified."""

    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"
    TEXT = "text"


async def opened(
    store: Store, keys: Keys, installation_id: int, *, run_id: UUID | None = None, after_seq: int = 0
) -> AsyncIterator[ExportedEntry]:
    """The entries, oldest first, a page at a time; those after `after_seq`, or of one run (such a part is no whole chain)."""
    after = after_seq
    while True:
        async with store.transaction(installation_id) as transaction:
            key = await keys.existing_key(transaction)
            page = await transaction.entries(after_seq=after, run_id=run_id, limit=PAGE)
        for entry, salt in page:
            yield _open(keys, key, entry, salt)
        if len(page) < PAGE:
            return
        after = page[-1][0].seq


async def export(
    store: Store, keys: Keys, installation_id: int, form: Format, *, run_id: UUID | None = None
) -> AsyncIterator[str]:
    """The log as text in pieces, in one of four formats; never holds more than a page of it."""
    entries = opened(store, keys, installation_id, run_id=run_id)
    match form:
        case Format.JSON:
            pieces = _json(entries, installation_id)
        case Format.JSONL:
            pieces = _json_lines(entries)
        case Format.CSV:
            pieces = _csv(entries)
        case Format.TEXT:
            pieces = _text(entries)
    async for piece in pieces:
        yield piece


def _open(keys: Keys, key: bytes | None, entry: Entry, sealed_salt: bytes) -> ExportedEntry:
    """Details that cannot be opened, because the key was destroyed, are None; their hash stays."""
    details: dict[str, str | int | float | bool | None] | None = None
    salt: str | None = None
    if key is not None:
        bound = place(entry.installation_id, entry.seq)
        try:
            details = json.loads(keys.open(keys.derive(key, DETAILS_PURPOSE), entry.sealed, bound))
            salt = keys.open(keys.derive(key, SALT_PURPOSE), sealed_salt, bound).hex()
        except DefectError:
            details, salt = None, None
    return ExportedEntry(
        installation_id=entry.installation_id,
        seq=entry.seq,
        at=timestamp(entry.at),
        actor=entry.actor,
        action=entry.action,
        run_id=None if entry.run_id is None else str(entry.run_id),
        details=details,
        salt=salt,
        details_hash=entry.details_hash,
        previous_hash=entry.previous_hash,
        hash=entry.hash,
    )


def _line(entry: ExportedEntry) -> str:
    return json.dumps(entry.model_dump(), ensure_ascii=True, separators=(",", ":"))


async def _json(entries: AsyncIterator[ExportedEntry], installation_id: int) -> AsyncIterator[str]:
    yield f'{{"format":"magicode-actions/1","installation_id":{installation_id},"entries":['
    separator = "\n"
    async for entry in entries:
        yield separator + _line(entry)
        separator = ",\n"
    yield "\n]}\n"


async def _json_lines(entries: AsyncIterator[ExportedEntry]) -> AsyncIterator[str]:
    async for entry in entries:
        yield _line(entry) + "\n"


async def _csv(entries: AsyncIterator[ExportedEntry]) -> AsyncIterator[str]:
    names = list(ExportedEntry.model_fields)
    yield _csv_row(names)
    async for entry in entries:
        values = entry.model_dump()
        values["details"] = "" if entry.details is None else json.dumps(entry.details, sort_keys=True)
        yield _csv_row([_cell(values[name]) for name in names])


def _csv_row(cells: list[str]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\r\n").writerow(cells)
    return out.getvalue()


def _cell(value: object) -> str:
    """A spreadsheet would run a cell that begins like a formula."""
    text = "" if value is None else str(value)
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


async def _text(entries: AsyncIterator[ExportedEntry]) -> AsyncIterator[str]:
    async for entry in entries:
        if entry.details is None:
            said = "(details cannot be opened)"
        else:
            said = " ".join(f"{name}={_plain(value)}" for name, value in sorted(entry.details.items()))
        run = entry.run_id[:8] if entry.run_id else "-"
        yield f"{entry.seq:>6}  {entry.at}  {run:<8}  {entry.action:<22}  {entry.actor:<20}  {said}  #{entry.hash[:12]}\n"


def _plain(value: object) -> str:
    """One line, with no character that a terminal would obey."""
    text = json.dumps(value, ensure_ascii=True)
    return text[1:-1] if isinstance(value, str) and " " not in value and value else text
