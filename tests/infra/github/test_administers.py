"""Who administers an installation: the account itself, else who is an administrator of every one of its repositories."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from app.errors import DeniedError, MissingError
from app.nouns import Account
from infra.simulator.serve import add_repository


def person(desk: Any, login: str) -> Account:
    found = desk.sim.account(login)
    return Account(found.id, found.login, found.type)


@pytest.fixture
async def acme(desk: Any, folder: Path) -> int:
    """An organization of olga's with three repositories; carl administers one of them, dora all."""
    repos = {"one": folder, "two": folder, "three": folder}
    made = await desk.sim.add_account(
        "acme", repos, owners=["olga"], people={"dora": "admin", "carl": "maintain"}
    )
    desk.sim.world.repository("acme/two").collaborators["carl"] = "admin"
    return int(made.id)


async def test_an_owner_of_the_organization_administers_it(desk: Any, acme: int) -> None:
    assert await desk.app.administers(acme, person(desk, "olga"))


async def test_who_is_administrator_of_every_repository_administers_the_installation(
    desk: Any, acme: int
) -> None:
    assert await desk.app.administers(acme, person(desk, "dora"))


async def test_an_administrator_of_one_repository_does_not(desk: Any, acme: int) -> None:
    assert not await desk.app.administers(acme, person(desk, "carl"))


@pytest.mark.parametrize("role", ["maintain", "write", "triage", "read", "none"])
async def test_one_lesser_role_among_many_is_enough_to_be_none(desk: Any, acme: int, role: str) -> None:
    desk.sim.world.repository("acme/three").collaborators["dora"] = role
    assert not await desk.app.administers(acme, person(desk, "dora"))


async def test_an_administrator_of_somebody_elses_installation_is_an_outsider(desk: Any, acme: int) -> None:
    assert not await desk.app.administers(acme, person(desk, "ada"))
    assert await desk.app.administers(desk.installation, person(desk, "ada"))
    assert not await desk.app.administers(desk.installation, person(desk, "olga"))


async def test_public_repositories_make_nobody_an_administrator(desk: Any, acme: int) -> None:
    for repo in desk.sim.world.repositories.values():
        repo.private = False
    assert not await desk.app.administers(acme, person(desk, "ada"))


async def test_a_person_administers_the_own_account_and_no_collaborator_does(desk: Any, folder: Path) -> None:
    made = await desk.sim.add_account("otto", {"notes": folder}, people={"carl": "admin"})
    assert await desk.app.administers(made.id, person(desk, "otto"))
    assert not await desk.app.administers(made.id, person(desk, "carl"))


async def test_a_persons_own_account_needs_no_token(desk: Any, folder: Path) -> None:
    made = await desk.sim.add_account("otto", {"notes": folder})
    desk.requests.clear()
    assert await desk.app.administers(made.id, person(desk, "otto"))
    assert desk.requests == [("GET", "/app/installations/{installation_id}", 200)]


async def test_the_organization_itself_is_nobody(desk: Any, acme: int) -> None:
    assert not await desk.app.administers(acme, person(desk, "acme"))


async def test_an_organization_without_repositories_is_nobodys(desk: Any) -> None:
    made = await desk.sim.add_account("empty", {}, owners=["olga"])
    assert not await desk.app.administers(made.id, person(desk, "olga"))


async def test_a_new_login_is_found_by_id(desk: Any, acme: int) -> None:
    before = person(desk, "olga")
    desk.sim.account("olga").login = "olga-renamed"
    assert await desk.app.administers(acme, before)


async def test_who_takes_an_old_login_over_takes_nothing_else_over(desk: Any, acme: int) -> None:
    """The login that a person had is free again after a rename: another account may carry it."""
    olga = desk.sim.account("olga")
    olga.login = "olga-renamed"
    thief = desk.sim.world.add_user("olga")
    assert not await desk.app.administers(acme, Account(thief.id, "olga", "User"))
    assert not await desk.app.administers(acme, Account(thief.id, "olga-renamed", "User"))
    assert await desk.app.administers(acme, Account(olga.id, "olga", "User"))


async def test_an_account_that_is_gone_administers_nothing(desk: Any, acme: int) -> None:
    assert not await desk.app.administers(acme, Account(987_654_321, "olga", "User"))


async def test_only_the_repositories_of_the_installation_count(desk: Any, acme: int, folder: Path) -> None:
    await add_repository(desk.sim.world, "acme/hidden", folder, people={}, installed=False)
    assert await desk.app.administers(acme, person(desk, "dora"))


async def test_the_question_is_asked_with_metadata_alone_and_the_token_revoked(desk: Any, acme: int) -> None:
    desk.requests.clear()
    desk.sim.world.requests.clear()
    assert await desk.app.administers(acme, person(desk, "dora"))
    asked = [record for record in desk.sim.world.requests if record.caller == "installation"]
    assert {one for record in asked for one in record.permissions} == {"metadata:read"}
    assert {record.status for record in asked} <= {200, 204}
    assert desk.requests[-1] == ("DELETE", "/installation/token", 204)
    assert not [one for one in desk.sim.world.tokens.values() if one.installation_id == acme]


async def test_every_page_is_asked_and_the_first_no_ends_it(desk: Any, acme: int, folder: Path) -> None:
    world = desk.sim.world
    first = world.repository("acme/one")
    for number in range(120):
        copy = type(first)(**{**vars(first), "id": world.next_id(), "name": f"copy{number}"})
        world.repositories[copy.id] = copy
        world.installations[acme].repository_ids.add(copy.id)
    assert len(await desk.app.repositories(acme)) == 123
    desk.requests.clear()
    assert await desk.app.administers(acme, person(desk, "dora"))
    route = "/repos/{owner}/{repo}/collaborators/{username}/permission"
    assert sum(one[1] == route for one in desk.requests) == 123
    last = world.repository("acme/copy119")
    last.collaborators = {}
    assert not await desk.app.administers(acme, person(desk, "dora"))
    first.collaborators = {}
    desk.requests.clear()
    assert not await desk.app.administers(acme, person(desk, "dora"))
    assert sum(one[1] == route for one in desk.requests) == 8


async def test_an_installation_that_is_gone_is_missing(desk: Any, acme: int) -> None:
    olga = person(desk, "olga")
    desk.sim.uninstall("acme")
    for asking in (desk.app.administers(acme, olga), desk.app.repositories(acme)):
        with pytest.raises(MissingError) as missing:
            await asking
        assert missing.value.reason == "installation_missing"


async def test_a_suspended_organization_cannot_be_asked(desk: Any, acme: int) -> None:
    desk.sim.world.installations[acme].suspended_at = desk.sim.world.now()
    with pytest.raises(DeniedError) as denied:
        await desk.app.administers(acme, person(desk, "olga"))
    assert denied.value.reason == "installation_suspended"


async def test_an_error_of_githubs_is_no_answer(desk: Any, acme: int) -> None:
    """Neither yes nor no: whoever asks tries again."""
    desk.fault(method="GET", route="/collaborators/", kind="status", status=403, times=50)
    with pytest.raises(DeniedError):
        await desk.app.administers(acme, person(desk, "olga"))


async def test_repositories_are_all_that_the_installation_covers(desk: Any, acme: int) -> None:
    assert sorted(one.full_name for one in await desk.app.repositories(acme)) == [
        "acme/one",
        "acme/three",
        "acme/two",
    ]


async def test_installations_say_what_kind_of_account_theirs_is(desk: Any, acme: int, folder: Path) -> None:
    await desk.sim.add_account("otto", {"notes": folder})
    kinds = {one.account_login: one.account_type for one in await desk.app.installations()}
    assert kinds == {"octo": "Organization", "acme": "Organization", "otto": "User"}
