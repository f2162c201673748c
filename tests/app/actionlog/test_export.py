"""What a user is handed, and that it verifies without us."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from app.actionlog.export import PAGE, Format, export, opened
from app.actionlog.ledger import Ledger
from app.actionlog.verify import UnreadableLogError, parse, verify, verify_text
from app.custody.keys import Keys
from app.nouns import Action
from app.ports import Store
from infra.postgres.store import PostgresTransaction
from infra.secrets import FileMasterKey

RUN = uuid4()


TEXTS = ["plain", "=1+1", "two\nlines", 'quo"te,', "ünï\u200bcode 🙂", "\x1b[31mred", "", "'a\r\nb\u2028c"]


async def write(ledger: Ledger, store: Store, size: int) -> None:
    """Awkward text, in one transaction."""
    async with store.transaction(1) as transaction:
        for n in range(size):
            facts = {"n": n, "text": TEXTS[n % len(TEXTS)], "f": n / 7, "b": n % 2 == 0, "none": None}
            actor = {5: "@sum", 6: "'ada", 7: "a,\r\nb"}.get(n, "ada")
            await ledger.append(transaction, 1, Action.MODEL_CALLED, actor, RUN if n % 2 else None, facts)


@pytest.fixture
async def written(ledger: Ledger, store: Store) -> Ledger:
    await write(ledger, store, 21)
    return ledger


async def text(store: Store, keys: Keys, form: Format, **options: Any) -> str:
    return "".join([piece async for piece in export(store, keys, 1, form, **options)])


@pytest.mark.parametrize("form", [Format.JSON, Format.JSONL, Format.CSV])
async def test_an_export_verifies_by_itself(form: Format, written: Ledger, store: Store, keys: Keys) -> None:
    report = verify_text(await text(store, keys, form))
    assert report.ok
    assert (report.entries, report.closed, report.installation_id) == (21, 0, 1)
    head = await written.head(1)
    assert (report.head_seq, report.head) == (head.seq, head.hash)


@pytest.mark.parametrize("size", [PAGE - 1, PAGE, PAGE + 1])
async def test_a_log_of_any_number_of_pages_is_whole(
    size: int, ledger: Ledger, store: Store, keys: Keys
) -> None:
    await write(ledger, store, size)
    report = verify_text(await text(store, keys, Format.JSONL))
    assert report.ok
    assert report.entries == size


async def test_the_document_is_one_json_document(written: Ledger, store: Store, keys: Keys) -> None:
    document = json.loads(await text(store, keys, Format.JSON))
    assert document["format"] == "magicode-actions/1"
    assert document["installation_id"] == 1
    assert document["entries"][4]["details"]["text"] == "ünï\u200bcode 🙂"


async def test_an_empty_log_is_a_document_too(ledger: Ledger, store: Store, keys: Keys) -> None:
    assert json.loads(await text(store, keys, Format.JSON))["entries"] == []
    assert await text(store, keys, Format.JSONL) == ""
    assert verify_text(await text(store, keys, Format.JSON)).ok


async def test_the_table_opens_in_a_spreadsheet_without_running_anything(
    written: Ledger, store: Store, keys: Keys
) -> None:
    rows = list(csv.DictReader(io.StringIO(await text(store, keys, Format.CSV), newline="")))
    assert len(rows) == 21
    assert rows[5]["actor"] == "'@sum"
    assert json.loads(rows[2]["details"])["text"] == "two\nlines"
    assert rows[6]["actor"] == "''ada"
    assert not any(cell[:1] in ("=", "+", "-", "@") for row in rows for cell in row.values())


async def test_the_text_has_a_line_for_each_entry_and_nothing_for_a_terminal_to_obey(
    written: Ledger, store: Store, keys: Keys
) -> None:
    lines = (await text(store, keys, Format.TEXT)).splitlines()
    assert len(lines) == 21
    assert "model.called" in lines[0]
    assert "text=plain" in lines[0]
    assert all(line.isascii() and line.isprintable() for line in lines)


async def test_one_runs_entries_can_be_had_alone(written: Ledger, store: Store, keys: Keys) -> None:
    entries = [entry async for entry in opened(store, keys, 1, run_id=RUN)]
    assert len(entries) == 10
    assert {entry.run_id for entry in entries} == {str(RUN)}


async def test_the_chain_outlives_its_key_and_says_nothing(
    written: Ledger, store: Store, tmp_path: Path
) -> None:
    class Destroyed(Keys):
        async def existing_key(self, transaction: Any) -> bytes | None:
            return None

    gone = Destroyed(FileMasterKey(tmp_path / "master.key"))
    exported = await text(store, gone, Format.JSON)
    report = verify_text(exported)
    assert report.ok
    assert report.closed == 21
    assert "plain" not in exported
    assert "cannot be opened" in await text(store, gone, Format.TEXT)


async def test_a_key_made_after_the_deletion_opens_nothing_old(
    written: Ledger, store: Store, keys: Keys
) -> None:
    class Renewed(Keys):
        async def existing_key(self, transaction: Any) -> bytes | None:
            return bytes(32)

    renewed = Renewed(keys._master)
    entries = [entry async for entry in opened(store, renewed, 1)]
    assert {entry.details for entry in entries} == {None}
    assert verify(entries).ok


async def test_every_format_says_the_same(written: Ledger, store: Store, keys: Keys) -> None:
    entries = [entry async for entry in opened(store, keys, 1)]
    for form in (Format.JSON, Format.JSONL, Format.CSV):
        assert list(parse(await text(store, keys, form))) == entries


async def test_a_table_whose_details_are_closed_verifies(
    written: Ledger, store: Store, tmp_path: Path
) -> None:
    class Destroyed(Keys):
        async def existing_key(self, transaction: Any) -> bytes | None:
            return None

    report = verify_text(await text(store, Destroyed(FileMasterKey(tmp_path / "master.key")), Format.CSV))
    assert (report.ok, report.closed) == (True, 21)


async def test_the_text_for_reading_is_no_log_to_verify(written: Ledger, store: Store, keys: Keys) -> None:
    with pytest.raises(UnreadableLogError):
        verify_text(await text(store, keys, Format.TEXT))


async def test_the_first_entry_can_be_opened_by_who_reads_while_it_is_written(
    ledger: Ledger, store: Store, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = PostgresTransaction.entries

    async def late(transaction: PostgresTransaction, **what: Any) -> Any:
        await ledger.record(1, Action.MODEL_CALLED, facts={"n": 1})  # the key comes with it
        return await read(transaction, **what)

    with monkeypatch.context() as during:
        during.setattr(PostgresTransaction, "entries", late)
        assert [one.details async for one in opened(store, keys, 1)] == [{"n": 1}]
