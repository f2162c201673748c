"""What a browser may load for a page of ours, and where its forms may lead.

https://developer.mozilla.org/docs/Web/HTTP/Reference/Headers/Content-Security-Policy
"""

from __future__ import annotations

from typing import Final

HEADER: Final = "Content-Security-Policy"

_ALWAYS: Final = "style-src 'self'; img-src 'self'; base-uri 'none'; frame-ancestors 'none'"
_SCRIPT: Final = "script-src 'self'; connect-src 'self'"


def policy(github: str, *, script: bool = False) -> str:
    """`github` is where people sign in: a form may lead there, and nowhere else outside. `script`: for a page that goes on by
    itself; no other one runs any."""
    return "; ".join(
        ["default-src 'none'", *([_SCRIPT] if script else []), _ALWAYS, f"form-action 'self' {github}"]
    )
