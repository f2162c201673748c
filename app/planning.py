"""Plans: posted in the status comment, kept there alone, and worked on when somebody with write access says `go`.

The text that is worked on is what stands in the comment then: GitHub lets nobody edit it who may not write here.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from functools import partial
from statistics import median

from app.errors import GoneError, MissingError, UserError
from app.nouns import Outcome, Plan, Run, RunState, Spending
from app.pulls import wording
from app.pulls.lookup import found
from app.reading import Asked, read_request
from app.scene import Scene
from webhooks.command import Verb

PLANNED = "planned"
"""The reason of a run that ended with a plan."""

AS_MUCH_AGAIN = 4
"""What a change costs, in plans of the same request, where this repository has no past to tell by."""

ENOUGH = 3
"""Past changes of a repository that make a median."""


async def planned(scene: Scene, plan: Plan, spending: Spending) -> Outcome:
    """The plan as people see it, with what the change may cost."""
    estimate = await _estimate(scene, spending)
    said = wording.plan_text(plan, estimate, scene.house.slug, run_id=scene.run.id)
    return Outcome(RunState.ANSWERED, PLANNED, said)


async def _estimate(scene: Scene, spending: Spending) -> wording.Estimate:
    """What the change will cost: the median of this repository's last ones, else a multiple of what its plan cost."""
    run = scene.run
    async with scene.house.store.transaction(run.installation_id) as transaction:
        runs = await transaction.runs(repository_id=run.repository_id, state=RunState.OPENED)
    past = [one.cost_usd for one in runs if one.cost_usd]
    if len(past) >= ENOUGH:
        return wording.Estimate(Decimal(median(past)), past=len(past))
    known = not spending.unpriced_calls
    return wording.Estimate(spending.cost_usd * AS_MUCH_AGAIN if known else None, past=0)


async def read_plan(scene: Scene) -> Asked:
    """The request with the plan that stands in our comment now.

    Raises UserError: `no_plan` where there is none, `plan_done` where an open pull request is made of it.
    """
    asked = await read_request(scene)
    plan = await _newest(scene)
    if plan is None or plan.status_comment_id is None:
        raise _none()
    await _require_not_done(scene, asked, plan)
    try:
        read = partial(scene.reader.issue_comment, plan.status_comment_id)
        comment = await found(read, scene.house.sleep)
    except (MissingError, GoneError):
        raise _none() from None
    text = wording.plan_in(comment.body, plan.id)
    if comment.author.login != f"{scene.house.slug}[bot]" or not text:
        raise _none()
    return replace(asked, request=replace(asked.request, plan=text))


async def _newest(scene: Scene) -> Run | None:
    run = scene.run
    async with scene.house.store.transaction(run.installation_id) as transaction:
        runs = await transaction.runs(
            repository_id=run.repository_id, number=run.number, state=RunState.ANSWERED
        )
    return next((one for one in runs if one.reason == PLANNED), None)


async def _require_not_done(scene: Scene, asked: Asked, plan: Run) -> None:
    """A second `go` on one plan is a slip, or it came too late. Behind an undone change it is not."""
    pull = asked.target.pull_request
    if pull is None or asked.target.settled:
        return
    run = scene.run
    async with scene.house.store.transaction(run.installation_id) as transaction:
        runs = await transaction.runs(repository_id=run.repository_id, about=run.about)
    for one in runs:  # newest first
        if one.created_at <= plan.created_at:
            return
        done = one.state in (RunState.OPENED, RunState.UPDATED) and one.pull_request == pull.number
        if done and one.verb == Verb.UNDO:
            return
        if done and one.verb in (Verb.GO, Verb.RETRY):
            raise UserError(wording.plan_done(pull.number), reason="plan_done")


def _none() -> UserError:
    return UserError(
        "There is no plan of mine here to go on. Ask for one with `plan`, or for the change with `fix`.",
        reason="no_plan",
    )


def plans_first(scene: Scene, asked: Asked) -> bool:
    """Whether the repository's rule is that a plan comes before a change, and this is where one begins."""
    return asked.repofile.plan_first and scene.origin.verb != Verb.GO and asked.target.pull_request is None
