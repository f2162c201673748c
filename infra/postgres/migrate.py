"""Brings a database's schema up to date, or says that it is behind. Never runs as the service's own role."""

from __future__ import annotations

from pathlib import Path

import psycopg
import sqlalchemy
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

import infra.migrations
from app.errors import MagicodeError
from infra.postgres.connect import parameters
from infra.postgres.tables import JOBS_SCHEMA, KEYS_SCHEMA, OWNER_ROLE, SCHEMA, SERVICE_ROLE

_LOCK = 0x6D6167_69636F  # "magico": one migration at a time in a database

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


class SchemaBehindError(MagicodeError):
    """The database's schema is not the one this program needs; start once with MAGICODE_DATABASE_OWNER_URL set."""


class UnsafeRoleError(MagicodeError):
    """The role in MAGICODE_DATABASE_URL could pass row-level security; use magicode_service or a member of it."""


def migrate(owner_url: str) -> None:
    """Create the roles and schemas that are missing and apply every step, in one transaction.

    The role behind `owner_url` is a superuser, or may create roles and schemas in this database. Two processes may
    start at once: the second waits, then finds nothing to do. Raises psycopg.Error or sqlalchemy.exc.DBAPIError.
    """
    known = parameters(owner_url)
    known["options"] += " -c lock_timeout=0"
    engine = sqlalchemy.create_engine(
        "postgresql+psycopg://", creator=lambda: psycopg.connect(**known), poolclass=sqlalchemy.NullPool
    )
    with engine.connect() as connection, connection.begin():
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        connection.exec_driver_sql(_ROLES)
        for schema in (SCHEMA, JOBS_SCHEMA, KEYS_SCHEMA):
            if not connection.exec_driver_sql("SELECT to_regnamespace(%s)", (schema,)).scalar():
                connection.exec_driver_sql(f"CREATE SCHEMA {schema} AUTHORIZATION {OWNER_ROLE}")
        connection.exec_driver_sql(f"SET LOCAL ROLE {OWNER_ROLE}")
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    engine.dispose()


def versions(url: str) -> tuple[str | None, str]:
    """The schema's version in this database (None: no schema) and the one this program needs.

    Raises psycopg.OperationalError when the database cannot be reached.
    """
    needed = ScriptDirectory.from_config(_config()).get_current_head()
    if needed is None:
        raise AssertionError("the migrations have a head")
    with psycopg.connect(**parameters(url)) as connection:
        try:
            row = connection.execute(f"SELECT version_num FROM {SCHEMA}.schema_version").fetchone()  # noqa: S608
        except (
            psycopg.errors.UndefinedTable,
            psycopg.errors.InsufficientPrivilege,
            psycopg.errors.InvalidSchemaName,
        ):
            row = None
    return (row[0] if row else None), needed


def require_current(url: str) -> None:
    """Raise SchemaBehindError, naming both versions, unless the schema is the one this program needs."""
    found, needed = versions(url)
    if found != needed:
        raise SchemaBehindError(
            f"The database's schema is at {found or 'nothing'} and this program needs {needed}: start it once with "
            "MAGICODE_DATABASE_OWNER_URL set to a role that may change the schema."
        )


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


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(infra.migrations.__file__).parent).replace("%", "%%"))
    return config
