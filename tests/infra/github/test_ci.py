"""What the adapter reads of CI: failed checks and the ends of logs, from GitHub Actions as the simulator plays it."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from app.errors import DeniedError, MissingError, TransientError
from infra.github import checks
from infra.simulator import ci

BROKEN = "def total(items):\n    return sum(items[:-1])\n"


async def put(desk: Any, text: str, *, path: str = "src/total.py", branch: str = "main") -> str:
    """Commits a file; returns the new head, once CI has ended on it."""
    got = await desk.people.get(f"/repos/octo/sample/contents/{path}", params={"ref": branch})
    sent = {"message": "Change", "branch": branch, "content": base64.b64encode(text.encode()).decode()}
    if got.status_code == 200:
        sent["sha"] = got.json()["sha"]
    made = await desk.by_hand("PUT", f"/contents/{path}", **sent)
    await desk.sim.world.settled()
    return str(made["commit"]["sha"])


async def report(desk: Any, sha: str, name: str, conclusion: str, **fields: Any) -> None:
    sent = {"repository": "octo/sample", "sha": sha, "name": name, "conclusion": conclusion, **fields}
    (await desk.people.post("/_simulator/checks", json=sent)).raise_for_status()


async def failed(desk: Any, sha: str) -> list[Any]:
    async with desk.reader() as reader:
        return list(await reader.failed_checks(sha))


async def test_a_job_fails_while_a_file_holds_a_mistake_and_passes_when_it_is_mended(desk: Any) -> None:
    log = "E   assert 1 == 3\n1 failed, 4 passed"
    end = ci.failing("tests", log, step="Run pytest -q", annotations=[("src/total.py", 2, "assert 1 == 3")])
    desk.sim.on_push(
        ci.table(ci.Row("tests", end, path="src/total.py", holds="[:-1]"), ci.Row("lint", end, path="x"))
    )
    [one] = await failed(desk, sha := await put(desk, BROKEN + "\n"))
    assert (one.name, one.conclusion, one.steps) == ("tests", "failure", ("Run pytest -q",))
    assert one.said == "src/total.py:2: assert 1 == 3\nProcess completed with exit code 1."
    assert one.url.endswith(f"/job/{one.job_id}")
    async with desk.reader() as reader:
        text = await reader.job_log(one.job_id, last_bytes=100_000)
        assert (await reader.checks(sha)).failed == 1
    assert text.startswith("Current runner version")
    assert "##[group]Run pytest -q\n\x1b[36;1mpytest -q\x1b[0m\n" in text
    assert "\nE   assert 1 == 3\n1 failed, 4 passed\n##[error]Process completed with exit code 1.\n" in text
    assert await failed(desk, await put(desk, "def total(items):\n    return sum(items)\n")) == []


async def test_the_token_does_not_follow_to_the_host_of_logs(desk: Any) -> None:
    desk.sim.on_push(lambda _: [ci.failing("tests", "no")])
    [one] = await failed(desk, await put(desk, "x\n"))
    async with desk.reader() as reader:
        await reader.job_log(one.job_id, last_bytes=1_000)
    [asked] = desk.sim.world.log_requests
    assert (asked.status, asked.path.endswith("/job-logs.txt")) == (200, True)
    assert "authorization" not in asked.headers
    assert not any("ghs_" in value for value in asked.headers.values())


async def test_of_a_log_of_megabytes_only_the_end_comes_over_the_wire(
    desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = "".join(f"line {number} of much\n" for number in range(40_000))
    desk.sim.on_push(lambda _: [ci.failing("tests", lines)])
    [one] = await failed(desk, await put(desk, "x\n"))
    size = len(desk.sim.world.repositories[desk.repository_id].jobs[one.job_id].log)
    async with desk.reader() as reader:
        whole = await reader.job_log(one.job_id, last_bytes=10_000_000)
        end = await reader.job_log(one.job_id, last_bytes=5_000)
        assert len(desk.sim.world.log_requests) == 2
        monkeypatch.setattr(checks, "WHOLE_LOG", 100_000)
        assert await reader.job_log(one.job_id, last_bytes=5_000) == end
    assert whole.endswith(end)
    assert end.startswith("line 39")
    assert 2_000 < len(end) < 5_000
    assert len(whole) > 700_000
    assert desk.sim.world.log_requests[-1].headers["range"] == f"bytes={size - 5_001}-"
    assert desk.sim.world.log_requests[-1].status == 206


async def test_a_log_that_is_not_there_is_missing(desk: Any) -> None:
    workflow = desk.sim.on_push(lambda code: [ci.failing("tests", "no"), ci.lost("slow")])
    workflow.hold()
    sha = await put(desk, "x\n")
    await workflow.begin()
    repo = desk.sim.world.repositories[desk.repository_id]
    async with desk.reader() as reader:
        assert await reader.failed_checks(sha) == []
        assert (await reader.checks(sha)).pending == 2
        with pytest.raises(MissingError):  # in progress
            await reader.job_log(next(iter(repo.jobs)), last_bytes=100)
        await workflow.finish()
        tests, slow = await reader.failed_checks(sha)
        with pytest.raises(MissingError):  # the runner left none
            await reader.job_log(slow.job_id, last_bytes=100)
        repo.jobs[tests.job_id].log_state = "expired"
        with pytest.raises(MissingError) as expired:
            await reader.job_log(tests.job_id, last_bytes=100)
        with pytest.raises(MissingError):
            await reader.job_log(1, last_bytes=100)
    assert expired.value.reason == "log_expired"
    assert (slow.conclusion, slow.steps) == ("failure", ("Run tests",))
    assert "lost communication with the server" in slow.said


async def test_a_log_s_host_that_fails_is_asked_again_and_then_is_briefly_away(desk: Any) -> None:
    desk.sim.on_push(lambda _: [ci.failing("tests", "no")])
    [one] = await failed(desk, await put(desk, "x\n"))
    async with desk.reader() as reader:
        desk.fault(kind="status", route="job-logs", status=503)
        assert await reader.job_log(one.job_id, last_bytes=100) == "Cleaning up orphan processes\n"
        desk.fault(kind="status", route="job-logs", status=503, times=9)
        with pytest.raises(TransientError):
            await reader.job_log(one.job_id, last_bytes=100)


@pytest.mark.parametrize("taken", ["actions", "checks", "statuses"])
async def test_a_permission_that_was_not_granted_is_said(desk: Any, taken: str) -> None:
    desk.sim.on_push(lambda _: [ci.failing("tests", "no")])
    [one] = await failed(desk, sha := await put(desk, "x\n"))
    async with desk.reader() as reader:
        for token in desk.sim.world.tokens.values():
            token.permissions.pop(taken, None)
        with pytest.raises(DeniedError) as refused:
            await reader.failed_checks(sha)
        if taken == "actions":
            with pytest.raises(DeniedError) as refused:
                await reader.job_log(one.job_id, last_bytes=100)
    assert refused.value.reason == "permission_not_granted"


async def test_more_than_a_hundred_checks_are_all_read(desk: Any) -> None:
    jobs = [ci.passing(f"job {n}") for n in range(120)] + [ci.failing("the last", "no")]
    jobs.insert(0, ci.failing("the first", "no"))
    desk.sim.on_push(lambda _: jobs)
    found = await failed(desk, await put(desk, "x\n"))
    assert [one.name for one in found] == ["the first", "the last"]
    assert all(one.job_id and one.steps == ("Run tests",) for one in found)


async def test_a_rerun_takes_the_place_of_what_it_repeats(desk: Any) -> None:
    workflow = desk.sim.on_push(
        ci.table(
            ci.Row("flaky", ci.failing("flaky", "no"), attempts=1), ci.Row("ok", ci.passing("ok"), attempts=0)
        )
    )
    [one] = await failed(desk, sha := await put(desk, "x\n"))
    await desk.by_hand("POST", f"/actions/runs/{workflow.runs[0].id}/rerun-failed-jobs")
    await desk.sim.world.settled()
    assert await failed(desk, sha) == []
    workflow.hold()
    await desk.by_hand("POST", f"/actions/runs/{workflow.runs[0].id}/rerun")
    await desk.sim.world.settled()
    async with desk.reader() as reader:
        assert await reader.failed_checks(sha) == []  # not known yet
        assert (await reader.checks(sha)).pending == 2
        assert "no\n" in await reader.job_log(one.job_id, last_bytes=1_000)  # the earlier attempt's is kept


async def test_one_that_failed_on_a_push_and_on_its_pull_request_is_one_failure(desk: Any) -> None:
    desk.sim.on_push(lambda _: [ci.failing("tests", "no")], on=("push", "pull_request"), name="CI")
    desk.sim.on_push(lambda _: [ci.failing("tests", "no")], name="Nightly")
    main = (await desk.by_hand("GET", "/git/ref/heads/main"))["object"]["sha"]
    await desk.by_hand("POST", "/git/refs", ref="refs/heads/topic", sha=main)
    sha = await put(desk, "x\n", branch="topic")
    assert len(await failed(desk, sha)) == 2
    await desk.by_hand("POST", "/pulls", title="T", head="topic", base="main")
    await desk.sim.world.settled()
    found = await failed(desk, sha)
    assert [one.name for one in found] == ["tests", "tests"]
    assert len(desk.sim.world.repositories[desk.repository_id].jobs) >= 5


async def test_other_apps_checks_and_statuses_have_no_job(desk: Any) -> None:
    sha = (await desk.by_hand("GET", "/git/ref/heads/main"))["object"]["sha"]
    note = {
        "path": "a.py",
        "start_line": 3,
        "end_line": 3,
        "annotation_level": "warning",
        "title": "F401",
        "message": "unused",
    }
    worse = {**note, "annotation_level": "failure", "message": "undefined"}
    await report(
        desk, sha, "quality", "failure", title="2 found", summary="s" * 5_000, annotations=[note, worse]
    )
    await report(desk, sha, "slow", "timed_out")
    await report(desk, sha, "fine", "success")
    await report(
        desk, sha, "tests report", "failure", app="github-actions", summary="made by a step, with no log"
    )
    await desk.by_hand(
        "POST",
        f"/statuses/{sha}",
        state="error",
        context="deploy",
        description="No disk",
        target_url="https://ci.example/1",
    )
    await desk.by_hand("POST", f"/statuses/{sha}", state="failure", context="flaky")
    await desk.by_hand("POST", f"/statuses/{sha}", state="success", context="flaky")
    found = {one.name: one for one in await failed(desk, sha)}
    assert {name: one.conclusion for name, one in found.items()} == {
        "quality": "failure",
        "slow": "timed_out",
        "tests report": "failure",
        "deploy": "error",
    }
    assert {one.job_id for one in found.values()} == {None}
    assert (found["deploy"].said, found["deploy"].url) == ("No disk", "https://ci.example/1")
    assert found["quality"].said.startswith("2 found\nsss")
    assert found["quality"].said.endswith("s\na.py:3: F401: undefined\na.py:3: F401: unused")
    assert len(found["quality"].said) < 4_000


async def test_what_a_check_says_is_bounded(desk: Any) -> None:
    notes = [("a.py", number, "m" * 500) for number in range(50)]
    desk.sim.on_push(lambda _: [ci.failing("tests", "no", annotations=notes)])
    [one] = await failed(desk, await put(desk, "x\n"))
    assert len(one.said) == 4_000


async def test_a_workflow_that_could_not_begin_is_a_failure_without_a_job(desk: Any) -> None:
    desk.sim.on_push(lambda _: ci.StartupFailure())
    [one] = await failed(desk, await put(desk, "x\n"))
    assert (one.name, one.conclusion, one.job_id) == ("CI", "startup_failure", None)


async def test_infrastructure_s_ends_are_told_as_what_they_are(desk: Any) -> None:
    desk.sim.on_push(lambda _: [ci.cancelled("a"), ci.timed_out("b"), ci.skipped("c"), ci.passing("d")])
    found = await failed(desk, await put(desk, "x\n"))
    assert [(one.name, one.conclusion, one.steps) for one in found] == [
        ("a", "cancelled", ("Run tests",)),
        ("b", "timed_out", ("Run tests",)),
    ]
    assert found[0].said == ci.CANCELED
    assert found[1].said.startswith(ci.TOO_LONG)
