"""What a write of the API was answered, for a day, so that whoever sends it again under the same key hears the same.

The caller's key and what was asked stand there as keyed hashes, the answer sealed under the installation's own key; a row without
one is a request that is still at work.
"""

from __future__ import annotations

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

_TABLE = """
CREATE TABLE magicode.kept_answers (
    installation_id bigint NOT NULL,
    key text NOT NULL,
    fingerprint text NOT NULL,
    made_at timestamptz NOT NULL,
    until timestamptz NOT NULL,
    status integer,
    sealed bytea,
    PRIMARY KEY (installation_id, key)
);
CREATE INDEX kept_answers_until ON magicode.kept_answers (installation_id, until);
ALTER TABLE magicode.kept_answers ENABLE ROW LEVEL SECURITY;
ALTER TABLE magicode.kept_answers FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON magicode.kept_answers
    USING (installation_id = nullif(current_setting('magicode.installation', true), '')::bigint)
    WITH CHECK (installation_id = nullif(current_setting('magicode.installation', true), '')::bigint);
GRANT SELECT, INSERT, UPDATE, DELETE ON magicode.kept_answers TO magicode_service;
"""


def upgrade() -> None:
    op.execute(_TABLE)
