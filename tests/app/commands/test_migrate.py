"""`magicode migrate`: an empty database, one that is up to date, one that is ahead, and none; the service's password; as real
processes."""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from app import settings
from app.commands.migrate import said
from app.wiring import Migrated, migrate_database
from infra.embedded.postgres import SERVICE_ROLE, SUPERUSER
from infra.postgres.errors import DatabaseAwayError
from infra.postgres.migrate import SchemaAheadError, require_current, require_service_role, versions

PASSWORD = "amber willow 7"
PROGRAM = [sys.executable, "-m", "app.cli", "migrate"]
_numbers = itertools.count(1)


@pytest.fixture
def empty(postgres: Any) -> Iterator[str]:
    """The name of a database with nothing in it."""
    name = f"m{next(_numbers)}"
    with psycopg.connect(postgres.url(SUPERUSER, "postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        yield name
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
        connection.execute(f"ALTER ROLE {SERVICE_ROLE} PASSWORD NULL")


def magicode_migrate(*arguments: str, **given: str) -> subprocess.CompletedProcess[str]:
    bare = {name: value for name, value in os.environ.items() if not name.startswith("MAGICODE_")}
    return subprocess.run(
        [*PROGRAM, *arguments],
        env={**bare, **given},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


async def migrated(owner_url: str) -> Migrated:
    return await migrate_database(settings.read({"MAGICODE_DATABASE_OWNER_URL": owner_url}))


def test_an_empty_database_is_made_ready_for_the_services_role_with_no_other_setting(
    postgres: Any, empty: str
) -> None:
    done = magicode_migrate("--json", MAGICODE_DATABASE_OWNER_URL=postgres.url(SUPERUSER, empty))
    assert done.returncode == 0, done.stderr
    service = postgres.url(SERVICE_ROLE, empty)
    require_current(service)
    require_service_role(service)
    now, needed = versions(service)
    assert json.loads(done.stdout) == {"before": None, "now": now, "needed": needed, "password": False}


def opens(stored: str, password: str) -> bool:
    """RFC 5802: the stored key is the hash of the client's key."""
    found = re.fullmatch(r"SCRAM-SHA-256\$(\d+):([^$]+)\$([^:]+):(.+)", stored)
    assert found is not None
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(found[2]), int(found[1]))
    client = hmac.digest(salted, b"Client Key", "sha256")
    return base64.b64decode(found[3]) == hashlib.sha256(client).digest()


def stored_password(postgres: Any) -> str | None:
    with psycopg.connect(postgres.url(SUPERUSER, "postgres")) as connection:
        row = connection.execute(
            "SELECT rolpassword FROM pg_authid WHERE rolname = %s", [SERVICE_ROLE]
        ).fetchone()
    assert row is not None
    found: str | None = row[0]
    return found


def test_the_services_role_is_given_its_password_in_an_empty_database_and_again(
    postgres: Any, empty: str
) -> None:
    given = {
        "MAGICODE_DATABASE_OWNER_URL": postgres.url(SUPERUSER, empty),
        "MAGICODE_DATABASE_SERVICE_PASSWORD": PASSWORD,
    }
    for said_first in ("The schema was at nothing", "The schema is at"):
        done = magicode_migrate(**given)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(said_first)
        assert done.stdout.endswith(" The service's role has its password.\n")
        assert PASSWORD not in done.stdout + done.stderr
        require_current(postgres.url(SERVICE_ROLE, empty))
        require_service_role(postgres.url(SERVICE_ROLE, empty))
    stored = stored_password(postgres)
    assert stored is not None
    assert opens(stored, PASSWORD)
    assert not opens(stored, f"{PASSWORD}!")


async def test_without_one_to_be_given_its_password_stays_as_it_is(postgres: Any, database: Any) -> None:
    with psycopg.connect(database.owner_url, autocommit=True) as connection:
        connection.execute(f"ALTER ROLE {SERVICE_ROLE} PASSWORD 'another'")
        try:
            before = stored_password(postgres)
            assert before is not None
            assert not (await migrated(database.owner_url)).password
            assert stored_password(postgres) == before
        finally:
            connection.execute(f"ALTER ROLE {SERVICE_ROLE} PASSWORD NULL")


async def test_what_is_up_to_date_is_left_as_it_is(database: Any) -> None:
    needed = versions(database.service_url)[1]
    done = await migrated(database.owner_url)
    assert done == Migrated(needed, needed, needed)
    assert said(done) == f"The schema is at {needed}: there was nothing to do."


async def test_a_schema_of_a_newer_program_is_left_as_it_is(database: Any) -> None:
    needed = versions(database.service_url)[1]
    with psycopg.connect(database.owner_url, autocommit=True) as connection:
        connection.execute("UPDATE magicode.schema_version SET version_num = '9999'")
    done = await migrated(database.owner_url)
    assert done == Migrated("9999", "9999", needed)
    assert said(done) == f"The schema is at 9999, newer than this program's {needed}, and was left as it is."


async def test_a_schema_that_this_program_is_too_old_for_is_an_error(database: Any) -> None:
    with psycopg.connect(database.owner_url, autocommit=True) as connection:
        connection.execute("UPDATE magicode.schema_version SET version_num = '9999'")
        connection.execute("COMMENT ON SCHEMA magicode IS 'needs 9999'")
    with pytest.raises(SchemaAheadError, match="too old for it"):
        await migrated(database.owner_url)


async def test_a_database_that_is_away_is_an_error_and_its_password_is_not_told() -> None:
    with pytest.raises(DatabaseAwayError) as raised:
        await migrated("postgresql://owner:amberwillow@127.0.0.1:1/magicode")
    assert "amberwillow" not in raised.value.message
    assert raised.value.__cause__ is None


def test_without_the_owners_address_it_says_which_setting_is_missing() -> None:
    done = magicode_migrate(MAGICODE_DATABASE_URL="postgresql://magicode_service@127.0.0.1:1/magicode")
    assert (done.returncode, done.stdout) == (1, "")
    assert "MAGICODE_DATABASE_OWNER_URL is not set" in done.stderr
