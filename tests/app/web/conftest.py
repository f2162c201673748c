"""The whole service, as in tests/line; and one that the tests of a module share."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator

import psycopg
import pytest
import pytest_asyncio

from infra.embedded.postgres import SERVICE_ROLE, SUPERUSER, EmbeddedPostgres
from tests.app.web.browser import Browser, opened
from tests.line.conftest import SIMULATOR, Words, raise_stage, sample
from tests.line.conversations import notes
from tests.line.stage import Stage, staged

__all__ = ["raise_stage", "sample"]


@pytest.fixture(scope="module")
def shared_database(postgres: EmbeddedPostgres, request: pytest.FixtureRequest) -> Iterator[str]:
    """The service's address of a database for a module."""
    name = f"web_{request.module.__name__.rpartition('.')[2]}"
    with psycopg.connect(postgres.url(SUPERUSER, "postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template STRATEGY FILE_COPY")
    yield postgres.url(SERVICE_ROLE, name)
    with psycopg.connect(postgres.url(SUPERUSER, "postgres"), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory, shared_database: str) -> AsyncIterator[Stage]:
    """`octo` is an organization with `fairshare`, which ada administers, wim may write to and rita may read; `sol` a person
    with an installation of their own."""
    folder = tmp_path_factory.mktemp("shared")
    source = folder / "fairshare"
    shutil.copytree(SIMULATOR / "sample", source, ignore=shutil.ignore_patterns("__pycache__"))
    async with staged(
        folder / "stage",
        {"octo/fairshare": source},
        notes(),
        database_url=shared_database,
        encoder=Words(),
        environ={"MAGICODE_MODEL_HOSTS": "127.0.0.1", "MAGICODE_HOOK_HOSTS": "127.0.0.1"},
    ) as stage:
        await stage.github.add_account("sol", {"own": source}, people={"wim": "write"})
        await stage.settled()
        yield stage


@pytest_asyncio.fixture(loop_scope="module")
async def ada(shared: Stage) -> AsyncIterator[Browser]:
    """An administrator of octo's installation, signed in."""
    async with opened(shared) as browser:
        await browser.sign_in("ada")
        yield browser
