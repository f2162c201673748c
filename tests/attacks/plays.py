"""Many attacks on one raised service: each has an issue of its own, and a model that obeys the attacker to the letter.

No model is kept from obeying by asking it nicely, so none is asked: the scripted one returns whatever the injected text
demands, and what is asserted is that plain code stops it.
"""

from __future__ import annotations

import asyncio
import itertools
import shutil
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from app.nouns import Run
from infra.embedded.postgres import SERVICE_ROLE, SUPERUSER, EmbeddedPostgres
from infra.models.playbook import Playbook
from tests.faults.asking import unlimited
from tests.line.conftest import SIMULATOR, Words
from tests.line.conversations import (
    asked_of_the_model,
    playbook,
    repository_file,
    scenario,
)
from tests.line.seen import get
from tests.line.stage import Stage, staged

Turns = Sequence[Mapping[str, Any]]
_databases = itertools.count(1)


@dataclass(frozen=True)
class Played:
    """What is there after a request: its run, the issue's number, and everything that we wrote about it."""

    stage: Stage
    run: Run
    number: int
    pull: Mapping[str, Any] | None
    commit: Mapping[str, Any] | None
    said: Sequence[str]
    sent: Sequence[Mapping[str, Any]] = field(repr=False)

    @property
    def end(self) -> tuple[str, str | None]:
        return self.run.state.value, self.run.reason

    @property
    def branch(self) -> str:
        return f"magicode/issue-{self.number}"

    @property
    def published(self) -> list[str]:
        """The titles, bodies and messages that stand on GitHub now, none of them of a file."""
        pull = [str(self.pull["title"]), str(self.pull["body"])] if self.pull else []
        return [*pull, *([str(self.commit["message"])] if self.commit else []), *self.said]

    @property
    def words(self) -> str:
        """All that was sent to the model about it: every text that it could read, as it reads it."""
        return "\n".join(text for one in self.sent for text in strings(one["body"]))


@dataclass
class Theatre:
    """A service that plays one attack after the other."""

    stage: Stage
    seen: int = 0
    played: dict[str, Played] = field(default_factory=dict)
    begun: set[str] = field(default_factory=set)
    prompts: list[str] = field(default_factory=list)
    names: dict[int, str] = field(default_factory=dict)

    async def once(self, key: str, *body: str, **how: str) -> Played:
        """As `play`; what was played already is looked at again, since several claims can be about one request."""
        if key not in self.played:
            assert key not in self.begun, "this request did not come to an end before"
            self.begun.add(key)
            self.played[key] = await self.play(key, *body, **how)
        return self.played[key]

    async def play(
        self, key: str, body: str = "It is wrong.", *, by: str = "wim", ask: str = "fix this"
    ) -> Played:
        """An issue by `by` that names the scenario `key`, asked for by a writer, to its end."""
        number = await self.stage.open_issue(named(key), body, user=by)
        return await self.asked(number, key, ask)

    async def asked(self, number: int, key: str, ask: str = "fix this") -> Played:
        """Asked for on an issue that is there; only what is about `key` counts as sent for it."""
        self.names[number] = key
        before = {run.id for run in await self.stage.runs()}
        await self.stage.comment(number, f"@magicode {ask}")
        return await self.ended(number, before)

    async def ended(self, number: int, before: set[Any], within: float = 120.0) -> Played:
        deadline = asyncio.get_running_loop().time() + within
        while True:
            fresh = [run for run in await self.stage.runs() if run.id not in before and run.number == number]
            if fresh and fresh[0].state.ended:
                return await self._told(fresh[0])
            assert asyncio.get_running_loop().time() < deadline, f"no end: {fresh}"
            await asyncio.sleep(0.1)

    async def _told(self, run: Run) -> Played:
        pulls = await self.stage.pulls()
        branch = f"magicode/issue-{run.number}"
        pull = next(
            (one for one in pulls if one["head"]["ref"] == branch or one["number"] == run.number), None
        )
        commit = None
        if pull is not None and pull["head"]["ref"].startswith("magicode/"):
            commit = await get(self.stage, f"/git/commits/{pull['head']['sha']}")
        asked = await asked_of_the_model(self.stage)
        fresh, self.seen = asked[self.seen :], len(asked)
        self.prompts += [text for one in fresh for text in strings(one["body"])]
        mine = f"({self.names[run.number]})"
        sent = [one for one in fresh if any(mine in text for text in strings(one["body"]))]
        said = [
            str(one["body"])
            for one in await self.stage.comments(run.number)
            if one["user"]["login"] == "magicode[bot]"
        ]
        return Played(self.stage, run, run.number, pull, commit, said, sent)


def named(key: str) -> str:
    """An issue's title that tells the scripted model which scenario this is."""
    return f"case ({key})"


def script(key: str, *turns: Mapping[str, Any]) -> dict[str, Any]:
    """What the model returns when it is asked about this issue."""
    return scenario(*[dict(turn) for turn in turns], when=f"({key})")


def book(*scenarios: Mapping[str, Any]) -> Playbook:
    return playbook(*[dict(one) for one in scenarios])


def strings(value: Any) -> list[str]:
    """Every text in a JSON value."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        return [text for one in value.values() for text in strings(one)]
    if isinstance(value, Sequence):
        return [text for one in value for text in strings(one)]
    return []


@asynccontextmanager
async def theatre(
    folder: Path,
    postgres: EmbeddedPostgres,
    scripts: Playbook,
    *,
    files: Mapping[str, str | bytes] | None = None,
    links: Mapping[str, str] | None = None,
    settings: Mapping[str, Any] | None = None,
    **how: Any,
) -> AsyncIterator[Theatre]:
    """One service for a whole module. `files` and symbolic `links` are added to the sample repository, `settings` are its
    `.github/magicode.yml`."""
    sample = folder / "fairshare"
    shutil.copytree(SIMULATOR / "sample", sample, ignore=shutil.ignore_patterns("__pycache__"))
    repository_file(sample, **{"checks": [], "second_look": False, **(settings or {})})
    for path, content in (files or {}).items():
        (sample / path).parent.mkdir(parents=True, exist_ok=True)
        (sample / path).write_bytes(content.encode() if isinstance(content, str) else content)
    for path, target in (links or {}).items():
        (sample / path).symlink_to(target)
    name = f"plays{next(_databases)}"
    with psycopg.connect(postgres.url(SUPERUSER, "postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template STRATEGY FILE_COPY")
    async with staged(
        folder / "stage",
        {"octo/fairshare": sample},
        scripts,
        database_url=postgres.url(SERVICE_ROLE, name),
        **{"encoder": Words(), **how},
    ) as stage:
        unlimited(stage)
        yield Theatre(stage)
    with psycopg.connect(postgres.url(SUPERUSER, "postgres"), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
