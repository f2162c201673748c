"""What a model's tokens cost, one dated table in dollars per million tokens; a model that is not in it has no price.

Gathered on 2026-11-20 from excerpts of the providers' pages and from others' notes of them; not each row was seen on the
provider's own page. Prices change: a figure here is an estimate, the provider's invoice is the truth.

- Anthropic: https://platform.claude.com/docs/en/about-claude/pricing (cache writes are those of the five-minute cache)
- OpenAI: https://developers.openai.com/api/docs/pricing (standard tier)

A provider may charge a long prompt more, and then all of the request: `long_prompt` holds that second row.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from types import MappingProxyType

from app.nouns import Usage

READ_ON = date(2026, 11, 20)

_MILLION = Decimal(1_000_000)
_SNAPSHOT = re.compile(r"-(\d{8}|\d{4}-\d{2}-\d{2})$")


@dataclass(frozen=True, slots=True)
class Price:
    """Dollars per million tokens. Above `long_prompt_from` prompt tokens, all tokens cost what `long_prompt` says."""

    input: Decimal
    cached: Decimal
    cache_write: Decimal
    output: Decimal
    long_prompt_from: int | None = None
    long_prompt: Price | None = None

    def of(self, usage: Usage) -> Decimal:
        """Dollars for one call."""
        if (
            self.long_prompt_from is not None
            and self.long_prompt is not None
            and usage.input_tokens > self.long_prompt_from
        ):
            return self.long_prompt.of(usage)
        plain = usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens
        return (
            plain * self.input
            + usage.cached_tokens * self.cached
            + usage.cache_write_tokens * self.cache_write
            + usage.output_tokens * self.output
        ) / _MILLION


Prices = Mapping[str, Price]


def _price(input_: str, cached: str, cache_write: str, output: str) -> Price:
    return Price(Decimal(input_), Decimal(cached), Decimal(cache_write), Decimal(output))


def _openai(input_: str, cached: str, cache_write: str, output: str) -> Price:
    """Above 272,000 prompt tokens: twice the input and cache prices, one and a half times the output price."""
    base = _price(input_, cached, cache_write, output)
    long = Price(base.input * 2, base.cached * 2, base.cache_write * 2, base.output * Decimal("1.5"))
    return Price(base.input, base.cached, base.cache_write, base.output, 272_000, long)


_OPUS = _price("5", "0.50", "6.25", "25")
_HAIKU_5_5 = Price(
    Decimal("0.10"),
    Decimal("0.01"),
    Decimal("0.125"),
    Decimal("0.50"),
    100_000,
    _price("0.50", "0.05", "0.625", "2.50"),
)

PRICES: Prices = MappingProxyType(
    {
        "claude-fable-5-1": _price("10", "0.25", "12.50", "50"),
        "claude-fable-5": _price("10", "1", "12.50", "50"),
        "claude-mythos-5-1": _price("10", "0.25", "12.50", "50"),
        "claude-mythos-5": _price("10", "1", "12.50", "50"),
        "claude-opus-5-5": _price("4", "0.20", "5", "20"),
        "claude-opus-5": _OPUS,
        "claude-opus-4-8": _OPUS,
        "claude-opus-4-7": _OPUS,
        "claude-opus-4-6": _OPUS,
        "claude-opus-4-5": _OPUS,
        "claude-sonnet-5-5": _price("2", "0.10", "2.50", "10"),
        "claude-sonnet-5": _price("2", "0.20", "2.50", "10"),
        "claude-sonnet-4-6": _price("3", "0.30", "3.75", "15"),
        "claude-sonnet-4-5": _price("3", "0.30", "3.75", "15"),
        "claude-haiku-5-5": _HAIKU_5_5,
        "claude-haiku-4-5": _price("1", "0.10", "1.25", "5"),
        "gpt-6-astra": _openai("10", "1", "12.50", "50"),
        "gpt-6.1-sol": _openai("2", "0.10", "2.50", "10"),
        "gpt-6-sol": _openai("2", "0.20", "2.50", "10"),
        "gpt-6-luna": _openai("0.10", "0.01", "0.125", "0.50"),
        # Not a product of anybody: an example price, so that the scripted model of demos and tests shows a cost.
        "playbook-1": _price("3", "0.30", "3.75", "15"),
    }
)


def cost(model: str, usage: Usage, prices: Prices = PRICES) -> Decimal | None:
    """Dollars for one call of `model`, or None when no price is known. A dated snapshot costs what its family costs."""
    price = prices.get(model) or prices.get(_SNAPSHOT.sub("", model))
    return None if price is None else price.of(usage)
