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
    DeniedError,
    GoneError,
    InvalidError,
    LimitedError,
    MagicodeError,
    MissingError,
    TransientError,
)
from app.nouns import Checks, PullRequest
from infra.github import checks
from infra.github.app import GitHubApp
from infra.github.pace import Spaced
from infra.simulator.auth import new_private_key
from tests.watching import Heard

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
    (401, {"message": "Bad credentials"}, {}, TransientError, "token_refused"),
    (403, {"message": "Repository was archived so is read-only."}, {}, DeniedError, "archived"),
    (403, {"message": "Resource not accessible by integration"}, {}, DeniedError, "permission_not_granted"),
    (403, {"message": "Unable to create comment because issue is locked."}, {}, DeniedError, "locked"),
    (403, {"message": "This installation has been suspended"}, {}, DeniedError, "installation_suspended"),
    (403, {"message": "No."}, {}, DeniedError, "denied"),
    (403, {"message": "You have exceeded a secondary rate limit."}, {}, LimitedError, "rate_limited"),
    (403, {"message": "x"}, {"retry-after": "90"}, LimitedError, "rate_limited"),
    (403, {"message": "API rate limit exceeded"}, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "4102444800"},
     LimitedError, "rate_limited"),
    (429, {"message": "Slow down"}, {}, LimitedError, "rate_limited"),
    (429, {"message": "Slow down"}, {"retry-after": "Wed, 21 Oct 2065 07:28:00 GMT"}, LimitedError, "rate_limited"),
    (403, {"message": ["no", "text"]}, {"retry-after": "soon", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "x"},
     DeniedError, "denied"),
    (403, {"message": "You have triggered an abuse detection mechanism."}, {}, LimitedError, "rate_limited"),
    (404, {"message": "Not Found"}, {}, MissingError, "missing"),
    (409, {"message": "Git Repository is empty."}, {}, MissingError, "repository_empty"),
    (409, {"message": "Secret detected in content"}, {}, InvalidError, "push_protection"),
    (409, {"message": "Conflict"}, {}, TransientError, "conflict"),
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
async def test_the_wait_is_what_github_names_by_its_own_clock(key: str) -> None:
    date = {"date": "Sat, 21 Nov 2026 12:00:00 GMT"}
    reset = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1795264200"}  # 12:30
    for headers, wait in (
        ({"retry-after": "90"}, 90),
        ({"retry-after": "Sat, 21 Nov 2026 12:05:00 GMT", **date}, 300),
        ({**reset, **date}, 1800),
        ({**reset, "retry-after": "7"}, 7),
        ({**reset, "date": "Sat, 21 Nov 2026 13:00:00 GMT"}, 1),
        ({"retry-after": "99999999"}, 7200),
    ):
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


LOG = "".join(f"2026-11-20T23:00:{n % 60:02}.1234567Z line {n} \u00e4\n" for n in range(300)).encode()


class LogHost:
    """Redirects to another host, which sends `log` in pieces, as `headers` say, and `broken` before its end."""

    def __init__(
        self, log: bytes = LOG, *, status: int = 200, told: bool = True, broken: bool = False
    ) -> None:
        self.log = log
        self.status = status
        self.told = told
        self.broken = broken

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.host == "api.example":
            return httpx.Response(302, headers={"location": "https://logs.example/job.txt?sig=x"})
        headers = {"content-length": str(len(self.log))} if self.told else {}
        return httpx.Response(self.status, headers=headers, content=self._pieces())

    async def _pieces(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self.log), 1_000):
            yield self.log[start : start + 1_000]
        if self.broken:
            raise httpx.ReadError("gone")


@pytest.mark.usefixtures("at_home")
@pytest.mark.parametrize("last_bytes", [1, 20, 43, 44, 45, 1_000, 1_001, 9_999, 1_000_000])
async def test_the_end_of_a_log_is_whole_lines_without_their_times(key: str, last_bytes: int) -> None:
    wire = Wire(LogHost(told=False))
    async with app_on(key, wire) as app, app.reader(1, 2) as reader:
        end = await reader.job_log(7, last_bytes=last_bytes)
    whole = "".join(f"line {n} \u00e4\n" for n in range(300))
    assert whole.endswith(end)
    assert len(end.encode()) <= last_bytes
    assert not end or last_bytes < 44 or end.startswith("line ")
    assert end == whole or len(LOG) > last_bytes
    asked, fetched = wire.seen
    assert "Authorization" in asked.headers
    assert "Authorization" not in fetched.headers
    assert fetched.headers["accept-encoding"] == "identity"


@pytest.mark.usefixtures("at_home")
async def test_a_host_of_logs_that_knows_no_ranges_is_read_to_its_end(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "WHOLE_LOG", 1_000)
    wire = Wire(LogHost())
    async with app_on(key, wire) as app, app.reader(1, 2) as reader:
        end = await reader.job_log(7, last_bytes=100)
    assert end.endswith("line 299 \u00e4\n")
    assert len(end) < 100
    assert wire.seen[-1].headers["range"] == f"bytes={len(LOG) - 101}-"


@pytest.mark.usefixtures("at_home")
async def test_a_log_without_end_is_not_read_without_end(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "LONGEST_LOG", 5_000)
    async with app_on(key, Wire(LogHost(told=False))) as app, app.reader(1, 2) as reader:
        with pytest.raises(InvalidError) as long:
            await reader.job_log(7, last_bytes=100)
    assert long.value.reason == "log_too_large"


@pytest.mark.usefixtures("at_home")
@pytest.mark.parametrize(
    ("host", "error", "reason"),
    [
        (LogHost(told=False, broken=True), TransientError, "network"),
        (LogHost(status=503), TransientError, "github_unavailable"),
        (LogHost(status=404), MissingError, "missing"),
        (LogHost(status=410), MissingError, "log_expired"),
        (LogHost(status=403), DeniedError, "denied"),
    ],
)
async def test_a_log_that_cannot_be_had_is_named(
    key: str, host: LogHost, error: type[MagicodeError], reason: str
) -> None:
    async with app_on(key, Wire(host)) as app, app.reader(1, 2) as reader:
        with pytest.raises(error) as refused:
            await reader.job_log(7, last_bytes=100)
    assert refused.value.reason == reason
    assert "line" not in refused.value.message


@pytest.mark.usefixtures("at_home")
@pytest.mark.parametrize(
    ("which", "listed"),
    [
        *((name, "a secret sentence") for name in ("workflow_runs", "check_runs", "jobs", "statuses")),
        ("workflow_runs", [{"id": "a secret sentence"}]),
        ("workflow_runs", [{"id": 1, "check_suite_id": ["a secret sentence"]}]),
        (
            "check_runs",
            [{"id": 7, "status": "completed", "conclusion": "failure", "app": "a secret sentence"}],
        ),
        ("check_runs", [{"id": 7, "check_suite": "a secret sentence"}]),
        (
            "jobs",
            [{"check_run_url": "https://api.example/check-runs/7", "steps": ["a secret sentence"], "id": 7}],
        ),
    ],
)
async def test_checks_in_another_form_are_a_defect_and_never_quoted(
    key: str, which: str, listed: Any
) -> None:
    suite, app = {"id": 5}, {"slug": "github-actions"}
    run = {"id": 9, "check_suite_id": 5, "workflow_id": 1, "event": "push"}
    check = {
        "id": 7,
        "name": "t",
        "status": "completed",
        "conclusion": "failure",
        "check_suite": suite,
        "app": app,
    }
    answers: dict[str, Any] = {"workflow_runs": [run], "check_runs": [check], "jobs": [], "statuses": []}
    answers[which] = listed
    wire = Wire(lambda _: httpx.Response(200, json=answers))
    async with app_on(key, wire) as github, github.reader(1, 2) as reader:
        with pytest.raises(TransientError) as unreadable:
            await reader.failed_checks("0" * 40)
    assert unreadable.value.reason == "github_answer_unreadable"
    assert "secret" not in str(unreadable.value)


@pytest.mark.usefixtures("at_home")
async def test_a_conclusion_that_is_not_known_yet_is_no_failure_and_no_error(key: str) -> None:
    check = {
        "id": 7,
        "name": "t",
        "status": "completed",
        "conclusion": "exploded",
        "check_suite": None,
        "app": None,
    }
    answers: dict[str, Any] = {
        "workflow_runs": [],
        "check_runs": [check, {**check, "id": 8, "conclusion": "stale"}],
        "statuses": [],
    }
    wire = Wire(lambda _: httpx.Response(200, json=answers))
    async with app_on(key, wire) as app, app.reader(1, 2) as reader:
        [one] = await reader.failed_checks("0" * 40)
        assert (one.conclusion, one.job_id, one.said) == ("stale", None, "")
        answers["check_runs"].append({**check, "id": 9})
        assert await reader.failed_checks("0" * 40) == []  # the newest of the name


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
async def test_a_list_in_the_place_of_what_holds_one_is_no_check(key: str) -> None:
    """It would be one that never ends."""
    async with app_on(key, Wire(_says(200, [{"message": "OK"}]))) as app, app.reader(1, 2) as reader:
        for ask in (reader.checks("0" * 40), reader.failed_checks("0" * 40)):
            with pytest.raises(TransientError) as unreadable:
                await ask
            assert unreadable.value.reason == "github_answer_unreadable"


@pytest.mark.usefixtures("at_home")
@pytest.mark.parametrize("body", [{}, [1], "text", None, {"check_runs": 5}])
async def test_a_list_that_is_none_is_our_own_error_too(key: str, body: Any) -> None:
    async with app_on(key, Wire(_says(200, body))) as app, app.reader(1, 2) as reader:
        for ask in (reader.rules("main"), reader.checks("0" * 40)):
            with pytest.raises(TransientError):
                await ask


async def test_an_unreadable_repository_is_our_own_error_too(key: str) -> None:
    wire = Wire(_says(200, {"total_count": 1, "repositories": [{"id": "a secret"}]}))
    async with app_on(key, wire) as app, app.reader(1, 2) as reader:
        with pytest.raises(TransientError):
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
        app_on(key, wire, watch=Heard(heard)) as app,
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

    pace = Spaced(1.0, now=lambda: now[0], sleep=sleep)
    await pace.write()
    await pace.write()
    now[0] += 0.25
    await pace.write()
    now[0] += 5
    await pace.write()
    assert slept == [1.0, 0.75]


@pytest.mark.usefixtures("at_home")
async def test_the_writers_of_one_installation_share_their_pace(key: str) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    wire = Wire(_says(404, {}))
    async with app_on(key, wire, write_interval_seconds=500, sleep=sleep) as app:
        for installation in (1, 1, 2):
            async with app.writer(installation, 2, {}) as writer:
                with pytest.raises(MissingError):
                    await writer.create_comment(3, "x")
    (waited,) = slept
    assert 400 < waited <= 500, "what is left of the interval once the first write has been answered"


# --- GraphQL, and what REST describes wrongly ------------------------------------------------------------------------


def _page(subject: str, connection: str, nodes: Any, after: str | None = None) -> Any:
    info = {"hasNextPage": after is not None, "endCursor": after}
    return {"data": {"repository": {subject: {connection: {"pageInfo": info, "nodes": nodes}}}}}


def _row(first: int, **more: Any) -> dict[str, Any]:
    said = {"fullDatabaseId": str(first), "replyTo": None}
    thread = {"id": f"PRRT_{first}", "isResolved": False, "isOutdated": False, "path": "a.py", "line": 1}
    return {**thread, "comments": {"nodes": [said]}, **more}


def _on_line(number: int, **more: Any) -> dict[str, Any]:
    who = {"id": 3, "login": "mona", "type": "User"}
    at = "2026-11-20T12:00:00Z"
    said = {
        "id": number,
        "body": "why?",
        "user": who,
        "html_url": "https://h/x",
        "created_at": at,
        "updated_at": at,
    }
    return {**said, "path": "a.py", "line": 1, "pull_request_review_id": 50, **more}


def _graphql(rest: Any, *answers: Any) -> Wire:
    """Answers GraphQL in turn, the last answer again and again, and REST always alike."""
    left = list(answers)

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/graphql"):
            said = left.pop(0) if len(left) > 1 else left[0]
            return said if isinstance(said, httpx.Response) else httpx.Response(200, json=said)
        return httpx.Response(200, json=rest)

    return Wire(answer)


@pytest.mark.usefixtures("at_home")
async def test_threads_are_joined_with_their_comments_page_after_page(key: str) -> None:
    rest = [
        _on_line(2**33),
        _on_line(8),
        _on_line(2**33 + 1, in_reply_to_id=2**33, user=None),
        _on_line(12, in_reply_to_id=11),
    ]
    deleted = {"fullDatabaseId": "12", "replyTo": {"fullDatabaseId": "11"}}
    first = _page(
        "pullRequest", "reviewThreads", [_row(2**33), None, _row(4, comments={"nodes": []})], after="Y3"
    )
    second = _page(
        "pullRequest",
        "reviewThreads",
        [_row(8, line=None), _row(11, comments={"nodes": [deleted]}), _row(99)],
    )
    wire = _graphql(rest, first, second)
    async with app_on(key, wire) as app, app.reader(1, 2) as reader:
        threads = await reader.review_threads(5)
    assert [[one.id for one in thread.comments] for thread in threads] == [[2**33, 2**33 + 1], [8], [12]]
    assert (threads[0].node_id, threads[0].line, threads[1].line) == (f"PRRT_{2**33}", 1, None)
    assert threads[0].comments[1].author.login == "ghost"
    asked = [json.loads(one.content)["variables"]["after"] for one in wire.seen if one.method == "POST"]
    assert asked == [None, "Y3"]


@pytest.mark.usefixtures("at_home")
async def test_a_query_is_asked_again_where_github_failed(key: str) -> None:
    failed = {"errors": [{"message": "Something went wrong while executing your query on 2026-11-20."}]}
    good = _page("pullRequest", "reviewThreads", [])
    wire = _graphql([], httpx.Response(502), failed, good)
    async with app_on(key, wire) as app, app.reader(1, 2) as reader:
        assert await reader.review_threads(5) == []
    assert len(wire.seen) == 3
    wire = _graphql([], failed)
    async with app_on(key, wire) as app, app.reader(1, 2) as reader:
        with pytest.raises(TransientError) as away:
            await reader.review_threads(5)
    assert (away.value.reason, len(wire.seen)) == ("github_unavailable", 3)


@pytest.mark.usefixtures("at_home")
async def test_a_refused_query_is_not_asked_again_and_is_told_with_its_status(key: str) -> None:
    told: list[tuple[str, str, int]] = []
    wire = _graphql([], {"data": None, "errors": [{"type": "NOT_FOUND", "message": "Could not resolve"}]})
    async with (
        app_on(key, wire, watch=Heard(told)) as app,
        app.reader(1, 2) as reader,
    ):
        with pytest.raises(MissingError):
            await reader.closing_pull_requests(5)
    assert len(wire.seen) == 1
    assert ("POST", "/graphql", 200) in told


@pytest.mark.usefixtures("at_home")
@pytest.mark.parametrize(
    "answer",
    [
        {"data": {"repository": None}},
        {"data": {"repository": {"pullRequest": {"reviewThreads": {"nodes": []}}}}},
        _page("pullRequest", "reviewThreads", 5),
        _page("pullRequest", "reviewThreads", [{"id": "a secret"}]),
        _page("pullRequest", "reviewThreads", [_row(1, comments={"nodes": [{"replyTo": None}]})]),
        _page(
            "pullRequest",
            "reviewThreads",
            [_row(1, comments={"nodes": [{"fullDatabaseId": "x", "replyTo": None}]})],
        ),
        {"data": 5},
    ],
)
async def test_an_unreadable_query_is_our_own_error(key: str, answer: Any) -> None:
    wire = _graphql([_on_line(1)], answer)
    async with app_on(key, wire) as app, app.reader(1, 2) as reader:
        with pytest.raises(TransientError) as unreadable:
            await reader.review_threads(5)
    assert unreadable.value.reason == "github_answer_unreadable"
    assert "secret" not in str(unreadable.value)


@pytest.mark.usefixtures("at_home")
async def test_only_open_pull_requests_of_this_repository_close_an_issue(key: str) -> None:
    here, elsewhere = {"databaseId": 2}, {"databaseId": 3}
    nodes = [
        {"number": 7, "state": "MERGED", "repository": here},
        None,
        {"number": 8, "state": "OPEN", "repository": elsewhere},
    ]
    wire = _graphql([], _page("issue", "closedByPullRequestsReferences", nodes))
    async with app_on(key, wire) as app, app.reader(1, 2) as reader:
        assert await reader.closing_pull_requests(5) == []
    assert len(wire.seen) == 1


@pytest.mark.usefixtures("at_home")
async def test_an_outdated_comment_is_read_though_the_description_forbids_its_nulls(key: str) -> None:
    sent = _on_line(1, line=None, position=None, original_line=4)
    async with app_on(key, Wire(_says(200, sent))) as app, app.reader(1, 2) as reader:
        found = await reader.review_comment(1)
    assert (found.line, found.path, found.review_id, found.reply_to) == (None, "a.py", 50, None)
    for broken in ({"id": "a secret"}, [], None):
        async with app_on(key, Wire(_says(200, broken))) as app, app.reader(1, 2) as reader:
            with pytest.raises(TransientError) as unreadable:
                await reader.review_comment(1)
        assert "secret" not in str(unreadable.value)


@pytest.mark.usefixtures("at_home")
async def test_a_merge_is_sent_once_and_nothing_to_merge_is_no_commit(key: str) -> None:
    wire = Wire(lambda _: httpx.Response(204))
    async with app_on(key, wire) as app, app.writer(1, 2, {}) as writer:
        assert await writer.merge("magicode/issue-1", "f" * 40, "Bring main in") is None
    (request,) = wire.seen
    assert request.url.path.endswith("/repos/octo/sample/merges")
    assert json.loads(request.content) == {
        "base": "magicode/issue-1",
        "head": "f" * 40,
        "commit_message": "Bring main in",
    }
    for status, said, reason in (
        (409, "Merge conflict", "merge_conflict"),
        (409, "Repository rule violations found", "branch_rules"),
        (502, "Bad gateway", "github_unavailable"),
    ):
        wire = Wire(_says(status, {"message": said}))
        async with app_on(key, wire) as app, app.writer(1, 2, {}) as writer:
            with pytest.raises((InvalidError, TransientError)) as refused:
                await writer.merge("magicode/issue-1", "f" * 40, "Bring main in")
        assert (refused.value.reason, len(wire.seen)) == (reason, 1)


@pytest.mark.usefixtures("at_home")
async def test_the_names_in_a_comparison_do_not_end_the_path(key: str) -> None:
    wire = Wire(_says(404, {"message": "Not Found"}))
    async with app_on(key, wire) as app, app.reader(1, 2) as reader:
        with pytest.raises(MissingError):
            await reader.compare("release/1", "a?b#c")
    assert wire.seen[0].url.raw_path == b"/api/v3/repos/octo/sample/compare/release/1...a%3Fb%23c?per_page=1"
