"""The demonstration, as somebody runs it who has just cloned the repository: no network, no key, no settings, no root."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from app.demo import _port

ROOT = Path(__file__).parents[2]
NOBODY = 65534


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder that another user may write to, which pytest's own are not."""
    folder = Path(tempfile.mkdtemp(prefix="magicode-home-"))
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def demo(home: Path, *, path: str, **how: Any) -> dict[str, Any]:
    command = [sys.executable, "-m", "app.cli", "demo", "--json"]
    environ = {"PATH": path, "HOME": str(home), "LANG": "C.UTF-8", "TMPDIR": str(home)}
    running = subprocess.Popen(
        command,
        env=environ,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **how,
    )
    try:
        out, err = running.communicate(timeout=600)
    except BaseException:
        end_all(running.pid, home)
        running.wait()
        raise
    assert running.returncode == 0, err[-4000:]
    told: dict[str, Any] = json.loads(out)
    return told


def end_all(session: int, home: Path) -> None:
    """The demonstration and the service that it started, and the PostgreSQL, which has a session of its own."""
    with suppress(ProcessLookupError):
        os.killpg(session, signal.SIGKILL)
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if Path(process.cwd()).is_relative_to(home):
                process.kill()


def can_be_run(**how: Any) -> bool:
    command = [sys.executable, "-c", "import app.cli"]
    try:
        return not subprocess.run(command, cwd=ROOT, check=False, capture_output=True, **how).returncode
    except PermissionError:
        return False


def details(told: dict[str, Any], action: str) -> list[dict[str, Any]]:
    return [one["details"] for one in told["actions"] if one["action"] == action]


@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_demonstration_needs_no_root_and_shows_that_checks_ran_and_a_second_look(home: Path) -> None:
    other: dict[str, Any] = {}
    if os.geteuid() == 0:
        other = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
        if not can_be_run(**other):
            pytest.skip("another user cannot read this checkout or its interpreter")
    told = demo(home, path=os.environ["PATH"], **other)
    assert told["run"]["state"] == "opened"
    (checks,) = details(told, "checks.run")
    assert (checks["commands"], checks["passed"]) == (1, 1)
    assert details(told, "second_look.taken") == [{"verdict": True, "problems": 0}]
    body = told["pull_request"]["body"]
    assert "| `python3 -m unittest` | passed |" in body
    assert "A second look, by a model" in body


@pytest.mark.long
@pytest.mark.timeout(900)
def test_without_a_sandbox_the_demonstration_says_that_no_check_was_run(home: Path) -> None:
    tools = home / "bin"
    tools.mkdir()
    git = shutil.which("git")
    assert git is not None
    (tools / "git").symlink_to(git)
    told = demo(home, path=str(tools))
    assert told["run"]["state"] == "opened"
    assert [one["commands"] for one in details(told, "checks.run")] == [0]
    body = told["pull_request"]["body"]
    assert "Checks were not run, because bubblewrap is not installed" in body
    assert "passed" not in body


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere two sockets may not be bound to one port")
def test_nobody_else_is_given_the_port_before_the_service_listens_there() -> None:
    with _port() as port:
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", port))
        with (
            socket.create_server(("127.0.0.1", port)) as service,
            socket.create_connection(("127.0.0.1", port)),
        ):
            service.accept()[0].close()
