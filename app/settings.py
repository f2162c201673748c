"""The service's settings, read once from MAGICODE_ environment variables; an unknown name refuses to start."""

from __future__ import annotations

import os
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints, field_validator

PREFIX = "MAGICODE_"

Index = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9.-]+(:[0-9]{1,5})?$")]
"""A server, as `host` or `host:port`."""


Network = Annotated[str, StringConstraints(pattern=r"^[0-9A-Fa-f:.]+(/[0-9]{1,3})?$")]
"""An address, or a network as `10.0.0.0/8`."""


KEPT_APART = frozenset(
    {
        "app_id",
        "app_slug",
        "client_id",
        "client_secret",
        "database_backup_url",
        "database_owner_url",
        "database_service_password",
        "database_url",
        "metrics_token",
        "private_key",
        "public_url",
        "qdrant_api_key",
        "relay_url",
        "webhook_secret",
        "webhook_secret_previous",
    }
)
"""The settings that may come from where MAGICODE_SECRETS says, instead of from the environment: what `magicode setup` learns."""

PROVIDERS = frozenset(
    {
        "ANTHROPIC_API_KEY",
        "ANTHROPIC_BASE_URL",
        "OPENAI_API_KEY",
        "OPENAI_BASE_URL",
        "OPENAI_ORG_ID",
        "OPENAI_PROJECT_ID",
    }
)
"""The model providers' own names, which may come from there too."""


class UnknownSettingError(ValueError):
    """An environment variable begins with MAGICODE_ but is not a setting: it may be a slip, so nothing is started."""


class Settings(BaseModel):
    """Each field is the environment variable MAGICODE_<FIELD>; the README's table says what it is for."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    github_api_url: str = "https://api.github.com"
    github_web_url: str = "https://github.com"
    app_id: int | None = None
    app_slug: str = "magicode"
    private_key: SecretStr | None = None
    private_key_path: Path | None = None
    webhook_secret: SecretStr | None = None
    webhook_secret_previous: SecretStr | None = None
    client_id: str | None = None
    client_secret: SecretStr | None = None
    database_url: SecretStr | None = None
    database_owner_url: SecretStr | None = None
    database_service_password: SecretStr | None = None
    qdrant_url: str | None = None
    qdrant_api_key: SecretStr | None = None
    secrets: str = ""
    master_key: str = ""
    data_dir: Path = Field(default_factory=lambda: Path.home() / ".magicode")
    workspace_dir: Path | None = None
    model: str = ""
    model_hosts: tuple[Index, ...] = ()
    hook_hosts: tuple[Index, ...] = ()
    embedding_model: str = "magicode-minilm-1"
    public_url: str | None = None
    relay_url: str | None = None
    exports: str | None = None
    backups: str | None = None
    database_backup_url: SecretStr | None = None
    trusted_proxies: tuple[Network, ...] = ()
    host: str = "127.0.0.1"
    port: int = 8646
    worker: bool = True
    worker_port: int | None = None
    metrics_token: Annotated[SecretStr, Field(min_length=16)] | None = None
    concurrency: int = 2
    dedicated_to: tuple[Annotated[int, Field(gt=0)], ...] = ()
    sandbox: bool = True
    sandbox_tools: tuple[Path, ...] = ()
    package_indexes: tuple[Index, ...] | None = None
    max_turns: int = 40
    max_tokens: int = 2_000_000
    max_cost_usd: Decimal = Decimal(5)
    max_seconds: int = 1200
    ready_after_seconds: float = 2.0
    index_seconds: float = 60.0
    write_interval_seconds: float = 1.0
    log_format: Literal["text", "json"] = "text"
    log_level: str = Field(default="INFO", pattern="(?i)^(debug|info|warning|error|critical)$")

    @property
    def secrets_kept(self) -> str:
        """Where the App's secrets are, or would be: what MAGICODE_SECRETS says, else a file beside the data."""
        return self.secrets.strip() or f"file:{self.secrets_beside}"

    @property
    def secrets_beside(self) -> Path:
        return self.data_dir / "app.secrets"

    @field_validator("sandbox_tools", mode="before")
    @classmethod
    def _paths(cls, value: object) -> object:
        return tuple(value.split(os.pathsep)) if isinstance(value, str) else value

    @field_validator(
        "package_indexes", "model_hosts", "hook_hosts", "trusted_proxies", "dedicated_to", mode="before"
    )
    @classmethod
    def _listed(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return tuple(one.strip() for one in value.split(",") if one.strip())


def read(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the environment.

    Raises UnknownSettingError for a MAGICODE_ name that is no setting, pydantic.ValidationError for a bad value.
    """
    names = environ if environ is not None else os.environ
    given = {name: value for name, value in names.items() if name.upper().startswith(PREFIX) and value != ""}
    fields = {name: name.upper().removeprefix(PREFIX).lower() for name in given}
    unknown = sorted(name for name, field in fields.items() if field not in Settings.model_fields)
    if unknown:
        known = ", ".join(PREFIX + field.upper() for field in sorted(Settings.model_fields))
        raise UnknownSettingError(f"{', '.join(unknown)}: not a setting of MagiCode. Known: {known}")
    return Settings.model_validate({field: given[name] for name, field in fields.items()})


def filled(given: Settings, found: Mapping[str, str]) -> tuple[Settings, Mapping[str, str]]:
    """The settings with what the environment left open taken from the secrets `found`, and the providers' names among them.

    A setting's name stands there with or without its prefix. What comes back has no `secrets` left to be read. Raises
    UnknownSettingError for a name that is not of KEPT_APART or PROVIDERS, pydantic.ValidationError for a bad value.
    """
    fields = {name: name.removeprefix(PREFIX).lower() for name in found if name not in PROVIDERS}
    unknown = sorted(name for name, field in fields.items() if field not in KEPT_APART)
    if unknown:
        known = ", ".join([*(field.upper() for field in sorted(KEPT_APART)), *sorted(PROVIDERS)])
        raise UnknownSettingError(
            f"{', '.join(unknown)}: not a secret of MagiCode's. MAGICODE_SECRETS may hold: {known}"
        )
    own = {field: found[name] for name, field in fields.items() if found[name] != ""}
    said = given.model_fields_set | ({"private_key"} if given.private_key_path is not None else set())
    checked = Settings.model_validate(own)
    update = {field: getattr(checked, field) for field in own if field not in said}
    return given.model_copy(update={**update, "secrets": ""}), {
        name: value for name, value in found.items() if name in PROVIDERS and value != ""
    }
