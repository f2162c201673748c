"""What is wrong gets a clear answer and changes nothing."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.demo import ISSUE_BODY, ISSUE_TITLE
from app.nouns import RunState
from infra.simulator.state import Repo
from tests.line.conftest import Stages
from tests.line.stage import Stage


def signed(
    stage: Stage, body: bytes, *, secret: str | None = None, event: str = "issue_comment"
) -> dict[str, str]:
    key = (secret or stage.github.world.app.webhook_secret).encode()
    return {
        "Content-Type": "application/json",
        "X-GitHub-Event": event,
        "X-GitHub-Delivery": "0b989ba4-242f-11e5-81e1-c7b6966d2516",
        "X-Hub-Signature-256": "sha256=" + hmac.new(key, body, hashlib.sha256).hexdigest(),
    }


async def post(stage: Stage, body: bytes, headers: dict[str, str]) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
        return await client.post(f"{stage.url}/webhooks/github", content=body, headers=headers)


async def state_of(stage: Stage) -> tuple[int, int, int]:
    """Runs, webhooks in the installation's log (a run's own entries may still be coming), entries of the service."""
    webhooks = [entry for entry in await stage.log() if entry.action.startswith("webhook.")]
    return len(await stage.runs()), len(webhooks), len(await stage.log(0))


@pytest.fixture
async def idle(raise_stage: Stages, sample: Path, sample_playbook: Any) -> Stage:
    return await raise_stage({"octo/fairshare": sample}, sample_playbook)


async def test_a_wrong_missing_or_sha1_signature_is_401_and_changes_nothing(idle: Stage) -> None:
    body = json.dumps({"action": "created"}).encode()
    before = await state_of(idle)
    good = signed(idle, body)
    unsigned = {name: value for name, value in good.items() if name != "X-Hub-Signature-256"}
    sha1 = hmac.new(idle.github.world.app.webhook_secret.encode(), body, hashlib.sha1).hexdigest()
    for headers in (
        signed(idle, body, secret="another"),
        unsigned,
        unsigned | {"X-Hub-Signature": f"sha1={sha1}"},
    ):
        answer = await post(idle, body, headers)
        assert answer.status_code == 401
        assert answer.json()["message"]
    assert (await post(idle, body + b" ", good)).status_code == 401, "one byte more than was signed"
    assert await state_of(idle) == before


async def test_too_large_a_body_is_413_and_changes_nothing(idle: Stage) -> None:
    body = b"{" + b" " * (25 * 1024 * 1024) + b"}"
    before = await state_of(idle)
    assert (await post(idle, body, signed(idle, body))).status_code == 413

    async def without_a_length():  # type: ignore[no-untyped-def]
        for start in range(0, len(body), 1 << 20):
            yield body[start : start + (1 << 20)]

    async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
        answer = await client.post(
            f"{idle.url}/webhooks/github", content=without_a_length(), headers=signed(idle, body)
        )
    assert answer.status_code == 413
    assert await state_of(idle) == before


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"text"', b"\xff\xfe", b'{"a":1,"a":2}', b"[" * 100_000])
async def test_a_broken_body_is_400_and_changes_nothing(idle: Stage, body: bytes) -> None:
    before = await state_of(idle)
    answer = await post(idle, body, signed(idle, body))
    assert answer.status_code == 400
    assert answer.json()["message"]
    assert await state_of(idle) == before


async def test_a_request_of_an_unknown_installation_is_to_come_again_and_is_one_entry_of_the_services_own_log(
    idle: Stage,
) -> None:
    number = await idle.open_issue(ISSUE_TITLE, ISSUE_BODY)
    await idle.comment(number, "@magicode help")
    await idle.ended()
    await idle.settled()
    sent = next(one for one in idle.github.world.deliveries if one.event == "issue_comment")
    payload = json.loads(sent.body)
    payload["installation"]["id"] = 999
    body = json.dumps(payload).encode()
    runs, entries, service = await state_of(idle)
    answer = await post(idle, body, signed(idle, body))
    assert (answer.status_code, answer.json()["outcome"]) == (503, "unknown_installation")
    assert await state_of(idle) == (runs, entries, service + 1)
    assert (await idle.log(0))[-1].action == "webhook.refused"


@pytest.fixture
async def waiting(raise_stage: Stages, sample: Path, sample_playbook: Any) -> tuple[Stage, Repo, int]:
    """A request that was accepted and that nobody has begun to work on."""
    stage = await raise_stage({"octo/fairshare": sample}, sample_playbook, working=False)
    number = await stage.open_issue(ISSUE_TITLE, ISSUE_BODY)
    await stage.comment(number, "@magicode fix this")
    await stage.settled()
    return stage, next(iter(stage.github.world.repositories.values())), number


def said_by_us(stage: Stage, repo: Repo, number: int) -> list[str]:
    bot = stage.github.world.app.bot_id
    return [one.body for one in repo.issues[number].comments.values() if one.user_id == bot]


async def ends_of(stage: Stage) -> list[Any]:
    return [
        entry.details["reason"]
        for entry in await stage.log()
        if entry.action == "run.ended" and entry.details
    ]


async def test_an_archived_repository_is_an_entry_since_nobody_can_comment_there(
    waiting: tuple[Stage, Repo, int],
) -> None:
    stage, repo, number = waiting
    repo.archived = True
    async with stage.at_work():
        (run,) = await stage.ended()
    assert (run.state, run.reason) == (RunState.REFUSED, "archived")
    assert said_by_us(stage, repo, number) == []
    assert await ends_of(stage) == ["archived"]


async def test_a_repository_without_issues_is_an_entry_since_nobody_can_comment_there(
    waiting: tuple[Stage, Repo, int],
) -> None:
    stage, repo, number = waiting
    repo.has_issues = False
    async with stage.at_work():
        (run,) = await stage.ended()
    assert (run.state, run.reason) == (RunState.REFUSED, "no_issues")
    assert said_by_us(stage, repo, number) == []
    assert await ends_of(stage) == ["no_issues"]


async def test_a_repository_that_is_gone_is_an_entry(waiting: tuple[Stage, Repo, int]) -> None:
    stage, repo, _ = waiting
    world = stage.github.world
    del world.repositories[repo.id]
    for installation in world.installations.values():
        installation.repository_ids.discard(repo.id)
    async with stage.at_work():
        (run,) = await stage.ended()
    assert (run.state, run.reason) == (RunState.REFUSED, "repository_missing")
    assert await ends_of(stage) == ["repository_missing"]


async def test_an_uninstalled_app_ends_the_run_in_the_log(waiting: tuple[Stage, Repo, int]) -> None:
    stage, _, _ = waiting
    installation = stage.installation
    del stage.github.world.installations[installation]
    async with stage.at_work():
        for _ in range(600):
            async with stage.house.store.transaction(installation) as transaction:
                (run,) = await transaction.runs()
            if run.state.ended:
                break
            await asyncio.sleep(0.05)
    assert (run.state, run.reason) == (RunState.REFUSED, "installation_missing")


async def test_the_app_without_a_permission_says_which_end_that_is(waiting: tuple[Stage, Repo, int]) -> None:
    stage, repo, number = waiting
    stage.github.world.installations[stage.installation].permissions["contents"] = "read"
    async with stage.at_work():
        (run,) = await stage.ended()
    assert (run.state, run.reason) == (RunState.REFUSED, "permission_not_granted")
    (said,) = said_by_us(stage, repo, number)
    assert "permission" in said


async def test_an_empty_repository_is_answered_with_one_comment(
    raise_stage: Stages, tmp_path: Path, sample_playbook: Any
) -> None:
    empty = tmp_path / "empty"
    await asyncio.to_thread(subprocess.run, ["git", "init", "-q", "-b", "main", str(empty)], check=True)
    stage = await raise_stage({"octo/empty": empty}, sample_playbook)
    number = await stage.open_issue(ISSUE_TITLE, ISSUE_BODY)
    await stage.comment(number, "@magicode fix this")
    (run,) = await stage.ended()
    assert (run.state, run.reason) == (RunState.REFUSED, "repository_empty")
    said = [one["body"] for one in await stage.comments(number) if one["user"]["login"] == "magicode[bot]"]
    assert len(said) == 1
    assert "empty" in said[0]
