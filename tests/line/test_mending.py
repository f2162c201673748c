"""Failing CI on a pull request of ours: mended at most three times, and left alone where mending is not ours."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.nouns import Run
from infra.models.playbook import Playbook
from infra.simulator.ci import CiJob, Code, failing, lost, passing
from tests.line.conftest import Stages
from tests.line.conversations import (
    ask,
    create,
    finish,
    ours,
    playbook,
    reasons,
    scenario,
)
from tests.line.seen import comment_of_ours
from tests.line.stage import Stage

Ci = Callable[[Code], list[CiJob]]


def log(words: str) -> str:
    return f"E       AssertionError: {words}\nFAILED tests/test_note.py::test_the_note - AssertionError: {words}\n"


def rounds(code: Code) -> int:
    return sum(path.startswith("ROUND_") for path in code.files)


def mends(*, slow: float = 0.0) -> Playbook:
    """Opens with a note; each failure, told apart by its number, is answered with a file of that number."""
    answer: dict[str, Any] = {
        **create("ROUND_{n}.md", "x\n"),
        "capture": [r"word(?P<n>[a-z]+) is wrong"],
    }
    if slow:
        answer["slow"] = {"seconds": slow, "after_chunks": 1}
    return playbook(
        scenario(answer, finish("Mend it", "CI failed."), when="FAILED tests/test_note.py"),
        scenario(create("ELSE.md", "x\n"), finish("Write something else"), when="write something else"),
        scenario(create("NOTES.md", "A note.\n"), finish()),
    )


async def red(raise_stage: Stages, sample: Path, ci: Ci, *, slow: float = 0.0, repofile: str = "") -> Stage:
    if repofile:
        (sample / ".github").mkdir(exist_ok=True)
        (sample / ".github" / "magicode.yml").write_text(repofile)
    stage = await raise_stage({"octo/fairshare": sample}, mends(slow=slow))
    stage.github.on_push(ci)
    return stage


async def mending(stage: Stage, count: int) -> list[tuple[str, str, str | None]]:
    """The runs that mend, once that many have ended, and nothing more comes after them."""
    deadline = asyncio.get_running_loop().time() + 60
    while True:
        runs = [run for run in reversed(await stage.runs()) if run.verb == "mend"]
        if sum(run.state.ended for run in runs) >= count:
            break
        assert asyncio.get_running_loop().time() < deadline, reasons(await stage.runs())
        await asyncio.sleep(0.1)
    await stage.settled()
    await asyncio.sleep(0.5)
    return reasons(run for run in reversed(await stage.runs()) if run.verb == "mend")


async def only_pull(stage: Stage) -> dict[str, Any]:
    (pull,) = await stage.pulls()
    return pull


async def commits(stage: Stage, number: int) -> list[str]:
    answer = await stage.client().get(f"/repos/{stage.repository}/pulls/{number}/commits")
    return [one["commit"]["message"].split("\n", 1)[0] for one in answer.json()]


async def status(stage: Stage, number: int) -> str:
    """The one comment about CI on the pull request."""
    (said,) = [one for one in await ours(stage, number) if f"magicode:run:ci-{number} " in one]
    return said


async def ready(stage: Stage, number: int) -> bool:
    """Whether the draft becomes ready within a while."""
    for _ in range(100):
        if not (await only_pull(stage))["draft"]:
            return True
        await asyncio.sleep(0.1)
    return False


WORDS = ("alpha", "beta", "gamma", "delta", "omega")


@pytest.mark.long
async def test_three_tries_and_then_it_is_left_to_people(raise_stage: Stages, sample: Path) -> None:
    def ci(code: Code) -> list[CiJob]:
        if "NOTES.md" not in code.files:
            return [passing("tests")]
        return [failing("tests", log(f"word{WORDS[rounds(code)]} is wrong"))]

    stage = await red(raise_stage, sample, ci)
    await ask(stage)
    told = await mending(stage, 4)
    assert told == [("mend", "updated", "mended")] * 3 + [("mend", "refused", "mend_tries")]
    number = (await only_pull(stage))["number"]
    assert await commits(stage, number) == ["Write the note", "Mend it", "Mend it", "Mend it"]
    assert "as often as I try" in await status(stage, number)
    assert await ready(stage, number)


async def test_the_same_failure_again_ends_it(raise_stage: Stages, sample: Path) -> None:
    def ci(code: Code) -> list[CiJob]:
        bad = "NOTES.md" in code.files
        return [failing("tests", log("wordalpha is wrong")) if bad else passing("tests")]

    stage = await red(raise_stage, sample, ci)
    await ask(stage)
    assert await mending(stage, 2) == [("mend", "updated", "mended"), ("mend", "refused", "same_failure")]
    number = (await only_pull(stage))["number"]
    assert len(await commits(stage, number)) == 2
    assert "same failure came back" in await status(stage, number)
    assert await ready(stage, number)


async def test_a_lost_machine_is_not_mended(raise_stage: Stages, sample: Path) -> None:
    stage = await red(raise_stage, sample, lambda code: [lost("tests")])
    await ask(stage)
    assert await mending(stage, 1) == [("mend", "refused", "ci_infrastructure")]
    number = (await only_pull(stage))["number"]
    assert len(await commits(stage, number)) == 1
    assert "I changed nothing" in await status(stage, number)
    assert "No model was called" in await status(stage, number)
    assert await ready(stage, number)


async def test_what_fails_on_the_base_too_is_not_mended(raise_stage: Stages, sample: Path) -> None:
    stage = await red(raise_stage, sample, lambda code: [failing("tests", log("wordalpha is wrong"))])
    answer = await stage.client().put(
        f"/repos/{stage.repository}/contents/README.md2",
        json={"message": "So that CI runs on main", "content": "eA==", "branch": "main"},
    )
    assert answer.is_success
    await stage.settled()
    await asyncio.sleep(0.5)
    await ask(stage)
    assert await mending(stage, 1) == [("mend", "refused", "ci_base")]
    number = (await only_pull(stage))["number"]
    assert "fails on the base branch too" in await status(stage, number)
    assert await ready(stage, number)


async def test_a_repository_that_wants_no_mending_gets_none(raise_stage: Stages, sample: Path) -> None:
    def ci(code: Code) -> list[CiJob]:
        return [failing("tests", log("wordalpha is wrong")) if "NOTES.md" in code.files else passing("tests")]

    stage = await red(raise_stage, sample, ci, repofile="mend: false\n")
    await ask(stage)
    await stage.ended()
    number = (await only_pull(stage))["number"]
    assert await ready(stage, number)
    assert [run.verb for run in await stage.runs()] == ["fix"]


async def test_the_limit_of_the_first_request_holds_for_its_mending(
    raise_stage: Stages, sample: Path
) -> None:
    def ci(code: Code) -> list[CiJob]:
        return [failing("tests", log("wordalpha is wrong")) if "NOTES.md" in code.files else passing("tests")]

    stage = await red(raise_stage, sample, ci)
    await ask(stage, "@magicode fix this up to $0.05")
    (opened, *_) = await stage.ended()
    assert await mending(stage, 1)
    mend = next(run for run in reversed(await stage.runs()) if run.verb == "mend")
    assert mend.cost_limit_usd is not None
    assert mend.cost_limit_usd + opened.cost_usd == opened.cost_limit_usd
    assert mend.cost_usd <= mend.cost_limit_usd * 2  # one call may overshoot, none is begun behind the limit


async def test_a_push_by_a_person_stops_a_try_at_once(raise_stage: Stages, sample: Path) -> None:
    def ci(code: Code) -> list[CiJob]:
        return [failing("tests", log("wordalpha is wrong")) if "NOTES.md" in code.files else passing("tests")]

    stage = await red(raise_stage, sample, ci, slow=30)
    number = await ask(stage)
    await stage.ended()
    for _ in range(200):
        if any(run.verb == "mend" and run.state == "running" for run in await stage.runs()):
            break
        await asyncio.sleep(0.05)
    pull = await only_pull(stage)
    pushed = await stage.client().put(
        f"/repos/{stage.repository}/contents/BY_HAND.md",
        json={"message": "By hand", "content": "eA==", "branch": pull["head"]["ref"]},
    )
    assert pushed.is_success
    started = asyncio.get_running_loop().time()
    told = await mending(stage, 1)
    assert told[0] == ("mend", "refused", "human_commits")
    assert asyncio.get_running_loop().time() - started < 15
    assert await commits(stage, pull["number"]) == ["Write the note", "By hand"]
    assert "theirs now" in await status(stage, pull["number"])
    await comment_of_ours(stage, number, "theirs now")


async def test_mending_gives_way_to_a_person_who_asks(raise_stage: Stages, sample: Path) -> None:
    def ci(code: Code) -> list[CiJob]:
        return [failing("tests", log("wordalpha is wrong")) if "NOTES.md" in code.files else passing("tests")]

    stage = await red(raise_stage, sample, ci, slow=60)
    await ask(stage)
    await stage.ended()
    await at_work(stage)
    pull = await only_pull(stage)
    await stage.comment(pull["number"], "@magicode let me see", user="rita")
    refused = await ended(stage, "rita", within=20)
    assert (refused.state, refused.reason) == ("refused", "no_write_permission")
    await at_work(stage)
    await stage.comment(pull["number"], "@magicode write something else")
    revised = await ended(stage, "wim", within=30)
    assert (revised.state, revised.blocked_by) == ("updated", None)
    assert [run.state for run in await stage.runs() if run.verb == "mend"][-1] == "cancelled"
    assert (await commits(stage, pull["number"]))[:2] == ["Write the note", "Write something else"]


async def at_work(stage: Stage) -> None:
    """Once a run that mends is at work."""
    for _ in range(200):
        if any(run.verb == "mend" and run.state == "running" for run in await stage.runs()):
            return
        await asyncio.sleep(0.05)
    raise AssertionError("nothing is being mended")


async def ended(stage: Stage, by: str, *, within: float) -> Run:
    """The revision that this person asked for, once it has ended."""
    for _ in range(int(within * 10)):
        asked = [one for one in await stage.runs() if (one.verb, one.asker_login) == ("revise", by)]
        run = asked[0] if asked else None
        if run is not None and run.state.ended:
            return run
        await asyncio.sleep(0.1)
    raise AssertionError(f"nothing of {by} ended: {reasons(await stage.runs())}")
