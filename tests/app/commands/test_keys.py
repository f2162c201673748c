"""`magicode keys …` as a real process, killed in the middle too."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = [sys.executable, "-m", "app.cli", "keys"]


@pytest.fixture
def environ(database: Any, tmp_path: Path) -> dict[str, str]:
    bare = {name: value for name, value in os.environ.items() if not name.startswith("MAGICODE_")}
    return {**bare, "MAGICODE_DATABASE_URL": database.service_url, "MAGICODE_DATA_DIR": str(tmp_path)}


def keys(environ: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PROGRAM, *arguments], env=environ, capture_output=True, text=True, timeout=180, check=False
    )


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_rotation_that_was_killed_is_finished_by_the_next(environ: dict[str, str], tmp_path: Path) -> None:
    ring = tmp_path / "master.key"
    made = keys(environ, "rotate", "--settle", "0", "--json")
    assert made.returncode == 0, made.stderr
    first = json.loads(made.stdout)
    assert first["removed"] == 1
    with subprocess.Popen(
        [*PROGRAM, "rotate", "--settle", "60"], env=environ, stderr=subprocess.PIPE, text=True
    ) as killed:
        assert killed.stderr is not None
        assert any("Waiting" in line for line in killed.stderr)
        killed.send_signal(signal.SIGKILL)
    lines = ring.read_text().splitlines()
    assert [line.split()[0] for line in lines] == [
        "magicode-master-key-1",
        "magicode-master-key-1",
        "rotating",
    ]
    shown = json.loads(keys(environ, "show", "--json").stdout)
    assert shown["master_key"] != first["master_key"]
    assert shown["data_keys"] == {shown["master_key"]: 1}
    done = keys(environ, "rotate", "--settle", "0")
    assert done.returncode == 0, done.stderr
    assert shown["master_key"] in done.stdout
    assert "old master keys removed: 1" in done.stdout
    assert ring.read_text().splitlines() == lines[:1]
    said = keys(environ, "show").stdout
    assert f"Data keys wrapped by {shown['master_key']}: 1." in said
    digits = [line.split()[1] for line in lines if " " in line]
    assert not any(one in done.stdout + done.stderr + said for one in digits)


def test_a_setting_that_names_no_master_key_is_told(environ: dict[str, str]) -> None:
    failed = keys({**environ, "MAGICODE_MASTER_KEY": "vault:x"}, "rotate")
    assert failed.returncode == 1
    assert "aws-kms:KEY" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_an_unknown_name_among_the_secrets_is_wrong_use(environ: dict[str, str], tmp_path: Path) -> None:
    secrets = tmp_path / "secrets"
    secrets.touch(0o600)
    secrets.write_text("WEBHOOK_SECRT=hunter2")
    failed = keys({**environ, "MAGICODE_SECRETS": f"file:{secrets}"}, "show")
    assert failed.returncode == 2
    assert "WEBHOOK_SECRT" in failed.stderr
    assert "hunter2" not in failed.stderr
