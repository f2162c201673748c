"""What an export holds: every table and column that there is, explained, sound, and made without being held."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import tracemalloc
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import psycopg
import pytest

from app.actionlog.export import Format, PrunedMeanwhileError
from app.actionlog.export import export as written_out
from app.actionlog.exported import Log
from app.actionlog.ledger import Ledger
from app.actionlog.verify import verify
from app.custody import hooks
from app.custody.export import Contents, Made, archive
from app.custody.exported_files import FILES, LEFT_OUT, MANIFEST, MANIFEST_KEYS, README
from app.custody.keys import Keys
from app.custody.provider_keys import PURPOSE
from app.errors import ErasedError
from app.exporting import gather
from app.nouns import (
    Action,
    ApiToken,
    DataExport,
    Erasure,
    Hook,
    Installation,
    ProviderKey,
    Run,
    RunState,
    StoredSettings,
)
from embeddings.forget import shelf_of
from embeddings.protect import Protection
from infra.postgres.store import PostgresStore
from infra.qdrant import QdrantPoints
from tests.conftest import Database

NOW = datetime(2027, 3, 1, 12, tzinfo=UTC)
SECRET = "sk-a-secret-key-that-nobody-sees-9876"


class Master:
    id = "the-master"

    def wrap(self, key: bytes) -> bytes:
        return key[::-1]

    def unwrap(self, master_key_id: str, wrapped: bytes) -> bytes:
        return wrapped[::-1]


@dataclass
class Place:
    """As much of a house as an export is gathered from."""

    store: PostgresStore
    points: QdrantPoints
    keys: Keys

    def clock(self) -> datetime:
        return NOW

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.store, self.keys, self.clock)

    async def contents(self, tenant: int = 1) -> Contents:
        house: Any = self
        return await gather(house, tenant, UUID(int=5))

    async def fill(self, tenant: int = 1) -> None:
        """Something in every table."""
        run = a_run(tenant)
        async with self.store.transaction(tenant) as transaction:
            await transaction.put_installation(Installation(tenant, tenant * 10, f"account-{tenant}", False))
            key = await self.keys.data_key(transaction)
            await transaction.add_delivery(f"guid-{tenant}", "=cmd()", None, "accepted")
            await transaction.add_run(run)
            await transaction.put_settings(StoredSettings('{"runs_months":6}', False, "ada", NOW))
            plain = json.dumps({"key": SECRET, "base_url": None}).encode()
            place = f"provider-key|{tenant}|openai".encode()
            sealed = self.keys.seal(self.keys.derive(key, PURPOSE), plain, place)
            await transaction.put_provider_key(ProviderKey("openai", sealed, "ada", NOW))
            secret = json.dumps({"url": f"https://ci.example.com/{SECRET}", "secret": SECRET}).encode()
            hook = UUID(int=6)
            sealed = self.keys.seal(
                self.keys.derive(key, hooks.PURPOSE), secret, f"hook|{tenant}|{hook}".encode()
            )
            await transaction.put_hook(Hook(hook, sealed, "run.ended", "ada", NOW))
            token = ApiToken(uuid4(), "h" * 64, "log", "ada", NOW, NOW + timedelta(days=1))
            await transaction.put_api_token(token)
            await transaction.put_export(DataExport(UUID(int=5), "asked", "ada", NOW))
        record = self.ledger.recorder(tenant, run.id)
        await record(Action.RUN_STARTED)
        for model, cost in (("one", "0.25"), ("one", None), ("two", "0.50")):
            await record(
                Action.MODEL_CALLED,
                provider="openai",
                model=model,
                input_tokens=100,
                cached_tokens=10,
                output_tokens=20,
                cost_usd=cost,
            )
        await record(Action.COMMENT_CREATED, "=HYPERLINK(1)", number=7)
        protection = Protection(key, tenant)
        name = f"{shelf_of(key, tenant)}/{protection.repository(40)}/g/chunks"
        await self.points.ensure(name, 4)
        ids = [str(uuid4()) for _ in range(3)]
        await self.points.upsert(name, ids, np.eye(3, 4, dtype=np.float32), [{"place": "x"}] * 3)


def a_run(tenant: int) -> Run:
    return Run(
        id=UUID(int=tenant),
        installation_id=tenant,
        repository_id=40,
        number=7,
        is_pull_request=False,
        verb="fix",
        occasion="comment:9",
        comment_id=9,
        asker_id=3,
        asker_login="ada",
        meaning=f"meaning-{tenant}",
        input_hash="hash",
        cost_limit_usd=Decimal("1.50"),
        state=RunState.OPENED,
        attempt=1,
        blocked_by=None,
        cancel_requested=False,
        reason="opened",
        status_comment_id=11,
        branch="magicode/issue-7",
        base_sha="a" * 40,
        head_sha="b" * 40,
        pull_request=8,
        input_tokens=450,
        cached_tokens=40,
        output_tokens=90,
        cost_usd=Decimal("1.00"),
        created_at=NOW,
        started_at=NOW,
        ended_at=NOW,
    )


@pytest.fixture
async def place(store: PostgresStore, tmp_path: Path) -> AsyncIterator[Place]:
    points = QdrantPoints(path=tmp_path / "qdrant")
    yield Place(store, points, Keys(Master()))
    await points.close()


async def packed(contents: Contents) -> tuple[zipfile.ZipFile, Made, bytes]:
    made = Made()
    whole = b"".join([piece async for piece in archive(contents, made)])
    return zipfile.ZipFile(io.BytesIO(whole)), made, whole


def table(found: zipfile.ZipFile, name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(found.read(name).decode(), newline="")))


# --- documented ------------------------------------------------------------------------------------------------------


async def test_every_table_and_column_of_the_database_is_exported_or_left_out_for_a_reason(
    database: Database,
) -> None:
    with psycopg.connect(database.owner_url) as connection:
        found = connection.execute(
            "SELECT table_schema, table_name, column_name FROM information_schema.columns"
            " WHERE table_schema LIKE 'magicode%'"
        ).fetchall()
    assert len(found) > 80
    exported = {(one.table, column) for one in FILES for column in one.columns}
    missing = [
        f"{table_}.{column}"
        for schema, table_, column in found
        if (table_, column) not in exported
        and not {schema, table_, column, f"{table_}.{column}"} & LEFT_OUT.keys()
        and table_ != "schema_version"  # of the database itself
    ]
    assert missing == []


async def test_what_is_said_to_be_left_out_of_a_table_is_there_to_be_left_out(database: Database) -> None:
    with psycopg.connect(database.owner_url) as connection:
        found = connection.execute(
            "SELECT table_name || '.' || column_name FROM information_schema.columns"
            " WHERE table_schema LIKE 'magicode%'"
        ).fetchall()
    named = {name for name in LEFT_OUT if "." in name}
    assert named <= {name for (name,) in found}


async def test_every_file_and_every_column_that_is_written_is_explained_and_no_other(place: Place) -> None:
    await place.fill()
    found, _, _ = await packed(await place.contents())
    explained = found.read(README).decode()
    assert found.namelist() == [*(one.name for one in FILES), MANIFEST]
    for one in FILES:
        written = found.read(one.name).decode()
        if one.name.endswith(".csv"):
            columns = next(csv.reader(io.StringIO(written, newline="")))
        elif one.name.endswith(".jsonl"):
            columns = list(json.loads(written.splitlines()[0]))
        elif one.name.endswith(".json"):
            value = json.loads(written)
            columns = list(value[0] if isinstance(value, list) else value)
        else:
            columns = []
        assert columns == list(one.columns), one.name
        assert f"\n{one.name}\n" in explained
        section = explained[explained.index(f"\n{one.name}\n") :].split("\n\n\n")[0]
        for column in columns:
            assert re.search(rf"^  {column}: \w", section, re.MULTILINE), (one.name, column)
    assert list(json.loads(found.read(MANIFEST))) == list(MANIFEST_KEYS)
    assert max(len(line) for line in explained.splitlines()) <= 100


# --- right -----------------------------------------------------------------------------------------------------------


async def test_the_manifest_has_the_hash_the_size_and_the_rows_of_every_file(place: Place) -> None:
    await place.fill()
    found, made, whole = await packed(await place.contents())
    assert found.testzip() is None
    assert (made.size, made.sha256) == (len(whole), hashlib.sha256(whole).hexdigest())
    manifest = json.loads(found.read(MANIFEST))
    rows = {}
    for one in manifest["files"]:
        data = found.read(one["name"])
        assert (hashlib.sha256(data).hexdigest(), len(data)) == (one["sha256"], one["bytes"])
        rows[one["name"]] = one["rows"]
    assert manifest["log_head"] == str(await place.ledger.head(1))
    assert {name: count for name, count in rows.items() if count is not None} == {
        "provider_keys.json": 1,
        "api_tokens.json": 1,
        "hooks.json": 1,
        "exports.json": 1,
        "vectors.json": 1,
        "runs.csv": 1,
        "runs.jsonl": 1,
        "deliveries.csv": 1,
        "actions.jsonl": 5,
        "actions.csv": 5,
        "usage.csv": 3,
    }


async def test_the_log_in_it_is_what_the_logs_own_export_writes_and_verifies(place: Place) -> None:
    await place.fill()
    found, _, _ = await packed(await place.contents())
    for name, form in (("actions.jsonl", Format.JSONL), ("actions.csv", Format.CSV)):
        text = "".join([piece async for piece in written_out(place.store, place.keys, 1, form)])
        assert found.read(name).decode() == text
        assert verify(Log(io.StringIO(text, newline=""))).ok


async def test_what_was_used_adds_up_to_the_runs_with_what_the_log_does_not_know_under_no_model(
    place: Place,
) -> None:
    await place.fill()
    found, _, _ = await packed(await place.contents())
    used = table(found, "usage.csv")
    assert [(row["day"], row["repository_id"], row["model"], row["calls"]) for row in used] == [
        ("2027-03-01", "40", "", "0"),
        ("2027-03-01", "40", "one", "2"),
        ("2027-03-01", "40", "two", "1"),
    ]
    assert [row["cost_usd"] for row in used] == ["0.250000", "0.25", "0.50"]
    assert [row["unpriced_calls"] for row in used] == ["0", "1", "0"]
    for column, total in (("input_tokens", 450), ("cached_tokens", 40), ("output_tokens", 90)):
        assert sum(int(row[column]) for row in used) == total


async def test_no_key_and_no_token_is_in_it_and_no_other_installations_data(place: Place) -> None:
    await place.fill(1)
    await place.fill(2)
    found, _, _ = await packed(await place.contents(1))
    everything = b"\n".join(found.read(name) for name in found.namelist())
    assert b"account-1" in everything
    for secret in (SECRET.encode(), b"h" * 64, b"account-2", b"guid-2"):
        assert secret not in everything
    (key,) = json.loads(found.read("provider_keys.json"))
    assert key["last_four"] == "9876"
    (hook,) = json.loads(found.read("hooks.json"))
    assert hook["host"] == "ci.example.com"
    (vectors,) = json.loads(found.read("vectors.json"))
    assert (vectors["repository_id"], vectors["vectors"]) == (40, 3)
    assert json.loads(found.read("settings.json"))["document"]["runs_months"] == 6
    assert json.loads(found.read("retention.json"))["runs_months"] == 6


async def test_no_cell_begins_as_a_formula(place: Place) -> None:
    await place.fill()
    found, _, _ = await packed(await place.contents())
    cells = [
        cell
        for name in found.namelist()
        if name.endswith(".csv")
        for row in csv.reader(io.StringIO(found.read(name).decode(), newline=""))
        for cell in row
    ]
    assert "'=cmd()" in cells
    assert "'=HYPERLINK(1)" in cells
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]


async def test_an_installation_of_which_nothing_is_known_yet_can_be_exported(place: Place) -> None:
    found, _, _ = await packed(await place.contents(9))
    assert found.read("actions.jsonl") == b""
    assert json.loads(found.read("installation.json")) == {}


async def test_all_of_it_is_as_of_one_head_whatever_comes_meanwhile(place: Place) -> None:
    await place.fill()
    contents, made = await place.contents(), Made()
    head = str(await place.ledger.head(1))
    await place.ledger.record(1, Action.SETTING_CHANGED, facts={"meanwhile": True})
    pieces = []
    async for piece in archive(contents, made):
        pieces.append(piece)
        await place.ledger.record(1, Action.SETTING_CHANGED, facts={"meanwhile": True})
        async with place.store.transaction(1) as transaction:
            await transaction.update_run(UUID(int=1), reason="meanwhile")
    found = zipfile.ZipFile(io.BytesIO(b"".join(pieces)))
    assert json.loads(found.read(MANIFEST))["log_head"] == head == contents.head
    assert len(found.read("actions.jsonl").splitlines()) == int(head.partition(":")[0])
    assert b"meanwhile" not in b"".join(found.read(name) for name in found.namelist())


async def test_the_tables_are_read_in_one_moment(place: Place) -> None:
    await place.fill()
    async with place.store.snapshot(1) as seen:
        assert len(await seen.rows("runs", limit=10)) == 1
        async with place.store.transaction(1) as transaction:
            await transaction.add_delivery("later", "push", None, "x")
            await transaction.update_run(UUID(int=1), reason="later")
        assert len(await seen.rows("deliveries", limit=10)) == 1
        assert [row["reason"] for row in await seen.rows("runs", limit=10)] == ["opened"]


async def test_nothing_is_exported_once_a_deletion_has_begun(place: Place) -> None:
    await place.fill()
    async with place.store.transaction(1) as transaction:
        await transaction.begin_erasure(Erasure(1, uuid4(), 1, 10, "asked", NOW, "ada", "begun"))
    with pytest.raises(ErasedError):
        await place.contents()


async def test_a_long_log_is_not_held_in_memory(place: Place) -> None:
    """Twice the log takes no more memory."""
    await place.fill()
    contents = await place.contents()
    (line,) = [row async for row in contents.entries()][:1]
    peaks = []
    for count in (20_000, 40_000):

        async def many(count: int = count) -> AsyncIterator[Any]:
            for seq in range(count):
                yield {**line, "seq": seq, "hash": hashlib.sha256(str(seq).encode()).hexdigest()}

        long = Contents(contents.export_id, contents.snapshot, contents.head, many, contents.vectors)
        made = Made()
        tracemalloc.start()
        async for _ in archive(long, made):
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert made.size > 40 * count
    assert peaks[1] < 4 << 20
    assert peaks[1] < 1.2 * peaks[0]


async def test_a_log_whose_beginning_is_pruned_meanwhile_is_exported_anew(place: Place) -> None:
    await place.fill()
    contents = await place.contents()
    first = [row async for row in contents.entries()]
    assert [row["seq"] for row in first] == [1, 2, 3, 4, 5]
    real = place.store.transaction

    @asynccontextmanager
    async def pruned(tenant: int, *, erasing: bool = False) -> AsyncIterator[Any]:
        async with real(tenant, erasing=erasing) as transaction:

            async def entries(**given: Any) -> Any:
                return await type(transaction).entries(transaction, **{**given, "after_seq": 2})

            transaction.entries = entries  # type: ignore[method-assign]
            yield transaction

    place.store.transaction = pruned  # type: ignore[method-assign]
    with pytest.raises(PrunedMeanwhileError):
        [row async for row in contents.entries()]
