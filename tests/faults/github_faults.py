"""Requests for help that are played many at once, each on an account of its own, each with one call to GitHub that goes wrong.

Which calls there are is read from what the simulated GitHub was asked when nothing went wrong.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from app.jobs import retries
from app.nouns import Run
from infra.simulator.ci import CiJob, Code, failing, passing
from tests.line.conversations import ASK, BODY, TITLE
from tests.line.stage import Stage

REPOSITORY = "notes"
AT_ONCE = 4
WITHIN = 600.0


@dataclass(frozen=True)
class Call:
    """The `nth` request (from 0) of this method and route that a conversation makes."""

    method: str
    route: str
    nth: int

    @property
    def name(self) -> str:
        return f"{self.method} {self.route}" + (f" #{self.nth + 1}" if self.nth else "")

    @property
    def like(self) -> tuple[str, str]:
        return self.method, self.route

    @property
    def writes(self) -> bool:
        return self.method != "GET"

    def where(self, login: str, installation: int) -> dict[str, Any]:
        """What a fault is told so that it meets this call of this account."""
        pattern = re.sub(r"\\\{\w+\\\}", ".+", re.escape(self.route))
        if "{repo}" in self.route:
            pattern = pattern.replace(".+/.+", f"{login}/{REPOSITORY}", 1)
        # An archive is fetched without a token.
        whose = 0 if self.route.startswith("/_codeload") else installation
        return {"method": self.method, "route": f"^{pattern}$", "skip": self.nth, "installation": whose}


@dataclass(frozen=True, eq=False)
class Goes:
    """A way in which a call goes wrong."""

    name: str
    fault: Mapping[str, Any]
    writes_only: bool = False


FORMS = ("truncated", "html", "shape", "empty", "too_long", "gzip", "not_utf8")
WRONG: Sequence[Goes] = (
    Goes("answers 500", {"kind": "status", "status": 500}),
    Goes("answers 503", {"kind": "status", "status": 503}),
    Goes("answers 502 and has done it", {"kind": "status_after", "status": 502}, writes_only=True),
    Goes("answers 504 and has done it", {"kind": "status_after", "status": 504}, writes_only=True),
    Goes("is silent", {"kind": "hang_before"}),
    Goes("is silent and has done it", {"kind": "hang_after"}, writes_only=True),
    Goes("closes the connection", {"kind": "drop_before"}),
    Goes("closes the connection and has done it", {"kind": "drop_after"}, writes_only=True),
    Goes("resets the connection", {"kind": "reset_before"}),
    Goes("resets the connection and has done it", {"kind": "reset_after"}, writes_only=True),
    *(Goes(f"has done it and answers badly ({form})", {"kind": "malformed", "form": form}) for form in FORMS),
    Goes("revokes the token from then on", {"kind": "revoked"}),
    Goes("lets the token expire", {"kind": "expired"}),
    Goes("does not find it yet", {"kind": "status", "status": 404, "message": "Not Found"}),
    Goes("shows what it made later", {"kind": "late", "seconds": 1.5}, writes_only=True),
    Goes("answers 409", {"kind": "status", "status": 409, "message": "Conflict"}),
    Goes("has no requests left (403)", {"kind": "primary_limit", "seconds": 2}),
    Goes("has no requests left (429)", {"kind": "primary_limit", "seconds": 2, "status": 429}),
    *(
        Goes(
            f"meets a secondary limit ({status}, {header})",
            {"kind": "secondary_limit", "seconds": 2, "holds": True, "status": status, "header": header},
        )
        for status in (403, 429)
        for header in ("retry-after", "date", "reset", "none")
    ),
)


FAILS = "E       AssertionError: it is wrong\nFAILED tests/test_note.py::test_the_note - AssertionError: it is wrong\n"


class Gate:
    """Where checks wait, so that they fail when it is their turn: behind the pull request, and behind the fault."""

    def __init__(self) -> None:
        self._open = asyncio.Event()

    async def __call__(self, code: Code) -> list[CiJob]:
        await self._open.wait()
        wrong = "NOTES.md" in code.files and "ROUND.md" not in code.files
        return [failing("tests", FAILS) if wrong else passing("tests")]

    def open(self) -> None:
        self._open.set()


@dataclass
class Played:
    call: Call
    goes: Goes
    login: str
    installation: int
    runs: list[Run] = field(default_factory=list)
    repaired: bool = False
    checks: Gate = field(default_factory=Gate)

    def __str__(self) -> str:
        ends = ", ".join(f"{run.verb}: {run.state} ({run.reason})" for run in self.runs)
        return f"{self.login}: {self.call.name} {self.goes.name} -> {ends}"


def soon(error: BaseException, taken_before: int) -> timedelta | None:
    """As the service tries again, without its waits."""
    wait = retries.retry_after(error, taken_before)
    return None if wait is None else min(wait, timedelta(milliseconds=500))


# --- conversations ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Conversation:
    """`before` goes well; what is asked by `then` meets the fault. Both return the number of runs there are after them."""

    name: str
    before: Callable[[Stage, Played], Awaitable[int]]
    then: Callable[[Stage, Played], Awaitable[int]]
    ends: frozenset[str]


def _place(played: Played) -> str:
    return f"{played.login}/{REPOSITORY}"


async def nothing(_: Stage, __: Played) -> int:
    return 0


async def asks_for_a_fix(stage: Stage, played: Played, words: str = ASK) -> int:
    number = await stage.open_issue(TITLE, BODY, repository=_place(played))
    await stage.comment(number, words, repository=_place(played))
    return 1


async def asks_for_a_plan(stage: Stage, played: Played) -> int:
    return await asks_for_a_fix(stage, played, "@magicode plan")


async def has_a_pull_request(stage: Stage, played: Played) -> int:
    await asks_for_a_fix(stage, played)
    await ended(stage, played, 1)
    return 1


async def asks_for_more(stage: Stage, played: Played) -> int:
    (pull,) = await stage.pulls(repository=_place(played))
    await stage.comment(pull["number"], "@magicode once more", repository=_place(played))
    return 2


async def has_a_plan(stage: Stage, played: Played) -> int:
    await asks_for_a_plan(stage, played)
    await ended(stage, played, 1)
    return 1


async def says_go(stage: Stage, played: Played) -> int:
    (plan,) = await runs_of(stage, played)
    await stage.comment(plan.number, "@magicode go", repository=_place(played))
    return 2


async def asks_to_undo(stage: Stage, played: Played) -> int:
    (pull,) = await stage.pulls(repository=_place(played))
    await stage.comment(pull["number"], "@magicode undo", repository=_place(played))
    return 2


async def has_checks_at_work(stage: Stage, played: Played) -> int:
    stage.github.on_push(played.checks, _place(played))
    await has_a_pull_request(stage, played)
    await asyncio.sleep(1)
    return 1


async def checks_fail(_: Stage, played: Played) -> int:
    played.checks.open()
    return 2


CONVERSATIONS = {
    "fix": Conversation("fix", nothing, asks_for_a_fix, frozenset({"opened"})),
    "revise": Conversation("revise", has_a_pull_request, asks_for_more, frozenset({"updated"})),
    "plan": Conversation("plan", nothing, asks_for_a_plan, frozenset({"answered"})),
    "go": Conversation("go", has_a_plan, says_go, frozenset({"opened"})),
    "mend": Conversation("mend", has_checks_at_work, checks_fail, frozenset({"updated"})),
    "undo": Conversation("undo", has_a_pull_request, asks_to_undo, frozenset({"updated"})),
}


async def runs_of(stage: Stage, played: Played) -> list[Run]:
    """Oldest first."""
    async with stage.house.store.transaction(played.installation) as transaction:
        return list(reversed(await transaction.runs()))


async def ended(stage: Stage, played: Played, count: int) -> list[Run]:
    deadline = asyncio.get_running_loop().time() + WITHIN
    while True:
        runs = await runs_of(stage, played)
        if len(runs) >= count and all(run.state.ended for run in runs):
            return runs
        if asyncio.get_running_loop().time() > deadline:
            raise TimeoutError(str(Played(played.call, played.goes, played.login, played.installation, runs)))
        await asyncio.sleep(0.2)


# --- playing ---------------------------------------------------------------------------------------------------------


async def an_account(stage: Stage, folder: Path, login: str) -> int:
    """The installation of a new account with one repository, once the service knows it."""
    made = await stage.github.add_account(login, {REPOSITORY: folder}, people={"wim": "write"})
    await stage.settled()
    return made.id


async def calls_of(stage: Stage, folder: Path, conversation: Conversation) -> list[Call]:
    """Each call of the conversation, in order, as the simulated GitHub was asked; of those that come more than twice the first
    and the last."""
    played = Played(Call("", "", 0), WRONG[0], f"traced-{conversation.name}", 0)
    played.installation = await an_account(stage, folder, played.login)
    await conversation.before(stage, played)
    await asyncio.sleep(1)
    begun = len(stage.github.world.requests)
    await ended(stage, played, await conversation.then(stage, played))
    await asyncio.sleep(1)
    seen: list[tuple[str, str]] = []
    for one in stage.github.world.requests[begun:]:
        named = f"/{played.login}/" in one.path or f"/installations/{played.installation}/" in one.path
        if one.route and one.caller != "user" and (named or one.installation_id == played.installation):
            seen.append((one.method, one.route))
    counts: Counter[tuple[str, str]] = Counter()
    calls = []
    for each in seen:
        if counts[each] == 0 or counts[each] + 1 == seen.count(each):
            calls.append(Call(*each, counts[each]))
        counts[each] += 1
    return calls


async def play(
    stage: Stage, folder: Path, conversation: Conversation, pairs: Sequence[tuple[Call, Goes]]
) -> list[Played]:
    """Each pair on an account of its own, `AT_ONCE` of them at a time."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(number: int, call: Call, goes: Goes) -> Played:
        login = f"{conversation.name}-{number}"
        async with slots:
            played = Played(call, goes, login, await an_account(stage, folder, login))
            await conversation.before(stage, played)
            await stage.fault(**call.where(login, played.installation), **goes.fault)
            count = await conversation.then(stage, played)
            played.runs = await ended(stage, played, count)
            if played.runs[-1].state.value not in conversation.ends:
                await _repair(stage, played)
        return played

    return list(await asyncio.gather(*(one(number, *pair) for number, pair in enumerate(pairs, 1))))


async def _repair(stage: Stage, played: Played) -> None:
    """Somebody asks once more."""
    number = played.runs[-1].number
    await stage.comment(number, "@magicode retry", repository=_place(played))
    played.runs = await ended(stage, played, len(played.runs) + 1)
    played.repaired = True


def unmet(stage: Stage, played: Sequence[Played]) -> list[str]:
    """The faults that no request met."""
    waiting = {
        (one.route.pattern, one.installation) for one in stage.github.simulator.faults.waiting if one.times
    }
    told = [(one, one.call.where(one.login, one.installation)) for one in played]
    return [str(one) for one, where in told if (where["route"], where["installation"]) in waiting]
