"""When a model's provider is asked again, how long to wait, and which error its refusal becomes.

Refuses to put a key or a prompt into an error, and to wait longer than its own patience even when a server asks for it.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TypeVar

import httpx2

from app.errors import InvalidError, MagicodeError, RefusedError, TransientError

T = TypeVar("T")
Sleep = Callable[[float], Awaitable[None]]

_OVERLOADED = frozenset({429, 529})
_AGAIN = frozenset({408, 409, 425})
# A quota that is used up comes as 429 and does not refill by waiting:
# https://developers.openai.com/api/docs/guides/error-codes
_QUOTA_CODES = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})

_INVALID = {
    404: ("model unknown:", "model_unknown"),
    413: ("The request is larger than the model's provider takes.", "model_request_too_large"),
}


@dataclass(frozen=True, slots=True)
class Patience:
    """How often and how long. `total_seconds` bounds all tries and waits together; the rest bounds one try. Who falls silent
    so many times (`silences`) is not waited for in place any longer: others may need the worker meanwhile."""

    tries: int = 6
    silences: int = 2
    total_seconds: float = 900.0
    first_wait_seconds: float = 1.0
    longest_wait_seconds: float = 60.0
    connect_seconds: float = 10.0
    between_chunks_seconds: float = 120.0
    answer_seconds: float = 600.0

    def http_timeout(self) -> httpx2.Timeout:
        """The wire's own limits. Silence is measured in bytes, so a provider's pings count as signs of life."""
        return httpx2.Timeout(self.between_chunks_seconds, connect=self.connect_seconds)


PATIENCE = Patience()


async def with_retries(
    attempt: Callable[[], Awaitable[T]],
    patience: Patience = PATIENCE,
    *,
    attempted: Callable[[], Awaitable[None]] | None = None,
    sleep: Sleep = asyncio.sleep,
    monotonic: Callable[[], float] = time.monotonic,
    chance: Callable[[], float] = random.random,
) -> T:
    """Try until an answer comes, an error that waiting cannot cure, or the end of patience. `attempted` is told before each, and what it raises
    is raised.

    Raises the last TransientError when tries or time run out; its `retry_after` is the server's own delay, if it gave one.
    """
    began = monotonic()
    silences = 0
    for number in range(1, patience.tries + 1):
        if attempted is not None:
            await attempted()
        try:
            return await attempt()
        except TransientError as error:
            wait = _wait(error, number, patience, chance)
            silences += error.reason == "model_timeout"
            if silences >= patience.silences:
                raise
            if number == patience.tries or monotonic() - began + wait > patience.total_seconds:
                raise
            await sleep(wait)
    raise TransientError(reason="model_unavailable")


def _wait(error: TransientError, number: int, patience: Patience, chance: Callable[[], float]) -> float:
    if error.retry_after is not None:
        return error.retry_after.total_seconds()
    # The exponent is capped so that a large number of tries cannot overflow.
    longest: float = min(
        patience.first_wait_seconds * 2.0 ** min(number - 1, 30), patience.longest_wait_seconds
    )
    return longest * (0.5 + chance() / 2)


def server_delay(headers: Mapping[str, str], now: datetime) -> timedelta | None:
    """How long the server asks to wait: `retry-after-ms`, `retry-after` (seconds or a date), or Anthropic's reset times.

    https://platform.claude.com/docs/en/api/rate-limits#response-headers
    https://developer.mozilla.org/en-US/docs/Web/HTTP/Reference/Headers/Retry-After
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return timedelta(milliseconds=milliseconds)
    stated = headers.get("retry-after")
    seconds = _number(stated)
    if seconds is not None:
        return timedelta(seconds=seconds)
    if stated is not None:
        return _until(_http_date(stated), now)
    return _anthropic_reset(headers, now)


def _anthropic_reset(headers: Mapping[str, str], now: datetime) -> timedelta | None:
    waits: list[timedelta] = []
    for kind in ("requests", "tokens", "input-tokens", "output-tokens"):
        if headers.get(f"anthropic-ratelimit-{kind}-remaining") != "0":
            continue
        try:
            reset = datetime.fromisoformat(headers.get(f"anthropic-ratelimit-{kind}-reset", ""))
        except ValueError:
            continue
        wait = _until(reset, now)
        if wait is not None:
            waits.append(wait)
    return max(waits, default=None)


def _http_date(text: str) -> datetime | None:
    try:
        return parsedate_to_datetime(text)
    except ValueError:
        return None


def _until(moment: datetime | None, now: datetime) -> timedelta | None:
    if moment is None:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(moment - now, timedelta(0))


def _number(text: str | None) -> float | None:
    """A finite delay of no more than a week; anything else is no delay that can be honoured."""
    try:
        value = float(text) if text is not None else math.nan
    except ValueError:
        return None
    return value if 0 <= value <= 604_800_000 else None


def status_error(
    status: int,
    headers: Mapping[str, str],
    *,
    code: str = "",
    detail: str = "",
    secret: str = "",
    now: datetime,
) -> MagicodeError:
    """The error for an answer of the provider that is not a success. `detail` is its own sentence; the key is cut out."""
    if status == 402 or code in _QUOTA_CODES:
        return RefusedError(
            "The model's provider says that the account has no credit left. Its billing page helps.",
            reason="model_quota_exhausted",
        )
    if status in (401, 403):
        return RefusedError(
            "The model's provider refused the API key, or the key may not use this model.",
            reason="model_key_refused",
        )
    if status in _OVERLOADED or (
        (status >= 500 or status in _AGAIN) and headers.get("x-should-retry") != "false"
    ):
        reason = "model_overloaded" if status in _OVERLOADED else "model_unavailable"
        return TransientError(
            f"The model's provider is overloaded or failing ({status}).",
            reason=reason,
            retry_after=server_delay(headers, now),
        )
    if status >= 500:
        # It says that trying again is of no use; another provider may be.
        return InvalidError(f"The model's provider is failing ({status}).", reason="model_unavailable")
    what, reason = _INVALID.get(
        status, ("The model's provider refused the request.", "model_request_refused")
    )
    return InvalidError(f"{what} ({status}) {_clean(detail, secret)}".rstrip(), reason=reason)


def _clean(detail: str, secret: str) -> str:
    text = detail.replace(secret, "[key]") if secret else detail
    return text if len(text) <= 500 else text[:500] + "…"


def network_error(error: Exception) -> TransientError:
    """The error for a connection that failed, fell silent or broke off in the middle of an answer."""
    if isinstance(error, TimeoutError | httpx2.TimeoutException):
        return TransientError("The model's provider did not answer in time.", reason="model_timeout")
    return TransientError(
        "The connection to the model's provider failed or broke off.", reason="model_unreachable"
    )
