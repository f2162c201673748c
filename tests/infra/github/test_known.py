"""Whom an installation's repositories know, and who has a login: what stands behind a role that somebody was given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from app.errors import DeniedError, MissingError
from app.nouns import Account
from infra.github.app import KNOWN_WITHIN

PERMISSION = "/repos/{owner}/{repo}/collaborators/{username}/permission"


def person(desk: Any, login: str) -> Account:
    found = desk.sim.account(login)
    return Account(found.id, found.login, found.type)


@pytest.fixture
async def acme(desk: Any, folder: Path) -> int:
    """An organization with a private repository and a public one; rita reads both, tess is a stranger."""
    made = await desk.sim.add_account(
        "acme", {"closed": folder, "open": folder}, owners=["olga"], people={"rita": "read", "wim": "write"}
    )
    desk.sim.world.repository("acme/open").private = False
    desk.sim.world.add_user("tess")
    return int(made.id)


async def test_who_reads_a_private_repository_is_known(desk: Any, acme: int) -> None:
    assert await desk.app.knows(acme, person(desk, "rita"))
    assert await desk.app.knows(acme, person(desk, "olga"))


async def test_what_everybody_may_read_makes_nobody_known(desk: Any, acme: int) -> None:
    assert not await desk.app.knows(acme, person(desk, "tess"))
    desk.sim.world.repository("acme/closed").collaborators.pop("rita")
    assert not await desk.app.knows(acme, person(desk, "rita")), "a reader of what is public alone"


async def test_who_writes_to_a_public_repository_is_known(desk: Any, acme: int) -> None:
    desk.sim.world.repository("acme/closed").collaborators.pop("wim")
    assert await desk.app.knows(acme, person(desk, "wim"))


async def test_who_left_is_not_known_any_more(desk: Any, acme: int) -> None:
    for name in ("acme/closed", "acme/open"):
        desk.sim.world.repository(name).collaborators.pop("wim")
    assert not await desk.app.knows(acme, person(desk, "wim"))


async def test_it_is_the_account_that_is_known_and_not_its_login(desk: Any, acme: int) -> None:
    rita = person(desk, "rita")
    desk.sim.account("rita").login = "rita-renamed"
    for name in ("acme/closed", "acme/open"):
        people = desk.sim.world.repository(name).collaborators
        people["rita-renamed"] = people.pop("rita")
    thief = desk.sim.world.add_user("rita")
    assert await desk.app.knows(acme, rita)
    assert not await desk.app.knows(acme, Account(thief.id, "rita", "User"))
    assert not await desk.app.knows(acme, Account(987_654_321, "rita-renamed", "User"))


async def test_a_personal_account_knows_its_collaborators(desk: Any, folder: Path) -> None:
    made = await desk.sim.add_account("otto", {"notes": folder}, people={"rita": "read"})
    assert await desk.app.knows(made.id, person(desk, "rita"))
    assert not await desk.app.knows(made.id, person(desk, "wim"))


async def test_no_more_repositories_are_asked_than_one_page_holds(desk: Any, acme: int) -> None:
    world = desk.sim.world
    first = world.repository("acme/closed")
    for number in range(KNOWN_WITHIN + 20):
        copy = type(first)(**{**vars(first), "id": world.next_id(), "name": f"copy{number}"})
        world.repositories[copy.id] = copy
        world.installations[acme].repository_ids.add(copy.id)
    desk.requests.clear()
    assert not await desk.app.knows(acme, person(desk, "tess"))
    assert sum(one[1] == PERMISSION for one in desk.requests) == KNOWN_WITHIN


async def test_the_question_is_asked_with_metadata_alone_and_the_token_revoked(desk: Any, acme: int) -> None:
    desk.sim.world.requests.clear()
    await desk.app.knows(acme, person(desk, "tess"))
    await desk.app.account(acme, "tess")
    asked = [record for record in desk.sim.world.requests if record.caller == "installation"]
    assert {one for record in asked for one in record.permissions} == {"metadata:read"}
    assert not [one for one in desk.sim.world.tokens.values() if one.installation_id == acme]


async def test_a_login_is_whose_it_is_now_whatever_they_may_do(desk: Any, acme: int) -> None:
    assert await desk.app.account(acme, "rita") == person(desk, "rita")
    assert await desk.app.account(acme, "RITA") == person(desk, "rita")
    assert await desk.app.account(acme, "tess") == person(desk, "tess")
    assert await desk.app.account(acme, "nobody-at-all") is None
    assert await desk.app.account(acme, "../acme") is None


async def test_what_is_no_person_has_no_role(desk: Any, acme: int) -> None:
    assert await desk.app.account(acme, "acme") is None
    desk.sim.world.add_user("robot", "Bot")
    assert await desk.app.account(acme, "robot") is None


async def test_where_there_is_no_repository_nobody_is_known_and_nobody_is_found(desk: Any) -> None:
    made = await desk.sim.add_account("empty", {}, owners=["olga"])
    assert not await desk.app.knows(made.id, person(desk, "olga"))
    assert await desk.app.account(made.id, "olga") is None


async def test_an_installation_that_is_gone_or_suspended_is_said(desk: Any, acme: int) -> None:
    with pytest.raises(MissingError):
        await desk.app.knows(987, person(desk, "olga"))
    with pytest.raises(MissingError):
        await desk.app.account(987, "olga")
    found = desk.sim.world.installations[acme]
    found.suspended_at, found.suspended_by_id = desk.sim.world.now(), desk.sim.account("olga").id
    with pytest.raises(DeniedError):
        await desk.app.knows(acme, person(desk, "olga"))
