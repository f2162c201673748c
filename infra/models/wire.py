"""What both adapters need around a provider's SDK: reading arguments, sending odd text, keeping prompts out of its log."""

from __future__ import annotations

import json
import logging
from typing import Any


def parse_object(raw: str) -> dict[str, Any] | None:
    """The JSON object in `raw`, or None when it is none."""
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


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
