"""The simulated provider on a real socket, for tests, the demo and the command line."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from infra.models.playbook import Playbook, load
from infra.simulator.model.server import PLAYBOOK_KEY, create
from infra.simulator.served import served


@asynccontextmanager
async def running(
    playbook: Playbook, *, host: str = "127.0.0.1", port: int = 0, api_key: str = PLAYBOOK_KEY
) -> AsyncIterator[str]:
    """Serve inside this event loop; gives the base URL (`http://host:port`). Port 0 takes a free one.

    Raises OSError when the port is taken.
    """
    async with served(create(playbook, api_key), host=host, port=port) as url:
        yield url


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
