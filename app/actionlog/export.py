"""Hands an installation its log: details opened, salts beside them, so that the reader can verify every hash alone."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import replace
from enum import StrEnum
from typing import Final
from uuid import UUID

from app.actionlog.entry import DETAILS_PURPOSE, SALT_PURPOSE, place, timestamp
from app.actionlog.exported import COLUMNS, FORMAT, FORMULAS, PART, ExportedEntry
from app.actionlog.filters import Filter
from app.errors import DefectError, TransientError
from app.nouns import Entry
from app.ports import Keys, Store, Transaction

PAGE = 500
"""Entries read in one transaction."""
WHOLE: Final = Filter()
"""All of the log."""


Details = dict[str, str | int | float | bool | None]


class PrunedMeanwhileError(TransientError):
    """Retention removed the beginning of the log while it was being read; export it again."""


class Format(StrEnum):
    """JSON: one document. JSON lines: an entry a line. CSV: for a spreadsheet. Text: for reading; it cannot be verified."""

    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"
    TEXT = "text"


async def opened(
    store: Store,
    keys: Keys,
    installation_id: int,
    *,
    only: Filter = WHOLE,
    run_id: UUID | None = None,
    after_seq: int = 0,
) -> AsyncIterator[ExportedEntry]:
    """The entries, oldest first, a page at a time; those after `after_seq`, or that `only` asks for (no whole chain then).

    `run_id` is short for a filter by run. Raises PrunedMeanwhileError.
    """
    asked = only if run_id is None else replace(only, run_id=run_id)
    after = after_seq
    while True:
        async with store.transaction(installation_id) as transaction:
            page = await transaction.entries(
                after_seq=after,
                run_id=asked.run_id,
                limit=PAGE,
                since=asked.since,
                until=asked.until,
                actions=asked.kinds,
                actor=asked.actor,
                repository_id=asked.repository_id,
            )
            if asked.whole and after > after_seq and page and page[0][0].seq != after + 1:
                raise PrunedMeanwhileError
            # Behind the page: the first entry's commit brings the key with it, and would fall between the two.
            key = await keys.existing_key(transaction)
            opens = None if key is None else _Opens(keys, key)
            entries = [_open(opens, entry, salt) for entry, salt in page]
            if asked.repository_id is not None:
                entries = await _about(transaction, asked.repository_id, entries)
        for entry in entries:
            yield entry
        if len(page) < PAGE:
            return
        after = page[-1][0].seq


async def _about(
    transaction: Transaction, repository_id: int, entries: Sequence[ExportedEntry]
) -> list[ExportedEntry]:
    """Those about this repository; the store has left out what runs of others did."""
    known: dict[str | None, bool] = {None: False}
    about = []
    for entry in entries:
        named = (entry.details or {}).get("repository")
        if named is None and entry.run_id not in known:
            known[entry.run_id] = await transaction.run(UUID(entry.run_id)) is not None
        if named == repository_id or (named is None and known[entry.run_id]):
            about.append(entry)
    return about


async def export(
    store: Store,
    keys: Keys,
    installation_id: int,
    form: Format,
    *,
    only: Filter = WHOLE,
    run_id: UUID | None = None,
) -> AsyncIterator[str]:
    """The log as text in pieces, in one of four formats; never holds more than a page of it.

    A part says that it is one: a document by `"whole":false`, JSON lines by a first line that is no entry, CSV by the name
    of a last, empty column, text by a first line.
    """
    asked = only if run_id is None else replace(only, run_id=run_id)
    entries = opened(store, keys, installation_id, only=asked)
    async for piece in _WRITES[form](entries, installation_id, asked):
        yield piece


class _Opens:
    """An installation's key, with what is derived from it derived once."""

    def __init__(self, keys: Keys, key: bytes) -> None:
        self._keys = keys
        self._details = keys.derive(key, DETAILS_PURPOSE)
        self._salt = keys.derive(key, SALT_PURPOSE)

    def __call__(self, entry: Entry, sealed_salt: bytes) -> tuple[Details, str]:
        """The details and their salt. Raises DefectError."""
        bound = place(entry.installation_id, entry.seq)
        details = json.loads(self._keys.open(self._details, entry.sealed, bound))
        return details, self._keys.open(self._salt, sealed_salt, bound).hex()


def _open(opens: _Opens | None, entry: Entry, sealed_salt: bytes) -> ExportedEntry:
    """Details that cannot be opened, because the key was destroyed, are None; their hash stays."""
    details: Details | None = None
    salt: str | None = None
    if opens is not None:
        with suppress(DefectError):
            details, salt = opens(entry, sealed_salt)
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


def _header(installation_id: int, only: Filter) -> str:
    header = {
        "format": FORMAT,
        "installation_id": installation_id,
        "whole": only.whole,
        "filter": None if only.whole else only.document(),
    }
    return json.dumps(header, separators=(",", ":"))


async def _json(
    entries: AsyncIterator[ExportedEntry], installation_id: int, only: Filter
) -> AsyncIterator[str]:
    yield f'{_header(installation_id, only)[:-1]},"entries":['
    separator = "\n"
    async for entry in entries:
        yield separator + _line(entry)
        separator = ",\n"
    yield "\n]}\n"


async def _json_lines(
    entries: AsyncIterator[ExportedEntry], installation_id: int, only: Filter
) -> AsyncIterator[str]:
    if not only.whole:
        yield f"{_header(installation_id, only)}\n"
    async for entry in entries:
        yield f"{_line(entry)}\n"


async def _csv(
    entries: AsyncIterator[ExportedEntry], _installation_id: int, only: Filter
) -> AsyncIterator[str]:
    part = [] if only.whole else [PART + json.dumps(only.document())]
    empty = [""] * len(part)
    yield _csv_row([*COLUMNS, *part])
    async for entry in entries:
        values = entry.model_dump()
        values["details"] = None if entry.details is None else json.dumps(entry.details, sort_keys=True)
        yield _csv_row([*(_cell(values[name]) for name in COLUMNS), *empty])


def _csv_row(cells: list[str]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\r\n").writerow(cells)
    return out.getvalue()


def _cell(value: object) -> str:
    text = "" if value is None else str(value)
    return f"'{text}" if text.startswith(FORMULAS) else text


async def _text(
    entries: AsyncIterator[ExportedEntry], installation_id: int, only: Filter
) -> AsyncIterator[str]:
    if not only.whole:
        asked = " ".join(f"{name}={_plain(value)}" for name, value in only.document().items())
        yield f"# A part of the action log of installation {installation_id}: {asked}\n"
    async for entry in entries:
        if entry.details is None:
            said = "(details cannot be opened)"
        else:
            said = " ".join(f"{name}={_plain(value)}" for name, value in sorted(entry.details.items()))
        run = entry.run_id[:8] if entry.run_id else "-"
        yield f"{entry.seq:>6}  {entry.at}  {run:<8}  {_plain(entry.action):<22}  {_plain(entry.actor):<20}  {said}  #{entry.hash[:12]}\n"


def _plain(value: object) -> str:
    """One line, with no character that a terminal would obey."""
    text = json.dumps(value, ensure_ascii=True)
    return text[1:-1] if isinstance(value, str) and " " not in value and value else text


_WRITES: Final = {Format.JSON: _json, Format.JSONL: _json_lines, Format.CSV: _csv, Format.TEXT: _text}
