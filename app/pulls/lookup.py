"""Asking GitHub once more for what it does not find: it tells of things sooner than they can be found everywhere."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, TypeVar

from app.errors import MissingError

T = TypeVar("T")
Sleep = Callable[[float], Awaitable[None]]

AGAIN_SECONDS: Final = (1.0, 3.0)
"""Between the times that something is looked for."""


async def found(ask: Callable[[], Awaitable[T]], sleep: Sleep) -> T:
    """What ends a request where it is gone is asked for again before that is believed. Raises MissingError."""
    for pause in AGAIN_SECONDS:
        with suppress(MissingError):
            return await ask()
        await sleep(pause)
    return await ask()
