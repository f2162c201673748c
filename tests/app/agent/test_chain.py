"""Several models as one: when the next is asked, what it is shown, and what the ones before it cost."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.agent.chain import Chain, edit_form
from app.errors import DefectError, InvalidError, MagicodeError, RefusedError, TransientError
from app.nouns import (
    AssistantTurn,
    ModelAnswer,
    ModelRequest,
    Stop,
    ToolCall,
    ToolResult,
    ToolTurn,
    Turn,
    Usage,
    UserTurn,
)
from app.ports import Model

GO = ModelRequest("rules", (UserTurn("Go"),), (), 100)
OVERLOAD = TransientError(reason="model_overloaded")
QUOTA = RefusedError(reason="model_quota_exhausted")
KEY = RefusedError(reason="model_key_refused")
UNKNOWN = InvalidError(reason="model_unknown")
OUTAGE = InvalidError(reason="model_unavailable")
WRONG = InvalidError(reason="model_request_refused")


class One:
    """A Model that plays what it is given, an answer's text, a refusal or an error, and keeps what it was sent."""

    def __init__(self, maker: str, *plays: str | Stop | Exception) -> None:
        self.provider, _, self.name = maker.partition(":")
        self._plays = list(plays)
        self.sent: list[ModelRequest] = []

    async def answer(self, request: ModelRequest) -> ModelAnswer:
        self.sent.append(request)
        play = self._plays.pop(0)
        if isinstance(play, Exception):
            raise play
        stop = play if isinstance(play, Stop) else Stop.END
        text = "I will not." if stop is Stop.REFUSAL else str(play)
        turn = AssistantTurn(
            text, (), opaque=f"thoughts of {self.name}", maker=f"{self.provider}:{self.name}"
        )
        return ModelAnswer(turn, stop, Usage(10, 0, 0, 1), self.name, Decimal("0.01"))


def test_a_chain_is_a_model() -> None:
    model: Model = Chain([One("anthropic:a")])
    assert (model.provider, model.name) == ("anthropic", "a")


def test_a_chain_of_nothing_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Chain([])


async def test_the_first_is_asked_while_it_answers() -> None:
    first, second = One("anthropic:a", "one", "two"), One("openai:b")
    chain = Chain([first, second])
    assert [(await chain.answer(GO)).turn.text for _ in range(2)] == ["one", "two"]
    assert second.sent == []
    assert (chain.provider, chain.name) == ("anthropic", "a")


@pytest.mark.parametrize("trouble", [OVERLOAD, QUOTA, KEY, UNKNOWN, OUTAGE, Stop.REFUSAL])
async def test_the_next_is_asked_on_trouble_and_stays(trouble: Exception | Stop) -> None:
    first, second = One("anthropic:a", trouble, "never"), One("openai:b", "one", "two")
    chain = Chain([first, second])
    assert [(await chain.answer(GO)).turn.text for _ in range(2)] == ["one", "two"]
    assert len(first.sent) == 1
    assert (chain.provider, chain.name) == ("openai", "b")


@pytest.mark.parametrize("error", [WRONG, DefectError(), InvalidError(reason="model_request_too_large")])
async def test_what_another_model_would_refuse_too_is_raised_at_once(error: MagicodeError) -> None:
    second = One("openai:b", "never")
    with pytest.raises(type(error)) as caught:
        await Chain([One("anthropic:a", error), second]).answer(GO)
    assert caught.value is error
    assert second.sent == []


@pytest.mark.parametrize("error", [OVERLOAD, QUOTA, KEY, UNKNOWN])
async def test_the_last_ones_error_is_raised_as_it_is(error: MagicodeError) -> None:
    chain = Chain([One("anthropic:a", OVERLOAD), One("openai:b", error)])
    with pytest.raises(MagicodeError) as caught:
        await chain.answer(GO)
    assert caught.value is error


async def test_the_last_ones_refusal_is_the_answer() -> None:
    chain = Chain([One("anthropic:a", Stop.REFUSAL), One("openai:b", Stop.REFUSAL)])
    answer = await chain.answer(GO)
    assert (answer.stop, answer.model) == (Stop.REFUSAL, "b")
    assert [one.model for one in answer.paid_for] == ["a", "b"]


async def test_a_refusal_that_was_passed_over_is_paid_for_once() -> None:
    chain = Chain([One("anthropic:a", Stop.REFUSAL), One("openai:b", "one", "two")])
    first, second = await chain.answer(GO), await chain.answer(GO)
    assert [(one.model, one.stop) for one in first.paid_for] == [("a", Stop.REFUSAL), ("b", Stop.END)]
    assert first.usage == Usage(10, 0, 0, 1)
    assert second.paid_for == (second,)


async def test_a_refusal_before_an_error_is_not_lost() -> None:
    chain = Chain([One("anthropic:a", Stop.REFUSAL), One("openai:b", TransientError(), "after all")])
    with pytest.raises(TransientError) as caught:
        await chain.answer(GO)
    assert [one.model for one in caught.value.paid_for] == ["a"]  # type: ignore[attr-defined]
    assert [one.model for one in (await chain.answer(GO)).paid_for] == ["b"]
    assert OVERLOAD.paid_for == ()


async def test_another_models_own_is_not_sent_and_the_rest_is() -> None:
    calls = (ToolCall("call-1", "read", {"path": "a"}),)
    turns: tuple[Turn, ...] = (
        UserTurn("Go"),
        AssistantTurn("Reading.", calls, opaque="thoughts of a", maker="anthropic:a"),
        ToolTurn((ToolResult("call-1", "text"),)),
        AssistantTurn("Of nobody known.", (), opaque="thoughts", maker=""),
        UserTurn("On"),
    )
    first, second = One("anthropic:a", OVERLOAD), One("anthropic:a2", "one")
    await Chain([first, second]).answer(ModelRequest("rules", turns, (), 100))
    (shown,), (passed,) = first.sent, second.sent
    assert [getattr(turn, "opaque", None) for turn in shown.turns] == [
        None,
        "thoughts of a",
        None,
        None,
        None,
    ]
    assert [getattr(turn, "opaque", None) for turn in passed.turns] == [None] * 5
    assert [getattr(turn, "calls", ()) for turn in passed.turns] == [(), calls, (), (), ()]
    assert [getattr(turn, "text", "") for turn in passed.turns] == [
        "Go",
        "Reading.",
        "",
        "Of nobody known.",
        "On",
    ]
    assert turns[1].opaque == "thoughts of a"  # type: ignore[union-attr]  # the conversation itself is left alone


PLAYS = st.sampled_from(["an answer", Stop.REFUSAL, TransientError, RefusedError, "quota"])


def afresh(play: Any) -> Any:
    """An error is a new one each time that it is raised."""
    if play == "quota":
        return RefusedError(reason="model_quota_exhausted")
    return play() if isinstance(play, type) else play


@given(st.lists(st.lists(PLAYS, min_size=8, max_size=8), min_size=1, max_size=4))
async def test_nothing_is_lost_and_nobody_is_asked_after_being_left(
    plays: Sequence[Sequence[Any]],
) -> None:
    plays = [[afresh(play) for play in played] for played in plays]
    models = [One(f"p:{number}", *played) for number, played in enumerate(plays)]
    chain = Chain(models)
    paid: list[ModelAnswer] = []
    asked: list[int] = []
    for _ in range(4):
        try:
            answer = await chain.answer(GO)
        except MagicodeError as error:
            paid += error.paid_for  # type: ignore[arg-type]
        else:
            assert answer.stop is not Stop.REFUSAL or answer.model == models[-1].name
            paid += answer.paid_for
        asked.append(int(chain.name))
    assert asked == sorted(asked)
    given_out = sum(
        not isinstance(play, Exception)
        for model, played in zip(models, plays, strict=True)
        for play in played[: len(model.sent)]
    )
    assert len(paid) == given_out


def test_openais_models_get_the_edit_form_that_they_are_trained_on() -> None:
    assert edit_form(One("openai:gpt")) == "apply_patch"
    assert edit_form(One("anthropic:claude")) == "replace"
    assert edit_form(One("scripted:playbook")) == "replace"


async def test_the_edit_form_follows_the_model_in_use() -> None:
    chain = Chain([One("anthropic:a", OVERLOAD), One("openai:b", "one")])
    assert edit_form(chain) == "replace"
    await chain.answer(GO)
    assert edit_form(chain) == "apply_patch"
