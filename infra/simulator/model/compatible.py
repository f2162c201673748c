"""A server that only resembles OpenAI: the Responses API as others offer it under a base URL of their own.

It ignores what it does not know, numbers nothing, seals no reasoning, counts no cached tokens, and words its errors in
its own way. Drawn from what vLLM, Ollama and gateways do; no single one of them is meant.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from app.nouns import Usage
from infra.models.playbook import Play
from infra.simulator.model import openai_wire
from infra.simulator.model.wire import Event, Understood, WireError

_LEFT_OUT = frozenset(
    {"sequence_number", "annotations", "logprobs", "encrypted_content", "input_tokens_details", "output_tokens_details"}
    | {"prompt_cache_key", "metadata", "truncation", "store"}
)  # fmt: skip
_IGNORED = frozenset({"include", "prompt_cache_key", "prompt_cache_retention", "safety_identifier"})


def refusal(status: int, message: str, *, param: str | None = None, code: str | None = None) -> WireError:
    """An error with the status as its code and no `error` around it."""
    del param, code
    return WireError(
        status, {"object": "error", "message": message, "type": "BadRequestError", "code": status}
    )


def understand(body: Mapping[str, Any]) -> Understood:
    """As OpenAI, without the parameters that such servers pass over. Raises WireError."""
    try:
        read = openai_wire.understand({key: value for key, value in body.items() if key not in _IGNORED})
    except WireError as error:
        raise refusal(error.status, str(error.body["error"]["message"])) from None
    return replace(read, cache_key="")


def whole(play: Play, body: Mapping[str, Any], usage: Usage) -> Mapping[str, Any]:
    """The finished response with the fields that such servers know."""
    told: Mapping[str, Any] = _plain(openai_wire.whole(play, body, usage))
    return told


def events(play: Play, body: Mapping[str, Any], usage: Usage) -> Iterator[Event]:
    """OpenAI's events with fewer fields, each item whole at its end."""
    for event in openai_wire.events(play, body, usage):
        if event.name != "response.in_progress":
            yield Event(event.name, _plain(event.data))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items() if key not in _LEFT_OUT}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return value
