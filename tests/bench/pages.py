"""What a page takes, and how large it is, where an installation has 100,000 runs and 1,000,000 entries in its log.

python tests/bench/pages.py [--runs 100000] [--entries 1000000] [--looks 15]

The whole service over HTTP on a database of its own, GitHub simulated in the same process; each page is asked for in turn with the
others, so that a busy machine is busy for all of them. Beside each time stands what an empty page (the landing page) took in the
same turns. Ends with 1 where a page takes more than 100 ms (median) or 100 kB.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg

sys.path.insert(0, str(Path(__file__).parents[2]))

from app.actionlog.ledger import Ledger
from app.nouns import Action
from infra.embedded.postgres import SERVICE_ROLE, SUPERUSER, EmbeddedPostgres
from infra.postgres.migrate import migrate
from tests.app.web.browser import Browser, opened
from tests.bench.actionlog import COLUMNS, FACTS, Copied, say
from tests.line.conftest import SIMULATOR, Words
from tests.line.conversations import notes
from tests.line.stage import Stage, staged

LONGEST_SECONDS = 0.1
LARGEST_BYTES = 100_000
STATES = ("opened", "updated", "answered", "refused", "failed", "cancelled")
VERBS = ("fix", "fix", "fix", "revise", "plan", "explain")


def fill_runs(url: str, tenant: int, repository: int, count: int) -> None:
    """Ended ones, one every five minutes up to now, of a few people and all outcomes, on three repositories."""
    columns = (
        "installation_id", "id", "repository_id", "number", "is_pull_request", "verb", "occasion", "comment_id", "asker_id",
        "asker_login", "meaning", "input_hash", "state", "attempt", "cancel_requested", "reason", "pull_request", "input_tokens",
        "cached_tokens", "output_tokens", "cost_usd", "created_at", "started_at", "ended_at",
    )  # fmt: skip
    now = datetime.now(UTC)
    with (
        psycopg.connect(url, autocommit=True) as connection,
        connection.cursor().copy(f"COPY magicode.runs ({', '.join(columns)}) FROM STDIN") as copy,
    ):
        for n in range(1, count + 1):
            at = now - timedelta(minutes=5 * (count - n) + 1)
            state = STATES[n % len(STATES)]
            pull = n if state in ("opened", "updated") else None
            copy.write_row((
                tenant, UUID(int=n), repository if n % 3 else 77_000 + n % 2, n % 9_000 + 10, False, VERBS[n % len(VERBS)], "comment",
                n, 900 + n % 7, f"person-{n % 7}", f"meaning-{n}", "0" * 64, state, 1, False, state, pull, 20_000, 12_000, 900,
                Decimal("0.12"), at, at, at + timedelta(seconds=80),
            ))  # fmt: skip


async def fill_log(stage: Stage, url: str, tenant: int, count: int) -> None:
    """A real chain behind what stands there already."""
    async with stage.house.store.transaction(tenant) as transaction:
        await stage.house.keys.data_key(transaction)
        key, last = await transaction.wrapped_key(), await transaction.last_entry()
    now = datetime.now(UTC)
    with psycopg.connect(url) as connection:
        with connection.cursor().copy(f"COPY magicode.entries ({', '.join(COLUMNS)}) FROM STDIN") as copy:
            filled: Any = Copied(copy, key)  # type: ignore[arg-type]
            filled._last = last
            ledger = Ledger(stage.house.store, stage.house.keys, lambda: now)
            for n in range(count):
                run = UUID(int=n // 10 + 1) if n % 10 else None
                action = Action.SETTING_CHANGED if n % 5_000 == 0 else Action.MODEL_CALLED
                await ledger.append(filled, tenant, action, f"person-{n // 1_000}", run, FACTS)
        connection.commit()
        connection.autocommit = True
        connection.execute("VACUUM ANALYZE magicode.entries")
        connection.execute("VACUUM ANALYZE magicode.runs")


def pages(tenant: int, repository: int, runs: int, entries: int) -> list[str]:
    here = f"/installations/{tenant}"
    return [
        "/",
        "/installations",
        f"{here}/runs",
        f"{here}/runs?repository={repository}",
        f"{here}/runs?repository=77001",
        f"{here}/runs?state=failed",
        f"{here}/runs?state=running",
        f"{here}/runs?verb=undo",
        f"{here}/runs?state=opened&verb=plan&repository={repository}",
        f"{here}/runs?beyond={UUID(int=runs // 2)}",
        f"{here}/runs?beyond={UUID(int=20)}",
        f"{here}/runs/{UUID(int=runs // 2)}",
        here,
        f"{here}/usage",
        f"{here}/usage?days=90",
        f"{here}/settings",
        f"{here}/members",
        f"{here}/tokens",
        f"{here}/hooks",
        f"{here}/actions",
        f"{here}/actions?before={entries // 2}",
        f"{here}/actions?run={UUID(int=runs // 2)}",
        f"{here}/actions?kind=setting.changed",
        f"{here}/actions?kind=run.ended",
        f"{here}/actions?actor=person-3",
        f"{here}/actions?actor=nobody",
        f"{here}/actions?repository=77001",
        f"{here}/actions?since=2026-01-01&until=2026-01-02",
        f"{here}/exports",
        f"{here}/deletion",
    ]


async def look(browser: Browser, path: str) -> tuple[float, int]:
    began = time.perf_counter()
    answer = await browser.get(path)
    taken = time.perf_counter() - began
    assert answer.status_code == 200, (path, answer.status_code, answer.text[:300])
    return taken, len(answer.content)


async def measure(stage: Stage, paths: list[str], looks: int) -> int:
    taken: dict[str, list[float]] = {path: [] for path in paths}
    sizes: dict[str, int] = {}
    async with opened(stage) as browser:
        await browser.sign_in("ada")
        for path in paths:
            await look(browser, path)
        for _ in range(looks):
            for path in paths:
                seconds, sizes[path] = await look(browser, path)
                taken[path].append(seconds)
    base = statistics.median(taken["/"])
    say("\n  median    slowest   of an empty page     bytes   page")
    failed = 0
    for path in paths:
        median, slowest = statistics.median(taken[path]), max(taken[path])
        wrong = median > LONGEST_SECONDS or sizes[path] > LARGEST_BYTES
        failed += wrong
        say(
            f"{median * 1e3:>6.1f} ms {slowest * 1e3:>7.1f} ms   {median / base:>13.1f} x {sizes[path]:>12,}   {path}"
            + ("   TOO MUCH" if wrong else "")
        )
    return failed


async def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--looks", type=int, default=15)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="magicode-pages-") as made:
        folder = Path(made)
        sample = folder / "fairshare"
        shutil.copytree(SIMULATOR / "sample", sample, ignore=shutil.ignore_patterns("__pycache__"))
        with EmbeddedPostgres(folder / "data", durable=False) as server:
            migrate(server.owner_url)
            database = server.owner_url.rpartition("/")[2].partition("?")[0]
            async with staged(
                folder / "stage",
                {"octo/fairshare": sample},
                notes(),
                database_url=server.url(SERVICE_ROLE, database),
                encoder=Words(),
                working=False,
            ) as stage:
                tenant = stage.installation
                repository = next(iter(stage.github.world.repositories))
                began = time.perf_counter()
                fill_runs(server.url(SUPERUSER, database), tenant, repository, asked.runs)
                await fill_log(stage, server.url(SUPERUSER, database), tenant, asked.entries)
                say(
                    f"{asked.runs:,} runs and {asked.entries:,} entries made in {time.perf_counter() - began:.0f} s"
                )
                return (
                    1
                    if await measure(stage, pages(tenant, repository, asked.runs, asked.entries), asked.looks)
                    else 0
                )


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
