"""A database is lost and comes back, by a dump or by a snapshot: what was deleted since stays deleted, and what was at work ends once."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import psutil  # type: ignore[import-untyped]
import psycopg
import pytest

from app import settings
from app.commands.keys import rotate
from app.custody import provider_keys
from app.custody.backups import BackupBrokenError, Backups, NoBackupError
from app.custody.erase import Wish
from app.custody.receipt import BACKUPS_KEPT, read_receipt, verify
from app.custody.tombstones import ForeignTombstoneError, Tombstones
from app.erasing import begin, erase, tombstone
from app.errors import ErasedError, TransientError
from app.house import House
from app.nouns import Action, ApiToken, Erasure, OwnKey, RunState
from app.restoring import (
    DeletedComesBackError,
    EmptyPlaceError,
    KeysMissingError,
    require_reapplied,
    restored,
)
from app.wiring import ClocksApartError, back_up, restore_database
from infra.embedded.postgres import EmbeddedPostgres
from infra.objects.folder import FolderObjects
from infra.postgres.dumps import HeldByPoliciesError, NotEmptyDatabaseError, require_all_rows
from infra.postgres.migrate import migrate
from infra.postgres.store import PostgresTransaction
from tests.app.custody.fuse import CrashError, Fuse, Fused, FusedStore
from tests.line.conftest import Stages
from tests.line.conversations import ask, notes
from tests.line.stage import Stage
from tests.line.test_pause import magicode

PLANTED: Final = "zanzibarquokka"


@dataclass
class Lost:
    """A stage on a cluster of its own, which can be lost; and the installation that is to be deleted."""

    stage: Stage
    folder: Path
    server: EmbeddedPostgres
    other: int

    @property
    def house(self) -> House:
        return self.stage.house

    @property
    def kept(self) -> Path:
        return Path(self.stage.environ["MAGICODE_BACKUPS"])

    async def back_up(self, **how: Any) -> Any:
        return await back_up(settings.read(self.stage.environ), **how)

    async def restore(self, at: datetime | None = None) -> str:
        return await restore_database(settings.read(self.stage.environ), at)

    async def delete_other(self) -> Erasure:
        await begin(self.house, self.other, Wish("operator", "operator"))
        erasure = await erase(self.house, self.other)
        assert erasure.ended_at is not None
        return erasure

    def lose(self) -> None:
        """Not a byte is left, and an empty server stands at the same address."""
        self.server.stop()
        shutil.rmtree(self.folder / "postgres")
        self.server.start()

    async def snapshot(self) -> Path:
        """As a volume's snapshot is: what lies there at a moment at which the server was killed."""
        pid = int((self.folder / "postgres" / "postmaster.pid").read_text().split("\n", 1)[0])
        server = psutil.Process(pid)
        family = [server, *server.children(recursive=True)]
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):  # who loses the first of them ends by itself
                process.kill()
        psutil.wait_procs(family, timeout=10)
        image = self.folder / "image"
        await asyncio.to_thread(copy, self.folder / "postgres", image)
        assert await asyncio.to_thread(self.server.revive)
        await reached(self.house)
        return image

    async def roll_back(self, image: Path) -> None:
        self.server.stop()
        shutil.rmtree(self.folder / "postgres")
        shutil.move(image, self.folder / "postgres")
        self.server.start()
        await reached(self.house)

    def rows(self, tenant: int) -> dict[str, int]:
        """By the superuser, whom no policy holds, in every table of every schema."""
        counted = {}
        with psycopg.connect(self.server.owner_url) as connection:
            tables = connection.execute(
                "SELECT table_schema, table_name FROM information_schema.columns WHERE column_name = 'installation_id'"
            ).fetchall()
            for schema, table in tables:
                statement = f"SELECT count(*) FROM {schema}.{table} WHERE installation_id = %s"
                row = connection.execute(statement, [tenant]).fetchone()
                assert row is not None
                if row[0]:
                    counted[str(table)] = int(row[0])
        return counted


def copy(folder: Path, image: Path) -> None:
    """With its owners."""
    subprocess.run(["cp", "--archive", folder, image], check=True)


async def reached(house: House) -> None:
    """Once the pool has let go of the connections that died."""
    async with asyncio.timeout(20):
        while True:
            try:
                await house.store.ping()
                return
            except TransientError:
                await asyncio.sleep(0.1)


@pytest.fixture
def cluster() -> Iterator[tuple[Path, EmbeddedPostgres]]:
    with (
        tempfile.TemporaryDirectory(prefix="magicode-lost-", ignore_cleanup_errors=True) as name,
        EmbeddedPostgres(Path(name), durable=False) as server,
    ):
        migrate(server.owner_url)
        yield Path(name), server


@pytest.fixture
async def quiet(
    cluster: tuple[Path, EmbeddedPostgres], raise_stage: Stages, sample: Path, tmp_path: Path
) -> Lost:
    """Two installations of which nobody has asked anything."""
    folder, server = cluster
    environ = {
        "MAGICODE_BACKUPS": str(tmp_path / "kept"),
        "MAGICODE_DATABASE_URL": server.service_url,
        "MAGICODE_DATABASE_OWNER_URL": server.owner_url,
    }
    (sample / "PLANTED.md").write_text(f"{PLANTED}\n")
    stage = await raise_stage({"octo/fairshare": sample}, notes(), working=False, environ=environ)
    await stage.github.add_account("acme", {"one": sample}, owners=["olga"])
    await stage.settled()
    made = Lost(stage, folder, server, max(stage.github.world.installations))
    for tenant in (made.stage.installation, made.other):
        await made.house.ledger.record(tenant, Action.SETTING_CHANGED)
    return made


@pytest.fixture
async def lost(quiet: Lost) -> Lost:
    """And each with a run behind it."""
    stage = quiet.stage
    async with stage.at_work():
        number = await stage.open_issue(f"About {PLANTED}", f"{PLANTED}, please", user="wim")
        await stage.comment(number, "@magicode fix this")
        theirs = await stage.open_issue("Theirs", PLANTED, user="olga", repository="acme/one")
        await stage.comment(theirs, "@magicode fix this", user="olga", repository="acme/one")
        await stage.ended()
        await ended_there(stage, quiet.other)
    return quiet


async def ended_there(stage: Stage, tenant: int) -> None:
    async with asyncio.timeout(60):
        while True:
            async with stage.house.store.transaction(tenant) as transaction:
                runs = await transaction.runs()
            if runs and all(run.state.ended for run in runs):
                assert runs[0].state is RunState.OPENED
                return
            await asyncio.sleep(0.1)


async def open_door(lost: Lost) -> None:
    """What may be taken away later: an API token."""
    now = lost.house.clock()
    token = ApiToken(uuid4(), "0" * 64, "runs:read", "ada", now, now + timedelta(days=30))
    async with lost.house.store.transaction(lost.stage.installation) as transaction:
        await transaction.put_api_token(token)


async def bring_a_key(lost: Lost) -> None:
    house, tenant = lost.house, lost.stage.installation
    await provider_keys.put(
        house.store,
        house.keys,
        house.ledger,
        house.clock,
        taken,
        installation_id=tenant,
        by="ada",
        provider="openai",
        key="an-own-key-of-octo",
    )


async def taken(key: OwnKey) -> None:
    """Every key is taken: nobody is asked with it here."""


async def take_away_the_key(lost: Lost) -> None:
    house, tenant = lost.house, lost.stage.installation
    assert await provider_keys.remove(
        house.store, house.keys, house.ledger, installation_id=tenant, by="ada", provider="openai"
    )


async def doors(lost: Lost) -> tuple[int, int]:
    async with lost.house.store.transaction(lost.stage.installation) as transaction:
        return len(await transaction.api_tokens()), len(await transaction.provider_keys())


async def require_gone(lost: Lost, erasure: Erasure) -> None:
    """As after the first time: no row, no key, no vector, and the same receipt."""
    assert lost.rows(lost.other) == {"erasures": 1}
    found = await tombstone(lost.house, lost.other)
    assert found is not None
    assert (found.id, found.receipt, found.ended_at is not None) == (erasure.id, erasure.receipt, True)
    assert verify(read_receipt(found.receipt or "")).ok
    assert not (lost.kept / "keys" / str(lost.other)).exists()
    with pytest.raises(ErasedError):
        async with lost.house.store.transaction(lost.other):
            pass


async def require_goes_on(lost: Lost, *, ended: int) -> None:
    """The other installation: its log is whole, and its next request works once the operator lets it."""
    log = await lost.stage.log()
    assert [entry.seq for entry in log] == list(range(1, len(log) + 1))
    assert log[-1].action == Action.SERVICE_RESTORED
    code, said, _ = await magicode(
        lost.stage, "actions", "export", "--installation", str(lost.stage.installation)
    )
    assert code == 0
    export = lost.folder / "log.jsonl"
    export.write_text(said)
    assert (await magicode(lost.stage, "actions", "verify", str(export)))[0] == 0
    assert await lost.house.store.resume(0)
    async with lost.stage.at_work():
        await ask(lost.stage)
        runs = await lost.stage.ended(ended)
    assert runs[-1].state is RunState.OPENED


# --- by a dump -------------------------------------------------------------------------------------------------------


async def test_a_dump_comes_back_without_what_was_deleted_since(lost: Lost) -> None:
    stage = lost.stage
    await open_door(lost)
    waiting = await ask(stage)
    await stage.settled()
    made = await lost.back_up()
    assert made.keys == 3, "the service's own and two installations'"
    async with stage.at_work():
        await stage.ended(2)
    assert len(await stage.pulls()) == 2
    erasure = await lost.delete_other()
    assert not (lost.kept / "keys" / str(lost.other)).exists(), "at once, and not with the next backup"
    async with lost.house.store.transaction(stage.installation) as transaction:
        (token,) = await transaction.api_tokens()
        await transaction.remove_api_token(token.id)

    lost.lose()
    assert await lost.restore() == made.name
    await reached(lost.house)
    assert lost.rows(lost.other)["runs"] == 1, "it is back"
    with pytest.raises(KeysMissingError):
        await require_reapplied(lost.house)
    with pytest.raises(NotEmptyDatabaseError):
        await lost.restore()
    done = await restored(lost.house)
    assert (done.installations, done.erased_again, done.keyless, done.tokens) == (1, (lost.other,), (), 1)
    await require_gone(lost, erasure)
    await require_reapplied(lost.house)
    assert await doors(lost) == (0, 0)

    again = await restored(lost.house)
    assert (again.erased_again, again.tokens) == ((lost.other,), 0)
    assert [one.action for one in await stage.log()].count(Action.SERVICE_RESTORED) == 1

    async with stage.at_work():
        await asyncio.sleep(1)
        assert [run.state for run in await stage.runs() if run.number == waiting] == [RunState.QUEUED], (
            "everybody is paused"
        )
    await require_goes_on(lost, ended=3)
    assert len(await stage.pulls()) == 3, "the one that ended before is the one that waited, and a new one"


async def test_who_asks_again_for_what_the_database_lost_gets_no_second_pull_request(quiet: Lost) -> None:
    """The run and its pull request came behind the backup: GitHub has them, and we have not."""
    lost, stage = quiet, quiet.stage
    await lost.back_up()
    async with stage.at_work():
        number = await ask(stage)
        await stage.ended(1)
    (before,) = await stage.pulls()
    lost.lose()
    await lost.restore()
    await reached(lost.house)
    await restored(lost.house)
    assert await stage.runs() == []
    assert await lost.house.store.resume(0)
    async with stage.at_work():
        await stage.comment(number, "@magicode fix this once more")
        (run,) = await stage.ended(1)
    assert [(one["number"], one["state"]) for one in await stage.pulls()] == [(before["number"], "open")]
    assert (run.state, run.pull_request) == (RunState.UPDATED, before["number"]), run.reason


async def test_what_was_deleted_stays_closed_without_the_list_too(quiet: Lost) -> None:
    lost = quiet
    await open_door(lost)
    await bring_a_key(lost)
    made = await lost.back_up(clock=lambda: datetime.now(UTC) - timedelta(minutes=5))
    await lost.delete_other()
    await take_away_the_key(lost)
    newer = await lost.back_up()
    assert newer.keys == 2
    lost.lose()
    shutil.rmtree(lost.kept / "tombstones")
    assert await lost.restore(datetime.now(UTC) - timedelta(minutes=4)) == made.name
    await reached(lost.house)
    done = await restored(lost.house)
    assert (done.erased_again, done.keyless) == ((), (lost.other,))
    assert "data_keys" not in lost.rows(lost.other)
    assert await doors(lost) == (0, 0), (
        "a key of the customer's own that was taken away before the last backup"
    )


async def test_the_place_of_the_backups_holds_no_word_and_no_name_in_clear(lost: Lost) -> None:
    made = await lost.back_up()
    await lost.delete_other()
    held = b"".join(path.read_bytes() for path in lost.kept.rglob("*") if path.is_file())
    for word in (PLANTED, "fairshare", "acme", "octo", "olga", "wim"):
        assert word.encode() not in held, word
    backups = Backups(FolderObjects(lost.kept), lost.house.keys, lost.house.clock)
    plain = b"".join([piece async for piece in backups.open(made.name)])
    program = await asyncio.create_subprocess_exec(
        str(Path(lost.server._bin) / "pg_restore"), "--file=-",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    script, _ = await program.communicate(plain)
    assert b"acme" in script, "opened, it is the database"
    assert PLANTED.encode() not in script
    assert b"COPY magicode.entries" in script
    assert b"COPY magicode_keys" not in script
    assert b"COPY magicode_jobs.sessions" not in script


async def test_a_dump_that_is_not_as_it_was_written_is_refused_before_anything_is(quiet: Lost) -> None:
    lost = quiet
    old = await lost.back_up(clock=lambda: datetime.now(UTC) - timedelta(minutes=5))
    new = await lost.back_up()
    dump, key = lost.kept / new.name, lost.kept / "keys" / "0"
    whole, kept = dump.read_bytes(), key.read_bytes()
    middle = len(whole) // 2
    lost.lose()
    for how, there, keys in (
        ("changed", whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :], kept),
        ("cut short", whole[:-40], kept),
        ("longer", whole + b"more", kept),
        ("another one's", (lost.kept / old.name).read_bytes(), kept),
        ("with changed keys", whole, kept.replace(b'"made_at": "2', b'"made_at": "1')),
        ("without its keys", whole, None),
    ):
        dump.write_bytes(there)
        key.unlink(missing_ok=True)
        if keys is not None:
            key.write_bytes(keys)
        with pytest.raises(BackupBrokenError):
            await lost.restore()
        with psycopg.connect(lost.server.owner_url) as connection:
            row = connection.execute(
                "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'magicode%'"
            ).fetchone()
        assert row == (0,), how
    dump.write_bytes(whole)
    key.write_bytes(kept)
    assert await lost.restore() == new.name, "as it was written it is taken"


def _same(at: datetime) -> datetime:
    return at


async def test_old_dumps_go_before_a_receipt_says_that_they_are_gone(quiet: Lost) -> None:
    lost = quiet
    backups = Backups(FolderObjects(lost.kept), lost.house.keys, lost.house.clock)

    async def nothing() -> AsyncIterator[bytes]:
        yield b"a dump"

    now = datetime.now(UTC)
    for days in (0, 1, 28, 29, 30):
        clock_at = now + timedelta(days=days)
        written = await replace(backups, clock=partial(_same, clock_at)).write(lost.house.store, nothing())
        made_at = [
            datetime.strptime(name, "dumps/%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
            for name in await backups.dumps()
        ]
        # The next run is a day later: what is here then is not yet as old as a receipt says.
        assert clock_at + timedelta(days=1) - min(made_at) <= BACKUPS_KEPT + timedelta(seconds=1)
        assert written.name in await backups.dumps()
    assert len(await backups.dumps()) == 3
    with pytest.raises(NoBackupError):
        await backups.newest(now)
    with pytest.raises(ClocksApartError):
        await lost.back_up(clock=lambda: now + timedelta(hours=1))


async def test_a_role_that_policies_hold_makes_no_backup(quiet: Lost) -> None:
    lost = quiet
    with pytest.raises(HeldByPoliciesError):
        require_all_rows(lost.server.service_url)
    read = settings.read({**lost.stage.environ, "MAGICODE_DATABASE_BACKUP_URL": lost.server.service_url})
    with pytest.raises(HeldByPoliciesError):
        await back_up(read)
    assert not list(lost.kept.rglob("dumps/*"))
    with psycopg.connect(lost.server.owner_url, autocommit=True) as connection:
        connection.execute("CREATE ROLE reads LOGIN BYPASSRLS")
        connection.execute("GRANT pg_read_all_data TO reads")
    url = lost.server.url("reads", "magicode")
    made = await back_up(settings.read({**lost.stage.environ, "MAGICODE_DATABASE_BACKUP_URL": url}))
    assert made.size > 10_000


async def test_the_commands_say_what_they_did(quiet: Lost) -> None:
    lost = quiet
    code, out, err = await magicode(lost.stage, "backup", "--json")
    assert code == 0, err
    made = json.loads(out)
    assert made["name"].startswith("dumps/")
    assert (made["keys"], made["aged_out"]) == (3, 0)
    code, _, err = await magicode(lost.stage, "restore")
    assert (code, "an empty one" in err) == (1, True)
    erasure = await lost.delete_other()
    lost.lose()
    code, _, err = await magicode(lost.stage, "restore", "--at", "2020-01-01")
    assert (code, "no backup of that time" in err) == (1, True)
    assert (await magicode(lost.stage, "restore", "--at", "yesterday or so"))[0] == 2
    code, out, err = await magicode(lost.stage, "restore", "--json")
    assert code == 0, err
    done = json.loads(out)
    assert (done["backup"], done["erased_again"], done["installations"]) == (made["name"], [lost.other], 1)
    await reached(lost.house)
    await require_gone(lost, erasure)
    without = {name: value for name, value in lost.stage.environ.items() if name != "MAGICODE_BACKUPS"}
    code, _, err = await magicode(replace(lost.stage, environ=without), "restored")
    assert (code, "MAGICODE_BACKUPS" in err) == (1, True)


# --- by a snapshot ---------------------------------------------------------------------------------------------------


async def test_a_snapshot_comes_back_and_nobody_serves_what_was_deleted_since(lost: Lost) -> None:
    stage = lost.stage
    await open_door(lost)
    await ask(stage)
    await stage.settled()
    image = await lost.snapshot()
    async with stage.at_work():
        await stage.ended(2)
    erasure = await lost.delete_other()
    await lost.roll_back(image)
    assert lost.rows(lost.other)["data_keys"] == 1, "its key is back, too"

    with pytest.raises(DeletedComesBackError):
        await require_reapplied(lost.house)
    for command in ("worker", "serve"):
        on_any_port = replace(stage, environ={**stage.environ, "MAGICODE_PORT": "0"})
        code, _, said = await asyncio.wait_for(magicode(on_any_port, command), 90)
        assert (code, "magicode restored" in said) == (1, True)
    done = await restored(lost.house)
    assert done.erased_again == (lost.other,)
    await require_gone(lost, erasure)
    assert await doors(lost) == (0, 0)
    await require_goes_on(lost, ended=3)
    assert len(await stage.pulls()) == 3


async def test_it_may_break_off_anywhere_and_is_done_again(quiet: Lost) -> None:
    lost = quiet
    await open_door(lost)
    image = await lost.snapshot()
    erasure = await lost.delete_other()
    await lost.roll_back(image)
    for place in range(200):
        fuse = Fuse(at=place, after=bool(place % 2))
        house = replace(
            lost.house,
            store=FusedStore(lost.house.store, fuse),
            points=Fused(lost.house.points, fuse),
            backups=Fused(lost.house.backups, fuse),
        )
        try:
            await restored(house)
        except CrashError:
            begun = await tombstone(lost.house, lost.other)
            if begun is None:
                with pytest.raises(DeletedComesBackError):
                    await require_reapplied(lost.house)
            elif begun.ended_at is None:
                assert (await doors(lost))[0] == 0, "what opens doors ends before the guard lets anybody in"
        else:
            break
    else:
        raise AssertionError("it never comes to its end")
    assert place > 15
    await require_gone(lost, erasure)
    assert [one.action for one in await lost.stage.log()].count(Action.SERVICE_RESTORED) == 1


async def test_a_deletion_that_was_at_work_when_all_was_lost_is_done(quiet: Lost) -> None:
    lost = quiet
    image = await lost.snapshot()
    await begin(lost.house, lost.other, Wish("operator", "operator"))
    fuse = Fuse(at=12)
    with pytest.raises(CrashError):
        await erase(replace(lost.house, store=FusedStore(lost.house.store, fuse)), lost.other)
    begun = await tombstone(lost.house, lost.other)
    await lost.roll_back(image)
    assert (await restored(lost.house)).erased_again == (lost.other,)
    found = await tombstone(lost.house, lost.other)
    assert begun is not None
    assert found is not None
    assert found.id == begun.id
    assert verify(read_receipt(found.receipt or "")).ok, "a receipt of its own, since none had been given"
    assert lost.rows(lost.other) == {"erasures": 1}


async def test_what_came_back_is_opened_with_a_master_key_that_was_rotated_since(quiet: Lost) -> None:
    lost = quiet
    made = await lost.back_up()
    image = await lost.snapshot()
    read = settings.read(lost.stage.environ)
    rotated = await rotate(read, keep_old=False, settle_seconds=0, tell=lambda _: None)
    assert (rotated.rewrapped, rotated.removed) == (3, 1)
    await lost.roll_back(image)
    code, _, err = await magicode(lost.stage, "restored")
    assert code == 0, err
    lost.lose()
    assert await lost.restore() == made.name


# --- the list --------------------------------------------------------------------------------------------------------


async def test_no_deletion_ends_that_the_list_does_not_have(quiet: Lost) -> None:
    lost = quiet
    shutil.rmtree(lost.kept, ignore_errors=True)
    lost.kept.write_text("in the way")
    await begin(lost.house, lost.other, Wish("operator", "operator"))
    with pytest.raises(TransientError):
        await erase(lost.house, lost.other)
    found = await tombstone(lost.house, lost.other)
    assert found is not None
    assert found.ended_at is None
    lost.kept.unlink()
    assert (await erase(lost.house, lost.other)).ended_at is not None
    assert await Tombstones(
        FolderObjects(lost.kept), lost.house.store, lost.house.keys, lost.house.clock
    ).installations() == {lost.other}


async def test_who_was_deleted_before_there_was_a_list_is_in_it_from_the_next_backup_on(quiet: Lost) -> None:
    lost = quiet
    lost.stage.house = replace(lost.house, backups=None)
    erasure = await lost.delete_other()
    assert not lost.kept.exists()
    await lost.back_up()
    assert [path.name for path in (lost.kept / "tombstones").iterdir()] == [f"{lost.other}-{erasure.id}"]


async def test_a_place_that_is_not_there_is_no_empty_list(quiet: Lost) -> None:
    with pytest.raises(EmptyPlaceError):
        await restored(quiet.house)
    assert await quiet.house.store.paused(0) is None
    await quiet.back_up()
    assert (await restored(quiet.house)).erased_again == ()


async def test_an_entry_that_somebody_else_wrote_deletes_nothing(lost: Lost) -> None:
    erasure = await lost.delete_other()
    (entry,) = [path for path in (lost.kept / "tombstones").iterdir() if not path.name.endswith(".begun")]
    tenant = lost.stage.installation
    forged = entry.read_text().replace(f'"installation_id": {lost.other}', f'"installation_id": {tenant}')
    (entry.parent / f"{tenant}-{erasure.id}").write_text(forged)
    with pytest.raises(DeletedComesBackError):
        await require_reapplied(lost.house)
    with pytest.raises(ForeignTombstoneError):
        await restored(lost.house)
    assert await tombstone(lost.house, tenant) is None
    assert lost.rows(tenant)["runs"] == 1


async def test_two_that_begin_on_an_empty_database_at_once_are_no_restored_one(
    quiet: Lost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one's first entry, with the key that it is under, comes while this one looks."""
    house = quiet.house
    with psycopg.connect(quiet.server.owner_url, autocommit=True) as owner:
        owner.execute("TRUNCATE magicode_keys.data_keys, magicode.erasures")
        owner.execute("ALTER TABLE magicode.entries DISABLE TRIGGER USER")
        owner.execute("TRUNCATE magicode.entries")
    looked = PostgresTransaction.wrapped_key
    begun = False

    async def while_another_begins(transaction: PostgresTransaction, **how: Any) -> tuple[str, bytes] | None:
        nonlocal begun
        found = await looked(transaction, **how)
        if not begun:
            begun = True
            await house.ledger.record(0, Action.SETTING_CHANGED)
        return found

    monkeypatch.setattr(PostgresTransaction, "wrapped_key", while_another_begins)
    await require_reapplied(house)
