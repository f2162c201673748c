"""What one run did, in Markdown for a comment that anybody may read: counts, models, tokens, cost and times.

It says nothing of the details but figures, states and models' names: no path, no branch, no login.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Final

from app.actionlog.exported import ExportedEntry
from app.nouns import Action, RunState

_MODEL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,79}")
_KNOWN: Final = frozenset(action.value for action in Action)
_STATES: Final = frozenset(state.value for state in RunState)
_OTHER: Final = "other"


class _Figures:
    """What is added up over a run."""

    def __init__(self) -> None:
        self.actions: Counter[str] = Counter()
        self.models: Counter[str] = Counter()
        self.input_tokens = self.output_tokens = 0
        self.cost_usd = Decimal(0)
        self.unpriced = self.closed = 0
        self.first = self.last = ""
        self.state: str | None = None

    def take(self, entry: ExportedEntry) -> None:
        self.first = self.first or entry.at
        self.last = entry.at
        self.actions[entry.action if entry.action in _KNOWN else _OTHER] += 1
        self.closed += entry.details is None
        details = entry.details or {}
        if entry.action == Action.MODEL_CALLED.value and entry.details is not None:
            self._take_call(details)
        elif entry.action == Action.RUN_ENDED.value and details.get("state") in _STATES:
            self.state = str(details["state"])

    def _take_call(self, details: Mapping[str, object]) -> None:
        self.models[_model(details.get("model"))] += 1
        self.input_tokens += _count(details.get("input_tokens"))
        self.output_tokens += _count(details.get("output_tokens"))
        cost = _dollars(details.get("cost_usd"))
        if cost is None:
            self.unpriced += 1
        else:
            self.cost_usd += cost


def summary(entries: Iterable[ExportedEntry]) -> str:
    """One run's own entries, told in Markdown; a sentence where there is none."""
    figures = _Figures()
    for entry in entries:
        figures.take(entry)
    if not figures.first:
        return "The action log has no entry of this run."
    rows = "\n".join(f"| `{action}` | {count} |" for action, count in sorted(figures.actions.items()))
    parts = [_when(figures), f"| Action | Entries |\n|---|---:|\n{rows}", _spent(figures)]
    if figures.closed:
        parts.append(f"The details of {figures.closed} of them cannot be opened any more.")
    return "\n\n".join(parts)


def _when(figures: _Figures) -> str:
    total = figures.actions.total()
    counted = f"{total:,} action{'s' if total != 1 else ''}"
    took = datetime.fromisoformat(figures.last) - datetime.fromisoformat(figures.first)
    ended = f", ended as {figures.state}" if figures.state else ""
    began, last = (f"{at[:10]} {at[11:19]}" for at in (figures.first, figures.last))
    return f"**{counted}** from {began} to {last} UTC ({lasted(took.total_seconds())}){ended}."


def lasted(seconds: float) -> str:
    """How long something took, as people say it."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _spent(figures: _Figures) -> str:
    calls = figures.models.total()
    if not calls:
        return "No model was called."
    models = ", ".join(f"`{name}` ({count})" for name, count in sorted(figures.models.items()))
    cost = f"${figures.cost_usd:.4f}"
    if figures.unpriced:
        priced = f"{cost} and " if figures.unpriced < calls else ""
        cost = f"{priced}{figures.unpriced} call{'s' if figures.unpriced > 1 else ''} without a known price"
    return (
        f"Models: {models}. {figures.input_tokens:,} tokens in, {figures.output_tokens:,} out. Cost: {cost}."
    )


def _model(given: object) -> str:
    """A self-hosted model can be named by a folder: its last part alone is told, where that is a plain name."""
    name = str(given or "").rsplit("/", 1)[-1].rsplit("\\", 1)[-1]
    return name if _MODEL.fullmatch(name) else "unnamed"


def _count(given: object) -> int:
    return given if isinstance(given, int) and not isinstance(given, bool) else 0


def _dollars(given: object) -> Decimal | None:
    try:
        amount = Decimal(given) if isinstance(given, str | int | float) else None
    except InvalidOperation:
        return None
    return amount if amount is not None and amount.is_finite() else None
