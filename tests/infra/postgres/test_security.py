"""Row-level security as the database itself reports and enforces it; nothing here trusts the store's own filters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from infra.postgres.tables import JOBS_SCHEMA, KEYS_SCHEMA, SCHEMA, SERVICE_ROLE, metadata

WITHOUT_TENANT = {f"{SCHEMA}.schema_version"}
"""Alembic's one row; the jobs, which carry ids alone, are Procrastinate's and in a schema of their own."""

SAMPLE = {
    "bigint": "1", "integer": "1", "smallint": "1", "numeric": "1", "boolean": "false", "bytea": "'\\x00'", "text": "'queued'",
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


SAMPLES = {("exports", "state"): "'made'"}
"""Where a column takes only certain words."""


def tables(owner: Any) -> list[str]:
    """Every table of ours, with its schema."""
    rows = owner.execute(
        "SELECT schemaname || '.' || tablename FROM pg_tables WHERE schemaname = ANY(%s) ORDER BY 1",
        [[SCHEMA, KEYS_SCHEMA]],
    ).fetchall()
    return [row[0] for row in rows]


def tenant_tables(owner: Any) -> list[str]:
    return [table for table in tables(owner) if table not in WITHOUT_TENANT]


def become(connection: Any, installation: int) -> None:
    connection.execute("SELECT set_config('magicode.installation', %s, true)", [str(installation)])


def columns_of(owner: Any, table: str) -> dict[str, tuple[str, bool]]:
    """Of each column its type and whether it may be NULL."""
    rows = owner.execute(
        "SELECT column_name, data_type, is_nullable = 'YES' FROM information_schema.columns"
        " WHERE table_schema || '.' || table_name = %s",
        [table],
    ).fetchall()
    return {name: (kind, nullable) for name, kind, nullable in rows}


def insertion(owner: Any, table: str, installation: int) -> str:
    columns = columns_of(owner, table)
    values = [
        str(installation)
        if name == "installation_id"
        else SAMPLES.get((table.partition(".")[2], name), SAMPLE[kind])
        for name, (kind, _) in columns.items()
    ]
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join(values)})"


def unguarded(owner: Any) -> list[str]:
    """Tables that some tenant could read or write past the fence, each with what is missing."""
    faults = []
    for table in tenant_tables(owner):
        forced = owner.execute(
            "SELECT relrowsecurity AND relforcerowsecurity FROM pg_class WHERE oid = %s::regclass", [table]
        ).fetchone()
        if forced != (True,):
            faults.append(f"{table}: row-level security is not forced")
        if "installation_id" not in columns_of(owner, table):
            faults.append(f"{table}: no installation_id")
        policies = owner.execute(
            "SELECT policyname, cmd, permissive, roles::text[], qual, with_check FROM pg_policies"
            " WHERE schemaname || '.' || tablename = %s AND NOT (policyname = 'reconciler' AND cmd = 'SELECT'"
            " AND roles::text[] = ARRAY['magicode_owner'])",
            [table],
        ).fetchall()
        sound = [
            policy
            for policy in policies
            if policy[:4] == ("tenant", "ALL", "PERMISSIVE", ["public"])
            and policy[4] == policy[5]
            and policy[4].startswith("(installation_id = ")
            and "current_setting('magicode.installation'" in policy[4]
        ]
        if len(policies) != 1 or sound != policies:
            faults.append(f"{table}: its policies are {[policy[0] for policy in policies]}")
    return faults


def fill(owner: Any, installation: int) -> None:
    """A row of this installation in each table, written past the policies."""
    for table in tenant_tables(owner):
        owner.execute(insertion(owner, table, installation))


def test_every_table_is_known_and_has_a_forced_policy_for_reading_and_writing(owner: Any) -> None:
    assert set(tenant_tables(owner)) == set(metadata.tables)
    assert unguarded(owner) == []


@pytest.mark.parametrize(
    "forgetful",
    [
        f"CREATE TABLE {SCHEMA}.fresh (installation_id bigint)",
        f"CREATE TABLE {KEYS_SCHEMA}.fresh (installation_id bigint)",
        f"CREATE TABLE {SCHEMA}.fresh (id bigint)",
        f"CREATE TABLE {SCHEMA}.fresh (installation_id bigint); ALTER TABLE {SCHEMA}.fresh ENABLE ROW LEVEL SECURITY",
        f"ALTER TABLE {SCHEMA}.runs NO FORCE ROW LEVEL SECURITY",
        f"CREATE POLICY everybody ON {SCHEMA}.runs FOR SELECT USING (true)",
        f"ALTER POLICY tenant ON {SCHEMA}.runs WITH CHECK (true)",
        f"ALTER POLICY reconciler ON {SCHEMA}.installations TO public",
    ],
)
def test_a_migration_that_forgets_a_policy_does_not_pass(owner: Any, forgetful: str) -> None:
    owner.execute(forgetful)
    assert unguarded(owner) != []


def test_no_table_hides_in_another_schema(owner: Any) -> None:
    rows = owner.execute(
        "SELECT DISTINCT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'"
    ).fetchall()
    assert {row[0] for row in rows} == {SCHEMA, JOBS_SCHEMA, KEYS_SCHEMA}
    views = owner.execute(
        "SELECT viewname FROM pg_views WHERE schemaname = ANY(%s)", [[SCHEMA, KEYS_SCHEMA]]
    ).fetchall()
    assert views == [], "a view shows its owner's rows unless it is security_invoker"


def test_the_columns_that_sqlalchemy_knows_are_the_columns_that_are_there(owner: Any) -> None:
    for name, table in metadata.tables.items():
        there = {column: nullable for column, (_, nullable) in columns_of(owner, name).items()}
        assert there == {column.name: column.nullable for column in table.columns}, name


def test_every_unique_key_begins_with_the_tenant(owner: Any) -> None:
    rows = owner.execute(
        "SELECT c.relname, (SELECT attname FROM pg_attribute WHERE attrelid = i.indrelid AND attnum = i.indkey[0])"
        " FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE i.indisunique AND n.nspname = ANY(%s) AND c.relname <> 'schema_version_pkc'",
        [[SCHEMA, KEYS_SCHEMA]],
    ).fetchall()
    assert len(rows) >= 11
    assert {first for _, first in rows} == {"installation_id"}


def test_a_tenant_finds_changes_and_deletes_nothing_of_anothers(owner: Any, service: Any) -> None:
    fill(owner, 1)
    fill(owner, 2)
    for name in tenant_tables(owner):
        become(service, 1)
        assert service.execute(f"SELECT DISTINCT installation_id FROM {name}").fetchall() == [(1,)], name
        for change in (f"DELETE FROM {name}", f"UPDATE {name} SET installation_id = 1"):
            statement = f"{change} WHERE installation_id = 2"
            with service.transaction(force_rollback=True):
                try:
                    assert service.execute(statement).rowcount == 0, name
                except psycopg.errors.InsufficientPrivilege:
                    continue
        assert owner.execute(f"SELECT count(*) FROM {name} WHERE installation_id = 2").fetchone() == (1,), (
            name
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
            assert service.execute(f"SELECT * FROM {table}").fetchall() == [], table


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
    store = PostgresStore(database.service_url, connections=1)
    async with store.transaction(1, erasing=True) as transaction:
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
        " JOIN pg_namespace n ON n.oid = p.pronamespace WHERE p.prosecdef AND n.nspname = ANY(%s) ORDER BY 1",
        [[SCHEMA, JOBS_SCHEMA, KEYS_SCHEMA]],
    ).fetchall()
    assert [name for name, _, _ in rows] == [
        "begin_session",
        "end_every_session",
        "end_session",
        "end_session",
        "end_sessions",
        "end_sessions",
        "erase_entries",
        "erased_ids",
        "hold_turns",
        "installation_ids",
        "keyed_ids",
        "prune_entries",
        "session",
        "session_ended",
        "session_ended",
        "standing",
        "take_turn",
        "tenant_of",
        "tenants_of_account",
    ]
    assert {(*settings, public) for _, settings, public in rows} == {
        ("search_path=pg_catalog, pg_temp", False)
    }


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM {}",
        "SELECT count(*) FROM {}",
        "INSERT INTO {} VALUES ('a', 'b', '\\x00', now())",
        "UPDATE {} SET person = 'x'",
        "DELETE FROM {}",
    ],
)
def test_the_service_cannot_list_the_sessions_of_browsers(service: Any, statement: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="permission denied"):
        service.execute(statement.format(f"{JOBS_SCHEMA}.sessions"))


# --- how entries leave the log ---------------------------------------------------------------------------------------


def entries(owner: Any, installation: int, count: int, *, days_old: int) -> None:
    owner.execute(
        f"INSERT INTO {SCHEMA}.entries SELECT {installation}, n, now() - interval '{days_old} days', 'a', 'x', NULL,"
        f" '', '', '', '', '' FROM generate_series(1, {count}) AS n"
    )


def left(owner: Any, installation: int) -> list[int]:
    rows = owner.execute(
        f"SELECT seq FROM {SCHEMA}.entries WHERE installation_id = {installation} ORDER BY 1"
    ).fetchall()
    return [row[0] for row in rows]


def test_the_beginning_of_an_old_log_goes_and_nobody_elses(owner: Any, service: Any) -> None:
    entries(owner, 1, 5, days_old=40)
    entries(owner, 2, 5, days_old=40)
    become(service, 1)
    assert service.execute(f"SELECT {SCHEMA}.prune_entries(3)").fetchone() == (3,)
    service.commit()
    assert (left(owner, 1), left(owner, 2)) == ([4, 5], [1, 2, 3, 4, 5])


@pytest.mark.parametrize("what", ["young", "head", "hold"])
def test_what_is_young_the_head_and_what_is_held_stay(owner: Any, service: Any, what: str) -> None:
    entries(owner, 1, 5, days_old=20 if what == "young" else 40)
    if what == "hold":
        owner.execute(f"INSERT INTO {SCHEMA}.settings VALUES (1, '{{}}', true, 'ada', now())")
    become(service, 1)
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match=r"keeps what is young|legal hold"):
        service.execute(f"SELECT {SCHEMA}.prune_entries({5 if what == 'head' else 3})")
    assert left(owner, 1) == [1, 2, 3, 4, 5]


def test_the_whole_log_goes_only_in_an_erasure_and_behind_its_key(owner: Any, service: Any) -> None:
    for installation in (1, 2):
        entries(owner, installation, 3, days_old=0)
        owner.execute(f"INSERT INTO {KEYS_SCHEMA}.data_keys VALUES ({installation}, 'k', '\\x00')")
    for allowed in (False, False, True):
        become(service, 1)
        if allowed:
            assert service.execute(f"SELECT {SCHEMA}.erase_entries()").fetchone() == (3,)
            service.commit()
            break
        with (
            pytest.raises(psycopg.errors.InsufficientPrivilege, match="behind its key"),
            service.transaction(),
        ):
            service.execute(f"SELECT {SCHEMA}.erase_entries()")
        if not owner.execute(f"SELECT FROM {SCHEMA}.erasures").fetchall():
            owner.execute(insertion(owner, f"{SCHEMA}.erasures", 1))
        else:
            owner.execute(f"DELETE FROM {KEYS_SCHEMA}.data_keys WHERE installation_id = 1")
        service.rollback()
    assert (left(owner, 1), left(owner, 2)) == ([], [1, 2, 3])
