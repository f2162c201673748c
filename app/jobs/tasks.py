"""The names of the jobs that acceptance puts on the queue. Each carries `installation_id` and `run_id` alone, and
what belongs to no run `repository_id` in its place; what is sent to a hook also `hook_id`, the run's `attempt` and how often it was
tried (`tries`).

A name stands for what the job carries: other arguments are another task. Workers of two programs take jobs from one queue while
a new one is rolled out, and the older leaves alone what it does not know by its name.
"""

from __future__ import annotations

from enum import StrEnum

from app.nouns import BESIDE_VERBS, Run


class Task(StrEnum):
    """ACKNOWLEDGE reacts with 👀 at once. WORK is the run itself. BLOCKED answers a request that came while another
    was at work. SETTLE looks again at a pull request of ours whose checks ended or that somebody changed. FOLLOW
    brings the index of a repository up to its default branch after a push, FORGET removes that of one that was taken out of the
    installation; REFRESH brings a pull request's branch up to
    it, where that is needed. ERASE destroys an installation's data; EXPORT hands it over (its third id is `export_id`).
    TELL_ACCEPTED makes of an accepted run what is sent to each hook; SEND_ACCEPTED, SEND_STARTED and SEND_ENDED send it to one."""

    ACKNOWLEDGE = "acknowledge"
    WORK = "work"
    BLOCKED = "blocked"
    SETTLE = "settle"
    FOLLOW = "follow"
    FORGET = "forget"
    REFRESH = "refresh"
    ERASE = "erase"
    EXPORT = "export"
    TELL_ACCEPTED = "tell_accepted"
    SEND_ACCEPTED = "send_accepted"
    SEND_STARTED = "send_started"
    SEND_ENDED = "send_ended"


def lock_of(run: Run) -> str | None:
    """One run at a time per issue and the pull requests that solve it; what is answered beside the work takes no lock."""
    if run.verb in BESIDE_VERBS:
        return None
    return f"{run.installation_id}:{run.repository_id}:{run.about}"


def follow_lock(installation_id: int, repository_id: int) -> str:
    """One job at a time follows a repository's pushes; it keeps no run waiting."""
    return f"{installation_id}:{repository_id}:index"


def erase_lock(installation_id: int) -> str:
    """One worker at a time destroys an installation's data."""
    return f"{installation_id}:erase"


def settle_lock(run: Run) -> str:
    """One job at a time waits to look at a pull request again later."""
    return f"{run.installation_id}:{run.repository_id}:{run.about}:later"


def refresh_lock(run: Run) -> str:
    """One job at a time brings a pull request's branch up to its base; what is asked there does not wait for it."""
    return f"{run.installation_id}:{run.repository_id}:{run.about}:base"
