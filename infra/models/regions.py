"""Where the providers' addresses are and what they keep, by their own documentation as of a date. Never guesses."""

from __future__ import annotations

from datetime import date
from typing import Final
from urllib.parse import urlsplit

AS_OF: Final = date(2026, 11, 21)

UNKNOWN: Final = "unknown"

# The address without a region is OpenAI's default: it names no place. The regional ones process and store there.
# https://developers.openai.com/api/docs/guides/your-data
# Anthropic's one address runs inference in any geography unless a workspace or a request says otherwise.
# https://platform.claude.com/docs/en/manage-claude/data-residency
_REGIONS: Final = {
    "api.openai.com": "global",
    "us.api.openai.com": "us",
    "eu.api.openai.com": "eu",
    "api.anthropic.com": "global",
}


def host_of(base_url: str) -> str:
    """The address's host in lower case; empty for what is no address."""
    try:
        return (urlsplit(base_url).hostname or "").rstrip(".").lower()
    except ValueError:
        return ""


def region_of(host: str) -> str:
    """`us`, `eu`, `global` or `unknown`: another host is never taken for one of a provider's, however it is called."""
    return _REGIONS.get(host, UNKNOWN)
