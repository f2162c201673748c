"""`magicode provider-keys …`: customers' own keys of model providers, set by the operator where a customer asks for it.

A key is read from standard input, never from an argument, and is never printed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Protocol, TypeVar

import typer

from app.actionlog.ledger import Ledger
from app.custody import provider_keys
from app.custody.provider_keys import KnownKey, Saved
from app.errors import UserError
from app.settings import Settings

if TYPE_CHECKING:
    from app.wiring import Records

T = TypeVar("T")

OPERATOR = "operator"

Installation = Annotated[int, typer.Option(help="The installation's id.")]
Provider = Annotated[str, typer.Argument(help="anthropic or openai.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]


class Run(Protocol):
    """Runs a coroutine to its end, or until a signal."""

    def __call__(self, work: Coroutine[Any, Any, T]) -> T: ...


class UnknownInstallationError(UserError):
    """No installation with this id is known here."""


async def put(read: Settings, installation: int, provider: str, key: str, base_url: str | None) -> Saved:
    """Raises as app.custody.provider_keys.put, and UnknownInstallationError."""
    from app.wiring import open_records  # noqa: PLC0415 (only the commands that need it load the service)
    from infra.models.guarded import Guard  # noqa: PLC0415
    from infra.models.key_check import ModelsKeyCheck  # noqa: PLC0415

    async with open_records(read) as records:
        await _require_known(records, installation)
        return await provider_keys.put(
            records.store,
            records.keys,
            _ledger(records),
            _now,
            ModelsKeyCheck(Guard(read.model_hosts)),
            installation_id=installation,
            by=OPERATOR,
            provider=provider,
            key=key,
            base_url=base_url,
        )


async def known(read: Settings, installation: int) -> Sequence[KnownKey]:
    """Raises UnknownInstallationError."""
    from app.wiring import open_records  # noqa: PLC0415 (only the commands that need it load the service)

    async with open_records(read) as records:
        await _require_known(records, installation)
        return await provider_keys.known_keys(records.store, records.keys, installation)


async def remove(read: Settings, installation: int, provider: str) -> bool:
    """Raises UnknownInstallationError."""
    from app.wiring import open_records  # noqa: PLC0415 (only the commands that need it load the service)

    async with open_records(read) as records:
        await _require_known(records, installation)
        return await provider_keys.remove(
            records.store,
            records.keys,
            _ledger(records),
            installation_id=installation,
            by=OPERATOR,
            provider=provider,
        )


async def _require_known(records: Records, installation: int) -> None:
    async with records.store.transaction(installation) as transaction:
        if await transaction.installation() is None:
            raise UnknownInstallationError


def _ledger(records: Records) -> Ledger:
    return Ledger(records.store, records.keys, _now)


def _now() -> datetime:
    return datetime.now(UTC)


def commands(run: Run, settings: Callable[[], Settings], show: Callable[[Any], None]) -> typer.Typer:
    """The commands, over how the command line runs, reads its settings and prints a document."""
    group = typer.Typer(help="Customers' own keys of model providers.", no_args_is_help=True)

    @group.command("set")
    def set_key(
        provider: Provider,
        *,
        installation: Installation,
        base_url: Annotated[
            str | None,
            typer.Option(help="Of an endpoint that is compatible with the provider's: https only."),
        ] = None,
        as_json: Json = False,
    ) -> None:
        """Check a key that is read from standard input, and keep it sealed for this installation alone."""
        saved = run(put(settings(), installation, provider, sys.stdin.readline(), base_url))
        if as_json:
            show(_document(saved.key) | {"checked": saved.checked, "why": saved.why})
            return
        typer.echo(f"Kept the key of {provider} that ends with {saved.key.last_four or 'what is not shown'}.")
        if not saved.checked:
            typer.echo(f"It was not checked. {saved.why}", err=True)

    @group.command("list")
    def list_keys(*, installation: Installation, as_json: Json = False) -> None:
        """Say which keys are kept, by their last four characters."""
        found = run(known(settings(), installation))
        if as_json:
            show([_document(one) for one in found])
            return
        for one in found:
            checked = f"checked {one.checked_at:%Y-%m-%d}" if one.checked_at else "not checked"
            typer.echo(
                f"{one.provider}  …{one.last_four}  {one.base_url or 'its own address'}  by {one.created_by} on "
                f"{one.created_at:%Y-%m-%d}, {checked}"
            )

    @group.command("remove")
    def remove_key(provider: Provider, *, installation: Installation) -> None:
        """Forget a key. Runs that use it stop before they ask again."""
        gone = run(remove(settings(), installation, provider))
        typer.echo("Removed." if gone else "There was none.")

    return group


def _document(key: KnownKey) -> dict[str, Any]:
    times = {name: value.isoformat() for name, value in asdict(key).items() if isinstance(value, datetime)}
    return {**asdict(key), **times}
