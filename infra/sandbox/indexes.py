"""The way to package indexes while dependencies are installed: an HTTP CONNECT proxy with a short list of hosts.

It connects to nothing but the listed hosts and ports, to no private address (unless an operator's own index is marked
so), and only to the addresses that it has looked at itself. It reads nothing of what passes. What it cannot prevent is
that installed code tells a listed host something; so it is never open while a change's own code runs.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

_HEAD_BYTES = 8192
_HEAD_SECONDS = 10
_CONNECT_SECONDS = 20
_CHUNK = 1 << 16
_AT_ONCE = 64
_TRANSLATED = ipaddress.IPv6Network("64:ff9b::/96")
_TRANSLATED_LOCALLY = ipaddress.IPv6Network("64:ff9b:1::/48")


@dataclass(frozen=True, slots=True)
class Index:
    """A host and port that may be reached; `private` allows it to have an address that is not public."""

    host: str
    port: int = 443
    private: bool = False


DEFAULT = (
    # https://warehouse.pypa.io/api-reference/ and https://pip.pypa.io/en/stable/cli/pip_download/
    Index("pypi.org"),
    Index("files.pythonhosted.org"),
    # https://docs.npmjs.com/cli/using-npm/registry and https://classic.yarnpkg.com/en/docs/cli/config
    Index("registry.npmjs.org"),
    Index("registry.yarnpkg.com"),
    # https://go.dev/ref/mod#environment-variables (GOPROXY, GOSUMDB)
    Index("proxy.golang.org"),
    Index("sum.golang.org"),
    # https://doc.rust-lang.org/cargo/reference/registries.html
    Index("index.crates.io"),
    Index("static.crates.io"),
    Index("crates.io"),
)


class _Refused(Exception):  # noqa: N818 - an answer, not a mistake
    """What is said to whoever asked, as an HTTP status line."""


@asynccontextmanager
async def serve(port: socket.socket, indexes: Sequence[Index], *, most_bytes: int) -> AsyncIterator[None]:
    """Answers on `port` (a listening socket, closed at the end) while the block runs; at its end every connection is cut."""
    proxy = _Proxy(indexes, most_bytes)
    server = await asyncio.start_server(proxy.serve, sock=port, limit=_HEAD_BYTES)
    try:
        yield
    finally:
        server.close()
        await proxy.cut()


class _Proxy:
    def __init__(self, indexes: Sequence[Index], most_bytes: int) -> None:
        self._indexes = {(index.host.lower().rstrip("."), index.port): index for index in indexes}
        self._left = most_bytes
        self._open: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or len(self._open) >= _AT_ONCE:
            writer.close()
            return
        self._open.add(task)
        try:
            await self._connect(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError):
            pass  # whoever asked has gone, or sent no request
        finally:
            self._open.discard(task)
            writer.transport.abort()

    async def cut(self) -> None:
        tasks = list(self._open)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_HEAD_SECONDS):
                index = self._asked_for(await reader.readuntil(b"\r\n\r\n"))
            far_reader, far_writer = await _reached(await _addresses(index), index.port)
        except _Refused as refused:
            writer.write(f"HTTP/1.1 {refused}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
            await writer.drain()
            writer.close()
            await writer.wait_closed()
            return
        try:
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pass_on(reader, far_writer))
                group.create_task(self._pass_on(far_reader, writer))
        except* OSError:
            pass
        finally:
            far_writer.transport.abort()

    def _asked_for(self, head: bytes) -> Index:
        """RFC 9110, 9.3.6: `CONNECT host:port HTTP/1.1`. Raises _Refused."""
        words = head.partition(b"\r\n")[0].decode("ascii", "replace").split(" ")
        if len(words) != 3 or words[0] != "CONNECT":
            raise _Refused("405 Only CONNECT is answered here")
        host, _, port = words[1].rpartition(":")
        index = self._indexes.get(
            (host.lower().rstrip("."), int(port) if port.isdecimal() and len(port) <= 5 else -1)
        )
        if index is None:
            raise _Refused("403 Not on the list of package indexes")
        return index

    async def _pass_on(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while data := await source.read(_CHUNK):
            self._left -= len(data)
            if self._left < 0:
                raise ConnectionAbortedError
            target.write(data)
            await target.drain()
        with suppress(OSError):
            target.write_eof()


async def _addresses(index: Index) -> list[str]:
    """What may be connected to; the name is not looked up again. Raises _Refused."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(index.host, index.port, type=socket.SOCK_STREAM)
    except OSError:
        raise _Refused("502 The index has no address") from None
    addresses = [str(target[0]) for *_, target in found]
    allowed = [address for address in addresses if index.private or _public(address)]
    if not allowed:
        raise _Refused("403 The index has no public address")
    return allowed


def _public(address: str) -> bool:
    """Whether it is an address of the public network, also one of IPv4 in the clothes of IPv6 (RFC 6052, RFC 3056)."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip in _TRANSLATED_LOCALLY:
            return False
        inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if ip in _TRANSLATED else None
        ip = ip.ipv4_mapped or ip.sixtofour or inner or ip
    return ip.is_global and not ip.is_multicast


async def _reached(addresses: Sequence[str], port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """The first that answers, since a name has IPv6 addresses on machines that have no IPv6 too. Raises _Refused."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_CONNECT_SECONDS):
            for address in addresses:
                with suppress(OSError):
                    return await asyncio.open_connection(address, port)
    raise _Refused("502 The index could not be reached")
