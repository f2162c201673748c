"""Webhooks to the App: signed, sent once, listed, sent again under the same GUID."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta

import httpx
import pytest

from infra.simulator.serve import Running

SAMPLE = "/repos/octo/sample"


@dataclass
class Receiver:
    """What an App would have heard; answers with `status`."""

    url: str = ""
    status: int = 202
    heard: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines[1:] if line)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        self.heard.append((headers, body))
        writer.write(f"HTTP/1.1 {self.status} X\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok".encode())
        await writer.drain()
        writer.close()


@pytest.fixture
async def receiver(sim: Running) -> AsyncIterator[Receiver]:
    made = Receiver()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/webhooks/github"
    await sim.client().post("/_simulator/settings", json={"app_url": made.url})
    async with server:
        yield made


async def push(sim: Running, name: str = "n") -> None:
    body = {"message": "m", "content": "YQ=="}
    assert (await sim.client("wim").put(f"{SAMPLE}/contents/{name}", json=body)).status_code == 201
    await sim.world.settled()


async def test_a_delivery_is_signed_and_carries_githubs_headers(sim: Running, receiver: Receiver) -> None:
    await push(sim)
    headers, body = receiver.heard[0]
    secret = sim.world.app.webhook_secret.encode()
    assert headers["x-hub-signature-256"] == "sha256=" + hmac.new(secret, body, hashlib.sha256).hexdigest()
    assert headers["x-hub-signature"] == "sha1=" + hmac.new(secret, body, hashlib.sha1).hexdigest()
    assert headers["x-github-event"] == "push"
    assert headers["user-agent"].startswith("GitHub-Hookshot/")
    assert headers["x-github-hook-installation-target-id"] == str(sim.world.app.id)
    assert headers["x-github-hook-installation-target-type"] == "integration"
    payload = json.loads(body)
    assert payload["installation"]["id"] == sim.installation_id
    assert (payload["ref"], payload["sender"]["login"]) == ("refs/heads/main", "wim")


async def test_a_refused_push_tells_nobody(sim: Running, receiver: Receiver) -> None:
    await sim.client("rita").put(f"{SAMPLE}/contents/n", json={"message": "m", "content": "YQ=="})
    await sim.world.settled()
    assert receiver.heard == []


async def test_a_failed_delivery_is_not_tried_again_but_can_be_asked_for(
    sim: Running, receiver: Receiver
) -> None:
    receiver.status = 500
    await push(sim)
    assert len(receiver.heard) == 1
    app = sim.app_client()
    listed = (await app.get("/app/hook/deliveries")).json()
    assert [(one["event"], one["status_code"], one["redelivery"]) for one in listed] == [("push", 500, False)]
    receiver.status = 202
    assert (await app.post(f"/app/hook/deliveries/{listed[0]['id']}/attempts")).status_code == 202
    await sim.world.settled()
    first, second = receiver.heard
    assert first[1] == second[1]
    assert first[0]["x-github-delivery"] == second[0]["x-github-delivery"]
    newest = (await app.get("/app/hook/deliveries")).json()[0]
    assert (newest["guid"], newest["redelivery"], newest["status"]) == (listed[0]["guid"], True, "OK")
    whole = (await app.get(f"/app/hook/deliveries/{newest['id']}")).json()
    assert whole["request"]["headers"]["X-GitHub-Event"] == "push"
    assert whole["response"]["payload"] == "ok"


async def test_an_app_that_is_down_misses_the_delivery_and_can_find_it(sim: Running) -> None:
    await push(sim)
    listed = (await sim.app_client().get("/app/hook/deliveries")).json()
    assert [(one["status_code"], one["status"]) for one in listed] == [(0, "failed to connect to host")]
    for status in ("failure", "success"):
        answer = await sim.app_client().get(f"/app/hook/deliveries?status={status}")
        assert answer.json() == [], "the filters know answers alone, and there was none"
    assert (await sim.app_client().get("/app/hook/deliveries?status=any")).status_code == 422


async def test_deliveries_are_paged_by_cursor_and_kept_for_three_days(sim: Running) -> None:
    for n in range(5):
        await push(sim, f"n{n}")
    app = sim.app_client()
    ids, url = [], "/app/hook/deliveries?per_page=2"
    while url:
        answer = await app.get(url)
        ids += [one["id"] for one in answer.json()]
        url = answer.links.get("next", {}).get("url", "")
    assert len(ids) == 5
    assert ids == sorted(ids, reverse=True)
    assert (await app.get("/app/hook/deliveries?cursor=zzz")).status_code == 400
    sim.world.clock_offset += timedelta(days=3, minutes=1)
    assert (await sim.app_client().get("/app/hook/deliveries")).json() == []
    assert (await sim.app_client().post(f"/app/hook/deliveries/{ids[0]}/attempts")).status_code == 404


async def test_a_suspended_or_unsubscribed_app_hears_nothing(sim: Running, receiver: Receiver) -> None:
    installation = sim.world.installations[sim.installation_id]
    installation.events.remove("push")
    await push(sim, "a")
    installation.events.append("push")
    installation.suspended_at = sim.world.now()
    await push(sim, "b")
    assert receiver.heard == []


async def test_the_webhooks_settings_are_read_and_changed(sim: Running, receiver: Receiver) -> None:
    app = sim.app_client()
    assert (await app.get("/app/hook/config")).json() == {
        "content_type": "json", "insecure_ssl": "0", "secret": "********", "url": receiver.url,
    }  # fmt: skip
    await app.patch("/app/hook/config", json={"secret": "another"})
    await push(sim)
    headers, body = receiver.heard[0]
    assert (
        headers["x-hub-signature-256"] == "sha256=" + hmac.new(b"another", body, hashlib.sha256).hexdigest()
    )


async def test_creating_and_deleting_a_branch_is_told_as_a_push(sim: Running, receiver: Receiver) -> None:
    client: httpx.AsyncClient = sim.client("wim")
    sha = (await client.get(f"{SAMPLE}/branches/main")).json()["commit"]["sha"]
    await client.post(f"{SAMPLE}/git/refs", json={"ref": "refs/heads/x", "sha": sha})
    await sim.world.settled()
    await client.delete(f"{SAMPLE}/git/refs/heads/x")
    await sim.world.settled()
    told = [json.loads(body) for _, body in receiver.heard]
    assert [(one["created"], one["deleted"]) for one in told] == [(True, False), (False, True)]
    assert told[1]["after"] == "0" * 40
