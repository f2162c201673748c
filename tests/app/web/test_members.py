"""Roles on pages and in the API: what each of them opens with each of GitHub's permissions, and how they are given."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import httpx
import pytest
import pytest_asyncio

from app.custody.settings import InstallationSettings, Member
from app.nouns import Role, Run, StoredSettings
from app.web.access import Scope
from infra.simulator.state import User
from tests.app.web.browser import Browser, Whole, opened
from tests.app.web.test_api import token
from tests.line.conversations import repo_of
from tests.line.roles import chosen, give, role_of
from tests.line.stage import Stage

pytestmark = pytest.mark.asyncio(loop_scope="module")

_numbers = itertools.count(1)


def at(stage: Stage, path: str = "") -> str:
    return f"/installations/{stage.installation}{path}"


def person(stage: Stage, granted: str | None) -> User:
    """Somebody new whom GitHub grants this in the one repository, which is private."""
    made = stage.github.world.add_user(f"member-{next(_numbers)}")
    if granted is not None:
        repo_of(stage).collaborators[made.login] = granted
    return made


@pytest_asyncio.fixture(scope="module", loop_scope="module", autouse=True)
async def ended(shared: Stage) -> Run:
    """A run that has ended: who may steer it is told that it has, who may not that it is not there."""
    limits = shared.github.world.limits
    limits.anonymous_per_hour = limits.points_per_minute = 1_000_000  # dozens of people sign in here at once
    number = await shared.open_issue("Help")
    await shared.comment(number, "@magicode help")
    (run,) = await shared.ended(1)
    return run


@pytest_asyncio.fixture(loop_scope="module")
async def browser(shared: Stage) -> AsyncIterator[Browser]:
    async with opened(shared) as one:
        yield one


# --- every cell ------------------------------------------------------------------------------------------------------

ROLES = (None, *Role)
ADMINISTERS = {
    (None, "admin"),
    *((Role.ADMINISTRATOR, granted) for granted in ("admin", "maintain", "write", "triage", "read")),
}
STEERS = {
    (role, granted)
    for role in (None, Role.REQUESTER, Role.ADMINISTRATOR)
    for granted in ("admin", "maintain", "write")
}


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("granted", ["admin", "maintain", "write", "triage", "read", None])
async def test_every_cell_of_permission_and_role_and_face(
    shared: Stage, browser: Browser, ended: Run, granted: str | None, role: Role | None
) -> None:
    who = person(shared, granted)
    if role is not None:
        await give(shared, who.login, role)
    await browser.sign_in(who.login)
    key = await browser.form_key()
    administers = 200 if (role, granted) in ADMINISTERS else 404
    reads = 200 if granted is not None else 404
    steers = 409 if (role, granted) in STEERS else 404
    for path in ("", "/settings", "/members", "/usage", "/tokens", "/exports", "/deletion", "/runs"):
        assert (await browser.get(at(shared, path))).status_code == administers, path
    for path in ("", "/settings", "/members", "/usage", "/tokens", "/actions", "/exports", "/runs"):
        assert (await browser.api("GET", at(shared, path))).status_code == administers, path
    one = at(shared, f"/runs/{ended.id}")
    assert (await browser.get(one)).status_code == reads
    assert (await browser.api("GET", one)).status_code == reads
    for what in ("stop", "retry"):
        assert (await browser.post(f"{one}/{what}", {"form_key": key})).status_code == steers, what
        assert (await browser.api("POST", f"{one}/{what}", form_key=key)).status_code == steers, what
    sent = {"form_key": key, "name": "limit-run", "value": "$3"}
    assert (await browser.post(at(shared, "/settings"), sent)).status_code == administers
    put = await browser.api("PUT", at(shared, "/settings/limit-run"), {"value": "$3"}, form_key=key)
    assert put.status_code == administers
    wrong = {"account": "not octo"}
    gone = await browser.api("POST", at(shared, "/deletion"), wrong, form_key=key)
    assert gone.status_code == (400 if administers == 200 else 404)


async def test_who_was_appointed_and_left_has_no_rights_after_five_minutes_and_changes_nothing_from_then_on(
    shared: Stage, browser: Browser
) -> None:
    who = person(shared, "read")
    await give(shared, who.login, Role.ADMINISTRATOR)
    await browser.sign_in(who.login)
    assert (await browser.get(at(shared, "/settings"))).status_code == 200
    del repo_of(shared).collaborators[who.login]
    key = await browser.form_key()
    sent = {"form_key": key, "name": "limit-run", "value": "$4"}
    assert (await browser.post(at(shared, "/settings"), sent)).status_code == 404
    assert (await browser.get(at(shared, "/settings"))).status_code == 404, "the no is believed at once"


async def test_a_role_that_was_taken_away_counts_at_once(shared: Stage, browser: Browser) -> None:
    who = person(shared, "admin")
    await browser.sign_in(who.login)
    for role, status in ((Role.VIEWER, 404), (Role.ADMINISTRATOR, 200), (Role.REQUESTER, 404), (None, 200)):
        await give(shared, who.login, role)
        assert (await browser.get(at(shared, "/settings"))).status_code == status, role


async def test_settings_that_cannot_be_read_open_nothing_to_anybody(
    shared: Stage, ada: Browser, ended: Run
) -> None:
    async with shared.house.store.transaction(shared.installation) as transaction:
        before = await transaction.settings()
        await transaction.put_settings(
            StoredSettings('{"members":[{"id":1}]}', False, "x", datetime.now(UTC))
        )
    try:
        for path in ("", "/settings", "/runs", f"/runs/{ended.id}"):
            page = await ada.get(at(shared, path))
            assert page.status_code == 500, path
            assert "Something of ours broke." in page.text
        key = await ada.form_key()
        stopped = await ada.api("POST", at(shared, f"/runs/{ended.id}/stop"), form_key=key)
        assert stopped.status_code == 500
    finally:
        async with shared.house.store.transaction(shared.installation) as transaction:
            await transaction.put_settings(before or StoredSettings("{}", False, "x", datetime.now(UTC)))


# --- giving and taking -----------------------------------------------------------------------------------------------


async def test_a_role_is_given_and_taken_on_the_page(shared: Stage, ada: Browser) -> None:
    page = await ada.get(at(shared, "/members"))
    page = await ada.submit(page, at(shared, "/members"), login="@Rita", role="requester")
    assert page.status_code == 200
    assert "<td>rita</td>" in page.text
    Whole.require(page.text)
    assert await role_of(shared, "rita") == "requester"
    (entry,) = [
        one.details
        for one in await shared.log()
        if one.action == "setting.changed" and (one.details or {}).get("login") == "rita"
    ]
    assert entry is not None
    assert (entry["name"], entry["old"], entry["new"]) == ("member", "default", "requester")
    rita = shared.github.account("rita")
    key = await ada.form_key()
    page = await ada.post(at(shared, "/members/remove"), {"form_key": key, "person": str(rita.id)})
    assert page.status_code == 200
    assert await role_of(shared, "rita") == "default"
    again = await ada.post(at(shared, "/members/remove"), {"form_key": key, "person": str(rita.id)})
    assert again.status_code == 200


@pytest.mark.parametrize(
    ("login", "role", "status", "said"),
    [
        ("nobody-at-all-here", "viewer", 400, "GitHub knows no person of this login"),
        ("<b>x</b>", "viewer", 400, "can be nobody&#39;s login"),
        ("wim", "king", 400, "is no role"),
        ("ada", "viewer", 403, "Nobody changes their own role"),
        ("octo", "viewer", 400, "GitHub knows no person of this login"),
    ],
)
async def test_what_is_not_possible_is_said_on_the_page(
    shared: Stage, ada: Browser, login: str, role: str, status: int, said: str
) -> None:
    before = await chosen(shared)
    key = await ada.form_key()
    page = await ada.post(at(shared, "/members"), {"form_key": key, "login": login, "role": role})
    assert (page.status_code, said in page.text) == (status, True), page.text
    assert "<b>x</b>" not in page.text
    assert await chosen(shared) == before


async def test_a_role_is_given_and_taken_by_the_api(shared: Stage, ada: Browser) -> None:
    key = await ada.form_key()
    where = at(shared, "/members/rita")
    assert (await ada.api("PUT", where, {"role": "viewer"})).status_code == 403, "without a form key"
    put = await ada.api("PUT", where, {"role": "viewer"}, form_key=key)
    assert put.json() == {"login": "rita", "old": "default", "new": "viewer"}
    assert (await ada.api("PUT", where, {"role": "viewer"}, form_key=key)).json()["old"] == "viewer"
    listed = (await ada.api("GET", at(shared, "/members"))).json()
    (one,) = [each for each in listed if each["login"] == "rita"]
    assert (one["role"], one["given_by"]) == ("viewer", "ada")
    assert one["id"] == shared.github.account("rita").id
    taken = await ada.api("DELETE", where, form_key=key)
    assert taken.json() == {"login": "rita", "old": "viewer", "new": "default"}
    wrong = await ada.api("PUT", where, {"role": "king"}, form_key=key)
    assert (wrong.status_code, wrong.json()["type"]) == (400, "urn:magicode:setting_value")
    own = await ada.api("PUT", at(shared, "/members/ada"), {"role": "viewer"}, form_key=key)
    assert (own.status_code, own.json()["type"]) == (403, "urn:magicode:member_own")
    nobody = await ada.api("PUT", at(shared, "/members/no-such-one"), {"role": "viewer"}, form_key=key)
    assert (nobody.status_code, nobody.json()["type"]) == (400, "urn:magicode:member_unknown")


async def test_a_token_sees_the_roles_and_appoints_nobody(shared: Stage, ada: Browser) -> None:
    bearer = {"Authorization": f"Bearer {await token(shared, ada, *Scope)}"}
    before = await chosen(shared)
    async with httpx.AsyncClient(
        base_url=f"{shared.url}/api", headers=bearer, trust_env=False, timeout=60
    ) as program:
        assert (await program.get(at(shared, "/members"))).status_code == 200
        for answer in (
            await program.put(at(shared, "/members/wim"), json={"role": "administrator"}),
            await program.delete(at(shared, "/members/wim")),
        ):
            assert (answer.status_code, answer.json()["type"]) == (403, "urn:magicode:scope")
        sneaked = await program.put(at(shared, "/settings/member"), json={"value": "wim administrator"})
        assert (sneaked.status_code, sneaked.json()["type"]) == (400, "urn:magicode:setting_unknown")
    assert await chosen(shared) == before


async def test_who_was_appointed_appoints_too_and_takes_no_right_from_who_administers_by_github(
    shared: Stage, browser: Browser
) -> None:
    who = person(shared, "read")
    await give(shared, who.login, Role.ADMINISTRATOR)
    await browser.sign_in(who.login)
    key = await browser.form_key()
    done = await browser.api("PUT", at(shared, "/members/rita"), {"role": "viewer"}, form_key=key)
    assert done.json()["new"] == "viewer"
    await browser.api("DELETE", at(shared, "/members/rita"), form_key=key)
    for role in ("viewer", "requester"):
        refused = await browser.api("PUT", at(shared, "/members/ada"), {"role": role}, form_key=key)
        assert (refused.status_code, refused.json()["type"]) == (403, "urn:magicode:member_of_github")
    assert await role_of(shared, "ada") == "default"


async def test_the_owner_of_a_personal_account_administers_it_whatever_is_written(
    shared: Stage, browser: Browser
) -> None:
    sol = shared.github.account("sol")
    own = next(one.id for one in shared.github.world.installations.values() if one.account_id == sol.id)
    written = Member(id=sol.id, login="sol", role=Role.VIEWER, by="x", since=datetime.now(UTC))
    document = InstallationSettings(members=(written,)).model_dump_json()
    async with shared.house.store.transaction(own) as transaction:
        await transaction.put_settings(StoredSettings(document, False, "x", datetime.now(UTC)))
    await browser.sign_in("sol")
    assert (await browser.get(f"/installations/{own}/settings")).status_code == 200
    key = await browser.form_key()
    given = await browser.api(
        "PUT", f"/installations/{own}/members/wim", {"role": "administrator"}, form_key=key
    )
    assert given.json()["new"] == "administrator"
    async with opened(shared) as other:
        await other.sign_in("wim")
        assert (await other.get(f"/installations/{own}/settings")).status_code == 200
        key = await other.form_key()
        refused = await other.api(
            "PUT", f"/installations/{own}/members/sol", {"role": "viewer"}, form_key=key
        )
        assert refused.status_code == 403
