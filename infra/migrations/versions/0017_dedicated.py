"""Who has workers of its own, and a queue of its own for each of ours: what is put on a queue, or back on it, goes to whose it is.

The database sees to it, and not whoever puts a job there: so do programs that know nothing of it, and a worker of everybody's finds
nothing of theirs on the queues that it asks. A job that comes to another queue takes its place there when it is next looked for.

And whether a pause holds at GitHub too.
"""

from __future__ import annotations

from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

_DEDICATED = """
CREATE TABLE magicode_jobs.dedicated (
    installation_id bigint PRIMARY KEY,
    since timestamptz NOT NULL DEFAULT now(),
    heard_at timestamptz
);
REVOKE ALL ON magicode_jobs.dedicated FROM PUBLIC;
GRANT SELECT, INSERT, UPDATE, DELETE ON magicode_jobs.dedicated TO magicode_service;
"""

_KEEP_APART = """
CREATE FUNCTION magicode_jobs.keep_apart() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    whose text := NEW.args ->> 'installation_id';
    there text := split_part(NEW.queue_name, ':', 1);
BEGIN
    IF EXISTS (SELECT FROM magicode_jobs.dedicated WHERE installation_id = whose::bigint) THEN
        there := there || ':' || whose;
    END IF;
    IF there <> NEW.queue_name THEN
        NEW.queue_name := there;
        NEW.scheduled_at := coalesce(NEW.scheduled_at, now());
    END IF;
    RETURN NEW;
END;
$$;
REVOKE ALL ON FUNCTION magicode_jobs.keep_apart() FROM PUBLIC;
CREATE TRIGGER keep_apart BEFORE INSERT OR UPDATE OF status ON magicode_jobs.procrastinate_jobs
    FOR EACH ROW WHEN (NEW.status = 'todo') EXECUTE FUNCTION magicode_jobs.keep_apart();
"""

_SUSPENDED = """
ALTER TABLE magicode_jobs.pauses ADD COLUMN suspended boolean NOT NULL DEFAULT false;
GRANT UPDATE (suspended) ON magicode_jobs.pauses TO magicode_service;
"""


def upgrade() -> None:
    op.execute(_DEDICATED)
    op.execute(_KEEP_APART)
    op.execute(_SUSPENDED)
