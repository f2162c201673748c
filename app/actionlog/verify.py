"""Finds what was edited, dropped, reordered, inserted or cut off in an exported log; needs no database and no service.

What it can know: the entries fit each other, or they do not, and where. A whole chain written anew fits itself; that,
and entries cut off at the end, show only against heads kept elsewhere (each pull request and status comment quotes one).
A log that was exported in part is checked entry by entry; what is missing from it cannot be judged.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from typing import TextIO

from app.actionlog.anchors import Anchor
from app.actionlog.chain import Chain, Finding, Kind, Link, Report
from app.actionlog.entry import UnwritableFactsError, details_hash, entry_hash
from app.actionlog.exported import ExportedEntry, Header, Log, UnreadableLogError
from app.nouns import Action

__all__ = [
    "Anchor",
    "ExportedEntry",
    "Finding",
    "Kind",
    "Report",
    "UnreadableLogError",
    "check",
    "parse",
    "told",
    "verify",
    "verify_links",
    "verify_stream",
    "verify_text",
]

_CHANGED = "What the entry says is not what its hash was made from."
_OTHER_DETAILS = "The details are not those that the entry was made with."


def check(entry: ExportedEntry) -> Link:
    """An entry by itself: whether it is what its hash was made from, and what its neighbours must know of it."""
    try:
        made, fits = _hash(entry), _details_fit(entry)
    except UnwritableFactsError:
        made, fits = "", False  # no such text or number was ever written
    wrong = _CHANGED if made != entry.hash else "" if fits else _OTHER_DETAILS
    is_pruning = entry.action == Action.RETENTION_APPLIED.value and not wrong
    return Link(
        installation_id=entry.installation_id,
        seq=entry.seq,
        hash=entry.hash,
        previous_hash=entry.previous_hash,
        made=made,
        wrong=wrong,
        closed=entry.details is None,
        attests=_attested(entry) if is_pruning else None,
        may_attest=is_pruning and entry.details is None,
    )


def verify(entries: Iterable[ExportedEntry], anchors: Sequence[Anchor] = (), *, whole: bool = True) -> Report:
    """Compare each entry with its own hash, with its neighbours and with the anchors."""
    return verify_links((check(entry) for entry in entries), anchors, Header(whole=whole))


def verify_links(
    links: Iterable[Link], anchors: Sequence[Anchor] = (), header: Header | None = None
) -> Report:
    """What `verify` does with entries that were checked by themselves already. The header is looked at when all were read."""
    chain = Chain(anchors)
    for link in links:
        chain.take(link)
    told = header or Header()
    return chain.report(whole=told.whole, header_installation=told.installation_id)


def verify_stream(stream: TextIO, anchors: Sequence[Anchor] = ()) -> Report:
    """Read an export, opened with `newline=""`, and verify it; holds one entry at a time. Raises UnreadableLogError."""
    log = Log(stream)
    try:
        return verify_links((check(entry) for entry in log), anchors, log.header)
    except UnicodeDecodeError:
        raise UnreadableLogError from None


def verify_text(text: str, anchors: Sequence[Anchor] = ()) -> Report:
    """Parse and verify. Raises UnreadableLogError."""
    return verify_stream(io.StringIO(text, newline=""), anchors)


def parse(text: str) -> tuple[ExportedEntry, ...]:
    """The entries of an export. Raises UnreadableLogError."""
    return tuple(Log(io.StringIO(text, newline="")))


def told(report: Report) -> Iterator[str]:
    """A report for people, line by line."""
    for finding in report.findings:
        yield f"entry {finding.position} (seq {finding.seq}): {finding.kind.value}: {finding.message}"
    if report.more_findings:
        yield f"… and {report.more_findings} more findings."
    if report.pruned_to:
        yield f"The entries up to {report.pruned_to} were removed by retention, as a later entry attests."
    if not report.whole:
        yield "This is a part of a log: whether entries are missing from it cannot be judged."
    if report.anchors or report.anchors_apart:
        apart = f"; {report.anchors_apart} speak of entries that are not here" if report.anchors_apart else ""
        yield f"Compared with {report.anchors} quoted heads{apart}."
    if report.anchors_of_others:
        yield f"{report.anchors_of_others} quoted heads are of another installation's log."
    if report.whole and not report.anchors:
        yield "Without a quoted head, nobody can tell whether it was cut off at its end or written anew as a whole."
    sound = "sound" if report.ok else "NOT sound"
    yield f"{report.entries} entries, head {report.head or 'none'}: {sound}"


def _hash(entry: ExportedEntry) -> str:
    return entry_hash(
        installation_id=entry.installation_id,
        seq=entry.seq,
        at=entry.at,
        actor=entry.actor,
        action=entry.action,
        run_id=entry.run_id,
        details_hash=entry.details_hash,
        previous_hash=entry.previous_hash,
    )


def _details_fit(entry: ExportedEntry) -> bool:
    if entry.details is None and entry.salt is None:
        return True
    if entry.details is None or entry.salt is None:
        return False
    return details_hash(bytes.fromhex(entry.salt), entry.details) == entry.details_hash


def _attested(entry: ExportedEntry) -> tuple[int, str] | None:
    """What an entry about retention says was removed: up to which number, and the hash of the last one."""
    details = entry.details or {}
    seq, hashed = details.get("up_to_seq"), details.get("up_to_hash")
    if type(seq) is not int or not isinstance(hashed, str) or not 0 < seq < entry.seq:
        return None
    return seq, hashed
