"""`magicode actions …`: hand the action log out, and verify what was handed out with no service at hand."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import nullcontext
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol, TypeVar
from uuid import UUID

import typer

from app.actionlog.anchors import Anchor, quoted_heads
from app.actionlog.export import Format
from app.actionlog.export import export as written_out
from app.actionlog.filters import Filter, read_filter
from app.actionlog.ledger import Ledger
from app.actionlog.verify import told, verify_stream
from app.commands import remote
from app.errors import UserError
from app.jobs.accept import NOBODY
from app.nouns import Action, Facts
from app.settings import Settings

if TYPE_CHECKING:
    from app.wiring import Records

T = TypeVar("T")


class Run(Protocol):
    """Runs a coroutine to its end, or until a signal."""

    def __call__(self, work: Coroutine[Any, Any, T]) -> T: ...


class WhichInstallationError(UserError):
    """It must be said which installation is meant."""


async def export(
    read: Settings, *, installation: int | None, only: Filter, form: Format
) -> AsyncIterator[str]:
    """What is asked for of the action log of one installation, in pieces; with None, of the only one that there is.

    Raises WhichInstallationError when none is named and there is not exactly one.
    """
    from app.wiring import open_records  # noqa: PLC0415 (only the commands that need it load the service)

    async with open_records(read) as records:
        asked = installation
        if asked is None:
            known = sorted(one for one in await records.store.installation_ids() if one != NOBODY)
            if len(known) != 1:
                said = ", ".join(str(one) for one in known) or "none yet"
                raise WhichInstallationError(f"Say which with --installation; there are: {said}.")
            asked = known[0]
        await _looked(records, asked, only, form)
        async for piece in written_out(records.store, records.keys, asked, form, only=only):
            yield piece


async def _looked(records: Records, installation: int, only: Filter, form: Format) -> None:
    """The operator's look is written down before anything is handed out; where there is no log, none is begun by it."""
    ledger = Ledger(records.store, records.keys, lambda: datetime.now(UTC))
    async with records.store.transaction(installation) as transaction:
        if await transaction.last_entry() is not None:
            facts: Facts = {"what": "log", "whole": only.whole, "format": form.value}
            await ledger.append(transaction, installation, Action.DATA_LOOKED, "operator", None, facts)


async def _written(pieces: AsyncIterator[str], out: Path | None) -> None:
    """No file is made before there is something to write."""
    first = await anext(pieces, "")
    with out.open("w", encoding="utf-8", newline="") if out else nullcontext(sys.stdout) as target:
        target.write(first)
        async for piece in pieces:
            target.write(piece)


def _anchor(text: str) -> Anchor:
    try:
        return Anchor.parse(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text}: {error}") from None


def commands(run: Run, settings: Callable[[], Settings], show: Callable[[Any], None]) -> typer.Typer:
    """The commands, over how the command line runs, reads its settings and prints a document."""
    actions = typer.Typer(
        help="The action log: what was done, in a chain that shows every later change.", no_args_is_help=True
    )

    @actions.command("export")
    def actions_export(
        *,
        installation: Annotated[
            int | None,
            typer.Option(
                help="The installation's id, needed where there are several; 0 is the service's own chain."
            ),
        ] = None,
        since: Annotated[
            str | None,
            typer.Option(metavar="TIME", help="From this moment on: 2026-11-20, or with a time of day."),
        ] = None,
        until: Annotated[str | None, typer.Option(metavar="TIME", help="Before this moment.")] = None,
        repository: Annotated[
            int | None,
            typer.Option(metavar="ID", help="Only what is about this repository, by GitHub's id of it."),
        ] = None,
        run_id: Annotated[UUID | None, typer.Option("--run", help="Only this run's actions.")] = None,
        kind: Annotated[
            list[str] | None,
            typer.Option(help="Only such actions: model.called, or model for all of its kind."),
        ] = None,
        actor: Annotated[
            str | None, typer.Option(metavar="LOGIN", help="Only what this person asked for.")
        ] = None,
        form: Annotated[Format, typer.Option("--format")] = Format.JSONL,
        out: Annotated[Path | None, typer.Option(help="A file; standard output when left out.")] = None,
        server: remote.Server = None,
        token_file: remote.TokenFile = None,
        as_json: Annotated[
            bool, typer.Option("--json", help="One JSON document on standard output.")
        ] = False,
    ) -> None:
        """Write the action log out, or a part of it, which then says so. `actions verify` checks what comes out, with no access
        to the service.
        """
        try:
            only = read_filter(
                since=since,
                until=until,
                repository_id=repository,
                run_id=run_id,
                kinds=kind or (),
                actor=actor,
            )
        except UserError as error:
            raise typer.BadParameter(error.message) from None
        chosen = Format.JSON if as_json else form
        service = remote.service(server, token_file)
        if service is None:
            pieces = export(settings(), installation=installation, only=only, form=chosen)
        elif installation is None:
            raise typer.BadParameter("say which with --installation")
        else:
            pieces = remote.log(service, installation, only=only, form=chosen)
        try:
            run(_written(pieces, out))
        except WhichInstallationError as error:
            raise typer.BadParameter(error.message) from None

    @actions.command("verify")
    def actions_verify(
        file: Annotated[
            Path, typer.Argument(help="What `actions export` wrote, in JSON, JSON lines or CSV.")
        ],
        anchor: Annotated[
            list[str] | None,
            typer.Option(help="SEQ:HASH, a head quoted somewhere; a shortened hash will do."),
        ] = None,
        anchors: Annotated[
            list[Path] | None,
            typer.Option(
                metavar="FILE",
                help="Saved pull requests or comments that quote heads: text, a page, or what `gh api` printed.",
            ),
        ] = None,
        as_json: Annotated[
            bool, typer.Option("--json", help="One JSON document on standard output.")
        ] = False,
    ) -> None:
        """Find any edited, dropped, reordered, inserted or truncated entry of an export, with no access to the service."""
        for one in (file, *(anchors or ())):
            if not one.is_file():
                raise typer.BadParameter(f"{one}: there is no such file")
        quoted = [_anchor(text) for text in anchor or ()]
        for one in anchors or ():
            quoted += quoted_heads(one.read_text(encoding="utf-8-sig", errors="replace"))
        with file.open(encoding="utf-8", newline="") as stream:
            report = verify_stream(stream, quoted)
        if as_json:
            show({**asdict(report), "ok": report.ok})
        else:
            for line in told(report):
                typer.echo(line)
        raise typer.Exit(0 if report.ok else 1)

    return actions
