"""Two workers, a deletion and a run of the same installation at the same moment, again and again."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from app.actionlog.export import Format, export
from app.actionlog.ledger import Ledger
from app.actionlog.verify import verify_text
from app.agent import asking
from app.custody.erase import Wish
from app.custody.keys import Keys
from app.custody.receipt import read_receipt, verify
from app.erasing import begin
from app.house import House
from app.nouns import Erasure
from app.worker import work_jobs
from embeddings.forget import shelf_of
from infra.embedded.postgres import SUPERUSER
from infra.postgres.store import PostgresStore
from tests.line.conftest import Stages
from tests.line.conversations import create, finish, playbook, scenario
from tests.line.seen import until
from tests.line.stage import Stage

TIMES = 200
AT_ONCE = 6
JITTER_SECONDS = 0.05
SEED = 20270301


@dataclass(frozen=True)
class Moment:
    """When a deletion begins: so many requests of the run to GitHub after it began, and so many seconds later."""

    requests: int
    seconds: float


@dataclass(frozen=True)
class Round:
    login: str
    tenant: int
    number: int
    shelf: str
    ended_at: datetime
    erasure: Erasure
    published: bool


@pytest.mark.long
@pytest.mark.timeout(1800)
async def test_after_the_receipt_there_is_never_a_row_a_vector_an_object_a_key_or_a_write(
    raise_stage: Stages, tmp_path: Path, database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "WATCH_SECONDS", 0.2)
    folder = tmp_path / "one"
    folder.mkdir()
    (folder / "README.md").write_text("# One\n\nA small library that rounds shares.\n", encoding="utf-8")
    (folder / "share.py").write_text("def share(of, among):\n    return of // among\n", encoding="utf-8")
    script = playbook(scenario(create("NOTES.md", "A note.\n"), finish()))
    stage = await raise_stage({"octo/one": folder}, script, working=False)
    stage.github.world.limits.content_per_minute = stage.github.world.limits.points_per_minute = 1_000_000
    second = await _another_process(stage.house, database)
    chance = random.Random(SEED)
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(number: int, after: int, delay: float) -> Round:
        async with gate:
            return await _round(stage, second, f"acme{number}", folder, Moment(after, delay))

    workers = [asyncio.create_task(work_jobs(house, 4)) for house in (stage.house, second)]
    try:
        whole = await _whole_run(stage)
        moments = [(chance.randint(0, whole), chance.uniform(0, JITTER_SECONDS)) for _ in range(TIMES)]
        rounds = await asyncio.gather(*(one(number, *moment) for number, moment in enumerate(moments)))
        await asyncio.sleep(1)  # what somebody still does late
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.wait(workers)
    tenants = {one.tenant for one in rounds}
    assert await _rows(database, tenants) == {}
    assert await _jobs(database, tenants) == 0
    async with stage.house.store.transaction(stage.installation) as transaction:
        kept = shelf_of(await stage.house.keys.data_key(transaction), stage.installation)
    assert [one.name for one in (stage.folder / "data" / "qdrant").iterdir()] == [kept]
    assert not list((stage.folder / "data" / "exports").rglob("*.*"))
    assert _late_writes(stage, rounds) == []
    await until(lambda: no_token_is_left(stage, tenants))
    await _told_well(stage, rounds)
    await _the_others_log_holds(stage)
    assert Counter(one.published for one in rounds).keys() == {True, False}


async def no_token_is_left(stage: Stage, tenants: Collection[int]) -> bool:
    """Each is revoked behind the work that it was for."""
    return not [one for one in stage.github.world.tokens.values() if one.installation_id in tenants]


async def _another_process(house: House, database: Any) -> House:
    """Another worker as a process of its own would have it: a store and a memory of its own."""
    store = PostgresStore(database.service_url)
    keys = Keys(house.keys._master)
    return replace(house, store=store, keys=keys, ledger=Ledger(store, keys, house.clock))


async def _round(stage: Stage, second: House, login: str, folder: Path, moment: Moment) -> Round:
    where = f"{login}/one"
    installation = await stage.github.add_account(login, {"one": folder}, people={"wim": "write"})
    tenant = installation.id
    await _known(stage.house, tenant)
    await stage.house.objects.put(f"{tenant}/export", _pieces())
    before = len(stage.github.world.requests)
    number = await _asked(stage, where)
    await _until(stage, tenant, before, moment)
    repository = stage.github.world.repository(where)
    assert repository is not None
    await begin(second, tenant, Wish("asked", login, repository.id, number))
    erasure = await _begun(stage.house, tenant)
    shelf = erasure.shelf or ""
    async with asyncio.timeout(120):
        while erasure.ended_at is None:
            await asyncio.sleep(0.02)
            erasure = await _begun(stage.house, tenant)
    assert await stage.house.points.count(shelf) == 0
    assert await stage.house.points.names(shelf) == set()
    assert await stage.house.objects.names(str(tenant)) == []
    async with stage.house.store.transaction(tenant, erasing=True) as transaction:
        assert not any((await transaction.row_counts()).values())
    pulls = await stage.pulls(repository=where)
    return Round(login, tenant, number, shelf, erasure.ended_at, erasure, bool(pulls))


async def _asked(stage: Stage, where: str) -> int:
    number = await stage.open_issue("The note is wrong", "Write one.", repository=where)
    await stage.comment(number, "@magicode fix this", repository=where)
    return number


async def _whole_run(stage: Stage) -> int:
    """How many requests a run makes that nobody disturbs."""
    await _asked(stage, stage.repository)
    await stage.ended()
    await asyncio.sleep(1)
    return _requests(stage, stage.installation, 0)


def _requests(stage: Stage, tenant: int, since: int) -> int:
    return sum(one.installation_id == tenant for one in stage.github.world.requests[since:])


async def _until(stage: Stage, tenant: int, since: int, moment: Moment) -> None:
    """Or until the run has ended."""
    looked = 0
    while _requests(stage, tenant, since) < moment.requests:
        await asyncio.sleep(0.01)
        looked += 1
        if looked % 20 == 0:
            async with stage.house.store.transaction(tenant) as transaction:
                runs = await transaction.runs()
            if runs and all(run.state.ended for run in runs):
                break
    await asyncio.sleep(moment.seconds)


async def _known(house: House, tenant: int) -> None:
    async with asyncio.timeout(30):
        while True:
            async with house.store.transaction(tenant) as transaction:
                if await transaction.installation() is not None:
                    return
            await asyncio.sleep(0.02)


async def _begun(house: House, tenant: int) -> Erasure:
    async with house.store.transaction(tenant, erasing=True) as transaction:
        found = await transaction.erasure()
    assert found is not None
    return found


async def _pieces() -> AsyncIterator[bytes]:
    yield b"sealed"


async def _superuser(database: Any) -> psycopg.AsyncConnection[Any]:
    """Whom no policy holds."""
    name = str(database.owner_url).rsplit("/", 1)[-1].partition("?")[0]
    return await psycopg.AsyncConnection.connect(database.server.url(SUPERUSER, name))


async def _rows(database: Any, tenants: set[int]) -> dict[str, int]:
    """In every table of the database that names an installation, but the tombstones'."""
    async with await _superuser(database) as connection:
        tables = await (
            await connection.execute(
                "SELECT table_schema, table_name FROM information_schema.columns"
                " WHERE column_name = 'installation_id' AND table_name <> 'erasures'"
            )
        ).fetchall()
        assert {"runs", "entries", "data_keys"} <= {name for _, name in tables}
        found = {}
        for schema, name in tables:
            row = await (
                await connection.execute(
                    f'SELECT count(*) FROM "{schema}"."{name}" WHERE installation_id = ANY(%s)',
                    [list(tenants)],
                )
            ).fetchone()
            if row is not None and row[0]:
                found[name] = row[0]
        return found


async def _jobs(database: Any, tenants: set[int]) -> int:
    async with await _superuser(database) as connection:
        row = await (
            await connection.execute(
                "SELECT count(*) FROM magicode_jobs.procrastinate_jobs"
                " WHERE (args ->> 'installation_id')::bigint = ANY(%s)",
                [list(tenants)],
            )
        ).fetchone()
    assert row is not None
    return int(row[0])


def _late_writes(stage: Stage, rounds: list[Round]) -> list[str]:
    ended = {one.tenant: one.ended_at for one in rounds}
    return [
        f"{one.method} {one.path}"
        for one in stage.github.world.requests
        if one.installation_id in ended
        and one.method != "GET"
        and one.path != "/installation/token"
        and one.at > ended[one.installation_id]
    ]


async def _told_well(stage: Stage, rounds: list[Round]) -> None:
    """One receipt for each, which holds, and no request that says for ever that it is worked on."""
    for one in rounds:
        comments = await stage.comments(one.number, repository=f"{one.login}/one")
        bodies = [said["body"] for said in comments if said["user"]["login"] == "magicode[bot]"]
        receipts = [body for body in bodies if "magicode-receipt/1" in body]
        assert len(receipts) == 1, one
        document = read_receipt(receipts[0])
        assert verify(document).ok
        assert document["installation_id"] == one.tenant
        assert not [body for body in bodies if "Working on it" in body], one


async def _the_others_log_holds(stage: Stage) -> None:
    pieces = [
        piece async for piece in export(stage.house.store, stage.house.keys, stage.installation, Format.JSONL)
    ]
    report = verify_text("".join(pieces))
    assert report.ok
    assert report.entries > 10
