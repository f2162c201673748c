"""Data keys and what is sealed under them, on the real store."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable
from datetime import timedelta
from threading import Event
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.custody.keys import KEY_BYTES, Keys, SealBrokenError
from app.errors import DefectError, WrongMasterKeyError
from app.ports import Store

KEY = bytes(32)


class CountingMaster:
    """A master key that turns bytes round, and counts."""

    def __init__(self) -> None:
        self.unwrapped = 0

    @property
    def id(self) -> str:
        return "counting"

    def wrap(self, key: bytes) -> bytes:
        return key[::-1]

    def unwrap(self, master_key_id: str, wrapped: bytes) -> bytes:
        assert master_key_id == self.id
        self.unwrapped += 1
        return wrapped[::-1]


class Seconds:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


Register = Callable[..., Awaitable[Any]]


async def test_an_installations_key_is_made_once_and_is_its_own(store: Store, register: Register) -> None:
    await register(1)
    await register(2)
    keys, again = Keys(CountingMaster()), Keys(CountingMaster())
    async with store.transaction(1) as transaction:
        assert await keys.existing_key(transaction) is None
        first = await keys.data_key(transaction)
        assert len(first) == KEY_BYTES
        assert await keys.data_key(transaction) == first
    async with store.transaction(1) as transaction:
        assert await again.existing_key(transaction) == first
        stored = await transaction.wrapped_key()
    assert stored == ("counting", first[::-1])
    async with store.transaction(2) as transaction:
        assert await keys.data_key(transaction) != first


async def test_two_first_uses_at_once_agree(store: Store, register: Register) -> None:
    await register(1)

    async def use() -> bytes:
        async with store.transaction(1) as transaction:
            return await Keys(CountingMaster()).data_key(transaction)

    assert len(set(await asyncio.gather(*(use() for _ in range(8))))) == 1


async def test_a_key_made_in_a_transaction_that_failed_was_never_made(
    store: Store, register: Register
) -> None:
    await register(1)
    keys = Keys(CountingMaster())

    async def fail() -> None:
        async with store.transaction(1) as transaction:
            await keys.data_key(transaction)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    async with store.transaction(1) as transaction:
        assert await keys.existing_key(transaction) is None


class Stored:
    """As much of a transaction as keys need: one installation's wrapped key."""

    def __init__(self, wrapped: bytes | None = None) -> None:
        self.wrapped = wrapped

    async def wrapped_key(self, *, anew: bool = False) -> tuple[str, bytes] | None:
        return ("counting", self.wrapped) if self.wrapped is not None else None

    async def add_wrapped_key(self, master_key_id: str, wrapped: bytes) -> tuple[str, bytes]:
        self.wrapped = self.wrapped or wrapped
        return master_key_id, self.wrapped


async def test_an_unwrapped_key_is_remembered_briefly_and_a_destroyed_one_not_at_all() -> None:
    master, clock, stored = CountingMaster(), Seconds(), Stored()
    keys: Any = Keys(master, monotonic=clock, remember=timedelta(seconds=60))
    first = await keys.data_key(stored)
    clock.now = 59.9
    assert await keys.data_key(stored) == first
    assert master.unwrapped == 1
    clock.now = 60.0
    assert await keys.existing_key(stored) == first
    assert master.unwrapped == 2
    stored.wrapped = None
    assert await keys.existing_key(stored) is None
    assert await keys.data_key(stored) != first


async def test_what_is_no_longer_remembered_is_not_held_either() -> None:
    master, clock = CountingMaster(), Seconds()
    keys: Any = Keys(master, monotonic=clock, remember=timedelta(seconds=60))
    await keys.data_key(Stored(bytes(KEY_BYTES)))
    clock.now = 60.0
    await keys.data_key(Stored(bytes([1]) * KEY_BYTES))
    assert len(keys._unwrapped) == 1


class FarMaster(CountingMaster):
    """A key service that answers only once the event loop has done something else."""

    def __init__(self) -> None:
        super().__init__()
        self.may_answer = Event()

    def wrap(self, key: bytes) -> bytes:
        assert self.may_answer.wait(10)
        return super().wrap(key)

    def unwrap(self, master_key_id: str, wrapped: bytes) -> bytes:
        assert self.may_answer.wait(10)
        return super().unwrap(master_key_id, wrapped)


@pytest.mark.parametrize("wrapped", [None, bytes(KEY_BYTES)])
async def test_a_slow_key_service_holds_up_nobody_else(wrapped: bytes | None) -> None:
    master = FarMaster()
    keys: Any = Keys(master)
    waiting = asyncio.ensure_future(keys.data_key(Stored(wrapped)))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    master.may_answer.set()
    assert len(await waiting) == KEY_BYTES


class LostMaster(CountingMaster):
    def unwrap(self, master_key_id: str, wrapped: bytes) -> bytes:
        raise WrongMasterKeyError


class Destroyed(Stored):
    """The key is destroyed right after it was read."""

    async def wrapped_key(self, *, anew: bool = False) -> tuple[str, bytes] | None:
        stored = await super().wrapped_key(anew=anew)
        self.wrapped = None
        return stored


async def test_a_key_that_was_destroyed_while_it_was_read_is_none_and_a_lost_one_is_told() -> None:
    keys: Any = Keys(LostMaster())
    assert await keys.existing_key(Destroyed(bytes(KEY_BYTES))) is None
    with pytest.raises(SealBrokenError):
        await keys.data_key(Destroyed(bytes(KEY_BYTES)))
    for look in (keys.existing_key, keys.data_key):
        with pytest.raises(WrongMasterKeyError):
            await look(Stored(bytes(KEY_BYTES)))


class TurningMaster(CountingMaster):
    """A master key that finds out by wrapping that there is a new one."""

    def __init__(self) -> None:
        super().__init__()
        self.now, self.known = "new", "old"

    @property
    def id(self) -> str:
        return self.known

    def wrap(self, key: bytes) -> bytes:
        self.known = self.now
        return self.now.encode() + key


async def test_a_wrapped_key_has_the_id_of_the_master_key_that_wrapped_it() -> None:
    keys = Keys(TurningMaster())
    assert await keys._wrap(KEY) == ("new", b"new" + KEY)


async def test_a_master_key_that_returns_something_else_rewraps_nothing() -> None:
    class Forgetful(CountingMaster):
        def wrap(self, key: bytes) -> bytes:
            return bytes(KEY_BYTES)

    with pytest.raises(DefectError) as unsound:
        await Keys(Forgetful()).rewrapped(("counting", bytes([7]) * KEY_BYTES))
    assert unsound.value.reason == "master_key_unsound"


async def test_only_so_many_keys_are_remembered() -> None:
    master = CountingMaster()
    keys: Any = Keys(master, remember_at_most=2)
    several = [Stored(bytes([n]) * KEY_BYTES) for n in range(3)]
    for stored in several:
        await keys.data_key(stored)
    await keys.data_key(several[2])
    assert master.unwrapped == 3
    await keys.data_key(several[0])
    assert master.unwrapped == 4
    keys.forget()
    await keys.data_key(several[0])
    assert master.unwrapped == 5


async def test_a_key_of_the_wrong_length_is_a_defect() -> None:
    keys: Any = Keys(CountingMaster())
    with pytest.raises(DefectError):
        await keys.data_key(Stored(b"short"))


keys = Keys(CountingMaster())


def test_purposes_have_keys_of_their_own() -> None:
    derived = keys.derive(KEY, b"magicode/details")
    # RFC 5869, section 2.3: T(1) = HMAC(PRK, info || 0x01)
    assert derived == hmac.digest(KEY, b"magicode/details\x01", "sha256")
    assert derived != keys.derive(KEY, b"magicode/salt")
    assert derived != keys.derive(bytes([1]) * 32, b"magicode/details")
    assert derived == keys.derive(KEY, b"magicode/details")


@given(st.binary(max_size=200), st.binary(max_size=40))
@settings(deadline=None)
def test_what_is_sealed_opens_again_and_never_looks_the_same(plaintext: bytes, aad: bytes) -> None:
    sealed = keys.seal(KEY, plaintext, aad)
    assert keys.open(KEY, sealed, aad) == plaintext
    assert keys.seal(KEY, plaintext, aad) != sealed


def test_any_change_breaks_the_seal() -> None:
    sealed = keys.seal(KEY, b"details", b"place")
    broken = [sealed[:i] + bytes([sealed[i] ^ 1]) + sealed[i + 1 :] for i in range(len(sealed))]
    for bad in [*broken, *(sealed[:i] for i in range(len(sealed))), sealed + b"\0"]:
        with pytest.raises(SealBrokenError):
            keys.open(KEY, bad, b"place")
    with pytest.raises(SealBrokenError):
        keys.open(KEY, sealed, b"another place")
    with pytest.raises(SealBrokenError):
        keys.open(bytes([1]) * 32, sealed, b"place")
