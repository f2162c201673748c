"""What calls cost."""

from __future__ import annotations

from decimal import Decimal
from typing import get_args

import pytest
from anthropic.types import Model as AnthropicName
from hypothesis import given
from hypothesis import strategies as st
from openai.types import ChatModel

from app.nouns import Usage
from infra.models.choose import DEFAULTS
from infra.models.prices import PRICES, cost

COUNTS = st.integers(min_value=0, max_value=2_000_000)


def test_each_kind_of_token_has_its_own_price() -> None:
    usage = Usage(input_tokens=3_000, cached_tokens=1_000, cache_write_tokens=1_000, output_tokens=1_000)
    assert cost("claude-opus-4-8", usage) == Decimal("0.005") + Decimal("0.0005") + Decimal(
        "0.00625"
    ) + Decimal("0.025")


def test_a_model_that_nobody_priced_has_no_cost_rather_than_none_to_pay() -> None:
    assert cost("a-model-of-tomorrow", Usage(1, 0, 0, 1)) is None


@pytest.mark.parametrize("snapshot", ["claude-opus-4-5-20251101", "gpt-6.1-sol-2026-09-29"])
def test_a_dated_snapshot_costs_what_its_family_costs(snapshot: str) -> None:
    family = snapshot[: -len("-20251101")] if "claude" in snapshot else snapshot[: -len("-2026-09-29")]
    usage = Usage(1000, 10, 20, 30)
    assert cost(snapshot, usage) == cost(family, usage) is not None


def test_a_long_prompt_pays_the_long_price_for_all_of_it() -> None:
    assert cost("gpt-6.1-sol", Usage(272_000, 0, 0, 0)) == Decimal("0.544")
    assert cost("gpt-6.1-sol", Usage(272_001, 0, 0, 1_000_000)) == Decimal(272001) * 4 / 1_000_000 + 15
    assert (
        cost("claude-haiku-5-5", Usage(100_001, 100_001, 0, 0))
        == Decimal(100001) * Decimal("0.05") / 1_000_000
    )


@given(plain=COUNTS, cached=COUNTS, written=COUNTS, output=COUNTS, model=st.sampled_from(sorted(PRICES)))
def test_reading_from_the_cache_never_costs_more_than_not_having_one(
    plain: int, cached: int, written: int, output: int, model: str
) -> None:
    whole = Usage(plain + cached + written, cached, written, output)
    without = Usage(plain + cached + written, 0, written, output)
    with_cache, without_cache = cost(model, whole), cost(model, without)
    assert with_cache is not None
    assert without_cache is not None
    assert 0 <= with_cache <= without_cache


def test_every_priced_model_but_the_example_is_in_an_sdks_own_list() -> None:
    known = {name for part in get_args(AnthropicName) for name in get_args(part)} | set(get_args(ChatModel))
    assert set(PRICES) - known == {"playbook-1"}


def test_the_default_models_have_a_price_so_that_a_cost_limit_holds() -> None:
    assert set(DEFAULTS.values()) <= set(PRICES)
