"""A ring of master keys, as it is written down and read again."""

from __future__ import annotations

import fcntl
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import WrongMasterKeyError
from infra.secrets import FileMasterKey, MasterKeyFileError, private
from infra.secrets.ring import DamagedError, Ring, read, written

DATA_KEY = bytes(range(32))

rings = st.builds(
    Ring,
    st.just("file"),
    st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=4, unique=True).map(tuple),
    st.booleans(),
)


@given(rings)
def test_what_is_written_is_read_again(ring: Ring) -> None:
    assert read("file", written(ring)) == ring


@given(rings, st.data())
def test_a_ring_that_lost_a_part_is_damaged_or_shorter_but_never_another(
    ring: Ring, data: st.DataObject
) -> None:
    whole = written(ring)
    cut = data.draw(st.integers(0, len(whole) - 1))
    try:
        left = read("file", whole[:cut])
    except DamagedError:
        return
    assert left.keys == ring.keys[: len(left.keys)]


@given(rings)
def test_every_key_of_a_ring_unwraps_and_the_first_wraps(ring: Ring) -> None:
    wrapped = ring.wrap(DATA_KEY)
    turned = ring.turned()
    assert turned.id != ring.id
    assert turned.unwrap(ring.id, wrapped) == DATA_KEY
    assert turned.unwrap(turned.id, turned.wrap(DATA_KEY)) == DATA_KEY
    settled = turned.settled(keep_old=False)
    with pytest.raises(WrongMasterKeyError):
        settled.unwrap(ring.id, wrapped)
    assert settled.unwrap(turned.id, turned.wrap(DATA_KEY)) == DATA_KEY


@given(rings)
def test_a_ring_shows_no_key(ring: Ring) -> None:
    shown = repr(ring) + str(ring)
    assert not any(key.hex() in shown or repr(key) in shown for key in ring.keys if len(set(key)) > 4)


# --- the file --------------------------------------------------------------------------------------------------------


def test_a_file_of_one_line_is_a_ring_of_one_key(tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    path.touch(0o600)
    path.write_text("magicode-master-key-1 " + "ab" * 32 + "\n")
    assert FileMasterKey(path).id == Ring("file", (bytes([0xAB]) * 32,)).id
    assert len(path.read_text().splitlines()) == 1


def test_a_running_service_never_makes_a_second_file(tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    key = FileMasterKey(path)
    wrapped = key.wrap(DATA_KEY)
    path.unlink()
    for use in (lambda: key.wrap(DATA_KEY), key.begin, lambda: key.finish(key.id, keep_old=False)):
        with pytest.raises(MasterKeyFileError) as refused:
            use()
        assert refused.value.reason == "master_key_unreadable"
    assert not path.exists()
    assert key.unwrap(key.id, wrapped) == DATA_KEY


def test_a_rotation_keeps_the_file_to_its_owner_and_writes_over_the_draft_of_a_crash(tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    key = FileMasterKey(path)
    draft = tmp_path / ".master.key.next"
    draft.write_text("a longer draft than the ring that will take its place " * 20)
    draft.chmod(0o644)
    key.begin()
    assert [each.name for each in tmp_path.iterdir()] == ["master.key"]
    assert path.stat().st_mode & 0o777 == 0o600
    assert FileMasterKey(path).id == key.id


def test_a_draft_that_is_somebodys_link_is_not_written_through(tmp_path: Path) -> None:
    path, elsewhere = tmp_path / "master.key", tmp_path / "elsewhere"
    key = FileMasterKey(path)
    elsewhere.write_text("theirs")
    (tmp_path / ".master.key.next").symlink_to(elsewhere)
    with pytest.raises(MasterKeyFileError):
        key.begin()
    assert elsewhere.read_text() == "theirs"


def test_a_file_that_was_exposed_meanwhile_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    key = FileMasterKey(path)
    path.chmod(0o644)
    with pytest.raises(MasterKeyFileError) as refused:
        key.wrap(DATA_KEY)
    assert refused.value.reason == "master_key_exposed"


def test_a_file_that_is_too_large_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    path.touch(0o600)
    path.write_bytes(b"x" * (private.LARGEST + 1))
    with pytest.raises(MasterKeyFileError):
        FileMasterKey(path)


def test_who_waited_for_the_file_is_alone_with_the_one_that_took_its_place(tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    FileMasterKey(path)
    inside, go_on = Event(), Event()

    def wait() -> None:
        with private.locked(path):
            inside.set()
            assert go_on.wait(10)

    with ThreadPoolExecutor(1) as pool:
        with private.locked(path):
            waiting = pool.submit(wait)
            time.sleep(0.1)
            assert not inside.is_set()
            private.replace(path, path.read_bytes())
        assert inside.wait(10)
        with path.open("rb+") as other, pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        go_on.set()
        waiting.result()
