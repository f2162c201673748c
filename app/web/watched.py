"""Tells the house's watch what browsers, programs and GitHub were answered: by our own template of the address, never by the address."""

from __future__ import annotations

from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.ports import Watch

NOWHERE = "none"
"""The route of what leads to none, and of files that are the same for everybody."""

METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})


class Watched:
    """ASGI. Measured is up to the answer's first byte: a run can be watched for an hour."""

    def __init__(self, app: ASGIApp, watch: Watch, monotonic: Callable[[], float]) -> None:
        self._app = app
        self._watch = watch
        self._monotonic = monotonic

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = self._monotonic()

        async def said(message: Message) -> None:
            if message["type"] == "http.response.start":
                method = scope["method"] if scope["method"] in METHODS else "other"
                route = getattr(scope.get("route"), "path", NOWHERE)
                self._watch.answered(method, route, message["status"], self._monotonic() - began)
            await send(message)

        await self._app(scope, receive, said)
