"""Which sessions of browsers were signed out before their time, kept where all web processes see it.

What stands there is a hash, until the session would have ended by itself. The service's role reaches it through two functions
alone, which cannot list it.
"""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_SESSIONS = """
CREATE TABLE magicode_jobs.ended_sessions (
    hash text PRIMARY KEY,
    until timestamptz NOT NULL
);
CREATE INDEX ended_sessions_until ON magicode_jobs.ended_sessions (until);
CREATE FUNCTION magicode.end_session(session text, ends timestamptz) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM magicode_jobs.ended_sessions WHERE until < clock_timestamp() - interval '1 hour';
    INSERT INTO magicode_jobs.ended_sessions VALUES (session, ends) ON CONFLICT DO NOTHING;
END;
$$;
CREATE FUNCTION magicode.session_ended(session text) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (SELECT FROM magicode_jobs.ended_sessions WHERE hash = session)
$$;
REVOKE ALL ON magicode_jobs.ended_sessions FROM PUBLIC;
REVOKE ALL ON FUNCTION magicode.end_session(text, timestamptz), magicode.session_ended(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION magicode.end_session(text, timestamptz), magicode.session_ended(text) TO magicode_service;
"""


def upgrade() -> None:
    op.execute(_SESSIONS)
