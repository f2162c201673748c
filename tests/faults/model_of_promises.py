"""The promises as a page of plain Python: what people did, and from that alone what may stand on GitHub afterwards.

It knows nothing of jobs, attempts or crashes, since none of them may make a difference.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

CHANGING = frozenset({"fix", "revise", "go", "retry", "undo"})


@dataclass(frozen=True)
class Request:
    """A comment that asked for something: where, what, and whether its writer may have code changed."""

    comment: int
    number: int
    verb: str
    may_write: bool


@dataclass(frozen=True)
class Pull:
    """A pull request of ours as GitHub shows it."""

    number: int
    issue: int
    branch: str
    state: str
    head: str
    merged: bool


@dataclass
class Promises:
    """What people did so far."""

    requests: dict[int, Request] = field(default_factory=dict)
    theirs: dict[str, str] = field(default_factory=dict)
    """The last commit that a person put on a branch of ours: from then on it is theirs."""
    put_to_rest: dict[int, str] = field(default_factory=dict)
    """Pull requests of ours that a person closed or merged, and their heads at that moment."""
    reopened: set[int] = field(default_factory=set)

    def asked(self, request: Request) -> None:
        self.requests[request.comment] = request

    def pushed(self, branch: str, sha: str) -> None:
        self.theirs[branch] = sha

    def ended_by_a_person(self, pull: Pull) -> None:
        self.put_to_rest[pull.number] = pull.head
        self.reopened.discard(pull.number)

    def opened_again(self, pull: int) -> None:
        self.put_to_rest.pop(pull, None)
        self.reopened.add(pull)

    def broken(self, pulls: Iterable[Pull], runs: Mapping[int, list[tuple[str, str, str]]]) -> list[str]:
        """What does not hold. `runs` are (verb, state, reason) by the comment that asked."""
        pulls = list(pulls)
        return [*self._of_requests(runs), *self._of_pulls(pulls), *self._of_people(pulls)]

    def _of_requests(self, runs: Mapping[int, list[tuple[str, str, str]]]) -> Iterable[str]:
        for comment, request in self.requests.items():
            mine = runs.get(comment, [])
            if len(mine) != 1:
                yield f"request {request} became {len(mine)} runs"
            for verb, state, reason in mine:
                if state in ("queued", "running"):
                    yield f"{request} has not ended"
                if (
                    not request.may_write
                    and verb in CHANGING
                    and state not in ("refused", "cancelled", "failed")
                ):
                    yield f"{request} by somebody who may not ended as {state} ({reason})"
        for comment in runs.keys() - self.requests.keys():
            yield f"a run for comment {comment}, which asked for nothing"

    def _of_pulls(self, pulls: list[Pull]) -> Iterable[str]:
        asked_on = {one.number for one in self.requests.values() if one.may_write and one.verb in CHANGING}
        ours = {pull.number for pull in pulls}
        for issue in {pull.issue for pull in pulls}:
            still = [pull.number for pull in pulls if pull.issue == issue and pull.state == "open"]
            if len(still) > 1 + len(self.reopened & set(still)):
                yield f"pull requests {still} are open for issue {issue}"
            if issue not in asked_on and not ours & asked_on:
                yield f"nobody asked for a change on issue {issue}"

    def _of_people(self, pulls: list[Pull]) -> Iterable[str]:
        heads = {pull.branch: pull for pull in pulls}
        for branch, sha in self.theirs.items():
            pull = heads.get(branch)
            if pull is not None and pull.head != sha:
                yield f"{branch} is a person's at {sha}, and was moved to {pull.head}"
        for pull in pulls:
            rested = self.put_to_rest.get(pull.number)
            if rested is not None and (pull.state != "closed" or pull.head != rested):
                yield f"pull request {pull.number} was ended by a person and went on: {pull.state}, {pull.head}"
