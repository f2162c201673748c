"""Work that goes on and that nobody waits for any longer: a query cannot be broken off where the database says nothing."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

log = logging.getLogger(__name__)

_UNHEARD: Final[set[asyncio.Future[Any]]] = set()
"""The event loop itself holds what it runs by weak references alone."""


def leave(doing: asyncio.Future[Any]) -> None:
    """It comes to its own end; where that is a failure, its kind is told."""
    _UNHEARD.add(doing)
    doing.add_done_callback(_forget)


def _forget(done: asyncio.Future[Any]) -> None:
    _UNHEARD.discard(done)
    if not done.cancelled() and (error := done.exception()) is not None:
        log.warning("What nobody waited for any longer failed.", extra={"error": type(error).__name__})
