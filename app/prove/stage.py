"""The stage of the proof: the real service as a process of its own, with folders of its own, that can be killed.

It is told to log all it can, libraries' own debugging switched on, and may leave cores of any size behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import resource
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from starlette.responses import Response

import app
from app import settings
from app.errors import MagicodeError
from app.nouns import Run
from app.wiring import Records, open_records
from app.workspace.storage import find_root
from infra.models.playbook import PLAYBOOK_MODEL, Playbook
from infra.simulator.collector import Collector, collecting
from infra.simulator.model.serve import environment
from infra.simulator.model.serve import running as running_model
from infra.simulator.serve import Running
from infra.simulator.serve import running as running_github
from infra.simulator.state import RequestRecord
from infra.traces import ENDPOINT

TALKATIVE = {
    "MAGICODE_LOG_LEVEL": "DEBUG",
    "ANTHROPIC_LOG": "debug",
    "OPENAI_LOG": "debug",
    "PYTHONFAULTHANDLER": "1",
    "PYTHONWARNINGS": "default",
}
"""All that can make the service and its libraries say more."""

_HANDED_ON = ("PATH", "LANG", "LC_ALL", "TZ")

MOST_WARNINGS = 40
_WARNS = re.compile(r"\S+ (?:WARNING|ERROR|CRITICAL) ")


class ProofError(MagicodeError):
    """The proof could not be played to its end, so it proves nothing."""


@dataclass(frozen=True, slots=True)
class Folders:
    """Where the service may write. `github` is the other side's, and is not searched; `memory` is for workspaces."""

    home: Path
    data: Path
    temporary: Path
    working: Path
    user: Path
    log: Path
    github: Path
    memory: Path

    @classmethod
    @contextlib.contextmanager
    def made(cls) -> Iterator[Folders]:
        """Gone with all that is in them when the block ends."""
        with contextlib.ExitStack() as stack:
            home = Path(
                stack.enter_context(
                    tempfile.TemporaryDirectory(prefix="magicode-prove-", ignore_cleanup_errors=True)
                )
            )
            root = find_root().path
            memory = Path(
                stack.enter_context(
                    tempfile.TemporaryDirectory(
                        prefix="magicode-prove-", dir=root, ignore_cleanup_errors=True
                    )
                )
            )
            made = cls(
                home=home,
                data=home / "data",
                temporary=home / "tmp",
                working=home / "cwd",
                user=home / "home",
                log=home / "log",
                github=home / "github",
                memory=memory,
            )
            for path in (made.data, made.temporary, made.working, made.user, made.log, made.github):
                path.mkdir()
            yield made


FIGURES = "what-shows-figures"
"""The token for them."""


@dataclass
class Stage:
    """The simulated GitHub and model, the service beside them, and the records as an operator can read them."""

    github: Running
    model_url: str
    folders: Folders
    records: Records
    environ: Mapping[str, str]
    repository: str
    collector: Collector
    process: asyncio.subprocess.Process | None = None
    answered: list[str] = field(default_factory=list)
    """What GitHub's interface answered the service, as text."""
    started: int = 0
    signalled: list[str] = field(default_factory=list)

    # --- the service -------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """`magicode serve`. Raises ProofError when it is not ready within two minutes."""
        self.started += 1
        log = self.folders.log / f"service-{self.started}.log"
        with log.open("wb") as written:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "app.cli",
                "serve",
                env=dict(self.environ),
                cwd=self.folders.working,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=written,
                stderr=written,
                preexec_fn=cores_allowed,
            )
        async with httpx.AsyncClient(trust_env=False) as client:
            for _ in range(1200):
                if self.process.returncode is not None:
                    raise ProofError(
                        "The service of the proof did not start.", reason="service_did_not_start"
                    )
                with contextlib.suppress(httpx.TransportError):
                    url = f"http://127.0.0.1:{self.environ['MAGICODE_PORT']}/readyz"
                    if (await client.get(url)).status_code == 200:
                        return
                await asyncio.sleep(0.1)
        raise ProofError("The service of the proof was not ready in time.", reason="service_not_ready")

    async def end(self, number: signal.Signals) -> None:
        """Sends the signal and waits until the process is gone."""
        if self.process is None or self.process.returncode is not None:
            return
        self.signalled.append(number.name)
        self.process.send_signal(number)
        try:
            await asyncio.wait_for(self.process.wait(), 45)
        except TimeoutError:
            self.process.kill()
            await self.process.wait()

    # --- what people do ----------------------------------------------------------------------------------------------

    async def call(
        self, method: str, path: str, *, user: str = "wim", repository: str = "", **body: Any
    ) -> Any:
        """GitHub's ordinary interface, as a person. Raises ProofError when it refuses."""
        client = self.github.client(user)
        url = f"/repos/{repository or self.repository}{path}"
        answer = await client.request(method, url, json=body if method != "GET" else None)
        if not answer.is_success:
            raise ProofError(
                f"The simulated GitHub answered {method} with {answer.status_code}.",
                reason="simulator_refused",
            )
        return answer.json() if answer.content else None

    async def ask(
        self, title: str, body: str, comment: str, *, repository: str = "", labels: Sequence[str] = ()
    ) -> int:
        """An issue and a comment on it; the issue's number."""
        issue = await self.call(
            "POST", "/issues", repository=repository, title=title, body=body, labels=list(labels)
        )
        number = int(issue["number"])
        await self.comment(number, comment, repository=repository)
        return number

    async def comment(self, number: int, text: str, *, user: str = "wim", repository: str = "") -> None:
        await self.call("POST", f"/issues/{number}/comments", user=user, repository=repository, body=text)

    async def fault(self, **what: Any) -> None:
        async with httpx.AsyncClient(trust_env=False) as client:
            (await client.post(f"{self.github.base_url}/_simulator/faults", json=what)).raise_for_status()

    # --- what is seen ------------------------------------------------------------------------------------------------

    async def model_requests(self) -> list[dict[str, Any]]:
        async with httpx.AsyncClient(trust_env=False) as client:
            return list((await client.get(f"{self.model_url}/_simulator/requests")).json())

    async def runs(self, number: int | None = None, *, repository: str = "") -> list[Run]:
        """Oldest first; of one issue or pull request, or all."""
        about = self.github.world.repository(repository or self.repository)
        assert about is not None
        async with self.records.store.transaction(self.github.installation_id) as transaction:
            if number is None:
                found = await transaction.runs(limit=200)
            else:
                found = await transaction.runs(repository_id=about.id, number=number)
        return list(reversed(found))

    async def ended(
        self, number: int, count: int = 1, *, repository: str = "", within: float = 300
    ) -> list[Run]:
        """The runs of an issue or pull request once so many have ended. Raises ProofError that says what they were at; a machine
        that is busy with other things is not what is proven."""
        runs: list[Run] = []

        def told() -> str:
            return (
                ", ".join(f"{run.verb} {run.state.value} {run.reason or ''}".strip() for run in runs)
                or "none"
            )

        try:
            async with asyncio.timeout(within):
                while sum(run.state.ended for run in runs) < count:
                    await asyncio.sleep(0.2)
                    runs = await self.runs(number, repository=repository)
        except TimeoutError:
            raise ProofError(f"Of {count} runs: {told()}.", reason="runs_did_not_end") from None
        return runs

    def warned(self) -> list[str]:
        """The last lines that the service logged as warnings or worse, over all its lives."""
        logs = sorted(self.folders.log.glob("service-*.log"), key=lambda one: one.stat().st_mtime_ns)
        lines = [line for one in logs for line in one.read_text("utf-8", "replace").splitlines()]
        return [line for line in lines if _WARNS.match(line)][-MOST_WARNINGS:]

    async def until(self, true: Callable[[], Awaitable[bool]], what: str, within: float = 90) -> None:
        """Raises ProofError that names what did not happen."""
        try:
            async with asyncio.timeout(within):
                while not await true():  # noqa: ASYNC110 what is waited for is seen from outside alone
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise ProofError(f"In vain was waited for {what}.", reason="waited_in_vain") from None

    async def asked_about(self, word: str) -> bool:
        """Whether the model was sent this."""
        return any(word in one["raw"] for one in await self.model_requests())


def cores_allowed() -> None:
    """For a child before it becomes another program: as large a core as the machine lets it leave."""
    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (most, most))


@contextlib.asynccontextmanager
async def staged(
    folders: Folders, repositories: Mapping[str, Path], playbook: Playbook
) -> AsyncIterator[Stage]:
    """All but the service, which the scenarios start and end. At the end of the block it is ended."""
    async with contextlib.AsyncExitStack() as stack:
        github = await stack.enter_async_context(running_github(folders.github, repositories))
        model_url = await stack.enter_async_context(running_model(playbook))
        collector = await stack.enter_async_context(collecting(folders.log / "traces"))
        world, port = github.world, _free_port()
        service = {
            **{name: value for name, value in os.environ.items() if _kept(name)},
            **environment(model_url),
            **TALKATIVE,
            "PYTHONPATH": os.pathsep.join(_code()),
            "HOME": str(folders.user),
            "TMPDIR": str(folders.temporary),
            "MAGICODE_GITHUB_API_URL": github.base_url,
            "MAGICODE_GITHUB_WEB_URL": github.base_url,
            "MAGICODE_APP_ID": str(world.app.id),
            "MAGICODE_PRIVATE_KEY": world.app.private_key_pem,
            "MAGICODE_WEBHOOK_SECRET": world.app.webhook_secret,
            "MAGICODE_DATA_DIR": str(folders.data),
            "MAGICODE_WORKSPACE_DIR": str(folders.memory),
            "MAGICODE_MODEL": f"anthropic:{PLAYBOOK_MODEL}",
            "MAGICODE_CONCURRENCY": "4",
            "MAGICODE_WRITE_INTERVAL_SECONDS": "0",
            "MAGICODE_READY_AFTER_SECONDS": "0",
            "MAGICODE_PORT": str(port),
            "MAGICODE_METRICS_TOKEN": FIGURES,
            ENDPOINT: collector.url,
        }
        records = await stack.enter_async_context(open_records(settings.read(_ours(service))))
        stage = Stage(github, model_url, folders, records, service, next(iter(repositories)), collector)

        def remember(record: RequestRecord, response: Response) -> None:
            if record.caller in ("app", "installation", "anonymous"):
                stage.answered.append(bytes(getattr(response, "body", b"")).decode("utf-8", "replace"))

        github.simulator.observers.append(remember)
        # So many requests at once would be held back for a minute.
        world.limits.content_per_minute = world.limits.content_per_hour = world.limits.points_per_minute = (
            100_000
        )
        world.app_url = f"http://127.0.0.1:{port}/webhooks/github"
        try:
            yield stage
        finally:
            world.app_url = None
            await stage.end(signal.SIGTERM)


def _ours(environ: Mapping[str, str]) -> Mapping[str, str]:
    return {name: value for name, value in environ.items() if name.startswith(settings.PREFIX)}


def _kept(name: str) -> bool:
    return name in _HANDED_ON or name.startswith(f"{settings.PREFIX}SANDBOX")


def _code() -> list[str]:
    """Where this program's own code lies, since the service works in a folder of its own."""
    return [str(Path(next(iter(app.__path__))).parent)]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
