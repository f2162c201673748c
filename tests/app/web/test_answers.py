"""Nobody waits for ever: what does not begin to answer is answered for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send

from app.web.answers import InTime

SOON = 0.2


class Service:
    """Answers once it may; `heard` is what it read, `ended` how it came to its end."""

    def __init__(self) -> None:
        self.may = asyncio.Event()
        self.ended: list[str] = []
        self.heard = b""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        more = scope["method"] == "POST"
        try:
            while more:
                message = await receive()
                self.heard += message.get("body", b"")
                more = message.get("more_body", False)
            if scope["path"] == "/begins":
                await answer(send, 200, b"it ", more=True)
            await self.may.wait()
            if scope["path"] == "/fails":
                raise ZeroDivisionError
            if scope["path"] != "/begins":
                await answer(send, 200)
            await send({"type": "http.response.body", "body": b"works"})
        except BaseException as error:
            self.ended.append(type(error).__name__)
            raise
        self.ended.append("well")


async def answer(send: Send, status: int, body: bytes = b"", *, more: bool = False) -> None:
    await send({"type": "http.response.start", "status": status, "headers": []})
    if more:
        await send({"type": "http.response.body", "body": body, "more_body": True})


async def late(scope: Scope, receive: Receive, send: Send) -> None:
    await answer(send, 503)
    await send({"type": "http.response.body", "body": b"late"})


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
async def client(service: Service) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(InTime(service, late, SOON))
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        yield client


async def test_what_says_nothing_is_answered_for_and_goes_on_unheard(
    service: Service, client: httpx.AsyncClient
) -> None:
    said = await client.get("/page")
    assert (said.status_code, said.text) == (503, "late")
    service.may.set()
    await asyncio.sleep(0.05)
    assert service.ended == ["well"]


async def test_what_fails_unheard_is_nobodys_trouble(service: Service, client: httpx.AsyncClient) -> None:
    assert (await client.get("/fails")).status_code == 503
    service.may.set()
    await asyncio.sleep(0.05)
    assert service.ended == ["ZeroDivisionError"]


async def test_what_fails_in_time_fails(service: Service, client: httpx.AsyncClient) -> None:
    service.may.set()
    with pytest.raises(ZeroDivisionError):
        await client.get("/fails")


async def test_what_has_begun_may_take_its_time(service: Service, client: httpx.AsyncClient) -> None:
    asyncio.get_running_loop().call_later(3 * SOON, service.may.set)
    said = await client.get("/begins")
    assert (said.status_code, said.text) == (200, "it works")


async def test_deliveries_have_a_limit_of_their_own(service: Service, client: httpx.AsyncClient) -> None:
    asyncio.get_running_loop().call_later(3 * SOON, service.may.set)
    assert (await client.post("/webhooks/github", content=b"{}")).status_code == 200


async def test_the_time_counts_from_the_last_piece_of_the_request(
    service: Service,
) -> None:
    """All of them together take longer than the limit."""

    async def slowly() -> AsyncIterator[bytes]:
        for piece in (b"a", b"b", b"c", b"d"):
            await asyncio.sleep(0.4)
            yield piece

    service.may.set()
    # A limit that no pause between two pieces comes near to, on however busy a machine.
    transport = httpx.ASGITransport(InTime(service, late, 1.0))
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        assert (await client.post("/page", content=slowly())).status_code == 200
    assert service.heard == b"abcd"


async def test_who_is_stopped_stops_the_work(service: Service) -> None:
    async def send(_: Message) -> None: ...

    async def receive() -> Message:
        raise AssertionError("nobody asked")

    scope = {"type": "http", "method": "GET", "path": "/page"}
    asking = asyncio.ensure_future(_whole(InTime(service, late, 60), scope, receive, send))
    await asyncio.sleep(0.05)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await asyncio.sleep(0.05)
    assert service.ended == ["CancelledError"]


async def _whole(app: InTime, scope: Scope, receive: Receive, send: Send) -> None:
    await app(scope, receive, send)
