"""What calls cost."""

from __future__ import annotations

import dataclasses
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import get_args

import pytest
from anthropic.types import Model as AnthropicName
from hypothesis import given
from hypothesis import strategies as st
from openai.types import ChatModel

from app.nouns import Usage
from infra.models import prices as table
from infra.models.choose import DEFAULTS
from infra.models.prices import PRICES, Price, Rates, cost, price

COUNTS = st.integers(min_value=0, max_value=2_000_000)


def test_each_kind_of_token_has_its_own_price() -> None:
    usage = Usage(input_tokens=3_000, cached_tokens=1_000, cache_write_tokens=1_000, output_tokens=1_000)
    assert cost("claude-opus-4-8", usage) == Decimal("0.005") + Decimal("0.0005") + Decimal(
        "0.00625"
    ) + Decimal("0.025")


@pytest.mark.parametrize(
    "model",
    [
        "a-model-of-tomorrow",
        "",
        "claude",
        "claude-opus-5-55",
        "gpt-6.1-sol-mini",
        "opus-5",
        "gpt-6.1-sol-2026",
    ],
)
def test_a_model_that_nobody_priced_has_no_cost_rather_than_none_to_pay(model: str) -> None:
    assert price(model) is None
    assert cost(model, Usage(1, 0, 0, 1)) is None


@pytest.mark.parametrize("family", sorted(set(PRICES) - {"playbook-1"}))
def test_a_dated_snapshot_costs_what_its_family_costs(family: str) -> None:
    for dated in (f"{family}-20251101", f"{family}-2026-09-29"):
        assert price(dated) is PRICES[family]


def test_a_snapshot_with_a_price_of_its_own_keeps_it() -> None:
    own = dataclasses.replace(PRICES["gpt-6.1-sol"], source="its own")
    assert price("gpt-6.1-sol-2026-09-29", {**PRICES, "gpt-6.1-sol-2026-09-29": own}) is own


def test_a_long_prompt_pays_the_long_price_for_all_of_it() -> None:
    assert cost("gpt-6.1-sol", Usage(272_000, 0, 0, 0)) == Decimal("0.544")
    assert cost("gpt-6.1-sol", Usage(272_001, 0, 0, 1_000_000)) == Decimal(272001) * 4 / 1_000_000 + 15
    assert (
        cost("claude-haiku-5-5", Usage(100_001, 100_001, 0, 0))
        == Decimal(100001) * Decimal("0.05") / 1_000_000
    )
    written = cost("claude-haiku-5-5", Usage(100_001, 0, 100_001, 0))
    assert written == Decimal(100001) * Decimal("0.625") / 1_000_000


@pytest.mark.parametrize("model", sorted(PRICES))
def test_every_row_says_of_which_day_it_is_and_where_that_stands(model: str) -> None:
    row = PRICES[model]
    assert date(2026, 1, 1) <= row.as_of <= datetime.now(UTC).date()
    stands = {"claude": table.ANTHROPIC, "gpt": table.OPENAI, "playbook": table.EXAMPLE}
    assert row.source == stands[model.split("-", maxsplit=1)[0]]
    assert row.source.startswith("https://") or model == "playbook-1"


def test_a_row_cannot_be_written_without_its_day_and_its_source() -> None:
    needed = {one.name for one in dataclasses.fields(Price) if one.default is dataclasses.MISSING}
    assert needed == {"rates", "as_of", "source"}
    rates = Rates(Decimal(1), Decimal(1), Decimal(1), Decimal(1))
    with pytest.raises(TypeError):
        Price(rates)  # type: ignore[call-arg]


@pytest.mark.parametrize("model", sorted(PRICES))
def test_the_figures_of_a_row_stand_in_their_usual_order(model: str) -> None:
    """A slip of the pen, such as two columns exchanged, is seen."""
    row = PRICES[model]
    for rates in (row.rates, *([row.long] if row.long else [])):
        assert 0 < rates.cached < rates.input <= rates.cache_write < rates.output
        assert rates.cache_write == rates.input * Decimal("1.25")
    assert (row.long is None) == (row.long_from is None)
    if row.long is not None:
        assert row.long.input > row.rates.input


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
