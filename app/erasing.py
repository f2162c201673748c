"""Deleting an installation's data: what a comment asks for, the job that does it, and what GitHub is told.

`begin`, `erase` and `signer` need no run: retention, the command line and the web begin and finish a deletion with them.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from app.actionlog.export import opened
from app.actionlog.filters import Filter
from app.custody import erase as engine
from app.custody import members
from app.custody.erase import Eraser, LegalHoldError, Wish
from app.custody.members import Administrator
from app.custody.receipt import SIGNING_PURPOSE, Signer, read_receipt, remains
from app.custody.tombstones import RESTORED, Tombstones
from app.ending import remove
from app.errors import (
    AlreadyExistsError,
    RefusedError,
    SupersededError,
    TransientError,
    UserError,
)
from app.house import House
from app.jobs.accept import NOBODY
from app.jobs.tasks import Task, erase_lock
from app.nouns import MEND, Action, Erasure, Outcome, Run, RunState
from app.ports import Fence, Recorder, Transaction
from app.pulls import farewell
from app.pulls.conversation import Conversation
from app.pulls.publish import PERMISSIONS
from app.pulls.recovery import left_alone
from app.pulls.wording import ci_key
from app.reading import require_administrator, require_permission, require_unedited
from app.scene import VOICE, Scene, said, written_down
from app.witness import Witness
from embeddings.forget import shelf_of
from webhooks.command import Verb

ANNOUNCED = "delete_announced"
"""The reason of a run that said what a deletion would destroy, and how to confirm it."""

CONFIRM_WITHIN = timedelta(hours=1)
HEARD_WITHIN = timedelta(seconds=30)
"""Of whom nothing was heard for longer, that worker is gone, and its jobs are another's."""

TOLD_AT_MOST = 100
TELL_SECONDS = 30.0
"""How many runs that were at work are told that they were stopped, and for how long in all."""

AGAIN_AFTER_SECONDS = 300.0

log = logging.getLogger(__name__)


# --- the comment -----------------------------------------------------------------------------------------------------


async def answer(scene: Scene) -> Outcome:
    """What `@magicode delete` destroys and how to confirm it; and, confirmed by naming the account, the deletion's beginning,
    in the transaction that ends the run.

    Raises NotAllowedError for who may not ask for it, LegalHoldError, and EditedSinceError.
    """
    await require_permission(scene)
    by = await require_administrator(scene)
    await require_unedited(scene)
    ask = await scene.ask()
    named = "" if ask is None else ask.words.strip()
    # As GitHub calls it now: an account that was renamed is confirmed by the name that its people see.
    account = (await scene.reader.repository()).owner
    house, run = scene.house, scene.run
    async with house.store.transaction(run.installation_id) as transaction:
        await engine.require_no_hold(transaction)
        open_until = await _announced_until(transaction, run)
    confirmed = named.casefold() == account.casefold()
    if open_until is None or house.clock() > open_until:
        return await _announce(scene, account, farewell.not_open(account) if confirmed else "")
    if not named:
        return await _announce(scene, account)
    if not confirmed:
        message = farewell.wrong_name(named, account, house.slug)
        return Outcome(RunState.ANSWERED, "delete_wrong_name", message)
    wish = Wish("asked", run.asker_login, run.repository_id, run.number, run.comment_id)
    scene.at_the_end.append(partial(_begin_by, by, house, run.installation_id, wish))
    return Outcome(RunState.ANSWERED, "deleting", farewell.deleting())


async def _announced_until(transaction: Transaction, run: Run) -> datetime | None:
    """Until when a confirmation counts, by the last announcement on the same issue."""
    earlier = await transaction.runs(
        repository_id=run.repository_id,
        number=run.number,
        verb=Verb.DELETE.value,
        state=RunState.ANSWERED,
    )
    told = [one.ended_at for one in earlier if one.reason == ANNOUNCED and one.ended_at is not None]
    return max(told) + CONFIRM_WITHIN if told else None


async def _announce(scene: Scene, account: str, remark: str = "") -> Outcome:
    house, now = scene.house, scene.house.clock()
    counts = await counted(house, scene.run.installation_id)
    return Outcome(
        RunState.ANSWERED,
        ANNOUNCED,
        farewell.announced(counts, _remaining(now, now), account, house.slug, remark=remark),
    )


async def counted(house: House, installation_id: int) -> Mapping[str, int]:
    """What a deletion would destroy now: rows by table, vectors, objects."""
    async with house.store.transaction(installation_id) as transaction:
        rows = await transaction.row_counts()
        key = await house.keys.existing_key(transaction)
    return {
        **rows,
        "vectors": 0 if key is None else await house.points.count(shelf_of(key, installation_id)),
        "objects": len(await house.objects.names(str(installation_id))),
    }


# --- how it begins and goes on ---------------------------------------------------------------------------------------


async def begin(
    house: House,
    installation_id: int,
    wish: Wish,
    *,
    still: Callable[[Transaction], Awaitable[bool]] | None = None,
) -> bool:
    """From now on nobody enters the installation, and a job destroys it. False where that had begun already; what was begun
    and not finished is put on the queue again. False too where `still`, asked in the transaction that begins it, says no.

    Raises LegalHoldError, which is logged, and UnknownInstallationError.
    """
    if installation_id == NOBODY:
        raise UserError("0 is the service's own chain, and no installation.", reason="not_an_installation")
    async with house.store.transaction(installation_id, erasing=True) as transaction:
        if (begun := await transaction.erasure()) is not None:
            if begun.ended_at is None:
                await _queue(transaction, installation_id)
            return False
    try:
        async with house.store.transaction(installation_id) as transaction:
            if still is not None and not await still(transaction):
                return False
            return await _begin(house, installation_id, wish, transaction)
    except LegalHoldError as error:
        await house.ledger.record(
            installation_id,
            Action.ERASURE_REFUSED,
            wish.asked_by or "magicode",
            None,
            {"reason": error.reason, "wanted": wish.reason},
        )
        raise


async def begin_again(house: House, erasure: Erasure) -> bool:
    """What a backup brought back and the list of erasures has: as `begin`, with no hold that stops it and nobody who is told."""
    async with house.store.transaction(erasure.installation_id, erasing=True) as transaction:
        begun = await engine.begin_again(transaction, erasure, keys=house.keys)
        if begun:
            await _queue(transaction, erasure.installation_id)
        return begun


async def _begin_by(
    by: Administrator, house: House, installation_id: int, wish: Wish, transaction: Transaction
) -> bool:
    """Raises NotTheirsToChangeError where `by` was told meanwhile that they administer no more."""
    await members.require_still(transaction, by)
    return await _begin(house, installation_id, wish, transaction)


async def _begin(house: House, installation_id: int, wish: Wish, transaction: Transaction) -> bool:
    begun = await engine.begin(
        transaction,
        installation_id,
        wish,
        ledger=house.ledger,
        keys=house.keys,
        clock=house.clock,
        new_id=house.new_id,
    )
    if begun:
        await _queue(transaction, installation_id)
    return begun


async def tombstone(house: House, installation_id: int) -> Erasure | None:
    """How far a deletion is; and afterwards its receipt. None where none has begun."""
    async with house.store.transaction(installation_id, erasing=True) as transaction:
        return await transaction.erasure()


async def erase(house: House, installation_id: int) -> Erasure:
    """The job: plays an erasure on to its end. Raises as `Eraser.finish`."""
    return await eraser(house).finish(installation_id)


async def erase_later(house: House, installation_id: int) -> None:
    """Puts the job on the queue again: what was begun is finished, however often it fails."""
    async with house.store.transaction(installation_id, erasing=True) as transaction:
        await _queue(transaction, installation_id, AGAIN_AFTER_SECONDS)


async def erase_now(house: House, installation_id: int) -> None:
    """What waits on the queue to be tried again is tried at once."""
    async with house.store.transaction(installation_id, erasing=True) as transaction:
        await _queue(transaction, installation_id)
        await transaction.hasten(erase_lock(installation_id))


async def _queue(transaction: Transaction, installation_id: int, delay_seconds: float = 0) -> None:
    lock = erase_lock(installation_id)
    if not await transaction.waits(lock):
        await transaction.defer(
            Task.ERASE, lock=lock, delay_seconds=delay_seconds, installation_id=installation_id
        )


def eraser(house: House) -> Eraser:
    return Eraser(
        store=house.store,
        ledger=house.ledger,
        keys=house.keys,
        points=house.points,
        objects=house.objects,
        faces=_OnGitHub(house),
        signer=partial(signer, house),
        clock=house.clock,
        sleep=house.sleep,
        task=Task.ERASE.value,
        heard_within=HEARD_WITHIN,
        listed=tombstones(house),
    )


def tombstones(house: House) -> Tombstones | None:
    """The list of erasures that outlives the database; None where MAGICODE_BACKUPS names no place for one."""
    return None if house.backups is None else Tombstones(house.backups, house.store, house.keys, house.clock)


async def signer(house: House) -> Signer:
    """Whose signature is on this service's receipts."""
    async with house.store.transaction(NOBODY) as transaction:
        key = await house.keys.data_key(transaction)
    return Signer(house.keys.derive(key, SIGNING_PURPOSE))


# --- what GitHub is told ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _OnGitHub:
    """Implements app.custody.erase.Faces."""

    house: House

    async def stopped(self, erasure: Erasure, record: Recorder, fence: Fence) -> None:
        if erasure.reason == RESTORED:  # they were told the first time
            return
        house, tenant = self.house, erasure.installation_id
        async with house.store.transaction(tenant, erasing=True) as transaction:
            at_work = [
                run
                for state in (RunState.RUNNING, RunState.QUEUED)
                for run in await transaction.runs(state=state, limit=TOLD_AT_MOST)
            ]
        until = house.monotonic() + TELL_SECONDS
        for run in at_work[:TOLD_AT_MOST]:
            if house.monotonic() > until:
                break
            try:
                await self._tell(run, record, fence)
            except SupersededError:
                raise
            except (TransientError, UserError, RefusedError, AlreadyExistsError) as error:
                log.warning(
                    "A stopped run could not be told.", extra={"run": str(run.id), "reason": error.reason}
                )

    async def _tell(self, run: Run, record: Recorder, fence: Fence) -> None:
        house, where = self.house, (run.installation_id, run.repository_id)
        key = ci_key(run.number) if run.verb == MEND else run.id
        async with (
            Witness(record, fence=fence) as witness,
            written_down(house.github.reader(*where, witness=witness), record, "read", "read") as reader,
            written_down(
                house.github.writer(*where, VOICE, witness=witness), record, "comment", said(VOICE)
            ) as writer,
        ):
            conversation = Conversation(
                run,
                key=key,
                reader=reader,
                writer=writer,
                fence=fence,
                record=record,
                clock=house.clock,
                bot_login=f"{house.slug}[bot]",
            )
            branch = run.branch
            if (alone := await left_alone(run, reader)) is not None:
                publisher = house.github.writer(*where, PERMISSIONS, witness=witness)
                opening = written_down(publisher, record, "remove", said(PERMISSIONS))
                if await remove(run, alone, opening, record):
                    branch = None
            await conversation.say(farewell.stopped_by_deletion(key, branch), final=True)

    async def deliver(self, erasure: Erasure, fence: Fence) -> None:
        """The installation's own log is gone, so what is done for it now stands in the service's."""
        record = self.house.ledger.recorder(NOBODY, None)
        signed = read_receipt(erasure.receipt or "")
        if not await self._is_written_down(erasure):
            await record(
                Action.DATA_DELETED,
                installation=erasure.installation_id,
                erasure=str(erasure.id),
                reason=erasure.reason,
                log_head=str(signed["log_head"]),
            )
        if erasure.repository_id is None or erasure.number is None:
            return
        try:
            await self._post(
                erasure, signed, erasure.repository_id, erasure.number, record=record, fence=fence
            )
        except SupersededError:
            raise
        except (UserError, RefusedError) as error:
            log.warning(
                "A receipt could not be handed over; it is kept.",
                extra={"installation": erasure.installation_id, "reason": error.reason},
            )

    async def _is_written_down(self, erasure: Erasure) -> bool:
        """By an attempt that ended behind its entry."""
        only = Filter(kinds=(Action.DATA_DELETED.value,))
        entries = opened(self.house.store, self.house.keys, NOBODY, only=only)
        return any([(one.details or {}).get("erasure") == str(erasure.id) async for one in entries])

    async def _post(
        self,
        erasure: Erasure,
        signed: dict[str, Any],
        repository_id: int,
        number: int,
        *,
        record: Recorder,
        fence: Fence,
    ) -> None:
        """Found by its marker where an earlier attempt wrote it."""
        house, where = self.house, (erasure.installation_id, repository_id)
        mark, ours = farewell.erasure_marker(erasure.id), f"{house.slug}[bot]"
        async with (
            Witness(record, installation=erasure.installation_id) as witness,
            written_down(house.github.reader(*where, witness=witness), record, "read", "read") as reader,
        ):
            comments = await reader.issue_comments(number)
        if any(one.author.login == ours and one.body.startswith(mark) for one in comments):
            return
        body = _comment(erasure, signed)
        async with (
            Witness(record, fence=fence, installation=erasure.installation_id) as witness,
            written_down(
                house.github.writer(*where, VOICE, witness=witness), record, "comment", said(VOICE)
            ) as writer,
        ):
            await fence()
            written = await writer.create_comment(number, body)
            await record(
                Action.COMMENT_CREATED,
                installation=erasure.installation_id,
                number=number,
                comment_id=written.id,
            )


def _comment(erasure: Erasure, signed: dict[str, Any]) -> str:
    destroyed = signed["destroyed"]
    closed_at, ended_at = (datetime.fromisoformat(signed[name]) for name in ("closed_at", "ended_at"))
    counts = {
        **destroyed["rows"],
        "vectors": destroyed["vectors"],
        "objects": destroyed["objects"],
        "jobs": destroyed["jobs"],
    }
    return farewell.delivered(
        erasure.id, counts, ended_at, _remaining(closed_at, ended_at), erasure.receipt or ""
    )


def _remaining(closed_at: datetime, ended_at: datetime) -> farewell.Remaining:
    return [(one.where, one.what, one.until) for one in remains(closed_at, ended_at)]
