"""Where workspaces live, that they are memory, and that dead ones are swept."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.errors import DefectError, LimitedError
from app.workspace.storage import LOOK_AGAIN, find_root, memory_backed, run_directory, sweep

MOUNTS = "/dev/vda / ext4 rw 0 0\ntmpfs {shm} tmpfs rw 0 0\ntmpfs {shm}/with\\040space tmpfs rw 0 0\n/dev/vdb {shm}/disk ext4 rw 0 0\n"


@pytest.fixture
def mounts(tmp_path: Path) -> Path:
    path = tmp_path / "mounts"
    path.write_text(MOUNTS.format(shm=tmp_path / "shm"))
    (tmp_path / "shm" / "disk").mkdir(parents=True)
    (tmp_path / "plain").mkdir()
    return path


def test_the_deepest_mount_decides_what_is_memory(tmp_path, mounts):
    assert memory_backed(tmp_path / "shm", mounts=mounts)
    assert memory_backed(tmp_path / "shm" / "x", mounts=mounts)
    assert memory_backed(tmp_path / "shm" / "with space", mounts=mounts)
    assert not memory_backed(tmp_path / "shm" / "disk" / "x", mounts=mounts)
    assert not memory_backed(tmp_path / "shmother", mounts=mounts)
    assert not memory_backed(tmp_path, mounts=mounts)
    assert not memory_backed(tmp_path, mounts=tmp_path / "none")


def test_shared_memory_is_taken_when_nothing_is_preferred(tmp_path, mounts):
    root = find_root(mounts=mounts, shared=tmp_path / "shm")
    assert (root.path, root.memory_backed) == (tmp_path / "shm", True)


def test_without_memory_the_temporary_directory_is_taken_and_said_so(tmp_path, mounts):
    for shared in (tmp_path / "plain", tmp_path / "absent"):
        root = find_root(mounts=mounts, shared=shared)
        assert not root.memory_backed
        assert "MAGICODE_WORKSPACE_DIR" in root.statement
        assert str(tmp_path) not in root.statement


def test_the_preferred_directory_is_made_and_judged(tmp_path, mounts):
    assert find_root(tmp_path / "shm" / "mine", mounts=mounts).memory_backed
    root = find_root(tmp_path / "plain" / "mine", mounts=mounts)
    assert not root.memory_backed
    assert root.path.is_dir()


def test_a_preferred_directory_that_cannot_be_made_is_a_defect(tmp_path, mounts):
    (tmp_path / "file").write_text("x")
    with pytest.raises(DefectError) as defect:
        find_root(tmp_path / "file" / "below", mounts=mounts)
    assert defect.value.reason == "workspace_root_unusable"


def test_a_runs_directory_is_private_and_goes_with_the_block(tmp_path):
    with run_directory(tmp_path, "r1") as path:
        (path / "inner").mkdir()
        (path / "inner" / "file").write_text("x")
        assert path.stat().st_mode & 0o777 == 0o700
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("run_id", ["../up", "a/b", "", "a" * 65, "a\n", "."])
def test_a_run_id_that_is_no_name_is_a_defect(tmp_path, run_id):
    with pytest.raises(DefectError), run_directory(tmp_path, run_id):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_directory_in_use_is_not_swept(tmp_path):
    with run_directory(tmp_path, "r1") as path:
        assert sweep(tmp_path) == 0
        assert path.is_dir()


LEAVE = (
    "import sys, os; from pathlib import Path; from app.workspace.storage import run_directory\n"
    "c = run_directory(Path(sys.argv[1]), 'dead'); p = c.__enter__(); (p / 'blob').write_text('x')\n"
    "os._exit(1)\n"
)


def test_what_a_dead_process_left_is_swept(tmp_path):
    subprocess.run([sys.executable, "-c", LEAVE, str(tmp_path)], check=False)
    (left,) = tmp_path.iterdir()
    assert (left / "blob").exists()
    assert sweep(tmp_path) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_leftover_whose_process_number_lives_again_is_swept(tmp_path):
    subprocess.run([sys.executable, "-c", LEAVE, str(tmp_path)], check=False)
    (left,) = tmp_path.iterdir()
    left.rename(tmp_path / f"magicode-dead-{os.getpid()}")
    assert sweep(tmp_path) == 1


def test_a_run_whose_process_was_killed_is_taken_up_by_one_with_the_same_number(tmp_path):
    """As in containers, where each is the first process."""
    subprocess.run([sys.executable, "-c", LEAVE, str(tmp_path)], check=False)
    (left,) = tmp_path.iterdir()
    left.rename(tmp_path / f"magicode-dead-{os.getpid()}")
    with run_directory(tmp_path, "dead") as path:
        assert not (path / "blob").exists()
        with pytest.raises(LimitedError) as twice, run_directory(tmp_path, "dead"):
            pass
        assert twice.value.reason == "workspace_in_use"
        assert twice.value.retry_after == LOOK_AGAIN
        assert list(tmp_path.iterdir()) == [path]
    assert list(tmp_path.iterdir()) == []


def test_one_that_was_killed_in_the_making_is_swept_later(tmp_path):
    making = tmp_path / f"magicode-new-{os.getpid()}.0123456789abcdef"
    making.mkdir()
    assert sweep(tmp_path) == 0
    os.utime(making, (1, 1))
    assert sweep(tmp_path) == 1


def test_a_directory_about_to_be_locked_by_a_living_process_is_left_alone(tmp_path):
    (tmp_path / f"magicode-new-{os.getpid()}").mkdir()
    assert sweep(tmp_path) == 0


def test_what_is_not_ours_is_left_alone(tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "magicode-x").mkdir()
    (tmp_path / "magicode-file-999999").write_text("x")
    (tmp_path / "magicode-link-999999").symlink_to(tmp_path / "other")
    assert sweep(tmp_path) == 0
    assert len(list(tmp_path.iterdir())) == 4
