"""`magicode dedicate`: gives an installation workers of its own, takes them away again, and says who has some."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from app.commands.retention import Run
from app.settings import Settings

if TYPE_CHECKING:
    from app.actionlog.ledger import Ledger
    from app.dedicating import Dedicated
    from app.nouns import Dedication
    from app.ports import Store

T = TypeVar("T")


async def _with_records(read: Settings, act: Callable[[Store, Ledger], Awaitable[T]]) -> T:
    from app.actionlog.ledger import Ledger  # noqa: PLC0415 (only the commands that need it load the service)
    from app.wiring import open_records  # noqa: PLC0415

    async with open_records(read) as records:
        return await act(records.store, Ledger(records.store, records.keys, lambda: datetime.now(UTC)))


def add(cli: typer.Typer, run: Run, settings: Callable[[], Settings], show: Callable[[Any], None]) -> None:
    """The command, over how the command line runs, reads its settings and prints a document."""

    @cli.command("dedicate")
    def dedicate(
        *,
        installation: Annotated[int | None, typer.Option(min=1, help="The installation's id.")] = None,
        end: Annotated[bool, typer.Option("--end", help="Everybody's workers work for it again.")] = False,
        listed: Annotated[bool, typer.Option("--list", help="Say who has workers of its own.")] = False,
        as_json: Annotated[
            bool, typer.Option("--json", help="One JSON document on standard output.")
        ] = False,
    ) -> None:
        """Have an installation worked for by workers of its own alone: those that were started with MAGICODE_DEDICATED_TO."""
        from app.dedicating import dedicate as begin  # noqa: PLC0415
        from app.dedicating import share  # noqa: PLC0415

        if listed:
            if end or installation is not None:
                raise typer.BadParameter("--list stands alone")
            found = run(_with_records(settings(), lambda store, _: store.dedicated()))
            _tell(found, show if as_json else None)
            return
        if installation is None:
            raise typer.BadParameter("say whom: --installation ID; or --list")
        act, whom = (share if end else begin), installation
        done = run(_with_records(settings(), lambda store, ledger: act(store, ledger, whom)))
        if as_json:
            show(asdict(done))
        else:
            typer.echo(said(done))


def _tell(found: Sequence[Dedication], show: Callable[[Any], None] | None) -> None:
    if show is not None:
        show([{**asdict(one), "since": one.since.isoformat()} for one in found])
        return
    for one in found:
        heard = "no worker yet" if one.heard_seconds is None else f"a worker {one.heard_seconds:.0f} s ago"
        typer.echo(f"{one.installation_id}: since {one.since:%Y-%m-%d %H:%M:%S} UTC; {heard}")


def said(done: Dedicated) -> str:
    """One line, and what is to be done besides."""
    name = f"Installation {done.installation_id}"
    if not done.own:
        ended = "everybody's workers work for it again" if done.changed else "had no workers of its own"
        return f"{name}: {ended}."
    begun = "is worked for by workers of its own alone" if done.changed else "had workers of its own already"
    return f"{name}: {begun}. Start them with MAGICODE_DEDICATED_TO={done.installation_id} magicode worker."
