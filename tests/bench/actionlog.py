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
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg

sys.path.insert(0, str(Path(__file__).parents[2]))

from app.actionlog.export import Format, export
from app.actionlog.filters import Filter
from app.actionlog.ledger import Ledger
from app.actionlog.verify import verify_stream
from app.custody.keys import Keys
from app.nouns import Action, Entry, Installation, Job
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

    async def add_entry(
        self, entry: Entry, salt: bytes, _: Sequence[Job] = (), *, ends: bool = False
    ) -> None:
        self._copy.write_row([*(getattr(entry, name) for name in COLUMNS[:-1]), salt])
        self._last = entry


@dataclass
class Log:
    """A database with one log of so many entries, and an empty one of another installation."""

    size: int
    service_url: str
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
    return Log(
        size, server.url(SERVICE_ROLE, name), store, keys, Ledger(store, keys, lambda: datetime.now(UTC))
    )


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
    for turn in range(appends // 2):
        held = bool(turn % 2)
        async with locked(log.store, 1) if held else nothing():
            for _ in range(4):
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


def memory(name: str) -> float:
    """A figure of this process in MiB: `VmRSS` what it holds, `VmHWM` the most that it has held since its program began.

    https://man7.org/linux/man-pages/man5/proc_pid_status.5.html
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def written(url: str, key: Path, form: Format, place: Path) -> tuple[float, float]:
    """Export to a file, in a process of its own: seconds, and memory beyond what the program itself takes."""

    async def write() -> None:
        store = PostgresStore(url)
        with place.open("w", encoding="utf-8", newline="") as out:
            async for piece in export(store, Keys(FileMasterKey(key)), 1, form):
                out.write(piece)
        await store.close()

    before, began = memory("VmRSS"), time.perf_counter()
    asyncio.run(write())
    return time.perf_counter() - began, memory("VmHWM") - before


def verified(place: Path) -> tuple[float, float, int]:
    """Verify a file, in a process of its own."""
    before, began = memory("VmRSS"), time.perf_counter()
    with place.open(encoding="utf-8", newline="") as stream:
        report = verify_stream(stream)
    if not report.ok:
        raise SystemExit(f"the log is not sound: {report.findings[:3]}")
    return time.perf_counter() - began, memory("VmHWM") - before, report.entries


def handed_over(logs: list[Log], folder: Path) -> None:
    """Each format written to a file and verified from there, for the smallest log and the largest."""
    say("\nformat    entries    written       file   memory   verified   memory")
    for form in (Format.JSONL, Format.JSON, Format.CSV):
        for log in (logs[0], logs[-1]):
            place = folder / f"log.{form.value}"
            with alone() as process:
                wrote, writing = process.submit(
                    written, log.service_url, folder / "master.key", form, place
                ).result()
            with alone() as process:
                read, reading, entries = process.submit(verified, place).result()
            size = place.stat().st_size / (1 << 20)
            say(
                f"{form.value:<6} {entries:>10,} {wrote:>8.1f} s {size:>6.0f} MiB {writing:>4.0f} MiB"
                f" {read:>8.1f} s {reading:>4.0f} MiB"
            )
            place.unlink()


def alone() -> ProcessPoolExecutor:
    """A fresh process, whose memory is its own."""
    return ProcessPoolExecutor(1, mp_context=get_context("spawn"))


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
            handed_over(logs, folder)
            for log in logs:
                await log.store.close()


if __name__ == "__main__":
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("--largest", type=int, default=LARGEST)
    given.add_argument("--appends", type=int, default=300)
    read = given.parse_args()
    asyncio.run(main(read.largest, read.appends))
