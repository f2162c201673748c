"""The Dockerfile and what goes with it: what a linter says, what goes in, who it runs as, and how it says that it is alive."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from app import settings
from tests.infra.container.described import (
    DOCKERFILE,
    LAST_STAGE,
    ROOM,
    ROOT,
    goes_to_the_build,
    image_environ,
)

HADOLINT = ROOT / ".cache" / "hadolint" / "bin" / "hadolint"
IGNORED = {
    "DL3008": "Debian's security updates replace a version, so one that is named cannot be had any more"
}


def linted(text: str, folder: Path) -> subprocess.CompletedProcess[str]:
    (folder / "Dockerfile").write_text(text)
    return subprocess.run(
        [HADOLINT, "--no-color", folder / "Dockerfile"], capture_output=True, text=True, check=False, env={}
    )


def test_the_linter_finds_nothing(tmp_path: Path) -> None:
    done = linted(DOCKERFILE, tmp_path)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_linter_is_not_blind(tmp_path: Path) -> None:
    unpinned = linted(
        DOCKERFILE.replace("@${PYTHON_DIGEST}", "", 1).replace(":3.11-slim-bookworm", "", 1), tmp_path
    )
    assert "DL3006" in unpinned.stdout
    assert "DL3008" in linted(re.sub(r"# hadolint ignore.*\n", "", DOCKERFILE), tmp_path).stdout


def test_each_rule_that_is_ignored_has_its_reason() -> None:
    assert set(re.findall(r"hadolint ignore=(\S+)", DOCKERFILE)) == IGNORED.keys()


def test_the_service_is_nobody_of_the_machines_and_is_told_to_stop_by_the_signal_that_it_knows() -> None:
    stage = LAST_STAGE
    assert re.findall(r"^USER (.*)$", stage, re.MULTILINE) == ["10001:10001"]
    assert " useradd --no-log-init --uid 10001 " in stage  # initdb refuses a user that has no name
    assert "\nSTOPSIGNAL SIGTERM\n" in stage
    assert '\nENTRYPOINT ["magicode"]\nCMD ["serve"]\n' in stage
    assert stage.index("USER ") < stage.index("ENTRYPOINT ")


def test_bubblewrap_is_all_that_it_takes_from_debian_and_the_package_is_installed_as_a_wheel() -> None:
    assert re.findall(r"apt-get install (.*) \\", DOCKERFILE) == ["--yes --no-install-recommends bubblewrap"]
    assert re.findall(r"^COPY (.*)$", LAST_STAGE, re.MULTILINE) == [
        "--from=built /opt/magicode /opt/magicode"
    ]
    assert "--editable" not in DOCKERFILE


def test_no_secret_is_an_argument_or_a_variable_of_the_image() -> None:
    declared = re.findall(r"^ARG (\w+)", DOCKERFILE, re.MULTILINE)
    assert set(declared) == {"PYTHON_DIGEST", "VERSION", "REVISION"}
    assert not re.search(r"^ARG \w+=", DOCKERFILE, re.MULTILINE)
    assert set(image_environ()) == {
        "PATH", "PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED", "HOME",
        "MAGICODE_DATA_DIR", "MAGICODE_WORKSPACE_DIR", "MAGICODE_HOST",
    }  # fmt: skip
    settings.read(image_environ())


# --- what goes to the build ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        ".git/config", ".venv/bin/python", ".cache/x", "tests/conftest.py", "build/proof/report.md", ".env",
        "infra/container/.env", "infra/container/secrets/magicode", "app/__pycache__/cli.cpython-311.pyc",
        "embeddings/training/train.py", "app.secrets", "master.key", "requirements.lock", "secrets.json",
    ],
)  # fmt: skip
def test_nothing_goes_to_the_build_that_is_no_part_of_the_package(path: str) -> None:
    assert not goes_to_the_build(path)


@pytest.mark.parametrize(
    "path",
    [
        "app/cli.py", "infra/migrations/versions/0001_tenants_and_runs.py", "embeddings/model/MODEL_CARD.md", "client/api.py",
        "webhooks/receive.py", "pyproject.toml", "README.md", "torch.lock", "infra/container/runtime.lock", "infra/container/install",
    ],
)  # fmt: skip
def test_what_the_package_is_made_of_goes_to_the_build(path: str) -> None:
    assert (ROOT / path).exists()
    assert goes_to_the_build(path)


# --- building --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "digest", ["", "latest", "sha256:", "sha256:" + "a" * 63, "sha512:" + "a" * 64, "sha256:" + "A" * 64]
)
def test_without_a_digest_nothing_is_built(digest: str, tmp_path: Path) -> None:
    called = tmp_path / "called"
    engine = tmp_path / "docker"
    engine.write_text(f"#!/bin/sh\ntouch {called}\n")
    engine.chmod(0o755)
    done = subprocess.run(
        [ROOM / "build"],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHON_DIGEST": digest},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "PYTHON_DIGEST" in done.stderr
    assert not called.exists()


def test_a_checkout_that_is_changed_is_not_built(tmp_path: Path) -> None:
    folder = tmp_path / "infra" / "container"
    folder.mkdir(parents=True)
    shutil.copy(ROOM / "build", folder)
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    done = subprocess.run(
        [folder / "build"],
        env={"PATH": os.environ["PATH"], "PYTHON_DIGEST": "sha256:" + "a" * 64},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, "not committed" in done.stderr) == (1, True)


def test_what_is_built_is_named_after_its_commit_and_its_debian_packages_go_to_the_sbom(
    tmp_path: Path,
) -> None:
    folder, programs, told = tmp_path / "checkout", tmp_path / "bin", tmp_path / "told"
    (folder / "infra" / "container").mkdir(parents=True)
    programs.mkdir()
    shutil.copy(ROOM / "build", folder / "infra" / "container")
    shutil.copy(ROOT / "pyproject.toml", folder)
    (folder / ".gitignore").write_text("build/\n")
    for name in ("docker", "make"):
        (programs / name).write_text(f"#!/bin/sh\nprintf '%s\\n' \"{name} $*\" >> {told}\n")
        (programs / name).chmod(0o755)
    git = ["git", "-C", folder, "-c", "user.name=x", "-c", "user.email=x@example.com"]
    subprocess.run(["git", "init", "-q", folder], check=True)
    subprocess.run([*git, "add", "--all", "--force", "infra", "pyproject.toml", ".gitignore"], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "x"], check=True)
    commit = subprocess.run(
        [*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()
    digest = "sha256:" + "a" * 64
    done = subprocess.run(
        [folder / "infra/container/build"],
        env={
            "PATH": f"{programs}:{os.environ['PATH']}",
            "PYTHON_DIGEST": digest,
            "PIP_CONFIG_FILE": "/x/pip.conf",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, f"magicode:{commit[:12]}\n"), done.stderr
    built, listed, made = told.read_text().splitlines()
    assert built.startswith("docker build --file infra/container/Dockerfile")
    assert f"--build-arg PYTHON_DIGEST={digest}" in built
    assert f"--build-arg REVISION={commit} " in built
    assert "--secret id=pip.conf,src=/x/pip.conf" in built
    assert f"--entrypoint dpkg-query magicode:{commit[:12]}" in listed
    assert made == "make --no-print-directory sbom DEBIAN=build/debian.tsv"


# --- alive -----------------------------------------------------------------------------------------------------------


@contextmanager
def answering(status: int) -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/healthz" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def alive(**given: str) -> int:
    return subprocess.run([sys.executable, ROOM / "alive"], env=given, check=False, timeout=20).returncode


@pytest.mark.parametrize("setting", ["MAGICODE_PORT", "MAGICODE_WORKER_PORT"])
def test_the_health_check_hears_whoever_serves(setting: str) -> None:
    with answering(200) as port:
        assert alive(**{setting: str(port)}) == 0
    assert alive(**{setting: str(port)}) == 1
    with answering(503) as port:
        assert alive(**{setting: str(port)}) == 1
