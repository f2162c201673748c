"""Edits that undo each other: what is a circle, what is not, and that a circle ends the work."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.agent import EndedError
from app.agent.stuck import Circle, state
from app.nouns import FileEdit

FILES = {"a.py": b"x = 1\n"}


def edits(text: str) -> list[FileEdit]:
    return [FileEdit("a.py", b"", text.encode())] if text != "-" else []


def circles(states: str) -> list[bool]:
    circle = Circle(edits(states[0]))
    return [circle.moved(edits(one)) for one in states[1:]]


@pytest.mark.parametrize(
    ("states", "circle"),
    [
        ("-abcd", False),
        ("-a-", False),
        ("-a-b-c-d", False),
        ("-aaaa", False),
        ("-aba", False),
        ("-ababa", True),
        ("-a-a-", True),
        ("-abcabcab", True),
        ("-abcab", False),
    ],
)
def test_the_same_way_back_taken_twice_is_a_circle(states: str, circle: bool) -> None:
    assert any(circles(states)) is circle


@given(st.lists(st.sampled_from("-abc"), min_size=1, max_size=12))
def test_no_new_state_is_ever_a_circle(states: list[str]) -> None:
    seen = {states[0]}
    for one, found in zip(states[1:], circles("".join(states)), strict=True):
        assert not (found and one not in seen)
        seen.add(one)


def test_drafts_differ_by_path_by_content_and_by_what_is_deleted() -> None:
    drafts = [
        [],
        [FileEdit("a", b"", b"x")],
        [FileEdit("b", b"", b"x")],
        [FileEdit("a", b"", b"y")],
        [FileEdit("a", b"", None)],
        [FileEdit("a", b"", b"deleted")],
        [FileEdit("a", b"", b"x"), FileEdit("b", b"", b"x")],
    ]
    assert len({state(one) for one in drafts}) == len(drafts)


def turn(kit: Any, old: str, new: str, number: int) -> Any:
    read = ("grep", {"pattern": f"x{number}"})
    return kit.says(read, ("edit", {"path": "a.py", "old": f"x = {old}\n", "new": f"x = {new}\n"}))


async def test_edits_that_undo_each_other_are_remarked_on_and_then_end_the_work(bench: Any, kit: Any) -> None:
    steps = [("1", "2"), ("2", "1")] * 4
    model = kit.Script(*[turn(kit, old, new, number) for number, (old, new) in enumerate(steps)])
    with pytest.raises(EndedError) as caught:
        await bench.run(kit.Tree(FILES), model)
    assert caught.value.reason == "stuck"
    told = ["undo each other" in model.results(number)[-1].text for number in range(1, len(model.requests))]
    assert told == [False, False, False, True]
    assert caught.value.spending.turns == 5


async def test_a_model_that_goes_on_otherwise_after_the_remark_may_finish(bench: Any, kit: Any) -> None:
    steps = [("1", "2"), ("2", "1"), ("1", "2"), ("2", "1"), ("1", "3")]
    model = kit.Script(*[turn(kit, old, new, n) for n, (old, new) in enumerate(steps)], kit.finishes())
    assert (await bench.run(kit.Tree(FILES), model)).edits[0].after == b"x = 3\n"
