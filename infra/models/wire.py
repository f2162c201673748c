"""What both adapters need around a provider's SDK: reading arguments, sending odd text, keeping prompts out of its log."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from app.errors import TransientError
from app.nouns import Usage

MOST_TOKENS = 1_000_000_000
"""No call has more; a figure without bounds fits no database."""

MAX_DEPTH = 64
"""No tool's arguments are nested deeper. What reads and writes JSON calls itself for each level, and so has a limit of its own
that depends on who calls it."""


def parse_object(raw: str) -> dict[str, Any] | None:
    """The JSON object in `raw`, or None when it is none, or nested beyond all reason."""
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and not deeper_than(MAX_DEPTH, value) else None


def deeper_than(levels: int, value: object) -> bool:
    """Whether lists and objects are nested deeper than this."""
    layer: list[object] = [value]
    while layer and levels:
        levels -= 1
        layer = [
            inner
            for one in layer
            if isinstance(one, dict | list)
            for inner in (one.values() if isinstance(one, dict) else one)
        ]
    return any(isinstance(one, dict | list) for one in layer)


def counted(usage: Usage, sent: Mapping[str, Any], answered: str) -> Usage:
    """The provider's figures where they can be true. Servers that only resemble a provider leave them out, and a budget that
    counts nothing holds nothing: then they are told from the length of the texts, about four bytes to a token."""
    prompt = min(usage.input_tokens, MOST_TOKENS)
    if prompt <= 0:
        prompt = _tokens(json.dumps(sent, ensure_ascii=False, default=str))
    cached = min(max(usage.cached_tokens, 0), prompt)
    return Usage(
        input_tokens=prompt,
        cached_tokens=cached,
        cache_write_tokens=min(max(usage.cache_write_tokens, 0), prompt - cached),
        output_tokens=min(usage.output_tokens, MOST_TOKENS) if usage.output_tokens > 0 else _tokens(answered),
    )


def _tokens(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass")) // 4


def dearer(*prices: Decimal | None) -> Decimal | None:
    """Of what an answer may have cost the most: the model that is asked for and the one that the answer names can differ.
    None where neither has a known price."""
    known = [one for one in prices if one is not None]
    return max(known, default=None)


UNREADABLE = (
    json.JSONDecodeError,
    UnicodeDecodeError,
    RecursionError,
    AttributeError,
    KeyError,
    TypeError,
)
"""What reading an answer ends in that is not of the shape that its provider documents: the SDKs build their objects from
whatever arrives."""


def unreadable() -> TransientError:
    return TransientError("The model's answer was not readable.", reason="model_stream_broken")


def keep_prompts_out_of_the_log(*loggers: str) -> None:
    """At DEBUG the SDKs write whole requests; no environment variable may switch that on in this process."""
    for name in loggers:
        logger = logging.getLogger(name)
        if logger.getEffectiveLevel() < logging.INFO:
            logger.setLevel(logging.INFO)


def encodable(body: dict[str, Any]) -> dict[str, Any]:
    """The same request; half characters (lone surrogates, from a file that is not UTF-8) become question marks.

    They have no bytes in UTF-8, so the SDK would fail on them before it sends anything.
    """
    try:
        json.dumps(body, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return {key: _encodable(value) for key, value in body.items()}
    return body


def _encodable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_encodable(key): _encodable(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_encodable(inner) for inner in value]
    return value


def without_headers_of_the_environment(client: Any) -> None:
    """`client` is one of the SDKs'. Both add what ANTHROPIC_CUSTOM_HEADERS and OPENAI_CUSTOM_HEADERS say to every request, and have no way to be told
    not to: those are the operator's, and no customer's address is to see them."""
    client._custom_headers = {}
