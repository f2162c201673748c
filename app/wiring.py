"""Who is plugged in where: the one room inside the app that knows both the ports and what implements them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

from app import settings
from app.actionlog.ledger import Ledger
from app.agent.budget import Limits
from app.custody.backups import Backups, Written
from app.custody.keys import Keys
from app.custody.rotation import SERVICE, RotatingMasterKey
from app.custody.tombstones import Tombstones
from app.custody.webhook_secrets import LiveSecrets
from app.errors import MagicodeError, TransientError
from app.house import House
from app.nouns import Action
from app.ports import Clock, Objects, Watch
from app.rounds import CLOCKS_APART
from app.settings import Settings
from app.tenants import TenantsGitHub
from app.witness import OwnWitness, Witness
from app.workspace.storage import find_root, sweep
from embeddings.apart import FUNCTION, apart
from embeddings.embed import dimension
from embeddings.repository import RepositoryIndex
from embeddings.shipped import SHIPPED
from infra.apart import Apart
from infra.blas import in_one_thread
from infra.embedded.postgres import EmbeddedPostgres, EmbeddedPostgresError
from infra.encoder import BundledEncoder, ModelMissingError
from infra.github.app import GitHubApp, require_rsa
from infra.github.oauth import GitHubSignIn
from infra.metrics import Metrics
from infra.models.choose import ServiceModels, default_spec, specs
from infra.models.guarded import Guard
from infra.models.key_check import ModelsKeyCheck
from infra.objects.choose import open_objects
from infra.postgres import dumps
from infra.postgres.errors import translated
from infra.postgres.migrate import give_password, migrate, require_current, require_service_role, versions
from infra.postgres.store import PostgresStore
from infra.qdrant import QdrantPoints
from infra.receivers import HttpReceivers
from infra.relay import Relay
from infra.sandbox.bubblewrap import BubblewrapSandbox
from infra.sandbox.indexes import DEFAULT
from infra.sandbox.indexes import Index as PackageIndex
from infra.secrets.apps import AppSecrets
from infra.secrets.choose import files, open_master_key, open_secrets
from infra.traces import Traces, exporter
from infra.watch import ServiceWatch
from webhooks.errors import MissingSecretError
from webhooks.signature import Secrets

T = TypeVar("T")

log = logging.getLogger(__name__)

REVIVE_EVERY_SECONDS = 2.0


class SettingMissingError(MagicodeError):
    """A setting that the service cannot do without is missing."""


Sleep = Callable[[float], Awaitable[None]]
Index = Callable[[bytes, int, int], RepositoryIndex]


@asynccontextmanager
async def open_house(
    read: Settings, environ: Mapping[str, str], *, watch: Watch | None = None
) -> AsyncIterator[House]:
    """Open what the settings name, migrate what is ours, and close it all at the end. `watch` takes the place of the service's own.

    Raises SettingMissingError, and what the parts raise when they cannot be reached.
    """
    async with AsyncExitStack() as stack:
        # First what can be wrong in the settings, so that it is told before anything is started.
        given = read
        read, environ, secrets = await filled(given, environ)
        app_id = _required(read.app_id, "APP_ID")
        webhook_secrets = _webhook_secrets(given, read, secrets)
        guard = Guard(read.model_hosts)
        models = open_models(stack, read, environ, guard)
        private_key = _private_key(read)
        require_rsa(private_key)
        watch = watch or _watch(stack, environ)
        records = await stack.enter_async_context(open_records(read))
        github = GitHubApp(
            app_id=app_id,
            private_key=private_key,
            api_url=read.github_api_url,
            write_interval_seconds=read.write_interval_seconds,
            paces=records.store.paces,
            watch=watch,
        )
        stack.push_async_callback(github.aclose)
        await _require_master_key(records)
        ledger = Ledger(records.store, records.keys, _now)
        own = OwnWitness(ledger.recorder(SERVICE, None), time.monotonic)
        stack.push_async_callback(own.close)
        points = _points(stack, read)
        yield House(
            store=records.store,
            ledger=ledger,
            keys=records.keys,
            github=TenantsGitHub(github, records.store, ledger, own),
            models=models,
            key_check=ModelsKeyCheck(guard),
            receivers=HttpReceivers(Guard(read.hook_hosts)),
            index=_index(stack, read, points),
            points=points,
            objects=await asyncio.to_thread(open_objects, read.exports, read.data_dir / "exports"),
            backups=await open_backups(read),
            public_url=read.public_url.rstrip("/") if read.public_url else None,
            github_web_url=read.github_web_url,
            sign_in=_sign_in(stack, read, watch),
            relay=Relay(read.relay_url) if read.relay_url else None,
            webhook_secrets=webhook_secrets,
            slug=read.app_slug,
            app_id=app_id,
            limits=Limits(
                turns=read.max_turns,
                tokens=read.max_tokens,
                dollars=read.max_cost_usd,
                seconds=float(read.max_seconds),
            ),
            workspace_root=_workspace_root(read),
            sandbox=open_sandbox(given),
            ready_after_seconds=read.ready_after_seconds,
            index_seconds=read.index_seconds,
            service_url=records.service_url,
            clock=_now,
            monotonic=time.monotonic,
            sleep=asyncio.sleep,
            new_id=uuid4,
            watch=watch,
            metrics_token=read.metrics_token.get_secret_value() if read.metrics_token else None,
        )


async def open_backups(read: Settings) -> Objects | None:
    """Where backups and the list of erasures are kept; None where nothing is named."""
    if read.backups is None:
        return None
    return await asyncio.to_thread(open_objects, read.backups, read.data_dir / "backups")


def _watch(stack: AsyncExitStack, environ: Mapping[str, str]) -> Watch:
    watch = ServiceWatch(Metrics(), Traces(exporter(environ)))
    watch.open()
    stack.push_async_callback(asyncio.to_thread, watch.close)
    return watch


def _sign_in(stack: AsyncExitStack, read: Settings, watch: Watch) -> GitHubSignIn | None:
    if read.client_id is None or read.client_secret is None:
        return None
    secret = read.client_secret.get_secret_value()
    sign_in = GitHubSignIn(read.github_web_url, read.github_api_url, read.client_id, secret, watch=watch)
    stack.push_async_callback(sign_in.aclose)
    return sign_in


def open_sandbox(read: Settings) -> BubblewrapSandbox | None:
    """None where the operator wants no check to be run. `read` still says where the secrets are. An index that the operator names
    may be a private one."""
    if not read.sandbox:
        return None
    indexes: Sequence[PackageIndex] = DEFAULT
    if read.package_indexes is not None:
        parted = (one.partition(":") for one in read.package_indexes)
        indexes = tuple(PackageIndex(host, int(port or 443), private=True) for host, _, port in parted)
    hidden = [read.data_dir, *(path.parent for path in files(read.master_key, read.secrets))]
    return BubblewrapSandbox(indexes=indexes, tools=read.sandbox_tools, hidden=hidden)


@dataclass(frozen=True, slots=True)
class Records:
    """What a reader of the records needs: the database, and the keys that open what is sealed there."""

    store: PostgresStore
    keys: Keys
    service_url: str
    master: RotatingMasterKey


@asynccontextmanager
async def open_records(read: Settings) -> AsyncIterator[Records]:
    """The records alone; GitHub and a model need not be configured. Raises what the parts raise."""
    async with AsyncExitStack() as stack:
        read, _, _ = await filled(read, {})
        service_url = await _database(stack, read)
        store = PostgresStore(service_url)
        stack.push_async_callback(store.close)
        read.data_dir.mkdir(parents=True, exist_ok=True)
        default = read.data_dir / "master.key"
        master = await asyncio.to_thread(open_master_key, read.master_key, default)
        yield Records(store, Keys(master), service_url, master)


@asynccontextmanager
async def open_github(read: Settings, store: PostgresStore, ledger: Ledger) -> AsyncIterator[TenantsGitHub]:
    """GitHub alone, for a command. Raises SettingMissingError and PrivateKeyError."""
    read, _, _ = await filled(read, {})
    app_id, private_key = credentials(read)
    github = GitHubApp(app_id=app_id, private_key=private_key, api_url=read.github_api_url)
    try:
        async with Witness(ledger.recorder(SERVICE, None)) as own:
            yield TenantsGitHub(github, store, ledger, own)
    finally:
        await github.aclose()


async def _require_master_key(records: Records) -> None:
    """Raises WrongMasterKeyError where the service's own data key is under another master key: told at the start, and not
    by every request."""
    async with records.store.transaction(SERVICE) as transaction:
        await records.keys.existing_key(transaction)


async def _database(stack: AsyncExitStack, read: Settings) -> str:
    """The service role's address; the embedded PostgreSQL where no other is named."""
    if read.database_url is None:
        embedded = EmbeddedPostgres(read.data_dir)
        stack.callback(embedded.stop)
        await _to_its_end(embedded.start)
        await _to_its_end(lambda: migrate(embedded.owner_url))
        keeping = asyncio.create_task(_keep_alive(embedded))
        stack.push_async_callback(_over, keeping)
        return embedded.service_url
    url = read.database_url.get_secret_value()
    owner_url = read.database_owner_url.get_secret_value() if read.database_owner_url else None
    await _to_its_end(lambda: _ready(url, owner_url))
    return url


async def _keep_alive(embedded: EmbeddedPostgres) -> None:
    """Nobody else looks after a PostgreSQL that is ours: one that was killed, as by a machine short of memory, is started again."""
    while True:
        await asyncio.sleep(REVIVE_EVERY_SECONDS)
        try:
            if await asyncio.to_thread(embedded.revive):
                log.error("The embedded PostgreSQL had died and was started again.")
        except EmbeddedPostgresError as error:
            log.error("The embedded PostgreSQL has died and does not start.", extra={"reason": error.reason})


async def _over(task: asyncio.Task[None]) -> None:
    """Cancelled; what a thread of it is in the middle of, stopping the server waits for."""
    task.cancel()
    await asyncio.wait({task})


def _ready(url: str, owner_url: str | None) -> None:
    """Raises DatabaseAwayError, SchemaBehindError, and UnsafeRoleError for a role that no policy would hold."""
    with translated():
        if owner_url is not None:
            migrate(owner_url)
        else:
            require_current(url)
        require_service_role(url)


@dataclass(frozen=True, slots=True)
class Migrated:
    """The schema's version before and now (None: there was none), and the one that this program was made for; whether the service's
    role was given its password."""

    before: str | None
    now: str | None
    needed: str
    password: bool = False


async def migrate_database(read: Settings) -> Migrated:
    """Bring the schema up to date as the owner's role, give the service's role its password where there is one to be given, and open
    nothing else. Told to stop, it ends the step that it is at.

    Raises SettingMissingError, DatabaseAwayError and what infra.postgres.migrate.migrate raises.
    """
    read, _, _ = await filled(read, {})
    url = _required(read.database_owner_url, "DATABASE_OWNER_URL").get_secret_value()
    password = read.database_service_password
    done: list[Migrated] = []

    def through() -> None:
        with translated():
            before, needed = versions(url)
            migrate(url)
            if password is not None:
                give_password(url, password.get_secret_value())
            done.append(Migrated(before, versions(url)[0], needed, password is not None))

    await _to_its_end(through)
    return done[0]


class ClocksApartError(TransientError):
    """Our clock and the database's differ: a backup would carry a wrong time, and what is too old could not be told. Set the clock."""


async def back_up(read: Settings, clock: Clock | None = None) -> Written:
    """A dump and the keys apart from it, and the list of erasures made whole: one that ended before there was a place for the list is
    in it from now on.

    Raises SettingMissingError, ClocksApartError, and what the parts raise.
    """
    read, _, _ = await filled(read, {})
    place, clock = _required(await open_backups(read), "BACKUPS"), clock or _now
    async with open_records(read) as records:
        store = records.store
        if abs(clock() - await store.now()) > CLOCKS_APART:
            raise ClocksApartError
        tombstones = Tombstones(place, store, records.keys, clock)
        for tenant in sorted(set(await store.erased_ids()) - await tombstones.installations()):
            async with store.transaction(tenant, erasing=True) as transaction:
                erasure = await transaction.erasure()
            if erasure is not None:
                await tombstones.put(erasure)
        # In the log, and so in the dump: one that has it and no key of the service's came back without its keys.
        await Ledger(store, records.keys, clock).record(SERVICE, Action.SERVICE_BACKED_UP, "operator")
        backups = Backups(place, records.keys, clock)
        return await backups.write(store, dumps.dump(_backup_url(read)))


async def restore_database(read: Settings, at: datetime | None = None) -> str:
    """Reads the newest backup, or the last one of that time, into an empty database; its name. All of it is looked at before anything
    is written. What is to be done then is `app.restoring.restored`.

    Raises SettingMissingError, NoBackupError, BackupBrokenError, NotEmptyDatabaseError, and what the parts raise.
    """
    read, _, _ = await filled(read, {})
    place = _required(await open_backups(read), "BACKUPS")
    async with AsyncExitStack() as stack:
        if read.database_url is None:
            embedded = EmbeddedPostgres(read.data_dir)
            stack.callback(embedded.stop)
            await _to_its_end(embedded.start)
            url = embedded.owner_url
        else:
            url = _required(read.database_owner_url, "DATABASE_OWNER_URL").get_secret_value()
        await asyncio.to_thread(dumps.require_empty, url)
        master = await asyncio.to_thread(open_master_key, read.master_key, read.data_dir / "master.key")
        backups = Backups(place, Keys(master), _now)
        name = await backups.newest(at)
        await backups.check(name)
        await dumps.restore(url, lambda: backups.open(name))
    return name


async def put_kept_keys(read: Settings) -> None:
    """Before a house is opened on a database that came back: a master key may have gone since, and what it wrapped was wrapped anew."""
    read, _, _ = await filled(read, {})
    place = _required(await open_backups(read), "BACKUPS")
    async with open_records(read) as records:
        await Backups(place, records.keys, _now).put_keys(records.store)


def _backup_url(read: Settings) -> str:
    """Of a role that sees every row."""
    if read.database_backup_url is not None:
        return read.database_backup_url.get_secret_value()
    if read.database_url is None:
        return EmbeddedPostgres(read.data_dir).owner_url
    return _required(
        read.database_owner_url, "DATABASE_BACKUP_URL or MAGICODE_DATABASE_OWNER_URL"
    ).get_secret_value()


async def _to_its_end(work: Callable[[], object]) -> None:
    """In a thread; who is told to stop meanwhile stops afterwards, since a thread cannot be stopped."""
    working = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        await asyncio.shield(working)
    except asyncio.CancelledError:
        await asyncio.wait({working})
        raise


def _points(stack: AsyncExitStack, read: Settings) -> QdrantPoints:
    points = QdrantPoints(
        path=None if read.qdrant_url else read.data_dir / "qdrant",
        url=read.qdrant_url,
        api_key=read.qdrant_api_key.get_secret_value() if read.qdrant_api_key else None,
    )
    stack.push_async_callback(points.close)
    return points


def _index(stack: AsyncExitStack, read: Settings, points: QdrantPoints) -> Index:
    in_one_thread()
    encoder = BundledEncoder(read.embedding_model, shipped=SHIPPED)
    if read.worker:
        loading = asyncio.create_task(_load(encoder))
        stack.callback(loading.cancel)

    parser = Apart(FUNCTION)
    stack.callback(parser.close)
    structure = apart(parser)

    def index(key: bytes, installation_id: int, repository_id: int) -> RepositoryIndex:
        return RepositoryIndex(points, encoder, key, installation_id, repository_id, structure=structure)

    return index


async def _load(encoder: BundledEncoder) -> None:
    """In a thread, while nobody waits: the first run would otherwise spend seconds on it. A model that is missing is
    told by the first run that needs it.
    """
    with suppress(ModelMissingError):
        await dimension(encoder)


def open_models(
    stack: AsyncExitStack, read: Settings, environ: Mapping[str, str], guard: Guard
) -> ServiceModels:
    """The service's own are opened at once, so that a missing key is told at the start and not in a run.

    Raises ModelSettingError, and SettingMissingError where there is none.
    """
    own = specs(read.model or default_spec(environ) or "")
    models = ServiceModels(environ, own, guard)
    stack.push_async_callback(models.close)
    models.require()
    if not own and read.worker:
        raise SettingMissingError(
            "No model is configured: set ANTHROPIC_API_KEY or OPENAI_API_KEY, and MAGICODE_MODEL to choose one."
        )
    return models


def _workspace_root(read: Settings) -> Path:
    root = find_root(read.workspace_dir)
    sweep(root.path)
    log.log(logging.INFO if root.memory_backed else logging.WARNING, root.statement)
    return root.path


async def filled(
    read: Settings, environ: Mapping[str, str]
) -> tuple[Settings, Mapping[str, str], AppSecrets | None]:
    """The settings and the environment with what MAGICODE_SECRETS holds (or `magicode setup` left beside the data), and where
    that is. What the environment sets wins.

    Raises app.settings.UnknownSettingError, and what the secrets' place raises.
    """
    if not read.secrets.strip() and not read.secrets_beside.exists():
        return read, environ, None
    secrets = await asyncio.to_thread(open_secrets, read.secrets_kept)
    read, providers = settings.filled(read, await asyncio.to_thread(secrets.read))
    return read, {**providers, **{name: value for name, value in environ.items() if value}}, secrets


def _webhook_secrets(given: Settings, read: Settings, secrets: AppSecrets | None) -> Secrets:
    """`given` is what the environment alone said."""
    first = _secrets(read)
    if secrets is None:
        return first
    return LiveSecrets(first, lambda: _secrets(settings.filled(given, secrets.read())[0]))


def _secrets(read: Settings) -> Secrets:
    previous = read.webhook_secret_previous
    current = _required(read.webhook_secret, "WEBHOOK_SECRET")
    try:
        return Secrets(current.get_secret_value(), previous.get_secret_value() if previous else None)
    except MissingSecretError as error:
        raise SettingMissingError(str(error)) from None


def credentials(read: Settings) -> tuple[int, str]:
    """The App's id and its private key. Raises SettingMissingError."""
    return _required(read.app_id, "APP_ID"), _private_key(read)


def _private_key(read: Settings) -> str:
    if read.private_key is not None:
        # Where an environment can hold no line breaks, each is written as a backslash and an n.
        return read.private_key.get_secret_value().replace("\\n", "\n")
    path = _required(read.private_key_path, "PRIVATE_KEY or MAGICODE_PRIVATE_KEY_PATH")
    if not path.is_file():
        raise SettingMissingError(f"MAGICODE_PRIVATE_KEY_PATH names {path}, and there is no such file.")
    return path.read_text(encoding="ascii")


def _required(value: T | None, name: str) -> T:
    if value is None:
        raise SettingMissingError(f"MAGICODE_{name} is not set; the README says where its value comes from.")
    return value


def _now() -> datetime:
    return datetime.now(UTC)
