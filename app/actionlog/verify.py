"""Finds what was edited, dropped, reordered, inserted or cut off in an exported log; needs no database and no service.

What it can know: the entries fit each other, or they do not, and where. A whole chain written anew fits itself; that,
and entries cut off at the end, show only against heads kept elsewhere (each pull request and status comment quotes one).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.actionlog.entry import UnwritableFactsError, details_hash, entry_hash, genesis
from app.errors import UserError

_QUOTED = re.compile(r"[0-9a-fA-F]{8,64}")

Hash = Annotated[str, Field(pattern=r"\A[0-9a-f]{64}\z")]


class UnreadableLogError(UserError):
    """This is not an action log as `magicode actions export` writes it in JSON or JSON lines."""


class ExportedEntry(BaseModel):
    """One entry as exported. `details` and `salt` are None once the installation's key was destroyed."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    installation_id: int
    seq: int
    at: str
    actor: str
    action: str
    run_id: str | None
    details: dict[str, str | int | float | bool | None] | None
    salt: Annotated[str, Field(pattern=r"\A(?:[0-9a-f]{2})*\z")] | None
    details_hash: Hash
    previous_hash: Hash
    hash: Hash


@dataclass(frozen=True, slots=True)
class Anchor:
    """A head that was quoted somewhere: the entry `seq` had this hash, or its first digits (at least eight).

    Where the number was not quoted `seq` is None: then some entry must have the hash.
    """

    seq: int | None
    hash: str

    def __post_init__(self) -> None:
        """Raises ValueError for a hash too short to mean anything, or what is none."""
        if not _QUOTED.fullmatch(self.hash):
            raise ValueError("an anchor needs eight to sixty-four hexadecimal digits of the hash")

    @classmethod
    def parse(cls, text: str) -> Anchor:
        """`SEQ:HASH` or `HASH`, as a person copies it from a comment. Raises ValueError."""
        seq, colon, digits = text.strip().rpartition(":")
        return cls(int(seq) if colon else None, digits.strip())


class Kind(StrEnum):
    EDITED = "edited"
    DROPPED = "dropped"
    INSERTED = "inserted"
    REORDERED = "reordered"
    TRUNCATED = "truncated"
    REWRITTEN = "rewritten"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that does not fit. `position` counts the entries of the file from 1; `seq` is what the entry calls itself."""

    kind: Kind
    position: int
    seq: int
    message: str


@dataclass(frozen=True, slots=True)
class Report:
    """`head` is the last entry's hash, to be compared with a quoted one; `closed` counts entries without details."""

    entries: int
    installation_id: int | None
    head_seq: int
    head: str | None
    closed: int
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        return not self.findings


def parse(text: str) -> tuple[ExportedEntry, ...]:
    """Entries of a JSON document (`{"entries": […]}` or a list) or of JSON lines. Raises UnreadableLogError."""
    try:
        return tuple(ExportedEntry.model_validate(item) for item in _items(text))
    except (ValueError, RecursionError, ValidationError):
        raise UnreadableLogError from None


def verify(entries: Sequence[ExportedEntry], anchors: Sequence[Anchor] = ()) -> Report:
    """Compare each entry with its own hash, with its neighbours and with the anchors."""
    findings = [
        *_own_hashes(entries),
        *_order(entries),
        *_anchored(entries, anchors),
    ]
    findings.sort(key=lambda finding: (finding.position, finding.kind))
    last = entries[-1] if entries else None
    return Report(
        entries=len(entries),
        installation_id=last.installation_id if last else None,
        head_seq=last.seq if last else 0,
        head=last.hash if last else None,
        closed=sum(entry.details is None for entry in entries),
        findings=tuple(findings),
    )


def verify_text(text: str, anchors: Sequence[Anchor] = ()) -> Report:
    """Parse and verify. Raises UnreadableLogError."""
    return verify(parse(text), anchors)


def _items(text: str) -> Iterator[object]:
    stripped = text.lstrip()
    if stripped.startswith("["):
        yield from _load(text)
        return
    try:
        whole = _load(text)
    except json.JSONDecodeError:
        whole = None
    if isinstance(whole, Mapping) and isinstance(whole.get("entries"), list):
        yield from whole["entries"]
        return
    for line in text.splitlines():
        if line.strip():
            yield _load(line)


def _load(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_object)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Raises UnreadableLogError for a key given twice, of which a reader might see another one than a program does."""
    made = dict(pairs)
    if len(made) != len(pairs):
        raise UnreadableLogError
    return made


def _own_hashes(entries: Sequence[ExportedEntry]) -> Iterator[Finding]:
    for position, entry in enumerate(entries, 1):
        try:
            own, details = entry.hash == _hash(entry), _details_fit(entry)
        except UnwritableFactsError:
            own, details = False, False  # no such text or number was ever written
        if not own:
            yield Finding(
                Kind.EDITED, position, entry.seq, "What the entry says is not what its hash was made from."
            )
        elif not details:
            yield Finding(
                Kind.EDITED, position, entry.seq, "The details are not those that the entry was made with."
            )
        if entry.installation_id != entries[0].installation_id:
            yield Finding(Kind.INSERTED, position, entry.seq, "The entry is of another installation.")


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


def _order(entries: Sequence[ExportedEntry]) -> Iterator[Finding]:
    """Each entry against the one before it in the file; the first against the chain's beginning."""
    present = {entry.seq for entry in entries}
    seen: set[int] = set()
    expected, previous_hash = 1, genesis(entries[0].installation_id) if entries else ""
    for position, entry in enumerate(entries, 1):
        if entry.seq in seen:
            yield Finding(
                Kind.INSERTED, position, entry.seq, f"There is another entry with number {entry.seq}."
            )
            continue
        seen.add(entry.seq)
        if entry.seq != expected:
            yield from _gap(position, entry.seq, expected, present)
        elif entry.previous_hash != previous_hash:
            before = f"entry {entry.seq - 1}" if entry.seq > 1 else "the beginning of the chain"
            yield Finding(
                Kind.EDITED, position, entry.seq, f"It does not follow {before}: one of the two was replaced."
            )
        expected, previous_hash = entry.seq + 1, entry.hash


def _gap(position: int, seq: int, expected: int, present: set[int]) -> Iterator[Finding]:
    missing = [
        number for number in range(expected, min(seq, expected + len(present) + 1)) if number not in present
    ]
    if seq > expected and missing:
        span = f"entry {expected}" if seq == expected + 1 else f"entries {expected} to {seq - 1}"
        yield Finding(Kind.DROPPED, position, seq, f"Missing before it: {span}.")
    else:
        yield Finding(Kind.REORDERED, position, seq, f"It stands where entry {expected} belongs.")


def _anchored(entries: Sequence[ExportedEntry], anchors: Sequence[Anchor]) -> Iterator[Finding]:
    by_seq = {entry.seq: (position, entry) for position, entry in reversed(list(enumerate(entries, 1)))}
    highest = max(by_seq, default=0)
    for anchor in anchors:
        quoted = anchor.hash.lower()
        if anchor.seq is None:
            yield from _quoted_without_number(entries, quoted)
            continue
        found = by_seq.get(anchor.seq)
        if found is not None and not found[1].hash.startswith(quoted):
            yield Finding(Kind.REWRITTEN, found[0], anchor.seq, "Its hash was once quoted as another one.")
        elif found is None and anchor.seq > highest:
            message = f"A head with number {anchor.seq} was once quoted; the log ends at {highest}."
            yield Finding(Kind.TRUNCATED, len(entries), anchor.seq, message)


def _quoted_without_number(entries: Sequence[ExportedEntry], quoted: str) -> Iterator[Finding]:
    """Genesis is the head of a chain that was still empty: every chain begins with it."""
    if any(entry.hash.startswith(quoted) for entry in entries):
        return
    if entries and genesis(entries[0].installation_id).startswith(quoted):
        return
    message = (
        f"No entry has the quoted hash {quoted[:12]}: entries are cut off, or the chain was written anew."
    )
    yield Finding(Kind.TRUNCATED, len(entries), entries[-1].seq if entries else 0, message)
