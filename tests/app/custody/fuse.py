"""A process that ends at any one place: calls that leave it are counted, and one of them is the last."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from app.ports import Transaction


class CrashError(BaseException):
    """Nothing catches it, as nothing catches the end of a process."""


@dataclass
class Fuse:
    """Counts what is done outside of this process, and blows at one place: before it is done, or right after."""

    at: int | None = None
    after: bool = False
    met: list[str] = field(default_factory=list)

    async def around(self, name: str, effect: Awaitable[Any]) -> Any:
        place = len(self.met)
        self.met.append(name)
        if place == self.at and not self.after:
            if asyncio.iscoroutine(effect):
                effect.close()
            raise CrashError(name)
        done = await effect
        if place == self.at and self.after:
            raise CrashError(name)
        return done


@dataclass
class Fused:
    """Everything of another object, each call behind the fuse."""

    inner: Any
    fuse: Fuse

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.inner, name)

        async def call(*given: Any, **named: Any) -> Any:
            return await self.fuse.around(f"{type(self.inner).__name__}.{name}", method(*given, **named))

        return call if asyncio.iscoroutinefunction(method) else method


class FusedStore(Fused):
    """A transaction is one effect, which is there once it is committed."""

    def transaction(self, tenant: int, *, erasing: bool = False) -> Any:
        return _FusedTransaction(self.inner.transaction(tenant, erasing=erasing), self.fuse)


@dataclass
class _FusedTransaction:
    inner: Any
    fuse: Fuse

    async def __aenter__(self) -> Transaction:
        return await self.inner.__aenter__()

    async def __aexit__(self, *error: Any) -> None:
        if error[0] is not None:
            await self.inner.__aexit__(*error)
            return
        place = len(self.fuse.met)
        self.fuse.met.append("commit")
        if place == self.fuse.at and not self.fuse.after:
            crash = CrashError("commit")
            await self.inner.__aexit__(CrashError, crash, None)
            raise crash
        await self.inner.__aexit__(None, None, None)
        if place == self.fuse.at:
            raise CrashError("commit")


class FusedGitHub(Fused):
    """A token's minting is an effect, and so is each call with it."""

    @asynccontextmanager
    async def reader(self, tenant: int, repository_id: int, *, witness: Any = None) -> AsyncIterator[Any]:
        async with self.inner.reader(tenant, repository_id, witness=witness) as reader:
            await self.fuse.around("GitHub.minted", asyncio.sleep(0))
            yield Fused(reader, self.fuse)

    @asynccontextmanager
    async def writer(
        self, tenant: int, repository_id: int, permissions: Mapping[str, str], *, witness: Any = None
    ) -> AsyncIterator[Any]:
        async with self.inner.writer(tenant, repository_id, permissions, witness=witness) as writer:
            await self.fuse.around("GitHub.minted", asyncio.sleep(0))
            yield Fused(writer, self.fuse)
