"""A simulated GitHub with one small repository, and the App's adapter pointed at it."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from infra.github.app import GitHubApp
from infra.simulator.serve import Running, running
from tests.watching import Heard

FILES = {
    "README.md": b"# Sample\n",
    "src/total.py": b"def total(items):\n    return sum(items[:-1])\n",
    "src/deep/er/note.txt": b"caf\xe9 \xff\n",
    "run.sh": b"#!/bin/sh\n",
}


@dataclass
class Desk:
    """The simulator, the adapter, and what the adapter says that it asked."""

    sim: Running
    app: GitHubApp
    people: httpx.AsyncClient
    requests: list[tuple[str, str, int]] = field(default_factory=list)

    @property
    def installation(self) -> int:
        return self.sim.installation_id

    @property
    def repository_id(self) -> int:
        return next(iter(self.sim.world.repositories))

    def reader(self) -> Any:
        return self.app.reader(self.installation, self.repository_id)

    def writer(self, **permissions: str) -> Any:
        asked = permissions or {"contents": "write", "pull_requests": "write", "issues": "write"}
        return self.app.writer(self.installation, self.repository_id, asked)

    def fault(self, **fields: Any) -> None:
        self.sim.simulator.faults.add(fields)

    async def by_hand(self, method: str, path: str, **body: Any) -> Any:
        answer = await self.people.request(method, f"/repos/octo/sample{path}", json=body or None)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    async def issue(self, title: str = "Total is wrong") -> int:
        return int((await self.by_hand("POST", "/issues", title=title, body="It is."))["number"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "sample"
    for name, content in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    (root / "run.sh").chmod(0o755)
    (root / "link").symlink_to("README.md")
    for command in (
        ["init", "-q", "-b", "main"],
        ["add", "-A"],
        ["-c", "user.name=Ada", "-c", "user.email=ada@example.com", "commit", "-q", "-m", "First"],
    ):
        subprocess.run(["git", "-C", str(root), *command], check=True)
    return root


@pytest.fixture
async def desk(tmp_path: Path, folder: Path) -> AsyncIterator[Desk]:
    async with running(tmp_path / "data", {"octo/sample": folder}) as sim:
        requests: list[tuple[str, str, int]] = []
        app = GitHubApp(
            app_id=sim.world.app.id,
            private_key=sim.world.app.private_key_pem,
            api_url=sim.base_url,
            write_interval_seconds=0,
            retry_base_seconds=0.01,
            watch=Heard(requests),
        )
        yield Desk(sim, app, sim.client("ada"), requests)
        await app.aclose()
