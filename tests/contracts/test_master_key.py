"""What `app.ports.MasterKey` and its rotation promise, on every implementation; AWS's against moto, over real HTTP."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from app.custody.rotation import RotatingMasterKey
from app.errors import WrongMasterKeyError
from infra.secrets.choose import open_master_key
from tests.aws import Aws, aws, moto_url

DATA_KEY = bytes(range(32))

__all__ = ["aws", "moto_url"]


@dataclass(frozen=True)
class Place:
    """Where a master key lives. `open` is what each process does. `turn` is what somebody does before a rotation where we
    are not the ones who make the new key; `ours` says that the ring, and so the removal of old keys, is ours."""

    setting: str
    default: Path
    ours: bool
    turn: Callable[[], None] = lambda: None

    def open(self) -> RotatingMasterKey:
        return open_master_key(self.setting, self.default)


def file_by_default(aws: Aws, folder: Path) -> Place:
    return Place("", folder / "keys" / "master.key", ours=True)


def named_file(aws: Aws, folder: Path) -> Place:
    return Place(f"file:{folder / 'named.key'}", folder / "none", ours=True)


def kms_alias(aws: Aws, folder: Path) -> Place:
    alias = aws.alias(aws.key())
    return Place(
        f"aws-kms:{alias}", folder / "none", ours=False, turn=lambda: aws.move_alias(alias, aws.key())
    )


def secrets_manager(aws: Aws, folder: Path) -> Place:
    return Place(f"aws-secretsmanager:{aws.secret()}", folder / "none", ours=True)


def several(aws: Aws, folder: Path) -> Place:
    alias = aws.alias(aws.key())
    setting = f"aws-kms:{alias}, file:{folder / 'old.key'}"
    return Place(setting, folder / "none", ours=False, turn=lambda: aws.move_alias(alias, aws.key()))


EVERY = [file_by_default, named_file, kms_alias, secrets_manager, several]


@pytest.fixture(params=EVERY, ids=lambda make: make.__name__)
def place(request: pytest.FixtureRequest, aws: Aws, tmp_path: Path) -> Place:
    return request.param(aws, tmp_path)


def test_what_one_process_wraps_another_unwraps(place: Place) -> None:
    one, other = place.open(), place.open()
    assert one.id == other.id
    wrapped = one.wrap(DATA_KEY)
    assert DATA_KEY not in wrapped
    assert other.unwrap(one.id, wrapped) == DATA_KEY


def test_two_places_know_nothing_of_each_other(
    request: pytest.FixtureRequest, aws: Aws, tmp_path: Path
) -> None:
    keys = []
    for number, make in enumerate(EVERY):
        folder = tmp_path / str(number)
        folder.mkdir()
        keys.append(make(aws, folder).open())
    assert len({key.id for key in keys}) == len(EVERY)
    for one in keys[:2] + keys[3:4]:
        for other in keys:
            if one is not other:
                with pytest.raises(WrongMasterKeyError):
                    one.unwrap(other.id, other.wrap(DATA_KEY))


def test_changed_bytes_are_not_unwrapped(place: Place) -> None:
    key = place.open()
    wrapped = key.wrap(DATA_KEY)
    with pytest.raises(WrongMasterKeyError) as refused:
        key.unwrap(key.id, wrapped[:-1] + bytes([wrapped[-1] ^ 1]))
    assert refused.value.reason == "wrapped_key_changed"


@pytest.mark.parametrize(
    "name", ["", "file:0", "aws-secretsmanager:0", "arn:aws:kms:eu-central-1:999999999999:key/0", "other"]
)
def test_a_master_key_that_is_not_at_hand_is_said(place: Place, name: str) -> None:
    key = place.open()
    with pytest.raises(WrongMasterKeyError):
        key.unwrap(name, key.wrap(DATA_KEY))


def test_a_rotation_is_met_by_those_who_were_open_before(place: Place) -> None:
    rotating, running = place.open(), place.open()
    old, old_wrapped = rotating.id, rotating.wrap(DATA_KEY)
    place.turn()
    rotating.begin()
    assert rotating.id != old
    new_wrapped = rotating.wrap(DATA_KEY)
    assert running.unwrap(rotating.id, new_wrapped) == DATA_KEY
    for either in (rotating, running, place.open()):
        assert either.unwrap(old, old_wrapped) == DATA_KEY


def test_nobody_wraps_by_the_old_key_once_a_rotation_has_begun(place: Place) -> None:
    rotating, running = place.open(), place.open()
    old = running.id
    place.turn()
    rotating.begin()
    wrapped = running.wrap(DATA_KEY)
    assert running.id == rotating.id != old
    assert rotating.unwrap(rotating.id, wrapped) == DATA_KEY


def test_a_rotation_that_was_begun_is_gone_on_with(place: Place) -> None:
    first, second = place.open(), place.open()
    place.turn()
    first.begin()
    second.begin()
    place.open().begin()
    assert first.id == second.id == place.open().id


def test_rotations_begun_at_once_are_one(place: Place) -> None:
    old = place.open().id
    place.turn()
    keys = [place.open() for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda key: key.begin(), keys))
    assert {key.id for key in keys} == {place.open().id}
    assert place.open().id != old


def test_the_old_key_goes_at_the_end_and_the_next_rotation_makes_a_new_one(place: Place) -> None:
    key = place.open()
    ids, wrapped = [key.id], [key.wrap(DATA_KEY)]
    for _ in range(2):
        place.turn()
        key.begin()
        assert key.finish(key.id, keep_old=False) == (1 if place.ours else 0)
        ids.append(key.id)
        wrapped.append(key.wrap(DATA_KEY))
    assert len(set(ids)) == 3
    fresh = place.open()
    assert fresh.unwrap(ids[-1], wrapped[-1]) == DATA_KEY
    for name, old in zip(ids[:-1], wrapped[:-1], strict=True):
        if place.ours:
            with pytest.raises(WrongMasterKeyError):
                fresh.unwrap(name, old)
        else:
            assert fresh.unwrap(name, old) == DATA_KEY


def test_old_keys_are_kept_on_request_until_a_rotation_lets_all_go(place: Place) -> None:
    key = place.open()
    ids, wrapped = [key.id], [key.wrap(DATA_KEY)]
    for _ in range(2):
        place.turn()
        key.begin()
        assert key.finish(key.id, keep_old=True) == 0
        ids.append(key.id)
        wrapped.append(key.wrap(DATA_KEY))
    assert len(set(ids)) == 3
    for name, old in zip(ids, wrapped, strict=True):
        assert place.open().unwrap(name, old) == DATA_KEY
    place.turn()
    key.begin()
    assert key.finish(key.id, keep_old=False) == (3 if place.ours else 0)


def test_who_finishes_late_removes_nothing_of_the_next_rotation(place: Place) -> None:
    late, quick = place.open(), place.open()
    place.turn()
    late.begin()
    under = late.id
    quick.begin()
    quick.finish(quick.id, keep_old=False)
    place.turn()
    quick.begin()
    wrapped = late.wrap(DATA_KEY)
    assert late.finish(under, keep_old=False) == 0
    fresh = place.open()
    assert fresh.unwrap(quick.id, wrapped) == DATA_KEY
    fresh.begin()
    assert fresh.id == quick.id


def test_no_key_is_shown(place: Place, caplog: pytest.LogCaptureFixture, aws: Aws) -> None:
    caplog.set_level(logging.DEBUG)
    key = place.open()
    wrapped = key.wrap(DATA_KEY)
    place.turn()
    key.begin()
    key.unwrap(key.id, key.wrap(DATA_KEY))
    with pytest.raises(WrongMasterKeyError) as refused:
        key.unwrap("file:other", wrapped)
    own = [
        one
        for one in caplog.records
        if one.levelno >= logging.WARNING or one.name.startswith(("app", "infra"))
    ]
    said = " ".join([repr(key), repr(vars(key)), str(refused.value), *(one.getMessage() for one in own)])
    for secret in (DATA_KEY.hex(), repr(DATA_KEY)[2:-1], *_ring(place, aws)):
        assert secret not in said


def _ring(place: Place, aws: Aws) -> list[str]:
    """The digits of every key that the place holds."""
    kind, _, name = place.setting.partition(":")
    if kind in ("", "file"):
        text = Path(name or place.default).read_text()
    else:
        text = aws.text(name) if kind == "aws-secretsmanager" else ""
    digits = [line.split()[1] for line in text.splitlines() if " " in line]
    assert bool(digits) == place.ours
    return [*digits, *(repr(bytes.fromhex(one))[2:-1] for one in digits)]
