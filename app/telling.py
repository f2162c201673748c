"""A customer's own addresses are told what happens to runs, in the format of Standard Webhooks; each try is an entry in the log.

Told are the facts of a run that the API shows: never a text, code or a path. https://www.standardwebhooks.com
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid5

from app.custody import hooks
from app.custody.hooks import OpenHook
from app.errors import MissingError, RefusedError, TransientError
from app.house import House
from app.jobs.events import SENDS, announce
from app.jobs.retries import HOOK_AWAY
from app.nouns import MEND, Action, Facts, Installation, Run, RunEvent, RunState
from app.ports import Transaction

PING = "ping"
GONE = 410
"""Not to be told anything any more, as Standard Webhooks has it."""


class NoHookError(MissingError):
    """There is no such webhook any more."""


class SilentInstallationError(RefusedError):
    """Nothing is sent while the App is suspended or uninstalled, or its plan is over."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What came of one try: the answer's status, or in a word why there is none."""

    status: int | None
    why: str = ""

    @property
    def taken(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


def facts_of(run: Run) -> dict[str, Any]:
    """What the API and the hooks say about a run."""
    return {
        "id": run.id,
        "repository_id": run.repository_id,
        "number": run.number,
        "about": run.about,
        "verb": run.verb,
        "asked_by": run.asker_login,
        "state": run.state.value,
        "reason": run.reason,
        "stop_asked": run.cancel_requested,
        "pull_request": run.pull_request,
        "attempts": run.attempt,
        "input_tokens": run.input_tokens,
        "cached_tokens": run.cached_tokens,
        "output_tokens": run.output_tokens,
        "cost_usd": str(run.cost_usd),
        "cost_limit_usd": None if run.cost_limit_usd is None else str(run.cost_limit_usd),
        "asked_at": run.created_at,
        "started_at": run.started_at,
        "ended_at": run.ended_at,
    }


async def tell_accepted(house: House, run: Run) -> None:
    """Acceptance knows only that there are hooks: which of them are to be told is looked up behind it."""
    async with house.store.transaction(run.installation_id) as transaction:
        await announce(transaction, RunEvent.ACCEPTED, run)


async def send(  # noqa: PLR0917 - what a job carries, as it carries it
    house: House, event: RunEvent, installation_id: int, hook_id: UUID, run_id: UUID, attempt: int, tries: int
) -> None:
    """One try to tell one hook, and the next one put on the queue where it was not taken. Who dies behind the request sends it
    once more under the same id."""
    async with house.store.transaction(installation_id) as transaction:
        installation = await transaction.installation()
        run = await transaction.run(run_id)
        hook = await hooks.find(transaction, house.keys, installation_id, hook_id)
    if _silent(installation) or run is None or hook is None or (then := _as_of(event, run, attempt)) is None:
        return
    await house.held()
    told = _body(event, _when(event, then), installation_id, facts_of(then))
    sent = await _sent(house, hook, _message_id(hook_id, event, run_id, attempt), told)
    async with house.store.transaction(installation_id) as transaction:
        facts: Facts = {"hook": str(hook_id), "event": event.value, "attempt": tries + 1}
        if sent.status == GONE:
            # The hook's removal writes to this row, which is locked before the log's end is.
            await transaction.installation(lock=True)
        there = await transaction.note_hook(hook_id, house.clock(), sent.status)
        await _write_down(house, transaction, installation_id, "magicode", run_id, facts, sent)
        pause = HOOK_AWAY.pause(tries)
        if sent.status == GONE:
            await hooks.remove_within(
                transaction, house.ledger, installation_id, by="magicode", hook_id=hook_id, why="gone"
            )
        elif there and not sent.taken and pause is not None:
            await transaction.defer(
                SENDS[event],
                delay_seconds=pause.total_seconds(),
                outside=True,
                installation_id=installation_id,
                hook_id=hook_id,
                run_id=run_id,
                attempt=attempt,
                tries=tries + 1,
            )


async def ping(house: House, installation_id: int, hook_id: UUID, by: str) -> Sent:
    """Something to try a receiver with, sent once while somebody waits. Raises NoHookError and SilentInstallationError."""
    async with house.store.transaction(installation_id) as transaction:
        installation = await transaction.installation()
        hook = await hooks.find(transaction, house.keys, installation_id, hook_id)
    if hook is None:
        raise NoHookError(reason="hook_missing")
    if _silent(installation):
        raise SilentInstallationError(reason="silent")
    sent = await _sent(house, hook, str(house.new_id()), _body(PING, house.clock(), installation_id, {}))
    async with house.store.transaction(installation_id) as transaction:
        await transaction.note_hook(hook_id, house.clock(), sent.status)
        facts: Facts = {"hook": str(hook_id), "event": PING, "attempt": 1}
        await _write_down(house, transaction, installation_id, by, None, facts, sent)
    return sent


# --- inside ----------------------------------------------------------------------------------------------------------


async def _sent(house: House, hook: OpenHook, message_id: str, body: bytes) -> Sent:
    stamp = int(house.clock().timestamp())
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "MagiCode",
        "webhook-id": message_id,
        "webhook-timestamp": str(stamp),
        "webhook-signature": hooks.signature(hook.secret, message_id, stamp, body),
    }
    try:
        return Sent(await house.receivers.send(hook.url, headers, body))
    except TransientError as error:
        return Sent(None, error.reason)


async def _write_down(  # noqa: PLR0917 - who did what to what, in the order in which it is said
    house: House,
    transaction: Transaction,
    installation_id: int,
    actor: str,
    run_id: UUID | None,
    facts: Facts,
    sent: Sent,
) -> None:
    told: Facts = {**facts, "status": sent.status, "why": sent.why or None}
    await house.ledger.append(transaction, installation_id, Action.WEBHOOK_SENT, actor, run_id, told)


def _silent(installation: Installation | None) -> bool:
    return installation is None or installation.suspended or installation.paused_at is not None


def _message_id(hook_id: UUID, event: RunEvent, run_id: UUID, attempt: int) -> str:
    """The same each time that a hook is told of the same thing: by it a receiver knows what it has been told already."""
    end = f":{attempt}" if event is RunEvent.ENDED else ""
    return str(uuid5(hook_id, f"{run_id}:{event}{end}"))


def _as_of(event: RunEvent, run: Run, attempt: int) -> Run | None:
    """The run as it was then, since a try may come a day later; None for an end that was taken back before it could be told:
    the run's next end is told instead."""
    if event is RunEvent.ENDED:
        return run if run.state.ended and run.attempt == attempt else None
    return replace(
        run,
        state=RunState.QUEUED if event is RunEvent.ACCEPTED else RunState.RUNNING,
        reason=None,
        cancel_requested=False,
        attempt=0 if event is RunEvent.ACCEPTED else attempt,
        pull_request=run.pull_request if run.verb == MEND else None,
        input_tokens=0,
        cached_tokens=0,
        output_tokens=0,
        cost_usd=Decimal(0),
        started_at=None if event is RunEvent.ACCEPTED else run.started_at,
        ended_at=None,
    )


def _when(event: RunEvent, then: Run) -> datetime:
    at = {RunEvent.STARTED: then.started_at, RunEvent.ENDED: then.ended_at}.get(event)
    return at or then.created_at


def _body(kind: str, at: datetime, installation_id: int, data: Mapping[str, object]) -> bytes:
    told = {
        "type": kind,
        "timestamp": _plain(at),
        "installation_id": installation_id,
        "data": {name: _plain(value) for name, value in data.items()},
    }
    return json.dumps(told, separators=(",", ":")).encode()


def _plain(value: object) -> object:
    """As the API's JSON says it."""
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    return str(value) if isinstance(value, UUID) else value
