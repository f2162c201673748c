"""`magicode data …`: an installation's data handed over or destroyed, by the operator or with a token, and receipts checked by
anybody."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol, TypeVar

import typer

from app.commands import export, remote
from app.custody.receipt import (
    NotAPublicKeyError,
    NotAReceiptError,
    Verdict,
    read_public_keys,
    read_receipt,
    verify,
)
from app.errors import MissingError, SupersededError, TransientError
from app.settings import Settings

if TYPE_CHECKING:
    from app.house import House
    from app.nouns import Erasure
    from client.api import Erasure as Destroyed

T = TypeVar("T")

OPERATOR = "operator"
LOOK_SECONDS = 2.0
"""Between two looks how far a deletion is; one that has not moved on since the last look is finished here."""

Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]
Tell = Callable[[str], None]


class Run(Protocol):
    """Runs a coroutine to its end, or until a signal."""

    def __call__(self, work: Coroutine[Any, Any, T]) -> T: ...


class NotConfirmedError(Exception):
    """What was given to confirm a deletion is not the account's name."""


async def delete(  # noqa: PLR0917 - what and how, then who is asked and told
    read: Settings, installation: int, confirm: str | None, wait: bool, ask: Callable[[str], str], tell: Tell
) -> Erasure:
    """Begins the deletion, or takes up one that was begun; with `wait` it is over when this returns.

    Raises NotConfirmedError, LegalHoldError, UnknownInstallationError, and what the house's parts raise.
    """
    from app.custody.erase import Wish  # noqa: PLC0415 (only the commands that need it load the service)
    from app.erasing import begin, tombstone  # noqa: PLC0415
    from app.wiring import open_house  # noqa: PLC0415

    async with open_house(read.model_copy(update={"worker": False}), os.environ) as house:
        if await tombstone(house, installation) is None:
            account = await _account(house, installation)
            if (confirm or ask(account)).casefold() != account.casefold():
                raise NotConfirmedError
        if await begin(house, installation, Wish("operator", OPERATOR)):
            tell("The deletion has begun: nothing of the installation is read or written any more.")
        return await (_finished if wait else _begun)(house, installation, tell)


async def _account(house: House, installation: int) -> str:
    """Its login; its id where nothing is known but that."""
    async with house.store.transaction(installation) as transaction:
        known = await transaction.installation()
    return known.account_login if known is not None and known.account_login else str(installation)


async def _begun(house: House, installation: int, _: Tell) -> Erasure:
    from app.erasing import tombstone  # noqa: PLC0415

    found = await tombstone(house, installation)
    if found is None:
        raise MissingError("The deletion is not written down.", reason="no_erasure")
    return found


async def _finished(house: House, installation: int, tell: Tell) -> Erasure:
    """By a worker that runs; by this process where none moves it on and nothing keeps this one from it."""
    from app.erasing import erase, erase_now  # noqa: PLC0415

    before, ours = None, True
    while True:
        found = await _begun(house, installation, tell)
        if found.ended_at is not None:
            return found
        if ours and before == found:
            try:
                return await erase(house, installation)
            except (TransientError, SupersededError) as error:
                tell(f"Left to a worker ({error.reason}).")
                ours = False
                await erase_now(house, installation)
        before = found
        await house.sleep(LOOK_SECONDS)


def commands(
    run: Run, settings: Callable[[], Settings], show: Callable[[Any], None], tell: Tell
) -> typer.Typer:
    """The commands, over how the command line runs, reads its settings, prints a document and tells of progress."""
    data = typer.Typer(help="An installation's data: hand it over, or destroy it.", no_args_is_help=True)

    export.add(data, run, settings, show, tell)

    @data.command("delete")
    def data_delete(
        *,
        installation: Annotated[int, typer.Option(help="The installation's id.")],
        confirm: Annotated[
            str | None, typer.Option(help="The account's login, in the place of typing it.")
        ] = None,
        wait: Annotated[
            bool, typer.Option("--wait", help="Stay until it is over, and print the receipt.")
        ] = False,
        server: remote.Server = None,
        token_file: remote.TokenFile = None,
        as_json: Json = False,
    ) -> None:
        """Destroy all that is held about an installation. It cannot be taken back."""

        def ask(account: str) -> str:
            if not sys.stdin.isatty():
                raise typer.BadParameter("name the account with --confirm, since nobody can be asked here")
            tell(f"All that is held about {account} (installation {installation}) will be destroyed.")
            return str(typer.prompt("Type the account's login to confirm", err=True))

        service = remote.service(server, token_file)
        try:
            found = (
                _document(run(delete(settings(), installation, confirm, wait, ask, tell)))
                if service is None
                else _destroyed(run(remote.delete(service, installation, _named(confirm), wait, tell)))
            )
        except NotConfirmedError:
            raise typer.BadParameter("that is not the account's login; nothing was deleted") from None
        if as_json:
            show(found)
        elif found["receipt"] is not None:
            typer.echo(json.dumps(found["receipt"], indent=2))
        else:
            typer.echo(
                f"Deletion {found['erasure']} has begun. A worker finishes it; the same command with --wait shows the receipt."
            )

    @data.command("verify-receipt")
    def data_verify_receipt(
        file: Annotated[Path, typer.Argument(help="The receipt, or the whole comment that holds it.")],
        public_key: Annotated[
            str | None,
            typer.Option(
                help="The service's key in hexadecimal, or a file with it or with what the service publishes."
            ),
        ] = None,
        as_json: Json = False,
    ) -> None:
        """Check a receipt's signature, with no access to the service that gave it."""
        try:
            verdict = verify(read_receipt(_text(file)), _keys(public_key))
        except (NotAReceiptError, NotAPublicKeyError) as error:
            raise typer.BadParameter(error.message) from None
        if as_json:
            show({**asdict(verdict), "ok": verdict.ok})
        else:
            for line in _said(verdict):
                typer.echo(line)
        raise typer.Exit(0 if verdict.ok else 1)

    return data


def _named(confirm: str | None) -> str:
    """A service is not asked first whose data it would be. Raises typer.BadParameter."""
    if confirm is None:
        raise typer.BadParameter("name the account with --confirm")
    return confirm


def _document(found: Erasure) -> dict[str, Any]:
    return {
        "installation": found.installation_id,
        "erasure": str(found.id),
        "state": "begun" if found.ended_at is None else "deleted",
        "receipt": None if found.receipt is None else json.loads(found.receipt),
    }


def _destroyed(found: Destroyed) -> dict[str, Any]:
    """The same document, of what a service said."""
    return {
        "installation": found.installation_id,
        "erasure": str(found.id),
        "state": "deleted" if found.done else "begun",
        "receipt": found.receipt,
    }


def _said(verdict: Verdict) -> Sequence[str]:
    if not verdict.ok:
        return [f"The receipt does NOT hold: {one}." for one in verdict.problems]
    if verdict.key_known:
        return [
            f"The receipt of deletion {verdict.erasure_id} holds: it was signed with the key that you gave."
        ]
    return [
        f"The receipt of deletion {verdict.erasure_id} fits the key that it names itself: fingerprint {verdict.fingerprint}.",
        (
            "Whose key that is, its file cannot say: compare it with /.well-known/magicode-receipts.json at the service, "
            "or give that file with --public-key."
        ),
    ]


def _text(file: Path) -> str:
    if not file.is_file():
        raise typer.BadParameter(f"{file}: there is no such file")
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise NotAReceiptError from None


def _keys(given: str | None) -> Sequence[str]:
    if given is None:
        return ()
    try:
        return read_public_keys(given)
    except NotAPublicKeyError:
        return read_public_keys(_text(Path(given)))
