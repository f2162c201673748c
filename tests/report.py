"""Gathers what the tests of `tests/faults` and `tests/attacks` claim and how each case of it went (`--claims FILE`, as JSON)."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.claims import MARK

SAID = "claim"
WRITTEN_EVERY_SECONDS = 60.0
"""The whole proof takes hours: what was seen until somebody broke it off is there."""


@dataclass(slots=True)
class Claim:
    """One row of the report. `cases` were collected; of those that ran some `held`, `fell` or were `skipped`."""

    group: str
    what: str
    outcome: str
    place: str
    cases: int = 0
    held: int = 0
    fell: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    seconds: float = 0.0
    figures: list[list[Any]] = field(default_factory=list)


def add_option(parser: pytest.Parser) -> None:
    parser.addoption("--claims", metavar="FILE", help="write what was claimed and what held, as JSON")


def said_by(item: pytest.Item) -> Sequence[str] | None:
    """Group, what was done, what came of it; None for a test that claims nothing."""
    mark = item.get_closest_marker(MARK)
    return None if mark is None else [str(one) for one in mark.args]


class Reporter:
    """A plugin of pytest. With xdist each worker says what its tests claim, and the one process that hears them all writes."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._claims: dict[tuple[str, ...], Claim] = {}
        self._seen: set[str] = set()
        self._written = time.monotonic()

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        for item in session.items:
            if (said := said_by(item)) is not None:
                item.user_properties.append((SAID, said))
                if self._path is not None and session.config.option.collectonly:
                    self._of(said, item.nodeid).cases += 1

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        told = dict(report.user_properties)
        if self._path is None or SAID not in told:
            return
        claim = self._of(told[SAID], report.nodeid)
        claim.seconds = round(claim.seconds + report.duration, 2)
        if report.nodeid not in self._seen:
            self._seen.add(report.nodeid)
            claim.cases += 1
        if report.failed:
            claim.fell.append(f"{report.nodeid} ({report.when}): {_last_line(report)}")
            # At once: the whole proof takes hours.
            print(f"\nFell: {claim.fell[-1]}", file=sys.stderr, flush=True)
        elif report.skipped:
            claim.skipped.append(_why_skipped(report))
        elif report.when == "call":
            claim.held += 1
        if report.when == "teardown":
            claim.figures += [[name, value] for name, value in report.user_properties if name != SAID]
            if time.monotonic() - self._written > WRITTEN_EVERY_SECONDS:
                self._write(self._path)

    def pytest_sessionfinish(self) -> None:
        if self._path is not None:
            self._write(self._path)

    def _write(self, path: Path) -> None:
        self._written = time.monotonic()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps([asdict(one) for one in self._claims.values()], indent=1) + "\n")

    def _of(self, said: Sequence[str], nodeid: str) -> Claim:
        group, what, outcome = said
        place = nodeid.partition("::")[0]
        return self._claims.setdefault((*said, place), Claim(group, what, outcome, place))


def _last_line(report: pytest.TestReport) -> str:
    return " ".join(_lines(report.longreprtext))[-300:]


def _lines(text: str) -> Iterator[str]:
    yield from (line.removeprefix("E").strip() for line in text.splitlines() if line.startswith("E "))


def _why_skipped(report: pytest.TestReport) -> str:
    told = report.longrepr
    return str(told[2]) if isinstance(told, tuple) else str(told)
