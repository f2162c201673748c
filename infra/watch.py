"""`app.ports.Watch`: each thing that happens becomes a figure, and where it takes its time and somebody collects them, a span."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Final
from uuid import UUID

from opentelemetry.trace import SpanKind
from prometheus_client import Histogram

from app.errors import MagicodeError
from app.nouns import QueueLoad, Spending
from app.ports import Doing
from infra.metrics import Counting, Metrics
from infra.traces import Traces

OK: Final = "ok"


class _Doing:
    def __init__(self) -> None:
        self.outcome = ""

    def came_to(self, what: str) -> None:
        self.outcome = what


class ServiceWatch:
    """From `open` to `close` it counts the log's lines too."""

    def __init__(
        self, metrics: Metrics, traces: Traces, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._metrics = metrics
        self._traces = traces
        self._monotonic = monotonic
        self._counting = Counting(metrics)

    def open(self) -> None:
        logging.getLogger().addHandler(self._counting)

    def close(self) -> None:
        """Waits until what was collected of traces is handed over, or cannot be."""
        logging.getLogger().removeHandler(self._counting)
        self._traces.close()

    def job(self, task: str, run_id: UUID | None) -> AbstractContextManager[Doing]:
        def count(outcome: str) -> None:
            self._metrics.jobs.labels(task, outcome).inc()

        return self._timed(f"job {task}", self._metrics.job.labels(task), count, run_id=run_id)

    def station(self, name: str) -> AbstractContextManager[Doing]:
        return self._timed(f"station {name}", self._metrics.station.labels(name))

    def github(self, request: str) -> AbstractContextManager[Doing]:
        def count(outcome: str) -> None:
            self._metrics.github.labels(request, outcome).inc()

        return self._timed(request, self._metrics.github_took, count, kind=SpanKind.CLIENT)

    def model(self, provider: str) -> AbstractContextManager[Doing]:
        def count(outcome: str) -> None:
            self._metrics.models.labels(provider, outcome).inc()

        took = self._metrics.model_took.labels(provider)
        return self._timed(f"model {provider}", took, count, kind=SpanKind.CLIENT)

    @contextmanager
    def _timed(
        self,
        name: str,
        took: Histogram,
        count: Callable[[str], None] = lambda _: None,
        *,
        run_id: UUID | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
    ) -> Iterator[_Doing]:
        doing, began = _Doing(), self._monotonic()
        with self._traces.span(name, run_id=run_id, kind=kind) as told:
            try:
                yield doing
            except BaseException as error:
                doing.outcome = doing.outcome or _outcome_of(error)
                raise
            finally:
                took.observe(self._monotonic() - began)
                told["outcome"] = outcome = doing.outcome or OK
                count(outcome)

    def delivered(self, outcome: str, reason: str, seconds: float) -> None:
        self._metrics.deliveries.labels(outcome, reason).inc()
        self._metrics.delivery.observe(seconds)

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        self._metrics.answers.labels(method, route, str(status)).inc()
        self._metrics.answer.observe(seconds)

    def begun(self, verb: str, waited_seconds: float) -> None:
        self._metrics.wait.labels(verb).observe(max(waited_seconds, 0.0))

    def ended(self, verb: str, state: str, reason: str) -> None:
        self._metrics.runs.labels(verb, state, reason).inc()

    def spent(self, provider: str, spending: Spending) -> None:
        self._metrics.spent(provider, spending)

    def left_at_github(self, share: float) -> None:
        self._metrics.left_at_github(share)

    def missed(self, events: int, oldest_seconds: float) -> None:
        self._metrics.missed.set(events)
        self._metrics.lag.set(oldest_seconds)

    def told(self, queues: Sequence[QueueLoad] | None) -> tuple[bytes, str]:
        return self._metrics.told(queues)


def _outcome_of(error: BaseException) -> str:
    """Of an error that is none of ours not even its kind: the log has that."""
    if isinstance(error, MagicodeError):
        return error.reason or "failed"
    return "cancelled" if isinstance(error, asyncio.CancelledError) else "defect"
