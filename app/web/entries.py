"""The action log as it is looked at: which entries, a page of them at a time, and the chain recomputed before one's eyes."""

from __future__ import annotations

import io
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from starlette.datastructures import QueryParams

from app.actionlog.anchors import Anchor
from app.actionlog.chain import Chain, Report
from app.actionlog.export import Format, export, opened
from app.actionlog.exported import ExportedEntry
from app.actionlog.filters import Filter, read_filter
from app.actionlog.ledger import Head
from app.actionlog.verify import check
from app.errors import UserError
from app.house import House
from app.web.names import LARGEST_ID

PAGE = 100
PIECE = 64 * 1024
TOLD_EVERY = 5_000
"""Entries between two words of progress while the chain is recomputed."""

TYPES: Mapping[Format, str] = {
    Format.JSON: "application/json",
    Format.JSONL: "application/x-ndjson",
    Format.CSV: "text/csv; charset=utf-8",
    Format.TEXT: "text/plain; charset=utf-8",
}

FILTERS = ("since", "until", "repository", "run", "kind", "actor")

_NUMBER = re.compile(r"[0-9]{1,18}", re.ASCII)


class UnreadableQuestionError(UserError):
    """Something in what was asked of the log cannot be read: a number, an id, or a head, which is `SEQ:HASH`."""


@dataclass(frozen=True, slots=True)
class Asked:
    """`only` is what the log was asked for, and `typed` how it was typed, to be shown in the form again."""

    only: Filter
    typed: Mapping[str, str]

    def query(self, **more: object) -> str:
        """The same question in an address, with more."""
        given = {name: value for name, value in self.typed.items() if value}
        return urlencode(given | {name: str(value) for name, value in more.items()})


@dataclass(frozen=True, slots=True)
class Shown:
    """A page of entries. `older` and `newer` are numbers to go on from, None where there is nothing more."""

    entries: Sequence[ExportedEntry]
    older: int | None
    newer: int | None
    oldest_first: bool


async def read_question(house: House, tenant: int, given: QueryParams) -> Asked:
    """A filter from an address. A repository is an id, or the name that GitHub knows it by now.

    Raises UnreadableQuestionError, UnreadableFilterError and UnknownKindError.
    """
    typed = typed_in(given)
    repository = typed["repository"]
    only = read_filter(
        since=typed["since"] or None,
        until=typed["until"] or None,
        repository_id=await _repository(house, tenant, repository) if repository else None,
        run_id=read_run(typed["run"]),
        kinds=[typed["kind"]] if typed["kind"] else (),
        actor=typed["actor"] or None,
    )
    return Asked(only, typed)


def typed_in(given: QueryParams) -> Mapping[str, str]:
    """What was typed into the form of the filter."""
    return {name: given.get(name, "").strip()[:200] for name in FILTERS}


def read_run(text: str | None) -> UUID | None:
    """Raises UnreadableQuestionError."""
    try:
        return UUID(text.strip()) if text and text.strip() else None
    except ValueError:
        raise UnreadableQuestionError(reason="run_unreadable") from None


def read_number(text: str | None) -> int | None:
    """Raises UnreadableQuestionError."""
    if not text:
        return None
    if _NUMBER.fullmatch(text.strip()) is None:
        raise UnreadableQuestionError(reason="number_unreadable")
    return min(int(text), LARGEST_ID)


def read_anchors(text: str) -> Sequence[Anchor]:
    """Quoted heads, with spaces or lines between them. Raises UnreadableQuestionError."""
    try:
        return [Anchor.parse(one) for one in text.split()]
    except ValueError:
        raise UnreadableQuestionError(reason="head_unreadable") from None


async def _repository(house: House, tenant: int, named: str) -> int:
    if (number := read_number(named) if "/" not in named else None) is not None:
        return number
    for one in await house.github.repositories(tenant):
        if one.full_name.casefold() == named.casefold():
            return one.id
    raise UnreadableQuestionError(
        "The App is not installed on a repository of this name; say its id for one that is gone.",
        reason="repository_unknown",
    )


async def page(house: House, tenant: int, only: Filter, *, after: int | None, before: int | None) -> Shown:
    """Of the whole log the newest entries first; of a part the oldest first, going on `after` an entry's number."""
    if not only.whole:
        found, more = await some(house, tenant, only, after or 0, PAGE)
        return Shown(found, None, found[-1].seq if more else None, oldest_first=True)
    head = await house.ledger.head(tenant)
    last = head.seq if before is None else min(before - 1, head.seq)
    found, _ = await some(house, tenant, only, max(last - PAGE, 0), min(PAGE, max(last, 0)))
    found = [one for one in found if one.seq <= last]
    first = found[0].seq if found else 0
    older = first if first > 1 and await _any_before(house, tenant, first) else None
    newer = min(last + PAGE, head.seq) + 1 if last < head.seq else None
    return Shown(found[::-1], older, newer, oldest_first=False)


async def some(
    house: House, tenant: int, only: Filter, after: int, limit: int
) -> tuple[list[ExportedEntry], bool]:
    """At most so many, oldest first, and whether there are more."""
    found: list[ExportedEntry] = []
    if limit < 1:
        return found, False
    async for entry in opened(house.store, house.keys, tenant, only=only, after_seq=after):
        if len(found) == limit:
            return found, True
        found.append(entry)
    return found, False


async def _any_before(house: House, tenant: int, seq: int) -> bool:
    async with house.store.transaction(tenant) as transaction:
        found = await transaction.entries(limit=1)
    return bool(found) and found[0][0].seq < seq


async def text(house: House, tenant: int, form: Format, only: Filter) -> AsyncIterator[bytes]:
    """What is downloaded, in pieces of some size: each one costs a turn through the server."""
    held = io.BytesIO()
    async for piece in export(house.store, house.keys, tenant, form, only=only):
        held.write(piece.encode())
        if held.tell() >= PIECE:
            yield held.getvalue()
            held = io.BytesIO()
    yield held.getvalue()


async def verified(house: House, tenant: int, anchors: Sequence[Anchor]) -> AsyncIterator[int | Report]:
    """Recomputes the whole chain: how many entries have been looked at, now and then, and the report in the end.

    Raises PrunedMeanwhileError.
    """
    chain = Chain(anchors)
    count = 0
    async for entry in opened(house.store, house.keys, tenant):
        chain.take(check(entry))
        count += 1
        if count % TOLD_EVERY == 0:
            yield count
    yield chain.report(whole=True, header_installation=tenant)


def document(report: Report) -> dict[str, Any]:
    """A report in values of JSON."""
    return {
        "ok": report.ok,
        "entries": report.entries,
        "head": str(Head(report.head_seq, report.head, report.installation_id or 0)) if report.head else None,
        "closed": report.closed,
        "pruned_to": report.pruned_to,
        "quoted_heads": report.anchors,
        "findings": [
            {"kind": one.kind.value, "position": one.position, "seq": one.seq, "message": one.message}
            for one in report.findings
        ],
        "more_findings": report.more_findings,
    }
