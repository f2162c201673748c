"""The logs of Actions' jobs: how GitHub writes them down, and the host that hands them out.

That host is not the API: it asks for no token, refuses one that is sent along, and serves a link for one minute.
https://docs.github.com/rest/actions/workflow-jobs#download-job-logs-for-a-workflow-run
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from uuid import uuid4

from starlette.requests import Request
from starlette.responses import Response

from infra.simulator.state import Job, LogRequest, Repo, Step, World

LINK_LIVES = timedelta(minutes=1)

_RANGE = re.compile(r"bytes=(\d+)-(\d*)\Z")

_SET_UP = """\
Current runner version: '2.329.0'
##[group]Runner Image Provisioner
Hosted Compute Agent
Version: 20251016.436
##[endgroup]
##[group]Operating System
Ubuntu
24.04.3
LTS
##[endgroup]
##[group]GITHUB_TOKEN Permissions
Contents: read
Metadata: read
##[endgroup]
Secret source: Actions
Prepare workflow directory
Prepare all required actions
Getting action download info
"""

_TIDY = """\
Post job cleanup.
[command]/usr/bin/git version
git version 2.51.0
Cleaning up orphan processes
"""


def written(steps: Sequence[Step], printed: Mapping[str, str], now: datetime) -> bytes:
    """A job's log as the download has it: a byte order mark, a time before each line, colours and groups left in.

    `printed` is what each step printed, by its name.
    """
    moment = now
    out: list[str] = []
    for line in _lines(steps, printed):
        moment += timedelta(microseconds=137)
        out.append(f"{moment:%Y-%m-%dT%H:%M:%S.%f}0Z {line}\n")
    return "\ufeff".encode() + "".join(out).encode("utf-8", "surrogateescape")


def _lines(steps: Sequence[Step], printed: Mapping[str, str]) -> Iterator[str]:
    for step in steps:
        if step.name == "Set up job":
            yield from _SET_UP.splitlines()
        elif step.name == "Complete job":
            yield from _TIDY.splitlines()
        elif step.conclusion != "skipped":
            command = step.name.removeprefix("Run ")
            yield f"##[group]Run {command}"
            yield f"\x1b[36;1m{command}\x1b[0m"
            yield "shell: /usr/bin/bash -e {0}"
            yield "##[endgroup]"
            yield from printed.get(step.name, "").splitlines()


def link(world: World, repo: Repo, job: Job) -> str:
    """A fresh address on the host of logs."""
    ticket, until = secrets.token_urlsafe(24), world.now() + LINK_LIVES
    world.log_tickets[ticket] = (repo.id, job.id, until)
    place = f"actions-results/{uuid4()}/workflow-job-run-{uuid4()}/logs/job/job-logs.txt"
    return f"{world.logs_url}/{place}?se={until:%Y-%m-%dT%H:%M:%SZ}&sig={ticket}"


def answer(world: World, request: Request) -> Response:
    """As a blob store answers a signed address.

    https://learn.microsoft.com/rest/api/storageservices/blob-service-error-codes and
    https://learn.microsoft.com/rest/api/storageservices/specifying-the-range-header-for-blob-service-operations
    """
    response = _answer(world, request)
    told = LogRequest(request.url.path, dict(request.headers), response.status_code)
    world.log_requests.append(told)
    return response


def _answer(world: World, request: Request) -> Response:
    if "authorization" in request.headers:
        return _refusal(400, "InvalidAuthenticationInfo")
    repository_id, job_id, until = world.log_tickets.get(
        request.query_params.get("sig", ""), (0, 0, world.now() - LINK_LIVES)
    )
    if until <= world.now():
        return _refusal(403, "AuthenticationFailed")
    repo = world.repositories.get(repository_id)
    job = repo.jobs.get(job_id) if repo else None
    if job is None or job.log_state != "kept":
        return _refusal(404, "BlobNotFound")
    return _part(job.log, request.headers.get("range", ""))


def _part(log: bytes, asked: str) -> Response:
    """Only ranges that name their start are known there; another is not heeded."""
    headers = {"Content-Type": "text/plain", "Accept-Ranges": "bytes"}
    match = _RANGE.match(asked)
    if match is None:
        return Response(log, headers=headers)
    start, end = int(match[1]), min(int(match[2] or len(log) - 1), len(log) - 1)
    if start >= len(log):
        return _refusal(416, "InvalidRange")
    headers["Content-Range"] = f"bytes {start}-{end}/{len(log)}"
    return Response(log[start : end + 1], 206, headers=headers)


def _refusal(status: int, code: str) -> Response:
    body = (
        f'<?xml version="1.0" encoding="utf-8"?><Error><Code>{code}</Code><Message>{code}</Message></Error>'
    )
    return Response(body, status, headers={"Content-Type": "application/xml", "x-ms-error-code": code})
