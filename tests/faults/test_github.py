"""GitHub fails at each call of a request, in each of the ways in which it is known to; no request is lost, none is done twice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import httpx
import pytest

import infra.github.client
from infra.models.playbook import Playbook
from tests.claims import case, claim
from tests.faults.asking import unlimited
from tests.faults.github_faults import (
    AT_ONCE,
    CONVERSATIONS,
    WRONG,
    Call,
    Goes,
    calls_of,
    play,
    soon,
    unmet,
)
from tests.faults.promises import kept, quiet
from tests.lengths import Lengths
from tests.line.conftest import Stages
from tests.line.conversations import create, finish, plans, playbook, scenario
from tests.line.stage import Stage

GROUP = "GitHub misbehaves"

Record = Callable[[str, object], None]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits half a minute for an answer."""
    monkeypatch.setattr(infra.github.client, "TIMEOUT", httpx.Timeout(10.0))


def script() -> Playbook:
    """A plan, a mended check, another change, a first one."""
    return playbook(
        plans(),
        scenario(
            create("ROUND.md", "x\n"), finish("Mend it", "CI failed."), when="FAILED tests/test_note.py"
        ),
        scenario(create("MORE.md", "More of it.\n"), finish("Write another note"), when="once more"),
        scenario(create("NOTES.md", "A note.\n"), finish()),
    )


@pytest.fixture
async def idle(raise_stage: Stages, sample: Path) -> Stage:
    """Where hundreds of accounts ask within minutes, all of them through one App and by one person."""
    stage = await raise_stage({"octo/fairshare": sample}, script(), working=False)
    unlimited(stage)
    return stage


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What each account's repository holds."""
    small = tmp_path / "small"
    small.mkdir()
    (small / "README.md").write_text("# Small\n")
    return small


def every(calls: list[Call]) -> list[tuple[Call, Goes]]:
    """Each call with each way of going wrong that it can have."""
    return [(call, goes) for call in calls for goes in WRONG if call.writes or not goes.writes_only]


def some(calls: list[Call], per_write: int = 2) -> list[tuple[Call, Goes]]:
    """Each call at least once, a write `per_write` times, and each way as often as the others: always the same pairs."""
    chosen: list[tuple[Call, Goes]] = []
    used = dict.fromkeys(WRONG, 0)
    for call in calls:
        possible = [goes for goes in WRONG if call.writes or not goes.writes_only]
        for goes in sorted(possible, key=lambda one: used[one])[: per_write if call.writes else 1]:
            used[goes] += 1
            chosen.append((call, goes))
    return chosen


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    "name",
    [
        case(
            GROUP,
            f"Each call to GitHub of {words} fails once, in every way in which GitHub is known to fail",
            "Tried again by itself, it comes to the same end as without the failure: one pull request, one status comment with an "
            "end, each effect once; every request that changes something stands in the log",
            name,
        )
        for name, words in (
            ("fix", "a request for a fix"),
            ("revise", "a request for another change on the pull request"),
            ("plan", "a request for a plan"),
            ("go", "a plan that is agreed to"),
            ("undo", "a change that is taken back"),
            ("mend", "the mending of a red check"),
        )
    ],
)
async def test_each_call_fails_in_each_way(
    idle: Stage, folder: Path, lengths: Lengths, record_property: Record, name: str
) -> None:
    conversation = CONVERSATIONS[name]
    async with idle.at_work(AT_ONCE, retry_after=soon):
        calls = await calls_of(idle, folder, conversation)
        if not lengths.at_length and name != "fix":
            known = {call.like for call in await calls_of(idle, folder, CONVERSATIONS["fix"])}
            calls = [call for call in calls if call.like not in known]
        pairs = lengths.choose(suite=some(calls), prove=every(calls))
        played = await play(idle, folder, conversation, pairs)
        await quiet(idle)
    record_property("calls", len(calls))
    record_property("failures", len(played))
    await idle.house.github.own.close()  # type: ignore[attr-defined]
    await kept(idle)
    wrong = [str(one) for one in played if one.repaired or one.runs[-1].state.value not in conversation.ends]
    assert not wrong, "\n".join(wrong)
    missed = unmet(idle, played)
    assert not missed, "\n".join(missed)


LATE = "does not find it yet"
ARCHIVE = "/_codeload/{owner}/{repo}/legacy.tar.gz/{ref}"
COMMENT = "/repos/{owner}/{repo}/issues/comments/{comment_id}"
FINAL: Mapping[str, Sequence[tuple[Call, str]]] = {
    "go": [(Call("GET", COMMENT, nth), LATE) for nth in range(2)],
    "fix": [
        (Call("POST", "/app/installations/{installation_id}/access_tokens", 0), LATE),
        (Call("GET", "/repos/{owner}/{repo}/collaborators/{username}/permission", 0), LATE),
        (Call("GET", "/repos/{owner}/{repo}/branches/{branch}", 0), LATE),
        (Call("POST", "/graphql", 0), "has done it and answers badly (shape)"),
        *(
            (Call("GET", ARCHIVE, 0), f"has done it and answers badly ({form})")
            for form in ("html", "shape", "not_utf8")
        ),
    ],
}
"""What a service that believes each answer would end a run for."""


@claim(
    GROUP,
    "GitHub says once that the installation, the asker, the default branch or a plan's comment is not there, spoils an archive, or "
    "answers GraphQL with a list",
    "It is asked once more before it is believed: one pull request",
)
@pytest.mark.usefixtures("impatient")
async def test_an_answer_that_would_end_the_run_is_asked_for_once_more(idle: Stage, folder: Path) -> None:
    ways = {goes.name: goes for goes in WRONG}
    async with idle.at_work(AT_ONCE, retry_after=soon):
        played = [
            one
            for name, calls in FINAL.items()
            for one in await play(
                idle, folder, CONVERSATIONS[name], [(call, ways[way]) for call, way in calls]
            )
        ]
        await quiet(idle)
    await idle.house.github.own.close()  # type: ignore[attr-defined]
    await kept(idle)
    assert [str(one) for one in played if one.repaired or one.runs[-1].state.value != "opened"] == []
    assert not unmet(idle, played)


@claim(
    GROUP,
    "GitHub tells of red checks in another shape of JSON, or does not find the base's commit or a job's log once when they are looked at",
    "They are not taken for checks that are pending, nor for such as nobody wants mended: asked for again at once, and mended",
)
@pytest.mark.usefixtures("impatient")
async def test_red_checks_are_looked_at_again_where_an_answer_was_wrong(idle: Stage, folder: Path) -> None:
    ways = {goes.name: goes for goes in WRONG}
    pairs = [
        (
            Call("GET", "/repos/{owner}/{repo}/commits/{ref}/check-runs", 0),
            ways["has done it and answers badly (shape)"],
        ),
        (Call("GET", "/repos/{owner}/{repo}/git/commits/{commit_sha}", 0), ways[LATE]),
        (Call("GET", "/repos/{owner}/{repo}/actions/jobs/{job_id}/logs", 0), ways[LATE]),
    ]
    async with idle.at_work(AT_ONCE, retry_after=soon):
        async with asyncio.timeout(120):
            played = await play(idle, folder, CONVERSATIONS["mend"], pairs)
        await quiet(idle)
    await idle.house.github.own.close()  # type: ignore[attr-defined]
    await kept(idle)
    for one in played:
        assert [run.state.value for run in one.runs] == ["opened", "updated"], str(one)
    assert not unmet(idle, played)


@claim(
    GROUP,
    "GitHub does not show our comment yet when the request comes to its end, within a second",
    "It is edited once it is to be seen: one status comment",
)
@pytest.mark.usefixtures("impatient")
async def test_an_end_that_comes_at_once_is_told_in_the_same_comment(idle: Stage, folder: Path) -> None:
    later = next(goes for goes in WRONG if goes.name == "shows what it made later")
    call = Call("POST", "/repos/{owner}/{repo}/issues/{issue_number}/comments", 0)
    async with idle.at_work(AT_ONCE, retry_after=soon):
        played = await play(idle, folder, CONVERSATIONS["plan"], [(call, later)])
        await quiet(idle)
    await idle.house.github.own.close()  # type: ignore[attr-defined]
    await kept(idle)
    assert [run.state.value for run in played[0].runs] == ["answered"]
    assert not unmet(idle, played)


@claim(
    GROUP,
    "GitHub tells of a failed check before it finds the repository that it is of (404)",
    "It is looked at again within seconds, and mended once",
)
async def test_a_check_that_is_told_of_too_early_is_mended(idle: Stage, folder: Path) -> None:
    late = next(goes for goes in WRONG if goes.name == "does not find it yet")
    call = Call("GET", "/installation/repositories", 0)
    async with idle.at_work(AT_ONCE, retry_after=soon):
        played = await play(idle, folder, CONVERSATIONS["mend"], [(call, late)])
        await quiet(idle)
    assert [run.state.value for run in played[0].runs] == ["opened", "updated"]
    assert not played[0].repaired
    assert not unmet(idle, played)
