"""How the service bears load: acceptance while runs are in progress, throughput by workers, memory, and fairness.

    python tests/bench/load.py [--quick] [--only acceptance,fairness,memory,throughput] [--json]

Everything runs on this machine: GitHub, the model, PostgreSQL (which writes through to the disk) and the service's own
processes, so the cores are shared with what would be elsewhere in production. The model answers at once or not at all, writes
to GitHub are spaced as in production where acceptance is measured and elsewhere not at all, and no check of the repository's is
run: what is measured is ours. The ratios come from one run;
the absolute figures are this machine's, and say little where others were at work on it (see its load before and after).
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import psycopg

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

import line

from app.nouns import Run
from infra.embedded.postgres import EmbeddedPostgres
from infra.models.playbook import Playbook
from infra.postgres.connect import parameters
from infra.postgres.migrate import migrate
from tests.faults.measured import large, measured, peak, reset_peak, resident
from tests.faults.processes import Process, service
from tests.line.conftest import Words
from tests.line.conversations import create, finish, playbook, scenario
from tests.line.stage import Stage, staged

PARTS = ("acceptance", "fairness", "memory", "throughput")
ARRIVALS = Path(__file__).parent / "arrivals.py"
SLOWLY = "Take your time"
RATE = 200
HELD_SECONDS = 900
MANY = 100
"""Installations that ask at once, where it is not one."""
NO_CHECKS = {"MAGICODE_SANDBOX": "false", "MAGICODE_LOG_LEVEL": "WARNING"}


@dataclass(frozen=True)
class Sizes:
    """How much is measured. `seconds` of arrivals, `held` runs in progress, `runs` for each number of workers."""

    seconds: int
    held: int
    runs: int
    files: int
    workers: tuple[int, ...]


WHOLE = Sizes(seconds=20, held=50, runs=40, files=5000, workers=(1, 2, 4, 8))
QUICK = Sizes(seconds=5, held=20, runs=12, files=5000, workers=(1, 2))


async def main(sizes: Sizes, parts: Sequence[str], *, as_json: bool) -> None:
    parted = {"acceptance": acceptance, "fairness": fairness, "memory": memory, "throughput": throughput}
    document: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="magicode-load-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        document["machine"] = machine(folder)
        for part in parts:
            began = time.monotonic()
            _tell(f"{part} ...")
            document[part] = await parted[part](folder / part, sizes)
            _tell(f"{part}: {time.monotonic() - began:.0f} s")
        document["machine"]["load_after"] = [round(one, 1) for one in os.getloadavg()]
    if as_json:
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
    else:
        _show(document)


# --- what it runs on -------------------------------------------------------------------------------------------------


def machine(folder: Path) -> dict[str, Any]:
    model = next(
        (one.split(":")[1].strip() for one in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in one),
        platform.processor(),
    )  # fmt: skip
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(psutil.virtual_memory().total / 2**30),
        "python": platform.python_version(),
        "disk_sync_ms": _disk_sync(folder),
        "load_before": [round(one, 1) for one in os.getloadavg()],
    }


def _disk_sync(folder: Path) -> float:
    """The median time that the disk takes to keep a page, which each commit waits for."""
    seconds = []
    with (folder / "sync").open("wb") as file:
        for _ in range(200):
            file.write(b"x" * 8192)
            file.flush()
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            seconds.append(time.perf_counter() - began)
    return round(statistics.median(seconds) * 1000, 2)


@contextlib.asynccontextmanager
async def _stage(
    folder: Path, sample: Path | None = None, *, repositories: int = 1
) -> AsyncIterator[tuple[Stage, EmbeddedPostgres]]:
    """A stage that accepts and works nothing; service processes are started beside it."""
    names = {}
    for number in range(repositories):
        copy = folder / f"sample{number}"
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(sample or line.SIMULATOR / "sample", copy, ignore=ignored)
        names[f"octo/fairshare{number}"] = copy
    with EmbeddedPostgres(folder / "pg") as server:
        migrate(server.owner_url)
        database_url, encoder = server.service_url, Words()
        async with staged(
            folder / "stage", names, _playbook(), database_url=database_url, encoder=encoder, working=False,
            environ=NO_CHECKS,
        ) as stage:  # fmt: skip
            await line._no_limits(stage)
            yield stage, server


async def _started(
    stack: contextlib.AsyncExitStack, stage: Stage, name: str, environ: Mapping[str, str]
) -> Process:
    """A service process, `web` or `worker`, also where the machine is busy with other things."""
    role = "serve" if name == "web" else "worker"
    process = await stack.enter_async_context(
        service(stage, name=name, role=role, environ=environ, ready=False)
    )
    await process.ready(within=300)
    return process


def _playbook() -> Playbook:
    """Writes a note, at once, or so late that nobody waits for it."""
    note = create("NOTES.md", "A note.\n")
    slowly = scenario(note | {"slow": {"seconds": HELD_SECONDS}}, finish(), when=SLOWLY)
    return playbook(slowly, scenario(note, finish()))


async def _ask(stage: Stage, count: int, title: str) -> None:
    """So many requests, each on an issue of its own, the repositories in turn; accepted when this returns."""
    names = [one.full_name for one in stage.github.world.repositories.values()]
    for number in range(count):
        repository = names[number % len(names)]
        issue = await stage.open_issue(title, "NOTES.md says nothing.", repository=repository)
        await stage.comment(issue, "@magicode fix this", repository=repository)
    await stage.settled()


# --- acceptance ------------------------------------------------------------------------------------------------------


async def acceptance(folder: Path, sizes: Sizes) -> dict[str, Any]:
    async with _stage(folder) as (stage, server), contextlib.AsyncExitStack() as stack:
        await _ask(stage, sizes.held, SLOWLY)
        spaced = {"MAGICODE_WRITE_INTERVAL_SECONDS": "1", "MAGICODE_CONCURRENCY": str(sizes.held)}
        worker = await _started(stack, stage, "worker", spaced)
        await _until(lambda: _held(stage, sizes.held), 600)
        web = await _started(stack, stage, "web", {"MAGICODE_WORKER": "false"})
        port = line._free_port()
        empty = [sys.executable, "-c", line.EMPTY, str(port)]
        await stack.enter_async_context(line._process(empty, {}, f"http://127.0.0.1:{port}/"))
        _register(server, range(MANY))
        one, many = [stage.installation], [900_000 + number for number in range(MANY)]
        web_port, count = int(web.url.rpartition(":")[2]), RATE * sizes.seconds
        rows: dict[str, Any] = {}

        async def load(name: str, port: int, installations: Sequence[int], *, rate: int, text: str) -> None:
            before = _counted(server), _cpu(web.pid), _cpu_of_postgres(server)
            bodies = list(
                _deliveries(
                    stage,
                    count,
                    installations,
                    text=text,
                    path="/" if port != web_port else "/webhooks/github",
                )
            )
            rows[name] = await _load(port, bodies, rate)
            rows[name]["web_cpu_ms"] = round((_cpu(web.pid) - before[1]) / count * 1000, 2)
            rows[name]["postgres_cpu_ms"] = round((_cpu_of_postgres(server) - before[2]) / count * 1000, 2)
            if text != "Thanks!" and port == web_port:
                after = _counted(server)
                grown = {what: after[what] - before[0][what] for what in after}
                rows[name]["lost"] = sum(count - grown[what] for what in ("runs", "deliveries", "accepted"))
            _tell(f"  {name}: p50 {rows[name]['p50_ms']} ms, p99 {rows[name]['p99_ms']} ms")

        await load("an empty route", port, one, rate=RATE, text=line.COMMENT)
        rows["a bare INSERT, committed"] = await _inserts(server, count // 4)
        await load("no command", web_port, one, rate=RATE, text="Thanks!")
        await load("a command, one installation", web_port, one, rate=RATE, text=line.COMMENT)
        await load(f"a command, {MANY} installations", web_port, many, rate=RATE, text=line.COMMENT)
        await load("as many as it takes, one installation", web_port, one, rate=0, text=line.COMMENT)
        await load(f"as many as it takes, {MANY} installations", web_port, many, rate=0, text=line.COMMENT)
        in_progress = _held(stage, 0)
        worker.kill()
    base = rows["an empty route"]["p50_ms"]
    for row in rows.values():
        row["times_empty"] = round(row["p50_ms"] / base, 1)
    return {"in_progress": in_progress, "rate": RATE, "rows": rows}


def _held(stage: Stage, at_least: int) -> int:
    """How many runs are in progress, or 0 while there are fewer."""
    with psycopg.connect(**parameters(stage.environ["MAGICODE_DATABASE_URL"])) as connection:
        connection.execute("SELECT set_config('magicode.installation', %s, true)", [str(stage.installation)])
        row = connection.execute(
            "SELECT count(DISTINCT run_id) FROM magicode.entries WHERE action = 'index.searched'"
        ).fetchone()
    assert row is not None
    return int(row[0]) if row[0] >= at_least else 0


def _register(server: EmbeddedPostgres, numbers: Sequence[int]) -> None:
    with psycopg.connect(server.owner_url, autocommit=True) as connection:
        for number in numbers:
            connection.execute(
                "INSERT INTO magicode.installations (installation_id, account_id, account_login, suspended)"
                " VALUES (%s, %s, %s, false)",
                [900_000 + number, 800_000 + number, f"account-{number}"],
            )


def _counted(server: EmbeddedPostgres) -> dict[str, int]:
    with psycopg.connect(server.owner_url) as connection:
        row = connection.execute(
            "SELECT (SELECT count(*) FROM magicode.runs), (SELECT count(*) FROM magicode.deliveries),"
            " (SELECT count(*) FROM magicode.entries WHERE action = 'webhook.accepted')"
        ).fetchone()
    assert row is not None
    return dict(zip(("runs", "deliveries", "accepted"), row, strict=True))


def _deliveries(
    stage: Stage, count: int, installations: Sequence[int], *, text: str, path: str
) -> Iterator[bytes]:
    """Whole signed requests, each of another comment on another issue, the installations in turn."""
    app, world = stage.github.world.app, stage.github.world
    payload = json.loads(next(one.body for one in world.deliveries if one.event == "issue_comment"))
    start = uuid.uuid4().int >> 90
    for number in range(count):
        identity = uuid.uuid4()
        payload["comment"].update(id=identity.int >> 80, body=text)
        payload["issue"]["number"] = start + number
        payload["installation"]["id"] = installations[number % len(installations)]
        payload["sender"]["id"] = payload["comment"]["user"]["id"] = 5_000_000 + number % 50
        body = json.dumps(payload).encode()
        signature = hmac.new(app.webhook_secret.encode(), body, hashlib.sha256).hexdigest()
        head = (
            f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"X-GitHub-Event: issue_comment\r\nX-GitHub-Delivery: {identity}\r\n"
            f"X-Hub-Signature-256: sha256={signature}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        yield head.encode() + body


async def _load(port: int, requests: Sequence[bytes], rate: int, *, connections: int = 16) -> dict[str, Any]:
    """What `arrivals.py` measures. Raises SystemExit where one is not accepted."""
    plan = {
        "host": "127.0.0.1", "port": port, "rate": rate, "poisson": True, "seed": 6, "connections": connections,
        "requests": [base64.b64encode(one).decode() for one in requests], "warm_up": MANY,
    }  # fmt: skip
    sending = await asyncio.create_subprocess_exec(
        sys.executable, str(ARRIVALS), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    told, _ = await sending.communicate(json.dumps(plan).encode())
    figures: dict[str, Any] = json.loads(told)
    if set(figures["statuses"]) - {"200", "202"}:
        raise SystemExit(f"{figures['statuses']}: {figures['said']}")
    return figures


async def _inserts(server: EmbeddedPostgres, count: int) -> dict[str, Any]:
    """One row after the other, each in a transaction of its own."""
    seconds = []
    async with await psycopg.AsyncConnection.connect(server.owner_url, autocommit=True) as connection:
        await connection.execute("CREATE TABLE bare (id bigint PRIMARY KEY, body text)")
        began = time.perf_counter()
        for number in range(count):
            at = time.perf_counter()
            await connection.execute("INSERT INTO bare VALUES (%s, %s)", [number, "x" * 500])
            seconds.append(time.perf_counter() - at)
        spent = time.perf_counter() - began
    cuts = statistics.quantiles(seconds, n=100)
    return {
        "requests": count,
        "per_second": round(count / spent, 1),
        "p50_ms": round(cuts[49] * 1000, 2),
        "p99_ms": round(cuts[98] * 1000, 2),
        "max_ms": round(max(seconds) * 1000, 2),
    }


# --- fairness --------------------------------------------------------------------------------------------------------


async def fairness(folder: Path, sizes: Sizes) -> dict[str, Any]:
    """A thousand requests of one installation, on issues that are not there (so that each run is short), then another's one."""
    workers, much = 2, 1000 if sizes is WHOLE else 300
    async with _stage(folder) as (stage, server), contextlib.AsyncExitStack() as stack:
        await _ask(stage, 1, "A note")
        web = await _started(stack, stage, "web", {"MAGICODE_WORKER": "false"})
        _register(server, [0])
        port = int(web.url.rpartition(":")[2])
        await _started(stack, stage, "worker", {"MAGICODE_CONCURRENCY": str(workers)})

        def asked(count: int, installation: int) -> list[bytes]:
            return list(_deliveries(stage, count, [installation], text=line.COMMENT, path="/webhooks/github"))

        await _load(port, asked(much, stage.installation), 0)
        waiting = await _waiting(stage)
        await _load_one(port, asked(1, 900_000)[0])
        await _until(lambda: _ended(server, 900_000, 1), 300)
        (other,) = _times(server, 900_000)
        while sum(1 for one in _times(server, stage.installation) if one[2]) < min(much, 200):
            await asyncio.sleep(0.5)
        own = [one for one in _times(server, stage.installation) if one[1] and one[2]]
        begun = sorted(begin for _, begin, _ in _times(server, stage.installation) if begin)
    length = statistics.median((end - begin).total_seconds() for _, begin, end in own)
    waited = (other[1] - other[0]).total_seconds()
    each = (begun[-1] - begun[0]).total_seconds() / (len(begun) - 1)
    return {
        "asked": much,
        "waiting_when_the_other_asked": waiting,
        "runs_at_once": workers,
        "a_run_seconds": round(length, 3),
        "the_other_waited_seconds": round(waited, 3),
        "in_runs": round(waited / length, 2),
        "in_the_order_of_arrival_seconds": round(waiting * each, 1),
    }


async def _load_one(port: int, request: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    await reader.readuntil(b"\r\n\r\n")
    writer.close()


async def _waiting(stage: Stage) -> int:
    with psycopg.connect(**parameters(stage.environ["MAGICODE_DATABASE_URL"])) as connection:
        row = connection.execute(
            "SELECT count(*) FROM procrastinate_jobs WHERE status = 'todo' AND queue_name = 'locked'"
        ).fetchone()
    assert row is not None
    return int(row[0])


def _times(server: EmbeddedPostgres, installation: int) -> list[tuple[Any, Any, Any]]:
    with psycopg.connect(server.owner_url) as connection:
        return connection.execute(
            "SELECT created_at, started_at, ended_at FROM magicode.runs WHERE installation_id = %s", [installation]
        ).fetchall()  # fmt: skip


def _ended(server: EmbeddedPostgres, installation: int, count: int) -> bool:
    return sum(1 for one in _times(server, installation) if one[2]) >= count


# --- memory ----------------------------------------------------------------------------------------------------------


async def memory(folder: Path, sizes: Sizes) -> dict[str, Any]:
    """The command line's own processes, as an operator starts them."""
    sample = large(folder / "large", sizes.files)
    rows: dict[str, Any] = {}
    async with _stage(folder, sample) as (stage, _):
        shutil.rmtree(stage.folder / "data" / "qdrant", ignore_errors=True)
        for name, role, environ in (
            ("the web process", "serve", {"MAGICODE_WORKER": "false"}),
            ("a worker without the embedding model, vectors elsewhere", "elsewhere", {}),
            ("a worker without the embedding model", "words", {}),
            ("a worker with the embedding model", "worker", {}),
        ):
            async with measured(stage, role, folder / name, environ) as process:
                row = rows[name] = {"idle_mb": resident(process.pid)}
                if role == "serve":
                    continue
                reset_peak(process.pid)
                run = await _worked(stage)
                row["run_mb"] = round(peak(process.pid) - row["idle_mb"])
                row["afterwards_mb"] = round(resident(process.pid) - row["idle_mb"])
                row["run_seconds"] = round((run.ended_at - run.started_at).total_seconds(), 1)  # type: ignore[operator]
                reset_peak(process.pid)
                before = resident(process.pid)
                await _worked(stage)
                row["next_run_mb"] = round(peak(process.pid) - before)
    return {"files": sizes.files, "rows": rows}


async def _worked(stage: Stage) -> Run:
    """One more run, which ended with a pull request."""
    await _ask(stage, 1, "A note")
    run = (await stage.ended(len(await stage.runs()), within=600))[-1]
    if run.reason not in ("opened", "opened_as_draft", "updated"):
        raise SystemExit(f"the run ended {run.state}: {run.reason}")
    return run


# --- throughput ------------------------------------------------------------------------------------------------------


async def throughput(folder: Path, sizes: Sizes) -> dict[str, Any]:
    """Worker processes that take one run at a time; all the requests wait when they are let go."""
    rows: dict[str, Any] = {}
    ended = 0
    async with _stage(folder, repositories=8) as (stage, server):
        for workers in sizes.workers:
            async with contextlib.AsyncExitStack() as stack:
                alone = {"MAGICODE_CONCURRENCY": "1"}
                processes = [await _started(stack, stage, "worker", alone) for _ in range(workers)]
                # Each has what it needs of the repositories before it is timed.
                await _ask(stage, 8 * workers, "A note")
                ended += 8 * workers
                await _until(lambda: _ended(server, stage.installation, ended), 600)  # noqa: B023
                for process in processes:
                    process.pause()
                await _ask(stage, sizes.runs, "A note")
                used = [_cpu(one.pid) for one in processes], _cpu(os.getpid()), _cpu_of_postgres(server)
                psutil.cpu_percent()
                began = time.monotonic()
                for process in processes:
                    process.resume()
                ended += sizes.runs
                await _until(lambda: _ended(server, stage.installation, ended), 600)  # noqa: B023
                spent = time.monotonic() - began
                busy = psutil.cpu_percent() / 100 * (os.cpu_count() or 1)
                own = sum(_cpu(one.pid) - was for one, was in zip(processes, used[0], strict=True))
                rows[str(workers)] = {
                    "runs_per_minute": round(sizes.runs / spent * 60, 1),
                    "worker_cpu_s": round(own / sizes.runs, 3),
                    "github_and_model_cpu_s": round((_cpu(os.getpid()) - used[1]) / sizes.runs, 3),
                    "postgres_cpu_s": round((_cpu_of_postgres(server) - used[2]) / sizes.runs, 3),
                    "cores_busy": round(busy, 2),
                }
            _tell(f"  {workers}: {rows[str(workers)]}")
    first = rows[str(sizes.workers[0])]["runs_per_minute"]
    for row in rows.values():
        row["times_one"] = round(row["runs_per_minute"] / first, 2)
    return {"runs": sizes.runs, "rows": rows}


# --- common ----------------------------------------------------------------------------------------------------------


async def _until(true: Any, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise SystemExit("it took too long")
        await asyncio.sleep(0.25)


def _cpu(pid: int) -> float:
    spent = psutil.Process(pid).cpu_times()
    return float(spent.user + spent.system)


def _cpu_of_postgres(server: EmbeddedPostgres) -> float:
    """Of the processes that live; what ended since counts with the one that started it."""
    postmaster = int((server._cluster / "postmaster.pid").read_text().split()[0])
    main = psutil.Process(postmaster)
    total = 0.0
    for one in (main, *main.children()):
        with contextlib.suppress(psutil.NoSuchProcess):
            spent = one.cpu_times()
            total += (
                spent.user
                + spent.system
                + (spent.children_user + spent.children_system if one is main else 0)
            )
    return total


def _tell(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


# --- telling ---------------------------------------------------------------------------------------------------------


def _show(document: Mapping[str, Any]) -> None:
    on = document["machine"]
    cores = f"{on['cpu']}, {on['cores']} cores, {on['memory_gb']} GB, Python {on['python']}"
    load = f"load {on['load_before'][0]} before and {on['load_after'][0]} after"
    out = [f"{cores}; the disk keeps a page in {on['disk_sync_ms']} ms; {load}"]
    if found := document.get("acceptance"):
        out += [
            "",
            f"Accepting webhooks, {found['rate']} a second at random times, while {found['in_progress']} runs are in progress",
            "",
        ]
        out += line._table(
            ("delivery", "per second", "p50 ms", "p99 ms", "max ms", "times empty", "web CPU ms", "PostgreSQL CPU ms", "rows lost"),
            (
                (name, row["per_second"], row["p50_ms"], row["p99_ms"], row["max_ms"], row["times_empty"],
                 row.get("web_cpu_ms", ""), row.get("postgres_cpu_ms", ""), row.get("lost", ""))
                for name, row in found["rows"].items()
            ),
        )  # fmt: skip
    if found := document.get("fairness"):
        waiting, places = found["waiting_when_the_other_asked"], found["runs_at_once"]
        waited, length = found["the_other_waited_seconds"], found["a_run_seconds"]
        instead = found["in_the_order_of_arrival_seconds"]
        out += ["", f"Fairness: one installation asked {found['asked']} times; another, once"]
        out += [
            f"  when the other one asked, {waiting} runs waited for {places} places; its run began after {waited} s"
        ]
        out += [
            f"  that is {found['in_runs']} times the length of a run ({length} s); in the order of arrival: {instead} s"
        ]
    if found := document.get("memory"):
        out += [
            "",
            f"Memory in MB, a repository of {found['files']} files (its tree lies in memory-backed storage, not in the process)",
            "",
        ]
        out += line._table(
            ("process", "idle", "a run adds", "left afterwards", "the next run adds", "seconds of the run"),
            (
                (name, row["idle_mb"], row.get("run_mb", ""), row.get("afterwards_mb", ""), row.get("next_run_mb", ""), row.get("run_seconds", ""))
                for name, row in found["rows"].items()
            ),
        )  # fmt: skip
    if found := document.get("throughput"):
        out += [
            "",
            f"Runs finished with an instant model, {found['runs']} waiting, workers that take one at a time",
            "",
        ]
        out += line._table(
            ("workers", "per minute", "times one", "worker CPU s", "GitHub and model CPU s", "PostgreSQL CPU s", "cores busy"),
            (
                (workers, row["runs_per_minute"], row["times_one"], row["worker_cpu_s"], row["github_and_model_cpu_s"],
                 row["postgres_cpu_s"], row["cores_busy"])
                for workers, row in found["rows"].items()
            ),
        )  # fmt: skip
    sys.stdout.write("\n".join(out) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="in less than two minutes")
    parser.add_argument("--only", default=",".join(PARTS), help=f"some of {', '.join(PARTS)}")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    chosen = [one for one in given.only.split(",") if one]
    if set(chosen) - set(PARTS):
        parser.error(f"--only takes {', '.join(PARTS)}")
    asyncio.run(main(QUICK if given.quick else WHOLE, chosen, as_json=given.json))
