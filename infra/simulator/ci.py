"""GitHub Actions as it is played: a workflow is a function of the code that was pushed, or a table of what fails when.

`Running.on_push` and `POST /_simulator/workflows` declare one. Each push (or pull request) that meets it makes a check
suite, a workflow run and jobs, which go from queued over in progress to completed, with logs, annotations and webhooks.
No workflow file is read and nothing of the repository is run.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import io
import re
import tarfile
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from infra.simulator import logs
from infra.simulator.git import CommitObject
from infra.simulator.shapes_people import web
from infra.simulator.state import ZERO_SHA, CheckRun, CheckSuite, Job, Repo, Step, User, WorkflowRun, World
from infra.simulator.suites import ACTIONS, add_run, open_suite, settle, tell_completed, tell_run

SKIPS = ("[skip ci]", "[ci skip]", "[no ci]", "[skip actions]", "[actions skip]")
"""https://docs.github.com/actions/how-tos/manage-workflow-runs/skip-workflow-runs"""

EVENTS = frozenset({"push", "pull_request"})
CONCLUSIONS = frozenset(
    {"success", "failure", "cancelled", "timed_out", "skipped", "neutral", "action_required"}
)

LOST = (
    "The hosted runner lost communication with the server. Anything in your workflow that terminates the runner process, "
    "starves it for CPU/Memory, or blocks its network access can cause this error."
)
CANCELED = "The operation was canceled."
TOO_LONG = "The job has exceeded the maximum execution time of 6h0m0s"


# --- what a workflow is given, and what it answers --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Code:
    """What CI checks out. `files` are the regular files of the tree at `sha`; `attempt` counts from 1."""

    repository: str
    branch: str
    sha: str
    event: str
    attempt: int
    files: Mapping[str, bytes]

    def text(self, path: str) -> str:
        """Empty for what is not there."""
        return self.files.get(path, b"").decode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class CiStep:
    """One step and what it printed. A step after one that failed is skipped by itself."""

    name: str
    log: str = ""
    conclusion: str | None = "success"  # None: its end was never heard of


@dataclass(frozen=True, slots=True)
class CiJob:
    """How one job ends. `annotations` are `(path, line, message)`; `log` False leaves none behind."""

    name: str
    conclusion: str = "success"
    steps: tuple[CiStep, ...] = (CiStep("Run tests"),)
    annotations: tuple[tuple[str, int, str], ...] = ()
    log: bool = True


@dataclass(frozen=True, slots=True)
class StartupFailure:
    """The workflow could not begin: no job and no check run comes about, and its suite ends as `startup_failure`."""


Verdict = Sequence[CiJob] | StartupFailure
Ci = Callable[[Code], Verdict | Awaitable[Verdict]]


def passing(name: str, log: str = "", *, step: str = "Run tests") -> CiJob:
    return CiJob(name, steps=(CiStep("Run actions/checkout@v5"), CiStep(step, log)))


def failing(
    name: str,
    log: str = "",
    *,
    step: str = "Run tests",
    annotations: Sequence[tuple[str, int, str]] = (),
    code: int = 1,
) -> CiJob:
    """A step that exits with `code`; GitHub notes that as an annotation of its own, after those of the step."""
    said = f"Process completed with exit code {code}."
    steps = (
        CiStep("Run actions/checkout@v5"),
        CiStep(step, f"{log.rstrip()}\n##[error]{said}\n", "failure"),
        CiStep("Upload coverage"),
    )
    return CiJob(name, "failure", steps, (*annotations, (".github", 1, said)))


def cancelled(name: str, log: str = "") -> CiJob:
    step = CiStep("Run tests", f"{log}\n##[error]{CANCELED}\n", "cancelled")
    return CiJob(name, "cancelled", (step,), ((".github", 1, CANCELED),))


def timed_out(name: str, log: str = "") -> CiJob:
    step = CiStep("Run tests", f"{log}\n##[error]{CANCELED}\n", "cancelled")
    return CiJob(name, "timed_out", (step,), ((".github", 1, TOO_LONG), (".github", 1, CANCELED)))


def lost(name: str) -> CiJob:
    """The machine went away in the middle: the job failed, the step never ended, and there is no log."""
    return CiJob(name, "failure", (CiStep("Run tests", conclusion=None),), ((".github", 1, LOST),), log=False)


def skipped(name: str) -> CiJob:
    return CiJob(name, "skipped", (), log=False)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table: `job` ends as `end` says while the file at `path` holds (or lacks) these words.

    Without `path` it always does. `attempts` n: in the first n attempts only, as a flaky job does.
    """

    job: str
    end: CiJob
    path: str | None = None
    holds: str | None = None
    lacks: str | None = None
    attempts: int | None = None

    def meets(self, code: Code) -> bool:
        if self.attempts is not None and code.attempt > self.attempts:
            return False
        if self.path is None:
            return True
        there, text = self.path in code.files, code.text(self.path)
        if self.lacks is not None:
            return self.lacks not in text
        return there and (self.holds is None or self.holds in text)


def table(*rows: Row) -> Ci:
    """Each job that a row names ends as its first row that is met says, and passes when none is."""

    def ci(code: Code) -> Sequence[CiJob]:
        ends: dict[str, CiJob] = {}
        for row in rows:
            if row.job not in ends and row.meets(code):
                ends[row.job] = replace(row.end, name=row.job)
        return [ends.get(name) or passing(name) for name in dict.fromkeys(row.job for row in rows)]

    return ci


# --- a workflow, played ------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class _Play:
    """One attempt of a run, and how its jobs will end. `jobs` pairs them with what became of them so far."""

    run: WorkflowRun
    suite: CheckSuite
    head: CommitObject
    sender: User
    startup_failure: bool = False
    jobs: list[tuple[CiJob, Job, CheckRun]] = field(default_factory=list)


@dataclass
class Workflow:
    """A workflow of one repository. `branches` are patterns; `seconds` is how long its jobs are in progress.

    `cancel_in_progress`: a run of a branch cancels the one before it that has not ended, as `concurrency` can say.
    After `hold()` its runs stay queued until `begin()` and `finish()` bring them on, or `release()` lets them go.
    """

    world: World
    repo: Repo
    id: int
    name: str
    path: str
    ci: Ci
    on: frozenset[str] = frozenset({"push"})
    branches: tuple[str, ...] = ("**",)
    seconds: float = 0.0
    cancel_in_progress: bool = False
    _held: bool = False
    _queued: list[_Play] = field(default_factory=list)
    _begun: list[_Play] = field(default_factory=list)
    _coming: int = 0  # heard of, and not queued yet
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)
    _hurried: asyncio.Event = field(default_factory=asyncio.Event)

    # by hand

    def hold(self) -> None:
        self._held = True

    async def begin(self) -> None:
        """What was held back is in progress."""
        while self._coming:
            self._arrived.clear()
            await self._arrived.wait()
        for play in list(self._queued):
            self._begin(play)

    async def finish(self) -> None:
        """What was held back, queued or in progress, completes."""
        await self.begin()
        for play in list(self._begun):
            self._finish(play)

    async def release(self) -> None:
        self._held = False
        await self.finish()

    def hurry(self) -> None:
        """What waits for its `seconds` to pass waits no longer, now and from now on."""
        self._hurried.set()

    def cancel(self, run: WorkflowRun) -> bool:
        """Ends an attempt under way, as the button does. False when there is none."""
        play = next((one for one in (*self._queued, *self._begun) if one.run is run), None)
        if play is None:
            return False
        play.jobs = [(cancelled(end.name), job, check) for end, job, check in play.jobs]
        if play in self._queued:
            self._begin(play)
        self._finish(play)
        return True

    @property
    def runs(self) -> list[WorkflowRun]:
        """Oldest first."""
        return [run for run in self.repo.workflow_runs.values() if run.workflow_id == self.id]

    # by itself

    def meets(self, repo: Repo, event: str, branch: str) -> bool:
        return (
            repo is self.repo
            and event in self.on
            and any(_meets(branch, pattern) for pattern in self.branches)
        )

    def start(self, event: str, branch: str, sha: str, actor: User) -> None:
        """A run of its own for this commit, in the background, unless the commit's message asks for none."""
        self._expect(self._triggered(event, branch, sha, actor))

    def again(self, run: WorkflowRun, actor: User, *, names: frozenset[str] | None = None) -> None:
        """Another attempt of all jobs, or of those with these names: same run, same suite, new jobs.

        https://docs.github.com/actions/how-tos/manage-workflow-runs/re-run-workflows-and-jobs
        """
        run.attempt += 1
        run.status, run.conclusion = "queued", None
        run.triggering_actor_id, run.started_at = actor.id, self.world.now()
        self._expect(self._repeated(run, actor, names))

    def _expect(self, queueing: Coroutine[Any, Any, _Play | None]) -> None:
        self._coming += 1
        self.world.background(self._come(queueing))

    async def _come(self, queueing: Coroutine[Any, Any, _Play | None]) -> None:
        try:
            play = await queueing
            if play is not None:
                self._queued.append(play)
        finally:
            self._coming -= 1
            self._arrived.set()
        if play is None or self._held:
            return
        self._begin(play)
        if self.seconds:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._hurried.wait(), self.seconds)
        if play in self._begun:
            self._finish(play)

    async def _triggered(self, event: str, branch: str, sha: str, actor: User) -> _Play | None:
        head = await self.repo.git.commit(sha)
        if head is None or any(word in head.message for word in SKIPS):
            return None
        if self.cancel_in_progress:
            for before in [run for run in self.runs if run.head_branch == branch]:
                self.cancel(before)
        world, now = self.world, self.world.now()
        suite = open_suite(world, self.repo, sha, branch, ACTIONS)
        run = WorkflowRun(
            id=world.next_id(),
            suite_id=suite.id,
            workflow_id=self.id,
            name=self.name,
            path=self.path,
            event=event,
            number=len(self.runs) + 1,
            head_sha=sha,
            head_branch=branch,
            actor_id=actor.id,
            triggering_actor_id=actor.id,
            created_at=now,
            updated_at=now,
            started_at=now,
        )
        self.repo.workflow_runs[run.id] = run
        return await self._queue(_Play(run, suite, head, actor))

    async def _repeated(self, run: WorkflowRun, actor: User, names: frozenset[str] | None) -> _Play:
        head = await self.repo.git.commit(run.head_sha)
        assert head is not None
        return await self._queue(_Play(run, self.repo.check_suites[run.suite_id], head, actor), names)

    async def _queue(self, play: _Play, names: frozenset[str] | None = None) -> _Play:
        verdict = await self._verdict(play)
        if isinstance(verdict, StartupFailure):
            play.startup_failure = True
        else:
            wanted = [end for end in verdict if names is None or end.name in names]
            play.jobs = [(end, *self._job(play, end)) for end in wanted]
            settle(self.world, self.repo, play.suite)
        return play

    async def _verdict(self, play: _Play) -> Verdict:
        run = play.run
        files = await _files(self.repo, run.head_sha)
        code = Code(self.repo.full_name, run.head_branch, run.head_sha, run.event, run.attempt, files)
        found = self.ci(code)
        return await found if inspect.isawaitable(found) else found

    def _job(self, play: _Play, end: CiJob) -> tuple[Job, CheckRun]:
        """https://docs.github.com/rest/actions/workflow-jobs: a job's id is its check run's."""
        if end.conclusion not in CONCLUSIONS:
            raise ValueError(f"a job does not end as {end.conclusion}")
        world, repo = self.world, self.repo
        check = add_run(world, repo, play.suite, end.name)
        check.details_url = f"{web(world, repo)}/actions/runs/{play.run.id}/job/{check.id}"
        job = Job(check.id, play.run.id, play.run.attempt, world.now(), [])
        repo.jobs[job.id] = job
        tell_run(world, repo, check, play.head, play.sender, "created")
        return job, check

    def _begin(self, play: _Play) -> None:
        self._queued.remove(play)
        self._begun.append(play)
        now = self.world.now()
        play.run.status, play.run.updated_at = "in_progress", now
        for number, (end, job, check) in enumerate(play.jobs, 1):
            check.status, check.started_at = "in_progress", now
            job.runner = f"GitHub Actions {1_000_000_000 + number}" if end.conclusion != "skipped" else None
            job.steps = [Step(1, "Set up job", "in_progress", started_at=now)] if job.runner else []
        if play.jobs:
            settle(self.world, self.repo, play.suite)

    def _finish(self, play: _Play) -> None:
        self._begun.remove(play)
        world, repo, now = self.world, self.repo, self.world.now()
        for end, job, check in play.jobs:
            job.steps = _steps(end, job, check)
            job.log = (
                logs.written(job.steps, {step.name: step.log for step in end.steps}, now) if end.log else b""
            )
            job.log_state = "kept" if end.log else "deleted"
            check.status, check.conclusion, check.completed_at = "completed", end.conclusion, now
            blob = f"{web(world, repo)}/blob/{check.head_sha}"
            check.annotations = [
                annotation(f"{blob}/{path}", path, line, said) for path, line, said in end.annotations
            ]
            tell_run(world, repo, check, play.head, play.sender, "completed")
        if play.startup_failure:
            play.suite.status, play.suite.conclusion, play.suite.updated_at = (
                "completed",
                "startup_failure",
                now,
            )
        else:
            settle(world, repo, play.suite)
        play.run.status, play.run.conclusion = "completed", play.suite.conclusion
        play.run.updated_at = now
        if play.suite.status == "completed":
            tell_completed(world, repo, play.suite, play.head, play.sender)


def _steps(end: CiJob, job: Job, check: CheckRun) -> list[Step]:
    """With what GitHub puts before and after; a runner that was lost says nothing of the end."""
    if job.runner is None:
        return []
    began = check.started_at
    steps = [Step(1, "Set up job", "completed", "success", began, began)]
    broken = gone = False
    for number, one in enumerate(end.steps, 2):
        if gone:
            steps.append(Step(number, one.name))
        elif one.conclusion is None:
            steps.append(Step(number, one.name, "in_progress", None, began))
            gone = True
        else:
            ended = "skipped" if broken else one.conclusion
            steps.append(Step(number, one.name, "completed", ended, began, began))
        broken = broken or one.conclusion not in ("success", "skipped")
    if not gone:
        steps.append(Step(len(steps) + 1, "Complete job", "completed", "success", began, began))
    return steps


def annotation(blob_href: str, path: str, line: int, said: str) -> dict[str, Any]:
    """A `check-annotation` of a failure."""
    return {
        "path": path,
        "blob_href": blob_href,
        "start_line": line,
        "end_line": line,
        "start_column": None,
        "end_column": None,
        "annotation_level": "failure",
        "title": "",
        "message": said,
        "raw_details": "",
    }


def _meets(branch: str, pattern: str) -> bool:
    """`*` stops at a slash and `**` does not; GitHub's other marks (`?`, `+`, `[]`, `!`) are not played.

    https://docs.github.com/actions/reference/workflows-and-actions/workflow-syntax#filter-pattern-cheat-sheet
    """
    parts = re.split(r"(\*\*|\*)", pattern)
    wanted = "".join({"**": ".*", "*": "[^/]*"}.get(part, re.escape(part)) for part in parts)
    return re.fullmatch(wanted, branch) is not None


async def _files(repo: Repo, sha: str) -> dict[str, bytes]:
    packed = await repo.git.run("archive", "--format=tar", sha)
    found: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        for member in tar:
            taken = tar.extractfile(member) if member.isreg() else None
            if taken is not None:
                found[member.name] = taken.read()
    return found


# --- who is listening --------------------------------------------------------------------------------------------------


def declare(
    world: World,
    repo: Repo,
    ci: Ci,
    *,
    name: str = "CI",
    path: str = ".github/workflows/ci.yml",
    on: Sequence[str] = ("push",),
    branches: Sequence[str] = ("**",),
    seconds: float = 0.0,
    cancel_in_progress: bool = False,
) -> Workflow:
    """Raises ValueError for an event that is not played here."""
    if not set(on) <= EVENTS or not on:
        raise ValueError(f"a workflow is on {' or '.join(sorted(EVENTS))}")
    made = Workflow(
        world,
        repo,
        world.next_id(),
        name,
        path,
        ci,
        on=frozenset(on),
        branches=tuple(branches),
        seconds=seconds,
        cancel_in_progress=cancel_in_progress,
    )
    world.workflows[made.id] = made
    return made


def heard(
    world: World, event: str, action: str | None, repo: Repo | None, payload: Mapping[str, Any]
) -> None:
    """Starts what a push or a pull request starts."""
    if repo is None or event not in EVENTS:
        return
    if event == "push":
        ref, sha = str(payload["ref"]), str(payload["after"])
        if not ref.startswith("refs/heads/") or sha == ZERO_SHA:
            return
        branch = pattern = ref.removeprefix("refs/heads/")
    elif action in ("opened", "synchronize", "reopened"):
        head = payload["pull_request"]["head"]
        branch, sha, pattern = head["ref"], head["sha"], payload["pull_request"]["base"]["ref"]
    else:
        return
    actor = world.user(payload["sender"]["id"])
    for workflow in list(world.workflows.values()):
        if workflow.meets(repo, event, pattern):
            workflow.start(event, branch, sha, actor)
