"""Who administers an installation: the account itself, else who is an administrator of every one of its repositories."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.errors import DeniedError, MissingError, TransientError
from app.nouns import Account
from infra.github.app import GitHubApp
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


# --- what GitHub may answer beside what the simulator does -----------------------------------------------------------


@dataclass(frozen=True)
class Script:
    """What a GitHub with one repository answers about olga, who has the id 7."""

    installation: dict[str, Any]
    repository: dict[str, Any]
    key: str

    def app(self, permission: dict[str, Any], person: dict[str, Any] | None = None) -> GitHubApp:
        transport = httpx.MockTransport(lambda request: self._answer(request, permission, person))
        return GitHubApp(app_id=1, private_key=self.key, api_url="https://api.example", transport=transport)

    def _answer(
        self, request: httpx.Request, permission: dict[str, Any], person: dict[str, Any] | None
    ) -> httpx.Response:
        path = request.url.path
        if path == "/app/installations/1":
            return httpx.Response(200, json=self.installation)
        if path.endswith("/access_tokens"):
            return httpx.Response(201, json={"token": "ghs_x", "expires_at": "2099-01-01T00:00:00Z"})
        if path == "/user/7":
            told = person or {"id": 7, "login": "olga", "type": "User", "new": [1]}
            return httpx.Response(200, json=told)
        if path == "/installation/repositories":
            listed = {"total_count": 1, "repositories": [{**self.repository, "full_name": "acme/one"}]}
            return httpx.Response(200, json=listed)
        if path == "/repos/acme/one/collaborators/olga/permission":
            return httpx.Response(200, json=permission)
        return httpx.Response(204)


@pytest.fixture
async def script(desk: Any, acme: int) -> Script:
    """The installation and the repository look as the simulator's."""
    jwt = desk.sim.app_client()
    installation = (await jwt.get(f"/app/installations/{acme}")).json()
    token = (await jwt.post(f"/app/installations/{acme}/access_tokens", json={})).json()["token"]
    listed = (await desk.sim.client(token=token).get("/installation/repositories")).json()
    return Script(installation, listed["repositories"][0], desk.sim.world.app.private_key_pem)


OLGA = Account(7, "olga", "User")


@pytest.mark.parametrize(
    ("permission", "expected"),
    [
        ({"permission": "admin", "user": {"id": 7, "login": "olga", "type": "User", "new": {}}}, True),
        ({"permission": "admin", "user": {"id": 8, "login": "olga", "type": "User"}}, False),
        ({"permission": "admin", "user": None}, False),
        ({"permission": "Admin", "user": {"id": 7, "login": "olga", "type": "User"}}, False),
        (
            {"permission": "write", "role_name": "admin", "user": {"id": 7, "login": "olga", "type": "User"}},
            False,
        ),
    ],
)
async def test_the_permission_counts_and_whose_it_is(
    script: Script, permission: dict[str, Any], expected: bool
) -> None:
    assert await script.app(permission).administers(1, OLGA) is expected


@pytest.mark.parametrize(
    "person",
    [
        {"id": 8, "login": "olga", "type": "User"},
        {"id": 7, "login": "olga", "type": "Bot"},
        {"id": 7, "login": "olga", "type": "Organization"},
    ],
)
async def test_who_is_another_or_no_person_administers_nothing(
    script: Script, person: dict[str, Any]
) -> None:
    held = {"permission": "admin", "user": {"id": 7, "login": "olga", "type": "User"}}
    assert not await script.app(held, person).administers(1, OLGA)


async def test_an_answer_that_says_nothing_is_no_answer_and_no_yes(script: Script) -> None:
    for broken in ({}, {"permission": "admin"}, {"permission": True, "user": None}):
        with pytest.raises(TransientError):
            await script.app(broken).administers(1, OLGA)
