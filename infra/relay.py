"""A relay as smee.io is one: GitHub delivers to a channel there, and this machine, which GitHub cannot reach, listens to it.

What comes is handed to our own web process as if GitHub had brought it, signature and all, so the relay is trusted with nothing.
It keeps nothing either: what is told while nobody listens is gone. https://github.com/probot/smee.io
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from app.errors import TransientError, UserError

SMEE: Final = "https://smee.io"
SECONDS: Final = 15.0
SILENT_SECONDS: Final = 90.0
"""The relay says that it is there twice a minute; a connection that says nothing for so long is none."""
LARGEST: Final = 32 * 1024**2
"""GitHub's largest delivery is 25 MB, and the relay's envelope is put around it."""
AGAIN_AFTER: Final = (1.0, 4.0, 16.0)
"""Seconds, where our own process cannot write a delivery down: nobody else will bring it again."""
LONGEST_PAUSE: Final = 60.0

Message = MutableMapping[str, Any]
Web = Callable[
    [MutableMapping[str, Any], Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]],
    Awaitable[None],
]
Sleep = Callable[[float], Awaitable[None]]

log = logging.getLogger(__name__)


class NoChannelError(UserError):
    """The relay gave no channel: it is not one, or it is away. Its address is like that of https://smee.io, without a channel."""


class _NoEventError(ValueError):
    """What came is no delivery in the form in which the relay wraps one."""


async def new_channel(relay: str) -> str:
    """The address of a channel of one's own. Raises NoChannelError, TransientError."""
    try:
        async with httpx.AsyncClient(timeout=SECONDS, trust_env=False) as client:
            answer = await client.get(f"{relay.rstrip('/')}/new")
    except httpx.TransportError:
        raise TransientError("The relay could not be reached.", reason="relay_unreachable") from None
    except httpx.InvalidURL:
        raise NoChannelError(reason="no_channel") from None
    channel = answer.headers.get("location", "") if answer.is_redirect else ""
    try:
        there, here = urlsplit(channel), urlsplit(relay)
    except ValueError:
        raise NoChannelError(reason="no_channel") from None
    if (there.scheme, there.netloc) != (here.scheme, here.netloc) or len(there.path) < 2:
        raise NoChannelError(reason="no_channel")
    return channel


class Relay:
    """Implements app.ports.Relay over one channel."""

    def __init__(self, channel: str, *, sleep: Sleep = asyncio.sleep) -> None:
        self._channel = channel
        self._sleep = sleep

    async def carry(self, web: Web) -> None:
        """Hands each delivery to `web`, until it is cancelled; connects anew whenever the connection ends."""
        pause = 1.0
        transport = httpx.ASGITransport(app=web, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://relay.invalid") as inside:
            while True:
                try:
                    async for data in self._events():
                        pause = 1.0
                        await self._hand(inside, data)
                except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
                    log.warning("The relay is away.", extra={"reason": type(error).__name__})
                await self._sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)

    async def _events(self) -> AsyncIterator[str]:
        """Each message's data. https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream"""
        timeout = httpx.Timeout(SECONDS, read=SILENT_SECONDS)
        async with (
            httpx.AsyncClient(timeout=timeout, trust_env=False) as client,
            client.stream("GET", self._channel, headers={"Accept": "text/event-stream"}) as stream,
        ):
            stream.raise_for_status()
            log.info("Listening to the relay.")
            async for event, data in _parted(stream.aiter_bytes()):
                if event == "message":
                    yield data

    async def _hand(self, inside: httpx.AsyncClient, data: str) -> None:
        try:
            headers, body = delivery(data)
        except _NoEventError:
            log.warning("The relay told something that is no delivery.")
            return
        for pause in (*AGAIN_AFTER, None):
            answer = await inside.post("/webhooks/github", content=body, headers=headers)
            if answer.status_code < 500 or pause is None:
                return
            await self._sleep(pause)


async def _parted(pieces: AsyncIterator[bytes]) -> AsyncIterator[tuple[str, str]]:
    """Each event's kind and data. Raises ValueError for one that is larger than any delivery."""
    kind = "message"
    lines: list[bytes] = []
    async for line in _lines(pieces):
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if not line:
            if lines:
                yield kind, b"\n".join(lines).decode("utf-8", "replace")
            kind, lines = "message", []
        elif name == b"event":
            kind = value.decode("utf-8", "replace")
        elif name == b"data":
            lines.append(value)
            if sum(map(len, lines)) > LARGEST:
                raise ValueError("too large")


async def _lines(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Without their ends. What a text's lines are parted by otherwise may stand in a delivery."""
    begun: list[bytes] = []
    async for piece in pieces:
        first, *others = piece.split(b"\n")
        begun.append(first)
        if others:
            yield b"".join(begun).removesuffix(b"\r")
            *whole, last = others
            for line in whole:
                yield line.removesuffix(b"\r")
            begun = [last]
        elif sum(map(len, begun)) > LARGEST:
            raise ValueError("too large")


def delivery(data: str) -> tuple[Mapping[str, str], bytes]:
    """The headers that GitHub sent, and the body as the relay wrote it: what is signed is its very letters, so it is cut out
    and never written anew. Raises ValueError for what is no delivery."""
    decoder = json.JSONDecoder()
    headers: dict[str, str] = {"content-type": "application/json"}
    body: bytes | None = None
    try:
        at = _past(data, 0, "{")
        while data[at : at + 1] != "}":
            name, at = decoder.raw_decode(data, at)
            start = _past(data, at, ":")
            value, at = decoder.raw_decode(data, start)
            if name == "body":
                body = data[start:at].encode()
            elif isinstance(value, str) and name.startswith(("x-github-", "x-hub-signature")):
                headers[name] = value
            at = _past(data, at, "")
            if data[at : at + 1] == ",":
                at = _past(data, at, ",")
        ended = _past(data, at, "}") == len(data)
    except (ValueError, AttributeError, RecursionError):
        raise _NoEventError("no delivery") from None
    if body is None or not ended:
        raise _NoEventError("no delivery")
    return headers, body


def _past(text: str, at: int, mark: str) -> int:
    """Behind `mark` and the white space around it. Raises ValueError where something else stands."""
    while text[at : at + 1] in (" ", "\t", "\n", "\r"):
        at += 1
    if not text.startswith(mark, at):
        raise _NoEventError("no delivery")
    at += len(mark)
    while text[at : at + 1] in (" ", "\t", "\n", "\r"):
        at += 1
    return at
