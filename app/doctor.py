"""Looks at everything that the service needs, and says of each thing that is not well what to do about it.

It writes nothing to GitHub and sends no model anything: a provider is asked for its list alone. No database of somebody's own is
brought up to date; the embedded one is started, and its folder and master key are made, as `serve` does.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import psycopg
from pydantic import ValidationError

from app import wiring
from app.custody.backups import DUMPS, made_at
from app.custody.rotation import SERVICE
from app.custody.tombstones import Tombstones
from app.errors import MagicodeError
from app.grants import EVENTS, PERMISSIONS
from app.nouns import Dedication, OwnKey, Registration
from app.settings import Settings, UnknownSettingError
from app.workspace.storage import find_root
from embeddings.embed import dimension
from embeddings.shipped import SHIPPED
from infra.encoder import BundledEncoder
from infra.github.app import GitHubApp
from infra.models.guarded import Guard
from infra.models.key_check import ModelsKeyCheck
from infra.postgres.migrate import unprotected_tables
from infra.qdrant import QdrantPoints
from infra.reachable import why_not_alive

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

WITHIN_SECONDS: Final = 60.0
APART: Final = timedelta(seconds=30)
"""By how much our clock may differ from GitHub's, which takes a JWT for sixty seconds before and after."""
DISK_BYTES: Final = 1024**3
WORKSPACE_BYTES: Final = 512 * 1024**2
BACKUP_HOURS: Final = 26
"""One a day, and two hours for it to be made."""
LOOKED_BACK: Final = timedelta(days=1)
SILENT: Final = timedelta(seconds=60)
"""A worker of somebody's own is heard each ten seconds, and after an outage of the database twenty later."""


@dataclass(frozen=True, slots=True)
class Finding:
    """`well` is None for what was not looked at, since it is switched off or something before it is missing."""

    name: str
    well: bool | None
    said: str
    do: str = ""


@dataclass(slots=True)
class _Case:
    """What is known once it was looked at: the settings with their secrets, and how the App is registered."""

    read: Settings
    environ: Mapping[str, str]
    now: Callable[[], datetime]
    registration: Registration | None = None
    found: list[Finding] = field(default_factory=list)

    def well(self, name: str, said: str) -> None:
        self.found.append(Finding(name, True, said))

    def wrong(self, name: str, said: str, do: str) -> None:
        self.found.append(Finding(name, False, said, do))

    def left_out(self, name: str, said: str) -> None:
        self.found.append(Finding(name, None, said))


def _now() -> datetime:
    return datetime.now(UTC)


async def examine(
    read: Settings, environ: Mapping[str, str], *, now: Callable[[], datetime] = _now
) -> Sequence[Finding]:
    """Each thing is looked at, whatever is wrong with the others."""
    try:
        filled, known, _ = await wiring.filled(read, environ)
    except (MagicodeError, UnknownSettingError, ValidationError) as error:
        why = error.message if isinstance(error, MagicodeError) else str(error)
        return [Finding("secrets", False, why, "put right what MAGICODE_SECRETS names")]
    case = _Case(filled, known, now)
    for name, look, do in _LOOKS:
        try:
            async with asyncio.timeout(WITHIN_SECONDS):
                await look(case)
        except MagicodeError as error:
            case.wrong(name, error.message, do)
        except TimeoutError:
            case.wrong(name, f"there was no answer within {WITHIN_SECONDS:.0f} seconds", do)
        except (OSError, psycopg.Error) as error:
            case.wrong(name, f"it cannot be reached ({type(error).__name__})", do)
    return case.found


# --- GitHub ----------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _app(read: Settings) -> AsyncIterator[GitHubApp]:
    """Raises SettingMissingError and PrivateKeyError."""
    app_id, key = wiring.credentials(read)
    github = GitHubApp(app_id=app_id, private_key=key, api_url=read.github_api_url)
    try:
        yield github
    finally:
        await github.aclose()


async def _credentials(case: _Case) -> None:
    async with _app(case.read) as github:
        found = case.registration = await github.registration()
        installed = len(await github.installations())
    case.well("GitHub App", f"GitHub knows it as {found.slug}, installed {installed} times")
    if found.slug != case.read.app_slug:
        case.wrong(
            "App's name",
            f"GitHub calls the App {found.slug}, and MAGICODE_APP_SLUG is {case.read.app_slug}",
            f"set MAGICODE_APP_SLUG={found.slug}: by it mentions are recognised",
        )


async def _grants(case: _Case) -> None:
    found = case.registration
    if found is None:
        case.left_out("permissions", "GitHub could not be asked")
        return
    missing = [f"{name}: {level}" for name, level in PERMISSIONS.items() if not _enough(found, name, level)]
    more = [f"{name}: {level}" for name, level in found.permissions.items() if not _asked_for(name, level)]
    silent = sorted(EVENTS - found.events)
    if missing or silent:
        case.wrong(
            "permissions",
            "the App lacks " + ", ".join([*missing, *(f"the event {one}" for one in silent)]),
            "grant it in the App's settings on GitHub, as app-manifest.yml says, and have installations accept it",
        )
    if more:
        case.wrong(
            "permissions",
            "the App may do more than it needs: " + ", ".join(more),
            "take it away in the App's settings on GitHub: what it cannot do, nobody can make it do",
        )
    if not (missing or silent or more):
        case.well("permissions", f"the {len(PERMISSIONS)} of the manifest and no others, and its events")


def _enough(found: Registration, name: str, level: str) -> bool:
    granted = found.permissions.get(name)
    return granted == level or (granted == "write" and level == "read")


def _asked_for(name: str, level: str) -> bool:
    return level == PERMISSIONS.get(name) or (level == "read" and PERMISSIONS.get(name) == "write")


async def _webhook(case: _Case) -> None:
    found = case.registration
    if case.read.webhook_secret is None:
        case.wrong(
            "webhook",
            "MAGICODE_WEBHOOK_SECRET is not set",
            "set it as it stands in the App's settings on GitHub",
        )
    if found is None:
        case.left_out("webhook", "GitHub could not be asked")
        return
    wrong = list(_wrong_with_the_hook(case.read, found))
    for said, do in wrong:
        case.wrong("webhook", said, do)
    async with _app(case.read) as github:
        deliveries = await github.deliveries(case.now() - LOOKED_BACK)
    newest = {one.guid: one for one in reversed(deliveries)}.values()
    failed = [one for one in newest if not one.acknowledged]
    if failed:
        code = failed[-1].status_code
        case.wrong(
            "deliveries",
            f"{len(failed)} of the last day's {len(newest)} were not accepted, the last one with "
            f"{code or 'no answer'}",
            "a service that runs asks for them again by itself; 401 says that the two webhook secrets differ",
        )
    elif not wrong:
        case.well("webhook", f"{found.webhook_url}; {len(newest)} deliveries within a day, all accepted")


def _wrong_with_the_hook(read: Settings, found: Registration) -> Iterator[tuple[str, str]]:
    change = "change it in the App's settings on GitHub"
    if found.webhook_url is None:
        yield "the App has no webhook address", f"{change}, to https://YOUR-HOST/webhooks/github"
        return
    if read.relay_url:
        if found.webhook_url != read.relay_url:
            yield (
                f"GitHub delivers to {found.webhook_url}, and MAGICODE_RELAY_URL is {read.relay_url}",
                change,
            )
    elif read.public_url and found.webhook_url != f"{read.public_url.rstrip('/')}/webhooks/github":
        yield f"GitHub delivers to {found.webhook_url}, and MAGICODE_PUBLIC_URL is {read.public_url}", change
    elif not found.webhook_url.endswith("/webhooks/github"):
        yield f"GitHub delivers to {found.webhook_url}, which is no address of ours", change
    if not found.webhook_json:
        yield "GitHub delivers forms, and JSON is what is read", change
    if not found.webhook_tls:
        yield "GitHub does not check the certificate of whom it delivers to", change


async def _public(case: _Case) -> None:
    if not case.read.public_url:
        case.left_out("pages", "MAGICODE_PUBLIC_URL is not set: people have comments, and no pages")
        return
    why = await why_not_alive(case.read.public_url.rstrip("/"))
    if why is not None:
        do = "start `magicode serve`, and have the address lead to it"
        case.wrong("pages", f"{case.read.public_url}: {why}", do)
    elif case.read.client_id is None or case.read.client_secret is None:
        do = "set MAGICODE_CLIENT_ID and MAGICODE_CLIENT_SECRET, from the App's settings on GitHub"
        case.wrong("pages", "nobody can sign in", do)
    else:
        case.well("pages", f"{case.read.public_url} answers")


async def _clock(case: _Case) -> None:
    theirs = case.registration.at if case.registration else None
    if theirs is None:
        case.left_out("clock", "GitHub did not say what time it is")
        return
    apart = case.now() - theirs
    if abs(apart) > APART:
        case.wrong(
            "clock",
            f"this machine is {abs(apart.total_seconds()):.0f} s {'ahead of' if apart > timedelta(0) else 'behind'} GitHub",
            "let it be set by NTP: GitHub refuses tokens from another time",
        )
    else:
        case.well("clock", "as GitHub's")


# --- what is kept ----------------------------------------------------------------------------------------------------


async def _records(case: _Case) -> None:
    # Without the owner's address, so that nothing is migrated.
    async with wiring.open_records(case.read.model_copy(update={"database_owner_url": None})) as records:
        await records.store.ping()
        bare = await asyncio.to_thread(unprotected_tables, records.service_url)
        if bare:
            do = "restore the policies: `magicode serve` with MAGICODE_DATABASE_OWNER_URL on a fresh schema makes them"
            case.wrong("PostgreSQL", f"no policy keeps tenants apart in {', '.join(bare)}", do)
        else:
            case.well(
                "PostgreSQL", "answers, its schema is this program's, and its policies hold for our role"
            )
        async with records.store.transaction(SERVICE) as transaction:
            await records.keys.existing_key(transaction)
        case.well("master key", "opens what is there")
        _own_workers(case, await records.store.dedicated())
        place = await wiring.open_backups(case.read)
        if place is not None:
            listed = await Tombstones(place, records.store, records.keys, case.now).installations()
            if lacking := listed - set(await records.store.erased_ids()):
                said = f"{len(lacking)} deletions that were done are not in this database: it came back from a backup"
                case.wrong("deletions", said, "run `magicode restored`; until then nothing is served")


def _own_workers(case: _Case, dedicated: Sequence[Dedication]) -> None:
    for one in dedicated:
        tenant, heard = one.installation_id, one.heard_seconds
        if heard is None or heard > SILENT.total_seconds():
            since = "has ever been heard" if heard is None else f"was heard for {heard:.0f} s"
            case.wrong(
                "own workers",
                f"installation {tenant} is worked for by workers of its own alone, and none {since}: its requests wait",
                f"start `magicode worker` with MAGICODE_DEDICATED_TO={tenant}, or `magicode dedicate --installation {tenant} --end`",
            )
        else:
            case.well("own workers", f"installation {tenant} has one that lives")
    for tenant in sorted(set(case.read.dedicated_to) - {one.installation_id for one in dedicated}):
        case.wrong(
            "own workers",
            f"MAGICODE_DEDICATED_TO names installation {tenant}, which everybody's workers work for: such a worker finds nothing to do",
            f"say `magicode dedicate --installation {tenant}`",
        )


async def _backups(case: _Case) -> None:
    place = await wiring.open_backups(case.read)
    if place is None:
        case.left_out(
            "backups",
            "MAGICODE_BACKUPS names no place: none is made, and a database that comes back brings deletions back",
        )
        return
    made = [at for name in await place.names(DUMPS) if (at := made_at(name)) is not None]
    if not made:
        case.left_out(
            "backups",
            "the list of deletions is kept there, and no dump: those are for snapshots to make, or for `magicode backup`",
        )
        return
    hours = (case.now() - max(made)).total_seconds() / 3600
    if hours > BACKUP_HOURS:
        do = "run `magicode backup` each day, and look why it has not"
        case.wrong("backups", f"the last one is {hours:.0f} hours old", do)
    else:
        case.well("backups", f"{len(made)}, the last one {hours:.1f} hours old")


async def _vectors(case: _Case) -> None:
    if case.read.qdrant_url is None:
        case.well("Qdrant", "in this machine's own folder, for one process alone")
        return
    key = case.read.qdrant_api_key
    points = QdrantPoints(
        path=None, url=case.read.qdrant_url, api_key=key.get_secret_value() if key else None
    )
    try:
        await points.names("doctor")
    finally:
        await points.close()
    case.well("Qdrant", "answers")


async def _room(case: _Case) -> None:
    root = await asyncio.to_thread(find_root, case.read.workspace_dir)
    case.read.data_dir.mkdir(parents=True, exist_ok=True)
    for name, path, least in (
        ("disk", case.read.data_dir, DISK_BYTES),
        ("workspace", root.path, WORKSPACE_BYTES),
    ):
        free = shutil.disk_usage(path).free
        said = f"{free / 1024**3:.1f} GB free in {path}"
        if free < least:
            case.wrong(name, said, f"make room: at least {least / 1024**3:.1f} GB are wanted")
        elif name == "workspace" and not root.memory_backed:
            do = "let MAGICODE_WORKSPACE_DIR name a tmpfs, so that code never touches a disk"
            case.wrong(name, root.statement, do)
        else:
            case.well(name, said)


# --- what works ------------------------------------------------------------------------------------------------------


async def _models(case: _Case) -> None:
    async with AsyncExitStack() as stack:
        models = wiring.open_models(stack, case.read, case.environ, Guard(case.read.model_hosts))
        offered = [one.model for one in models.offered()]
    check = ModelsKeyCheck(
        base_urls={
            name: url
            for name in ("anthropic", "openai")
            if (url := case.environ.get(f"{name.upper()}_BASE_URL"))
        }
    )
    for provider in sorted({one.partition(":")[0] for one in offered}):
        key = case.environ.get(f"{provider.upper()}_API_KEY", "")
        await check(OwnKey(provider, key, None, case.now()))
    case.well("models", f"{', '.join(offered)}: the provider takes the key")


async def _embedding(case: _Case) -> None:
    size = await dimension(BundledEncoder(case.read.embedding_model, shipped=SHIPPED))
    case.well("embedding model", f"{case.read.embedding_model}, {size} dimensions")


async def _sandbox(case: _Case) -> None:
    sandbox = wiring.open_sandbox(case.read)
    if sandbox is None:
        case.left_out("sandbox", "MAGICODE_SANDBOX is false: no repository's checks are run")
        return
    why = await sandbox.why_not()
    if why is None:
        case.well("sandbox", "rooms can be made")
    else:
        do = "install bubblewrap and allow user namespaces, or set MAGICODE_SANDBOX=false and run no checks"
        case.wrong("sandbox", f"no check can be run, because {why}", do)


_LOOKS: Final[Sequence[tuple[str, Callable[[_Case], Awaitable[None]], str]]] = (
    ("GitHub App", _credentials, "look at MAGICODE_APP_ID and MAGICODE_PRIVATE_KEY_PATH, and at the App's settings on GitHub"),
    ("permissions", _grants, ""),
    ("webhook", _webhook, "look at the App's settings on GitHub"),
    ("pages", _public, "look at MAGICODE_PUBLIC_URL"),
    ("clock", _clock, ""),
    ("PostgreSQL", _records, "look at MAGICODE_DATABASE_URL and MAGICODE_MASTER_KEY"),
    ("backups", _backups, "look at MAGICODE_BACKUPS"),
    ("Qdrant", _vectors, "look at MAGICODE_QDRANT_URL, and whether the server runs"),
    ("disk", _room, "look at MAGICODE_DATA_DIR and MAGICODE_WORKSPACE_DIR"),
    ("models", _models, "look at MAGICODE_MODEL, ANTHROPIC_API_KEY and OPENAI_API_KEY"),
    ("embedding model", _embedding, "look at MAGICODE_EMBEDDING_MODEL"),
    ("sandbox", _sandbox, "look at MAGICODE_SANDBOX"),
)  # fmt: skip
"""In the order in which people set things up; the last word is what to do where a look breaks off."""
