"""What an installation has chosen, on the real store."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.actionlog.export import opened
from app.actionlog.ledger import Ledger
from app.custody import settings
from app.custody.keys import Keys
from app.custody.settings import InstallationSettings, SettingError
from app.errors import DefectError
from app.nouns import Destination, StoredSettings
from app.ports import Store

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
Register = Callable[..., Awaitable[Any]]


class Master:
    id = "turned"

    def wrap(self, key: bytes) -> bytes:
        return key[::-1]

    def unwrap(self, _master_key_id: str, wrapped: bytes) -> bytes:
        return wrapped[::-1]


def clock() -> datetime:
    return NOW


async def change(store: Store, words: str, *, by: str = "wim", tenant: int = 1) -> settings.Changed:
    ledger = Ledger(store, Keys(Master()), clock)
    wanted = settings.wanted(words)
    return await settings.change(store, ledger, clock, installation_id=tenant, by=by, wanted=wanted)


async def present(store: Store, tenant: int = 1) -> InstallationSettings:
    async with store.transaction(tenant) as transaction:
        return await settings.read(transaction)


async def test_where_nothing_was_chosen_the_defaults_hold(store: Store, register: Register) -> None:
    await register(1)
    found = await present(store)
    assert (found.runs_months, found.log_months, found.uninstalled_days) == (12, 12, 90)
    assert found.providers is None
    assert found.legal_hold is None


async def test_a_change_holds_and_is_an_entry_by_who_made_it_and_the_others_do_not_see_it(
    store: Store, register: Register
) -> None:
    await register(1)
    await register(2)
    done = await change(store, "keep-runs 6 months")
    assert (done.old, done.new) == ("12 months", "6 months")
    assert (await present(store)).runs_months == 6
    assert (await present(store, 2)).runs_months == 12
    (entry,) = [one async for one in opened(store, Keys(Master()), 1)]
    assert (entry.action, entry.actor) == ("setting.changed", "wim")
    assert dict(entry.details or {}) == {"name": "keep-runs", "old": "12 months", "new": "6 months"}


async def test_what_changes_nothing_leaves_no_entry(store: Store, register: Register) -> None:
    await register(1)
    await change(store, "providers openai")
    await change(store, "providers openai")
    assert len([one async for one in opened(store, Keys(Master()), 1)]) == 1


async def test_of_two_changes_at_once_none_is_lost(store: Store, register: Register) -> None:
    await register(1)
    wishes = [
        "keep-runs 3",
        "keep-log 4",
        "providers openai",
        "regions eu",
        "limit-day $7",
        "keep-uninstalled 5 days",
    ]
    await asyncio.gather(*(change(store, one) for one in wishes))
    found = await present(store)
    assert (found.runs_months, found.log_months, found.uninstalled_days) == (3, 4, 5)
    assert (found.providers, found.regions, found.day_usd) == (("openai",), ("eu",), Decimal(7))


async def test_a_legal_hold_says_whose_it_is_keeps_its_beginning_and_stands_in_a_column_of_its_own(
    store: Store, register: Register
) -> None:
    await register(1)
    await change(store, "legal-hold on", by="ada")
    again = await change(store, "legal-hold on", by="bob")
    assert again.old == again.new
    hold = (await present(store)).legal_hold
    assert hold is not None
    assert (hold.by, hold.since) == ("ada", NOW)
    async with store.transaction(1) as transaction:
        stored = await transaction.settings()
    assert stored is not None
    assert stored.legal_hold
    await change(store, "legal-hold off")
    async with store.transaction(1) as transaction:
        stored = await transaction.settings()
    assert stored is not None
    assert not stored.legal_hold


@pytest.mark.parametrize(
    ("words", "field", "value"),
    [
        ("keep-runs 1 month", "runs_months", 1),
        ("keep-runs 2 years", "runs_months", 24),
        ("Keep-Log: 24 months", "log_months", 24),
        ("keep_uninstalled 0 days", "uninstalled_days", 0),
        ("providers anthropic, openai", "providers", ("anthropic", "openai")),
        ("providers openai and anthropic", "providers", ("anthropic", "openai")),
        ("provider Anthropic", "providers", ("anthropic",)),
        ("providers any", "providers", None),
        ("providers none", "providers", ()),
        ("regions eu", "regions", ("eu",)),
        ("models anthropic:a, openai:b:c", "models", ("anthropic:a", "openai:b:c")),
        ("models default", "models", ()),
        ("limit-run $2.50", "run_usd", Decimal("2.50")),
        ("limit-month 200 USD", "month_usd", Decimal(200)),
        ("limit-day none", "day_usd", None),
        ("legal-hold on", "legal_hold", True),
        ("plan-first on", "plan_first", True),
        ("leave-alone infrastructure and tests", "left_alone", ("tests", "infrastructure")),
        ("paths none", "left_alone", ()),
        ("`keep-runs` `6 months`", "runs_months", 6),
    ],
)
def test_settings_are_read_as_people_write_them(words: str, field: str, value: object) -> None:
    wanted = settings.wanted(words)
    assert (wanted.setting.field, wanted.value) == (field, value)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("keep-rums 6", "Did you mean `keep-runs`"),
        ("retention 6", "There are: `keep-runs`"),
        ("keep-runs", "such as `keep-runs 6 months`"),
        ("keep-runs forever", "how many months"),
        ("keep-runs 0", "from 1 to 120"),
        ("keep-runs 11 years", "from 1 to 120"),
        ("keep-runs 6 days", "how many months"),
        ("keep-uninstalled 91 days", "from 0 to 90"),
        ("providers opnai", "Did you mean `openai`"),
        ("providers any openai", "is none of"),
        ("regions mars", "is none of us, eu, global, unknown"),
        ("models gpt-5", "names no model"),
        ("models openai:a b", "names no model"),
        ("limit-day -3", "how many dollars"),
        ("legal-hold maybe", "`on` or `off`"),
        ("plan-first perhaps", "`on` or `off`"),
        ("leave-alone all", "`all` is none of tests, dependencies"),
        ("leave-alone dependancies", "Did you mean `dependencies`?"),
    ],
)
def test_a_near_miss_is_told_what_would_be_understood(words: str, said: str) -> None:
    with pytest.raises(SettingError) as caught:
        settings.wanted(words)
    assert said in caught.value.message


@given(st.text(max_size=80))
def test_no_text_is_anything_but_a_change_or_a_near_miss(words: str) -> None:
    with suppress(SettingError):
        assert settings.wanted(words).setting.name in {one.name for one in settings.SETTINGS}


VALUES = st.builds(
    InstallationSettings,
    runs_months=st.integers(1, 120),
    providers=st.none() | st.lists(st.sampled_from(settings.PROVIDERS), unique=True).map(tuple),
    regions=st.none() | st.lists(st.sampled_from(settings.REGIONS), unique=True).map(tuple),
    month_usd=st.none() | st.decimals("0.01", "99999", places=2),
)


@given(VALUES)
def test_what_was_stored_is_read_as_it_was(chosen: InstallationSettings) -> None:
    assert InstallationSettings.model_validate_json(chosen.document()) == chosen
    assert set(settings.shown(chosen)) == {one.name for one in settings.SETTINGS}


@given(VALUES, st.sampled_from(settings.PROVIDERS), st.sampled_from(settings.REGIONS))
def test_nothing_is_allowed_that_was_left_out(
    chosen: InstallationSettings, provider: str, region: str
) -> None:
    allowed = chosen.allows(Destination(f"{provider}:m", provider, "host", region, own_key=False))
    listed = (chosen.providers is None or provider in chosen.providers) and (
        chosen.regions is None or region in chosen.regions
    )
    assert allowed == listed


async def test_a_document_with_something_unknown_in_it_is_not_guessed_at(
    store: Store, register: Register
) -> None:
    await register(1)
    async with store.transaction(1) as transaction:
        await transaction.put_settings(StoredSettings('{"keep": 1}', False, "x", NOW))
    with pytest.raises(DefectError):
        await present(store)


async def test_a_removed_row_of_settings_is_the_default_again_and_a_limit_counts_what_was_spent(
    store: Store, register: Register
) -> None:
    await register(1)
    chosen = InstallationSettings(day_usd=Decimal(3), month_usd=Decimal(2))
    async with store.transaction(1) as transaction:
        assert await settings.left(transaction, InstallationSettings(), NOW) is None
        assert await settings.left(transaction, chosen, NOW) == Decimal(2)
