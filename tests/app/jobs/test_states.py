"""A run's way through its states, and the fence that keeps a dead worker's hands off it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import StoppedError, SupersededError, TransientError
from app.jobs.fence import RunFence
from app.jobs.states import (
    ALLOWED,
    IllegalStateError,
    begin,
    charge,
    finish,
    note,
    request_cancel,
    require_allowed,
    unblock,
    was_told_to_stop,
)
from app.nouns import Outcome, RunState, Spending
from infra.postgres.store import PostgresTransaction

CANCELLED = Outcome(RunState.CANCELLED, "cancelled", "Stopped.")
OPENED = Outcome(RunState.OPENED, "opened", "Here it is.", pull_request=12, head_sha="c" * 40)


def test_only_a_failure_of_ours_can_be_left_again() -> None:
    left = {state for state in RunState if state.ended and ALLOWED[state]}
    assert left == {RunState.FAILED}
    assert ALLOWED[RunState.FAILED] == {RunState.QUEUED}


@given(st.lists(st.sampled_from(list(RunState)), max_size=12))
def test_no_walk_reaches_an_end_without_having_been_queued(walk: list[RunState]) -> None:
    at = RunState.QUEUED
    for step in walk:
        try:
            require_allowed(at, step)
        except IllegalStateError:
            continue
        assert not (at.ended and step.ended)
        assert not (step is RunState.RUNNING and at.ended)
        at = step


@pytest.fixture
async def run(deliver: Any, asking: Any, register: Any) -> Any:
    await register(1)
    return (await deliver(asking())).run


async def test_each_worker_that_takes_a_run_up_counts(run: Any, store: Any, clock: Any) -> None:
    first = await begin(store, 1, run.id, clock)
    assert (first.attempt, first.state, first.started_at) == (1, RunState.RUNNING, clock.now)
    clock.move(minutes=1)
    second = await begin(store, 1, run.id, clock)
    assert (second.attempt, second.started_at) == (2, first.started_at)


async def test_the_fence_stops_the_worker_that_was_thought_dead(run: Any, store: Any, clock: Any) -> None:
    first = await begin(store, 1, run.id, clock)
    fence = RunFence(store, first)
    await fence()
    second = await begin(store, 1, run.id, clock)
    with pytest.raises(SupersededError):
        await fence()
    for write in (finish(store, first, OPENED, clock), note(store, first, branch="magicode/issue-7")):
        with pytest.raises(SupersededError):
            await write
    await RunFence(store, second)()


async def test_the_fence_stops_a_cancelled_run(run: Any, store: Any, clock: Any) -> None:
    taken = await begin(store, 1, run.id, clock)
    assert (await request_cancel(store, 1, 5, 7)).id == run.id
    assert await request_cancel(store, 1, 5, 8) is None
    with pytest.raises(StoppedError):
        await RunFence(store, taken)()


async def test_what_was_asked_for_behind_a_cancellation_is_not_stopped_by_it(
    run: Any, store: Any, clock: Any
) -> None:
    earlier = run.created_at - timedelta(seconds=1)
    assert await request_cancel(store, 1, 5, 7, made_before=earlier) is None
    assert (await request_cancel(store, 1, 5, 7, made_before=run.created_at)).id == run.id


async def test_only_the_run_that_is_meant_is_told_to_stop_and_none_that_has_ended(
    run: Any, store: Any, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await request_cancel(store, 1, 5, 7, only=uuid4()) is None
    taken = await begin(store, 1, run.id, clock)
    assert not taken.cancel_requested
    read = PostgresTransaction.active_run

    async def late(transaction: PostgresTransaction, *what: Any) -> Any:
        found = await read(transaction, *what)
        await finish(store, taken, OPENED, clock)
        return found

    with monkeypatch.context() as during:
        during.setattr(PostgresTransaction, "active_run", late)
        assert await request_cancel(store, 1, 5, 7, only=run.id) is None
    async with store.transaction(1) as transaction:
        assert not (await transaction.run(run.id)).cancel_requested


async def test_a_request_that_waited_is_put_to_work_once_and_left_alone_from_then_on(
    run: Any, deliver: Any, asking: Any, store: Any, clock: Any
) -> None:
    waiting = (await deliver(asking(comment=10))).run
    assert waiting.blocked_by == run.id
    first = await begin(store, 1, waiting.id, clock, blocked=True)
    assert not await unblock(store, first), "another is at work"
    await finish(store, await begin(store, 1, run.id, clock), OPENED, clock)
    assert await unblock(store, first)
    worked_on = await begin(store, 1, waiting.id, clock)
    with pytest.raises(SupersededError):
        await unblock(store, first)
    with pytest.raises(SupersededError):  # whoever freed it died before the job was noted as done
        await begin(store, 1, waiting.id, clock, blocked=True)
    await RunFence(store, worked_on)()


async def test_who_was_told_to_stop_is_known_to_the_next_attempt_at_telling_it(
    run: Any, store: Any, clock: Any
) -> None:
    cancel = replace(run, id=uuid4(), verb="cancel", created_at=run.created_at + timedelta(seconds=1))
    assert not await was_told_to_stop(store, cancel)
    await request_cancel(store, 1, 5, 7)
    assert await was_told_to_stop(store, cancel)
    clock.move(seconds=10)
    await finish(store, await begin(store, 1, run.id, clock), CANCELLED, clock)
    ended = clock()
    assert await was_told_to_stop(store, replace(cancel, created_at=ended - timedelta(seconds=1)))
    assert not await was_told_to_stop(store, replace(cancel, created_at=ended + timedelta(seconds=1)))


async def test_the_fence_stops_what_was_deleted_or_belongs_to_another(
    run: Any, store: Any, clock: Any
) -> None:
    taken = await begin(store, 1, run.id, clock)
    await finish(store, taken, OPENED, clock)
    with pytest.raises(SupersededError):
        await RunFence(store, taken)()
    with pytest.raises(SupersededError):
        await begin(store, 2, run.id, clock)
    with pytest.raises(SupersededError):
        await begin(store, 1, uuid4(), clock)


async def test_an_end_says_what_came_of_it_and_what_all_attempts_cost(
    run: Any, store: Any, clock: Any
) -> None:
    spent = Spending(input_tokens=10, cached_tokens=4, output_tokens=3, cost_usd=Decimal("0.25"))
    first = await begin(store, 1, run.id, clock)
    await charge(store, first, spent)
    second = await begin(store, 1, run.id, clock)
    with pytest.raises(SupersededError):
        await charge(store, first, spent)
    await charge(store, second, spent)
    clock.move(seconds=30)
    done = await finish(store, second, OPENED, clock)
    assert (done.state, done.reason, done.pull_request, done.head_sha) == (
        RunState.OPENED,
        "opened",
        12,
        "c" * 40,
    )
    assert (done.input_tokens, done.cached_tokens, done.output_tokens, done.cost_usd) == (
        20,
        8,
        6,
        Decimal("0.5"),
    )
    assert done.ended_at == clock.now
    with pytest.raises(SupersededError):
        await finish(store, done, OPENED, clock)


async def test_a_request_that_came_before_its_pull_requests_opener_had_noted_it_waits_for_that_one(
    run: Any, deliver: Any, asking: Any, store: Any, clock: Any
) -> None:
    opener = await begin(store, 1, run.id, clock)
    early = (await deliver(asking(comment=10, number=12, is_pull_request=True))).run
    assert (early.subject, early.blocked_by) == (None, None)
    await note(store, opener, branch="magicode/issue-7", pull_request=12)
    with pytest.raises(TransientError):
        await begin(store, 1, early.id, clock)
    await finish(store, opener, OPENED, clock)
    begun = await begin(store, 1, early.id, clock)
    assert (begun.subject, begun.about) == (run.number, run.number)
    again = await begin(store, 1, early.id, clock)
    assert (again.subject, again.attempt) == (run.number, 2)


async def test_a_pull_request_that_nobody_opened_for_an_issue_is_its_own_subject(
    run: Any, deliver: Any, asking: Any, store: Any, clock: Any
) -> None:
    own = (await deliver(asking(comment=10, number=12, is_pull_request=True))).run
    begun = await begin(store, 1, own.id, clock)
    await note(store, begun, branch="magicode/issue-12", pull_request=12)
    assert (await begin(store, 1, own.id, clock)).subject is None
