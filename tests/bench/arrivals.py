"""Sends prepared requests to an address as they would arrive: at their own times, whether or not the earlier ones are answered.

    python tests/bench/arrivals.py < PLAN > FIGURES

A process of its own, so that neither what is measured nor whoever starts it shares its event loop. A request's time
counts from when it was due, so a server that stalls cannot hide that behind a client that politely waits.
"""

from __future__ import annotations

import asyncio
import base64
import gc
import json
import random
import statistics
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Sent:
    """What became of a plan's requests: seconds of each that was answered, and the answers by their status."""

    seconds: list[float] = field(default_factory=list)
    late: list[float] = field(default_factory=list)
    statuses: dict[str, int] = field(default_factory=dict)
    first: str = ""


class Connections:
    """Kept alive, as many as it takes."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self.opened = 0

    async def post(self, request: bytes) -> tuple[str, bytes]:
        if self._idle:
            reader, writer = self._idle.pop()
        else:
            self.opened += 1
            reader, writer = await asyncio.open_connection(self._host, self._port)
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.decode("latin-1").lower().split("\r\n")
        length = next(int(line.split(":")[1]) for line in lines if line.startswith("content-length"))
        body = await reader.readexactly(length)
        self._idle.append((reader, writer))
        return lines[0].split()[1], body


async def send(plan: Mapping[str, Any]) -> dict[str, Any]:
    """`rate` a second for as long as there are requests, at even times or (`poisson`) at those of independent people; `rate`
    0 keeps `connections` busy instead. The first `warm_up` of them are sent in that way too and not counted: they open connections, here
    and to the database, and make the key of an installation that has asked for nothing yet."""
    requests = [base64.b64decode(one) for one in plan["requests"]]
    first, rest = requests[: plan["warm_up"]], requests[plan["warm_up"] :]
    connections = Connections(plan["host"], plan["port"])
    sent = Sent()

    async def one(request: bytes, due: float) -> None:
        sent.late.append(time.perf_counter() - due)
        try:
            status, body = await connections.post(request)
        except (OSError, asyncio.IncompleteReadError) as error:
            status, body = type(error).__name__, b""
        sent.seconds.append(time.perf_counter() - due)
        sent.statuses[status] = sent.statuses.get(status, 0) + 1
        if status not in ("200", "202") and not sent.first:
            sent.first = body.decode("utf-8", "replace")[:500]

    await _one_after_the_other(first, one, plan["connections"])
    sent.seconds.clear()
    sent.late.clear()
    gc.collect()
    gc.disable()
    began = time.perf_counter()
    if plan["rate"]:
        await _in_time(rest, one, plan["rate"], plan["seed"], poisson=plan["poisson"])
    else:
        await _one_after_the_other(rest, one, plan["connections"])
    spent = time.perf_counter() - began
    cuts = statistics.quantiles(sent.seconds, n=1000)
    return {
        "requests": len(requests),
        "per_second": round(len(sent.seconds) / spent, 1),
        "p50_ms": round(cuts[499] * 1000, 2),
        "p99_ms": round(cuts[989] * 1000, 2),
        "max_ms": round(max(sent.seconds) * 1000, 2),
        "sent_late_p99_ms": round(statistics.quantiles(sent.late, n=100)[98] * 1000, 2),
        "connections": connections.opened,
        "statuses": sent.statuses,
        "said": sent.first,
    }


async def _in_time(requests: Sequence[bytes], one: Any, rate: float, seed: int, *, poisson: bool) -> None:
    times = random.Random(seed)
    due = time.perf_counter()
    under_way = set()
    for request in requests:
        due += times.expovariate(rate) if poisson else 1 / rate
        wait = due - time.perf_counter()
        if wait > 0:
            await asyncio.sleep(wait)
        task = asyncio.create_task(one(request, due))
        under_way.add(task)
        task.add_done_callback(under_way.discard)
    if under_way:
        await asyncio.wait(under_way, timeout=60)


async def _one_after_the_other(requests: Iterable[bytes], one: Any, connections: int) -> None:
    queue = iter(requests)

    async def connection() -> None:
        for request in queue:
            await one(request, time.perf_counter())

    await asyncio.gather(*(connection() for _ in range(connections)))


if __name__ == "__main__":
    json.dump(asyncio.run(send(json.load(sys.stdin))), sys.stdout)
