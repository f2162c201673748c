"""Acceptance: all of it or nothing, once, and nothing that a person wrote at rest."""

from __future__ import annotations

import asyncio
import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from app.custody import retention
from app.jobs.accept import NOBODY, Kind, accept
from app.jobs.states import begin, finish
from app.nouns import Action, Erasure, Installation, Outcome, Run, RunState
from infra.postgres.store import PostgresTransaction
from webhooks.command import Actor, Verb
from webhooks.notices import (
    ChecksCompleted,
    Ignored,
    InstallationChanged,
    Ping,
    PlanChanged,
    PullRequestChanged,
    Pushed,
    Received,
    RepositoriesChanged,
)

NOW = datetime(2026, 11, 21, 9, tzinfo=UTC)
JOBS = "SELECT task_name, lock, args->>'run_id', args->>'installation_id' FROM magicode_jobs.procrastinate_jobs ORDER BY id"


async def test_a_request_becomes_a_run_two_jobs_and_an_entry(
    deliver: Any, asking: Any, register: Any, store: Any, look: Any
) -> None:
    await register(1)
    accepted = await deliver(asking())
    run = accepted.run
    assert accepted.kind is Kind.QUEUED
    assert (run.state, run.attempt, run.verb, run.number, run.asker_login) == (
        RunState.QUEUED,
        0,
        "fix",
        7,
        "mona",
    )
    assert look(JOBS) == [("acknowledge", None, str(run.id), "1"), ("work", "1:5:7", str(run.id), "1")]
    async with store.transaction(1) as transaction:
        assert await transaction.run(run.id) == run
        entries = await transaction.entries()
    assert [(entry.action, entry.actor, entry.run_id) for entry, _ in entries] == [
        (Action.WEBHOOK_ACCEPTED, "mona", run.id)
    ]
    assert look("SELECT event, action, outcome FROM magicode.deliveries") == [
        ("issue_comment", "created", "command:fix")
    ]


async def test_nothing_that_a_person_wrote_is_kept(
    deliver: Any, asking: Any, register: Any, look: Any
) -> None:
    await register(1)
    await deliver(asking(body="@magicode fix the Kraken of Vilnius"))
    await deliver(asking(body="@magicode fix the Kraken of Vilnius", comment=10))
    tables = look("SELECT schemaname || '.' || tablename FROM pg_tables WHERE schemaname LIKE 'magicode%'")
    kept = "\n".join(str(look(f"SELECT t::text FROM {table} t")) for (table,) in tables)
    assert "mona" in kept
    for word in ("Kraken", "It breaks", "acme", "widgets"):
        assert word not in kept


async def test_the_same_comment_tells_nothing_across_installations(
    deliver: Any, asking: Any, register: Any
) -> None:
    await register(1)
    await register(2)
    one, two = [await deliver(asking(installation=each)) for each in (1, 2)]
    assert one.run.meaning != two.run.meaning
    assert one.run.input_hash != two.run.input_hash


@pytest.mark.parametrize("same_guid", [True, False])
async def test_twenty_deliveries_of_one_request_at_once_are_one_run(
    deliver: Any, asking: Any, register: Any, look: Any, same_guid: bool
) -> None:
    await register(1)
    guid = str(uuid4()) if same_guid else None
    accepted = await asyncio.gather(*(deliver(asking(guid=guid)) for _ in range(20)))
    assert sorted(each.kind for each in accepted) == [Kind.QUEUED] + [Kind.REPEATED] * 19
    assert len(look("SELECT id FROM magicode.runs")) == 1
    assert len(look(JOBS)) == 2
    assert len(look("SELECT seq FROM magicode.entries")) == 1


async def test_a_second_request_on_the_subject_is_answered_and_does_not_wait(
    deliver: Any, asking: Any, register: Any, look: Any
) -> None:
    await register(1)
    first, second, elsewhere = [
        await deliver(each) for each in (asking(), asking(comment=10), asking(comment=11, number=8))
    ]
    assert (first.kind, second.kind, elsewhere.kind) == (Kind.QUEUED, Kind.BLOCKED, Kind.QUEUED)
    assert second.run.blocked_by == first.run.id
    assert [row[:2] for row in look(JOBS) if row[2] == str(second.run.id)] == [
        ("acknowledge", None),
        ("blocked", None),
    ]


async def test_cancel_is_never_blocked_by_what_it_cancels(
    deliver: Any, asking: Any, register: Any, look: Any
) -> None:
    await register(1)
    await deliver(asking())
    cancel = await deliver(asking(comment=10, verb=Verb.CANCEL))
    assert cancel.kind is Kind.QUEUED
    assert [row[:2] for row in look(JOBS)][-1] == ("work", None)


class Breaks:
    """A ledger that fails at the very end of the transaction."""

    async def append(self, *_: Any, **__: Any) -> Any:
        raise ZeroDivisionError


async def test_acceptance_that_fails_at_its_end_leaves_nothing(
    asking: Any, register: Any, store: Any, keys: Any, clock: Any, look: Any
) -> None:
    await register(1)
    with pytest.raises(ZeroDivisionError):
        await accept(asking(), store=store, ledger=Breaks(), keys=keys, clock=clock, new_id=uuid4)
    for table in (
        "magicode.runs",
        "magicode.deliveries",
        "magicode_jobs.procrastinate_jobs",
        "magicode_keys.data_keys",
    ):
        assert look(f"SELECT * FROM {table}") == []


async def ended(store: Any, run: Run, state: RunState, clock: Any) -> None:
    taken = await begin(store, run.installation_id, run.id, clock)
    await finish(store, taken, Outcome(state, "because", ""), clock)


async def test_a_redelivery_starts_again_what_failed_for_our_own_reasons(
    deliver: Any, asking: Any, register: Any, store: Any, clock: Any, look: Any
) -> None:
    await register(1)
    received = asking()
    run = (await deliver(received)).run
    await ended(store, run, RunState.FAILED, clock)
    again = await deliver(received)
    assert again.kind is Kind.AGAIN
    assert (again.run.id, again.run.state, again.run.reason, again.run.ended_at) == (
        run.id,
        RunState.QUEUED,
        None,
        None,
    )
    assert [row[0] for row in look(JOBS)] == ["acknowledge", "work"] * 2
    assert (await deliver(received)).kind is Kind.REPEATED


@pytest.mark.parametrize("state", [RunState.OPENED, RunState.REFUSED, RunState.ANSWERED, RunState.CANCELLED])
async def test_a_redelivery_of_what_ended_otherwise_changes_nothing(
    deliver: Any, asking: Any, register: Any, store: Any, clock: Any, look: Any, state: RunState
) -> None:
    await register(1)
    received = asking()
    run = (await deliver(received)).run
    await ended(store, run, state, clock)
    before = (look("SELECT * FROM magicode.runs"), look(JOBS), look("SELECT * FROM magicode.entries"))
    assert (await deliver(received)).kind is Kind.REPEATED
    assert before == (look("SELECT * FROM magicode.runs"), look(JOBS), look("SELECT * FROM magicode.entries"))


async def test_an_old_body_sent_again_starts_nothing(
    deliver: Any, asking: Any, register: Any, store: Any, clock: Any
) -> None:
    await register(1)
    run = (await deliver(asking())).run
    await ended(store, run, RunState.FAILED, clock)
    clock.move(days=3, seconds=1)
    assert (await deliver(asking())).kind is Kind.REPEATED


async def test_a_failed_run_does_not_push_in_beside_another(
    deliver: Any, asking: Any, register: Any, store: Any, clock: Any
) -> None:
    await register(1)
    received = asking()
    await ended(store, (await deliver(received)).run, RunState.FAILED, clock)
    assert (await deliver(asking(comment=10))).kind is Kind.QUEUED
    assert (await deliver(received)).kind is Kind.REPEATED


async def test_an_unknown_installation_leaves_an_entry_in_nobodys_chain_and_nothing_else(
    deliver: Any, asking: Any, look: Any
) -> None:
    accepted = await deliver(asking(installation=99))
    assert (accepted.kind, accepted.run) == (Kind.UNKNOWN_INSTALLATION, None)
    assert look("SELECT installation_id, action FROM magicode.entries") == [(0, Action.WEBHOOK_REFUSED)]
    for table in ("magicode.runs", "magicode.deliveries", "magicode_jobs.procrastinate_jobs"):
        assert look(f"SELECT * FROM {table}") == []


def told(outcome: Any, installation: int | None = 1, **changes: Any) -> Received:
    base = Received(
        guid=str(uuid4()), event="any", action=None, installation_id=installation, repository_id=None,
        sender=Actor(3, "mona"), outcome=outcome,
    )  # fmt: skip
    return dataclasses.replace(base, **changes)


def installed(action: str, installation: int = 1, *, suspended: bool = False, account: int = 10) -> Received:
    notice = InstallationChanged(action, installation, account, "acme", suspended, True, (), None)
    return told(notice, installation)


def repositories(installation: int = 1, *, account: int = 10) -> Received:
    return told(RepositoriesChanged("added", installation, account, "acme", (5,), (), None), installation)


def plan(action: str, account: int = 10) -> Received:
    return told(PlanChanged(action, account, "acme", NOW, Actor(3, "mona")), None)


async def present(store: Any, tenant: int = 1) -> Installation | None:
    async with store.transaction(tenant) as transaction:
        found: Installation | None = await transaction.installation()
        return found


async def test_an_installation_comes_pauses_and_goes(deliver: Any, store: Any, look: Any) -> None:
    async def suspended() -> bool | None:
        found = await present(store)
        return None if found is None else found.suspended

    await deliver(installed("created"))
    assert await suspended() is False
    await deliver(installed("suspend", suspended=True))
    assert await suspended() is True
    await deliver(repositories())
    assert await suspended() is True
    await deliver(installed("unsuspend"))
    assert await suspended() is False
    await deliver(installed("deleted"))
    found = await present(store)
    assert found is not None
    assert found.uninstalled_at is not None, "what is kept is kept for a while"
    assert {row[0] for row in look("SELECT action FROM magicode.entries")} == {Action.INSTALLATION_CHANGED}


async def test_a_repeated_notice_changes_nothing(deliver: Any, store: Any) -> None:
    created = installed("created")
    await deliver(created)
    await deliver(installed("deleted"))
    assert (await deliver(created)).kind is Kind.REPEATED
    found = await present(store)
    assert found is not None
    assert found.uninstalled_at is not None


@pytest.mark.parametrize("first", ["created", "repositories", "deleted last"])
async def test_installed_again_an_account_comes_back_to_what_it_had(
    deliver: Any, asking: Any, store: Any, first: str
) -> None:
    """In whatever order GitHub tells it."""
    await deliver(installed("created"))
    asked = await deliver(asking())
    gone = installed("deleted")
    if first != "deleted last":
        await deliver(gone)
    await deliver(repositories(9) if first == "repositories" else installed("created", 9))
    if first == "deleted last":
        await deliver(gone)
    found = await present(store)
    assert found is not None
    assert (found.id, found.present_id, found.uninstalled_at) == (1, 9, None)
    again = await deliver(asking(installation=9, comment=12))
    assert again.run is not None
    assert again.run.installation_id == 1
    async with store.transaction(1) as transaction:
        assert {run.id for run in await transaction.runs()} == {asked.run.id, again.run.id}
    assert await store.installation_ids() == [1]


async def test_uninstalling_stops_what_is_at_work_and_late_requests_are_nobodys(
    deliver: Any, asking: Any, store: Any
) -> None:
    await deliver(installed("created"))
    asked = await deliver(asking())
    await deliver(installed("deleted"))
    async with store.transaction(1) as transaction:
        assert (await transaction.run(asked.run.id)).cancel_requested
    late = await deliver(asking(comment=11))
    assert (late.kind, late.reason) == (Kind.IGNORED, "uninstalled")


async def test_news_of_an_installation_that_nobody_knows_leaves_nothing(deliver: Any, look: Any) -> None:
    assert (await deliver(installed("deleted", 77))).kind is Kind.UNKNOWN_INSTALLATION
    assert look("SELECT DISTINCT installation_id FROM magicode.entries") == [(NOBODY,)]
    assert look("SELECT DISTINCT installation_id FROM magicode_keys.data_keys") == [(NOBODY,)]


async def test_a_plan_that_ends_pauses_and_one_that_is_bought_wakes(
    deliver: Any, asking: Any, store: Any
) -> None:
    assert (await deliver(plan("cancelled"))).kind is Kind.IGNORED, "nothing is installed there"
    await deliver(installed("created"))
    asked = await deliver(asking())
    assert (await deliver(plan("pending_change"))).reason == "plan_pending"
    assert (await deliver(plan("cancelled", account=11))).kind is Kind.IGNORED
    assert not (await present(store)).paused_at  # type: ignore[union-attr]
    assert (await deliver(plan("cancelled"))).reason == "plan_cancelled"
    assert (await present(store)).paused_at == NOW  # type: ignore[union-attr]
    async with store.transaction(1) as transaction:
        assert (await transaction.run(asked.run.id)).cancel_requested
    await deliver(repositories())
    assert (await present(store)).paused_at == NOW, "other news does not wake it"  # type: ignore[union-attr]
    await deliver(plan("purchased"))
    assert (await present(store)).paused_at is None  # type: ignore[union-attr]


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> tuple[asyncio.Event, asyncio.Event]:
    """The next one who writes an installation's row has read it and waits; set when that is so, and when they may go on."""
    there, goes_on = asyncio.Event(), asyncio.Event()
    write = PostgresTransaction.put_installation

    async def late(transaction: PostgresTransaction, told: Installation) -> None:
        if not there.is_set():
            there.set()
            await goes_on.wait()
        await write(transaction, told)

    monkeypatch.setattr(PostgresTransaction, "put_installation", late)
    return there, goes_on


async def test_a_plan_that_is_bought_while_other_news_is_written_down_wakes_all_the_same(
    deliver: Any, store: Any, slow: tuple[asyncio.Event, asyncio.Event], register: Any
) -> None:
    there, goes_on = slow
    there.set()
    await register(1)
    await deliver(plan("cancelled"))
    there.clear()
    news = asyncio.create_task(deliver(repositories()))
    await there.wait()
    bought = asyncio.create_task(deliver(plan("purchased")))
    await asyncio.wait([bought], timeout=1)
    goes_on.set()
    await asyncio.gather(news, bought)
    found = await present(store)
    assert found is not None
    assert found.plan_cancelled_at is None


async def test_who_installs_again_while_their_time_is_over_is_waited_for(
    deliver: Any, store: Any, slow: tuple[asyncio.Event, asyncio.Event], register: Any
) -> None:
    there, goes_on = slow
    there.set()
    await register(1)
    await deliver(installed("deleted"))
    there.clear()
    again = asyncio.create_task(deliver(installed("created", 9)))
    await there.wait()

    async def is_due() -> bool:
        async with store.transaction(1) as transaction:
            return await retention.is_due(transaction, lambda: NOW + timedelta(days=400))

    asked = asyncio.create_task(is_due())
    await asyncio.wait([asked], timeout=1)
    goes_on.set()
    assert (await again).kind is Kind.NOTED
    assert not await asked


async def test_what_was_destroyed_does_not_come_back_and_nothing_of_it_is_written(
    deliver: Any, asking: Any, store: Any, look: Any
) -> None:
    await deliver(installed("created"))
    async with store.transaction(1) as transaction:
        await transaction.begin_erasure(Erasure(1, uuid4(), 1, 10, "asked", NOW, None, "begun"))
    before = look("SELECT count(*) FROM magicode.entries WHERE installation_id = 1")
    for one in (asking(), repositories(), installed("suspend", suspended=True)):
        assert (await deliver(one)).kind is Kind.ERASED
    assert look("SELECT count(*) FROM magicode.entries WHERE installation_id = 1") == before
    assert look("SELECT count(*) FROM magicode.runs") == [(0,)]


def changed(head_ref: str, head_repository: int | None = 5) -> Received:
    pull = PullRequestChanged(
        "synchronize",
        1,
        5,
        12,
        "open",
        False,
        True,
        head_ref,
        "a" * 40,
        head_repository,
        "main",
        Actor(3, "mona"),
    )
    return told(pull)


async def test_what_happens_on_our_branch_is_settled_and_on_others_ignored(
    deliver: Any, asking: Any, register: Any, store: Any, look: Any
) -> None:
    await register(1)
    run = (await deliver(asking())).run
    async with store.transaction(1) as transaction:
        await transaction.update_run(run.id, branch="magicode/issue-7")
    for received, kind in [
        (changed("magicode/issue-7"), Kind.NOTED),
        (changed("magicode/issue-7", head_repository=6), Kind.IGNORED),
        (changed("magicode/issue-8"), Kind.IGNORED),
        (changed("main"), Kind.IGNORED),
        (told(ChecksCompleted(1, 5, 77, "a" * 40, "magicode/issue-7", "success")), Kind.NOTED),
        (told(ChecksCompleted(1, 5, 77, "a" * 40, None, "success")), Kind.IGNORED),
    ]:
        assert (await deliver(received)).kind is kind
    assert [row for row in look(JOBS) if row[0] == "settle"] == [("settle", None, str(run.id), "1")] * 2


async def test_what_asks_for_nothing_has_its_delivery_and_no_entry(
    deliver: Any, register: Any, look: Any
) -> None:
    await register(1)
    accepted = await deliver(told(Ignored("no_command")))
    assert (accepted.kind, accepted.reason) == (Kind.IGNORED, "no_command")
    assert (await deliver(told(Ping(1), installation=None))).kind is Kind.IGNORED
    assert look("SELECT installation_id, outcome FROM magicode.deliveries") == [(1, "no_command")]
    assert look("SELECT action FROM magicode.entries") == []


def pushed(ref: str = "refs/heads/main", *, repository: int = 5, deleted: bool = False) -> Received:
    return told(
        Pushed(1, repository, "main", ref, "a" * 40, "b" * 40, False, deleted, False, Actor(3, "mona"))
    )


async def test_pushes_to_the_default_branch_wait_as_one_job_for_each_repository(
    deliver: Any, register: Any, look: Any
) -> None:
    await register(1)
    for repository in (5, 5, 6, 5):
        await deliver(pushed(repository=repository))
    assert look(
        "SELECT task_name, queue_name, lock, args->>'repository_id' FROM magicode_jobs.procrastinate_jobs ORDER BY id"
    ) == [("follow", "behind", "1:5:index", "5"), ("follow", "behind", "1:6:index", "6")]


async def test_a_push_after_the_job_has_begun_waits_for_its_own(
    deliver: Any, register: Any, look: Any, database: Any
) -> None:
    await register(1)
    await deliver(pushed())
    with psycopg.connect(database.owner_url) as connection:
        connection.execute("SET search_path TO magicode_jobs")  # where Procrastinate's own trigger looks
        connection.execute("UPDATE procrastinate_jobs SET status = 'doing'")
    await deliver(pushed())
    assert len(look(JOBS)) == 2


@pytest.mark.parametrize(
    "received",
    [pushed("refs/heads/next"), pushed("refs/tags/main"), pushed(deleted=True)],
    ids=["another branch", "a tag", "the branch is gone"],
)
async def test_other_pushes_ask_for_nothing(
    deliver: Any, register: Any, look: Any, received: Received
) -> None:
    await register(1)
    assert (await deliver(received)).kind is Kind.IGNORED
    assert look(JOBS) == []
