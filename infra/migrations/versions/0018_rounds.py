"""What one process of all does for everybody, again and again: when it is due, and how far it came.

And which of the installations that GitHub lists stand here just so, asked for all of them at once.
"""

from __future__ import annotations

from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

_ROUNDS = """
CREATE TABLE magicode_jobs.rounds (
    name text PRIMARY KEY,
    next_at timestamptz NOT NULL,
    since timestamptz
);
REVOKE ALL ON magicode_jobs.rounds FROM PUBLIC;
GRANT SELECT, INSERT, UPDATE ON magicode_jobs.rounds TO magicode_service;
"""

# It tells nobody's login: whoever asks has said them all.
_STANDING = """
CREATE FUNCTION magicode.standing(
    ids bigint[], accounts bigint[], logins text[], types text[], suspensions boolean[]
) RETURNS TABLE (github_id bigint, tenant bigint) LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
    SELECT told.id, there.installation_id
    FROM unnest(ids, accounts, logins, types, suspensions) AS told (id, account, login, type, suspended)
    JOIN magicode.installations AS there ON coalesce(there.github_id, there.installation_id) = told.id
        AND there.account_id = told.account AND there.account_login = told.login AND there.account_type = told.type
        AND there.suspended = told.suspended AND there.uninstalled_at IS NULL
$$;
REVOKE ALL ON FUNCTION magicode.standing(bigint[], bigint[], text[], text[], boolean[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION magicode.standing(bigint[], bigint[], text[], text[], boolean[]) TO magicode_service;
"""


def upgrade() -> None:
    op.execute(_ROUNDS)
    op.execute(_STANDING)
