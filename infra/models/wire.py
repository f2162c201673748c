"""What both adapters need around a provider's SDK: reading tool arguments, and keeping prompts out of the SDK's log."""

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
