"""Whether an installation is there: installed, suspended, uninstalled, its plan over; and whose data it comes back to.

Uninstalled means paused: what is kept is kept for a while, for those who install again. GitHub then gives a new id, and
an account has one installation of an App at a time, so the account tells.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

from app.jobs.tasks import lock_of
from app.nouns import Installation, RunState
from app.ports import Clock, Store, Transaction
from webhooks.notices import InstallationChanged, PlanChanged, RepositoriesChanged


async def tenant_of(store: Store, github_id: int, account_id: int | None = None) -> int:
    """The tenant that an installation's present id stands for; of an account that is known, the one that it has and that is not
    being destroyed: who installs the App anew meanwhile begins afresh."""
    tenant = await store.tenant_of(github_id)
    if (
        tenant == github_id
        and account_id is not None
        and (known := await store.tenants_of_account(account_id))
    ):
        erased = set(await store.erased_ids())
        return next((one for one in known if one not in erased), tenant)
    return tenant


async def changed(
    transaction: Transaction,
    tenant: int,
    notice: InstallationChanged | RepositoriesChanged,
    known: Installation | None,
    clock: Clock,
) -> str:
    """Writes down what a notice says; in a word, what that was. Ids grow, so a lower one than the present is late news."""
    if known is not None and notice.installation_id < known.present_id:
        return "late"
    if isinstance(notice, InstallationChanged) and notice.action == "deleted":
        if known is not None:
            await transaction.put_installation(replace(known, uninstalled_at=clock()))
            await stop_all(transaction)
        return "deleted"
    if isinstance(notice, InstallationChanged):
        suspended = notice.suspended
    else:
        suspended = known is not None and known.suspended
    anew = known is None or known.present_id != notice.installation_id
    if known is not None and known.uninstalled_at is not None and not anew:
        return "late"  # what was uninstalled does not come back under its old id
    told = Installation(
        tenant,
        notice.account_id,
        notice.account_login,
        suspended,
        account_type=notice.account_type,
        github_id=notice.installation_id,
        plan_cancelled_at=None if known is None else known.plan_cancelled_at,
    )
    await transaction.put_installation(told)
    return "installed_again" if anew and known is not None else notice.action


async def bought(transaction: Transaction, plan: PlanChanged, known: Installation) -> str | None:
    """What a plan's change means for its installation; None for what has not happened yet: only `cancelled` is an end."""
    if plan.action == "cancelled":
        await transaction.put_installation(replace(known, plan_cancelled_at=plan.effective_date))
        await stop_all(transaction)
    elif plan.action == "purchased":
        await transaction.put_installation(replace(known, plan_cancelled_at=None))
    else:
        return None
    return f"plan_{plan.action}"


async def listed(store: Store, told: Installation) -> int:
    """Takes up an installation that GitHub lists. Returns its tenant. Raises ErasedError for one that was destroyed."""
    tenant = await tenant_of(store, told.id, told.account_id)
    async with store.transaction(tenant) as transaction:
        known = await transaction.installation(lock=True)
        if known is None or told.id >= known.present_id:
            await transaction.put_installation(
                replace(
                    told,
                    id=tenant,
                    github_id=told.id,
                    plan_cancelled_at=None if known is None else known.plan_cancelled_at,
                )
            )
    return tenant


async def unlisted(
    store: Store, tenant: int, clock: Clock, installed: Callable[[int], Awaitable[bool]]
) -> bool:
    """Pauses an installation that GitHub no longer lists: its webhook may have come while nobody listened.

    GitHub is asked for it alone first: it may have been installed again since the list was begun, and a list whose pages change
    meanwhile leaves some out.
    """
    async with store.transaction(tenant) as transaction:
        seen = await transaction.installation()
    if seen is None or seen.uninstalled_at is not None or await installed(seen.present_id):
        return False
    async with store.transaction(tenant) as transaction:
        known = await transaction.installation(lock=True)
        if known is None or known.uninstalled_at is not None or known.present_id != seen.present_id:
            return False
        await transaction.put_installation(replace(known, uninstalled_at=clock()))
        await stop_all(transaction)
        return True


async def stop_all(transaction: Transaction) -> None:
    """Tells every run of the installation to stop; one that waits to be tried again is taken up to say so. The runs' rows before
    their jobs', as whoever stops one of them has it."""
    at_work = [
        run
        for state in (RunState.QUEUED, RunState.RUNNING)
        for run in await transaction.runs(state=state, limit=10_000)
    ]
    for run in at_work:
        await transaction.update_run(run.id, cancel_requested=True)
    for lock in dict.fromkeys(map(lock_of, at_work)):
        if lock is not None:
            await transaction.hasten(lock)
