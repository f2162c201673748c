"""Row-level security as the database itself reports and enforces it; nothing here trusts the store's own filters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from infra.postgres.tables import JOBS_SCHEMA, SCHEMA, SERVICE_ROLE, metadata

WITHOUT_TENANT = {"schema_version"}
"""Alembic's one row; the jobs, which carry ids alone, are Procrastinate's and in a schema of their own."""

SAMPLE = {
    "bigint": "1", "integer": "1", "numeric": "1", "boolean": "false", "bytea": "'\\x00'", "text": "'queued'",
    "uuid": "gen_random_uuid()", "timestamp with time zone": "now()",
}  # fmt: skip


@pytest.fixture
def owner(database: Any) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database.owner_url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def service(database: Any) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database.service_url) as connection:
        yield connection


def tables(owner: Any) -> list[str]:
    rows = owner.execute(
        "SELECT tablename FROM pg_tables WHERE schemaname = %s ORDER BY 1", [SCHEMA]
    ).fetchall()
    return [row[0] for row in rows]


def tenant_tables(owner: Any) -> list[str]:
    return [table for table in tables(owner) if table not in WITHOUT_TENANT]


def become(connection: Any, installation: int) -> None:
    connection.execute("SELECT set_config('magicode.installation', %s, true)", [str(installation)])


def insertion(owner: Any, table: str, installation: int) -> str:
    columns = owner.execute(
        "SELECT column_name, data_type FROM information_schema.columns WHERE table_schema = %s AND table_name = %s",
        [SCHEMA, table],
    ).fetchall()
    values = [str(installation) if name == "installation_id" else SAMPLE[kind] for name, kind in columns]
    names = ", ".join(name for name, _ in columns)
    return f"INSERT INTO {SCHEMA}.{table} ({names}) VALUES ({', '.join(values)})"


def fill(owner: Any, installation: int) -> None:
    """A row of this installation in each table, written past the policies."""
    for table in tenant_tables(owner):
        owner.execute(insertion(owner, table, installation))


def test_every_table_is_known_and_has_a_forced_policy_for_reading_and_writing(owner: Any) -> None:
    assert {f"{SCHEMA}.{table}" for table in tenant_tables(owner)} == set(metadata.tables)
    for table in tenant_tables(owner):
        row = owner.execute(
            "SELECT relrowsecurity, relforcerowsecurity FROM pg_class WHERE oid = %s::regclass",
            [f"{SCHEMA}.{table}"],
        ).fetchone()
        assert row == (True, True), table
        policies = owner.execute(
            "SELECT policyname, cmd, permissive, roles::text[], qual, with_check FROM pg_policies"
            " WHERE schemaname = %s AND tablename = %s AND policyname <> 'reconciler'",
            [SCHEMA, table],
        ).fetchall()
        assert len(policies) == 1, table
        name, command, permissive, roles, using, check = policies[0]
        assert (name, command, permissive, roles) == ("tenant", "ALL", "PERMISSIVE", ["public"]), table
        assert using == check, table
        assert "current_setting('magicode.installation'" in using, table


def test_no_table_hides_in_another_schema(owner: Any) -> None:
    rows = owner.execute(
        "SELECT DISTINCT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'"
    ).fetchall()
    assert {row[0] for row in rows} == {SCHEMA, JOBS_SCHEMA}
    views = owner.execute("SELECT viewname FROM pg_views WHERE schemaname = %s", [SCHEMA]).fetchall()
    assert views == [], "a view shows its owner's rows unless it is security_invoker"


def test_the_columns_that_sqlalchemy_knows_are_the_columns_that_are_there(owner: Any) -> None:
    for table in metadata.tables.values():
        rows = owner.execute(
            "SELECT column_name, is_nullable = 'YES' FROM information_schema.columns WHERE table_schema = %s"
            " AND table_name = %s",
            [SCHEMA, table.name],
        ).fetchall()
        assert dict(rows) == {column.name: column.nullable for column in table.columns}, table.name


def test_every_unique_key_begins_with_the_tenant(owner: Any) -> None:
    rows = owner.execute(
        "SELECT c.relname, (SELECT attname FROM pg_attribute WHERE attrelid = i.indrelid AND attnum = i.indkey[0])"
        " FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE i.indisunique AND n.nspname = %s AND c.relname <> 'schema_version_pkc'",
        [SCHEMA],
    ).fetchall()
    assert len(rows) >= 7
    assert {first for _, first in rows} == {"installation_id"}


def test_a_tenant_finds_changes_and_deletes_nothing_of_anothers(owner: Any, service: Any) -> None:
    fill(owner, 1)
    fill(owner, 2)
    for table in tenant_tables(owner):
        name = f"{SCHEMA}.{table}"
        become(service, 1)
        assert service.execute(f"SELECT DISTINCT installation_id FROM {name}").fetchall() == [(1,)], table
        for change in (f"DELETE FROM {name}", f"UPDATE {name} SET installation_id = 1"):
            statement = f"{change} WHERE installation_id = 2"
            with service.transaction(force_rollback=True):
                try:
                    assert service.execute(statement).rowcount == 0, table
                except psycopg.errors.InsufficientPrivilege:
                    continue
        assert owner.execute(f"SELECT count(*) FROM {name} WHERE installation_id = 2").fetchone() == (1,), (
            table
        )


def test_a_tenant_writes_nothing_in_anothers_name(owner: Any, service: Any) -> None:
    become(service, 1)
    for table in tenant_tables(owner):
        with (
            pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"),
            service.transaction(),
        ):
            service.execute(insertion(owner, table, 2))


def test_without_a_tenant_there_is_nothing(owner: Any, service: Any) -> None:
    fill(owner, 1)
    for setting in ("", None):
        if setting is not None:
            service.execute("SELECT set_config('magicode.installation', %s, true)", [setting])
        for table in tenant_tables(owner):
            assert service.execute(f"SELECT * FROM {SCHEMA}.{table}").fetchall() == [], table


def test_the_setting_dies_with_its_transaction(owner: Any, service: Any) -> None:
    fill(owner, 1)
    for end in (service.commit, service.rollback):
        become(service, 1)
        assert len(service.execute(f"SELECT * FROM {SCHEMA}.runs").fetchall()) == 1
        end()
        assert service.execute(f"SELECT * FROM {SCHEMA}.runs").fetchall() == []


async def test_the_setting_does_not_leak_through_the_pool(owner: Any, database: Any) -> None:
    from sqlalchemy import text

    from infra.postgres.store import PostgresStore

    fill(owner, 1)
    store = PostgresStore(database.service_url, pool_size=1, overflow=0)
    async with store.transaction(1) as transaction:
        assert len(await transaction.runs()) == 1
        first = await transaction._connection.scalar(text("SELECT pg_backend_pid()"))
    async with store._engine.connect() as connection:
        assert await connection.scalar(text("SELECT pg_backend_pid()")) == first
        assert (await connection.execute(text(f"SELECT * FROM {SCHEMA}.runs"))).all() == []
    await store.close()


def test_the_service_owns_nothing_and_cannot_rise(owner: Any, service: Any) -> None:
    row = owner.execute(
        "SELECT rolsuper, rolbypassrls, rolcreaterole, rolcreatedb, rolreplication FROM pg_roles WHERE rolname = %s",
        [SERVICE_ROLE],
    ).fetchone()
    assert row == (False,) * 5
    for catalogue, column in (("pg_class", "relowner"), ("pg_proc", "proowner"), ("pg_namespace", "nspowner"),
                              ("pg_type", "typowner"), ("pg_database", "datdba")):  # fmt: skip
        found = owner.execute(
            f"SELECT count(*) FROM {catalogue} WHERE {column} = %s::regrole", [SERVICE_ROLE]
        ).fetchone()
        assert found == (0,), catalogue
    assert (
        owner.execute("SELECT * FROM pg_auth_members WHERE member = %s::regrole", [SERVICE_ROLE]).fetchall()
        == []
    )
    for statement in (
        f"ALTER TABLE {SCHEMA}.runs DISABLE ROW LEVEL SECURITY",
        f"DROP POLICY tenant ON {SCHEMA}.runs",
        f"CREATE TABLE {SCHEMA}.mine (x int)",
        f"CREATE TABLE {JOBS_SCHEMA}.mine (x int)",
        "CREATE TABLE public.mine (x int)",
        "SET ROLE magicode_owner",
        f"TRUNCATE {SCHEMA}.runs",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege), service.transaction():
            service.execute(statement)
    service.execute("SET row_security = off")
    with pytest.raises(psycopg.errors.InsufficientPrivilege), service.transaction():
        service.execute(f"SELECT * FROM {SCHEMA}.runs")


@pytest.mark.parametrize(
    "statement",
    [
        f"UPDATE {SCHEMA}.entries SET actor = 'x'",
        f"DELETE FROM {SCHEMA}.entries",
        f"TRUNCATE {SCHEMA}.entries",
    ],
)
def test_nobody_rewrites_the_log(owner: Any, service: Any, statement: str) -> None:
    fill(owner, 1)
    become(service, 1)
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="permission denied"):
        service.execute(statement)
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"):
        owner.execute(statement)


def test_functions_with_their_owners_rights_have_a_fixed_search_path_and_are_not_for_everybody(
    owner: Any,
) -> None:
    rows = owner.execute(
        "SELECT p.proname, p.proconfig, has_function_privilege('public', p.oid, 'EXECUTE') FROM pg_proc p"
        " JOIN pg_namespace n ON n.oid = p.pronamespace WHERE p.prosecdef AND n.nspname IN (%s, %s)",
        [SCHEMA, JOBS_SCHEMA],
    ).fetchall()
    assert rows == [("installation_ids", ["search_path=pg_catalog, pg_temp"], False)]
