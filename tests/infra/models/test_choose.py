"""Which model is asked."""

from __future__ import annotations

import pytest

from app.errors import UserError
from infra.models.choose import DEFAULTS, default_spec, open_model

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
