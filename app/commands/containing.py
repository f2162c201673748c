"""`magicode pause`, `magicode resume` and `magicode affected`: stop one installation or all, let them go on, and say whom it met."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.commands.retention import Run
from app.errors import UserError
from app.settings import Settings

if TYPE_CHECKING:
    from app.actionlog.ledger import Ledger
    from app.containing import Affected, Contained, OpenGitHub
    from app.ports import Store

Installation = Annotated[int | None, typer.Option(help="The installation's id.")]
Everybody = Annotated[bool, typer.Option("--all", help="Every installation, those to come included.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]


async def _contain(
    read: Settings, act: Callable[[Store, Ledger, OpenGitHub], Awaitable[Contained]]
) -> Contained:
    from app.actionlog.ledger import Ledger  # noqa: PLC0415 (only the commands that need it load the service)
    from app.wiring import open_github, open_records  # noqa: PLC0415

    async with open_records(read) as records:
        ledger = Ledger(records.store, records.keys, lambda: datetime.now(UTC))
        return await act(records.store, ledger, lambda: open_github(read, records.store, ledger))


async def _affected(read: Settings, since: datetime, until: datetime, kinds: list[str]) -> list[Affected]:
    from app.containing import affected  # noqa: PLC0415 (only the commands that need it load the service)
    from app.wiring import open_records  # noqa: PLC0415

    async with open_records(read) as records:
        return list(await affected(records.store, since, until, kinds))


def add(cli: typer.Typer, run: Run, settings: Callable[[], Settings], show: Callable[[Any], None]) -> None:
    """The commands, over how the command line runs, reads its settings and prints a document."""

    @cli.command("pause")
    def pause(
        *,
        installation: Installation = None,
        everybody: Everybody = False,
        revoke: Annotated[
            bool,
            typer.Option("--revoke", help="Remove their API tokens too, and with --all sign everybody out."),
        ] = False,
        suspend: Annotated[
            bool,
            typer.Option(
                "--suspend", help="Have GitHub refuse its tokens too, and tell us of nothing meanwhile."
            ),
        ] = False,
        as_json: Json = False,
    ) -> None:
        """Stop at once: no work begins, what is at work stops before its next effect, pages and API answer 503. Nothing is lost."""
        from app.containing import pause as act  # noqa: PLC0415

        whom = _whom(installation, everybody=everybody)
        if suspend and everybody:
            raise typer.BadParameter("--suspend is for one installation: --installation ID")
        done = run(
            _contain(
                settings(),
                lambda store, ledger, github: act(
                    store, ledger, whom, revoke=revoke, suspend=github if suspend else None
                ),
            )
        )
        if as_json:
            show(asdict(done))
            return
        line = f"{_named(whom)}: {'paused' if done.changed else 'was paused already'}."
        if done.at_github:
            line += " GitHub refuses its tokens."
        if revoke:
            line += (
                f" {done.tokens} API tokens removed{', everybody is signed out' if done.sessions else ''}."
            )
        typer.echo(line)

    @cli.command("resume")
    def resume(
        *, installation: Installation = None, everybody: Everybody = False, as_json: Json = False
    ) -> None:
        """Let go on what was paused: what waited begins."""
        from app.containing import resume as act  # noqa: PLC0415

        whom = _whom(installation, everybody=everybody)
        done = run(
            _contain(settings(), lambda store, ledger, github: act(store, ledger, whom, unsuspend=github))
        )
        if as_json:
            show(asdict(done))
            return
        typer.echo(f"{_named(whom)}: {'goes on' if done.changed else 'was not paused'}.")

    @cli.command("affected")
    def affected(
        *,
        since: Annotated[
            str, typer.Option(metavar="TIME", help="From this moment on: 2026-11-20, or with a time of day.")
        ],
        until: Annotated[
            str | None, typer.Option(metavar="TIME", help="Before this moment; now when left out.")
        ] = None,
        kind: Annotated[
            list[str] | None,
            typer.Option(help="Only such actions: token.minted, or token for all of its kind."),
        ] = None,
        as_json: Json = False,
    ) -> None:
        """Say whom something met: each installation of which the log has anything within a time, and how much of what."""
        from app.actionlog.filters import read_filter  # noqa: PLC0415

        try:
            only = read_filter(since=since, until=until, kinds=kind or ())
        except UserError as error:
            raise typer.BadParameter(error.message) from None
        assert only.since is not None
        found = run(_affected(settings(), only.since, only.until or datetime.now(UTC), list(only.kinds)))
        if as_json:
            show(
                [
                    {**asdict(one), "first": one.first.isoformat(), "last": one.last.isoformat()}
                    for one in found
                ]
            )
            return
        for one in found:
            counts = ", ".join(f"{count} {action}" for action, count in sorted(one.actions.items()))
            typer.echo(
                f"{one.installation_id} {one.account or '?'}: {one.first:%Y-%m-%d %H:%M:%S} to {one.last:%H:%M:%S} UTC: {counts}"
            )


def _whom(installation: int | None, *, everybody: bool) -> int:
    from app.containing import EVERYBODY  # noqa: PLC0415

    if everybody == (installation is not None):
        raise typer.BadParameter("say whom: --installation ID or --all")
    if installation is not None and installation <= EVERYBODY:
        raise typer.BadParameter("an installation's id is greater than 0; --all is everybody")
    return EVERYBODY if installation is None else installation


def _named(whom: int) -> str:
    return f"Installation {whom}" if whom else "Everybody"
