"""Which model is asked."""

from __future__ import annotations

import httpx2
import pytest

from app.errors import RefusedError, UserError
from app.nouns import ModelRequest, UserTurn
from infra.models.anthropic import AnthropicModel
from infra.models.choose import (
    BRIEF,
    DEFAULTS,
    ModelSettingError,
    OpenModels,
    default_spec,
    open_model,
    specs,
)
from infra.models.openai import OpenAIModel
from infra.models.playbook import parse
from infra.models.retry import PATIENCE
from infra.simulator.model.serve import environment, running
from infra.simulator.model.server import PLAYBOOK_KEY

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


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_the_keys_of_two_installations_never_mix(provider: str) -> None:
    """The simulated provider takes the first one's key alone, so it tells which key each client sends."""
    playbook = parse("scenarios: [{name: s, turns: [{say: Hello.}]}]")
    async with running(playbook, api_key="key-of-one") as base_url:
        models = OpenModels({**KEYS, **environment(base_url, "key-of-the-service")})
        at = url(base_url, provider)
        spec = f"{provider}:playbook-1"
        one, other = models.one(spec, "key-of-one", at), models.one(spec, "key-of-other", at)
        service = models.one(spec)
        assert len({id(one), id(other), id(service)}) == 3
        for _ in range(2):
            assert (await one.answer(GO)).turn.text == "Hello."
            for refused in (other, service):
                with pytest.raises(RefusedError) as caught:
                    await refused.answer(GO)
                assert caught.value.reason == "model_key_refused"
        assert models.one(spec, "key-of-one", at) is one
        await models.close()


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_the_clients_of_a_chain_send_only_the_key_that_was_given(provider: str) -> None:
    playbook = parse("scenarios: [{name: s, turns: [{say: Hello.}]}]")
    async with running(playbook) as base_url:
        models = OpenModels(environment(base_url))
        (service,) = models.chain([f"{provider}:playbook-1"])
        assert (await service.answer(GO)).turn.text == "Hello."
        (own,) = models.chain([f"{provider}:playbook-1"], keys={provider: "key-of-one"})
        assert own is not service
        assert (own._client.api_key, service._client.api_key) == ("key-of-one", PLAYBOOK_KEY)
        await models.close()


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_key_that_was_given_is_not_sent_to_the_services_own_address(provider: str) -> None:
    models = OpenModels({f"{provider.upper()}_BASE_URL": "http://gateway.invalid", **KEYS})
    address = str(models.one(f"{provider}:m", "key-of-one")._client.base_url)
    assert address.startswith(f"https://api.{provider}.com")
    assert str(models.one(f"{provider}:m")._client.base_url).startswith("http://gateway.invalid")
    await models.close()


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


async def test_with_somebodys_own_keys_no_key_of_the_service_is_used() -> None:
    models = OpenModels(KEYS)
    assert names(models.chain(["anthropic:a", "openai:b"], keys={"openai": "own"})) == ["openai:b"]
    with pytest.raises(ModelSettingError):
        models.chain(["anthropic:a"], keys={"openai": "own"})
    with pytest.raises(ModelSettingError):
        models.chain(["anthropic:a"], keys={})
    await models.close()


def test_a_name_that_cannot_be_read_is_told_even_where_another_can_be_asked() -> None:
    with pytest.raises(ModelSettingError, match="names no model"):
        OpenModels(KEYS).chain(["gemini:pro", "openai:b"])
    with pytest.raises(ModelSettingError):
        OpenModels(KEYS).chain([])
