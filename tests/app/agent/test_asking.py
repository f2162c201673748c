"""The way to a model: what is charged, also where the model ends with an error."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from app.agent.asking import Asking
from app.agent.budget import Budget, Limits
from app.agent.chain import Chain
from app.errors import TransientError
from app.nouns import ModelAnswer, ModelRequest, Stop, UserTurn

GO = ModelRequest("rules", (UserTurn("Go"),), (), 100)


class Away:
    """A Model that is overloaded."""

    provider, name = "openai", "away"

    async def answer(self, request: ModelRequest) -> ModelAnswer:
        raise TransientError(reason="model_overloaded")


async def test_refusals_before_a_model_that_fails_are_charged_once(bench: Any, kit: Any) -> None:
    refusal = kit.says(stop=Stop.REFUSAL, tokens=70, cost=Decimal("0.02"))
    budget = Budget(Limits(), lambda: 0.0)
    asking = Asking(
        Chain([kit.Script(refusal), kit.Script(refusal), Away()]), budget, bench.fence, bench.on_call
    )
    with pytest.raises(TransientError):
        await asking.ask(GO)
    assert [one.usage.input_tokens for one in bench.calls] == [70, 70]
    assert (budget.spending.cost_usd, budget.spending.turns) == (Decimal("0.04"), 2)
    with pytest.raises(TransientError):
        await asking.ask(GO)
    assert budget.spending.turns == 2, "the model that stayed failed again, and nobody else was asked"


async def test_an_error_that_nobody_was_paid_for_charges_nothing(bench: Any) -> None:
    budget = Budget(Limits(), lambda: 0.0)
    with pytest.raises(TransientError):
        await Asking(Away(), budget, bench.fence, bench.on_call).ask(GO)
    assert bench.calls == []
    assert budget.spending.turns == 0
