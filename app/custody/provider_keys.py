"""An installation's own keys of model providers: checked, sealed under its data key, shown as their last four characters.

Who calls has made sure that the person may. A key is in no log, no error and no message, and opens for its installation
and its provider alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from app.custody.settings import PROVIDERS
from app.errors import InvalidError, RefusedError, TransientError, UserError
from app.nouns import Action, Facts, OwnKey, ProviderKey
from app.ports import Appends, Clock, KeyCheck, Keys, Store, Transaction

PURPOSE: Final = b"magicode/provider-keys"
_KEY = re.compile(r"[!-~]{8,512}", re.ASCII)
SHOWN_OF = 16
"""A key shorter than this would be half told by four characters, so nothing of it is shown."""


class ProviderKeyError(UserError):
    """That is no provider, or no key."""


@dataclass(frozen=True, slots=True)
class KnownKey:
    """What may be seen of a key."""

    provider: str
    last_four: str
    base_url: str | None
    created_by: str
    created_at: datetime
    checked_at: datetime | None


@dataclass(frozen=True, slots=True)
class Saved:
    """`checked` False: the provider did not tell whether it takes the key, and `why` says why not."""

    key: KnownKey
    checked: bool
    why: str = ""


async def put(
    store: Store,
    keys: Keys,
    ledger: Appends,
    clock: Clock,
    check: KeyCheck,
    *,
    installation_id: int,
    by: str,
    provider: str,
    key: str,
    base_url: str | None = None,
) -> Saved:
    """Check it and keep it, in the place of the provider's last one.

    A provider that cannot be reached does not stop it: the key is kept and said to be unchecked. Raises ProviderKeyError,
    UserError (`provider_address`) for an address that no key is sent to, RefusedError for a key that the provider refuses;
    nothing is kept then.
    """
    now = clock()
    own = OwnKey(_provider(provider), _plausible(key), (base_url or "").strip() or None, now)
    why = await _refused(check, own)
    known = KnownKey(provider, last_four(own.key), own.base_url, by, now, None if why else now)
    plain = json.dumps({"key": own.key, "base_url": own.base_url}).encode()
    async with store.transaction(installation_id) as transaction:
        data_key = await keys.data_key(transaction)
        sealed = keys.seal(keys.derive(data_key, PURPOSE), plain, _place(installation_id, provider))
        await transaction.put_provider_key(ProviderKey(provider, sealed, by, now, known.checked_at))
        facts: Facts = {
            "name": "provider-key",
            "provider": provider,
            "last_four": known.last_four,
            "own_address": own.base_url is not None,
            "checked": not why,
            "new": "set",
        }
        await ledger.append(transaction, installation_id, Action.SETTING_CHANGED, by, None, facts)
    return Saved(known, not why, why)


async def remove(
    store: Store, keys: Keys, ledger: Appends, *, installation_id: int, by: str, provider: str
) -> bool:
    """Forget it; False where there was none. Runs that use it stop before they ask again."""
    _provider(provider)
    async with store.transaction(installation_id) as transaction:
        gone = await transaction.remove_provider_key(provider)
        if gone is None:
            return False
        was = await _open(transaction, keys, installation_id, [gone])
        facts = {
            "name": "provider-key",
            "provider": provider,
            "last_four": last_four(was[0][1].key) if was else "",
            "new": "removed",
        }
        await ledger.append(transaction, installation_id, Action.SETTING_CHANGED, by, None, facts)
    return True


async def known_keys(store: Store, keys: Keys, installation_id: int) -> Sequence[KnownKey]:
    """What may be seen of the installation's keys."""
    async with store.transaction(installation_id) as transaction:
        return await _known(transaction, keys, installation_id)


async def opened(transaction: Transaction, keys: Keys, installation_id: int) -> Mapping[str, OwnKey]:
    """The keys by provider, to be asked with. Raises app.errors.DefectError for one that was sealed for somebody else."""
    return {stored.provider: own for stored, own in await _opened(transaction, keys, installation_id)}


async def since(transaction: Transaction) -> Mapping[str, datetime]:
    """Since when each provider's key is the present one; nothing is opened for it."""
    return {one.provider: one.created_at for one in await transaction.provider_keys()}


def last_four(key: str) -> str:
    return key[-4:] if len(key) >= SHOWN_OF else ""


# --- a key where no key belongs --------------------------------------------------------------------------------------

_LOOKS_LIKE_ONE = re.compile(
    r"(?<![A-Za-z0-9])(?:AIza|(?:sk|pk|rk|sess|key|api|gsk|xai|hf|r8|ghp|gho|ghs|github_pat)[-_])[-_A-Za-z0-9]{16,}",
    re.ASCII,
)
_LONG = re.compile(r"[A-Za-z0-9_\-]{32,}", re.ASCII)


_PROVIDERS_OWN = re.compile(r"(?<![A-Za-z0-9])(?:sk-|sk_|AIza|gsk_|xai-|hf_|r8_)[-_A-Za-z0-9]{16,}", re.ASCII)


def holds_a_providers_key(text: str) -> bool:
    """Whether a text that is about something else holds what can hardly be anything but a key of a model provider."""
    return any(re.search("[0-9]", one) for one in _PROVIDERS_OWN.findall(text))


def looks_like_a_key(text: str) -> bool:
    """Whether something in a text may be a key of a provider: better one warning too many than a key that stays good."""
    if _LOOKS_LIKE_ONE.search(text):
        return True
    # Long, with digits and both cases mixed: no word, no name of a model and no commit.
    return any(
        re.search("[0-9]", one) and re.search("[a-z]", one) and re.search("[A-Z]", one)
        for one in _LONG.findall(text)
    )


# --- inside ----------------------------------------------------------------------------------------------------------


async def _refused(check: KeyCheck, own: OwnKey) -> str:
    """Why the key could not be checked; empty when the provider takes it. Raises RefusedError when it does not."""
    try:
        await check(own)
    except TransientError:
        return "The provider could not be asked just now."
    except InvalidError:
        return "The provider's address does not answer such a question."
    except RefusedError as error:
        if error.reason != "model_quota_exhausted":
            raise
        return "The provider knows the key, and says that its account has no credit left."
    return ""


async def _known(transaction: Transaction, keys: Keys, installation_id: int) -> list[KnownKey]:
    return [
        KnownKey(
            stored.provider,
            last_four(own.key),
            own.base_url,
            stored.created_by,
            stored.created_at,
            stored.checked_at,
        )
        for stored, own in await _opened(transaction, keys, installation_id)
    ]


async def _opened(
    transaction: Transaction, keys: Keys, installation_id: int
) -> list[tuple[ProviderKey, OwnKey]]:
    return await _open(transaction, keys, installation_id, await transaction.provider_keys())


async def _open(
    transaction: Transaction, keys: Keys, installation_id: int, stored: Sequence[ProviderKey]
) -> list[tuple[ProviderKey, OwnKey]]:
    if not stored:
        return []
    data_key = await keys.existing_key(transaction)
    if data_key is None:
        return []  # destroyed: what it sealed stays closed
    purpose = keys.derive(data_key, PURPOSE)
    found = []
    for one in stored:
        plain = json.loads(keys.open(purpose, one.sealed, _place(installation_id, one.provider)))
        found.append((one, OwnKey(one.provider, plain["key"], plain["base_url"], one.created_at)))
    return found


def _place(installation_id: int, provider: str) -> bytes:
    return f"provider-key|{installation_id}|{provider}".encode()


def _provider(name: str) -> str:
    if name not in PROVIDERS:
        raise ProviderKeyError(
            f"Keys can be kept for {' and '.join(PROVIDERS)}. An endpoint that is compatible with one of them is kept "
            "under its name, with its address.",
            reason="provider_unknown",
        )
    return name


def _plausible(key: str) -> str:
    key = key.strip()
    if _KEY.fullmatch(key) is None:
        raise ProviderKeyError(
            "That is no key: one word of 8 to 512 printable characters is expected.",
            reason="provider_key_unreadable",
        )
    return key
