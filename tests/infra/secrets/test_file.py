"""The master key's file."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from infra.secrets import FileMasterKey, MasterKeyFileError, WrongMasterKeyError

DATA_KEY = bytes(range(32))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys" / "master.key"


def test_the_file_is_made_once_for_its_owner_alone_and_read_again(path: Path) -> None:
    first = FileMasterKey(path)
    made = path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    second = FileMasterKey(path)
    assert path.read_bytes() == made
    assert [each.name for each in path.parent.iterdir()] == ["master.key"]
    assert second.id == first.id
    assert second.unwrap(first.id, first.wrap(DATA_KEY)) == DATA_KEY


def test_two_keys_are_not_the_same(tmp_path: Path) -> None:
    first, second = FileMasterKey(tmp_path / "a"), FileMasterKey(tmp_path / "b")
    assert first.id != second.id
    assert first.wrap(DATA_KEY) != second.wrap(DATA_KEY)


def test_makers_at_the_same_time_agree(path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        ids = {key.id for key in pool.map(lambda _: FileMasterKey(path), range(64))}
    assert len(ids) == 1
    assert [each.name for each in path.parent.iterdir()] == ["master.key"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o666, 0o620, 0o601])
def test_a_file_that_others_can_reach_is_refused(mode: int, path: Path) -> None:
    FileMasterKey(path)
    path.chmod(mode)
    with pytest.raises(MasterKeyFileError) as refused:
        FileMasterKey(path)
    assert refused.value.reason == "master_key_exposed"


def test_a_damaged_file_is_refused_and_left_alone(path: Path) -> None:
    FileMasterKey(path)
    whole = path.read_bytes()
    for damaged in (
        b"",
        whole[:-10],
        b"x" + whole,
        whole.replace(b"1", b"\xff"),
        whole[:-1] + b"00\n",
        b"\0" * 32,
    ):
        path.write_bytes(damaged)
        with pytest.raises(MasterKeyFileError) as refused:
            FileMasterKey(path)
        assert refused.value.reason == "master_key_damaged"
        assert path.read_bytes() == damaged


def test_a_link_a_folder_and_a_pipe_are_refused(path: Path, tmp_path: Path) -> None:
    FileMasterKey(path)
    link = tmp_path / "link"
    link.symlink_to(path)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)
    for other in (link, tmp_path, pipe):
        with pytest.raises(MasterKeyFileError):
            FileMasterKey(other)


def test_a_changed_or_foreign_data_key_is_not_unwrapped(path: Path, tmp_path: Path) -> None:
    key, other = FileMasterKey(path), FileMasterKey(tmp_path / "other")
    wrapped = key.wrap(DATA_KEY)
    assert DATA_KEY not in wrapped
    for bad in (wrapped[:-1], wrapped + b"\0" * 8, bytes([wrapped[0] ^ 1]) + wrapped[1:], b""):
        with pytest.raises(WrongMasterKeyError):
            key.unwrap(key.id, bad)
    with pytest.raises(WrongMasterKeyError):
        other.unwrap(key.id, wrapped)
    with pytest.raises(WrongMasterKeyError):
        other.unwrap(other.id, wrapped)


def test_the_key_is_not_shown(path: Path) -> None:
    key = FileMasterKey(path)
    digits = path.read_text().split()[1]
    assert digits not in repr(key)
    assert key.id.removeprefix("file:") not in digits
