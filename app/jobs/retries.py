"""Which failures are tried again, and when. Everything but a TransientError ends the job at once."""

from __future__ import annotations

from datetime import timedelta

from app.errors import TransientError

TAKES = 5
"""How often a job is tried in all."""

LONGEST = timedelta(minutes=10)
_FIRST = timedelta(seconds=5)


def retry_after(error: BaseException, taken_before: int) -> timedelta | None:
    """How long to wait before the next try, or None when there is none.

    `taken_before` counts the tries before the one that failed, from 0. The server's own delay is obeyed where it names
    one, up to ten minutes; otherwise 5 s, 15 s, 45 s and 2 min 15 s.
    """
    if not isinstance(error, TransientError) or taken_before + 1 >= TAKES:
        return None
    if error.retry_after is not None:
        return min(max(error.retry_after, timedelta(0)), LONGEST)
    return min(_FIRST * int(3**taken_before), LONGEST)
