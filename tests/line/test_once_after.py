"""After the pull request: nothing done twice, no look at it lost, and no bill without an end."""

from __future__ import annotations

import asyncio
import re
import uuid
from copy import deepcopy
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest

import app.refreshing
from app import settling
from app.jobs.tasks import settle_lock
from app.nouns import Outcome, Run, RunState
from app.pulls.base import Need
from app.refreshing import refresh
from app.scene import Scene
from app.settling import settle
from infra.models.playbook import Playbook
from infra.postgres.queue import WorkerLimits
from infra.postgres.store import PostgresTransaction
from infra.simulator.ci import CiJob, Code, Workflow, failing, passing
from tests.conftest import Database
from tests.line.conftest import Stages
from tests.line.conversations import (
    QUICK,
    ask,
    asked_of_the_model,
    branches,
    create,
    ends,
    finish,
    notes,
    ours,
    playbook,
    reasons,
    scenario,
)
from tests.line.seen import act, comment_of_ours, commits, push, tip, until
from tests.line.stage import Stage
from tests.line.test_once import a_worker_process

SOON: dict[str, Any] = {"retry_after": lambda error, taken: QUICK if taken < 5 else None}
"""As the service retries, without its waits."""


def log(words: str) -> str:
    return f"E       AssertionError: {words}\nFAILED tests/test_note.py::test_the_note - AssertionError: {words}\n"


def red_once(code: Code) -> list[CiJob]:
    """Fails until something is mended."""
    bad = "NOTES.md" in code.files and not any(path.startswith("ROUND_") for path in code.files)
    return [failing("tests", log("wordalpha is wrong")) if bad else passing("tests")]


def green(code: Code) -> list[CiJob]:
    return [passing("tests")]


def script(*first: dict[str, Any]) -> Playbook:
    """Opens with a note; failing CI is answered with a file of its own; `once more` with another note."""
    in_threads = deepcopy(finish("Write another note", "Not enough."))
    in_threads["calls"][0]["arguments"]["replies"] = []
    return playbook(
        scenario(
            {**create("ROUND_{n}.md", "x\n"), "capture": [r"word(?P<n>[a-z]+) is wrong"]},
            finish("Mend it", "CI failed."),
            when="FAILED tests/test_note.py",
        ),
        *first,
        scenario(create("MORE.md", "More.\n"), in_threads, in_threads, when="in these threads"),
        scenario(create("MORE.md", "More.\n"), finish("Write another note", "Not enough."), when="once more"),
        scenario(create("NOTES.md", "A note.\n"), finish()),
    )


def answers(seconds: float = 0.0) -> dict[str, Any]:
    said: dict[str, Any] = {"calls": [{"tool": "answer", "arguments": {"text": "It is meant so."}}]}
    return scenario(said | ({"slow": {"seconds": seconds}} if seconds else {}), when="why is that")


@pytest.fixture
async def idle(raise_stage: Stages, sample: Path) -> Stage:
    """Accepts, and works when a test says so."""
    return await raise_stage({"octo/fairshare": sample}, script(answers()), working=False)


async def a_draft(stage: Stage, ci: Any, comment: str = "@magicode fix this") -> tuple[int, Workflow, Run]:
    """The issue, its pull request's CI held back, and the run that opened it. The stage has to be at work."""
    workflow = stage.github.on_push(ci)
    workflow.hold()
    number = await ask(stage, comment)
    (run,) = await stage.ended()
    assert (run.state, run.reason) == (RunState.OPENED, "opened_as_draft")
    return number, workflow, run


async def only_pull(stage: Stage) -> dict[str, Any]:
    (pull,) = await stage.pulls()
    return pull


async def is_ready(stage: Stage) -> bool:
    return not (await only_pull(stage))["draft"]


async def mended(stage: Stage) -> bool:
    return "Mend it" in await commits(stage, (await only_pull(stage))["number"])


async def row(stage: Stage, run: Run) -> Run:
    async with stage.house.store.transaction(stage.installation) as transaction:
        found = await transaction.run(run.id)
    assert found is not None
    return found


# --- no look is lost -------------------------------------------------------------------------------------------------


async def test_ci_that_failed_while_a_question_on_the_issue_was_answered_is_mended_behind_it(
    raise_stage: Stages, sample: Path
) -> None:
    stage = await raise_stage({"octo/fairshare": sample}, script(answers(4)))
    number, workflow, _ = await a_draft(stage, red_once)
    asked = len(await asked_of_the_model(stage))
    await stage.comment(number, "@magicode explain why is that")

    async def at_work() -> bool:
        return len(await asked_of_the_model(stage)) > asked

    await until(at_work)
    await workflow.release()
    await stage.ended(2)
    await until(lambda: mended(stage))
    await until(lambda: is_ready(stage))


@pytest.mark.parametrize("kind", ["drop_after", "status"])
async def test_a_draft_whose_marking_as_ready_got_no_answer_is_ready_and_says_so(
    idle: Stage, kind: str
) -> None:
    async with idle.at_work(**SOON):
        number, workflow, run = await a_draft(idle, green)
        await idle.fault(kind=kind, method="POST", route="/graphql$", status=502)
        await workflow.release()
        await until(lambda: is_ready(idle))
        await comment_of_ours(idle, number, str(run.id), "It is ready for review.")
    assert any(one.fault for one in idle.github.world.requests)
    assert len(await ours(idle, number)) == 1


async def test_a_draft_that_a_person_marked_as_ready_is_told_to_be_ready(idle: Stage) -> None:
    async with idle.at_work(**SOON):
        number, workflow, run = await a_draft(idle, green)
        pull = await only_pull(idle)
        query = "mutation($id: ID!) { markPullRequestReadyForReview(input: {pullRequestId: $id}) { pullRequest { id } } }"
        answer = await idle.client().post(
            "/graphql", json={"query": query, "variables": {"id": pull["node_id"]}}
        )
        assert "errors" not in answer.json(), answer.text
        await workflow.release()
        await comment_of_ours(idle, number, str(run.id), "It is ready for review.")


async def test_a_look_that_an_outage_outlasted_is_taken_later(idle: Stage, database: Database) -> None:
    async def waits() -> bool:
        async with idle.house.store.transaction(idle.installation) as transaction:
            return bool(await transaction.waits(settle_lock(run)))

    async with idle.at_work(**SOON):
        number, workflow, run = await a_draft(idle, green)
        await idle.settled()
        await until(waits)  # the run's own last look, that saw the checks pending
    with psycopg.connect(database.owner_url, autocommit=True) as owner:
        owner.execute("SET search_path = magicode_jobs")
        owner.execute("DELETE FROM procrastinate_jobs WHERE lock = %s", [settle_lock(run)])
    await idle.fault(kind="status", method="GET", route=f"/pulls/{number + 1}$", status=502, times=50)
    await workflow.release()
    await idle.settled()
    async with idle.at_work(retry_after=lambda error, taken: None):
        await until(waits)
        await clear_faults(idle)
        assert (await only_pull(idle))["draft"]
        async with idle.house.store.transaction(idle.installation) as transaction:
            await transaction.hasten(settle_lock(run))
        await until(lambda: is_ready(idle))


async def clear_faults(stage: Stage) -> None:
    async with stage.client() as client:
        (await client.delete(f"{stage.github.base_url}/_simulator/faults")).raise_for_status()


async def test_a_draft_that_waits_for_a_commit_status_is_looked_at_again(idle: Stage) -> None:
    """GitHub tells us of a suite's end and not of a status's."""
    async with idle.at_work(**SOON):
        _, workflow, run = await a_draft(idle, green)
        sha = (await only_pull(idle))["head"]["sha"]
        await act(idle, "POST", f"/statuses/{sha}", state="pending", context="ci/other")
        await workflow.release()

        async def waits() -> bool:
            async with idle.house.store.transaction(idle.installation) as transaction:
                return bool(await transaction.waits(settle_lock(run)))

        await until(waits)
        assert (await only_pull(idle))["draft"]
        await act(idle, "POST", f"/statuses/{sha}", state="success", context="ci/other")
        async with idle.house.store.transaction(idle.installation) as transaction:
            await transaction.hasten(settle_lock(run))
        await until(lambda: is_ready(idle))


async def test_a_run_that_failed_behind_the_opening_is_not_left_to_itself(idle: Stage) -> None:
    workflow = idle.github.on_push(red_once)
    workflow.hold()
    number = await ask(idle)
    await idle.settled()
    await idle.fault(kind="status", method="PATCH", route="/issues/comments/", status=502, times=3)
    async with idle.at_work(retry_after=lambda error, taken: QUICK if taken < 2 else None):
        (run,) = await idle.ended()
        # The log, for the look that takes the pull request up may be quicker than this.
        (end,) = await ends(idle, run)
        assert (end["state"], end["reason"]) == ("failed", "github_unavailable")
        await clear_faults(idle)
        await workflow.release()
        await until(lambda: mended(idle))
        await until(lambda: is_ready(idle))
        await comment_of_ours(idle, number, str(run.id), "ready for review")
    assert len(await ours(idle, number)) == 1
    assert (await row(idle, run)).state is RunState.OPENED


async def test_a_request_that_comes_in_between_does_not_use_up_the_try(
    idle: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The look saw nobody at work, and then somebody asked."""
    async with idle.at_work(**SOON):
        number, workflow, run = await a_draft(idle, red_once)
        await idle.settled()
        await asyncio.sleep(1)
    await workflow.release()
    await idle.comment(number, "@magicode explain why is that")
    await idle.settled()
    real, seen = PostgresTransaction.active_run, []

    async def nobody_at_first(self: PostgresTransaction, repository_id: int, number: int) -> Run | None:
        seen.append(number)
        return await real(self, repository_id, number) if len(seen) > 1 else None

    monkeypatch.setattr(PostgresTransaction, "active_run", nobody_at_first)
    await settle(idle.house, run)
    monkeypatch.undo()
    assert "mend" not in [one.verb for one in await idle.runs()]
    async with idle.at_work(**SOON):
        await until(lambda: mended(idle))


async def test_many_refused_requests_hide_neither_the_pull_request_nor_the_tries(idle: Stage) -> None:
    async with idle.at_work(**SOON):
        number, workflow, run = await a_draft(idle, red_once)
        await workflow.release()
        await until(lambda: mended(idle))
        await until(lambda: is_ready(idle))
        await idle.ended(2)
        await idle.settled()
        async with idle.house.store.transaction(idle.installation) as transaction:
            for _ in range(120):
                await transaction.add_run(
                    replace(
                        run, id=uuid.uuid4(), meaning=uuid.uuid4().hex, number=number + 1, subject=number, verb="help",
                        state=RunState.REFUSED, reason="no_write_permission", pull_request=None, branch=None,
                        created_at=run.created_at + timedelta(hours=1),
                    )
                )  # fmt: skip
            tries = await transaction.runs(number=number + 1, verb="mend")
        assert [one.state for one in tries] == [RunState.UPDATED]
        await act(idle, "PUT", f"/pulls/{number + 1}/merge", user="ada", merge_method="squash")
        await comment_of_ours(idle, number, str(run.id), "It was merged.")


# --- nothing is done twice -------------------------------------------------------------------------------------------


async def test_two_looks_at_once_and_two_suites_of_one_head_make_one_try(idle: Stage) -> None:
    async with idle.at_work(**SOON):
        _, workflow, run = await a_draft(idle, red_once)
        await idle.settled()
        await asyncio.sleep(1)
    await workflow.release()
    await idle.settled()
    await asyncio.gather(*(settle(idle.house, run) for _ in range(4)))
    assert [one.verb for one in await idle.runs()].count("mend") == 1
    async with idle.at_work(4, **SOON):
        await until(lambda: is_ready(idle))
        await asyncio.gather(*(settle(idle.house, run) for _ in range(4)))
        await idle.settled()
    assert await commits(idle, (await only_pull(idle))["number"]) == ["Write the note", "Mend it"]
    assert [one.verb for one in await idle.runs()].count("mend") == 1


async def test_what_is_merged_while_it_is_called_ready_is_said_to_be_merged_in_the_end(
    idle: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with idle.at_work(**SOON):
        number, workflow, run = await a_draft(idle, green)
        await idle.settled()
    await workflow.release()
    await idle.settled()
    says, merged = settling.say, False

    async def late(scene: Scene, outcome: Outcome) -> Run:
        nonlocal merged
        if not merged:
            merged = True
            await act(idle, "PUT", f"/pulls/{number + 1}/merge", user="ada", merge_method="squash")
            await settle(idle.house, run)
            assert (await row(idle, run)).reason == "merged"
        return await says(scene, outcome)

    monkeypatch.setattr(settling, "say", late)
    await settle(idle.house, run)
    assert (await row(idle, run)).reason == "merged"
    (status,) = [one for one in await ours(idle, number) if str(run.id) in one.split("\n", 1)[0]]
    assert "It was merged." in status


MEND_WRITES = [
    ("POST", "/git/blobs$"),
    ("POST", "/git/commits$"),
    ("PATCH", "/git/refs/heads/"),
    ("PATCH", "/pulls/2$"),
    ("POST", "/issues/2/comments$"),
    ("PATCH", "/issues/comments/"),
]


@pytest.mark.parametrize(("method", "route"), MEND_WRITES)
@pytest.mark.parametrize("kind", ["drop_after", "status"])
async def test_a_write_of_a_try_that_fails_or_gets_no_answer_is_done_once(
    idle: Stage, method: str, route: str, kind: str
) -> None:
    async with idle.at_work(**SOON):
        _, workflow, _ = await a_draft(idle, red_once)
        await idle.settled()
        await idle.fault(kind=kind, method=method, route=route, status=502)
        await workflow.release()
        runs = await idle.ended(2)
        await until(lambda: is_ready(idle))
    assert any(one.fault for one in idle.github.world.requests), "the fault was met"
    assert reasons(runs)[1:] == [("mend", "updated", "mended")]
    number = (await only_pull(idle))["number"]
    assert await commits(idle, number) == ["Write the note", "Mend it"]
    assert len([one for one in await ours(idle, number) if f"magicode:run:ci-{number} " in one]) == 1


UNDO_WRITES = [("POST", "/git/commits$"), ("PATCH", "/git/refs/heads/"), ("PATCH", "/pulls/2$")]


@pytest.mark.parametrize(("method", "route"), UNDO_WRITES)
@pytest.mark.parametrize("kind", ["drop_after", "status"])
async def test_an_undo_that_gets_no_answer_takes_one_change_back(
    idle: Stage, method: str, route: str, kind: str
) -> None:
    number = await ask(idle)
    async with idle.at_work(**SOON):
        await idle.ended()
        await idle.comment(number, "@magicode fix it once more")
        await idle.ended(2)
        await idle.fault(kind=kind, method=method, route=route, status=502)
        await idle.comment(number + 1, "@magicode undo")
        runs = await idle.ended(3)
    assert any(one.fault for one in idle.github.world.requests), "the fault was met"
    assert reasons(runs)[2:] == [("undo", "updated", "undone")]
    said = await commits(idle, number + 1)
    assert said == ["Write the note", "Write another note", "Undo: Write another note"]
    assert len(await ours(idle, number + 1)) == 1


@pytest.mark.parametrize("kind", ["drop_after", "status"])
async def test_a_merge_of_the_base_that_gets_no_answer_is_made_once(idle: Stage, kind: str) -> None:
    number = await ask(idle)
    async with idle.at_work(**SOON):
        await idle.ended()
        await push(idle, "main", "BASE.md", "moved\n")
        await idle.fault(kind=kind, method="POST", route="/merges$", status=502)
        await idle.comment(number, "@magicode fix it once more")
        runs = await idle.ended(2)
    assert any(one.fault for one in idle.github.world.requests), "the fault was met"
    assert runs[1].state is RunState.UPDATED
    said = await commits(idle, number + 1)
    assert said == ["Write the note", f"Merge main into magicode/issue-{number}", "Write another note"]


@pytest.mark.parametrize("kind", ["drop_after", "status"])
async def test_a_reply_in_a_thread_that_gets_no_answer_stands_there_once(idle: Stage, kind: str) -> None:
    number = await ask(idle)
    async with idle.at_work(**SOON):
        await idle.ended()
        await idle.fault(kind=kind, method="POST", route="/replies$", status=502)
        on_lines = [{"path": "NOTES.md", "line": 1, "body": body} for body in ("This.", "That.")]
        body = {"event": "REQUEST_CHANGES", "body": "More in these threads.", "comments": on_lines}
        made = await idle.client().post(f"/repos/{idle.repository}/pulls/{number + 1}/reviews", json=body)
        assert made.is_success, made.text
        runs = await idle.ended(2)
    assert any(one.fault for one in idle.github.world.requests), "the fault was met"
    assert runs[1].state is RunState.UPDATED
    assert await commits(idle, number + 1) == ["Write the note", "Write another note"]
    listed = (await idle.client().get(f"/repos/{idle.repository}/pulls/{number + 1}/comments")).json()
    replies = [one["in_reply_to_id"] for one in listed if one["user"]["login"] == "magicode[bot]"]
    assert len(replies) == len(set(replies)) == 2


@pytest.mark.parametrize("kind", ["drop_after", "status"])
async def test_a_reply_without_a_commit_that_gets_no_answer_keeps_no_other_thread_from_its_own(
    idle: Stage, kind: str
) -> None:
    number = await ask(idle)
    async with idle.at_work(**SOON):
        await idle.ended()
        asked = len(await asked_of_the_model(idle))
        await idle.fault(kind=kind, method="POST", route="/replies$", status=502)
        on_lines = [{"path": "NOTES.md", "line": 1, "body": body} for body in ("why is that?", "And this?")]
        body = {"event": "REQUEST_CHANGES", "body": "Tell me.", "comments": on_lines}
        made = await idle.client().post(f"/repos/{idle.repository}/pulls/{number + 1}/reviews", json=body)
        assert made.is_success, made.text
        runs = await idle.ended(2)
    assert any(one.fault for one in idle.github.world.requests), "the fault was met"
    assert runs[1].state is RunState.ANSWERED
    assert len(await asked_of_the_model(idle)) == asked + 1
    listed = (await idle.client().get(f"/repos/{idle.repository}/pulls/{number + 1}/comments")).json()
    replies = [one["in_reply_to_id"] for one in listed if one["user"]["login"] == "magicode[bot]"]
    assert len(replies) == len(set(replies)) == 2


async def test_a_run_that_comes_back_to_its_own_pull_request_behind_a_revision_adds_nothing(
    idle: Stage,
) -> None:
    number = await ask(idle)
    await idle.settled()
    await idle.fault(kind="status", method="PATCH", route="/issues/comments/", status=502, times=1, skip=0)
    await idle.fault(kind="status", method="POST", route="/graphql$", status=502, times=1, skip=1)

    async def opened() -> bool:
        return bool(await idle.pulls())

    async with idle.at_work(retry_after=lambda error, taken: timedelta(seconds=8) if taken < 4 else None):
        await until(opened)
        await idle.comment(number + 1, "@magicode write it once more")
        runs = await idle.ended(2)
    assert [one.state for one in runs] == [RunState.OPENED, RunState.UPDATED]
    assert await commits(idle, number + 1) == ["Write the note", "Write another note"]
    assert await branches(idle) == [f"magicode/issue-{number}"]


async def test_nothing_is_merged_into_a_branch_on_which_somebody_has_just_asked(
    idle: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = await ask(idle)
    async with idle.at_work(**SOON):
        (run,) = await idle.ended()
    await push(idle, "main", "BASE.md", "moved\n")
    before = await tip(idle, f"magicode/issue-{number}")

    async def somebody_asks(*_: Any) -> Need:
        await idle.comment(number, "@magicode fix it once more")
        await idle.settled()
        return Need.DEMANDED

    monkeypatch.setattr(app.refreshing, "needed", somebody_asks)
    await refresh(idle.house, run)
    assert await tip(idle, f"magicode/issue-{number}") == before


TAKES_OVER = WorkerLimits(heartbeat=timedelta(seconds=0.2), stalled_after=timedelta(seconds=1))


async def killed_at(stage: Stage, folder: Path, method: str, route: str) -> None:
    """A worker takes the work up, and is dead once the write took place whose answer it never saw."""
    world, before = stage.github.world, len(stage.github.world.requests)
    await stage.fault(kind="drop_after", method=method, route=f"{route}$")

    async def met() -> bool:
        return any(
            one.method == method and re.search(f"{route}$", one.path) for one in world.requests[before:]
        )

    async with a_worker_process(stage, folder) as process:
        await until(met, within=60)
        process.kill()


@pytest.mark.long
@pytest.mark.parametrize(
    ("method", "route"),
    [("POST", "/merges"), ("PATCH", "/git/refs/heads/.*"), ("PATCH", "/pulls/2"), ("POST", "/replies")],
)
async def test_a_worker_killed_in_a_revision_is_followed_by_another(
    idle: Stage, tmp_path: Path, method: str, route: str
) -> None:
    number = await ask(idle)
    async with idle.at_work(**SOON):
        await idle.ended()
        await idle.settled()
        await asyncio.sleep(1)
    await push(idle, "main", "BASE.md", "moved\n")
    on_lines = [{"path": "NOTES.md", "line": 1, "body": body} for body in ("This.", "That.")]
    body = {"event": "REQUEST_CHANGES", "body": "More in these threads.", "comments": on_lines}
    made = await idle.client().post(f"/repos/{idle.repository}/pulls/{number + 1}/reviews", json=body)
    assert made.is_success, made.text
    await idle.settled()
    await killed_at(idle, tmp_path / "other", method, route)
    async with idle.at_work(limits=TAKES_OVER, **SOON):
        runs = await idle.ended(2)
    assert runs[1].state is RunState.UPDATED
    assert runs[1].attempt >= 2
    said = await commits(idle, number + 1)
    assert said == ["Write the note", f"Merge main into magicode/issue-{number}", "Write another note"]
    listed = (await idle.client().get(f"/repos/{idle.repository}/pulls/{number + 1}/comments")).json()
    replies = [one["in_reply_to_id"] for one in listed if one["user"]["login"] == "magicode[bot]"]
    assert len(replies) == len(set(replies)) == 2
    assert len(await ours(idle, number + 1)) == 1


@pytest.mark.long
@pytest.mark.parametrize(
    ("ci", "method", "route"),
    [
        (red_once, "PATCH", "/git/refs/heads/.*"),
        (red_once, "POST", "/issues/2/comments"),
        (green, "POST", "/graphql"),
    ],
)
async def test_a_worker_killed_while_it_mends_or_settles_is_followed_by_another(
    idle: Stage, tmp_path: Path, ci: Any, method: str, route: str
) -> None:
    async with idle.at_work(**SOON):
        number, workflow, opener = await a_draft(idle, ci)
        await idle.settled()
        await asyncio.sleep(1)
    await workflow.release()
    await idle.settled()
    await killed_at(idle, tmp_path / "other", method, route)
    async with idle.at_work(limits=TAKES_OVER, **SOON):
        await until(lambda: is_ready(idle))
        await comment_of_ours(idle, number, str(opener.id), "ready for review")
    tries = ["Mend it"] if ci is red_once else []
    assert await commits(idle, number + 1) == ["Write the note", *tries]
    assert [one.verb for one in await idle.runs()].count("mend") == len(tries)
    assert len([one for one in await ours(idle, number + 1) if "magicode:run:ci-" in one]) == len(tries)


# --- no bill without an end ------------------------------------------------------------------------------------------


async def test_the_limit_of_a_request_holds_for_its_retries_too(raise_stage: Stages, sample: Path) -> None:
    book = playbook(scenario({**create("NOTES.md", "A note.\n"), "slow": {"seconds": 20}}, finish()))
    stage = await raise_stage({"octo/fairshare": sample}, book)
    number = await ask(stage, "@magicode fix this up to $2")

    async def asked() -> bool:
        return bool(await asked_of_the_model(stage))

    await until(asked)
    await stage.comment(number, "@magicode cancel")
    await stage.ended(2)
    first = next(one for one in await stage.runs() if one.verb == "fix")
    async with stage.house.store.transaction(stage.installation) as transaction:
        await transaction.update_run(first.id, cost_usd=Decimal("1.50"))
    await stage.comment(number, "@magicode retry")

    async def limited() -> bool:
        return any(one.verb == "retry" and one.cost_limit_usd is not None for one in await stage.runs())

    await until(limited)
    retry = next(one for one in await stage.runs() if one.verb == "retry")
    assert retry.cost_limit_usd == Decimal("0.50")
    await stage.comment(number, "@magicode cancel now")
    await stage.ended(4)


@pytest.mark.long
async def test_merges_of_the_base_give_no_more_tries(idle: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each merge makes a head of its own, whose CI fails in a way of its own."""
    words = iter(("alpha", "beta", "gamma", "delta", "omega", "sigma", "kappa", "zeta", "theta", "iota"))

    def red(code: Code) -> list[CiJob]:
        if "NOTES.md" not in code.files:
            return [passing("tests")]
        return [failing("tests", log(f"word{next(words)} is wrong"))]

    async def demanded(*_: Any) -> Need:
        return Need.DEMANDED

    async def given_up(times: int) -> bool:
        return sum(one.reason == "mend_tries" for one in await idle.runs()) == times

    monkeypatch.setattr(app.refreshing, "needed", demanded)
    async with idle.at_work(**SOON):
        idle.github.on_push(red)
        number = await ask(idle)
        await until(lambda: given_up(1), within=90)
        asked = len(await asked_of_the_model(idle))
        opener = next(one for one in await idle.runs() if one.state is RunState.OPENED)
        for round_ in (1, 2):
            before = await tip(idle, f"magicode/issue-{number}")
            await push(idle, "main", "BASE.md", f"moved {round_}\n")
            await refresh(idle.house, opener)
            assert await tip(idle, f"magicode/issue-{number}") != before
            await until(partial(given_up, round_ + 1))
    assert len(await asked_of_the_model(idle)) == asked


async def test_what_is_asked_on_a_pull_request_before_its_run_has_said_its_last_words_is_done_behind_it(
    raise_stage: Stages, sample: Path
) -> None:
    stage = await raise_stage({"octo/fairshare": sample}, notes(), working=False)
    number = await ask(stage)
    # The last edit of the status comment takes its time: the pull request stands already, and the run has not ended.
    await stage.fault(kind="delay", method="PATCH", route="/issues/comments/", seconds=3)

    async def opened() -> bool:
        return any(run.pull_request for run in await stage.runs())

    async with stage.at_work(retry_after=lambda error, taken: QUICK if taken < 60 else None):
        await until(opened)
        (pull,) = await stage.pulls()
        await stage.comment(pull["number"], "@magicode once more, please")
        first, second = await stage.ended(2)
    assert (first.state, second.state) == (RunState.OPENED, RunState.UPDATED), second.reason
    assert (second.subject, second.pull_request) == (number, pull["number"])
    told = [(entry.action, entry.run_id) for entry in await stage.log()]
    ended, begun = told.index(("run.ended", str(first.id))), told.index(("run.started", str(second.id)))
    assert told.index(("webhook.accepted", str(second.id))) < ended < begun, "one at a time"
    assert len(await commits(stage, pull["number"])) == 2
