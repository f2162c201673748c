"""Addresses of customers' own that are told of each run's events, sealed; and whether an installation has any.

That stands on the installation's row too, which acceptance reads in any case: it asks nothing more where nobody is to be told.
"""

from __future__ import annotations

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

_HOOKS = """
CREATE TABLE magicode_keys.hooks (
    installation_id bigint NOT NULL,
    id uuid NOT NULL,
    sealed bytea NOT NULL,
    events text NOT NULL,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL,
    last_at timestamptz,
    last_status integer,
    PRIMARY KEY (installation_id, id)
);
ALTER TABLE magicode_keys.hooks ENABLE ROW LEVEL SECURITY;
ALTER TABLE magicode_keys.hooks FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON magicode_keys.hooks
    USING (installation_id = nullif(current_setting('magicode.installation', true), '')::bigint)
    WITH CHECK (installation_id = nullif(current_setting('magicode.installation', true), '')::bigint);
GRANT SELECT, INSERT, UPDATE, DELETE ON magicode_keys.hooks TO magicode_service;
ALTER TABLE magicode.installations ADD COLUMN hooked boolean NOT NULL DEFAULT false;
"""


def upgrade() -> None:
    op.execute(_HOOKS)
