"""How much of an export is written, for whoever waits for it."""

from __future__ import annotations

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE magicode.exports ADD COLUMN percent smallint NOT NULL DEFAULT 0")
