"""A collector of OpenTelemetry's traces to play with: it keeps what it is handed, byte for byte, and reads it.

https://opentelemetry.io/docs/specs/otlp/#otlphttp
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from infra.simulator.served import served


@dataclass
class Collector:
    """`url` is what OTEL_EXPORTER_OTLP_ENDPOINT is to say."""

    url: str = ""
    handed: list[bytes] = field(default_factory=list)
    into: Path | None = None

    @property
    def spans(self) -> list[Span]:
        """In the order in which they ended."""
        return [
            span
            for body in self.handed
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    async def take(self, request: Request) -> Response:
        body = await request.body()
        self.handed.append(body)
        if self.into is not None:
            await asyncio.to_thread(self._keep, self.into, body)
        return Response(b"", media_type="application/x-protobuf")

    def _keep(self, into: Path, body: bytes) -> None:
        with into.open("ab") as file:
            file.write(body)


@asynccontextmanager
async def collecting(into: Path | None = None) -> AsyncIterator[Collector]:
    """`into`: a file that everything is appended to as it came."""
    collector = Collector(into=into)
    web = Starlette(routes=[Route("/v1/traces", collector.take, methods=["POST"])])
    async with served(web) as collector.url:
        yield collector
