"""The sessions of browsers, each for as long as it lasts: whoever is signed out has no row any more, for all web processes at once.

A row holds the hash of the browser's cookie, a keyed hash of the person, and who it is, sealed under the service's own key: it
opens no session. The service's role reaches the table through four functions alone, which cannot list it. `ended_sessions` and
what reads it stay for processes of the program before this one; a later step removes them.
"""

from __future__ import annotations

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_SESSIONS = """
CREATE TABLE magicode_jobs.sessions (
    hash text PRIMARY KEY,
    person text NOT NULL,
    sealed bytea NOT NULL,
    ends timestamptz NOT NULL
);
CREATE INDEX sessions_of_person ON magicode_jobs.sessions (person, ends);
CREATE INDEX sessions_ends ON magicode_jobs.sessions (ends);
"""

# Two that sign in at once as one person do so one after the other, so that there are never more than the most.
_FUNCTIONS = """
CREATE FUNCTION magicode.begin_session(session text, known_as text, held bytea, until timestamptz, most integer) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('magicode.session ' || known_as, 0));
    DELETE FROM magicode_jobs.sessions WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM magicode_jobs.sessions WHERE ends < clock_timestamp() - interval '1 hour'
        LIMIT 100 FOR UPDATE SKIP LOCKED));
    INSERT INTO magicode_jobs.sessions VALUES (session, known_as, held, until);
    DELETE FROM magicode_jobs.sessions WHERE hash IN (
        SELECT hash FROM magicode_jobs.sessions WHERE person = known_as AND hash <> session
        ORDER BY ends DESC, hash OFFSET most - 1);
END;
$$;
CREATE FUNCTION magicode.session(session text) RETURNS bytea
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT sealed FROM magicode_jobs.sessions WHERE hash = session
$$;
CREATE FUNCTION magicode.end_session(session text) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    DELETE FROM magicode_jobs.sessions WHERE hash = session
$$;
CREATE FUNCTION magicode.end_sessions(known_as text) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    DELETE FROM magicode_jobs.sessions WHERE person = known_as
$$;
"""

_GRANTS = """
REVOKE ALL ON magicode_jobs.sessions FROM PUBLIC;
REVOKE ALL ON FUNCTION magicode.begin_session(text, text, bytea, timestamptz, integer), magicode.session(text),
    magicode.end_session(text), magicode.end_sessions(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION magicode.begin_session(text, text, bytea, timestamptz, integer), magicode.session(text),
    magicode.end_session(text), magicode.end_sessions(text) TO magicode_service;
"""


def upgrade() -> None:
    op.execute(_SESSIONS)
    op.execute(_FUNCTIONS)
    op.execute(_GRANTS)
