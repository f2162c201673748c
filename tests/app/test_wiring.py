"""What the service refuses to start with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pydantic import ValidationError

from app import settings
from app.errors import MagicodeError
from app.wiring import open_records, open_sandbox
from infra.embedded.postgres import SERVICE_ROLE, SUPERUSER


async def opened(url: str, data: Path) -> None:
    read = settings.read({"MAGICODE_DATABASE_URL": url, "MAGICODE_DATA_DIR": str(data)})
    async with open_records(read) as records:
        await records.store.ping()


@pytest.fixture
def bypassing(database: Any) -> Iterator[str]:
    """The address of a role that is no superuser and still passes every policy."""
    with psycopg.connect(database.owner_url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE risen LOGIN BYPASSRLS IN ROLE {SERVICE_ROLE}")
        try:
            yield database.service_url.replace(SERVICE_ROLE, "risen")
        finally:
            connection.execute("DROP ROLE risen")


async def test_the_services_own_role_is_accepted(database: Any, tmp_path: Path) -> None:
    await opened(database.service_url, tmp_path)


async def test_a_superuser_is_refused_with_a_sentence(database: Any, tmp_path: Path) -> None:
    assert SUPERUSER in database.owner_url
    with pytest.raises(MagicodeError, match="row-level security") as refused:
        await opened(database.owner_url, tmp_path)
    assert SERVICE_ROLE in refused.value.message


async def test_a_role_that_bypasses_the_policies_is_refused(bypassing: str, tmp_path: Path) -> None:
    with pytest.raises(MagicodeError, match="row-level security"):
        await opened(bypassing, tmp_path)


@pytest.mark.parametrize("url", ["postgresql://u:hunter2@127.0.0.1:1/none", "nonsense hunter2"])
async def test_a_database_that_is_away_is_said_without_its_password(url: str, tmp_path: Path) -> None:
    with pytest.raises(MagicodeError) as refused:
        await opened(url, tmp_path)
    assert "PostgreSQL" in refused.value.message
    assert "hunter2" not in refused.value.message


# --- the sandbox -----------------------------------------------------------------------------------------------------


def test_package_indexes_and_tool_folders_are_read_from_the_environment() -> None:
    read = settings.read(
        {
            "MAGICODE_PACKAGE_INDEXES": "pypi.org, mirror.example:8443",
            "MAGICODE_SANDBOX_TOOLS": "/opt/a:/opt/b",
        }
    )
    assert read.package_indexes == ("pypi.org", "mirror.example:8443")
    assert read.sandbox_tools == (Path("/opt/a"), Path("/opt/b"))
    assert open_sandbox(read) is not None
    assert open_sandbox(settings.read({"MAGICODE_SANDBOX": "false"})) is None


@pytest.mark.parametrize("named", ["https://pypi.org", "pypi.org:port", "a b"])
def test_a_package_index_that_is_no_host_is_refused(named: str) -> None:
    with pytest.raises(ValidationError):
        settings.read({"MAGICODE_PACKAGE_INDEXES": named})
