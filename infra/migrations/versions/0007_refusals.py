"""What acceptance looks up of each person who asks: how often that one was refused lately.

Without it a burst of requests reads, for each of them, all that the installation asked within the hour.
"""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        "CREATE INDEX runs_refused ON magicode.runs (installation_id, asker_id, created_at) WHERE state = 'refused'"
    )
