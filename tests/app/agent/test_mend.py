"""The conversation goes on after a change was handed in: told what is wrong, within the same budget."""

from __future__ import annotations

import itertools
from decimal import Decimal
from typing import Any

import pytest

from app.agent import EndedError, Limits
from app.agent.budget import Budget
from app.errors import DefectError
from app.nouns import AssistantTurn, ModelAnswer, Stop, ToolTurn, Usage

FILES = {"src/total.py": b"def total(price, discount):\n    return price\n"}
EDIT = ("edit", {"path": "src/total.py", "old": "    return price\n", "new": "    return price - discount\n"})
WORDS = {"title": "t", "summary": "s", "checked_how": "c"}
NOTE = ("create", {"path": "note.txt", "text": "x\n"})


async def test_what_was_found_is_the_result_of_the_call_that_handed_the_change_in(
    bench: Any, kit: Any
) -> None:
    model = kit.Script(kit.says(EDIT, ("finish", WORDS)), kit.says(NOTE), kit.finishes("Second"))
    author = bench.author(kit.Tree(FILES), model)
    first = await author.propose()
    second = await author.mend(["Unasked: it says\u200b nothing.", "pytest fails:\nE  <!-- 1 != 2"])
    assert [edit.path for edit in first.edits] == ["src/total.py"]
    assert [edit.path for edit in second.edits] == ["note.txt", "src/total.py"]
    assert (second.title, second.spending.turns) == ("Second", 3)
    edited, finished = model.results(1)
    assert "return price - discount" in edited.text
    assert "- Unasked: it says nothing.\n- pytest fails:\nE  <!-- 1 != 2\n</findings-" in finished.text
    assert not finished.is_error


async def test_every_call_beside_the_finish_has_its_result_when_the_work_goes_on(
    bench: Any, kit: Any
) -> None:
    calls = [EDIT, ("finish", WORDS), ("list", {}), *[("read", {"path": "src/total.py"})] * 15]
    model = kit.Script(kit.says(*calls), kit.finishes())
    author = bench.author(kit.Tree(FILES), model)
    await author.propose()
    await author.mend(["x"])
    results = model.results(1)
    assert [one.call_id for one in results] == [f"call-{number}" for number in range(18)]
    assert [one.is_error for one in results] == [False, False, *[True] * 16]
    for before, after in itertools.pairwise(model.requests[-1].turns):
        assert isinstance(after, ToolTurn) == bool(getattr(before, "calls", ()))


async def test_the_conversation_only_grows_when_it_is_mended(bench: Any, kit: Any) -> None:
    model = kit.Script(kit.says(EDIT), kit.finishes(), kit.says(NOTE), kit.finishes())
    author = bench.author(kit.Tree(FILES), model)
    await author.propose()
    await author.mend(["x"])
    for earlier, later in itertools.pairwise(model.requests):
        assert (later.system, later.tools) == (earlier.system, earlier.tools)
        assert tuple(later.turns[: len(earlier.turns)]) == tuple(earlier.turns)


async def test_both_share_one_budget_and_the_model_is_told_again_when_it_runs_out(
    bench: Any, kit: Any
) -> None:
    model = kit.Script(kit.says(EDIT), kit.says(NOTE), kit.says(("list", {})), kit.finishes(), *[
        kit.says(("grep", {"pattern": str(number)})) for number in range(9)
    ])  # fmt: skip
    author = bench.author(kit.Tree(FILES), model, limits=Limits(turns=6))
    await author.propose()
    with pytest.raises(EndedError) as caught:
        await author.mend(["x"])
    assert caught.value.reason == "budget_turns"
    assert caught.value.spending.turns == 6
    assert "Wrap up now" in model.results(5)[0].text


async def test_a_mended_change_can_be_given_up_for_an_answer(bench: Any, kit: Any) -> None:
    model = kit.Script(kit.says(EDIT), kit.finishes(), kit.says(("answer", {"text": "It was right before."})))
    author = bench.author(kit.Tree(FILES), model)
    await author.propose()
    patch = await author.mend(["x"])
    assert (patch.answer, patch.edits) == ("It was right before.", ())


async def test_only_a_change_that_was_handed_in_can_be_mended(bench: Any, kit: Any) -> None:
    author = bench.author(kit.Tree(FILES), kit.Script(kit.says(("answer", {"text": "No."}))))
    with pytest.raises(DefectError):
        await author.mend(["x"])
    await author.propose()
    with pytest.raises(DefectError):
        await author.mend(["x"])


async def test_long_findings_leave_room_for_the_work(bench: Any, kit: Any) -> None:
    model = kit.Script(kit.says(EDIT), kit.finishes(), kit.finishes())
    author = bench.author(kit.Tree(FILES), model)
    await author.propose()
    await author.mend([f"first of {n}\n" + "noise\n" * 50_000 + f"last of {n}" for n in range(4)])
    text = model.results(2)[0].text
    assert len(text) < 50_000
    assert all(f"{end} of {n}" in text for n in range(4) for end in ("first", "last"))


# --- the budget that is shared ---------------------------------------------------------------------------------------


def answer(tokens: int, cost: str | None, *also: ModelAnswer) -> ModelAnswer:
    price = None if cost is None else Decimal(cost)
    return ModelAnswer(AssistantTurn("", ()), Stop.END, Usage(tokens, 0, 0, 0), "m", price, also)


def test_what_is_left_is_what_was_not_spent() -> None:
    now = 100.0
    budget = Budget(Limits(turns=3, tokens=1000, dollars=Decimal(1), seconds=60), lambda: now)
    budget.charge(answer(300, "0.40"))
    now = 110.0
    left = budget.left()
    assert (left.turns, left.tokens, left.dollars, left.seconds) == (2, 700, Decimal("0.60"), 50)
    now = 900.0
    budget.charge(answer(5000, "7"))
    left = budget.left()
    assert (left.turns, left.tokens, left.dollars, left.seconds) == (1, 0, Decimal(0), 0)


def test_nothing_can_be_done_with_what_is_left_of_a_spent_budget() -> None:
    budget = Budget(Limits(turns=1), lambda: 0.0)
    budget.charge(answer(1, None))
    with pytest.raises(EndedError) as caught:
        Budget(budget.left(), lambda: 0.0).check()
    assert caught.value.reason == "budget_turns"


async def test_another_conversation_is_charged_to_the_same_budget(bench: Any, kit: Any) -> None:
    author = bench.author(kit.Tree(FILES), kit.Script(kit.says(EDIT), kit.finishes()), limits=Limits(turns=5))
    await author.propose()
    await author.account(answer(40, "0.02"))
    assert author.left().turns == 2
    assert author.spending.cost_usd == Decimal("0.04")
    assert len(bench.calls) == 3


async def test_every_answer_that_was_paid_for_is_charged_once(bench: Any, kit: Any) -> None:
    author = bench.author(kit.Tree(FILES), kit.Script())
    await author.account(answer(5, "0.02", answer(40, "0.01"), answer(50, None)))
    assert author.spending.input_tokens == 95
    assert (author.spending.cost_usd, author.spending.unpriced_calls) == (Decimal("0.03"), 1)
    assert [(one.usage.input_tokens, one.also_spent) for one in bench.calls] == [(40, ()), (50, ()), (5, ())]
