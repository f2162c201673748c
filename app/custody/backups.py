"""Backups in a place of their own: sealed dumps of the database, and apart from them the wrapped keys, of which the newest alone stay.

A dump holds no key: the keys of each installation lie beside the dumps, once, and an erasure destroys them there too. So what was
destroyed cannot be opened in an older dump either; the list of erasures (`tombstones.py`) then says which rows are to go.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal
from uuid import NAMESPACE_URL, UUID, uuid5

from pydantic import Base64Bytes, BaseModel, ConfigDict

from app.custody.keys import Keys, SealBrokenError
from app.custody.receipt import BACKUPS_KEPT
from app.custody.rotation import SERVICE
from app.custody.sealing import Sealed
from app.errors import DefectError, ErasedError, MissingError, UserError, WrongMasterKeyError
from app.nouns import Hook, ProviderKey
from app.ports import Clock, Objects, Store, Transaction

DUMPS: Final = "dumps"
KEYS: Final = "keys"
DUMPS_PURPOSE: Final = b"magicode/dumps"
KEYS_PURPOSE: Final = b"magicode/kept-keys"
EVERY: Final = timedelta(days=1)
"""How often a backup is made: what would be too old before the next one goes now."""

_FORMAT: Final = "magicode-keys/1"
_STAMP: Final = "%Y%m%dT%H%M%SZ"


class NoBackupError(UserError):
    """There is no backup of that time in MAGICODE_BACKUPS, or none at all."""


class BackupBrokenError(DefectError):
    """This backup was changed, cut short or put in another one's place, or other keys go with it. Nothing was restored from it. Take
    another one with --at."""


class _Key(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    master_key_id: str
    wrapped: Base64Bytes


class _ProviderKey(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    provider: str
    sealed: Base64Bytes
    created_by: str
    created_at: datetime
    checked_at: datetime | None


class _Hook(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    id: UUID
    sealed: Base64Bytes
    events: str
    created_by: str
    created_at: datetime
    last_at: datetime | None
    last_status: int | None


class _Stored(BaseModel):
    """Of one installation: its data key, and what of its own is sealed under that."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["magicode-keys/1"]
    installation_id: int
    made_at: datetime
    key: _Key
    provider_keys: tuple[_ProviderKey, ...]
    hooks: tuple[_Hook, ...]
    code: str


@dataclass(frozen=True, slots=True)
class _Kept:
    stored: _Stored
    signed: Mapping[str, object]
    """As it was written down, which is what its code is over."""


@dataclass(frozen=True, slots=True)
class Written:
    """A backup: its name, its sealed size, how many installations' keys go with it, and how many old dumps went."""

    name: str
    size: int
    keys: int
    aged_out: int


@dataclass(frozen=True, slots=True)
class Backups:
    """What lies in the place that MAGICODE_BACKUPS names."""

    objects: Objects
    keys: Keys
    clock: Clock

    async def write(self, store: Store, dump: AsyncIterator[bytes]) -> Written:
        """`dump` is sealed while it is made. The keys are read behind it, so that none that it needs is missing; older ones go once
        they stand, and old dumps last. Raises what `dump` and the place raise; then what was there before is there still."""
        now = self.clock()
        service_key = await self._own_key(store)
        name = f"{DUMPS}/{now.astimezone(UTC).strftime(_STAMP)}"
        size = await self.objects.put(name, self._sealed(service_key, name).seal(dump))
        kept = await self.write_keys(store)
        return Written(name, size, kept, await self._age_out(now))

    async def dumps(self) -> Sequence[str]:
        """Names, oldest first."""
        return [name for name in await self.objects.names(DUMPS) if made_at(name) is not None]

    async def newest(self, at: datetime | None = None) -> str:
        """The last one, or the last that was made then or before. Raises NoBackupError."""
        known = [
            name
            for name in await self.dumps()
            if at is None or ((made := made_at(name)) is not None and made <= at)
        ]
        if not known:
            raise NoBackupError
        return known[-1]

    async def check(self, name: str) -> None:
        """Reads all of it and writes nothing. Raises BackupBrokenError, WrongMasterKeyError."""
        async for _ in self.open(name):
            pass

    async def open(self, name: str) -> AsyncIterator[bytes]:
        """The dump. What came before an error was right, but is not the whole. Raises BackupBrokenError."""
        service = await self._kept(SERVICE)
        if service is None:
            raise BackupBrokenError
        key = await self._service_key(service)
        try:
            async for piece in self._sealed(key, name).open(self.objects.get(name)):
                yield piece
        except (SealBrokenError, MissingError):
            raise BackupBrokenError from None

    async def put_keys(self, store: Store) -> int:
        """Puts into the database what of the kept keys it lacks, and what was taken away since its last entry out of it; how many
        installations have theirs from here. Raises BackupBrokenError."""
        service = await self._kept(SERVICE)
        if service is None:
            return 0
        service_key, put = await self._service_key(service), 0
        # The service's own last: where that is missing, a process that starts sees that this was not done to its end.
        for tenant in sorted(await _kept_tenants(self.objects), reverse=True):
            kept = await self._kept(tenant)
            if kept is None:
                continue
            self._require_ours(service_key, kept)
            with suppress(ErasedError):
                async with store.transaction(tenant) as transaction:
                    put += await self._put(transaction, kept.stored)
        return put

    async def keep_service_key(self, store: Store) -> None:
        """Where it is not kept yet: what is written down here is bound to it, and a database that comes back may be older than it."""
        if SERVICE in await _kept_tenants(self.objects):
            return
        async with store.transaction(SERVICE) as transaction:
            key = await self.keys.data_key(transaction)
            held = await _held(transaction)
        if held is not None:
            await self._keep(key, SERVICE, held)

    async def _put(self, transaction: Transaction, held: _Stored) -> bool:
        ours, put = (held.key.master_key_id, held.key.wrapped), False
        there = await transaction.wrapped_key()
        if there is None:
            put = await transaction.add_wrapped_key(*ours) == ours
        elif there != ours and not await self._opens(
            there
        ):  # a master key has gone since, and what it wrapped was wrapped anew
            put = await transaction.replace_wrapped_key(there, ours)
        last = await transaction.last_entry()
        if last is not None and last.at > held.made_at:
            return put
        providers = {one.provider for one in held.provider_keys}
        for known in await transaction.provider_keys():
            if known.provider not in providers:
                await transaction.remove_provider_key(known.provider)
        for key in held.provider_keys:
            await transaction.put_provider_key(ProviderKey(**dict(key)))
        hooks = {one.id for one in held.hooks}
        for hook in await transaction.hooks():
            if hook.id not in hooks:
                await transaction.remove_hook(hook.id)
        for one in held.hooks:
            await transaction.put_hook(Hook(**dict(one)))
        return put

    async def _opens(self, stored: tuple[str, bytes]) -> bool:
        try:
            await self.keys.unwrapped(stored)
        except WrongMasterKeyError:
            return False
        return True

    async def write_keys(self, store: Store) -> int:
        """Each in the place of its older one; what has no key any more has none here. How many there are."""
        service_key = await self._own_key(store)
        for tenant in await store.keyed_ids():
            with suppress(ErasedError):
                async with store.transaction(tenant) as transaction:
                    held = await _held(transaction)
                if held is not None:
                    await self._keep(service_key, tenant, held)
        # An erasure that began meanwhile has looked here already, or will.
        left = set(await store.keyed_ids()) - set(await store.erased_ids())
        for tenant in await _kept_tenants(self.objects) - left:
            await drop_kept_key(self.objects, tenant)
        return len(left)

    async def _own_key(self, store: Store) -> bytes:
        async with store.transaction(SERVICE) as transaction:
            return await self.keys.data_key(transaction)

    async def _keep(self, service_key: bytes, tenant: int, held: Mapping[str, object]) -> None:
        made_at = self.clock().astimezone(UTC).isoformat()
        document = {"format": _FORMAT, "installation_id": tenant, "made_at": made_at, **held}
        document["code"] = self._code(service_key, document)
        body = json.dumps(document).encode("ascii")

        async def whole() -> AsyncIterator[bytes]:
            yield body

        await self.objects.put(f"{KEYS}/{tenant}", whole())

    async def _kept(self, tenant: int) -> _Kept | None:
        """None where none is kept. Raises BackupBrokenError for what is no such document."""
        try:
            body = b"".join([piece async for piece in self.objects.get(f"{KEYS}/{tenant}")])
        except MissingError:
            return None
        try:
            stored, document = _Stored.model_validate_json(body), json.loads(body)
        except ValueError:
            raise BackupBrokenError from None
        if stored.installation_id != tenant:
            raise BackupBrokenError
        return _Kept(stored, {name: value for name, value in document.items() if name != "code"})

    def _require_ours(self, service_key: bytes, kept: _Kept) -> None:
        if not hmac.compare_digest(self._code(service_key, kept.signed), kept.stored.code):
            raise BackupBrokenError

    async def _service_key(self, kept: _Kept) -> bytes:
        """It is what the dumps are sealed under. Raises WrongMasterKeyError where the master key is not at hand."""
        key = await self.keys.unwrapped((kept.stored.key.master_key_id, kept.stored.key.wrapped))
        self._require_ours(key, kept)
        return key

    def _sealed(self, service_key: bytes, name: str) -> Sealed:
        """Bound to its name, and so to its time."""
        key = self.keys.derive(service_key, DUMPS_PURPOSE)
        return Sealed(self.keys, key, SERVICE, uuid5(NAMESPACE_URL, f"magicode:{name}"))

    def _code(self, service_key: bytes, document: Mapping[str, object]) -> str:
        canonical = json.dumps(dict(document), sort_keys=True, separators=(",", ":")).encode("ascii")
        key = self.keys.derive(service_key, KEYS_PURPOSE)
        return hmac.new(key, canonical, hashlib.sha256).hexdigest()

    async def _age_out(self, now: datetime) -> int:
        gone = 0
        for name in await self.objects.names(DUMPS):
            made = made_at(name)
            if made is not None and made < now - (BACKUPS_KEPT - EVERY):
                await self.objects.delete(name)
                gone += 1
        return gone


async def drop_kept_key(objects: Objects, tenant: int) -> None:
    """A key that is destroyed is destroyed here too: from then on no dump of it can be opened."""
    await objects.delete(f"{KEYS}/{tenant}")


async def _kept_tenants(objects: Objects) -> set[int]:
    names = [name.removeprefix(f"{KEYS}/") for name in await objects.names(KEYS)]
    return {int(name) for name in names if name.isascii() and name.isdigit()}


def made_at(name: str) -> datetime | None:
    """None for what is no dump of ours."""
    try:
        return datetime.strptime(name.removeprefix(f"{DUMPS}/"), _STAMP).replace(tzinfo=UTC)
    except ValueError:
        return None


async def _held(transaction: Transaction) -> Mapping[str, object] | None:
    """None where the key was destroyed meanwhile."""
    key = await transaction.wrapped_key()
    if key is None:
        return None
    return {
        "key": {"master_key_id": key[0], "wrapped": _plain(key[1])},
        "provider_keys": [_told(one) for one in await transaction.provider_keys()],
        "hooks": [_told(one) for one in await transaction.hooks()],
    }


def _told(row: Any) -> Mapping[str, object]:
    return {name: _plain(value) for name, value in asdict(row).items()}


def _plain(value: object) -> object:
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(bytes(value)).decode("ascii")
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return str(value) if isinstance(value, UUID) else value
