"""The simulated provider as an ASGI app: both wires, one playbook, every request recorded for tests.

Keeps in memory what a provider would keep in its cache, and how often a request was made to stumble; nothing else.
"""

from __future__ import annotations

import asyncio
import hmac
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from app.nouns import Usage
from infra.models.playbook import NoTurnError, Play, Playbook, output_tokens, play
from infra.simulator.model import anthropic_wire, openai_wire
from infra.simulator.model.cache import PromptCache
from infra.simulator.model.wire import Event, Understood, WireError

PLAYBOOK_KEY = "playbook-key"
"""The key that the simulator takes unless told another. It opens nothing else."""

Provider = Literal["anthropic", "openai"]


@dataclass(frozen=True, slots=True)
class Recorded:
    """One request: its body as sent, the answer's status, and the tokens that were reported for it."""

    provider: Provider
    status: int
    headers: Mapping[str, str]
    body: Any
    usage: Usage | None


def create(playbook: Playbook, api_key: str = PLAYBOOK_KEY) -> Starlette:
    """The app: POST /v1/messages, POST /v1/responses, GET and DELETE /_simulator/requests."""
    provider = _Provider(playbook, api_key)
    return Starlette(
        routes=[
            Route("/v1/messages", provider.messages, methods=["POST"]),
            Route("/v1/responses", provider.responses, methods=["POST"]),
            Route("/_simulator/requests", provider.recorded, methods=["GET"]),
            Route("/_simulator/requests", provider.forget, methods=["DELETE"]),
        ]
    )


class _Provider:
    def __init__(self, playbook: Playbook, api_key: str) -> None:
        self._playbook = playbook
        self._key = api_key
        self._cache = PromptCache()
        self._stumbled: Counter[tuple[str, str]] = Counter()
        self._requests: list[Recorded] = []

    async def messages(self, request: Request) -> Response:
        return await self._answer("anthropic", request)

    async def responses(self, request: Request) -> Response:
        return await self._answer("openai", request)

    async def recorded(self, _request: Request) -> Response:
        return JSONResponse([asdict(one) for one in self._requests])

    async def forget(self, _request: Request) -> Response:
        self._requests.clear()
        return Response(status_code=204)

    async def _answer(self, provider: Provider, request: Request) -> Response:
        raw = await request.body()
        body: Any = None
        usage: Usage | None = None
        response: Response
        try:
            self._check_key(provider, request.headers)
            body = _json(provider, raw)
            understood = _understand(provider, body)
            self._check_model(provider, understood.model)
            played = self._play(provider, understood)
            self._check_overload(provider, played)
            usage = self._usage(provider, understood, played)
            response = self._rendered(provider, understood, body, played, usage)
        except _Overloaded as busy:
            response = JSONResponse(busy.body, busy.status, headers=busy.headers)
        except WireError as refusal:
            response = JSONResponse(refusal.body, refusal.status)
        kept = {
            name: value
            for name, value in request.headers.items()
            if name not in ("authorization", "x-api-key")
        }
        self._requests.append(Recorded(provider, response.status_code, kept, body, usage))
        return response

    def _check_key(self, provider: Provider, headers: Mapping[str, str]) -> None:
        """OpenAI takes a bearer; Anthropic a bearer (its SDK from 2.0 on) or `x-api-key`, and wants its version named.

        https://platform.claude.com/docs/en/api/overview#authentication
        """
        bearer = headers.get("authorization", "").removeprefix("Bearer ")
        shown = bearer or (headers.get("x-api-key", "") if provider == "anthropic" else "")
        known = hmac.compare_digest(shown.encode(), self._key.encode())
        if provider == "anthropic":
            if not known:
                raise anthropic_wire.refusal(401, "invalid x-api-key")
            if not headers.get("anthropic-version"):
                raise anthropic_wire.refusal(400, "anthropic-version: header is required")
        elif not known:
            message = f"Incorrect API key provided: {shown[:4]}***{shown[-4:]}."
            raise openai_wire.refusal(401, message, code="invalid_api_key")

    def _check_model(self, provider: Provider, model: str) -> None:
        if model in self._playbook.models:
            return
        if provider == "anthropic":
            raise anthropic_wire.refusal(404, f"model: {model}")
        message = f"The model '{model}' does not exist or you do not have access to it."
        raise openai_wire.refusal(404, message, code="model_not_found")

    def _play(self, provider: Provider, understood: Understood) -> Play:
        try:
            return play(self._playbook, understood.request)
        except NoTurnError as error:
            if provider == "anthropic":
                raise anthropic_wire.refusal(400, error.message) from None
            raise openai_wire.refusal(400, error.message, code="playbook_has_no_turn") from None

    def _check_overload(self, provider: Provider, played: Play) -> None:
        overload = played.overload
        if overload is None or not self._stumbles("overload", played, overload.times):
            return
        headers = {}
        if overload.retry_after_seconds is not None:
            headers = {
                "retry-after": str(max(1, round(overload.retry_after_seconds))),
                "retry-after-ms": str(round(overload.retry_after_seconds * 1000)),
            }
        make = anthropic_wire.refusal if provider == "anthropic" else openai_wire.refusal
        raise _Overloaded(make(overload.status, "Overloaded"), headers)

    def _stumbles(self, how: str, played: Play, times: int) -> bool:
        """Whether this conversation is still to be made to stumble; counted by what it says, not by who sends it."""
        self._stumbled[how, played.digest] += 1
        return self._stumbled[how, played.digest] <= times

    def _usage(self, provider: Provider, understood: Understood, played: Play) -> Usage:
        output = output_tokens(played)
        counted = (
            self._cache.anthropic(understood.segments, output)
            if provider == "anthropic"
            else self._cache.openai(understood.cache_key, understood.segments, output)
        )
        planned = played.usage
        if planned is None:
            return counted
        return Usage(
            planned.input_tokens, planned.cached_tokens, planned.cache_write_tokens, planned.output_tokens
        )

    def _rendered(
        self, provider: Provider, understood: Understood, body: Mapping[str, Any], played: Play, usage: Usage
    ) -> Response:
        if not understood.stream:
            if provider == "anthropic":
                return JSONResponse(anthropic_wire.whole(played, understood.model, usage))
            return JSONResponse(openai_wire.whole(played, body, usage))
        events: Callable[[], Iterator[Event]] = (
            (lambda: anthropic_wire.events(played, understood.model, usage))
            if provider == "anthropic"
            else (lambda: openai_wire.events(played, body, usage))
        )
        cut, slow = played.disconnect, played.slow
        return _Stream(
            events(),
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


def _json(provider: Provider, raw: bytes) -> Mapping[str, Any]:
    try:
        body = json.loads(raw)
    except ValueError:
        body = None
    if isinstance(body, dict):
        return body
    if provider == "anthropic":
        raise anthropic_wire.refusal(400, "The request body is not valid JSON")
    raise openai_wire.refusal(400, "We could not parse the JSON body of your request.")


def _understand(provider: Provider, body: Mapping[str, Any]) -> Understood:
    return anthropic_wire.understand(body) if provider == "anthropic" else openai_wire.understand(body)
