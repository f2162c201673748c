"""Which model is asked, from `anthropic:NAME` or `openai:NAME`, and whose key pays for it.

A key goes only where its owner says: the environment's to the environment's address, one that was given by hand to the
provider's own address or to the one given with it. No client is shared by two keys, and a
client with a customer's key lives no longer than the run that it was opened for.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import httpx2

from app.errors import UserError
from app.nouns import Destination, OwnKey
from infra.models.anthropic import BASE_URL as ANTHROPIC_URL
from infra.models.anthropic import AnthropicModel
from infra.models.guarded import Guard
from infra.models.openai import BASE_URL as OPENAI_URL
from infra.models.openai import OpenAIModel
from infra.models.regions import host_of, region_of
from infra.models.retry import PATIENCE, Patience

# Capable, priced in infra/models/prices.py (so that a cost limit holds), and in the SDKs' own lists of names.
DEFAULTS = {"anthropic": "claude-opus-5-5", "openai": "gpt-6.1-sol"}

# Of a model that another stands behind: an overload is not waited out for long.
BRIEF = Patience(tries=3, total_seconds=90.0, longest_wait_seconds=20.0)

_KEY = {"anthropic": "ANTHROPIC_API_KEY", "openai": "OPENAI_API_KEY"}
_URL = {"anthropic": "ANTHROPIC_BASE_URL", "openai": "OPENAI_BASE_URL"}
_ADDRESS = {"anthropic": ANTHROPIC_URL, "openai": OPENAI_URL}
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
    http_client: httpx2.AsyncClient | None = None,
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
            raise _missing(spec)
    if provider == "anthropic":
        return AnthropicModel(name, key, url, http_client, patience=patience)
    # An organisation or a project belongs to the key that it is set beside.
    beside = environ if api_key is None else {}
    return OpenAIModel(
        name,
        key,
        url,
        http_client,
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
    """The models that this process has open with the environment's keys: one client for each model and patience, until
    `close`."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._opened: dict[tuple[str, Patience], Opened] = {}

    def one(self, spec: str, *, patience: Patience = PATIENCE) -> Opened:
        """Raises ModelSettingError."""
        identity = (spec, patience)
        if identity not in self._opened:
            self._opened[identity] = open_model(spec, self._environ, patience=patience)
        return self._opened[identity]

    def chain(self, named: Sequence[str]) -> tuple[Opened, ...]:
        """The models that `named` names, all but the last with little patience.

        One without a key is left out where another can be asked. Raises ModelSettingError where none can, and for a
        name that cannot be read.
        """
        kept = _with_keys(named, self._environ, {})
        return tuple(self.one(spec, patience=_patience(at, kept)) for at, spec in enumerate(kept))

    async def close(self) -> None:
        """Close every connection."""
        opened, self._opened = list(self._opened.values()), {}
        for model in opened:
            await model.close()


class ServiceModels:
    """Implements app.ports.Models: the service's own keys and addresses from `environ`, its own models `default`, and the
    customers' keys as they come. `guard` is asked about addresses that customers named."""

    def __init__(
        self, environ: Mapping[str, str], default: Sequence[str] = (), guard: Guard | None = None
    ) -> None:
        self._environ = environ
        self._default = tuple(default)
        self._guard = guard or Guard()
        self._open = OpenModels(environ)

    def where(
        self, named: Sequence[str] = (), own: Mapping[str, OwnKey] | None = None
    ) -> Sequence[Destination]:
        own = own or {}
        wanted = tuple(named) or self._unnamed(own)
        return [self._destination(spec, own) for spec in _with_keys(wanted, self._environ, own)]

    def offered(self, own: Mapping[str, OwnKey] | None = None) -> Sequence[Destination]:
        own = own or {}
        defaults = {spec.partition(":")[0]: spec for spec in reversed(self._default)}
        able = [one for one in DEFAULTS if one in own or self._environ.get(_KEY[one], "").strip()]
        return [self._destination(defaults.get(one, f"{one}:{DEFAULTS[one]}"), own) for one in able]

    @asynccontextmanager
    async def open(
        self, named: Sequence[str], own: Mapping[str, OwnKey] | None = None
    ) -> AsyncIterator[Sequence[Opened]]:
        own = own or {}
        kept = _with_keys(named, self._environ, own)
        async with AsyncExitStack() as stack:
            opened: list[Opened] = []
            for at, spec in enumerate(kept):
                patience, provider = _patience(at, kept), _parts(spec)[0]
                if provider not in own:
                    opened.append(self._open.one(spec, patience=patience))
                    continue
                model = self._with_own(spec, own[provider], patience)
                stack.push_async_callback(model.close)
                opened.append(model)
            yield opened

    def require(self) -> None:
        """Raises ModelSettingError where one of the service's own models cannot be asked."""
        for spec in self._default:
            self._open.one(spec)

    async def close(self) -> None:
        """Close every connection that runs share."""
        await self._open.close()

    def _unnamed(self, own: Mapping[str, OwnKey]) -> tuple[str, ...]:
        """The service's own models; for a customer who brought keys, those that the keys pay for."""
        if not own:
            return self._default
        paid = tuple(spec for spec in self._default if _parts(spec)[0] in own)
        return paid or tuple(f"{one}:{DEFAULTS[one]}" for one in DEFAULTS if one in own)

    def _with_own(self, spec: str, own: OwnKey, patience: Patience) -> Opened:
        client = self._guard.client(patience.http_timeout()) if own.base_url is not None else None
        model = open_model(spec, {}, own.key, own.base_url, patience=patience, http_client=client)
        model.bare()
        return model

    def _destination(self, spec: str, own: Mapping[str, OwnKey]) -> Destination:
        provider = _parts(spec)[0]
        url = own[provider].base_url if provider in own else self._environ.get(_URL[provider], "").strip()
        host = host_of(url or _ADDRESS[provider])
        return Destination(spec, provider, host, region_of(host), provider in own)


def _patience(at: int, kept: Sequence[str]) -> Patience:
    return BRIEF if at + 1 < len(kept) else PATIENCE


def _with_keys(
    named: Sequence[str], environ: Mapping[str, str], own: Mapping[str, OwnKey]
) -> tuple[str, ...]:
    """Those of the models whose provider can be asked. Raises ModelSettingError."""
    kept = tuple(
        spec
        for spec in named
        if (provider := _parts(spec)[0]) in own or environ.get(_KEY[provider], "").strip()
    )
    if kept:
        return kept
    if not named:
        raise ModelSettingError("No model is named, and the service has none.", reason="setting_missing")
    raise _missing(named[0])


def _missing(spec: str) -> ModelSettingError:
    return ModelSettingError(
        f"{_KEY[_parts(spec)[0]]} is not set, so {spec} cannot be asked. Set it to a key of the provider.",
        reason=_KEY_MISSING,
    )
