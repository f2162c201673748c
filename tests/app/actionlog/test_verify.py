"""What the verifier reads, and what it can and cannot know."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.actionlog.chain import KEPT
from app.actionlog.entry import canonical, details_hash, entry_hash, genesis, timestamp
from app.actionlog.verify import (
    Anchor,
    ExportedEntry,
    Kind,
    Report,
    UnreadableLogError,
    parse,
    told,
    verify,
    verify_text,
)

SIZE = 120
START = datetime(2026, 11, 20, tzinfo=UTC)


def made(seq: int, previous_hash: str, *, installation_id: int = 1, **details: Any) -> ExportedEntry:
    salt = hashlib.sha256(f"salt {installation_id} {seq} {details}".encode()).digest()
    clear: dict[str, Any] = {
        "installation_id": installation_id,
        "seq": seq,
        "at": timestamp(START + timedelta(seconds=seq)),
        "actor": "ada",
        "action": "model.called",
        "run_id": "6b7c9a8e-0000-4000-8000-000000000001" if seq % 3 else None,
        "details_hash": details_hash(salt, details),
        "previous_hash": previous_hash,
    }
    return ExportedEntry(**clear, details=details, salt=salt.hex(), hash=entry_hash(**clear))


def chain(size: int = SIZE, **details: Any) -> list[ExportedEntry]:
    entries: list[ExportedEntry] = []
    for seq in range(1, size + 1):
        entries.append(made(seq, entries[-1].hash if entries else genesis(1), n=seq, **details))
    return entries


LOG = chain()
HEAD = Anchor(SIZE, LOG[-1].hash)


def found(report: Report) -> set[tuple[Kind, int]]:
    return {(finding.kind, finding.position) for finding in report.findings}


def test_an_untouched_log_has_nothing_to_find() -> None:
    report = verify(LOG, [HEAD, Anchor(1, LOG[0].hash), Anchor(77, LOG[76].hash[:12].upper())])
    assert report.ok
    assert (report.entries, report.head_seq, report.head) == (SIZE, SIZE, LOG[-1].hash)
    assert verify([]).ok


@given(st.permutations(range(8)))
@settings(deadline=None)
def test_any_other_order_is_found(order: list[int]) -> None:
    assert verify([LOG[i] for i in order]).ok == (order == sorted(order))


@given(st.sets(st.integers(0, 19)))
@settings(deadline=None)
def test_any_part_that_is_no_beginning_is_found(kept: set[int]) -> None:
    part = [LOG[i] for i in sorted(kept)]
    assert verify(part).ok == (sorted(kept) == list(range(len(kept))))


def test_a_destroyed_key_leaves_a_chain_that_verifies() -> None:
    closed = [entry.model_copy(update={"details": None, "salt": None}) for entry in LOG]
    report = verify(closed, [HEAD])
    assert report.ok
    assert report.closed == SIZE


def test_a_whole_chain_written_anew_is_found_through_a_quoted_head() -> None:
    anew = chain(n2=0)
    assert verify(anew).ok
    assert found(verify(anew, [HEAD])) == {(Kind.REWRITTEN, SIZE)}


@pytest.mark.parametrize(
    "text",
    [
        "abc",
        "1:abc",
        "x:" + "0" * 64,
        "1:2:" + "0" * 64,
        f"1:{'0' * 64}:x",
        f"1:{'0' * 64}:1:1",
        "0" * 65,
        "g" * 64,
        "",
    ],
)
def test_a_quoted_head_of_a_few_digits_proves_nothing(text: str) -> None:
    with pytest.raises(ValueError, match=r"eight|decimal|SEQ"):
        Anchor.parse(text)


def test_a_head_quoted_without_its_number_must_be_some_entrys() -> None:
    quoted = Anchor.parse(f" {LOG[99].hash[:16]} ")
    assert quoted.seq is None
    assert verify(LOG, [quoted]).ok
    assert verify(LOG[:100], [quoted, Anchor.parse(f"100:{LOG[99].hash}"), Anchor.parse(genesis(1))]).ok
    assert found(verify(LOG[:99], [quoted])) == {(Kind.TRUNCATED, 99)}
    assert found(verify(chain(n2=0), [quoted])) == {(Kind.TRUNCATED, SIZE)}
    assert not verify([], [quoted]).ok
    assert not verify([], [HEAD]).ok


LINES = "\n".join(json.dumps(entry.model_dump()) for entry in LOG[:3])


def test_documents_lists_and_lines_are_read() -> None:
    items = [entry.model_dump() for entry in LOG[:3]]
    for text in (LINES, LINES + "\n\n", json.dumps(items), json.dumps({"entries": items}, indent=1)):
        assert parse(text) == tuple(LOG[:3])
        assert verify_text(text).ok
    assert parse(json.dumps(items[0])) == (LOG[0],)


@pytest.mark.parametrize(
    "text",
    [
        "no log",
        "{}",
        "[1]",
        "[" * 100_000,
        '{"entries": 5}',
        LINES[:-5],
        LINES.replace('"seq": 2', '"seq": "2"'),
        LINES.replace('"seq": 2', '"seq": 2, "extra": 1'),
        LINES.replace('"salt": "', '"salt": "x'),
        LINES.replace('"actor": "ada", ', "", 1),
        LINES.replace('"actor": "ada"', '"actor": "eve", "actor": "ada"', 1),
        LINES.replace('{"n": 2}', '{"n": 1, "n": 2}', 1),
    ],
)
def test_what_is_no_log_is_said_to_be_none(text: str) -> None:
    with pytest.raises(UnreadableLogError):
        verify_text(text)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('{"n": 2}', '{"n": NaN}'),
        ('{"n": 2}', '{"n": 1e999}'),
        ('"seq": 2, ', '"seq": 2.0, '),
        ("ada", "\\ud800"),
    ],
)
def test_values_that_are_never_written_are_no_crash(old: str, new: str) -> None:
    try:
        report = verify_text(LINES.replace(old, new))
    except UnreadableLogError:
        return
    assert any(finding.kind is Kind.EDITED for finding in report.findings)


def test_the_encoding_never_changes() -> None:
    """Hashes quoted in pull requests years ago must still be found."""
    assert (
        canonical({"b": 1, "a": "ü", "c": None, "d": 0.1, "e": True})
        == b'{"a":"\\u00fc","b":1,"c":null,"d":0.1,"e":true}'
    )
    assert details_hash(b"salt", {"a": 1}) == hashlib.sha256(b'salt{"a":1}').hexdigest()
    assert genesis(1) == hashlib.sha256(b"magicode/genesis/1\n1").hexdigest()
    text = (
        b'magicode/entry/1\n{"action":"run.ended","actor":"ada","at":"2026-11-20T00:00:00.000000Z","details_hash":"d"'
        b',"installation_id":7,"previous_hash":"p","run_id":null,"seq":3}'
    )
    assert (
        entry_hash(
            installation_id=7,
            seq=3,
            at=timestamp(START.astimezone(None)),
            actor="ada",
            action="run.ended",
            run_id=None,
            details_hash="d",
            previous_hash="p",
        )
        == hashlib.sha256(text).hexdigest()
    )


def test_of_very_many_findings_the_first_are_told_and_the_others_counted() -> None:
    edited = [entry.model_copy(update={"actor": "eve"}) for entry in chain(KEPT + 50)]
    report = verify(edited)
    assert (len(report.findings), report.more_findings, report.ok) == (KEPT, 50, False)
    assert [finding.position for finding in report.findings] == [*range(1, KEPT + 1)]
    assert any("50 more findings" in line for line in told(report))
