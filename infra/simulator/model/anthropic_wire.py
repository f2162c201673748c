"""Anthropic's Messages wire: what it refuses, how its answers and its stream look.

Holds a request to API version 2026-10-21 (no sampling parameters, no prefill). Knows no server tools, images or documents.
https://platform.claude.com/docs/en/api/messages · https://platform.claude.com/docs/en/build-with-claude/streaming
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.nouns import (
    AssistantTurn,
    ModelRequest,
    Stop,
    ToolCall,
    ToolResult,
    ToolSpec,
    ToolTurn,
    Turn,
    Usage,
    UserTurn,
)
from infra.models.playbook import BrokenKind, Play
from infra.models.wire import parse_object
from infra.simulator.model.wire import (
    Event,
    Segment,
    Understood,
    WireError,
    braided,
    canonical,
    most_telling,
    pieces,
    with_novelties,
)

_SIGNING = b"simulated thinking"
_STOPS = {Stop.END: "end_turn", Stop.TOOLS: "tool_use", Stop.LENGTH: "max_tokens", Stop.REFUSAL: "refusal"}
_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}
_NAME = r"^[a-zA-Z0-9_-]{1,128}$"
_ID = r"^[a-zA-Z0-9_-]+$"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class _CacheControl(_Part):
    type: Literal["ephemeral"]
    ttl: Literal["5m", "1h"] | None = None


class _Marked(_Part):
    cache_control: _CacheControl | None = None


class _Text(_Marked):
    type: Literal["text"]
    text: str = Field(min_length=1)


class _ToolUse(_Marked):
    type: Literal["tool_use"]
    id: str = Field(pattern=_ID)
    name: str = Field(pattern=_NAME)
    input: dict[str, Any]
    caller: dict[str, Any] | None = None


class _ToolResult(_Marked):
    type: Literal["tool_result"]
    tool_use_id: str = Field(pattern=_ID)
    content: str | list[_Text] = ""
    is_error: bool = False


class _Thinking(_Part):
    type: Literal["thinking"]
    thinking: str
    signature: str


class _RedactedThinking(_Part):
    type: Literal["redacted_thinking"]
    data: str


_Block = Annotated[
    _Text | _ToolUse | _ToolResult | _Thinking | _RedactedThinking, Field(discriminator="type")
]


class _Message(_Part):
    role: Literal["user", "assistant"]
    content: str | list[_Block]


class _Tool(_Marked):
    name: str = Field(pattern=_NAME)
    description: str = ""
    input_schema: dict[str, Any]
    type: Literal["custom"] | None = None
    strict: bool = False
    eager_input_streaming: bool | None = None


class _Body(_Part):
    model: str
    max_tokens: int = Field(ge=1)
    messages: list[_Message] = Field(min_length=1)
    system: str | list[_Text] = ""
    tools: list[_Tool] = []
    stream: bool = False
    tool_choice: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None
    stop_sequences: list[str] = []
    thinking: dict[str, Any] | None = None
    output_config: dict[str, Any] | None = None
    service_tier: Literal["auto", "standard_only"] | None = None


def refusal(status: int, message: str) -> WireError:
    """An error in Anthropic's shape. https://platform.claude.com/docs/en/api/errors"""
    kind = _TYPES.get(status, "api_error")
    return WireError(
        status, {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_simulated"}
    )


def understand(body: Mapping[str, Any]) -> Understood:
    """Read a request as strictly as Anthropic does. Raises WireError 400."""
    try:
        read = _Body.model_validate(body)
    except ValidationError as error:
        _, said, place = most_telling(error)
        raise refusal(400, f"{'.'.join(map(str, place))}: {said}") from None
    _check_tools(read)
    _check_cache_marks(read)
    _check_order(read.messages)
    system = read.system if isinstance(read.system, str) else "\n\n".join(block.text for block in read.system)
    turns = tuple(turn for message in read.messages for turn in _turns(message))
    specs = tuple(ToolSpec(tool.name, tool.description, tool.input_schema) for tool in read.tools)
    return Understood(
        read.model, read.stream, ModelRequest(system, turns, specs, read.max_tokens), tuple(_segments(body))
    )


def _check_tools(body: _Body) -> None:
    names = [tool.name for tool in body.tools]
    if len(set(names)) != len(names):
        raise refusal(400, "tools: Tool names must be unique.")
    for index, tool in enumerate(body.tools):
        if tool.input_schema.get("type") != "object":
            raise refusal(400, f"tools.{index}.custom.input_schema.type: Input should be 'object'")


def _check_cache_marks(body: _Body) -> None:
    system = body.system if isinstance(body.system, list) else []
    marked: list[_Marked] = [*body.tools, *system]
    for message in body.messages:
        marked += [block for block in _blocks(message) if isinstance(block, _Marked)]
    found = sum(part.cache_control is not None for part in marked)
    if found > 4:
        raise refusal(400, f"A maximum of 4 blocks with cache_control may be provided. Found {found}.")


def _blocks(message: _Message) -> Sequence[_Block]:
    return message.content if isinstance(message.content, list) else ()


def _check_order(messages: Sequence[_Message]) -> None:
    """Roles, results right after their calls, thinking signed by us, and no answer begun for the model."""
    if messages[0].role != "user":
        raise refusal(400, 'messages: first message must use the "user" role')
    if messages[-1].role != "user":
        raise refusal(
            400,
            "This model does not support assistant message prefill. The conversation must end with a user message.",
        )
    open_calls: list[str] = []
    for index, message in enumerate(messages):
        if not message.content:
            raise refusal(400, f"messages.{index}: all messages must have non-empty content")
        _check_results(index, message, open_calls)
        open_calls = [block.id for block in _blocks(message) if isinstance(block, _ToolUse)]
        if message.role == "assistant":
            _check_thinking(index, message)


def _check_results(index: int, message: _Message, open_calls: Sequence[str]) -> None:
    results = [block.tool_use_id for block in _blocks(message) if isinstance(block, _ToolResult)]
    if message.role == "assistant" and results:
        raise refusal(400, f"messages.{index}: `tool_result` blocks can only be in `user` messages")
    if message.role == "user" and any(isinstance(block, _ToolUse | _Thinking) for block in _blocks(message)):
        raise refusal(
            400, f"messages.{index}: `tool_use` and `thinking` blocks can only be in `assistant` messages"
        )
    unknown = [one for one in results if one not in open_calls]
    if unknown:
        raise refusal(
            400,
            f"messages.{index}.content.0: unexpected `tool_use_id` found in `tool_result` blocks: {', '.join(unknown)}. "
            "Each `tool_result` block must have a corresponding `tool_use` block in the previous message.",
        )
    if len(set(results)) != len(results):
        raise refusal(
            400,
            f"messages.{index}: each tool_use must have a single result. Found multiple `tool_result` blocks",
        )
    missing = [one for one in open_calls if one not in results]
    if missing:
        raise refusal(
            400,
            f"messages.{index - 1}: `tool_use` ids were found without `tool_result` blocks immediately after: "
            f"{', '.join(missing)}. Each `tool_use` block must have a corresponding `tool_result` block in the next message.",
        )


def _check_thinking(index: int, message: _Message) -> None:
    for place, block in enumerate(_blocks(message)):
        if isinstance(block, _Thinking) and not hmac.compare_digest(
            block.signature, _signature(block.thinking)
        ):
            raise refusal(400, f"messages.{index}.content.{place}: Invalid `signature` in `thinking` block")


def _signature(thinking: str) -> str:
    return hmac.new(_SIGNING, thinking.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()


def _turns(message: _Message) -> Iterator[Turn]:
    if isinstance(message.content, str):
        yield UserTurn(message.content) if message.role == "user" else AssistantTurn(message.content, ())
        return
    text = "".join(block.text for block in message.content if isinstance(block, _Text))
    if message.role == "assistant":
        calls = tuple(_call(block) for block in message.content if isinstance(block, _ToolUse))
        yield AssistantTurn(text, calls)
        return
    results = tuple(_result(block) for block in message.content if isinstance(block, _ToolResult))
    if results:
        yield ToolTurn(results)
    if text:
        yield UserTurn(text)


def _call(block: _ToolUse) -> ToolCall:
    """With what was no JSON object taken out of its wrapping, so that the conversation is the same on both wires."""
    wrapped = block.input.get("INVALID_JSON")
    if isinstance(wrapped, str) and len(block.input) == 1:
        return ToolCall(block.id, block.name, None, raw=wrapped)
    return ToolCall(block.id, block.name, block.input)


def _result(block: _ToolResult) -> ToolResult:
    text = block.content if isinstance(block.content, str) else "".join(part.text for part in block.content)
    return ToolResult(block.tool_use_id, text, block.is_error)


def _segments(body: Mapping[str, Any]) -> Iterator[Segment]:
    """Tools, then system, then messages: the order in which a prefix is cached."""
    for tool in body.get("tools", ()):
        yield Segment(canonical(tool), "cache_control" in tool)
    system = body.get("system", "")
    for block in [{"type": "text", "text": system}] if isinstance(system, str) else system:
        yield Segment(canonical(block), "cache_control" in block)
    for message in body["messages"]:
        content = message["content"]
        for block in [{"type": "text", "text": content}] if isinstance(content, str) else content:
            yield Segment(message["role"] + canonical(block), "cache_control" in block)


# --- the answer ------------------------------------------------------------------------------------------------------


def _usage_opening(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens,
        "cache_creation_input_tokens": usage.cache_write_tokens,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": 1,
        "service_tier": "standard",
    }


def _content(play: Play) -> Iterator[tuple[dict[str, Any], str]]:
    """Each block, and for a tool call its arguments as text."""
    if play.thinks is not None:
        cut = play.stop is Stop.LENGTH and not play.say and not play.calls
        signature = "" if cut else _signature(play.thinks)
        yield {"type": "thinking", "thinking": play.thinks, "signature": signature}, ""
    if play.say:
        yield {"type": "text", "text": play.say, "citations": None}, ""
    for call in play.calls:
        yield {"type": "tool_use", "id": f"toolu_{call.id}", "name": call.tool, "input": {}}, call.arguments


def _message(play: Play, model: str, usage: Usage) -> dict[str, Any]:
    return {
        "id": f"msg_{play.digest[:24]}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": _usage_opening(usage),
    }


def whole(play: Play, model: str, usage: Usage) -> Mapping[str, Any]:
    """The answer without streaming. Arguments that are no object are wrapped, for `input` has to be one."""
    message = _message(play, model, usage)
    for block, arguments in _content(play):
        if block["type"] == "tool_use":
            read = parse_object(arguments)
            block["input"] = {"INVALID_JSON": arguments} if read is None else read
        message["content"].append(block)
    message["stop_reason"] = _STOPS[play.stop]
    message["usage"]["output_tokens"] = usage.output_tokens
    return message


def events(play: Play, model: str, usage: Usage) -> Iterator[Event]:
    """The stream: message_start, each block from start over deltas to stop, message_delta, message_stop; pings between."""
    stream = _events(play, model, usage)
    return with_novelties(stream) if play.novelties else stream


def _events(play: Play, model: str, usage: Usage) -> Iterator[Event]:
    yield Event("message_start", {"type": "message_start", "message": _message(play, model, usage)})
    yield Event("ping", {"type": "ping"})
    blocks = [list(_block_events(index, *content)) for index, content in enumerate(_content(play))]
    spoken = len(blocks) - len(play.calls)
    yield from chain.from_iterable(blocks[:spoken])
    yield from braided(blocks[spoken:]) if play.interleaved else chain.from_iterable(blocks[spoken:])
    figures = {**_usage_opening(usage), "output_tokens": usage.output_tokens}
    del figures["service_tier"]
    yield Event(
        "message_delta",
        {
            "type": "message_delta",
            "delta": {
                "stop_reason": _STOPS[play.stop],
                "stop_sequence": None,
                "stop_details": {"type": "refusal", "category": "cyber", "explanation": None}
                if play.filtered
                else None,
            },
            "usage": figures,
        },
    )
    yield Event("message_stop", {"type": "message_stop"})


def _block_events(index: int, block: Mapping[str, Any], arguments: str) -> Iterator[Event]:
    yield Event(
        "content_block_start",
        {"type": "content_block_start", "index": index, "content_block": _opened(block)},
    )
    for delta in _deltas(block, arguments):
        yield Event("content_block_delta", {"type": "content_block_delta", "index": index, "delta": delta})
    yield Event("content_block_stop", {"type": "content_block_stop", "index": index})


def told(kind: BrokenKind) -> Event:
    """An error inside a stream that began well. https://platform.claude.com/docs/en/api/errors"""
    name = {"overloaded": "overloaded_error", "rate_limited": "rate_limit_error", "failing": "api_error"}[
        kind
    ]
    return Event("error", {"type": "error", "error": {"type": name, "message": "Told inside the stream."}})


def _opened(block: Mapping[str, Any]) -> dict[str, Any]:
    empty = {"text": "", "thinking": "", "signature": "", "input": {}}
    return {key: empty.get(key, value) if key != "type" else value for key, value in block.items()}


def _deltas(block: Mapping[str, Any], arguments: str) -> Iterator[dict[str, Any]]:
    if block["type"] == "text":
        for piece in pieces(block["text"]):
            yield {"type": "text_delta", "text": piece}
    elif block["type"] == "thinking":
        for piece in pieces(block["thinking"]):
            yield {"type": "thinking_delta", "thinking": piece}
        if block["signature"]:
            yield {"type": "signature_delta", "signature": block["signature"]}
    else:
        for piece in ["", *pieces(arguments)]:
            yield {"type": "input_json_delta", "partial_json": piece}
