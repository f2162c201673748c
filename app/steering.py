"""What somebody does about a run on its page, without a comment: stops it, or has it tried again.

Whether the person may is asked by whoever calls; of a new try the worker asks it once more, as of any request.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

from app.errors import GoneError, MissingError, RefusedError, UserError
from app.house import House
from app.jobs.events import announce
from app.jobs.freeze import input_hash
from app.jobs.fresh import fresh
from app.jobs.permission import NOT_THEIRS
from app.jobs.tasks import Task, lock_of
from app.nouns import BESIDE_VERBS, MEND, Account, Action, Facts, Job, Run, RunEvent
from app.ports import Transaction
from app.retrying import CAME_TO_NOTHING
from app.scene import written_down
from webhooks.command import Verb


class NotStoppableError(UserError):
    """This run is not at work any more, so there is nothing to stop."""


class NotRetryableError(UserError):
    """This is not the last request there, or it came to something; what is wanted now can be said in a comment."""


class BusyThereError(RefusedError):
    """Another run is at work on the same issue or pull request. When it has ended, this can be tried again."""


def stoppable(run: Run) -> bool:
    """What is answered at once, or was turned away, is not stopped."""
    return not run.state.ended and run.blocked_by is None and run.verb not in BESIDE_VERBS


def retryable(run: Run, there: Sequence[Run]) -> bool:
    """Whether it is the last request of those `there`, newest first and on the same number, and came to nothing."""
    last = next((one for one in there if one.verb not in BESIDE_VERBS and one.blocked_by is None), None)
    return (
        last is not None
        and last.id == run.id
        and run.verb != MEND
        and run.state in CAME_TO_NOTHING
        and run.reason not in NOT_THEIRS
    )


async def requests_there(transaction: Transaction, run: Run) -> Sequence[Run]:
    """What `retryable` looks at."""
    return await transaction.runs(repository_id=run.repository_id, number=run.number)


async def stop(house: House, tenant: int, run_id: UUID, by: str) -> Run:
    """Tells the run to stop, once, however often it is asked for. Raises MissingError and NotStoppableError."""
    async with house.store.transaction(tenant) as transaction:
        run = await transaction.run(run_id, lock=True)
        if run is None:
            raise MissingError
        if not stoppable(run):
            raise NotStoppableError(reason="not_stoppable")
        if run.cancel_requested:
            return run
        if (lock := lock_of(run)) is not None:
            await transaction.hasten(lock)
        stopped = await transaction.update_run(run_id, cancel_requested=True)
        facts = {"repository": run.repository_id, "number": run.number}
        await house.ledger.append(transaction, tenant, Action.RUN_STOP_ASKED, by, run_id, facts)
        return stopped


async def try_again(house: House, tenant: int, run_id: UUID, person: Account) -> Run:
    """The new run; the same one, however often it is asked for.

    What stands on the issue now is what is worked on, as if somebody had asked there at this moment. Raises MissingError,
    NotRetryableError and BusyThereError, and what GitHub's answers raise.
    """
    async with house.store.transaction(tenant) as transaction:
        run = await transaction.run(run_id)
        key = await house.keys.data_key(transaction)
    if run is None:
        raise MissingError
    asked = replace(run, asker_id=person.id, asker_login=person.login)
    again = fresh(
        asked,
        key,
        new_id=house.new_id(),
        verb=Verb.RETRY.value,
        occasion=f"page:{run_id}",
        input_hash=input_hash(key, await _texts(house, run)),
        number=run.number,
        created_at=house.clock(),
    )
    async with house.store.transaction(tenant) as transaction:
        # First: whoever tries it again at this moment is then seen among the requests, and not as somebody else at work.
        active = await transaction.active_run(run.repository_id, run.about)
        there = await requests_there(transaction, run)
        known = next((one for one in there if one.meaning == again.meaning), None)
        if known is not None:
            return known
        if not retryable(run, there):
            raise NotRetryableError(reason="not_retryable")
        if active is not None:
            raise BusyThereError(reason="busy")
        added = await transaction.add_run(again)
        if added.id != again.id:  # somebody was quicker
            return added
        if added.blocked_by is not None:
            raise BusyThereError(reason="busy")
        work = Job(Task.WORK, {"installation_id": tenant, "run_id": added.id}, lock_of(added))
        facts: Facts = {
            "repository": run.repository_id,
            "number": run.number,
            "verb": again.verb,
            "of": str(run_id),
        }
        await announce(transaction, RunEvent.ACCEPTED, added)
        await house.ledger.append(
            transaction, tenant, Action.RUN_ASKED, person.login, added.id, facts, (work,)
        )
        return added


async def _texts(house: House, run: Run) -> Sequence[tuple[str, str]]:
    """What the issue says now, by which the worker tells whether it was edited since. Raises MissingError."""
    reading = house.github.reader(run.installation_id, run.repository_id)
    record = house.ledger.recorder(run.installation_id, None)
    async with written_down(reading, record, "read", "read") as reader:
        try:
            issue = await reader.issue(run.number)
        except GoneError:
            raise MissingError from None
    return [("issue.title", issue.title), ("issue.body", issue.body)]
