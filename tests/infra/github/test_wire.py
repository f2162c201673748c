"""The adapter on a scripted wire: what is sent, what is never sent, and what each refusal becomes."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import httpx
import pytest

from app.errors import (
    AlreadyExistsError,
    DefectError,
    DeniedError,
    GoneError,
    InvalidError,
    MagicodeError,
    MissingError,
    RefusedError,
    TransientError,
)
from app.nouns import Checks, PullRequest
from infra.github.app import GitHubApp
from infra.github.pace import Pace
from infra.simulator.auth import new_private_key

TOKEN = "ghs_" + "424242_" + "aB3.-_" * 90

Answer = Callable[[httpx.Request], httpx.Response]


@pytest.fixture(scope="module")
def key() -> str:
    return new_private_key()


class Wire:
    """Answers tokens and the repository by itself, and everything else as told."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.seen: list[httpx.Request] = []
        self.minted: list[dict[str, Any]] = []
        self.revoked = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        if path.endswith("/access_tokens"):
            self.minted.append(json.loads(request.content))
            made = {"token": f"{TOKEN}{len(self.minted)}", "expires_at": "2099-01-01T00:00:00Z"}
            return httpx.Response(201, json=made)
        if path.endswith("/installation/token"):
            self.revoked += 1
            return httpx.Response(204)
        self.seen.append(request)
        return self.answer(request)


@asynccontextmanager
async def app_on(key: str, wire: Wire, **options: Any) -> AsyncIterator[GitHubApp]:
    settings = {"write_interval_seconds": 0, "retry_base_seconds": 0, "read_attempts": 3, **options}
    app = GitHubApp(
        app_id=1,
        private_key=key,
        api_url="https://api.example/api/v3",
        transport=httpx.MockTransport(wire),
        **settings,
    )
    try:
        yield app
    finally:
        await app.aclose()


@pytest.fixture
def at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """The repository's name is known without asking."""
    from infra.github.reader import Home

    async def known(_: Home) -> tuple[str, str]:
        return "octo", "sample"

    monkeypatch.setattr(Home, "__call__", known)


def _says(status: int, body: Any = None, **headers: str) -> Answer:
    return lambda _: httpx.Response(status, json=body, headers=headers)


REFUSALS = [
    (401, {"message": "Bad credentials"}, {}, RefusedError, "token_refused"),
    (403, {"message": "Repository was archived so is read-only."}, {}, DeniedError, "archived"),
    (403, {"message": "Resource not accessible by integration"}, {}, DeniedError, "permission_not_granted"),
    (403, {"message": "Unable to create comment because issue is locked."}, {}, DeniedError, "locked"),
    (403, {"message": "This installation has been suspended"}, {}, DeniedError, "installation_suspended"),
    (403, {"message": "No."}, {}, DeniedError, "denied"),
    (403, {"message": "You have exceeded a secondary rate limit."}, {}, TransientError, "rate_limited"),
    (403, {"message": "x"}, {"retry-after": "90"}, TransientError, "rate_limited"),
    (403, {"message": "API rate limit exceeded"}, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "4102444800"},
     TransientError, "rate_limited"),
    (429, {"message": "Slow down"}, {}, TransientError, "rate_limited"),
    (404, {"message": "Not Found"}, {}, MissingError, "missing"),
    (409, {"message": "Git Repository is empty."}, {}, MissingError, "repository_empty"),
    (409, {"message": "Secret detected in content"}, {}, InvalidError, "push_protection"),
    (409, {"message": "Conflict"}, {}, InvalidError, "conflict"),
    (410, {"message": "Issues has been disabled in this repository."}, {}, GoneError, "no_issues"),
    (410, {"message": "This issue was deleted"}, {}, GoneError, "gone"),
    (422, {"message": "Reference already exists"}, {}, AlreadyExistsError, "already_exists"),
    (422, {"message": "Validation Failed", "errors": [{"resource": "PullRequest", "code": "custom",
     "message": "A pull request already exists for octo:x."}]}, {}, AlreadyExistsError, "already_exists"),
    (422, {"message": "Validation Failed", "errors": [{"code": "already_exists"}]}, {}, AlreadyExistsError,
     "already_exists"),
    (422, {"message": "Validation Failed", "errors": [{"message": "No commits between main and x"}]}, {},
     InvalidError, "no_commits"),
    (422, {"message": "Update is not a fast forward"}, {}, InvalidError, "not_fast_forward"),
    (422, {"message": "is at 1ff8 but expected 0000"}, {}, InvalidError, "ref_race"),
    (409, {"message": "Reference update failed"}, {}, InvalidError, "ref_race"),
    (422, {"message": "Draft pull requests are not supported in this repository."}, {}, InvalidError,
     "drafts_unsupported"),
    (422, {"message": "Repository rule violations found"}, {}, InvalidError, "branch_rules"),
    (422, {"message": "No commit found for SHA: 0"}, {}, MissingError, "missing"),
    (422, {"message": "Validation Failed", "errors": ["Body is too long"]}, {}, InvalidError, "invalid"),
    (422, {"message": "Validation Failed", "errors": "Body is too long"}, {}, InvalidError, "invalid"),
    (451, {"message": "DMCA"}, {}, DeniedError, "unavailable_for_legal_reasons"),
    (400, {"message": "Unsupported API version"}, {}, InvalidError, "status_400"),
    (502, None, {}, TransientError, "github_unavailable"),
]  # fmt: skip


@pytest.mark.usefixtures("at_home")
@pytest.mark.parametrize(("status", "body", "headers", "kind", "reason"), REFUSALS)
async def test_each_refusal_becomes_the_apps_own_error(
    key: str, status: int, body: Any, headers: dict[str, str], kind: type[MagicodeError], reason: str
) -> None:
    wire = Wire(_says(status, body, **headers))
    async with app_on(key, wire) as app, app.writer(1, 2, {"issues": "write"}) as writer:
        with pytest.raises(MagicodeError) as refused:
            await writer.create_comment(3, "x")
    assert type(refused.value) is kind
    assert refused.value.reason == reason
    assert refused.value.__suppress_context__
    assert "api.example" not in str(refused.value)
    assert len(wire.seen) == (2 if status == 401 else 1)


@pytest.mark.usefixtures("at_home")
async def test_the_wait_is_githubs_own_or_a_minute(key: str) -> None:
    for headers, wait in (({"retry-after": "90"}, 90), ({}, 60)):
        wire = Wire(_says(429, {"message": "x"}, **headers))
        async with app_on(key, wire) as app, app.writer(1, 2, {}) as writer:
            with pytest.raises(TransientError) as limited:
                await writer.create_comment(3, "x")
        assert limited.value.retry_after == timedelta(seconds=wait)


async def test_a_token_is_narrowed_and_revoked(key: str) -> None:
    wire = Wire(_says(404, {}))
    async with app_on(key, wire) as app:
        async with app.reader(1, 22):
            pass
        async with app.writer(1, 22, {"contents": "write"}):
            pass
    assert wire.minted == [
        {
            "repository_ids": [22],
            "permissions": {
                "contents": "read", "issues": "read", "pull_requests": "read", "actions": "read",
                "checks": "read", "statuses": "read", "metadata": "read",
            },
        },
        {"repository_ids": [22], "permissions": {"contents": "write"}},
    ]  # fmt: skip
    assert wire.revoked == 2


@pytest.mark.usefixtures("at_home")
async def test_the_version_is_pinned_and_the_token_sent(key: str) -> None:
    wire = Wire(_says(404, {}))
    async with app_on(key, wire) as app, app.reader(1, 2) as reader:
        with pytest.raises(MissingError):
            await reader.issue(1)
    (request,) = wire.seen
    assert request.headers["X-GitHub-Api-Version"] == "2026-03-10"
    assert request.headers["Authorization"] == f"Bearer {TOKEN}1"
    assert request.url.path == "/api/v3/repos/octo/sample/issues/1"


@pytest.mark.usefixtures("at_home")
async def test_the_token_does_not_follow_an_archive_to_another_host(key: str) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.host == "api.example":
            return httpx.Response(302, headers={"location": "https://codeload.example/x?token=short"})
        return httpx.Response(200, content=b"archive")

    wire = Wire(answer)
    async with app_on(key, wire) as app, app.reader(1, 2) as reader:
        assert b"".join([chunk async for chunk in reader.archive("0" * 40)]) == b"archive"
    first, second = wire.seen
    assert "Authorization" in first.headers
    assert second.url.host == "codeload.example"
    assert "Authorization" not in second.headers


@pytest.mark.usefixtures("at_home")
@pytest.mark.parametrize("status", [301, 302])
async def test_a_write_that_is_redirected_does_not_become_a_read(key: str, status: int) -> None:
    wire = Wire(_says(status, location="https://api.example/api/v3/repositories/2/issues/3/comments"))
    async with app_on(key, wire) as app, app.writer(1, 2, {}) as writer:
        with pytest.raises(TransientError) as moved:
            await writer.create_comment(3, "x")
    assert moved.value.reason == "repository_moved"
    assert [request.method for request in wire.seen] == ["POST"]


@pytest.mark.usefixtures("at_home")
async def test_a_write_that_is_sent_on_is_repeated_as_it_was(key: str) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.startswith("/api/v3/repos/"):
            return httpx.Response(307, headers={"location": "https://api.example/api/v3/repositories/2/x"})
        return httpx.Response(404, json={"message": "Not Found"})

    wire = Wire(answer)
    async with app_on(key, wire) as app, app.writer(1, 2, {}) as writer:
        with pytest.raises(MissingError):
            await writer.create_comment(3, "hello")
    assert [(request.method, json.loads(request.content)) for request in wire.seen] == [
        ("POST", {"body": "hello"}),
        ("POST", {"body": "hello"}),
    ]


@pytest.mark.usefixtures("at_home")
async def test_a_branchs_name_does_not_end_the_path(key: str) -> None:
    wire = Wire(_says(404, {"message": "Branch not found"}))
    async with app_on(key, wire) as app, app.reader(1, 2) as reader:
        with pytest.raises(MissingError):
            await reader.branch("feature/a#b?c=d%20 é")
    assert (
        wire.seen[0].url.raw_path == b"/api/v3/repos/octo/sample/branches/feature/a%23b%3Fc%3Dd%2520%20%C3%A9"
    )


@pytest.mark.usefixtures("at_home")
async def test_githubs_own_form_is_insisted_on_without_quoting_the_answer(key: str) -> None:
    wire = Wire(_says(200, {"number": "a secret sentence"}))
    async with app_on(key, wire) as app, app.reader(1, 2) as reader:
        with pytest.raises(MagicodeError) as unreadable:
            await reader.issue(1)
    assert unreadable.value.reason == "github_answer_unreadable"
    assert "secret" not in str(unreadable.value)
    assert unreadable.value.__suppress_context__


@pytest.mark.usefixtures("at_home")
@pytest.mark.parametrize("body", [{}, [1], "text", None, {"check_runs": 5}])
async def test_a_list_that_is_none_is_our_own_error_too(key: str, body: Any) -> None:
    async with app_on(key, Wire(_says(200, body))) as app, app.reader(1, 2) as reader:
        for ask in (reader.rules("main"), reader.checks("0" * 40)):
            with pytest.raises(DefectError):
                await ask


async def test_an_unreadable_repository_is_our_own_error_too(key: str) -> None:
    wire = Wire(_says(200, {"total_count": 1, "repositories": [{"id": "a secret"}]}))
    async with app_on(key, wire) as app, app.reader(1, 2) as reader:
        with pytest.raises(DefectError):
            await reader.repository()


@pytest.mark.usefixtures("at_home")
async def test_a_rule_and_a_conclusion_that_are_new_are_seen_not_rejected(key: str) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if "/rules/" in request.url.path:
            return httpx.Response(200, json=[{"type": "brand_new", "parameters": {"x": 1}}])
        if request.url.path.endswith("/check-runs"):
            runs = [{"status": "completed", "conclusion": "stale"}, {"status": "waiting", "conclusion": None}]
            return httpx.Response(200, json={"total_count": 2, "check_runs": runs})
        return httpx.Response(200, json={"statuses": [{"state": "error"}]})

    async with app_on(key, Wire(answer)) as app, app.reader(1, 2) as reader:
        assert [rule.type for rule in await reader.rules("main")] == ["brand_new"]
        assert await reader.checks("0" * 40) == Checks(pending=1, failed=2, passed=0)


@pytest.mark.usefixtures("at_home")
async def test_ready_is_asked_of_graphql_beside_the_rest_api(key: str) -> None:
    wire = Wire(
        _says(200, {"errors": [{"type": "FORBIDDEN", "message": "Resource not accessible by integration"}]})
    )
    pull = PullRequest(1, "PR_x", "t", "b", "open", True, False, "h", "s", 2, "main", "b", "u")
    async with app_on(key, wire) as app, app.writer(1, 2, {}) as writer:
        with pytest.raises(DeniedError):
            await writer.mark_ready(pull)
    (request,) = wire.seen
    assert str(request.url) == "https://api.example/api/graphql"
    assert json.loads(request.content)["variables"] == {"id": "PR_x"}


@pytest.mark.usefixtures("at_home")
async def test_no_token_and_no_key_stands_in_logs_or_representations(
    key: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    wire = Wire(_says(500))
    async with app_on(key, wire) as app, app.writer(1, 2, {}) as writer:
        with pytest.raises(TransientError) as failed:
            await writer.create_comment(3, "a comment's text")
        shown = "".join(
            map(repr, (app, vars(app), writer, vars(writer), failed.value, vars(vars(writer)["_calls"])))
        )
    assert TOKEN not in shown + caplog.text
    assert "PRIVATE KEY" not in shown + caplog.text
    assert "a comment's text" not in shown + caplog.text


@pytest.mark.usefixtures("at_home")
async def test_the_hook_hears_methods_templates_and_statuses_only(key: str) -> None:
    heard: list[tuple[str, str, int]] = []
    wire = Wire(_says(404, {"message": "no"}))
    async with (
        app_on(key, wire, on_request=lambda *told: heard.append(told)) as app,
        app.reader(1, 2) as reader,
    ):
        with pytest.raises(MissingError):
            await reader.branch("secret-project")
    assert heard == [
        ("POST", "/app/installations/{installation_id}/access_tokens", 201),
        ("GET", "/repos/{owner}/{repo}/branches/{branch}", 404),
        ("DELETE", "/installation/token", 204),
    ]


async def test_writes_keep_their_distance() -> None:
    now = [100.0]
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    pace = Pace(1.0, now=lambda: now[0], sleep=sleep)
    await pace()
    await pace()
    now[0] += 0.25
    await pace()
    now[0] += 5
    await pace()
    assert slept == [1.0, 0.75]


@pytest.mark.usefixtures("at_home")
async def test_the_writers_of_one_installation_share_their_pace(key: str) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(round(seconds, 1))

    wire = Wire(_says(404, {}))
    async with app_on(key, wire, write_interval_seconds=5, sleep=sleep) as app:
        for installation in (1, 1, 2):
            async with app.writer(installation, 2, {}) as writer:
                with pytest.raises(MissingError):
                    await writer.create_comment(3, "x")
    assert slept == [5.0]
