"""Handing an installation its data: what a comment asks for, the job that does it, and what GitHub is told.

`ask`, `gather` and `open_export` need no run: the web and the command line export with them. Who may have it, they ask
before.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from uuid import UUID

from app.actionlog.entry import genesis
from app.actionlog.export import PrunedMeanwhileError, opened
from app.actionlog.ledger import Head
from app.custody.export import KEPT, Contents, Made, Row, Snapshot, archive, take_snapshot
from app.custody.keys import SealBrokenError
from app.custody.sealing import Sealed
from app.ending import say
from app.errors import MissingError, RefusedError, SupersededError, TransientError, UserError
from app.house import House
from app.jobs.tasks import Task
from app.nouns import Action, DataExport, Outcome, Run, RunState
from app.ports import Keys, Store, Transaction
from app.pulls import handover
from app.reading import require_administrator, require_unedited
from app.scene import Scene, open_scene
from embeddings.collection import Points
from embeddings.protect import Protection

ASKED, MADE, FAILED = "asked", "made", "failed"

UNDERWAY_FOR = timedelta(hours=1)
"""How long one that was asked for and not made yet stands for those that are asked for after it."""

TOLD_EVERY = timedelta(seconds=2)
"""As often as its page loads again."""


def link(house: House, installation_id: int, export_id: UUID) -> str | None:
    """Where people fetch it; None where they cannot reach this service."""
    if house.public_url is None:
        return None
    return f"{house.public_url}/installations/{installation_id}/exports/{export_id}"


def command(installation_id: int) -> str:
    """How the operator fetches all of it instead."""
    return f"magicode data export --installation {installation_id} --out FILE.zip"


# --- the comment -----------------------------------------------------------------------------------------------------


async def answer(scene: Scene) -> Outcome:
    """Puts the export on the queue, in the transaction that ends the run.

    Raises NotAllowedError for who may not have it, and EditedSinceError. Whether the asker administers the repository was
    asked before.
    """
    await require_administrator(scene)
    await require_unedited(scene)
    house, run = scene.house, scene.run
    async with house.store.transaction(run.installation_id) as transaction:
        other = await _underway(house, transaction)
    if other is not None:
        where = link(house, run.installation_id, other.id)
        message = handover.underway(where, command(run.installation_id))
        return Outcome(RunState.ANSWERED, "export_underway", message)
    scene.at_the_end.append(partial(_begin, house, run))
    where = link(house, run.installation_id, run.id)
    return Outcome(RunState.ANSWERED, "exporting", handover.exporting(where, command(run.installation_id)))


async def _begin(house: House, run: Run, transaction: Transaction) -> None:
    """The export has the run's id, so that its answer can say where it will be before it is there."""
    export = DataExport(run.id, ASKED, run.asker_login, house.clock(), run_id=run.id)
    await _put_on_the_queue(transaction, run.installation_id, export)


async def ask(house: House, installation_id: int, by: str) -> DataExport:
    """One that is asked for elsewhere than in a comment; the one that is being made where there is one."""
    async with house.store.transaction(installation_id) as transaction:
        await transaction.last_entry()  # holds the chain: of two at once, the second one sees the first
        other = await _underway(house, transaction)
        if other is not None:
            return other
        export = DataExport(house.new_id(), ASKED, by, house.clock())
        await _put_on_the_queue(transaction, installation_id, export)
    return export


async def _underway(house: House, transaction: Transaction) -> DataExport | None:
    after = house.clock() - UNDERWAY_FOR
    return next(
        (one for one in await transaction.exports() if one.state == ASKED and one.asked_at > after), None
    )


async def _put_on_the_queue(transaction: Transaction, installation_id: int, export: DataExport) -> None:
    await transaction.put_export(export)
    await transaction.defer(
        Task.EXPORT,
        lock=f"{installation_id}:export",
        installation_id=installation_id,
        export_id=export.id,
    )


# --- the job ---------------------------------------------------------------------------------------------------------


async def make(house: House, installation_id: int, export_id: UUID) -> None:
    """Goes on where whoever was at it before left off: writes it, notes it, says it. Does nothing for one that is gone."""
    export = await _export(house, installation_id, export_id)
    if export is None or export.state == FAILED:
        return
    if export.state == ASKED:
        export = await _claim(house, installation_id, export_id)
    await _remove(house, installation_id, export_id, but=export.place)
    if export.state == ASKED:
        export = await _make(house, installation_id, export)
    assert export.sha256 is not None
    assert export.expires_at is not None
    where = link(house, installation_id, export_id)
    said = handover.exported(where, command(installation_id), export.sha256, export.expires_at)
    await _tell(house, installation_id, export, Outcome(RunState.ANSWERED, "exported", said))


async def _claim(house: House, installation_id: int, export_id: UUID) -> DataExport:
    """A place of its own for each attempt, which the row names before anything is there: a worker that was thought dead writes over
    nothing, and what it wrote elsewhere is not what is handed out. One that was made since is as it is. Raises SupersededError."""
    async with house.store.transaction(installation_id) as transaction:
        await transaction.last_entry()  # holds the chain, and so the row
        now = await _find(transaction, export_id)
        if now is None or now.state == FAILED:
            raise SupersededError(reason="export_gone")
        if now.state == MADE:
            return now
        claimed = replace(now, place=f"{installation_id}/{export_id}-{house.new_id().hex[:8]}")
        await transaction.put_export(claimed)
    return claimed


async def _make(house: House, installation_id: int, export: DataExport) -> DataExport:
    place = export.place
    assert place is not None
    async with house.store.transaction(installation_id) as transaction:
        key = await house.keys.data_key(transaction)
    contents = await gather(house, installation_id, export.id)
    made, way = Made(), _Way(contents)
    pieces = archive(replace(contents, entries=way.entries), made)
    told = _told(house, installation_id, export.id, way, pieces)
    sealed = Sealed(house.keys, key, installation_id, export.id).seal(told)
    await house.objects.put(place, sealed)
    try:
        return await _note(house, installation_id, export, made)
    except SupersededError:
        await house.objects.delete(place)
        raise


@dataclass(slots=True)
class _Way:
    """How far an archive is, by the log's entries: nearly all of it, and each of them is in it twice."""

    contents: Contents
    gone: int = 0
    whole: int = 0

    async def entries(self) -> AsyncIterator[Row]:
        last = self.contents.snapshot.last
        async for entry in self.contents.entries():
            if not self.whole and last is not None:
                self.whole = 2 * (last.seq - int(str(entry["seq"])) + 1)
            self.gone += 1
            yield entry

    @property
    def percent(self) -> int:
        """Never all of it: the end is still to be written."""
        return min(99, 100 * self.gone // self.whole) if self.whole else 0


async def _told(
    house: House, installation_id: int, export_id: UUID, way: _Way, pieces: AsyncIterator[bytes]
) -> AsyncIterator[bytes]:
    """The pieces, while those who wait are told how far they are."""
    last = house.clock()
    async for piece in pieces:
        yield piece
        if house.clock() - last >= TOLD_EVERY:
            last = house.clock()
            async with house.store.transaction(installation_id) as transaction:
                await transaction.export_written(export_id, way.percent)


async def _note(house: House, installation_id: int, export: DataExport, made: Made) -> DataExport:
    """The row and the entry, both or neither. Raises SupersededError where another worker was quicker, or is at it."""
    async with house.store.transaction(installation_id) as transaction:
        await transaction.last_entry()  # holds the chain, and so the row
        now = await _find(transaction, export.id)
        if now is None or now.state != ASKED or now.place != export.place:
            raise SupersededError(reason="export_made")
        at = house.clock()
        done = replace(
            now,
            state=MADE,
            size=made.size,
            sha256=made.sha256,
            percent=100,
            made_at=at,
            expires_at=at + KEPT,
        )
        await transaction.put_export(done)
        await house.ledger.append(
            transaction,
            installation_id,
            Action.DATA_EXPORTED,
            export.asked_by,
            export.run_id,
            {
                "what": "export",
                "export": str(export.id),
                "bytes": made.size,
                "sha256": made.sha256,
                "where": "held for download",
            },
        )
    return done


async def give_up(house: House, installation_id: int, export_id: UUID) -> None:
    """One that was tried often enough: it is said, and nothing of it is left."""
    async with house.store.transaction(installation_id) as transaction:
        await transaction.last_entry()  # holds the chain, and so the row
        export = await _find(transaction, export_id)
        if export is None or export.state == MADE:
            return
        export = replace(export, state=FAILED, place=None)
        await transaction.put_export(export)
    await _remove(house, installation_id, export_id, but=None)
    with suppress(TransientError):
        said = Outcome(RunState.FAILED, "export_failed", handover.not_exported())
        await _tell(house, installation_id, export, said)


async def _remove(house: House, installation_id: int, export_id: UUID, *, but: str | None) -> None:
    """What earlier attempts left."""
    for name in await house.objects.names(str(installation_id)):
        if name.startswith(f"{installation_id}/{export_id}-") and name != but:
            await house.objects.delete(name)


async def _tell(house: House, installation_id: int, export: DataExport, outcome: Outcome) -> None:
    """In the answer to who asked in a comment; nobody is told where that cannot be said any more."""
    if export.run_id is None:
        return
    async with house.store.transaction(installation_id) as transaction:
        run = await transaction.run(export.run_id)
    if run is None:
        return

    async def still_held() -> None:
        if await _export(house, installation_id, export.id) is None:
            raise SupersededError(reason="export_gone")

    with suppress(UserError, RefusedError):
        async with open_scene(house, run, fence=still_held) as scene:
            await say(scene, outcome)


async def _export(house: House, installation_id: int, export_id: UUID) -> DataExport | None:
    async with house.store.transaction(installation_id) as transaction:
        return await _find(transaction, export_id)


async def _find(transaction: Transaction, export_id: UUID) -> DataExport | None:
    return next((one for one in await transaction.exports() if one.id == export_id), None)


# --- what goes in, and out again -------------------------------------------------------------------------------------


async def gather(
    house: House, installation_id: int, export_id: UUID, *, vectors_if_possible: bool = False
) -> Contents:
    """All that is held, as of now. Raises ErasedError, and TransientError where a store is away; with `vectors_if_possible`
    only the vectors' count is missing where their store is.
    """
    snapshot = await take_snapshot(house.store, house.keys, installation_id, house.clock())
    last = snapshot.last
    seq, hashed = (last.seq, last.hash) if last is not None else (0, genesis(installation_id))
    try:
        vectors = await _vectors(house.points, snapshot)
    except TransientError:
        if not vectors_if_possible:
            raise
        vectors = [{"repository_id": None, "collection": None, "vectors": None}]
    return Contents(
        export_id=export_id,
        snapshot=snapshot,
        head=str(Head(seq, hashed, installation_id)),
        entries=_Log(house.store, house.keys, installation_id, seq).entries,
        vectors=vectors,
    )


@dataclass(slots=True)
class _Log:
    """The entries up to a head: the same ones each time."""

    store: Store
    keys: Keys
    installation_id: int
    up_to: int
    first: int | None = field(default=None)

    async def entries(self) -> AsyncIterator[Row]:
        """Raises PrunedMeanwhileError."""
        seen = 0
        if self.up_to:
            async for entry in opened(self.store, self.keys, self.installation_id):
                if self.first is None:
                    self.first = entry.seq
                if seen == 0 and entry.seq != self.first:
                    raise PrunedMeanwhileError
                seen = entry.seq
                yield entry.model_dump()
                if seen == self.up_to:
                    return
        if seen != self.up_to:
            raise PrunedMeanwhileError


async def _vectors(points: Points, snapshot: Snapshot) -> Sequence[Row]:
    if snapshot.key is None:
        return []
    protection = Protection(snapshot.key, snapshot.installation_id)
    shelf = protection.installation()
    ids = {int(str(run["repository_id"])) for run in snapshot.tables["runs"]}
    known = {protection.repository(one): one for one in ids}
    found: list[Row] = []
    for name in sorted(await points.names(shelf)):
        within = name.removeprefix(f"{shelf}/")
        found.append(
            {
                "repository_id": known.get(within.split("/")[0]),
                "collection": within,
                "vectors": await points.count(name),
            }
        )
    return found


async def handed_out(
    house: House, installation_id: int, contents: Contents, made: Made, *, by: str, where: str
) -> AsyncIterator[bytes]:
    """The plain ZIP. Its entry is written behind its last byte and before its end: who puts pieces whole or not at all has
    nothing that is not written down."""
    async for piece in archive(contents, made):
        yield piece
    await house.ledger.record(
        installation_id,
        Action.DATA_EXPORTED,
        by,
        None,
        {
            "what": "export",
            "export": str(contents.export_id),
            "bytes": made.size,
            "sha256": made.sha256,
            "where": where,
        },
    )


async def open_export(
    house: House, installation_id: int, export_id: UUID
) -> tuple[DataExport, AsyncIterator[bytes]]:
    """One that can be fetched, and the plain ZIP. Who calls has made sure of who asks, and writes the download down.

    Raises MissingError: `export_gone`, or `export_not_made` for one that is still being made. The stream raises
    SealBrokenError where what was kept is not what was made.
    """
    async with house.store.transaction(installation_id) as transaction:
        export = await _find(transaction, export_id)
        key = await house.keys.existing_key(transaction)
    if export is not None and export.state == ASKED:
        raise MissingError("This export is still being made.", reason="export_not_made")
    over = export is None or export.expires_at is None or export.expires_at <= house.clock()
    if export is None or over or key is None or export.place is None:
        raise MissingError("This export is not there (any more).", reason="export_gone")
    sealed = Sealed(house.keys, key, installation_id, export_id)
    return export, _unchanged(sealed.open(house.objects.get(export.place)), export)


async def _unchanged(plain: AsyncIterator[bytes], export: DataExport) -> AsyncIterator[bytes]:
    """Held back by one piece, so that what was changed is never seen as a whole ZIP."""
    hashed, held = hashlib.sha256(), b""
    async for piece in plain:
        hashed.update(piece)
        if held:
            yield held
        held = piece
    if hashed.hexdigest() != export.sha256:
        raise SealBrokenError
    if held:
        yield held
