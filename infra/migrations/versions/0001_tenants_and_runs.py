"""Tenants, deliveries, runs, keys, the action log, and the queue; every tenant behind forced row-level security.

The queue's own tables are the one exception: they belong to Procrastinate, hold ids alone, and live in a schema of
their own.
"""

from __future__ import annotations

from alembic import op
from procrastinate.schema import SchemaManager

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_TABLES = """
CREATE TABLE magicode.installations (
    installation_id bigint PRIMARY KEY,
    account_id bigint NOT NULL,
    account_login text NOT NULL,
    suspended boolean NOT NULL DEFAULT false
);
CREATE TABLE magicode.deliveries (
    installation_id bigint NOT NULL,
    guid text NOT NULL,
    event text NOT NULL,
    action text,
    outcome text NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (installation_id, guid)
);
CREATE TABLE magicode.runs (
    installation_id bigint NOT NULL,
    id uuid NOT NULL,
    repository_id bigint NOT NULL,
    number bigint NOT NULL,
    is_pull_request boolean NOT NULL,
    verb text NOT NULL,
    occasion text NOT NULL,
    comment_id bigint,
    asker_id bigint NOT NULL,
    asker_login text NOT NULL,
    meaning text NOT NULL,
    input_hash text NOT NULL,
    cost_limit_usd numeric(12, 6),
    state text NOT NULL CHECK (state IN
        ('queued', 'running', 'opened', 'updated', 'answered', 'refused', 'failed', 'cancelled')),
    attempt integer NOT NULL,
    blocked_by uuid,
    cancel_requested boolean NOT NULL,
    reason text,
    status_comment_id bigint,
    branch text,
    base_sha text,
    head_sha text,
    pull_request bigint,
    input_tokens bigint NOT NULL,
    cached_tokens bigint NOT NULL,
    output_tokens bigint NOT NULL,
    cost_usd numeric(12, 6) NOT NULL,
    created_at timestamptz NOT NULL,
    started_at timestamptz,
    ended_at timestamptz,
    PRIMARY KEY (installation_id, id),
    CONSTRAINT runs_meaning UNIQUE (installation_id, meaning)
);
-- The one run at work on an issue or pull request. It is an index so that two acceptances at once cannot both win.
CREATE UNIQUE INDEX runs_at_work ON magicode.runs (installation_id, repository_id, number)
    WHERE state IN ('queued', 'running') AND blocked_by IS NULL
      AND verb NOT IN ('cancel', 'logs', 'export', 'delete', 'settings', 'help');
CREATE INDEX runs_newest ON magicode.runs (installation_id, created_at DESC);
CREATE INDEX runs_branch ON magicode.runs (installation_id, repository_id, branch, created_at DESC)
    WHERE branch IS NOT NULL;
CREATE TABLE magicode.data_keys (
    installation_id bigint PRIMARY KEY,
    master_key_id text NOT NULL,
    wrapped bytea NOT NULL
);
CREATE TABLE magicode.entries (
    installation_id bigint NOT NULL,
    seq bigint NOT NULL,
    at timestamptz NOT NULL,
    actor text NOT NULL,
    action text NOT NULL,
    run_id uuid,
    sealed bytea NOT NULL,
    salt bytea NOT NULL,
    details_hash text NOT NULL,
    previous_hash text NOT NULL,
    hash text NOT NULL,
    PRIMARY KEY (installation_id, seq)
);
CREATE INDEX entries_run ON magicode.entries (installation_id, run_id, seq) WHERE run_id IS NOT NULL;
"""

# A setting that was local to an earlier transaction of the same connection reads '' and not NULL.
_POLICY = """
ALTER TABLE magicode.{table} ENABLE ROW LEVEL SECURITY;
ALTER TABLE magicode.{table} FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON magicode.{table}
    USING (installation_id = nullif(current_setting('magicode.installation', true), '')::bigint)
    WITH CHECK (installation_id = nullif(current_setting('magicode.installation', true), '')::bigint);
"""

_APPEND_ONLY = """
CREATE FUNCTION magicode.refuse_rewriting() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'the action log is append-only' USING ERRCODE = 'insufficient_privilege';
END;
$$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON magicode.entries
    FOR EACH ROW EXECUTE FUNCTION magicode.refuse_rewriting();
CREATE TRIGGER append_only_whole BEFORE TRUNCATE ON magicode.entries
    FOR EACH STATEMENT EXECUTE FUNCTION magicode.refuse_rewriting();
"""

# The owner is subject to the policies too, so the function that the reconciler calls needs one of its own.
_RECONCILER = """
CREATE POLICY reconciler ON magicode.installations FOR SELECT TO magicode_owner USING (true);
CREATE FUNCTION magicode.installation_ids() RETURNS SETOF bigint LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
    SELECT installation_id FROM magicode.installations ORDER BY installation_id
$$;
REVOKE ALL ON FUNCTION magicode.installation_ids() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION magicode.installation_ids() TO magicode_service;
"""

_GRANTS = """
GRANT USAGE ON SCHEMA magicode, magicode_jobs TO magicode_service;
GRANT SELECT ON magicode.schema_version TO magicode_service;
GRANT SELECT, INSERT, UPDATE, DELETE ON magicode.installations, magicode.runs TO magicode_service;
GRANT SELECT, INSERT, DELETE ON magicode.deliveries, magicode.data_keys TO magicode_service;
GRANT SELECT, INSERT ON magicode.entries TO magicode_service;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA magicode_jobs TO magicode_service;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA magicode_jobs TO magicode_service;
"""


def upgrade() -> None:
    op.execute(_TABLES)
    for table in ("installations", "deliveries", "runs", "data_keys", "entries"):
        op.execute(_POLICY.format(table=table))
    op.execute(_APPEND_ONLY)
    op.execute(_RECONCILER)
    op.execute("SET LOCAL search_path = magicode_jobs")
    op.get_bind().exec_driver_sql(SchemaManager.get_schema().replace("%", "%%"))
    op.execute("RESET search_path")
    op.execute(_GRANTS)
