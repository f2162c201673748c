"""Answers that providers give seldom, fed to the adapters byte by byte."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest

from app.errors import InvalidError, RefusedError, TransientError
from app.nouns import AssistantTurn, ModelAnswer, ModelRequest, Stop, ToolResult, ToolTurn, UserTurn
from infra.models.anthropic import AnthropicModel
from infra.models.openai import OpenAIModel, strict_allowed
from infra.models.retry import Patience

GO = ModelRequest("s", (UserTurn("Go"),), (), 100)
ONCE = Patience(tries=1)
Handler = Callable[[httpx2.Request], httpx2.Response]


def sse(*events: dict[str, Any]) -> bytes:
    return b"".join(f"event: {one['type']}\ndata: {json.dumps(one)}\n\n".encode() for one in events)


def stream(content: bytes) -> httpx2.Response:
    return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=content)


async def ask(
    kind: type[AnthropicModel | OpenAIModel], handler: Handler, request: ModelRequest = GO
) -> ModelAnswer:
    async with httpx2.AsyncClient(transport=httpx2.MockTransport(handler)) as client:
        model = kind(
            "m",
            "the-key",
            "http://provider/v1",
            client,
            patience=ONCE,
            clock=lambda: datetime(2026, 11, 20, 12, tzinfo=UTC),
        )
        return await model.answer(request)


# --- Anthropic -------------------------------------------------------------------------------------------------------

USAGE = {
    "input_tokens": 10,
    "cache_creation_input_tokens": 3,
    "cache_read_input_tokens": 4,
    "output_tokens": 1,
}
START = {
    "type": "message_start",
    "message": {
        "id": "m",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [],
        "usage": USAGE,
    },
}
STOP = {"type": "message_stop"}


def ended(reason: str | None, **usage: int) -> dict[str, Any]:
    return {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {"output_tokens": 7, **usage}}


def block(index: int, content: dict[str, Any], *deltas: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"type": "content_block_start", "index": index, "content_block": content},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


TEXT = block(0, {"type": "text", "text": ""}, {"type": "text_delta", "text": "Hello"})


@pytest.mark.parametrize(
    ("reason", "stop"),
    [
        ("end_turn", Stop.END),
        ("stop_sequence", Stop.END),
        ("max_tokens", Stop.LENGTH),
        ("model_context_window_exceeded", Stop.LENGTH),
        ("pause_turn", Stop.LENGTH),
        ("refusal", Stop.REFUSAL),
        ("a reason of tomorrow", Stop.END),
        (None, Stop.END),
    ],
)
async def test_every_stop_reason_of_anthropic_has_its_meaning(reason: str | None, stop: Stop) -> None:
    answer = await ask(AnthropicModel, lambda _: stream(sse(START, *TEXT, ended(reason), STOP)))
    assert (answer.stop, answer.turn.text) == (stop, "Hello")


async def test_figures_that_the_end_leaves_out_are_those_of_the_beginning() -> None:
    answer = await ask(AnthropicModel, lambda _: stream(sse(START, *TEXT, ended("end_turn"), STOP)))
    usage = answer.usage
    assert (usage.input_tokens, usage.cached_tokens, usage.cache_write_tokens, usage.output_tokens) == (
        17,
        4,
        3,
        7,
    )
    later = await ask(
        AnthropicModel, lambda _: stream(sse(START, *TEXT, ended("end_turn", input_tokens=20), STOP))
    )
    assert later.usage.input_tokens == 27


async def test_redacted_thinking_and_unknown_blocks_go_back_unchanged_and_in_order() -> None:
    blocks = [
        {"type": "redacted_thinking", "data": "c2VjcmV0"},
        {"type": "block_of_tomorrow", "payload": {"a": [1]}},
        {"type": "tool_use", "id": "toolu_1", "name": "read", "input": {}, "caller": {"type": "direct"}},
    ]
    sent: list[Any] = []

    def handler(request: httpx2.Request) -> httpx2.Response:
        sent.append(json.loads(request.content))
        parts = [event for index, content in enumerate(blocks) for event in block(index, content)]
        return stream(sse(START, *parts, ended("tool_use"), STOP))

    answer = await ask(AnthropicModel, handler)
    assert answer.stop is Stop.TOOLS
    results = ToolTurn((ToolResult("toolu_1", ""),))
    await ask(AnthropicModel, handler, ModelRequest("", (UserTurn("Go"), answer.turn, results), (), 10))
    assert sent[1]["messages"][1]["content"] == blocks


async def test_a_stream_without_its_end_is_not_an_answer() -> None:
    for cut in (sse(START, *TEXT), sse(START, *TEXT, ended("end_turn")), b""):
        with pytest.raises(TransientError) as caught:
            await ask(AnthropicModel, lambda _, cut=cut: stream(cut))
        assert caught.value.reason == "model_stream_broken"


@pytest.mark.parametrize(
    ("kind", "error", "reason"),
    [
        ("overloaded_error", TransientError, "model_overloaded"),
        ("api_error", TransientError, "model_unavailable"),
        ("timeout_error", TransientError, "model_unavailable"),
        ("authentication_error", RefusedError, "model_key_refused"),
        ("invalid_request_error", InvalidError, "model_request_refused"),
        ("error_of_tomorrow", TransientError, "model_unavailable"),
    ],
)
async def test_an_error_inside_anthropics_stream_is_what_its_type_says(
    kind: str, error: type[Exception], reason: str
) -> None:
    told = {"type": "error", "error": {"type": kind, "message": "said"}}
    with pytest.raises(error) as caught:
        await ask(AnthropicModel, lambda _: stream(sse(START, *TEXT, told)))
    assert getattr(caught.value, "reason", "") == reason


async def test_the_wait_is_taken_from_anthropics_reset_time() -> None:
    headers = {
        "anthropic-ratelimit-input-tokens-remaining": "0",
        "anthropic-ratelimit-input-tokens-reset": "2026-11-20T12:00:21Z",
    }
    with pytest.raises(TransientError) as caught:
        await ask(AnthropicModel, lambda _: httpx2.Response(429, headers=headers, json={}))
    assert caught.value.retry_after == timedelta(seconds=21)


@pytest.mark.parametrize("kind", [AnthropicModel, OpenAIModel])
@pytest.mark.parametrize(
    "garbage", [b"event: message_start\ndata: {broken\n\n", b"event: x\ndata: <html>\n\n"]
)
async def test_garbage_in_the_stream_is_transient(
    kind: type[AnthropicModel | OpenAIModel], garbage: bytes
) -> None:
    with pytest.raises(TransientError) as caught:
        await ask(kind, lambda _: stream(garbage))
    assert caught.value.reason == "model_stream_broken"


@pytest.mark.parametrize("kind", [AnthropicModel, OpenAIModel])
@pytest.mark.parametrize(
    "body", [b"", b"<html>Bad gateway</html>", b'"text"', b"[]", b'{"error": null}', b'{"error": "x"}']
)
async def test_an_error_page_of_something_in_between_is_read_by_its_status(
    kind: type[AnthropicModel | OpenAIModel], body: bytes
) -> None:
    with pytest.raises(TransientError):
        await ask(kind, lambda _: httpx2.Response(502, content=body))
    with pytest.raises(InvalidError):
        await ask(kind, lambda _: httpx2.Response(400, content=body))


@pytest.mark.parametrize("kind", [AnthropicModel, OpenAIModel])
async def test_the_key_is_sent_where_it_belongs_and_nowhere_else(
    kind: type[AnthropicModel | OpenAIModel],
) -> None:
    requests: list[httpx2.Request] = []

    def handler(request: httpx2.Request) -> httpx2.Response:
        requests.append(request)
        return httpx2.Response(
            400, json={"error": {"message": "the-key is odd", "type": "invalid_request_error"}}
        )

    with pytest.raises(InvalidError) as caught:
        await ask(kind, handler)
    (request,) = requests
    assert [name for name, value in request.headers.items() if "the-key" in value] == ["authorization"]
    assert b"the-key" not in request.content
    assert "the-key" not in str(request.url)
    assert "the-key" not in caught.value.message


@pytest.mark.parametrize("kind", [AnthropicModel, OpenAIModel])
async def test_cancelling_is_not_taken_for_a_failed_connection(
    kind: type[AnthropicModel | OpenAIModel],
) -> None:
    async def handler(_: httpx2.Request) -> httpx2.Response:
        await asyncio.sleep(30)
        return httpx2.Response(200)

    asking = asyncio.create_task(ask(kind, handler))  # type: ignore[arg-type]
    await asyncio.sleep(0.05)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking


# --- OpenAI ----------------------------------------------------------------------------------------------------------


def finished(status: str = "completed", **more: Any) -> dict[str, Any]:
    response = {
        "id": "r", "object": "response", "created_at": 0, "model": "m", "status": status, "output": [],
        "parallel_tool_calls": True, "tool_choice": "auto", "tools": [], "usage": None, **more,
    }  # fmt: skip
    return {"type": f"response.{status}", "sequence_number": 1, "response": response}


def item(content: dict[str, Any], index: int = 0) -> dict[str, Any]:
    return {"type": "response.output_item.done", "sequence_number": 0, "output_index": index, "item": content}


SAID = {
    "type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "phase": "final_answer",
    "content": [{"type": "output_text", "text": "Hello", "annotations": []}],
}  # fmt: skip


async def test_a_content_filter_is_a_refusal_and_a_token_limit_is_a_cut() -> None:
    for why, stop in (("content_filter", Stop.REFUSAL), ("max_output_tokens", Stop.LENGTH)):
        end = finished("incomplete", incomplete_details={"reason": why})
        answer = await ask(OpenAIModel, lambda _, end=end: stream(sse(item(SAID), end)))
        assert answer.stop is stop


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("server_error", TransientError),
        ("rate_limit_exceeded", TransientError),
        ("invalid_prompt", InvalidError),
        ("code_of_tomorrow", TransientError),
    ],
)
async def test_a_failed_response_is_what_its_code_says(code: str, error: type[Exception]) -> None:
    end = finished("failed", error={"code": code, "message": "said"})
    with pytest.raises(error):
        await ask(OpenAIModel, lambda _: stream(sse(end)))


async def test_a_response_stopped_by_policy_is_a_refusal() -> None:
    end = finished("failed", error={"code": "misalignment_policy_violation", "message": "said"})
    assert (await ask(OpenAIModel, lambda _: stream(sse(end)))).stop is Stop.REFUSAL


@pytest.mark.parametrize(
    "told",
    [
        {"type": "error", "sequence_number": 1, "code": "server_error", "message": "said", "param": None},
        {"type": "error", "error": {"type": "server_error", "code": "server_error", "message": "said"}},
    ],
)
async def test_an_error_inside_openais_stream_is_transient_in_either_shape(told: dict[str, Any]) -> None:
    with pytest.raises(TransientError) as caught:
        await ask(OpenAIModel, lambda _: stream(sse(item(SAID), told)))
    assert caught.value.reason == "model_unavailable"


async def test_a_used_up_quota_is_not_waited_for() -> None:
    body = {
        "error": {
            "message": "You exceeded your quota",
            "type": "insufficient_quota",
            "code": "insufficient_quota",
        }
    }
    with pytest.raises(RefusedError) as caught:
        await ask(OpenAIModel, lambda _: httpx2.Response(429, json=body))
    assert caught.value.reason == "model_quota_exhausted"


async def test_a_server_that_only_resembles_openai_may_leave_things_out() -> None:
    usage = {"input_tokens": 5, "output_tokens": 2, "total_tokens": 7}
    answer = await ask(OpenAIModel, lambda _: stream(sse(finished(output=[SAID], usage=usage))))
    assert answer.turn.text == "Hello"
    assert (answer.usage.input_tokens, answer.usage.cached_tokens, answer.usage.output_tokens) == (5, 0, 2)


async def test_a_message_goes_back_with_its_phase_and_reasoning_only_with_its_content() -> None:
    items = [{"type": "reasoning", "id": "rs_1", "summary": []}, SAID]
    sent: list[Any] = []

    def handler(request: httpx2.Request) -> httpx2.Response:
        sent.append(json.loads(request.content))
        return stream(sse(*(item(one, index) for index, one in enumerate(items)), finished()))

    answer = await ask(OpenAIModel, handler)
    await ask(OpenAIModel, handler, ModelRequest("", (UserTurn("Go"), answer.turn, UserTurn("On")), (), 10))
    assert sent[1]["input"][1:-1] == [SAID]


async def test_models_that_do_not_reason_are_not_asked_for_reasoning() -> None:
    bodies: list[Any] = []

    def handler(request: httpx2.Request) -> httpx2.Response:
        bodies.append(json.loads(request.content))
        return stream(sse(item(SAID), finished()))

    async with httpx2.AsyncClient(transport=httpx2.MockTransport(handler)) as client:
        for name in ("gpt-4.1-mini", "gpt-6.1-sol"):
            await OpenAIModel(name, "k", "http://p/v1", client, patience=ONCE).answer(GO)
    assert [body.get("include") for body in bodies] == [None, ["reasoning.encrypted_content"]]
    assert {body["store"] for body in bodies} == {False}


async def test_the_cache_key_is_one_conversations_own() -> None:
    keys: list[str] = []

    def handler(request: httpx2.Request) -> httpx2.Response:
        keys.append(json.loads(request.content)["prompt_cache_key"])
        return stream(sse(item(SAID), finished()))

    turns = (UserTurn("Fix the secret thing"), AssistantTurn("Hello", ()), UserTurn("On"))
    await ask(OpenAIModel, handler, ModelRequest("s", turns[:1], (), 10))
    await ask(OpenAIModel, handler, ModelRequest("s", turns, (), 10))
    await ask(OpenAIModel, handler, ModelRequest("s", (UserTurn("Another"),), (), 10))
    assert keys[0] == keys[1] != keys[2]
    assert all(len(key) <= 64 and "secret" not in key for key in keys)


CLOSED = {
    "type": "object",
    "properties": {"a": {"type": "string"}},
    "required": ["a"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("schema", "allowed"),
    [
        (CLOSED, True),
        ({**CLOSED, "required": []}, False),
        ({**CLOSED, "additionalProperties": True}, False),
        ({**CLOSED, "properties": {"a": {"type": "string", "default": "x"}}}, False),
        ({**CLOSED, "properties": {"a": {"type": "array", "items": CLOSED}}}, True),
        ({**CLOSED, "properties": {"a": {"type": "array", "items": {"type": "object"}}}}, False),
        ({**CLOSED, "properties": {"a": {"anyOf": [CLOSED, {"type": "null"}]}}}, True),
        ({**CLOSED, "properties": {"a": {"type": ["string", "null"]}}}, True),
        ({"type": "object", "properties": {}, "additionalProperties": False}, True),
    ],
)
def test_strict_is_asked_for_only_where_openai_would_take_the_schema(
    schema: dict[str, Any], allowed: bool
) -> None:
    assert strict_allowed(schema) is allowed
