"""Requests to GitHub in the log: writes beforehand and one by one, reads counted together."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from app.errors import ErasedError, TransientError
from app.nouns import Action
from app.witness import UNTOLD_AT_MOST, OwnWitness, Witness

MINT, REVOKE = "POST /app/installations/{installation_id}/access_tokens", "DELETE /installation/token"
READ, WRITE = "GET /repos/{owner}/{repo}", "POST /repos/{owner}/{repo}/git/refs"


class Log:
    """A Recorder that keeps what it was told, and raises what it is to raise."""

    def __init__(self) -> None:
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.error: Exception | None = None
        self.waits: asyncio.Event | None = None

    async def __call__(self, action: Action, actor: str = "magicode", **facts: Any) -> Any:
        if self.waits is not None:
            await self.waits.wait()
        if self.error is not None:
            raise self.error
        self.told.append((str(action), facts))


async def test_reads_are_counted_and_stand_before_the_write_that_follows() -> None:
    log = Log()
    witness = Witness(log, repository=7)
    for _ in range(3):
        await witness(READ, changes=False)
    assert log.told == []
    await witness(WRITE, changes=True)
    assert log.told == [
        ("github.read", {READ: 3, "repository": 7}),
        ("github.write", {"request": WRITE, "repository": 7}),
    ]
    await witness.flush()
    assert len(log.told) == 2, "nothing was read since"


async def test_a_write_that_cannot_be_written_down_is_kept_back() -> None:
    log = Log()
    log.error = TransientError(reason="database_away")
    with pytest.raises(TransientError):
        await Witness(log)(WRITE, changes=True)


async def test_reads_that_could_not_be_written_down_are_told_with_the_next() -> None:
    log = Log()
    witness = Witness(log)
    await witness(READ, changes=False)
    log.error = TransientError(reason="database_away")
    with pytest.raises(TransientError):
        await witness.flush()
    await witness.close()
    log.error = None
    await witness(READ, changes=False)
    await witness.flush()
    assert log.told == [("github.read", {READ: 2})]


async def test_a_token_is_written_down_before_it_is_made() -> None:
    log = Log()
    witness = Witness(log)
    await witness(READ, changes=False)
    await witness(MINT, changes=False)
    assert log.told == [("github.read", {READ: 1, MINT: 1})]
    log.error = TransientError(reason="database_away")
    with pytest.raises(TransientError):
        await witness(MINT, changes=False)


@pytest.mark.parametrize("error", [TransientError(reason="database_away"), ErasedError()])
async def test_a_token_is_revoked_even_where_nothing_can_be_written_down(error: Exception) -> None:
    log = Log()
    witness = Witness(log)
    log.error = error
    await witness(REVOKE, changes=False)
    assert log.told == []


async def test_reads_are_written_down_before_there_are_many() -> None:
    log = Log()
    witness = Witness(log)
    for _ in range(2 * UNTOLD_AT_MOST + 1):
        await witness(READ, changes=False)
    assert log.told == [("github.read", {READ: UNTOLD_AT_MOST})] * 2


async def test_an_installation_that_is_being_destroyed_needs_no_log_of_its_reads() -> None:
    log = Log()
    log.error = ErasedError()
    async with Witness(log) as witness:
        await witness(READ, changes=False)


async def test_what_is_read_before_an_error_is_written_down() -> None:
    log = Log()

    async def broken() -> None:
        async with Witness(log) as witness:
            await witness(READ, changes=False)
            raise KeyError

    with pytest.raises(KeyError):
        await broken()
    assert log.told == [("github.read", {READ: 1})]


async def test_who_is_cancelled_while_an_entry_is_written_waits_for_it_and_writes_it_once() -> None:
    log = Log()
    log.waits = asyncio.Event()
    witness = Witness(log)
    await witness(READ, changes=False)
    writing = asyncio.ensure_future(witness.flush())
    await asyncio.sleep(0)
    writing.cancel()
    await asyncio.sleep(0)
    log.waits.set()
    with pytest.raises(asyncio.CancelledError):
        await writing
    await witness.close()
    assert log.told == [("github.read", {READ: 1})]


async def test_the_apps_own_looks_are_written_down_now_and_then() -> None:
    log, now = Log(), 0.0
    witness = OwnWitness(log, lambda: now, every_seconds=300)
    for _ in range(10):
        now += 60
        await witness(READ, changes=False)
    await witness.close()
    assert [facts[READ] for _, facts in log.told] == [5, 5]
