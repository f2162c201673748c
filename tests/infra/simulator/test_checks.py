"""Check runs and suites that another App reports, and commit statuses."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from githubkit_schemas.latest.models import CheckRun as TypedRun
from githubkit_schemas.latest.models import CheckSuite as TypedSuite
from githubkit_schemas.latest.models import CombinedCommitStatus as TypedStatus

HERE = "/repos/octo/sample"


async def report(hub: Any, **fields: Any) -> httpx.Response:
    sent = {"repository": "octo/sample", "sha": "main", "name": "tests", **fields}
    answer: httpx.Response = await hub.running.client().post("/_simulator/checks", json=sent)
    return answer


async def test_a_run_comes_on_and_completes_its_suite(hub: Any) -> None:
    number = await hub.pull()
    head = await hub.repo.git.branch("topic")
    began = await report(hub, sha="topic", status="in_progress")
    assert (began.status_code, began.json()["conclusion"]) == (200, None)
    ended = await report(hub, sha=head, conclusion="failure", title="1 failed", summary="add", text="log")
    assert ended.json()["id"] == began.json()["id"]
    assert [hook["action"] for hook in hub.hooks("check_run")] == ["created", "completed"]
    assert [hook["action"] for hook in hub.hooks("check_suite")] == ["completed"]
    suite = hub.hooks("check_suite", "completed")[0]["check_suite"]
    assert (suite["conclusion"], suite["head_branch"], suite["app"]["slug"]) == ("failure", "topic", "ci")
    assert [one["number"] for one in suite["pull_requests"]] == [number]
    listed = (await hub.bot.get(f"{HERE}/commits/{head}/check-runs")).json()
    assert (listed["total_count"], listed["check_runs"][0]["output"]["title"]) == (1, "1 failed")
    assert (await hub.ada.get(f"{HERE}/pulls/{number}")).json()["mergeable_state"] == "unstable"


async def test_a_repeated_run_replaces_the_one_before_unless_all_are_asked_for(hub: Any) -> None:
    await report(hub, conclusion="failure")
    await report(hub, conclusion="success")
    await report(hub, name="lint", conclusion="success")
    url = f"{HERE}/commits/main/check-runs"
    assert {one["conclusion"] for one in (await hub.bot.get(url)).json()["check_runs"]} == {"success"}
    assert (await hub.bot.get(f"{url}?filter=all")).json()["total_count"] == 3
    assert (await hub.bot.get(f"{url}?check_name=lint")).json()["total_count"] == 1
    assert (await hub.bot.get(f"{url}?status=queued")).json()["total_count"] == 0
    assert hub.hooks("check_suite", "completed")[-1]["check_suite"]["conclusion"] == "success"


async def test_runs_and_suites_are_read_one_by_one(hub: Any) -> None:
    note = {
        "path": "calc.py",
        "start_line": 2,
        "end_line": 2,
        "start_column": None,
        "end_column": None,
        "annotation_level": "failure",
        "title": None,
        "message": "wrong",
        "raw_details": None,
        "blob_href": f"{hub.running.base_url}/octo/sample/blob/main/calc.py",
    }
    run = (await report(hub, conclusion="failure", annotations=[note])).json()
    suite = run["check_suite"]["id"]
    TypedRun.model_validate((await hub.bot.get(f"{HERE}/check-runs/{run['id']}")).json())
    assert (await hub.bot.get(f"{HERE}/check-runs/{run['id']}/annotations")).json() == [note]
    TypedSuite.model_validate((await hub.bot.get(f"{HERE}/check-suites/{suite}")).json())
    assert (await hub.bot.get(f"{HERE}/check-suites/{suite}/check-runs")).json()["total_count"] == 1
    assert (await hub.bot.get(f"{HERE}/commits/main/check-suites")).json()["total_count"] == 1
    for url in ("check-runs/1", "check-runs/1/annotations", "check-suites/1", "check-suites/1/check-runs"):
        assert (await hub.bot.get(f"{HERE}/{url}")).status_code == 404


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"conclusion": "great"}, 422),
        ({"status": "running"}, 422),
        ({"status": "in_progress", "conclusion": "success"}, 422),
        ({"status": "completed"}, 422),
        ({"sha": "nowhere", "conclusion": "success"}, 404),
        ({"repository": "octo/none", "conclusion": "success"}, 404),
    ],
)
async def test_a_report_github_would_not_take_is_refused(
    hub: Any, fields: dict[str, str], status: int
) -> None:
    assert (await report(hub, **fields)).status_code == status
    assert hub.world.deliveries == []


async def test_an_app_without_checks_read_sees_none(hub: Any) -> None:
    await report(hub, conclusion="success")
    client = hub.installation({"metadata": "read", "contents": "read"})
    for url in ("check-runs", "check-suites", "status"):
        refused = await client.get(f"{HERE}/commits/main/{url}")
        assert (refused.status_code, refused.json()["message"]) == (
            403,
            "Resource not accessible by integration",
        )


async def test_statuses_combine_the_newest_of_each_context(hub: Any) -> None:
    sha = await hub.repo.git.branch("main")
    url = f"{HERE}/commits/main/status"
    empty = (await hub.bot.get(url)).json()
    assert (empty["state"], empty["total_count"]) == ("pending", 0)
    for state, context in (("failure", "a"), ("success", "b"), ("success", "a")):
        made = await hub.wim.post(f"{HERE}/statuses/{sha}", json={"state": state, "context": context})
        assert made.status_code == 201
    combined = (await hub.bot.get(url)).json()
    assert (combined["state"], combined["total_count"]) == ("success", 2)
    TypedStatus.model_validate(combined)
    assert len((await hub.bot.get(f"{HERE}/commits/main/statuses")).json()) == 3
    await hub.wim.post(f"{HERE}/statuses/{sha}", json={"state": "error", "description": "x"})
    assert (await hub.bot.get(url)).json()["state"] == "failure"
    told = hub.hooks("status")[0]
    assert (told["state"], told["branches"][0]["name"], told["commit"]["sha"]) == ("failure", "main", sha)


async def test_a_status_is_for_writers_a_known_state_and_a_known_commit(hub: Any) -> None:
    sha = await hub.repo.git.branch("main")
    assert (await hub.rita.post(f"{HERE}/statuses/{sha}", json={"state": "success"})).status_code == 403
    assert (await hub.bot.post(f"{HERE}/statuses/{sha}", json={"state": "success"})).status_code == 403
    assert (await hub.wim.post(f"{HERE}/statuses/{sha}", json={"state": "green"})).status_code == 422
    missing = await hub.wim.post(f"{HERE}/statuses/{'0' * 40}", json={"state": "success"})
    assert missing.status_code == 422
    long = {"state": "success", "description": "x" * 141}
    assert (await hub.wim.post(f"{HERE}/statuses/{sha}", json=long)).status_code == 422
