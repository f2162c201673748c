"""The action log's rows, asked for by what stands in their columns."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from app.nouns import Entry, Run, RunState
from infra.postgres.store import PostgresStore

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
HERE, THERE, UNKNOWN = UUID(int=1), UUID(int=2), UUID(int=3)
ROWS: list[tuple[str, str, UUID | None]] = [
    ("run.started", "Mona", HERE),
    ("run_x.started", "mona", THERE),
    ("running", "lisa", UNKNOWN),
    ("a%b.c", "lisa", None),
    ("a.b", "o_a", None),
    ("run.ended", "oxa", HERE),
]


def a_run(run_id: UUID, installation_id: int, repository_id: int) -> Run:
    return Run(
        id=run_id, installation_id=installation_id, repository_id=repository_id, number=run_id.int,
        is_pull_request=False, verb="fix", occasion="comment:9", comment_id=9, asker_id=3, asker_login="mona",
        meaning=str(run_id), input_hash="h", cost_limit_usd=Decimal(1), state=RunState.QUEUED, attempt=0, blocked_by=None,
        cancel_requested=False, reason=None, status_comment_id=None, branch=None, base_sha=None, head_sha=None,
        pull_request=None, input_tokens=0, cached_tokens=0, output_tokens=0, cost_usd=Decimal(0), created_at=NOW,
        started_at=None, ended_at=None,
    )  # fmt: skip


@pytest.fixture
async def written(store: PostgresStore) -> PostgresStore:
    async with store.transaction(1) as transaction:
        await transaction.add_run(a_run(HERE, 1, 50))
        await transaction.add_run(a_run(THERE, 1, 60))
        for seq, (action, actor, run_id) in enumerate(ROWS, 1):
            at = NOW + timedelta(minutes=seq)
            entry = Entry(1, seq, at, actor, action, run_id, b"s", "d", "p", str(seq))
            await transaction.add_entry(entry, b"salt")
    async with store.transaction(2) as transaction:
        # The same ids mean nothing to another installation.
        await transaction.add_run(a_run(HERE, 2, 60))
        await transaction.add_run(a_run(UNKNOWN, 2, 60))
        entry = Entry(2, 1, NOW, "mona", "run.started", HERE, b"s", "d", "p", "1")
        await transaction.add_entry(entry, b"salt")
    return store


async def seqs(store: PostgresStore, installation_id: int = 1, **asked: Any) -> Sequence[int]:
    async with store.transaction(installation_id) as transaction:
        return [entry.seq for entry, _ in await transaction.entries(**asked)]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, [1, 2, 3, 4, 5, 6]),
        ({"after_seq": 2, "limit": 3}, [3, 4, 5]),
        ({"since": NOW + timedelta(minutes=4)}, [4, 5, 6]),
        ({"until": NOW + timedelta(minutes=4)}, [1, 2, 3]),
        ({"actions": ["run"]}, [1, 6]),
        ({"actions": ["run.started", "a.b"]}, [1, 5]),
        ({"actions": ["a%b"]}, [4]),
        ({"actions": ["%"]}, []),
        ({"actions": ["run_x"]}, [2]),
        ({"actor": "MONA"}, [1, 2]),
        ({"actor": "o_a"}, [5]),
        ({"actor": ""}, []),
        ({"run_id": HERE}, [1, 6]),
        ({"repository_id": 50}, [1, 3, 4, 5, 6]),
        ({"repository_id": 60}, [2, 3, 4, 5]),
        ({"repository_id": 60, "actions": ["run"], "actor": "mona"}, []),
        ({"repository_id": 50, "after_seq": 1, "limit": 2}, [3, 4]),
    ],
)
async def test_entries_are_found_by_their_columns(
    asked: dict[str, Any], expected: list[int], written: PostgresStore
) -> None:
    assert await seqs(written, **asked) == expected


async def test_runs_of_another_installation_say_nothing_of_ones_entries(written: PostgresStore) -> None:
    assert await seqs(written, 2, repository_id=60) == [1]
    assert await seqs(written, 2, repository_id=50) == []
    assert await seqs(written, 3) == []
