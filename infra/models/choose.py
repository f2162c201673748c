"""Which model is asked, from `anthropic:NAME` or `openai:NAME`, and whose key pays for it.

A key goes only where its owner says: the environment's to the environment's address, one that was given by hand to the
provider's own address or to the one given with it. No client is shared by two keys.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from app.errors import UserError
from infra.models.anthropic import AnthropicModel
from infra.models.openai import OpenAIModel
from infra.models.retry import PATIENCE, Patience

# Capable, priced in infra/models/prices.py (so that a cost limit holds), and in the SDKs' own lists of names.
DEFAULTS = {"anthropic": "claude-opus-5-5", "openai": "gpt-6.1-sol"}

# Of a model that another stands behind: an overload is not waited out for long.
BRIEF = Patience(tries=3, total_seconds=90.0, longest_wait_seconds=20.0)

_KEY = {"anthropic": "ANTHROPIC_API_KEY", "openai": "OPENAI_API_KEY"}
_URL = {"anthropic": "ANTHROPIC_BASE_URL", "openai": "OPENAI_BASE_URL"}
_KEY_MISSING = "model_key_missing"

Opened = AnthropicModel | OpenAIModel


class ModelSettingError(UserError):
    """The model cannot be opened: its name or its key is missing."""


def specs(setting: str) -> tuple[str, ...]:
    """The models that a setting names: one, or several with commas between, in the order in which they are asked."""
    return tuple(part for one in setting.split(",") if (part := one.strip()))


def default_spec(environ: Mapping[str, str]) -> str | None:
    """The model to ask when none is named: Anthropic's where its key is set, else OpenAI's, else None."""
    for provider, name in DEFAULTS.items():
        if environ.get(_KEY[provider]):
            return f"{provider}:{name}"
    return None


def open_model(
    spec: str,
    environ: Mapping[str, str],
    api_key: str | None = None,
    base_url: str | None = None,
    *,
    patience: Patience = PATIENCE,
) -> Opened:
    """The model that `spec` names. Raises ModelSettingError that says what is missing; makes no request.

    With `api_key`, nothing of `environ` is used. `base_url` alone is refused: the environment's key is not sent there.
    """
    provider, name = _parts(spec)
    if api_key is not None:
        key, url = api_key.strip(), (base_url or "").strip() or None
        if not key:
            raise ModelSettingError(f"The key for {spec} is empty.", reason=_KEY_MISSING)
    elif base_url is not None:
        raise ModelSettingError(
            f"{spec} was given an address of its own without a key for it.", reason=_KEY_MISSING
        )
    else:
        key, url = environ.get(_KEY[provider], "").strip(), environ.get(_URL[provider], "").strip() or None
        if not key:
            raise ModelSettingError(
                f"{_KEY[provider]} is not set, so {spec} cannot be asked. Set it to a key of the provider.",
                reason=_KEY_MISSING,
            )
    if provider == "anthropic":
        return AnthropicModel(name, key, url, patience=patience)
    # An organisation or a project belongs to the key that it is set beside.
    beside = environ if api_key is None else {}
    return OpenAIModel(
        name,
        key,
        url,
        patience=patience,
        organization=beside.get("OPENAI_ORG_ID"),
        project=beside.get("OPENAI_PROJECT_ID"),
    )


def _parts(spec: str) -> tuple[str, str]:
    provider, _, name = spec.partition(":")
    if provider.strip() not in _KEY or not name.strip():
        raise ModelSettingError(
            f"'{spec}' names no model. Write anthropic:NAME or openai:NAME, for instance "
            f"anthropic:{DEFAULTS['anthropic']}, in MAGICODE_MODEL or in the repository's file.",
            reason="model_setting_unreadable",
        )
    return provider.strip(), name.strip()


class OpenModels:
    """The models that this process has open: one client for each model, key, address and patience, until `close`."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._opened: dict[tuple[str, str | None, str | None, Patience], Opened] = {}

    def one(
        self,
        spec: str,
        api_key: str | None = None,
        base_url: str | None = None,
        *,
        patience: Patience = PATIENCE,
    ) -> Opened:
        """Raises ModelSettingError."""
        identity = (spec, api_key, base_url, patience)
        if identity not in self._opened:
            self._opened[identity] = open_model(spec, self._environ, api_key, base_url, patience=patience)
        return self._opened[identity]

    def chain(self, named: Sequence[str], keys: Mapping[str, str] | None = None) -> tuple[Opened, ...]:
        """The models that `named` names, all but the last with little patience. `keys` are somebody's own, by provider;
        with them, no key of the environment is used.

        One without a key is left out where another can be asked. Raises ModelSettingError where none can, and for a
        name that cannot be read.
        """
        opened: list[Opened] = []
        missing = ModelSettingError("No model is named.", reason="model_setting_unreadable")
        for spec in reversed(named):
            key = None if keys is None else keys.get(_parts(spec)[0], "")
            try:
                opened.append(self.one(spec, key, patience=BRIEF if opened else PATIENCE))
            except ModelSettingError as error:
                if error.reason != _KEY_MISSING:
                    raise
                missing = error
        if not opened:
            raise missing
        return tuple(reversed(opened))

    async def close(self) -> None:
        """Close every connection."""
        opened, self._opened = list(self._opened.values()), {}
        for model in opened:
            await model.close()
