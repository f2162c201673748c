"""The list of erasures outside of the database: what one that comes back from a backup does not know of, and has to do again.

An entry holds what the row of an erasure holds: ids, times, the name of the vectors' folder and the receipt. It is in clear, so that
somebody can read it whose service is lost, and bound to the service by a code that its own data key makes: what others put there
destroys nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from app.custody.backups import Backups
from app.custody.keys import Keys
from app.custody.rotation import SERVICE
from app.errors import DefectError
from app.nouns import Erasure
from app.ports import Clock, Objects, Store

PLACE: Final = "tombstones"
PURPOSE: Final = b"magicode/tombstones"
_FORMAT: Final = "magicode-tombstone/1"
_BEGUN: Final = ".begun"
"""An erasure that is at work has an entry of its own: who was stopped while writing it cannot replace the one with the receipt."""

RESTORED: Final = "restored"
"""The reason of an erasure that is done again, since a backup brought back what it had destroyed."""


class ForeignTombstoneError(DefectError):
    """An entry in the list of deletions (MAGICODE_BACKUPS, `tombstones/`) was changed, or written by another service. Nothing is
    deleted for it. Look who wrote there; a service that begins anew needs a place of its own."""


class _Stored(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["magicode-tombstone/1"]
    installation_id: int
    id: UUID
    github_id: int
    account_id: int
    reason: str
    asked_at: datetime
    shelf: str | None
    receipt: str | None
    code: str


@dataclass(frozen=True, slots=True)
class Tombstones:
    """The list below `tombstones/` of where backups are kept."""

    objects: Objects
    store: Store
    keys: Keys
    clock: Clock

    async def put(self, erasure: Erasure) -> None:
        """Writes down, again where it was written before, that this is destroyed. Raises what the place raises."""
        await Backups(self.objects, self.keys, self.clock).keep_service_key(self.store)
        name = f"{PLACE}/{erasure.installation_id}-{erasure.id}"
        document: dict[str, object] = {
            "format": _FORMAT,
            "installation_id": erasure.installation_id,
            "id": str(erasure.id),
            "github_id": erasure.github_id,
            "account_id": erasure.account_id,
            "reason": erasure.reason,
            "asked_at": erasure.asked_at.isoformat(),
            "shelf": erasure.shelf,
            "receipt": erasure.receipt,
        }
        document["code"] = _code(await self._key(), document)
        body = json.dumps(document, indent=2).encode("ascii")

        async def whole() -> AsyncIterator[bytes]:
            yield body

        await self.objects.put(name if erasure.receipt else name + _BEGUN, whole())

    async def installations(self) -> frozenset[int]:
        """Whose erasure has begun, by the entries' names alone. Raises ForeignTombstoneError for what is no such name."""
        return frozenset(_whose(name) for name in await self.objects.names(PLACE))

    async def read(self) -> Mapping[int, Erasure]:
        """The list, by installation, as erasures that are to be done again. Raises ForeignTombstoneError."""
        names = await self.objects.names(PLACE)
        if not names:
            return {}
        key, found = await self._existing_key(), dict[int, Erasure]()
        for name in names:
            body = b"".join([piece async for piece in self.objects.get(name)])
            erasure = _read(key, name, body)
            if erasure.receipt is not None or erasure.installation_id not in found:
                found[erasure.installation_id] = erasure
        return found

    async def _key(self) -> bytes:
        async with self.store.transaction(SERVICE) as transaction:
            key = await self.keys.data_key(transaction)
        return self.keys.derive(key, PURPOSE)

    async def _existing_key(self) -> bytes:
        """A new one would fit nothing that is there."""
        async with self.store.transaction(SERVICE) as transaction:
            key = await self.keys.existing_key(transaction)
        if key is None:
            raise ForeignTombstoneError
        return self.keys.derive(key, PURPOSE)


def _whose(name: str) -> int:
    number = name.removeprefix(f"{PLACE}/").partition("-")[0]
    if not number.isascii() or not number.isdigit():
        raise ForeignTombstoneError
    return int(number)


def _read(key: bytes, name: str, body: bytes) -> Erasure:
    try:
        stored = _Stored.model_validate_json(body)
        document = json.loads(body)
    except ValueError:  # pydantic's own errors are such
        raise ForeignTombstoneError from None
    document.pop("code")
    if not hmac.compare_digest(_code(key, document), stored.code):
        raise ForeignTombstoneError
    named = f"{PLACE}/{stored.installation_id}-{stored.id}"
    if name not in (named, named + _BEGUN):
        raise ForeignTombstoneError
    return Erasure(
        installation_id=stored.installation_id,
        id=stored.id,
        github_id=stored.github_id,
        account_id=stored.account_id,
        reason=RESTORED,
        asked_at=stored.asked_at,
        asked_by=None,
        step="begun",
        shelf=stored.shelf,
        receipt=stored.receipt,
    )


def _code(key: bytes, document: Mapping[str, object]) -> str:
    canonical = json.dumps(dict(document), sort_keys=True, separators=(",", ":")).encode("ascii")
    return hmac.new(key, canonical, hashlib.sha256).hexdigest()
