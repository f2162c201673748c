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
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
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
from app.prove.stage import FIGURES, Folders, ProofError, Stage, cores_allowed, staged
from infra.embedded.postgres import SUPERUSER, EmbeddedPostgres

_AS_GOOD: Mapping[str | None, str] = {"opened_as_draft": "opened"}
Tell = Callable[[str], None]


@dataclass(slots=True)
class Played:
    """How a scenario went: its runs' ends, and the error that broke it off."""

    name: str
    ends: list[End]
    expected: tuple[End, ...]
    broke: str = ""

    @property
    def as_expected(self) -> bool:
        """Whether CI was heard before the pull request was opened, which makes it a draft at first, is a matter of chance."""
        ends = [(verb, state, _AS_GOOD.get(reason) or reason) for verb, state, reason in self.ends]
        return Counter(ends) == Counter(self.expected)


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
    found_by_control: list[Hit] = field(default_factory=list)
    cores: dict[str, Any] = field(default_factory=dict)
    forms_found: dict[str, bool] = field(default_factory=dict)
    control_found: dict[str, bool] = field(default_factory=dict)
    metrics: str = ""
    traces: str = ""
    warned: list[str] = field(default_factory=list)
    """The last warnings of the service, which say why a play went otherwise; they are searched with the rest of its log."""
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
        unproven = self.hits or self.unread or self.blind or not self.played or not self.searched
        return not unproven and all(one.as_expected for one in self.played)


async def prove(tell: Tell, scenarios: Sequence[Scenario] = SCENARIOS) -> Report:
    """Play and search. Raises ProofError when the play could not be brought to its end."""
    began, since = time.monotonic(), time.time()
    words, report = planted(scenarios), Report()
    report.words = len(words.canaries)
    report.reached = {canary.source: [] for canary in words.canaries}
    own = control.words()
    search = Search([*words.canaries, *(one.canary for one in own)])
    with Folders.made() as where:
        report.forms_found = await asyncio.to_thread(control.forms_found, where.github)
        sources = await asyncio.to_thread(repositories, where.github / "sources", _sample, words)
        async with AsyncExitStack() as stack:
            stage = await stack.enter_async_context(staged(where, sources, playbook(scenarios, words)))
            await _play(stage, scenarios, words, search, report, tell)
            await _evidence(stage, words, report)
            report.metrics = await _metrics(stage)
            await stage.end(signal.SIGTERM)
            report.traces = _traces(stage)
            report.warned = stage.warned()
            owner = EmbeddedPostgres(where.data)
            with control.left(own, where, owner.owner_url) as kept:
                tell("Searching the database's values")
                urls = [owner.owner_url, owner.url(SUPERUSER, "postgres")]
                _add(report, [await asyncio.to_thread(places.values, search, urls)])
                await stack.aclose()  # the last to use PostgreSQL: it writes all that it has, and ends
                tell("Searching every byte")
                _add(report, await asyncio.to_thread(places.folders, search, where))
                _add(report, [await asyncio.to_thread(places.shared, search, where, since)])
        found = {(hit.place, hit.source) for hit in report.found_by_control}
        report.control_found = {one.canary.source: (one.place, one.canary.source) in found for one in kept}
        report.cores = await asyncio.to_thread(_cores, where.github)
    report.seconds = time.monotonic() - began
    return report


# --- the play --------------------------------------------------------------------------------------------------------


async def _play(  # noqa: PLR0917 what is played, on what, and who is told
    stage: Stage, scenarios: Sequence[Scenario], words: Words, search: Search, report: Report, tell: Tell
) -> None:
    """First what is crashed into, then all that is left, while the runs that were cut off are taken up again."""
    stage.github.on_push(ci(words), MAIN)
    tell("Starting the service")
    await stage.start()
    await a_push(stage, words)
    playing: list[tuple[Scenario, asyncio.Task[Any]]] = []
    try:
        for number in (signal.SIGKILL, signal.SIGABRT):
            struck = [one for one in scenarios if one.crash is number]
            if struck:
                playing += await _crashed(stage, struck, number, words, tell)
                report.crashes.append(number.name)
                report.workspaces_after_crash += sum(1 for _ in stage.folders.memory.iterdir())
                _at_the_crash(report, await asyncio.to_thread(places.folders, search, stage.folders))
                await stage.start()
        tell("Playing the other requests")
        rest = [one for one in scenarios if one.crash is None and one.ends]
        playing += [(one, asyncio.create_task(_as_task(one.play(stage, words)))) for one in rest]
        for one, task in playing:
            try:
                runs, broke = list(await task), ""
            except ProofError as error:
                runs, broke = [], error.message
            ends = [(run.verb, run.state.value, run.reason) for run in runs]
            report.played.append(Played(one.name, ends, one.ends, broke))
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
            await stage.until(partial(moment, stage, words), f"the moment of: {one.name}")
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
        report.found_by_control += [hit for hit in hits if hit.source.startswith(control.MARK)]
        news = [hit for hit in hits if not hit.source.startswith(control.MARK)]
        report.hits += [hit for hit in news if hit not in report.hits]


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
    """What is told at /metrics, into a file of the log's folder, so that it is searched with the rest. Raises ProofError."""
    async with httpx.AsyncClient(trust_env=False) as client:
        url = f"http://127.0.0.1:{stage.environ['MAGICODE_PORT']}/metrics"
        answer = await client.get(url, headers={"Authorization": f"Bearer {FIGURES}"})
    if answer.status_code != 200:
        raise ProofError("The service of the proof tells no figures.", reason="no_metrics")
    (stage.folders.log / "metrics").write_bytes(answer.content)
    return f"{len(answer.content)} bytes, searched with the log"


def _traces(stage: Stage) -> str:
    """What the collector was handed lies in the log's folder too. Raises ProofError."""
    spans = len(stage.collector.spans)
    if not spans:
        raise ProofError("The service of the proof handed over no traces.", reason="no_traces")
    return f"{spans} spans, searched with the log"


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
