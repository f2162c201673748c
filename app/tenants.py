"""GitHub as the tenants know it: each call goes out under the id that GitHub gives their installation now."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

from app.errors import MissingError
from app.nouns import Account, Delivery, Installation, Repository
from app.ports import GitHub, RepositoryReader, RepositoryWriter, Store


@dataclass(frozen=True, slots=True)
class TenantsGitHub:
    """Implements app.ports.GitHub over another one. `installations` are GitHub's own, by GitHub's own ids."""

    github: GitHub
    store: Store

    async def app_slug(self) -> str:
        return await self.github.app_slug()

    async def installations(self) -> Sequence[Installation]:
        return await self.github.installations()

    async def deliveries(self, since: datetime) -> Sequence[Delivery]:
        return await self.github.deliveries(since)

    async def redeliver(self, delivery_id: int) -> None:
        await self.github.redeliver(delivery_id)

    async def repositories(self, installation_id: int) -> Sequence[Repository]:
        return await self.github.repositories(await self._present(installation_id))

    async def administers(self, installation_id: int, person: Account) -> bool:
        return await self.github.administers(await self._present(installation_id), person)

    def reader(
        self, installation_id: int, repository_id: int
    ) -> AbstractAsyncContextManager[RepositoryReader]:
        return self._reader(installation_id, repository_id)

    def writer(
        self, installation_id: int, repository_id: int, permissions: Mapping[str, str]
    ) -> AbstractAsyncContextManager[RepositoryWriter]:
        return self._writer(installation_id, repository_id, permissions)

    @asynccontextmanager
    async def _reader(self, installation_id: int, repository_id: int) -> AsyncIterator[RepositoryReader]:
        async with self.github.reader(await self._present(installation_id), repository_id) as reader:
            yield reader

    @asynccontextmanager
    async def _writer(
        self, installation_id: int, repository_id: int, permissions: Mapping[str, str]
    ) -> AsyncIterator[RepositoryWriter]:
        present = await self._present(installation_id)
        async with self.github.writer(present, repository_id, permissions) as writer:
            yield writer

    async def _present(self, installation_id: int) -> int:
        """While it is being destroyed too: its receipt is still to be delivered. Raises MissingError where it is gone."""
        async with self.store.transaction(installation_id, erasing=True) as transaction:
            known = await transaction.installation()
            erasure = await transaction.erasure() if known is None else None
        if known is not None and known.uninstalled_at is None:
            return known.present_id
        if known is None and erasure is not None and erasure.reason != "uninstalled":
            return erasure.github_id
        raise MissingError("The App is not installed here any more.", reason="uninstalled")
