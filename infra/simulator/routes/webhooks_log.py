"""The App's webhook: its settings, its deliveries, and delivering one again.

https://docs.github.com/rest/apps/webhooks
"""

from __future__ import annotations

import base64
import json
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from starlette.responses import Response

from infra.simulator import deliveries
from infra.simulator.answers import bad_request, not_found, unprocessable
from infra.simulator.call import Call, endpoint
from infra.simulator.routes.apps import require_app
from infra.simulator.state import Delivery, stamp

KEPT = timedelta(days=3)
"""https://docs.github.com/webhooks/testing-and-troubleshooting-webhooks/redelivering-webhooks"""


@endpoint("GET", "/app/hook/deliveries")
async def list_deliveries(call: Call) -> Response:
    """Newest first; `cursor` goes on where the `Link` header of the last page says."""
    require_app(call)
    found = sorted(_kept(call), key=lambda one: -one.id)
    cursor = call.query("cursor")
    if cursor:
        before = _opened(cursor)
        found = [one for one in found if one.id < before]
    asked = call.query("per_page", "30")
    size = min(max(int(asked), 1), 100) if asked.isascii() and asked.isdigit() else 30
    status = call.query("status")
    if status:
        lowest, highest = _classified(status)
        found = [one for one in found if lowest <= one.status_code <= highest]
    part = found[:size]
    headers = {}
    if len(found) > size:
        query = {
            "per_page": str(size),
            **({"status": status} if status else {}),
            "cursor": _closed(part[-1].id),
        }
        headers["Link"] = f'<{call.world.base_url}/app/hook/deliveries?{urlencode(query)}>; rel="next"'
    return call.answer([_item(one) for one in part], headers=headers)


def _classified(status: str) -> tuple[int, int]:
    """What got no answer at all is neither: https://docs.github.com/rest/apps/webhooks#list-deliveries-for-an-app-webhook"""
    match status:
        case "success":
            return 200, 399
        case "failure":
            return 400, 599
    raise unprocessable("Invalid status")


def _kept(call: Call) -> list[Delivery]:
    """The Marketplace's are not among them: its webhook is the listing's, with a list of its own on the listing's page.

    https://docs.github.com/apps/github-marketplace/listing-an-app-on-github-marketplace/configuring-a-webhook-to-notify-you-of-plan-changes
    """
    oldest = call.world.now() - KEPT
    return [
        one
        for one in call.world.deliveries
        if one.delivered_at > oldest and one.event != "marketplace_purchase"
    ]


def _closed(number: int) -> str:
    return base64.urlsafe_b64encode(f"v1_{number}".encode()).decode()


def _opened(cursor: str) -> int:
    try:
        return int(base64.urlsafe_b64decode(cursor).decode().removeprefix("v1_"))
    except ValueError as error:
        raise bad_request("Invalid cursor") from error


@endpoint("GET", "/app/hook/deliveries/{delivery_id}")
async def get_delivery(call: Call) -> Response:
    require_app(call)
    one = _found(call)
    return call.answer(
        {
            **_item(one),
            "url": one.url,
            "request": {"headers": one.request_headers, "payload": json.loads(one.body)},
            "response": {"headers": one.response_headers, "payload": one.response_body},
        }
    )


@endpoint("POST", "/app/hook/deliveries/{delivery_id}/attempts")
async def redeliver(call: Call) -> Response:
    require_app(call)
    deliveries.again(call.world, _found(call))
    return call.answer({}, 202)


def _found(call: Call) -> Delivery:
    found = next((one for one in _kept(call) if one.id == call.number("delivery_id")), None)
    if found is None:
        raise not_found()
    return found


def _item(one: Delivery) -> dict[str, Any]:
    return {
        "id": one.id,
        "guid": one.guid,
        "delivered_at": stamp(one.delivered_at),
        "redelivery": one.redelivery,
        "duration": one.duration,
        "status": one.status,
        "status_code": one.status_code,
        "event": one.event,
        "action": one.action,
        "installation_id": one.installation_id,
        "repository_id": one.repository_id,
        "throttled_at": None,
    }


@endpoint("GET", "/app/hook/config")
async def get_config(call: Call) -> Response:
    require_app(call)
    return call.answer(_config(call))


@endpoint("PATCH", "/app/hook/config")
async def update_config(call: Call) -> Response:
    require_app(call)
    body = await call.body()
    if body.string_or("content_type", "json") != "json":
        raise unprocessable("Only the json content type is served here.")
    call.world.app_url = body.string_or("url", call.world.app_url)
    call.world.app.webhook_secret = body.string_or("secret", call.world.app.webhook_secret)
    return call.answer(_config(call))


def _config(call: Call) -> dict[str, Any]:
    shape = {"content_type": "json", "insecure_ssl": "0", "secret": "********"}
    return {**shape, "url": call.world.app_url} if call.world.app_url else shape


endpoints = [list_deliveries, get_delivery, redeliver, get_config, update_config]
