"""What a model's tokens cost, one dated table in dollars per million tokens; a model that is not in it has no price.

Gathered from excerpts of the providers' pages and from others' notes of them; not each row was seen on the provider's own
page. Each row says of which day it is and where its provider states it. Prices change: a figure here is an estimate, the
provider's invoice is the truth. Refuses to guess: no price is taken from a similar name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from types import MappingProxyType

from app.nouns import Usage

# Cache writes are those of the five-minute cache, the only one that is asked for.
ANTHROPIC = "https://platform.claude.com/docs/en/about-claude/pricing"
# The standard tier; cache writes are those of 30 minutes.
OPENAI = "https://developers.openai.com/api/docs/pricing"
EXAMPLE = "an example, so that the scripted model of demos and tests shows a cost"

_MILLION = Decimal(1_000_000)
_SNAPSHOT = re.compile(r"-(\d{8}|\d{4}-\d{2}-\d{2})$")


@dataclass(frozen=True, slots=True)
class Rates:
    """Dollars per million tokens."""

    input: Decimal
    cached: Decimal
    cache_write: Decimal
    output: Decimal

    def of(self, usage: Usage) -> Decimal:
        """Dollars for one call."""
        plain = usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens
        return (
            plain * self.input
            + usage.cached_tokens * self.cached
            + usage.cache_write_tokens * self.cache_write
            + usage.output_tokens * self.output
        ) / _MILLION


@dataclass(frozen=True, slots=True)
class Price:
    """A row of the table. `as_of` is the day on which the provider asked this, as far as is known, and `source` where it
    says so. Above `long_from` prompt tokens, cached ones included, all tokens of the call cost what `long` says.
    """

    rates: Rates
    as_of: date
    source: str
    long_from: int | None = None
    long: Rates | None = None

    def of(self, usage: Usage) -> Decimal:
        """Dollars for one call."""
        if self.long_from is not None and self.long is not None and usage.input_tokens > self.long_from:
            return self.long.of(usage)
        return self.rates.of(usage)


Prices = Mapping[str, Price]


def _rates(input_: str, cached: str, cache_write: str, output: str) -> Rates:
    return Rates(Decimal(input_), Decimal(cached), Decimal(cache_write), Decimal(output))


def _anthropic(as_of: date, *figures: str, long_from: int | None = None, long: Rates | None = None) -> Price:
    return Price(_rates(*figures), as_of, ANTHROPIC, long_from, long)


def _openai(as_of: date, *figures: str) -> Price:
    """Above 272,000 prompt tokens: twice the input and cache prices, one and a half times the output price."""
    base = _rates(*figures)
    long = Rates(base.input * 2, base.cached * 2, base.cache_write * 2, base.output * Decimal("1.5"))
    return Price(base, as_of, OPENAI, 272_000, long)


_OCTOBER = date(2026, 10, 24)
_NOVEMBER = date(2026, 11, 20)

# The figures are: input, read from the cache, written to the cache, output.
PRICES: Prices = MappingProxyType(
    {
        "claude-fable-5-1": _anthropic(_OCTOBER, "10", "0.25", "12.50", "50"),
        "claude-fable-5": _anthropic(_OCTOBER, "10", "1", "12.50", "50"),
        "claude-mythos-5-1": _anthropic(_OCTOBER, "10", "0.25", "12.50", "50"),
        "claude-mythos-5": _anthropic(_OCTOBER, "10", "1", "12.50", "50"),
        "claude-opus-5-5": _anthropic(_OCTOBER, "4", "0.20", "5", "20"),
        "claude-opus-5": _anthropic(_OCTOBER, "5", "0.50", "6.25", "25"),
        "claude-opus-4-8": _anthropic(_OCTOBER, "5", "0.50", "6.25", "25"),
        "claude-opus-4-7": _anthropic(_OCTOBER, "5", "0.50", "6.25", "25"),
        "claude-opus-4-6": _anthropic(_OCTOBER, "5", "0.50", "6.25", "25"),
        "claude-opus-4-5": _anthropic(_OCTOBER, "5", "0.50", "6.25", "25"),
        "claude-sonnet-5-5": _anthropic(_OCTOBER, "2", "0.10", "2.50", "10"),
        "claude-sonnet-5": _anthropic(_OCTOBER, "2", "0.20", "2.50", "10"),
        "claude-sonnet-4-6": _anthropic(_OCTOBER, "3", "0.30", "3.75", "15"),
        "claude-sonnet-4-5": _anthropic(_OCTOBER, "3", "0.30", "3.75", "15"),
        "claude-haiku-5-5": _anthropic(
            _OCTOBER, "0.10", "0.01", "0.125", "0.50",
            long_from=100_000, long=_rates("0.50", "0.05", "0.625", "2.50"),
        ),
        "claude-haiku-4-5": _anthropic(_OCTOBER, "1", "0.10", "1.25", "5"),
        "gpt-6-astra": _openai(date(2026, 9, 3), "10", "1", "12.50", "50"),
        "gpt-6.1-sol": _openai(_NOVEMBER, "2", "0.10", "2.50", "10"),
        "gpt-6.1-terra": _openai(date(2026, 10, 26), "1", "0.05", "1.25", "5"),
        "gpt-6-sol": _openai(date(2026, 9, 22), "2", "0.20", "2.50", "10"),
        "gpt-6-luna": _openai(date(2026, 9, 22), "0.10", "0.01", "0.125", "0.50"),
        "gpt-5.6-terra": _openai(date(2026, 8, 1), "2", "0.20", "2.50", "12"),
        "gpt-5.6-luna": _openai(date(2026, 9, 22), "0.20", "0.02", "0.25", "1.20"),
        "playbook-1": Price(_rates("3", "0.30", "3.75", "15"), _NOVEMBER, EXAMPLE),
    }
)  # fmt: skip


def price(model: str, prices: Prices = PRICES) -> Price | None:
    """The row of `model`, or None. A dated snapshot (`-20251101`, `-2026-09-29`) has the row of its family."""
    return prices.get(model) or prices.get(_SNAPSHOT.sub("", model))


def cost(model: str, usage: Usage, prices: Prices = PRICES) -> Decimal | None:
    """Dollars for one call of `model`, or None when no price is known."""
    row = price(model, prices)
    return None if row is None else row.of(usage)
