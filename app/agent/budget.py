"""Caps on a conversation with a model: turns, tokens, dollars, wall time. Knows what was spent, asks nobody."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal

from app.errors import RefusedError
from app.nouns import ModelAnswer, Spending

WRAP_UP_AT = 0.8


@dataclass(frozen=True, slots=True)
class Limits:
    """At 80 % of any of them the model is told to finish; at 100 % the run ends.

    `tokens` counts prompt and output of all calls together, cached parts too. `seconds` is wall time.
    `output_tokens` is the most that one answer may have; a prompt of more than `prompt_tokens` sheds old tool results.
    """

    turns: int = 40
    tokens: int = 2_000_000
    dollars: Decimal = Decimal(3)
    seconds: float = 900.0
    output_tokens: int = 16_000
    prompt_tokens: int = 120_000


class EndedError(RefusedError):
    """The model's work ended without a change or an answer. Ask again with a narrower request."""

    def __init__(self, message: str, *, reason: str, spending: Spending) -> None:
        super().__init__(message, reason=reason)
        self.spending = spending


class Budget:
    """What one conversation has spent, against its limits. `monotonic` gives seconds."""

    def __init__(self, limits: Limits, monotonic: Callable[[], float]) -> None:
        self._limits = limits
        self._monotonic = monotonic
        self._started = monotonic()
        self.spending = Spending()

    def charge(self, answer: ModelAnswer) -> None:
        """Adds one call. A call whose model has no known price is counted, not guessed at."""
        old = self.spending
        self.spending = replace(
            old,
            input_tokens=old.input_tokens + answer.usage.input_tokens,
            cached_tokens=old.cached_tokens + answer.usage.cached_tokens,
            output_tokens=old.output_tokens + answer.usage.output_tokens,
            cost_usd=old.cost_usd + (answer.cost_usd or Decimal(0)),
            unpriced_calls=old.unpriced_calls + (answer.cost_usd is None),
            turns=old.turns + 1,
            model=answer.model,
        )

    @property
    def seconds_left(self) -> float:
        return self._limits.seconds - (self._monotonic() - self._started)

    def left(self) -> Limits:
        """What is not spent yet: the limits of a conversation that shares this budget and begins now."""
        limits, spent = self._limits, self.spending
        return replace(
            limits,
            turns=max(0, limits.turns - spent.turns),
            tokens=max(0, limits.tokens - self._tokens),
            dollars=max(Decimal(0), limits.dollars - spent.cost_usd),
            seconds=max(0.0, self.seconds_left),
        )

    @property
    def output_tokens(self) -> int:
        """How long the next answer may be."""
        return max(1, min(self._limits.output_tokens, self._limits.tokens - self._tokens))

    def shares(self) -> dict[str, float]:
        """How much of each limit is used; 1.0 is all of it."""
        limits, spent = self._limits, self.spending
        return {
            "turns": _share(spent.turns, limits.turns),
            "tokens": _share(self._tokens, limits.tokens),
            "dollars": _share(float(spent.cost_usd), float(limits.dollars)),
            "time": _share(self._limits.seconds - self.seconds_left, limits.seconds),
        }

    def check(self) -> None:
        """Raises EndedError with reason `budget_turns`, `budget_tokens`, `budget_dollars` or `budget_time`."""
        for name, share in self.shares().items():
            if share >= 1:
                raise self.ended(name)

    def ended(self, name: str) -> EndedError:
        limits = self._limits
        most = {
            "turns": f"{limits.turns} turns",
            "tokens": f"{limits.tokens:,} tokens",
            "dollars": f"${limits.dollars}",
            "time": f"{limits.seconds:.0f} seconds",
        }[name]
        return EndedError(
            f"The work was stopped at its limit of {most}, before the model had finished. "
            "Ask for a smaller step, or say more exactly what to change and where.",
            reason=f"budget_{name}",
            spending=self.spending,
        )

    def wrap_up(self) -> str | None:
        """The name of a limit that is used to 80 % or more, or None."""
        name, share = max(self.shares().items(), key=lambda item: item[1])
        return name if share >= WRAP_UP_AT else None

    @property
    def _tokens(self) -> int:
        return self.spending.input_tokens + self.spending.output_tokens


def _share(used: float, most: float) -> float:
    return used / most if most > 0 else 1.0
