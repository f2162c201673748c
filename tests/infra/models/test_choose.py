"""Which model is asked."""

from __future__ import annotations

from datetime import UTC, datetime

import httpx
import httpx2
import pytest

from app.errors import RefusedError, UserError
from app.nouns import ModelRequest, OwnKey, UserTurn
from infra.models.anthropic import AnthropicModel
from infra.models.choose import (
    BRIEF,
    DEFAULTS,
    ModelSettingError,
    OpenModels,
    ServiceModels,
    default_spec,
    open_model,
    specs,
)
from infra.models.guarded import Guard
from infra.models.openai import OpenAIModel
from infra.models.playbook import parse
from infra.models.retry import PATIENCE
from infra.simulator.model.serve import environment, running

KEYS = {"ANTHROPIC_API_KEY": "a", "OPENAI_API_KEY": "o"}


@pytest.mark.parametrize("provider", ["anthropic", "openai"])
def test_a_named_model_is_opened(provider: str) -> None:
    model = open_model(f"{provider}:some-model", KEYS)
    assert (model.provider, model.name) == (provider, "some-model")


def test_a_name_may_hold_a_colon() -> None:
    assert open_model("openai:qwen3:32b", KEYS).name == "qwen3:32b"


@pytest.mark.parametrize(
    "spec", ["", "anthropic", "anthropic:", "gemini:pro", "claude-opus-5-5", ":x", "openai: "]
)
def test_what_names_no_model_is_answered_with_an_example(spec: str) -> None:
    with pytest.raises(UserError, match="anthropic:NAME or openai:NAME"):
        open_model(spec, KEYS)


@pytest.mark.parametrize(
    ("spec", "missing"), [("anthropic:x", "ANTHROPIC_API_KEY"), ("openai:x", "OPENAI_API_KEY")]
)
def test_a_missing_key_is_named(spec: str, missing: str) -> None:
    for environ in ({}, {missing: "  "}):
        with pytest.raises(UserError, match=missing):
            open_model(spec, environ)


def test_the_process_environment_does_not_lend_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "from the process")
    with pytest.raises(UserError):
        open_model("anthropic:x", {})


@pytest.mark.parametrize(
    ("environ", "spec"),
    [
        ({}, None),
        ({"ANTHROPIC_API_KEY": ""}, None),
        ({"ANTHROPIC_API_KEY": "a"}, f"anthropic:{DEFAULTS['anthropic']}"),
        ({"OPENAI_API_KEY": "o"}, f"openai:{DEFAULTS['openai']}"),
        (KEYS, f"anthropic:{DEFAULTS['anthropic']}"),
    ],
)
def test_the_default_follows_the_key_that_is_set(environ: dict[str, str], spec: str | None) -> None:
    assert default_spec(environ) == spec


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("", ()),
        (" , ", ()),
        ("anthropic:a", ("anthropic:a",)),
        ("anthropic:a, openai:b:c ,openai:d", ("anthropic:a", "openai:b:c", "openai:d")),
    ],
)
def test_a_setting_may_name_several_models(setting: str, named: tuple[str, ...]) -> None:
    assert specs(setting) == named


# --- whose key -------------------------------------------------------------------------------------------------------

GO = ModelRequest("", (UserTurn("Go"),), (), 100)
PROVIDERS = ["anthropic", "openai"]


def url(base_url: str, provider: str) -> str:
    return base_url if provider == "anthropic" else f"{base_url}/v1"


NOW = datetime(2026, 11, 21, tzinfo=UTC)


def own(provider: str, key: str, base_url: str | None = None) -> dict[str, OwnKey]:
    return {provider: OwnKey(provider, key, base_url, NOW)}


LOCAL = Guard(["127.0.0.1"])


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_the_keys_of_two_installations_never_mix(provider: str) -> None:
    """The simulated provider takes the first one's key alone, so it tells which key each client sends."""
    playbook = parse("scenarios: [{name: s, turns: [{say: Hello.}]}]")
    async with running(playbook, api_key="key-of-one") as base_url:
        models = ServiceModels(environment(base_url, "key-of-the-service"), guard=LOCAL)
        spec, at = f"{provider}:playbook-1", url(base_url, provider)
        for _ in range(2):
            async with (
                models.open([spec], own(provider, "key-of-one", at)) as one,
                models.open([spec], own(provider, "key-of-other", at)) as other,
                models.open([spec]) as service,
            ):
                assert len({id(one[0]), id(other[0]), id(service[0])}) == 3
                assert (await one[0].answer(GO)).turn.text == "Hello."
                for refused in (other[0], service[0]):
                    with pytest.raises(RefusedError) as caught:
                        await refused.answer(GO)
                    assert caught.value.reason == "model_key_refused"
        await models.close()


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_client_with_a_customers_key_is_closed_when_its_run_is_over(provider: str) -> None:
    models = ServiceModels(KEYS)
    spec = f"{provider}:m"
    async with models.open([spec], own(provider, "key-of-one")) as first:
        (client,) = first
    async with models.open([spec], own(provider, "key-of-one")) as second:
        assert second[0] is not client
    assert client._client.is_closed()
    assert models._open._opened == {}


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_customers_key_stands_in_the_place_of_the_services_and_is_not_sent_to_its_address(
    provider: str,
) -> None:
    environ = {f"{provider.upper()}_BASE_URL": "http://gateway.invalid", **KEYS}
    models = ServiceModels(environ)
    async with models.open([f"{provider}:m"], own(provider, "key-of-one")) as (mine,):
        assert mine._client.api_key == "key-of-one"
        assert str(mine._client.base_url).startswith(f"https://api.{provider}.com")
    async with models.open([f"{provider}:m"]) as (theirs,):
        assert str(theirs._client.base_url).startswith("http://gateway.invalid")
    (place,) = models.where([f"{provider}:m"], own(provider, "key-of-one"))
    assert (place.host, place.region, place.own_key) == (f"api.{provider}.com", "global", True)
    (place,) = models.where([f"{provider}:m"])
    assert (place.host, place.region, place.own_key) == ("gateway.invalid", "unknown", False)
    await models.close()


async def test_what_an_operator_put_into_every_request_goes_nowhere_with_a_customers_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", "X-Operator: secret")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Operator: secret")
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "token-of-the-service")
    playbook = parse("scenarios: [{name: s, turns: [{say: Hello.}]}]")
    async with running(playbook, api_key="key-of-one") as base_url:
        for provider in PROVIDERS:
            models = ServiceModels({}, guard=LOCAL)
            mine = own(provider, "key-of-one", url(base_url, provider))
            async with models.open([f"{provider}:playbook-1"], mine) as (model,):
                await model.answer(GO)
        async with httpx.AsyncClient(trust_env=False) as client:
            asked = (await client.get(f"{base_url}/_simulator/requests")).json()
    assert len(asked) == 2
    assert not any("x-operator" in one["headers"] for one in asked)
    assert "token-of-the-service" not in str(asked)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_the_services_key_is_not_sent_to_an_address_that_somebody_else_names(provider: str) -> None:
    with pytest.raises(ModelSettingError, match="without a key"):
        open_model(f"{provider}:m", KEYS, base_url="http://somewhere.invalid")
    for empty in ("", "  "):
        with pytest.raises(ModelSettingError, match="empty"):
            open_model(f"{provider}:m", KEYS, api_key=empty)


async def test_an_organisation_goes_only_with_the_key_that_it_stands_beside(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org-of-the-process")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "project-of-the-process")
    environ = {**KEYS, "OPENAI_ORG_ID": "org-of-the-service"}
    sent: list[httpx2.Request] = []

    def handler(request: httpx2.Request) -> httpx2.Response:
        sent.append(request)
        return httpx2.Response(401, json={"error": {"message": "no"}})

    for model in (open_model("openai:m", environ), open_model("openai:m", environ, "key-of-one")):
        model._client._client = httpx2.AsyncClient(transport=httpx2.MockTransport(handler))
        with pytest.raises(RefusedError):
            await model.answer(GO)
    told = [(one.headers.get("openai-organization"), one.headers.get("openai-project")) for one in sent]
    assert told == [("org-of-the-service", None), (None, None)]


# --- a chain's models ------------------------------------------------------------------------------------------------


def names(models: tuple[AnthropicModel | OpenAIModel, ...]) -> list[str]:
    return [f"{one.provider}:{one.name}" for one in models]


async def test_the_models_of_a_chain_are_opened_once_and_all_but_the_last_wait_briefly() -> None:
    models = OpenModels(KEYS)
    first = models.chain(["anthropic:a", "openai:b"])
    assert names(first) == ["anthropic:a", "openai:b"]
    assert [one._patience for one in first] == [BRIEF, PATIENCE]
    assert BRIEF.total_seconds < PATIENCE.total_seconds
    again = models.chain(["anthropic:a", "openai:b"])
    assert all(one is other for one, other in zip(first, again, strict=True))
    await models.close()


async def test_a_model_without_a_key_is_left_out_where_another_can_be_asked() -> None:
    models = OpenModels({"OPENAI_API_KEY": "o"})
    assert names(models.chain(["anthropic:a", "openai:b"])) == ["openai:b"]
    assert names(models.chain(["openai:b", "anthropic:a"])) == ["openai:b"]
    assert models.chain(["openai:b", "anthropic:a"])[0]._patience == PATIENCE
    with pytest.raises(ModelSettingError, match="ANTHROPIC_API_KEY"):
        models.chain(["anthropic:a", "anthropic:a2"])
    await models.close()


def test_a_customers_key_pays_for_its_provider_and_the_services_for_another() -> None:
    models = ServiceModels(KEYS, ["anthropic:a"])
    said = models.where(["anthropic:a", "openai:b"], own("openai", "own-key"))
    assert [(one.model, one.own_key) for one in said] == [("anthropic:a", False), ("openai:b", True)]


@pytest.mark.parametrize(
    ("default", "named"),
    [
        (["anthropic:a", "openai:b"], ["openai:b"]),
        (["anthropic:a"], [f"openai:{DEFAULTS['openai']}"]),
    ],
)
def test_where_nothing_is_named_what_the_customers_key_pays_for_is_asked(
    default: list[str], named: list[str]
) -> None:
    models = ServiceModels(KEYS, default)
    assert [one.model for one in models.where((), own("openai", "own-key"))] == named
    assert [one.model for one in models.where()] == default


@pytest.mark.parametrize(
    ("base_url", "host", "region"),
    [
        ("", "api.openai.com", "global"),
        ("https://eu.api.openai.com/v1", "eu.api.openai.com", "eu"),
        ("https://EU.api.openai.com./v1", "eu.api.openai.com", "eu"),
        ("https://us.api.openai.com/v1", "us.api.openai.com", "us"),
        ("https://eu.api.openai.com.evil.test/v1", "eu.api.openai.com.evil.test", "unknown"),
        ("https://evil.test/eu.api.openai.com", "evil.test", "unknown"),
        ("https://eu.api.openai.com@evil.test/v1", "evil.test", "unknown"),
        ("not an address", "", "unknown"),
    ],
)
def test_a_region_is_the_hosts_and_nothing_that_only_looks_like_one(
    base_url: str, host: str, region: str
) -> None:
    (place,) = ServiceModels({**KEYS, "OPENAI_BASE_URL": base_url}).where(["openai:m"])
    assert (place.host, place.region) == (host, region)


def test_a_name_that_cannot_be_read_is_told_even_where_another_can_be_asked() -> None:
    with pytest.raises(ModelSettingError, match="names no model"):
        OpenModels(KEYS).chain(["gemini:pro", "openai:b"])
    with pytest.raises(ModelSettingError):
        OpenModels(KEYS).chain([])
