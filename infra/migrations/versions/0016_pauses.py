"""Whom the operator has paused: an installation, or with 0 everybody. Who works asks before each job and each effect.

And a way to sign everybody out at once.
"""

from __future__ import annotations

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

_PAUSES = """
CREATE TABLE magicode_jobs.pauses (
    installation_id bigint PRIMARY KEY,
    since timestamptz NOT NULL DEFAULT now()
);
REVOKE ALL ON magicode_jobs.pauses FROM PUBLIC;
GRANT SELECT, INSERT, DELETE ON magicode_jobs.pauses TO magicode_service;
"""

_END_EVERY_SESSION = """
CREATE FUNCTION magicode.end_every_session() RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    DELETE FROM magicode_jobs.sessions
$$;
REVOKE ALL ON FUNCTION magicode.end_every_session() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION magicode.end_every_session() TO magicode_service;
"""


def upgrade() -> None:
    op.execute(_PAUSES)
    op.execute(_END_EVERY_SESSION)
