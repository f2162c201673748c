"""OpenAI's Responses API as a Model: streamed, with function tools and encrypted reasoning carried back unchanged.

Every request says `store: false`. Never uses previous_response_id, conversations, background, batches or files, whose
contents the provider keeps. https://developers.openai.com/api/docs/guides/your-data
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

import httpx2
import openai
from openai.types.responses import Response, ResponseStreamEvent

from app.errors import InvalidError, MagicodeError, TransientError
from app.nouns import (
    AssistantTurn,
    ModelAnswer,
    ModelRequest,
    Stop,
    ToolCall,
    ToolSpec,
    ToolTurn,
    Turn,
    Usage,
    UserTurn,
)
from infra.models.prices import PRICES, Prices, cost
from infra.models.retry import PATIENCE, Patience, Sleep, network_error, status_error, with_retries
from infra.models.wire import (
    UNREADABLE,
    counted,
    dearer,
    encodable,
    keep_prompts_out_of_the_log,
    parse_object,
    unreadable,
    without_headers_of_the_environment,
)

BASE_URL = "https://api.openai.com/v1"

Item = dict[str, Any]

# These do not reason, and refuse to be asked for encrypted reasoning.
_WITHOUT_REASONING = ("gpt-3.5", "gpt-4", "chatgpt-")

# These keep cached prompts in memory or, by default, on disk for up to 24 hours. Later ones have no choice:
# https://developers.openai.com/api/docs/guides/prompt-caching#prompt-cache-retention
_KEEPS_A_CHOICE = re.compile(r"gpt-(4\.1|5(\.[1-4])?)(-|$)")

# Errors inside a stream carry a code and no status: https://developers.openai.com/api/docs/guides/error-codes
_STATUS_OF_CODE = {
    "rate_limit_exceeded": 429,
    "rate_limit_error": 429,
    "insufficient_quota": 429,
    "server_error": 500,
    "server_is_overloaded": 503,
    "invalid_api_key": 401,
    "model_not_found": 404,
}
_POLICY_CODES = frozenset(
    {"bio_policy", "misalignment_policy_violation", "content_policy_violation", "cyber_policy"}
)

# What strict function schemas may hold: https://developers.openai.com/api/docs/guides/structured-outputs
_STRICT_KEYWORDS = frozenset(
    {
        "type", "description", "properties", "required", "additionalProperties", "items", "enum", "const", "anyOf",
        "$defs", "$ref", "pattern", "format", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum",
        "multipleOf", "minItems", "maxItems", "title",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class OpenAIItems:
    """An answer's output items as they came, in order: reasoning must go back as it was, before what it led to."""

    items: tuple[Mapping[str, Any], ...]


class OpenAIModel:
    """One model of OpenAI, or of any server that speaks the Responses API at `base_url`.

    `answer` raises TransientError (overload, 5xx, connection, silence, after bounded tries), RefusedError with reason
    `model_key_refused` or `model_quota_exhausted`, InvalidError for a request or a model that the provider does not take.
    """

    def __init__(
        self,
        name: str,
        api_key: str,
        base_url: str | None = None,
        http_client: httpx2.AsyncClient | None = None,
        *,
        prices: Prices = PRICES,
        patience: Patience = PATIENCE,
        sleep: Sleep = asyncio.sleep,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        organization: str | None = None,
        project: str | None = None,
    ) -> None:
        self._name = name
        self._key = api_key
        self._prices = prices
        self._patience = patience
        self._sleep = sleep
        self._clock = clock
        keep_prompts_out_of_the_log("openai")
        self._client = openai.AsyncOpenAI(
            api_key=api_key,
            base_url=base_url or BASE_URL,
            http_client=http_client,
            max_retries=0,
            timeout=patience.http_timeout(),
        )
        # The SDK would take them from the process's environment, where they may belong to another key.
        self._client.organization, self._client.project = organization, project
        self._in_memory = base_url in (None, BASE_URL) and _KEEPS_A_CHOICE.match(name) is not None

    @property
    def provider(self) -> str:
        return "openai"

    @property
    def name(self) -> str:
        return self._name

    def bare(self) -> None:
        """From now on only what this adapter says itself is sent, and no headers of the process's environment."""
        without_headers_of_the_environment(self._client)

    async def close(self) -> None:
        """Close the connection pool."""
        await self._client.close()

    async def answer(self, request: ModelRequest) -> ModelAnswer:
        body = _body(self._name, request)
        if self._in_memory:
            body["prompt_cache_retention"] = "in_memory"
        body = encodable(body)
        return await with_retries(
            lambda: self._attempt(body), self._patience, attempted=request.attempted, sleep=self._sleep
        )

    async def _attempt(self, body: Mapping[str, Any]) -> ModelAnswer:
        reading = _Reading()
        try:
            async with asyncio.timeout(self._patience.answer_seconds):
                stream = await self._client.responses.create(**cast("Any", body), stream=True)
                async with stream:
                    async for event in stream:
                        reading.take(event)
        except openai.APIStatusError as error:
            raise self._refusal(
                error.status_code, error.response.headers, error.code or "", error.message
            ) from None
        except openai.APITimeoutError:
            raise network_error(TimeoutError()) from None
        except (openai.APIConnectionError, httpx2.HTTPError, TimeoutError) as error:
            raise network_error(error) from None
        except (openai.APIResponseValidationError, *UNREADABLE):
            raise unreadable() from None
        except openai.APIError as error:  # an error told inside the stream
            raise self._told(error.code or error.type or "", error.message) from None
        if reading.error is not None:
            raise self._told(*reading.error)
        if reading.response is None:
            raise TransientError("The model's answer broke off.", reason="model_stream_broken")
        try:
            return self._answer(reading, reading.response, body)
        except UNREADABLE:
            raise unreadable() from None

    def _told(self, code: str, message: str) -> MagicodeError:
        if code == "invalid_prompt":
            return InvalidError("The model's provider refused the prompt.", reason="model_request_refused")
        return self._refusal(_STATUS_OF_CODE.get(code, 500), {}, code, message)

    def _refusal(self, status: int, headers: Mapping[str, str], code: str, message: str) -> MagicodeError:
        return status_error(status, headers, code=code, detail=message, secret=self._key, now=self._clock())

    def _answer(self, reading: _Reading, response: Response, body: Mapping[str, Any]) -> ModelAnswer:
        items = reading.output()
        last = items[-1] if items and response.status == "incomplete" else None
        calls = tuple(_call(item, cut=item is last) for item in items if item["type"] == "function_call")
        if len({call.id for call in calls}) < len(calls):
            raise unreadable()  # results could not be told apart, and the provider itself would refuse them
        texts, refusals = _texts(items)
        if response.status == "failed":
            failure = response.error
            code = failure.code if failure is not None else ""
            if code not in _POLICY_CODES:
                raise self._told(code, failure.message if failure is not None else "")
        said = texts + refusals + "".join(json.dumps(call.arguments) + call.raw for call in calls)
        usage = counted(_usage(response), body, said)
        named = str(response.model or "") or self._name
        return ModelAnswer(
            turn=AssistantTurn(
                texts or refusals, calls, OpenAIItems(tuple(items)), maker=f"{self.provider}:{self._name}"
            ),
            stop=_stop(response, bool(calls), bool(refusals)),
            usage=usage,
            model=named,
            cost_usd=dearer(cost(named, usage, self._prices), cost(self._name, usage, self._prices)),
        )


@dataclass(slots=True)
class _Reading:
    """What has been read of one stream. https://developers.openai.com/api/docs/guides/streaming-responses"""

    items: dict[int, Item] = field(default_factory=dict)
    response: Response | None = None
    error: tuple[str, str] | None = None

    def take(self, event: ResponseStreamEvent) -> None:
        if event.type == "response.output_item.done":
            self.items[event.output_index] = _sendable(event.item.to_dict())
        elif event.type in ("response.completed", "response.incomplete", "response.failed"):
            self.response = event.response
        elif event.type == "error":
            self.error = (event.code or "", event.message)

    def output(self) -> list[Item]:
        """The finished items: their `encrypted_content` is whole, which an item still in progress does not promise."""
        if self.items or self.response is None:
            return [self.items[index] for index in sorted(self.items)]
        return [_sendable(item.to_dict()) for item in self.response.output]


def _sendable(item: Item) -> Item:
    """Without the fields that an answer carries as null: a request refuses some of them."""
    return {key: value for key, value in item.items() if value is not None}


def _call(item: Item, *, cut: bool) -> ToolCall:
    """A call in which the answer was cut off has no arguments, even where its beginning happens to be JSON."""
    raw = str(item.get("arguments", ""))
    cut = cut or item.get("status") == "incomplete"
    arguments = None if cut else parse_object(raw or "{}")
    return ToolCall(item["call_id"], item["name"], arguments, raw=raw if arguments is None else "")


def _texts(items: Sequence[Item]) -> tuple[str, str]:
    parts = [part for item in items if item["type"] == "message" for part in item["content"]]
    texts = "".join(part["text"] for part in parts if part["type"] == "output_text")
    refusals = "".join(part["refusal"] for part in parts if part["type"] == "refusal")
    return texts, refusals


def _stop(response: Response, called: bool, refused: bool) -> Stop:
    why = response.incomplete_details.reason if response.incomplete_details is not None else None
    if refused or response.status == "failed" or why == "content_filter":
        return Stop.REFUSAL
    if response.status == "incomplete":
        return Stop.LENGTH
    return Stop.TOOLS if called else Stop.END


def _usage(response: Response) -> Usage:
    """`input_tokens` counts all of the prompt; servers that only resemble OpenAI leave the details out."""
    usage = response.usage
    if usage is None:
        return Usage(0, 0, 0, 0)
    details = usage.input_tokens_details
    return Usage(
        input_tokens=usage.input_tokens or 0,
        cached_tokens=getattr(details, "cached_tokens", None) or 0,
        cache_write_tokens=getattr(details, "cache_write_tokens", None) or 0,
        output_tokens=usage.output_tokens or 0,
    )


# --- the request -----------------------------------------------------------------------------------------------------


def _body(name: str, request: ModelRequest) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": name,
        "store": False,
        "input": [item for turn in request.turns for item in _items(turn)],
        "max_output_tokens": request.max_output_tokens,
        "prompt_cache_key": _cache_key(name, request),
    }
    if request.system:
        body["instructions"] = request.system
    if request.tools:
        body["tools"] = [_tool(spec) for spec in request.tools]
    if not name.startswith(_WITHOUT_REASONING):
        body["include"] = ["reasoning.encrypted_content"]
    return body


def _cache_key(name: str, request: ModelRequest) -> str:
    """The same for every request of one conversation, so that they meet the same cache; says nothing of the content.

    https://developers.openai.com/api/docs/guides/prompt-caching
    """
    first = next((turn.text for turn in request.turns if isinstance(turn, UserTurn)), "")
    seed = json.dumps([name, request.system, [spec.name for spec in request.tools], first])
    return "magicode-" + hashlib.sha256(seed.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _items(turn: Turn) -> list[Item]:
    if isinstance(turn, UserTurn):
        return [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": turn.text}]}]
    if isinstance(turn, ToolTurn):
        # There is no field for an error here, so the text has to say it.
        return [
            {
                "type": "function_call_output",
                "call_id": _id(result.call_id),
                "output": f"Error: {result.text}" if result.is_error else result.text,
            }
            for result in turn.results
        ]
    if isinstance(turn.opaque, OpenAIItems):
        return _carried(turn.opaque.items)
    items: list[Item] = [{"type": "message", "role": "assistant", "content": turn.text}] if turn.text else []
    for call in turn.calls:
        arguments = call.raw if call.arguments is None else json.dumps(dict(call.arguments))
        items.append(
            {"type": "function_call", "call_id": _id(call.id), "name": call.name, "arguments": arguments}
        )
    return items


def _id(call_id: str) -> str:
    """The id of a call; another provider's that is longer than the 64 characters that OpenAI takes is shortened."""
    return (
        call_id
        if len(call_id) <= 64
        else "call_" + hashlib.sha256(call_id.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    )


def _carried(items: Sequence[Mapping[str, Any]]) -> list[Item]:
    """The items that can go back. Reasoning without its encrypted content is only a reference to something that is not
    stored, and reasoning that led to nothing, for the answer was cut off in it, is refused.
    """
    spoken = max((place for place, item in enumerate(items) if item["type"] != "reasoning"), default=-1)
    return [
        dict(item)
        for item in items[: spoken + 1]
        if item["type"] != "reasoning" or item.get("encrypted_content")
    ]


def _tool(spec: ToolSpec) -> Item:
    return {
        "type": "function",
        "name": spec.name,
        "description": spec.description,
        "parameters": dict(spec.parameters),
        "strict": strict_allowed(spec.parameters),
    }


def strict_allowed(schema: object) -> bool:
    """Whether OpenAI would take this JSON Schema with `strict`: closed objects, every property required, known words."""
    if not isinstance(schema, Mapping):
        return True
    if not set(schema) <= _STRICT_KEYWORDS:
        return False
    properties = schema.get("properties", {})
    if schema.get("type") == "object" or "properties" in schema:
        closed = schema.get("additionalProperties") is False
        if not closed or set(schema.get("required", ())) != set(properties):
            return False
    inner: list[object] = [*properties.values(), *schema.get("$defs", {}).values(), *schema.get("anyOf", ())]
    inner.append(schema.get("items"))
    return all(strict_allowed(part) for part in inner)
