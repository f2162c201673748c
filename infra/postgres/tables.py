"""The tables as SQLAlchemy sees them. What guards them (policies, grants, triggers) is in the migrations."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    SmallInteger,
    Table,
    Text,
    Uuid,
)

SCHEMA = "magicode"
JOBS_SCHEMA = "magicode_jobs"
KEYS_SCHEMA = "magicode_keys"
"""Wrapped keys, apart from what a normal backup holds."""
OWNER_ROLE = "magicode_owner"
SERVICE_ROLE = "magicode_service"
TENANT_SETTING = "magicode.installation"

metadata = MetaData(schema=SCHEMA)

installations = Table(
    "installations",
    metadata,
    Column("installation_id", BigInteger, primary_key=True, autoincrement=False),
    Column("account_id", BigInteger, nullable=False),
    Column("account_login", Text, nullable=False),
    Column("suspended", Boolean, nullable=False),
    Column("github_id", BigInteger),
    Column("account_type", Text, nullable=False),
    Column("uninstalled_at", DateTime(timezone=True)),
    Column("plan_cancelled_at", DateTime(timezone=True)),
    Column("hooked", Boolean, nullable=False),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("installation_id", BigInteger, primary_key=True, autoincrement=False),
    Column("guid", Text, primary_key=True),
    Column("event", Text, nullable=False),
    Column("action", Text),
    Column("outcome", Text, nullable=False),
    Column("received_at", DateTime(timezone=True), nullable=False),
)

runs = Table(
    "runs",
    metadata,
    Column("installation_id", BigInteger, primary_key=True, autoincrement=False),
    Column("id", Uuid, primary_key=True),
    Column("repository_id", BigInteger, nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("is_pull_request", Boolean, nullable=False),
    Column("verb", Text, nullable=False),
    Column("occasion", Text, nullable=False),
    Column("comment_id", BigInteger),
    Column("asker_id", BigInteger, nullable=False),
    Column("asker_login", Text, nullable=False),
    Column("meaning", Text, nullable=False),
    Column("input_hash", Text, nullable=False),
    Column("cost_limit_usd", Numeric(12, 6)),
    Column("state", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("blocked_by", Uuid),
    Column("cancel_requested", Boolean, nullable=False),
    Column("reason", Text),
    Column("status_comment_id", BigInteger),
    Column("branch", Text),
    Column("base_sha", Text),
    Column("head_sha", Text),
    Column("pull_request", BigInteger),
    Column("input_tokens", BigInteger, nullable=False),
    Column("cached_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("cost_usd", Numeric(12, 6), nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("started_at", DateTime(timezone=True)),
    Column("ended_at", DateTime(timezone=True)),
    Column("subject", BigInteger),
    Column("fingerprint", Text),
)

data_keys = Table(
    "data_keys",
    metadata,
    Column("installation_id", BigInteger, primary_key=True, autoincrement=False),
    Column("master_key_id", Text, nullable=False),
    Column("wrapped", LargeBinary, nullable=False),
    schema=KEYS_SCHEMA,
)

provider_keys = Table(
    "provider_keys",
    metadata,
    Column("installation_id", BigInteger, primary_key=True, autoincrement=False),
    Column("provider", Text, primary_key=True),
    Column("sealed", LargeBinary, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("checked_at", DateTime(timezone=True)),
    schema=KEYS_SCHEMA,
)

hooks = Table(
    "hooks",
    metadata,
    Column("installation_id", BigInteger, primary_key=True, autoincrement=False),
    Column("id", Uuid, primary_key=True),
    Column("sealed", LargeBinary, nullable=False),
    Column("events", Text, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("last_at", DateTime(timezone=True)),
    Column("last_status", Integer),
    schema=KEYS_SCHEMA,
)

settings = Table(
    "settings",
    metadata,
    Column("installation_id", BigInteger, primary_key=True, autoincrement=False),
    Column("document", Text, nullable=False),
    Column("legal_hold", Boolean, nullable=False),
    Column("changed_by", Text, nullable=False),
    Column("changed_at", DateTime(timezone=True), nullable=False),
)

exports = Table(
    "exports",
    metadata,
    Column("installation_id", BigInteger, primary_key=True, autoincrement=False),
    Column("id", Uuid, primary_key=True),
    Column("state", Text, nullable=False),
    Column("asked_by", Text, nullable=False),
    Column("asked_at", DateTime(timezone=True), nullable=False),
    Column("place", Text),
    Column("size", BigInteger),
    Column("sha256", Text),
    Column("made_at", DateTime(timezone=True)),
    Column("expires_at", DateTime(timezone=True)),
    Column("run_id", Uuid),
    Column("percent", SmallInteger, nullable=False),
)

api_tokens = Table(
    "api_tokens",
    metadata,
    Column("installation_id", BigInteger, primary_key=True, autoincrement=False),
    Column("id", Uuid, primary_key=True),
    Column("hash", Text, nullable=False),
    Column("scopes", Text, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("expires_at", DateTime(timezone=True), nullable=False),
)

kept_answers = Table(
    "kept_answers",
    metadata,
    Column("installation_id", BigInteger, primary_key=True, autoincrement=False),
    Column("key", Text, primary_key=True),
    Column("fingerprint", Text, nullable=False),
    Column("made_at", DateTime(timezone=True), nullable=False),
    Column("until", DateTime(timezone=True), nullable=False),
    Column("status", Integer),
    Column("sealed", LargeBinary),
)

erasures = Table(
    "erasures",
    metadata,
    Column("installation_id", BigInteger, primary_key=True, autoincrement=False),
    Column("id", Uuid, nullable=False),
    Column("github_id", BigInteger, nullable=False),
    Column("account_id", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("asked_at", DateTime(timezone=True), nullable=False),
    Column("asked_by", Text),
    Column("repository_id", BigInteger),
    Column("number", BigInteger),
    Column("comment_id", BigInteger),
    Column("step", Text, nullable=False),
    Column("shelf", Text),
    Column("facts", Text, nullable=False),
    Column("receipt", Text),
    Column("ended_at", DateTime(timezone=True)),
)

entries = Table(
    "entries",
    metadata,
    Column("installation_id", BigInteger, primary_key=True, autoincrement=False),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("at", DateTime(timezone=True), nullable=False),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("run_id", Uuid),
    Column("sealed", LargeBinary, nullable=False),
    Column("salt", LargeBinary, nullable=False),
    Column("details_hash", Text, nullable=False),
    Column("previous_hash", Text, nullable=False),
    Column("hash", Text, nullable=False),
)
