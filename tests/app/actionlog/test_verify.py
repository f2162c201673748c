"""Every way of falsifying a log of 200 entries, at every position."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.actionlog.entry import canonical, details_hash, entry_hash, genesis, timestamp
from app.actionlog.verify import (
    Anchor,
    ExportedEntry,
    Kind,
    Report,
    UnreadableLogError,
    parse,
    verify,
    verify_text,
)

SIZE = 200
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
POSITIONS = range(SIZE)


def rehashed(entry: ExportedEntry, **changes: Any) -> ExportedEntry:
    """The entry changed by someone who knows how hashes are made."""
    changed = entry.model_copy(update=changes)
    if "details" in changes and changed.details is not None and changed.salt is not None:
        hashed = details_hash(bytes.fromhex(changed.salt), changed.details)
        changed = changed.model_copy(update={"details_hash": hashed})
    names = ("installation_id", "seq", "at", "actor", "action", "run_id", "details_hash", "previous_hash")
    fields: dict[str, Any] = {name: getattr(changed, name) for name in names}
    return changed.model_copy(update={"hash": entry_hash(**fields)})


def found(report: Report) -> set[tuple[Kind, int]]:
    return {(finding.kind, finding.position) for finding in report.findings}


def test_an_untouched_log_has_nothing_to_find() -> None:
    report = verify(LOG, [HEAD, Anchor(1, LOG[0].hash), Anchor(77, LOG[76].hash[:12].upper())])
    assert report.ok
    assert (report.entries, report.head_seq, report.head) == (SIZE, SIZE, LOG[-1].hash)
    assert verify([]).ok


CHANGES = [
    {"actor": "eve"},
    {"action": "run.ended"},
    {"at": timestamp(START)},
    {"run_id": "6b7c9a8e-0000-4000-8000-000000000002"},
    {"details": {"n": 0}},
    {"details": None},
    {"salt": "00"},
    {"salt": None},
    {"details_hash": "0" * 64},
    {"previous_hash": "0" * 64},
    {"hash": "0" * 64},
    {"installation_id": 2},
]


def test_an_edited_entry_is_found_where_it_is() -> None:
    for position in POSITIONS:
        everywhere = position in (0, 1, SIZE // 2, SIZE - 1)
        for change in CHANGES if everywhere else (CHANGES[position % len(CHANGES)],):
            log = [*LOG]
            log[position] = log[position].model_copy(update=change)
            assert (Kind.EDITED, position + 1) in found(verify(log)), change


def test_an_edited_entry_with_a_fitting_hash_is_found_by_its_neighbours_or_the_head() -> None:
    for position in POSITIONS:
        for change in ({"actor": "eve"}, {"details": {"n": 0}}):
            log = [*LOG]
            log[position] = rehashed(log[position], **change)
            report = verify(log, [HEAD])
            if position + 1 < SIZE:
                assert found(report) == {(Kind.EDITED, position + 1)}
            else:
                assert found(report) == {(Kind.REWRITTEN, SIZE)}


def test_a_dropped_entry_is_found() -> None:
    for position in POSITIONS:
        log = LOG[:position] + LOG[position + 1 :]
        report = verify(log, [HEAD])
        if position + 1 < SIZE:
            kind = Kind.DROPPED if position else Kind.TRUNCATED
            assert found(report) == {(kind, position + 1)}
            assert str(position + 1) in report.findings[0].message
        else:
            assert found(report) == {(Kind.TRUNCATED, SIZE - 1)}


def test_a_dropped_entry_is_found_when_the_rest_is_renumbered() -> None:
    for position in POSITIONS[:-1]:
        log = LOG[:position]
        for entry in LOG[position + 1 :]:
            previous = log[-1].hash if log else genesis(1)
            log.append(rehashed(entry, seq=len(log) + 1, previous_hash=previous))
        assert verify(log).ok, "a chain written anew fits itself"
        assert found(verify(log, [HEAD])) == {(Kind.TRUNCATED, SIZE - 1)}
        assert found(verify(log, [Anchor(SIZE - 1, LOG[-2].hash)])) == {(Kind.REWRITTEN, SIZE - 1)}


def test_two_exchanged_entries_are_found() -> None:
    for position in POSITIONS[:-1]:
        log = [*LOG]
        log[position], log[position + 1] = log[position + 1], log[position]
        assert (Kind.REORDERED, position + 1) in found(verify(log))


def test_an_inserted_entry_is_found() -> None:
    for position in POSITIONS:
        doubled = [*LOG[: position + 1], LOG[position], *LOG[position + 1 :]]
        assert found(verify(doubled)) == {(Kind.INSERTED, position + 2)}
        forged = made(position + 1, LOG[position].previous_hash, forged=True)
        before = found(verify([*LOG[:position], forged, *LOG[position:]], [HEAD]))
        assert before == {(Kind.INSERTED, position + 1)}
        foreign = made(position + 1, LOG[position].previous_hash, installation_id=2, n=position)
        assert not verify([*LOG[:position], foreign, *LOG[position + 1 :]], [HEAD]).ok


def test_a_log_cut_off_at_the_end_is_found_through_a_quoted_head() -> None:
    for position in POSITIONS:
        cut = LOG[:position]
        assert verify(cut).ok, "without a quoted head nobody could know"
        report = verify(cut, [Anchor(1, LOG[0].hash[:8]), HEAD])
        assert (Kind.TRUNCATED, position) in found(report)


def test_a_log_cut_off_at_the_beginning_is_found() -> None:
    for position in POSITIONS[1:]:
        assert found(verify(LOG[position:])) == {(Kind.TRUNCATED, 1)}


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
