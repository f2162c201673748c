"""The scripted model: the same plays as over the wire, without one."""

from __future__ import annotations

import time
from datetime import timedelta
from decimal import Decimal

import pytest

from app.errors import InvalidError, TransientError
from app.nouns import ModelRequest, Stop, ToolResult, ToolTurn, UserTurn
from app.ports import Model
from infra.models.playbook import parse
from infra.models.retry import Patience
from infra.models.scripted import ScriptedModel


def scripted(turns: str, patience: Patience | None = None) -> ScriptedModel:
    playbook = parse(f"scenarios: [{{name: s, turns: {turns}}}]")
    return ScriptedModel(playbook) if patience is None else ScriptedModel(playbook, patience=patience)


def request(*turns: object) -> ModelRequest:
    return ModelRequest("system", turns, (), 100)  # type: ignore[arg-type]


async def test_it_plays_a_conversation_through() -> None:
    model: Model = scripted("[{calls: [{tool: read, arguments: {path: a}}]}, {say: Done.}]")
    first = await model.answer(request(UserTurn("Go")))
    assert first.stop is Stop.TOOLS
    assert first.turn.calls[0].arguments == {"path": "a"}
    results = ToolTurn((ToolResult(first.turn.calls[0].id, "text"),))
    second = await model.answer(request(UserTurn("Go"), first.turn, results))
    assert (second.turn.text, second.stop) == ("Done.", Stop.END)


async def test_it_names_itself_as_scripted_and_shows_the_example_price() -> None:
    model = scripted("[{say: Hello., usage: {input_tokens: 1000000, output_tokens: 1000000}}]")
    answer = await model.answer(request(UserTurn("Go")))
    assert (model.provider, model.name, answer.model) == ("scripted", "playbook-1", "playbook-1")
    assert answer.turn.maker == "scripted:playbook-1"
    assert answer.cost_usd == Decimal(18)


async def test_broken_arguments_are_kept_as_text() -> None:
    (call,) = (
        await scripted("[{calls: [{tool: read, raw: '{\"a\": '}]}]").answer(request(UserTurn("Go")))
    ).turn.calls
    assert (call.arguments, call.raw) == (None, '{"a": ')


async def test_an_overload_that_passes_is_passed_over_without_waiting() -> None:
    began = time.monotonic()
    answer = await scripted("[{say: Now., overload: {times: 3, retry_after_seconds: 60}}]").answer(
        request(UserTurn("Go"))
    )
    assert answer.turn.text == "Now."
    assert time.monotonic() - began < 30


@pytest.mark.parametrize(
    ("misbehaviour", "reason"),
    [
        ("overload: {times: 99}", "model_overloaded"),
        ("disconnect: {times: 99}", "model_unreachable"),
        ("slow: {times: 99, seconds: 999}", "model_timeout"),
        ("broken: {times: 99, kind: overloaded}", "model_overloaded"),
        ("broken: {times: 99, kind: failing}", "model_unavailable"),
    ],
)
async def test_what_lasts_longer_than_the_tries_is_transient(misbehaviour: str, reason: str) -> None:
    with pytest.raises(TransientError) as caught:
        await scripted(f"[{{say: Never., {misbehaviour}}}]").answer(request(UserTurn("Go")))
    assert caught.value.reason == reason


async def test_the_servers_delay_is_kept_in_the_error() -> None:
    model = scripted("[{say: Never., overload: {times: 9, retry_after_seconds: 5}}]", Patience(tries=2))
    with pytest.raises(TransientError) as caught:
        await model.answer(request(UserTurn("Go")))
    assert caught.value.retry_after == timedelta(seconds=5)


async def test_a_request_without_a_turn_is_invalid() -> None:
    with pytest.raises(InvalidError) as caught:
        await scripted("[{when: {contains: x}, say: y}]").answer(request(UserTurn("Go")))
    assert caught.value.reason == "playbook_has_no_turn"


async def test_a_long_conversation_counts_what_it_repeats_as_cached() -> None:
    model = scripted("[{say: x, repeat: forever}]")
    turns: list[object] = [UserTurn("word " * 2000)]
    first = await model.answer(request(*turns))
    turns += [first.turn, UserTurn("more")]
    second = await model.answer(request(*turns))
    assert first.usage.cached_tokens == 0
    assert second.usage.cached_tokens > 0.95 * second.usage.input_tokens
    assert second.usage.cached_tokens + second.usage.cache_write_tokens <= second.usage.input_tokens
