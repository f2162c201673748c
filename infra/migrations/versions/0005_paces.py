"""Whose turn it is to ask GitHub for something, kept where all processes see it: GitHub counts an installation's requests, not a
process's.

What stands there is the id that GitHub gives an installation, times and counts, for an hour at most. The service's role
reaches it through two functions alone. It need not outlive a crash of the database: GitHub's own refusals are heeded too.
"""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_TABLES = """
CREATE UNLOGGED TABLE magicode_jobs.github_turns (
    github_id bigint NOT NULL,
    at timestamptz NOT NULL,
    points integer NOT NULL,
    writes boolean NOT NULL
);
CREATE INDEX github_turns_of ON magicode_jobs.github_turns (github_id, at);
CREATE INDEX github_turns_at ON magicode_jobs.github_turns (at);
CREATE UNLOGGED TABLE magicode_jobs.github_holds (
    github_id bigint PRIMARY KEY,
    until timestamptz NOT NULL,
    spare_until timestamptz NOT NULL
);
"""

# The turn is the first moment at which no window that ends then holds too much. It is taken beforehand, so that whoever waits
# has a place in the line, unless it is further away than `longest`.
_TAKE = """
CREATE FUNCTION magicode.take_turn(
    installation bigint, cost integer, writing boolean, urgent boolean, spacing interval,
    per_minute integer, per_hour integer, points_per_minute integer, longest interval
) RETURNS TABLE (seconds double precision, taken boolean) LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    present timestamptz;
    turn timestamptz;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('magicode.github_turn', installation));
    present := clock_timestamp();
    DELETE FROM magicode_jobs.github_turns WHERE github_id = installation
        AND at < present - CASE WHEN writes THEN interval '61 minutes' ELSE interval '2 minutes' END;
    DELETE FROM magicode_jobs.github_turns WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM magicode_jobs.github_turns WHERE at < present - interval '2 hours'
        LIMIT 100 FOR UPDATE SKIP LOCKED));
    SELECT greatest(present, until, CASE WHEN urgent THEN present ELSE spare_until END) INTO turn
        FROM magicode_jobs.github_holds WHERE github_id = installation;
    turn := coalesce(turn, present);
    IF writing THEN
        turn := greatest(turn,
            (SELECT max(at) + spacing FROM magicode_jobs.github_turns
                WHERE github_id = installation AND writes),
            (SELECT at + interval '1 minute' FROM magicode_jobs.github_turns
                WHERE github_id = installation AND writes ORDER BY at DESC OFFSET per_minute - 1 LIMIT 1),
            (SELECT at + interval '1 hour' FROM magicode_jobs.github_turns
                WHERE github_id = installation AND writes ORDER BY at DESC OFFSET per_hour - 1 LIMIT 1));
    END IF;
    turn := greatest(turn, (
        SELECT max(at) + interval '1 minute' FROM (
            SELECT at, sum(points) OVER (ORDER BY at DESC ROWS UNBOUNDED PRECEDING) AS since
            FROM magicode_jobs.github_turns WHERE github_id = installation AND at > present - interval '1 minute'
        ) AS counted WHERE counted.since > points_per_minute - cost));
    seconds := extract(epoch FROM turn - present);
    taken := turn <= present + longest;
    IF taken THEN
        INSERT INTO magicode_jobs.github_turns VALUES (installation, turn, cost, writing);
    END IF;
    RETURN NEXT;
END;
$$;
CREATE FUNCTION magicode.hold_turns(installation bigint, pause interval, spare boolean) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM magicode_jobs.github_holds AS old
        WHERE greatest(old.until, old.spare_until) < clock_timestamp() - interval '1 hour'
        AND old.github_id <> installation;
    INSERT INTO magicode_jobs.github_holds AS held VALUES (
        installation,
        clock_timestamp() + CASE WHEN spare THEN interval '0' ELSE pause END,
        clock_timestamp() + pause
    ) ON CONFLICT (github_id) DO UPDATE SET
        until = greatest(held.until, excluded.until), spare_until = greatest(held.spare_until, excluded.spare_until);
END;
$$;
"""

_GRANTS = """
REVOKE ALL ON magicode_jobs.github_turns, magicode_jobs.github_holds FROM PUBLIC;
REVOKE ALL ON FUNCTION magicode.take_turn(
    bigint, integer, boolean, boolean, interval, integer, integer, integer, interval
), magicode.hold_turns(bigint, interval, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION magicode.take_turn(
    bigint, integer, boolean, boolean, interval, integer, integer, integer, interval
), magicode.hold_turns(bigint, interval, boolean) TO magicode_service;
"""


def upgrade() -> None:
    op.execute(_TABLES)
    op.execute(_TAKE)
    op.execute(_GRANTS)
