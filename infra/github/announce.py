"""Tells a witness of each request before it leaves: of retries, redirects and refused tokens' second tries too; and lets no write
leave that was held up since.

A call says what it sends, and the wire asks what is being sent: a request of which nobody said so does not go out.

Whoever announces a write still holds the work then. Between that and the wire lie a connection, a name's lookup and a
handshake, and a process can be stopped anywhere for minutes, while another takes its work over: so the write is looked at
again when the connection is there and its bytes are about to be handed over.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final

import httpx

from app.errors import DefectError, TransientError
from app.ports import Witness

FRESH_SECONDS: Final = 1.0
"""How old the last look at the fence may be when a write leaves. Who is silent for some twenty seconds is taken for dead."""

LOOKS: Final = 10
"""How often a write that is held up is looked at again before it is given up for now."""

_LEAVES: Final = (".send_request_headers.started", ".send_request_body.started")
"""The last moments that httpcore tells of: https://www.encode.io/httpcore/extensions/#trace"""

Clock = Callable[[], float]


@dataclass(slots=True)
class _Sending:
    request: str
    witness: Witness | None
    changes: bool
    url: httpx.URL | None = None


_sending: ContextVar[_Sending | None] = ContextVar("_sending", default=None)


class HeldUpError(Exception):
    """A write was about to leave too long after its fence was looked at. Nothing of it has been done."""


def boottime() -> float:
    """Seconds that go on while the process is stopped and, where the system tells, while the whole machine sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


@contextmanager
def announced(request: str, witness: Witness | None, *, changes: bool) -> Iterator[None]:
    """What is sent in this block is this request."""
    before = _sending.set(_Sending(request, witness, changes))
    try:
        yield
    finally:
        _sending.reset(before)


async def announce(going_out: httpx.Request) -> Witness | None:
    """Whom to ask again if it is held up: None for what changes nothing. Raises DefectError (`request_unannounced`), and what the
    witness raises."""
    sending = _sending.get()
    if sending is None:
        raise DefectError("A request to GitHub was made past the calls.", reason="request_unannounced")
    if sending.url is None:
        sending.url = going_out.url
    followed = going_out.url != sending.url
    if sending.witness is None:
        return None
    told = f"{sending.request} (redirected)" if followed else sending.request
    await sending.witness(told, changes=sending.changes)
    return sending.witness if sending.changes else None


async def send(
    request: httpx.Request,
    onto: Callable[[httpx.Request], Awaitable[httpx.Response]],
    *,
    clock: Clock = boottime,
    fresh_seconds: float = FRESH_SECONDS,
) -> httpx.Response:
    """Announces a request and hands it on. Raises as `announce`, and TransientError (`held_up`) for a write that was held up each
    time; the request must not be one whose body can be read once only."""
    looked = clock()
    witness = await announce(request)
    if witness is None:
        return await onto(request)
    for _ in range(LOOKS):
        with _watched(request, looked + fresh_seconds, clock):
            try:
                return await onto(request)
            except HeldUpError:
                pass
        looked = clock()
        await witness.still()
    raise TransientError("A write to GitHub was held up for too long.", reason="held_up")


@contextmanager
def _watched(request: httpx.Request, until: float, clock: Clock) -> Iterator[None]:
    """Within, the request does not leave after `until`."""
    given: Mapping[str, Any] = request.extensions
    also = given.get("trace")

    async def trace(name: str, info: Mapping[str, Any]) -> None:
        if also is not None:
            await also(name, info)
        if name.endswith(_LEAVES) and clock() > until:
            raise HeldUpError

    request.extensions = {**given, "trace": trace}
    try:
        yield
    finally:
        request.extensions = given  # type: ignore[assignment]
