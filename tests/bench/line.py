"""How long the line takes from webhook to pull request, station by station, and how fast webhooks are accepted.

    python tests/bench/line.py [--runs 20] [--requests 2000] [--json]

A scripted model answers at once and writes to GitHub are not spaced, so that what is measured is ours. The figures
to quote are the shares and ratios: they come from one run on one machine.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import hmac
import json
import os
import shutil
import signal
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

import infra.simulator
from app.demo import COMMENT, ISSUE_BODY, ISSUE_TITLE
from app.nouns import RunState
from infra.embedded.postgres import EmbeddedPostgres
from infra.encoder import BundledEncoder
from infra.models.playbook import load
from infra.models.scripted import ScriptedModel
from infra.postgres.migrate import migrate
from tests.line.stage import Stage, staged

SIMULATOR = Path(infra.simulator.__file__).parent
CONNECTIONS = 16
EMPTY = """
import fastapi, sys, uvicorn
app = fastapi.FastAPI()
@app.post("/")
async def empty():
    return {}
uvicorn.run(app, port=int(sys.argv[1]), log_config=None, access_log=False, timeout_keep_alive=75)
"""


async def main(runs: int, requests: int, as_json: bool) -> None:
    with tempfile.TemporaryDirectory(prefix="magicode-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        with EmbeddedPostgres(folder / "pg") as server:
            migrate(server.owner_url)
            async with _stage(folder, server.service_url) as stage:
                line = await _line(stage, runs)
                accepted = await _acceptance(stage, server.service_url, folder, requests)
    document = {"line": line, "acceptance": accepted}
    if as_json:
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
    else:
        _show(document)


def _stage(folder: Path, database_url: str) -> contextlib.AbstractAsyncContextManager[Stage]:
    sample = folder / "sample"
    shutil.copytree(SIMULATOR / "sample", sample, ignore=shutil.ignore_patterns("__pycache__"))
    playbook = load(SIMULATOR / "sample.playbook.yml")
    scripted = ScriptedModel(playbook)
    return staged(
        folder / "stage",
        {"octo/fairshare": sample},
        playbook,
        database_url=database_url,
        encoder=BundledEncoder(),
        model=lambda _: scripted,
    )


# --- the line --------------------------------------------------------------------------------------------------------


async def _line(stage: Stage, runs: int) -> dict[str, Any]:
    """One request after the other, each on an issue of its own; the first, which loads the model, is told apart."""
    await _no_limits(stage)
    rows = []
    before = _stations(stage)
    for number in range(runs + 1):
        issue = await stage.open_issue(ISSUE_TITLE, ISSUE_BODY)
        await stage.comment(issue, COMMENT)
        run = (await stage.ended(number + 1))[-1]
        if run.state is not RunState.OPENED:
            raise SystemExit(f"run {number} ended {run.state}: {run.reason}")
        assert run.started_at is not None
        assert run.ended_at is not None
        after = _stations(stage)
        stations = {name: spent - before.get(name, 0.0) for name, spent in after.items()}
        before = after
        waited = (run.started_at - run.created_at).total_seconds()
        whole = (run.ended_at - run.created_at).total_seconds()
        rest = whole - waited - sum(stations.values())
        rows.append({"queue": waited, **stations, "tokens and the end": rest, "whole": whole})
        print(f"\rrun {number} of {runs}: {whole:.2f} s", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    first, *others = rows
    whole = statistics.median(row["whole"] for row in others)
    return {
        "runs": runs,
        "first_run_seconds": round(first["whole"], 3),
        "stations": {name: _spread([row[name] for row in others], whole) for name in others[0]},
    }


def _stations(stage: Stage) -> dict[str, float]:
    """Seconds at each station so far, as the service tells them."""
    told = stage.house.watch.told(None)[0].decode()
    return {
        sample.labels["station"]: sample.value
        for family in text_string_to_metric_families(told)
        for sample in family.samples
        if sample.name == "magicode_station_seconds_sum"
    }


def _spread(seconds: list[float], whole: float) -> dict[str, float]:
    middle = statistics.median(seconds)
    return {
        "median": round(middle, 4),
        "min": round(min(seconds), 4),
        "max": round(max(seconds), 4),
        "share": round(middle / whole, 3),
    }


async def _no_limits(stage: Stage) -> None:
    """GitHub's own limits on a minute's writes would be what is measured."""
    many = dict.fromkeys(("points_per_minute", "content_per_minute", "content_per_hour", "primary"), 10000000)
    async with httpx.AsyncClient(trust_env=False, base_url=stage.github.base_url) as client:
        known = (await client.get("/_simulator/settings")).json()["limits"]
        limits = {name: many.get(name, 10_000_000) for name in known if isinstance(known[name], int)}
        (await client.post("/_simulator/settings", json={"limits": limits})).raise_for_status()


# --- acceptance ------------------------------------------------------------------------------------------------------


async def _acceptance(stage: Stage, database_url: str, folder: Path, requests: int) -> dict[str, Any]:
    """A web process that only accepts, and one with an empty route, each loaded by the same client, in turn, twice."""
    app = stage.github.world.app
    body = next(one.body for one in stage.github.world.deliveries if one.event == "issue_comment")
    web, empty = _free_port(), _free_port()
    environ = {
        "MAGICODE_GITHUB_API_URL": stage.github.base_url,
        "MAGICODE_APP_ID": str(app.id),
        "MAGICODE_PRIVATE_KEY": app.private_key_pem,
        "MAGICODE_WEBHOOK_SECRET": app.webhook_secret,
        "MAGICODE_DATABASE_URL": database_url,
        "MAGICODE_DATA_DIR": str(folder / "stage" / "data"),
        "MAGICODE_WORKER": "false",
        "MAGICODE_PORT": str(web),
    }
    secret = app.webhook_secret.encode()
    figures: dict[str, list[dict[str, float]]] = {}
    async with (
        _process([sys.executable, "-m", "app.cli", "serve"], environ, f"http://127.0.0.1:{web}/readyz"),
        _process([sys.executable, "-c", EMPTY, str(empty)], {}, f"http://127.0.0.1:{empty}/"),
    ):
        for turn in range(2):
            kinds = {
                "empty route": (empty, "/", _deliveries(body, secret, requests, COMMENT, turn)),
                "a comment without a command": (web, "/webhooks/github", _deliveries(body, secret, requests, "Thanks!", turn)),
                "a command: row, run, jobs and entry": (web, "/webhooks/github", _deliveries(body, secret, requests, COMMENT, turn)),
            }  # fmt: skip
            for name, (port, path, sent) in kinds.items():
                figures.setdefault(name, []).append(await _load(port, path, list(sent)))
    best = {name: max(rows, key=lambda row: row["per_second"]) for name, rows in figures.items()}
    base = best["empty route"]["per_second"]
    return {name: {**row, "of_empty": round(row["per_second"] / base, 3)} for name, row in best.items()}


def _deliveries(
    body: bytes, secret: bytes, count: int, comment: str, turn: int
) -> Iterator[tuple[Mapping[str, str], bytes]]:
    """Signed deliveries, each of another comment on another issue."""
    payload = json.loads(body)
    for number in range(count):
        identity = uuid.uuid4()
        payload["comment"].update(id=identity.int >> 80, body=comment)
        payload["issue"]["number"] = 1_000_000 * (turn + 1) + number
        sent = json.dumps(payload).encode()
        yield (
            {
                "X-GitHub-Event": "issue_comment",
                "X-GitHub-Delivery": str(identity),
                "X-Hub-Signature-256": "sha256=" + hmac.new(secret, sent, hashlib.sha256).hexdigest(),
            },
            sent,
        )


async def _load(port: int, path: str, deliveries: list[tuple[Mapping[str, str], bytes]]) -> dict[str, float]:
    """All of them over CONNECTIONS kept-alive connections. Raises SystemExit when one is not accepted."""
    seconds: list[float] = []
    queue = iter(deliveries)

    async def connection() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for headers, body in queue:
            head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            began = time.perf_counter()
            writer.write(
                f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{head}"
                f"Content-Length: {len(body)}\r\n\r\n".encode()
                + body
            )
            answer = await reader.readuntil(b"\r\n\r\n")
            lines = answer.decode("latin-1").lower().split("\r\n")
            length = next(int(line.split(":")[1]) for line in lines if line.startswith("content-length"))
            said = await reader.readexactly(length)
            seconds.append(time.perf_counter() - began)
            if lines[0].split()[1] not in ("200", "202"):
                raise SystemExit(f"{lines[0]}: {said!r}")
        writer.close()

    began = time.perf_counter()
    await asyncio.gather(*(connection() for _ in range(CONNECTIONS)))
    spent = time.perf_counter() - began
    cuts = statistics.quantiles(seconds, n=100)
    return {
        "requests": len(seconds),
        "per_second": round(len(seconds) / spent, 1),
        "p50_ms": round(cuts[49] * 1000, 2),
        "p99_ms": round(cuts[98] * 1000, 2),
    }


@contextlib.asynccontextmanager
async def _process(command: list[str], environ: Mapping[str, str], ready: str) -> AsyncIterator[None]:
    process = await asyncio.create_subprocess_exec(
        *command,
        env={**os.environ, **environ},
        cwd=ROOT,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with httpx.AsyncClient(trust_env=False) as client:
            for _ in range(300):
                with contextlib.suppress(httpx.TransportError):
                    if (await client.get(ready)).status_code in (200, 405):
                        break
                await asyncio.sleep(0.1)
            else:
                raise SystemExit(f"{ready} did not answer")
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        await process.wait()


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# --- telling ---------------------------------------------------------------------------------------------------------


def _show(document: Mapping[str, Any]) -> None:
    line = document["line"]
    out = [
        f"From webhook to pull request, {line['runs']} runs (the first one, which loads the embedding model, took {line['first_run_seconds']} s)",
        "",
    ]
    out += _table(
        ("station", "median s", "min", "max", "share"),
        (
            (name, row["median"], row["min"], row["max"], row["share"])
            for name, row in line["stations"].items()
        ),
    )
    out += [
        "",
        f"Accepting webhooks over {CONNECTIONS} connections, signature checked and committed before the answer",
        "",
    ]
    out += _table(
        ("delivery", "per second", "p50 ms", "p99 ms", "of the empty route"),
        (
            (name, row["per_second"], row["p50_ms"], row["p99_ms"], row["of_empty"])
            for name, row in document["acceptance"].items()
        ),
    )
    sys.stdout.write("\n".join(out) + "\n")


def _table(heads: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> list[str]:
    body = [tuple(map(str, row)) for row in rows]
    widths = [max(len(row[place]) for row in (heads, *body)) for place in range(len(heads))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in (heads, *body)
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    asyncio.run(main(max(given.runs, 2), max(given.requests, 200), given.json))
