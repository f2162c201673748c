"""Which models a run is given: the service's own list, or the one that the repository's file names."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

import pytest

from app import settings
from app.agent.chain import Chain
from app.errors import MagicodeError, UserError
from app.nouns import ModelRequest, UserTurn
from app.wiring import _models
from infra.models.choose import DEFAULTS
from infra.models.playbook import parse
from infra.simulator.model.serve import environment, running

KEYS = {"ANTHROPIC_API_KEY": "a", "OPENAI_API_KEY": "o"}


def chosen(stack: AsyncExitStack, environ: dict[str, str], *, needed: bool = True) -> Any:
    return _models(stack, settings.read(environ), environ, needed=needed)


@pytest.mark.parametrize(
    ("environ", "name"),
    [
        (KEYS, DEFAULTS["anthropic"]),
        ({"OPENAI_API_KEY": "o"}, DEFAULTS["openai"]),
        ({**KEYS, "MAGICODE_MODEL": "openai:gpt"}, "gpt"),
        ({**KEYS, "MAGICODE_MODEL": "openai:gpt, anthropic:claude"}, "gpt"),
    ],
)
async def test_a_run_gets_the_services_own_first_model(environ: dict[str, str], name: str) -> None:
    async with AsyncExitStack() as stack:
        assert chosen(stack, environ)(()).name == name


async def test_the_repositorys_list_comes_before_the_services() -> None:
    async with AsyncExitStack() as stack:
        model = chosen(stack, {**KEYS, "MAGICODE_MODEL": "anthropic:claude"})
        assert model(("openai:gpt", "anthropic:other")).name == "gpt"


async def test_each_run_has_a_chain_of_its_own_over_clients_that_all_share() -> None:
    async with AsyncExitStack() as stack:
        model = chosen(stack, KEYS)
        one, other = model(()), model(())
        assert isinstance(one, Chain)
        assert one is not other
        assert one._models == other._models


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({}, "No model is configured"),
        ({"ANTHROPIC_API_KEY": "a", "MAGICODE_MODEL": "anthropic:a,openai:b"}, "OPENAI_API_KEY"),
        ({**KEYS, "MAGICODE_MODEL": "anthropic:a,gpt"}, "'gpt' names no model"),
    ],
)
async def test_what_is_missing_of_the_services_own_is_told_at_the_start(
    environ: dict[str, str], said: str
) -> None:
    async with AsyncExitStack() as stack:
        with pytest.raises(MagicodeError, match=said):
            chosen(stack, environ)


async def test_a_process_that_works_nothing_needs_no_model_until_it_is_asked_for_one() -> None:
    async with AsyncExitStack() as stack:
        model = chosen(stack, {}, needed=False)
        with pytest.raises(MagicodeError, match="without a model"):
            model(())


async def test_a_repository_that_names_only_what_has_no_key_is_told_so() -> None:
    async with AsyncExitStack() as stack:
        model = chosen(stack, {"OPENAI_API_KEY": "o"})
        assert model(("anthropic:a", "openai:b")).name == "b"
        with pytest.raises(UserError, match="ANTHROPIC_API_KEY"):
            model(("anthropic:a",))


async def test_an_overloaded_model_is_followed_by_the_next_of_the_list() -> None:
    quick = "overload: {times: 3, retry_after_seconds: 0.01}"
    playbook = parse(f"{{models: [m-1, m-2], scenarios: [{{name: s, turns: [{{say: Hello., {quick}}}]}}]}}")
    async with running(playbook) as base_url, AsyncExitStack() as stack:
        environ = {**environment(base_url), "MAGICODE_MODEL": "anthropic:m-1,openai:m-2"}
        model = chosen(stack, environ)(())
        answer = await model.answer(ModelRequest("", (UserTurn("Go"),), (), 100))
        assert (answer.turn.text, answer.model, model.provider) == ("Hello.", "m-2", "openai")
