"""The simulated provider as an ASGI app: both wires, one playbook, every request recorded for tests.

Keeps in memory what a provider would keep in its cache, how often a request was made to stumble, and the requests with
their very bytes. Offers nothing that stores: no batches, files, containers or conversations.
"""

from __future__ import annotations

import asyncio
import hmac
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain, islice
from typing import Any, Literal

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from app.nouns import Usage
from infra.models.playbook import BrokenKind, NoTurnError, Play, Playbook, output_tokens, play
from infra.simulator.model import anthropic_wire, compatible, openai_wire
from infra.simulator.model.cache import PromptCache
from infra.simulator.model.wire import Event, Understood, WireError

PLAYBOOK_KEY = "playbook-key"
"""The key that the simulator takes unless told another. It opens nothing else."""

Provider = Literal["anthropic", "openai"]


@dataclass(frozen=True, slots=True)
class Recorded:
    """One request: its body as sent, once read and once as the very text, the answer's status, the tokens that were
    reported for it, and the body of an answer that refused it.
    """

    provider: Provider
    method: str
    path: str
    status: int
    headers: Mapping[str, str]
    body: Any
    raw: str
    usage: Usage | None
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class Dialect:
    """One wire format: how it refuses, reads, and answers at once or as a stream."""

    provider: Provider
    refuse: Callable[..., WireError]
    understand: Callable[[Mapping[str, Any]], Understood]
    whole: Callable[[Play, Mapping[str, Any], Usage], Mapping[str, Any]]
    events: Callable[[Play, Mapping[str, Any], Usage], Iterator[Event]]
    told: Callable[[BrokenKind, Mapping[str, Any], Play], Event]


ANTHROPIC = Dialect(
    "anthropic",
    anthropic_wire.refusal,
    anthropic_wire.understand,
    lambda played, body, usage: anthropic_wire.whole(played, body["model"], usage),
    lambda played, body, usage: anthropic_wire.events(played, body["model"], usage),
    lambda kind, _body, _played: anthropic_wire.told(kind),
)
OPENAI = Dialect(
    "openai",
    openai_wire.refusal,
    openai_wire.understand,
    openai_wire.whole,
    openai_wire.events,
    openai_wire.told,
)
COMPATIBLE = Dialect(
    "openai",
    compatible.refusal,
    compatible.understand,
    compatible.whole,
    compatible.events,
    openai_wire.told,
)


def create(playbook: Playbook, api_key: str = PLAYBOOK_KEY) -> Starlette:
    """The app: POST /v1/messages, POST /v1/responses, the latter under /compatible too, in the words of a server that only
    resembles OpenAI; GET /v1/models; GET and DELETE /_simulator/requests. Everything else is recorded and not found.
    """
    provider = _Provider(playbook, api_key)
    return Starlette(
        routes=[
            Route("/v1/messages", provider.answering(ANTHROPIC), methods=["POST"]),
            Route("/v1/responses", provider.answering(OPENAI), methods=["POST"]),
            Route("/compatible/v1/responses", provider.answering(COMPATIBLE), methods=["POST"]),
            Route("/v1/models", provider.models, methods=["GET"]),
            Route("/_simulator/requests", provider.recorded, methods=["GET"]),
            Route("/_simulator/requests", provider.forget, methods=["DELETE"]),
            Route("/{path:path}", provider.unknown, methods=["GET", "POST", "PUT", "PATCH", "DELETE"]),
        ]
    )


def _models(provider: Provider, names: Sequence[str]) -> dict[str, Any]:
    if provider == "anthropic":
        made = [
            {"type": "model", "id": name, "display_name": name, "created_at": "2026-01-01T00:00:00Z"}
            for name in names
        ]
        return {"data": made, "has_more": False, "first_id": names[0], "last_id": names[-1]}
    return {
        "object": "list",
        "data": [
            {"object": "model", "id": name, "created": 1_767_225_600, "owned_by": "openai"} for name in names
        ],
    }


class _Provider:
    def __init__(self, playbook: Playbook, api_key: str) -> None:
        self._playbook = playbook
        self._key = api_key
        self._cache = PromptCache()
        self._stumbled: Counter[tuple[str, str]] = Counter()
        self._requests: list[Recorded] = []

    def answering(self, dialect: Dialect) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            return await self._answer(dialect, request)

        return answer

    async def models(self, request: Request) -> Response:
        """Both providers' list of models, which takes a key and nothing else.

        https://platform.claude.com/docs/en/api/models-list https://developers.openai.com/api/reference/resources/models
        """
        dialect = ANTHROPIC if "anthropic-version" in request.headers else OPENAI
        try:
            self._check_key(dialect, request.headers)
            response = JSONResponse(_models(dialect.provider, self._playbook.models))
        except WireError as refusal:
            response = JSONResponse(refusal.body, refusal.status)
        self._record(dialect.provider, request, response, b"", None, None)
        return response

    async def unknown(self, request: Request) -> Response:
        """What the adapters have no business with: the tests look for it among the requests."""
        provider: Provider = "anthropic" if "anthropic-version" in request.headers else "openai"
        response = JSONResponse({"error": {"message": "Not found", "type": "not_found_error"}}, 404)
        self._record(provider, request, response, await request.body(), None, None)
        return response

    async def recorded(self, _request: Request) -> Response:
        return JSONResponse([asdict(one) for one in self._requests])

    async def forget(self, _request: Request) -> Response:
        self._requests.clear()
        return Response(status_code=204)

    async def _answer(self, dialect: Dialect, request: Request) -> Response:
        raw = await request.body()
        body: Any = None
        usage: Usage | None = None
        response: Response
        try:
            self._check_key(dialect, request.headers)
            body = _json(dialect, raw)
            understood = dialect.understand(body)
            self._check_model(dialect, understood.model)
            played = self._play(dialect, understood)
            self._check_overload(dialect, played)
            usage = self._usage(dialect, understood, played)
            response = self._rendered(dialect, understood, body, played, usage)
        except _Overloaded as busy:
            response = JSONResponse(busy.body, busy.status, headers=busy.headers)
        except WireError as refusal:
            response = JSONResponse(refusal.body, refusal.status)
        self._record(dialect.provider, request, response, raw, body, usage)
        return response

    def _record(  # noqa: PLR0917 - a request, its answer, and what was read of both
        self,
        provider: Provider,
        request: Request,
        response: Response,
        raw: bytes,
        body: Any,
        usage: Usage | None,
    ) -> None:
        kept = {
            name: value
            for name, value in request.headers.items()
            if name not in ("authorization", "x-api-key")
        }
        text = raw.decode("utf-8", "replace")
        status = response.status_code
        refusal = bytes(response.body).decode("utf-8", "replace") if status >= 400 else ""
        self._requests.append(
            Recorded(provider, request.method, request.url.path, status, kept, body, text, usage, refusal)
        )

    def _check_key(self, dialect: Dialect, headers: Mapping[str, str]) -> None:
        """OpenAI takes a bearer; Anthropic a bearer (its SDK from 2.0 on) or `x-api-key`, and wants its version named.

        https://platform.claude.com/docs/en/api/overview#authentication
        """
        bearer = headers.get("authorization", "").removeprefix("Bearer ")
        shown = bearer or (headers.get("x-api-key", "") if dialect.provider == "anthropic" else "")
        known = hmac.compare_digest(shown.encode(), self._key.encode())
        if dialect.provider == "anthropic":
            if not known:
                raise dialect.refuse(401, "invalid x-api-key")
            if not headers.get("anthropic-version"):
                raise dialect.refuse(400, "anthropic-version: header is required")
        elif not known:
            message = f"Incorrect API key provided: {shown[:4]}***{shown[-4:]}."
            raise dialect.refuse(401, message, code="invalid_api_key")

    def _check_model(self, dialect: Dialect, model: str) -> None:
        if model in self._playbook.models:
            return
        if dialect.provider == "anthropic":
            raise dialect.refuse(404, f"model: {model}")
        message = f"The model '{model}' does not exist or you do not have access to it."
        raise dialect.refuse(404, message, code="model_not_found")

    def _play(self, dialect: Dialect, understood: Understood) -> Play:
        try:
            return play(self._playbook, understood.request)
        except NoTurnError as error:
            if dialect.provider == "anthropic":
                raise dialect.refuse(400, error.message) from None
            raise dialect.refuse(400, error.message, code="playbook_has_no_turn") from None

    def _check_overload(self, dialect: Dialect, played: Play) -> None:
        overload = played.overload
        if overload is None or not self._stumbles("overload", played, overload.times):
            return
        headers = {}
        if overload.retry_after_seconds is not None:
            headers = {
                "retry-after": str(max(1, round(overload.retry_after_seconds))),
                "retry-after-ms": str(round(overload.retry_after_seconds * 1000)),
            }
        raise _Overloaded(dialect.refuse(overload.status, overload.message), headers)

    def _stumbles(self, how: str, played: Play, times: int) -> bool:
        """Whether this conversation is still to be made to stumble; counted by what it says, not by who sends it."""
        self._stumbled[how, played.digest] += 1
        return self._stumbled[how, played.digest] <= times

    def _usage(self, dialect: Dialect, understood: Understood, played: Play) -> Usage:
        output = output_tokens(played)
        counted = (
            self._cache.anthropic(understood.segments, output)
            if dialect.provider == "anthropic"
            else self._cache.openai(understood.cache_key, understood.segments, output)
        )
        planned = played.usage
        if planned is None:
            return counted
        return Usage(
            planned.input_tokens, planned.cached_tokens, planned.cache_write_tokens, planned.output_tokens
        )

    def _rendered(
        self, dialect: Dialect, understood: Understood, body: Mapping[str, Any], played: Play, usage: Usage
    ) -> Response:
        if not understood.stream:
            return JSONResponse(dialect.whole(played, body, usage))
        cut, slow, broken = played.disconnect, played.slow, played.broken
        events = dialect.events(played, body, usage)
        if broken and self._stumbles("broken", played, broken.times):
            events = chain(islice(events, broken.after_chunks), [dialect.told(broken.kind, body, played)])
        return _Stream(
            events,
            cut_after=cut.after_chunks if cut and self._stumbles("disconnect", played, cut.times) else None,
            silence=(slow.after_chunks, slow.seconds)
            if slow and self._stumbles("slow", played, slow.times)
            else None,
        )


class _Overloaded(Exception):  # noqa: N818  an answer, not a fault of ours
    def __init__(self, error: WireError, headers: Mapping[str, str]) -> None:
        super().__init__(str(error.status))
        self.status = error.status
        self.body = error.body
        self.headers = headers


class _Stream(Response):
    """Server-sent events, each its own chunk. Returning before the last one makes the server drop the connection."""

    def __init__(
        self, events: Iterator[Event], *, cut_after: int | None, silence: tuple[int, float] | None
    ) -> None:
        super().__init__(media_type="text/event-stream", headers={"cache-control": "no-cache"})
        self._events = events
        self._cut_after = cut_after
        self._silence = silence

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  ASGI's signature
        headers = [(name, value) for name, value in self.raw_headers if name != b"content-length"]
        await send({"type": "http.response.start", "status": self.status_code, "headers": headers})
        for sent, event in enumerate(self._events):
            if sent == self._cut_after:
                return
            if (
                self._silence is not None
                and sent == self._silence[0]
                and await _gone(receive, self._silence[1])
            ):
                return
            await send({"type": "http.response.body", "body": event.encode(), "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _gone(receive: Receive, seconds: float) -> bool:
    """Say nothing for so long; True when the client has left meanwhile."""
    try:
        async with asyncio.timeout(seconds):
            while (await receive())["type"] != "http.disconnect":
                pass
    except TimeoutError:
        return False
    return True


def _json(dialect: Dialect, raw: bytes) -> Mapping[str, Any]:
    try:
        body = json.loads(raw)
    except ValueError:
        body = None
    if isinstance(body, dict):
        return body
    if dialect.provider == "anthropic":
        raise dialect.refuse(400, "The request body is not valid JSON")
    raise dialect.refuse(400, "We could not parse the JSON body of your request.")
