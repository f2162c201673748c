"""What is believed of a provider's answer, and what is not."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.nouns import Usage
from infra.models.wire import MAX_DEPTH, MOST_TOKENS, counted, dearer, parse_object

SENT = {"messages": [{"role": "user", "content": "x" * 4_000}]}
FIGURES = st.integers(-(10**40), 10**40)


@given(FIGURES, FIGURES, FIGURES, FIGURES)
def test_figures_are_never_negative_nor_without_bounds_nor_more_than_their_whole(
    tokens: int, cached: int, written: int, output: int
) -> None:
    usage = counted(Usage(tokens, cached, written, output), SENT, "answered")
    assert 0 < usage.input_tokens <= MOST_TOKENS
    assert 0 < usage.output_tokens <= MOST_TOKENS
    assert usage.cached_tokens >= 0
    assert usage.cache_write_tokens >= 0
    assert usage.cached_tokens + usage.cache_write_tokens <= usage.input_tokens


@given(st.integers(1, 10**6), st.integers(1, 10**6))
def test_figures_that_can_be_true_are_believed(tokens: int, output: int) -> None:
    assert counted(Usage(tokens, 0, tokens, output), SENT, "") == Usage(tokens, 0, tokens, output)


def test_what_is_left_out_is_told_from_the_texts() -> None:
    usage = counted(Usage(0, 0, 0, 0), SENT, "y" * 400)
    assert 1_000 <= usage.input_tokens < 1_100
    assert usage.output_tokens == 100


def test_the_dearer_price_counts_and_none_only_where_none_is_known() -> None:
    assert dearer(Decimal(1), Decimal(2)) == 2
    assert dearer(None, Decimal(2)) == 2
    assert dearer(None, None) is None


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 700, 1_000, 100_000])
def test_an_object_nested_beyond_reason_is_none(depth: int) -> None:
    assert parse_object('{"a": ' + "[" * depth + "]" * depth + "}") is None


def test_an_object_of_some_depth_is_one_and_can_be_written_again() -> None:
    found = parse_object('{"a": ' + "[" * (MAX_DEPTH - 1) + "]" * (MAX_DEPTH - 1) + "}")
    assert found is not None
    assert json.dumps(found)
