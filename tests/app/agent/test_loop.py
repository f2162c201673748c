"""The conversation: how it goes on, what it hands back, and each of the ways in which it ends."""

from __future__ import annotations

import asyncio
import itertools
from decimal import Decimal
from typing import Any

import pytest

from app.agent import EndedError, Limits
from app.errors import SupersededError
from app.nouns import FileEdit, Snippet, Stop, ToolTurn, UserTurn

FILES = {"src/total.py": b"def total(price, discount):\n    return price\n", "README.md": b"# Shop\n"}
EDIT = ("edit", {"path": "src/total.py", "old": "    return price\n", "new": "    return price - discount\n"})
READ = ("read", {"path": "src/total.py"})


async def test_a_model_that_reads_edits_and_finishes_gives_a_patch_with_exact_bytes(
    bench: Any, kit: Any
) -> None:
    model = kit.Script(kit.says(READ), kit.says(EDIT), kit.finishes("Subtract\nthe discount"))
    patch = await bench.run(kit.Tree(FILES), model)
    after = b"def total(price, discount):\n    return price - discount\n"
    assert patch.edits == (FileEdit("src/total.py", FILES["src/total.py"], after, "100644"),)
    assert patch.title == "Subtract the discount"
    assert patch.answer is None
    assert patch.looked_at == ("src/total.py",)
    assert patch.spending.turns == 3
    assert patch.spending.input_tokens == 300
    assert patch.spending.cached_tokens == 150
    assert patch.spending.output_tokens == 30
    assert patch.spending.cost_usd == Decimal("0.03")
    assert patch.spending.model == "scripted-1"


async def test_the_fence_and_the_account_are_called_once_for_each_answer(bench: Any, kit: Any) -> None:
    await bench.run(kit.Tree(FILES), kit.Script(kit.says(READ), kit.says(EDIT), kit.finishes()))
    assert bench.fences == 3
    assert len(bench.calls) == 3


async def test_a_superseded_run_asks_the_model_nothing_more(bench: Any, kit: Any) -> None:
    seen = 0

    async def fence() -> None:
        nonlocal seen
        seen += 1
        if seen == 2:
            raise SupersededError

    model = kit.Script(kit.says(READ), kit.finishes())
    with pytest.raises(SupersededError):
        await bench.run(kit.Tree(FILES), model, fence=fence)
    assert len(model.requests) == 1


async def test_a_call_without_a_known_price_is_counted_and_not_guessed(bench: Any, kit: Any) -> None:
    patch = await bench.run(kit.Tree(FILES), kit.Script(kit.says(EDIT, cost=None), kit.finishes()))
    assert patch.spending.unpriced_calls == 1
    assert patch.spending.cost_usd == Decimal("0.01")


async def test_an_answer_ends_the_work_and_drops_the_draft(bench: Any, kit: Any) -> None:
    model = kit.Script(kit.says(EDIT), kit.says(("answer", {"text": "Which discount do you mean?"})))
    patch = await bench.run(kit.Tree(FILES), model)
    assert patch.answer == "Which discount do you mean?"
    assert patch.edits == ()


async def test_an_end_without_finish_is_nudged_once_and_then_read_as_an_answer(bench: Any, kit: Any) -> None:
    model = kit.Script(kit.says(text="Done."), kit.says(text="It works as written."))
    patch = await bench.run(kit.Tree(FILES), model)
    assert patch.answer == "It works as written."
    nudge = model.requests[1].turns[-1]
    assert isinstance(nudge, UserTurn)
    assert "`finish`" in nudge.text


async def test_a_model_that_says_nothing_twice_is_ended(bench: Any, kit: Any) -> None:
    with pytest.raises(EndedError) as caught:
        await bench.run(kit.Tree(FILES), kit.Script(kit.says(), kit.says()))
    assert caught.value.reason == "model_silent"


async def test_a_refusal_of_the_model_is_a_refused_run(bench: Any, kit: Any) -> None:
    with pytest.raises(EndedError) as caught:
        await bench.run(kit.Tree(FILES), kit.Script(kit.says(text="No.", stop=Stop.REFUSAL)))
    assert caught.value.reason == "model_refused"
    assert caught.value.spending.turns == 1


async def test_calls_of_a_cut_off_answer_are_not_carried_out(bench: Any, kit: Any) -> None:
    model = kit.Script(kit.says(EDIT, stop=Stop.LENGTH), kit.finishes(), kit.says(("answer", {"text": "x"})))
    await bench.run(kit.Tree(FILES), model)
    assert "cut off" in model.results(1)[0].text
    assert "holds no change" in model.results(2)[0].text


async def test_three_cut_off_answers_in_a_row_end_the_work(bench: Any, kit: Any) -> None:
    with pytest.raises(EndedError) as caught:
        await bench.run(kit.Tree(FILES), kit.Script(*[kit.says(text="long", stop=Stop.LENGTH)] * 3))
    assert caught.value.reason == "model_cut_off"


async def test_the_same_call_is_remarked_on_the_third_time_and_ended_on_the_fourth(
    bench: Any, kit: Any
) -> None:
    model = kit.Script(*[kit.says(READ)] * 4)
    with pytest.raises(EndedError) as caught:
        await bench.run(kit.Tree(FILES), model)
    assert caught.value.reason == "stuck"
    assert not model.results(2)[0].is_error
    assert "three times in a row" in model.results(3)[0].text


async def test_the_same_call_with_another_between_is_no_repetition(bench: Any, kit: Any) -> None:
    other = ("list", {})
    model = kit.Script(*[kit.says(READ), kit.says(other)] * 4, kit.says(EDIT), kit.finishes())
    assert (await bench.run(kit.Tree(FILES), model)).edits


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (Limits(turns=2), "budget_turns"),
        (Limits(tokens=220), "budget_tokens"),
        (Limits(dollars=Decimal("0.02")), "budget_dollars"),
        (Limits(seconds=20), "budget_time"),
    ],
)
async def test_each_limit_ends_the_work_with_its_reason_and_the_spending(
    bench: Any, kit: Any, limits: Limits, reason: str
) -> None:
    now = 0.0

    async def tick() -> None:
        nonlocal now
        now += 10

    calls = [kit.says(("grep", {"pattern": str(i)})) for i in range(9)]
    model = kit.Script(*calls, during=tick)
    with pytest.raises(EndedError) as caught:
        await bench.run(kit.Tree(FILES), model, limits=limits, monotonic=lambda: now)
    assert caught.value.reason == reason
    assert caught.value.spending.turns == 2
    assert len(model.requests) == 2


async def test_a_finish_in_the_last_allowed_answer_still_counts(bench: Any, kit: Any) -> None:
    patch = await bench.run(
        kit.Tree(FILES), kit.Script(kit.says(EDIT), kit.finishes()), limits=Limits(turns=2)
    )
    assert patch.edits


async def test_the_model_is_told_once_to_wrap_up_at_80_percent(bench: Any, kit: Any) -> None:
    calls = [kit.says(("grep", {"pattern": str(i)})) for i in range(10)]
    model = kit.Script(*calls)
    with pytest.raises(EndedError):
        await bench.run(kit.Tree(FILES), model, limits=Limits(turns=10))
    told = [i for i in range(1, 10) if "Wrap up now" in model.results(i)[-1].text]
    assert told == [8]


async def test_a_model_that_never_answers_is_ended_by_the_wall_clock(bench: Any, kit: Any) -> None:
    model = kit.Script(kit.finishes(), during=lambda: asyncio.sleep(30))
    with pytest.raises(EndedError) as caught:
        await bench.run(kit.Tree(FILES), model, limits=Limits(seconds=0.05))
    assert caught.value.reason == "budget_time"


async def test_a_timeout_of_the_model_itself_is_not_taken_for_the_budget(bench: Any, kit: Any) -> None:
    async def fail() -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        await bench.run(kit.Tree(FILES), kit.Script(kit.finishes(), during=fail))


async def test_every_call_gets_exactly_one_result_in_its_order(bench: Any, kit: Any) -> None:
    calls = [READ, ("list", {}), EDIT, READ, ("nonsense", {}), ("read", None)]
    model = kit.Script(kit.says(*calls), kit.finishes())
    await bench.run(kit.Tree(FILES), model)
    results = model.results()
    assert [result.call_id for result in results] == [f"call-{i}" for i in range(6)]
    assert "return price\n" in results[0].text
    assert "return price - discount" in results[3].text
    assert [result.is_error for result in results] == [False, False, False, False, True, True]


async def test_reads_of_one_turn_run_side_by_side(bench: Any, kit: Any) -> None:
    both = asyncio.Barrier(2)

    async def search(question: str, limit: int) -> list[Snippet]:
        await asyncio.wait_for(both.wait(), 5)
        return []

    model = kit.Script(
        kit.says(("search", {"question": "a"}), ("search", {"question": "b"})), kit.says(EDIT), kit.finishes()
    )
    await bench.run(kit.Tree(FILES), model, search=search)
    assert not any(result.is_error for result in model.results(1))


async def test_a_finish_beside_a_failed_edit_is_held_back(bench: Any, kit: Any) -> None:
    bad = ("edit", {"path": "src/total.py", "old": "no such text", "new": "x"})
    words = {"title": "t", "summary": "s", "checked_how": "c"}
    model = kit.Script(kit.says(EDIT, bad, ("finish", words)), kit.finishes())
    await bench.run(kit.Tree(FILES), model)
    assert "failed" in model.results(1)[2].text


async def test_an_edit_that_is_taken_back_leaves_no_trace_in_the_patch(bench: Any, kit: Any) -> None:
    back = ("edit", {"path": "src/total.py", "old": EDIT[1]["new"], "new": EDIT[1]["old"]})
    model = kit.Script(
        kit.says(EDIT), kit.says(back), kit.says(("create", {"path": "a.txt", "text": "a\n"})), kit.finishes()
    )
    patch = await bench.run(kit.Tree(FILES), model)
    assert [edit.path for edit in patch.edits] == ["a.txt"]


async def test_the_conversation_only_grows_so_that_providers_can_cache_it(bench: Any, kit: Any) -> None:
    model = kit.Script(kit.says(READ), kit.says(EDIT), kit.finishes())
    await bench.run(kit.Tree(FILES), model)
    for earlier, later in zip(model.requests, model.requests[1:], strict=False):
        assert later.system == earlier.system
        assert later.tools == earlier.tools
        assert tuple(later.turns[: len(earlier.turns)]) == tuple(earlier.turns)


async def test_a_prompt_that_grows_too_long_sheds_its_oldest_results_and_keeps_the_last(
    bench: Any, kit: Any
) -> None:
    tree = kit.Tree(FILES | {"long.txt": b"word\n" * 400})
    reads = [
        kit.says(("read", {"path": "long.txt", "start_line": n}), tokens=90_000 + n * 10_000)
        for n in range(1, 8)
    ]
    model = kit.Script(*reads, kit.says(EDIT), kit.finishes())
    patch = await bench.run(tree, model)
    assert patch.edits
    texts = [r.text for turn in model.requests[-1].turns if isinstance(turn, ToolTurn) for r in turn.results]
    assert [text.startswith("[This result was left out") for text in texts] == [True] * 3 + [False] * 5
    assert len(model.requests[-1].turns) == 17


async def test_too_many_calls_in_one_turn_are_answered_and_not_run(bench: Any, kit: Any) -> None:
    model = kit.Script(kit.says(*[READ] * 20), kit.says(EDIT), kit.finishes())
    await bench.run(kit.Tree(FILES), model)
    assert [r.is_error for r in model.results(1)] == [False] * 16 + [True] * 4


async def test_calls_and_results_alternate_as_providers_demand(bench: Any, kit: Any) -> None:
    model = kit.Script(kit.says(READ), kit.says(text="hm"), kit.says(EDIT), kit.finishes())
    await bench.run(kit.Tree(FILES), model)
    turns = model.requests[-1].turns
    for before, after in itertools.pairwise(turns):
        calls = getattr(before, "calls", ())
        assert isinstance(after, ToolTurn) == bool(calls)
