"""GitHub Actions, as it is read and asked to run again: workflow runs, their jobs, the jobs' logs.

Workflows are declared and played in `infra.simulator.ci`. What GitHub does with the jobs that a re-run of failed ones
leaves alone is unsettled: here they stay as they are, and `filter=latest` shows each name's newest.

https://docs.github.com/rest/actions/workflow-runs and https://docs.github.com/rest/actions/workflow-jobs
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from starlette.responses import Response

from infra.simulator import logs, shapes_git
from infra.simulator import shapes_people as people
from infra.simulator.answers import Redirect, conflict, forbidden, gone, not_found
from infra.simulator.call import Call, endpoint
from infra.simulator.git import CommitObject
from infra.simulator.shapes_people import api, web, when
from infra.simulator.state import Job, Repo, Step, WorkflowRun, stamp

_RUN = "/repos/{owner}/{repo}/actions/runs/{run_id}"
_JOB = "/repos/{owner}/{repo}/actions/jobs/{job_id}"
_MOST = 1000
_WELL = ("success", "skipped", "neutral")


# --- shapes ----------------------------------------------------------------------------------------------------------


def _run_shape(call: Call, repo: Repo, run: WorkflowRun, head: CommitObject) -> dict[str, Any]:
    """A `workflow-run`."""
    world = call.world
    url = f"{api(world, repo)}/actions/runs/{run.id}"
    suite = repo.check_suites[run.suite_id]
    repository = shapes_git.minimal_repository(world, repo)
    title = head.message.split("\n", 1)[0]
    pulls = people.pulls_at(repo, run.head_sha, run.head_branch)
    return {
        "id": run.id,
        "name": run.name,
        "node_id": run.node_id,
        "head_branch": run.head_branch,
        "head_sha": run.head_sha,
        "path": run.path,
        "display_title": pulls[0].title if pulls and run.event == "pull_request" else title,
        "run_number": run.number,
        "event": run.event,
        "status": run.status,
        "conclusion": run.conclusion,
        "workflow_id": run.workflow_id,
        "check_suite_id": suite.id,
        "check_suite_node_id": suite.node_id,
        "url": url,
        "html_url": f"{web(world, repo)}/actions/runs/{run.id}",
        "pull_requests": []
        if call.query("exclude_pull_requests") == "true"
        else [people.pull_minimal(world, repo, one) for one in pulls],
        "created_at": stamp(run.created_at),
        "updated_at": stamp(run.updated_at),
        "actor": people.user(world, world.user(run.actor_id)),
        "run_attempt": run.attempt,
        "referenced_workflows": [],
        "run_started_at": stamp(run.started_at),
        "triggering_actor": people.user(world, world.user(run.triggering_actor_id)),
        "jobs_url": f"{url}/jobs",
        "logs_url": f"{url}/logs",
        "check_suite_url": f"{api(world, repo)}/check-suites/{suite.id}",
        "artifacts_url": f"{url}/artifacts",
        "cancel_url": f"{url}/cancel",
        "rerun_url": f"{url}/rerun",
        "previous_attempt_url": f"{url}/attempts/{run.attempt - 1}" if run.attempt > 1 else None,
        "workflow_url": f"{api(world, repo)}/actions/workflows/{run.workflow_id}",
        "head_commit": people.simple_commit(head),
        "repository": repository,
        "head_repository": repository,
    }


def _step_shape(one: Step) -> dict[str, Any]:
    return {
        "name": one.name,
        "status": one.status,
        "conclusion": one.conclusion,
        "number": one.number,
        "started_at": when(one.started_at),
        "completed_at": when(one.completed_at),
    }


def _job_shape(call: Call, repo: Repo, job: Job) -> dict[str, Any]:
    """A `job`."""
    world, check, run = call.world, repo.check_runs[job.id], repo.workflow_runs[job.run_id]
    return {
        "id": job.id,
        "run_id": run.id,
        "workflow_name": run.name,
        "head_branch": run.head_branch,
        "run_url": f"{api(world, repo)}/actions/runs/{run.id}",
        "run_attempt": job.attempt,
        "node_id": job.node_id,
        "head_sha": run.head_sha,
        "url": f"{api(world, repo)}/actions/jobs/{job.id}",
        "html_url": check.details_url,
        "status": check.status,
        "conclusion": check.conclusion,
        "created_at": stamp(job.created_at),
        "started_at": stamp(check.started_at),
        "completed_at": when(check.completed_at),
        "name": check.name,
        "steps": [_step_shape(one) for one in job.steps],
        "check_run_url": f"{api(world, repo)}/check-runs/{check.id}",
        "labels": ["ubuntu-latest"],
        "runner_id": job.id if job.runner else None,
        "runner_name": job.runner,
        "runner_group_id": 0 if job.runner else None,
        "runner_group_name": "GitHub Actions" if job.runner else None,
    }


# --- runs ------------------------------------------------------------------------------------------------------------


def _wanted(call: Call, run: WorkflowRun) -> bool:
    status = call.query("status")
    asked = {
        "actor": call.world.user(run.actor_id).login,
        "branch": run.head_branch,
        "event": run.event,
        "head_sha": run.head_sha,
        "check_suite_id": str(run.suite_id),
    }
    return status in ("", run.status, run.conclusion) and all(
        call.query(name) in ("", value) for name, value in asked.items()
    )


@endpoint("GET", "/repos/{owner}/{repo}/actions/runs")
async def list_runs(call: Call) -> Response:
    """Newest first; at most 1,000 where a filter is given."""
    repo = call.repo("actions", "read")
    found = [run for run in reversed(repo.workflow_runs.values()) if _wanted(call, run)][:_MOST]
    part, headers = call.cut(found)
    shaped = [await _shaped(call, repo, run) for run in part]
    return call.answer({"total_count": len(found), "workflow_runs": shaped}, headers=headers)


@endpoint("GET", _RUN)
async def get_run(call: Call) -> Response:
    repo = call.repo("actions", "read")
    return call.answer(await _shaped(call, repo, _run(call, repo)))


@endpoint("POST", f"{_RUN}/rerun")
async def rerun(call: Call) -> Response:
    repo = call.repo("actions", "write")
    return _repeat(call, _run(call, repo), None)


@endpoint("POST", f"{_RUN}/rerun-failed-jobs")
async def rerun_failed_jobs(call: Call) -> Response:
    repo = call.repo("actions", "write")
    run = _run(call, repo)
    ended = [repo.check_runs[job.id] for job in _newest(repo, run)]
    names = frozenset(check.name for check in ended if check.conclusion not in _WELL)
    return _repeat(call, run, names if ended else None)


@endpoint("POST", f"{_RUN}/cancel")
async def cancel(call: Call) -> Response:
    repo = call.repo("actions", "write")
    run = _run(call, repo)
    if run.status == "completed" or not call.world.workflows[run.workflow_id].cancel(run):
        raise conflict("Cannot cancel a workflow run that is completed.")
    return call.answer({}, 202)


def _repeat(call: Call, run: WorkflowRun, names: frozenset[str] | None) -> Response:
    if run.status != "completed":
        raise forbidden("This workflow is already running")
    if names == frozenset():
        raise forbidden("This workflow run has no failed jobs")
    call.world.workflows[run.workflow_id].again(run, call.actor, names=names)
    return call.answer({}, 201)


def _run(call: Call, repo: Repo) -> WorkflowRun:
    found = repo.workflow_runs.get(call.number("run_id"))
    if found is None:
        raise not_found()
    return found


async def _shaped(call: Call, repo: Repo, run: WorkflowRun) -> dict[str, Any]:
    head = await repo.git.commit(run.head_sha)
    assert head is not None
    return _run_shape(call, repo, run, head)


# --- jobs ------------------------------------------------------------------------------------------------------------


def _of(repo: Repo, run: WorkflowRun) -> Iterable[Job]:
    return (job for job in repo.jobs.values() if job.run_id == run.id)


def _newest(repo: Repo, run: WorkflowRun) -> list[Job]:
    return list({repo.check_runs[job.id].name: job for job in _of(repo, run)}.values())


@endpoint("GET", f"{_RUN}/jobs")
async def list_jobs(call: Call) -> Response:
    repo = call.repo("actions", "read")
    run = _run(call, repo)
    found = list(_of(repo, run)) if call.query("filter") == "all" else _newest(repo, run)
    return call.page(found, lambda job: _job_shape(call, repo, job), envelope="jobs")


@endpoint("GET", f"{_RUN}/attempts/{{attempt_number}}/jobs")
async def list_attempt_jobs(call: Call) -> Response:
    repo = call.repo("actions", "read")
    run, attempt = _run(call, repo), call.number("attempt_number")
    if not 1 <= attempt <= run.attempt:
        raise not_found()
    found = [job for job in _of(repo, run) if job.attempt == attempt]
    return call.page(found, lambda job: _job_shape(call, repo, job), envelope="jobs")


@endpoint("GET", _JOB)
async def get_job(call: Call) -> Response:
    repo = call.repo("actions", "read")
    return call.answer(_job_shape(call, repo, _job(call, repo)))


@endpoint("POST", f"{_JOB}/rerun")
async def rerun_job(call: Call) -> Response:
    repo = call.repo("actions", "write")
    job = _job(call, repo)
    return _repeat(call, repo.workflow_runs[job.run_id], frozenset({repo.check_runs[job.id].name}))


def _job(call: Call, repo: Repo) -> Job:
    found = repo.jobs.get(call.number("job_id"))
    if found is None:
        raise not_found()
    return found


@endpoint("GET", f"{_JOB}/logs")
async def job_logs(call: Call) -> Response:
    """302 to another host, which asks for no token and keeps the address for a minute.

    404 until the job has ended, 410 when the log's retention time is over. Who is not signed in reads none, even of
    a public repository.
    """
    repo = call.repo("actions", "read")
    if call.caller.kind == "anonymous":
        raise forbidden("Must have admin rights to Repository.")
    job = _job(call, repo)
    if repo.check_runs[job.id].status != "completed":
        raise not_found()
    if job.log_state == "expired":
        raise gone("Gone")
    raise Redirect(logs.link(call.world, repo, job), 302)


endpoints = [
    list_runs,
    get_run,
    rerun,
    rerun_failed_jobs,
    cancel,
    list_jobs,
    list_attempt_jobs,
    get_job,
    rerun_job,
    job_logs,
]
