"""What an installation allows to be sent to whom, asked anew before each request to a model and while one is waited for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from app.custody import provider_keys, settings
from app.custody.settings import InstallationSettings
from app.errors import StoppedError, UserError
from app.nouns import Destination, OwnKey
from app.ports import Keys, Store


class NotAllowedThereError(UserError):
    """No model that this could be asked of is one that the installation allows."""


@dataclass(frozen=True, slots=True)
class Allowed:
    """What held when it was read. `own` are the installation's own keys, by provider."""

    settings: InstallationSettings
    own: Mapping[str, OwnKey]


async def read(store: Store, keys: Keys, installation_id: int) -> Allowed:
    async with store.transaction(installation_id) as transaction:
        return Allowed(
            await settings.read(transaction), await provider_keys.opened(transaction, keys, installation_id)
        )


def within(allowed: Allowed, destinations: Sequence[Destination]) -> Sequence[Destination]:
    """Those of the destinations that are allowed, in order. Raises NotAllowedThereError where none is."""
    kept = [one for one in destinations if allowed.settings.allows(one)]
    if kept:
        return kept
    said = settings.shown(allowed.settings)
    would = ", ".join(dict.fromkeys(f"{one.provider} ({one.region})" for one in destinations))
    raise NotAllowedThereError(
        f"Nothing was sent to any model: this installation allows the providers `{said['providers']}` in the regions "
        f"`{said['regions']}`, and this would go to {would}.",
        reason="consent",
    )


@dataclass(frozen=True, slots=True)
class Consent:
    """Implements app.ports.Fence: raises StoppedError (`consent_withdrawn`, `provider_key_changed`) once one of the
    destinations is no longer allowed, or the key that pays there is no longer the present one."""

    store: Store
    installation_id: int
    destinations: Sequence[Destination]
    own: Mapping[str, OwnKey]

    async def __call__(self) -> None:
        async with self.store.transaction(self.installation_id) as transaction:
            now = await settings.read(transaction)
            since = await provider_keys.since(transaction)
        if not all(now.allows(one) for one in self.destinations):
            raise StoppedError(reason="consent_withdrawn")
        for one in self.destinations:
            if since.get(one.provider) != self._since(one.provider):
                raise StoppedError(reason="provider_key_changed")

    def _since(self, provider: str) -> datetime | None:
        return self.own[provider].since if provider in self.own else None
