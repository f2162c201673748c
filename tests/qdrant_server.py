"""A Qdrant server for tests, as far as this service asks one: its REST API in front of the client's own memory.

https://api.qdrant.tech/api-reference
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from pydantic import BaseModel, TypeAdapter
from qdrant_client import QdrantClient, models
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from infra.simulator.listener import listen

_FILTER: TypeAdapter[Any] = TypeAdapter(models.PointsSelector)


@dataclass
class QdrantServer:
    """`how` it fails: a status, `silent`, `garbled`, or None: not at all. `after` so many requests it begins to."""

    url: str = ""
    how: int | str | None = None
    after: int = 0
    asked: int = 0
    client: QdrantClient = field(default_factory=lambda: QdrantClient(location=":memory:"))

    def lose(self) -> None:
        """All collections are gone."""
        for one in self.client.get_collections().collections:
            self.client.delete_collection(one.name)

    async def answer(self, request: Request) -> Response:
        self.asked += 1
        if self.how is not None and self.asked > self.after:
            return await self._fail()
        body = await request.json() if await request.body() else {}
        name, rest = request.path_params.get("name", ""), request.path_params.get("rest", "")
        known = bool(name) and self.client.collection_exists(name)
        if name and not known and (request.method, rest) not in {("PUT", ""), ("GET", "exists")}:
            return _refused(404, f"Not found: Collection `{name}` doesn't exist!")
        does = _DOES[request.method, rest]
        try:
            result = does(self.client, name, body)
        except ValueError as error:  # numpy's, for a vector of another dimension
            return _refused(400, f"Wrong input: Vector dimension error: {error}")
        return JSONResponse({"result": _plain(result), "status": "ok", "time": 0.0})

    async def _fail(self) -> Response:
        if self.how == "silent":
            await asyncio.sleep(60)
        if self.how == "lost":
            self.lose()
            return _refused(404, "Not found: Collection doesn't exist!")
        if self.how == "garbled":
            return Response("<html>It works!</html>", media_type="text/html")
        status = self.how if isinstance(self.how, int) else 500
        return JSONResponse(
            {"status": {"error": "Service unavailable"}},
            status,
            headers={"Retry-After": "1"} if status == 429 else None,
        )


def _refused(status: int, error: str) -> Response:
    return JSONResponse({"status": {"error": error}, "time": 0.0}, status)


def _plain(found: Any) -> Any:
    if isinstance(found, BaseModel):
        return found.model_dump(mode="json", exclude_none=True)
    return [_plain(one) for one in found] if isinstance(found, list) else found


def _done(_: Any = None) -> dict[str, Any]:
    return {"operation_id": 0, "status": "completed"}


def _create(client: QdrantClient, name: str, body: dict[str, Any]) -> bool:
    asked = models.CreateCollection.model_validate(body)
    return client.create_collection(
        name, vectors_config=asked.vectors, sparse_vectors_config=asked.sparse_vectors
    )


def _query(client: QdrantClient, name: str, body: dict[str, Any]) -> models.QueryResponse:
    asked = models.QueryRequest.model_validate(body)
    found: Any = asked.query
    query = found.nearest if isinstance(found, models.NearestQuery) else found
    return client.query_points(
        name, query=query, using=asked.using, query_filter=asked.filter, limit=asked.limit or 10,
        with_payload=asked.with_payload or False,
    )  # fmt: skip


def _scroll(client: QdrantClient, name: str, body: dict[str, Any]) -> dict[str, Any]:
    asked = models.ScrollRequest.model_validate(body)
    points, following = client.scroll(
        name, scroll_filter=asked.filter, limit=asked.limit or 10, offset=asked.offset,
        with_payload=asked.with_payload or False, with_vectors=False,
    )  # fmt: skip
    return {"points": _plain(points), "next_page_offset": following}


def _facet(client: QdrantClient, name: str, body: dict[str, Any]) -> models.FacetResponse:
    asked = models.FacetRequest.model_validate(body)
    return client.facet(name, asked.key, facet_filter=asked.filter, limit=asked.limit or 10, exact=True)


def _retrieve(client: QdrantClient, name: str, body: dict[str, Any]) -> list[Any]:
    asked = models.PointRequest.model_validate(body)
    return client.retrieve(name, asked.ids, with_payload=asked.with_payload or False)


_DOES: dict[tuple[str, str], Callable[[QdrantClient, str, dict[str, Any]], Any]] = {
    ("GET", ""): lambda client, _, __: client.get_collections(),
    ("PUT", ""): _create,
    ("GET", "exists"): lambda client, name, _: {"exists": client.collection_exists(name)},
    ("PUT", "index"): lambda _, __, ___: _done(),
    ("PUT", "points"): lambda client, name, body: _done(
        client.upsert(name, models.PointsList.model_validate(body).points)
    ),
    ("POST", "points"): _retrieve,
    ("POST", "points/delete"): lambda client, name, body: _done(
        client.delete(name, points_selector=_FILTER.validate_python(body))
    ),
    ("POST", "points/query"): _query,
    ("POST", "points/query/batch"): lambda client, name, body: [
        _query(client, name, one) for one in body["searches"]
    ],
    ("POST", "points/scroll"): _scroll,
    ("POST", "points/count"): lambda client, name, body: client.count(
        name, count_filter=models.CountRequest.model_validate(body).filter
    ),
    ("POST", "facet"): _facet,
}


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def]
        yield


@asynccontextmanager
async def running() -> AsyncIterator[QdrantServer]:
    found = QdrantServer()
    routes = [
        Route(path, found.answer, methods=["GET", "PUT", "POST"])
        for path in ("/collections", "/collections/{name}", "/collections/{name}/{rest:path}")
    ]
    with contextlib.closing(listen("127.0.0.1", 0)) as listener:
        found.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        server = _Server(uvicorn.Config(Starlette(routes=routes), log_config=None, lifespan="off"))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        yield found
        server.should_exit = server.force_exit = True
        await serving
