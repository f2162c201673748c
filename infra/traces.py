"""How long each step of a run took and what it waited for, as OpenTelemetry tells it; nothing where no collector is named.

A run's trace has the run's id, so that whoever knows the one finds the other. Refuses events and exceptions: their messages may quote
what they were about.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from typing import Final
from uuid import UUID

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

ENDPOINT: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"
TRACES_ENDPOINT: Final = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
"""https://opentelemetry.io/docs/specs/otel/protocol/exporter/#endpoint-urls-for-otlphttp"""


def exporter(environ: Mapping[str, str]) -> SpanExporter | None:
    """By OpenTelemetry's own names; None where they name no collector."""
    if own := environ.get(TRACES_ENDPOINT):
        return OTLPSpanExporter(own)
    if common := environ.get(ENDPOINT):
        return OTLPSpanExporter(f"{common.rstrip('/')}/v1/traces")
    return None


class Traces:
    """`close` hands over what is left."""

    def __init__(self, to: SpanExporter | None) -> None:
        resource = Resource.create({"service.name": "magicode", "service.version": version("magicode")})
        self._provider = TracerProvider(
            resource=resource, span_limits=SpanLimits(max_events=0, max_links=0), shutdown_on_exit=False
        )
        if to is not None:
            self._provider.add_span_processor(BatchSpanProcessor(to))
        self._tracer = self._provider.get_tracer("magicode")
        self._silent = to is None

    @contextmanager
    def span(
        self, name: str, *, run_id: UUID | None = None, kind: SpanKind = SpanKind.INTERNAL
    ) -> Iterator[dict[str, str]]:
        """Within it is what takes its time; what is put into the mapping is told at its end."""
        told: dict[str, str] = {}
        if self._silent:
            yield told
            return
        context = None if run_id is None else _of_run(run_id)
        with self._tracer.start_as_current_span(
            name, context, kind, record_exception=False, set_status_on_exception=False
        ) as span:
            if run_id is not None:
                span.set_attribute("magicode.run", str(run_id))
            try:
                yield told
            except BaseException:
                span.set_status(StatusCode.ERROR)
                raise
            finally:
                for key, value in told.items():
                    span.set_attribute(f"magicode.{key}", value)

    def close(self) -> None:
        self._provider.shutdown()


def _of_run(run_id: UUID) -> Context:
    """As if it went on from a span that nobody recorded, in the trace that is the run's."""
    parent = SpanContext(run_id.int, run_id.int & (2**64 - 1) or 1, is_remote=True, trace_flags=TraceFlags(1))
    return set_span_in_context(NonRecordingSpan(parent), Context())
