"""A simulated GitHub with one small repository, clients whose every answer is held to GitHub's schemas, and its webhooks."""

from __future__ import annotations

import base64
import importlib.util
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

from infra.simulator.auth import new_installation_token
from infra.simulator.serve import Running, running
from infra.simulator.state import Repo, World

FULL_NAME = "octo/sample"
HERE = f"/repos/{FULL_NAME}"


@pytest.fixture(scope="session")
def schemas() -> ModuleType:
    """The module `schemas.py` beside this file."""
    spec = importlib.util.spec_from_file_location("simulator_schemas", Path(__file__).with_name("schemas.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass
class Hub:
    """The simulator and its callers. `seen` gathers (method, template, status) of every checked answer."""

    running: Running
    schemas: ModuleType
    seen: set[tuple[str, str, int]] = field(default_factory=set)
    _clients: dict[str, httpx.AsyncClient] = field(default_factory=dict)

    @property
    def world(self) -> World:
        return self.running.world

    @property
    def repo(self) -> Repo:
        found = self.world.repository(FULL_NAME)
        assert found is not None
        return found

    def as_user(self, login: str | None) -> httpx.AsyncClient:
        key = login or "nobody"
        if key not in self._clients:
            self._clients[key] = self.checked(self.running.client(login))
        return self._clients[key]

    def as_token(self, token: str) -> httpx.AsyncClient:
        return self.checked(self.running.client(token=token))

    def as_app(self) -> httpx.AsyncClient:
        return self.checked(self.running.app_client())

    @property
    def ada(self) -> httpx.AsyncClient:
        return self.as_user("ada")

    @property
    def wim(self) -> httpx.AsyncClient:
        return self.as_user("wim")

    @property
    def rita(self) -> httpx.AsyncClient:
        return self.as_user("rita")

    @property
    def bot(self) -> httpx.AsyncClient:
        """An installation token with all that the App was granted."""
        if "bot" not in self._clients:
            self._clients["bot"] = self.installation(dict(self.world.app.permissions))
        return self._clients["bot"]

    def installation(self, permissions: Mapping[str, str]) -> httpx.AsyncClient:
        """A client with an installation token that has these permissions and no others."""
        installation = self.world.installations[self.running.installation_id]
        token = new_installation_token(self.world, installation, dict(permissions), None)
        return self.as_token(token.value)

    def checked(self, client: httpx.AsyncClient) -> httpx.AsyncClient:
        client.event_hooks = {"response": [self._check]}
        return client

    async def _check(self, response: httpx.Response) -> None:
        await response.aread()
        marked = response.headers.get("x-github-request-id")
        record = next((one for one in self.world.requests if one.id == marked), None)
        if record is None or record.route is None:
            return
        self.seen.add((record.method, record.route, response.status_code))
        if response.status_code in (301, 302, 304, 307, 401, 429):  # answered alike on every route
            return
        kind = response.headers.get("content-type", "")
        if (
            record.route == "/graphql"
            or record.route.startswith(("/_", "/login/"))
            or (response.content and "json" not in kind)
        ):
            return
        body = response.json() if response.content else None
        self.schemas.check_answer(record.method, record.route, response.status_code, body)

    def hooks(self, event: str, action: str | None = None) -> list[Any]:
        """The bodies of the webhooks sent so far, oldest first."""
        sent = (one for one in self.world.deliveries if one.event == event and not one.redelivery)
        return [json.loads(one.body) for one in sent if action in (None, one.action)]

    def check_hooks(self) -> set[str]:
        """Holds every webhook to the schemas; returns the kinds that were sent."""
        kinds = set()
        for one in self.world.deliveries:
            self.schemas.check_webhook(one.event, json.loads(one.body))
            kinds.add(one.event if one.action is None else f"{one.event}.{one.action}")
        return kinds

    async def branch(self, name: str, files: Mapping[str, str], *, start: str = "main") -> str:
        """Commits files to a branch as wim, making the branch where there is none. Returns its head."""
        if await self.repo.git.branch(name) is None:
            sha = await self.repo.git.branch(start)
            made = await self.wim.post(f"{HERE}/git/refs", json={"ref": f"refs/heads/{name}", "sha": sha})
            assert made.status_code == 201, made.text
        for path, text in files.items():
            body = {
                "message": f"Change {path}",
                "branch": name,
                "content": base64.b64encode(text.encode()).decode(),
            }
            present = await self.wim.get(f"{HERE}/contents/{path}", params={"ref": name})
            if present.status_code == 200:
                body["sha"] = present.json()["sha"]
            put = await self.wim.put(f"{HERE}/contents/{path}", json=body)
            assert put.status_code in (200, 201), put.text
        head = await self.repo.git.branch(name)
        assert head is not None
        return head

    async def issue(self, **fields: Any) -> int:
        made = await self.ada.post(f"{HERE}/issues", json={"title": "It breaks", "body": "See.", **fields})
        assert made.status_code == 201, made.text
        return int(made.json()["number"])

    async def pull(
        self, head: str = "topic", *, files: Mapping[str, str] | None = None, **fields: Any
    ) -> int:
        """A branch of wim's with a change, and his pull request from it."""
        await self.branch(head, files or {"calc.py": CALC.replace("a - b", "a + b")})
        sent = {"title": "Add up", "head": head, "base": "main", "body": "", **fields}
        made = await self.wim.post(f"{HERE}/pulls", json=sent)
        assert made.status_code == 201, made.text
        return int(made.json()["number"])


CALC = "def add(a, b):\n    return a - b\n\n\ndef twice(a):\n    return a * 2\n"


@pytest.fixture
async def hub(tmp_path: Path, schemas: ModuleType) -> AsyncIterator[Hub]:
    """A private repository `octo/sample`; at the end all webhooks are held to GitHub's schemas."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "calc.py").write_text(CALC)
    (source / "README.md").write_text("# Sample\n")
    async with running(tmp_path / "data", {FULL_NAME: source}) as sim:
        made = Hub(sim, schemas)
        yield made
        made.check_hooks()
