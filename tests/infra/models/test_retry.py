"""When a provider is asked again, and what its refusals become."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import InvalidError, MagicodeError, RefusedError, TransientError
from infra.models.retry import Patience, network_error, server_delay, status_error, with_retries

NOW = datetime(2026, 11, 20, 12, 0, 0, tzinfo=UTC)


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


async def tried(error: MagicodeError, patience: Patience, clock: Clock, chance: float = 1.0) -> int:
    """How often something that always fails in this way is tried."""
    tries = 0

    async def attempt() -> None:
        nonlocal tries
        tries += 1
        raise error

    with pytest.raises(type(error)):
        await with_retries(attempt, patience, sleep=clock.sleep, monotonic=clock, chance=lambda: chance)
    return tries


async def test_what_waiting_cannot_cure_is_tried_once() -> None:
    for error in (InvalidError(), RefusedError()):
        assert await tried(error, Patience(), Clock()) == 1


async def test_waits_double_up_to_the_longest() -> None:
    clock = Clock()
    patience = Patience(tries=6, first_wait_seconds=1, longest_wait_seconds=5)
    assert await tried(TransientError(), patience, clock) == 6
    assert clock.slept == [1, 2, 4, 5, 5]


async def test_the_servers_delay_comes_before_our_own() -> None:
    clock = Clock()
    await tried(TransientError(retry_after=timedelta(seconds=33)), Patience(tries=3), clock)
    assert clock.slept == [33, 33]


@given(
    tries=st.integers(1, 12),
    total=st.floats(0, 500),
    asked=st.none() | st.floats(0, 400),
    chance=st.floats(0, 1),
)
async def test_tries_and_total_time_are_bounded_whatever_the_server_asks(
    tries: int, total: float, asked: float | None, chance: float
) -> None:
    clock = Clock()
    delay = None if asked is None else timedelta(seconds=asked)
    patience = Patience(tries=tries, total_seconds=total)
    assert await tried(TransientError(retry_after=delay), patience, clock, chance) <= tries
    assert clock.now <= total


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "12"}, 12),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "12"}, 0.25),
        ({"retry-after": "Fri, 20 Nov 2026 12:00:30 GMT"}, 30),
        ({"retry-after": "Fri, 20 Nov 2026 11:00:00 GMT"}, 0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        (
            {
                "anthropic-ratelimit-tokens-remaining": "0",
                "anthropic-ratelimit-tokens-reset": "2026-11-20T12:00:45Z",
            },
            45,
        ),
        (
            {
                "anthropic-ratelimit-tokens-remaining": "9",
                "anthropic-ratelimit-tokens-reset": "2026-11-20T12:00:45Z",
            },
            None,
        ),
        (
            {"anthropic-ratelimit-requests-remaining": "0", "anthropic-ratelimit-requests-reset": "later"},
            None,
        ),
        ({"anthropic-ratelimit-requests-remaining": "0"}, None),
    ],
)
def test_the_delay_is_read_from_every_header_that_may_carry_it(
    headers: dict[str, str], seconds: float | None
) -> None:
    wanted = None if seconds is None else timedelta(seconds=seconds)
    assert server_delay(headers, NOW) == wanted


@given(st.text(max_size=40))
def test_no_header_breaks_the_reading_of_delays(text: str) -> None:
    for name in ("retry-after", "retry-after-ms"):
        delay = server_delay({name: text}, NOW)
        assert delay is None or delay >= timedelta(0)


@pytest.mark.parametrize(
    ("status", "code", "kind", "reason"),
    [
        (400, "", InvalidError, "model_request_refused"),
        (401, "", RefusedError, "model_key_refused"),
        (402, "", RefusedError, "model_quota_exhausted"),
        (403, "", RefusedError, "model_key_refused"),
        (404, "", InvalidError, "model_unknown"),
        (408, "", TransientError, "model_unavailable"),
        (413, "", InvalidError, "model_request_too_large"),
        (422, "", InvalidError, "model_request_refused"),
        (429, "", TransientError, "model_overloaded"),
        (429, "insufficient_quota", RefusedError, "model_quota_exhausted"),
        (500, "", TransientError, "model_unavailable"),
        (503, "", TransientError, "model_unavailable"),
        (529, "", TransientError, "model_overloaded"),
    ],
)
def test_each_status_becomes_the_error_that_says_what_to_do(
    status: int, code: str, kind: type[MagicodeError], reason: str
) -> None:
    error = status_error(status, {}, code=code, detail="why", now=NOW)
    assert type(error) is kind
    assert error.reason == reason


def test_a_server_that_says_not_to_retry_is_believed() -> None:
    error = status_error(500, {"x-should-retry": "false"}, now=NOW)
    assert (type(error), error.reason) == (InvalidError, "model_unavailable")


@given(status=st.integers(400, 599), before=st.text(max_size=20), after=st.text(max_size=20))
def test_no_error_repeats_the_key(status: int, before: str, after: str) -> None:
    key = "sk-ant-very-secret"
    error = status_error(status, {}, detail=before + key + after, secret=key, now=NOW)
    assert key not in error.message


def test_a_long_explanation_is_cut() -> None:
    assert len(status_error(400, {}, detail="x" * 100_000, now=NOW).message) < 700


def test_silence_and_a_broken_connection_are_told_apart() -> None:
    assert network_error(httpx2.ReadTimeout("")).reason == "model_timeout"
    assert network_error(TimeoutError()).reason == "model_timeout"
    assert network_error(httpx2.RemoteProtocolError("")).reason == "model_unreachable"
