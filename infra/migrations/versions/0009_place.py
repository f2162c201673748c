"""The place that a job takes in its queue, looked up in the same time however many wait.

A plan is made for the queue as it is then, mostly nearly empty, and is kept: one that reads all of a small table, or all of an
index, still does so when thousands wait. So there is one way alone to each of the four numbers. What waits is in an order that
no other index has, since it is an expression's, and nothing is sorted; what waits for a time of its own is in no index that is
read here. https://www.postgresql.org/docs/current/runtime-config-query.html#RUNTIME-CONFIG-QUERY-ENABLE
"""

from __future__ import annotations

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_INDEXES = """
CREATE INDEX begins_next ON magicode_jobs.procrastinate_jobs (queue_name, priority DESC, id)
    WHERE status = 'todo' AND scheduled_at IS NULL;
CREATE INDEX first_that_waits ON magicode_jobs.procrastinate_jobs (queue_name, (-priority))
    WHERE status = 'todo' AND scheduled_at IS NULL;
CREATE INDEX last_of_tenant ON magicode_jobs.procrastinate_jobs ((args ->> 'installation_id'), queue_name, (priority + 0))
    WHERE status = 'todo' AND scheduled_at IS NULL;
DROP INDEX magicode_jobs.waiting_next;
DROP INDEX magicode_jobs.waiting_of_tenant;
"""

# One behind what is worked on, or what comes before the next one; and two behind the tenant's last.
_PLACE = """
CREATE FUNCTION magicode_jobs.place(queue varchar, tenant text) RETURNS integer LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, magicode_jobs, pg_temp
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off AS $$
BEGIN
    RETURN greatest(
        1 + coalesce(
            (SELECT -priority FROM magicode_jobs.procrastinate_jobs
             WHERE status = 'doing' AND queue_name = queue ORDER BY priority LIMIT 1),
            (SELECT -priority - 1 FROM magicode_jobs.procrastinate_jobs
             WHERE status = 'todo' AND scheduled_at IS NULL AND queue_name = queue ORDER BY -priority LIMIT 1),
            0
        ),
        2 + (SELECT -priority FROM magicode_jobs.procrastinate_jobs
             WHERE status = 'doing' AND queue_name = queue AND args ->> 'installation_id' = tenant ORDER BY priority LIMIT 1),
        2 + (SELECT -priority FROM magicode_jobs.procrastinate_jobs
             WHERE status = 'todo' AND scheduled_at IS NULL AND queue_name = queue
               AND args ->> 'installation_id' = tenant ORDER BY priority + 0 LIMIT 1)
    );
END;
$$;
REVOKE ALL ON FUNCTION magicode_jobs.place(varchar, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION magicode_jobs.place(varchar, text) TO magicode_service;
"""


def upgrade() -> None:
    op.execute(_INDEXES)
    op.execute(_PLACE)
