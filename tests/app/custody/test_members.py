"""Roles of their own: as people write them, on the real store, and that an administrator is always left."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import ValidationError

from app.actionlog.export import opened
from app.actionlog.ledger import Ledger
from app.custody import members, settings
from app.custody.keys import Keys
from app.custody.members import Administrator, MemberError, NotTheirsToChangeError, Wanted
from app.custody.settings import InstallationSettings, Member, SettingError
from app.errors import DefectError
from app.nouns import Account, Given, Installation, Role, StoredSettings
from app.ports import Store

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
Register = Callable[..., Awaitable[Any]]
VIEWER, REQUESTER, ADMINISTRATOR = Role


class Master:
    id = "turned"

    def wrap(self, key: bytes) -> bytes:
        return key[::-1]

    def unwrap(self, _master_key_id: str, wrapped: bytes) -> bytes:
        return wrapped[::-1]


def clock() -> datetime:
    return NOW


def person(number: int, login: str = "") -> Account:
    return Account(number, login or f"person-{number}", "User")


ADA, WIM = person(11, "ada"), person(12, "wim")


async def give(
    store: Store,
    whom: Account,
    role: Role | None,
    *,
    by: Account = ADA,
    acting: Given | None = None,
    present: Account | bool | None = True,
) -> members.Changed:
    return await members.change(
        store,
        Ledger(store, Keys(Master()), clock),
        clock,
        installation_id=1,
        by=Administrator(by, acting),
        wanted=Wanted(whom.login, role),
        present=whom if present is True else present or None,
    )


async def present(store: Store) -> InstallationSettings:
    async with store.transaction(1) as transaction:
        return await settings.read(transaction)


# --- as people write it ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "login", "role"),
    [
        ("member octocat viewer", "octocat", VIEWER),
        ("member @octocat requester", "octocat", REQUESTER),
        ("Member: Octo-Cat administrator", "Octo-Cat", ADMINISTRATOR),
        ("members octocat admin", "octocat", ADMINISTRATOR),
        ("member `octocat` `viewer`", "octocat", VIEWER),
        ("member octocat = viewer", "octocat", VIEWER),
        ("member octocat is a viewer", "octocat", VIEWER),
        ("member octocat to default", "octocat", None),
        ("role octocat none", "octocat", None),
        ("member a viewer", "a", VIEWER),
        ("member octo_corp viewer", "octo_corp", VIEWER),
    ],
)
def test_a_role_is_read_as_people_write_it(words: str, login: str, role: Role | None) -> None:
    assert members.wanted(words) == Wanted(login, role)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("member", "Say who, and which role"),
        ("member octocat", "Say who, and which role"),
        ("member octocat hubot viewer", "Say who, and which role"),
        ("member octocat viewr", "Did you mean `viewer`"),
        ("member octocat king", "Roles are `viewer`, `requester`, `administrator`, `default`"),
        ("member octo/cat viewer", "can be nobody's login"),
        ("member dependabot[bot] viewer", "can be nobody's login"),
    ],
)
def test_a_near_miss_is_told_what_would_be_understood(words: str, said: str) -> None:
    with pytest.raises(SettingError) as caught:
        members.wanted(words)
    assert said in caught.value.message


def test_other_settings_are_left_to_those_who_read_them_and_name_this_one_too() -> None:
    assert members.wanted("keep-runs 6 months") is None
    assert members.wanted("") is None
    with pytest.raises(SettingError, match="Did you mean `member`"):
        settings.wanted("membr octocat viewer")
    with pytest.raises(SettingError, match="member LOGIN ROLE"):
        settings.find("member")


@given(st.text(max_size=80))
def test_no_text_is_anything_but_a_role_for_a_login_or_a_near_miss(words: str) -> None:
    with suppress(SettingError):
        read = members.wanted(f"member {words}")
        assert read is not None
        assert read.role in (*Role, None)
        assert members.read_login(read.login) == read.login


# --- on the store ----------------------------------------------------------------------------------------------------


async def test_a_role_holds_by_the_account_and_is_an_entry_by_who_gave_it(
    store: Store, register: Register
) -> None:
    await register(1)
    done = await give(store, WIM, VIEWER)
    assert (done.login, done.old, done.new) == ("wim", "default", "viewer")
    assert (await present(store)).members == (Member(id=12, login="wim", role=VIEWER, by="ada", since=NOW),)
    (entry,) = [one async for one in opened(store, Keys(Master()), 1)]
    assert (entry.action, entry.actor) == ("setting.changed", "ada")
    assert dict(entry.details or {}) == {
        "name": "member", "login": "wim", "account": 12, "old": "default", "new": "viewer",
    }  # fmt: skip
    done = await give(store, person(12, "wim-renamed"), REQUESTER)
    assert (done.old, done.new) == ("viewer", "requester")
    assert [(one.id, one.login) for one in (await present(store)).members] == [(12, "wim-renamed")]
    await give(store, WIM, None)
    assert (await present(store)).members == ()


async def test_what_changes_nothing_leaves_no_entry(store: Store, register: Register) -> None:
    await register(1)
    await give(store, WIM, VIEWER)
    await give(store, WIM, VIEWER)
    await give(store, person(13), None)
    assert len([one async for one in opened(store, Keys(Master()), 1)]) == 1


async def test_who_took_a_login_over_has_none_of_its_roles_and_gets_their_own(
    store: Store, register: Register
) -> None:
    await register(1)
    await give(store, WIM, ADMINISTRATOR)
    thief = person(99, "wim")
    assert (await present(store)).member(thief.id) is None
    await give(store, thief, VIEWER)
    assert {one.id: one.role for one in (await present(store)).members} == {12: ADMINISTRATOR, 99: VIEWER}
    await give(store, thief, None)
    assert [one.id for one in (await present(store)).members] == [12]
    await give(store, thief, None)
    assert (await present(store)).members == (), "nobody else of this name is left"


async def test_whose_account_is_gone_is_found_by_the_login_of_then(store: Store, register: Register) -> None:
    await register(1)
    await give(store, WIM, ADMINISTRATOR)
    with pytest.raises(MemberError):
        await give(store, WIM, VIEWER, present=None)
    await give(store, WIM, None, present=None)
    assert (await present(store)).members == ()
    with pytest.raises(MemberError):
        await give(store, WIM, None, present=None)


async def test_there_are_so_many_and_no_more(store: Store, register: Register) -> None:
    await register(1)
    full = tuple(
        Member(id=1000 + n, login=f"m{n}", role=VIEWER, by="ada", since=NOW)
        for n in range(settings.MOST_MEMBERS)
    )
    document = InstallationSettings(members=full).model_dump_json()
    async with store.transaction(1) as transaction:
        await transaction.put_settings(StoredSettings(document, False, "ada", NOW))
    with pytest.raises(MemberError) as caught:
        await give(store, WIM, VIEWER)
    assert caught.value.reason == "member_full"
    await give(store, person(1000, "m0"), ADMINISTRATOR)
    assert len((await present(store)).members) == settings.MOST_MEMBERS


async def test_other_settings_leave_the_roles_alone_and_the_other_way_round(
    store: Store, register: Register
) -> None:
    await register(1)
    ledger = Ledger(store, Keys(Master()), clock)
    wanted = settings.wanted("keep-runs 6")
    await asyncio.gather(
        settings.change(store, ledger, clock, installation_id=1, by="ada", wanted=wanted),
        *(give(store, person(20 + n), VIEWER) for n in range(4)),
    )
    found = await present(store)
    assert found.runs_months == 6
    assert sorted(one.id for one in found.members) == [20, 21, 22, 23]


@pytest.mark.parametrize(
    "wrong",
    [
        '{"members":[{"id":1,"login":"a","role":"owner","by":"b","since":"2026-11-22T12:00:00Z"}]}',
        '{"members":[{"id":1,"login":"a","role":"viewer"}]}',
        (
            '{"members":[{"id":1,"login":"a","role":"viewer","by":"b","since":"2026-11-22T12:00:00Z"},'
            '{"id":1,"login":"a","role":"administrator","by":"b","since":"2026-11-22T12:00:00Z"}]}'
        ),
    ],
)
async def test_roles_that_cannot_be_read_are_nobodys(store: Store, register: Register, wrong: str) -> None:
    await register(1)
    async with store.transaction(1) as transaction:
        await transaction.put_settings(StoredSettings(wrong, False, "x", NOW))
    with pytest.raises(DefectError):
        await present(store)


def test_two_roles_of_one_person_are_none() -> None:
    one = Member(id=1, login="a", role=VIEWER, by="b", since=NOW)
    with pytest.raises(ValidationError):
        InstallationSettings(members=(one, one.model_copy(update={"role": ADMINISTRATOR})))


# --- somebody who administers is always left -------------------------------------------------------------------------


async def test_nobody_changes_their_own_role(store: Store, register: Register) -> None:
    await register(1)
    for role in (*Role, None):
        with pytest.raises(NotTheirsToChangeError) as caught:
            await give(store, ADA, role)
        assert caught.value.reason == "member_own"


async def test_the_owner_of_a_personal_account_stays_its_administrator_whatever_is_written(
    store: Store, register: Register
) -> None:
    await register(1)
    async with store.transaction(1) as transaction:
        found = await transaction.installation()
        assert found is not None
        await transaction.put_installation(
            Installation(1, WIM.id, "wim", False, account_type="User", github_id=found.github_id)
        )
    with pytest.raises(NotTheirsToChangeError) as caught:
        await give(store, WIM, VIEWER)
    assert caught.value.reason == "member_owner"
    written = InstallationSettings(members=(Member(id=12, login="wim", role=VIEWER, by="x", since=NOW),))
    own = Installation(1, WIM.id, "wim", False, account_type="User")
    assert written.given(own, WIM.id) is None
    assert written.given(Installation(1, WIM.id, "wim", False), WIM.id) == Given(VIEWER, "x")


async def test_of_two_who_take_each_others_role_at_once_one_administers_still(
    store: Store, register: Register
) -> None:
    await register(1)
    done = await asyncio.gather(
        give(store, WIM, VIEWER, by=ADA), give(store, ADA, VIEWER, by=WIM), return_exceptions=True
    )
    (refused,) = [one for one in done if isinstance(one, BaseException)]
    assert isinstance(refused, NotTheirsToChangeError)
    assert refused.reason == "member_meanwhile"
    assert len((await present(store)).members) == 1


PEOPLE = range(1, 4)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(PEOPLE),
        st.integers(0, 3),
        st.sampled_from(PEOPLE),
        st.sampled_from([*Role, None]),
    ),
    max_size=25,
)


def administrators(chosen: InstallationSettings, where: Installation, by_github: set[int]) -> set[int]:
    """Those whom GitHub names and nobody took it from, and those who were appointed."""
    found = {number: chosen.given(where, number) for number in PEOPLE}
    return {
        number
        for number, role in found.items()
        if (role is None and number in by_github) or (role is not None and role.role is ADMINISTRATOR)
    }


@hypothesis_settings(max_examples=500)
@given(STEPS, st.sets(st.sampled_from(PEOPLE), min_size=1), st.booleans())
def test_whatever_administrators_do_to_each_other_one_is_left(
    steps: list[tuple[int, int, int, Role | None]], by_github: set[int], personal: bool
) -> None:
    """Each was found to administer by the settings as they were up to three changes ago."""
    if personal:
        by_github = {min(by_github)}
    where = Installation(
        1,
        min(by_github) if personal else 999,
        "octo",
        False,
        account_type="User" if personal else "Organization",
    )
    history = [InstallationSettings()]
    for actor, ago, whom, role in steps:
        seen = history[max(0, len(history) - 1 - ago)]
        if actor not in administrators(seen, where, by_github):
            continue
        by = Administrator(person(actor), seen.given(where, actor))
        with suppress(NotTheirsToChangeError):
            history.append(members.changed(history[-1], where, by, whom=person(whom), role=role, at=NOW))
        assert administrators(history[-1], where, by_github)


def test_what_came_later_stands_in_the_document_only_where_it_was_chosen() -> None:
    """A program of before it refuses what it does not know, and both run while a new one is rolled out."""
    given = Member(id=12, login="wim", role=VIEWER, by="ada", since=NOW)
    written = json.loads(InstallationSettings(runs_months=6).document())
    assert not {"members", "plan_first", "left_alone"} & set(written)
    chosen = InstallationSettings(plan_first=True, left_alone=("tests",))
    assert InstallationSettings.model_validate_json(chosen.document()) == chosen
    held = InstallationSettings(members=(given,))
    assert InstallationSettings.model_validate_json(held.document()) == held
