"""How a run ends: what its status comment says last, its row, and its entry in the log. Every run ends here, once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import replace
from datetime import timedelta

from app.custody import settings
from app.errors import (
    DefectError,
    GoneError,
    MagicodeError,
    MissingError,
    RefusedError,
    StoppedError,
    TransientError,
    UserError,
)
from app.house import House, page_of
from app.jobs import states
from app.jobs.tasks import Task
from app.nouns import BESIDE_VERBS, Action, Outcome, PullRequest, Run, RunState, Spending
from app.ports import Recorder, RepositoryWriter, Transaction
from app.pulls import wording
from app.pulls.publish import PERMISSIONS, require_ours
from app.pulls.recovery import left_alone, was_published
from app.pulls.wording import Ours
from app.scene import Scene, open_scene
from app.threads import answer_threads
from app.words import hear_review

TOLD_WITHIN = timedelta(days=1)
"""How long telling a run's end is tried."""

AtTheEnd = Sequence[Callable[[Transaction], Awaitable[object]]]

AS_DRAFT = "opened_as_draft"
"""The reason of a run whose pull request waits for its checks: `settle` marks it as ready, once."""


async def end(scene: Scene, outcome: Outcome, *, last: bool = False) -> None:
    """The visible end: first review threads and the status comment, which may be said twice, then the row and the log, which
    end once. `last`: it will not be tried again."""
    await _tidy(scene, outcome, last=last)
    await hear_review(scene, outcome)
    await answer_threads(scene, outcome)
    scene.remarks += await _alerts(scene)
    run = await say(scene, outcome)
    await _finish(scene.house, scene.run, outcome, scene.at_the_end, cost_usd=str(run.cost_usd))


async def _tidy(scene: Scene, outcome: Outcome, *, last: bool) -> None:
    """No branch of ours is left behind without a pull request: its run was stopped, refused or given up in between."""
    if outcome.state in (RunState.OPENED, RunState.UPDATED):
        return
    run = await scene.current()
    try:
        branch = await left_alone(run, scene.reader, scene.house.sleep)
        if branch is not None:
            removed = await remove(run, branch, scene.writer("remove", PERMISSIONS), scene.record)
            scene.remarks.append(wording.branch_removed(branch) if removed else wording.branch_left(branch))
    except MissingError as error:
        # What stands on a branch of ours is not found everywhere at once; a repository that is gone has none.
        if error.reason == "missing" and not last:
            raise TransientError(error.message, reason="not_there_yet") from None
    except (UserError, RefusedError):  # nothing is to be seen there any more
        return
    except TransientError:
        if not last:
            raise


async def _alerts(scene: Scene) -> Sequence[Ours]:
    """What this run has used up of a budget so far that people are to hear of it; of each step one run tells, where none
    ends beside it."""
    run, now = await scene.current(), scene.house.clock()
    if not run.cost_usd:
        return ()
    async with scene.house.store.transaction(run.installation_id) as transaction:
        try:
            chosen = await settings.read(transaction)
        except DefectError:
            return ()  # a run that ended for that has its end said all the same
        found = await settings.budgets(transaction, chosen, now)
    return [
        wording.budget_reached(one.period, alert)
        for one in found
        if (alert := one.crossed_by(run.cost_usd)) is not None
    ]


async def remove(
    run: Run, branch: str, opening: AbstractAsyncContextManager[RepositoryWriter], record: Recorder
) -> bool:
    """Removes a branch that `left_alone` found; False where GitHub does not let us."""
    try:
        async with opening as writer:
            await writer.delete_ref(branch)
            await record(Action.REF_DELETED, branch=branch, sha=run.head_sha)
    except MissingError:
        return True
    except (UserError, RefusedError) as error:
        return error.reason == "missing"
    return True


async def give_up(house: House, run: Run, error: BaseException) -> None:
    """The end of a run that was tried often enough, or met a defect: said on GitHub where that is possible, else logged.

    Raises TransientError while GitHub is away: nobody's status comment stays at "working" because it was away for minutes. After
    a day the end is in the log alone.
    """
    outcome = wording.outcome(error if isinstance(error, MagicodeError) else DefectError(reason="defect"))
    try:
        async with open_scene(house, run) as scene:
            await end(scene, outcome, last=True)
    except TransientError:
        if house.clock() - (run.started_at or run.created_at) < TOLD_WITHIN:
            raise
        await _finish(house, run, outcome, said=False)
    except (UserError, RefusedError):
        await _finish(house, run, outcome, said=False)


async def stopped(scene: Scene, error: StoppedError) -> Outcome:
    """A cancelled run's end, which names what was published before: nothing is left behind without a word.

    What a person's commit, a merge or a closing stopped says so.
    """
    outcome, run = wording.outcome(error), await scene.current()
    if run.is_pull_request:
        pull = await scene.reader.pull_request(run.number)
        try:
            require_open(pull)
            await require_ours(pull.head_ref, scene.reader)
        except (RefusedError, UserError) as why:
            return wording.outcome(why)
    if run.branch is None or not await was_published(run, scene.reader):
        return outcome
    mark = wording.opened_marker(run.id)
    pulls = await scene.reader.pull_requests(head_branch=run.branch)
    number = next((one.number for one in pulls if mark in one.body), None)
    if number is None and await left_alone(run, scene.reader):
        return outcome  # the branch goes with the run
    return replace(outcome, message=wording.stopped_late(run.branch, number), pull_request=number)


def require_open(pull: PullRequest) -> None:
    """Raises UserError (`pull_request_closed`)."""
    if pull.state != "open":
        raise UserError(wording.why("pull_request_closed")[0], reason="pull_request_closed")


async def say(scene: Scene, outcome: Outcome) -> Run:
    """What the status comment ends with; the run's row as it is now."""
    run = await scene.current()
    head = await scene.house.ledger.head(run.installation_id)
    spending = Spending(run.input_tokens, run.cached_tokens, run.output_tokens, run.cost_usd)
    said = replace(outcome, message=wording.with_remarks(outcome.message, scene.remarks))
    page = page_of(scene.house, run)
    await scene.last_words(wording.ended(scene.conversation.key, said, spending, str(head), page=page))
    return run


async def status_of(scene: Scene) -> str:
    """What stands in the status comment; nothing where there is none."""
    if scene.run.status_comment_id is not None:
        with suppress(MissingError, GoneError):
            return (await scene.reader.issue_comment(scene.run.status_comment_id)).body
    return ""


def ready(number: int, head_sha: str, said: str) -> Outcome:
    return Outcome(
        RunState.OPENED,
        RunState.OPENED.value,
        said,
        "review it; a comment that mentions me there asks for another change.",
        pull_request=number,
        head_sha=head_sha,
    )


async def _finish(
    house: House, run: Run, outcome: Outcome, at_the_end: AtTheEnd = (), **facts: str | bool
) -> None:
    """The row, its entry in the log, for a draft that waits one more look at its checks, and what the run leaves to be done
    `at_the_end`: all of them or none."""

    async def also(transaction: Transaction) -> None:
        if run.verb not in BESIDE_VERBS:
            # Checks that ended between the publisher's look and this commit were told to nobody, and those that ended
            # while a run was at work here were left to it, whatever it was about.
            await transaction.defer(Task.SETTLE, installation_id=run.installation_id, run_id=run.id)
        told = {
            "state": outcome.state.value,
            "reason": outcome.reason,
            "pull_request": outcome.pull_request,
            **facts,
        }
        await house.ledger.append(
            transaction, run.installation_id, Action.RUN_ENDED, "magicode", run.id, told
        )
        for one in at_the_end:
            await one(transaction)

    await states.finish(house.store, run, outcome, house.clock, also=also)
    house.watch.ended(run.verb, outcome.state.value, outcome.reason)
