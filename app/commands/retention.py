"""`magicode retention`: what installations no longer want to be kept is removed now, as the worker does every hour."""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Protocol, TypeVar

import typer

from app.settings import Settings

if TYPE_CHECKING:
    from app.custody.retention import Swept

T = TypeVar("T")

OPERATOR = "operator"


class Run(Protocol):
    """Runs a coroutine to its end, or until a signal."""

    def __call__(self, work: Coroutine[Any, Any, T]) -> T: ...


async def apply(read: Settings, installation: int | None, *, dry: bool) -> Sequence[Swept]:
    """Raises what the house's parts raise."""
    from app.retaining import sweep_house  # noqa: PLC0415 (only the commands that need it load the service)
    from app.wiring import open_house  # noqa: PLC0415

    async with open_house(read.model_copy(update={"worker": False}), os.environ) as house:
        return await sweep_house(house, installation, dry=dry, anyway=True, actor=OPERATOR)


def add(cli: typer.Typer, run: Run, settings: Callable[[], Settings], show: Callable[[Any], None]) -> None:
    """The command, over how the command line runs, reads its settings and prints a document."""

    @cli.command("retention")
    def retention(
        *,
        installation: Annotated[
            int | None, typer.Option(help="Only this one; 0 is the service's own chain.")
        ] = None,
        dry_run: Annotated[
            bool, typer.Option("--dry-run", help="Say what would be removed, and remove nothing.")
        ] = False,
        as_json: Annotated[
            bool, typer.Option("--json", help="One JSON document on standard output.")
        ] = False,
    ) -> None:
        """Remove what is older than each installation wants; begin the deletion of what is paused for too long."""
        done = run(apply(settings(), installation, dry=dry_run))
        if as_json:
            show([asdict(one) for one in done])
            return
        for one in done:
            typer.echo(said(one, dry=dry_run))


def said(swept: Swept, *, dry: bool) -> str:
    """One installation's line."""
    if swept.held:
        return f"{swept.installation_id}: a legal hold is on; nothing is removed."
    would = "would be removed" if dry else "removed"
    line = (
        f"{swept.installation_id}: {would}: {swept.runs} runs, {swept.deliveries} deliveries, "
        f"{swept.entries} entries of the log, {swept.exports} exports."
    )
    if swept.erase is not None:
        line += f" Paused for too long ({swept.erase}): its deletion {'would begin' if dry else 'has begun'}."
    return line
