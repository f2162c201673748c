"""The control desk under `/_simulator/`: faults, CI and other Apps' checks, accounts and where the App is installed, the
record of requests, the clock, the settings."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from datetime import datetime, timedelta
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from infra.simulator import installing, playing
from infra.simulator.answers import ApiError, bad_request, not_found, unprocessable
from infra.simulator.faults import Faults, described
from infra.simulator.limits import Usage
from infra.simulator.routes import oauth
from infra.simulator.routes.checks import report
from infra.simulator.state import Limits, RequestRecord, World, stamp

ENTER = "/_simulator/enter"


async def answer(world: World, faults: Faults, usage: Usage, request: Request) -> Response:
    """Not GitHub's: for tests, demonstrations and the bench."""
    try:
        if request.method == "GET" and request.url.path == ENTER:
            return oauth.entered(
                world, request.query_params.get("person", ""), request.query_params.get("to", "")
            )
        return JSONResponse(await _answer(world, faults, usage, request))
    except ApiError as error:
        return JSONResponse(error.body(), error.status)


async def _answer(world: World, faults: Faults, usage: Usage, request: Request) -> Any:
    what = request.url.path.removeprefix("/_simulator/")
    if request.method == "POST":
        return await _post(world, faults, usage, what, request)
    if request.method == "DELETE" and what == "requests":
        world.requests.clear()
        return {}
    if request.method == "DELETE" and what == "installations":
        return installing.remove(world, await _object(request))
    if request.method == "DELETE" and what == "faults":
        faults.waiting.clear()
        return {}
    if request.method == "GET":
        return _told_of(world, faults, what)
    raise not_found()


def _told_of(world: World, faults: Faults, what: str) -> Any:
    match what:
        case "requests":
            return [_told(record) for record in world.requests]
        case "faults":
            return [described(fault) for fault in faults.waiting]
        case "settings":
            return _settings(world)
        case "installations":
            return installing.told(world)
        case "workflows" | "logs":
            return playing.told(world, what)
    raise not_found()


async def _post(world: World, faults: Faults, usage: Usage, what: str, request: Request) -> Any:
    sent = await _object(request)
    if what == "faults":
        return described(faults.add(sent))
    if what == "checks":
        return await report(world, sent)
    if what in ("workflows", "ci", "logs"):
        return await playing.post(world, what, sent)
    if what in ("accounts", "installations", "marketplace"):
        return installing.post(world, what, sent)
    if what == "clock":
        return _move_clock(world, sent)
    if what == "settings":
        return _set(world, usage, sent)
    raise not_found()


async def _object(request: Request) -> dict[str, Any]:
    try:
        sent = json.loads(await request.body() or b"{}")
    except ValueError as error:
        raise bad_request("Problems parsing JSON") from error
    if not isinstance(sent, dict):
        raise bad_request("Body should be a JSON object")
    return sent


def _told(record: RequestRecord) -> dict[str, Any]:
    return {**asdict(record), "at": stamp(record.at)}


def _move_clock(world: World, sent: dict[str, Any]) -> Any:
    """`{"advance_seconds": n}` moves the clock by n; `{"now": "2026-11-20T23:00:00Z"}` sets it; `{}` tells it."""
    try:
        if "advance_seconds" in sent:
            world.clock_offset += timedelta(seconds=float(sent["advance_seconds"]))
        if "now" in sent:
            world.clock_offset += datetime.fromisoformat(str(sent["now"])) - world.now()
    except (ValueError, TypeError, OverflowError) as error:
        raise unprocessable(f"not a time: {error}") from error
    return {"now": stamp(world.now())}


def _set(world: World, usage: Usage, sent: dict[str, Any]) -> Any:
    """`app_url`, `callback_urls`, `truncate_trees_over`, `limits: {…}`, and `forget_usage: true` to begin counting afresh."""
    known = {"app_url", "callback_urls", "truncate_trees_over", "limits", "forget_usage"}
    limits = sent.get("limits", {})
    names = {each.name for each in fields(Limits)}
    unknown = (set(sent) - known) | (set(limits) - names if isinstance(limits, dict) else {"limits"})
    if unknown:
        raise unprocessable(f"unknown: {', '.join(sorted(unknown))}")
    if "app_url" in sent:
        world.app_url = sent["app_url"]
    if "callback_urls" in sent:
        world.app.callback_urls = [str(url) for url in sent["callback_urls"]]
    if "truncate_trees_over" in sent:
        world.truncate_trees_over = int(sent["truncate_trees_over"])
    for name, value in limits.items():
        setattr(world.limits, name, int(value))
    if sent.get("forget_usage"):
        usage.windows.clear()
        usage.points.clear()
        usage.content.clear()
    return _settings(world)


def _settings(world: World) -> Any:
    return {
        "app_url": world.app_url,
        "callback_urls": world.app.callback_urls,
        "truncate_trees_over": world.truncate_trees_over,
        "limits": asdict(world.limits),
    }
