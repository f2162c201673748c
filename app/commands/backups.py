"""`magicode backup`, `magicode restore` and `magicode restored`: what is kept of the database elsewhere, and how it comes back."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.commands.retention import Run
from app.errors import UserError
from app.settings import Settings

if TYPE_CHECKING:
    from app.restoring import Restored

Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]

NEXT = (
    "Everybody is paused. Look first (magicode doctor, magicode actions verify), then start the service and let it go on: "
    "magicode resume --all"
)


async def _restored(read: Settings) -> Restored:
    from app.restoring import restored  # noqa: PLC0415 (only the commands that need it load the service)
    from app.wiring import open_house, put_kept_keys  # noqa: PLC0415

    await put_kept_keys(read)
    async with open_house(read.model_copy(update={"worker": False}), os.environ) as house:
        return await restored(house)


async def _restore(read: Settings, at: datetime | None) -> tuple[str, Restored]:
    from app.wiring import restore_database  # noqa: PLC0415 (only the commands that need it load the service)

    name = await restore_database(read, at)
    return name, await _restored(read)


def add(cli: typer.Typer, run: Run, settings: Callable[[], Settings], show: Callable[[Any], None]) -> None:
    """The commands, over how the command line runs, reads its settings and prints a document."""

    @cli.command("backup")
    def backup(*, as_json: Json = False) -> None:
        """Write the database down, sealed, where MAGICODE_BACKUPS says, and remove what is older than deletions promise. Once a day."""
        from app.wiring import back_up  # noqa: PLC0415 (only the commands that need it load the service)

        done = run(back_up(settings()))
        if as_json:
            show(asdict(done))
            return
        typer.echo(
            f"{done.name}: {done.size:,} bytes, sealed; keys of {done.keys} apart from it. {done.aged_out} old ones are gone."
        )

    @cli.command("restore")
    def restore(
        *,
        at: Annotated[
            str | None,
            typer.Option(metavar="TIME", help="The last backup of this moment or before; the newest else."),
        ] = None,
        as_json: Json = False,
    ) -> None:
        """Read a backup into an empty database, and do what `restored` does."""
        name, done = run(_restore(settings(), _time(at)))
        if as_json:
            show({"backup": name, **_document(done)})
            return
        typer.echo(f"{name} is restored.")
        _say(done)

    @cli.command("restored")
    def restored(*, as_json: Json = False) -> None:
        """After a database came back by a snapshot: delete again what was deleted since, end what opens doors, pause everybody."""
        done = run(_restored(settings()))
        if as_json:
            show(_document(done))
            return
        _say(done)


def _time(text: str | None) -> datetime | None:
    from app.actionlog.filters import read_filter  # noqa: PLC0415 (only the commands that need it load the service)

    try:
        return read_filter(since=text).since if text else None
    except UserError as error:
        raise typer.BadParameter(error.message) from None


def _document(done: Restored) -> dict[str, Any]:
    return {**asdict(done), "last_entry": done.last_entry.isoformat() if done.last_entry else None}


def _say(done: Restored) -> None:
    if done.last_entry is not None:
        typer.echo(
            f"The logs end at {done.last_entry:%Y-%m-%d %H:%M:%S} UTC: what was done and chosen since is lost."
        )
    again = ", ".join(map(str, done.erased_again))
    typer.echo(
        f"{done.installations} installations. Deleted again: {again or 'none'}. {done.tokens} API tokens removed, everybody is signed out."
    )
    for tenant in done.keyless:
        typer.echo(
            f"Installation {tenant} has rows and no key, and is not in the list: magicode data delete --installation {tenant}"
        )
    typer.echo(NEXT)
