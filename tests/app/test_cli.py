"""The program itself: real processes, their standard streams, signals and exit codes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

import infra.simulator
from app.demo import COMMENT, ISSUE_BODY, ISSUE_TITLE, _port

SIMULATOR = Path(infra.simulator.__file__).parent
PROGRAM = [sys.executable, "-m", "app.cli"]
NAME = "octo/fairshare"
DROPPED = ("MAGICODE_", "ANTHROPIC_", "OPENAI_")


def environ(**given: str) -> dict[str, str]:
    bare = {name: value for name, value in os.environ.items() if not name.startswith(DROPPED)}
    return {**bare, "PYTHONPATH": str(SIMULATOR.parent.parent), **given}


def magicode(*arguments: str, **given: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PROGRAM, *arguments], env=environ(**given), capture_output=True, text=True, timeout=120, check=False
    )


@dataclass
class Program:
    """A `magicode` that runs until it is told to stop; what it says is in two files."""

    process: subprocess.Popen[bytes]
    out: Path
    err: Path

    def document(self) -> dict[str, Any]:
        """Its one JSON document, once it is whole."""
        deadline = time.monotonic() + 180
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.err.read_text()
            if self.out.read_text().endswith("\n}\n"):
                return dict(json.loads(self.out.read_text()))
            time.sleep(0.05)
        raise TimeoutError(self.err.read_text())

    def stop(self, how: signal.Signals = signal.SIGTERM, within: float = 60) -> float:
        """Seconds until it had ended by itself."""
        began = time.monotonic()
        self.process.send_signal(how)
        self.process.wait(within)
        return time.monotonic() - began


@contextmanager
def started(folder: Path, *arguments: str, **given: str) -> Iterator[Program]:
    folder.mkdir(parents=True, exist_ok=True)
    out, err = folder / "out.txt", folder / "err.txt"
    with out.open("wb") as told, err.open("wb") as logged:
        process = subprocess.Popen([*PROGRAM, *arguments], env=environ(**given), stdout=told, stderr=logged)
    try:
        yield Program(process, out, err)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    target = tmp_path / "fairshare"
    shutil.copytree(SIMULATOR / "sample", target, ignore=shutil.ignore_patterns("__pycache__"))
    return target


# --- simulate --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_simulate_says_how_to_talk_to_it_and_stops_when_told(
    tmp_path: Path, sample: Path, how: signal.Signals
) -> None:
    simulate = ["simulate", "--port", "0", "--data", str(tmp_path / "github"), "--repo", f"{NAME}={sample}"]
    script = ["--playbook", str(SIMULATOR / "sample.playbook.yml")]
    with started(tmp_path / "run", *simulate, "--app-url", "http://127.0.0.1:1/x", *script) as program:
        told = program.document()
        assert set(told) == {
            "base_url", "web_url", "app", "installation_id", "repositories", "users", "model",
        }  # fmt: skip
        assert {"id", "slug", "private_key", "webhook_secret", "client_id", "client_secret"} == set(
            told["app"]
        )
        assert set(told["users"]) == {"admin", "write", "read"}
        assert set(told["model"]) == {"anthropic_base_url", "openai_base_url", "api_key", "name"}
        answer = httpx.get(
            f"{told['base_url']}/repos/{NAME}",
            headers={"Authorization": f"Bearer {told['users']['read']['token']}"},
            trust_env=False,
            timeout=60,
        )
        assert answer.json()["full_name"] == NAME
        assert program.stop(how) < 60
    assert program.process.returncode == 0
    assert program.err.read_text() == ""


def test_simulate_without_a_playbook_has_no_model(tmp_path: Path, sample: Path) -> None:
    with started(
        tmp_path / "run", "simulate", "--data", str(tmp_path / "github"), "--repo", f"{NAME}={sample}"
    ) as program:
        assert "model" not in program.document()


def test_simulate_says_in_a_sentence_what_it_cannot_serve(tmp_path: Path, sample: Path) -> None:
    simulate = ["simulate", "--data", str(tmp_path / "github"), "--repo", f"{NAME}={sample}"]
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        refused = magicode(*simulate, "--port", str(taken.getsockname()[1]))
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "in use" in refused.stderr
    assert "Traceback" not in refused.stderr
    unplayable = tmp_path / "playbook.yml"
    unplayable.write_text("scenarios: 3\n")
    refused = magicode(*simulate, "--playbook", str(unplayable))
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "scenarios" in refused.stderr
    assert "Traceback" not in refused.stderr


# --- wrong use -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ["no-such-command"],
        ["serve", "--no-such-option"],
        ["simulate"],
        ["simulate", "--data", "x", "--repo", "no-equals-sign"],
        ["simulate", "--data", "x", "--repo", "octo/x=no-such-folder"],
        ["actions", "verify"],
        ["actions", "verify", "no-such-file"],
        ["actions", "export", "--installation", "seven"],
    ],
)
def test_wrong_use_is_2_and_a_sentence(arguments: list[str]) -> None:
    done = magicode(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", [["serve"], ["worker"], ["actions", "export"]])
def test_a_setting_that_is_none_refuses_to_start_and_says_so(command: list[str], tmp_path: Path) -> None:
    done = magicode(*command, MAGICODE_DATA_DIR=str(tmp_path / "data"), MAGICODE_WEBHOOK_SECERT="x")
    assert (done.returncode, done.stdout) == (2, "")
    assert "MAGICODE_WEBHOOK_SECERT" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "data").exists()


def test_a_bad_value_is_named_and_not_repeated(tmp_path: Path) -> None:
    done = magicode("serve", MAGICODE_DATA_DIR=str(tmp_path / "data"), MAGICODE_PORT="hunter2")
    assert done.returncode == 2
    assert "MAGICODE_PORT" in done.stderr
    assert "hunter2" not in done.stderr


NEEDED = {
    "MAGICODE_APP_ID": "1",
    "MAGICODE_PRIVATE_KEY": "",
    "MAGICODE_WEBHOOK_SECRET": "abc",
    "ANTHROPIC_API_KEY": "key",
}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"MAGICODE_APP_ID": ""}, "MAGICODE_APP_ID"),
        ({"MAGICODE_WEBHOOK_SECRET": ""}, "MAGICODE_WEBHOOK_SECRET"),
        ({"MAGICODE_WEBHOOK_SECRET": "  "}, "MAGICODE_WEBHOOK_SECRET"),
        ({}, "MAGICODE_PRIVATE_KEY"),
        ({"MAGICODE_PRIVATE_KEY_PATH": "no-such-file.pem"}, "no-such-file.pem"),
        ({"MAGICODE_PRIVATE_KEY": "-----BEGIN hunter2-----"}, "private key"),
        ({"ANTHROPIC_API_KEY": ""}, "ANTHROPIC_API_KEY"),
        ({"MAGICODE_MODEL": "openai:gpt"}, "OPENAI_API_KEY"),
        ({"MAGICODE_MODEL": "gpt"}, "MAGICODE_MODEL"),
    ],
)
def test_what_is_missing_is_said_before_anything_is_started(
    tmp_path: Path, changed: Mapping[str, str], said: str
) -> None:
    given = {**NEEDED, **changed, "MAGICODE_DATA_DIR": str(tmp_path / "data")}
    done = magicode("serve", **given)
    assert (done.returncode, done.stdout) == (1, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert "hunter2" not in done.stderr
    assert not (tmp_path / "data").exists()


# --- serve, and the log ----------------------------------------------------------------------------------------------


@dataclass
class Desk:
    """A simulated GitHub and model as programs, and what `magicode serve` needs to know of them."""

    told: dict[str, Any]
    port: int
    data: Path
    given: dict[str, str]
    folder: Path
    services: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @contextmanager
    def service(self) -> Iterator[Program]:
        self.services += 1
        with started(self.folder / f"service{self.services}", "serve", **self.given) as program:
            self.until(lambda: self.status("/readyz") == 200, program)
            yield program

    def status(self, path: str) -> int:
        try:
            return httpx.get(f"{self.url}{path}", trust_env=False, timeout=60).status_code
        except httpx.TransportError:
            return 0

    def github(self, method: str, path: str, **body: Any) -> Any:
        answer = httpx.request(
            method,
            f"{self.told['base_url']}/repos/{NAME}{path}",
            json=body or None,
            headers={"Authorization": f"Bearer {self.told['users']['write']['token']}"},
            trust_env=False,
            timeout=60,
        )
        answer.raise_for_status()
        return answer.json()

    @staticmethod
    def until(holds: Callable[[], bool], program: Program, within: float = 240) -> None:
        deadline = time.monotonic() + within
        while not holds():
            assert program.process.poll() is None, program.err.read_text()
            assert time.monotonic() < deadline, program.err.read_text()
            time.sleep(0.1)


@pytest.fixture
def port() -> Iterator[int]:
    with _port() as port:
        yield port


@pytest.fixture
def worker_port() -> Iterator[int]:
    with _port() as port:
        yield port


@pytest.fixture
def desk(tmp_path: Path, sample: Path, port: int) -> Iterator[Desk]:
    simulate = ["simulate", "--port", "0", "--data", str(tmp_path / "github"), "--repo", f"{NAME}={sample}"]
    simulate += ["--app-url", f"http://127.0.0.1:{port}/webhooks/github"]
    simulate += ["--playbook", str(SIMULATOR / "sample.playbook.yml")]
    with started(tmp_path / "simulate", *simulate) as program:
        told = program.document()
        (tmp_path / "app.pem").write_text(told["app"]["private_key"])
        given = {
            "MAGICODE_GITHUB_API_URL": told["base_url"],
            "MAGICODE_GITHUB_WEB_URL": told["web_url"],
            "MAGICODE_APP_ID": str(told["app"]["id"]),
            "MAGICODE_PRIVATE_KEY_PATH": str(tmp_path / "app.pem"),
            "MAGICODE_WEBHOOK_SECRET": told["app"]["webhook_secret"],
            "MAGICODE_DATA_DIR": str(tmp_path / "data"),
            "MAGICODE_PORT": str(port),
            "MAGICODE_MODEL": f"anthropic:{told['model']['name']}",
            "MAGICODE_READY_AFTER_SECONDS": "0",
            "MAGICODE_LOG_LEVEL": "DEBUG",
            "ANTHROPIC_BASE_URL": told["model"]["anthropic_base_url"],
            "ANTHROPIC_API_KEY": told["model"]["api_key"],
            "ANTHROPIC_LOG": "debug",  # the libraries' own ways to be made to log whole requests
            "OPENAI_LOG": "debug",
        }
        yield Desk(told, port, tmp_path / "data", given, tmp_path)


def left_running(data: Path) -> list[str]:
    """The command lines of processes that still use the folder."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = " ".join(process.info["cmdline"] or ())
        if str(data) in line:
            found.append(line)
    return found


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_comment_becomes_a_pull_request_and_the_log_can_be_taken_away(desk: Desk) -> None:
    with desk.service() as program:
        assert desk.status("/healthz") == 200
        number = desk.github("POST", "/issues", title=ISSUE_TITLE, body=ISSUE_BODY)["number"]
        desk.github("POST", f"/issues/{number}/comments", body=COMMENT)
        desk.until(
            lambda: any("ended" not in one and one["draft"] is False for one in desk.github("GET", "/pulls")),
            program,
        )
        installation = str(desk.told["installation_id"])
        during = magicode("actions", "export", "--installation", installation, "--json", **desk.given)
        assert during.returncode == 0, during.stderr
        assert "pull_request.opened" in {one["action"] for one in json.loads(during.stdout)["entries"]}
        assert program.stop(within=180) < 120
    assert program.process.returncode == 0
    assert program.out.read_text() == ""
    assert left_running(desk.data) == []
    assert not (desk.data / "postgres" / "postmaster.pid").exists()

    logged = program.err.read_text()
    for secret in (
        desk.told["app"]["webhook_secret"],
        desk.told["model"]["api_key"],
        *desk.told["app"]["private_key"].splitlines()[:3],
        "ghs_", "share, left_over", "share = total", "split_evenly", ISSUE_TITLE, COMMENT, NAME,
    ):  # fmt: skip
        assert secret not in logged
    assert "Traceback" not in logged

    # Without --installation, and with no more than the folder named.
    after = magicode("actions", "export", "--json", MAGICODE_DATA_DIR=str(desk.data))
    assert after.returncode == 0, after.stderr
    entries = json.loads(after.stdout)["entries"]
    assert [one["hash"] for one in json.loads(during.stdout)["entries"]] == [one["hash"] for one in entries][
        : len(json.loads(during.stdout)["entries"])
    ]
    assert left_running(desk.data) == []

    kept = desk.folder / "actions.json"
    kept.write_text(after.stdout)
    assert magicode("actions", "verify", str(kept)).returncode == 0
    kept.write_text(after.stdout.replace('"pull_request.opened"', '"pull_request.closed"'))
    edited = magicode("actions", "verify", str(kept), "--json")
    assert edited.returncode == 1
    assert json.loads(edited.stdout)["ok"] is False


@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_service_starts_again_on_the_folder_that_it_left_and_does_what_it_missed(desk: Desk) -> None:
    with desk.service() as program:
        assert program.stop(signal.SIGINT, within=180) < 120
    assert program.process.returncode == 0
    number = desk.github("POST", "/issues", title=ISSUE_TITLE, body=ISSUE_BODY)["number"]
    desk.github("POST", f"/issues/{number}/comments", body="@magicode help")
    with desk.service() as program:
        desk.until(lambda: bool(desk.github("GET", f"/issues/{number}/comments")[1:]), program)
        assert program.stop(within=180) < 120
    assert program.process.returncode == 0
    assert left_running(desk.data) == []


@pytest.mark.long
def test_a_port_that_is_taken_is_said_and_nothing_is_left_running(desk: Desk) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", desk.port))
        taken.listen()
        done = magicode("serve", **desk.given)
    assert done.returncode == 1
    assert "in use" in done.stderr
    assert "Traceback" not in done.stderr
    assert left_running(desk.data) == []


@pytest.mark.long
def test_which_log_is_asked_for_when_there_are_several(tmp_path: Path) -> None:
    done = magicode("actions", "export", MAGICODE_DATA_DIR=str(tmp_path / "data"))
    assert (done.returncode, done.stdout) == (2, "")
    assert "--installation" in done.stderr
    assert "none yet" in done.stderr


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_worker_says_how_it_is_where_it_is_told_to(desk: Desk, worker_port: int) -> None:
    port, token = worker_port, "what-shows-figures"
    given = {
        **desk.given,
        "MAGICODE_WORKER_PORT": str(port),
        "MAGICODE_METRICS_TOKEN": token,
        "MAGICODE_LOG_FORMAT": "json",
    }

    def get(path: str, **headers: str) -> int:
        try:
            url = f"http://127.0.0.1:{port}{path}"
            return httpx.get(url, headers=headers, trust_env=False, timeout=60).status_code
        except httpx.TransportError:
            return 0

    with started(desk.folder / "worker", "worker", **given) as program:
        desk.until(lambda: get("/readyz") == 200, program)
        assert get("/healthz") == 200
        assert (get("/metrics"), get("/metrics", authorization=f"Bearer {token}")) == (401, 200)
        assert (get("/"), get("/webhooks/github"), get("/api/installations")) == (404, 404, 404)
        assert program.stop(within=180) < 120
    assert program.process.returncode == 0
    assert [json.loads(line)["logger"] for line in program.err.read_text().splitlines()]
    with closing(socket.create_server(("127.0.0.1", port))):
        refused = magicode("worker", **given)
    assert refused.returncode == 1
    assert "MAGICODE_WORKER_PORT" in refused.stderr
