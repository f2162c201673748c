"""The image without an engine: installed as the Dockerfile says, then run in a root file system that is laid out as the image is,
read-only, by the user and with the settings that the image and the composition give. A comment becomes a pull request there."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg
import pytest

from app.demo import COMMENT, ISSUE_BODY, ISSUE_TITLE, _port
from infra.embedded.postgres import SERVICE_ROLE, SUPERUSER
from tests.app.test_cli import NAME, SIMULATOR, started
from tests.infra.container.described import (
    ROOM,
    ROOT,
    SERVICES,
    goes_to_the_build,
    image_environ,
    service_environ,
)
from tests.lengths import Lengths
from tests.qdrant_server import running

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(shutil.which("bwrap") is None, reason="there is no bubblewrap here"),
]

USER = SERVICES["web"]["user"].partition(":")[0]
STOPS_WITHIN = 40.0  # the composition's stop_grace_period
_KEPT = ("PIP_", "SSL_CERT", "REQUESTS_")  # where pip finds packages here
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def installed(lengths: Lengths) -> Iterator[Path]:
    """What the Dockerfile's first stage makes, out of what goes to the build alone: at length by its own steps in an environment
    with nothing in it, which takes minutes; otherwise our wheel alone, over what this checkout's environment holds of others."""
    folder = Path(tempfile.mkdtemp(prefix="magicode-image-"))
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True
        ).stdout.decode()
        for path in filter(goes_to_the_build, filter(None, listed.split("\0"))):
            (folder / "source" / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / path, folder / "source" / path)
        yield lengths.choose(suite=_wheel_alone, prove=_by_its_steps)(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _bare() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith(_KEPT)}


def _by_its_steps(folder: Path) -> Path:
    made = folder / "magicode"
    subprocess.run([sys.executable, "-m", "venv", made], env=_bare(), check=True)
    done = subprocess.run(
        [folder / "source/infra/container/install", made, "infra/container/runtime.lock"],
        env={**_bare(), "PATH": os.defpath, "HOME": str(folder)},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if "No matching distribution" in done.stderr:
        pytest.skip("no package index is reached from here")
    assert done.returncode == 0, done.stderr
    subprocess.run(
        [made / "bin/python", "-m", "pip", "--quiet", "uninstall", "--yes", "pip"], env=_bare(), check=True
    )
    return made


def _wheel_alone(folder: Path) -> Path:
    made = folder / "magicode"
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", made], env=_bare(), check=True)
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, folder / "source"]
    subprocess.run(build, env=_bare(), check=True)
    (wheel,) = folder.glob("magicode-*.whl")
    take = [*pip, "--python", made / "bin/python", "install", "--no-deps", "--no-index", wheel]
    subprocess.run(take, env=_bare(), check=True)
    (others,) = made.glob("lib/python3.*/site-packages")
    # A path alone: the .pth file that leads to this checkout is not read there.
    (others / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return made


@dataclass(frozen=True)
class Box:
    """A container, as far as the kernel makes one for whoever is not root."""

    installed: Path
    data: Path
    secrets: Path

    def command(self, environ: Mapping[str, str], *arguments: str) -> list[str]:
        """Nothing of this checkout is in it. Files in memory and the data's folder are what can be written."""
        base = Path(sys.base_prefix)
        seen = [Path("/usr"), Path("/etc"), Path("/sys"), self.installed, Path(sys.prefix)]
        if not base.is_relative_to("/usr"):
            seen.append(base)
        found = [
            "bwrap",
            "--unshare-user",
            "--unshare-pid",
            "--as-pid-1",
            "--die-with-parent",
            "--cap-drop",
            "ALL",
        ]
        found += ["--uid", USER, "--gid", USER, "--clearenv", "--tmpfs", "/tmp"]
        for path in seen:
            found += ["--ro-bind", str(path), str(path)]
        for name in ("bin", "sbin", "lib", "lib64"):
            found += ["--symlink", f"usr/{name}", f"/{name}"]
        found += [
            "--dir",
            "/opt",
            "--symlink",
            str(self.installed),
            "/opt/magicode",
            "--proc",
            "/proc",
            "--dev",
            "/dev",
        ]
        found += ["--perms", "0700", "--tmpfs", "/workspace", "--bind", str(self.data), "/var/lib/magicode"]
        for secret in sorted(self.secrets.iterdir()):
            found += ["--ro-bind", str(secret), f"/run/secrets/{secret.name}"]
        found += ["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/var/lib/magicode"]
        for name, value in {**image_environ(), **environ}.items():
            found += ["--setenv", name, value]
        return [*found, "--", *arguments]

    def run(self, environ: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(environ, *arguments), capture_output=True, text=True, check=False, timeout=300
        )


@dataclass
class Container:
    """A process that goes on in a box."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def first(self) -> psutil.Process:
        """The box's process 1: what an engine would signal."""
        (found,) = psutil.Process(self.process.pid).children()
        return found

    def holds(self, folder: str) -> set[str]:
        return {path.name for path in Path(f"/proc/{self.first.pid}/root{folder}").iterdir()}

    async def until(self, holds: Callable[[], Awaitable[bool]], within: float = 300.0) -> None:
        async with asyncio.timeout(within):
            while not await holds():
                assert self.process.poll() is None, self.log.read_text()
                await asyncio.sleep(0.2)

    async def stopped(self) -> int:
        """Told by SIGTERM; its exit status."""
        self.first.send_signal(signal.SIGTERM)
        return await asyncio.to_thread(self.process.wait, STOPS_WITHIN)


@contextmanager
def container(box: Box, log: Path, environ: Mapping[str, str], *arguments: str) -> Iterator[Container]:
    with log.open("wb") as said:
        process = subprocess.Popen(box.command(environ, *arguments), stdout=said, stderr=said)
    try:
        yield Container(process, log)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


@pytest.fixture
def box(installed: Path) -> Iterator[Box]:
    folder = Path(tempfile.mkdtemp(prefix="magicode-box-"))
    (folder / "data").mkdir(mode=0o700)
    (folder / "secrets").mkdir()
    yield Box(installed, folder / "data", folder / "secrets")
    shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def by_tcp(address: str) -> AsyncIterator[int]:
    """A port of the PostgreSQL that listens on a socket in a folder which no container sees."""
    socket = Path(str(psycopg.conninfo.conninfo_to_dict(address)["host"])) / ".s.PGSQL.5432"

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with_server = await asyncio.open_unix_connection(str(socket))
        await asyncio.gather(_copied(reader, with_server[1]), _copied(with_server[0], writer))

    server = await asyncio.start_server(carry, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def _copied(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while piece := await reader.read(1 << 16):
            writer.write(piece)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


WRITES = """
import json, os, sys
def can(folder):
    path = os.path.join(folder, "probe")
    try:
        with open(path, "w"):
            pass
        os.unlink(path)
    except OSError:
        return False
    return True
print(json.dumps({"uid": os.getuid(), "writes": [one for one in sys.argv[1:] if can(one)]}))
"""


def test_nothing_can_be_written_but_what_is_said(box: Box) -> None:
    """The box is one: what the next test shows is shown in it."""
    places = [
        "/",
        "/opt",
        "/opt/magicode",
        "/opt/magicode/lib",
        "/usr",
        "/usr/local",
        "/etc",
        "/run",
        "/run/secrets",
        "/dev",
        "/var",
        "/home",
    ]
    allowed = ["/tmp", "/workspace", "/var/lib/magicode"]
    done = box.run({}, "python", "-c", WRITES, *places, *allowed)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"uid": int(USER), "writes": allowed}


LOOKS = """
import importlib.util, json, os, pathlib
import app, embeddings
found = [one for one in ("tests", "infra.container", "embeddings.training", "pip", "pytest", "mypy", "moto") if importlib.util.find_spec(one)]
model = pathlib.Path(embeddings.__file__).parent / "model" / "model.safetensors"
print(json.dumps({"where": app.__file__, "found": found, "model": os.path.getsize(model)}))
"""


def test_the_package_is_whole_and_nothing_else_is_there(box: Box, lengths: Lengths) -> None:
    done = box.run({}, "python", "-c", LOOKS)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["where"].startswith(("/opt/magicode/lib/", str(box.installed)))
    assert told["model"] == (ROOT / "embeddings/model/model.safetensors").stat().st_size
    tools = ["pip", "pytest", "mypy", "moto"]  # of this checkout's environment, where that lies below
    assert told["found"] == lengths.choose(suite=tools, prove=[])


@pytest.fixture
def ports() -> Iterator[Mapping[str, int]]:
    with _port() as web, _port() as worker:
        yield {"web": web, "worker": worker}


async def test_a_comment_becomes_a_pull_request_and_both_end_when_they_are_told_to(
    box: Box, postgres: Any, tmp_path: Path, ports: Mapping[str, int]
) -> None:
    name = f"image{next(_numbers)}"
    with psycopg.connect(postgres.url(SUPERUSER, "postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template0")
    sample = tmp_path / "sample"
    shutil.copytree(SIMULATOR / "sample", sample, ignore=shutil.ignore_patterns("__pycache__"))
    simulate = ["simulate", "--data", str(tmp_path / "github"), "--repo", f"{NAME}={sample}"]
    simulate += ["--app-url", f"http://127.0.0.1:{ports['web']}/webhooks/github"]
    simulate += ["--playbook", str(SIMULATOR / "sample.playbook.yml")]
    try:
        async with by_tcp(postgres.url(SUPERUSER, name)) as port, running() as qdrant:
            with started(tmp_path / "simulate", *simulate) as simulator:
                told = await asyncio.to_thread(simulator.document)
                address = f"127.0.0.1:{port}/{name}"
                keep(box.secrets / "migrate", {"DATABASE_OWNER_URL": f"postgresql://{SUPERUSER}@{address}"})
                keep(box.secrets / "magicode", app_secrets(told, f"postgresql://{SERVICE_ROLE}@{address}"))
                migrated = await asyncio.to_thread(
                    box.run, service_environ("migrate"), "magicode", "migrate", "--json"
                )
                assert migrated.returncode == 0, migrated.stderr
                assert json.loads(migrated.stdout)["before"] is None
                given = {
                    "MAGICODE_GITHUB_API_URL": told["base_url"],
                    "MAGICODE_GITHUB_WEB_URL": told["web_url"],
                    "MAGICODE_MODEL": f"anthropic:{told['model']['name']}",
                    "MAGICODE_READY_AFTER_SECONDS": "0",
                    "ANTHROPIC_BASE_URL": told["model"]["anthropic_base_url"],
                }
                environs = {
                    role: {
                        **service_environ(role),
                        **given,
                        "MAGICODE_QDRANT_URL": qdrant.url,
                        "MAGICODE_PORT" if role == "web" else "MAGICODE_WORKER_PORT": str(ports[role]),
                    }
                    for role in ports
                }
                environs["web"]["MAGICODE_TRUSTED_PROXIES"] = "127.0.0.1"
                with (
                    container(box, tmp_path / "web.log", environs["web"], "magicode", "serve") as web,
                    container(
                        box, tmp_path / "worker.log", environs["worker"], "magicode", "worker"
                    ) as worker,
                ):
                    await played(told, ports["web"], web, worker)
                    for one in (web, worker):
                        assert one.holds("/workspace") == set()
                        assert one.holds("/tmp") - {*box.installed.parts} == set()
                    assert await web.stopped() == 0, web.log.read_text()
                    assert await worker.stopped() == 0, worker.log.read_text()
    finally:
        with psycopg.connect(postgres.url(SUPERUSER, "postgres"), autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    assert {path.name for path in box.data.iterdir()} == {"master.key"}
    logs = web.log.read_text() + worker.log.read_text()
    assert "Traceback" not in logs, logs
    assert "Read-only" not in logs, logs


async def played(told: Mapping[str, Any], port: int, web: Container, worker: Container) -> None:
    """From a comment to the pull request that is ready for people."""
    token = {"Authorization": f"Bearer {told['users']['write']['token']}"}
    base = f"{told['base_url']}/repos/{NAME}"
    async with httpx.AsyncClient(trust_env=False, headers=token) as client:

        async def ready() -> bool:
            try:
                return (await client.get(f"http://127.0.0.1:{port}/readyz")).status_code == 200
            except httpx.TransportError:
                return False

        async def opened() -> bool:
            return any(one["draft"] is False for one in (await client.get(f"{base}/pulls")).json())

        await web.until(ready)
        alive = [sys.executable, ROOM / "alive"]
        looked = await asyncio.to_thread(subprocess.run, alive, env={"MAGICODE_PORT": str(port)}, check=False)
        assert looked.returncode == 0
        issue = await client.post(f"{base}/issues", json={"title": ISSUE_TITLE, "body": ISSUE_BODY})
        asked = await client.post(f"{base}/issues/{issue.json()['number']}/comments", json={"body": COMMENT})
        assert asked.status_code == 201
        await worker.until(opened)


def app_secrets(told: Mapping[str, Any], database: str) -> dict[str, str]:
    return {
        "DATABASE_URL": database,
        "APP_ID": str(told["app"]["id"]),
        "PRIVATE_KEY": told["app"]["private_key"].replace("\n", "\\n"),
        "WEBHOOK_SECRET": told["app"]["webhook_secret"],
        "ANTHROPIC_API_KEY": told["model"]["api_key"],
    }


def keep(path: Path, secrets: Mapping[str, str]) -> None:
    path.touch(mode=0o600)
    path.write_text("".join(f"{name}={value}\n" for name, value in secrets.items()))
