"""Which deliveries are asked for again, and when."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.jobs.reconcile import ATTEMPTS, EVENTS, KEPT, OVERLAP, due, look_from, missed
from app.nouns import Delivery

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
_ids = itertools.count(1)


def attempt(
    guid: str = "a", status: int = 0, *, ago: float = 60, event: str = "issue_comment", again: bool = False
) -> Delivery:
    return Delivery(next(_ids), guid, event, NOW - timedelta(seconds=ago), again, status)


def asked(*deliveries: Delivery, now: datetime = NOW) -> list[int]:
    return [one.newest.id for one in due(missed(deliveries, now), now)]


@pytest.mark.parametrize("status", [0, 302, 401, 404, 500, 502, 503, 504])
def test_what_was_not_acknowledged_is_asked_for(status: int) -> None:
    lost = attempt(status=status)
    assert asked(lost) == [lost.id]


@pytest.mark.parametrize("status", [200, 202, 204])
def test_what_was_acknowledged_is_not(status: int) -> None:
    assert asked(attempt(status=status)) == []


def test_one_acknowledged_attempt_settles_the_event_wherever_it_stands() -> None:
    assert (
        asked(attempt(ago=500), attempt(status=202, ago=400, again=True), attempt(ago=300, again=True)) == []
    )
    assert (
        asked(attempt(ago=500), attempt(ago=400, again=True), attempt(status=202, ago=300, again=True)) == []
    )


def test_an_attempt_that_may_still_be_under_way_is_waited_for() -> None:
    assert asked(attempt(ago=9)) == []


def test_events_that_we_do_not_act_on_are_left_alone() -> None:
    assert asked(attempt(event="ping"), attempt("b", event="star")) == []
    assert all(asked(one := attempt(event=event)) == [one.id] for event in EVENTS)


def test_what_github_no_longer_keeps_is_not_asked_for() -> None:
    assert asked(attempt(ago=KEPT.total_seconds())) == []
    assert len(asked(attempt(ago=KEPT.total_seconds() - 1))) == 1


def test_the_newest_attempt_is_the_one_repeated_oldest_event_first() -> None:
    first, second = attempt("a", ago=9000), attempt("a", ago=8000, again=True)
    other = attempt("b", ago=8500)
    assert asked(other, second, first) == [second.id, other.id]


def test_pauses_grow_and_end() -> None:
    attempts = [attempt(ago=0)]
    pauses = []
    while events := missed(attempts, NOW):
        pauses.append((events[0].due_at - attempts[-1].delivered_at).total_seconds())
        at = events[0].due_at
        attempts.append(Delivery(next(_ids), "a", "issues", at, True, 500))
    assert pauses[:4] == [15, 60, 240, 960]
    assert len(attempts) == ATTEMPTS
    assert timedelta(days=0.5) < attempts[-1].delivered_at - NOW < KEPT


def test_an_event_given_up_is_not_begun_again_when_the_window_moves() -> None:
    attempts = [attempt(ago=100_000)] + [attempt(ago=90_000 - n, again=True) for n in range(ATTEMPTS - 1)]
    assert missed(attempts, NOW) == []
    assert asked(*attempts[1:]) == []


def test_an_event_on_its_way_keeps_its_first_attempt_in_the_window() -> None:
    pending = missed([attempt("a", ago=7200), attempt("a", ago=1, again=True), attempt("b", 202)], NOW)
    assert look_from(pending, NOW) == NOW - timedelta(seconds=7200) - OVERLAP
    assert look_from([], NOW) == NOW - OVERLAP


@given(
    st.lists(
        st.tuples(
            st.sampled_from("abc"), st.sampled_from([0, 202, 500]), st.integers(0, 400_000), st.booleans()
        ),
        max_size=30,
    )
)
def test_nothing_acknowledged_old_or_tried_often_is_ever_asked_for(
    rows: list[tuple[str, int, int, bool]],
) -> None:
    deliveries = [attempt(guid, status, ago=ago, again=again) for guid, status, ago, again in rows]
    for one in due(missed(deliveries, NOW), NOW):
        own = [delivery for delivery in deliveries if delivery.guid == one.newest.guid]
        assert not any(delivery.acknowledged for delivery in own)
        assert len(own) < ATTEMPTS
        assert all(delivery.delivered_at <= one.newest.delivered_at for delivery in own)
        assert NOW - one.newest.delivered_at < KEPT
