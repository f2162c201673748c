"""Anthropic's Messages API as a Model: streamed, with tools, prompt caching and thinking blocks carried back unchanged.

Never uses batches or files, whose contents the provider keeps. https://platform.claude.com/docs/en/api/messages
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

import anthropic
import httpx2
from anthropic.types import MessageDeltaUsage, RawMessageStreamEvent
from anthropic.types import Usage as WireUsage

from app.errors import MagicodeError, TransientError
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

BASE_URL = "https://api.anthropic.com"

Block = dict[str, Any]

# In memory for five minutes; the longer lifetime is not asked for.
_CACHE: Block = {"type": "ephemeral"}
_ID = re.compile(r"[a-zA-Z0-9_-]+")

# https://platform.claude.com/docs/en/build-with-claude/handling-stop-reasons
# pause_turn ends a long turn early; like the two limits it means that the answer is not finished.
_STOPS = {
    "end_turn": Stop.END,
    "stop_sequence": Stop.END,
    "tool_use": Stop.TOOLS,
    "max_tokens": Stop.LENGTH,
    "model_context_window_exceeded": Stop.LENGTH,
    "pause_turn": Stop.LENGTH,
    "refusal": Stop.REFUSAL,
}

# An error inside a stream has no status of its own: https://platform.claude.com/docs/en/api/errors
_STATUS_OF_TYPE = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}


@dataclass(frozen=True, slots=True)
class AnthropicBlocks:
    """An answer's content blocks as they came, in order: thinking must go back exactly as it was received."""

    blocks: tuple[Mapping[str, Any], ...]


class AnthropicModel:
    """One Claude model. `base_url` None means Anthropic's own; `http_client` replaces the SDK's connection pool.

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
    ) -> None:
        self._name = name
        self._key = api_key
        self._prices = prices
        self._patience = patience
        self._sleep = sleep
        self._clock = clock
        keep_prompts_out_of_the_log("anthropic")
        # Tracing off: its spans could carry prompts.
        self._client = anthropic.AsyncAnthropic(
            api_key=api_key,
            base_url=base_url or BASE_URL,
            http_client=http_client,
            max_retries=0,
            timeout=patience.http_timeout(),
            open_telemetry=False,
        )

    @property
    def provider(self) -> str:
        return "anthropic"

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
        body = encodable(_body(self._name, request))
        return await with_retries(
            lambda: self._attempt(body), self._patience, attempted=request.attempted, sleep=self._sleep
        )

    async def _attempt(self, body: Mapping[str, Any]) -> ModelAnswer:
        reading = _Reading()
        try:
            async with asyncio.timeout(self._patience.answer_seconds):
                stream = await self._client.messages.create(**cast("Any", body), stream=True)
                async with stream:
                    async for event in stream:
                        reading.take(event)
        except anthropic.APIStatusError as error:
            raise self._refusal(error) from None
        except anthropic.APITimeoutError:
            raise network_error(TimeoutError()) from None
        # The SDK wraps what fails before the stream begins, and lets what breaks inside it through as it is.
        except (anthropic.APIConnectionError, httpx2.HTTPError, TimeoutError) as error:
            raise network_error(error) from None
        except (anthropic.APIResponseValidationError, *UNREADABLE):
            raise unreadable() from None
        if not reading.finished:
            raise TransientError("The model's answer broke off.", reason="model_stream_broken")
        try:
            return self._answer(reading, body)
        except UNREADABLE:
            raise unreadable() from None

    def _refusal(self, error: anthropic.APIStatusError) -> MagicodeError:
        kind = error.type or ""
        status = error.status_code if error.status_code >= 400 else _STATUS_OF_TYPE.get(kind, 500)
        return status_error(
            status,
            error.response.headers,
            code=error.error_code or "",
            detail=error.api_message if isinstance(error.api_message, str) else "",
            secret=self._key,
            now=self._clock(),
        )

    def _answer(self, reading: _Reading, body: Mapping[str, Any]) -> ModelAnswer:
        blocks = [reading.blocks[index] for index in sorted(reading.blocks)]
        called = any(block["type"] == "tool_use" for block in blocks)
        stop = _STOPS.get(reading.stop_reason or "", Stop.TOOLS if called else Stop.END)
        cut = max(reading.blocks, default=None) if stop is Stop.LENGTH else None
        calls = tuple(
            _call(block, reading.raw.get(index, ""), cut=index == cut)
            for index, block in sorted(reading.blocks.items())
            if block["type"] == "tool_use"
        )
        if len({call.id for call in calls}) < len(calls):
            raise unreadable()  # results could not be told apart, and the provider itself would refuse them
        text = "".join(block["text"] for block in blocks if block["type"] == "text")
        usage = counted(reading.usage(), body, text + "".join(reading.raw.values()))
        return ModelAnswer(
            turn=AssistantTurn(
                text,
                calls,
                AnthropicBlocks(tuple(_sendable(block) for block in blocks)),
                maker=f"{self.provider}:{self._name}",
            ),
            stop=stop,
            usage=usage,
            model=reading.model or self._name,
            cost_usd=dearer(cost(reading.model, usage, self._prices), cost(self._name, usage, self._prices)),
        )


@dataclass(slots=True)
class _Reading:
    """What has been read of one stream. https://platform.claude.com/docs/en/build-with-claude/streaming"""

    model: str = ""
    stop_reason: str | None = None
    finished: bool = False
    blocks: dict[int, Block] = field(default_factory=dict)
    raw: dict[int, str] = field(default_factory=dict)
    started: WireUsage | None = None
    ended: MessageDeltaUsage | None = None

    def take(self, event: RawMessageStreamEvent) -> None:
        if event.type == "message_start":
            self.model, self.started = event.message.model, event.message.usage
        elif event.type == "content_block_start":
            self.blocks[event.index] = event.content_block.to_dict()
        elif event.type == "content_block_delta":
            self._delta(event.index, event.delta.to_dict())
        elif event.type == "content_block_stop":
            self._close(event.index)
        elif event.type == "message_delta":
            self.stop_reason, self.ended = event.delta.stop_reason, event.usage
        elif event.type == "message_stop":
            self.finished = True

    def _delta(self, index: int, delta: Block) -> None:
        block = self.blocks[index]
        if delta["type"] == "text_delta":
            block["text"] = block.get("text", "") + delta["text"]
        elif delta["type"] == "input_json_delta":
            self.raw[index] = self.raw.get(index, "") + delta["partial_json"]
        elif delta["type"] == "thinking_delta":
            block["thinking"] = block.get("thinking", "") + delta["thinking"]
        elif delta["type"] == "signature_delta":
            block["signature"] = delta["signature"]

    def _close(self, index: int) -> None:
        block = self.blocks[index]
        if block["type"] == "tool_use" and self.raw.get(index):
            # What is not an object cannot go back as `input`; this wrapping is the provider's own advice:
            # https://platform.claude.com/docs/en/agents-and-tools/tool-use/fine-grained-tool-streaming
            block["input"] = parse_object(self.raw[index])
            if block["input"] is None:
                block["input"] = {"INVALID_JSON": self.raw[index]}

    def usage(self) -> Usage:
        """All prompt tokens: `input_tokens` on the wire leaves out what was written to or read from the cache."""
        plain = self._figure("input_tokens")
        written = self._figure("cache_creation_input_tokens")
        read = self._figure("cache_read_input_tokens")
        return Usage(plain + written + read, read, written, self._figure("output_tokens"))

    def _figure(self, name: str) -> int:
        """The closing figure where there is one: those of the opening are only what was known by then."""
        for source in (self.ended, self.started):
            value = getattr(source, name, None)
            if isinstance(value, int):
                return max(value, 0)
        return 0


def _call(block: Block, raw: str, *, cut: bool) -> ToolCall:
    """A call in which the answer was cut off has no arguments, even where its beginning happens to be JSON."""
    if cut:
        return ToolCall(block["id"], block["name"], None, raw=raw)
    arguments = parse_object(raw) if raw else cast("dict[str, Any]", block.get("input") or {})
    return ToolCall(block["id"], block["name"], arguments, raw=raw if arguments is None else "")


def _sendable(block: Block) -> Block:
    """Without the fields that an answer carries as null: a request refuses some of them."""
    return {key: value for key, value in block.items() if value is not None}


# --- the request -----------------------------------------------------------------------------------------------------


def _body(name: str, request: ModelRequest) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": name,
        "max_tokens": request.max_output_tokens,
        "messages": _messages(request.turns),
    }
    if request.system:
        body["system"] = [{"type": "text", "text": request.system, "cache_control": _CACHE}]
    if request.tools:
        body["tools"] = [_tool(spec) for spec in request.tools]
        if not request.system:
            body["tools"][-1]["cache_control"] = _CACHE
    return body


def _tool(spec: ToolSpec) -> Block:
    return {"name": spec.name, "description": spec.description, "input_schema": dict(spec.parameters)}


def _messages(turns: Sequence[Turn]) -> list[Block]:
    """The conversation, with cache breakpoints on our first message and on our last two.

    With the one on the rules, whose prefix begins with the tools, that is the four a request may have. The last one
    writes what the next request will read. The one before it stands where the last request wrote, so that it is found
    however many blocks lie between: from a breakpoint the provider looks back over 20 blocks only. The first stays when
    later messages are shortened. https://platform.claude.com/docs/en/build-with-claude/prompt-caching
    """
    messages = [message for turn in turns if (message := _message(turn))["content"]]
    ours = [message for message in messages if message["role"] == "user"]
    for message in (*ours[:1], *ours[-2:]):
        message["content"][-1]["cache_control"] = _CACHE
    return messages


def _message(turn: Turn) -> Block:
    if isinstance(turn, UserTurn):
        # An empty text block is refused by the provider.
        return {
            "role": "user",
            "content": [{"type": "text", "text": turn.text if turn.text.strip() else "(empty)"}],
        }
    if isinstance(turn, ToolTurn):
        return {
            "role": "user",
            "content": [_result(_id(item.call_id), item.text, item.is_error) for item in turn.results],
        }
    if isinstance(turn.opaque, AnthropicBlocks):
        return {"role": "assistant", "content": _carried(turn.opaque.blocks)}
    content: list[Block] = [{"type": "text", "text": turn.text}] if turn.text.strip() else []
    content += [
        {
            "type": "tool_use",
            "id": _id(call.id),
            "name": call.name,
            "input": {"INVALID_JSON": call.raw} if call.arguments is None else dict(call.arguments),
        }
        for call in turn.calls
    ]
    return {"role": "assistant", "content": content}


def _carried(blocks: Sequence[Mapping[str, Any]]) -> list[Block]:
    """The blocks that can go back. Thinking that was cut off has no signature, and thinking alone is no message."""
    whole = [
        dict(block)
        for block in blocks
        if not _blank(block) and not (block["type"] == "thinking" and not block.get("signature"))
    ]
    spoken = any(block["type"] not in ("thinking", "redacted_thinking") for block in whole)
    return whole if spoken else []


def _result(call_id: str, text: str, is_error: bool) -> Block:
    block: Block = {"type": "tool_result", "tool_use_id": call_id, "content": text}
    if is_error:
        block["is_error"] = True
    return block


def _id(call_id: str) -> str:
    """The id of a call; another provider's that has characters which Anthropic refuses becomes one that it takes."""
    if _ID.fullmatch(call_id):
        return call_id
    return "toolu_" + hashlib.sha256(call_id.encode("utf-8", "surrogatepass")).hexdigest()[:24]


def _blank(block: Mapping[str, Any]) -> bool:
    return block["type"] == "text" and not str(block["text"]).strip()
