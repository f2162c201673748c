"""The simulator's front door: an ASGI application that finds the caller, counts, routes, and answers as GitHub does.

What a request goes through, in order: the fault that waits for it, the headers GitHub insists on, who calls, the
limits, the route, the answer's headers and ETag. `/_simulator/…` is the control desk and knows none of this.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import json
import re
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, timedelta
from email.utils import format_datetime
from functools import partial
from importlib.util import find_spec
from urllib.parse import urlsplit

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from infra.simulator import breaking, ci, control, limits, logs
from infra.simulator.answers import (
    ApiError,
    Redirect,
    bad_credentials,
    bad_request,
    diff_too_long,
    not_found,
)
from infra.simulator.auth import Caller, authenticate
from infra.simulator.call import Call, Endpoint
from infra.simulator.faults import Fault, Faults, Unseen
from infra.simulator.git import DiffTooLongError
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
    "manifests",
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

_MINTING = re.compile(r"^/app/installations/(\d+)/")


@dataclass
class Simulator:
    """The ASGI application; `create` makes one. `observers` are shown each answer before it is sent."""

    world: World
    endpoints: list[Endpoint]
    faults: Faults = field(default_factory=Faults)
    usage: Usage = field(default_factory=Usage)
    unseen: Unseen = field(default_factory=Unseen)
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
        fault = self.faults.take(request.method, record.path, self._installation(request, record.path))
        record.fault = fault.kind if fault else None
        if fault is not None and fault.kind in breaking.BEFORE:
            await breaking.break_off(fault.kind, receive, send)
            return
        answered = await self._answer(request, record, fault)
        if fault is not None and fault.kind in breaking.AFTER:
            await breaking.break_off(fault.kind, receive, send)
            return
        answered.headers["Date"] = format_datetime(self.world.now().astimezone(UTC), usegmt=True)
        record.status = answered.status_code
        for observer in self.observers:
            observer(record, answered)
        if fault is not None and fault.kind == "malformed" and fault.form == "too_long":
            await breaking.promise_more(answered, receive, send)
            return
        await answered(scope, receive, send)

    async def _log(self, request: Request, receive: Receive, send: Send) -> None:
        """The other host. It has no limits, no ETags and no part in the record of the API's requests."""
        fault = self.faults.take(request.method, request.url.path)
        if fault is not None and fault.kind in breaking.BEFORE | breaking.AFTER:
            await breaking.break_off(fault.kind, receive, send)
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

    def _installation(self, request: Request, path: str) -> int:
        """Whose request it is, before anybody asks whether it may; 0 where that is not to be told."""
        if named := _MINTING.match(path):
            return int(named[1])
        value = request.headers.get("authorization", "").partition(" ")[2].strip()
        token = self.world.tokens.get(value)
        return token.installation_id or 0 if token else 0

    async def _answer(self, request: Request, record: RequestRecord, fault: Fault | None) -> Response:
        if fault is not None and fault.kind == "delay":
            await asyncio.sleep(fault.seconds)
        caller: Caller | None = None
        try:
            if fault is not None and fault.kind == "status":
                raise _said(fault)
            _insist(request)
            caller = authenticate(self.world, request.headers.get("authorization"))
            if fault is not None and fault.comes_first:
                self._refuse(fault, caller)
            response = await self._routed(request, record, caller)
            if fault is not None and fault.kind == "status_after":
                raise _said(fault)
        except ApiError as error:
            response = JSONResponse(error.body(), error.status, error.headers)
        except Redirect as moved:
            body = {
                "message": "Moved Permanently",
                "url": moved.location,
                "documentation_url": "https://docs.github.com/rest/guides/best-practices-for-using-the-rest-api#follow-redirects",
            }
            response = JSONResponse(body, moved.status, {"Location": moved.location})
        except ClientDisconnect:  # in the middle of what it sent: nobody hears this
            response = Response(status_code=499)
        if fault is not None and fault.kind == "late" and response.status_code < 300:
            made = json.loads(bytes(response.body) or b"null")
            self.unseen.hide(record.path, made, self.world.now() + timedelta(seconds=fault.seconds))
        finished = self._finish(request, record, caller, response)
        if fault is not None and fault.kind == "malformed":
            return breaking.spoilt(finished, fault.form)
        return finished

    def _refuse(self, fault: Fault, caller: Caller) -> None:
        """What changes the simulated GitHub before it says no. Raises ApiError."""
        now = self.world.now()
        if fault.kind == "primary_limit":
            raise limits.exhaust(
                self.usage, self.world.limits, caller, now, seconds=fault.seconds, status=fault.status
            )
        if fault.kind == "secondary_limit":
            if fault.holds:
                limits.hold(
                    self.usage, caller, now, seconds=fault.seconds, status=fault.status, header=fault.header
                )
            raise limits.secondary(int(fault.seconds), status=fault.status, header=fault.header, now=now)
        if caller.token is None:
            raise ApiError(401, "A JSON web token could not be decoded")
        if fault.kind == "expired":
            caller.token.expires_at = now
        else:
            self.world.tokens.pop(caller.token.value, None)
        raise bad_credentials()

    async def _routed(self, request: Request, record: RequestRecord, caller: Caller) -> Response:
        record.caller = caller.kind
        record.login = caller.user.login if caller.user else None
        record.installation_id = caller.installation.id if caller.installation else None
        found, parameters = self._find(request.method, record.path)
        now = self.world.now()
        if found is None or found.limited:
            limits.refuse_held(self.usage, caller, now)
            limits.spend(self.usage, self.world.limits, caller, now)
        if found is None:
            raise not_found()
        record.route = found.template
        if found.limited:
            content = found.creates_content
            limits.throttle(
                self.usage, self.world.limits, caller, request.method, creates_content=content, now=now
            )
        seen_late = caller.kind == "installation"
        if seen_late and self.unseen.hides(record.path, now):
            raise not_found()
        call = Call(self.world, request, caller, record)
        call.parameters = parameters
        self.usage.open[caller.key] += 1
        try:
            response = await found.handler(call)
        except DiffTooLongError:
            raise diff_too_long() from None
        finally:
            self.usage.open[caller.key] -= 1
        return self._without_unseen(response) if seen_late and request.method == "GET" else response

    def _without_unseen(self, response: Response) -> Response:
        """A list as it is before what was just made has come to where lists are read from."""
        if not self.unseen or response.headers.get("content-type") != "application/json":
            return response
        listed = json.loads(bytes(response.body))
        left = self.unseen.without(listed, self.world.now())
        if left is listed:
            return response
        kept = {name: value for name, value in response.headers.items() if name.lower() != "content-length"}
        return JSONResponse(left, response.status_code, kept)

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
            for name, value in limits.headers(
                self.usage, self.world.limits, caller, self.world.now()
            ).items():
                response.headers.setdefault(name, value)
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


def _said(fault: Fault) -> ApiError:
    said = "Server Error" if fault.status >= 500 else "Refused by request"
    return ApiError(fault.status, fault.message or said)
