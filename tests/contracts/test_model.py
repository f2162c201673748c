"""One contract for both adapters, held against the providers' wires as the simulator speaks them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest

from app.errors import InvalidError, RefusedError, TransientError
from app.nouns import AssistantTurn, ModelRequest, Stop, ToolResult, ToolSpec, ToolTurn, UserTurn
from infra.models.anthropic import AnthropicModel
from infra.models.openai import OpenAIModel
from infra.models.playbook import Playbook, parse
from infra.models.retry import Patience
from infra.simulator.model.serve import running
from infra.simulator.model.server import PLAYBOOK_KEY

READ = ToolSpec(
    "read",
    "Read a file.",
    {
        "type": "object",
        "properties": {"path": {"type": "string"}},
        "required": ["path"],
        "additionalProperties": False,
    },
)
GREP = ToolSpec(
    "grep",
    "Look for a pattern.",
    {
        "type": "object",
        "properties": {"pattern": {"type": "string"}, "path": {"type": "string"}},
        "required": ["pattern"],
        "additionalProperties": False,
    },
)
QUICK = Patience(tries=3, first_wait_seconds=0.01, between_chunks_seconds=5, answer_seconds=10)


@dataclass
class Waits:
    """Remembers how long the adapter wanted to wait, and does not."""

    seconds: list[float] = field(default_factory=list)

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        await asyncio.sleep(0)


@dataclass
class Played:
    """An adapter, and the simulated provider that it asks."""

    model: AnthropicModel | OpenAIModel
    base_url: str
    waits: Waits

    async def ask(self, *turns: Any, system: str = "You fix bugs.", tools: Any = (READ, GREP)) -> Any:
        return await self.model.answer(ModelRequest(system, turns, tools, 4096))

    async def requests(self) -> list[dict[str, Any]]:
        async with httpx.AsyncClient(trust_env=False) as client:
            recorded: list[dict[str, Any]] = (await client.get(f"{self.base_url}/_simulator/requests")).json()
            return recorded


Play = Callable[..., Any]


@pytest.fixture(params=["anthropic", "openai"])
def provider(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def playing(provider: str) -> Play:
    @asynccontextmanager
    async def play(
        turns: str | Playbook,
        *,
        name: str = "playbook-1",
        key: str = PLAYBOOK_KEY,
        patience: Patience = QUICK,
    ) -> AsyncIterator[Played]:
        playbook = (
            turns if isinstance(turns, Playbook) else parse(f"scenarios: [{{name: s, turns: {turns}}}]")
        )
        waits = Waits()
        async with running(playbook) as base_url:
            model: AnthropicModel | OpenAIModel
            if provider == "anthropic":
                model = AnthropicModel(name, key, base_url, patience=patience, sleep=waits)
            else:
                model = OpenAIModel(name, key, f"{base_url}/v1", patience=patience, sleep=waits)
            yield Played(model, base_url, waits)
            await model.close()

    return play


def answered(turn: AssistantTurn, text: str = "done") -> ToolTurn:
    return ToolTurn(tuple(ToolResult(call.id, text) for call in turn.calls))


async def test_text_is_streamed_and_put_together(playing: Play, provider: str) -> None:
    text = 'The bug is in `split` — it drops the remainder.\nÄnderung: 一行だけ 🎉, "quoted" and {braces}.'
    playbook = Playbook.model_validate({"scenarios": [{"name": "s", "turns": [{"say": text}]}]})
    async with playing(playbook) as played:
        answer = await played.ask(UserTurn("What is wrong?"))
        assert answer.turn.text == text
        assert answer.stop is Stop.END
        assert answer.turn.calls == ()
        assert answer.model == "playbook-1"
        assert played.model.provider == provider
        assert played.model.name == "playbook-1"


async def test_a_tool_is_called_and_its_result_reaches_the_model(playing: Play) -> None:
    turns = """
      - calls: [{tool: read, arguments: {path: src/ä b.py}}]
      - {when: {tool_result_of: read, contains: "def split"}, say: "I have seen it."}
    """
    async with playing(parse(f"scenarios:\n  - name: s\n    turns:{turns}")) as played:
        question = UserTurn("Fix it")
        first = await played.ask(question)
        assert first.stop is Stop.TOOLS
        assert [(call.name, call.arguments) for call in first.turn.calls] == [
            ("read", {"path": "src/ä b.py"})
        ]
        second = await played.ask(question, first.turn, answered(first.turn, "def split(): ..."))
        assert second.turn.text == "I have seen it."


async def test_parallel_calls_keep_their_order_and_have_ids_of_their_own(playing: Play) -> None:
    turns = "[{say: Both., calls: [{tool: read, arguments: {path: a}}, {tool: read, arguments: {path: a}}, {tool: grep, arguments: {pattern: b}}]}, {say: Thanks.}]"
    async with playing(turns) as played:
        first = await played.ask(UserTurn("Go"))
        assert [call.name for call in first.turn.calls] == ["read", "read", "grep"]
        assert len({call.id for call in first.turn.calls}) == 3
        assert (await played.ask(UserTurn("Go"), first.turn, answered(first.turn))).turn.text == "Thanks."


async def test_a_failed_tool_is_told_as_failed(playing: Play) -> None:
    turns = "[{calls: [{tool: read, arguments: {path: a}}]}, {when: {tool_failed: true}, say: I see that it failed.}]"
    async with playing(turns) as played:
        first = await played.ask(UserTurn("Go"))
        failed = ToolTurn((ToolResult(first.turn.calls[0].id, "no such file", is_error=True),))
        assert (await played.ask(UserTurn("Go"), first.turn, failed)).turn.text == "I see that it failed."


@pytest.mark.parametrize("raw", ['{"path": "src/a.py', "[1, 2]", "not json at all", "null"])
async def test_arguments_that_are_no_object_are_kept_as_text(playing: Play, raw: str) -> None:
    playbook = Playbook.model_validate(
        {
            "scenarios": [
                {"name": "s", "turns": [{"calls": [{"tool": "read", "raw": raw}]}, {"say": "Again, then."}]}
            ]
        }
    )
    async with playing(playbook) as played:
        first = await played.ask(UserTurn("Go"))
        (call,) = first.turn.calls
        assert call.arguments is None
        assert call.raw == raw
        wrong = ToolTurn((ToolResult(call.id, "the arguments are not a JSON object", is_error=True),))
        assert (await played.ask(UserTurn("Go"), first.turn, wrong)).turn.text == "Again, then."


async def test_a_call_without_arguments_has_an_empty_object(playing: Play) -> None:
    async with playing("[{calls: [{tool: grep}]}]") as played:
        (call,) = (await played.ask(UserTurn("Go"))).turn.calls
        assert call.arguments == {}


async def test_an_answer_that_was_cut_off_says_so(playing: Play) -> None:
    async with playing("[{say: The answer goes on and, stop: length}]") as played:
        answer = await played.ask(UserTurn("Go"))
        assert answer.stop is Stop.LENGTH
        assert answer.turn.text == "The answer goes on and"


async def test_a_call_that_was_cut_off_is_not_taken_for_a_whole_one(playing: Play) -> None:
    playbook = Playbook.model_validate(
        {
            "scenarios": [
                {"name": "s", "turns": [{"stop": "length", "calls": [{"tool": "read", "raw": '{"pa'}]}]}
            ]
        }
    )
    async with playing(playbook) as played:
        answer = await played.ask(UserTurn("Go"))
        assert answer.stop is Stop.LENGTH
        assert [call.arguments for call in answer.turn.calls] == [None]


async def test_a_refusal_is_an_answer_of_its_own_kind(playing: Play) -> None:
    async with playing("[{say: I will not., stop: refusal}]") as played:
        answer = await played.ask(UserTurn("Go"))
        assert answer.stop is Stop.REFUSAL
        assert answer.turn.text == "I will not."


async def test_an_overloaded_provider_is_asked_again_after_the_delay_it_names(playing: Play) -> None:
    async with playing(
        "[{say: Now., overload: {times: 2, status: 429, retry_after_seconds: 7.5}}]"
    ) as played:
        assert (await played.ask(UserTurn("Go"))).turn.text == "Now."
        assert played.waits.seconds == [7.5, 7.5]
        assert [one["status"] for one in await played.requests()] == [429, 429, 200]


@pytest.mark.parametrize("status", [500, 502, 503, 529])
async def test_a_failing_provider_is_asked_again_with_waits_that_grow(playing: Play, status: int) -> None:
    async with playing(f"[{{say: Now., overload: {{times: 2, status: {status}}}}}]") as played:
        assert (await played.ask(UserTurn("Go"))).turn.text == "Now."
        first, second = played.waits.seconds
        assert 0.005 <= first <= 0.01 <= second <= 0.02


async def test_an_overload_that_lasts_ends_in_a_transient_error_with_the_delay(playing: Play) -> None:
    async with playing("[{say: Never., overload: {times: 99, retry_after_seconds: 12}}]") as played:
        with pytest.raises(TransientError) as caught:
            await played.ask(UserTurn("Go"))
        assert caught.value.reason == "model_overloaded"
        assert caught.value.retry_after == timedelta(seconds=12)
        assert len(await played.requests()) == 3


async def test_a_delay_beyond_all_patience_is_not_waited_for(playing: Play) -> None:
    async with playing("[{say: Never., overload: {times: 99, retry_after_seconds: 3600}}]") as played:
        with pytest.raises(TransientError) as caught:
            await played.ask(UserTurn("Go"))
        assert caught.value.retry_after == timedelta(hours=1)
        assert played.waits.seconds == []


@pytest.mark.parametrize("chunks", [0, 1, 3, 5])
async def test_a_stream_that_breaks_off_is_asked_for_again(playing: Play, chunks: int) -> None:
    turns = f"[{{say: 'Whole at last, and long enough for several pieces.', disconnect: {{after_chunks: {chunks}}}}}]"
    async with playing(turns) as played:
        answer = await played.ask(UserTurn("Go"))
        assert answer.turn.text == "Whole at last, and long enough for several pieces."
        assert len(await played.requests()) == 2


async def test_a_stream_that_always_breaks_off_is_a_transient_error_and_never_half_an_answer(
    playing: Play,
) -> None:
    async with playing(
        "[{say: 'Never the whole of it.', disconnect: {after_chunks: 4, times: 99}}]"
    ) as played:
        with pytest.raises(TransientError) as caught:
            await played.ask(UserTurn("Go"))
        assert caught.value.reason in {"model_unreachable", "model_stream_broken"}


async def test_silence_in_the_middle_of_an_answer_is_not_waited_out(playing: Play) -> None:
    hasty = Patience(tries=2, between_chunks_seconds=0.2, answer_seconds=20)
    async with playing(
        "[{say: Slow., slow: {seconds: 15, after_chunks: 2, times: 9}}]", patience=hasty
    ) as played:
        began = time.monotonic()
        with pytest.raises(TransientError) as caught:
            await played.ask(UserTurn("Go"))
        assert caught.value.reason == "model_timeout"
        assert time.monotonic() - began < 5


async def test_an_answer_may_not_take_longer_than_it_may_take(playing: Play) -> None:
    hasty = Patience(tries=1, between_chunks_seconds=20, answer_seconds=0.3)
    async with playing("[{say: Slow., slow: {seconds: 15}}]", patience=hasty) as played:
        with pytest.raises(TransientError) as caught:
            await played.ask(UserTurn("Go"))
        assert caught.value.reason == "model_timeout"


async def test_nobody_listening_is_a_transient_error(provider: str, unused_tcp_port: int) -> None:
    url = f"http://127.0.0.1:{unused_tcp_port}"
    waits = Waits()
    model: Any = (
        AnthropicModel("playbook-1", "k", url, patience=QUICK, sleep=waits)
        if provider == "anthropic"
        else OpenAIModel("playbook-1", "k", f"{url}/v1", patience=QUICK, sleep=waits)
    )
    with pytest.raises(TransientError) as caught:
        await model.answer(ModelRequest("", (UserTurn("Go"),), (), 100))
    assert caught.value.reason == "model_unreachable"
    assert len(waits.seconds) == 2
    await model.close()


async def test_the_figures_are_the_providers_and_the_cost_follows_from_them(playing: Play) -> None:
    usage = (
        "{input_tokens: 1000000, cached_tokens: 600000, cache_write_tokens: 300000, output_tokens: 100000}"
    )
    async with playing(f"[{{say: Counted., usage: {usage}}}]") as played:
        answer = await played.ask(UserTurn("Go"))
        assert answer.usage.input_tokens == 1_000_000
        assert answer.usage.cached_tokens == 600_000
        assert answer.usage.cache_write_tokens == 300_000
        assert answer.usage.output_tokens == 100_000
        # 100,000 at 3, 600,000 at 0.30, 300,000 at 3.75 and 100,000 at 15 dollars per million
        assert answer.cost_usd == Decimal("0.30") + Decimal("0.18") + Decimal("1.125") + Decimal("1.50")


async def test_a_model_without_a_known_price_has_no_cost(playing: Play) -> None:
    playbook = parse("{models: [somebody-elses-model], scenarios: [{name: s, turns: [{say: Hello.}]}]}")
    async with playing(playbook, name="somebody-elses-model") as played:
        assert (await played.ask(UserTurn("Go"))).cost_usd is None


async def test_a_growing_conversation_is_read_from_the_cache(playing: Play) -> None:
    turns = "[{say: Reading., calls: [{tool: read, arguments: {path: a}}], repeat: 6}, {say: Done.}]"
    async with playing(turns) as played:
        conversation: list[Any] = [UserTurn("Fix this. " * 400)]
        shares = []
        for _ in range(6):
            answer = await played.ask(*conversation)
            shares.append(answer.usage.cached_tokens / answer.usage.input_tokens)
            conversation += [answer.turn, answered(answer.turn, "line of code\n" * 60)]
        assert shares[0] == 0
        assert min(shares[1:]) > 0.65


async def test_thinking_goes_back_exactly_as_it_came(playing: Play, provider: str) -> None:
    turns = "[{thinks: 'Hm, where was it… «there»', say: Looking., calls: [{tool: read, arguments: {path: a}}]}, {say: Done.}]"
    async with playing(turns) as played:
        first = await played.ask(UserTurn("Go"))
        assert first.turn.text == "Looking."
        # The simulated provider refuses thinking whose signature or seal does not fit.
        assert (await played.ask(UserTurn("Go"), first.turn, answered(first.turn))).turn.text == "Done."
        sent = (await played.requests())[-1]["body"]
        if provider == "anthropic":
            back = sent["messages"][1]["content"]
            assert [block["type"] for block in back] == ["thinking", "text", "tool_use"]
            assert back[0]["thinking"] == "Hm, where was it… «there»"
        else:
            assert [item["type"] for item in sent["input"]] == [
                "message", "reasoning", "message", "function_call", "function_call_output",
            ]  # fmt: skip
            assert sent["input"][1]["encrypted_content"]


async def test_a_conversation_begun_with_another_provider_can_go_on_here(playing: Play) -> None:
    async with playing("[{calls: [{tool: read, arguments: {path: a}}]}, {say: Done.}]") as played:
        first = await played.ask(UserTurn("Go"))
        foreign = AssistantTurn("I looked.", first.turn.calls, opaque=object())
        assert (await played.ask(UserTurn("Go"), foreign, answered(first.turn))).turn.text == "Done."


async def test_a_wrong_key_is_refused_at_once_and_never_shown(
    playing: Play, caplog: pytest.LogCaptureFixture
) -> None:
    secret = "sk-this-is-a-very-secret-key"
    with caplog.at_level(logging.DEBUG, logger="httpx2"):
        async with playing("[{say: Never.}]", key=secret) as played:
            with pytest.raises(RefusedError) as caught:
                await played.ask(UserTurn("Go"))
            assert len(await played.requests()) == 1
    assert caught.value.reason == "model_key_refused"
    assert "sk-" not in caught.value.message
    assert "secret-key" not in repr(caught.value)
    assert secret not in caplog.text
    assert caught.value.__cause__ is None


async def test_an_unknown_model_is_named(playing: Play) -> None:
    async with playing("[{say: Never.}]", name="playbook-99") as played:
        with pytest.raises(InvalidError, match="model unknown") as caught:
            await played.ask(UserTurn("Go"))
        assert "playbook-99" in caught.value.message
        assert caught.value.reason == "model_unknown"


async def test_a_request_that_the_provider_finds_wrong_is_not_repeated(playing: Play) -> None:
    async with playing("[{say: One.}]") as played:
        orphan = ToolTurn((ToolResult("call_of_nobody", "text"),))
        with pytest.raises(InvalidError) as caught:
            await played.ask(UserTurn("Go"), orphan)
        assert caught.value.reason == "model_request_refused"
        assert "call_of_nobody" in caught.value.message
        assert len(await played.requests()) == 1


async def test_a_request_without_a_turn_in_the_playbook_is_an_error_that_says_which(playing: Play) -> None:
    async with playing("[{when: {contains: apples}, say: One.}]") as played:
        with pytest.raises(InvalidError, match=r"no turn.*request 1 of scenario 's'.*pears"):
            await played.ask(UserTurn("Two pears"))


async def test_every_request_refuses_storage_and_asks_for_caching(playing: Play, provider: str) -> None:
    turns = "[{thinks: Hm., calls: [{tool: read, arguments: {path: a}}, {tool: grep, arguments: {pattern: b}}], repeat: 4, overload: {times: 1}}, {say: Done.}]"
    async with playing(turns) as played:
        conversation: list[Any] = [UserTurn("Go")]
        for _ in range(5):
            answer = await played.ask(*conversation)
            conversation += [answer.turn, answered(answer.turn)]
        bodies = [one["body"] for one in await played.requests()]
        assert len(bodies) == 9
        for body in bodies:
            (holds_anthropic if provider == "anthropic" else holds_openai)(body)
        assert len({str(body.get("prompt_cache_key")) for body in bodies}) == 1


def holds_anthropic(body: dict[str, Any]) -> None:
    assert body["stream"] is True
    assert "cache_control" not in str(body["tools"])
    assert body["system"][-1]["cache_control"] == {"type": "ephemeral"}
    assert body["messages"][-1]["content"][-1]["cache_control"] == {"type": "ephemeral"}
    assert str(body).count("cache_control") <= 4
    assert not {"container", "mcp_servers", "betas", "temperature", "top_p"} & set(body)


def holds_openai(body: dict[str, Any]) -> None:
    assert body["stream"] is True
    assert body["store"] is False
    assert body["prompt_cache_key"].startswith("magicode-")
    assert body["include"] == ["reasoning.encrypted_content"]
    assert not {"previous_response_id", "conversation", "background", "prompt"} & set(body)
    assert {tool["name"]: tool["strict"] for tool in body["tools"]} == {"read": True, "grep": False}


async def test_requests_side_by_side_do_not_disturb_each_other(playing: Play) -> None:
    turns = """
      - capture: 'file (?P<path>\\w+)'
        calls: [{tool: read, arguments: {path: "{path}"}}]
        repeat: 3
      - capture: 'file (?P<path>\\w+)'
        say: "read {path} three times"
    """
    async with playing(parse(f"scenarios:\n  - name: s\n    turns:{turns}")) as played:

        async def run(name: str) -> str:
            conversation: list[Any] = [UserTurn(f"file {name}")]
            while True:
                answer = await played.ask(*conversation)
                if answer.stop is Stop.END:
                    return str(answer.turn.text)
                conversation += [answer.turn, answered(answer.turn)]

        names = [f"f{number}" for number in range(8)]
        assert await asyncio.gather(*map(run, names)) == [f"read {name} three times" for name in names]


async def test_giving_up_on_an_answer_stops_the_asking(playing: Play) -> None:
    async with playing("[{say: Slow., slow: {seconds: 30, times: 9}}]") as played:
        asking = asyncio.create_task(played.ask(UserTurn("Go")))
        await asyncio.sleep(0.2)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking


async def test_half_characters_do_not_stop_a_request(playing: Play) -> None:
    turns = (
        "[{calls: [{tool: read, raw: '{\"path\": \"\\ud83d\"}'}]}, {when: {contains: 'caf?'}, say: Read.}]"
    )
    async with playing(turns) as played:
        first = await played.ask(UserTurn("Read \udce9"), system="\ud800")
        results = answered(first.turn, b"caf\xe9".decode("utf-8", "surrogateescape"))
        assert (await played.ask(UserTurn("Read \udce9"), first.turn, results)).turn.text == "Read."
