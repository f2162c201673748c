"""The API's writes as routes: each takes an `Idempotency-Key`, and none needs to know of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from fastapi import Request
from fastapi.responses import Response
from fastapi.routing import APIRoute

from app.custody.erase import LegalHoldError
from app.errors import MagicodeError
from app.steering import BusyThereError
from app.web import shapes
from app.web.access import NotYoursError
from app.web.answers import problem, status_of
from app.web.desk import READS
from app.web.once import HEADER, Answer, AnsweredError, Asked

REPLAYED = "Idempotency-Replayed"

PROBLEM: Mapping[str, Any] = {
    "model": shapes.Problem,
    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
}
_REUSED: Mapping[str, Any] = {
    **PROBLEM,
    "description": f"This {HEADER} stands for another request of the last 24 hours.",
}
_PARAMETER: Mapping[str, Any] = {
    "name": HEADER,
    "in": "header",
    "required": False,
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
    "description": "Whatever names this one thing to be done, of visible ASCII characters. Sent again within 24 hours, it is answered "
    f"as before, with `{REPLAYED}: true`, and not done again.",
    "example": "8e03978e-40d5-43e8-bc93-6894a57f9324",
}

_MAY_BE_TRIED_AGAIN = frozenset({401, 403, 429})


class ApiRoute(APIRoute):
    """Reads are what they always are."""

    def __init__(
        self,
        path: str,
        endpoint: Callable[..., Any],
        *,
        methods: set[str] | list[str] | None = None,
        responses: dict[int | str, dict[str, Any]] | None = None,
        openapi_extra: dict[str, Any] | None = None,
        **told: Any,
    ) -> None:
        self.writes = bool(set(methods or ("GET",)) - READS)
        if self.writes:
            responses = {**(responses or {}), 422: dict(_REUSED)}
            extra = dict(openapi_extra or {})
            openapi_extra = {**extra, "parameters": [*extra.get("parameters", []), dict(_PARAMETER)]}
        super().__init__(
            path, endpoint, methods=methods, responses=responses, openapi_extra=openapi_extra, **told
        )

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        shown_once = _shows_once(self.response_model)

        async def once(request: Request) -> Response:
            if HEADER not in request.headers:
                return await handle(request)
            asked = Asked(
                request.headers.getlist(HEADER), request.method, request.scope["path"], await request.body()
            )
            request.state.asked = asked
            try:
                response = await handle(request)
            except AnsweredError as found:
                return _again(found.answer)
            except MagicodeError as error:
                await _settle(asked, _said(error))
                raise
            except Exception:
                await _settle(asked, None)
                raise
            answer = _answer(response)
            await _settle(asked, _in_its_place(answer) if shown_once else answer)
            return response

        return once if self.writes else handle


def _shows_once(model: object) -> bool:
    return isinstance(model, type) and issubclass(model, shapes.ShownOnce)


async def _settle(asked: Asked, answer: Answer | None) -> None:
    """Keeps what is final. Whoever was broken off leaves the claim: nobody knows how far it came."""
    if asked.claim is None:
        return
    if answer is None or answer.status >= 500 or answer.status in _MAY_BE_TRIED_AGAIN:
        await asked.claim.release()
    else:
        await asked.claim.keep(answer)


def _said(error: MagicodeError) -> Answer | None:
    """What the error is answered with; None for what did nothing, and is otherwise once something has ended or somebody has the
    right to it."""
    if isinstance(error, NotYoursError | BusyThereError | LegalHoldError):
        return None
    return _answer(problem(status_of(error), error.reason, error.message))


def _answer(response: Response) -> Answer:
    return Answer(response.status_code, response.headers.get("content-type", ""), bytes(response.body))


def _in_its_place(answer: Answer) -> Answer:
    """A secret that is shown once is not kept, sealed or not: it would be shown to whoever has the key of the request, for a day."""
    made = json.loads(answer.body)["id"]
    return _answer(
        problem(
            409,
            "shown_once",
            f"This was done: what was made has the id {made}. Its secret was shown in the first answer and is kept nowhere. "
            "If that answer never came, remove it and make another one, under another key.",
        )
    )


def _again(answer: Answer) -> Response:
    given = Response(answer.body, answer.status)
    if answer.media_type:
        given.headers["content-type"] = answer.media_type
    given.headers[REPLAYED] = "true"
    return given
