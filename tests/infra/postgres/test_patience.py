"""The queue as a worker sees it whose database comes and goes."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
import pytest
from procrastinate.exceptions import ConnectorException

from infra.postgres import patience
from infra.postgres.patience import PatientJobs

WORKER = 7


class Database:
    """Hands one job out again and again, each time as its next attempt; `away` once, where a test says so."""

    def __init__(self) -> None:
        self.attempts = 0
        self.away = False
        self.spared: list[str] = []

    async def execute_query_async(self, query: str, **arguments: Any) -> None:
        if self.away:
            self.away = False
            raise ConnectorException from psycopg.OperationalError("gone")

    async def execute_query_all_async(self, query: str, **arguments: Any) -> list[dict[str, Any]]:
        if "held" in arguments:
            self.spared.append(arguments["held"])
            return []
        self.attempts += 1
        return [
            {
                "id": 1, "status": "doing", "priority": 0, "lock": None, "queueing_lock": None, "task_name": "work", "args": {},
                "scheduled_at": None, "queue_name": "runs", "attempts": self.attempts, "worker_id": WORKER,
            }
        ]  # fmt: skip


async def test_a_job_that_was_put_back_and_taken_again_before_that_was_heard_stays_in_hand(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(patience, "_PAUSE_SECONDS", 0.1)
    database = Database()
    jobs = PatientJobs(database, asyncio.Event())  # type: ignore[arg-type]
    first = await jobs.fetch_job(["runs"], WORKER)
    assert first is not None
    heard: list[str] = []

    async def put_back() -> None:
        heard.append("said")
        if len(heard) == 1:  # done, and the answer is lost
            raise ConnectorException from psycopg.OperationalError("gone")

    saying = asyncio.create_task(jobs.done_with(first, put_back))
    await asyncio.sleep(0)
    again = await jobs.fetch_job(["runs"], WORKER)
    assert again is not None
    await saying
    assert heard == ["said", "said"]
    database.away = True
    assert await jobs.fetch_job(["runs"], WORKER) is None
    await jobs.fetch_job(["runs"], WORKER)
    assert database.spared == ["{1}"], "it is at work here, and is not put back"
    await jobs.done_with(again, lambda: asyncio.sleep(0))
