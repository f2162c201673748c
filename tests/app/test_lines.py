"""Which lines are the same: rightly, and in bounded time."""

from __future__ import annotations

import difflib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.lines import changed, opcodes

TEXTS = st.lists(st.sampled_from(["a", "b", "c", ""]), max_size=30)


@given(TEXTS, TEXTS)
def test_the_codes_turn_one_text_into_the_other(before: list[str], after: list[str]) -> None:
    made: list[str] = []
    at_before = at_after = 0
    for tag, i1, i2, j1, j2 in opcodes(before, after):
        assert (i1, j1) == (at_before, at_after)
        if tag == "equal":
            assert before[i1:i2] == after[j1:j2]
        made += before[i1:i2] if tag == "equal" else after[j1:j2]
        at_before, at_after = i2, j2
    assert made == after
    assert (at_before, at_after) == (len(before), len(after))


@given(TEXTS, TEXTS)
def test_lines_added_less_lines_removed_is_the_difference_in_length(
    before: list[str], after: list[str]
) -> None:
    added, removed = changed(before, after)
    assert added - removed == len(after) - len(before)


def test_an_insertion_in_the_middle_is_nothing_else() -> None:
    assert opcodes(["a", "b"], ["a", "x", "b"]) == [
        ("equal", 0, 1, 0, 1),
        ("insert", 1, 1, 1, 2),
        ("equal", 1, 2, 2, 3),
    ]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (["x", "y"] * 1000, ["y", "x"] * 1000),
        (["x", "y", "x", "z"] * 450, ["y", "x", "z", "x"] * 450),
        ([f"{i % 7}" for i in range(1990)], [f"{i % 5}" for i in range(1990)]),
        ([str(i) for i in range(200_000)], [str(-i) for i in range(200_000)]),
    ],
)
def test_no_text_takes_long(before: list[str], after: list[str]) -> None:
    began = time.process_time()
    opcodes(before, after)
    assert time.process_time() - began < 3.0


def test_the_measure_can_fail() -> None:
    before, after = ["x", "y"] * 600, ["y", "x"] * 600
    began = time.process_time()
    opcodes(before, after)
    ours = time.process_time() - began
    began = time.process_time()
    difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes()
    assert time.process_time() - began > 5 * ours
