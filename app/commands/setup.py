"""`magicode setup`: the App is registered with GitHub in a browser, and its keys are put where the service reads them."""

from __future__ import annotations

import asyncio
import os
import sys
import webbrowser
from collections.abc import Callable
from typing import Annotated, Any

import typer

from app.commands.retention import Run
from app.settings import Settings

Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]


def add(
    cli: typer.Typer,
    run: Run,
    settings: Callable[[], Settings],
    show: Callable[[Any], None],
    tell: Callable[[str], None],
) -> None:
    """The command, over how the command line runs, reads its settings, prints a document and tells how far it is."""

    @cli.command("setup")
    def setup(
        *,
        port: Annotated[
            int,
            typer.Option(
                help="Where the page is; 0 takes a free one. From afar: ssh -L PORT:127.0.0.1:PORT."
            ),
        ] = 0,
        browser: Annotated[
            bool, typer.Option("--browser/--no-browser", help="Open the page in the browser.")
        ] = True,
        replace: Annotated[
            bool, typer.Option("--replace", help="Although an App is set up already.")
        ] = False,
        as_json: Json = False,
    ) -> None:
        """Register the App with GitHub in three clicks; its keys are stored where the service reads them."""
        from app.setup import register  # noqa: PLC0415 (the service is not loaded by the other commands)

        async def begun(address: str) -> None:
            tell(f"Open {address}")
            if browser and _has_screen():
                await asyncio.to_thread(webbrowser.open, address)

        read = settings()
        made = run(register(read, port=port, replace=replace, begun=begun))
        install = f"{made.url}/installations/new"
        if as_json:
            show({"app_id": made.id, "slug": made.slug, "install": install, "kept": read.secrets_kept})
        else:
            typer.echo(
                f"{made.slug} is registered (App {made.id}); its keys are in {read.secrets_kept}.\n"
                f"Install it: {install}\nThen: magicode doctor, magicode serve"
            )


def _has_screen() -> bool:
    """Without one a browser in the terminal would be opened, over what stands there."""
    return sys.platform in ("darwin", "win32") or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))
