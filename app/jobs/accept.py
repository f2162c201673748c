"""One verified delivery becomes durable: its row, its run, its jobs and its entry in the log, or none of them.

One transaction and no network, since GitHub waits for the answer. Whether the asker may ask is the worker's to find
out; what is decided here is decided on the signed body and on our own rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from enum import StrEnum
from uuid import UUID

from app.errors import ErasedError
from app.jobs.freeze import input_hash
from app.jobs.fresh import meaning_of
from app.jobs.permission import NOT_THEIRS
from app.jobs.presence import bought, changed, tenant_of
from app.jobs.tasks import Task, follow_lock, lock_of, refresh_lock
from app.nouns import Action, Installation, Job, Run, RunState
from app.ports import Appends, Clock, Keys, Store, Transaction
from webhooks.command import Command
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

NOBODY = 0
"""The installation whose chain records deliveries that belong to no installation we know."""

BRANCH_PREFIX = "magicode/"
FOLLOW_AFTER_SECONDS = 5.0
"""Pushes come in bursts; the index follows the last of them once."""

LOOKED_AT = 100
"""Runs of a repository that opened pull requests and are looked at when its default branch moves."""

APART_SECONDS = 15.0
"""A look at one of several pull requests after a push takes some ten requests: where many are open, they share an hour's limit."""

STILL_OPEN = frozenset({"opened", "opened_as_draft"})
"""The reasons of a run whose pull request was open, and ours alone, when it was last looked at."""

REDELIVERY_WINDOW = timedelta(days=3)
"""GitHub redelivers for three days: https://docs.github.com/en/webhooks/testing-and-troubleshooting-webhooks/redelivering-webhooks"""


HEARD_IN_VAIN = 5
"""Requests of one person within an hour that were refused because that person may not ask. Anybody may write where a repository
is public, and each refusal is a comment of ours in other people's inboxes: whoever goes on is not heard."""
IN_VAIN_FOR = timedelta(hours=1)


class Kind(StrEnum):
    """What acceptance did. REPEATED changed nothing; AGAIN put a run back that had failed for our own reasons."""

    QUEUED = "queued"
    BLOCKED = "blocked"
    AGAIN = "again"
    REPEATED = "repeated"
    NOTED = "noted"
    IGNORED = "ignored"
    UNKNOWN_INSTALLATION = "unknown_installation"
    ERASED = "erased"


_TURNED_AWAY = frozenset({Kind.UNKNOWN_INSTALLATION, Kind.ERASED})
_TO_WORK = frozenset({Kind.QUEUED, Kind.BLOCKED, Kind.AGAIN})


@dataclass(frozen=True, slots=True)
class Accepted:
    kind: Kind
    run: Run | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class _Acceptance:
    """What accepting one delivery needs."""

    store: Store
    ledger: Appends
    keys: Keys
    clock: Clock
    new_id: Callable[[], UUID]

    async def accept(self, received: Received) -> Accepted:
        if isinstance(received.outcome, PlanChanged):
            return await self._plan(received, received.outcome)
        if received.installation_id is None:
            return Accepted(Kind.IGNORED, reason=_outcome_name(received))
        with suppress(ErasedError):
            if isinstance(received.outcome, InstallationChanged | RepositoriesChanged):
                accepted = await self._news(received, received.outcome, received.installation_id)
            else:
                accepted = await self._on_known(received, received.installation_id)
            return accepted or await self._turn_away(received, Kind.UNKNOWN_INSTALLATION)
        return await self._turn_away(received, Kind.ERASED)

    async def _on_known(self, received: Received, github_id: int) -> Accepted | None:
        async with self.store.arrival(github_id) as (transaction, known):
            if known is None:
                return None
            return await self._take(transaction, _of(received, known.id), known)

    async def _news(
        self, received: Received, news: InstallationChanged | RepositoriesChanged, github_id: int
    ) -> Accepted | None:
        """Of an installation, which may be a new one on an account that is known."""
        tenant = await tenant_of(self.store, github_id, news.account_id)
        async with self.store.transaction(tenant) as transaction:
            known = await transaction.installation(lock=True)
            if known is None and news.action == "deleted":
                return None
            return await self._take(transaction, _of(received, tenant), known)

    async def _plan(self, received: Received, plan: PlanChanged) -> Accepted:
        """The Marketplace names an account alone. A plan that ended pauses its installation, one that is bought wakes it."""
        accepted = Accepted(Kind.IGNORED, reason="no_installation")
        for tenant in await self.store.tenants_of_account(plan.account_id):
            with suppress(ErasedError):
                async with self.store.transaction(tenant) as transaction:
                    known = await transaction.installation(lock=True)
                    if known is not None:
                        accepted = await self._take(transaction, _of(received, tenant), known)
        return accepted

    async def _take(
        self, transaction: Transaction, received: Received, installation: Installation | None
    ) -> Accepted:
        outcome = received.outcome
        gone = installation is not None and installation.uninstalled_at is not None
        if isinstance(outcome, Command) and not gone:
            # A redelivery carries the same GUID, and the run it is about may have failed for our own reasons.
            accepted = await self._command(transaction, received, outcome)
        elif not await transaction.add_delivery(
            received.guid, received.event, received.action, _outcome_name(received)
        ):
            return Accepted(Kind.REPEATED)
        elif isinstance(outcome, Command):
            return Accepted(Kind.IGNORED, reason="uninstalled")  # late news: nobody could be answered
        elif isinstance(outcome, InstallationChanged | RepositoriesChanged):
            assert received.installation_id is not None
            done = await changed(transaction, received.installation_id, outcome, installation, self.clock)
            if isinstance(outcome, RepositoriesChanged):
                await _forget(transaction, received.installation_id, outcome)
            accepted = Accepted(Kind.NOTED, reason=done)
        elif isinstance(outcome, PlanChanged) and installation is not None:
            plan = await bought(transaction, outcome, installation)
            accepted = Accepted(Kind.NOTED if plan else Kind.IGNORED, reason=plan or "plan_pending")
        elif isinstance(outcome, PullRequestChanged | ChecksCompleted):
            accepted = await _settle(transaction, outcome)
        elif isinstance(outcome, Pushed):
            accepted = await _follow(transaction, outcome)
        else:
            accepted = Accepted(Kind.IGNORED, reason=_outcome_name(received))
        if accepted.kind not in (Kind.REPEATED, Kind.IGNORED):
            hooked = installation is not None and installation.hooked
            await self._write_down(transaction, received, accepted, hooked=hooked)
        return accepted

    async def _turn_away(self, received: Received, kind: Kind) -> Accepted:
        accepted = Accepted(kind, reason=kind.value)
        async with self.store.transaction(NOBODY) as transaction:
            await self._write_down(transaction, received, accepted)
        return accepted

    # --- a command ---------------------------------------------------------------------------------------------------

    async def _command(self, transaction: Transaction, received: Received, command: Command) -> Accepted:
        """Whoever was told often enough just now, and of nothing else, is not heard; who was given a right since is once the hour is
        over."""
        run = self._run(command, await self.keys.data_key(transaction))
        if run.is_pull_request:
            run = replace(run, subject=await transaction.opened_for(run.repository_id, run.number))
        stored = await transaction.add_request(
            run,
            guid=received.guid,
            event=received.event,
            action=received.action,
            outcome=_outcome_name(received),
            since=self.clock() - IN_VAIN_FOR,
            reasons=NOT_THEIRS,
            at_most=HEARD_IN_VAIN,
        )
        if stored is None:
            return Accepted(Kind.IGNORED, reason="asked_in_vain")
        if stored.id == run.id:
            return Accepted(Kind.QUEUED if stored.blocked_by is None else Kind.BLOCKED, stored)
        if stored.state is not RunState.FAILED or self.clock() - stored.created_at > REDELIVERY_WINDOW:
            return Accepted(Kind.REPEATED, stored)
        again = await _queue_again(transaction, stored)
        return Accepted(Kind.REPEATED, stored) if again is None else Accepted(Kind.AGAIN, again)

    def _run(self, command: Command, data_key: bytes) -> Run:
        occasion = command.group or command.occasion
        return Run(
            id=self.new_id(),
            installation_id=command.installation_id,
            repository_id=command.repository_id,
            number=command.number,
            is_pull_request=command.is_pull_request,
            verb=command.ask.verb.value,
            occasion=command.occasion,
            comment_id=command.comment_id,
            asker_id=command.actor.id,
            asker_login=command.actor.login,
            meaning=meaning_of(
                data_key, command.repository_id, command.number, occasion, command.ask.verb.value
            ),
            input_hash=input_hash(data_key, command.texts),
            cost_limit_usd=command.ask.cost_limit_usd,
            state=RunState.QUEUED,
            attempt=0,
            blocked_by=None,
            cancel_requested=False,
            reason=None,
            status_comment_id=None,
            branch=None,
            base_sha=None,
            head_sha=None,
            pull_request=None,
            input_tokens=0,
            cached_tokens=0,
            output_tokens=0,
            cost_usd=Decimal(0),
            created_at=self.clock(),
            started_at=None,
            ended_at=None,
        )

    # --- the log -----------------------------------------------------------------------------------------------------

    async def _write_down(
        self, transaction: Transaction, received: Received, accepted: Accepted, *, hooked: bool = False
    ) -> None:
        """Last in its transaction, because the chain is locked from here to the commit.

        What is ignored has its delivery's row and no entry: nothing was done, and a busy account's pushes would bury
        what was.
        """
        known = received.installation_id if accepted.kind not in _TURNED_AWAY else None
        await self.ledger.append(
            transaction,
            NOBODY if known is None else known,
            _action(received, accepted),
            received.sender.login if received.sender else "github",
            accepted.run.id if accepted.run else None,
            {
                "delivery": received.guid,
                "event": received.event,
                "action": received.action,
                "installation": received.installation_id,
                "repository": received.repository_id,
                "outcome": accepted.kind.value,
                "reason": accepted.reason or None,
                "verb": accepted.run.verb if accepted.run else None,
                "number": accepted.run.number if accepted.run else None,
            },
            _jobs(accepted, hooked=hooked),
            ends=True,
        )


def _action(received: Received, accepted: Accepted) -> Action:
    if accepted.kind in _TURNED_AWAY:
        return Action.WEBHOOK_REFUSED
    if isinstance(received.outcome, InstallationChanged | RepositoriesChanged | PlanChanged):
        return Action.INSTALLATION_CHANGED
    return Action.WEBHOOK_ACCEPTED


def _outcome_name(received: Received) -> str:
    """A stable word for the delivery's row: never anything that a person wrote."""
    match received.outcome:
        case Command(ask=ask):
            return f"command:{ask.verb.value}"
        case Ignored(reason=reason):
            return reason
        case Ping():
            return "ping"
        case Pushed():
            return "pushed"
        case PullRequestChanged() | ChecksCompleted():
            return "settle"
        case _:
            return "installation"


def _jobs(accepted: Accepted, *, hooked: bool) -> Sequence[Job]:
    """The reaction has a job of its own, since the work may wait for its turn, and so has finding out which hooks are told."""
    run = accepted.run
    if run is None or accepted.kind not in _TO_WORK:
        return ()
    ids = {"installation_id": run.installation_id, "run_id": run.id}
    work = Job(Task.BLOCKED, ids) if run.blocked_by is not None else Job(Task.WORK, ids, lock_of(run))
    told = hooked and accepted.kind is not Kind.AGAIN
    return Job(Task.ACKNOWLEDGE, ids), *([Job(Task.TELL_ACCEPTED, ids)] if told else []), work


async def _queue_again(transaction: Transaction, stored: Run) -> Run | None:
    """None when somebody else was quicker, or another run is now at work on the same subject."""
    run = await transaction.run(stored.id, lock=True)
    if run is None or run.state is not RunState.FAILED:
        return None
    if await transaction.active_run(run.repository_id, run.about) is not None and lock_of(run) is not None:
        return None
    return await transaction.update_run(
        run.id, state=RunState.QUEUED, reason=None, ended_at=None, blocked_by=None, cancel_requested=False
    )


def _of(received: Received, tenant: int) -> Received:
    """As the tenant's own; what GitHub tells of installations keeps the id that it tells it by."""
    outcome = received.outcome
    if isinstance(outcome, Command | PullRequestChanged | ChecksCompleted | Pushed):
        outcome = replace(outcome, installation_id=tenant)
    return replace(received, installation_id=tenant, outcome=outcome)


async def _settle(transaction: Transaction, notice: PullRequestChanged | ChecksCompleted) -> Accepted:
    """A light job when the branch is one that a run of ours published to; a fork's branch of that name is not."""
    if isinstance(notice, PullRequestChanged):
        branch = notice.head_ref if notice.head_repository_id == notice.repository_id else None
    else:
        branch = notice.head_branch
    if branch is None or not branch.startswith(BRANCH_PREFIX):
        return Accepted(Kind.IGNORED, reason="not_ours")
    run = await transaction.run_by_branch(notice.repository_id, branch)
    if run is None:
        return Accepted(Kind.IGNORED, reason="not_ours")
    await transaction.defer(Task.SETTLE, installation_id=notice.installation_id, run_id=run.id)
    return Accepted(Kind.NOTED, run, reason="settle")


async def accept(
    received: Received,
    *,
    store: Store,
    ledger: Appends,
    keys: Keys,
    clock: Clock,
    new_id: Callable[[], UUID],
) -> Accepted:
    """Accept one delivery; `new_id` makes the run's id.

    Raises TransientError when the database is away; nothing is kept then, and GitHub can be asked to redeliver.
    """
    return await _Acceptance(store, ledger, keys, clock, new_id).accept(received)


async def _follow(transaction: Transaction, notice: Pushed) -> Accepted:
    """A job that brings the index up to the default branch; one that still waits will see this push as well.

    Nothing enters the log here: the job writes down what it does, and it does nothing for a repository without index.
    """
    if notice.deleted or notice.ref != f"refs/heads/{notice.default_branch}":
        return Accepted(Kind.IGNORED, reason="pushed")
    lock = follow_lock(notice.installation_id, notice.repository_id)
    if not await transaction.waits(lock):
        await transaction.defer(
            Task.FOLLOW,
            lock=lock,
            delay_seconds=FOLLOW_AFTER_SECONDS,
            behind=True,
            installation_id=notice.installation_id,
            repository_id=notice.repository_id,
        )
    await _refresh(transaction, notice)
    return Accepted(Kind.IGNORED, reason="pushed")


async def _forget(transaction: Transaction, tenant: int, notice: RepositoriesChanged) -> None:
    """A job for each repository that was taken out, behind whoever follows a push there: what is stored of it goes."""
    for repository_id in notice.removed:
        await transaction.defer(
            Task.FORGET,
            lock=follow_lock(tenant, repository_id),
            behind=True,
            installation_id=tenant,
            repository_id=repository_id,
        )


async def _refresh(transaction: Transaction, notice: Pushed) -> None:
    """A light job for each pull request of ours that is open as far as we know: its base may have moved.

    The more there are, the longer a burst of pushes is waited for.
    """
    runs = await transaction.runs(repository_id=notice.repository_id, state=RunState.OPENED, limit=LOOKED_AT)
    still_open = [run for run in runs if run.reason in STILL_OPEN]
    delay = FOLLOW_AFTER_SECONDS + APART_SECONDS * max(len(still_open) - 1, 0)
    for run in still_open:
        lock = refresh_lock(run)
        if not await transaction.waits(lock):
            await transaction.defer(
                Task.REFRESH,
                lock=lock,
                delay_seconds=delay,
                behind=True,
                installation_id=run.installation_id,
                run_id=run.id,
            )
