"""Whatever GitHub delivers twice, late, in the wrong order or not at all: each request is accepted once, and none is lost."""

from __future__ import annotations

import asyncio
import json
import random
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.actionlog.export import opened
from app.actionlog.verify import ExportedEntry, verify
from app.jobs.accept import NOBODY
from app.jobs.reconcile import KEPT
from app.nouns import Run, RunState
from app.rounds import catch_up
from infra.simulator import deliveries
from infra.simulator.state import Delivery
from tests.claims import claim
from tests.faults.asking import ask_on, issues, repositories, unlimited
from tests.faults.processes import service
from tests.faults.promises import kept, quiet
from tests.lengths import Lengths
from tests.line.conftest import Stages
from tests.line.conversations import ASK, QUICK, ask, notes
from tests.line.stage import Stage

GROUP = "Deliveries"
SEED = 6
NOWHERE = "http://127.0.0.1:1/webhooks/github"
NO_WORKER = {"MAGICODE_WORKER": "false"}


@pytest.fixture
async def deaf(raise_stage: Stages, sample: Path) -> Stage:
    """Four repositories; GitHub cannot reach the service, and nobody works."""
    stage = await raise_stage(repositories(sample, 4), notes(), working=False)
    unlimited(stage)
    stage.github.world.app_url = NOWHERE
    return stage


async def all_runs(stage: Stage, tenant: int | None = None) -> Sequence[Run]:
    async with stage.house.store.transaction(tenant or stage.installation) as transaction:
        return await transaction.runs(limit=1_000_000)


async def the_log(stage: Stage, tenant: int | None = None) -> list[ExportedEntry]:
    where = stage.installation if tenant is None else tenant
    entries = [entry async for entry in opened(stage.house.store, stage.house.keys, where)]
    assert verify(entries, []).ok
    return entries


async def accepted(stage: Stage) -> Counter[str]:
    """How often each run was accepted anew, as the action log tells it."""
    return Counter(
        str(entry.run_id)
        for entry in await the_log(stage)
        if entry.action == "webhook.accepted" and (entry.details or {})["outcome"] in ("queued", "blocked")
    )


# --- copies ----------------------------------------------------------------------------------------------------------


def rewritten(body: bytes) -> bytes:
    """Other bytes that say the same."""
    return json.dumps(dict(reversed(json.loads(body).items())), indent=1).encode()


def edited(body: bytes) -> bytes:
    """What GitHub says where somebody first wrote something else and then this."""
    said = json.loads(body)
    return json.dumps(said | {"action": "edited", "changes": {"body": {"from": "Hm."}}}).encode()


def copies(stage: Stage, made: Iterable[Delivery], dice: random.Random) -> list[tuple[bytes, dict[str, str]]]:
    """One to five of each, shuffled: a third with another GUID, some of other bytes, each signed as GitHub signs."""
    out = []
    for one in made:
        for number in range(dice.randint(1, 5)):
            body, guid = one.body, one.guid
            if number and dice.random() < 1 / 3:
                guid = str(uuid.UUID(int=dice.getrandbits(128)))
                body = dice.choice([bytes, bytes, rewritten, edited])(body)
            copy = Delivery(**{**_fields(one), "body": body, "guid": guid})
            out.append((body, deliveries.headers(stage.github.world, copy)))
    dice.shuffle(out)
    return out


def _fields(one: Delivery) -> dict[str, Any]:
    names = ("id", "event", "action", "installation_id", "repository_id", "delivered_at")
    return {name: getattr(one, name) for name in names}


Sent = Sequence[tuple[bytes, dict[str, str]]]


async def post_all(url: str, sent: Sent, *, at_once: int) -> tuple[Counter[int], list[float], Sent]:
    """The answers' statuses, how long each took, in seconds, and what was not acknowledged."""
    gate, took, statuses, failed = asyncio.Semaphore(at_once), [], Counter[int](), []
    limits = httpx.Limits(max_connections=at_once)
    async with httpx.AsyncClient(trust_env=False, timeout=60, limits=limits) as client:

        async def post(body: bytes, headers: dict[str, str]) -> None:
            async with gate:
                started = time.monotonic()
                try:
                    answer = await client.post(f"{url}/webhooks/github", content=body, headers=headers)
                except httpx.TransportError:  # a connection that was idle for too long is closed
                    failed.append((body, headers))
                    return
                took.append(time.monotonic() - started)
                statuses[answer.status_code] += 1
                if not answer.is_success:
                    failed.append((body, headers))

        await asyncio.gather(*(post(*one) for one in sent))
    return statuses, sorted(took), failed


@claim(
    GROUP,
    "A thousand requests, each delivered in one to five copies, all shuffled, fifty at a time; a third of the copies with forged "
    "GUIDs, some of them in other bytes that mean the same or as an edit that adds the command",
    "Exactly a thousand runs are accepted, one entry in the log each. Every answer comes within GitHub's ten seconds; what a busy "
    "machine answers with 503 is delivered again",
)
@pytest.mark.long
async def test_a_thousand_requests_in_many_copies_are_a_thousand_runs(
    deaf: Stage, lengths: Lengths, record_property: Any
) -> None:
    wanted = lengths.choose(suite=200, prove=1000)
    dice = random.Random(SEED)
    print(f"seed {SEED}")
    places = await issues(deaf, wanted // 5)
    words = [dice.choice(["fix this", "plan", "explain the ledger", "help"]) for _ in range(wanted)]
    made = await ask_on(deaf, places, words)
    sent = copies(deaf, made, dice)
    async with service(deaf, role="serve", environ=NO_WORKER) as web:
        statuses, took, failed = await post_all(web.url, sent, at_once=50)
        while failed:
            more, _, failed = await post_all(web.url, failed, at_once=50)
            statuses += more
        again, _, _ = await post_all(web.url, sent[:wanted], at_once=8)
    record_property("requests", wanted)
    record_property("deliveries", len(sent) + wanted)
    record_property("slowest answer, seconds", round(took[-1], 2))
    record_property("answers that asked to come again", statuses[503])
    assert set(statuses) | set(again) <= {202, 503}
    assert took[-1] < 10
    runs = await all_runs(deaf)
    assert len(runs) == wanted
    assert len({run.occasion for run in runs}) == wanted
    assert await accepted(deaf) == Counter({str(run.id): 1 for run in runs})


@claim(
    GROUP,
    "A burst of a thousand requests, sent all at once while two processes work",
    "Each is accepted once and ends once, told on GitHub; none is lost, though some answers come too late or say that the service "
    "is busy: those are asked for again",
)
@pytest.mark.long
async def test_a_burst_while_workers_run_loses_nothing(
    deaf: Stage, lengths: Lengths, record_property: Any
) -> None:
    wanted = lengths.choose(suite=30, prove=1000)
    places = await issues(deaf, wanted)
    catching_up = {"app.rounds:CATCH_UP_AFTER_SECONDS": 1.0, "app.rounds:CATCH_UP_EVERY_SECONDS": 5.0}
    async with (
        service(deaf, role="serve", name="web", constants=catching_up) as web,
        service(deaf, name="worker", constants=catching_up),
    ):
        deaf.github.world.app_url = f"{web.url}/webhooks/github"
        await ask_on(deaf, places, ["help"] * wanted, at_once=200)
        runs = await all_ended(deaf, wanted, within=lengths.choose(suite=120, prove=1500))
        await quiet(deaf)
    late = sum(one.status_code != 202 for one in deaf.github.world.deliveries)
    record_property("requests", wanted)
    record_property("deliveries that had to come again", late)
    assert {run.state for run in runs} == {RunState.ANSWERED}
    await kept(deaf, runs=wanted)


async def all_ended(stage: Stage, count: int, *, within: float) -> Sequence[Run]:
    async with asyncio.timeout(within):
        while True:
            runs = await all_runs(stage)
            if sum(run.state.ended for run in runs) >= count:
                return runs
            await asyncio.sleep(0.5)


# --- again after an end ----------------------------------------------------------------------------------------------


@claim(
    GROUP,
    "A request is delivered again after its run succeeded, under its own GUID and under forged ones",
    "Nothing happens",
)
async def test_a_redelivery_after_success_changes_nothing(deaf: Stage) -> None:
    deaf.github.world.app_url = f"{deaf.url}/webhooks/github"
    await ask(deaf)
    async with deaf.at_work():
        (run,) = await deaf.ended()
        await quiet(deaf)
        requests = len(deaf.github.world.requests)
        await ten_more(deaf)
        assert len(deaf.github.world.requests) == requests, "nothing was done on GitHub"
    assert run.state is RunState.OPENED
    await kept(deaf, runs=1)


@claim(
    GROUP,
    "A request whose run failed because GitHub was down is delivered again ten times at once",
    "It is worked on once more, and ends in one pull request",
)
async def test_a_redelivery_after_our_failure_starts_the_run_once_more(deaf: Stage) -> None:
    deaf.github.world.app_url = f"{deaf.url}/webhooks/github"
    await ask(deaf)
    await deaf.fault(kind="status", method="POST", route="/git/blobs$", times=2)
    async with deaf.at_work(retry_after=lambda error, taken: QUICK if taken < 1 else None):
        (run,) = await deaf.ended()
        assert run.state is RunState.FAILED
        await ten_more(deaf)
        async with asyncio.timeout(120):
            while (await deaf.runs())[0].state is not RunState.OPENED:
                await asyncio.sleep(0.1)
        await quiet(deaf)
    again = [
        entry
        for entry in await the_log(deaf)
        if entry.action == "webhook.accepted" and (entry.details or {})["outcome"] == "again"
    ]
    assert len(again) == 1
    await kept(deaf, runs=1)


@claim(
    GROUP,
    "A request that was refused, because who asked may not, is delivered again ten times",
    "It stays refused, and is answered once",
)
async def test_a_redelivery_after_a_refusal_changes_nothing(deaf: Stage) -> None:
    deaf.github.world.app_url = f"{deaf.url}/webhooks/github"
    await ask(deaf, user="rita")
    async with deaf.at_work():
        (run,) = await deaf.ended()
        await ten_more(deaf)
        await quiet(deaf)
    assert run.state is RunState.REFUSED
    assert await deaf.pulls() == []
    await kept(deaf, runs=1)


async def ten_more(stage: Stage) -> None:
    await stage.settled()
    first = next(one for one in stage.github.world.deliveries if one.event == "issue_comment")
    sent = []
    for number in range(10):
        copy = Delivery(
            **_fields(first), body=first.body, guid=first.guid if number % 2 else str(uuid.uuid4())
        )
        sent.append((copy.body, deliveries.headers(stage.github.world, copy)))
    statuses, _, _ = await post_all(stage.url, sent, at_once=10)
    assert set(statuses) == {202}


# --- out of order ----------------------------------------------------------------------------------------------------


async def bring(stage: Stage, *those: Delivery) -> list[int]:
    """Delivers these now, in this order, as GitHub's own attempts; their statuses."""
    stage.github.world.app_url = f"{stage.url}/webhooks/github"
    statuses = []
    for one in those:
        attempt = deliveries.again(stage.github.world, one)
        await stage.settled()
        statuses.append(attempt.status_code)
    return statuses


def told(stage: Stage, event: str, action: str) -> Delivery:
    return next(one for one in stage.github.world.deliveries if (one.event, one.action) == (event, action))


@claim(
    GROUP,
    "The edit that adds a command to a comment arrives before the comment's own event, and both again the other way round",
    "One run",
)
async def test_an_edit_may_overtake_the_comment(deaf: Stage) -> None:
    number = await deaf.open_issue("The note is wrong", "NOTES.md says nothing.")
    comment = await deaf.comment(number, "Who looks at this?")
    answer = await deaf.client().patch(
        f"/repos/{deaf.repository}/issues/comments/{comment}", json={"body": "@magicode help"}
    )
    assert answer.is_success
    await deaf.settled()
    first, then = told(deaf, "issue_comment", "created"), told(deaf, "issue_comment", "edited")
    assert await bring(deaf, then, first, then, first) == [202] * 4
    async with deaf.at_work():
        await deaf.ended()
        await quiet(deaf)
    await kept(deaf, runs=1)


@claim(
    GROUP,
    "All events of a request, its pull request, its checks and its merge, delivered in ten shuffled orders after the fact",
    "One run, one pull request; the run ends as merged, whatever came last",
)
@pytest.mark.long
async def test_the_events_of_a_whole_story_may_come_in_any_order(deaf: Stage, lengths: Lengths) -> None:
    world = deaf.github.world
    world.app_url = f"{deaf.url}/webhooks/github"
    await ask(deaf)
    async with deaf.at_work():
        (run,) = await deaf.ended()
        await quiet(deaf)
        world.app_url = NOWHERE
        (pull,) = await deaf.pulls()
        for state in ("closed", "open"):
            answer = await deaf.client("ada").patch(
                f"/repos/{deaf.repository}/pulls/{pull['number']}", json={"state": state}
            )
            assert answer.is_success, answer.text
        answer = await deaf.client("ada").put(
            f"/repos/{deaf.repository}/pulls/{pull['number']}/merge", json={}
        )
        assert answer.is_success, answer.text
        await deaf.settled()
        whole = [one for one in world.deliveries if not one.redelivery]
        assert {"issue_comment", "pull_request", "push"} <= {one.event for one in whole}
        dice = random.Random(SEED)
        for _ in range(lengths.choose(suite=2, prove=10)):
            dice.shuffle(whole)
            assert set(await bring(deaf, *whole)) == {202}
            await quiet(deaf)
    (run,) = await deaf.runs()
    assert (run.state, run.reason) == (RunState.OPENED, "merged")
    await kept(deaf, runs=1)


@claim(
    GROUP,
    "Checks are reported done before GitHub has told that the pull request was opened, and that it was closed before that",
    "Nothing is lost: what becomes of it is read from GitHub, not from the order of events",
)
async def test_checks_may_be_told_before_their_pull_request(deaf: Stage) -> None:
    world = deaf.github.world
    world.app_url = f"{deaf.url}/webhooks/github"
    await ask(deaf)
    async with deaf.at_work():
        await deaf.ended()
        await quiet(deaf)
        world.app_url = NOWHERE
        (pull,) = await deaf.pulls()
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.post(
                f"{deaf.github.base_url}/_simulator/checks",
                json={
                    "repository": deaf.repository,
                    "sha": pull["head"]["sha"],
                    "name": "test",
                    "conclusion": "success",
                },
            )
            assert answer.is_success, answer.text
        closed = await deaf.client("ada").patch(
            f"/repos/{deaf.repository}/pulls/{pull['number']}", json={"state": "closed"}
        )
        assert closed.is_success
        await deaf.settled()
        suite, closing = told(deaf, "check_suite", "completed"), told(deaf, "pull_request", "closed")
        opening = told(deaf, "pull_request", "opened")
        assert await bring(deaf, closing, suite, opening) == [202] * 3
        await quiet(deaf)
    (run,) = await deaf.runs()
    assert (run.state, run.reason) == (RunState.OPENED, "closed_unmerged")
    await kept(deaf, runs=1)


# --- installations ---------------------------------------------------------------------------------------------------


async def newcomer(stage: Stage, folder: Path) -> tuple[int, int]:
    """An account that has just installed the App and asked at once; its installation's id and the issue's number."""
    made = await stage.github.add_account("acme", {"books": folder}, owners=["olga"])
    number = await stage.open_issue(
        "The note is wrong", "It says nothing.", user="olga", repository="acme/books"
    )
    await stage.comment(number, ASK, user="olga", repository="acme/books")
    await stage.settled()
    return made.id, number


def asked_there(stage: Stage, installation: int) -> Delivery:
    return next(
        one
        for one in stage.github.world.deliveries
        if one.event == "issue_comment" and one.installation_id == installation
    )


def age(stage: Stage, by: timedelta = timedelta(minutes=5)) -> None:
    """As if what was delivered until now had been so long ago."""
    for one in stage.github.world.deliveries:
        one.delivered_at -= by


@claim(
    GROUP,
    "The first request of a new customer arrives before the event that says that the App was installed there",
    "It is not acknowledged, asked for again, and done once",
)
async def test_a_request_that_overtakes_its_installation_is_not_lost(deaf: Stage, sample: Path) -> None:
    installation, _ = await newcomer(deaf, sample)
    created, asking = told(deaf, "installation", "created"), asked_there(deaf, installation)
    assert await bring(deaf, asking) == [503]
    assert await bring(deaf, created) == [202]
    age(deaf)
    await catch_up(deaf.house, deaf.house.clock() - KEPT)
    await deaf.settled()
    (run,) = await all_runs(deaf, installation)
    async with deaf.at_work():
        async with asyncio.timeout(120):
            while not (await all_runs(deaf, installation))[0].state.ended:
                await asyncio.sleep(0.1)
        await quiet(deaf)
    (run,) = await all_runs(deaf, installation)
    assert run.state is RunState.OPENED
    await kept(deaf, installations=[installation], complete=False)


@claim(
    GROUP,
    "A request arrives after the event that says that the App was taken away from its account",
    "It is acknowledged and nothing is done: nobody could be answered",
)
async def test_a_request_that_comes_behind_the_uninstalling_is_left_alone(deaf: Stage, sample: Path) -> None:
    installation, _ = await newcomer(deaf, sample)
    asking = asked_there(deaf, installation)
    deaf.github.uninstall("acme")
    await deaf.settled()
    created, deleted = told(deaf, "installation", "created"), told(deaf, "installation", "deleted")
    assert await bring(deaf, created, deleted, asking, created) == [202] * 4
    before = len(deaf.github.world.requests)
    async with deaf.at_work():
        await quiet(deaf)
    assert await all_runs(deaf, installation) == []
    assert not [
        one for one in deaf.github.world.requests[before:] if one.method != "GET" and one.caller != "app"
    ]


# --- missed ----------------------------------------------------------------------------------------------------------


@claim(
    GROUP,
    "Two hundred requests are made while the service is down, some of them more than three days ago; then two processes start at "
    "once, and GitHub fails in the middle of its list",
    "Each of the last three days is found in GitHub's list, page by page, asked for once, accepted once; older ones GitHub has no "
    "longer",
)
@pytest.mark.long
async def test_what_was_missed_during_an_outage_is_found_and_asked_for_once(
    deaf: Stage, lengths: Lengths, record_property: Any
) -> None:
    wanted = lengths.choose(suite=55, prove=200)
    world = deaf.github.world
    places = await issues(deaf, wanted + 5)
    made = await ask_on(deaf, places, ["help"] * (wanted + 5))
    age(deaf, timedelta(minutes=30))
    for one in made[:5]:
        one.delivered_at -= KEPT
    assert len(world.deliveries) > 100, "more than one page"
    await deaf.fault(kind="status", method="GET", route="/app/hook/deliveries", status=502, skip=1, times=4)
    looks = {"app.rounds:CATCH_UP_AFTER_SECONDS": 0.1, "app.rounds:CATCH_UP_EVERY_SECONDS": 1.0}
    async with (
        service(deaf, role="serve", name="one", environ=NO_WORKER) as web,
        service(deaf, name="two", constants=looks) as two,
        service(deaf, name="three", constants=looks) as three,
    ):
        world.app_url = f"{web.url}/webhooks/github"
        await all_ended(deaf, wanted, within=lengths.choose(suite=150, prove=600))
        for one in (two, three, web):
            await one.stop()
    asked = Counter(one.path for one in world.requests if one.path.endswith("/attempts"))
    record_property("requests found", wanted)
    assert set(asked.values()) == {1}, "none was asked for twice"
    gone = {f"/app/hook/deliveries/{one.id}/attempts" for one in made[:5]}
    assert not gone & set(asked)
    entries = [one for one in await the_log(deaf, NOBODY) if one.action == "webhook.redelivery_asked"]
    assert len(entries) == len(asked)
    await kept(deaf, runs=wanted)


@claim(
    GROUP,
    "GitHub answers with an error of its own each time that one certain event is asked for again",
    "The others are asked for all the same, at once",
)
async def test_an_event_that_github_fails_on_holds_up_no_other(deaf: Stage) -> None:
    places = await issues(deaf, 6)
    made = await ask_on(deaf, places, ["help"] * 6)
    age(deaf)
    await deaf.fault(
        kind="status",
        method="POST",
        route=f"/app/hook/deliveries/{made[0].id}/attempts$",
        status=500,
        times=99,
    )
    deaf.github.world.app_url = f"{deaf.url}/webhooks/github"
    await catch_up(deaf.house, deaf.house.clock() - KEPT)
    await deaf.settled()
    assert {run.occasion for run in await all_runs(deaf)} == {
        f"comment:{json.loads(one.body)['comment']['id']}" for one in made[1:]
    }


@claim(
    GROUP,
    "A worker dies after it has written down that it asks for a missed event and before it has asked",
    "Another asks for it a few minutes later",
)
async def test_an_event_that_its_asker_died_over_is_asked_for_by_another(deaf: Stage) -> None:
    (place,) = await issues(deaf, 1)
    (made,) = await ask_on(deaf, [place], ["help"])
    age(deaf)
    await deaf.fault(kind="status", method="POST", route="/attempts$", status=500, times=99)
    since = deaf.house.clock() - KEPT
    deaf.github.world.app_url = f"{deaf.url}/webhooks/github"
    await catch_up(deaf.house, since)
    async with httpx.AsyncClient(trust_env=False) as client:
        await client.delete(f"{deaf.github.base_url}/_simulator/faults")
    await catch_up(deaf.house, since)
    await deaf.settled()
    assert await all_runs(deaf) == [], "somebody has it in hand"
    later = _replaced(deaf, timedelta(minutes=5))
    await catch_up(later.house, since)
    await deaf.settled()
    assert [run.occasion for run in await all_runs(deaf)] == [
        f"comment:{json.loads(made.body)['comment']['id']}"
    ]


def _replaced(stage: Stage, by: timedelta) -> Stage:
    """The stage with a service whose clock is ahead."""
    clock = stage.house.clock
    return replace(stage, house=replace(stage.house, clock=lambda: clock() + by))
