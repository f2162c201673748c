"""The simulated provider on a real socket, for tests, the demo and the command line."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import uvicorn

from infra.models.playbook import Playbook, load
from infra.simulator.listener import listen
from infra.simulator.model.server import PLAYBOOK_KEY, create


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
async def running(
    playbook: Playbook, *, host: str = "127.0.0.1", port: int = 0, api_key: str = PLAYBOOK_KEY
) -> AsyncIterator[str]:
    """Serve inside this event loop; gives the base URL (`http://host:port`). Port 0 takes a free one.

    Raises OSError when the port is taken.
    """
    listener = listen(host, port)
    config = uvicorn.Config(create(playbook, api_key), log_config=None, access_log=False, lifespan="off")
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        await server.answers.wait()
        yield f"http://{host}:{listener.getsockname()[1]}"
    finally:
        server.should_exit = server.force_exit = True
        server.told_to_stop.set()
        await serving
        listener.close()


def environment(base_url: str, api_key: str = PLAYBOOK_KEY) -> dict[str, str]:
    """What to set so that either adapter asks the simulator instead of its provider."""
    return {
        "ANTHROPIC_BASE_URL": base_url,
        "ANTHROPIC_API_KEY": api_key,
        "OPENAI_BASE_URL": f"{base_url}/v1",
        "OPENAI_API_KEY": api_key,
    }


async def serve(
    playbook: Path, announce: Callable[[str], None], *, host: str = "127.0.0.1", port: int = 0
) -> None:
    """Serve a playbook file until cancelled; `announce` gets the base URL once it answers. Raises PlaybookError, OSError."""
    async with running(load(playbook), host=host, port=port) as base_url:
        announce(base_url)
        await asyncio.Event().wait()
