"""Several models as one: where one is overloaded, away, refuses or cannot be used, the next is asked and stays.

Lives for one conversation. Never goes back to a model that it left, and shows no model what is another's own
(thinking, reasoning): its text and its calls go along, which is a valid conversation on every wire.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from app.errors import RefusedError, TransientError
from app.nouns import AssistantTurn, ModelAnswer, ModelRequest, Stop, Turn
from app.ports import Model

# What waiting cannot cure and another model can: the adapters' reasons for an account, a key, a name, an outage.
_CURED_BY_ANOTHER = frozenset(
    {"model_quota_exhausted", "model_key_refused", "model_unknown", "model_unavailable"}
)

EditForm = Literal["replace", "apply_patch"]


def edit_form(model: Model) -> EditForm:
    """The way of writing edits that the model in use was trained on. A chain's can change between two answers."""
    return "apply_patch" if model.provider == "openai" else "replace"


class Chain:
    """The models in the order in which they are asked; there is at least one. `name` and `provider` are of the one in use.

    `answer` raises what the last model raises, and at once what another model would refuse as well. A refusal is
    returned as the answer only when it is the last model's. Refusals before that are paid for all the same: they stand in
    the answer's `also_spent`, or in the `paid_for` of the error that is raised after them.
    """

    def __init__(self, models: Sequence[Model]) -> None:
        if not models:
            raise ValueError("a chain holds at least one model")
        self._models = tuple(models)
        self._at = 0

    @property
    def _model(self) -> Model:
        return self._models[self._at]

    @property
    def provider(self) -> str:
        return self._model.provider

    @property
    def name(self) -> str:
        return self._model.name

    async def answer(self, request: ModelRequest) -> ModelAnswer:
        refusals: tuple[ModelAnswer, ...] = ()
        while True:
            last = self._at + 1 == len(self._models)
            try:
                answer = await self._model.answer(replace(request, turns=self._own(request.turns)))
            except (TransientError, RefusedError) as error:
                if last or not _another_may_do(error):
                    error.paid_for = (*error.paid_for, *refusals)
                    raise
            else:
                if last or answer.stop is not Stop.REFUSAL:
                    return replace(answer, also_spent=(*refusals, *answer.also_spent))
                refusals = (*refusals, answer)
            self._at += 1

    def _own(self, turns: Sequence[Turn]) -> tuple[Turn, ...]:
        """The conversation as the model in use may see it."""
        me = f"{self.provider}:{self.name}"
        return tuple(
            replace(turn, opaque=None)
            if isinstance(turn, AssistantTurn) and turn.opaque is not None and turn.maker != me
            else turn
            for turn in turns
        )


def _another_may_do(error: TransientError | RefusedError) -> bool:
    return isinstance(error, TransientError) or error.reason in _CURED_BY_ANOTHER
