"""A process whose memory holds code leaves no core when it dies, and neither do its children."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def dies(folder: Path, before: str) -> list[str]:
    """What is in the folder after a program aborted there that may leave as large a core as it wants."""
    _, most = resource.getrlimit(resource.RLIMIT_CORE)

    def allowed() -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (most, most))

    done = subprocess.run(
        [sys.executable, "-c", f"import os\n{before}\nos.abort()"],
        cwd=folder,
        env={"PATH": os.defpath, "PYTHONPATH": str(ROOT)},
        preexec_fn=allowed,
        check=False,
    )
    assert done.returncode == -6
    return [path.name for path in folder.iterdir()]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    scratch = tmp_path / "cores"
    scratch.mkdir()
    if not dies(scratch, ""):
        pytest.skip("this machine leaves cores elsewhere, or none")
    for path in scratch.iterdir():
        path.unlink()
    return scratch


LEAVE = "from infra.process import leave_no_core; leave_no_core()"


def test_no_core_is_left(folder: Path) -> None:
    assert dies(folder, LEAVE) == []


def test_no_child_leaves_one(folder: Path) -> None:
    child = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import os; os.abort()'])"
    assert dies(folder, f"{LEAVE}\n{child}") == []


def test_the_process_goes_on_as_it_was(tmp_path: Path) -> None:
    script = (
        f"{LEAVE}\nimport os, psutil; print(psutil.Process().cwd(), len(os.listdir('/proc/self/fd')) > 2)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={"PATH": os.defpath, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [str(tmp_path), "True"]
