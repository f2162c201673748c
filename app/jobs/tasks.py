"""The names of the jobs that acceptance puts on the queue. Each carries `installation_id` and `run_id` alone."""

from __future__ import annotations

from enum import StrEnum

from app.nouns import BESIDE_VERBS, Run


class Task(StrEnum):
    """ACKNOWLEDGE reacts with 👀 at once. WORK is the run itself. BLOCKED answers a request that came while another
    was at work. SETTLE looks again at a pull request of ours whose checks ended or that somebody changed."""

    ACKNOWLEDGE = "acknowledge"
    WORK = "work"
    BLOCKED = "blocked"
    SETTLE = "settle"


def lock_of(run: Run) -> str | None:
    """One run at a time per issue or pull request; what is answered beside the work takes no lock."""
    if run.verb in BESIDE_VERBS:
        return None
    return f"{run.installation_id}:{run.repository_id}:{run.number}"
