"""The part of the control desk that plays CI: workflows as tables of what fails while, their pace, their logs' age.

`{"repository": "octo/hello", "jobs": [{"job": "tests", "path": "calc.py", "holds": "a - b", "log": "1 failed"}]}`
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from infra.simulator import ci
from infra.simulator.answers import not_found, unprocessable
from infra.simulator.call import Body
from infra.simulator.state import Repo, World

_WORKFLOW = {"repository", "name", "path", "on", "branches", "seconds", "cancel_in_progress", "jobs"}
_ROW = {"job", "path", "holds", "lacks", "attempts", "end", "log", "step", "annotations"}

_ENDS: Mapping[str, Callable[[str, str], ci.CiJob]] = {
    "success": ci.passing,
    "cancelled": ci.cancelled,
    "timed_out": ci.timed_out,
    "lost": lambda name, _: ci.lost(name),
    "skipped": lambda name, _: ci.skipped(name),
}
LOG_STATES = ("kept", "expired", "deleted")


async def post(world: World, what: str, sent: Mapping[str, Any]) -> Any:
    """`workflows` declares one, `ci` sets its pace, `logs` ages a log. Raises 404 and 422."""
    body = Body(sent)
    if what == "workflows":
        return _declare(world, body)
    if what == "ci":
        return await _pace(world, body)
    return _age(world, body)


def told(world: World, what: str) -> Any:
    """The workflows with their runs, or what the host of logs was asked."""
    if what == "logs":
        return [asdict(one) for one in world.log_requests]
    return [_workflow(one) for one in world.workflows.values()]


def _workflow(one: ci.Workflow) -> dict[str, Any]:
    runs = [
        {
            "id": run.id,
            "head_sha": run.head_sha,
            "status": run.status,
            "conclusion": run.conclusion,
            "attempt": run.attempt,
        }
        for run in one.runs
    ]
    return {"id": one.id, "repository": one.repo.full_name, "name": one.name, "runs": runs}


def _declare(world: World, body: Body) -> Any:
    _known(body, _WORKFLOW)
    repo = _repository(world, body)
    jobs = body.list_or("jobs", None)
    if not jobs or not all(isinstance(row, dict) for row in jobs):
        raise unprocessable("jobs is a list of objects")
    rows = [_row(Body(row)) for row in jobs]
    seconds = body.get("seconds", 0)
    if not isinstance(seconds, int | float):
        raise unprocessable("seconds is a number")
    try:
        made = ci.declare(
            world,
            repo,
            ci.table(*rows),
            name=body.string_or("name", "CI"),
            path=body.string_or("path", ".github/workflows/ci.yml"),
            on=body.strings_or("on", ["push"]),
            branches=body.strings_or("branches", ["**"]),
            seconds=seconds,
            cancel_in_progress=body.boolean_or("cancel_in_progress", False),
        )
    except ValueError as error:
        raise unprocessable(str(error)) from error
    return _workflow(made)


def _row(body: Body) -> ci.Row:
    """A job that fails, unless `end` says another way to end. A row that names no file is always met."""
    _known(body, _ROW)
    name, end, log = body.string("job"), body.string_or("end", "failure"), body.string_or("log", "")
    if end == "failure":
        notes = [_note(Body(one)) for one in body.list_or("annotations", [])]
        job = ci.failing(name, log, step=body.string_or("step", "Run tests"), annotations=notes)
    elif end in _ENDS:
        job = _ENDS[end](name, log)
    else:
        raise unprocessable(f"end is failure or one of {', '.join(_ENDS)}")
    return ci.Row(
        name,
        job,
        path=body.string_or("path", None),
        holds=body.string_or("holds", None),
        lacks=body.string_or("lacks", None),
        attempts=body.integer_or("attempts", None),
    )


def _note(body: Body) -> tuple[str, int, str]:
    return body.string("path"), body.integer_or("line", 1), body.string("message")


async def _pace(world: World, body: Body) -> Any:
    """`{"workflow": id, "do": "hold" | "begin" | "finish" | "release"}`."""
    workflow = world.workflows.get(body.integer_or("workflow", 0))
    if workflow is None:
        raise not_found()
    match body.string("do"):
        case "hold":
            workflow.hold()
        case "begin":
            await workflow.begin()
        case "finish":
            await workflow.finish()
        case "release":
            await workflow.release()
        case _:
            raise unprocessable("do is hold, begin, finish or release")
    return _workflow(workflow)


def _age(world: World, body: Body) -> Any:
    """`{"job_id": id, "state": "expired" | "deleted" | "kept"}`."""
    job_id, state = body.integer_or("job_id", 0), body.string("state")
    job = next((repo.jobs[job_id] for repo in world.repositories.values() if job_id in repo.jobs), None)
    if job is None:
        raise not_found()
    if state not in LOG_STATES:
        raise unprocessable(f"state is one of {', '.join(LOG_STATES)}")
    job.log_state = state
    return {"job_id": job.id, "state": state}


def _repository(world: World, body: Body) -> Repo:
    repo = world.repository(body.string("repository"))
    if repo is None:
        raise not_found()
    return repo


def _known(body: Body, names: set[str]) -> None:
    unknown = set(body.fields) - names
    if unknown:
        raise unprocessable(f"unknown: {', '.join(sorted(unknown))}")
