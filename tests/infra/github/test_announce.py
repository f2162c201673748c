"""Nothing leaves for GitHub unannounced: retries, redirects, second tries with a new token, tokens' own requests."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from app.errors import DefectError, SupersededError, TransientError
from infra.github.announce import announced, send
from infra.github.client import Pooled
from infra.github.permissions import ROUTES


class Told:
    def __init__(self, error: Exception | None = None) -> None:
        self.heard: list[tuple[str, bool]] = []
        self.error = error

    async def __call__(self, request: str, *, changes: bool) -> None:
        if self.error is not None:
            raise self.error
        self.heard.append((request, changes))

    async def still(self) -> None:
        raise AssertionError("nothing was held up")


def wire(sent: list[str]) -> httpx.AsyncClient:
    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(str(request.url))
        if request.url.path == "/old":
            return httpx.Response(302, headers={"Location": "https://elsewhere.example/new"})
        return httpx.Response(200)

    return httpx.AsyncClient(transport=Pooled(httpx.MockTransport(answer)), follow_redirects=True)


async def test_a_request_of_which_nobody_said_anything_does_not_go_out() -> None:
    sent: list[str] = []
    async with wire(sent) as client:
        with pytest.raises(DefectError, match="past the calls"):
            await client.get("https://api.example/x")
    assert sent == []


async def test_each_time_it_is_sent_and_where_it_leads_is_told() -> None:
    sent: list[str] = []
    told = Told()
    async with wire(sent) as client:
        with announced("GET /old", told, changes=False):
            await client.get("https://api.example/old")
        with announced("POST /x", told, changes=True):
            await client.post("https://api.example/x")
            await client.post("https://api.example/x")
    assert told.heard == [
        ("GET /old", False),
        ("GET /old (redirected)", False),
        ("POST /x", True),
        ("POST /x", True),
    ]
    assert len(sent) == 4


async def test_what_the_witness_raises_keeps_the_request_back() -> None:
    sent: list[str] = []
    async with wire(sent) as client:
        with announced("POST /x", Told(KeyError()), changes=True), pytest.raises(KeyError):
            await client.post("https://api.example/x")
    assert sent == []


def test_what_changes_something_of_the_customers_is_told_apart() -> None:
    changing = {name for name, route in ROUTES.items() if route.changes}
    assert "git.async_create_ref" in changing
    assert "graphql.markPullRequestReadyForReview" in changing
    assert "graphql.ReviewThreads" not in changing
    assert "apps.async_create_installation_access_token" not in changing
    assert all(ROUTES[name].method != "GET" for name in changing)
    quiet = {name for name, route in ROUTES.items() if route.method != "GET"} - changing
    assert quiet <= {
        "apps.async_create_from_manifest",
        "apps.async_create_installation_access_token",
        "apps.async_revoke_installation_access_token",
        "apps.async_delete_token",
        "apps.async_redeliver_webhook_delivery",
        "apps.async_suspend_installation",
        "apps.async_unsuspend_installation",
        "graphql.ReviewThreads",
        "graphql.ClosingPullRequests",
    }


class Stopped:
    """A process that is stopped for `seconds` each time that a connection has been made, and what it asks when woken."""

    def __init__(self, *seconds: float) -> None:
        self.now = 0.0
        self.pauses = list(seconds)
        self.asked: list[str] = []
        self.taken_over_after = float("inf")

    def clock(self) -> float:
        return self.now

    async def __call__(self, request: str, *, changes: bool) -> None:
        self.asked.append(request)

    async def still(self) -> None:
        self.asked.append("still?")
        if self.now >= self.taken_over_after:
            raise SupersededError(reason="superseded")

    async def leave(self, request: httpx.Request) -> httpx.Response:
        """As httpcore does it: the connection first, then what it tells of right before the bytes."""
        trace = request.extensions["trace"]
        await trace("connection.connect_tcp.started", {})
        self.now += self.pauses.pop(0) if self.pauses else 0.0
        await trace("http11.send_request_headers.started", {})
        await trace("http11.send_request_body.started", {})
        return httpx.Response(201, request=request)


async def leaves(stopped: Stopped, *, changes: bool = True) -> httpx.Response:
    with announced("POST /x", stopped, changes=changes):
        return await send(
            httpx.Request("POST", "https://api.example/x", content=b"{}"), stopped.leave, clock=stopped.clock
        )


async def test_a_write_that_leaves_at_once_is_asked_about_once() -> None:
    stopped = Stopped()
    assert (await leaves(stopped)).status_code == 201
    assert stopped.asked == ["POST /x"]


async def test_a_write_that_was_held_up_is_asked_about_again_and_leaves_if_the_work_is_still_held() -> None:
    stopped = Stopped(120.0, 120.0)
    assert (await leaves(stopped)).status_code == 201
    assert stopped.asked == ["POST /x", "still?", "still?"], "announced once, since it is sent once"


async def test_a_write_that_was_held_up_while_another_took_over_does_not_leave() -> None:
    stopped = Stopped(120.0)
    stopped.taken_over_after = 30.0
    with pytest.raises(SupersededError):
        await leaves(stopped)


async def test_a_write_that_is_always_held_up_is_tried_again_later() -> None:
    stopped = Stopped(*[5.0] * 50)
    with pytest.raises(TransientError) as caught:
        await leaves(stopped)
    assert caught.value.reason == "held_up"


async def test_what_changes_nothing_may_take_its_time() -> None:
    stopped = Stopped()

    async def slowly(request: httpx.Request) -> httpx.Response:
        stopped.now += 120
        return httpx.Response(200, request=request)

    with announced("GET /x", stopped, changes=False):
        answer = await send(httpx.Request("GET", "https://api.example/x"), slowly, clock=stopped.clock)
    assert answer.status_code == 200


async def test_httpcore_tells_of_the_moment_before_the_bytes_leave() -> None:
    """What the wire relies on, looked at on the real transport: nothing reaches the server of a write that was held up."""
    reached: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            reached.append(data)
            if b"{}" in data:
                writer.write(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    stopped = Stopped()
    stopped.taken_over_after = 50.0
    async with (
        await asyncio.start_server(serve, "127.0.0.1", 0) as server,
        httpx.AsyncHTTPTransport() as pool,
    ):
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/x"

        def request() -> httpx.Request:
            return httpx.Request("POST", url, content=b"{}")

        async def connecting(going_out: httpx.Request) -> httpx.Response:
            given = going_out.extensions["trace"]

            async def paused(name: str, info: Any) -> None:
                if name.endswith("send_request_body.started"):
                    stopped.now = 60.0
                await given(name, info)

            going_out.extensions = {**going_out.extensions, "trace": paused}
            return await pool.handle_async_request(going_out)

        with announced("POST /x", stopped, changes=True):
            assert (await send(request(), pool.handle_async_request, clock=stopped.clock)).status_code == 201
            reached.clear()
            with pytest.raises(SupersededError):
                await send(request(), connecting, clock=stopped.clock)
        assert not any(b"{}" in one for one in reached), "the headers alone are no request"
