"""Which failures are tried again, and when. Everything but a TransientError ends the job at once.

Being asked to wait (LimitedError) is no failure: the job is put back until then, and its worker does something else meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from app.errors import LimitedError, TransientError

TAKES = 5
"""How often a job is tried in all."""

WAITS = 100
"""How often a job waits for what asks it to: the bound of what has no run, whose own is `app.line.WAITS_FOR`."""

UNTOLD = timedelta(minutes=1)
"""To wait where no time is named: "at least one minute", and then longer.
https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api#exceeding-the-rate-limit"""

LONGEST_UNTOLD = timedelta(minutes=16)

LONGEST = timedelta(minutes=10)
_FIRST = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class Away:
    """How long something that is away is tried again: first after `first`, then after twice as long, up to `longest`, until
    `in_all` was waited. Not by any clock, so that one that jumps ends nothing."""

    first: timedelta
    longest: timedelta
    in_all: timedelta

    def pause(self, tried_before: int) -> timedelta | None:
        pause, waited = self.first, timedelta(0)
        for _ in range(tried_before):
            waited += pause
            if waited >= self.in_all:
                return None
            pause = min(pause * 2, self.longest)
        return pause


MODEL_AWAY = Away(timedelta(seconds=15), timedelta(minutes=5), timedelta(hours=2))
"""Providers were away for an hour and more. Who asked is told that it is waited for, and can cancel."""

DATABASE_AWAY = Away(timedelta(seconds=1), timedelta(seconds=30), timedelta(days=1))
"""Without it nobody could even be told that the run failed."""

HOOK_AWAY = Away(timedelta(seconds=5), timedelta(hours=4), timedelta(days=1))
"""A receiver that is mended within a day has missed nothing."""

ASKED_AT_MOST = timedelta(hours=1)
"""The longest delay that a model's provider names and that is obeyed."""


def away(reason: str) -> Away | None:
    """How patient to be with what has this reason; None: as with anything else."""
    if reason.startswith("model_"):
        return MODEL_AWAY
    return DATABASE_AWAY if reason == "database_away" else None


def retry_after(error: BaseException, taken_before: int) -> timedelta | None:
    """How long to wait before the next try, or None when there is none.

    `taken_before` counts the tries before the one that failed, from 0. The server's own delay is obeyed where it names
    one, up to ten minutes, and whole where it is a limit's; otherwise 5 s, 15 s, 45 s and 2 min 15 s. What is known to be
    away for long at times (`away`) is tried for longer.
    """
    if isinstance(error, LimitedError):
        return _wait(error, taken_before)
    if not isinstance(error, TransientError):
        return None
    if (patience := away(error.reason)) is not None:
        pause = patience.pause(taken_before)
        asked = min(error.retry_after or timedelta(0), ASKED_AT_MOST)
        return None if pause is None else max(pause, asked)
    if taken_before + 1 >= TAKES:
        return None
    if error.retry_after is not None:
        return min(max(error.retry_after, timedelta(0)), LONGEST)
    return min(_FIRST * int(3**taken_before), LONGEST)


def _wait(error: LimitedError, taken_before: int) -> timedelta | None:
    if taken_before + 1 >= WAITS:
        return None
    if error.retry_after is not None:
        return max(error.retry_after, timedelta(seconds=1))
    return min(UNTOLD * int(2 ** min(taken_before, 10)), LONGEST_UNTOLD)
