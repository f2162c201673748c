"""A web application of the simulator's on a real socket, inside the event loop that plays with it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import uvicorn

from infra.simulator.listener import listen


class _Server(uvicorn.Server):
    """Says when it answers, stops when it is told and not at the next tick, and leaves the process's signals to whoever
    runs it.
    """

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.answers = asyncio.Event()
        self.told_to_stop = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.answers.set()

    async def main_loop(self) -> None:
        """uvicorn's own looks ten times a second; its upkeep is due once."""
        while not await self.on_tick(0) and not self.told_to_stop.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self.told_to_stop.wait(), 1)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def served(web: Any, *, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[str]:
    """Gives the base URL (`http://host:port`). Port 0 takes a free one. Raises OSError when the port is taken."""
    listener = listen(host, port)
    server = _Server(uvicorn.Config(web, log_config=None, access_log=False, lifespan="off"))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        await server.answers.wait()
        yield f"http://{host}:{listener.getsockname()[1]}"
    finally:
        server.should_exit = server.force_exit = True
        server.told_to_stop.set()
        await serving
        listener.close()
