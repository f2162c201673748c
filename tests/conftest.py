"""PostgreSQL for tests: one embedded server per test process, one fresh database per test."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from hypothesis import HealthCheck, settings

from app.nouns import Installation
from infra.embedded.postgres import SERVICE_ROLE, SUPERUSER, EmbeddedPostgres
from infra.postgres.migrate import migrate
from infra.postgres.store import PostgresStore
from tests.lengths import Lengths
from tests.report import Reporter, add_option, said_by

_CLAIMING = tuple(Path(__file__).parent / room for room in ("attacks", "faults"))
_numbers = itertools.count(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--at-length", action="store_true", help="the whole proof, as `make prove` runs it")
    add_option(parser)


def pytest_configure(config: pytest.Config) -> None:
    path = None if hasattr(config, "workerinput") else config.getoption("--claims")
    config.pluginmanager.register(Reporter(Path(path) if path else None), "claims")
    # How long an example takes on a busy machine says nothing of the rule that it tries; speed is for tests/bench.
    settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("suite")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whoever proves something says what."""
    silent = [
        item.nodeid
        for item in items
        if said_by(item) is None and any(room in item.path.parents for room in _CLAIMING)
    ]
    if silent:
        raise pytest.UsageError(f"these tests claim nothing (tests/claims.py): {', '.join(silent)}")


@pytest.fixture(scope="session")
def lengths(request: pytest.FixtureRequest) -> Lengths:
    return Lengths(bool(request.config.getoption("--at-length")))


@dataclass(frozen=True)
class Database:
    """A migrated, empty database of its own."""

    owner_url: str
    service_url: str
    server: EmbeddedPostgres


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    """The server, with a migrated database named `template` to copy.

    Not below pytest's own temporary folder, which other runs of pytest tidy up.
    """
    with (
        tempfile.TemporaryDirectory(prefix="magicode-tests-", ignore_cleanup_errors=True) as folder,
        EmbeddedPostgres(Path(folder), database="template", durable=False) as server,
    ):
        migrate(server.owner_url)
        yield server


@pytest.fixture
def database(postgres: EmbeddedPostgres) -> Iterator[Database]:
    name = f"t{next(_numbers)}"
    with psycopg.connect(postgres.url(SUPERUSER, "postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template STRATEGY FILE_COPY")
    yield Database(postgres.url(SUPERUSER, name), postgres.url(SERVICE_ROLE, name), postgres)
    with psycopg.connect(postgres.url(SUPERUSER, "postgres"), autocommit=True) as connection:
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
