"""Starts the simulated GitHub on a real socket, and says in one document how to talk to it.

`start` is what `magicode simulate` runs; `running` is the same for the length of a block, with clients, for tests.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import jwt
import uvicorn

from infra.simulator.auth import new_private_key, new_user_token
from infra.simulator.ci import Ci, Workflow, declare
from infra.simulator.deliveries import trust
from infra.simulator.git import Person, bring_in
from infra.simulator.installing import (
    acting_for,
    change_plan,
    install,
    installed_on,
    new_installation,
    uninstall,
)
from infra.simulator.listener import listen
from infra.simulator.server import Simulator, create
from infra.simulator.signing import new_signing_key
from infra.simulator.state import App, Installation, Repo, User, World

PEOPLE: Mapping[str, tuple[str, str]] = {
    "admin": ("ada", "admin"),
    "write": ("wim", "write"),
    "read": ("rita", "read"),
}
"""What `document` calls them, with login and role."""

SLUG = "magicode"


@dataclass
class SimulatorOptions:
    """`port` 0 takes a free one. `app_url` is where webhooks go; it can be set later."""

    data: Path
    repos: Sequence[tuple[str, Path]] = ()
    port: int = 0
    app_url: str | None = None
    host: str = "127.0.0.1"
    private: bool = True


class _Server(uvicorn.Server):
    """Leaves the process's signals to whoever runs the event loop, and stops when told, not at the next tick."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._told = asyncio.Event()

    def tell_to_stop(self) -> None:
        self.should_exit = True
        self._told.set()

    async def main_loop(self) -> None:
        ticks = 0
        while not await self.on_tick(ticks):
            ticks += 1
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._told.wait(), 0.1)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@dataclass
class Running:
    """A simulator that is being served."""

    world: World
    simulator: Simulator
    base_url: str
    tokens: dict[str, str]  # login -> token
    _server: _Server
    _task: asyncio.Task[None]
    _clients: list[httpx.AsyncClient] = field(default_factory=list)

    def client(self, user: str | None = "ada", *, token: str | None = None) -> httpx.AsyncClient:
        """A client that calls as `user`, or with `token`, or (both None) as nobody. Closed by `stop`."""
        headers = {"Accept": "application/vnd.github+json", "User-Agent": "simulator-client"}
        value = token or (self.tokens[user] if user else None)
        if value is not None:
            headers["Authorization"] = f"Bearer {value}"
        made = httpx.AsyncClient(
            base_url=self.base_url, headers=headers, timeout=30, trust_env=False, verify=trust()
        )
        self._clients.append(made)
        return made

    def app_jwt(self, **claims: Any) -> str:
        """The App's own token, good for nine minutes; `claims` replace its claims."""
        now = int(self.world.now().timestamp())
        said = {"iat": now - 30, "exp": now + 540, "iss": str(self.world.app.id), **claims}
        return jwt.encode(said, self.world.app.private_key_pem, algorithm="RS256")

    def app_client(self) -> httpx.AsyncClient:
        return self.client(token=self.app_jwt())

    @property
    def installation_id(self) -> int:
        return min(self.world.installations)

    async def installation_client(
        self, permissions: Mapping[str, str] | None = None, repository_ids: Sequence[int] | None = None
    ) -> httpx.AsyncClient:
        """A client with a fresh installation token, narrowed as asked."""
        asked: dict[str, Any] = {}
        if permissions is not None:
            asked["permissions"] = dict(permissions)
        if repository_ids is not None:
            asked["repository_ids"] = list(repository_ids)
        async with httpx.AsyncClient(timeout=30, trust_env=False, verify=trust()) as client:
            answer = await client.post(
                f"{self.base_url}/app/installations/{self.installation_id}/access_tokens",
                json=asked,
                headers={"Authorization": f"Bearer {self.app_jwt()}", "User-Agent": "simulator-client"},
            )
        answer.raise_for_status()
        return self.client(token=answer.json()["token"])

    def account(self, login: str) -> User:
        """Raises KeyError for a login that nobody has."""
        found = self.world.user_by_login(login)
        if found is None:
            raise KeyError(login)
        return found

    async def add_account(
        self,
        login: str,
        repos: Mapping[str, Path],
        *,
        owners: Sequence[str] = (),
        people: Mapping[str, str] | None = None,
        private: bool = True,
    ) -> Installation:
        """Another customer: an account with these repositories (`{name: folder}`) and the App newly installed on all of them.

        With `owners` an organization that they own (people who are not here yet are signed up), without any a person's own
        account. `people` are collaborators, by login with their role.
        """
        for one in (*owners, *(people or {})):
            self._sign_up(one)
        if owners:
            made = self.world.user_by_login(login) or self.world.add_user(login, "Organization")
            made.owner_ids.update(self.account(one).id for one in owners)
        else:
            made = self._sign_up(login)
        for name, folder in repos.items():
            full_name = f"{login}/{name}"
            await add_repository(
                self.world, full_name, Path(folder), private=private, people=people or {}, installed=False
            )
        return self.install(login)

    def _sign_up(self, login: str) -> User:
        person = self.world.user_by_login(login) or self.world.add_user(login)
        if login not in self.tokens:
            self.tokens[login] = new_user_token(self.world, person).value
        return person

    def install(self, login: str, *, by: str | None = None) -> Installation:
        """On all repositories of the account, with a new id and a webhook that tells it, as a person does it on GitHub's pages."""
        account = self.account(login)
        return install(self.world, account, self.account(by) if by else acting_for(self.world, account))

    def uninstall(self, login: str, *, by: str | None = None) -> None:
        """Raises KeyError where the App is not installed."""
        account = self.account(login)
        found = installed_on(self.world, account)
        if found is None:
            raise KeyError(login)
        uninstall(self.world, found, self.account(by) if by else acting_for(self.world, account))

    def change_plan(self, login: str, action: str, *, effective: datetime | None = None) -> None:
        """A plan of the Marketplace: purchased, cancelled, changed, pending_change or pending_change_cancelled."""
        account = self.account(login)
        change_plan(self.world, action, account, acting_for(self.world, account), effective)

    async def sign_in(self, login: str | None, authorize_url: str) -> str:
        """What a browser does with an authorization's address: `login` agrees there (None: cancels). Returns where it is sent
        back to, with `code` and `state`, or with `error`."""
        parts = urlsplit(authorize_url)
        form = {**dict(parse_qsl(parts.query)), "person": login or ""}
        answer = await self.client(None).post(parts.path, data=form)
        if answer.status_code != 302:
            raise ValueError(f"the simulated GitHub answered {answer.status_code}")
        return answer.headers["location"]

    def on_push(self, ci: Ci, repository: str | None = None, **options: Any) -> Workflow:
        """Plays GitHub Actions on every push: `ci` is given the code and says how each job ends (`ci.declare`).

        `repository` is a full name; the only one there is when left out. Raises ValueError when it is not here.
        """
        held = self.world.repositories.values()
        repo = self.world.repository(repository) if repository else next(iter(held), None)
        if repo is None:
            raise ValueError(f"no repository {repository or ''}")
        return declare(self.world, repo, ci, **options)

    def document(self) -> dict[str, Any]:
        """What `magicode simulate` prints."""
        app = self.world.app
        return {
            "base_url": self.base_url,
            "web_url": self.base_url,
            "app": {
                "id": app.id,
                "slug": app.slug,
                "client_id": app.client_id,
                "client_secret": app.client_secret,
                "private_key": app.private_key_pem,
                "webhook_secret": app.webhook_secret,
            },
            "installation_id": self.installation_id if self.world.installations else None,
            "repositories": [
                {"id": r.id, "full_name": r.full_name} for r in self.world.repositories.values()
            ],
            "users": {
                name: {"login": login, "token": self.tokens[login]} for name, (login, _) in PEOPLE.items()
            },
        }

    async def stop(self) -> None:
        """Lets CI and the webhooks under way end, then closes the socket. Raises what CI failed with."""
        for client in self._clients:
            await client.aclose()
        for workflow in self.world.workflows.values():
            workflow.hurry()
        try:
            await self.world.settled()
        finally:
            self._server.tell_to_stop()
            await self._task


def new_world(data: Path) -> World:
    """An empty GitHub with the App registered and the three people signed up."""
    world = World(data=data, app=_app(), users={}, signing_key_pem=new_signing_key())
    for login, _ in PEOPLE.values():
        world.add_user(login)
    world.app.owner_id = next(iter(world.users))
    world.app.bot_id = world.add_user(f"{SLUG}[bot]", "Bot").id
    return world


def _app() -> App:
    return App(
        id=100_000 + secrets.randbelow(900_000),  # clients cache the App's tokens by its id
        slug=SLUG,
        name="MagiCode",
        client_id="Iv23li" + secrets.token_hex(7),
        private_key_pem=new_private_key(),
        webhook_secret=secrets.token_hex(20),
        owner_id=0,
        bot_id=0,
        hook_id=48_151_623,
        created_at=datetime.now(UTC),
        client_secret=secrets.token_hex(20),
    )


async def add_repository(
    world: World,
    full_name: str,
    source: Path,
    *,
    private: bool = True,
    people: Mapping[str, str] | None = None,
    installed: bool = True,
) -> Repo:
    """Takes a local git repository or folder in, with the App installed unless told otherwise.

    `people` are its collaborators with their roles; the three people when left out. Raises ValueError for a name that is not OWNER/NAME or is taken, FileNotFoundError for a folder that is not there.
    """
    owner_name, _, name = full_name.partition("/")
    if not owner_name or not name or "/" in name:
        raise ValueError(f"a repository is named OWNER/NAME, not {full_name}")
    if world.repository(full_name) is not None:
        raise ValueError(f"{full_name} is here already")
    owner = world.user_by_login(owner_name) or world.add_user(owner_name, "Organization")
    ada = world.user_by_login("ada")
    assert ada is not None
    number, now = world.next_id(), world.now()
    git, branch = await bring_in(
        source, world.data / "repositories" / f"{number}.git", Person(ada.login, ada.email, now)
    )
    repo = Repo(
        id=number,
        owner=owner.login,
        owner_id=owner.id,
        name=name,
        git=git,
        default_branch=branch,
        created_at=now,
        updated_at=now,
        pushed_at=now,
        private=private,
        size=await git.size_kb(),
        collaborators={
            login.lower(): role
            for login, role in (dict(PEOPLE.values()) if people is None else people).items()
            if login != owner.login
        },
        owners=owner.owner_ids,
    )
    world.repositories[repo.id] = repo
    if installed:
        installation_for(world, owner).repository_ids.add(repo.id)
    return repo


def installation_for(world: World, account: User) -> Installation:
    """The App's installation on an account; made when there is none."""
    return installed_on(world, account) or new_installation(world, account, [])


async def start(options: SimulatorOptions) -> Running:
    """Serves in the present event loop. Raises OSError when the port is taken, and as `add_repository` does."""
    world = await asyncio.to_thread(new_world, options.data)
    world.app_url = options.app_url
    for full_name, path in options.repos:
        await add_repository(world, full_name, Path(path), private=options.private)
    tokens = {}
    for login, _ in PEOPLE.values():
        user = world.user_by_login(login)
        assert user is not None
        tokens[login] = new_user_token(world, user).value
    listener = listen(options.host, options.port)
    world.base_url = f"http://{options.host}:{listener.getsockname()[1]}"
    other = listen(options.host, 0)
    world.logs_url = f"http://{options.host}:{other.getsockname()[1]}"
    simulator = create(world)
    config = uvicorn.Config(
        simulator,
        http="h11",
        loop="asyncio",
        lifespan="off",
        log_config=None,  # how logs look is the process's to say
        log_level="error",
        access_log=False,
        server_header=False,
        date_header=False,  # the world's own clock is told
        timeout_graceful_shutdown=5,
    )
    server = _Server(config)
    task = asyncio.get_running_loop().create_task(server.serve(sockets=[listener, other]))
    deadline = time.monotonic() + 10
    while not server.started:
        if task.done() or time.monotonic() > deadline:
            raise OSError("the simulator's server did not start")
        await asyncio.sleep(0.005)
    return Running(world, simulator, world.base_url, tokens, server, task)


@contextlib.asynccontextmanager
async def running(
    data: Path, repos: Mapping[str, Path], *, app_url: str | None = None, private: bool = True
) -> AsyncIterator[Running]:
    """`async with running(tmp_path, {"octo/sample": folder}) as sim:` serves a simulator for the length of the block."""
    sim = await start(
        SimulatorOptions(data=data, repos=list(repos.items()), app_url=app_url, private=private)
    )
    try:
        yield sim
    finally:
        await sim.stop()
