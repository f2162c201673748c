"""Reads what /metrics says, as Prometheus does."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families


class Figures:
    """`of("magicode_jobs_total", task="work", outcome="ok")`; 0 for what was never counted."""

    def __init__(self, text: str) -> None:
        self._told = {
            (sample.name, frozenset(sample.labels.items())): float(sample.value)
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def of(self, name: str, **labels: str) -> float:
        return self._told.get((name, frozenset(labels.items())), 0.0)

    def labels(self, name: str) -> list[dict[str, str]]:
        return [dict(labels) for told, labels in self._told if told == name]

    @property
    def names(self) -> set[str]:
        return {name for name, _ in self._told}
