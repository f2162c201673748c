"""Check suites and the runs in them: how they come about, follow each other, and are told of by webhooks.

Who reports them (another App, or GitHub Actions) is the caller's affair.
https://docs.github.com/rest/guides/using-the-rest-api-to-interact-with-checks
"""

from __future__ import annotations

from infra.simulator import payloads
from infra.simulator.git import CommitObject
from infra.simulator.state import CheckRun, CheckSuite, Repo, User, World

ACTIONS = "github-actions"
"""The slug of the App that GitHub Actions reports under."""

WORST_FIRST = (
    "failure",
    "timed_out",
    "cancelled",
    "action_required",
    "stale",
    "success",
    "neutral",
    "skipped",
)


def latest(runs: list[CheckRun]) -> list[CheckRun]:
    """A name's newest run of each suite: a re-run replaces what it repeats."""
    newest = {(run.suite_id, run.name): run for run in sorted(runs, key=lambda run: run.id)}
    return sorted(newest.values(), key=lambda run: run.id, reverse=True)


def runs_of(repo: Repo, suite: CheckSuite) -> list[CheckRun]:
    return [run for run in repo.check_runs.values() if run.suite_id == suite.id]


def open_suite(world: World, repo: Repo, head_sha: str, branch: str | None, slug: str) -> CheckSuite:
    """No webhook tells of it: `requested` is sent to the App whose suite it is, and our App may not write checks.

    https://docs.github.com/webhooks/webhook-events-and-payloads#check_suite
    """
    made = CheckSuite(world.next_id(), head_sha, branch, slug, world.now(), world.now())
    repo.check_suites[made.id] = made
    return made


def add_run(world: World, repo: Repo, suite: CheckSuite, name: str, *, status: str = "queued") -> CheckRun:
    run = CheckRun(
        world.next_id(), suite.id, name, suite.head_sha, status, None, world.now(), None, suite.app_slug
    )
    repo.check_runs[run.id] = run
    return run


def settle(world: World, repo: Repo, suite: CheckSuite) -> None:
    """The suite's own status and conclusion, from those of its newest runs."""
    runs = latest(runs_of(repo, suite))
    suite.updated_at = world.now()
    if runs and all(run.status == "completed" for run in runs):
        suite.status = "completed"
        suite.conclusion = next(word for word in WORST_FIRST if any(run.conclusion == word for run in runs))
    else:
        suite.status = "in_progress" if any(run.status != "queued" for run in runs) else "queued"
        suite.conclusion = None


def tell_run(  # noqa: PLR0917  # a webhook's parts, in their usual order
    world: World, repo: Repo, run: CheckRun, head: CommitObject, sender: User, action: str
) -> None:
    world.emit("check_run", action, repo, payloads.check_run(world, repo, run, head, sender))


def tell_completed(world: World, repo: Repo, suite: CheckSuite, head: CommitObject, sender: User) -> None:
    world.emit("check_suite", "completed", repo, payloads.check_suite(world, repo, suite, head, sender))
