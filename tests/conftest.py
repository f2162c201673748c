"""PostgreSQL for tests: one embedded server for all workers of a session, one fresh database per test."""

from __future__ import annotations

import itertools
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass

import psycopg
import pytest

from app.nouns import Installation
from infra.embedded.postgres import SERVICE_ROLE, SUPERUSER, EmbeddedPostgres
from infra.postgres.migrate import migrate
from infra.postgres.store import PostgresStore

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Database:
    """A migrated, empty database of its own."""

    owner_url: str
    service_url: str
    server: EmbeddedPostgres


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """The server, with a migrated database named `template` to copy."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "postgres-server"
    with EmbeddedPostgres(folder, database="template", durable=False) as server:
        migrate(server.owner_url)
        yield server


@pytest.fixture
def database(postgres: EmbeddedPostgres) -> Iterator[Database]:
    name = f"t{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(postgres.url(SUPERUSER, "postgres"), autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(1)")  # a template may not be in use while it is copied
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template STRATEGY FILE_COPY")
        connection.execute("SELECT pg_advisory_unlock(1)")
        yield Database(postgres.url(SUPERUSER, name), postgres.url(SERVICE_ROLE, name), postgres)
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def store(database: Database) -> AsyncIterator[PostgresStore]:
    """The store on a fresh database, as the service's role."""
    store = PostgresStore(database.service_url)
    yield store
    await store.close()


@pytest.fixture
def register(store: PostgresStore) -> Callable[..., Awaitable[Installation]]:
    """`await register(7)` makes installation 7 known, as GitHub's `installation created` would."""

    async def put(installation_id: int = 1, *, suspended: bool = False) -> Installation:
        installation = Installation(
            installation_id, installation_id * 10, f"account-{installation_id}", suspended
        )
        async with store.transaction(installation_id) as transaction:
            await transaction.put_installation(installation)
        return installation

    return put
