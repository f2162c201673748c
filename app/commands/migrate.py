"""`magicode migrate`: makes a database ready for the service and ends, so that no process that goes on holds its owner's role."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.commands.retention import Run
from app.settings import Settings

if TYPE_CHECKING:
    from app.wiring import Migrated


def add(cli: typer.Typer, run: Run, settings: Callable[[], Settings], show: Callable[[Any], None]) -> None:
    """The command, over how the command line runs, reads its settings and prints a document."""

    @cli.command("migrate")
    def migrate(
        *,
        as_json: Annotated[
            bool, typer.Option("--json", help="One JSON document on standard output.")
        ] = False,
    ) -> None:
        """Bring the schema up to date as MAGICODE_DATABASE_OWNER_URL, and give the service's role its password where
        MAGICODE_DATABASE_SERVICE_PASSWORD is set. Older programs may go on working meanwhile."""
        from app.wiring import migrate_database  # noqa: PLC0415 (only the commands that need it load the service)

        done = run(migrate_database(settings()))
        if as_json:
            show(asdict(done))
        else:
            typer.echo(said(done))


def said(done: Migrated) -> str:
    """One line."""
    return _schema(done) + (" The service's role has its password." if done.password else "")


def _schema(done: Migrated) -> str:
    if done.now != done.needed:
        return f"The schema is at {done.now}, newer than this program's {done.needed}, and was left as it is."
    if done.before == done.now:
        return f"The schema is at {done.now}: there was nothing to do."
    return f"The schema was at {done.before or 'nothing'} and is at {done.now}."
