"""Holds the action log against what the simulators were really asked: request by request, and by their own record of it."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from app.actionlog.verify import ExportedEntry
from app.jobs.accept import NOBODY
from tests.line.conversations import asked_of_the_model
from tests.line.stage import Stage

MINT = "POST /app/installations/{installation_id}/access_tokens"
REVOKE = "DELETE /installation/token"
ARCHIVES = "GET /_codeload/{owner}/{repo}/legacy.tar.gz/{ref}"
LOGS = "GET (log host)"
REDIRECTED = " (redirected)"
CUT_SHORT = 499
"""The simulated GitHub's own status for a request whose caller left before the request was whole: nothing takes place."""

# What GitHub answers from somewhere else than from where it was asked.
_ELSEWHERE = {
    "GET /repos/{owner}/{repo}/tarball/{ref}": ARCHIVES,
    "GET /repos/{owner}/{repo}/actions/jobs/{job_id}/logs": LOGS,
}
_INSTALLATION = re.compile(r"/app/installations/(\d+)(?:/|$)")


def recorded(stage: Stage) -> Counter[tuple[int, str]]:
    """What reached the simulated GitHub from the service: the installation (0: none, the App itself) and the request.

    A request that was dropped before anything looked at it tells no route and no caller: those are `unread`. One that was held
    up between its head and its body, and cut off there, is sent again as the same one.
    """
    found: Counter[tuple[int, str]] = Counter()
    for one in stage.github.world.requests:
        named = _INSTALLATION.match(one.path)
        call = f"{one.method} {one.route}"
        if one.route is None or one.status == CUT_SHORT:
            continue
        if call == ARCHIVES:
            found[stage.installation, call] += 1  # asked without a token: there is one installation here
        elif one.caller == "installation" and one.installation_id is not None:
            found[one.installation_id, call] += 1
        elif one.caller == "app":
            found[int(named[1]) if named else NOBODY, call] += 1
    found[stage.installation, LOGS] += len(stage.github.world.log_requests)
    return +found


def faulted(stage: Stage) -> int:
    """Requests that a fault met before it was known who asked for what."""
    return sum(one.route is None and one.caller == "anonymous" for one in stage.github.world.requests)


def written(entries: Sequence[ExportedEntry], installation: int) -> Counter[tuple[int, str]]:
    """What the log says of requests to GitHub."""
    found: Counter[tuple[int, str]] = Counter()
    for entry in entries:
        details = dict(entry.details or {})
        if entry.action == "github.write":
            found[installation, _plain(str(details["request"]))] += 1
        elif entry.action == "github.read":
            for name, value in details.items():
                if " /" in name:
                    found[installation, _plain(name)] += int(str(value))
    return found


def _plain(request: str) -> str:
    """As the simulator names it: without the name of a GraphQL operation, and where a redirect led."""
    call = request.removesuffix(REDIRECTED)
    if call != request and call in _ELSEWHERE:
        return _ELSEWHERE[call]
    return " ".join(call.split(" ")[:2])


def missing(seen: Counter[Any], said: Counter[Any]) -> dict[str, int]:
    """What was done and stands nowhere."""
    return {json.dumps(what): count for what, count in sorted((seen - said).items())}


def unseen(seen: Counter[Any], said: Counter[Any]) -> dict[str, int]:
    """What stands in the log and was not seen: sent, and met by a fault before anybody looked."""
    return missing(said, seen)


async def attempts(stage: Stage, entries: Sequence[ExportedEntry]) -> tuple[int, int]:
    """Requests that the provider of the model had, and those that the log tells of."""
    told = sum(entry.action == "model.asked" for entry in entries)
    return len(await asked_of_the_model(stage)), told


def ends_of_attempts(entries: Sequence[ExportedEntry]) -> int:
    """Attempts at the model of which the log says what came of them: all of them where no process was killed."""
    found = 0
    for entry in entries:
        if entry.action == "model.called":
            found += 1
        elif entry.action == "model.failed":
            found += int(str((entry.details or {})["attempts"]))
    return found


async def said(stage: Stage) -> tuple[list[ExportedEntry], Counter[tuple[int, str]]]:
    """The installation's entries, and what they and the service's own say of requests."""
    entries = await stage.log()
    own = await stage.log(NOBODY)
    return entries, written(entries, stage.installation) + written(own, NOBODY)


async def missing_nothing(stage: Stage) -> None:
    """For a service that has ended, however it did: there may be more in its log than reached anybody, never less."""
    await stage.house.github.own.close()  # type: ignore[attr-defined]
    entries, told = await said(stage)
    lost = missing(recorded(stage), told)
    assert lost == {}, f"requests to GitHub that stand in no log: {lost}"
    asked, tried = await attempts(stage, entries)
    assert asked <= tried, "requests to the provider that stand in no log"


def tokens(entries: Sequence[ExportedEntry], action: str) -> int:
    return sum(entry.action == action for entry in entries)
