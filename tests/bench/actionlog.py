"""The action log as it grows: what an append costs, who waits for whom, and what it takes to hand it over and verify it.

python tests/bench/actionlog.py [--largest 1000000] [--appends 300]

The chains are real ones. Times are medians of appends that take turns on the logs of all sizes, so that a busy machine
is busy for all of them; the database is an embedded one that does not wait for the disk.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
import psycopg

sys.path.insert(0, str(Path(__file__).parents[2]))

from app.actionlog.export import Format, export
from app.actionlog.filters import Filter
from app.actionlog.ledger import Ledger
from app.actionlog.verify import verify_stream
from app.custody.keys import Keys
from app.nouns import Action, Entry, Installation
from infra.embedded.postgres import SERVICE_ROLE, SUPERUSER, EmbeddedPostgres
from infra.postgres.migrate import migrate
from infra.postgres.store import PostgresStore
from infra.secrets import FileMasterKey

START = datetime(2025, 11, 20, tzinfo=UTC)
LARGEST = 1_000_000
COLUMNS = [field.name for field in fields(Entry)] + ["salt"]
FACTS = {
    "provider": "anthropic", "model": "claude-opus-4-5", "input_tokens": 18_230, "cached_tokens": 17_000,
    "output_tokens": 801, "cost_usd": "0.0493",
}  # fmt: skip


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


class Copied:
    """A transaction that writes what the ledger appends by COPY, which is how a million entries come to be in a minute."""

    def __init__(self, copy: psycopg.Copy, key: tuple[str, bytes]) -> None:
        self._copy = copy
        self._key = key
        self._last: Entry | None = None

    async def wrapped_key(self) -> tuple[str, bytes]:
        return self._key

    async def last_entry(self) -> Entry | None:
        return self._last

    async def add_entry(self, entry: Entry, salt: bytes) -> None:
        self._copy.write_row([*(getattr(entry, name) for name in COLUMNS[:-1]), salt])
        self._last = entry


@dataclass
class Log:
    """A database with one log of so many entries, and an empty one of another installation."""

    size: int
    url: str
    store: PostgresStore
    keys: Keys
    ledger: Ledger


async def log_of(size: int, server: EmbeddedPostgres, folder: Path) -> Log:
    name = f"log{size}"
    with psycopg.connect(server.url(SUPERUSER, "postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template STRATEGY FILE_COPY")
    keys = Keys(FileMasterKey(folder / "master.key"))
    store = PostgresStore(server.url(SERVICE_ROLE, name))
    for tenant in (1, 2):
        async with store.transaction(tenant) as transaction:
            await transaction.put_installation(
                Installation(tenant, tenant, f"account-{tenant}", suspended=False)
            )
            await keys.data_key(transaction)
    async with store.transaction(1) as transaction:
        key = await transaction.wrapped_key()
    began = time.perf_counter()
    url = server.url(SUPERUSER, name)
    with psycopg.connect(url) as connection:
        with connection.cursor().copy(f"COPY magicode.entries ({', '.join(COLUMNS)}) FROM STDIN") as copy:
            now = START
            filled: Any = Copied(copy, key)  # type: ignore[arg-type]
            ledger = Ledger(store, keys, lambda: now)
            for n in range(size):
                now = START + timedelta(seconds=n * 30)
                run = UUID(int=n // 40 + 1) if n % 10 else None
                action = Action.SETTING_CHANGED if n % 5_000 == 0 else Action.MODEL_CALLED
                facts = FACTS if run else {"repository": n % 3}
                await ledger.append(filled, 1, action, f"person-{n // 1_000}", run, facts)
        connection.commit()
        connection.autocommit = True
        connection.execute("VACUUM ANALYZE magicode.entries")
    say(f"{size:>9,} entries made in {time.perf_counter() - began:.0f} s")
    return Log(size, url, store, keys, Ledger(store, keys, lambda: datetime.now(UTC)))


async def appended(ledger: Ledger, installation_id: int) -> float:
    began = time.perf_counter()
    await ledger.record(installation_id, Action.MODEL_CALLED, facts=FACTS)
    return time.perf_counter() - began


async def growth(logs: list[Log], appends: int) -> None:
    """What an append costs at each size, against the smallest."""
    for log in logs:
        for _ in range(20):
            await appended(log.ledger, 1)
    times: dict[int, list[float]] = {log.size: [] for log in logs}
    for _ in range(appends):
        for log in logs:
            times[log.size].append(await appended(log.ledger, 1))
    say("\nentries before   append, median   95 of 100 within   ratio of medians")
    base = statistics.median(times[logs[0].size])
    for size, taken in times.items():
        median, within = statistics.median(taken), statistics.quantiles(taken, n=20)[-1]
        say(f"{size:>14,}   {median * 1e3:>11.2f} ms   {within * 1e3:>13.2f} ms   {median / base:>16.2f}")


async def neighbours(log: Log, appends: int) -> None:
    """What installation 2 waits while installation 1 has its chain locked."""
    times: dict[bool, list[float]] = {False: [], True: []}
    for turn in range(appends // 10):
        held = bool(turn % 2)
        async with locked(log.store, 1) if held else nothing():
            for _ in range(20):
                times[held].append(await appended(log.ledger, 2))
    free, beside = statistics.median(times[False]), statistics.median(times[True])
    say(f"\nappend of installation 2: {free * 1e3:.2f} ms; while installation 1 has its chain locked: ")
    say(f"{beside * 1e3:.2f} ms, longest {max(times[True]) * 1e3:.1f} ms; ratio {beside / free:.2f}")
    async with locked(log.store, 1):
        waiting = asyncio.create_task(appended(log.ledger, 1))
        done, _ = await asyncio.wait([waiting], timeout=1)
        say(f"installation 1 itself waits meanwhile: {'no' if done else 'yes'}")
    await waiting


@asynccontextmanager
async def locked(store: PostgresStore, installation_id: int) -> AsyncIterator[None]:
    async with store.transaction(installation_id) as transaction:
        await transaction.last_entry()
        yield


@asynccontextmanager
async def nothing() -> AsyncIterator[None]:
    yield


class Peak:
    """How much more memory this process holds than when it began, at most, as far as it is looked at."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._before = self._most = self._process.memory_info().rss

    def look(self) -> None:
        self._most = max(self._most, self._process.memory_info().rss)

    @property
    def mib(self) -> float:
        return (self._most - self._before) / (1 << 20)


async def handed_over(log: Log, folder: Path) -> None:
    """Each format written to a file and verified from there."""
    say("\nformat      written      file   memory over before   verified   memory over before")
    for form in (Format.JSONL, Format.JSON, Format.CSV):
        place, writing = folder / f"log.{form.value}", Peak()
        began = time.perf_counter()
        with place.open("w", encoding="utf-8", newline="") as out:
            count = 0
            async for piece in export(log.store, log.keys, 1, form):
                out.write(piece)
                count += 1
                if count % 10_000 == 0:
                    writing.look()
        written = time.perf_counter() - began
        began, reading = time.perf_counter(), Peak()
        with place.open(encoding="utf-8", newline="") as stream:
            report = verify_stream(_Watched(stream, reading.look))  # type: ignore[arg-type]
        verified = time.perf_counter() - began
        if not report.ok:
            raise SystemExit(f"the log is not sound: {report.findings[:3]}")
        size = place.stat().st_size / (1 << 20)
        say(
            f"{form.value:<6} {written:>10.1f} s {size:>7.0f} MiB {writing.mib:>14.1f} MiB {verified:>8.1f} s"
            f" {reading.mib:>15.1f} MiB   ({report.entries:,} entries)"
        )
        place.unlink()


class _Watched:
    """A stream whose reader is looked at now and then."""

    def __init__(self, stream: Any, look: Callable[[], None]) -> None:
        self._stream = stream
        self._look = look
        self._count = 0

    def read(self, size: int) -> str:
        self._look()
        return str(self._stream.read(size))

    def readline(self) -> str:
        return str(self._stream.readline())

    def __iter__(self) -> Iterator[str]:
        for line in self._stream:
            self._count += 1
            if self._count % 1_000 == 0:
                self._look()
            yield line


async def asked_for(log: Log) -> None:
    """How long a whole filtered export takes."""
    middle = START + timedelta(seconds=log.size * 15)
    asked = {
        "an hour in the middle": Filter(since=middle, until=middle + timedelta(hours=1)),
        "the last day": Filter(since=START + timedelta(seconds=log.size * 30 - 86_400)),
        "a run": Filter(run_id=UUID(int=log.size // 80)),
        "a rare kind": Filter(kinds=("setting",)),
        "a person": Filter(actor=f"Person-{log.size // 2_000}"),
    }
    say(f"\nasked of {log.size:,} entries          found   until the last")
    for name, only in asked.items():
        began, found = time.perf_counter(), 0
        async for _ in export(log.store, log.keys, 1, Format.JSONL, only=only):
            found += 1
        say(f"{name:<30} {found - 1:>8,}   {time.perf_counter() - began:>12.3f} s")


async def main(largest: int, appends: int) -> None:
    sizes = [size for size in (1_000, 10_000, 100_000) if size < largest] + [largest]
    with tempfile.TemporaryDirectory(prefix="magicode-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        with EmbeddedPostgres(folder / "data", database="template", durable=False) as server:
            migrate(server.owner_url)
            logs = [await log_of(size, server, folder) for size in sizes]
            await growth(logs, appends)
            await neighbours(logs[-1], appends)
            await asked_for(logs[-1])
            await handed_over(logs[-1], folder)
            for log in logs:
                await log.store.close()


if __name__ == "__main__":
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("--largest", type=int, default=LARGEST)
    given.add_argument("--appends", type=int, default=300)
    read = given.parse_args()
    asyncio.run(main(read.largest, read.appends))
