"""How long a request may take to come in: a connection that says nothing, or never comes to its end, is closed.

uvicorn waits for ever: https://www.uvicorn.org/settings/#timeouts
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import h11
from uvicorn import Config
from uvicorn.protocols.http.h11_impl import H11Protocol

REQUEST_WITHIN_SECONDS = 30.0
"""From the first byte (or the connection's beginning) to the last. GitHub itself gives up after ten."""

LINGERS_SECONDS = 2.0

KEPT_ALIVE_SECONDS = 75
"""Longer than a proxy keeps its end of an idle connection, since it takes a request that meets our closing for a failure (502):
60 s with AWS's load balancers. https://docs.aws.amazon.com/elasticloadbalancing/latest/application/edit-load-balancer-attributes.html"""

_COMING = frozenset({h11.IDLE, h11.SEND_BODY})
"""What a client is at whose request has not come in."""


class Patient(H11Protocol):
    """HTTP as uvicorn speaks it, for people who have something to say."""

    _running_out: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._count_down()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state not in _COMING:
            self._at_ease()
        elif self._running_out is None:
            self._count_down()

    def on_response_complete(self) -> None:
        unread = self.conn.their_state is h11.SEND_BODY
        super().on_response_complete()
        if unread:
            # It was answered before its end came. What is still to come is read for nobody, and for a moment only: a connection
            # that is closed while something arrives takes the answer with it.
            self._count_down(LINGERS_SECONDS)
        elif self.conn.their_state is h11.SEND_BODY and self._running_out is None:
            self._count_down()  # the next one, which came close behind

    def connection_lost(self, exc: Exception | None) -> None:
        self._at_ease()
        super().connection_lost(exc)

    def _count_down(self, seconds: float | None = None) -> None:
        self._at_ease()
        within = REQUEST_WITHIN_SECONDS if seconds is None else seconds
        self._running_out = self.loop.call_later(within, self._run_out)

    def _at_ease(self) -> None:
        if self._running_out is not None:
            self._running_out.cancel()
            self._running_out = None

    def _run_out(self) -> None:
        self._running_out = None
        self.transport.close()


def config(web: Any, trusted_proxies: Sequence[str] = ()) -> Config:
    """How the web process is served. `trusted_proxies` are addresses and networks whose `X-Forwarded-For` and
    `X-Forwarded-Proto` are believed; from anybody else they are nothing."""
    return Config(
        web,
        http=Patient,
        timeout_keep_alive=KEPT_ALIVE_SECONDS,
        proxy_headers=bool(trusted_proxies),
        forwarded_allow_ips=list(trusted_proxies),
        log_config=None,
        access_log=False,
        server_header=False,
    )
