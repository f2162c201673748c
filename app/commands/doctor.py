"""`magicode doctor`: is everything there that the service needs, and what is to be done about what is not."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.commands.retention import Run
from app.settings import Settings

if TYPE_CHECKING:
    from app.doctor import Finding

_MARKS = {True: "well ", False: "WRONG", None: "-    "}


def add(cli: typer.Typer, run: Run, settings: Callable[[], Settings], show: Callable[[Any], None]) -> None:
    """The command, over how the command line runs, reads its settings and prints a document."""

    @cli.command("doctor")
    def doctor(
        *,
        as_json: Annotated[
            bool, typer.Option("--json", help="One JSON document on standard output.")
        ] = False,
    ) -> None:
        """Look at all that the service needs, and say what to do about what is not well."""
        from app.doctor import examine  # noqa: PLC0415 (the service is not loaded by the other commands)

        found = run(examine(settings(), os.environ))
        well = all(one.well is not False for one in found)
        if as_json:
            show({"ok": well, "findings": [asdict(one) for one in found]})
        else:
            for one in found:
                typer.echo(said(one))
        raise typer.Exit(0 if well else 1)


def said(one: Finding) -> str:
    """One line, and what to do below it."""
    line = f"{_MARKS[one.well]}  {one.name}: {one.said}"
    return f"{line}\n       {one.do}" if one.do else line
