"""A provider of models that answers on Anthropic's wire as no honest one does: figures, events and ids are whatever it likes."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from infra.simulator.listener import listen

Event = Mapping[str, Any] | str
"""A `str` is sent as an event's data as it stands."""

USAGE = {"input_tokens": 1000, "output_tokens": 1000}


def call(name: str, arguments: Mapping[str, Any] | str, *, identity: str = "") -> dict[str, Any]:
    """One tool call of an answer."""
    raw = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return {"name": name, "raw": raw, "id": identity}


def answer(
    *calls: Mapping[str, Any],
    text: str = "",
    model: str = "playbook-1",
    usage: Any = USAGE,
    stop: str | None = None,
    turn: int = 0,
) -> list[Event]:
    """An answer's events. https://platform.claude.com/docs/en/build-with-claude/streaming"""
    message = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": None,
    }
    events: list[Event] = [{"type": "message_start", "message": {**message, "usage": usage}}]
    blocks: list[tuple[dict[str, Any], dict[str, Any]]] = []
    if text:
        blocks.append(({"type": "text", "text": ""}, {"type": "text_delta", "text": text}))
    for place, one in enumerate(calls):
        opened = {
            "type": "tool_use",
            "id": one["id"] or f"toolu_{turn}_{place}",
            "name": one["name"],
            "input": {},
        }
        blocks.append((opened, {"type": "input_json_delta", "partial_json": one["raw"]}))
    for index, (opened, delta) in enumerate(blocks):
        events += [
            {"type": "content_block_start", "index": index, "content_block": opened},
            {"type": "content_block_delta", "index": index, "delta": delta},
            {"type": "content_block_stop", "index": index},
        ]
    reason = stop or ("tool_use" if calls else "end_turn")
    ended = {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": usage}
    return [*events, ended, {"type": "message_stop"}]


Behaviour = Callable[[int], Iterable[Event] | Response]
"""Told how often this conversation was answered before, gives the next answer."""


@contextlib.asynccontextmanager
async def provider(behaviours: Mapping[str, Behaviour]) -> AsyncIterator[str]:
    """Its address. A request is answered by the behaviour whose `(name)` stands in it."""

    async def answered(request: Request) -> Response:
        body = await request.json()
        asked = json.dumps(body["messages"], ensure_ascii=False)
        name = next(name for name in behaviours if f"({name})" in asked)
        turn = sum(one["role"] == "assistant" for one in body["messages"])
        events = behaviours[name](turn)
        return (
            events
            if isinstance(events, Response)
            else StreamingResponse(_sent(list(events)), media_type="text/event-stream")
        )

    app = Starlette(routes=[Route("/v1/messages", answered, methods=["POST"])])
    with contextlib.closing(listen("127.0.0.1", 0)) as listener:
        server = _Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="off"))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:
            await asyncio.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = server.force_exit = True
            await serving


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def]
        yield


async def _sent(events: Sequence[Event]) -> AsyncIterator[bytes]:
    for event in events:
        kind = event["type"] if isinstance(event, Mapping) else "content_block_start"
        data = json.dumps(event) if isinstance(event, Mapping) else event
        yield f"event: {kind}\ndata: {data}\n\n".encode()
