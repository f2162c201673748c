"""A log whose beginning was removed: sound where the chain itself says so, cut off otherwise."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.actionlog.entry import details_hash, entry_hash, genesis, timestamp
from app.actionlog.export import PAGE, Format, PrunedMeanwhileError, export
from app.actionlog.ledger import Ledger, NotPrunableError
from app.actionlog.verify import Anchor, ExportedEntry, Kind, Report, told, verify, verify_text
from app.custody.keys import Keys
from app.nouns import Action
from app.ports import Store

START = datetime(2026, 1, 1, tzinfo=UTC)


def made(seq: int, previous_hash: str, action: Action, **details: Any) -> ExportedEntry:
    salt = hashlib.sha256(b"%d" % seq).digest()
    clear: dict[str, Any] = {
        "installation_id": 1,
        "seq": seq,
        "at": timestamp(START + timedelta(days=seq)),
        "actor": "magicode",
        "action": action.value,
        "run_id": None,
        "details_hash": details_hash(salt, details),
        "previous_hash": previous_hash,
    }
    return ExportedEntry(**clear, details=details, salt=salt.hex(), hash=entry_hash(**clear))


def chain(size: int, prunings: dict[int, int], **instead: Any) -> list[ExportedEntry]:
    """At the first numbers stand entries that attest what was removed up to the second ones."""
    log: list[ExportedEntry] = []
    for seq in range(1, size + 1):
        previous = log[-1].hash if log else genesis(1)
        if seq in prunings:
            up_to = log[prunings[seq] - 1]
            facts = {"up_to_seq": up_to.seq, "up_to_hash": up_to.hash} | instead
            log.append(made(seq, previous, Action.RETENTION_APPLIED, **facts))
        else:
            log.append(made(seq, previous, Action.RUN_STARTED, n=seq))
    return log


LOG = chain(40, {15: 5, 25: 10, 35: 20})


def found(report: Report) -> set[tuple[Kind, int]]:
    return {(finding.kind, finding.position) for finding in report.findings}


@pytest.mark.parametrize("up_to", [5, 10, 20])
def test_a_log_that_begins_where_an_entry_attests_it_is_sound(up_to: int) -> None:
    report = verify(LOG[up_to:], [Anchor(40, LOG[-1].hash)])
    assert report.ok
    assert (report.first_seq, report.pruned_to, report.entries) == (up_to + 1, up_to, 40 - up_to)
    assert any(f"up to {up_to} were removed by retention" in line for line in told(report))


def test_a_log_that_begins_anywhere_else_is_cut_off() -> None:
    for first in range(1, 40):
        report = verify(LOG[first:])
        # Behind the entry that attests it, nothing in the log does any more.
        assert report.ok == (first in (5, 10, 20)), first
        assert report.ok or found(report) == {(Kind.TRUNCATED, 1)}


def test_a_log_cut_off_before_the_entry_that_attests_it_is_not_sound() -> None:
    assert found(verify(LOG[5:14])) == {(Kind.TRUNCATED, 1)}
    assert verify(LOG[5:15]).ok


@pytest.mark.parametrize(
    "instead",
    [
        {"up_to_hash": "0" * 64},
        {"up_to_hash": None},
        {"up_to_seq": 11},
        {"up_to_seq": 25},
        {"up_to_seq": "10"},
        {"up_to_seq": True},
    ],
)
def test_an_entry_that_attests_something_else_helps_nobody(instead: dict[str, Any]) -> None:
    log = chain(40, {25: 10}, **instead)
    assert verify(log).ok
    assert found(verify(log[10:])) == {(Kind.TRUNCATED, 1)}


def test_another_action_with_such_details_attests_nothing() -> None:
    log = chain(12, {})
    facts = {"up_to_seq": 3, "up_to_hash": log[2].hash}
    log.append(made(13, log[-1].hash, Action.SETTING_CHANGED, **facts))
    assert found(verify(log[3:])) == {(Kind.TRUNCATED, 1)}


def test_details_that_are_not_the_entrys_own_attest_nothing() -> None:
    honest = chain(40, {25: 10})
    forged = [*honest]
    details = {"up_to_seq": 20, "up_to_hash": honest[19].hash}
    forged[24] = forged[24].model_copy(update={"details": details})
    assert found(verify(forged[20:])) == {(Kind.TRUNCATED, 1), (Kind.EDITED, 5)}


def test_details_that_cannot_be_opened_attest_nothing_and_that_is_said() -> None:
    closed = [entry.model_copy(update={"details": None, "salt": None}) for entry in LOG]
    assert verify(closed).ok
    report = verify(closed[10:])
    assert found(report) == {(Kind.TRUNCATED, 1)}
    assert "cannot be opened" in report.findings[0].message
    assert "cannot be opened" not in verify(LOG[11:]).findings[0].message


def test_a_gap_behind_the_beginning_is_one_whatever_retention_removed() -> None:
    for up_to in (5, 10, 20):
        assert found(verify(LOG[:3] + LOG[up_to:])) == {(Kind.DROPPED, 4)}
    for position in range(20):
        assert not verify(LOG[:position] + LOG[position + 1 :]).ok


async def test_a_log_whose_beginning_goes_while_it_is_exported_is_not_handed_over(
    ledger: Ledger, store: Store, keys: Keys, watch: Any
) -> None:
    watch.now = START
    async with store.transaction(1) as transaction:
        for n in range(PAGE + 20):
            await ledger.append(transaction, 1, Action.RUN_STARTED, "ada", None, {"n": n})
    pieces = export(store, keys, 1, Format.JSONL)
    read = [await anext(pieces) for _ in range(PAGE)]
    async with store.transaction(1) as transaction:
        await ledger.note_pruning(transaction, 1, PAGE + 10)
        await transaction.prune_entries(PAGE + 10)
    with pytest.raises(PrunedMeanwhileError):
        read += [piece async for piece in pieces]
    again = "".join([piece async for piece in export(store, keys, 1, Format.JSONL)])
    assert verify_text(again).ok


def test_quoted_heads_of_what_was_removed_are_compared_where_they_can_be() -> None:
    last, older = Anchor(10, LOG[9].hash), Anchor(4, LOG[3].hash)
    report = verify(LOG[10:], [last, older, Anchor(0, genesis(1)), Anchor(None, LOG[3].hash)])
    assert report.ok
    assert (report.anchors, report.anchors_apart) == (2, 2)
    assert found(verify(LOG[10:], [Anchor(10, "0" * 64)])) == {(Kind.REWRITTEN, 1)}
    assert found(verify(LOG[10:], [Anchor(0, genesis(2))])) == {(Kind.REWRITTEN, 1)}


async def test_a_ledger_attests_what_retention_removes(
    ledger: Ledger, store: Store, keys: Keys, watch: Any
) -> None:
    watch.now = START
    entries = [await ledger.record(1, Action.RUN_STARTED, facts={"n": n}) for n in range(12)]
    async with store.transaction(1) as transaction:
        noted = await ledger.note_pruning(transaction, 1, 7, facts={"months": 12})
        assert await transaction.prune_entries(7) == 7
    assert noted.action == "retention.applied"
    for form in (Format.JSON, Format.JSONL, Format.CSV):
        text = "".join([piece async for piece in export(store, keys, 1, form)])
        report = verify_text(text, [Anchor(7, entries[6].hash), Anchor(13, noted.hash)])
        assert report.ok
        assert (report.first_seq, report.pruned_to, report.entries, report.anchors) == (8, 7, 6, 2)
    after = await ledger.record(1, Action.RUN_ENDED)
    assert (after.seq, after.previous_hash) == (14, noted.hash)


async def test_only_a_beginning_that_is_there_can_be_removed(ledger: Ledger, store: Store) -> None:
    for n in range(3):
        await ledger.record(1, Action.RUN_STARTED, facts={"n": n})
    for up_to in (0, 3, 4):
        with pytest.raises(NotPrunableError):
            async with store.transaction(1) as transaction:
                await ledger.note_pruning(transaction, 1, up_to)
    assert (await ledger.head(1)).seq == 3
