"""Somebody's own address that is told of runs: a real server, which answers as it is told to."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


@dataclass(frozen=True)
class Got:
    """One request as it came."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def told(self) -> dict[str, Any]:
        return dict(json.loads(self.body))

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    def signed_with(self, secret: str) -> bool:
        """As a receiver computes it, from the specification alone."""
        key = base64.b64decode(secret.split("_", 1)[1])
        content = b".".join([self.id.encode(), self.headers["webhook-timestamp"].encode(), self.body])
        expected = base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
        return self.headers["webhook-signature"].split(",", 1) == ["v1", expected]


def answers(status: int, *headers: str) -> Answer:
    async def answer(writer: asyncio.StreamWriter) -> None:
        head = [f"HTTP/1.1 {status} Said", "Content-Length: 0", *headers]
        writer.write("\r\n".join([*head, "", ""]).encode())

    return answer


async def endless(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
        await writer.drain()


async def silent(_writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(60)


async def trickling(writer: asyncio.StreamWriter) -> None:
    """A byte now and then: no single read ever takes long."""
    for byte in b"HTTP/1.1 200 OK\r\nX: " + b"y" * 10_000:
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0.05)


@dataclass
class Receiver:
    """`next` are the answers to come, in order; then `always`."""

    port: int = 0
    got: list[Got] = field(default_factory=list)
    next: list[Answer] = field(default_factory=list)
    always: Answer = field(default_factory=lambda: answers(204))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/told?token=of-the-address"

    async def heard(self, count: int, within: float = 30.0) -> Sequence[Got]:
        """Once so many came."""
        async with asyncio.timeout(within):
            while len(self.got) < count:
                await asyncio.sleep(0.05)
        return list(self.got)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            line, *rest = head.strip().split("\r\n")
            headers = {name.lower(): value for name, _, value in (one.partition(": ") for one in rest)}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            self.got.append(Got(line.split()[1], headers, body))
            await (self.next.pop(0) if self.next else self.always)(writer)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def receiving(port: int = 0) -> AsyncIterator[Receiver]:
    receiver = Receiver()
    server = await asyncio.start_server(receiver._serve, "127.0.0.1", port)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()
