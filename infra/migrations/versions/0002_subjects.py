"""Requests on an issue and on the pull request that solves it are about one subject, and wait for each other."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        ALTER TABLE magicode.runs ADD COLUMN subject bigint, ADD COLUMN fingerprint text;
        DROP INDEX magicode.runs_at_work;
        CREATE UNIQUE INDEX runs_at_work ON magicode.runs
            (installation_id, repository_id, coalesce(subject, number))
            WHERE state IN ('queued', 'running') AND blocked_by IS NULL
              AND verb NOT IN ('cancel', 'logs', 'export', 'delete', 'settings', 'help');
        CREATE INDEX runs_opened ON magicode.runs (installation_id, repository_id, pull_request)
            WHERE pull_request IS NOT NULL;
        """
    )
