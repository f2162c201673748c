"""How a call reaches the service: a token, a key for each write, another try where nothing was answered; no redirect is followed.

Each write carries a key of its own (`Idempotency-Key`), and each try of it the same one: an answer that was lost on its way costs
nothing twice. https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/
"""

from __future__ import annotations

import asyncio
import ipaddress
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TypeVar

import httpx
from pydantic import BaseModel, TypeAdapter, ValidationError

T = TypeVar("T")

TRIES = 4
LONGEST_PAUSE_SECONDS = 60.0
TIMEOUT = httpx.Timeout(60.0)
"""Three times as long as the service itself takes to give up."""
WRITES = frozenset({"POST", "PUT", "DELETE"})


class NotSecureError(ValueError):
    """A token is sent by https alone, or to this machine itself."""


class UnavailableError(Exception):
    """The service did not answer, or not now, however often it was asked."""


class UnreadableError(Exception):
    """What answered is not the service, or one of another version."""


class ProblemError(Exception):
    """The service said no, and why: https://www.rfc-editor.org/rfc/rfc9457"""

    def __init__(self, status: int, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.reason = reason
        self.detail = detail


class _Problem(BaseModel):
    type: str
    detail: str


class Connection:
    """`http` knows the service's address and shows the token; `new_key` gives each write its key."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        new_key: Callable[[], str] = lambda: str(uuid.uuid4()),
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._http = http
        self._new_key = new_key
        self._sleep = sleep

    async def send(
        self,
        method: str,
        path: str,
        query: Mapping[str, object] | None = None,
        body: Mapping[str, object] | None = None,
    ) -> bytes:
        """Asks, and gives what was answered. Raises ProblemError and UnavailableError."""
        return (await self._answered(self._request(method, path, query, body))).content

    async def ask(
        self,
        kind: type[T],
        method: str,
        path: str,
        query: Mapping[str, object] | None = None,
        body: Mapping[str, object] | None = None,
    ) -> T:
        """The answer as a `kind`. Raises what `send` raises, and UnreadableError."""
        answered = await self.send(method, path, query, body)
        try:
            return TypeAdapter(kind).validate_json(answered)
        except ValidationError as error:
            raise UnreadableError(f"{method} {path} was answered with something else.") from error

    @asynccontextmanager
    async def stream(
        self, path: str, query: Mapping[str, object] | None = None
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """What is downloaded, piece by piece. Once it has begun nothing is tried again.

        Raises what `send` raises; UnavailableError also where it ends before its end.
        """
        answer = await self._answered(self._request("GET", path, query, None), stream=True)
        try:
            yield _pieces(answer)
        finally:
            await answer.aclose()

    def _request(
        self, method: str, path: str, query: Mapping[str, object] | None, body: Mapping[str, object] | None
    ) -> httpx.Request:
        given = {name: _said(value) for name, value in (query or {}).items() if value is not None}
        headers = {"Idempotency-Key": self._new_key()} if method in WRITES else {}
        return self._http.build_request(
            method,
            path,
            params=given,
            headers=headers,
            json=body,
        )

    async def _answered(self, request: httpx.Request, *, stream: bool = False) -> httpx.Response:
        why = ""
        for number in range(TRIES):
            pause = float(2**number)
            try:
                answer = await self._http.send(request, stream=stream)
            except httpx.TransportError as error:
                why = f"no answer ({type(error).__name__})"
            else:
                if answer.is_success:
                    return answer
                problem = await _problem(answer)
                again = _again_after(answer, problem)
                if again is None:
                    raise problem
                why, pause = problem.detail, max(pause, again)
            if number + 1 < TRIES:
                await self._sleep(min(pause, LONGEST_PAUSE_SECONDS))
        raise UnavailableError(f"{request.method} {request.url.path}: {why}")


@asynccontextmanager
async def connect(url: str, token: str) -> AsyncIterator[Connection]:
    """A connection to the service at `url`, for whoever holds `token`. Raises NotSecureError."""
    address = httpx.URL(url)
    if address.scheme != "https" and not (address.scheme == "http" and _here(address.host)):
        raise NotSecureError
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=TIMEOUT) as http:
        yield Connection(http)


def _here(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


async def _pieces(answer: httpx.Response) -> AsyncIterator[bytes]:
    try:
        async for piece in answer.aiter_bytes():
            yield piece
    except httpx.TransportError as error:
        raise UnavailableError(f"The download broke off ({type(error).__name__}).") from error


async def _problem(answer: httpx.Response) -> ProblemError:
    """Also of what is no problem+json: a proxy may have answered."""
    try:
        told = _Problem.model_validate_json(await answer.aread())
    except (ValidationError, httpx.TransportError):
        return ProblemError(answer.status_code, "unknown", f"It was answered {answer.status_code}.")
    finally:
        await answer.aclose()
    return ProblemError(answer.status_code, told.type.removeprefix("urn:magicode:"), told.detail)


def _again_after(answer: httpx.Response, problem: ProblemError) -> float | None:
    """In how many seconds it may be asked again; None where the answer would be the same."""
    said = answer.headers.get("Retry-After", "")
    after = float(said) if said.isascii() and said.isdigit() else None
    if problem.status in (429, 502, 503, 504):
        return after or 0.0
    # The same write, sent before, is still at work.
    return after if problem.status == 409 else None


def _said(value: object) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)
