"""A run as its page tells it: the line as a row of stations with their times, and in numbers; never a word or a path of code.

All of it is read from the run's row and from its entries in the action log.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from app.actionlog.exported import ExportedEntry
from app.nouns import BESIDE_VERBS, Action, Run
from webhooks.command import Verb


class Place(StrEnum):
    """The stations, by what stands over them."""

    ASKED = "Asked"
    READING = "Reading the request"
    FETCHING = "Fetching the code"
    SEARCHING = "Searching it"
    WRITING = "Asking the model"
    CHECKING = "Running checks"
    PUBLISHING = "Publishing"
    ENDED = "Ended"


_READS: Final = (
    Place.ASKED,
    Place.READING,
    Place.FETCHING,
    Place.SEARCHING,
    Place.WRITING,
    Place.ENDED,
)
_WAYS: Final[Mapping[str, Sequence[Place]]] = {
    Verb.PLAN: _READS,
    Verb.EXPLAIN: _READS,
    Verb.UNDO: (Place.ASKED, Place.READING, Place.PUBLISHING, Place.ENDED),
    **dict.fromkeys(BESIDE_VERBS, (Place.ASKED, Place.READING, Place.ENDED)),
}
"""Requests that go another way than a fix."""

_AT: Final[Mapping[str, Place]] = {
    Action.WEBHOOK_ACCEPTED: Place.ASKED,
    Action.RUN_ASKED: Place.ASKED,
    Action.RUN_STARTED: Place.READING,
    Action.PERMISSION_CHECKED: Place.READING,
    Action.CI_READ: Place.READING,
    Action.CODE_FETCHED: Place.FETCHING,
    Action.INDEX_UPDATED: Place.SEARCHING,
    Action.INDEX_SEARCHED: Place.SEARCHING,
    Action.MODEL_ASKED: Place.WRITING,
    Action.MODEL_CALLED: Place.WRITING,
    Action.MODEL_FAILED: Place.WRITING,
    Action.PATCH_REFUSED: Place.WRITING,
    Action.PATCH_CHECKED: Place.CHECKING,
    Action.CHECKS_RUN: Place.CHECKING,
    Action.LOOKED_AGAIN: Place.CHECKING,
    Action.COMMIT_CREATED: Place.PUBLISHING,
    Action.REF_CREATED: Place.PUBLISHING,
    Action.REF_UPDATED: Place.PUBLISHING,
    Action.PULL_REQUEST_OPENED: Place.PUBLISHING,
    Action.PULL_REQUEST_UPDATED: Place.PUBLISHING,
    Action.RUN_ENDED: Place.ENDED,
}
_WRITTEN_DOWN_BEHIND: Final = frozenset({Place.ASKED, Place.FETCHING, Place.SEARCHING})
"""Stations whose entry is written when they are done: the next one is at work then."""


class Standing(StrEnum):
    DONE = "done"
    NOW = "at work"
    AHEAD = "to come"
    PASSED_BY = "not needed"


@dataclass(frozen=True, slots=True)
class Station:
    """`at` is when something was last heard of it, `seconds` how long that is behind the station before."""

    name: str
    standing: Standing
    at: datetime | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Figures:
    """What is counted over all tries of a run. `unanswered` are questions to the model that brought nothing yet, or failed."""

    attempts: int
    turns: int
    unanswered: int
    tools: int
    models: tuple[str, ...]
    files: int | None
    added: int | None
    removed: int | None
    checks: int | None
    passed: int | None
    verdict: bool | None
    problems: int | None


@dataclass(frozen=True, slots=True)
class Journey:
    run: Run
    stations: tuple[Station, ...]
    figures: Figures


def journey(run: Run, entries: Iterable[ExportedEntry]) -> Journey:
    """`entries` are the run's own, oldest first."""
    listed = list(entries)
    return Journey(run, _stations(run, listed), _figures(run, listed))


def _stations(run: Run, entries: Sequence[ExportedEntry]) -> tuple[Station, ...]:
    way = _WAYS.get(run.verb, tuple(Place))
    heard, here = {Place.ASKED: run.created_at}, Place.ASKED
    for entry in entries:
        if entry.action == Action.RUN_STARTED:  # a new try goes the whole way again
            heard = {Place.ASKED: heard[Place.ASKED]}
        place = _AT.get(entry.action)
        if place is not None and place in way:
            heard[place], here = datetime.fromisoformat(entry.at), place
    if run.ended_at is not None:
        heard[Place.ENDED], here = run.ended_at, Place.ENDED
    now = way.index(here) + (here in _WRITTEN_DOWN_BEHIND)
    stations: list[Station] = []
    before: datetime | None = None
    for number, place in enumerate(way):
        at = heard.get(place) if number <= now else None  # checks that failed lead back to the model
        seconds = None if at is None or before is None else max((at - before).total_seconds(), 0.0)
        stations.append(Station(place.value, _standing(run, number, now, at), at, seconds))
        before = at or before
    return tuple(stations)


def _standing(run: Run, number: int, now: int, at: datetime | None) -> Standing:
    if run.state.ended:
        return Standing.PASSED_BY if at is None else Standing.DONE
    if run.started_at is None:
        return Standing.DONE if number == 0 else Standing.AHEAD
    if number == now:
        return Standing.NOW
    return Standing.DONE if number < now else Standing.AHEAD


def _figures(run: Run, entries: Sequence[ExportedEntry]) -> Figures:
    def last(action: Action, name: str) -> int | None:
        found = [one.details.get(name) for one in entries if one.action == action and one.details]
        return next((int(one) for one in reversed(found) if isinstance(one, int)), None)

    asked = sum(one.action == Action.MODEL_ASKED for one in entries)
    calls = [one.details or {} for one in entries if one.action == Action.MODEL_CALLED]
    tools = [one.get("tools") for one in calls]
    verdict = last(Action.LOOKED_AGAIN, "verdict")
    return Figures(
        attempts=run.attempt,
        turns=len(calls),
        unanswered=max(asked - len(calls), 0),
        tools=sum(one for one in tools if isinstance(one, int)),
        models=tuple(dict.fromkeys(str(one["model"]) for one in calls if one.get("model"))),
        files=last(Action.PATCH_CHECKED, "files"),
        added=last(Action.PATCH_CHECKED, "added"),
        removed=last(Action.PATCH_CHECKED, "removed"),
        checks=last(Action.CHECKS_RUN, "commands"),
        passed=last(Action.CHECKS_RUN, "passed"),
        verdict=None if verdict is None else bool(verdict),
        problems=last(Action.LOOKED_AGAIN, "problems"),
    )


def lasted(run: Run, now: datetime) -> float:
    """Seconds from the request to its end, or to now."""
    return max(((run.ended_at or now) - run.created_at).total_seconds(), 0.0)
