"""What is done for everybody again and again, by one process of all at a time: however many work, GitHub is asked once.

Which process has the round, when the next one is due, and how far the last one came stand in the database. Whoever is over one holds
it for as long as that takes; whoever dies over one is replaced when its lease has run out; two that do one at once do it once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain, repeat
from typing import Any

from app.errors import ErasedError, MagicodeError, RefusedError, TransientError, UserError
from app.house import House
from app.jobs import presence, reconcile
from app.jobs.accept import NOBODY
from app.nouns import Action
from app.retaining import sweep_house

LOOKED_AT_EVERY_SECONDS = 5.0
"""How often each process looks whether a round is due: a statement that finds one row."""
LOOKS_A_LEASE = 3
"""Whoever is over a round says so again so often within its lease."""

SYNC_EVERY_SECONDS = 300.0
SYNC_SECONDS_A_PAGE = 6.0
"""A hundred thousand installations are a thousand requests: no more than 600 of them an hour."""
FEW = 1_000
"""So many installations are looked through before a web process listens, which takes it ten requests; more of them beside it."""

CATCH_UP_AFTER_SECONDS = 2.0
CATCH_UP_EVERY_SECONDS = 60.0
CATCH_UP_SECONDS_A_PAGE = 0.5
"""The list has every event of every customer, a hundred on a page: no more than two pages a second are read."""
SOONEST_SECONDS = 1.0
FAILURES_IN_A_LOOK = 5
"""So many events that GitHub fails on are no accident: the rest is asked for at the next look."""

RETAIN_AFTER_SECONDS = 60.0
RETAIN_EVERY_SECONDS = 3600.0

A_PAGE = 100
CLOCKS_APART = timedelta(minutes=10)
"""By how much two clocks may differ before neither is believed."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Done:
    """The next round is due after `pause`; it goes on from `since`, where it goes by a time."""

    pause: timedelta
    since: datetime | None = None


def kept(house: House) -> Sequence[Coroutine[Any, Any, None]]:
    """All of them, each until it is cancelled."""
    return [_keep_installations(house), _keep_caught_up(house), _keep_no_longer(house)]


async def _round(
    house: House, name: str, lease: float, act: Callable[[datetime | None], Awaitable[Done]]
) -> bool:
    """Where it is due and nobody has it. While the database is away nothing is. Returns whether it is not ours now."""
    with suppress(TransientError):
        begun = await house.store.begin_round(name, timedelta(seconds=lease))
        if begun is None:
            return True
        async with _held(house, name, lease):
            done = await act(begun.since)
        await house.store.end_round(name, done.pause, done.since)
    return False


@asynccontextmanager
async def _held(house: House, name: str, lease: float) -> AsyncIterator[None]:
    """Nobody else begins it meanwhile, however long it takes."""
    over = asyncio.Event()

    async def renew() -> None:
        while not over.is_set():
            try:
                async with asyncio.timeout(lease / LOOKS_A_LEASE):
                    await over.wait()
            except TimeoutError:
                with suppress(TransientError):
                    await house.store.end_round(name, timedelta(seconds=lease))

    renewing = asyncio.create_task(renew())
    try:
        yield
    finally:
        # Told, and not cancelled: a renewal that is under way is heard to its end, before the round is ended behind it.
        over.set()
        await asyncio.wait([renewing])
    renewing.result()


def _looks(after: float, every: float) -> Iterator[float]:
    return chain([after], repeat(min(every, LOOKED_AT_EVERY_SECONDS)))


async def _paused(house: House) -> bool:
    """Whether nobody is worked for. While the database cannot say it, nothing is begun either."""
    try:
        return await house.store.paused(NOBODY) is not None
    except TransientError:
        return True


# --- installations ---------------------------------------------------------------------------------------------------


async def _keep_installations(house: House) -> None:
    async def act(_: datetime | None) -> Done:
        return Done(await sync_installations(house))

    for pause in _looks(SYNC_EVERY_SECONDS, SYNC_EVERY_SECONDS):
        await asyncio.sleep(pause)
        if not await _paused(house):
            await _round(house, "installations", SYNC_EVERY_SECONDS, act)


async def take_up(house: House) -> None:
    """Before anybody listens, so that the first event of a new customer is not turned away; a service that has many knows them, and
    what it missed of the others GitHub is asked for again."""
    try:
        if len(await house.store.installation_ids()) > FEW:
            return
    except TransientError:
        return
    await sync_installations(house)


async def sync_installations(house: House) -> timedelta:
    """Take up the installations that GitHub lists, and pause those that it no longer does: their webhooks may have come
    while nobody listened. One that came since we looked is not missed. Returns how long the next look may wait."""
    pause = timedelta(seconds=SYNC_EVERY_SECONDS)
    try:
        known = await house.store.installation_ids()
        listed = await house.github.installations()
        pause = max(pause, timedelta(seconds=len(listed) / A_PAGE * SYNC_SECONDS_A_PAGE))
        standing = await house.store.standing(listed)
        there = set(standing.values())
        for installation in listed:
            if installation.id not in standing:
                with suppress(ErasedError):
                    there.add(await presence.listed(house.store, installation))
        for tenant in known:
            if tenant not in there:
                with suppress(ErasedError):
                    await presence.unlisted(house.store, tenant, house.clock, house.github.installed)
    except MagicodeError as error:
        log.warning(
            "The installations could not be listed; trying again later.", extra={"reason": error.reason}
        )
    return pause


# --- what was missed -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """From when on to look the next time, and after how long."""

    since: datetime
    pause: timedelta


async def _keep_caught_up(house: House) -> None:
    """What this process tells of it is forgotten once another must have looked since."""
    told_until: float | None = None

    async def act(since: datetime | None) -> Done:
        nonlocal told_until
        looked = await catch_up(house, since or house.clock() - reconcile.KEPT)
        told_until = house.monotonic() + 2 * max(looked.pause.total_seconds(), CATCH_UP_EVERY_SECONDS)
        return Done(looked.pause, looked.since)

    for pause in _looks(CATCH_UP_AFTER_SECONDS, CATCH_UP_EVERY_SECONDS):
        await asyncio.sleep(pause)
        if await _paused(house):
            continue
        anothers = await _round(house, "deliveries", CATCH_UP_EVERY_SECONDS, act)
        if anothers and told_until is not None and house.monotonic() > told_until:
            house.watch.missed(0, 0.0)
            told_until = None


async def catch_up(house: House, since: datetime) -> CaughtUp:
    """Ask GitHub to redeliver what it could not deliver from `since` on. The next look is sooner than usual where an event's own
    pause is over before that, and later where the list is long.

    Any number of workers may do this at once: each event is one's to ask for, and what comes twice all the same is accepted
    once. One that GitHub fails on holds up no other.
    """
    pause = timedelta(seconds=CATCH_UP_EVERY_SECONDS)
    try:
        deliveries = await house.github.deliveries(since)
        pages = timedelta(seconds=len(deliveries) / A_PAGE * CATCH_UP_SECONDS_A_PAGE)
        there = reconcile.githubs_now(deliveries, since)
        now = max(house.clock(), there)
        missed = reconcile.missed(deliveries, there)
        first = min((one.first_at for one in missed), default=there)
        house.watch.missed(len(missed), max((there - first).total_seconds(), 0.0))
        failed = 0
        for one in reconcile.due(missed, now):
            if not await _asks_for(house, one, now):
                continue
            try:
                await house.github.redeliver(one.newest.id)
            except (UserError, RefusedError) as error:
                log.warning("GitHub will not redeliver an event.", extra={"reason": error.reason})
            except TransientError as error:
                failed += 1
                if error.reason == "rate_limited" or failed >= FAILURES_IN_A_LOOK:
                    raise
                log.warning("An event could not be asked for again.", extra={"reason": error.reason})
    except MagicodeError as error:
        log.warning("What was missed could not be asked for again.", extra={"reason": error.reason})
        return CaughtUp(since, pause)
    soon = min((one.due_at - now for one in missed if one.due_at > now), default=pause)
    soon = max(soon, timedelta(seconds=SOONEST_SECONDS))
    return CaughtUp(reconcile.look_from(missed, there), max(min(pause, soon), pages))


async def _asks_for(house: House, one: reconcile.Missed, now: datetime) -> bool:
    """Whether it is this worker that asks for the event; written down before it is asked for. Another does after a while where
    nothing came of it."""
    async with house.store.transaction(NOBODY) as transaction:
        if not await transaction.add_delivery(one.claim(now), one.newest.event, None, "redelivery_asked"):
            return False
        await house.ledger.append(
            transaction,
            NOBODY,
            Action.WEBHOOK_REDELIVERY_ASKED,
            "magicode",
            None,
            {"delivery": one.newest.guid, "event": one.newest.event, "attempts": one.attempts},
        )
        return True


# --- what is too old -------------------------------------------------------------------------------------------------


async def _keep_no_longer(house: House) -> None:
    """What is older than its installation wants goes. A process whose clock is not believed leaves it to the others for as long as
    a round is."""
    steady = Steady(house)
    believed = True

    async def act(_: datetime | None) -> Done:
        nonlocal believed
        try:
            believed = steady() and await clocks_agree(house)
            if not believed:
                return Done(timedelta(seconds=RETAIN_AFTER_SECONDS))
            await sweep_house(house)
        except MagicodeError as error:
            log.warning("What is too old could not be looked for.", extra={"reason": error.reason})
        return Done(timedelta(seconds=RETAIN_EVERY_SECONDS))

    for pause in _looks(RETAIN_AFTER_SECONDS, RETAIN_AFTER_SECONDS):
        await asyncio.sleep(pause if believed else RETAIN_EVERY_SECONDS)
        believed = True
        await _round(house, "retention", RETAIN_EVERY_SECONDS, act)


async def clocks_agree(house: House) -> bool:
    """Whether our clock says the same as the database's. Raises TransientError where that is away."""
    apart = abs(house.clock() - await house.store.now())
    if apart > CLOCKS_APART:
        log.critical(
            "Our clock and the database's differ: nothing is removed for its age.",
            extra={"seconds": round(apart.total_seconds())},
        )
        return False
    return True


class Steady:
    """Whether the clock has gone on by itself since it was asked the last time, and nobody has set it meanwhile: on a single wild
    reading nothing is destroyed. A clock that was set is believed the next time."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._last = house.clock(), house.monotonic()

    def __call__(self) -> bool:
        before, at = self._last
        self._last = now, here = self._house.clock(), self._house.monotonic()
        if abs((now - before) - timedelta(seconds=here - at)) <= CLOCKS_APART:
            return True
        log.critical("Our clock was set: nothing is removed for its age until the next look.")
        return False
