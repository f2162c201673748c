"""Registering an App with the simulated GitHub: who agrees comes back with a code, and the code is worth its keys, once."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from html import unescape
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from githubkit import GitHub

from infra.simulator.state import APP_PERMISSIONS

MANIFEST: dict[str, Any] = {
    "name": "Acme's MagiCode",
    "url": "https://magicode.example",
    "redirect_url": "http://127.0.0.1:9/created",
    "callback_urls": ["https://magicode.example/signin/github"],
    "setup_url": "https://magicode.example/installed",
    "hook_attributes": {"url": "http://127.0.0.1:9/webhooks/github"},
    "public": False,
    "default_permissions": dict(APP_PERMISSIONS),
    "default_events": ["issues", "push"],
}


async def registered(hub: Any, where: str = "/settings/apps/new", /, **changed: Any) -> httpx.Response:
    form = {"person": changed.pop("person", "ada"), "name": changed.pop("typed", "")}
    form["manifest"] = json.dumps({**MANIFEST, **changed})
    return await hub.running.client(None).post(where, params={"state": "s&1"}, data=form)


def told(answer: httpx.Response) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(answer.headers["location"]).query).items()}


async def converted(hub: Any, code: str) -> httpx.Response:
    return await hub.as_user(None).post(f"/app-manifests/{code}/conversions")


async def test_the_page_s_own_form_registers_the_app_under_the_name_that_was_typed(hub: Any) -> None:
    browser = hub.running.client(None)
    page = await browser.post(
        "/settings/apps/new?state=s1", data={"manifest": json.dumps({**MANIFEST, "name": '"><b>'})}
    )
    assert page.status_code == 200
    assert "<b>" not in page.text
    fields = re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)">', page.text)
    form = {unescape(name): unescape(value) for name, value in fields}
    assert re.findall(r"Create GitHub App as (\w+)<", page.text) == ["ada", "wim", "rita"]
    answer = await browser.post("/settings/apps/new", data={**form, "name": "Mine", "person": "wim"})
    assert answer.headers["location"].startswith("http://127.0.0.1:9/created?code=")
    assert told(answer)["state"] == "s1"
    made = (await converted(hub, told(answer)["code"])).json()
    assert (made["slug"], made["owner"]["login"]) == ("mine", "wim")


async def test_what_the_code_is_worth_is_the_app_of_the_manifest(hub: Any) -> None:
    before = hub.world.app
    made = (await converted(hub, told(await registered(hub))["code"])).json()
    assert made["slug"] == "acme-s-magicode"
    assert made["permissions"] == dict(APP_PERMISSIONS)
    assert made["events"] == ["issues", "push"]
    assert made["pem"].splitlines()[0] == "-----BEGIN RSA PRIVATE" + " KEY-----"
    assert {made[name] for name in ("client_secret", "webhook_secret")} & {
        before.client_secret,
        before.webhook_secret,
    } == set()
    hub.running.install("octo", by="ada")
    await hub.world.settled()
    (come,) = hub.hooks("installation", "created")
    assert come["installation"]["app_slug"] == "acme-s-magicode"
    assert hub.world.deliveries[-1].request_headers["X-GitHub-Hook-Installation-Target-ID"] == str(made["id"])
    assert (await hub.as_app().get("/app/hook/config")).json()["url"] == MANIFEST["hook_attributes"]["url"]


async def test_a_code_is_good_once_and_for_an_hour(hub: Any) -> None:
    code = told(await registered(hub))["code"]
    assert (await converted(hub, code[:-1])).status_code == 404
    assert (await converted(hub, code)).status_code == 201
    assert (await converted(hub, code)).status_code == 404
    late = told(await registered(hub, typed="Another"))["code"]
    hub.world.clock_offset += timedelta(minutes=61)
    assert (await converted(hub, late)).status_code == 404


async def test_the_app_before_is_gone_with_its_keys_and_installations(hub: Any) -> None:
    before, token = hub.as_app(), hub.bot
    assert (await before.get("/app")).status_code == 200
    assert (await registered(hub)).status_code == 302
    assert (await before.get("/app")).status_code == 401
    assert (await token.get("/installation/repositories")).status_code == 401
    assert (await hub.as_app().get("/app/installations")).json() == []


async def test_an_organization_s_app_is_registered_by_its_owners_alone(hub: Any) -> None:
    where = "/organizations/octo/settings/apps/new"
    hub.running.account("octo").owner_ids.add(hub.running.account("ada").id)
    assert (await registered(hub, where, person="wim")).status_code == 404
    assert (await registered(hub, "/organizations/ada/settings/apps/new")).status_code == 404
    made = (await converted(hub, told(await registered(hub, where))["code"])).json()
    assert (made["owner"]["login"], made["owner"]["type"]) == ("octo", "Organization")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"url": ""}, "url must be a valid URL"),
        ({"url": "magicode.example"}, "url must be a valid URL"),
        ({"redirect_url": None}, "redirect_url must be"),
        ({"hook_attributes": {"active": True}}, "hook_attributes.url must be"),
        ({"callback_urls": ["https://a.example"] * 11}, "at most 10"),
        ({"callback_urls": ["javascript:alert(1)"]}, "callback_urls must be"),
        ({"webhook_secret": "mine"}, "Unknown parameters: webhook_secret"),
        ({"default_permissions": {"contents": "all"}}, "contents"),
        ({"default_permissions": {"everything": "read"}}, "everything"),
        (
            {"default_permissions": {"contents": "read"}, "default_events": ["push", "issues"]},
            "unsupported: issues",
        ),
        ({"default_events": ["no_such_event"]}, "unsupported: no_such_event"),
        ({"name": "x" * 35}, "1 to 34"),
        ({"name": "MagiCode"}, "already been taken"),
        ({"name": "Octo"}, "already been taken"),
        ({"name": "!"}, "1 to 34"),
    ],
)
async def test_a_manifest_that_github_would_not_take_registers_nothing(
    hub: Any, changed: dict[str, Any], said: str
) -> None:
    before = hub.world.app
    answer = await registered(hub, **changed)
    assert answer.status_code == 422
    assert said in answer.text
    assert hub.world.app is before
    assert hub.world.registered is None


async def test_it_is_installed_on_its_own_page_and_leads_back_to_the_setup_address(hub: Any) -> None:
    await registered(hub, public=True)
    browser, here = hub.running.client(None), "/apps/acme-s-magicode/installations/new"
    assert "Install on octo<" in (await browser.get(here)).text
    answer = await browser.post(here, data={"account": "octo"})
    (number,) = hub.world.installations
    assert answer.headers["location"] == (
        f"https://magicode.example/installed?installation_id={number}&setup_action=install"
    )
    assert "Install on octo<" not in (await browser.get(here)).text
    assert (await browser.get("/apps/magicode/installations/new")).status_code == 404


async def test_a_private_app_is_installed_on_its_owner_s_account_alone(hub: Any) -> None:
    await registered(hub)
    browser, here = hub.running.client(None), "/apps/acme-s-magicode/installations/new"
    assert "Install on octo<" not in (await browser.get(here)).text
    assert (await browser.post(here, data={"account": "octo"})).status_code == 404
    assert (await browser.post(here, data={"account": "ada"})).status_code == 302


async def test_githubkit_reads_the_exchange(hub: Any) -> None:
    code = told(await registered(hub))["code"]
    github = GitHub(base_url=hub.running.base_url)
    made = (await github.rest.apps.async_create_from_manifest(code)).parsed_data
    assert made.pem == hub.world.app.private_key_pem
    assert made.webhook_secret == hub.world.app.webhook_secret
