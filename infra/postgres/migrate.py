"""Brings a database's schema up to date, or says that it is behind. Never runs as the service's own role.

Programs of two ages work on one database while a new one is rolled out, so a step only adds: what an older program does not
know, it does not miss. A step that takes something away waits until no program needs that any more, and says since which
one that is, in the schema's comment (`needs 0007`). See `tests/faults/test_upgrade.py`, which holds each step to this.
"""

from __future__ import annotations

import logging
import re
import time
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from psycopg import sql

import infra.migrations
from app.errors import MagicodeError
from infra.postgres.connect import parameters
from infra.postgres.tables import JOBS_SCHEMA, KEYS_SCHEMA, OWNER_ROLE, SCHEMA, SERVICE_ROLE

_LOCK = 0x6D6167_69636F  # "magico": one migration at a time in a database

_LOCK_TIMEOUT = "2s"
_LOCK_TRIES = 60
_LOCK_PAUSE_SECONDS = 1.0
"""A step that waits for a table keeps everybody waiting who comes behind it: so it waits in short turns, and lets others by."""

_NEEDS = re.compile(r"\bneeds (\d{4})\b")

_ROLES = f"""
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{OWNER_ROLE}') THEN
        CREATE ROLE {OWNER_ROLE} NOLOGIN;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{SERVICE_ROLE}') THEN
        CREATE ROLE {SERVICE_ROLE} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS;
    END IF;
    IF NOT pg_has_role(current_user, '{OWNER_ROLE}', 'SET') THEN
        GRANT {OWNER_ROLE} TO CURRENT_USER;
    END IF;
END;
$$
"""  # noqa: S608 names of ours


log = logging.getLogger(__name__)


class SchemaBehindError(MagicodeError):
    """The database's schema is not the one this program needs; start once with MAGICODE_DATABASE_OWNER_URL set."""


class SchemaAheadError(MagicodeError):
    """The database's schema is newer than this program can work with; use a newer program."""


class UnsafeRoleError(MagicodeError):
    """The role in MAGICODE_DATABASE_URL could pass row-level security; use magicode_service or a member of it."""


def migrate(owner_url: str) -> None:
    """Create the roles and schemas that are missing and apply every step, in one transaction.

    The role behind `owner_url` is a superuser, or may create roles and schemas in this database. Two processes may
    start at once: the second waits, then finds nothing to do. A schema that a newer program has brought further is left as it
    is. Raises SchemaAheadError where this program is too old for it, and psycopg.Error or sqlalchemy.exc.DBAPIError.
    """
    if _is_ahead(owner_url):
        return
    known = parameters(owner_url)
    known["options"] += " -c lock_timeout=0"
    engine = sqlalchemy.create_engine(
        "postgresql+psycopg://", creator=lambda: psycopg.connect(**known), poolclass=sqlalchemy.NullPool
    )
    try:
        for turn in range(_LOCK_TRIES):
            try:
                _migrate(engine)
            except sqlalchemy.exc.OperationalError as error:
                waited = isinstance(
                    error.orig, psycopg.errors.LockNotAvailable | psycopg.errors.DeadlockDetected
                )
                if not waited or turn == _LOCK_TRIES - 1:
                    raise
                log.warning("A table is in use; the schema is brought up to date a moment later.")
                time.sleep(_LOCK_PAUSE_SECONDS)
            else:
                return
    finally:
        engine.dispose()


def give_password(owner_url: str, password: str) -> None:
    """Give the service's role, which `migrate` has made, this password. Raises psycopg.Error."""
    with psycopg.connect(**parameters(owner_url)) as connection:
        # As a verifier, made here: PostgreSQL writes statements that are slow or fail into its log.
        verifier = connection.pgconn.encrypt_password(
            password.encode(), SERVICE_ROLE.encode(), b"scram-sha-256"
        )
        connection.execute(
            sql.SQL("ALTER ROLE {} PASSWORD {}").format(
                sql.Identifier(SERVICE_ROLE), sql.Literal(verifier.decode())
            )
        )


def make_room(owner_url: str) -> None:
    """The roles and empty schemas alone, for a dump that holds the rest. Raises as `migrate`."""
    known = parameters(owner_url)
    engine = sqlalchemy.create_engine(
        "postgresql+psycopg://", creator=lambda: psycopg.connect(**known), poolclass=sqlalchemy.NullPool
    )
    try:
        with engine.connect() as connection, connection.begin():
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
            _make_room(connection)
    finally:
        engine.dispose()


def _make_room(connection: sqlalchemy.Connection) -> None:
    connection.exec_driver_sql(_ROLES)
    for schema in (SCHEMA, JOBS_SCHEMA, KEYS_SCHEMA):
        if not connection.exec_driver_sql("SELECT to_regnamespace(%s)", (schema,)).scalar():
            connection.exec_driver_sql(f"CREATE SCHEMA {schema} AUTHORIZATION {OWNER_ROLE}")


def _migrate(engine: sqlalchemy.Engine) -> None:
    with engine.connect() as connection, connection.begin():
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'")
        _make_room(connection)
        if _ahead(*_looked_at(connection.connection.driver_connection)):
            return  # by another program, while this one waited for its turn
        connection.exec_driver_sql(f"SET LOCAL ROLE {OWNER_ROLE}")
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def versions(url: str) -> tuple[str | None, str]:
    """The schema's version in this database (None: no schema) and the one this program needs.

    Raises psycopg.OperationalError when the database cannot be reached.
    """
    with psycopg.connect(**parameters(url)) as connection:
        return _looked_at(connection)[0], _revisions()[0]


def require_current(url: str) -> None:
    """Raise SchemaBehindError, naming both versions, unless the schema is the one this program needs, or a newer one with which
    it can work; SchemaAheadError for a newer one with which it cannot."""
    if _is_ahead(url):
        return
    found, needed = versions(url)
    if found != needed:
        raise SchemaBehindError(
            f"The database's schema is at {found or 'nothing'} and this program needs {needed}: start it once with "
            "MAGICODE_DATABASE_OWNER_URL set to a role that may change the schema."
        )


def _is_ahead(url: str) -> bool:
    with psycopg.connect(**parameters(url)) as connection:
        ahead = _ahead(*_looked_at(connection))
    if ahead:
        log.info("The database's schema is newer than this program, which works with what it knows of it.")
    return ahead


def _ahead(found: str | None, comment: str) -> bool:
    """Whether a newer program has brought the schema further than this one knows. Raises SchemaAheadError."""
    needed, known = _revisions()
    if found is None or found in known or found < needed:
        return False
    floor = _NEEDS.search(comment)
    if floor is not None and floor[1] > needed:
        raise SchemaAheadError(
            f"The database's schema is at {found}, and this program, which was made for {needed}, is too old for it: use one that "
            f"was made for {floor[1]} or later."
        )
    return True


def _looked_at(connection: Any) -> tuple[str | None, str]:
    """The schema's version and its comment."""
    try:
        with connection.transaction():
            row = connection.execute(
                f"SELECT version_num, coalesce(obj_description(to_regnamespace('{SCHEMA}'), 'pg_namespace'), '')"  # noqa: S608
                f" FROM {SCHEMA}.schema_version"
            ).fetchone()
    except (
        psycopg.errors.UndefinedTable,
        psycopg.errors.InsufficientPrivilege,
        psycopg.errors.InvalidSchemaName,
    ):
        row = None
    return (row[0], row[1]) if row else (None, "")


def _revisions() -> tuple[str, frozenset[str]]:
    """The one that this program needs, and all that it knows."""
    script = ScriptDirectory.from_config(_config())
    needed = script.get_current_head()
    if needed is None:
        raise AssertionError("the migrations have a head")
    return needed, frozenset(one.revision for one in script.walk_revisions())


def require_service_role(url: str) -> None:
    """Raise UnsafeRoleError when the policies would not hold for this role: a superuser, one with BYPASSRLS, or the
    tables' owner, who could switch them off."""
    with psycopg.connect(**parameters(url)) as connection:
        row = connection.execute(
            "SELECT rolsuper OR rolbypassrls OR EXISTS (SELECT FROM pg_roles WHERE rolname = %s"
            " AND pg_has_role(current_user, oid, 'MEMBER')) FROM pg_roles WHERE rolname = current_user",
            [OWNER_ROLE],
        ).fetchone()
    if row is None or row[0]:
        raise UnsafeRoleError(reason="unsafe_role")


def unprotected_tables(url: str) -> list[str]:
    """The tables that hold rows of tenants and that no policy is forced upon: there must be none."""
    with psycopg.connect(**parameters(url)) as connection:
        rows = connection.execute(
            "SELECT relname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace"
            " WHERE nspname = ANY(%s) AND relkind IN ('r', 'p') AND NOT (relrowsecurity AND relforcerowsecurity"
            " AND EXISTS (SELECT FROM pg_policy WHERE polrelid = pg_class.oid)) AND EXISTS (SELECT FROM pg_attribute"
            " WHERE attrelid = pg_class.oid AND attname = 'installation_id') ORDER BY relname",
            [[SCHEMA, KEYS_SCHEMA]],
        ).fetchall()
    return [str(row[0]) for row in rows]


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(infra.migrations.__file__).parent).replace("%", "%%"))
    return config
