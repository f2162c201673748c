"""OpenAI's Responses wire: what it refuses, how its answers and its stream look.

Holds nothing between requests: previous_response_id, conversations, prompts and background are refused. Knows function
tools and text only. https://developers.openai.com/api/docs/api-reference/responses
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError

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
from infra.models.openai import strict_allowed
from infra.models.playbook import BrokenKind, Play, tokens
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

_NAME = r"^[a-zA-Z0-9_-]{1,64}$"
_TYPES = {401: "invalid_request_error", 429: "rate_limit_error", 500: "server_error", 503: "server_error"}


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class _InputText(_Part):
    type: Literal["input_text"]
    text: str


class _OutputText(_Part):
    type: Literal["output_text"]
    text: str
    annotations: list[Any] = []
    logprobs: list[Any] = []


class _Refusal(_Part):
    type: Literal["refusal"]
    refusal: str


_Content = Annotated[_InputText | _OutputText | _Refusal, Field(discriminator="type")]


class _Message(_Part):
    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[_Content]
    id: str | None = None
    status: Literal["in_progress", "completed", "incomplete"] | None = None
    phase: Literal["commentary", "final_answer"] | None = None


class _Call(_Part):
    type: Literal["function_call"]
    call_id: str
    name: str = Field(pattern=_NAME)
    arguments: str
    id: str | None = None
    status: Literal["in_progress", "completed", "incomplete"] | None = None


class _Output(_Part):
    type: Literal["function_call_output"]
    call_id: str
    output: str
    id: str | None = None
    status: Literal["in_progress", "completed", "incomplete"] | None = None


class _Summary(_Part):
    type: Literal["summary_text"]
    text: str


class _Reasoning(_Part):
    type: Literal["reasoning"]
    id: str
    summary: list[_Summary]
    encrypted_content: str | None = None
    status: Literal["in_progress", "completed", "incomplete"] | None = None


def _kind(value: object) -> str:
    return (
        str(value.get("type", "message")) if isinstance(value, Mapping) else str(getattr(value, "type", ""))
    )


_Item = Annotated[
    Annotated[_Message, Tag("message")]
    | Annotated[_Call, Tag("function_call")]
    | Annotated[_Output, Tag("function_call_output")]
    | Annotated[_Reasoning, Tag("reasoning")],
    Discriminator(_kind),
]


class _Tool(_Part):
    type: Literal["function"]
    name: str = Field(pattern=_NAME)
    parameters: dict[str, Any] | None
    strict: bool | None
    description: str | None = None


class _Body(_Part):
    model: str
    input: str | list[_Item]
    instructions: str | None = None
    max_output_tokens: int | None = Field(default=None, ge=16)
    store: bool | None = None
    stream: bool | None = None
    tools: list[_Tool] = []
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    include: list[str] | None = None
    prompt_cache_key: str | None = None
    prompt_cache_options: dict[str, Any] | None = None
    prompt_cache_retention: Literal["in_memory", "24h"] | None = None
    reasoning: dict[str, Any] | None = None
    text: dict[str, Any] | None = None
    metadata: dict[str, str] | None = None
    safety_identifier: str | None = Field(default=None, max_length=64)
    service_tier: str | None = None
    truncation: Literal["auto", "disabled"] | None = None
    stream_options: dict[str, Any] | None = None


def refusal(status: int, message: str, *, param: str | None = None, code: str | None = None) -> WireError:
    """An error in OpenAI's shape. https://developers.openai.com/api/docs/guides/error-codes"""
    kind = _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return WireError(status, {"error": {"message": message, "type": kind, "param": param, "code": code}})


def understand(body: Mapping[str, Any]) -> Understood:
    """Read a request as strictly as OpenAI does. Raises WireError 400 or 404."""
    try:
        read = _Body.model_validate(body)
    except ValidationError as error:
        raise _invalid(error) from None
    items = [_Message(role="user", content=read.input)] if isinstance(read.input, str) else read.input
    _check_tools(read.tools)
    _check_order(items, stored=read.store is not False)
    specs = tuple(ToolSpec(tool.name, tool.description or "", tool.parameters or {}) for tool in read.tools)
    system = "\n\n".join([read.instructions or "", *_developer_texts(items)]).strip()
    request = ModelRequest(system, tuple(_turns(items)), specs, read.max_output_tokens or 0)
    return Understood(
        read.model, bool(read.stream), request, tuple(_segments(body)), cache_key=read.prompt_cache_key or ""
    )


def _invalid(error: ValidationError) -> WireError:
    kind, said, location = most_telling(error)
    place = _place(location)
    if kind == "extra_forbidden":
        return refusal(400, f"Unknown parameter: '{place}'.", param=place, code="unknown_parameter")
    if kind == "missing":
        return refusal(
            400, f"Missing required parameter: '{place}'.", param=place, code="missing_required_parameter"
        )
    return refusal(400, f"Invalid value for '{place}': {said}", param=place, code="invalid_value")


def _place(location: Sequence[str | int]) -> str:
    """`input[0].content`: pydantic's location without the names of the variants it tried."""
    variants = {"message", "function_call", "function_call_output", "reasoning", "input_text", "output_text"}
    parts = [part for part in location if part not in variants]
    text = ""
    for part in parts:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _check_tools(tools: Sequence[_Tool]) -> None:
    for index, tool in enumerate(tools):
        if tool.strict and not strict_allowed(tool.parameters):
            raise refusal(
                400,
                f"Invalid schema for function '{tool.name}': with strict, 'additionalProperties' is required to be false "
                "and 'required' to name every property.",
                param=f"tools[{index}].parameters",
                code="invalid_function_parameters",
            )


def _check_order(items: Sequence[_Item], *, stored: bool) -> None:
    """Every output has its call and every call its output; reasoning carries its own content and leads to something."""
    called: set[str] = set()
    answered: set[str] = set()
    for index, item in enumerate(items):
        if isinstance(item, _Call):
            called.add(item.call_id)
        elif isinstance(item, _Output):
            if item.call_id not in called:
                message = f"No tool call found for function call output with call_id {item.call_id}."
                raise refusal(400, message, param="input")
            answered.add(item.call_id)
        elif isinstance(item, _Reasoning):
            _check_reasoning(item, items[index + 1 :], stored=stored)
    for call_id in sorted(called - answered):
        raise refusal(400, f"No tool output found for function call {call_id}.", param="input")


def _check_reasoning(item: _Reasoning, following: Sequence[_Item], *, stored: bool) -> None:
    if item.encrypted_content is None:
        why = "" if stored else " Items are not persisted when `store` is set to false."
        raise refusal(404, f"Item with id '{item.id}' not found.{why}", param="input")
    if _opened(item.encrypted_content) is None:
        message = f"The encrypted content for item {item.id} could not be verified."
        raise refusal(400, message, param="input", code="invalid_encrypted_content")
    after = following[0] if following else None
    if not isinstance(after, _Call | _Reasoning) and not (
        isinstance(after, _Message) and after.role == "assistant"
    ):
        message = f"Item '{item.id}' of type 'reasoning' was provided without its required following item."
        raise refusal(400, message, param="input")


def _sealed(thought: str) -> str:
    return base64.b64encode(b"sealed:" + thought.encode("utf-8", "surrogatepass")).decode()


def _opened(sealed: str) -> bytes | None:
    try:
        plain = base64.b64decode(sealed, validate=True)
    except binascii.Error:
        return None
    return plain if plain.startswith(b"sealed:") else None


def _text(content: str | Sequence[_Content]) -> str:
    if isinstance(content, str):
        return content
    return "".join(part.refusal if isinstance(part, _Refusal) else part.text for part in content)


def _developer_texts(items: Sequence[_Item]) -> list[str]:
    return [
        _text(item.content)
        for item in items
        if isinstance(item, _Message) and item.role in ("system", "developer")
    ]


def _turns(items: Sequence[_Item]) -> Iterator[Turn]:
    """Neighbouring items of one side are one turn: an answer is its reasoning, its text and its calls."""
    said, answering = "", False
    calls: list[ToolCall] = []
    results: list[ToolResult] = []
    for item in items:
        ours = isinstance(item, _Call | _Reasoning) or (
            isinstance(item, _Message) and item.role == "assistant"
        )
        if answering and not ours:
            yield AssistantTurn(said, tuple(calls))
            said, calls = "", []
        if results and not isinstance(item, _Output):
            yield ToolTurn(tuple(results))
            results = []
        answering = ours
        if isinstance(item, _Call):
            arguments = parse_object(item.arguments)
            calls.append(
                ToolCall(item.call_id, item.name, arguments, "" if arguments is not None else item.arguments)
            )
        elif isinstance(item, _Output):
            results.append(ToolResult(item.call_id, item.output, item.output.startswith("Error: ")))
        elif isinstance(item, _Message) and item.role == "assistant":
            said += _text(item.content)
        elif isinstance(item, _Message) and item.role == "user":
            yield UserTurn(_text(item.content))
    if answering:
        yield AssistantTurn(said, tuple(calls))
    if results:
        yield ToolTurn(tuple(results))


def _segments(body: Mapping[str, Any]) -> Iterator[Segment]:
    for tool in body.get("tools", ()):
        yield Segment(canonical(tool), breakpoint=False)
    yield Segment(str(body.get("instructions") or ""), breakpoint=False)
    given = body["input"]
    for item in [given] if isinstance(given, str) else given:
        yield Segment(canonical(item), breakpoint=False)


# --- the answer ------------------------------------------------------------------------------------------------------


def _usage(play: Play, usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cached_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
        },
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": tokens(play.thinks or "")},
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }


def _items(play: Play) -> Iterator[dict[str, Any]]:
    """The finished output items, in order."""
    mark = play.digest[:32]
    if play.thinks is not None:
        yield {
            "id": f"rs_{mark}",
            "type": "reasoning",
            "summary": [],
            "encrypted_content": _sealed(play.thinks),
        }
    cut = play.stop is Stop.LENGTH or play.filtered
    declined = play.stop is Stop.REFUSAL and not play.filtered
    if play.say or declined:
        part: dict[str, Any] = (
            {"type": "refusal", "refusal": play.say or "I'm sorry, but I can't help with that."}
            if declined
            else {"type": "output_text", "text": play.say, "annotations": [], "logprobs": []}
        )
        status = "incomplete" if cut and not play.calls else "completed"
        yield {
            "id": f"msg_{mark}",
            "type": "message",
            "role": "assistant",
            "status": status,
            "content": [part],
        }
    for index, call in enumerate(play.calls):
        last = index == len(play.calls) - 1
        yield {
            "id": f"fc_{call.id}",
            "type": "function_call",
            "call_id": f"call_{call.id}",
            "name": call.tool,
            "arguments": call.arguments,
            "status": "incomplete" if cut and last else "completed",
        }


def _response(play: Play, body: Mapping[str, Any], status: str) -> dict[str, Any]:
    return {
        "id": f"resp_{play.digest[:32]}",
        "object": "response",
        "created_at": 0,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "instructions": body.get("instructions"),
        "max_output_tokens": body.get("max_output_tokens"),
        "model": body["model"],
        "output": [],
        "parallel_tool_calls": body.get("parallel_tool_calls", True),
        "previous_response_id": None,
        "prompt_cache_key": body.get("prompt_cache_key"),
        "store": body.get("store", True),
        "tool_choice": body.get("tool_choice", "auto"),
        "tools": body.get("tools", []),
        "truncation": "disabled",
        "usage": None,
        "metadata": body.get("metadata") or {},
    }


def whole(play: Play, body: Mapping[str, Any], usage: Usage) -> Mapping[str, Any]:
    """The finished response, as it comes without streaming and at the end of a stream."""
    cut = play.stop is Stop.LENGTH or play.filtered
    response = _response(play, body, "incomplete" if cut else "completed")
    response["output"] = list(_items(play))
    response["usage"] = _usage(play, usage)
    if cut:
        response["incomplete_details"] = {
            "reason": "content_filter" if play.filtered else "max_output_tokens"
        }
    return response


def events(play: Play, body: Mapping[str, Any], usage: Usage) -> Iterator[Event]:
    """The stream: created, in_progress, each item from added to done, completed or incomplete; numbered throughout.

    https://developers.openai.com/api/docs/guides/streaming-responses
    """
    stream = (
        Event(event.name, {"sequence_number": number, **event.data})
        for number, event in enumerate(_events(play, body, usage))
    )
    return with_novelties(stream) if play.novelties else stream


def _event(name: str, /, **data: Any) -> Event:
    return Event(name, {"type": name, **data})


def _events(play: Play, body: Mapping[str, Any], usage: Usage) -> Iterator[Event]:
    opening = _response(play, body, "in_progress")
    yield _event("response.created", response=opening)
    yield _event("response.in_progress", response=opening)
    items = [list(_item_events(index, item)) for index, item in enumerate(_items(play))]
    spoken = len(items) - len(play.calls)
    yield from chain.from_iterable(items[:spoken])
    yield from braided(items[spoken:]) if play.interleaved else chain.from_iterable(items[spoken:])
    final = whole(play, body, usage)
    yield _event(f"response.{final['status']}", response=final)


def _item_events(index: int, item: Mapping[str, Any]) -> Iterator[Event]:
    yield _event("response.output_item.added", output_index=index, item=_begun(item))
    for name, data in _progress(item):
        yield _event(name, output_index=index, item_id=item["id"], **data)
    yield _event("response.output_item.done", output_index=index, item=item)


def told(kind: BrokenKind, body: Mapping[str, Any], play: Play) -> Event:
    """An error inside a stream that began well, in either of the two shapes that it has.

    https://developers.openai.com/api/docs/api-reference/responses-streaming
    """
    message = "Told inside the stream."
    if kind == "rate_limited":
        failed = {
            **_response(play, body, "failed"),
            "error": {"code": "rate_limit_exceeded", "message": message},
        }
        return _event("response.failed", sequence_number=99, response=failed)
    code = "server_is_overloaded" if kind == "overloaded" else "server_error"
    return _event("error", sequence_number=99, code=code, message=message, param=None)


def _begun(item: Mapping[str, Any]) -> dict[str, Any]:
    empty: dict[str, Any] = {"content": [], "arguments": "", "encrypted_content": ""}
    begun = {key: empty.get(key, value) for key, value in item.items()}
    return {**begun, "status": "in_progress"} if "status" in item else begun


def _progress(item: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    if item["type"] == "function_call":
        for piece in pieces(item["arguments"]):
            yield "response.function_call_arguments.delta", {"delta": piece}
        yield "response.function_call_arguments.done", {"arguments": item["arguments"]}
    elif item["type"] == "message":
        yield from _part_progress(item["content"][0])


def _part_progress(part: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    refused = part["type"] == "refusal"
    key, stem = ("refusal", "response.refusal") if refused else ("text", "response.output_text")
    extra: dict[str, Any] = {} if refused else {"logprobs": []}
    yield "response.content_part.added", {"content_index": 0, "part": {**part, key: ""}}
    for piece in pieces(part[key]):
        yield f"{stem}.delta", {"content_index": 0, "delta": piece, **extra}
    yield f"{stem}.done", {"content_index": 0, key: part[key], **extra}
    yield "response.content_part.done", {"content_index": 0, "part": part}
