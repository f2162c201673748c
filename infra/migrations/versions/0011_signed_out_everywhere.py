"""That a person signed out of all browsers at once, in the words of when the last of those sessions would have ended by itself.

It stands among the ended sessions under a keyed hash of the person, and goes when they do.
"""

from __future__ import annotations

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_EVERYWHERE = """
CREATE FUNCTION magicode.end_sessions(person text, ends timestamptz) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO magicode_jobs.ended_sessions AS known VALUES (person, ends)
    ON CONFLICT (hash) DO UPDATE SET until = greatest(known.until, ends);
END;
$$;
CREATE FUNCTION magicode.session_ended(session text, person text, ends timestamptz) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (SELECT FROM magicode_jobs.ended_sessions WHERE hash = session OR (hash = person AND until >= ends))
$$;
REVOKE ALL ON FUNCTION magicode.end_sessions(text, timestamptz), magicode.session_ended(text, text, timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION magicode.end_sessions(text, timestamptz), magicode.session_ended(text, text, timestamptz)
    TO magicode_service;
"""


def upgrade() -> None:
    op.execute(_EVERYWHERE)
