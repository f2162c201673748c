"""Addresses of customers' own that are told of events: one POST to a public address, over TLS, and what it answers is only counted."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from typing import Final

import httpx2

from app.errors import TransientError, UserError
from infra.models.guarded import AddressRefusedError, Guard

SECONDS: Final = 10.0
"""For the whole of it, the name's lookup and the answer's last byte included."""
READ_OF_ANSWER: Final = 4096
"""Who writes an answer may wait until it is read; nobody looks at it here."""


class HttpReceivers:
    """Implements app.ports.Receivers. A client for each request: what one answers (cookies, a connection that stays open to an
    address that others share) is nothing to the next."""

    def __init__(self, guard: Guard, seconds: float = SECONDS) -> None:
        self._guard = guard
        self._seconds = seconds
        self._trusted: ssl.SSLContext | None = None

    async def require(self, url: str) -> None:
        try:
            async with asyncio.timeout(self._seconds):
                await self._guard.require(url, query=True)
        except AddressRefusedError as error:
            why = error.why
        except (OSError, UnicodeError):  # TimeoutError is an OSError
            why = "its host was not found"
        else:
            return
        raise UserError(f"Nothing is sent to this address: {why}.", reason="hook_address")

    async def send(self, url: str, headers: Mapping[str, str], body: bytes) -> int:
        if self._trusted is None:
            self._trusted = await asyncio.to_thread(_authorities)
        try:
            async with (
                asyncio.timeout(self._seconds),
                self._guard.client(httpx2.Timeout(self._seconds), self._trusted) as client,
                client.stream("POST", url, headers=dict(headers), content=body) as answer,
            ):
                await _read_some(answer)
                return answer.status_code
        except AddressRefusedError:
            raise TransientError(reason="hook_refused") from None
        except (TimeoutError, httpx2.TimeoutException):
            raise TransientError(reason="hook_silent") from None
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError, UnicodeError):
            raise TransientError(reason="hook_unreachable") from None


def _authorities() -> ssl.SSLContext:
    """In a thread and once: it takes a tenth of a second, in which nobody else would be answered."""
    return httpx2.create_ssl_context(trust_env=False)


async def _read_some(answer: httpx2.Response) -> None:
    """As it comes, packed or not: nothing is unpacked."""
    read = 0
    async for piece in answer.aiter_raw():
        read += len(piece)
        if read >= READ_OF_ANSWER:
            return
