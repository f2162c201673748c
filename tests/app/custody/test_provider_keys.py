"""Customers' own provider keys: on the real store, checked by the simulated provider over real HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import httpx
import psycopg
import pytest

from app.actionlog.export import opened as entries_of
from app.actionlog.ledger import Ledger
from app.custody import consent, provider_keys
from app.custody.keys import Keys
from app.custody.provider_keys import (
    KnownKey,
    ProviderKeyError,
    Saved,
    holds_a_providers_key,
    looks_like_a_key,
)
from app.errors import DefectError, RefusedError, StoppedError, TransientError, UserError
from app.nouns import Destination, OwnKey
from app.ports import Store
from infra.models.guarded import Guard
from infra.models.key_check import ModelsKeyCheck
from infra.models.playbook import parse
from infra.postgres.store import PostgresTransaction
from infra.simulator.model.serve import running
from tests.conftest import Database

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
GOOD = "sk-good-key-of-a-customer-wxyz"
Register = Callable[..., Awaitable[Any]]


class Master:
    id = "turned"

    def wrap(self, key: bytes) -> bytes:
        return key[::-1]

    def unwrap(self, _master_key_id: str, wrapped: bytes) -> bytes:
        return wrapped[::-1]


KEYS = Keys(Master())


@pytest.fixture
async def provider() -> AsyncIterator[str]:
    """The address of a provider that takes one key."""
    playbook = parse("scenarios: [{name: s, turns: [{say: Hello.}]}]")
    async with running(playbook, api_key=GOOD) as url:
        yield url


def check(url: str) -> ModelsKeyCheck:
    return ModelsKeyCheck(Guard(["127.0.0.1"]), {"anthropic": url, "openai": f"{url}/v1"})


async def put(store: Store, url: str, key: str = GOOD, *, tenant: int = 1, **how: Any) -> Saved:
    named = {"provider": "openai", "by": "ada", "clock": lambda: NOW, "check": check(url), **how}
    ledger = Ledger(store, KEYS, lambda: NOW)
    clock, checked = named.pop("clock"), named.pop("check")
    return await provider_keys.put(
        store, KEYS, ledger, clock, checked, installation_id=tenant, key=key, **named
    )


async def known(store: Store, tenant: int = 1) -> list[KnownKey]:
    return list(await provider_keys.known_keys(store, KEYS, tenant))


@pytest.mark.parametrize("name", ["anthropic", "openai"])
async def test_a_good_key_is_checked_kept_and_shown_as_its_last_four(
    store: Store, register: Register, provider: str, name: str
) -> None:
    await register(1)
    saved = await put(store, provider, f"  {GOOD}\n", provider=name)
    assert saved.checked
    (one,) = await known(store)
    assert (one.provider, one.last_four, one.created_by, one.checked_at) == (name, "wxyz", "ada", NOW)
    async with store.transaction(1) as transaction:
        own = await provider_keys.opened(transaction, KEYS, 1)
    assert own[name].key == GOOD
    assert GOOD not in repr(own)


@pytest.mark.parametrize("name", ["anthropic", "openai"])
async def test_a_key_that_the_provider_refuses_is_not_kept_and_not_repeated(
    store: Store, register: Register, provider: str, name: str
) -> None:
    await register(1)
    with pytest.raises(RefusedError) as caught:
        await put(store, provider, "sk-some-other-key-of-nobody", provider=name)
    assert caught.value.reason == "model_key_refused"
    assert "nobody" not in caught.value.message
    assert await known(store) == []
    assert [one async for one in entries_of(store, KEYS, 1)] == []


async def test_where_the_provider_is_away_the_key_is_kept_and_said_to_be_unchecked(
    store: Store, register: Register
) -> None:
    await register(1)
    saved = await put(store, "http://127.0.0.1:1")
    assert not saved.checked
    assert "could not be asked" in saved.why
    (one,) = await known(store)
    assert one.checked_at is None


async def test_an_address_that_lists_no_models_leaves_the_key_unchecked(
    store: Store, register: Register, provider: str
) -> None:
    await register(1)
    saved = await put(store, provider, base_url=f"{provider}/compatible/v1")
    assert not saved.checked
    assert saved.key.base_url == f"{provider}/compatible/v1"


@pytest.mark.parametrize(
    "base_url",
    [
        "http://api.example.test/v1",
        "https://127.0.0.2/v1",
        "https://10.0.0.8/v1",
        "https://169.254.169.254/latest/meta-data",
        "https://[::1]/v1",
        "https://[::ffff:10.0.0.1]/v1",
        "https://[64:ff9b::a00:1]/v1",
        "https://[fd00::1]/v1",
        "https://localhost/v1",
        "https://2130706433/v1",
        "https://0x7f000001/v1",
        "https://127.1/v1",
        "https://0/v1",
        "https://100.100.100.200/v1",
        "https://192.0.0.192/v1",
        "https://168.63.129.16/v1",
        "https://[fe80::1]/v1",
        "https://[2002:7f00:1::]/v1",
        "https://example.test\\@127.0.0.1/v1",
        "https://user:word@example.test/v1",
        "ftp://example.test",
        "file:///etc/passwd",
        "https://",
    ],
)
async def test_no_key_is_sent_to_an_address_of_a_private_network_or_without_tls(
    store: Store, register: Register, provider: str, base_url: str
) -> None:
    await register(1)
    with pytest.raises(UserError) as caught:
        await put(store, provider, base_url=base_url)
    assert caught.value.reason == "provider_address"
    assert await known(store) == []


@pytest.mark.parametrize("key", ["", "   ", "short", "two words here", "x" * 600, "ключ-ключ-ключ"])
async def test_what_can_be_no_key_is_refused_before_anybody_is_asked(
    store: Store, register: Register, key: str
) -> None:
    await register(1)
    with pytest.raises(ProviderKeyError):
        await put(store, "http://127.0.0.1:1", key)
    with pytest.raises(ProviderKeyError):
        await put(store, "http://127.0.0.1:1", provider="gemini")


async def test_a_newer_key_takes_the_place_of_the_last_and_a_removed_one_is_gone(
    store: Store, register: Register, provider: str
) -> None:
    await register(1)
    ledger = Ledger(store, KEYS, lambda: NOW)
    await put(store, "http://127.0.0.1:1", "sk-an-older-key-of-this-abcd")
    await put(store, provider)
    assert [one.last_four for one in await known(store)] == ["wxyz"]
    remove = {"installation_id": 1, "by": "ada", "provider": "openai"}
    assert await provider_keys.remove(store, KEYS, ledger, **remove)
    assert not await provider_keys.remove(store, KEYS, ledger, **remove)
    assert await known(store) == []
    told = [dict(one.details or {}) async for one in entries_of(store, KEYS, 1)]
    assert [(one["new"], one["last_four"], one["provider"]) for one in told] == [
        ("set", "abcd", "openai"),
        ("set", "wxyz", "openai"),
        ("removed", "wxyz", "openai"),
    ]
    assert GOOD not in str(told)


@pytest.mark.parametrize("before", ["sk-an-older-key-of-this-abcd", None])
async def test_the_key_that_is_removed_is_the_one_that_is_told_of(
    store: Store, register: Register, provider: str, monkeypatch: pytest.MonkeyPatch, before: str | None
) -> None:
    """Somebody else keeps another one at the same moment."""
    await register(1)
    if before is not None:
        await put(store, "http://127.0.0.1:1", before)
    remove = PostgresTransaction.remove_provider_key

    async def late(transaction: PostgresTransaction, name: str) -> Any:
        await put(store, provider)
        return await remove(transaction, name)

    with monkeypatch.context() as during:
        during.setattr(PostgresTransaction, "remove_provider_key", late)
        gone = {"installation_id": 1, "by": "ada", "provider": "openai"}
        assert await provider_keys.remove(store, KEYS, Ledger(store, KEYS, lambda: NOW), **gone)
    told = [dict(one.details or {}) async for one in entries_of(store, KEYS, 1)]
    assert (told[-1]["new"], told[-1]["last_four"]) == ("removed", "wxyz")
    assert await known(store) == []


async def test_a_key_opens_for_its_installation_and_its_provider_alone(
    store: Store, register: Register, provider: str
) -> None:
    await register(1)
    await register(2)
    await put(store, provider)
    assert await known(store, 2) == []
    async with store.transaction(1) as transaction:
        (stored,) = await transaction.provider_keys()
    assert GOOD.encode() not in stored.sealed
    async with store.transaction(1) as transaction:
        await transaction.put_provider_key(replace(stored, provider="anthropic"))
    with pytest.raises(DefectError):
        await known(store)
    async with store.transaction(2) as transaction:
        await KEYS.data_key(transaction)
        await transaction.put_provider_key(stored)
    with pytest.raises(DefectError):
        await known(store, 2)


async def test_behind_a_destroyed_data_key_nothing_is_left_to_open(
    store: Store, register: Register, provider: str
) -> None:
    await register(1)
    await put(store, provider)
    async with store.transaction(1) as transaction:
        await transaction.destroy_key()
    assert await known(store) == []


async def test_no_byte_of_a_key_is_in_the_database_in_clear(
    store: Store, register: Register, provider: str, database: Database
) -> None:
    await register(1)
    await put(store, provider)
    with psycopg.connect(database.owner_url) as connection:
        rows = connection.execute(
            "SELECT provider, encode(sealed, 'escape'), created_by FROM magicode_keys.provider_keys"
        ).fetchall()
        entries = connection.execute("SELECT encode(sealed, 'escape') FROM magicode.entries").fetchall()
    assert "wxyz" not in str(rows) + str(entries)


@pytest.mark.parametrize(
    "text",
    [
        "settings key sk-ant-api03-abcdefghijklmnopqrstuvwxyz",
        "@magicode settings provider-key openai sk-proj-AbCdEf0123456789AbCdEf",
        "my key is AIzaSyA1234567890abcdefghijklmnop",
        "here: aB3dE5gH7jK9mN1pQ3rS5tU7vW9xY1zA",
    ],
)
def test_a_key_in_a_text_is_noticed(text: str) -> None:
    assert looks_like_a_key(text)


@pytest.mark.parametrize(
    ("text", "held"),
    [
        ("provider-key anthropic sk-ant-api03-abcdefghijklmnopqrstuvwxyz", True),
        ("use AIzaSyA1234567890abcdefghijklmnop from now on", True),
        ("the key_derivation_function_name in api_integration_tests_config", False),
        ("rename sk-learn-like-estimators-everywhere", False),
        ("revert 3f786850e387550fdab836ed7e6dc881de23001b", False),
    ],
)
def test_a_providers_key_among_other_words_is_noticed_and_words_are_not(text: str, held: bool) -> None:
    assert holds_a_providers_key(text) is held


@pytest.mark.parametrize(
    "text",
    [
        "@magicode settings models anthropic:claude-opus-5-5, openai:gpt-6.1-sol",
        "@magicode settings keep-runs 6 months",
        "see 6b06126f3aa0c1d2e3f405162738495a6b7c8d9e",
        "sk-learn is a library, and api-key-management a word",
    ],
)
def test_ordinary_words_are_no_key(text: str) -> None:
    assert not looks_like_a_key(text)


# --- while a run is at work ------------------------------------------------------------------------------------------


async def test_a_run_stops_when_the_key_that_pays_for_it_is_replaced_or_removed(
    store: Store, register: Register, provider: str
) -> None:
    await register(1)
    await put(store, provider)
    allowed = await consent.read(store, KEYS, 1)
    there = [Destination("openai:m", "openai", "api.openai.com", "global", own_key=True)]
    still = consent.Consent(store, 1, there, allowed.own)
    await still()
    await put(store, provider, clock=lambda: NOW.replace(hour=13))
    with pytest.raises(StoppedError) as caught:
        await still()
    assert caught.value.reason == "provider_key_changed"
    service = [Destination("anthropic:m", "anthropic", "api.anthropic.com", "global", own_key=False)]
    await consent.Consent(store, 1, service, allowed.own)()


# --- the address that somebody named ---------------------------------------------------------------------------------


async def test_a_name_that_answers_otherwise_the_second_time_leads_nowhere() -> None:
    answers = iter([["93.184.216.34"], ["127.0.0.1"]])

    async def resolve(_host: str, _port: int) -> list[str]:
        return next(answers)

    guard = Guard(resolve=resolve)
    key = OwnKey("openai", GOOD, "https://rebinding.test/v1", NOW)
    with pytest.raises((UserError, TransientError)):
        await ModelsKeyCheck(guard)(key)
    assert list(answers) == []


@pytest.mark.parametrize("name", ["anthropic", "openai"])
async def test_a_provider_that_sends_us_elsewhere_is_not_followed(
    store: Store, register: Register, provider: str, name: str
) -> None:
    async def elsewhere(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        answer = f"HTTP/1.1 307 Temporary Redirect\r\nLocation: {provider}/v1/models\r\n"
        writer.write(f"{answer}Content-Length: 0\r\nConnection: close\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    await register(1)
    async with await asyncio.start_server(elsewhere, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            assert not (await put(store, url, provider=name, base_url=url)).checked
        except (RefusedError, UserError):
            assert await known(store) == []
    async with httpx.AsyncClient(trust_env=False) as client:
        assert (await client.get(f"{provider}/_simulator/requests")).json() == []


async def test_one_private_address_among_public_ones_is_enough_to_refuse() -> None:
    async def resolve(_host: str, _port: int) -> list[str]:
        return ["93.184.216.34", "192.168.1.1"]

    with pytest.raises(UserError, match="not public"):
        await Guard(resolve=resolve).require("https://mixed.test/v1")
