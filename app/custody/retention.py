"""What is older than an installation wants is removed; that it was is written down before it is.

Goes by the installation's own settings. A legal hold stops all of it. Open work is remembered while it is young enough to
matter: a run whose pull request is open is how a person's commit, a merge or a comment there is known to be about ours.
"""

from __future__ import annotations

import calendar
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

from app.custody import settings
from app.custody.settings import InstallationSettings
from app.nouns import Action, DataExport, Entry, Facts, Installation
from app.ports import Appends, Clock, Objects, Store, Transaction

OPEN_WORK_MONTHS: Final = 12
"""A run whose pull request is open, as far as we know, is kept at least so long, whatever is chosen."""

PLAN_OVER_DAYS: Final = 29
"""After a plan's end nothing is kept for longer, whatever is chosen: GitHub wants all of a customer's data to be gone within
30 days of the cancellation, and the last of them is for the deletion.
https://docs.github.com/en/apps/github-marketplace/using-the-github-marketplace-api-in-your-app/handling-plan-cancellations"""

DELIVERIES_KEPT: Final = timedelta(days=30)
"""That an event came is remembered so that it is not done twice, and GitHub delivers again for three days only; most events of a
customer's are no request at all. What was done of one stands in its run and in the log."""

FAILED_EXPORTS_KEPT: Final = timedelta(days=7)

ONCE_IN: Final = timedelta(hours=20)
"""Each time leaves an entry that is removed in its turn, so an hourly look removes something once a day."""


class Prunes(Appends, Protocol):
    """The action log, which attests what is removed of its beginning."""

    async def note_pruning(
        self,
        transaction: Transaction,
        installation_id: int,
        up_to_seq: int,
        *,
        actor: str = "magicode",
        facts: Facts | None = None,
    ) -> Entry: ...


@dataclass(frozen=True, slots=True)
class Swept:
    """What was removed of one installation, or would be. `held`: a legal hold is on. `erase`: it is paused for longer than it
    wants to be kept, and this is the reason that its deletion is begun with."""

    installation_id: int
    runs: int = 0
    deliveries: int = 0
    entries: int = 0
    exports: int = 0
    up_to_seq: int | None = None
    held: bool = False
    erase: str | None = None

    @property
    def removed(self) -> int:
        return self.runs + self.deliveries + self.entries + self.exports


@dataclass(frozen=True, slots=True)
class Retention:
    """`open_work` are the reasons of runs whose pull request is open as far as we know. Of the log no more than `at_once`
    entries go in one transaction, since whoever wants to write to it waits meanwhile."""

    store: Store
    ledger: Prunes
    objects: Objects
    clock: Clock
    open_work: Sequence[str]
    at_once: int = 20_000

    async def sweep(
        self, installation_id: int, *, dry: bool = False, anyway: bool = False, actor: str = "magicode"
    ) -> Swept:
        """One installation. `anyway`: also where that was done a short while ago; `dry` removes nothing.

        Any number of workers may do this at once: the chain is held, and what one has removed another does not find. Raises
        ErasedError for one that is being destroyed or was.
        """
        found = await self._once(installation_id, dry=dry, anyway=anyway, actor=actor)
        last = found
        while last.entries >= self.at_once and not dry:
            last = await self._once(installation_id, dry=False, anyway=True, actor=actor)
            found = replace(
                last,
                runs=found.runs + last.runs,
                deliveries=found.deliveries + last.deliveries,
                entries=found.entries + last.entries,
                exports=found.exports + last.exports,
                up_to_seq=last.up_to_seq or found.up_to_seq,
            )
        return found

    async def _once(self, installation_id: int, *, dry: bool, anyway: bool, actor: str) -> Swept:
        now = self.clock()
        expired = await self._expired(installation_id, now)
        if not dry:
            # Before their rows: a crash between leaves a row, by which the object is looked for again.
            for one in expired:
                if one.place is not None:
                    await self.objects.delete(one.place)
        async with self.store.transaction(installation_id) as transaction:
            last = await transaction.last_entry()  # holds the chain until the commit
            chosen = await settings.read(transaction)
            if chosen.legal_hold is not None:
                return Swept(installation_id, held=True)
            if not dry:
                # A day is all that they were promised for, and what was done stands in the log: no entry says that they went.
                await transaction.prune_answers(now)
            erase = due_for_erasure(await transaction.installation(), chosen, now)
            found = Swept(
                installation_id, exports=await self._forget(transaction, expired, dry=dry), erase=erase
            )
            if anyway or dry or not await self._done(transaction, now):
                found = await self._prune(transaction, found, chosen, now, last, dry=dry)
            if found.removed and not dry:
                await self._write_down(transaction, found, actor)
            if found.up_to_seq is not None and not dry:
                await transaction.prune_entries(found.up_to_seq)
        return found

    async def _prune(
        self,
        transaction: Transaction,
        found: Swept,
        chosen: InstallationSettings,
        now: datetime,
        last: Entry | None,
        *,
        dry: bool,
    ) -> Swept:
        """Runs and deliveries; of the log, up to where."""
        before = months_before(now, chosen.runs_months)
        open_since = months_before(now, max(chosen.runs_months, OPEN_WORK_MONTHS))
        runs = await transaction.prune_runs(before, spared=self.open_work, spared_since=open_since, dry=dry)
        deliveries = await transaction.prune_deliveries(max(before, now - DELIVERIES_KEPT), dry=dry)
        at_most = None if dry else self.at_once
        up_to, entries = await _log_until(transaction, months_before(now, chosen.log_months), last, at_most)
        return Swept(
            found.installation_id, runs, deliveries, entries, found.exports, up_to, erase=found.erase
        )

    async def _write_down(self, transaction: Transaction, found: Swept, actor: str) -> None:
        """Before the log's beginning goes, and in the same transaction."""
        facts: dict[str, Any] = {
            "entries": found.entries,
            "runs": found.runs,
            "deliveries": found.deliveries,
            "exports": found.exports,
        }
        tenant = found.installation_id
        if found.up_to_seq is not None:
            await self.ledger.note_pruning(transaction, tenant, found.up_to_seq, actor=actor, facts=facts)
        else:
            await self.ledger.append(transaction, tenant, Action.RETENTION_APPLIED, actor, None, facts)

    async def _expired(self, installation_id: int, now: datetime) -> Sequence[DataExport]:
        """Exports that can be fetched no longer. None under a legal hold."""
        async with self.store.transaction(installation_id) as transaction:
            if (await settings.read(transaction)).legal_hold is not None:
                return ()
            return [one for one in await transaction.exports() if _is_over(one, now)]

    async def _forget(self, transaction: Transaction, expired: Sequence[DataExport], *, dry: bool) -> int:
        known = {one.id for one in await transaction.exports()}
        gone = [one for one in expired if one.id in known]
        if not dry:
            for one in gone:
                await transaction.remove_export(one.id)
        return len(gone)

    async def _done(self, transaction: Transaction, now: datetime) -> bool:
        """Whether it was done a short while ago, by settings that still hold."""
        stored = await transaction.settings()
        since = now - ONCE_IN
        if stored is not None:
            since = max(since, stored.changed_at)
        return bool(await transaction.entries(since=since, actions=[Action.RETENTION_APPLIED.value], limit=1))


async def _log_until(
    transaction: Transaction, before: datetime, last: Entry | None, at_most: int | None
) -> tuple[int | None, int]:
    """Up to which entry the log goes, and how many that are; its head stays."""
    old = await transaction.entry_before(before)
    if old is None or last is None:
        return None, 0
    up_to = min(old.seq, last.seq - 1)
    first = await transaction.entries(limit=1)
    count = up_to - first[0][0].seq + 1 if first else 0
    if at_most is not None and count > at_most:
        up_to, count = up_to - (count - at_most), at_most
    return (up_to, count) if count > 0 else (None, 0)


def due_for_erasure(
    installation: Installation | None, chosen: InstallationSettings, now: datetime
) -> str | None:
    """The reason to destroy a paused installation with, once it has waited for as long as it wants to be kept, or may be."""
    if installation is None:
        return None
    waited = (
        (installation.uninstalled_at, chosen.uninstalled_days, "uninstalled"),
        (installation.plan_cancelled_at, min(chosen.uninstalled_days, PLAN_OVER_DAYS), "plan_cancelled"),
    )
    due = [(since + timedelta(days=days), reason) for since, days, reason in waited if since is not None]
    return next((reason for at, reason in sorted(due) if at <= now), None)


async def is_due(transaction: Transaction, clock: Clock) -> bool:
    """Whether its installation is to be destroyed now, asked by who is about to begin that. Whoever installs the App again at
    the same moment is waited for."""
    known = await transaction.installation(lock=True)
    await transaction.last_entry()  # holds the chain, as who changes a setting does
    chosen = await settings.read(transaction)
    return due_for_erasure(known, chosen, clock()) is not None


def months_before(moment: datetime, months: int) -> datetime:
    """The same day of the month so many months earlier, or that month's last day."""
    years, month = divmod(moment.year * 12 + moment.month - 1 - months, 12)
    day = min(moment.day, calendar.monthrange(years, month + 1)[1])
    return moment.replace(year=years, month=month + 1, day=day)


def _is_over(export: DataExport, now: datetime) -> bool:
    if export.expires_at is not None:
        return export.expires_at <= now
    return export.state == "failed" and export.asked_at + FAILED_EXPORTS_KEPT <= now
