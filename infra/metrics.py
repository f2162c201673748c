"""What happens, in figures, as Prometheus reads them. One process tells of itself alone; what waits in the queues it tells for all.

Refuses labels that anybody outside could make up: each is a word of ours, a status, or a template of a route.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Final

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    ProcessCollector,
    generate_latest,
)

from app.nouns import QueueLoad, Spending

_SHORT: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_LONG: Final = (0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1200)
_WAITS: Final = (0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)
LOWEST_WITHIN_SECONDS: Final = 300.0
"""So long an installation's nearly spent limit is told, whoever else asks GitHub meanwhile."""

LEVELS: Final = {"warning": logging.WARNING, "error": logging.ERROR, "critical": logging.CRITICAL}


class Metrics:
    """Each figure is there from the start: an alert on what was never counted yet would not know it from one that is gone."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        GCCollector(registry=registry)
        self.info = Gauge("magicode_info", "The version at work.", ["version"], registry=registry)
        self.info.labels(version("magicode")).set(1)

        def counter(name: str, said: str, *labels: str) -> Counter:
            return Counter(f"magicode_{name}", said, labels, registry=registry)

        def gauge(name: str, said: str, *labels: str) -> Gauge:
            return Gauge(f"magicode_{name}", said, labels, registry=registry)

        def seconds(name: str, said: str, buckets: Sequence[float], *labels: str) -> Histogram:
            return Histogram(f"magicode_{name}_seconds", said, labels, buckets=buckets, registry=registry)

        self.deliveries = counter("deliveries", "Webhooks, by what was said to them.", "outcome", "reason")
        self.delivery = seconds("delivery", "From a webhook's first byte to our answer.", _SHORT)
        self.missed = gauge("webhooks_missed", "Events that GitHub lists as told to nobody.")
        self.lag = gauge("webhook_lag_seconds", "Since when the oldest of them is.")
        self.runs = counter("runs", "Runs that ended.", "verb", "state", "reason")
        self.wait = seconds("run_wait", "From a request to its run's beginning.", _WAITS, "verb")
        self.jobs = counter("jobs", "Jobs that were worked on, each time that they were.", "task", "outcome")
        self.job = seconds("job", "Spent on a job each time.", _LONG, "task")
        self.station = seconds("station", "Spent by a run at a station each time.", _LONG, "station")
        self.github = counter("github_requests", "Requests to GitHub.", "request", "status")
        self.github_took = seconds("github", "From a request to GitHub to its answer.", _SHORT)
        self.github_left = gauge(
            "github_budget_left",
            "The least share of an hour's requests that any installation had left in the last five minutes.",
        )
        self.models = counter("model_calls", "Questions to a model, with their tries.", "provider", "outcome")
        self.model_took = seconds("model", "From a question to a model to its answer.", _LONG, "provider")
        self.tokens = counter("model_tokens", "Tokens.", "provider", "kind")
        self.cost = counter("cost_dollars", "What models cost, by their list prices.", "provider")
        self.answers = counter("http_answers", "Pages and API calls.", "method", "route", "status")
        self.answer = seconds("http", "From a request to the first byte of its answer.", _SHORT)
        self.logged = counter("log_records", "Lines of the log from warnings on.", "level")
        self.database = gauge("database_up", "Whether the database answered this question.")
        self.waiting = gauge("queue_jobs", "Jobs that could be taken up now.", "queue")
        self.oldest = gauge("queue_oldest_seconds", "How long the oldest of them has waited.", "queue")
        self.later = gauge("queue_later_jobs", "Jobs that are to be tried again at their time.", "queue")
        self.working = gauge("queue_working_jobs", "Jobs that are worked on.", "queue")

        self._shares: deque[tuple[float, float]] = deque()
        self.github_left.set_function(self._least)
        for level in LEVELS:
            self.logged.labels(level)

    def left_at_github(self, share: float) -> None:
        """As a window's least value is kept: what is more than a later one can never be it again."""
        while self._shares and self._shares[-1][1] >= share:
            self._shares.pop()
        self._shares.append((self._monotonic(), share))
        self._forget()

    def _least(self) -> float:
        self._forget()
        return self._shares[0][1] if self._shares else 1.0

    def _forget(self) -> None:
        while self._shares and self._shares[0][0] < self._monotonic() - LOWEST_WITHIN_SECONDS:
            self._shares.popleft()

    def spent(self, provider: str, spending: Spending) -> None:
        for kind, count in (
            ("input", spending.input_tokens),
            ("cached", spending.cached_tokens),
            ("output", spending.output_tokens),
        ):
            self.tokens.labels(provider, kind).inc(count)
        self.cost.labels(provider).inc(float(spending.cost_usd))

    def told(self, queues: Sequence[QueueLoad] | None) -> tuple[bytes, str]:
        """In Prometheus' text format. A queue that nobody knows anything of is not told, rather than told as it was."""
        self.database.set(queues is not None)
        for one in (self.waiting, self.oldest, self.later, self.working):
            one.clear()
        for load in queues or ():
            self.waiting.labels(load.queue).set(load.waiting)
            self.oldest.labels(load.queue).set(load.oldest_seconds)
            self.later.labels(load.queue).set(load.later)
            self.working.labels(load.queue).set(load.working)
        return generate_latest(self.registry), CONTENT_TYPE_LATEST


class Counting(logging.Handler):
    """Counts the log's lines, and writes none. That the collector of traces is away is nobody's defect."""

    def __init__(self, metrics: Metrics) -> None:
        super().__init__(logging.WARNING)
        self.addFilter(lambda record: not record.name.startswith("opentelemetry."))
        self._metrics = metrics

    def emit(self, record: logging.LogRecord) -> None:
        found = [level for level, least in LEVELS.items() if record.levelno >= least]
        self._metrics.logged.labels(found[-1]).inc()
