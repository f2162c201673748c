"""An export of 1,000 entries, falsified in every way at every position: each is found, and its place is named."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest

from app.actionlog.chain import Link
from app.actionlog.entry import details_hash, entry_hash, genesis
from app.actionlog.export import Format, export
from app.actionlog.exported import Header
from app.actionlog.ledger import Ledger
from app.actionlog.verify import Anchor, ExportedEntry, Kind, Report, check, parse, verify_links, verify_text
from app.custody.keys import Keys
from app.nouns import Action
from infra.embedded.postgres import SERVICE_ROLE, SUPERUSER, EmbeddedPostgres
from infra.postgres.store import PostgresStore
from infra.secrets import FileMasterKey

SIZE = 1_000
ACTIONS = list(Action)
RUNS = [UUID(int=n) for n in range(1, 8)]


@pytest.fixture(scope="module")
def text(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """What a user was handed."""
    with psycopg.connect(postgres.url(SUPERUSER, "postgres"), autocommit=True) as connection:
        connection.execute("CREATE DATABASE tampering TEMPLATE template STRATEGY FILE_COPY")
        key = tmp_path_factory.mktemp("key") / "master.key"
        yield asyncio.run(_written(postgres.url(SERVICE_ROLE, "tampering"), key))
        connection.execute("DROP DATABASE tampering WITH (FORCE)")


async def _written(url: str, key: Path) -> str:
    store, keys = PostgresStore(url), Keys(FileMasterKey(key))
    now = datetime(2026, 11, 20, tzinfo=UTC)
    ledger = Ledger(store, keys, lambda: now)
    async with store.transaction(7) as transaction:
        for n in range(SIZE):
            now += timedelta(seconds=n % 3)
            run = RUNS[n // 20 % len(RUNS)] if n % 5 else None
            facts: dict[str, Any] = {"n": n, "text": "ü=1", "cost": n / 3} if n % 4 else {}
            await ledger.append(transaction, 7, ACTIONS[n % len(ACTIONS)], f"person-{n % 9}", run, facts)
    pieces = [piece async for piece in export(store, keys, 7, Format.JSONL)]
    await store.close()
    return "".join(pieces)


class Original:
    """The entries, each checked by itself once, so that thousands of falsified logs are quick to verify."""

    def __init__(self, text: str) -> None:
        self.entries = parse(text)
        self.links = [check(entry) for entry in self.entries]
        self.anchors = [Anchor(link.seq, link.hash, 7) for link in self.links]
        self.head = self.anchors[-1:]


@pytest.fixture(scope="module")
def log(text: str) -> Original:
    return Original(text)


def found(links: Sequence[Link], anchors: Sequence[Anchor] = ()) -> set[tuple[Kind, int]]:
    report = verify_links(links, anchors)
    assert report.ok == (not report.findings)
    return places(report)


def places(report: Report) -> set[tuple[Kind, int]]:
    return {(finding.kind, finding.position) for finding in report.findings}


def changed(links: Sequence[Link], position: int, entry: ExportedEntry) -> list[Link]:
    return [*links[:position], check(entry), *links[position + 1 :]]


EDITS: list[dict[str, Any]] = [
    {"installation_id": 8},
    {"seq": 1_234},
    {"seq": 500},
    {"at": "2020-01-01T00:00:00.000000Z"},
    {"actor": "eve"},
    {"action": "run.forged"},
    {"run_id": str(UUID(int=99))},
    {"details": {"forged": True}},
    {"details": None},
    {"salt": "00" * 32},
    {"salt": None},
    {"details_hash": "0" * 64},
    {"previous_hash": "0" * 64},
    {"hash": "0" * 64},
]


def rehashed(entry: ExportedEntry, **changes: Any) -> ExportedEntry:
    """The entry changed by someone who knows how hashes are made."""
    made = entry.model_copy(update=changes)
    if "details" in changes and made.details is not None and made.salt is not None:
        hashed = details_hash(bytes.fromhex(made.salt), made.details)
        made = made.model_copy(update={"details_hash": hashed})
    names = ("installation_id", "seq", "at", "actor", "action", "run_id", "details_hash", "previous_hash")
    return made.model_copy(update={"hash": entry_hash(**{name: getattr(made, name) for name in names})})


def rechained(entries: Sequence[ExportedEntry], before: Sequence[Link]) -> list[Link]:
    """The entries behind `before`, numbered and hashed anew so that all is consistent in itself."""
    links = [*before]
    previous = links[-1].hash if links else genesis(7)
    for entry in entries:
        hashed = entry_hash(
            installation_id=7,
            seq=len(links) + 1,
            at=entry.at,
            actor=entry.actor,
            action=entry.action,
            run_id=entry.run_id,
            details_hash=entry.details_hash,
            previous_hash=previous,
        )
        links.append(Link(7, len(links) + 1, hashed, previous, hashed, "", entry.details is None))
        previous = hashed
    return links


def test_the_untouched_log_is_sound(log: Original, text: str) -> None:
    report = verify_text(text, log.anchors)
    assert report.ok
    assert (report.entries, report.first_seq, report.head_seq, report.anchors) == (SIZE, 1, SIZE, SIZE)
    assert report.head == log.links[-1].hash
    assert verify_links(log.links) == verify_text(text)


def edited_in_place(edit: dict[str, Any], position: int, log: Original) -> None:
    entry = log.entries[position]
    made = entry.model_copy(update=edit)
    if made != entry:
        assert found(changed(log.links, position, made)) == {(Kind.EDITED, position + 1)}, position


def test_an_edited_field_is_found_where_it_is(log: Original) -> None:
    for position in range(SIZE):
        edited_in_place(EDITS[position % len(EDITS)], position, log)


@pytest.mark.long
@pytest.mark.parametrize("edit", EDITS, ids="-".join)
def test_each_edited_field_is_found_at_every_position(edit: dict[str, Any], log: Original) -> None:
    for position in range(SIZE):
        edited_in_place(edit, position, log)


REHASHED: list[dict[str, Any]] = [
    {"at": "2020-01-01T00:00:00.000000Z"},
    {"actor": "eve"},
    {"action": "run.forged"},
    {"run_id": str(UUID(int=99))},
    {"details": {"forged": True}},
    {"details": None, "salt": None, "details_hash": "1" * 64},
    {"previous_hash": "0" * 64},
]


def edited_and_rehashed(edit: dict[str, Any], position: int, log: Original) -> None:
    made = rehashed(log.entries[position], **edit)
    there = found(changed(log.links, position, made), log.head)
    if position + 1 < SIZE:
        assert there == {(Kind.EDITED, position + 1)}, position
    else:
        # The last entry has one neighbour alone: where they do not fit, only the quoted head tells which it is.
        assert (Kind.REWRITTEN, SIZE) in there
        assert there <= {(Kind.REWRITTEN, SIZE), (Kind.EDITED, SIZE - 1)}


def test_an_edit_with_a_fitting_hash_is_found_where_it_is(log: Original) -> None:
    for position in range(SIZE):
        edited_and_rehashed(REHASHED[position % len(REHASHED)], position, log)


@pytest.mark.long
@pytest.mark.parametrize("edit", REHASHED, ids="-".join)
def test_each_edit_with_a_fitting_hash_is_found_at_every_position(
    edit: dict[str, Any], log: Original
) -> None:
    for position in range(SIZE):
        edited_and_rehashed(edit, position, log)


def test_an_entry_made_another_installations_or_another_number_is_found(log: Original) -> None:
    for position, entry in enumerate(log.entries):
        if 20 < position < SIZE - 20 and position % 3:
            continue
        gap = Kind.DROPPED if position else Kind.TRUNCATED
        missing = (gap, position + 2) if position + 1 < SIZE else (Kind.TRUNCATED, SIZE)
        foreign = changed(log.links, position, rehashed(entry, installation_id=8))
        assert found(foreign, log.head) == {(Kind.INSERTED, position + 1), missing}, position
        high = found(changed(log.links, position, rehashed(entry, seq=5_000)), log.anchors)
        expected = {(Kind.INSERTED, position + 1), missing} if position + 1 < SIZE else {(gap, SIZE)}
        assert high == expected, position


def test_a_dropped_entry_is_found_where_it_was(log: Original) -> None:
    for position in range(SIZE):
        rest = log.links[:position] + log.links[position + 1 :]
        kind = Kind.DROPPED if position else Kind.TRUNCATED
        at = (kind, position + 1) if position + 1 < SIZE else (Kind.TRUNCATED, SIZE - 1)
        assert found(rest, log.head) == {at}
        report = verify_links(rest, log.head)
        assert str(position + 1 if position + 1 < SIZE else SIZE - 1) in report.findings[0].message


def test_two_neighbours_exchanged_are_found(log: Original) -> None:
    for position in range(SIZE - 1):
        swapped = [*log.links]
        swapped[position], swapped[position + 1] = swapped[position + 1], swapped[position]
        assert found(swapped, log.head) == {(Kind.REORDERED, position + 1)}, position


def test_an_entry_put_elsewhere_is_found_where_it_stands(log: Original) -> None:
    chance = random.Random(5)
    for position in range(SIZE):
        others = log.links[:position] + log.links[position + 1 :]
        at = chance.randrange(SIZE)
        moved = [*others[:at], log.links[position], *others[at:]]
        there = found(moved, log.head)
        if abs(at - position) > 1:
            assert there == {(Kind.REORDERED, at + 1)}, (position, at)
        else:
            assert bool(there) == (at != position)


def test_the_log_backwards_is_found(log: Original) -> None:
    report = verify_links(log.links[::-1])
    assert {kind for kind, _ in places(report)} == {Kind.REORDERED}


def test_a_log_cut_off_behind_any_entry_is_found_through_the_head(log: Original) -> None:
    for position in range(SIZE):
        cut = log.links[:position]
        assert verify_links(cut).ok, "without a quoted head nobody could know"
        assert found(cut, log.head) == {(Kind.TRUNCATED, position)}


def test_a_log_cut_off_before_any_entry_is_found(log: Original) -> None:
    for position in range(1, SIZE):
        assert found(log.links[position:], log.head) == {(Kind.TRUNCATED, 1)}


INSERTED: list[dict[str, Any]] = [
    {"actor": "eve", "details": {"forged": True}},
    {"actor": "eve", "previous_hash": "0" * 64},
    {"installation_id": 8},
    {"seq": SIZE + 1},
    {"seq": SIZE + 7},
]


def inserted(way: dict[str, Any], position: int, log: Original) -> None:
    """A forged entry before the one that is there, with a hash that fits it."""
    before, after = log.links[:position], log.links[position:]
    forged = check(rehashed(log.entries[position], **way))
    assert found([*before, forged, *after], log.head) == {(Kind.INSERTED, position + 1)}, (way, position)


def test_an_inserted_entry_is_found_where_it_is(log: Original) -> None:
    for position in range(SIZE):
        inserted(INSERTED[position % len(INSERTED)], position, log)


@pytest.mark.long
@pytest.mark.parametrize("way", INSERTED, ids=lambda way: "-".join(map(str, way)))
def test_each_inserted_entry_is_found_at_every_position(way: dict[str, Any], log: Original) -> None:
    for position in range(SIZE):
        inserted(way, position, log)


def test_an_inserted_entry_whose_hash_does_not_fit_is_found_where_it_is(log: Original) -> None:
    for position, entry in enumerate(log.entries):
        forged = check(entry.model_copy(update={"actor": "eve"}))
        made = [*log.links[:position], forged, *log.links[position:]]
        assert found(made, log.head) == {(Kind.INSERTED, position + 1), (Kind.EDITED, position + 1)}


def test_a_duplicate_is_found_where_it_is(log: Original) -> None:
    chance = random.Random(7)
    for position in range(SIZE):
        beside = [*log.links[: position + 1], log.links[position], *log.links[position + 1 :]]
        assert found(beside, log.head) == {(Kind.INSERTED, position + 2)}
        copied = chance.randrange(SIZE)
        elsewhere = [*log.links[:position], log.links[copied], *log.links[position:]]
        expected = position + 2 if copied == position else position + 1
        assert found(elsewhere, log.head) == {(Kind.INSERTED, expected)}, (position, copied)


def written_anew(position: int, log: Original) -> None:
    """From this entry on, with an edited one, without it, and with one more."""
    before, entry, after = log.links[:position], log.entries[position], log.entries[position + 1 :]
    forged = entry.model_copy(update={"actor": "eve"})
    anew = rechained([forged, *after], before)
    assert verify_links(anew).ok, "a chain written anew fits itself"
    assert found(anew, log.anchors) == {(Kind.REWRITTEN, position + 1)}
    report = verify_links(anew, log.anchors[9::10])
    assert places(report) == {(Kind.REWRITTEN, position // 10 * 10 + 10)}
    fitting = f"entry {position // 10 * 10}," if position >= 10 else "the beginning"
    assert f"behind {fitting}" in report.findings[0].message
    rewritten = {(Kind.REWRITTEN, position + 1)} if position + 1 < SIZE else set()
    less = found(rechained(after, before), log.anchors)
    assert less == {*rewritten, (Kind.TRUNCATED, SIZE - 1)}, position
    more = found(rechained([forged, entry, *after], before), log.anchors)
    assert more == {(Kind.REWRITTEN, position + 1)}, position


def test_a_chain_written_anew_is_found_at_the_first_head_that_was_quoted_since(log: Original) -> None:
    for position in {*range(0, SIZE, 25), SIZE - 1}:
        written_anew(position, log)


@pytest.mark.long
def test_a_chain_written_anew_from_every_position_on_is_found(log: Original) -> None:
    for position in range(SIZE):
        written_anew(position, log)


def test_a_foreign_head_and_a_foreign_header_are_told_apart(log: Original) -> None:
    elsewhere = [Anchor(5, "0" * 64, 8), Anchor(2_000, "0" * 64, 8)]
    report = verify_links(log.links, [*elsewhere, *log.head])
    assert report.ok
    assert (report.anchors, report.anchors_of_others) == (1, 2)
    assert places(verify_links(log.links, (), Header(installation_id=8))) == {(Kind.EDITED, 1)}


def falsified(lines: Sequence[str], position: int) -> list[str]:
    """The file's own lines, falsified in one of several ways."""
    before, line, after = lines[:position], lines[position], lines[position + 1 :]
    match position % 5:
        case 0:
            return [*before, line.replace('"person-', '"persona-'), *after]
        case 1:
            return [*before, *after]
        case 2:
            return [*before, line, line, *after]
        case 3:
            return [*before[:-1], line, before[-1], *after]
        case _:
            return [*before]


def caught(log: Original, text: str, position: int) -> None:
    lines = text.splitlines(keepends=True)
    made = falsified(lines, position)
    assert made != lines
    report = verify_text("".join(made), log.head)
    assert len(report.findings) == 1
    assert abs(report.findings[0].position - position - 1) <= 1


def test_files_falsified_at_some_positions_are_found(log: Original, text: str) -> None:
    for position in range(0, SIZE, 37):
        caught(log, text, position)


@pytest.mark.long
def test_files_falsified_at_every_position_are_found(log: Original, text: str) -> None:
    for position in range(SIZE):
        caught(log, text, position)
