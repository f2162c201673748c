"""A served simulator whose every answer and webhook, whoever asked, is held to GitHub's own schemas."""

from __future__ import annotations

import json
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import ModuleType

import pytest
from starlette.responses import Response

from infra.simulator.serve import Running, running
from infra.simulator.state import RequestRecord


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    """A plain folder with the files that are easily spoilt: modes, links, line endings, bytes, names."""
    folder = tmp_path / "sample"
    (folder / "src" / "deep").mkdir(parents=True)
    (folder / "README.md").write_bytes(b"# Sample\n")
    (folder / "src" / "code.py").write_bytes(b"def one():\n    return 2\n")
    (folder / "src" / "deep" / "windows.txt").write_bytes(b"a\r\nb\r\nno end")
    (folder / "src" / "bytes.bin").write_bytes(bytes(range(256)))
    (folder / "src" / "\u00fcn\u00efcode \u65e5\u672c.txt").write_bytes(b"\xff\xfe latin\n")
    (folder / ".gitattributes").write_bytes(b"*.txt text eol=lf\n")
    (folder / ".gitignore").write_bytes(b"*.bin\n")
    run = folder / "run.sh"
    run.write_bytes(b"#!/bin/sh\n")
    run.chmod(0o755)
    (folder / "link").symlink_to("src/code.py")
    return folder


@pytest.fixture
async def sim(tmp_path: Path, sample: Path, schemas: ModuleType) -> AsyncIterator[Running]:
    """`octo/sample` and `octo/second`, both private; what went out is checked when the test ends."""
    second = tmp_path / "second"
    second.mkdir()
    (second / "a.txt").write_text("a\n")
    wrong: list[str] = []

    def look(record: RequestRecord, answered: Response) -> None:
        body = getattr(answered, "body", b"")
        is_json = "application/json" in answered.headers.get("content-type", "")
        if record.route is None or not schemas.is_documented(record.method, record.route):
            return
        if not (is_json or not body) or answered.status_code in (302, 304) or record.fault is not None:
            return
        told = json.loads(body) if body else None
        try:
            if answered.status_code >= 300:  # some routes' own schemas for refusals contradict themselves
                schemas.check_component("basic-error", told)
            elif (
                record.route == "/app/installations"
            ):  # its own schema asks of an account to be two things at once
                for one in told:
                    schemas.check_component("installation", one)
            else:
                schemas.check_answer(record.method, record.route, answered.status_code, told)
        except AssertionError as problem:
            wrong.append(str(problem))

    async with running(tmp_path / "data", {"octo/sample": sample, "octo/second": second}) as served:
        served.simulator.observers.append(look)
        yield served
        await served.world.settled()
        for delivery in served.world.deliveries:
            try:
                schemas.check_webhook(delivery.event, json.loads(delivery.body))
            except AssertionError as problem:
                wrong.append(str(problem))
    assert not wrong, "\n".join(dict.fromkeys(wrong))


@pytest.fixture
def git() -> Callable[..., str]:
    """Runs git in a folder, as a user would."""

    def run(folder: Path, *arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, check=True, text=True
        )
        return done.stdout.strip()

    return run
