"""What grows with the number of customers: the same work among 1,000 installations and among 100,000, side by side.

    python tests/bench/scale.py [--installations 100000] [--runs 1000000] [--looks 30] [--json]

Two services on two databases of their own, one with a hundredth of the other's rows; everything is asked of both in turn, so that a
busy machine is busy for both. Who is asked for has as much of its own in either: what differs is everybody else. Ends with 1 where
something takes more than 1.5 times as long among all of them (medians): accepting a webhook, fetching a job, a page, an entry in
the log. What looks at every installation by its nature, and the parts of the others, are told beside it
and bound nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parent)]

import line
import load
from pages import fill_log, fill_runs, look, pages

from app.actionlog.ledger import Ledger
from app.nouns import Action, Installation, Job
from app.retaining import sweep_house
from infra.embedded.postgres import SERVICE_ROLE, SUPERUSER, EmbeddedPostgres
from infra.postgres.connect import parameters
from infra.postgres.migrate import migrate
from infra.postgres.turns import DEFER, FETCH, LOCKED_QUEUE, placed
from tests.app.web.browser import Browser, opened
from tests.bench.actionlog import FACTS
from tests.line.conftest import SIMULATOR, Words
from tests.line.conversations import notes
from tests.line.stage import Stage, staged

BOUND = 1.5
PART = 100
"""The small one has so small a part of the large one's rows."""
FIRST = 10_000_000
MEASURED = 250
"""Installations, spread among the others, that are asked for; each has ten runs."""
ENTRIES_A_RUN = 10
BESIDE = ("a job ended", "a job put on the queue")
"""Parts of what is bounded (a run's end, a request's acceptance): alone they go by what waits, of which there is a hundred times as much."""
OWN_RUNS, OWN_ENTRIES = 1_000, 10_000
"""Of the installation whose pages are looked at."""

# Half of the runs belong to the busiest eighth of the installations, and a fiftieth to the very busiest: in the order of time, and so
# everybody's rows lie among everybody else's.
OWNERS = f"""
CREATE TEMPORARY TABLE owners AS
SELECT g, CASE WHEN g %% (%(runs)s / {MEASURED * 10}) = 0
    THEN (g / (%(runs)s / {MEASURED * 10}) %% {MEASURED}) * %(step)s
    ELSE (idle / (%(step)s - 1)) * %(step)s + idle %% (%(step)s - 1) + 1
    END + {FIRST} AS tenant
FROM (SELECT g, floor((%(installations)s - {MEASURED}) * power(random(), 3))::bigint AS idle
      FROM generate_series(1, %(runs)s) AS g) AS drawn
"""
INSTALLATIONS = f"""
INSERT INTO magicode.installations (installation_id, account_id, account_login, suspended)
SELECT {FIRST} + n, n + 1000, 'account-' || n, false FROM generate_series(0, %(installations)s - 1) AS n
ON CONFLICT DO NOTHING
"""
KEYS = f"""
INSERT INTO magicode_keys.data_keys (installation_id, master_key_id, wrapped)
SELECT {FIRST} + n, 'file:elsewhere', decode(repeat(md5(n::text), 4), 'hex') FROM generate_series(0, %(installations)s - 1) AS n
ON CONFLICT DO NOTHING
"""
RUNS = """
INSERT INTO magicode.runs (installation_id, id, repository_id, number, is_pull_request, verb, occasion, comment_id, asker_id,
    asker_login, meaning, input_hash, state, attempt, cancel_requested, reason, branch, pull_request, input_tokens, cached_tokens,
    output_tokens, cost_usd, created_at, started_at, ended_at)
SELECT tenant, gen_random_uuid(), tenant * 10 + g %% 3, g %% 9000 + 1, false, (ARRAY['fix', 'fix', 'revise', 'plan'])[g %% 4 + 1],
    'comment', g, 5000 + g %% 7, 'person-' || g %% 7, md5(g::text) || md5('m' || g), repeat('0', 64),
    (ARRAY['opened', 'updated', 'answered', 'refused', 'failed', 'cancelled'])[g %% 6 + 1], 1, false, 'opened',
    'magicode/issue-' || g %% 9000 + 1, CASE g %% 6 WHEN 0 THEN g END, 20000, 12000, 900, 0.12, at, at, at + interval '80 seconds'
FROM (SELECT *, now() - interval '90 days' * (1 - g / %(runs)s::float8) AS at FROM owners) AS told
"""
ENTRIES = f"""
INSERT INTO magicode.entries (installation_id, seq, at, actor, action, run_id, sealed, salt, details_hash, previous_hash, hash)
SELECT tenant, g * {ENTRIES_A_RUN} + e, now() - interval '90 days' * (1 - g / %(runs)s::float8), 'person-' || g %% 7,
    (ARRAY['webhook.accepted', 'permission.checked', 'token.minted', 'code.fetched', 'model.called', 'model.called', 'commit.created',
           'comment.updated', 'pull_request.opened', 'run.ended'])[e], md5(g::text)::uuid, decode(repeat(md5(g::text || e), 14), 'hex'),
    decode(repeat(md5(e || g::text), 3), 'hex'), repeat(md5(g || 'd' || e), 2), repeat(md5(g || 'h' || e - 1), 2),
    repeat(md5(g || 'h' || e), 2)
FROM owners CROSS JOIN generate_series(1, {ENTRIES_A_RUN}) AS e
"""
DELIVERIES = """
INSERT INTO magicode.deliveries (installation_id, guid, event, action, outcome, received_at)
SELECT tenant, gen_random_uuid()::text, 'issue_comment', 'created', 'command', now() - interval '90 days' * (1 - g / %(runs)s::float8)
FROM owners CROSS JOIN generate_series(1, 2)
"""


@dataclass
class World:
    """One of the two. `owner` is the superuser's address, `worker` a row that jobs are fetched for."""

    name: str
    installations: int
    runs: int
    server: EmbeddedPostgres
    stage: Stage
    owner: str
    browser: Browser
    fetching: psycopg.AsyncConnection[Any]
    worker: int
    turns: Any = field(default_factory=lambda: itertools.count(1))

    def tenant(self, turn: int) -> int:
        """Each in its turn, far from the last one."""
        return FIRST + (turn * 211) % MEASURED * (self.installations // MEASURED)


@contextlib.asynccontextmanager
async def world(folder: Path, name: str, installations: int, runs: int) -> AsyncIterator[World]:
    sample = folder / "fairshare"
    shutil.copytree(SIMULATOR / "sample", sample, ignore=shutil.ignore_patterns("__pycache__"))
    with EmbeddedPostgres(folder / "data") as server:
        migrate(server.owner_url)
        database = server.owner_url.rpartition("/")[2].partition("?")[0]
        owner = server.url(SUPERUSER, database)
        async with (
            staged(
                folder / "stage",
                {"octo/fairshare": sample},
                notes(),
                database_url=server.url(SERVICE_ROLE, database),
                encoder=Words(),
                working=False,
            ) as stage,
            opened(stage) as browser,
            await psycopg.AsyncConnection.connect(
                **parameters(stage.environ["MAGICODE_DATABASE_URL"]), autocommit=True
            ) as fetching,
        ):
            began = time.perf_counter()
            await measured_ones(stage, installations)
            fill(owner, installations, runs)
            fill_runs(owner, stage.installation, next(iter(stage.github.world.repositories)), OWN_RUNS)
            await fill_log(stage, owner, stage.installation, OWN_ENTRIES)
            with psycopg.connect(owner, autocommit=True) as connection:
                connection.execute("VACUUM ANALYZE")
                connection.execute("CHECKPOINT")
            worker = await (
                await fetching.execute("INSERT INTO procrastinate_workers DEFAULT VALUES RETURNING id")
            ).fetchone()
            assert worker is not None
            made = World(name, installations, runs, server, stage, owner, browser, fetching, int(worker[0]))
            await queued(made, installations // 10)
            await browser.sign_in("ada")
            issue = await stage.open_issue("Something")
            await stage.comment(issue, line.COMMENT)  # a body to send again and again
            await stage.settled()
            load._tell(
                f"{name}: {installations:,} installations, {runs:,} runs, {runs * ENTRIES_A_RUN:,} entries in "
                f"{time.perf_counter() - began:.0f} s"
            )
            yield made


async def measured_ones(stage: Stage, installations: int) -> None:
    """Those that are asked for have keys that open."""
    for number in range(0, installations, installations // MEASURED):
        async with stage.house.store.transaction(FIRST + number) as transaction:
            told = Installation(FIRST + number, number + 1000, f"account-{number}", suspended=False)
            await transaction.put_installation(told)
            await stage.house.keys.data_key(transaction)


def fill(owner: str, installations: int, runs: int) -> None:
    """As they would have come, but for the indexes: those are made afterwards, at once."""
    sizes = {"installations": installations, "runs": runs, "step": installations // MEASURED}
    with psycopg.connect(owner, autocommit=True) as connection:
        connection.execute("SET maintenance_work_mem = '1GB'; SET synchronous_commit = off; SET jit = off")
        connection.execute("SELECT setseed(0.5)")
        for statement in (INSTALLATIONS, KEYS, OWNERS):
            connection.execute(statement, sizes)
        for table, statement in (("runs", RUNS), ("entries", ENTRIES), ("deliveries", DELIVERIES)):
            with without_indexes(connection, f"magicode.{table}"):
                connection.execute(statement, sizes)


@contextlib.contextmanager
def without_indexes(connection: psycopg.Connection[Any], table: str) -> Any:
    constraints = connection.execute(
        "SELECT format('ALTER TABLE %%s DROP CONSTRAINT %%I', conrelid::regclass, conname),"
        " format('ALTER TABLE %%s ADD CONSTRAINT %%I %%s', conrelid::regclass, conname, pg_get_constraintdef(oid))"
        " FROM pg_constraint WHERE conrelid = %s::regclass AND contype IN ('p', 'u')",
        [table],
    ).fetchall()
    indexes = connection.execute(
        "SELECT format('DROP INDEX %%s', indexrelid::regclass), pg_get_indexdef(indexrelid) FROM pg_index"
        " WHERE indrelid = %s::regclass AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid)",
        [table],
    ).fetchall()
    for drop, _ in (*constraints, *indexes):
        connection.execute(drop)
    yield
    for _, make in (*constraints, *indexes):
        connection.execute(make)


async def queued(there: World, count: int) -> None:
    """A tenth of the installations wait for something."""
    async with there.fetching.pipeline():
        for number in range(count):
            await there.fetching.execute(DEFER, _job(FIRST + number * (there.installations // count), number))


def _job(tenant: int, number: int) -> Mapping[str, object]:
    ids = {"installation_id": tenant, "run_id": UUID(int=number + 1)}
    return placed(Job("work", ids, f"{tenant}:{number}"))


# --- what is measured ------------------------------------------------------------------------------------------------

Look = Callable[[World], Awaitable[Mapping[str, float]]]


async def timed(act: Awaitable[Any]) -> float:
    began = time.perf_counter()
    await act
    return time.perf_counter() - began


async def jobs(there: World) -> dict[str, float]:
    """One is fetched and done with, and another one put on: as many wait as before."""
    connection, number = there.fetching, next(there.turns)
    began = time.perf_counter()
    row = await (await connection.execute(FETCH, {"worker": there.worker, "queue": LOCKED_QUEUE})).fetchone()
    fetched = time.perf_counter()
    assert row is not None
    await connection.execute("SELECT procrastinate_finish_job_v1(%s, 'succeeded', true)", [row[0]])
    ended = time.perf_counter()
    await connection.execute(DEFER, _job(there.tenant(number), 1_000_000 + number))
    return {
        "a job fetched": fetched - began,
        "a job ended": ended - fetched,
        "a job put on the queue": time.perf_counter() - ended,
    }


async def appended(there: World) -> dict[str, float]:
    house = there.stage.house
    ledger = Ledger(house.store, house.keys, lambda: datetime.now(UTC))
    tenant = there.tenant(next(there.turns))
    return {"an entry in the log": await timed(ledger.record(tenant, Action.MODEL_CALLED, facts=FACTS))}


async def swept(there: World) -> dict[str, float]:
    tenant = there.tenant(next(there.turns))
    return {"a look for what is too old, of one": await timed(sweep_house(there.stage.house, tenant))}


def looks_at(there: World) -> list[Look]:
    """Each page for itself, so that the two are asked for it one behind the other."""
    repository = next(iter(there.stage.github.world.repositories))
    own = f"/installations/{there.stage.installation}"

    def looks(path: str) -> Look:
        name = f"GET {path.replace(own, '…')}".replace(str(repository), "N")

        async def looked(there: World) -> Mapping[str, float]:
            return {name: (await look(there.browser, path))[0]}

        return looked

    return [looks(path) for path in pages(there.stage.installation, repository, OWN_RUNS, OWN_ENTRIES)]


async def accepted(there: World, *, text: str, count: int = 120) -> tuple[float, float]:
    """The median of a delivery's time one after the other, each of another installation, and PostgreSQL's share of the cores."""
    whom = [there.tenant(next(there.turns)) for _ in range(count)]
    bodies = load._deliveries(there.stage, count, whom, text=text, path="/webhooks/github")
    plan = list(bodies)
    before = load._cpu_of_postgres(there.server)
    figures = await one_by_one(int(there.stage.url.rpartition(":")[2]), plan)
    return figures["p50_ms"] / 1000, (load._cpu_of_postgres(there.server) - before) / count


async def one_by_one(port: int, requests: list[bytes]) -> dict[str, Any]:
    return await load._load(port, requests, 0, connections=1)


async def everything(there: World) -> dict[str, float]:
    """What grows with everybody, by its nature."""
    store = there.stage.house.store
    listed = [
        Installation(FIRST + number, number + 1000, f"account-{number}", suspended=False)
        for number in range(there.installations)
    ]
    return {
        "GitHub's list of installations compared": await timed(store.standing(listed)),
        "the ids of all installations": await timed(store.installation_ids()),
        "what waits in the queues (/metrics)": await timed(store.queues()),
    }


# --- both, in turn ---------------------------------------------------------------------------------------------------


async def both(worlds: list[World], act: Look, looks: int) -> dict[str, list[list[float]]]:
    """Of each thing, the seconds that it took in either."""
    taken: dict[str, list[list[float]]] = {}
    for turn in range(looks + 2):
        order = list(enumerate(worlds))
        for place, there in order if turn % 2 else reversed(order):
            for name, seconds in (await act(there)).items():
                if turn >= 2:  # what is asked for the first time is elsewhere than in memory
                    taken.setdefault(name, [[] for _ in worlds])[place].append(seconds)
    return taken


async def acceptance(there: World) -> Mapping[str, float]:
    command, cpu = await accepted(there, text=line.COMMENT)
    other, _ = await accepted(there, text="Thanks!")
    return {"a request accepted": command, "PostgreSQL's CPU of it": cpu, "another comment accepted": other}


async def measure(small: World, large: World, looks: int) -> dict[str, Any]:
    worlds = [small, large]
    rows: dict[str, list[list[float]]] = {}
    for act, times in (
        (jobs, looks * 10),
        (appended, looks * 10),
        (swept, looks),
        *((act, looks) for act in looks_at(small)),
        (acceptance, max(looks // 4, 3)),
    ):
        found = await both(worlds, act, times)
        load._tell(f"  {', '.join(found)}: done")
        rows |= found
    beside = {name: rows.pop(name) for name in BESIDE} | await both(worlds, everything, looks)
    return {
        "sizes": {one.name: sizes(one) for one in worlds},
        "bounded": {name: _told(*found) for name, found in rows.items()},
        "beside": {name: _told(*found) for name, found in beside.items()},
    }


def sizes(there: World) -> dict[str, Any]:
    with psycopg.connect(there.owner) as connection:
        found = {
            name: connection.execute(
                f"SELECT count(*), pg_total_relation_size('{name}') FROM {name}"
            ).fetchone()
            for name in ("magicode.installations", "magicode.runs", "magicode.entries", "magicode.deliveries",
                         "magicode_jobs.procrastinate_jobs")
        }  # fmt: skip
    return {
        name: {"rows": row[0], "bytes_a_row": round(row[1] / max(row[0], 1))}
        for name, row in found.items()
        if row is not None
    }


def _told(small: list[float], large: list[float]) -> dict[str, float]:
    a, b = statistics.median(small), statistics.median(large)
    return {
        "small_ms": round(a * 1e3, 2),
        "large_ms": round(b * 1e3, 2),
        "ratio": round(b / a, 2),
        "large_p99_ms": round(sorted(large)[int(len(large) * 0.99)] * 1e3, 2),
    }


def show(document: Mapping[str, Any]) -> None:
    for name, tables in document["sizes"].items():
        load._tell(f"\n{name}")
        for table, row in tables.items():
            load._tell(
                f"  {row['rows']:>12,} rows, {row['bytes_a_row']:>5} bytes each with their indexes: {table}"
            )
    for part, bound in (("bounded", BOUND), ("beside", None)):
        print(f"\n{part}\n     small      large    99 of 100   times")
        for name, row in document[part].items():
            wrong = "   TOO MUCH" if bound and row["ratio"] > bound else ""
            print(
                f"{row['small_ms']:>7.2f} ms {row['large_ms']:>7.2f} ms {row['large_p99_ms']:>8.2f} ms {row['ratio']:>7.2f}"
                f"   {name}{wrong}"
            )


async def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--installations", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=1_000_000)
    parser.add_argument("--looks", type=int, default=30)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="magicode-scale-", ignore_cleanup_errors=True) as made:
        folder = Path(made)
        for name in ("small", "large"):
            (folder / name).mkdir()
        async with (
            world(folder / "small", "small", asked.installations // PART, asked.runs // PART) as small,
            world(folder / "large", "large", asked.installations, asked.runs) as large,
        ):
            document = await measure(small, large, asked.looks)
    if asked.json:
        print(json.dumps(document, indent=2))
    else:
        show(document)
    return int(any(row["ratio"] > BOUND for row in document["bounded"].values()))


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
