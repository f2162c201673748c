"""Bringing a schema up to date: by several at once, by a role that is no superuser, and saying when it is behind."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from infra.embedded.postgres import SERVICE_ROLE, SUPERUSER
from infra.postgres.connect import BadAddressError, parameters
from infra.postgres.migrate import (
    SchemaBehindError,
    UnsafeRoleError,
    migrate,
    require_current,
    require_service_role,
    versions,
)

_numbers = itertools.count(1)


@pytest.fixture
def empty(postgres: Any) -> Iterator[Callable[[str], str]]:
    """Addresses of a database with nothing in it, by role."""
    name = f"e{next(_numbers)}"
    with psycopg.connect(postgres.url(SUPERUSER, "postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        yield lambda role: postgres.url(role, name)
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def test_two_that_start_at_once_both_find_it_done(empty: Callable[[str], str]) -> None:
    failed: list[BaseException] = []

    def run() -> None:
        try:
            migrate(empty(SUPERUSER))
        except psycopg.Error as error:
            failed.append(error)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    require_current(empty(SERVICE_ROLE))


def test_a_schema_that_is_behind_is_named(empty: Callable[[str], str], postgres: Any) -> None:
    found, needed = versions(empty(SERVICE_ROLE))
    assert found is None
    with pytest.raises(SchemaBehindError, match=f"at nothing and this program needs {needed}"):
        require_current(empty(SERVICE_ROLE))
    migrate(empty(SUPERUSER))
    with psycopg.connect(empty(SUPERUSER)) as connection:
        connection.execute("UPDATE magicode.schema_version SET version_num = '0000'")
    with pytest.raises(SchemaBehindError, match="at 0000"):
        require_current(empty(SERVICE_ROLE))


def test_a_migration_leaves_the_rows_that_are_there(database: Any) -> None:
    with psycopg.connect(database.owner_url) as connection:
        connection.execute("INSERT INTO magicode.installations VALUES (1, 2, 'acme', false)")
    migrate(database.owner_url)
    with psycopg.connect(database.owner_url) as connection:
        assert connection.execute("SELECT count(*) FROM magicode.installations").fetchone() == (1,)


def test_a_role_that_may_only_create_in_its_own_database_is_enough(
    empty: Callable[[str], str], postgres: Any
) -> None:
    name = parameters(empty(SUPERUSER))["dbname"]
    with psycopg.connect(postgres.url(SUPERUSER, "postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {name}_admin LOGIN CREATEROLE")
        connection.execute(f"ALTER DATABASE {name} OWNER TO {name}_admin")
        # The roles of the cluster are there already and somebody else's, as after an operator made them by hand.
        connection.execute(f"GRANT magicode_owner TO {name}_admin")
        try:
            migrate(empty(f"{name}_admin"))
            require_current(empty(SERVICE_ROLE))
        finally:
            connection.execute(f"ALTER DATABASE {name} OWNER TO {SUPERUSER}")
            with psycopg.connect(empty(SUPERUSER), autocommit=True) as inside:
                inside.execute(f"DROP OWNED BY {name}_admin")
            connection.execute(f"DROP ROLE {name}_admin")


def test_the_service_cannot_migrate(empty: Callable[[str], str]) -> None:
    with pytest.raises(Exception, match="permission denied"):
        migrate(empty(SERVICE_ROLE))


@pytest.mark.parametrize("extra", ["SUPERUSER", "BYPASSRLS", "IN ROLE magicode_owner"])
def test_a_role_that_the_policies_would_not_hold_is_refused(database: Any, extra: str) -> None:
    require_service_role(database.service_url)
    with psycopg.connect(database.owner_url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE risen LOGIN {extra}")
        try:
            with pytest.raises(UnsafeRoleError):
                require_service_role(database.service_url.replace(SERVICE_ROLE, "risen"))
        finally:
            connection.execute("DROP ROLE risen")


@pytest.mark.parametrize("url", ["postgres://u@h/d", "postgresql://u@h/d", "postgresql+psycopg://u@h/d"])
def test_every_way_to_write_the_scheme_is_understood(url: str) -> None:
    found = parameters(url)
    assert (found["user"], found["host"], found["dbname"]) == ("u", "h", "d")


def test_an_operators_own_options_are_kept_and_win() -> None:
    found = parameters(
        "postgresql://u@h/d?options=-c%20lock_timeout%3D3s&connect_timeout=4&application_name=x"
    )
    assert found["options"].endswith("-c lock_timeout=3s")
    assert (found["connect_timeout"], found["application_name"]) == ("4", "x")


@pytest.mark.parametrize("url", ["mysql://u:hunter2@h/d", "postgresql://u:hunter2@h:port:1/d?x=y", "hunter2"])
def test_a_bad_address_is_refused_without_repeating_its_password(url: str) -> None:
    with pytest.raises(BadAddressError) as caught:
        parameters(url)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None
