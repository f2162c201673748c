"""The simulated providers: as strict as the real ones, and in the real ones' words."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from anthropic.types import ErrorResponse, Message, RawMessageStreamEvent
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from app.nouns import ModelRequest, UserTurn
from infra.models.playbook import Playbook, parse, play
from infra.simulator.model import anthropic_wire, openai_wire
from infra.simulator.model.serve import environment, running
from infra.simulator.model.server import PLAYBOOK_KEY, create

PLAYBOOK = parse("""
scenarios:
  - name: refusals
    when: {contains: refuse}
    turns: [{say: "No.", stop: refusal}]
  - name: cut
    when: {contains: cut}
    turns: [{say: "And then", stop: length}]
  - name: filtered
    when: {contains: filter}
    turns: [{say: "I can begin", calls: [{tool: read, raw: '{"pa'}], stop: refusal, filtered: true}]
  - name: braided
    when: {contains: braid}
    turns: [{say: Both., calls: [{tool: read, arguments: {path: "a long path of several pieces"}}, {tool: read, arguments: {path: "another long path of pieces"}}], interleaved: true}]
  - name: all
    turns:
      - thinks: "Where is it?"
        say: "I will look in two places, and this sentence is longer than one piece."
        calls: [{tool: read, arguments: {path: a}}, {tool: read, arguments: {path: b}}]
      - say: Done.
""")

ANTHROPIC = {"x-api-key": PLAYBOOK_KEY, "anthropic-version": "2026-10-21"}
OPENAI = {"authorization": f"Bearer {PLAYBOOK_KEY}"}
TOOL = {"name": "read", "description": "", "input_schema": {"type": "object", "properties": {}}}
FUNCTION: dict[str, Any] = {
    "type": "function",
    "name": "read",
    "parameters": {"type": "object", "properties": {}, "required": [], "additionalProperties": False},
    "strict": True,
}
CALL = {"type": "tool_use", "id": "toolu_1", "name": "read", "input": {}}
RESULT = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "text"}
FUNCTION_CALL = {"type": "function_call", "call_id": "call_1", "name": "read", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "call_1", "output": "text"}
MARK = {"cache_control": {"type": "ephemeral"}}


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(create(PLAYBOOK))
    async with httpx.AsyncClient(transport=transport, base_url="http://simulated") as client:
        yield client


def message(*messages: Any, **more: Any) -> dict[str, Any]:
    return {
        "model": "playbook-1",
        "max_tokens": 100,
        "messages": [{"role": r, "content": c} for r, c in messages],
        **more,
    }


def response(*items: Any, **more: Any) -> dict[str, Any]:
    return {"model": "playbook-1", "input": list(items), **more}


def says(text: str, role: str = "user") -> dict[str, Any]:
    return {"role": role, "content": text}


def events(text: str) -> list[tuple[str, dict[str, Any]]]:
    read = []
    for block in text.strip().split("\n\n"):
        name, data = block.split("\n", 1)
        read.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return read


@pytest.mark.parametrize("first", ["look", "refuse", "cut", "filter", "braid"])
async def test_anthropics_stream_holds_only_events_that_its_sdk_knows(
    client: httpx.AsyncClient, first: str
) -> None:
    sent = await client.post("/v1/messages", headers=ANTHROPIC, json=message(("user", first), stream=True))
    assert sent.headers["content-type"].startswith("text/event-stream")
    adapter: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
    read = events(sent.text)
    for name, data in read:
        assert data["type"] == name
        if name != "ping":
            adapter.validate_python(data)
    names = [name for name, _ in read]
    assert names[0] == "message_start"
    assert names[-2:] == ["message_delta", "message_stop"]
    assert names.count("content_block_start") == names.count("content_block_stop")
    whole = await client.post("/v1/messages", headers=ANTHROPIC, json=message(("user", first)))
    Message.model_validate(whole.json())
    assert read[-2][1]["delta"]["stop_reason"] == whole.json()["stop_reason"]


@pytest.mark.parametrize("first", ["look", "refuse", "cut", "filter", "braid"])
async def test_openais_stream_holds_only_events_that_its_sdk_knows(
    client: httpx.AsyncClient, first: str
) -> None:
    body = response(says(first), store=False, tools=[FUNCTION])
    sent = await client.post("/v1/responses", headers=OPENAI, json={**body, "stream": True})
    adapter: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
    read = events(sent.text)
    for name, data in read:
        assert data["type"] == name
        adapter.validate_python(data)
    assert [data["sequence_number"] for _, data in read] == list(range(len(read)))
    assert read[0][0] == "response.created"
    assert read[-1][0] == ("response.incomplete" if first in ("cut", "filter") else "response.completed")
    whole = (await client.post("/v1/responses", headers=OPENAI, json=body)).json()
    Response.model_validate(whole)
    assert whole["output"] == read[-1][1]["response"]["output"]
    done = [data for name, data in read if name == "response.output_item.done"]
    assert whole["output"] == [data["item"] for data in sorted(done, key=lambda one: one["output_index"])]


@pytest.mark.parametrize(("path", "headers"), [("/v1/messages", ANTHROPIC), ("/v1/responses", OPENAI)])
async def test_interleaved_calls_come_in_turns(
    client: httpx.AsyncClient, path: str, headers: dict[str, str]
) -> None:
    asked = message(("user", "braid")) if path == "/v1/messages" else response(says("braid"))
    sent = await client.post(path, headers=headers, json={**asked, "stream": True})
    told = [
        data.get("index", data.get("output_index"))
        for name, data in events(sent.text)
        if name in ("content_block_delta", "response.function_call_arguments.delta")
    ]
    calls = [index for index in told if index]
    assert set(calls) == {1, 2}
    assert calls[:4] == [1, 2, 1, 2]


@pytest.mark.parametrize("kind", ["overloaded", "rate_limited", "failing"])
async def test_an_error_inside_a_stream_is_one_that_the_sdks_know(kind: Any) -> None:
    told = anthropic_wire.told(kind)
    assert told.name == "error"
    TypeAdapter(ErrorResponse).validate_python(told.data)
    played = play(PLAYBOOK, ModelRequest("", (UserTurn("look"),), (), 100))
    TypeAdapter(ResponseStreamEvent).validate_python(
        openai_wire.told(kind, response(says("look")), played).data
    )


async def test_a_server_that_only_resembles_openai_leaves_things_out(client: httpx.AsyncClient) -> None:
    body = response(
        says("look"), store=False, stream=True, include=["reasoning.encrypted_content"], prompt_cache_key="k"
    )
    sent = await client.post("/compatible/v1/responses", headers=OPENAI, json=body)
    assert sent.status_code == 200
    assert "sequence_number" not in sent.text
    assert "encrypted_content" not in sent.text
    assert "cached_tokens" not in sent.text
    refused = await client.post(
        "/compatible/v1/responses", headers=OPENAI, json=response({"type": "mystery"})
    )
    assert "error" not in refused.json()
    assert refused.json()["code"] == refused.status_code == 400


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
@pytest.mark.parametrize(
    "path",
    ["/v1/files", "/v1/messages/batches", "/v1/conversations", "/v1/responses/resp_1", "/v1/containers"],
)
async def test_what_would_store_is_not_offered_and_is_seen(
    client: httpx.AsyncClient, method: str, path: str
) -> None:
    assert (await client.request(method, path, headers=OPENAI)).status_code == 404
    (recorded,) = (await client.get("/_simulator/requests")).json()
    assert (recorded["method"], recorded["path"], recorded["status"]) == (method, path, 404)
    assert PLAYBOOK_KEY not in json.dumps(recorded)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "model: Field required"),
        (message(), "messages: List should have at least 1 item"),
        (message(("user", "x"), temperature=0), "temperature: Extra inputs are not permitted"),
        (message(("user", "x"), store=False), "store: Extra inputs are not permitted"),
        (message(("user", "x"), max_tokens=0), "max_tokens"),
        (message(("system", "x")), "messages.0.role"),
        (message(("user", "")), "non-empty"),
        (message(("user", [{"type": "text", "text": ""}])), "at least 1 character"),
        (message(("assistant", "x"), ("user", "x")), "first message must use"),
        (message(("user", "x"), ("assistant", "I will")), "prefill"),
        (message(("user", [RESULT])), "unexpected `tool_use_id`"),
        (message(("user", "x"), ("assistant", [CALL]), ("user", "hm")), "without `tool_result` blocks"),
        (message(("user", "x"), ("assistant", [CALL]), ("user", [RESULT, RESULT])), "single result"),
        (message(("user", "x"), ("assistant", [CALL]), ("user", [RESULT]), ("user", [RESULT])), "unexpected"),
        (message(("user", "x"), ("assistant", [{**CALL, "input": "{}"}]), ("user", [RESULT])), "input"),
        (message(("user", "x"), ("assistant", [{**CALL, "id": "a b"}]), ("user", [RESULT])), "pattern"),
        (message(("user", [CALL])), "can only be in `assistant`"),
        (message(("user", "x"), ("assistant", [{"type": "thinking", "thinking": "t", "signature": "forged"}]), ("user", "x")), "Invalid `signature`"),
        (message(("user", "x"), tools=[{"name": "a b", "input_schema": {"type": "object"}}]), "tools.0.name"),
        (message(("user", "x"), tools=[{"name": "a", "input_schema": {}}]), "Input should be 'object'"),
        (message(("user", "x"), tools=[TOOL, TOOL]), "unique"),
        (message(("user", [{"type": "text", "text": "x", **MARK}] * 5)), "maximum of 4 blocks"),
        (message(("user", [{"type": "text", "text": "x", "cache_control": {"type": "forever"}}])), "cache_control"),
    ],
)  # fmt: skip
async def test_anthropics_rules_are_kept(client: httpx.AsyncClient, body: dict[str, Any], said: str) -> None:
    refused = await client.post("/v1/messages", headers=ANTHROPIC, json=body)
    assert refused.status_code == 400
    assert refused.json()["type"] == "error"
    assert refused.json()["error"]["type"] == "invalid_request_error"
    assert said in refused.json()["error"]["message"]


REASONING = {"type": "reasoning", "id": "rs_1", "summary": []}


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (400, {"model": "playbook-1"}, "Missing required parameter: 'input'"),
        (400, response(says("x"), temprature=1), "Unknown parameter: 'temprature'"),
        (400, response(says("x"), previous_response_id="resp_1"), "Unknown parameter: 'previous_response_id'"),
        (400, response(says("x"), background=True), "Unknown parameter: 'background'"),
        (400, response({"role": "bystander", "content": "x"}), "input[0].role"),
        (400, response({"type": "mystery"}), "input[0]"),
        (400, response({"role": "user", "content": [{"type": "text", "text": "x"}]}), "input[0]"),
        (400, response(says("x"), OUTPUT), "No tool call found for function call output with call_id call_1."),
        (400, response(says("x"), FUNCTION_CALL), "No tool output found for function call call_1."),
        (400, response(says("x"), {**FUNCTION_CALL, "arguments": {}}, OUTPUT), "arguments"),
        (404, response(says("x"), REASONING, says("y", "assistant"), store=False), "Items are not persisted"),
        (400, response(says("x"), {**REASONING, "encrypted_content": "forged"}, says("y", "assistant")), "verified"),
        (400, response(says("x"), {**REASONING, "encrypted_content": "c2VhbGVkOg=="}, says("y")), "following item"),
        (400, response(says("x"), max_output_tokens=1), "max_output_tokens"),
        (400, response(says("x"), tools=[{**FUNCTION, "parameters": {"type": "object", "properties": {}}}]), "Invalid schema"),
        (400, response(says("x"), tools=[{"type": "function", "function": FUNCTION}]), "tools[0]"),
    ],
)  # fmt: skip
async def test_openais_rules_are_kept(
    client: httpx.AsyncClient, status: int, body: dict[str, Any], said: str
) -> None:
    refused = await client.post("/v1/responses", headers=OPENAI, json=body)
    assert refused.status_code == status
    assert set(refused.json()["error"]) == {"message", "type", "param", "code"}
    assert said in refused.json()["error"]["message"]


async def test_openai_takes_a_plain_string_and_reads_developer_messages_as_system(
    client: httpx.AsyncClient,
) -> None:
    plain = {"model": "playbook-1", "input": "look"}
    assert (await client.post("/v1/responses", headers=OPENAI, json=plain)).status_code == 200
    guided = response(says("Be brief.", "developer"), says("look"))
    assert (await client.post("/v1/responses", headers=OPENAI, json=guided)).status_code == 200


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/responses"])
@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"\xff"])
async def test_a_body_that_is_no_json_object_is_refused(
    client: httpx.AsyncClient, path: str, raw: bytes
) -> None:
    assert (await client.post(path, headers={**ANTHROPIC, **OPENAI}, content=raw)).status_code == 400


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/v1/messages", {}, 401),
        ("/v1/messages", {**ANTHROPIC, "x-api-key": "wrong"}, 401),
        ("/v1/messages", {"x-api-key": PLAYBOOK_KEY}, 400),
        ("/v1/messages", {**OPENAI, "anthropic-version": "2026-10-21"}, 200),
        ("/v1/messages", ANTHROPIC, 200),
        ("/v1/responses", {}, 401),
        ("/v1/responses", ANTHROPIC, 401),
        ("/v1/responses", {"authorization": "Bearer wrong"}, 401),
        ("/v1/responses", OPENAI, 200),
    ],
)
async def test_keys_are_taken_only_where_the_provider_takes_them(
    client: httpx.AsyncClient, path: str, headers: dict[str, str], status: int
) -> None:
    body = message(("user", "look")) if path == "/v1/messages" else response(says("look"))
    assert (await client.post(path, headers=headers, json=body)).status_code == status


async def test_requests_are_recorded_without_the_key_and_can_be_forgotten(client: httpx.AsyncClient) -> None:
    await client.post("/v1/responses", headers=OPENAI, json=response(says("look"), store=False))
    await client.post("/v1/messages", headers=ANTHROPIC, json=message(("user", "look")))
    await client.post("/v1/messages", headers=ANTHROPIC, content=b"{")
    recorded = (await client.get("/_simulator/requests")).json()
    assert [(one["provider"], one["status"]) for one in recorded] == [
        ("openai", 200),
        ("anthropic", 200),
        ("anthropic", 400),
    ]
    assert recorded[0]["body"]["store"] is False
    assert json.loads(recorded[0]["raw"]) == recorded[0]["body"]
    assert [one["path"] for one in recorded] == ["/v1/responses", "/v1/messages", "/v1/messages"]
    assert recorded[1]["usage"]["input_tokens"] > 0
    assert PLAYBOOK_KEY not in json.dumps(recorded)
    await client.delete("/_simulator/requests")
    assert (await client.get("/_simulator/requests")).json() == []


async def test_only_what_was_marked_for_caching_is_found_again_by_anthropic(
    client: httpx.AsyncClient,
) -> None:
    async def figures(marked: bool, text: str) -> tuple[int, int]:
        block = {"type": "text", "text": "word " * 2000 + text, **(MARK if marked else {})}
        sent = await client.post("/v1/messages", headers=ANTHROPIC, json=message(("user", [block])))
        usage = sent.json()["usage"]
        return usage["cache_creation_input_tokens"], usage["cache_read_input_tokens"]

    assert await figures(False, "a") == (0, 0)
    assert await figures(False, "a") == (0, 0)
    written, read = await figures(True, "a")
    assert written > 2000
    assert read == 0
    assert await figures(True, "a") == (0, written)
    assert (await figures(True, "b"))[1] == 0


async def test_openai_finds_long_beginnings_again_under_the_same_key_only(client: httpx.AsyncClient) -> None:
    async def cached(key: str, text: str) -> int:
        sent = await client.post(
            "/v1/responses", headers=OPENAI, json=response(says(text), prompt_cache_key=key)
        )
        return int(sent.json()["usage"]["input_tokens_details"]["cached_tokens"])

    long = "word " * 2000
    assert await cached("k", long) == 0
    found = await cached("k", long + "and more")
    assert found >= 1024
    assert found % 128 == 0
    assert await cached("other", long) == 0
    assert await cached("k", "short") == 0


async def test_it_runs_on_a_real_socket_and_gives_the_environment_to_reach_it() -> None:
    playbook = Playbook.model_validate({"scenarios": [{"name": "s", "turns": [{"say": "Hello."}]}]})
    async with running(playbook) as base_url:
        environ = environment(base_url)
        assert environ["OPENAI_BASE_URL"] == f"{base_url}/v1"
        async with httpx.AsyncClient(trust_env=False) as client:
            sent = await client.post(
                f"{base_url}/v1/messages", headers=ANTHROPIC, json=message(("user", "hi"))
            )
            assert sent.json()["content"][0]["text"] == "Hello."
    async with httpx.AsyncClient(trust_env=False) as client:
        with pytest.raises(httpx.ConnectError):
            await client.get(base_url)
