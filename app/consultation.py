"""The models that a run may ask: those that its installation allows, each attempt written down before it is sent, each answer
charged, and nobody waited for who is no longer wanted.

Refuses to know what is asked.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from decimal import Decimal

from app.agent.asking import unless_stopped
from app.agent.budget import Limits
from app.agent.chain import Chain
from app.custody import consent
from app.custody import settings as choices
from app.custody.consent import Consent
from app.errors import MagicodeError, RefusedError
from app.jobs import states
from app.nouns import Action, ModelAnswer, ModelRequest, Spending
from app.ports import Fence, Model, Recorder, Watch
from app.pulls import wording
from app.reading import Asked
from app.scene import Scene
from app.witness import to_its_end


@asynccontextmanager
async def consult(scene: Scene, asked: Asked) -> AsyncIterator[Model]:
    """The models that the repository's file names, else the installation's settings, else the service's own: those that the
    installation allows, with its own keys where it has some. Raises UserError (`consent`) where none is left."""
    house, tenant = scene.house, scene.run.installation_id
    allowed = await consent.read(house.store, house.keys, tenant)
    named = asked.repofile.model or allowed.settings.models
    kept = consent.within(allowed, house.models.where(named, allowed.own))
    still = Consent(house.store, tenant, kept, allowed.own)
    async with house.models.open([one.model for one in kept], allowed.own) as models:
        heard = [_Counted(one, scene.record, still, house.watch) for one in models]
        yield _Watched(Chain(heard), scene.fence, still)


def charged(scene: Scene, model: Model) -> Callable[[ModelAnswer], Awaitable[None]]:
    """Each call of the model is charged and written down before what it asked for is done."""
    house, run = scene.house, scene.run

    async def on_call(answer: ModelAnswer) -> None:
        usage, cost = answer.usage, answer.cost_usd
        spending = Spending(usage.input_tokens, usage.cached_tokens, usage.output_tokens, cost or Decimal(0))
        await states.charge(house.store, run, spending)
        provider = answer.turn.maker.partition(":")[0] or model.provider
        house.watch.spent(provider, spending)
        await scene.record(
            Action.MODEL_CALLED,
            provider=provider,
            model=answer.model,
            input_tokens=usage.input_tokens,
            cached_tokens=usage.cached_tokens,
            output_tokens=usage.output_tokens,
            tools=len(answer.turn.calls),
            cost_usd=None if cost is None else str(cost),
        )

    return on_call


async def limits_of(scene: Scene, asked: Asked) -> Limits:
    """The lowest of the service's, the installation's, the repository's and the asker's, less what earlier attempts of this run
    spent; and no more than the installation's day and month have left now."""
    limits, run = scene.house.limits, scene.run
    async with scene.house.store.transaction(run.installation_id) as transaction:
        chosen = await choices.read(transaction)
        left_there = await choices.left(transaction, chosen, scene.house.clock())
    caps = [limits.dollars, chosen.run_usd, asked.repofile.max_cost_usd, run.cost_limit_usd]
    left = min(cap for cap in caps if cap is not None) - run.cost_usd
    if left <= 0:
        raise RefusedError(wording.why("budget")[0], reason="budget_dollars")
    if left_there is not None and left_there <= 0:
        raise RefusedError(wording.why("budget_installation")[0], reason="budget_installation")
    return replace(limits, dollars=left if left_there is None else min(left, left_there))


@dataclass(frozen=True, slots=True)
class _Counted:
    """A model that nothing is sent to but what is allowed at that moment. Each attempt is written down before it is sent, so that
    no crash can hide it, and those that brought no answer once more; the answers are by `on_call`."""

    model: Model
    record: Recorder
    allowed: Fence
    watch: Watch

    @property
    def provider(self) -> str:
        return self.model.provider

    @property
    def name(self) -> str:
        return self.model.name

    async def answer(self, request: ModelRequest) -> ModelAnswer:
        with self.watch.model(self.provider):
            return await self._answer(request)

    async def _answer(self, request: ModelRequest) -> ModelAnswer:
        sent = 0

        async def attempted() -> None:
            nonlocal sent
            await self.allowed()
            asked = self.record(Action.MODEL_ASKED, provider=self.provider, model=self.name)
            await to_its_end(asked)
            sent += 1
            # Whoever withdrew it while the entry waited for its place behind theirs was told that nothing goes there any more.
            await self.allowed()

        reason, answered = "cancelled", 0
        try:
            answer = await self.model.answer(replace(request, attempted=attempted))
            reason, answered = "answered_later", 1
            return answer
        except MagicodeError as error:
            reason = error.reason
            raise
        finally:
            if sent > answered:
                await to_its_end(
                    self.record(
                        Action.MODEL_FAILED,
                        provider=self.provider,
                        model=self.name,
                        reason=reason,
                        attempts=sent - answered,
                    )
                )


@dataclass(frozen=True, slots=True)
class _Watched:
    """A model that nobody waits for any longer once its run was cancelled or taken over, or once the installation no longer
    allows what is sent there."""

    model: Model
    fence: Fence
    allowed: Fence

    @property
    def provider(self) -> str:
        return self.model.provider

    @property
    def name(self) -> str:
        return self.model.name

    async def answer(self, request: ModelRequest) -> ModelAnswer:
        return await unless_stopped(self.model.answer(request), self._wanted)

    async def _wanted(self) -> None:
        await self.fence()
        await self.allowed()
