"""What people do to the App on GitHub's pages: it comes, goes, comes back under another id, and is paid for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from infra.simulator.auth import new_installation_token
from infra.simulator.installing import PLAN_ACTIONS


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "other"
    made.mkdir()
    (made / "a.txt").write_text("a\n")
    return made


async def test_an_app_that_is_installed_again_has_another_id(hub: Any) -> None:
    first = hub.running.installation_id
    token = new_installation_token(hub.world, hub.world.installations[first], {"metadata": "read"}, None)
    client = hub.as_token(token.value)
    assert (await client.get("/installation/repositories")).status_code == 200
    hub.running.uninstall("octo", by="ada")
    assert (await client.get("/installation/repositories")).status_code == 401
    minted = await hub.as_app().post(f"/app/installations/{first}/access_tokens", json={})
    assert minted.status_code == 404
    again = hub.running.install("octo", by="wim")
    assert again.id != first
    assert again.repository_ids == {hub.repo.id}
    assert (await client.get("/installation/repositories")).status_code == 401
    assert (await hub.as_app().get("/orgs/octo/installation")).json()["id"] == again.id
    (gone,), (come,) = hub.hooks("installation", "deleted"), hub.hooks("installation", "created")
    assert (gone["installation"]["id"], gone["sender"]["login"]) == (first, "ada")
    assert (come["installation"]["id"], come["sender"]["login"]) == (again.id, "wim")
    assert gone["installation"]["account"] == come["installation"]["account"]
    assert [one["full_name"] for one in come["repositories"]] == ["octo/sample"]


async def test_the_desk_installs_and_uninstalls(hub: Any) -> None:
    desk = hub.running.client()
    assert (await desk.post("/_simulator/installations", json={"account": "octo"})).status_code == 422
    sent = {"account": "octo", "by": "ada"}
    assert (await desk.request("DELETE", "/_simulator/installations", json=sent)).status_code == 200
    assert (await desk.request("DELETE", "/_simulator/installations", json=sent)).status_code == 404
    assert (await desk.get("/_simulator/installations")).json() == []
    made = await desk.post("/_simulator/installations", json={**sent, "repositories": ["octo/sample"]})
    assert made.json()["repository_selection"] == "selected"
    assert (await desk.get("/_simulator/installations")).json() == [made.json()]
    assert (await desk.post("/_simulator/installations", json={"account": "nobody"})).status_code == 404


async def test_the_desk_signs_people_and_organizations_up(hub: Any) -> None:
    desk = hub.running.client()
    otto = (await desk.post("/_simulator/accounts", json={"login": "otto"})).json()
    assert (await hub.as_token(otto["token"]).get("/user")).json()["id"] == otto["id"]
    owned = {"login": "acme", "type": "Organization", "owners": ["otto"]}
    acme = (await desk.post("/_simulator/accounts", json=owned)).json()
    assert acme["token"] is None
    made = (await desk.post("/_simulator/installations", json={"account": "acme"})).json()
    assert (made["account"]["id"], made["target_type"]) == (acme["id"], "Organization")
    assert hub.hooks("installation", "created")[0]["sender"]["login"] == "otto"
    for wrong, status in (({"login": "otto"}, 422), ({"login": "x", "type": "Bot"}, 422), ({}, 422)):
        assert (await desk.post("/_simulator/accounts", json=wrong)).status_code == status


async def test_a_second_customer_has_its_own_people_repositories_and_installation(
    hub: Any, folder: Path
) -> None:
    made = await hub.running.add_account("acme", {"app": folder}, owners=["olga"], people={"carl": "write"})
    repo = hub.world.repository("acme/app")
    assert made.repository_ids == {repo.id}
    assert hub.world.user(made.account_id).type == "Organization"
    seen = {}
    for login in ("olga", "carl", "ada"):
        answer = await hub.as_user(login).get("/repos/acme/app")
        seen[login] = answer.status_code, answer.json().get("permissions", {}).get("admin")
    assert seen == {"olga": (200, True), "carl": (200, False), "ada": (404, None)}
    assert (await hub.as_user("olga").get("/repos/octo/sample")).status_code == 404
    theirs = new_installation_token(hub.world, made, {"metadata": "read"}, None)
    listed = (await hub.as_token(theirs.value).get("/installation/repositories")).json()
    assert [one["full_name"] for one in listed["repositories"]] == ["acme/app"]
    assert (await hub.as_token(theirs.value).get("/repos/octo/sample")).status_code == 404


async def test_a_person_is_a_customer_too(hub: Any, folder: Path) -> None:
    made = await hub.running.add_account("rita", {"notes": folder})
    assert hub.world.user(made.account_id).login == "rita"
    assert (await hub.as_app().get("/users/rita/installation")).json()["id"] == made.id
    assert (await hub.rita.get("/repos/rita/notes")).json()["permissions"]["admin"]


@pytest.mark.parametrize("action", PLAN_ACTIONS)
async def test_a_plan_names_its_account_and_no_installation(hub: Any, action: str) -> None:
    desk = hub.running.client()
    sent = {"action": action, "account": "octo", "effective_date": "2026-12-01T00:00:00Z"}
    assert (await desk.post("/_simulator/marketplace", json=sent)).status_code == 200
    (told,) = hub.hooks("marketplace_purchase")
    assert (told["action"], told["effective_date"]) == (action, "2026-12-01T00:00:00Z")
    assert told["marketplace_purchase"]["account"]["login"] == "octo"
    assert "installation" not in told
    assert ("previous_marketplace_purchase" in told) == (action not in ("purchased", "cancelled"))


async def test_a_plan_is_told_where_the_app_is_not_installed_too(hub: Any) -> None:
    hub.running.uninstall("octo")
    hub.running.change_plan("octo", "cancelled")
    assert len(hub.hooks("marketplace_purchase", "cancelled")) == 1


async def test_the_apps_list_of_deliveries_does_not_hold_the_marketplaces(hub: Any) -> None:
    hub.running.change_plan("octo", "purchased")
    hub.running.uninstall("octo")
    listed = (await hub.as_app().get("/app/hook/deliveries")).json()
    assert {one["event"] for one in listed} == {"installation"}


async def test_a_plan_that_is_none_is_refused_by_the_desk(hub: Any) -> None:
    desk = hub.running.client()
    for sent, status in (
        ({"action": "burned", "account": "octo"}, 422),
        ({"action": "cancelled", "account": "nobody"}, 404),
        ({"action": "cancelled", "account": "octo", "effective_date": "soon"}, 422),
    ):
        assert (await desk.post("/_simulator/marketplace", json=sent)).status_code == status


async def test_a_user_is_found_by_id_under_a_new_login(hub: Any) -> None:
    wim = hub.world.user_by_login("wim")
    wim.login = "willem"
    assert (await hub.bot.get(f"/user/{wim.id}")).json()["login"] == "willem"
    assert (await hub.bot.get("/user/987654321")).status_code == 404
