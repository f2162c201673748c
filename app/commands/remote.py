"""The commands that people without a database at hand may use too: the same, asked of a service by its API, with a token."""

from __future__ import annotations

import asyncio
import codecs
import hashlib
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.actionlog.export import Format
from app.actionlog.filters import Filter
from app.errors import MissingError, RefusedError, TransientError, UserError

if TYPE_CHECKING:
    from client.api import Client, Erasure, Export

LOOK_SECONDS = 2.0
LOOKS = 1800
"""An hour: as long as an export stands for those that are asked for after it."""

Server = Annotated[
    str | None, typer.Option(metavar="URL", help="Ask the service there, by its API, with --token-file.")
]
TokenFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Holds the token that an administrator made; - is standard input."),
]
Tell = Callable[[str], None]


class BrokenDownloadError(TransientError):
    """What was downloaded is not what the service says that it made. Ask for it once more."""


@dataclass(frozen=True, slots=True)
class Service:
    """Where it is, and what opens it."""

    url: str
    token: str = field(repr=False)


def service(server: str | None, token_file: Path | None) -> Service | None:
    """The one that is named; None where the command is for the database at hand. Raises typer.BadParameter."""
    return None if server is None else Service(server, _token(token_file))


def _token(file: Path | None) -> str:
    """Raises typer.BadParameter."""
    if file is None:
        raise typer.BadParameter("name the file that holds the token: --token-file FILE")
    try:
        token = (sys.stdin.readline() if str(file) == "-" else file.read_text(encoding="ascii")).strip()
    except (OSError, UnicodeDecodeError):
        raise typer.BadParameter(f"{file}: it cannot be read") from None
    if not token or not token.isprintable() or " " in token:
        raise typer.BadParameter(f"{file}: there is no token in it")
    return token


@asynccontextmanager
async def _opened(service: Service) -> AsyncIterator[Client]:
    """A client of the service there. Its errors are ours: what it says no to, and that it is away."""
    from client.api import Client  # noqa: PLC0415 (only who asks for a service far away loads it)
    from client.connection import NotSecureError, connect  # noqa: PLC0415

    with _ours():
        try:
            async with connect(service.url, service.token) as connection:
                yield Client(connection)
        except NotSecureError:
            raise typer.BadParameter(
                f"{service.url}: a token is sent to https://… alone, or to this machine"
            ) from None


@contextmanager
def _ours() -> Iterator[None]:
    from client.connection import ProblemError, UnavailableError, UnreadableError  # noqa: PLC0415

    try:
        yield
    except ProblemError as error:
        kind = (
            UserError if error.status in (400, 422) else MissingError if error.status == 404 else RefusedError
        )
        raise kind(error.detail, reason=error.reason) from None
    except (UnavailableError, UnreadableError) as error:
        raise TransientError(str(error), reason="service_away") from None


async def log(service: Service, installation: int, *, only: Filter, form: Format) -> AsyncIterator[str]:
    """The action log, or the part of it that is asked for. Raises UserError for more kinds than one."""
    if len(only.kinds) > 1:
        raise UserError("A service is asked for one --kind at a time.", reason="kinds")
    asked: dict[str, Any] = {
        "since": None if only.since is None else only.since.isoformat(),
        "until": None if only.until is None else only.until.isoformat(),
        "repository": None if only.repository_id is None else str(only.repository_id),
        "run": None if only.run_id is None else str(only.run_id),
        "kind": next(iter(only.kinds), None),
        "actor": only.actor,
    }
    decoder = codecs.getincrementaldecoder("utf-8")()
    async with (
        _opened(service) as client,
        client.download_actions(installation, format=form.value, **asked) as pieces,
    ):
        async for piece in pieces:
            yield decoder.decode(piece)
    yield decoder.decode(b"", final=True)


async def export(service: Service, installation: int, out: Path, tell: Tell) -> dict[str, Any]:
    """Asks for an export, waits until it is made, and writes it, whole or not at all; what was written."""
    from infra.objects.folder import FolderObjects  # noqa: PLC0415

    async with _opened(service) as client:
        made = await client.ask_for_export(installation)
        tell(f"Export {made.id} is being made.")
        for _ in range(LOOKS):
            if made.state != "asked":
                break
            await asyncio.sleep(LOOK_SECONDS)
            made = await client.get_export(installation, made.id)
            tell(f"{made.percent} % is written.")
        if made.state == "asked":
            raise TransientError("The export is still being made.", reason="export_not_made")
        if made.state != "made":
            raise TransientError("The export could not be made. Ask once more.", reason="export_failed")
        async with client.download_export(installation, made.id) as pieces:
            size = await FolderObjects(out.parent).put(out.name, _checked(pieces, made))
    return {
        "installation": installation,
        "export": str(made.id),
        "out": str(out),
        "bytes": size,
        "sha256": made.sha256,
    }


async def _checked(pieces: AsyncIterator[bytes], made: Export) -> AsyncIterator[bytes]:
    """Raises BrokenDownloadError at its end, so that nothing is kept of it."""
    counted = hashlib.sha256()
    async for piece in pieces:
        counted.update(piece)
        yield piece
    if made.sha256 is not None and counted.hexdigest() != made.sha256:
        raise BrokenDownloadError(reason="download_broken")


async def delete(service: Service, installation: int, confirm: str, wait: bool, tell: Tell) -> Erasure:
    """Begins the deletion; with `wait` it is over when this returns."""
    async with _opened(service) as client:
        found = await client.delete_all(installation, account=confirm)
        tell("The deletion has begun: nothing of the installation is read or written any more.")
        while wait and not found.done:
            await asyncio.sleep(LOOK_SECONDS)
            found = await client.get_receipt(installation, found.id)
    return found
