"""The proof from its beginning to its end: plant, play, crash, stop, search; and what is told of it."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import httpx

from app.prove import control, places
from app.prove.scenarios import (
    MAIN,
    SCENARIOS,
    End,
    Scenario,
    Words,
    a_push,
    ci,
    planted,
    playbook,
    repositories,
)
from app.prove.search import Hit, Search, Searched
from app.prove.stage import Folders, Stage, cores_allowed, staged
from infra.embedded.postgres import SUPERUSER, EmbeddedPostgres

Tell = Callable[[str], None]


@dataclass(slots=True)
class Played:
    """How a scenario went: its runs' ends, and the error that broke it off."""

    name: str
    ends: list[End]
    expected: tuple[End, ...]

    @property
    def as_expected(self) -> bool:
        return sorted(map(str, self.ends)) == sorted(map(str, self.expected))


@dataclass(slots=True)
class Report:
    """What was played, what was searched, and what was found."""

    words: int = 0
    reached: dict[str, list[str]] = field(default_factory=dict)
    """Source -> how its words were seen to go through the service; empty: they were not."""
    played: list[Played] = field(default_factory=list)
    crashes: list[str] = field(default_factory=list)
    workspaces_after_crash: int = 0
    searched: list[Searched] = field(default_factory=list)
    hits: list[Hit] = field(default_factory=list)
    cores: dict[str, Any] = field(default_factory=dict)
    forms_found: dict[str, bool] = field(default_factory=dict)
    control_found: dict[str, bool] = field(default_factory=dict)
    metrics: str = ""
    seconds: float = 0.0

    @property
    def unread(self) -> list[str]:
        """The sources of words that nobody saw go through: nothing is proven of them."""
        return [source for source, ways in self.reached.items() if not ways]

    @property
    def blind(self) -> list[str]:
        """What the search should have found and did not."""
        return [
            name for found in (self.forms_found, self.control_found) for name, ok in found.items() if not ok
        ]

    @property
    def ok(self) -> bool:
        return not (self.hits or self.unread or self.blind or not all(one.as_expected for one in self.played))


async def prove(tell: Tell, scenarios: Sequence[Scenario] = SCENARIOS) -> Report:
    """Play and search. Raises ProofError when the play could not be brought to its end."""
    began, since = time.monotonic(), time.time()
    words, report = planted(scenarios), Report()
    report.words = len(words.canaries)
    report.reached = {canary.source: [] for canary in words.canaries}
    search = Search(words.canaries)
    with Folders.made() as where:
        report.forms_found = control.forms_found(where.github)
        sources = await asyncio.to_thread(repositories, where.github / "sources", _sample, words)
        owner = EmbeddedPostgres(where.data)
        async with staged(where, sources, playbook(scenarios, words)) as stage:
            await _play(stage, scenarios, words, report, tell)
            await _evidence(stage, words, report)
            report.metrics = await _metrics(stage)
            await stage.end(signal.SIGTERM)
            tell("Searching the database's values")
            _add(report, [await asyncio.to_thread(places.values, search, _databases(owner))])
            left = await asyncio.to_thread(control.leave, where, owner.owner_url)
            own = Search([canary for _, canary in left])
            seen = [await asyncio.to_thread(places.values, own, _databases(owner))]
        tell("Searching every byte of the folders")
        _add(report, await asyncio.to_thread(places.folders, search, where))
        _add(report, [await asyncio.to_thread(places.shared, search, where, since)])
        seen += await asyncio.to_thread(places.folders, own, where)
        found = {(hit.place, hit.source) for _, hits in seen for hit in hits}
        report.control_found = {canary.source: (place, canary.source) in found for place, canary in left}
        report.cores = await asyncio.to_thread(_cores, where.github)
    report.seconds = time.monotonic() - began
    return report


def _databases(owner: EmbeddedPostgres) -> list[str]:
    return [owner.owner_url, owner.url(SUPERUSER, "postgres")]


# --- the play --------------------------------------------------------------------------------------------------------


async def _play(
    stage: Stage, scenarios: Sequence[Scenario], words: Words, report: Report, tell: Tell
) -> None:
    """First what is crashed into, then all that is left, while the runs that were cut off are taken up again."""
    stage.github.on_push(ci(words), MAIN)
    tell("Starting the service")
    await stage.start()
    playing: list[tuple[Scenario, asyncio.Task[Any]]] = []
    try:
        for number in (signal.SIGKILL, signal.SIGABRT):
            struck = [one for one in scenarios if one.crash is number]
            if struck:
                playing += await _crashed(stage, struck, number, words, tell)
                report.crashes.append(number.name)
                report.workspaces_after_crash += sum(1 for _ in stage.folders.memory.iterdir())
                _at_the_crash(
                    report, await asyncio.to_thread(places.folders, Search(words.canaries), stage.folders)
                )
                await stage.start()
        tell("Playing the other requests")
        await a_push(stage, words)
        rest = [one for one in scenarios if one.crash is None and one.ends]
        playing += [(one, asyncio.create_task(_as_task(one.play(stage, words)))) for one in rest]
        for one, task in playing:
            ends = [(run.verb, run.state.value, run.reason) for run in await task]
            report.played.append(Played(one.name, ends, one.ends))
            tell(f"Played: {one.name}")
        await stage.github.world.settled()
    finally:
        for _, task in playing:
            task.cancel()


async def _as_task(play: Awaitable[Any]) -> Any:
    return await play


async def _crashed(
    stage: Stage, struck: Sequence[Scenario], number: signal.Signals, words: Words, tell: Tell
) -> list[tuple[Scenario, asyncio.Task[Any]]]:
    """Begins these requests, and ends the service without warning when the last of them has come to its moment."""
    playing = []
    for one in struck:
        tell(f"Playing: {one.name}")
        playing.append((one, asyncio.create_task(_as_task(one.play(stage, words)))))
        moment = one.struck
        if moment is not None:
            await stage.until(lambda moment=moment: moment(stage, words), f"the moment of: {one.name}")
    tell(f"Ending the service with {number.name}")
    await stage.end(number)
    return playing


def _at_the_crash(report: Report, found: Sequence[tuple[Searched, list[Hit]]]) -> None:
    """What lies on disk right after a crash counts; what lies in memory is the workspace of the run that was cut off, which
    the next start sweeps."""
    _add(report, [one for one in found if one[0].place != places.MEMORY])


def _add(report: Report, found: Sequence[tuple[Searched, list[Hit]]]) -> None:
    for searched, hits in found:
        report.searched.append(searched)
        report.hits += [hit for hit in hits if hit not in report.hits]


# --- that the words went through -------------------------------------------------------------------------------------


async def _evidence(stage: Stage, words: Words, report: Report) -> None:
    """Where the words were seen by the other side: GitHub and the provider. One word of a source unseen, and it is unread."""
    asked = await stage.model_requests()
    ways = {
        "sent to the model": "\n".join(one["raw"] for one in asked),
        "in the provider's refusals": "\n".join(one["refusal"] for one in asked),
        "in webhooks that the service accepted": "\n".join(
            one.body.decode("utf-8", "replace")
            for one in stage.github.world.deliveries
            if 200 <= one.status_code < 300
        ),
        "in GitHub's answers to the service": "\n".join(stage.answered),
    }
    lowered = {way: text.lower() for way, text in ways.items()}
    for canary in words.canaries:
        if canary.number:
            continue
        several = [one.word for one in words.canaries if one.source == canary.source]
        seen = [{way for way, text in lowered.items() if word in text} for word in several]
        if all(seen):
            report.reached[canary.source] = sorted(set().union(*seen))


async def _metrics(stage: Stage) -> str:
    """What is told at /metrics, into a file of the log's folder, so that it is searched with the rest."""
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.get(f"http://127.0.0.1:{stage.environ['MAGICODE_PORT']}/metrics")
    if answer.status_code != 200:
        return "the service has none"
    (stage.folders.log / "metrics").write_bytes(answer.content)
    return f"{len(answer.content)} bytes, searched with the log"


# --- cores -----------------------------------------------------------------------------------------------------------

_DIES = "import os; word = bytes(reversed(os.environb[b'W'])); os.abort()"


def _cores(folder: Path) -> dict[str, Any]:
    """Whether this machine leaves cores where they can be looked for: another program is let die to see it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    scratch = Path(tempfile.mkdtemp(dir=folder))
    subprocess.run(
        [sys.executable, "-c", _DIES],
        check=False,
        cwd=scratch,
        env={"PATH": os.defpath, "W": "x"},
        preexec_fn=cores_allowed,
        capture_output=True,
    )
    return {
        "pattern": places.core_pattern(),
        "limit": [_limit(soft), _limit(hard)],
        "another_program_left_one": any(scratch.iterdir()),
    }


def _limit(value: int) -> int | str:
    return "unlimited" if value == resource.RLIM_INFINITY else value


def _sample(target: Path) -> None:
    with as_file(files("infra.simulator") / "sample") as folder:
        shutil.copytree(folder, target, ignore=shutil.ignore_patterns("__pycache__"))
