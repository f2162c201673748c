"""What CI said of a commit: which checks ended badly, and the end of a failed job's log.

Answers are read without validation, since GitHub's conclusions grow. All that is read here is data of strangers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import httpx
from githubkit.exception import RequestError
from githubkit_schemas.v2026_03_10.rest import RestNamespace

from app.errors import GoneError, InvalidError, MissingError, TransientError
from app.nouns import FailedCheck
from infra.github.calls import Calls, objects
from infra.github.translate import unreadable

BAD: Final = frozenset({"failure", "timed_out", "cancelled", "startup_failure", "action_required", "stale"})
"""https://docs.github.com/rest/checks/runs: the conclusions that are no success. `startup_failure` is a suite's."""

BAD_STATES: Final = frozenset({"failure", "error"})
"""https://docs.github.com/rest/commits/statuses"""

ACTIONS: Final = "github-actions"

SAID: Final = 4_000
"""Characters that are kept of what a check says itself."""

MOST_ANNOTATED: Final = 20
"""So many failed checks are asked for their annotations; a matrix can have 256 jobs."""

WHOLE_LOG: Final = 4 * 1024 * 1024
"""Bytes up to which a log is read from its beginning; of a longer one the end is asked for."""

LONGEST_LOG: Final = 64 * 1024 * 1024
"""Bytes after which reading stops where the end could not be asked for."""

_TIME = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z ?", re.MULTILINE)

Json = Mapping[str, Any]


class FailedChecks:
    """Reads them for one commit of one repository."""

    def __init__(self, rest: RestNamespace, calls: Calls, home: tuple[str, str], sha: str) -> None:
        self._rest = rest
        self._calls = calls
        self._home = home
        self._sha = sha

    async def __call__(self) -> Sequence[FailedCheck]:
        """Check runs, oldest first; workflow runs that ended badly without one; statuses.

        Of a workflow that ran more than once for one event (a re-run stays in its suite) the newest run counts.
        Raises TransientError for answers that are not of the documented form.
        """
        try:
            return await self._found()
        except (AttributeError, KeyError, TypeError, ValueError):
            raise unreadable() from None

    async def _found(self) -> Sequence[FailedCheck]:
        found = await self._workflow_runs()
        newest = _newest(found, lambda run: (run.get("workflow_id"), run.get("event")))
        superseded = {run.get("check_suite_id") for run in found} - {
            run.get("check_suite_id") for run in newest
        }
        by_suite = {run.get("check_suite_id"): run for run in newest}
        checks = [one for one in await self._check_runs() if _suite(one) not in superseded]
        failed = _failed(checks, by_suite)
        jobs = await self._jobs({run["id"] for one in failed if (run := by_suite.get(_suite(one)))})
        read = [
            await self._read(one, jobs.get(int(one["id"])), annotated=count < MOST_ANNOTATED)
            for count, one in enumerate(failed)
        ]
        told = {_suite(one) for one in checks if _is_bad(one)}
        without = [_run(run) for suite, run in by_suite.items() if suite not in told and _is_bad(run)]
        return [*read, *without, *await self._statuses()]

    async def _workflow_runs(self) -> list[Json]:
        """https://docs.github.com/rest/actions/workflow-runs#list-workflow-runs-for-a-repository"""
        pages = self._calls.pages(
            self._rest.actions.async_list_workflow_runs_for_repo,
            *self._home,
            head_sha=self._sha,
            exclude_pull_requests=True,
        )
        return [run async for page in pages for run in objects(page, "workflow_runs")]

    async def _check_runs(self) -> list[Json]:
        """The newest of each name in each suite, by GitHub's own filter.

        https://docs.github.com/rest/checks/runs#list-check-runs-for-a-git-reference
        """
        pages = self._calls.pages(
            self._rest.checks.async_list_for_ref, *self._home, self._sha, filter_="latest"
        )
        return [run async for page in pages for run in objects(page, "check_runs")]

    async def _jobs(self, run_ids: Iterable[int]) -> dict[int, Json]:
        """The jobs of these workflow runs by their check run's id. A check run that a step reports has none.

        https://docs.github.com/rest/actions/workflow-jobs#list-jobs-for-a-workflow-run
        """
        found: dict[int, Json] = {}
        for run_id in sorted(run_ids):
            pages = self._calls.pages(
                self._rest.actions.async_list_jobs_for_workflow_run, *self._home, run_id, filter_="latest"
            )
            async for page in pages:
                for job in objects(page, "jobs"):
                    number = str(job.get("check_run_url") or "").rpartition("/")[2]
                    if number.isdecimal():
                        found[int(number)] = job
        return found

    async def _read(self, check: Json, job: Json | None, *, annotated: bool) -> FailedCheck:
        output = check.get("output") or {}
        notes: list[Json] = []
        if annotated and output.get("annotations_count"):
            # https://docs.github.com/rest/checks/runs#list-check-run-annotations
            page = await self._calls.read_response(
                self._rest.checks.async_list_annotations, *self._home, check["id"], per_page=100
            )
            notes = list(objects(page))
        return FailedCheck(
            name=str(check.get("name")),
            conclusion=str(check.get("conclusion")),
            url=str(check.get("html_url") or check.get("details_url") or ""),
            job_id=job["id"] if job else None,
            steps=tuple(str(step.get("name")) for step in (job or {}).get("steps") or () if _broke(step)),
            said=_said(output, notes),
        )

    async def _statuses(self) -> list[FailedCheck]:
        """https://docs.github.com/rest/commits/statuses#get-the-combined-status-for-a-specific-reference"""
        pages = self._calls.pages(self._rest.repos.async_get_combined_status_for_ref, *self._home, self._sha)
        return [
            FailedCheck(
                name=str(one.get("context")),
                conclusion=str(one["state"]),
                url=str(one.get("target_url") or ""),
                said=str(one.get("description") or "")[:SAID],
            )
            async for page in pages
            for one in objects(page, "statuses")
            if one.get("state") in BAD_STATES
        ]


def _newest(found: Iterable[Json], key: Callable[[Json], object]) -> list[Json]:
    """The one with the highest id of each key, by id."""
    kept = {key(one): one for one in sorted(found, key=lambda one: int(one.get("id") or 0))}
    return sorted(kept.values(), key=lambda one: int(one.get("id") or 0))


def _suite(check: Json) -> int | None:
    return (check.get("check_suite") or {}).get("id")


def _is_bad(one: Json) -> bool:
    return one.get("status") == "completed" and one.get("conclusion") in BAD


def _failed(checks: Iterable[Json], by_suite: Mapping[int | None, Json]) -> list[Json]:
    """A name stands once for each App and workflow: one that failed on a push and on its pull request is one failure."""

    def name(check: Json) -> tuple[object, ...]:
        run = by_suite.get(_suite(check)) or {}
        return (check.get("app") or {}).get("slug"), run.get("workflow_id"), check.get("name")

    def name_and_event(check: Json) -> tuple[object, ...]:
        return *name(check), (by_suite.get(_suite(check)) or {}).get("event")

    return _newest(filter(_is_bad, _newest(checks, name_and_event)), name)


def _run(run: Json) -> FailedCheck:
    """A workflow that could not begin, or waits for an approval, has no job and no check run."""
    return FailedCheck(
        name=str(run.get("name") or run.get("path")),
        conclusion=str(run.get("conclusion")),
        url=str(run.get("html_url") or ""),
    )


def _broke(step: Json) -> bool:
    """A step that never ended, in a job that did, is where the runner was lost."""
    return step.get("conclusion") in BAD or step.get("status") == "in_progress"


def _said(output: Json, notes: Sequence[Json]) -> str:
    """The title, the summary (half of the room where there are annotations), the annotations, the text."""
    summary = str(output.get("summary") or "")
    parts = [
        str(output.get("title") or ""),
        summary[: SAID // 2] if notes else summary,
        *map(_noted, sorted(notes, key=lambda note: note.get("annotation_level") != "failure")),
        str(output.get("text") or ""),
    ]
    return "\n".join(part for part in parts if part)[:SAID]


def _noted(note: Json) -> str:
    """`.github` is where Actions puts what it says of the job as a whole."""
    said = ": ".join(str(note[name]) for name in ("title", "message") if note.get(name))
    path = str(note.get("path") or "")
    return said if path in ("", ".github") else f"{path}:{note.get('start_line')}: {said}"


# --- logs ------------------------------------------------------------------------------------------------------------


class JobLog:
    """Reads the end of one job's log. GitHub redirects to another host for it; the token stays behind.

    https://docs.github.com/rest/actions/workflow-jobs#download-job-logs-for-a-workflow-run
    """

    def __init__(self, rest: RestNamespace, calls: Calls, home: tuple[str, str], job_id: int) -> None:
        self._rest = rest
        self._calls = calls
        self._home = home
        self._job_id = job_id

    async def __call__(self, last_bytes: int) -> str:
        """Whole lines, without the time before each; colours (ANSI) and `##[…]` marks are left in.

        Raises MissingError for a job that has not ended or whose log is kept no longer, InvalidError for a log of more
        than 64 MiB whose end cannot be asked for.
        """
        try:
            response = await self._ask()
            length = int(response.headers.get("content-length", 0))
            if length > WHOLE_LOG:
                await response.aclose()
                response = await self._ask(Range=f"bytes={max(0, length - last_bytes - 1)}-")
        except GoneError:
            raise MissingError("GitHub keeps this log no longer.", reason="log_expired") from None
        kept, read = await _tail(response, last_bytes + 1)
        return _lines(kept, last_bytes, cut=read > last_bytes or response.status_code == 206)

    async def _ask(self, **headers: str) -> httpx.Response:
        """Not compressed, so that the length told is the length kept."""
        response = await self._calls.read_response(
            self._rest.actions.async_download_job_logs_for_workflow_run,
            *self._home,
            self._job_id,
            headers={"Accept-Encoding": "identity", **headers},
            stream=True,
        )
        return response.raw_response


async def _tail(response: httpx.Response, keep: int) -> tuple[bytes, int]:
    """The last `keep` bytes of a stream, and how many it had."""
    kept, read = bytearray(), 0
    try:
        async for chunk in response.aiter_bytes():
            read += len(chunk)
            if read > LONGEST_LOG:
                raise InvalidError("A job's log is too long to be read.", reason="log_too_large")
            kept += chunk
            del kept[:-keep]
    except (httpx.HTTPError, RequestError):
        raise TransientError("The download of the log broke off.", reason="network") from None
    finally:
        await response.aclose()
    return bytes(kept), read


def _lines(kept: bytes, last_bytes: int, *, cut: bool) -> str:
    """`kept` has one byte more than asked for, which tells whether what follows it begins a line."""
    if cut and len(kept) > last_bytes:
        before, kept = kept[:-last_bytes], kept[-last_bytes:]
        if not before.endswith(b"\n"):
            _, found, rest = kept.partition(b"\n")
            kept = rest if found else kept
    return _TIME.sub("", kept.decode("utf-8", "replace").removeprefix("\ufeff"))
