"""One contract for both adapters, held against the providers' wires as the simulator speaks them.

Every request that any of these tests makes the adapters send is looked at when the test ends: nothing in it may be kept.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import logging
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest

from app.agent import Limits
from app.agent.chain import Chain
from app.agent.loop import Author, Material
from app.errors import InvalidError, RefusedError, TransientError
from app.nouns import (
    AssistantTurn,
    ModelRequest,
    Repository,
    Request,
    Stop,
    ToolResult,
    ToolSpec,
    ToolTurn,
    Usage,
    UserTurn,
)
from infra.models.anthropic import AnthropicModel
from infra.models.openai import OpenAIModel
from infra.models.playbook import Playbook, parse
from infra.models.retry import PATIENCE, Patience
from infra.simulator.model.serve import running
from infra.simulator.model.server import PLAYBOOK_KEY
from tests.app.tree import Tree

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
        return await requests_at(self.base_url)


async def requests_at(base_url: str) -> list[dict[str, Any]]:
    async with httpx.AsyncClient(trust_env=False, verify=False) as client:
        recorded: list[dict[str, Any]] = (await client.get(f"{base_url}/_simulator/requests")).json()
        return recorded


def adapter(wire: str, base_url: str, name: str, key: str, patience: Patience, sleep: Any) -> Any:
    if wire == "anthropic":
        return AnthropicModel(name, key, base_url, patience=patience, sleep=sleep)
    url = f"{base_url}/compatible/v1" if wire == "compatible" else f"{base_url}/v1"
    return OpenAIModel(name, key, url, patience=patience, sleep=sleep)


Play = Callable[..., Any]

SENTENCE = "The whole of it, and long enough to come in several pieces."
TWO_CALLS: list[dict[str, Any]] = [
    {"tool": "read", "arguments": {"path": "src/ä very long name that comes in pieces.py"}},
    {"tool": "grep", "arguments": {"pattern": "another argument that comes in pieces", "path": "src"}},
]
ASKED = Request(
    Repository(1, "o", "r", "main", False, False, False, True, 1, "https://github.invalid/o/r"),
    7, "Go", "Go", ("Go",), (), "main", "a" * 40,
)  # fmt: skip


def scenario(*turns: dict[str, Any]) -> Playbook:
    return Playbook.model_validate({"scenarios": [{"name": "s", "turns": turns}]})


@pytest.fixture(params=["anthropic", "openai", "compatible"])
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
            model = adapter(provider, base_url, name, key, patience, waits)
            yield Played(model, base_url, waits)
            await model.close()
            for one in await requests_at(base_url):
                nothing_of_it_is_kept(one)

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
        assert played.model.provider == provider.replace("compatible", "openai")
        assert answer.turn.maker == f"{played.model.provider}:{played.model.name}"
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


@pytest.mark.parametrize("raw", ['{"pa', "", "{}", '{"path": "src"}'])
async def test_a_call_that_was_cut_off_is_not_taken_for_a_whole_one(playing: Play, raw: str) -> None:
    calls = [{"tool": "read", "arguments": {"path": "a"}}, {"tool": "read", "raw": raw}]
    turns = [{"stop": "length", "calls": calls}, {"say": "Shorter, then."}]
    async with playing(scenario(*turns)) as played:
        answer = await played.ask(UserTurn("Go"))
        assert answer.stop is Stop.LENGTH
        assert [(call.arguments, call.raw) for call in answer.turn.calls] == [
            ({"path": "a"}, ""),
            (None, raw),
        ]
        told = ToolTurn(tuple(ToolResult(call.id, "cut off", is_error=True) for call in answer.turn.calls))
        assert (await played.ask(UserTurn("Go"), answer.turn, told)).turn.text == "Shorter, then."


async def test_an_answer_that_was_cut_off_while_it_thought_does_not_spoil_the_conversation(
    playing: Play,
) -> None:
    turns = [{"thinks": "Hm, where was it, and what", "stop": "length"}, {"thinks": "Ah.", "say": "Shorter."}]
    async with playing(scenario(*turns, {"say": "Done."})) as played:
        conversation: list[Any] = [UserTurn("Go")]
        first = await played.ask(*conversation)
        assert (first.stop, first.turn.text, first.turn.calls) == (Stop.LENGTH, "", ())
        # Neither provider takes thinking back that led to nothing, and the playbook counts what was answered.
        said = AssistantTurn("(cut off)", (), maker=first.turn.maker)
        for turn in (first.turn, said):
            conversation += [turn, UserTurn("Be short.")]
        assert (await played.ask(*conversation)).turn.text == "Shorter."


async def test_of_an_answer_that_was_cut_off_nothing_is_done(playing: Play) -> None:
    whole = {"tool": "create", "arguments": {"path": "whole.py", "text": "x = 1"}}
    half = {"tool": "create", "raw": '{"path": "half.py", "text": "y ="}'}
    turns = [
        {"stop": "length", "calls": [whole, half]},
        {"calls": [{"tool": "answer", "arguments": {"text": "It was too long."}}]},
    ]
    tree = Tree({"a.py": b"a = 1\n"})

    async def nothing(*_: Any) -> Any:
        return ()

    async with playing(scenario(*turns)) as played:
        author = Author(
            Material(ASKED, tree),
            model=played.model,
            search=nothing,
            limits=Limits(),
            fence=nothing,
            on_call=nothing,
        )
        patch = await author.propose()
    assert (patch.answer, patch.edits) == ("It was too long.", ())


async def test_a_refusal_is_an_answer_of_its_own_kind(playing: Play) -> None:
    async with playing("[{say: I will not., stop: refusal}]") as played:
        answer = await played.ask(UserTurn("Go"))
        assert answer.stop is Stop.REFUSAL
        assert answer.turn.text == "I will not."


@pytest.mark.parametrize("said", ["", "I can begin with"])
@pytest.mark.parametrize("calls", [[], [{"tool": "read", "raw": '{"pa'}]])
async def test_an_answer_that_the_providers_filter_stopped_is_a_refusal_with_its_cost(
    playing: Play, said: str, calls: list[Any]
) -> None:
    turn = {"say": said, "calls": calls, "stop": "refusal", "filtered": True}
    usage = {"input_tokens": 1000, "output_tokens": 20}
    async with playing(scenario({**turn, "usage": usage})) as played:
        answer = await played.ask(UserTurn("Go"))
        assert (answer.stop, answer.turn.text) == (Stop.REFUSAL, said)
        assert (answer.usage.input_tokens, answer.usage.output_tokens) == (1000, 20)
        assert answer.cost_usd == Decimal("0.0033")
        assert len(await played.requests()) == 1


async def test_a_refusal_without_a_word_is_one_all_the_same(playing: Play) -> None:
    async with playing("[{stop: refusal}]") as played:
        assert (await played.ask(UserTurn("Go"))).stop is Stop.REFUSAL


async def test_an_overloaded_provider_is_asked_again_after_the_delay_it_names(playing: Play) -> None:
    async with playing(
        "[{say: Now., overload: {times: 2, status: 429, retry_after_seconds: 7.5}}]"
    ) as played:
        assert (await played.ask(UserTurn("Go"))).turn.text == "Now."
        assert played.waits.seconds == [7.5, 7.5]
        assert [one["status"] for one in await played.requests()] == [429, 429, 200]


@pytest.mark.parametrize("status", [429, 500, 502, 503, 529])
async def test_a_failing_provider_is_asked_again_with_waits_that_grow(playing: Play, status: int) -> None:
    async with playing(f"[{{say: Now., overload: {{times: 2, status: {status}}}}}]") as played:
        assert (await played.ask(UserTurn("Go"))).turn.text == "Now."
        first, second = played.waits.seconds
        assert 0.005 <= first <= 0.01 <= second <= 0.02


@pytest.mark.parametrize("seconds", [None, 12])
@pytest.mark.parametrize(
    ("status", "reason"),
    [(429, "model_overloaded"), (503, "model_unavailable"), (529, "model_overloaded")],
)
async def test_an_overload_that_lasts_ends_in_a_transient_error_with_the_delay(
    playing: Play, status: int, reason: str, seconds: int | None
) -> None:
    overload = {"times": 99, "status": status, "retry_after_seconds": seconds}
    async with playing(scenario({"say": "Never.", "overload": overload})) as played:
        with pytest.raises(TransientError) as caught:
            await played.ask(UserTurn("Go"))
        assert caught.value.reason == reason
        assert caught.value.retry_after == (None if seconds is None else timedelta(seconds=seconds))
        assert len(await played.requests()) == 3


async def test_a_delay_beyond_all_patience_is_not_waited_for(playing: Play) -> None:
    async with playing("[{say: Never., overload: {times: 99, retry_after_seconds: 3600}}]") as played:
        with pytest.raises(TransientError) as caught:
            await played.ask(UserTurn("Go"))
        assert caught.value.retry_after == timedelta(hours=1)
        assert played.waits.seconds == []


@pytest.mark.parametrize("kind", ["overloaded", "rate_limited", "failing"])
@pytest.mark.parametrize("chunks", [1, 4, 9])
async def test_an_error_inside_a_stream_that_began_well_is_tried_again(
    playing: Play, kind: str, chunks: int
) -> None:
    turn = {"say": SENTENCE, "calls": TWO_CALLS}
    async with playing(
        scenario({**turn, "broken": {"kind": kind, "after_chunks": chunks, "times": 2}})
    ) as played:
        answer = await played.ask(UserTurn("Go"))
        assert (answer.turn.text, len(answer.turn.calls)) == (SENTENCE, 2)
        assert len(await played.requests()) == 3
    async with playing(
        scenario({**turn, "broken": {"kind": kind, "after_chunks": chunks, "times": 99}})
    ) as played:
        with pytest.raises(TransientError) as caught:
            await played.ask(UserTurn("Go"))
        assert caught.value.reason in {"model_overloaded", "model_unavailable"}
        assert "Told" not in str(played.waits.seconds)
        assert len(await played.requests()) == QUICK.tries


@pytest.mark.parametrize("chunks", range(2, 14, 2))
async def test_a_disconnect_in_the_middle_of_a_call_gives_the_whole_call_or_none(
    playing: Play, chunks: int
) -> None:
    turn = {"thinks": "Hm.", "calls": TWO_CALLS}
    async with playing(scenario({**turn, "disconnect": {"after_chunks": chunks}})) as played:
        answer = await played.ask(UserTurn("Go"))
        assert [call.arguments for call in answer.turn.calls] == [one["arguments"] for one in TWO_CALLS]
        assert len({call.id for call in answer.turn.calls}) == 2
        assert len(await played.requests()) == 2
    async with playing(scenario({**turn, "disconnect": {"after_chunks": chunks, "times": 99}})) as played:
        with pytest.raises(TransientError):
            await played.ask(UserTurn("Go"))
        assert len(await played.requests()) == QUICK.tries


@pytest.mark.parametrize("interleaved", [False, True])
async def test_parallel_calls_are_put_together_whether_their_pieces_come_in_turns_or_not(
    playing: Play, interleaved: bool
) -> None:
    calls = [*TWO_CALLS, {"tool": "read", "arguments": {"path": "c" * 90}}]
    async with playing(scenario({"say": SENTENCE, "calls": calls, "interleaved": interleaved})) as played:
        answer = await played.ask(UserTurn("Go"))
        assert answer.turn.text == SENTENCE
        assert [(call.name, call.arguments) for call in answer.turn.calls] == [
            (one["tool"], one["arguments"]) for one in calls
        ]


async def test_events_and_fields_of_tomorrow_are_passed_over(playing: Play) -> None:
    first = {"thinks": "Hm.", "say": SENTENCE, "calls": TWO_CALLS, "interleaved": True}
    async with playing(scenario({**first, "novelties": True}, {"say": "Done."})) as played:
        answer = await played.ask(UserTurn("Go"))
        assert (answer.turn.text, answer.stop) == (SENTENCE, Stop.TOOLS)
        assert [call.arguments for call in answer.turn.calls] == [one["arguments"] for one in TWO_CALLS]
        assert (await played.ask(UserTurn("Go"), answer.turn, answered(answer.turn))).turn.text == "Done."


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


@pytest.mark.parametrize("chunks", [0, 7])
async def test_a_stream_that_stalls_once_is_asked_for_again(playing: Play, chunks: int) -> None:
    hasty = Patience(tries=2, first_wait_seconds=0.01, between_chunks_seconds=2, answer_seconds=20)
    turn = {"say": "On.", "calls": TWO_CALLS, "slow": {"seconds": 15, "after_chunks": chunks}}
    async with playing(scenario(turn), patience=hasty) as played:
        began = time.monotonic()
        answer = await played.ask(UserTurn("Go"))
        assert [call.arguments for call in answer.turn.calls] == [one["arguments"] for one in TWO_CALLS]
        assert time.monotonic() - began < 15, "less than the stall itself"
        assert len(await played.requests()) == 2


async def test_a_slow_stream_that_goes_on_is_waited_for(playing: Play) -> None:
    patient = Patience(tries=1, between_chunks_seconds=5, answer_seconds=20)
    turn = {"say": SENTENCE, "calls": TWO_CALLS, "slow": {"seconds": 0.5, "after_chunks": 6}}
    async with playing(scenario(turn), patience=patient) as played:
        began = time.monotonic()
        answer = await played.ask(UserTurn("Go"))
        assert (answer.turn.text, len(answer.turn.calls)) == (SENTENCE, 2)
        assert time.monotonic() - began >= 0.5
        assert len(await played.requests()) == 1


def test_a_stall_is_given_up_long_before_the_sdks_own_ten_minutes() -> None:
    assert PATIENCE.between_chunks_seconds <= 120
    assert PATIENCE.http_timeout().read == PATIENCE.between_chunks_seconds


async def test_an_answer_may_not_take_longer_than_it_may_take(playing: Play) -> None:
    hasty = Patience(tries=1, between_chunks_seconds=20, answer_seconds=0.3)
    async with playing("[{say: Slow., slow: {seconds: 15}}]", patience=hasty) as played:
        with pytest.raises(TransientError) as caught:
            await played.ask(UserTurn("Go"))
        assert caught.value.reason == "model_timeout"


@pytest.fixture
def silent_port() -> Iterator[int]:
    """One on which nobody listens, and which nobody else is given."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield int(held.getsockname()[1])


async def test_nobody_listening_is_a_transient_error(provider: str, silent_port: int) -> None:
    url = f"http://127.0.0.1:{silent_port}"
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


async def test_the_figures_are_the_providers_and_the_cost_follows_from_them(
    playing: Play, provider: str
) -> None:
    usage = (
        "{input_tokens: 1000000, cached_tokens: 600000, cache_write_tokens: 300000, output_tokens: 100000}"
    )
    async with playing(f"[{{say: Counted., usage: {usage}}}]") as played:
        answer = await played.ask(UserTurn("Go"))
        assert answer.usage.input_tokens == 1_000_000
        if provider == "compatible":  # it tells no details, so all of the prompt is paid for in full
            assert answer.usage == Usage(1_000_000, 0, 0, 100_000)
            assert answer.cost_usd == Decimal("4.50")
            return
        assert answer.usage.cached_tokens == 600_000
        assert answer.usage.cache_write_tokens == 300_000
        assert answer.usage.output_tokens == 100_000
        # 100,000 at 3, 600,000 at 0.30, 300,000 at 3.75 and 100,000 at 15 dollars per million
        assert answer.cost_usd == Decimal("0.30") + Decimal("0.18") + Decimal("1.125") + Decimal("1.50")


async def test_a_model_without_a_known_price_has_no_cost(playing: Play) -> None:
    playbook = parse("{models: [somebody-elses-model], scenarios: [{name: s, turns: [{say: Hello.}]}]}")
    async with playing(playbook, name="somebody-elses-model") as played:
        assert (await played.ask(UserTurn("Go"))).cost_usd is None


async def test_the_adapters_figures_are_those_that_the_wire_told(playing: Play, provider: str) -> None:
    turns = [{"thinks": "Hm.", "say": SENTENCE, "calls": TWO_CALLS, "repeat": 4}, {"say": "Done."}]
    async with playing(scenario(*turns)) as played:
        conversation: list[Any] = [UserTurn("Fix this. " * 800)]
        figures = []
        for _ in range(5):
            answer = await played.ask(*conversation)
            figures.append(answer.usage)
            conversation += [answer.turn, answered(answer.turn, "line of code\n" * 20)]
        told = [Usage(**one["usage"]) for one in await played.requests()]
        if provider == "compatible":
            told = [Usage(one.input_tokens, 0, 0, one.output_tokens) for one in told]
        assert figures == told
        assert all(one.cached_tokens + one.cache_write_tokens <= one.input_tokens for one in figures)


async def test_a_growing_conversation_is_read_from_the_cache(playing: Play, provider: str) -> None:
    turns = "[{say: Reading., calls: [{tool: read, arguments: {path: a}}], repeat: 6}, {say: Done.}]"
    async with playing(turns) as played:
        conversation: list[Any] = [UserTurn("Fix this. " * 400)]
        shares = []
        for _ in range(6):
            answer = await played.ask(*conversation)
            shares.append(answer.usage.cached_tokens / answer.usage.input_tokens)
            conversation += [answer.turn, answered(answer.turn, "line of code\n" * 60)]
        assert shares[0] == 0
        if provider == "compatible":  # such a server tells nothing of a cache
            assert shares == [0] * 6
        else:
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
            carried = [item for item in sent["input"] if item["type"] == "reasoning"]
            # What is reasoned in the open has no sealed form to send back, and a reference would lead nowhere.
            assert len(carried) == (0 if provider == "compatible" else 1)
            assert all(item["encrypted_content"] for item in carried)
            assert [item["type"] for item in sent["input"] if item not in carried] == [
                "message", "message", "function_call", "function_call_output",
            ]  # fmt: skip


@pytest.mark.parametrize("before", ["anthropic", "openai", "compatible"])
async def test_a_chain_goes_on_with_another_model_where_the_first_left_off(
    provider: str, before: str
) -> None:
    turns = [
        {"thinks": "Hm, where?", "say": "Looking.", "calls": TWO_CALLS},
        {"calls": [{"tool": "read", "raw": "not json"}]},
        {"thinks": "Ah.", "say": "Done.", "overload": {"times": 3}},
    ]
    playbook = Playbook(models=("playbook-1", "playbook-2"), scenarios=scenario(*turns).scenarios)
    async with running(playbook) as base_url:
        first = adapter(before, base_url, "playbook-1", PLAYBOOK_KEY, QUICK, Waits())
        second = adapter(provider, base_url, "playbook-2", PLAYBOOK_KEY, QUICK, Waits())
        chain = Chain([first, second])
        conversation: list[Any] = [UserTurn("Go")]
        for _ in range(2):
            answer = await chain.answer(ModelRequest("rules", tuple(conversation), (READ, GREP), 4096))
            conversation += [answer.turn, answered(answer.turn)]
        answer = await chain.answer(ModelRequest("rules", tuple(conversation), (READ, GREP), 4096))
        assert (answer.turn.text, answer.model, chain.name) == ("Done.", "playbook-2", "playbook-2")
        sent = await requests_at(base_url)
        assert [one["body"]["model"] for one in sent] == ["playbook-1"] * 5 + ["playbook-2"]
        # Thinking and reasoning stayed with the model whose they are; what was said and called went along.
        assert "thinking" not in sent[-1]["raw"]
        assert '"type":"reasoning"' not in sent[-1]["raw"]
        assert "Looking." in sent[-1]["raw"]
        assert "not json" in sent[-1]["raw"]
        for one in sent:
            nothing_of_it_is_kept(one)
        await first.close()
        await second.close()


async def test_ids_of_calls_that_another_provider_made_up_are_taken_here(playing: Play) -> None:
    turns = [{"calls": TWO_CALLS}, {"say": "Done."}]
    async with playing(scenario(*turns)) as played:
        first = await played.ask(UserTurn("Go"))
        odd = ["functions.read:0", "x" * 200]
        calls = tuple(replace(call, id=new) for call, new in zip(first.turn.calls, odd, strict=True))
        foreign = AssistantTurn("", calls)
        assert (await played.ask(UserTurn("Go"), foreign, answered(foreign))).turn.text == "Done."


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
        sent = await played.requests()
        assert len(sent) == 9
        for one in sent:
            nothing_of_it_is_kept(one)
            (holds_anthropic if provider == "anthropic" else holds_openai)(one["body"])
        assert len({str(one["body"].get("prompt_cache_key")) for one in sent}) == 1


def holds_anthropic(body: dict[str, Any]) -> None:
    mark = {"type": "ephemeral"}
    assert "cache_control" not in str(body["tools"])
    assert body["system"][-1]["cache_control"] == mark
    ours = [message for message in body["messages"] if message["role"] == "user"]
    for message in (ours[0], *ours[-2:]):
        assert message["content"][-1]["cache_control"] == mark
    assert str(body).count("cache_control") <= 4


def holds_openai(body: dict[str, Any]) -> None:
    assert body["prompt_cache_key"].startswith("magicode-")
    assert {tool["name"]: tool["strict"] for tool in body["tools"]} == {"read": True, "grep": False}


# --- what a request may hold -----------------------------------------------------------------------------------------

# Nothing else is ever sent: no container, file, batch, metadata, previous response, conversation or background.
FIELDS = {
    "/v1/messages": {"model", "max_tokens", "messages", "system", "tools", "stream"},
    "/v1/responses": {
        "model", "input", "instructions", "tools", "max_output_tokens", "stream", "store", "include",
        "prompt_cache_key", "prompt_cache_retention",
    },
}  # fmt: skip
PARTS = {
    "/v1/messages": {"text", "tool_use", "tool_result", "thinking", "redacted_thinking"},
    "/v1/responses": {"message", "reasoning", "function_call", "function_call_output"},
}


def nothing_of_it_is_kept(sent: dict[str, Any]) -> None:
    """That a request goes where nothing is stored, and asks for nothing that would be."""
    path = sent["path"].removeprefix("/compatible")
    assert (sent["method"], path in FIELDS) == ("POST", True), sent["path"]
    assert "anthropic-beta" not in sent["headers"]
    body = json.loads(sent["raw"])
    assert set(body) <= FIELDS[path], set(body) - FIELDS[path]
    assert body["stream"] is True
    if path == "/v1/responses":
        assert body["store"] is False
        assert body.get("prompt_cache_retention", "in_memory") == "in_memory"
        assert body.get("include", []) in ([], ["reasoning.encrypted_content"])
        parts = body["input"]
        # Reasoning travels with us, sealed: a reference to it would need it to be stored.
        assert all(one.get("encrypted_content") for one in parts if one["type"] == "reasoning")
        assert {tool["type"] for tool in body.get("tools", ())} <= {"function"}
    else:
        parts = [part for message in body["messages"] for part in message["content"]]
        assert {tool.get("type") for tool in body.get("tools", ())} <= {None}
        assert all(
            one["cache_control"] == {"type": "ephemeral"}
            for one in (*parts, *body.get("system", ()))
            if "cache_control" in one
        )
    assert {part["type"] for part in parts} <= PARTS[path]


RESPONSES: dict[str, Any] = {"model": "m", "input": [], "stream": True, "store": False}
MESSAGES: dict[str, Any] = {"model": "m", "messages": [], "max_tokens": 1, "stream": True}


@pytest.mark.parametrize(
    ("path", "change"),
    [
        ("/v1/responses", {"store": True}),
        ("/v1/responses", {"store": None}),
        ("/v1/responses", {"previous_response_id": "resp_1"}),
        ("/v1/responses", {"background": True}),
        ("/v1/responses", {"conversation": "conv_1"}),
        ("/v1/responses", {"metadata": {"repository": "secret"}}),
        ("/v1/responses", {"prompt_cache_retention": "24h"}),
        ("/v1/responses", {"prompt_cache_options": {"ttl": "12h"}}),
        ("/v1/responses", {"input": [{"type": "reasoning", "id": "rs_1", "summary": []}]}),
        ("/v1/responses", {"input": [{"type": "item_reference", "id": "msg_1"}]}),
        ("/v1/responses", {"tools": [{"type": "file_search"}]}),
        ("/v1/messages", {"container": "c_1"}),
        ("/v1/messages", {"metadata": {"user_id": "u"}}),
        ("/v1/messages", {"tools": [{"type": "code_execution_20260120", "name": "c"}]}),
        ("/v1/messages", {"messages": [{"role": "user", "content": [{"type": "document"}]}]}),
        ("/v1/messages", {"system": [{"type": "text", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]}),
        ("/v1/files", {}),
        ("/v1/messages/batches", {}),
        ("/v1/conversations", {}),
    ],
)
def test_what_would_be_kept_is_seen(path: str, change: dict[str, Any]) -> None:
    def sent(body: dict[str, Any]) -> dict[str, Any]:
        return {"method": "POST", "path": path, "headers": {}, "raw": json.dumps(body)}

    whole = MESSAGES if "messages" in path else RESPONSES
    if change:
        nothing_of_it_is_kept(sent(whole))
    with pytest.raises(AssertionError):
        nothing_of_it_is_kept(sent({**whole, **change}))


@pytest.mark.parametrize(
    ("kind", "used"),
    [(AnthropicModel, {"messages.create", "close"}), (OpenAIModel, {"responses.create", "close"})],
)
def test_no_adapter_has_a_way_to_anything_but_the_one_call(kind: type[Any], used: set[str]) -> None:
    """Read from the source, so that no path is forgotten: whatever is called on the SDK's client is one of these."""
    tree = ast.parse(inspect.getsource(inspect.getmodule(kind)))  # type: ignore[arg-type]
    called = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    assert {one.removeprefix("self._client.") for one in called if "_client." in one} == used
    clients = [one for one in called if one.endswith(("AsyncAnthropic", "AsyncOpenAI"))]
    assert len(clients) == 1


def test_nothing_else_of_the_service_can_speak_to_a_provider() -> None:
    root = Path(__file__).parents[2]
    found = {
        path.relative_to(root).as_posix()
        for room in ("app", "infra", "webhooks", "embeddings")
        for path in (root / room).rglob("*.py")
        if {"anthropic", "openai"} & imported(path)
    }
    assert found == {"infra/models/anthropic.py", "infra/models/key_check.py", "infra/models/openai.py"}


def test_the_check_of_a_key_asks_for_the_list_of_models_and_nothing_else() -> None:
    tree = ast.parse((Path(__file__).parents[2] / "infra/models/key_check.py").read_bytes())
    called = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    assert {one for one in called if one.startswith("asked.")} == {"asked.models.list"}


def imported(path: Path) -> set[str]:
    """The packages that a module imports anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize(
    ("name", "retention"),
    [
        ("gpt-4.1-mini", "in_memory"),
        ("gpt-5", "in_memory"),
        ("gpt-5.1-codex", "in_memory"),
        ("gpt-5.4", "in_memory"),
        ("gpt-5.5", None),
        ("gpt-5.6-sol", None),
        ("gpt-6.1-sol", None),
        ("qwen3:32b", None),
    ],
)
async def test_a_cached_prompt_stays_in_memory_where_openai_leaves_a_choice(
    name: str, retention: str | None
) -> None:
    bodies: list[Any] = []

    def handler(request: httpx2.Request) -> httpx2.Response:
        bodies.append(json.loads(request.content))
        return httpx2.Response(400, json={"error": {"message": "enough"}})

    async with httpx2.AsyncClient(transport=httpx2.MockTransport(handler)) as client:
        for base_url in (None, "http://elsewhere.invalid/v1"):
            with pytest.raises(InvalidError):
                await OpenAIModel(name, "k", base_url, client, patience=QUICK).answer(
                    ModelRequest("", (UserTurn("Go"),), (), 100)
                )
    assert [body.get("prompt_cache_retention") for body in bodies] == [retention, None]


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
