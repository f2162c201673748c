"""Many people ask at once: requests on many issues of several repositories, and their deliveries as they were recorded."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx

from infra.simulator.state import Delivery
from tests.line.stage import Stage

MENTION = "@magicode"


def repositories(sample: Path, count: int) -> Mapping[str, Path]:
    """So many copies of a repository, of one account."""
    found = {"octo/fairshare": sample}
    for number in range(1, count):
        copy = sample.parent / f"fairshare-{number}"
        shutil.copytree(sample, copy)
        found[f"octo/fairshare-{number}"] = copy
    return found


def unlimited(stage: Stage) -> None:
    """People and the App may ask as often as they like: limits are not what is tried here."""
    limits = stage.github.world.limits
    limits.user_per_hour = limits.installation_per_hour = limits.points_per_minute = 10**9
    limits.content_per_minute = limits.content_per_hour = limits.concurrent = 10**9


async def issues(stage: Stage, count: int, *, title: str = "The note is wrong") -> list[tuple[str, int]]:
    """So many new issues, spread over all repositories: each repository's name and the issue's number."""
    names = [repo.full_name for repo in stage.github.world.repositories.values()]
    made = []
    for number in range(count):
        where = names[number % len(names)]
        made.append((where, await stage.open_issue(title, "NOTES.md says nothing.", repository=where)))
    return made


async def ask_on(
    stage: Stage, places: Sequence[tuple[str, int]], words: Sequence[str], *, at_once: int = 8
) -> list[Delivery]:
    """A comment with each of the words, in turn on each of the places; the comments' deliveries."""
    before = len(stage.github.world.deliveries)
    gate = asyncio.Semaphore(at_once)
    people = {user: _person(stage, user) for user in ("wim", "ada")}

    said: set[int] = set()

    async def say(number: int, word: str) -> None:
        where, issue = places[number % len(places)]
        async with gate:
            answer = await people[("wim", "ada")[number % 2]].post(
                f"/repos/{where}/issues/{issue}/comments", json={"body": f"{MENTION} {word}"}
            )
        answer.raise_for_status()
        said.add(int(answer.json()["id"]))

    await asyncio.gather(*(say(number, word) for number, word in enumerate(words)))
    for client in people.values():
        await client.aclose()
    await stage.settled()
    made = [one for one in stage.github.world.deliveries[before:] if _is_a_persons(one)]
    made = [one for one in made if json.loads(one.body)["comment"]["id"] in said]
    assert len(made) == len(words)
    return made


def _person(stage: Stage, user: str) -> httpx.AsyncClient:
    """A connection for each request: one that is kept may be closed by the time that a busy machine uses it."""
    return httpx.AsyncClient(
        base_url=stage.github.base_url,
        headers=stage.client(user).headers,
        limits=httpx.Limits(max_keepalive_connections=0),
        timeout=60,
        trust_env=False,
    )


def _is_a_persons(one: Delivery) -> bool:
    """The service's own words are told as well, while it works."""
    if (one.event, one.action, one.redelivery) != ("issue_comment", "created", False):
        return False
    return bool(json.loads(one.body)["sender"]["type"] == "User")
