"""The states of a run and the few ways from one to the next. Whoever writes holds the row and the current attempt."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from uuid import UUID

from app.errors import DefectError, SupersededError
from app.jobs.events import announce
from app.jobs.tasks import Task, lock_of
from app.nouns import Outcome, Run, RunEvent, RunState, Spending
from app.ports import Clock, Store, Transaction

_ENDS = frozenset(state for state in RunState if state.ended)

ALLOWED: Mapping[RunState, frozenset[RunState]] = {
    RunState.QUEUED: frozenset({RunState.RUNNING}) | _ENDS,
    RunState.RUNNING: frozenset({RunState.RUNNING}) | _ENDS,  # taken up again after its worker died
    RunState.FAILED: frozenset({RunState.QUEUED}),  # a redelivery of what failed for our own reasons
} | {state: frozenset() for state in _ENDS - {RunState.FAILED}}


class IllegalStateError(DefectError):
    """A run was about to go from one state to another that cannot follow it."""


def require_allowed(old: RunState, new: RunState) -> None:
    """Raises IllegalStateError."""
    if new not in ALLOWED[old]:
        raise IllegalStateError(f"A run that is {old} cannot become {new}.", reason="illegal_state")


async def begin(
    store: Store, installation_id: int, run_id: UUID, clock: Clock, *, blocked: bool = False
) -> Run:
    """Take a run up: its attempt grows by one, and whoever held it before is fenced off from here on.

    A request on a pull request that came before its opener had written down that it was its learns here what it is about.
    Raises SupersededError for a run that has ended or is no longer there, or that is to be taken up as `blocked` and is not any more:
    whoever works on it now is left alone. Raises TransientError while another is at work there.
    """
    async with store.transaction(installation_id) as transaction:
        run = await transaction.run(run_id, lock=True)
        if run is None or run.state.ended:
            raise SupersededError(reason="run_ended")
        if blocked and run.blocked_by is None:
            raise SupersededError(reason="unblocked")
        require_allowed(run.state, RunState.RUNNING)
        subject = run.subject
        if run.is_pull_request and subject is None:
            found = await transaction.opened_for(run.repository_id, run.number)
            subject = None if found == run.number else found
        begun = await transaction.update_run(
            run_id,
            state=RunState.RUNNING,
            attempt=run.attempt + 1,
            started_at=run.started_at or clock(),
            subject=subject,
        )
        if run.started_at is None:
            await announce(transaction, RunEvent.STARTED, begun)
        return begun


async def finish(
    store: Store,
    run: Run,
    outcome: Outcome,
    clock: Clock,
    *,
    also: Callable[[Transaction], Awaitable[object]] | None = None,
) -> Run:
    """End a run, and do `also` in the same transaction, so that both happen once or neither does.

    Raises SupersededError when another worker took the run over or it has ended already.
    """
    async with store.transaction(run.installation_id) as transaction:
        current = await _held(transaction, run)
        require_allowed(current.state, outcome.state)
        columns: dict[str, object] = {"state": outcome.state, "reason": outcome.reason, "ended_at": clock()}
        if outcome.pull_request is not None:
            columns["pull_request"] = outcome.pull_request
        if outcome.head_sha is not None:
            columns["head_sha"] = outcome.head_sha
        ended = await transaction.update_run(run.id, **columns)
        await announce(transaction, RunEvent.ENDED, ended)
        if also is not None:
            await also(transaction)
        return ended


async def note(store: Store, run: Run, **columns: object) -> Run:
    """Write down what this attempt found (branch, base_sha, status_comment_id …). Raises SupersededError."""
    async with store.transaction(run.installation_id) as transaction:
        await _held(transaction, run)
        return await transaction.update_run(run.id, **columns)


async def charge(store: Store, run: Run, spending: Spending) -> Run:
    """Add what one call of the model cost, at once, so that a crash loses no figure. Raises SupersededError."""
    async with store.transaction(run.installation_id) as transaction:
        current = await _held(transaction, run)
        return await transaction.update_run(run.id, **_added(current, spending))


async def request_cancel(
    store: Store,
    installation_id: int,
    repository_id: int,
    number: int,
    *,
    made_before: datetime | None = None,
    only: UUID | None = None,
) -> Run | None:
    """Ask the run at work on this issue or pull request to stop; None when there is none, or none that was `made_before`, or another
    one than `only`.

    One that waits to be tried again is taken up at once, so that it says that it was stopped.
    """
    async with store.transaction(installation_id) as transaction:
        active = await transaction.active_run(repository_id, await _about(transaction, repository_id, number))
        if active is None or (made_before is not None and active.created_at > made_before):
            return None
        if only is not None and active.id != only:
            return None
        held = await transaction.run(active.id, lock=True)
        if held is None or held.state.ended:
            return None
        if (lock := lock_of(active)) is not None:
            await transaction.hasten(lock)
        return await transaction.update_run(active.id, cancel_requested=True)


async def was_told_to_stop(store: Store, run: Run) -> bool:
    """Whether what was at work on the same issue or pull request when this run was asked for has been told to stop since."""
    async with store.transaction(run.installation_id) as transaction:
        about = await _about(transaction, run.repository_id, run.number)
        others = await transaction.runs(repository_id=run.repository_id, about=about)
    return any(
        one.cancel_requested
        and one.created_at <= run.created_at
        and (one.ended_at is None or one.ended_at >= run.created_at)
        for one in others
    )


async def _about(transaction: Transaction, repository_id: int, number: int) -> int:
    subject = await transaction.opened_for(repository_id, number)
    return number if subject is None else subject


async def unblock(store: Store, run: Run) -> bool:
    """Puts a blocked run to work now that its subject is free; False where somebody else is at work there. Raises SupersededError
    where that was done already."""
    async with store.transaction(run.installation_id) as transaction:
        current = await _held(transaction, run)
        if current.blocked_by is None:
            raise SupersededError(reason="unblocked")
        if await transaction.active_run(run.repository_id, run.about) is not None:
            return False
        await transaction.update_run(run.id, blocked_by=None)
        await transaction.defer(
            Task.WORK, lock=lock_of(run), installation_id=run.installation_id, run_id=run.id
        )
        return True


async def _held(transaction: Transaction, run: Run) -> Run:
    current = await transaction.run(run.id, lock=True)
    if current is None or current.attempt != run.attempt or current.state.ended:
        raise SupersededError(reason="superseded")
    return current


def _added(run: Run, spending: Spending) -> dict[str, object]:
    return {
        "input_tokens": run.input_tokens + spending.input_tokens,
        "cached_tokens": run.cached_tokens + spending.cached_tokens,
        "output_tokens": run.output_tokens + spending.output_tokens,
        "cost_usd": run.cost_usd + spending.cost_usd,
    }
