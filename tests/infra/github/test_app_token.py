"""The App's own token: made anew every few minutes, by GitHub's clock where ours is another."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import jwt
import pytest

from infra.github.auth import AppToken
from infra.simulator.auth import new_private_key

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


class Time:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture(scope="module")
def key() -> str:
    return new_private_key()


def claims(token: str) -> dict[str, Any]:
    return dict(jwt.decode(token, options={"verify_signature": False}))


def test_it_is_issued_in_the_past_and_good_for_less_than_ten_minutes(key: str) -> None:
    said = claims(AppToken("7", key, now=Time()).current())
    assert said == {"iss": "7", "iat": NOON.timestamp() - 60, "exp": NOON.timestamp() + 480}


def test_it_is_kept_for_a_few_minutes_and_not_over_a_clock_that_was_put_back(key: str) -> None:
    time = Time()
    token = AppToken("7", key, now=time)
    first = token.current()
    time.now += timedelta(minutes=3)
    assert token.current() == first
    time.now += timedelta(minutes=2)
    assert claims(token.current())["iat"] == time.now.timestamp() - 60
    time.now -= timedelta(days=1)
    assert claims(token.current())["iat"] == time.now.timestamp() - 60


@pytest.mark.parametrize("minutes", [-30, -2, 2, 30])
def test_githubs_clock_is_followed_once_it_turned_out_to_be_another(key: str, minutes: int) -> None:
    time = Time()
    there = NOON + timedelta(minutes=minutes)
    refusal = httpx.Response(401, headers={"date": format_datetime(there, usegmt=True)})
    token = AppToken("7", key, now=time)
    first = token.current()
    again = token.by_the_clock_of(refusal)
    assert again != first
    assert claims(again)["iat"] == there.timestamp() - 60
    time.now += timedelta(minutes=5)
    assert claims(token.current())["iat"] == there.timestamp() + 300 - 60
    token.by_the_clock_of(httpx.Response(401))
    assert claims(token.current())["iat"] == time.now.timestamp() - 60, (
        "an answer without a date tells no time"
    )
