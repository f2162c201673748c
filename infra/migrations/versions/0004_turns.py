"""What giving each installation its turn looks up in the queue: its last job that waits, the next one, and those of a lock.

Without them each job that is put on a queue of ten thousand reads all of it.
"""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_INDEXES = """
CREATE INDEX waiting_of_tenant ON magicode_jobs.procrastinate_jobs ((args ->> 'installation_id'), queue_name, priority)
    WHERE status = 'todo';
CREATE INDEX waiting_next ON magicode_jobs.procrastinate_jobs (queue_name, priority DESC, id) WHERE status = 'todo';
CREATE INDEX waiting_of_lock ON magicode_jobs.procrastinate_jobs (lock) WHERE status = 'todo';
CREATE INDEX waiting_for_a_time ON magicode_jobs.procrastinate_jobs (queue_name, scheduled_at)
    WHERE status = 'todo' AND scheduled_at IS NOT NULL;
"""


def upgrade() -> None:
    op.execute(_INDEXES)
