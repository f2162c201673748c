"""Waits for what takes long, a model's answer or the checks, for as long as the run goes on and its budget lasts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from app.agent.budget import Budget
from app.errors import MagicodeError, PausedError, TransientError
from app.nouns import ChecksReport, FileEdit, ModelAnswer, ModelRequest
from app.ports import Fence, Model, RunChecks

WATCH_SECONDS = 1.0
"""How often what a run waits for is asked about: whether it is still wanted."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Asking:
    """One conversation's way to its model: the fence before each call, the budget around it, the account after it."""

    model: Model
    budget: Budget
    fence: Fence
    on_call: Callable[[ModelAnswer], Awaitable[None]]

    async def ask(self, request: ModelRequest) -> ModelAnswer:
        """Raises EndedError for a spent budget, and what the model and the fence raise; what was paid for before the model
        raised is charged all the same."""
        self.budget.check()
        await self.fence()
        try:
            answer = await within(self.budget, self.model.answer(request))
        except MagicodeError as error:
            for paid in error.paid_for:
                if isinstance(paid, ModelAnswer):
                    await self.account(paid)
            raise
        await self.account(answer)
        return answer

    async def account(self, answer: ModelAnswer) -> None:
        """Charges all that was paid for it, one call after the other, before anything that it asked for is done."""
        for paid in answer.paid_for:
            one = replace(paid, also_spent=())
            self.budget.charge(one)
            await self.on_call(one)


async def within(budget: Budget, work: Coroutine[Any, Any, T]) -> T:
    """What the work gives. Raises EndedError (`budget_time`) when the wall time ends first."""
    try:
        async with asyncio.timeout(max(0.0, budget.seconds_left)) as limit:
            return await work
    except TimeoutError as error:
        if limit.expired():
            raise budget.ended("time") from error
        raise


def watched(checks: RunChecks, budget: Budget, fence: Fence) -> RunChecks:
    """The same checks, which nobody waits for any longer once the run was cancelled or its time is over."""

    async def run(edits: Sequence[FileEdit]) -> ChecksReport:
        return await within(budget, unless_stopped(checks(edits), fence))

    return run


async def unless_stopped(work: Coroutine[Any, Any, T], fence: Fence) -> T:
    """What the work gives; it is broken off as soon as the fence, asked once a second, says no."""
    doing = asyncio.ensure_future(work)
    try:
        while not doing.done():
            await asyncio.wait({doing}, timeout=WATCH_SECONDS)
            if not doing.done():
                try:
                    await fence()
                except PausedError:
                    raise
                except TransientError:  # the database is away: the work may go on
                    pass
    finally:
        if not doing.done():
            doing.cancel()
            await asyncio.wait({doing})
    return doing.result()
