"""The simulator's front door: an ASGI application that finds the caller, counts, routes, and answers as GitHub does.

What a request goes through, in order: the fault that waits for it, the headers GitHub insists on, who calls, the
limits, the route, the answer's headers and ETag. `/_simulator/…` is the control desk and knows none of this.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from infra.simulator import ci, control, limits, logs
from infra.simulator.answers import ApiError, Redirect, bad_request, not_found
from infra.simulator.auth import Caller, authenticate
from infra.simulator.call import Call, Endpoint
from infra.simulator.faults import Fault, Faults
from infra.simulator.limits import Usage
from infra.simulator.state import RequestRecord, World

ROUTES = (
    "actions",
    "apps",
    "checks",
    "compare",
    "contents",
    "gitdata",
    "graphql",
    "installations",
    "issues",
    "merges",
    "oauth",
    "pages",
    "pulls",
    "reactions",
    "repositories",
    "reviews",
    "rules",
    "webhooks_log",
)
"""Modules of `infra.simulator.routes`. One may also have `on_ref_change`, a `state.RefListener`."""

VERSIONS = ("2022-11-28", "2026-03-10")
"""https://docs.github.com/rest/about-the-rest-api/api-versions"""


@dataclass
class Simulator:
    """The ASGI application; `create` makes one. `observers` are shown each answer before it is sent."""

    world: World
    endpoints: list[Endpoint]
    faults: Faults = field(default_factory=Faults)
    usage: Usage = field(default_factory=Usage)
    observers: list[Callable[[RequestRecord, Response], None]] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        path = scope["path"]
        if request.headers.get("host") == urlsplit(self.world.logs_url).netloc != "":
            await self._log(request, receive, send)
            return
        if path.startswith("/_simulator/"):
            response = await control.answer(self.world, self.faults, self.usage, request)
            await response(scope, receive, send)
            return
        record = RequestRecord(
            str(uuid.uuid4()), request.method, self._plain(path), request.url.query, self.world.now()
        )
        self.world.requests.append(record)
        fault = self.faults.take(request.method, record.path)
        record.fault = fault.kind if fault else None
        answered = await self._answer(request, record, fault)
        if answered is None:
            await _hang_up(receive, send)
            return
        record.status = answered.status_code
        for observer in self.observers:
            observer(record, answered)
        await answered(scope, receive, send)

    async def _log(self, request: Request, receive: Receive, send: Send) -> None:
        """The other host. It has no limits, no ETags and no part in the record of the API's requests."""
        fault = self.faults.take(request.method, request.url.path)
        if fault is not None and fault.kind in ("drop_before", "drop_after"):
            await _hang_up(receive, send)
            return
        broken = fault is not None and fault.kind == "status"
        response = (
            Response(fault.message, status_code=fault.status)
            if fault and broken
            else logs.answer(self.world, request)
        )
        await response(request.scope, receive, send)

    def _plain(self, path: str) -> str:
        """Without `/api/v3`, an Enterprise Server's prefix, and with a repository's name in place of its id."""
        plain = path.removeprefix("/api/v3") if path.startswith("/api/v3/") else path
        parts = plain.split("/", 3)
        if parts[1] == "repositories" and len(parts) > 2 and parts[2].isdigit():
            repo = self.world.repositories.get(int(parts[2]))
            if repo is not None:
                return "/".join(["/repos", repo.full_name, *parts[3:]])
        return plain

    async def _answer(self, request: Request, record: RequestRecord, fault: Fault | None) -> Response | None:
        """None: hang up without an answer."""
        if fault is not None:
            if fault.kind == "drop_before":
                return None
            if fault.kind == "delay":
                await asyncio.sleep(fault.seconds)
        caller: Caller | None = None
        try:
            if fault is not None and fault.kind == "status":
                said = "Server Error" if fault.status >= 500 else "Refused by request"
                raise ApiError(fault.status, fault.message or said)
            if fault is not None and fault.kind == "secondary_limit":
                raise limits.secondary(int(fault.seconds))
            _insist(request)
            caller = authenticate(self.world, request.headers.get("authorization"))
            response = await self._routed(request, record, caller)
        except ApiError as error:
            response = JSONResponse(error.body(), error.status, error.headers)
        except Redirect as moved:
            body = {
                "message": "Moved Permanently",
                "url": moved.location,
                "documentation_url": "https://docs.github.com/rest/guides/best-practices-for-using-the-rest-api#follow-redirects",
            }
            response = JSONResponse(body, moved.status, {"Location": moved.location})
        if fault is not None and fault.kind == "drop_after":
            return None
        return self._finish(request, record, caller, response)

    async def _routed(self, request: Request, record: RequestRecord, caller: Caller) -> Response:
        record.caller = caller.kind
        record.login = caller.user.login if caller.user else None
        record.installation_id = caller.installation.id if caller.installation else None
        found, parameters = self._find(request.method, record.path)
        now = self.world.now()
        if found is None or found.limited:
            limits.spend(self.usage, self.world.limits, caller, now)
        if found is None:
            raise not_found()
        record.route = found.template
        if found.limited:
            content = found.creates_content
            limits.throttle(
                self.usage, self.world.limits, caller, request.method, creates_content=content, now=now
            )
        call = Call(self.world, request, caller, record)
        call.parameters = parameters
        self.usage.open[caller.key] += 1
        try:
            return await found.handler(call)
        finally:
            self.usage.open[caller.key] -= 1

    def _find(self, method: str, path: str) -> tuple[Endpoint | None, dict[str, str]]:
        wanted = "GET" if method == "HEAD" else method
        for candidate in self.endpoints:
            if candidate.method == wanted and (match := candidate.pattern.match(path)):
                return candidate, match.groupdict()
        return None, {}

    def _finish(
        self, request: Request, record: RequestRecord, caller: Caller | None, response: Response
    ) -> Response:
        etag = _etag(request, response)
        if etag is not None:
            response.headers["ETag"] = etag
            response.headers.setdefault("Cache-Control", "private, max-age=60, s-maxage=60")
            response.headers.setdefault("Vary", "Accept, Authorization, Cookie, X-GitHub-OTP")
            if _matches(request.headers.get("if-none-match", ""), etag):
                kept = {
                    k: v
                    for k, v in response.headers.items()
                    if k.lower() not in ("content-length", "content-type")
                }
                response = Response(status_code=304, headers=kept)
                if caller is not None:
                    limits.refund(self.usage, caller, self.world.now())
        response.headers["X-GitHub-Request-Id"] = record.id
        response.headers["X-GitHub-Media-Type"] = "github.v3; format=json"
        response.headers["X-GitHub-Api-Version-Selected"] = request.headers.get(
            "x-github-api-version", VERSIONS[0]
        )
        if caller is not None:
            response.headers.update(limits.headers(self.usage, self.world.limits, caller, self.world.now()))
        if response.headers.get("content-type") == "application/json":
            response.headers["Content-Type"] = "application/json; charset=utf-8"
        return response


def create(world: World) -> Simulator:
    """Wires all routes to the world."""
    endpoints: list[Endpoint] = []
    world.ref_listeners.clear()
    world.event_listeners[:] = [partial(ci.heard, world)]
    for name in ROUTES:
        qualified = f"infra.simulator.routes.{name}"
        if find_spec(qualified) is None:
            continue
        module = importlib.import_module(qualified)
        endpoints.extend(module.endpoints)
        listener = getattr(module, "on_ref_change", None)
        if listener is not None:
            world.ref_listeners.append(listener)
    return Simulator(world, _in_order(endpoints))


def _in_order(endpoints: Sequence[Endpoint]) -> list[Endpoint]:
    """The most literal templates first, so that `/branches/{branch}/protection` is not read as a branch's name."""
    return sorted(endpoints, key=lambda e: -e.literals)


def _insist(request: Request) -> None:
    """https://docs.github.com/rest/using-the-rest-api/getting-started-with-the-rest-api#user-agent"""
    if not request.headers.get("user-agent"):
        raise ApiError(
            403,
            "Request forbidden by administrative rules. Please make sure your request has a User-Agent header",
        )
    version = request.headers.get("x-github-api-version")
    if version is not None and version not in VERSIONS:
        raise bad_request(f"Bad Request: {version} is not a supported version of the GitHub API.")


def _etag(request: Request, response: Response) -> str | None:
    if request.method not in ("GET", "HEAD") or response.status_code != 200 or not hasattr(response, "body"):
        return None
    kind = response.headers.get("content-type", "") + response.headers.get("link", "")
    return f'W/"{hashlib.sha256(kind.encode() + bytes(response.body)).hexdigest()}"'


def _matches(sent: str, etag: str) -> bool:
    known = {item.strip().removeprefix("W/") for item in sent.split(",")}
    return etag.removeprefix("W/") in known


async def _hang_up(receive: Receive, send: Send) -> None:
    """Closes the TCP connection without a byte of an answer. Under a server that shows no transport, raises."""
    transport = getattr(getattr(send, "__self__", None), "transport", None)
    if transport is None:
        raise ConnectionResetError("the simulated GitHub dropped the connection")
    transport.abort()
    while (await receive())["type"] != "http.disconnect":
        pass
