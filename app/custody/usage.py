"""What an installation used: tokens and dollars by day, repository and model, added up while its log passes by.

A call of a model stands in the log with its model; what a run used beyond the calls that are still in the log stands under
no model, so that the sum over the table is the sum over the runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Final

from app.nouns import Action

_TOKENS: Final = ("input_tokens", "cached_tokens", "output_tokens")

Key = tuple[str, str, str, str]
"""Day, repository's id, provider, model; each may be empty."""


@dataclass(slots=True)
class _Sum:
    calls: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    cost_usd: Decimal = Decimal(0)
    unpriced_calls: int = 0

    @property
    def anything(self) -> bool:
        return bool(self.calls or self.input_tokens or self.output_tokens or self.cost_usd)


@dataclass(slots=True)
class _Left:
    """Of a run: what no call in the log accounts for yet."""

    day: str
    repository: str
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    cost_usd: Decimal


class Usage:
    """First the runs, then the log's entries, then `rows`; values are JSON's, as they are exported."""

    def __init__(self) -> None:
        self._sums: dict[Key, _Sum] = {}
        self._left: dict[str, _Left] = {}

    def run(self, row: Mapping[str, object]) -> None:
        used = [_count(row[name]) for name in _TOKENS]
        cost = _dollars(row["cost_usd"]) or Decimal(0)
        day = str(row["started_at"] or row["created_at"])[:10]
        self._left[str(row["id"])] = _Left(day, str(row["repository_id"]), used[0], used[1], used[2], cost)

    def entry(self, row: Mapping[str, object]) -> None:
        details = row["details"]
        if row["action"] != Action.MODEL_CALLED.value or not isinstance(details, Mapping):
            return
        run = self._left.get(str(row["run_id"]))
        key = (
            str(row["at"])[:10],
            "" if run is None else run.repository,
            str(details.get("provider") or ""),
            str(details.get("model") or ""),
        )
        used = [_count(details.get(name)) for name in _TOKENS]
        cost = _dollars(details.get("cost_usd"))
        found = self._sums.setdefault(key, _Sum())
        found.calls += 1
        found.unpriced_calls += cost is None
        _add(found, used, cost or Decimal(0))
        if run is not None:
            run.input_tokens = max(0, run.input_tokens - used[0])
            run.cached_tokens = max(0, run.cached_tokens - used[1])
            run.output_tokens = max(0, run.output_tokens - used[2])
            run.cost_usd = max(Decimal(0), run.cost_usd - (cost or Decimal(0)))

    def rows(self) -> Iterator[Mapping[str, object]]:
        for run in self._left.values():
            sums = self._sums.setdefault((run.day, run.repository, "", ""), _Sum())
            _add(sums, [run.input_tokens, run.cached_tokens, run.output_tokens], run.cost_usd)
        self._left = {}
        for (day, repository, provider, model), sums in sorted(self._sums.items()):
            if sums.anything:
                yield {
                    "day": day,
                    "repository_id": repository,
                    "provider": provider,
                    "model": model,
                    "calls": sums.calls,
                    "input_tokens": sums.input_tokens,
                    "cached_tokens": sums.cached_tokens,
                    "output_tokens": sums.output_tokens,
                    "cost_usd": str(sums.cost_usd),
                    "unpriced_calls": sums.unpriced_calls,
                }


def _add(sums: _Sum, used: list[int], cost: Decimal) -> None:
    sums.input_tokens += used[0]
    sums.cached_tokens += used[1]
    sums.output_tokens += used[2]
    sums.cost_usd += cost


def _count(given: object) -> int:
    return given if isinstance(given, int) and not isinstance(given, bool) else 0


def _dollars(given: object) -> Decimal | None:
    try:
        amount = Decimal(given) if isinstance(given, str | int | float) else None
    except InvalidOperation:
        return None
    return amount if amount is not None and amount.is_finite() else None
