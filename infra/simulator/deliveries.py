"""Webhooks to the App: signed, sent once within ten seconds, never retried, kept for the delivery list.

https://docs.github.com/webhooks/webhook-events-and-payloads#delivery-headers
"""

from __future__ import annotations

import hashlib
import hmac
import json
import ssl
import uuid
from collections.abc import Mapping
from functools import cache
from time import perf_counter
from typing import Any

import httpx

from infra.simulator.state import Delivery, Installation, Repo, World

TIMEOUT_SECONDS = 10.0
LARGEST_BODY = 25 * 1024 * 1024


def queue(
    world: World,
    event: str,
    action: str | None,
    *,
    repo: Repo | None,
    payload: Mapping[str, Any],
    installation: Installation | None,
) -> Delivery | None:
    """Makes a delivery of a payload and sends it in the background. Over 25 MB GitHub delivers nothing."""
    body: dict[str, Any] = {"action": action} if action is not None else {}
    body.update(payload)
    if installation is not None:
        body.setdefault("installation", {"id": installation.id, "node_id": installation.node_id})
    raw = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
    if len(raw) > LARGEST_BODY:
        return None
    delivery = Delivery(
        id=world.next_id(),
        guid=str(uuid.uuid4()),
        event=event,
        action=action,
        installation_id=installation.id if installation else None,
        repository_id=repo.id if repo else None,
        body=raw,
        delivered_at=world.now(),
    )
    world.deliveries.append(delivery)
    world.background(send(world, delivery))
    return delivery


def again(world: World, first: Delivery) -> Delivery:
    """Another attempt at the same delivery: the same GUID, the same body."""
    delivery = Delivery(
        id=world.next_id(),
        guid=first.guid,
        event=first.event,
        action=first.action,
        installation_id=first.installation_id,
        repository_id=first.repository_id,
        body=first.body,
        delivered_at=world.now(),
        redelivery=True,
    )
    world.deliveries.append(delivery)
    world.background(send(world, delivery))
    return delivery


def headers(world: World, delivery: Delivery) -> dict[str, str]:
    secret = world.app.webhook_secret.encode()
    return {
        "Accept": "*/*",
        "Content-Type": "application/json",
        "User-Agent": "GitHub-Hookshot/"
        + hashlib.sha1(delivery.guid.encode(), usedforsecurity=False).hexdigest()[:7],
        "X-GitHub-Delivery": delivery.guid,
        "X-GitHub-Event": delivery.event,
        "X-GitHub-Hook-ID": str(world.app.hook_id),
        "X-GitHub-Hook-Installation-Target-ID": str(world.app.id),
        "X-GitHub-Hook-Installation-Target-Type": "integration",
        "X-Hub-Signature": "sha1=" + hmac.new(secret, delivery.body, hashlib.sha1).hexdigest(),
        "X-Hub-Signature-256": "sha256=" + hmac.new(secret, delivery.body, hashlib.sha256).hexdigest(),
    }


@cache
def trust() -> ssl.SSLContext:
    """Made once: reading all root certificates takes longer than a delivery."""
    return ssl.create_default_context()


async def send(world: World, delivery: Delivery) -> None:
    """One attempt; whatever becomes of it is written down and that is all."""
    delivery.request_headers = headers(world, delivery)
    delivery.url = world.app_url or ""
    if not world.app_url:
        delivery.status = "failed to connect to host"
        return
    started = perf_counter()
    try:
        async with httpx.AsyncClient(
            timeout=TIMEOUT_SECONDS, follow_redirects=False, trust_env=False, verify=trust()
        ) as client:
            response = await client.post(
                world.app_url, content=delivery.body, headers=delivery.request_headers
            )
    except httpx.TimeoutException:
        delivery.status = "timed out"
    except (httpx.HTTPError, httpx.InvalidURL):
        delivery.status = "failed to connect to host"
    else:
        delivery.status_code = response.status_code
        delivery.status = "OK" if response.is_success else f"Invalid HTTP Response: {response.status_code}"
        delivery.response_headers = dict(response.headers)
        delivery.response_body = response.text
    delivery.duration = round(perf_counter() - started, 3)
