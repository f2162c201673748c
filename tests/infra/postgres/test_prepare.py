"""A database is made ready by a process that alone is told the owner's credentials."""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
import re
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from infra.embedded.postgres import SERVICE_ROLE, SUPERUSER
from infra.postgres.migrate import require_current, require_service_role
from infra.postgres.prepare import main

PASSWORD = "amber willow 7"

_numbers = itertools.count(1)


@pytest.fixture
def empty(postgres: Any) -> Iterator[str]:
    name = f"p{next(_numbers)}"
    with psycopg.connect(postgres.url(SUPERUSER, "postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        yield name
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
        connection.execute(f"ALTER ROLE {SERVICE_ROLE} PASSWORD NULL")


def opens(stored: str, password: str) -> bool:
    """RFC 5802: the stored key is the hash of the client's key."""
    found = re.fullmatch(r"SCRAM-SHA-256\$(\d+):([^$]+)\$([^:]+):(.+)", stored)
    assert found is not None
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(found[2]), int(found[1]))
    client = hmac.digest(salted, b"Client Key", "sha256")
    return base64.b64decode(found[3]) == hashlib.sha256(client).digest()


def test_an_empty_database_is_ready_afterwards_and_its_password_opens_it(empty: str, postgres: Any) -> None:
    given = {"MAGICODE_DATABASE_OWNER_URL": postgres.url(SUPERUSER, empty), "SERVICE_PASSWORD": PASSWORD}
    for _ in range(2):
        assert main(given) == 0
    require_current(postgres.url(SERVICE_ROLE, empty))
    require_service_role(postgres.url(SERVICE_ROLE, empty))
    with psycopg.connect(postgres.url(SUPERUSER, empty)) as connection:
        row = connection.execute(
            "SELECT rolpassword FROM pg_authid WHERE rolname = %s", [SERVICE_ROLE]
        ).fetchone()
    assert row is not None
    assert opens(row[0], PASSWORD)
    assert not opens(row[0], f"{PASSWORD}!")


@pytest.mark.parametrize("missing", ["MAGICODE_DATABASE_OWNER_URL", "SERVICE_PASSWORD"])
def test_without_one_of_the_two_nothing_is_touched(
    empty: str, postgres: Any, missing: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {"MAGICODE_DATABASE_OWNER_URL": postgres.url(SUPERUSER, empty), "SERVICE_PASSWORD": PASSWORD}
    assert main({**given, missing: ""}) == 2
    assert missing in capsys.readouterr().err
    with psycopg.connect(postgres.url(SUPERUSER, empty)) as connection:
        assert connection.execute("SELECT to_regnamespace('magicode')").fetchone() == (None,)


def test_a_database_that_is_away_is_said_without_the_address(
    capsys: pytest.CaptureFixture[str],
) -> None:
    away = f"postgresql://somebody:{PASSWORD.split(maxsplit=1)[0]}@127.0.0.1:1/none"
    assert main({"MAGICODE_DATABASE_OWNER_URL": away, "SERVICE_PASSWORD": PASSWORD}) == 1
    said = capsys.readouterr().err
    assert said.strip()
    assert "amber" not in said
