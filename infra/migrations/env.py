"""Alembic's entry: runs the steps on the connection and in the transaction that `infra/postgres/migrate.py` opened."""

from __future__ import annotations

from alembic import context

from infra.postgres.tables import SCHEMA

context.configure(
    connection=context.config.attributes["connection"],
    version_table="schema_version",
    version_table_schema=SCHEMA,
    transactional_ddl=True,
)
context.run_migrations()
