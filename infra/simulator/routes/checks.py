"""Check runs, check suites and commit statuses, as they are read; statuses are also written.

Check runs are written by Apps that hold `checks: write`, which ours does not. What other Apps, such as a CI service,
report is put in with `report`, which the control desk offers as `POST /_simulator/checks`.

https://docs.github.com/rest/checks and https://docs.github.com/rest/commits/statuses
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from infra.simulator import payloads, shapes_git
from infra.simulator.answers import invalid_field, not_found, unprocessable
from infra.simulator.call import Body, Call, endpoint
from infra.simulator.git import CommitObject
from infra.simulator.protection import is_protected
from infra.simulator.shapes_people import api
from infra.simulator.shapes_people import check_run as run_shape
from infra.simulator.shapes_people import check_suite as suite_shape
from infra.simulator.shapes_people import status as status_shape
from infra.simulator.state import CheckRun, CheckSuite, Repo, Status, World
from infra.simulator.suites import add_run, latest, open_suite, runs_of, settle, tell_completed, tell_run

_RUN_STATUSES = ("queued", "in_progress", "completed")
_CONCLUSIONS = (
    "success",
    "failure",
    "neutral",
    "cancelled",
    "skipped",
    "timed_out",
    "action_required",
    "stale",
)
_STATES = ("error", "failure", "pending", "success")


async def _commit(call: Call, repo: Repo) -> CommitObject:
    """The commit that the path's `ref` names. 422 for none, as GitHub says it on these routes."""
    ref = call.text("ref")
    sha = await repo.git.resolve(ref.removeprefix("heads/")) or await repo.git.resolve(ref)
    found = await repo.git.commit(sha) if sha else None
    if found is None:
        raise unprocessable(f"No commit found for SHA: {ref}")
    return found


# --- check runs ------------------------------------------------------------------------------------------------------


def _wanted(call: Call, run: CheckRun) -> bool:
    name, status = call.query("check_name"), call.query("status")
    return name in ("", run.name) and status in ("", run.status)


def _runs(call: Call, repo: Repo, runs: list[CheckRun]) -> Response:
    found = [run for run in runs if _wanted(call, run)]
    found = found if call.query("filter") == "all" else latest(found)
    return call.page(found, lambda run: run_shape(call.world, repo, run), envelope="check_runs")


@endpoint("GET", "/repos/{owner}/{repo}/commits/{ref}/check-runs")
async def list_check_runs(call: Call) -> Response:
    repo = call.repo("checks", "read")
    head = await _commit(call, repo)
    return _runs(call, repo, [run for run in repo.check_runs.values() if run.head_sha == head.sha])


@endpoint("GET", "/repos/{owner}/{repo}/check-suites/{check_suite_id}/check-runs")
async def list_suite_runs(call: Call) -> Response:
    repo = call.repo("checks", "read")
    suite = repo.check_suites.get(call.number("check_suite_id"))
    if suite is None:
        raise not_found()
    return _runs(call, repo, [run for run in repo.check_runs.values() if run.suite_id == suite.id])


@endpoint("GET", "/repos/{owner}/{repo}/check-runs/{check_run_id}")
async def get_check_run(call: Call) -> Response:
    repo = call.repo("checks", "read")
    run = repo.check_runs.get(call.number("check_run_id"))
    if run is None:
        raise not_found()
    return call.answer(run_shape(call.world, repo, run))


@endpoint("GET", "/repos/{owner}/{repo}/check-runs/{check_run_id}/annotations")
async def list_annotations(call: Call) -> Response:
    repo = call.repo("checks", "read")
    run = repo.check_runs.get(call.number("check_run_id"))
    if run is None:
        raise not_found()
    return call.page(run.annotations, lambda one: one)


# --- check suites ----------------------------------------------------------------------------------------------------


def _suite(world: World, repo: Repo, suite: CheckSuite, head: CommitObject) -> dict[str, Any]:
    return {**suite_shape(world, repo, suite, head), "repository": shapes_git.minimal_repository(world, repo)}


@endpoint("GET", "/repos/{owner}/{repo}/commits/{ref}/check-suites")
async def list_check_suites(call: Call) -> Response:
    repo = call.repo("checks", "read")
    head = await _commit(call, repo)
    found = [suite for suite in repo.check_suites.values() if suite.head_sha == head.sha]
    return call.page(found, lambda suite: _suite(call.world, repo, suite, head), envelope="check_suites")


@endpoint("GET", "/repos/{owner}/{repo}/check-suites/{check_suite_id}")
async def get_check_suite(call: Call) -> Response:
    repo = call.repo("checks", "read")
    suite = repo.check_suites.get(call.number("check_suite_id"))
    head = await repo.git.commit(suite.head_sha) if suite else None
    if suite is None or head is None:
        raise not_found()
    return call.answer(_suite(call.world, repo, suite, head))


# --- what another App reports ----------------------------------------------------------------------------------------


async def report(world: World, sent: Mapping[str, Any]) -> dict[str, Any]:
    """A check run by another App: `{repository, sha, name, status, conclusion, app, title, summary, text, annotations}`.

    `app` is the other App's slug ("ci" by default). The suite is made with its first run and is complete when all
    its runs are. Runs of one name by one App on one commit follow each other: an unfinished one is brought on, a
    finished one is repeated. Raises 404 for a repository or commit there is not, 422 for a word GitHub has not.
    """
    body = Body(sent)
    repo = world.repository(body.string("repository"))
    sha = await repo.git.resolve(body.string("sha")) if repo else None
    head = await repo.git.commit(sha) if repo and sha else None
    if repo is None or head is None:
        raise not_found()
    status, conclusion = body.string_or("status", "completed"), body.string_or("conclusion", None)
    if status not in _RUN_STATUSES or (conclusion is not None and conclusion not in _CONCLUSIONS):
        raise unprocessable("no such status or conclusion")
    if (status == "completed") != (conclusion is not None):
        raise unprocessable("a conclusion is for completed runs, and they need one")
    suite = await _suite_of(world, repo, head, body.string_or("app", "ci"))
    run, created = _put_run(world, repo, suite, body, status=status, conclusion=conclusion)
    settle(world, repo, suite)
    sender = world.user(repo.owner_id)  # the other App has no account of its own here
    if created:
        tell_run(world, repo, run, head, sender, "created")
    if status == "completed":
        tell_run(world, repo, run, head, sender, "completed")
    if suite.status == "completed":
        tell_completed(world, repo, suite, head, sender)
    return run_shape(world, repo, run)


async def _suite_of(world: World, repo: Repo, head: CommitObject, slug: str) -> CheckSuite:
    for suite in repo.check_suites.values():
        if (suite.head_sha, suite.app_slug) == (head.sha, slug):
            return suite
    branches = [name for name, sha, _ in await repo.git.refs("refs/heads/") if sha == head.sha]
    branch = branches[0].removeprefix("refs/heads/") if branches else None
    return open_suite(world, repo, head.sha, branch, slug)


def _put_run(
    world: World, repo: Repo, suite: CheckSuite, body: Body, *, status: str, conclusion: str | None
) -> tuple[CheckRun, bool]:
    name = body.string("name")
    same = [run for run in runs_of(repo, suite) if run.name == name]
    run = next((run for run in same if run.status != "completed"), None)
    created = run is None
    if run is None:
        run = add_run(world, repo, suite, name)
    run.status, run.conclusion = status, conclusion
    run.completed_at = world.now() if status == "completed" else None
    run.title = body.string_or("title", run.title)
    run.summary = body.string_or("summary", run.summary)
    run.text = body.string_or("text", run.text)
    run.annotations = body.list_or("annotations", run.annotations)
    return run, created


# --- statuses --------------------------------------------------------------------------------------------------------


@endpoint("POST", "/repos/{owner}/{repo}/statuses/{sha}", creates_content=True)
async def create_status(call: Call) -> Response:
    repo = call.repo("statuses", "write")
    body, world = await call.body(), call.world
    state, sha = body.string("state"), call.text("sha")
    if state not in _STATES:
        raise invalid_field("Status", "state")
    head = await repo.git.commit(sha) if len(sha) == 40 else None
    if head is None:
        raise unprocessable(f"No commit found for SHA: {sha}")
    description = body.string_or("description", None)
    if description is not None and len(description) > 140:
        message = "description is too long (maximum is 140 characters)"
        raise invalid_field("Status", "description", "custom", message)
    context, now = body.string_or("context", "default"), world.now()
    one = Status(
        world.next_id(),
        sha,
        state,
        context,
        call.actor.id,
        now,
        now,
        description,
        body.string_or("target_url", None),
    )
    repo.statuses.append(one)
    commit = shapes_git.commit(world, repo, head)
    branches = await _branches(repo, sha)
    world.emit("status", None, repo, payloads.status(world, repo, one, commit, branches))
    return call.answer(status_shape(world, repo, one), 201)


async def _branches(repo: Repo, sha: str) -> list[tuple[str, str, bool]]:
    found = []
    for ref, tip, _ in await repo.git.refs("refs/heads/"):
        name = ref.removeprefix("refs/heads/")
        if await repo.git.is_ancestor(sha, tip):
            found.append((name, tip, is_protected(repo, name)))
    return found


def _newest(repo: Repo, sha: str) -> list[Status]:
    newest = {one.context: one for one in repo.statuses if one.sha == sha}
    return sorted(newest.values(), key=lambda one: one.id)


@endpoint("GET", "/repos/{owner}/{repo}/commits/{ref}/status")
async def get_combined_status(call: Call) -> Response:
    repo = call.repo("statuses", "read")
    head = await _commit(call, repo)
    newest = _newest(repo, head.sha)
    states = {one.state for one in newest}
    good = "success" if states == {"success"} else "pending"
    state = "failure" if states & {"error", "failure"} else good
    part, headers = call.cut(newest)
    shaped = []
    for one in part:
        shape = status_shape(call.world, repo, one)
        del shape["creator"]
        shaped.append(shape)
    url = f"{api(call.world, repo)}/commits/{head.sha}"
    answer = {
        "state": state,
        "statuses": shaped,
        "sha": head.sha,
        "total_count": len(newest),
        "repository": shapes_git.minimal_repository(call.world, repo),
        "commit_url": url,
        "url": f"{url}/status",
    }
    return call.answer(answer, headers=headers)


@endpoint("GET", "/repos/{owner}/{repo}/commits/{ref}/statuses")
async def list_statuses(call: Call) -> Response:
    repo = call.repo("statuses", "read")
    head = await _commit(call, repo)
    found = [one for one in reversed(repo.statuses) if one.sha == head.sha]
    return call.page(found, lambda one: status_shape(call.world, repo, one))


endpoints = [
    list_check_runs,
    list_suite_runs,
    get_check_run,
    list_annotations,
    list_check_suites,
    get_check_suite,
    create_status,
    get_combined_status,
    list_statuses,
]
