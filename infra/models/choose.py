"""Which model is asked, from `anthropic:NAME` or `openai:NAME` and the providers' own environment variables."""

from __future__ import annotations

from collections.abc import Mapping

from app.errors import UserError
from infra.models.anthropic import AnthropicModel
from infra.models.openai import OpenAIModel

# Capable, priced in infra/models/prices.py (so that a cost limit holds), and in the SDKs' own lists of names.
DEFAULTS = {"anthropic": "claude-opus-5-5", "openai": "gpt-6.1-sol"}

_KEY = {"anthropic": "ANTHROPIC_API_KEY", "openai": "OPENAI_API_KEY"}
_URL = {"anthropic": "ANTHROPIC_BASE_URL", "openai": "OPENAI_BASE_URL"}


class ModelSettingError(UserError):
    """The model cannot be opened: its name or its key is missing."""


def default_spec(environ: Mapping[str, str]) -> str | None:
    """The model to ask when none is named: Anthropic's where its key is set, else OpenAI's, else None."""
    for provider, name in DEFAULTS.items():
        if environ.get(_KEY[provider]):
            return f"{provider}:{name}"
    return None


def open_model(spec: str, environ: Mapping[str, str]) -> AnthropicModel | OpenAIModel:
    """The model that `spec` names. Raises ModelSettingError that says what is missing; makes no request."""
    provider, _, name = spec.partition(":")
    if provider not in _KEY or not name.strip():
        raise ModelSettingError(
            f"MAGICODE_MODEL is '{spec}', which names no model. Write anthropic:NAME or openai:NAME, "
            f"for instance anthropic:{DEFAULTS['anthropic']}.",
            reason="model_setting_unreadable",
        )
    key = environ.get(_KEY[provider], "").strip()
    if not key:
        raise ModelSettingError(
            f"{_KEY[provider]} is not set, so {spec} cannot be asked. Set it to a key of the provider.",
            reason="model_key_missing",
        )
    url = environ.get(_URL[provider], "").strip() or None
    if provider == "anthropic":
        return AnthropicModel(name.strip(), key, url)
    return OpenAIModel(name.strip(), key, url)
