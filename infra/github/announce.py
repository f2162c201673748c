"""Tells a witness of each request before it leaves: of retries, redirects and refused tokens' second tries too.

A call says what it sends, and the wire asks what is being sent: a request of which nobody said so does not go out.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import httpx

from app.errors import DefectError
from app.ports import Witness


@dataclass(slots=True)
class _Sending:
    request: str
    witness: Witness | None
    changes: bool
    url: httpx.URL | None = None


_sending: ContextVar[_Sending | None] = ContextVar("_sending", default=None)


@contextmanager
def announced(request: str, witness: Witness | None, *, changes: bool) -> Iterator[None]:
    """What is sent in this block is this request."""
    before = _sending.set(_Sending(request, witness, changes))
    try:
        yield
    finally:
        _sending.reset(before)


async def announce(going_out: httpx.Request) -> None:
    """Raises DefectError (`request_unannounced`), and what the witness raises."""
    sending = _sending.get()
    if sending is None:
        raise DefectError("A request to GitHub was made past the calls.", reason="request_unannounced")
    if sending.url is None:
        sending.url = going_out.url
    followed = going_out.url != sending.url
    if sending.witness is not None:
        told = f"{sending.request} (redirected)" if followed else sending.request
        await sending.witness(told, changes=sending.changes)
