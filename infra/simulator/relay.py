"""A relay as smee.io is one, to test against: a channel's deliveries are told to whoever listens to it, wrapped as there.

The body is read and written anew, as a JavaScript engine does it, so that a signature holds only for whoever takes it letter by
letter. https://github.com/probot/smee.io
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from infra.simulator.served import served

PING_SECONDS = 30.0


class SimulatedRelay:
    """`listening` are those who do, by channel; `told` counts what each channel was given."""

    def __init__(self) -> None:
        self.url = ""
        self.listening: defaultdict[str, set[asyncio.Queue[str | None]]] = defaultdict(set)
        self.told: defaultdict[str, int] = defaultdict(int)
        self.web = Starlette(
            routes=[
                Route("/new", self._new),
                Route("/{channel}", self._listen, methods=["GET"]),
                Route("/{channel}", self._tell, methods=["POST"]),
            ]
        )

    async def _new(self, _: Request) -> Response:
        return RedirectResponse(f"{self.url}/{secrets.token_urlsafe(12)}", 307)

    async def _tell(self, request: Request) -> Response:
        """To those who listen now; nothing is kept."""
        try:
            body = json.loads(await request.body())
        except ValueError:
            return Response(status_code=400)
        channel = request.path_params["channel"]
        said = {**request.headers, "body": body, "query": dict(request.query_params), "timestamp": 0}
        self.told[channel] += 1
        for queue in self.listening[channel]:
            queue.put_nowait(json.dumps(said, ensure_ascii=False, separators=(",", ":")))
        return JSONResponse({})

    async def _listen(self, request: Request) -> Response:
        if "text/event-stream" not in request.headers.get("accept", ""):
            return Response("a page for people", media_type="text/html")
        return StreamingResponse(self._events(request.path_params["channel"]), media_type="text/event-stream")

    async def _events(self, channel: str) -> AsyncIterator[str]:
        queue: asyncio.Queue[str | None] = asyncio.Queue()
        self.listening[channel].add(queue)
        try:
            yield "event: ready\ndata: {}\n\n"
            while True:
                try:
                    data = await asyncio.wait_for(queue.get(), PING_SECONDS)
                except TimeoutError:
                    yield "event: ping\ndata: {}\n\n"
                    continue
                if data is None:
                    return
                yield f"id: {self.told[channel]}\ndata: {data}\n\n"
        finally:
            self.listening[channel].discard(queue)

    def hang_up(self) -> None:
        """Every connection ends."""
        for queues in self.listening.values():
            for queue in queues:
                queue.put_nowait(None)


@asynccontextmanager
async def relaying(host: str = "127.0.0.1") -> AsyncIterator[SimulatedRelay]:
    """Served for the length of the block."""
    relay = SimulatedRelay()
    async with served(relay.web, host=host) as relay.url:
        try:
            yield relay
        finally:
            relay.hang_up()
