"""The command line. Results go to standard output, progress to standard error; exit 0 done, 1 failed, 2 wrong use."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.progress import Progress, TextColumn

from app import settings
from app.commands import (
    actions,
    backups,
    containing,
    data,
    dedicating,
    doctor,
    keys,
    migrate,
    provider_keys,
    retention,
    setup,
)
from app.errors import MagicodeError
from app.settings import Settings, UnknownSettingError
from infra.git_folder import NotARepositoryError
from infra.process import leave_no_core
from infra.telemetry import set_up

if TYPE_CHECKING:
    from embeddings.index import Progress as Indexed

T = TypeVar("T")

cli = typer.Typer(
    name="magicode",
    help="A comment becomes one small, checked, well-explained pull request.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]


@cli.command()
def demo(
    as_json: Json = False,
    keep: Annotated[
        bool, typer.Option("--keep", help="Stay until Ctrl-C, with the dashboard to look at.")
    ] = False,
) -> None:
    """Play one request from comment to pull request on a simulated GitHub."""
    from app.demo import main as play  # noqa: PLC0415 (the simulator is not loaded by the other commands)

    raise typer.Exit(play(as_json=as_json, keep=keep))


@cli.command()
def prove(as_json: Json = False) -> None:
    """Prove that no code is at rest: planted words go through whole requests, and every byte is searched for them."""
    from app.prove.told import main as play  # noqa: PLC0415 (the simulator is not loaded by the other commands)

    raise typer.Exit(play(as_json))


@cli.command()
def serve() -> None:
    """Take GitHub's webhooks and, unless MAGICODE_WORKER is false, work the jobs too."""
    read = _settings()
    from app.worker import serve as run  # noqa: PLC0415 (only the long-running commands load the service)

    leave_no_core()
    set_up(read.log_level, form=read.log_format)
    _run(run(read, os.environ))


@cli.command()
def worker() -> None:
    """Work the jobs that other processes accept."""
    read = _settings()
    from app.worker import work as run  # noqa: PLC0415 (only the long-running commands load the service)

    leave_no_core()
    set_up(read.log_level, form=read.log_format)
    _run(run(read, os.environ))


@cli.command()
def simulate(
    repo: Annotated[
        list[str], typer.Option(help="OWNER/NAME=PATH: a local git repository or folder to serve.")
    ],
    data: Annotated[Path, typer.Option(help="Where the simulated GitHub keeps its git repositories.")],
    port: Annotated[int, typer.Option(help="0 takes a free one.")] = 0,
    app_url: Annotated[
        str | None, typer.Option(help="Where webhooks go, such as http://127.0.0.1:8646/webhooks/github.")
    ] = None,
    playbook: Annotated[
        Path | None, typer.Option(help="Serve a scripted model too, which answers as this file says.")
    ] = None,
) -> None:
    """Serve a GitHub to play with, as strict as the real one; prints how to talk to it as one JSON document."""
    from infra.simulator.command import simulate as run  # noqa: PLC0415 (the service never loads it)

    repos = [_named(text) for text in repo]
    _run(run(data=data, repos=repos, port=port, app_url=app_url, playbook=playbook, announce=_print))


Folder = Annotated[Path, typer.Argument(metavar="DIR", exists=True, file_okay=False, help="Any folder.")]


@cli.command("index")
def index_folder(folder: Folder, as_json: Json = False) -> None:
    """Index a folder of this machine. No service is needed; nothing of the folder is sent anywhere."""
    read = _settings()
    from app.local import index  # noqa: PLC0415 (the model is not loaded by the other commands)

    with _progress("Indexing") as progress:
        report = _run(index(read, folder, progress))
    if as_json:
        _print(asdict(report))
    else:
        left_out = sum(report.left_out.values())
        typer.echo(
            f"{report.files} files can be searched: {report.embedded} are new ({report.chunks} chunks), "
            f"{report.reused} were known, {report.removed} are gone, {left_out} are left out. {report.seconds:.1f} s"
        )


@cli.command("search")
def search_folder(
    folder: Folder,
    question: Annotated[str, typer.Argument(help="In plain words, or an error message.")],
    limit: Annotated[int, typer.Option(min=1, max=200, help="At most so many places.")] = 10,
    as_json: Json = False,
) -> None:
    """Where in a folder of this machine a question is about. Indexes first what has changed."""
    if not question.strip():
        raise typer.BadParameter("the question is empty")
    read = _settings()
    from app.local import search  # noqa: PLC0415 (the model is not loaded by the other commands)

    with _progress("Indexing what is new") as progress:
        found = _run(search(read, folder, question, limit, progress))
    if as_json:
        _print([asdict(one) for one in found])
        return
    for one in found:
        # A name may hold what a terminal would obey.
        place = ascii(f"{one.path}:{one.start_line}-{one.end_line}  {one.symbol}")[1:-1]
        typer.echo(f"{one.score:.3f}  {place}")


def _dollars(text: str) -> Decimal:
    try:
        amount = Decimal(text.strip().removeprefix("$"))
    except InvalidOperation:
        raise typer.BadParameter(f"{text}: dollars are given as a number, such as 1.50") from None
    if not amount.is_finite() or amount <= 0:
        raise typer.BadParameter(f"{text}: a cost limit is more than nothing")
    return amount


@cli.command("run")
def run_request(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", exists=True, file_okay=False, help="A git repository.")
    ],
    request: Annotated[
        str, typer.Argument(help="What is to be done, in plain words; - reads standard input.")
    ],
    *,
    apply: Annotated[
        bool, typer.Option("--apply", help="Write the change into the files instead of printing it.")
    ] = False,
    model: Annotated[
        str, typer.Option(help="anthropic:NAME or openai:NAME, or several with commas between.")
    ] = "",
    up_to: Annotated[
        Decimal | None, typer.Option(metavar="DOLLARS", parser=_dollars, help="Stop at this cost.")
    ] = None,
    checks: Annotated[
        bool, typer.Option("--checks/--no-checks", help="Run the repository's own checks, in a sandbox.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Do what a request asks, on HEAD of a local repository, and print the patch (`git apply` takes it) or an answer.

    No service and no GitHub is needed; the code that matters is sent to the model.
    """
    given = sys.stdin.buffer.read() if request == "-" else os.fsencode(request)
    text = given.decode("utf-8", "replace")
    if not text.strip():
        raise typer.BadParameter("the request is empty")
    read = _settings()
    from app import local_run, local_said  # noqa: PLC0415 (the model is not loaded by the other commands)

    tally = local_run.Tally()
    asked = local_run.Asked(folder, text, model=model, up_to=up_to, checks=checks)
    try:
        made = _run(local_run.run(read, os.environ, asked, tell=_tell, tally=tally), interrupted=130)
    except NotARepositoryError as error:
        raise typer.BadParameter(error.message) from None
    except MagicodeError as error:
        _tell(f"Spent: {local_run.said(tally.spending)}.")
        if not as_json:
            raise
        _print({**local_said.why_not(error), "spending": local_said.spending_document(tally.spending)})
        raise typer.Exit(1) from None
    if as_json:
        code = local_said.hand_over_document(made, tally.spending, apply=apply, tell=_print)
    else:
        code = local_said.hand_over(made, tally.spending, apply=apply, say=_tell, out=sys.stdout.buffer)
        sys.stdout.flush()
    raise typer.Exit(code)


def main() -> None:
    """The program `magicode`."""
    try:
        cli()
    except (UnknownSettingError, ValidationError) as error:
        typer.echo(f"magicode: {_reason(error)}", err=True)
        sys.exit(2)
    except MagicodeError as error:
        typer.echo(f"magicode: {error.message}", err=True)
        sys.exit(1)


@contextmanager
def _progress(doing: str) -> Iterator[Callable[[Indexed], None]]:
    """A bar with files, chunks, rate and time left on standard error, where that is a terminal; gone when done."""
    columns = (*Progress.get_default_columns(), TextColumn("{task.fields[told]}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(doing, total=None, told="")

        def tell(now: Indexed) -> None:
            told = f"{now.files} of {now.of_files} files, {now.chunks} chunks, {now.chunks_per_second:.0f} a second"
            bar.update(task, completed=now.files, total=now.of_files, told=told)

        yield tell


def _settings() -> Settings:
    return settings.read()


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return "; ".join(
            f"MAGICODE_{str(one['loc'][0]).upper()}: {one['msg']}" for one in error.errors() if one["loc"]
        )
    return str(error)


def _named(text: str) -> tuple[str, Path]:
    name, mark, path = text.partition("=")
    if not mark or name.count("/") != 1 or not path:
        raise typer.BadParameter(f"{text}: a repository is given as OWNER/NAME=PATH")
    if not Path(path).is_dir():
        raise typer.BadParameter(f"{path}: there is no such folder")
    return name, Path(path)


def _print(document: Any) -> None:
    """In ASCII: a path may not be text at all, and a terminal may not take all that is."""
    sys.stdout.write(json.dumps(document, indent=2) + "\n")
    sys.stdout.flush()


def _tell(line: str) -> None:
    """Progress, for people."""
    typer.echo(line, err=True)


def _run(work: Coroutine[Any, Any, T], *, interrupted: int = 0) -> T:
    """Runs it to its end, or until SIGTERM or SIGINT: then it is cancelled, tidies up, and exits with `interrupted`.

    A second SIGINT does not wait for the tidying up.
    """

    async def whole() -> T:
        loop = asyncio.get_running_loop()
        working = asyncio.ensure_future(work)

        def stop() -> None:
            loop.remove_signal_handler(signal.SIGINT)
            working.cancel()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop)
        return await working

    try:
        return asyncio.run(whole())
    except asyncio.CancelledError:
        raise typer.Exit(interrupted) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


cli.add_typer(actions.commands(_run, _settings, _print), name="actions")
cli.add_typer(keys.commands(_run, _settings, _print, _tell), name="keys")
cli.add_typer(data.commands(_run, _settings, _print, _tell), name="data")
cli.add_typer(provider_keys.commands(_run, _settings, _print), name="provider-keys")
retention.add(cli, _run, _settings, _print)
containing.add(cli, _run, _settings, _print)
dedicating.add(cli, _run, _settings, _print)
doctor.add(cli, _run, _settings, _print)
migrate.add(cli, _run, _settings, _print)
backups.add(cli, _run, _settings, _print)
setup.add(cli, _run, _settings, _print, _tell)

if __name__ == "__main__":
    main()
