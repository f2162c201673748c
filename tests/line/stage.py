"""A whole service on real parts for tests and benchmarks: simulated GitHub and model, PostgreSQL, Qdrant, the web process.

People act through GitHub's REST API and the service hears of it by signed webhooks over real sockets; nothing is
called behind its back.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from app import settings
from app.actionlog.export import opened
from app.actionlog.verify import ExportedEntry
from app.house import House
from app.main import create
from app.nouns import Destination, Run
from app.ports import Model, Models
from app.rounds import sync_installations
from app.web.patience import config
from app.wiring import open_house
from app.worker import work_jobs
from embeddings.apart import FUNCTION, apart
from embeddings.embed import Encoder
from embeddings.repository import RepositoryIndex
from infra.apart import Apart
from infra.models.guarded import Guard
from infra.models.key_check import ModelsKeyCheck
from infra.models.playbook import PLAYBOOK_MODEL, Playbook
from infra.qdrant import QdrantPoints
from infra.simulator.listener import listen
from infra.simulator.model.serve import environment
from infra.simulator.model.serve import running as running_model
from infra.simulator.serve import Running
from infra.simulator.serve import running as running_github

NOWHERE = "http://127.0.0.1:1"
"""Where nobody listens: a key that names no address of its own is checked here, and never by the provider itself."""


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def]
        yield


@dataclass
class Stage:
    """`environ` is what the service was started with."""

    github: Running
    house: House
    url: str
    repository: str
    model_url: str
    folder: Path = Path()
    environ: Mapping[str, str] = field(default_factory=dict)

    @property
    def installation(self) -> int:
        return self.github.installation_id

    def client(self, user: str = "wim") -> httpx.AsyncClient:
        return self.github.client(user)

    async def open_issue(
        self, title: str, body: str = "", *, user: str = "wim", repository: str | None = None
    ) -> int:
        answer = await self.client(user).post(
            f"/repos/{repository or self.repository}/issues", json={"title": title, "body": body}
        )
        answer.raise_for_status()
        return int(answer.json()["number"])

    async def comment(
        self, number: int, body: str, *, user: str = "wim", repository: str | None = None
    ) -> int:
        answer = await self.client(user).post(
            f"/repos/{repository or self.repository}/issues/{number}/comments", json={"body": body}
        )
        answer.raise_for_status()
        return int(answer.json()["id"])

    async def comments(self, number: int, *, repository: str | None = None) -> list[dict[str, Any]]:
        answer = await self.client().get(
            f"/repos/{repository or self.repository}/issues/{number}/comments", params={"per_page": 100}
        )
        answer.raise_for_status()
        return list(answer.json())

    async def pulls(self, *, state: str = "all", repository: str | None = None) -> list[dict[str, Any]]:
        answer = await self.client().get(
            f"/repos/{repository or self.repository}/pulls", params={"state": state, "per_page": 100}
        )
        answer.raise_for_status()
        return list(answer.json())

    async def runs(self) -> Sequence[Run]:
        """Newest first, and all of them: an hour of requests is more than a page."""
        async with self.house.store.transaction(self.installation) as transaction:
            return await transaction.runs(limit=10_000)

    async def ended(self, count: int = 1, *, within: float = 120.0) -> Sequence[Run]:
        """The runs, oldest first, once that many have ended. Raises TimeoutError that says what they were at."""
        deadline = asyncio.get_running_loop().time() + within
        while True:
            runs = list(reversed(await self.runs()))
            if sum(run.state.ended for run in runs) >= count:
                return runs
            if asyncio.get_running_loop().time() > deadline:
                raise TimeoutError(f"of {count} runs: {[(run.verb, run.state, run.reason) for run in runs]}")
            await asyncio.sleep(0.1)  # each look is a transaction that whoever works waits for

    @contextlib.asynccontextmanager
    async def at_work(self, concurrency: int = 2, **how: Any) -> AsyncIterator[None]:
        """A worker for the length of the block, on a stage that was raised without one; `how` as `work_jobs` takes it."""
        working = asyncio.create_task(work_jobs(self.house, concurrency, **how))
        try:
            yield
        finally:
            working.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await working

    async def settled(self) -> None:
        """Once every webhook under way has been answered."""
        await self.github.world.settled()

    async def log(self, installation: int | None = None) -> list[ExportedEntry]:
        where = self.installation if installation is None else installation
        return [entry async for entry in opened(self.house.store, self.house.keys, where)]

    async def fault(self, **what: Any) -> None:
        async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
            (await client.post(f"{self.github.base_url}/_simulator/faults", json=what)).raise_for_status()


@dataclass(frozen=True)
class _Given:
    """`app.ports.Models` with one model in the place of all others."""

    real: Models
    model: Callable[[str | None], Model]

    def where(self, named: Sequence[str] = (), own: Any = None) -> Sequence[Destination]:
        return [Destination(named[0] if named else "given:given", "given", "", "unknown", False)]

    def offered(self, own: Any = None) -> Sequence[Destination]:
        return self.real.offered(own)

    @contextlib.asynccontextmanager
    async def open(self, named: Sequence[str], own: Any = None) -> AsyncIterator[Sequence[Model]]:
        yield [self.model(named[0])]


@contextlib.asynccontextmanager
async def staged(
    folder: Path,
    repositories: Mapping[str, Path],
    playbook: Playbook,
    *,
    database_url: str,
    encoder: Encoder,
    model: Callable[[str | None], Model] | None = None,
    provider: str = "anthropic",
    working: bool = True,
    environ: Mapping[str, str] | None = None,
    afterwards: Callable[[Stage], Awaitable[None]] | None = None,
) -> AsyncIterator[Stage]:
    """`model` replaces the provider's adapter; `working=False` accepts and works nothing. `afterwards` looks at what is left
    once nobody works any more."""
    async with contextlib.AsyncExitStack() as stack:
        github = await stack.enter_async_context(running_github(folder / "github", repositories))
        model_url = await stack.enter_async_context(running_model(playbook))
        listener = stack.enter_context(contextlib.closing(listen("127.0.0.1", 0)))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        app = github.world.app
        given = {
            **environment(model_url),
            "MAGICODE_GITHUB_API_URL": github.base_url,
            "MAGICODE_GITHUB_WEB_URL": github.base_url,
            "MAGICODE_PUBLIC_URL": url,
            "MAGICODE_APP_ID": str(app.id),
            "MAGICODE_CLIENT_ID": app.client_id,
            "MAGICODE_CLIENT_SECRET": app.client_secret,
            "MAGICODE_PRIVATE_KEY": app.private_key_pem,
            "MAGICODE_WEBHOOK_SECRET": app.webhook_secret,
            "MAGICODE_DATABASE_URL": database_url,
            "MAGICODE_DATA_DIR": str(folder / "data"),
            "MAGICODE_MODEL": f"{provider}:{PLAYBOOK_MODEL}",
            "MAGICODE_WRITE_INTERVAL_SECONDS": "0",
            "MAGICODE_READY_AFTER_SECONDS": "0",
            "MAGICODE_WORKER": "false",  # the worker is started here, with an embedding model that is loaded already
            **(environ or {}),
        }
        house = await stack.enter_async_context(open_house(settings.read(given), given))
        points = QdrantPoints(path=folder / "data" / "qdrant")
        stack.push_async_callback(points.close)

        parser = Apart(FUNCTION)
        stack.callback(parser.close)
        structure = apart(parser)

        def index(key: bytes, installation_id: int, repository_id: int) -> RepositoryIndex:
            return RepositoryIndex(points, encoder, key, installation_id, repository_id, structure=structure)

        house = replace(
            house,
            index=index,
            points=points,
            models=_Given(house.models, model) if model else house.models,
            key_check=ModelsKeyCheck(
                Guard(settings.read(given).model_hosts), dict.fromkeys(("anthropic", "openai"), NOWHERE)
            ),
        )
        await sync_installations(house)
        stage = Stage(github, house, url, next(iter(repositories)), model_url, folder, given)
        if afterwards is not None:
            stack.push_async_callback(afterwards, stage)
        trusted = settings.read(given).trusted_proxies
        await stack.enter_async_context(_served(house, listener, working=working, trusted_proxies=trusted))
        github.world.app_url = f"{url}/webhooks/github"
        yield stage
        github.world.app_url = None
        await github.world.settled()


@contextlib.asynccontextmanager
async def _served(
    house: House, listener: socket.socket, *, working: bool, trusted_proxies: Sequence[str]
) -> AsyncIterator[None]:
    web = create(house, beside=(lambda: work_jobs(house, 2)) if working else None)
    server = _Server(config(web, trusted_proxies))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield
    finally:
        server.should_exit = True
        await serving
