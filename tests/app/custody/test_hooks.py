"""Customers' own webhooks as they are kept: on the real store, with addresses that are looked at but not asked."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from app.actionlog.export import opened as entries_of
from app.actionlog.ledger import Ledger
from app.custody import hooks
from app.custody.hooks import AT_MOST, HookError, KnownHook
from app.custody.keys import Keys
from app.errors import DefectError, UserError
from app.nouns import RunEvent
from app.ports import Store
from infra.models.guarded import Guard
from infra.receivers import HttpReceivers
from tests.conftest import Database

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
URL = "https://hooks.example.com/services/of-the-address?token=quincunx"
Register = Callable[..., Awaitable[Any]]


class Master:
    id = "turned"

    def wrap(self, key: bytes) -> bytes:
        return key[::-1]

    def unwrap(self, _master_key_id: str, wrapped: bytes) -> bytes:
        return wrapped[::-1]


KEYS = Keys(Master())


async def public(_host: str, _port: int) -> Sequence[str]:
    return ["8.8.8.8"]


async def make(store: Store, url: str = URL, *, tenant: int = 1, **how: Any) -> tuple[KnownHook, str]:
    given: dict[str, Any] = {"by": "ada", "events": list(RunEvent), "new_id": uuid4, "random": bytes} | how
    return await hooks.make(
        store,
        KEYS,
        Ledger(store, KEYS, lambda: NOW),
        lambda: NOW,
        HttpReceivers(Guard(resolve=public)),
        installation_id=tenant,
        url=url,
        **given,
    )


async def known(store: Store, tenant: int = 1) -> list[KnownHook]:
    return list(await hooks.known_hooks(store, KEYS, tenant))


async def is_hooked(store: Store, tenant: int = 1) -> bool:
    async with store.transaction(tenant) as transaction:
        found = await transaction.installation()
    assert found is not None
    return found.hooked


async def test_a_hook_is_kept_and_of_its_address_the_host_alone_is_shown(
    store: Store, register: Register
) -> None:
    await register(1)
    made, secret = await make(store, f"  {URL}\n", events=["run.ended", "run.accepted"])
    assert await known(store) == [made]
    assert (made.host, made.events, made.created_by) == (
        "hooks.example.com",
        ("run.accepted", "run.ended"),
        "ada",
    )
    assert len(base64.b64decode(secret.removeprefix("whsec_"))) == hooks.SECRET_BYTES
    async with store.transaction(1) as transaction:
        opened = await hooks.find(transaction, KEYS, 1, made.id)
        assert await hooks.find(transaction, KEYS, 1, uuid4()) is None
    assert opened is not None
    assert (opened.url, opened.secret) == (URL, secret)
    assert "quincunx" not in repr(opened)
    assert secret not in repr(opened)


async def test_making_and_removing_are_entries_that_hold_neither_address_nor_secret(
    store: Store, register: Register
) -> None:
    await register(1)
    made, secret = await make(store, random=lambda count: b"\x07" * count)
    remove: dict[str, Any] = {"installation_id": 1, "by": "wim", "hook_id": made.id}
    assert await hooks.remove(store, Ledger(store, KEYS, lambda: NOW), **remove)
    assert not await hooks.remove(store, Ledger(store, KEYS, lambda: NOW), **remove)
    entries = [one async for one in entries_of(store, KEYS, 1)]
    assert [(one.action, one.actor, (one.details or {})["new"]) for one in entries] == [
        ("setting.changed", "ada", "made"),
        ("setting.changed", "wim", "removed"),
    ]
    assert "hooks.example.com" in str(entries)
    assert "quincunx" not in str(entries)
    assert secret.removeprefix("whsec_") not in str(entries)


async def test_no_byte_of_address_or_secret_is_in_the_database_in_clear(
    store: Store, register: Register, database: Database
) -> None:
    await register(1)
    await make(store, random=lambda count: b"quincunx" * (count // 8))
    with psycopg.connect(database.owner_url) as connection:
        rows = connection.execute(
            "SELECT h::text, encode(sealed, 'escape') FROM magicode_keys.hooks AS h"
        ).fetchall()
        entries = connection.execute("SELECT encode(sealed, 'escape') FROM magicode.entries").fetchall()
    assert len(rows) == 1
    for word in ("quincunx", "hooks.example", base64.b64encode(b"quincunx" * 4).decode()):
        assert word not in str(rows) + str(entries)


@pytest.mark.parametrize(
    ("url", "events", "reason"),
    [
        ("", ["run.ended"], "hook_unreadable"),
        ("https://hooks.example.com/ two", ["run.ended"], "hook_unreadable"),
        ("https://hooks.example.com/" + "x" * 2000, ["run.ended"], "hook_unreadable"),
        (URL, [], "hook_events"),
        (URL, ["run.ended", "run.code"], "hook_events"),
        ("http://hooks.example.com/", ["run.ended"], "hook_address"),
        ("https://127.0.0.1/", ["run.ended"], "hook_address"),
    ],
)
async def test_what_is_no_hook_is_not_kept(
    store: Store, register: Register, url: str, events: list[str], reason: str
) -> None:
    await register(1)
    with pytest.raises(UserError) as caught:
        await make(store, url, events=events)
    assert caught.value.reason == reason
    assert await known(store) == []
    assert not await is_hooked(store)


async def test_there_are_five_at_most_also_where_they_are_made_at_once(
    store: Store, register: Register
) -> None:
    await register(1)
    done = await asyncio.gather(*(make(store) for _ in range(AT_MOST + 4)), return_exceptions=True)
    assert sum(isinstance(one, HookError) for one in done) == 4
    assert len(await known(store)) == AT_MOST


async def test_acceptance_reads_on_the_installations_row_whether_there_is_any(
    store: Store, register: Register
) -> None:
    await register(1)
    await register(2)
    (first, _), (second, _) = await make(store), await make(store)
    await register(1)  # GitHub tells of it again
    assert (await is_hooked(store, 1), await is_hooked(store, 2)) == (True, False)
    async with store.arrival(1) as (_, found):
        assert found is not None
        assert found.hooked
    ledger = Ledger(store, KEYS, lambda: NOW)
    await hooks.remove(store, ledger, installation_id=1, by="ada", hook_id=first.id)
    assert await is_hooked(store)
    await hooks.remove(store, ledger, installation_id=1, by="ada", hook_id=second.id)
    assert not await is_hooked(store)


async def test_a_hook_opens_in_its_own_place_alone(store: Store, register: Register) -> None:
    await register(1)
    made, _ = await make(store)
    async with store.transaction(1) as transaction:
        (stored,) = await transaction.hooks()
        await transaction.put_hook(replace(stored, id=UUID(int=9)))
    async with store.transaction(1) as transaction:
        assert await hooks.find(transaction, KEYS, 1, made.id) is not None
        with pytest.raises(DefectError):
            await hooks.find(transaction, KEYS, 1, UUID(int=9))


async def test_behind_a_destroyed_data_key_nothing_can_be_sent_any_more(
    store: Store, register: Register
) -> None:
    await register(1)
    made, _ = await make(store)
    async with store.transaction(1) as transaction:
        await transaction.destroy_key()
    assert [one.host for one in await known(store)] == [""]
    async with store.transaction(1) as transaction:
        assert await hooks.find(transaction, KEYS, 1, made.id) is None


def test_the_signature_is_the_one_that_is_published_as_an_example() -> None:
    """https://docs.svix.com/receiving/verifying-payloads/how-manual"""
    secret = "whsec_" + "MfKQ9r8GKYqrTwjU" + "PD8ILPZIo2LaLaSw"
    signed = hooks.signature(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
