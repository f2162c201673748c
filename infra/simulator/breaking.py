"""The ways in which an answer is lost or spoilt on its way: below HTTP, or in its bytes."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from typing import Final

from starlette.responses import Response
from starlette.types import Receive, Send

BEFORE: Final = frozenset({"drop_before", "hang_before", "reset_before"})
AFTER: Final = frozenset({"drop_after", "hang_after", "reset_after"})
"""The kinds that leave a request without an answer."""

_PAGE: Final = b"<!DOCTYPE html><html><head><title>Unicorn! &middot; GitHub</title></head><body>We couldn't respond to your request in time.</body></html>"
_NO_LINGERING: Final = struct.pack("ii", 1, 0)


async def break_off(kind: str, receive: Receive, send: Send) -> None:
    """Without a byte of an answer: close the connection, reset it (RST), or say nothing until the caller has gone.

    Under a server that shows no transport, raises ConnectionResetError.
    """
    if not kind.startswith("hang"):
        transport = _transport(send)
        if kind.startswith("reset"):
            connection = transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGERING)
        transport.abort()
    while (await receive())["type"] != "http.disconnect":
        pass


async def promise_more(answered: Response, receive: Receive, send: Send) -> None:
    """The whole answer under a Content-Length that is longer, and then the end of the connection."""
    transport = _transport(send)
    body = bytes(answered.body)
    head = f"HTTP/1.1 {_spoken(answered)} OK\r\nContent-Type: application/json\r\nContent-Length: {len(body) + 100}\r\n\r\n"
    transport.write(head.encode() + body)
    transport.close()
    while (await receive())["type"] != "http.disconnect":
        pass


def spoilt(answered: Response, form: str) -> Response:
    """The same status over a body that is none of GitHub's."""
    body = bytes(getattr(answered, "body", b""))
    kept = {
        name: value
        for name, value in answered.headers.items()
        if name.lower() not in ("content-length", "content-type", "etag")
    }
    kind = answered.headers.get("content-type", "application/json")
    if form == "gzip":
        kept["Content-Encoding"] = "gzip"
    content = {
        "truncated": body[: len(body) // 2],
        "html": _PAGE,
        "shape": _another_shape(body),
        "empty": b"",
        "too_long": body,
        "gzip": b"\x1f\x8b\x08\x00not gzip at all",
        "not_utf8": b'{"id": "\xff\xfe\xfd"}',
    }[form]
    return Response(content, _spoken(answered), kept, media_type="text/html" if form == "html" else kind)


def _another_shape(body: bytes) -> bytes:
    """A list for an object, an object for a list: what a proxy with opinions makes of it."""
    try:
        told = json.loads(body)
    except ValueError:
        told = None
    return b'{"message": "OK"}' if isinstance(told, list) else b'[{"message": "OK"}]'


def _spoken(answered: Response) -> int:
    """The status under which there can be a body."""
    return 200 if answered.status_code in (204, 304) else answered.status_code


def _transport(send: Send) -> asyncio.Transport:
    transport = getattr(getattr(send, "__self__", None), "transport", None)
    if not isinstance(transport, asyncio.Transport):
        raise ConnectionResetError("the simulated GitHub dropped the connection")
    return transport
