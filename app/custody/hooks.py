"""An installation's hooks: addresses of its own that are told of runs, sealed under its data key, shown as their host alone.

Who calls has made sure that the person may. An address may hold a secret, as chat services' do, and is treated as one: it is in
no log, no error and no message.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from urllib.parse import urlsplit
from uuid import UUID

from app.errors import UserError
from app.nouns import Action, Hook, RunEvent
from app.ports import Appends, Clock, Keys, Receivers, Store, Transaction

PURPOSE: Final = b"magicode/hooks"
AT_MOST: Final = 5
SECRET_BYTES: Final = 32
"""Between 24 and 64: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md"""

_PREFIX: Final = "whsec_"
_ADDRESS = re.compile(r"[!-~]{1,2000}", re.ASCII)


class HookError(UserError):
    """That is no hook that can be kept."""


@dataclass(frozen=True, slots=True)
class KnownHook:
    """What may be seen of a hook; `host` is empty where its address cannot be opened any more."""

    id: UUID
    host: str
    events: tuple[str, ...]
    created_by: str
    created_at: datetime
    last_at: datetime | None
    last_status: int | None


@dataclass(frozen=True, slots=True)
class OpenHook:
    """A hook that is being told, in memory for as long as that takes."""

    id: UUID
    url: str = field(repr=False)
    secret: str = field(repr=False)

    @property
    def host(self) -> str:
        return urlsplit(self.url).netloc


async def make(
    store: Store,
    keys: Keys,
    ledger: Appends,
    clock: Clock,
    receivers: Receivers,
    *,
    installation_id: int,
    by: str,
    url: str,
    events: Collection[str],
    new_id: Callable[[], UUID],
    random: Callable[[int], bytes],
) -> tuple[KnownHook, str]:
    """The hook, and its secret, which is shown this once.

    Raises HookError, and UserError (`hook_address`) for an address to which nothing is sent; nothing is kept then.
    """
    url, wanted = url.strip(), _events(events)
    if _ADDRESS.fullmatch(url) is None:
        raise HookError(
            "That is no address: one word of at most 2000 characters, which begins with `https://`, is expected.",
            reason="hook_unreadable",
        )
    await receivers.require(url)
    secret = _PREFIX + base64.b64encode(random(SECRET_BYTES)).decode()
    opened = OpenHook(new_id(), url, secret)
    plain = json.dumps({"url": url, "secret": secret}).encode()
    async with store.transaction(installation_id) as transaction:
        await transaction.installation(lock=True)  # of two that are made at once one counts the other
        if len(await transaction.hooks()) >= AT_MOST:
            raise HookError(f"There are {AT_MOST} webhooks already. Remove one first.", reason="hooks_many")
        data_key = await keys.data_key(transaction)
        sealed = keys.seal(keys.derive(data_key, PURPOSE), plain, _place(installation_id, opened.id))
        hook = Hook(opened.id, sealed, " ".join(wanted), by, clock())
        await transaction.put_hook(hook)
        facts = {
            "name": "hook",
            "hook": str(hook.id),
            "host": opened.host,
            "events": hook.events,
            "new": "made",
        }
        await ledger.append(transaction, installation_id, Action.SETTING_CHANGED, by, None, facts)
    return _known(hook, opened), secret


async def remove(store: Store, ledger: Appends, *, installation_id: int, by: str, hook_id: UUID) -> bool:
    """Forget it; False where there was none. What it was not told yet it is not told any more."""
    async with store.transaction(installation_id) as transaction:
        return await remove_within(transaction, ledger, installation_id, by=by, hook_id=hook_id)


async def remove_within(
    transaction: Transaction,
    ledger: Appends,
    installation_id: int,
    *,
    by: str,
    hook_id: UUID,
    why: str = "asked",
) -> bool:
    """`why` is `asked`, or `gone` where the receiver said so."""
    if not await transaction.remove_hook(hook_id):
        return False
    facts = {"name": "hook", "hook": str(hook_id), "new": "removed", "why": why}
    await ledger.append(transaction, installation_id, Action.SETTING_CHANGED, by, None, facts)
    return True


async def known_hooks(store: Store, keys: Keys, installation_id: int) -> Sequence[KnownHook]:
    """What may be seen of the installation's hooks, oldest first."""
    async with store.transaction(installation_id) as transaction:
        return await known_within(transaction, keys, installation_id)


async def known_within(transaction: Transaction, keys: Keys, installation_id: int) -> Sequence[KnownHook]:
    return [_known(hook, opened) for hook, opened in await _opened(transaction, keys, installation_id)]


async def find(transaction: Transaction, keys: Keys, installation_id: int, hook_id: UUID) -> OpenHook | None:
    """None where it was removed, or where the key that sealed it was destroyed."""
    found = await _opened(transaction, keys, installation_id, only=hook_id)
    return next((opened for _, opened in found), None)


def signature(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md#signature-scheme"""
    key = base64.b64decode(secret.removeprefix(_PREFIX))
    signed = hmac.digest(key, f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256)
    return "v1," + base64.b64encode(signed).decode()


# --- inside ----------------------------------------------------------------------------------------------------------


async def _opened(
    transaction: Transaction, keys: Keys, installation_id: int, *, only: UUID | None = None
) -> list[tuple[Hook, OpenHook | None]]:
    stored = [one for one in await transaction.hooks() if only in (None, one.id)]
    if not stored:
        return []
    data_key = await keys.existing_key(transaction)
    if data_key is None:
        return [(one, None) for one in stored]
    purpose = keys.derive(data_key, PURPOSE)
    found: list[tuple[Hook, OpenHook | None]] = []
    for one in stored:
        plain = json.loads(keys.open(purpose, one.sealed, _place(installation_id, one.id)))
        found.append((one, OpenHook(one.id, plain["url"], plain["secret"])))
    return found


def _known(hook: Hook, opened: OpenHook | None) -> KnownHook:
    return KnownHook(
        hook.id,
        "" if opened is None else opened.host,
        tuple(hook.events.split()),
        hook.created_by,
        hook.created_at,
        hook.last_at,
        hook.last_status,
    )


def _place(installation_id: int, hook_id: UUID) -> bytes:
    return f"hook|{installation_id}|{hook_id}".encode()


def _events(named: Collection[str]) -> list[str]:
    """In the order in which they happen."""
    if not named or not set(named) <= set(RunEvent):
        known = ", ".join(f"`{one}`" for one in RunEvent)
        raise HookError(f"Choose what it is told of: {known}.", reason="hook_events")
    return [one.value for one in RunEvent if one in named]
