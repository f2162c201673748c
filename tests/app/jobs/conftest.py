"""Acceptance with the real store, ledger and keys; only the master key, the clock and the senders are made up."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from app.actionlog.ledger import Ledger
from app.custody.keys import Keys
from app.jobs.accept import Accepted, accept
from infra.postgres.store import PostgresStore
from webhooks.command import Actor, Ask, Command, Verb
from webhooks.notices import Received


class OpenMasterKey:
    """Wraps with nothing: what is tested here is not the wrapping."""

    id = "test:1"

    def wrap(self, key: bytes) -> bytes:
        return key

    def unwrap(self, master_key_id: str, wrapped: bytes) -> bytes:
        return wrapped


class HandClock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 20, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def move(self, **by: float) -> None:
        self.now += timedelta(**by)


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def keys() -> Keys:
    return Keys(OpenMasterKey())


@pytest.fixture
def ledger(store: PostgresStore, keys: Keys, clock: HandClock) -> Ledger:
    return Ledger(store, keys, clock)


@pytest.fixture
def deliver(
    store: PostgresStore, ledger: Ledger, keys: Keys, clock: HandClock
) -> Callable[[Received], Awaitable[Accepted]]:
    async def to_us(received: Received) -> Accepted:
        return await accept(received, store=store, ledger=ledger, keys=keys, clock=clock, new_id=uuid4)

    return to_us


@pytest.fixture
def asking() -> Callable[..., Received]:
    """A delivery in which mona asks for something on issue 7 of repository 5 of installation 1."""

    def build(**changes: Any) -> Received:
        given: dict[str, Any] = {
            "verb": Verb.FIX, "comment": 9, "number": 7, "installation": 1, "repository": 5, "body": "@magicode fix this",
        } | changes  # fmt: skip
        mona = Actor(3, "mona")
        command = Command(
            ask=Ask(given["verb"]),
            occasion=f"comment:{given['comment']}",
            installation_id=given["installation"],
            repository_id=given["repository"],
            repository_full_name="acme/widgets",
            number=given["number"],
            is_pull_request=given.get("is_pull_request", False),
            actor=mona,
            comment_id=given["comment"],
            texts=(("issue.title", "It breaks"), ("issue.body", ""), ("comment.body", given["body"])),
        )
        return Received(
            guid=given.get("guid") or str(uuid4()), event="issue_comment", action="created",
            installation_id=given["installation"], repository_id=given["repository"], sender=mona, outcome=command,
        )  # fmt: skip

    return build


@pytest.fixture
def look(database: Any) -> Callable[[str], list[tuple[Any, ...]]]:
    """Ask the database as its superuser, past every policy."""

    def ask(query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(database.owner_url) as connection:
            return connection.execute(query).fetchall()

    return ask
