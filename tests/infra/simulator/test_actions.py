"""GitHub Actions as the simulator plays it: runs, jobs, logs on another host, re-runs, and the webhooks of all that."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from githubkit_schemas.latest.models import Job as TypedJob
from githubkit_schemas.latest.models import WorkflowRun as TypedRun

from infra.simulator import ci
from infra.simulator.serve import running

HERE = "/repos/octo/sample"
RUNS = f"{HERE}/actions/runs"
WRONG = ci.failing("tests", "1 failed", step="Run pytest", annotations=[("calc.py", 2, "assert 1 == 3")])


def fails_while_it_subtracts(hub: Any, **options: Any) -> ci.Workflow:
    rows = (ci.Row("tests", WRONG, path="calc.py", holds="a - b"), ci.Row("lint", WRONG, path="no.py"))
    made: ci.Workflow = hub.running.on_push(ci.table(*rows), **options)
    return made


async def pushed(hub: Any, text: str, branch: str = "topic") -> str:
    """The branch's new head, once CI has ended on it or waits."""
    head = await hub.branch(branch, {"calc.py": text})
    await hub.world.settled()
    return str(head)


async def jobs_of(hub: Any, run: Any, **query: str) -> list[Any]:
    answer = await hub.bot.get(f"{RUNS}/{run.id}/jobs", params=query)
    assert answer.status_code == 200
    return list(answer.json()["jobs"])


async def desk(hub: Any, what: str, **sent: Any) -> httpx.Response:
    answer: httpx.Response = await hub.running.client().post(f"/_simulator/{what}", json=sent)
    return answer


async def download(location: str, **headers: str) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False) as client:
        return await client.get(location, headers=headers)


async def link(hub: Any, job_id: int) -> str:
    answer = await hub.bot.get(f"{HERE}/actions/jobs/{job_id}/logs")
    assert (answer.status_code, answer.content == b"") == (302, False)
    return str(answer.headers["location"])


# --- what a push brings about ----------------------------------------------------------------------------------------


async def test_each_push_is_judged_by_its_own_code(hub: Any) -> None:
    workflow = fails_while_it_subtracts(hub)
    bad = await pushed(hub, "def add(a, b): return a - b  # x\n")
    good = await pushed(hub, "def add(a, b): return a + b\n")
    ended = {run.head_sha: run.conclusion for run in workflow.runs}
    assert (ended[bad], ended[good]) == ("failure", "success")
    found = (await hub.bot.get(RUNS, params={"head_sha": bad})).json()
    assert found["total_count"] == 1
    TypedRun.model_validate(found["workflow_runs"][0])
    tests, lint = await jobs_of(hub, workflow.runs[1])
    TypedJob.model_validate(tests)
    assert {(one["name"], one["conclusion"]) for one in (tests, lint)} == {
        ("tests", "failure"),
        ("lint", "success"),
    }
    assert [(step["name"], step["conclusion"]) for step in tests["steps"]] == [
        ("Set up job", "success"),
        ("Run actions/checkout@v5", "success"),
        ("Run pytest", "failure"),
        ("Upload coverage", "skipped"),
        ("Complete job", "success"),
    ]


async def test_a_job_is_the_check_run_with_its_id(hub: Any) -> None:
    workflow = fails_while_it_subtracts(hub)
    head = await pushed(hub, "a - b\n")
    job = next(one for one in await jobs_of(hub, workflow.runs[-1]) if one["name"] == "tests")
    check = (await hub.bot.get(f"{HERE}/check-runs/{job['id']}")).json()
    assert (check["url"], check["html_url"]) == (job["check_run_url"], job["html_url"])
    assert (check["name"], check["head_sha"], check["app"]["slug"]) == ("tests", head, "github-actions")
    assert check["check_suite"]["id"] == workflow.runs[-1].suite_id
    notes = (await hub.bot.get(f"{HERE}/check-runs/{job['id']}/annotations")).json()
    assert [(one["path"], one["message"]) for one in notes] == [
        ("calc.py", "assert 1 == 3"),
        (".github", "Process completed with exit code 1."),
    ]


async def test_what_is_held_goes_from_queued_over_in_progress_to_completed(hub: Any) -> None:
    workflow = fails_while_it_subtracts(hub)
    workflow.hold()
    number = await hub.pull(files={"calc.py": "a - b\n"})
    await hub.world.settled()
    head = await hub.repo.git.branch("topic")

    async def states() -> set[tuple[str, str | None]]:
        runs = (await hub.bot.get(RUNS, params={"head_sha": head})).json()["workflow_runs"]
        checks = (await hub.bot.get(f"{HERE}/commits/{head}/check-runs")).json()["check_runs"]
        suites = (await hub.bot.get(f"{HERE}/commits/{head}/check-suites")).json()["check_suites"]
        return {(one["status"], one["conclusion"]) for one in (*runs, *checks, *suites)}

    assert await states() == {("queued", None)}
    assert hub.hooks("check_suite") == []
    await workflow.begin()
    assert await states() == {("in_progress", None)}
    await workflow.finish()
    assert await states() == {("completed", "failure"), ("completed", "success")}
    told = hub.hooks("check_suite", "completed")[-1]
    assert (told["check_suite"]["conclusion"], told["check_suite"]["head_branch"]) == ("failure", "topic")
    assert [one["number"] for one in told["check_suite"]["pull_requests"]] == [number]
    assert told["sender"]["login"] == "wim"
    assert {hook["action"] for hook in hub.hooks("check_run")} == {"created", "completed"}


async def test_a_workflow_meets_its_events_and_branches_and_no_others(hub: Any) -> None:
    on_main = fails_while_it_subtracts(hub, branches=["main", "release/*"])
    on_pulls = fails_while_it_subtracts(hub, on=["pull_request"], branches=["main"])
    await pushed(hub, "a - b\n")
    assert (on_main.runs, on_pulls.runs) == ([], [])
    await hub.pull("topic", files={"calc.py": "a + b\n"})
    await hub.world.settled()
    await pushed(hub, "a * b\n")
    assert [run.event for run in on_pulls.runs] == ["pull_request", "pull_request"]
    await pushed(hub, "a - b\n", branch="main")
    await pushed(hub, "a - b\n", branch="release/1")
    await pushed(hub, "a - b\n", branch="release/2/1")
    assert {run.head_branch for run in on_main.runs} == {"main", "release/1"}
    await hub.wim.delete(f"{HERE}/git/refs/heads/release/1")
    await hub.world.settled()
    assert len(on_main.runs) == 3
    with pytest.raises(ValueError, match="push"):
        hub.running.on_push(ci.table(), on=["schedule"])
    with pytest.raises(ValueError, match="octo/none"):
        hub.running.on_push(ci.table(), "octo/none")


async def test_a_commit_can_ask_for_no_ci(hub: Any) -> None:
    workflow = fails_while_it_subtracts(hub)
    head = await hub.repo.git.branch("main")
    commit = (await hub.bot.get(f"{HERE}/git/commits/{head}")).json()
    sent = {"message": "Docs [skip ci]", "tree": commit["tree"]["sha"], "parents": [head]}
    sha = (await hub.bot.post(f"{HERE}/git/commits", json=sent)).json()["sha"]
    await hub.bot.post(f"{HERE}/git/refs", json={"ref": "refs/heads/quiet", "sha": sha})
    await hub.world.settled()
    assert workflow.runs == []


async def test_ci_may_take_its_time_and_think(hub: Any) -> None:
    seen: list[ci.Code] = []

    async def slow(code: ci.Code) -> ci.Verdict:
        seen.append(code)
        await asyncio.sleep(0)
        return [ci.passing("tests")]

    workflow = hub.running.on_push(slow, seconds=30)
    for count, files in enumerate(
        ({}, {"calc.py": "x = 1\n"}), 1
    ):  # the branch is judged before its commit comes
        head = await hub.branch("topic", files)
        while len(seen) < count or workflow.runs[-1].status != "in_progress":
            await asyncio.sleep(0.01)
    workflow.hurry()
    await hub.world.settled()
    assert workflow.runs[-1].conclusion == "success"
    last = seen[-1]
    assert (last.repository, last.branch, last.sha, last.event, last.attempt) == (
        "octo/sample",
        "topic",
        head,
        "push",
        1,
    )
    assert (last.text("calc.py"), last.text("none"), set(last.files)) == (
        "x = 1\n",
        "",
        {"calc.py", "README.md"},
    )


async def test_a_mistake_in_a_test_s_own_ci_is_loud(tmp_path: Any) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "a.py").write_text("x\n")

    async def play() -> None:
        async with running(tmp_path / "data", {"octo/sample": tmp_path / "source"}) as sim:
            sim.on_push(lambda _: [ci.CiJob("tests", "exploded")])
            sha = await sim.world.repository("octo/sample").git.branch("main")
            await sim.client("wim").post(f"{HERE}/git/refs", json={"ref": "refs/heads/x", "sha": sha})

    with pytest.raises(ValueError, match="does not end as"):
        await play()


# --- failures that are nobody's code ----------------------------------------------------------------------------------


async def test_the_machines_failures_look_as_they_do(hub: Any) -> None:
    workflow = hub.running.on_push(
        lambda _: [ci.lost("a"), ci.cancelled("b"), ci.timed_out("c"), ci.skipped("d")]
    )
    await pushed(hub, "x\n")
    a, b, c, d = await jobs_of(hub, workflow.runs[-1])
    assert [one["conclusion"] for one in (a, b, c, d)] == ["failure", "cancelled", "timed_out", "skipped"]
    assert [(step["status"], step["conclusion"]) for step in a["steps"]] == [
        ("completed", "success"),
        ("in_progress", None),
    ]
    assert (d["steps"], d["runner_id"]) == ([], None)
    assert workflow.runs[-1].conclusion == "failure"
    assert (await download(await link(hub, a["id"]))).status_code == 404


async def test_a_workflow_that_cannot_begin_has_a_suite_and_no_job(hub: Any) -> None:
    workflow = hub.running.on_push(lambda _: ci.StartupFailure())
    head = await pushed(hub, "x\n")
    assert await jobs_of(hub, workflow.runs[-1]) == []
    assert (await hub.bot.get(f"{HERE}/commits/{head}/check-runs")).json()["total_count"] == 0
    [suite] = (await hub.bot.get(f"{HERE}/commits/{head}/check-suites")).json()["check_suites"]
    assert (suite["status"], suite["conclusion"], suite["latest_check_runs_count"]) == (
        "completed",
        "startup_failure",
        0,
    )
    assert hub.hooks("check_suite")[-1]["check_suite"]["conclusion"] == "startup_failure"


async def test_a_run_is_cancelled_by_its_button_and_by_the_next_push(hub: Any) -> None:
    workflow = fails_while_it_subtracts(hub, cancel_in_progress=True)
    workflow.hold()
    await hub.branch("topic", {})
    await hub.world.settled()  # what has not been queued yet cannot be cancelled
    await hub.branch("topic", {"calc.py": "a - b\n"})
    await hub.world.settled()
    assert [run.conclusion for run in workflow.runs] == ["cancelled", None]  # the branch, then its commit
    last = workflow.runs[-1]
    assert (await hub.bot.post(f"{RUNS}/{last.id}/cancel")).status_code == 403
    assert (await hub.wim.post(f"{RUNS}/{last.id}/cancel")).status_code == 202
    assert (last.status, last.conclusion) == ("completed", "cancelled")
    assert (await hub.wim.post(f"{RUNS}/{last.id}/cancel")).status_code == 409
    assert {job["conclusion"] for job in await jobs_of(hub, last)} == {"cancelled"}


# --- attempts ----------------------------------------------------------------------------------------------------------


async def test_a_rerun_is_another_attempt_in_the_same_suite(hub: Any) -> None:
    rows = (ci.Row("flaky", WRONG, attempts=1), ci.Row("lint", WRONG, path="no.py"))
    workflow = hub.running.on_push(ci.table(*rows))
    head = await pushed(hub, "x\n", branch="main")
    [run] = workflow.runs
    first = await jobs_of(hub, run)
    for refused in (hub.bot, hub.rita):
        assert (await refused.post(f"{RUNS}/{run.id}/rerun-failed-jobs")).status_code == 403
    assert (await hub.ada.post(f"{RUNS}/{run.id}/rerun-failed-jobs")).status_code == 201
    await hub.world.settled()
    assert (run.attempt, run.conclusion) == (2, "success")
    shown = (await hub.bot.get(f"{RUNS}/{run.id}")).json()
    assert (shown["run_attempt"], shown["actor"]["login"], shown["triggering_actor"]["login"]) == (
        2,
        "wim",
        "ada",
    )
    now = {one["name"]: one for one in await jobs_of(hub, run)}
    assert {one["name"] for one in await jobs_of(hub, run, filter="all")} == {"flaky", "lint"}
    assert len(await jobs_of(hub, run, filter="all")) == 3
    assert (now["flaky"]["run_attempt"], now["flaky"]["conclusion"]) == (2, "success")
    assert now["lint"]["id"] in {one["id"] for one in first}
    url = f"{HERE}/commits/{head}/check-runs"
    assert {one["conclusion"] for one in (await hub.bot.get(url)).json()["check_runs"]} == {"success"}
    assert (await hub.bot.get(url, params={"filter": "all"})).json()["total_count"] == 3
    before = (await hub.bot.get(f"{RUNS}/{run.id}/attempts/1/jobs")).json()["jobs"]
    assert {one["id"] for one in before} == {one["id"] for one in first}
    assert (await hub.bot.get(f"{RUNS}/{run.id}/attempts/3/jobs")).status_code == 404
    assert (await hub.ada.post(f"{RUNS}/{run.id}/rerun-failed-jobs")).status_code == 403  # none failed
    workflow.hold()
    assert (await hub.wim.post(f"{HERE}/actions/jobs/{now['lint']['id']}/rerun")).status_code == 201
    await hub.world.settled()
    assert (await hub.wim.post(f"{RUNS}/{run.id}/rerun")).status_code == 403  # under way
    await workflow.release()
    assert (await hub.wim.post(f"{RUNS}/{run.id}/rerun")).status_code == 201
    await hub.world.settled()
    assert (run.attempt, len(await jobs_of(hub, run, filter="all"))) == (4, 6)


async def test_a_pull_request_is_held_back_by_ci_until_a_rerun_passes(hub: Any) -> None:
    workflow = hub.running.on_push(ci.table(ci.Row("flaky", WRONG, attempts=1)), branches=["topic"])
    sent = {
        "required_status_checks": {"strict": False, "contexts": ["flaky"]},
        "enforce_admins": True,
        "required_pull_request_reviews": None,
        "restrictions": None,
    }
    await hub.branch("topic", {"calc.py": "x\n"})
    await hub.world.settled()
    number = await hub.pull(files={"calc.py": "y\n"})
    await hub.world.settled()
    url = f"{HERE}/pulls/{number}"
    assert (await hub.ada.get(url)).json()["mergeable_state"] == "unstable"
    assert (await hub.ada.put(f"{HERE}/branches/main/protection", json=sent)).status_code == 200
    assert (await hub.wim.put(f"{url}/merge", json={})).status_code == 405
    await hub.wim.post(f"{RUNS}/{workflow.runs[-1].id}/rerun")
    await hub.world.settled()
    assert (await hub.ada.get(url)).json()["mergeable_state"] == "clean"
    assert (await hub.wim.put(f"{url}/merge", json={})).status_code == 200


# --- lists --------------------------------------------------------------------------------------------------------------


async def test_runs_are_picked_and_paged(hub: Any) -> None:
    fails_while_it_subtracts(hub)
    first = await pushed(hub, "a - b\n", branch="main")
    await pushed(hub, "a + b\n", branch="main")
    await pushed(hub, "a / b\n")
    for query, count in (
        ({}, 4),
        ({"head_sha": first}, 1),
        ({"branch": "topic"}, 2),
        ({"status": "failure"}, 1),
        ({"status": "completed"}, 4),
        ({"event": "pull_request"}, 0),
        ({"actor": "wim"}, 4),
        ({"actor": "ada"}, 0),
    ):
        assert (await hub.bot.get(RUNS, params=query)).json()["total_count"] == count, query
    page = await hub.bot.get(RUNS, params={"per_page": "3", "page": "2"})
    assert (len(page.json()["workflow_runs"]), "prev" in page.links) == (1, True)
    newest = (await hub.bot.get(RUNS)).json()["workflow_runs"]
    assert [one["run_number"] for one in newest] == [4, 3, 2, 1]


async def test_what_is_not_there_is_not_found(hub: Any) -> None:
    for url in (
        f"{RUNS}/1",
        f"{RUNS}/1/jobs",
        f"{RUNS}/1/attempts/1/jobs",
        f"{HERE}/actions/jobs/1",
        f"{HERE}/actions/jobs/1/logs",
    ):
        assert (await hub.bot.get(url)).status_code == 404
    for url in (
        f"{RUNS}/1/rerun",
        f"{RUNS}/1/rerun-failed-jobs",
        f"{RUNS}/1/cancel",
        f"{HERE}/actions/jobs/1/rerun",
    ):
        assert (await hub.wim.post(url)).status_code == 404


async def test_an_app_without_actions_read_sees_none_of_it(hub: Any) -> None:
    workflow = fails_while_it_subtracts(hub)
    await pushed(hub, "x\n")
    run, job = workflow.runs[0].id, next(iter(hub.repo.jobs))
    client = hub.installation({"metadata": "read", "contents": "write", "checks": "read", "statuses": "read"})
    for url in (
        RUNS,
        f"{RUNS}/{run}",
        f"{RUNS}/{run}/jobs",
        f"{HERE}/actions/jobs/{job}",
        f"{HERE}/actions/jobs/{job}/logs",
    ):
        refused = await client.get(url)
        assert (refused.status_code, refused.json()["message"]) == (
            403,
            "Resource not accessible by integration",
        )
    assert (await hub.as_user(None).get(RUNS)).status_code == 404
    hub.repo.private = False
    assert (await hub.as_user(None).get(RUNS)).status_code == 200
    assert (await hub.as_user(None).get(f"{HERE}/actions/jobs/{job}/logs")).status_code == 403


# --- logs ---------------------------------------------------------------------------------------------------------------


async def test_a_log_lies_on_another_host_that_wants_no_token(hub: Any) -> None:
    hub.running.on_push(lambda _: [ci.failing("tests", "\x1b[31mE   assert\x1b[0m\n##[warning]slow")])
    await pushed(hub, "x\n", branch="main")
    [job] = hub.repo.jobs
    location = await link(hub, job)
    assert httpx.URL(location).netloc != httpx.URL(hub.running.base_url).netloc
    counted = len(hub.world.requests)
    got = await download(location)
    lines = got.text.splitlines()
    assert got.headers["content-type"].startswith("text/plain")
    assert lines[0].startswith("\ufeff20")
    assert "Z \x1b[31mE   assert\x1b[0m" in got.text
    assert any(line.endswith("Z ##[error]Process completed with exit code 1.") for line in lines)
    assert all(line.lstrip("\ufeff")[10] == "T" and line.lstrip("\ufeff")[27] == "Z" for line in lines)
    leaked = await download(location, Authorization="Bearer secret")
    assert (leaked.status_code, leaked.headers["x-ms-error-code"]) == (400, "InvalidAuthenticationInfo")
    assert [("authorization" in one.headers, one.status) for one in hub.world.log_requests] == [
        (False, 200),
        (True, 400),
    ]
    told = (await hub.running.client().get("/_simulator/logs")).json()
    assert [one["status"] for one in told] == [200, 400]
    assert len(hub.world.requests) == counted


async def test_a_link_to_a_log_lives_a_minute(hub: Any) -> None:
    hub.running.on_push(lambda _: [ci.passing("tests")])
    await pushed(hub, "x\n", branch="main")
    location = await link(hub, next(iter(hub.repo.jobs)))
    assert (await download(location)).status_code == 200
    assert (await download(location.replace("&sig=", "&sig=x"))).status_code == 403
    await desk(hub, "clock", advance_seconds=61)
    assert (await download(location)).status_code == 403


async def test_a_part_of_a_log_can_be_asked_for_from_its_start_alone(hub: Any) -> None:
    hub.running.on_push(lambda _: [ci.passing("tests", "much\n" * 60_000)])
    await pushed(hub, "x\n", branch="main")
    location = await link(hub, next(iter(hub.repo.jobs)))
    whole = (await download(location)).content
    assert len(whole) > 2_000_000
    part = await download(location, Range="bytes=2000000-")
    assert (part.status_code, part.content) == (206, whole[2_000_000:])
    assert part.headers["content-range"] == f"bytes 2000000-{len(whole) - 1}/{len(whole)}"
    assert (await download(location, Range="bytes=5-9")).content == whole[5:10]
    assert (await download(location, Range="bytes=-9")).content == whole
    assert (await download(location, Range=f"bytes={len(whole)}-")).status_code == 416


async def test_a_log_is_there_after_the_job_and_until_it_expires(hub: Any) -> None:
    workflow = hub.running.on_push(lambda _: [ci.passing("tests")])
    workflow.hold()
    await pushed(hub, "x\n", branch="main")
    [job] = hub.repo.jobs
    url = f"{HERE}/actions/jobs/{job}/logs"
    assert (await hub.bot.get(url)).status_code == 404
    await workflow.begin()
    assert (await hub.bot.get(url)).status_code == 404
    await workflow.finish()
    assert (await hub.bot.get(url)).status_code == 302
    assert (await desk(hub, "logs", job_id=job, state="deleted")).status_code == 200
    assert (await download(await link(hub, job))).status_code == 404
    await desk(hub, "logs", job_id=job, state="expired")
    assert (await hub.bot.get(url)).status_code == 410


async def test_the_host_of_logs_can_be_made_to_fail(hub: Any) -> None:
    hub.running.on_push(lambda _: [ci.passing("tests")])
    await pushed(hub, "x\n", branch="main")
    location = await link(hub, next(iter(hub.repo.jobs)))
    await desk(hub, "faults", kind="status", route="job-logs", status=503)
    assert (await download(location)).status_code == 503
    await desk(hub, "faults", kind="drop_before", route="job-logs")
    with pytest.raises(httpx.TransportError):
        await download(location)
    assert (await download(location)).status_code == 200


# --- from the control desk ----------------------------------------------------------------------------------------------


async def test_the_desk_declares_a_workflow_as_a_table_and_sets_its_pace(hub: Any) -> None:
    rows = [
        {
            "job": "tests",
            "path": "calc.py",
            "holds": "a - b",
            "step": "Run pytest",
            "log": "1 failed",
            "annotations": [{"path": "calc.py", "line": 2, "message": "wrong"}],
        },
        {"job": "docs", "path": "README.md", "lacks": "Usage", "end": "cancelled"},
        {"job": "flaky", "end": "lost", "attempts": 1},
    ]
    made = (await desk(hub, "workflows", repository="octo/sample", name="Build", jobs=rows)).json()
    number = made["id"]
    assert (await desk(hub, "ci", workflow=number, do="hold")).status_code == 200
    await pushed(hub, "a - b\n", branch="main")
    shown = (await desk(hub, "ci", workflow=number, do="begin")).json()
    assert [(run["status"], run["attempt"]) for run in shown["runs"]] == [("in_progress", 1)]
    for do in ("finish", "release"):
        await desk(hub, "ci", workflow=number, do=do)
    [workflow] = (await hub.running.client().get("/_simulator/workflows")).json()
    assert (workflow["name"], workflow["runs"][0]["conclusion"]) == ("Build", "failure")
    run = hub.repo.workflow_runs[workflow["runs"][0]["id"]]
    ended = {one["name"]: one["conclusion"] for one in await jobs_of(hub, run)}
    assert ended == {"tests": "failure", "docs": "cancelled", "flaky": "failure"}


@pytest.mark.parametrize(
    ("what", "sent", "status"),
    [
        ("workflows", {"repository": "octo/none", "jobs": [{"job": "x"}]}, 404),
        ("workflows", {"repository": "octo/sample"}, 422),
        ("workflows", {"repository": "octo/sample", "jobs": ["x"]}, 422),
        ("workflows", {"repository": "octo/sample", "jobs": [{"path": "x"}]}, 422),
        ("workflows", {"repository": "octo/sample", "jobs": [{"job": "x", "end": "great"}]}, 422),
        ("workflows", {"repository": "octo/sample", "jobs": [{"job": "x", "while": "y"}]}, 422),
        ("workflows", {"repository": "octo/sample", "jobs": [{"job": "x"}], "on": ["schedule"]}, 422),
        ("workflows", {"repository": "octo/sample", "jobs": [{"job": "x"}], "seconds": "long"}, 422),
        ("ci", {"workflow": 1, "do": "hold"}, 404),
        ("logs", {"job_id": 1, "state": "expired"}, 404),
    ],
)
async def test_the_desk_refuses_what_it_cannot_play(
    hub: Any, what: str, sent: dict[str, Any], status: int
) -> None:
    assert (await desk(hub, what, **sent)).status_code == status


async def test_the_desk_knows_its_words(hub: Any) -> None:
    workflow = hub.running.on_push(lambda _: [ci.passing("tests")])
    await pushed(hub, "x\n", branch="main")
    assert (await desk(hub, "ci", workflow=workflow.id, do="dance")).status_code == 422
    [job] = hub.repo.jobs
    assert (await desk(hub, "logs", job_id=job, state="lost")).status_code == 422
