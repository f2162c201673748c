"""The log's entries by who did something and by what it was, found without reading all of a long log.

What is compared is the words as they stand there: whatever folds or cuts them first might tell of other tenants' rows and is not
looked up by an index behind a policy. https://www.postgresql.org/docs/current/rules-privileges.html
"""

from __future__ import annotations

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("CREATE INDEX entries_actor ON magicode.entries (installation_id, actor, seq)")
    op.execute("CREATE INDEX entries_action ON magicode.entries (installation_id, action, seq)")
