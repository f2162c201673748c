"""`magicode keys …`: the master key, and which data keys it wraps. It shows ids and counts, never a key."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Protocol, TypeVar

import typer

from app.actionlog.ledger import Ledger
from app.custody.rotation import SERVICE, SETTLE_SECONDS, Rotated, Rotation, Tell
from app.settings import Settings

if TYPE_CHECKING:
    from app.wiring import Records

T = TypeVar("T")

OPERATOR = "operator"


class Run(Protocol):
    """Runs a coroutine to its end, or until a signal."""

    def __call__(self, work: Coroutine[Any, Any, T]) -> T: ...


async def rotate(read: Settings, *, keep_old: bool, settle_seconds: float, tell: Tell) -> Rotated:
    """See app.custody.rotation.Rotation.run. Raises what it raises, and what the parts raise when they are opened."""
    from app.custody.backups import Backups  # noqa: PLC0415 (only the commands that need it load the service)
    from app.wiring import filled, open_backups, open_records  # noqa: PLC0415

    read, _, _ = await filled(read, {})
    place = await open_backups(read)
    async with open_records(read) as records:
        ledger = Ledger(records.store, records.keys, lambda: datetime.now(UTC))
        keep = None
        if place is not None:
            backups = Backups(place, records.keys, lambda: datetime.now(UTC))
            keep = partial(backups.write_keys, records.store)
        rotation = Rotation(
            records.store,
            records.master,
            records.keys,
            ledger,
            settle_seconds=settle_seconds,
            tell=tell,
            keep=keep,
        )
        return await rotation.run(OPERATOR, keep_old=keep_old)


async def census(read: Settings) -> dict[str, Any]:
    """The master key's id, and how many data keys each master key wraps."""
    from app.wiring import open_records  # noqa: PLC0415 (only the commands that need it load the service)

    async with open_records(read) as records:
        known = {SERVICE, *await records.store.installation_ids()} - {*await records.store.erased_ids()}
        wrapped_by = Counter([await _master_key_of(records, tenant) for tenant in sorted(known)])
    del wrapped_by[""]
    return {"master_key": records.master.id, "data_keys": dict(wrapped_by)}


async def _master_key_of(records: Records, tenant: int) -> str:
    """Empty where there is no data key."""
    async with records.store.transaction(tenant) as transaction:
        stored = await transaction.wrapped_key()
    return stored[0] if stored else ""


def commands(
    run: Run, settings: Callable[[], Settings], show: Callable[[Any], None], tell: Tell
) -> typer.Typer:
    """The commands, over how the command line runs, reads its settings, prints a document and tells of progress."""
    keys = typer.Typer(
        help="The master key, which wraps every installation's data key.", no_args_is_help=True
    )

    @keys.command("rotate")
    def keys_rotate(
        *,
        keep_old: Annotated[
            bool, typer.Option("--keep-old", help="Leave the old master key where it is, for unwrapping.")
        ] = False,
        settle: Annotated[
            float, typer.Option(min=0, help="Seconds to wait for what was begun under the old master key.")
        ] = SETTLE_SECONDS,
        as_json: Annotated[
            bool, typer.Option("--json", help="One JSON document on standard output.")
        ] = False,
    ) -> None:
        """Make a new master key and wrap every data key by it, while the service runs. Run again after a crash, it goes on."""
        done = run(rotate(settings(), keep_old=keep_old, settle_seconds=settle, tell=tell))
        if as_json:
            show(asdict(done))
        else:
            typer.echo(
                f"The master key is {done.master_key}. {done.rewrapped} of {done.keys} data keys were wrapped anew; "
                f"old master keys removed: {done.removed}."
            )

    @keys.command("show")
    def keys_show(
        as_json: Annotated[
            bool, typer.Option("--json", help="One JSON document on standard output.")
        ] = False,
    ) -> None:
        """Say which master key is in use, and how many data keys each one wraps."""
        found = run(census(settings()))
        if as_json:
            show(found)
            return
        typer.echo(f"The master key is {found['master_key']}.")
        for name, count in sorted(found["data_keys"].items()):
            typer.echo(f"Data keys wrapped by {name}: {count}.")

    return keys
