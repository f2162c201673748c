"""`magicode data export`: all that is held about an installation as a plain ZIP: to a file or to S3 by the operator, to a file by whoever
holds a token of the installation."""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol, TypeVar

import typer

from app.commands import remote
from app.errors import MissingError
from app.settings import Settings

if TYPE_CHECKING:
    from app.house import House
    from app.ports import Objects

T = TypeVar("T")

OPERATOR = "operator"


class Run(Protocol):
    """Runs a coroutine to its end, or until a signal."""

    def __call__(self, work: Coroutine[Any, Any, T]) -> T: ...


async def export(
    read: Settings, installation: int, out: str, kms_key: str | None, tell: Callable[[str], None]
) -> dict[str, Any]:
    """Writes it, whole or not at all; what was written. Raises MissingError (`unknown_installation`), and what the house's
    parts and the destination raise.
    """
    from app.custody.export import Made  # noqa: PLC0415 (only the commands that need it load the service)
    from app.exporting import gather, handed_out  # noqa: PLC0415
    from app.wiring import open_house  # noqa: PLC0415

    objects, name, where = _destination(out, kms_key)
    async with open_house(read.model_copy(update={"worker": False}), os.environ) as house:
        await _require_known(house, installation)
        contents = await gather(house, installation, house.new_id(), vectors_if_possible=True)
        if any(row["vectors"] is None for row in contents.vectors):
            tell("The vectors could not be counted, since another process has their store open.")
        made = Made()
        await objects.put(name, handed_out(house, installation, contents, made, by=OPERATOR, where=where))
    return {
        "installation": installation,
        "export": str(contents.export_id),
        "out": out,
        "bytes": made.size,
        "sha256": made.sha256,
        "log_head": contents.head,
        "files": [{key: one[key] for key in ("name", "rows", "bytes", "sha256")} for one in made.files],
    }


def _destination(out: str, kms_key: str | None) -> tuple[Objects, str, str]:
    """Where to, under which name there, and what kind of place that is. Raises typer.BadParameter."""
    from infra.objects.folder import FolderObjects  # noqa: PLC0415

    if out.startswith("s3:"):
        from infra.objects.s3 import BucketAddressError, S3Objects, address_of, client  # noqa: PLC0415

        try:
            bucket, key, named = address_of(out)
        except BucketAddressError as error:
            raise typer.BadParameter(error.message) from None
        if not key:
            raise typer.BadParameter("name the object too: s3://BUCKET/KEY")
        return S3Objects(client(), bucket, kms_key=kms_key or named), key, "s3"
    if kms_key is not None:
        raise typer.BadParameter("--kms-key is for s3://BUCKET/KEY")
    path = _file(out)
    return FolderObjects(path.parent), path.name, "file"


def _file(out: str) -> Path:
    """Raises typer.BadParameter."""
    path = Path(out)
    if not path.parent.is_dir() or path.is_dir() or path.name.startswith("."):
        raise typer.BadParameter(f"{out}: name a file, not hidden, in a folder that is there")
    return path


async def _require_known(house: House, installation: int) -> None:
    async with house.store.transaction(installation) as transaction:
        if not any((await transaction.row_counts()).values()):
            raise MissingError(
                f"Nothing is stored of an installation {installation}.", reason="unknown_installation"
            )


def add(
    data: typer.Typer,
    run: Run,
    settings: Callable[[], Settings],
    show: Callable[[Any], None],
    tell: Callable[[str], None],
) -> None:
    """The command, among those of `magicode data`."""

    @data.command("export")
    def data_export(
        *,
        installation: Annotated[int, typer.Option(help="The installation's id.")],
        out: Annotated[str, typer.Option(help="A file, or s3://BUCKET/KEY.")],
        kms_key: Annotated[
            str | None, typer.Option(help="The key of AWS KMS that encrypts it in S3; S3's own otherwise.")
        ] = None,
        server: remote.Server = None,
        token_file: remote.TokenFile = None,
        as_json: Annotated[
            bool, typer.Option("--json", help="One JSON document on standard output.")
        ] = False,
    ) -> None:
        """Hand over all that is held about an installation, as one ZIP that explains itself."""
        service = remote.service(server, token_file)
        if service is None:
            found = run(export(settings(), installation, out, kms_key, tell))
        elif kms_key is not None or out.startswith("s3:"):
            raise typer.BadParameter("--server writes to a file")
        else:
            found = run(remote.export(service, installation, _file(out), tell))
        if as_json:
            show(found)
            return
        files = f"{len(found['files'])} files, " if "files" in found else ""
        typer.echo(f"{out}: {files}{found['bytes']} bytes, SHA-256 {found['sha256']}.")
        if "log_head" in found:
            typer.echo(f"As of the action log's head {found['log_head']}.")
