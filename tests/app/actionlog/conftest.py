"""A ledger on the real store, under a master key made for the test."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from app.actionlog.ledger import Ledger
from app.custody.keys import Keys
from app.ports import Store
from infra.secrets import FileMasterKey


class Watch:
    """A clock that a test sets; each look at it takes a millisecond."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 20, 12, 0, 0, 123456, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.now += timedelta(milliseconds=1)
        return self.now


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(FileMasterKey(tmp_path / "master.key"))


@pytest.fixture
async def ledger(store: Store, keys: Keys, watch: Watch, register: Callable[..., Awaitable[Any]]) -> Ledger:
    """A ledger; installations 1 and 2 are known."""
    await register(1)
    await register(2)
    return Ledger(store, keys, watch)
