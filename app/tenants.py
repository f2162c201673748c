"""GitHub as the tenants know it: each call goes out under the id that GitHub gives their installation now."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

from app.actionlog.ledger import Ledger
from app.errors import MissingError
from app.nouns import Account, Delivery, Installation, Repository
from app.ports import GitHub, RepositoryReader, RepositoryWriter, Store
from app.ports import Witness as IsTold
from app.witness import Witness, unfenced


@dataclass(frozen=True, slots=True)
class TenantsGitHub:
    """Implements app.ports.GitHub over another one. `installations` are GitHub's own, by GitHub's own ids.

    Whoever names no witness has one: what is asked for a tenant then stands in the tenant's log when the call or the block
    ends, and what the App asks for itself is told to `own`.
    """

    github: GitHub
    store: Store
    ledger: Ledger
    own: IsTold

    async def app_slug(self, *, witness: IsTold | None = None) -> str:
        return await self.github.app_slug(witness=witness or self.own)

    async def installations(self, *, witness: IsTold | None = None) -> Sequence[Installation]:
        return await self.github.installations(witness=witness or self.own)

    async def installed(self, github_id: int, *, witness: IsTold | None = None) -> bool:
        return await self.github.installed(github_id, witness=witness or self.own)

    async def deliveries(self, since: datetime, *, witness: IsTold | None = None) -> Sequence[Delivery]:
        return await self.github.deliveries(since, witness=witness or self.own)

    async def redeliver(self, delivery_id: int, *, witness: IsTold | None = None) -> None:
        await self.github.redeliver(delivery_id, witness=witness or self.own)

    async def repositories(
        self, installation_id: int, *, witness: IsTold | None = None
    ) -> Sequence[Repository]:
        present = await self._present(installation_id)
        async with self._witness(witness, installation_id) as heard:
            return await self.github.repositories(present, witness=heard)

    async def room(self, installation_id: int) -> None:
        await self.github.room(await self._present(installation_id))

    async def administers(
        self, installation_id: int, person: Account, *, witness: IsTold | None = None
    ) -> bool:
        present = await self._present(installation_id)
        async with self._witness(witness, installation_id) as heard:
            return await self.github.administers(present, person, witness=heard)

    async def knows(self, installation_id: int, person: Account, *, witness: IsTold | None = None) -> bool:
        present = await self._present(installation_id)
        async with self._witness(witness, installation_id) as heard:
            return await self.github.knows(present, person, witness=heard)

    async def account(
        self, installation_id: int, login: str, *, witness: IsTold | None = None
    ) -> Account | None:
        present = await self._present(installation_id)
        async with self._witness(witness, installation_id) as heard:
            return await self.github.account(present, login, witness=heard)

    async def suspend(self, installation_id: int, *, witness: IsTold | None = None) -> None:
        present = await self._present(installation_id)
        async with self._witness(witness, installation_id) as heard:
            await self.github.suspend(present, witness=heard)

    async def unsuspend(self, installation_id: int, *, witness: IsTold | None = None) -> None:
        present = await self._present(installation_id)
        async with self._witness(witness, installation_id) as heard:
            await self.github.unsuspend(present, witness=heard)

    def reader(
        self, installation_id: int, repository_id: int, *, witness: IsTold | None = None
    ) -> AbstractAsyncContextManager[RepositoryReader]:
        return self._reader(installation_id, repository_id, witness)

    def writer(
        self,
        installation_id: int,
        repository_id: int,
        permissions: Mapping[str, str],
        *,
        witness: IsTold | None = None,
    ) -> AbstractAsyncContextManager[RepositoryWriter]:
        return self._writer(installation_id, repository_id, permissions, witness)

    @asynccontextmanager
    async def _reader(
        self, installation_id: int, repository_id: int, witness: IsTold | None
    ) -> AsyncIterator[RepositoryReader]:
        present = await self._present(installation_id)
        async with (
            self._witness(witness, installation_id, repository=repository_id) as heard,
            self.github.reader(present, repository_id, witness=heard) as reader,
        ):
            yield reader

    @asynccontextmanager
    async def _writer(
        self,
        installation_id: int,
        repository_id: int,
        permissions: Mapping[str, str],
        witness: IsTold | None,
    ) -> AsyncIterator[RepositoryWriter]:
        present = await self._present(installation_id)
        async with (
            self._witness(witness, installation_id, repository=repository_id) as heard,
            self.github.writer(present, repository_id, permissions, witness=heard) as writer,
        ):
            yield writer

    @asynccontextmanager
    async def _witness(
        self, given: IsTold | None, installation_id: int, **facts: int
    ) -> AsyncIterator[IsTold]:
        if given is not None:
            yield given
            return
        async with Witness(self.ledger.recorder(installation_id, None), fence=unfenced, **facts) as ours:
            yield ours

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
