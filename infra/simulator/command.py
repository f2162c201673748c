"""What `magicode simulate` runs: a GitHub, and beside it, where a playbook is given, a model."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from app.errors import UserError
from infra.models.playbook import load
from infra.simulator.model.serve import environment
from infra.simulator.model.serve import running as running_model
from infra.simulator.serve import SimulatorOptions, start


class CannotSimulateError(UserError):
    """The simulated GitHub could not be started; the message says why."""


async def simulate(
    *,
    data: Path,
    repos: Sequence[tuple[str, Path]],
    port: int,
    app_url: str | None,
    playbook: Path | None,
    announce: Callable[[dict[str, Any]], None],
) -> None:
    """Serve until cancelled; `announce` is told once how to talk to both.

    Raises CannotSimulateError, and infra.models.playbook.PlaybookError.
    """
    script = load(playbook) if playbook else None
    async with AsyncExitStack() as stack:
        try:
            github = await start(SimulatorOptions(data=data, repos=repos, port=port, app_url=app_url))
            stack.push_async_callback(github.stop)
            model_url = await stack.enter_async_context(running_model(script)) if script else None
        except (OSError, ValueError) as error:
            raise CannotSimulateError(f"The simulated GitHub could not be started: {error}") from None
        document = github.document()
        if script and model_url:
            document["model"] = _model(model_url, script.models[0])
        announce(document)
        await asyncio.Event().wait()


def _model(base_url: str, name: str) -> dict[str, str]:
    given = environment(base_url)
    return {
        "anthropic_base_url": given["ANTHROPIC_BASE_URL"],
        "openai_base_url": given["OPENAI_BASE_URL"],
        "api_key": given["ANTHROPIC_API_KEY"],
        "name": name,
    }
