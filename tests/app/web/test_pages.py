"""An installation's pages, from the sign-in to what comes of them."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import pytest_asyncio
import yaml

from app.custody import settings
from app.custody.settings import InstallationSettings, Member
from app.main import create
from app.nouns import Installation, Role, StoredSettings
from app.web.session import COOKIE
from tests.app.web.browser import Browser, Form, Whole, opened
from tests.line.stage import Stage

pytestmark = pytest.mark.asyncio(loop_scope="module")

PAGES = ("", "/settings", "/members", "/tokens", "/hooks", "/actions", "/exports", "/deletion")


@pytest_asyncio.fixture(loop_scope="module")
async def wim(shared: Stage) -> AsyncIterator[Browser]:
    """Who may write, and administers nothing."""
    async with opened(shared) as browser:
        await browser.sign_in("wim")
        yield browser


def at(stage: Stage, path: str = "") -> str:
    return f"/installations/{stage.installation}{path}"


async def chosen(stage: Stage) -> settings.InstallationSettings:
    async with stage.house.store.transaction(stage.installation) as transaction:
        return await settings.read(transaction)


async def logged(stage: Stage, action: str, **facts: Any) -> list[Any]:
    """The entries of this action whose details say all of this."""
    return [
        entry
        for entry in await stage.log()
        if entry.action == action and facts.items() <= (entry.details or {}).items()
    ]


# --- before one signs in ---------------------------------------------------------------------------------------------


async def test_who_is_not_signed_in_reads_what_it_may_do_and_no_more_than_that(shared: Stage) -> None:
    manifest = yaml.safe_load((Path(__file__).parents[3] / "app-manifest.yml").read_text(encoding="utf-8"))
    async with opened(shared) as somebody:
        page = await somebody.get("/")
    rows = re.findall(r"<tr><td><code>(\w+)</code></td><td>(\w+)</td><td class=\"long\">[^<]+", page.text)
    assert dict(rows) == manifest["default_permissions"]
    assert f'href="{shared.house.github_web_url}/apps/{shared.house.slug}"' in page.text
    assert 'href="/signin"' in page.text
    assert "Sign out" not in page.text
    Whole.require(page.text)


# --- who sees what ---------------------------------------------------------------------------------------------------


async def test_every_page_opens_for_an_administrator_and_needs_nothing_from_elsewhere(
    ada: Browser, shared: Stage
) -> None:
    for path in PAGES:
        page = await ada.get(at(shared, path))
        assert page.status_code == 200, page.text
        assert "octo" in page.text
        assert len(page.content) < 100_000
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe-inline" not in policy
        assert page.headers["cache-control"] == "no-store"
        assert not re.findall(r"<script|<style|\son[a-z]+=|\sstyle=", page.text)
        loaded = re.findall(r"""(?:src|<link[^>]*href)=["']([^"']*)""", page.text)
        assert loaded == ["/static/icon.svg", "/static/style.css"]


async def test_every_form_bears_the_key_of_the_session_and_every_field_a_label(
    ada: Browser, shared: Stage
) -> None:
    for path in PAGES:
        page = await ada.get(at(shared, path))
        for form in re.findall(r"<form method=\"post\".*?</form>", page.text, re.DOTALL):
            assert 'name="form_key"' in form
        fields = re.findall(r"<(?:input|select|textarea)\b[^>]*>", page.text)
        for field in fields:
            if 'type="hidden"' in field or 'type="checkbox"' in field:
                continue  # a checkbox stands inside its label
            (name,) = re.findall(r'\bid="([^"]*)"', field)
            assert f'<label for="{name}"' in page.text


async def test_every_page_is_whole(ada: Browser, shared: Stage) -> None:
    for path in ("/", "/installations", *(at(shared, path) for path in PAGES), "/nothing"):
        Whole.require((await ada.get(path)).text)


async def test_what_is_not_theirs_is_not_there_for_others(wim: Browser, shared: Stage) -> None:
    nowhere = await wim.get("/installations/987654321")
    assert nowhere.status_code == 404
    for path in (*PAGES, "/actions/download"):
        page = await wim.get(at(shared, path))
        assert page.status_code == 404, path
        assert page.text == nowhere.text, "an answer tells nobody which installations there are"
    key = await wim.form_key()
    for path, form in (
        ("/settings", {"name": "keep-runs", "value": "1 month"}),
        ("/provider-keys", {"provider": "openai", "key": "sk-abcdefgh"}),
        ("/members", {"login": "wim", "role": "administrator"}),
        ("/members/remove", {"person": "1"}),
        ("/tokens", {"scope": "log", "days": "30"}),
        ("/hooks", {"url": "https://ci.example.com/", "event": "run.ended"}),
        ("/actions/verify", {"heads": ""}),
        ("/deletion", {"account": "octo"}),
    ):
        answer = await wim.post(at(shared, path), {**form, "form_key": key})
        assert answer.status_code == 404, path
        assert answer.text == nowhere.text
    assert (await chosen(shared)).runs_months == 12
    checked = await logged(shared, "permission.checked", login="wim", scope="installation")
    assert len(checked) == 1, "who tries again and again does not fill the log"
    assert checked[0].details["allowed"] is False


async def test_who_is_not_signed_in_is_asked_to_and_brought_back(shared: Stage) -> None:
    async with opened(shared) as browser:
        asked = await browser.get(at(shared, "/actions?kind=model"), follow=False)
        assert asked.status_code == 303
        begun = await browser.get(asked.headers["location"], follow=False)
        code, state = await browser.agree(begun.headers["location"], "ada")
        page = await browser.get(f"/signin/github?code={code}&state={state}")
        assert page.status_code == 200
        assert str(page.url).endswith(at(shared, "/actions?kind=model"))


async def test_no_form_of_another_site_changes_anything(ada: Browser, shared: Stage) -> None:
    for key in ({}, {"form_key": "x"}, {"form_key": "é"}):
        for path, form in (
            ("/settings", {"name": "keep-runs", "value": "1 month"}),
            ("/tokens", {"scope": "log", "days": "30"}),
            ("/hooks", {"url": "https://ci.example.com/", "event": "run.ended"}),
            ("/deletion", {"account": "octo"}),
        ):
            assert (await ada.post(at(shared, path), {**form, **key})).status_code == 403
    assert (await chosen(shared)).runs_months == 12


async def test_a_body_that_is_too_large_or_of_no_length_is_not_read(ada: Browser, shared: Stage) -> None:
    big = await ada.post(at(shared, "/settings"), {"name": "x" * 70_000})
    assert big.status_code == 413

    async def endless() -> AsyncIterator[bytes]:
        yield b"name=x"

    answer = await ada.client.post(f"{ada.url}{at(shared, '/settings')}", content=endless())
    assert answer.status_code == 411


# --- which installations ---------------------------------------------------------------------------------------------


def _asked(stage: Stage) -> int:
    """Requests to GitHub, but for the look at its deliveries that the worker takes every minute."""
    return sum("/hook/" not in one.path for one in stage.github.world.requests)


async def test_a_person_finds_the_own_account_without_a_question_to_github(shared: Stage) -> None:
    async with opened(shared) as browser:
        await browser.sign_in("sol")
        before = _asked(shared)
        page = await browser.get("/installations")
        assert _asked(shared) == before
        (link,) = re.findall(r"/installations/[0-9]+", page.text)
        assert (await browser.get(link)).status_code == 200
        assert (await browser.get(at(shared))).status_code == 404


async def test_an_organization_is_found_by_its_login_by_who_administers_it(
    ada: Browser, wim: Browser, shared: Stage
) -> None:
    found = await ada.get("/installations?account=%40OCTO")
    assert urlsplit(str(found.url)).path == at(shared)
    absent = await wim.get("/installations?account=nobody")
    there = await wim.get("/installations?account=octo")
    assert (absent.status_code, there.status_code) == (404, 404)
    assert absent.text.replace("nobody", "octo") == there.text


# --- settings --------------------------------------------------------------------------------------------------------


async def test_a_setting_is_changed_and_written_down(ada: Browser, shared: Stage) -> None:
    page = await ada.get(at(shared, "/settings"))
    form = at(shared, "/settings")
    changed = await ada.post(
        form, {"form_key": Form.of(page, form).fields["form_key"], "name": "limit-day", "value": "$20"}
    )
    assert changed.status_code == 200
    assert 'value="$20"' in changed.text
    assert (await chosen(shared)).day_usd == Decimal(20)
    (entry,) = await logged(shared, "setting.changed", name="limit-day")
    assert (entry.actor, entry.details) == ("ada", {"name": "limit-day", "old": "none", "new": "$20"})


async def test_each_setting_has_a_form_that_takes_what_it_shows(ada: Browser, shared: Stage) -> None:
    page = await ada.get(at(shared, "/settings"))
    before = await chosen(shared)
    forms = re.findall(r'name="name" value="([^"]*)".*?name="value" value="([^"]*)"', page.text, re.DOTALL)
    assert {name for name, _ in forms} == {one.name for one in settings.SETTINGS}
    for name, value in forms:
        if name != "legal-hold":
            sent = {"form_key": await ada.form_key(), "name": name, "value": value}
            assert (await ada.post(at(shared, "/settings"), sent)).status_code == 200, name
    assert await chosen(shared) == before


async def test_what_is_no_value_is_said_beside_its_form(ada: Browser, shared: Stage) -> None:
    sent = {"form_key": await ada.form_key(), "name": "regions", "value": "<b>mars</b>"}
    page = await ada.post(at(shared, "/settings"), sent)
    assert page.status_code == 400
    assert "is none of us, eu, global, unknown" in page.text
    assert 'value="&lt;b&gt;mars&lt;/b&gt;"' in page.text
    assert "<b>mars" not in page.text
    unknown = await ada.post(at(shared, "/settings"), sent | {"name": "regoins", "value": "eu"})
    assert unknown.status_code == 400
    assert "<code>regoins</code> is no setting. Did you mean <code>regions</code>?" in unknown.text


async def test_a_legal_hold_stops_a_deletion_until_it_is_off(ada: Browser, shared: Stage) -> None:
    key = {"form_key": await ada.form_key()}
    await ada.post(at(shared, "/settings"), key | {"name": "legal-hold", "value": "on"})
    page = await ada.get(at(shared, "/deletion"))
    assert "legal hold</a> is on" in page.text
    assert 'name="account"' not in page.text
    refused = await ada.post(at(shared, "/deletion"), key | {"account": "octo"})
    assert refused.status_code == 409
    assert await logged(shared, "erasure.refused", reason="legal_hold")
    hold = await ada.get(at(shared, "/settings"))
    assert "on, by ada" in hold.text
    await ada.post(at(shared, "/settings"), key | {"name": "legal-hold", "value": "off"})
    assert (await chosen(shared)).legal_hold is None


# --- tokens ----------------------------------------------------------------------------------------------------------


async def test_a_token_is_shown_once_works_within_its_scope_and_ends_when_it_is_removed(
    ada: Browser, shared: Stage
) -> None:
    form = at(shared, "/tokens")
    made = await ada.submit(await ada.get(form), form, scope="log", days="7")
    assert made.status_code == 200
    (token,) = re.findall(r"mgc_[0-9]+_[A-Za-z0-9_-]{43}", made.text)
    async with shared.house.store.transaction(shared.installation) as transaction:
        kept = (await transaction.api_tokens())[0]
    assert kept.scopes == "log"
    again = await ada.get(form)
    for secret in (token, kept.hash):
        assert secret not in again.text
    assert kept.hash not in made.text

    bearer = {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(base_url=shared.url, trust_env=False, headers=bearer, timeout=60) as program:
        base = f"/api/installations/{shared.installation}"
        assert (await program.get(base)).status_code == 200
        assert (await program.get(f"{base}/actions")).status_code == 200
        refused = await program.get(f"{base}/settings")
        assert refused.status_code == 403
        assert refused.headers["content-type"] == "application/problem+json"
        for path in ("/tokens", "/provider-keys"):
            assert (await program.get(base + path)).status_code == 403
        assert (await program.get("/api/installations/1/actions")).status_code == 401
        await ada.submit(again, rf"{form}/{kept.id}/remove")
        assert (await program.get(base)).status_code == 401
    looks = await logged(shared, "data.looked", what="log")
    assert any(entry.actor == f"token:{kept.id}" for entry in looks)


# --- looking is written down -----------------------------------------------------------------------------------------


async def test_looking_again_and_again_is_one_entry_that_says_so(shared: Stage) -> None:
    async with opened(shared) as browser:
        await browser.sign_in("sol")
        (link,) = re.findall(r"/installations/[0-9]+", (await browser.get("/installations")).text)
        for _ in range(3):
            await browser.get(f"{link}/actions")
        await browser.get(f"{link}/settings")
        tenant = int(link.rpartition("/")[2])
        looks = [entry for entry in await shared.log(tenant) if entry.action == "data.looked"]
    said = [(entry.actor, (entry.details or {})["what"]) for entry in looks]
    assert sorted(one for one in said if one[1] != "overview") == [("sol", "log"), ("sol", "settings")]
    assert all((entry.details or {})["stands_for_minutes"] == 60 for entry in looks)


# --- what people wrote stays text ------------------------------------------------------------------------------------


async def test_names_that_are_markup_are_shown_as_text(shared: Stage) -> None:
    await shared.github.add_account("mark", {})
    await shared.settled()
    account = shared.github.account("mark")
    (tenant,) = await shared.house.store.tenants_of_account(account.id)
    evil = "<img src=x onerror=alert(1)>"
    async with shared.house.store.transaction(tenant) as transaction:
        await transaction.put_installation(Installation(tenant, account.id, evil, False, "User"))
        role = Member(id=1, login=evil, role=Role.VIEWER, by=evil, since=datetime.now(UTC))
        document = InstallationSettings(members=(role,)).model_dump_json()
        await transaction.put_settings(StoredSettings(document, False, evil, datetime.now(UTC)))
        await shared.house.ledger.append(
            transaction,
            tenant,
            "setting.changed",
            evil,
            None,
            {evil: f"'\"{evil}"},  # type: ignore[arg-type]
        )
    async with opened(shared) as browser:
        await browser.sign_in("mark")
        pages = [(await browser.get(f"/installations/{tenant}{path}")) for path in PAGES]
        pages.append(await browser.get("/installations"))
        pages.append(await browser.get(f"/installations/{tenant}/actions?actor=%3Cimg&since=%22%3E%3Cimg"))
        log = pages[PAGES.index("/actions")]
        verified = await browser.submit(log, f"/installations/{tenant}/actions/verify")
    for page in (*pages, verified):
        assert "<img" not in page.text, page.url
    assert "&lt;img src=x onerror=alert(1)&gt;" in log.text
    assert "&lt;img src=x onerror=alert(1)&gt;</td>" in pages[PAGES.index("/members")].text


# --- who lost the right ----------------------------------------------------------------------------------------------


async def test_who_no_longer_administers_is_a_stranger_within_five_minutes(
    ada: Browser, shared: Stage
) -> None:
    now = datetime.now(UTC)
    house = replace(shared.house, clock=lambda: now)
    transport = httpx.ASGITransport(app=create(house))
    cookies = {COOKIE: ada.cookie(COOKIE) or ""}
    async with httpx.AsyncClient(transport=transport, base_url=shared.url, cookies=cookies) as browser:
        page = at(shared, "/settings")
        assert (await browser.get(page)).status_code == 200
        form_key = await ada.form_key()
        (repo,) = [
            one for one in shared.github.world.repositories.values() if one.full_name == "octo/fairshare"
        ]
        was = dict(repo.collaborators)
        repo.collaborators["ada"] = "write"
        try:
            now += timedelta(minutes=4, seconds=50)
            assert (await browser.get(page)).status_code == 200, "GitHub's answer is believed for a while"
            sent = {"form_key": form_key, "name": "keep-runs", "value": "1 month"}
            assert (await browser.post(page, data=sent)).status_code == 404, (
                "what changes something asks anew"
            )
            assert (await browser.get(page)).status_code == 404, "and that answer holds for looks too"
            now += timedelta(minutes=5)
            for path in PAGES:
                assert (await browser.get(at(shared, path))).status_code == 404
        finally:
            repo.collaborators.clear()
            repo.collaborators.update(was)
        assert (await browser.get(page)).status_code == 404
        now += timedelta(minutes=5)
        assert (await browser.get(page)).status_code == 200
    assert (await chosen(shared)).runs_months == 12
