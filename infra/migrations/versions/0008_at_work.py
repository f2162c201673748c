"""What fetching a job and giving it a place look up among those at work, and only there."""

from __future__ import annotations

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        "CREATE INDEX at_work ON magicode_jobs.procrastinate_jobs (queue_name, priority) WHERE status = 'doing'"
    )
