"""A relay between GitHub and a machine that it cannot reach: every letter of a delivery arrives, and nothing else is believed."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

import infra.relay
from app.errors import TransientError
from infra.relay import NoChannelError, Relay, delivery, new_channel
from infra.simulator.relay import SimulatedRelay, relaying
from infra.simulator.served import served

SECRET = b"hush"


class Ours:
    """Our own process: it writes down what it is handed, and answers with the statuses that are left, then with 202."""

    def __init__(self) -> None:
        self.handed: list[tuple[dict[str, str], bytes]] = []
        self.statuses: list[int] = []
        self.web = Starlette(routes=[Route("/webhooks/github", self._take, methods=["POST"])])

    async def _take(self, request: Request) -> Response:
        self.handed.append((dict(request.headers), await request.body()))
        return JSONResponse({}, self.statuses.pop(0) if self.statuses else 202)

    async def wait(self, count: int) -> None:
        async with asyncio.timeout(20):
            while len(self.handed) < count:
                await asyncio.sleep(0.01)


@asynccontextmanager
async def listening(channel: str, ours: Ours, waits: list[float]) -> AsyncIterator[None]:
    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        await asyncio.sleep(0.01)

    task = asyncio.create_task(Relay(channel, sleep=sleep).carry(ours.web))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@pytest.fixture
async def relay() -> AsyncIterator[SimulatedRelay]:
    async with relaying() as relay:
        yield relay


async def heard(relay: SimulatedRelay, channel: str) -> None:
    """Once somebody listens there."""
    async with asyncio.timeout(20):
        while not relay.listening[channel.rsplit("/", 1)[1]]:
            await asyncio.sleep(0.01)


async def deliver(channel: str, payload: Any, **headers: str) -> None:
    body = json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode()
    signed = "sha256=" + hmac.new(SECRET, body, hashlib.sha256).hexdigest()
    sent = {
        "Content-Type": "application/json",
        "X-Hub-Signature-256": signed,
        "X-GitHub-Event": "issues",
        **headers,
    }
    async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
        (await client.post(channel, content=body, headers=sent)).raise_for_status()


# --- what is handed on -----------------------------------------------------------------------------------------------


async def test_every_letter_of_a_delivery_arrives_with_its_signature(relay: SimulatedRelay) -> None:
    channel, ours = await new_channel(relay.url), Ours()
    payload = {
        "title": 'naïve \u2028 \u0085 \x0b 💥 " \\ \n\r\t',
        "n": 1.5,
        "deep": [{"body": "not this"}, None],
    }
    async with listening(channel, ours, []):
        await heard(relay, channel)
        await deliver(channel, payload, **{"X-GitHub-Delivery": "g-1", "X-Other": "not ours to believe"})
        await ours.wait(1)
    ((headers, body),) = ours.handed
    assert json.loads(body) == payload
    assert headers["x-hub-signature-256"] == "sha256=" + hmac.new(SECRET, body, hashlib.sha256).hexdigest()
    assert (headers["x-github-event"], headers["x-github-delivery"]) == ("issues", "g-1")
    assert headers["content-type"] == "application/json"
    assert "x-other" not in headers
    assert "host" in headers
    assert not headers["host"].startswith("127.")


async def test_a_delivery_as_large_as_github_s_largest_arrives(relay: SimulatedRelay) -> None:
    channel, ours = await new_channel(relay.url), Ours()
    async with listening(channel, ours, []):
        await heard(relay, channel)
        await deliver(channel, {"body": "x" * (24 * 1024**2)})
        await ours.wait(1)
    assert len(ours.handed[0][1]) > 24 * 1024**2


async def test_a_connection_that_ends_is_made_anew(relay: SimulatedRelay) -> None:
    channel, ours, waits = await new_channel(relay.url), Ours(), list[float]()
    async with listening(channel, ours, waits):
        for number in (1, 2, 3):
            await heard(relay, channel)
            await deliver(channel, {"n": number})
            await ours.wait(number)
            relay.hang_up()
            relay.listening.clear()
    assert [json.loads(body)["n"] for _, body in ours.handed] == [1, 2, 3]


async def test_what_our_own_process_could_not_write_down_is_handed_to_it_again(relay: SimulatedRelay) -> None:
    channel, ours, waits = await new_channel(relay.url), Ours(), list[float]()
    ours.statuses = [503, 503, 202, 401, 202]
    async with listening(channel, ours, waits):
        await heard(relay, channel)
        for number in (1, 2, 3):
            await deliver(channel, {"n": number})
        await ours.wait(5)
    assert [json.loads(body)["n"] for _, body in ours.handed] == [1, 1, 1, 2, 3], "a refusal is final"
    assert waits == [1.0, 4.0]


# --- what is not believed --------------------------------------------------------------------------------------------


def wrapped(**said: Any) -> str:
    return json.dumps({"x-github-event": "issues", **said})


@pytest.mark.parametrize(
    "data",
    [
        "",
        "{",
        "[]",
        '"body"',
        "{}",
        wrapped(),
        '{"body": }',
        '{"body" 1}',
        "{1: 2}",
        '{"body": 1',
        "[" * 100_000,
        "null",
        '{"body": {}},',
    ],
)
def test_what_is_no_delivery_is_not_handed_on(data: str) -> None:
    with pytest.raises(ValueError, match="no delivery"):
        delivery(data)


@given(st.text())
def test_no_text_at_all_breaks_the_reading(text: str) -> None:
    with suppress(ValueError):
        delivery(text)


JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(body=JSONS, others=st.dictionaries(st.text(), JSONS, max_size=3), spaced=st.booleans())
def test_the_body_is_cut_out_as_it_was_written(body: Any, others: dict[str, Any], spaced: bool) -> None:
    separators = (", ", " : ") if spaced else (",", ":")
    written = json.dumps(body, separators=separators)
    said = json.dumps({**others, "body": body}, separators=separators)
    headers, found = delivery(said)
    assert found.decode() == written
    assert all(name == "content-type" or name.startswith(("x-github-", "x-hub-")) for name in headers)


async def test_a_relay_that_tells_without_end_fills_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(infra.relay, "LARGEST", 100_000)
    sent = 0

    async def endless(_: Request) -> Response:
        async def pieces() -> AsyncIterator[bytes]:
            nonlocal sent
            yield b"data: "
            for _ in range(1_000):
                sent += 10_000
                yield b"x" * 10_000
                await asyncio.sleep(0)

        return StreamingResponse(pieces(), media_type="text/event-stream")

    ours, waits = Ours(), list[float]()
    async with served(Starlette(routes=[Route("/c", endless)])) as url, listening(f"{url}/c", ours, waits):
        async with asyncio.timeout(20):
            while len(waits) < 2:
                await asyncio.sleep(0.01)
    assert ours.handed == []
    assert sent < 6_000_000


@pytest.mark.parametrize("status", [404, 500])
async def test_a_relay_that_says_no_is_asked_again_after_longer_and_longer_pauses(status: int) -> None:
    async def no(_: Request) -> Response:
        return Response(status_code=status)

    ours, waits = Ours(), list[float]()
    async with served(Starlette(routes=[Route("/c", no)])) as url, listening(f"{url}/c", ours, waits):
        async with asyncio.timeout(20):
            while len(waits) < 9:
                await asyncio.sleep(0.01)
    assert waits[:9] == [1, 2, 4, 8, 16, 32, 60, 60, 60]


# --- a channel -------------------------------------------------------------------------------------------------------


async def test_each_channel_is_another(relay: SimulatedRelay) -> None:
    one, other = await new_channel(relay.url), await new_channel(f"{relay.url}/")
    assert one != other
    assert one.startswith(f"{relay.url}/")


def elsewhere(_: Request) -> Response:
    return RedirectResponse("https://elsewhere.example/channel", 307)


def nowhere(request: Request) -> Response:
    return RedirectResponse(str(request.base_url), 307)


def a_page(_: Request) -> Response:
    return Response("<h1>Hello</h1>")


@pytest.mark.parametrize("answer", [elsewhere, nowhere, a_page])
async def test_what_is_no_relay_gives_no_channel(answer: Callable[[Request], Response]) -> None:
    async with served(Starlette(routes=[Route("/new", answer)])) as url:
        with pytest.raises(NoChannelError):
            await new_channel(url)


async def test_a_relay_that_is_away_is_said_to_be() -> None:
    with pytest.raises(TransientError, match="could not be reached"):
        await new_channel("http://127.0.0.1:9")
