"""Which models a run is given: the service's own list, or the one that the repository's file names."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest

from app import settings
from app.agent.chain import Chain
from app.errors import MagicodeError, UserError
from app.nouns import ModelRequest, UserTurn
from app.wiring import open_models
from infra.models.choose import DEFAULTS, ServiceModels
from infra.models.guarded import Guard
from infra.models.playbook import parse
from infra.simulator.model.serve import environment, running

KEYS = {"ANTHROPIC_API_KEY": "a", "OPENAI_API_KEY": "o"}


def chosen(stack: AsyncExitStack, environ: dict[str, str], *, needed: bool = True) -> ServiceModels:
    read = settings.read(environ).model_copy(update={"worker": needed})
    return open_models(stack, read, environ, Guard())


@pytest.mark.parametrize(
    ("environ", "name"),
    [
        (KEYS, f"anthropic:{DEFAULTS['anthropic']}"),
        ({"OPENAI_API_KEY": "o"}, f"openai:{DEFAULTS['openai']}"),
        ({**KEYS, "MAGICODE_MODEL": "openai:gpt"}, "openai:gpt"),
        ({**KEYS, "MAGICODE_MODEL": "openai:gpt, anthropic:claude"}, "openai:gpt"),
    ],
)
async def test_a_run_gets_the_services_own_first_model(environ: dict[str, str], name: str) -> None:
    async with AsyncExitStack() as stack:
        assert chosen(stack, environ).where()[0].model == name


async def test_the_repositorys_list_comes_before_the_services() -> None:
    async with AsyncExitStack() as stack:
        models = chosen(stack, {**KEYS, "MAGICODE_MODEL": "anthropic:claude"})
        named = models.where(("openai:gpt", "anthropic:other"))
        assert [one.model for one in named] == ["openai:gpt", "anthropic:other"]


async def test_runs_share_the_clients_of_the_services_own_keys() -> None:
    async with AsyncExitStack() as stack:
        models = chosen(stack, KEYS)
        async with models.open(["anthropic:a"]) as one, models.open(["anthropic:a"]) as other:
            assert one[0] is other[0]
        async with models.open(["anthropic:a"]) as again:
            assert again[0] is one[0]
            assert not again[0]._client.is_closed()


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
        models = chosen(stack, {}, needed=False)
        assert models.offered() == []
        with pytest.raises(MagicodeError, match="the service has none"):
            models.where()


async def test_a_repository_that_names_only_what_has_no_key_is_told_so() -> None:
    async with AsyncExitStack() as stack:
        models = chosen(stack, {"OPENAI_API_KEY": "o"})
        assert [one.model for one in models.where(("anthropic:a", "openai:b"))] == ["openai:b"]
        with pytest.raises(UserError, match="ANTHROPIC_API_KEY"):
            models.where(("anthropic:a",))


async def test_an_overloaded_model_is_followed_by_the_next_of_the_list() -> None:
    quick = "overload: {times: 3, retry_after_seconds: 0.01}"
    playbook = parse(f"{{models: [m-1, m-2], scenarios: [{{name: s, turns: [{{say: Hello., {quick}}}]}}]}}")
    async with running(playbook) as base_url, AsyncExitStack() as stack:
        environ = {**environment(base_url), "MAGICODE_MODEL": "anthropic:m-1,openai:m-2"}
        models = chosen(stack, environ)
        async with models.open([one.model for one in models.where()]) as opened:
            chain = Chain(opened)
            answer = await chain.answer(ModelRequest("", (UserTurn("Go"),), (), 100))
        assert (answer.turn.text, answer.model, chain.provider) == ("Hello.", "m-2", "openai")
