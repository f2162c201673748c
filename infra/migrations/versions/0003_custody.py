"""What custody needs: the present installation of an account, settings, the customer's own keys, exports, erasures.

A tenant is entered by a function that holds a shared lock for the length of the transaction and says whether the
tenant's erasure has begun; an erasure waits for that lock, so that nothing is written behind its back.
"""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_TABLES = """
ALTER TABLE magicode.installations
    ADD COLUMN github_id bigint,
    ADD COLUMN account_type text NOT NULL DEFAULT 'Organization',
    ADD COLUMN uninstalled_at timestamptz,
    ADD COLUMN plan_cancelled_at timestamptz;
CREATE INDEX installations_github ON magicode.installations (coalesce(github_id, installation_id));
CREATE INDEX installations_account ON magicode.installations (account_id);

-- Wrapped keys live apart, so that a backup of what else there is can leave them out: a key inside a backup is not destroyed
-- until the backup is.
ALTER TABLE magicode.data_keys SET SCHEMA magicode_keys;

CREATE TABLE magicode.settings (
    installation_id bigint PRIMARY KEY,
    document text NOT NULL,
    legal_hold boolean NOT NULL,
    changed_by text NOT NULL,
    changed_at timestamptz NOT NULL
);
CREATE TABLE magicode_keys.provider_keys (
    installation_id bigint NOT NULL,
    provider text NOT NULL,
    sealed bytea NOT NULL,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL,
    checked_at timestamptz,
    PRIMARY KEY (installation_id, provider)
);
CREATE TABLE magicode.exports (
    installation_id bigint NOT NULL,
    id uuid NOT NULL,
    state text NOT NULL CHECK (state IN ('asked', 'made', 'failed')),
    asked_by text NOT NULL,
    asked_at timestamptz NOT NULL,
    place text,
    size bigint,
    sha256 text,
    made_at timestamptz,
    expires_at timestamptz,
    run_id uuid,
    PRIMARY KEY (installation_id, id)
);
CREATE TABLE magicode.api_tokens (
    installation_id bigint NOT NULL,
    id uuid NOT NULL,
    hash text NOT NULL,
    scopes text NOT NULL,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (installation_id, id)
);
CREATE TABLE magicode.erasures (
    installation_id bigint PRIMARY KEY,
    id uuid NOT NULL,
    github_id bigint NOT NULL,
    account_id bigint NOT NULL,
    reason text NOT NULL,
    asked_at timestamptz NOT NULL,
    asked_by text,
    repository_id bigint,
    number bigint,
    comment_id bigint,
    step text NOT NULL,
    shelf text,
    facts text NOT NULL DEFAULT '{}',
    receipt text,
    ended_at timestamptz
);
CREATE INDEX erasures_github ON magicode.erasures (github_id);
CREATE INDEX runs_ended ON magicode.runs (installation_id, ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX deliveries_received ON magicode.deliveries (installation_id, received_at);
CREATE INDEX entries_at ON magicode.entries (installation_id, at);
"""

_POLICY = """
ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;
ALTER TABLE {table} FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON {table}
    USING (installation_id = nullif(current_setting('magicode.installation', true), '')::bigint)
    WITH CHECK (installation_id = nullif(current_setting('magicode.installation', true), '')::bigint);
"""

# A setting that is local to the transaction stays when a function without SET clauses returns.
_ENTER = """
CREATE FUNCTION magicode.enter(tenant bigint) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM pg_catalog.set_config('magicode.installation', tenant::pg_catalog.text, true);
    PERFORM pg_catalog.pg_advisory_xact_lock_shared(pg_catalog.hashtextextended('magicode.tenant', tenant));
    RETURN EXISTS (SELECT FROM magicode.erasures WHERE installation_id OPERATOR(pg_catalog.=) tenant);
END;
$$;
CREATE FUNCTION magicode.alone(tenant bigint) RETURNS boolean LANGUAGE sql VOLATILE AS $$
    SELECT pg_catalog.pg_try_advisory_xact_lock(pg_catalog.hashtextextended('magicode.tenant', tenant));
$$;
"""

# What must look over the tenants' fences does it as the owner, says ids alone, and is granted by name.
_ACROSS = """
CREATE POLICY reconciler ON magicode.erasures FOR SELECT TO magicode_owner USING (true);
CREATE FUNCTION magicode.tenant_of(github bigint) RETURNS bigint LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
    SELECT installation_id FROM (
        SELECT installation_id, 0 AS rank FROM magicode.installations
        WHERE coalesce(github_id, installation_id) = github
        UNION ALL SELECT installation_id, 1 FROM magicode.erasures WHERE github_id = github
    ) AS known ORDER BY rank, installation_id DESC LIMIT 1
$$;
CREATE FUNCTION magicode.tenants_of_account(account bigint) RETURNS SETOF bigint LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
    SELECT installation_id FROM magicode.installations WHERE account_id = account ORDER BY installation_id DESC
$$;
CREATE POLICY reconciler ON magicode_keys.data_keys FOR SELECT TO magicode_owner USING (true);
CREATE FUNCTION magicode.keyed_ids() RETURNS SETOF bigint LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
    SELECT installation_id FROM magicode_keys.data_keys ORDER BY installation_id
$$;
CREATE FUNCTION magicode.erased_ids() RETURNS SETOF bigint LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
    SELECT installation_id FROM magicode.erasures ORDER BY installation_id
$$;
"""

# Entries leave the log in two ways only, and both leave a proof: from its beginning, once they are old, and all of them
# behind a destroyed key. Each function sees the entered tenant alone, since the owner is held by the policies too.
_REMOVING = """
CREATE OR REPLACE FUNCTION magicode.refuse_rewriting() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'DELETE' AND current_user = 'magicode_owner'
       AND current_setting('magicode.removing', true) = 'entries' THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'the action log is append-only' USING ERRCODE = 'insufficient_privilege';
END;
$$;
CREATE FUNCTION magicode.prune_entries(up_to bigint) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    removed bigint;
BEGIN
    IF EXISTS (SELECT FROM magicode.settings WHERE legal_hold) THEN
        RAISE EXCEPTION 'a legal hold is on' USING ERRCODE = 'insufficient_privilege';
    END IF;
    IF EXISTS (SELECT FROM magicode.entries WHERE seq <= up_to AND at > now() - interval '28 days')
       OR NOT EXISTS (SELECT FROM magicode.entries WHERE seq > up_to) THEN
        RAISE EXCEPTION 'the action log keeps what is young, and its head' USING ERRCODE = 'insufficient_privilege';
    END IF;
    PERFORM set_config('magicode.removing', 'entries', true);
    DELETE FROM magicode.entries WHERE seq <= up_to;
    GET DIAGNOSTICS removed = ROW_COUNT;
    PERFORM set_config('magicode.removing', '', true);
    RETURN removed;
END;
$$;
CREATE FUNCTION magicode.erase_entries() RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    removed bigint;
    tenant bigint := nullif(current_setting('magicode.installation', true), '')::bigint;
BEGIN
    IF EXISTS (SELECT FROM magicode_keys.data_keys WHERE installation_id = tenant)
       OR NOT EXISTS (SELECT FROM magicode.erasures WHERE installation_id = tenant) THEN
        RAISE EXCEPTION 'the action log goes behind its key, in an erasure' USING ERRCODE = 'insufficient_privilege';
    END IF;
    PERFORM set_config('magicode.removing', 'entries', true);
    DELETE FROM magicode.entries;
    GET DIAGNOSTICS removed = ROW_COUNT;
    PERFORM set_config('magicode.removing', '', true);
    RETURN removed;
END;
$$;
"""

_GRANTS = """
GRANT USAGE ON SCHEMA magicode_keys TO magicode_service;
GRANT SELECT, INSERT, UPDATE, DELETE ON magicode.settings, magicode.exports, magicode.api_tokens
    TO magicode_service;
GRANT SELECT, INSERT, UPDATE, DELETE ON magicode_keys.provider_keys, magicode_keys.data_keys TO magicode_service;
GRANT SELECT, INSERT, UPDATE ON magicode.erasures TO magicode_service;
REVOKE ALL ON FUNCTION magicode.enter(bigint), magicode.alone(bigint), magicode.tenant_of(bigint),
    magicode.tenants_of_account(bigint), magicode.erased_ids(), magicode.keyed_ids(), magicode.prune_entries(bigint),
    magicode.erase_entries() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION magicode.enter(bigint), magicode.alone(bigint), magicode.tenant_of(bigint),
    magicode.tenants_of_account(bigint), magicode.erased_ids(), magicode.keyed_ids(), magicode.prune_entries(bigint),
    magicode.erase_entries() TO magicode_service;
"""


def upgrade() -> None:
    op.execute(_TABLES)
    for table in (
        "magicode.settings",
        "magicode_keys.provider_keys",
        "magicode.exports",
        "magicode.api_tokens",
        "magicode.erasures",
    ):
        op.execute(_POLICY.format(table=table))
    op.execute(_ENTER)
    op.execute(_ACROSS)
    op.execute(_REMOVING)
    op.execute(_GRANTS)
