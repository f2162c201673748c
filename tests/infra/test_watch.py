"""What is told becomes figures and spans, and nothing else."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from decimal import Decimal
from uuid import UUID

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from app.errors import TransientError
from app.nouns import QueueLoad, Spending
from infra.metrics import LOWEST_WITHIN_SECONDS, Metrics
from infra.simulator.collector import collecting
from infra.traces import ENDPOINT, TRACES_ENDPOINT, Traces, exporter
from infra.watch import ServiceWatch
from tests.figures import Figures

RUN = UUID("0f8fad5b-d9cb-469f-a165-70867728950e")


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Desk:
    def __init__(self) -> None:
        self.clock = Clock()
        self.metrics = Metrics(self.clock)
        self.spans = InMemorySpanExporter()
        self.watch = ServiceWatch(self.metrics, Traces(self.spans), self.clock)

    def told(self, *queues: QueueLoad) -> Figures:
        return Figures(self.watch.told(queues)[0].decode())


@pytest.fixture
def desk() -> Iterator[Desk]:
    desk = Desk()
    desk.watch.open()
    yield desk
    desk.watch.close()


def test_what_takes_its_time_is_counted_and_measured(desk: Desk) -> None:
    with desk.watch.job("work", RUN):
        desk.clock.now += 3
        with desk.watch.station("reading"):
            desk.clock.now += 2
        with desk.watch.model("anthropic"):
            desk.clock.now += 1
    told = desk.told()
    assert told.of("magicode_jobs_total", task="work", outcome="ok") == 1
    assert told.of("magicode_job_seconds_sum", task="work") == 6
    assert told.of("magicode_station_seconds_sum", station="reading") == 2
    assert told.of("magicode_model_calls_total", provider="anthropic", outcome="ok") == 1
    assert told.of("magicode_model_seconds_sum", provider="anthropic") == 1


def test_an_error_is_told_by_its_reason_and_one_that_is_not_ours_by_nothing_of_its_own(desk: Desk) -> None:
    for error, outcome in (
        (TransientError("a text of theirs", reason="model_overloaded"), "model_overloaded"),
        (asyncio.CancelledError(), "cancelled"),
        (ValueError("a text of theirs"), "defect"),
    ):
        with pytest.raises(type(error)), desk.watch.model("openai"):
            raise error
        assert desk.told().of("magicode_model_calls_total", provider="openai", outcome=outcome) == 1
    assert b"theirs" not in desk.watch.told(None)[0]


def test_github_is_told_by_template_and_status_and_a_status_outweighs_the_error(desk: Desk) -> None:
    request = "GET /repos/{owner}/{repo}"

    def fails() -> None:
        with desk.watch.github(request) as doing:
            doing.came_to("502")
            raise TransientError(reason="github_unavailable")

    with pytest.raises(TransientError):
        fails()
    assert desk.told().of("magicode_github_requests_total", request=request, status="502") == 1


def test_the_rest_is_told_as_it_comes(desk: Desk) -> None:
    watch = desk.watch
    watch.delivered("refused", "signature_wrong", 0.002)
    watch.answered("GET", "/installations/{tenant}", 404, 0.02)
    watch.begun("fix", -0.5)  # two machines' clocks
    watch.ended("fix", "opened", "opened")
    watch.spent(
        "openai", Spending(input_tokens=7, cached_tokens=5, output_tokens=3, cost_usd=Decimal("0.25"))
    )
    watch.missed(3, 61.0)
    logging.getLogger("app.somewhere").warning("x")
    logging.getLogger("app.somewhere").error("x")
    logging.getLogger("app.somewhere").critical("x")
    told = desk.told(QueueLoad("runs", 4, 2, 1, 12.5))
    assert told.of("magicode_deliveries_total", outcome="refused", reason="signature_wrong") == 1
    assert (
        told.of("magicode_http_answers_total", method="GET", route="/installations/{tenant}", status="404")
        == 1
    )
    assert told.of("magicode_run_wait_seconds_sum", verb="fix") == 0
    assert told.of("magicode_runs_total", verb="fix", state="opened", reason="opened") == 1
    assert [
        told.of("magicode_model_tokens_total", provider="openai", kind=kind)
        for kind in ("input", "cached", "output")
    ] == [7, 5, 3]
    assert told.of("magicode_cost_dollars_total", provider="openai") == 0.25
    assert (told.of("magicode_webhooks_missed"), told.of("magicode_webhook_lag_seconds")) == (3, 61)
    assert [
        told.of("magicode_log_records_total", level=level) for level in ("warning", "error", "critical")
    ] == [1, 1, 1]
    assert told.of("magicode_queue_jobs", queue="runs") == 4
    assert told.of("magicode_queue_working_jobs", queue="runs") == 2
    assert told.of("magicode_queue_later_jobs", queue="runs") == 1
    assert told.of("magicode_queue_oldest_seconds", queue="runs") == 12.5


def test_what_the_database_does_not_say_is_not_told_as_it_was(desk: Desk) -> None:
    assert desk.told(QueueLoad("runs", 4, 2, 1, 12.5)).of("magicode_database_up") == 1
    text = desk.watch.told(None)[0].decode()
    assert "magicode_database_up 0.0" in text
    assert 'magicode_queue_jobs{queue="runs"}' not in text


def test_of_githubs_limit_the_least_of_the_last_minutes_is_told(desk: Desk) -> None:
    def left() -> float:
        return desk.told().of("magicode_github_budget_left")

    assert left() == 1
    for share in (0.9, 0.2, 0.8):
        desk.watch.left_at_github(share)
        desk.clock.now += 100
    assert left() == 0.2
    desk.clock.now += LOWEST_WITHIN_SECONDS - 150
    assert left() == 0.8
    desk.clock.now += LOWEST_WITHIN_SECONDS
    assert left() == 1


def test_a_line_of_the_log_is_no_longer_counted_once_the_watch_is_over(desk: Desk) -> None:
    before = logging.getLogger().handlers[:]
    other = Desk()
    other.watch.open()
    other.watch.close()
    assert logging.getLogger().handlers == before


def test_a_run_is_one_trace_and_its_id_is_the_traces(desk: Desk) -> None:
    for _ in range(2):  # tried again, maybe by another process
        with desk.watch.job("work", RUN), desk.watch.station("reading"), desk.watch.github("GET /x") as doing:
            doing.came_to("200")
    desk.watch.close()
    spans = desk.spans.get_finished_spans()
    assert [one.name for one in spans] == ["GET /x", "station reading", "job work"] * 2
    assert {one.context.trace_id for one in spans if one.context} == {RUN.int}
    github, station, job = spans[:3]
    assert github.parent == station.context
    assert station.parent == job.context
    assert job.attributes is not None
    assert job.attributes["magicode.run"] == str(RUN)
    assert github.attributes == {"magicode.outcome": "200"}


def test_a_span_says_that_it_failed_and_not_why(desk: Desk) -> None:
    with pytest.raises(ValueError, match="theirs"), desk.watch.job("work", None):
        raise ValueError("a text of theirs")
    desk.watch.close()
    (span,) = desk.spans.get_finished_spans()
    assert span.status.status_code.name == "ERROR"
    assert span.attributes == {"magicode.outcome": "defect"}
    assert not span.events
    assert "theirs" not in span.to_json()


async def test_traces_are_handed_to_whatever_opentelemetrys_own_name_says() -> None:
    async with collecting() as collector:
        for environ in (
            {ENDPOINT: collector.url + "/"},
            {TRACES_ENDPOINT: f"{collector.url}/v1/traces", ENDPOINT: "http://127.0.0.1:9"},
        ):
            collector.handed.clear()
            watch = ServiceWatch(Metrics(), Traces(exporter(environ)))
            with watch.job("work", RUN):
                pass
            await asyncio.to_thread(watch.close)
            (span,) = collector.spans
            assert (span.name, UUID(bytes=span.trace_id)) == ("job work", RUN)


def test_without_a_collector_there_are_no_traces() -> None:
    assert exporter({}) is None
    watch = ServiceWatch(Metrics(), Traces(None))
    with watch.job("work", RUN):
        pass
    watch.close()
