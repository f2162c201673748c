"""Nothing leaves for GitHub unannounced: retries, redirects, second tries with a new token, tokens' own requests."""

from __future__ import annotations

import httpx
import pytest

from app.errors import DefectError
from infra.github.announce import announced
from infra.github.client import Shared
from infra.github.permissions import ROUTES


class Told:
    def __init__(self, error: Exception | None = None) -> None:
        self.heard: list[tuple[str, bool]] = []
        self.error = error

    async def __call__(self, request: str, *, changes: bool) -> None:
        if self.error is not None:
            raise self.error
        self.heard.append((request, changes))


def wire(sent: list[str]) -> httpx.AsyncClient:
    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(str(request.url))
        if request.url.path == "/old":
            return httpx.Response(302, headers={"Location": "https://elsewhere.example/new"})
        return httpx.Response(200)

    return httpx.AsyncClient(transport=Shared(httpx.MockTransport(answer)), follow_redirects=True)


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
        "apps.async_create_installation_access_token",
        "apps.async_revoke_installation_access_token",
        "apps.async_delete_token",
        "apps.async_redeliver_webhook_delivery",
        "graphql.ReviewThreads",
        "graphql.ClosingPullRequests",
    }
