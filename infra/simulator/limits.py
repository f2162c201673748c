"""GitHub's rate limits, primary and secondary, counted by caller on the world's clock.

https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api
"""

from __future__ import annotations

import math
from collections import defaultdict, deque
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

from infra.simulator.answers import ApiError
from infra.simulator.auth import Caller
from infra.simulator.state import Limits

_HOUR = timedelta(hours=1)
_MINUTE = timedelta(minutes=1)
_DOCS = "https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api"
_SECONDARY_DOCS = f"{_DOCS}#about-secondary-rate-limits"
_TERMS = "https://docs.github.com/site-policy/github-terms/github-terms-of-service"


@dataclass
class Window:
    """The hour that began with a caller's first request."""

    resets_at: datetime
    used: int = 0
    status: int = 403


@dataclass
class Usage:
    windows: dict[str, Window] = field(default_factory=dict)
    points: dict[str, deque[tuple[datetime, int]]] = field(default_factory=lambda: defaultdict(deque))
    content: dict[str, deque[datetime]] = field(default_factory=lambda: defaultdict(deque))
    open: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    held: dict[str, tuple[datetime, int, str]] = field(default_factory=dict)
    """Until when a caller is refused everything, with which status and which header."""
    met: list[tuple[datetime, str, str]] = field(default_factory=list)
    """When whom met which limit: `primary`, `points`, `content` or `concurrent`."""


def primary_limit(limits: Limits, caller: Caller) -> int:
    if caller.kind == "installation":
        return limits.installation_per_hour
    return limits.anonymous_per_hour if caller.kind == "anonymous" else limits.user_per_hour


def headers(usage: Usage, limits: Limits, caller: Caller, now: datetime) -> dict[str, str]:
    window = _window(usage, caller, now)
    allowed = primary_limit(limits, caller)
    return {
        "X-RateLimit-Limit": str(allowed),
        "X-RateLimit-Remaining": str(max(0, allowed - window.used)),
        "X-RateLimit-Used": str(window.used),
        "X-RateLimit-Reset": str(int(window.resets_at.timestamp())),
        "X-RateLimit-Resource": "core",
    }


def spend(usage: Usage, limits: Limits, caller: Caller, now: datetime) -> None:
    """Counts one request against the hour. Raises 403 when the hour's requests are spent."""
    window = _window(usage, caller, now)
    if window.used >= primary_limit(limits, caller):
        usage.met.append((now, caller.key, "primary"))
        raise exceeded(caller, window.status)
    window.used += 1


def exhaust(
    usage: Usage, limits: Limits, caller: Caller, now: datetime, *, seconds: float, status: int
) -> ApiError:
    """The caller has nothing left until then; the refusal."""
    until = now + timedelta(seconds=seconds)
    usage.windows[caller.key] = Window(until, primary_limit(limits, caller), status)
    return exceeded(caller, status)


def exceeded(caller: Caller, status: int = 403) -> ApiError:
    return ApiError(status, _exceeded(caller), docs=_DOCS)


def hold(usage: Usage, caller: Caller, now: datetime, *, seconds: float, status: int, header: str) -> None:
    """Refuses the caller everything for so long."""
    usage.held[caller.key] = (now + timedelta(seconds=seconds), status, header)


def refuse_held(usage: Usage, caller: Caller, now: datetime) -> None:
    until, status, header = usage.held.get(caller.key, (now, 0, ""))
    if until > now:
        raise secondary(math.ceil((until - now).total_seconds()), status=status, header=header, now=now)


def refund(usage: Usage, caller: Caller, now: datetime) -> None:
    """An authenticated 304 is free.

    https://docs.github.com/rest/using-the-rest-api/best-practices-for-using-the-rest-api#use-conditional-requests-if-appropriate
    """
    if caller.kind != "anonymous":
        window = _window(usage, caller, now)
        window.used = max(0, window.used - 1)


def throttle(
    usage: Usage, limits: Limits, caller: Caller, method: str, *, creates_content: bool, now: datetime
) -> None:
    """The secondary limits. Raises 403 with `Retry-After` and says nothing about when it would be well again."""
    key = caller.key
    cost = 1 if method in ("GET", "HEAD", "OPTIONS") else 5
    points, content = usage.points[key], usage.content[key]
    while points and points[0][0] <= now - _MINUTE:
        points.popleft()
    while content and content[0] <= now - _HOUR:
        content.popleft()
    recent = sum(1 for moment in content if moment > now - _MINUTE)
    over = {
        "concurrent": usage.open[key] >= limits.concurrent,
        "points": sum(c for _, c in points) + cost > limits.points_per_minute,
        "content": creates_content
        and (recent >= limits.content_per_minute or len(content) >= limits.content_per_hour),
    }
    if any(over.values()):
        usage.met += [(now, key, name) for name, met in over.items() if met]
        raise secondary(limits.retry_after_seconds)
    points.append((now, cost))
    if creates_content:
        content.append(now)


def secondary(
    seconds: int, *, status: int = 403, header: str = "retry-after", now: datetime | None = None
) -> ApiError:
    """`header` says what GitHub tells of when it would be well again: "retry-after", "date" (the same as a date), "reset"
    (nothing remains until then), or "none".

    https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api#exceeding-the-rate-limit
    """
    at = (now or datetime.now(UTC)) + timedelta(seconds=seconds)
    told = {
        "retry-after": {"Retry-After": str(seconds)},
        "date": {"Retry-After": format_datetime(at.astimezone(UTC), usegmt=True)},
        "reset": {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(math.ceil(at.timestamp()))},
        "none": {},
    }[header]
    return ApiError(
        status,
        "You have exceeded a secondary rate limit. Please wait a few minutes before you try again. For more on scraping "
        f"GitHub and how it may affect your rights, please review our Terms of Service ({_TERMS})",
        docs=_SECONDARY_DOCS,
        headers=told,
    )


def _window(usage: Usage, caller: Caller, now: datetime) -> Window:
    window = usage.windows.get(caller.key)
    if window is None or window.resets_at <= now:
        window = usage.windows[caller.key] = Window(now + _HOUR)
    return window


def _exceeded(caller: Caller) -> str:
    if caller.installation is not None:
        return f"API rate limit exceeded for installation ID {caller.installation.id}."
    if caller.user is not None:
        return f"API rate limit exceeded for user ID {caller.user.id}."
    return "API rate limit exceeded. (But here's the good news: Authenticated requests get a higher rate limit. Check out the documentation for more details.)"
