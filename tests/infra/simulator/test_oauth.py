"""Signing in with the simulated GitHub: who agrees comes back with a code, and the code is worth one token, once."""

from __future__ import annotations

import base64
import hashlib
import re
from html import unescape
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import pytest

BACK = "http://127.0.0.1:9/auth/callback"
VERIFIER = "v" * 43
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()


def authorize(hub: Any, **changed: str) -> str:
    asked = {
        "client_id": hub.world.app.client_id,
        "redirect_uri": BACK,
        "state": "s&1",
        "code_challenge": CHALLENGE,
        "code_challenge_method": "S256",
        **changed,
    }
    return f"{hub.running.base_url}/login/oauth/authorize?{urlencode(asked)}"


def told(url: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}


async def agreed(hub: Any, login: str | None = "ada", **changed: str) -> str:
    return told(await hub.running.sign_in(login, authorize(hub, **changed)))["code"]


async def exchange(hub: Any, code: str, /, **changed: str) -> dict[str, Any]:
    app = hub.world.app
    sent = {"client_id": app.client_id, "client_secret": app.client_secret, "code": code}
    sent |= {"redirect_uri": BACK, "code_verifier": VERIFIER, **changed}
    accept = {"Accept": "application/json"}
    answer = await hub.running.client(None).post("/login/oauth/access_token", data=sent, headers=accept)
    assert answer.status_code == 200
    return answer.json()


def revoke(hub: Any, token: str, secret: str | None = None) -> Any:
    app = hub.world.app
    return hub.checked(hub.running.client(None)).request(
        "DELETE",
        f"/applications/{app.client_id}/token",
        json={"access_token": token},
        auth=(app.client_id, secret or app.client_secret),
    )


# --- the page --------------------------------------------------------------------------------------------------------


async def test_the_page_offers_every_person_and_nobody_else(hub: Any) -> None:
    page = await hub.running.client(None).get(authorize(hub, login="wim"))
    assert page.status_code == 200
    for login in ("ada", "wim", "rita"):
        assert f"Sign in as {login}" in page.text
    assert page.text.index("as wim") < page.text.index("as ada")
    assert "as octo" not in page.text
    assert "[bot]" not in page.text


async def test_the_desk_s_way_in_makes_the_browser_a_person_s_who_is_asked_nothing_more(hub: Any) -> None:
    browser = hub.running.client(None)
    there = {"person": "ada", "to": "http://127.0.0.1:9/signin?then=/runs"}
    answer = await browser.get("/_simulator/enter", params=there)
    assert (answer.status_code, answer.headers["location"]) == (302, there["to"])
    straight = await browser.get(authorize(hub))
    assert straight.status_code == 302
    assert "code" in told(straight.headers["location"])
    for wrong, status in (
        ({"person": "nobody"}, 404),
        ({"person": "octo"}, 404),
        ({"to": "https://a.example"}, 422),
    ):
        assert (await browser.get("/_simulator/enter", params=there | wrong)).status_code == status


async def test_the_page_s_own_form_signs_in_whatever_the_state_holds(hub: Any) -> None:
    state = "\"><script>alert('1')</script>&amp;"
    page = await hub.running.client(None).get(authorize(hub, state=state))
    assert "<script>" not in page.text
    fields = re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)">', page.text)
    form = {unescape(name): unescape(value) for name, value in fields}
    action = re.findall(r'<form method="post" action="([^"]*)">', page.text)[0]
    sent = await hub.running.client(None).post(action, data={**form, "person": "wim"})
    assert told(sent.headers["location"])["state"] == state
    got = await exchange(hub, told(sent.headers["location"])["code"])
    assert (await hub.as_token(got["access_token"]).get("/user")).json()["login"] == "wim"


async def test_who_agrees_comes_back_with_a_code_and_the_state(hub: Any) -> None:
    location = await hub.running.sign_in("wim", authorize(hub))
    assert location.startswith(BACK + "?")
    assert set(told(location)) == {"code", "state"}
    assert told(location)["state"] == "s&1"


async def test_who_cancels_comes_back_with_an_error(hub: Any) -> None:
    back = told(await hub.running.sign_in(None, authorize(hub)))
    assert back["error"] == "access_denied"
    assert back["state"] == "s&1"
    assert "code" not in back


async def test_a_browser_that_is_signed_in_is_not_asked_again(hub: Any) -> None:
    browser = httpx.AsyncClient(base_url=hub.running.base_url, trust_env=False)
    async with browser:
        form = {**told(authorize(hub)), "person": "rita"}
        assert (await browser.post("/login/oauth/authorize", data=form)).status_code == 302
        again = await browser.get(authorize(hub))
        assert again.status_code == 302
        token = (await exchange(hub, told(again.headers["location"])["code"]))["access_token"]
    assert (await hub.as_token(token).get("/user")).json()["login"] == "rita"


async def test_an_unknown_app_has_no_page(hub: Any) -> None:
    answer = await hub.running.client(None).get(authorize(hub, client_id="Iv1.other"))
    assert answer.status_code == 404


async def test_nobody_is_sent_to_an_address_that_is_not_registered(hub: Any) -> None:
    for stranger in (
        "https://evil.example/auth/callback",
        "javascript:alert(1)",
        "http://127.0.0.1.evil.example/",
    ):
        answer = await hub.running.client(None).get(authorize(hub, redirect_uri=stranger))
        assert answer.status_code == 400
    desk = hub.running.client()
    assert (await desk.post("/_simulator/settings", json={"callback_urls": [BACK]})).status_code == 200
    answer = await hub.running.client(None).get(authorize(hub, redirect_uri=BACK + "/"))
    assert answer.status_code == 302
    assert answer.headers["location"].startswith(BACK + "?")
    assert told(answer.headers["location"])["error"] == "redirect_uri_mismatch"
    assert (await hub.running.client(None).get(authorize(hub))).status_code == 200


async def test_a_challenge_in_the_clear_is_refused(hub: Any) -> None:
    back = told(await hub.running.sign_in("ada", authorize(hub, code_challenge_method="plain")))
    assert back["error"] == "invalid_request"


# --- the exchange ----------------------------------------------------------------------------------------------------


async def test_a_code_is_worth_a_token_that_knows_its_user(hub: Any) -> None:
    got = await exchange(hub, await agreed(hub, "wim"))
    assert got["access_token"].startswith("ghu_")
    assert got["refresh_token"].startswith("ghr_")
    assert (got["expires_in"], got["token_type"], got["scope"]) == (28800, "bearer", "")
    mine = (await hub.as_token(got["access_token"]).get("/user")).json()
    assert (mine["login"], mine["id"]) == ("wim", hub.world.user_by_login("wim").id)


async def test_the_token_reaches_no_repository(hub: Any) -> None:
    got = await exchange(hub, await agreed(hub))
    assert (await hub.as_token(got["access_token"]).get("/repos/octo/sample")).status_code == 403


async def test_without_being_asked_for_json_github_answers_as_a_form(hub: Any) -> None:
    app = hub.world.app
    sent = {"client_id": app.client_id, "client_secret": app.client_secret, "code": await agreed(hub)}
    answer = await hub.running.client(None).post(
        "/login/oauth/access_token", params={**sent, "code_verifier": VERIFIER}
    )
    assert parse_qs(answer.text)["access_token"][0].startswith("ghu_")


async def test_a_code_is_good_for_one_use(hub: Any) -> None:
    code = await agreed(hub)
    assert "access_token" in await exchange(hub, code)
    assert (await exchange(hub, code))["error"] == "bad_verification_code"


async def test_a_code_is_good_for_ten_minutes(hub: Any) -> None:
    code = await agreed(hub)
    await hub.running.client().post("/_simulator/clock", json={"advance_seconds": 601})
    assert (await exchange(hub, code))["error"] == "bad_verification_code"


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"client_secret": "wrong"}, "incorrect_client_credentials"),
        ({"client_id": "wrong"}, "incorrect_client_credentials"),
        ({"code": "wrong"}, "bad_verification_code"),
        ({"code_verifier": "w" * 43}, "bad_verification_code"),
        ({"code_verifier": ""}, "bad_verification_code"),
        ({"redirect_uri": BACK + "/"}, "redirect_uri_mismatch"),
        ({"grant_type": "password"}, "unsupported_grant_type"),
    ],
)
async def test_a_wrong_exchange_is_refused_with_the_status_of_success(
    hub: Any, changed: dict[str, str], error: str
) -> None:
    got = await exchange(hub, await agreed(hub), **changed)
    assert got["error"] == error
    assert got["error_description"]
    assert "access_token" not in got


async def test_a_wrong_verifier_spends_the_code(hub: Any) -> None:
    code = await agreed(hub)
    assert "error" in await exchange(hub, code, code_verifier="w" * 43)
    assert (await exchange(hub, code))["error"] == "bad_verification_code"


# --- how it ends -----------------------------------------------------------------------------------------------------


async def test_a_token_ends_after_eight_hours_and_can_be_renewed_once(hub: Any) -> None:
    got = await exchange(hub, await agreed(hub))
    await hub.running.client().post("/_simulator/clock", json={"advance_seconds": 28_801})
    assert (await hub.as_token(got["access_token"]).get("/user")).status_code == 401
    renewing = {"grant_type": "refresh_token", "refresh_token": got["refresh_token"]}
    new = await exchange(hub, "", **renewing)
    assert (await hub.as_token(new["access_token"]).get("/user")).status_code == 200
    assert (await exchange(hub, "", **renewing))["error"] == "bad_refresh_token"


async def test_a_refresh_token_ends_after_half_a_year(hub: Any) -> None:
    got = await exchange(hub, await agreed(hub))
    await hub.running.client().post("/_simulator/clock", json={"advance_seconds": 15_897_601})
    renewing = {"grant_type": "refresh_token", "refresh_token": got["refresh_token"]}
    assert (await exchange(hub, "", **renewing))["error"] == "bad_refresh_token"


async def test_a_revoked_token_is_dead_and_so_is_its_refresh_token(hub: Any) -> None:
    got = await exchange(hub, await agreed(hub))
    assert (await revoke(hub, got["access_token"])).status_code == 204
    assert (await hub.as_token(got["access_token"]).get("/user")).status_code == 401
    renewing = {"grant_type": "refresh_token", "refresh_token": got["refresh_token"]}
    assert (await exchange(hub, "", **renewing))["error"] == "bad_refresh_token"
    assert (await revoke(hub, got["access_token"])).status_code == 422


async def test_only_the_app_revokes_and_only_its_own_tokens(hub: Any) -> None:
    got = await exchange(hub, await agreed(hub))
    assert (await revoke(hub, got["access_token"], secret="wrong")).status_code == 401
    assert (await revoke(hub, hub.running.tokens["ada"])).status_code == 422
    path = f"/applications/{hub.world.app.client_id}/token"
    body = {"access_token": got["access_token"]}
    for client, status in ((hub.ada, 401), (hub.as_app(), 401), (hub.as_user(None), 401)):
        assert (await client.request("DELETE", path, json=body)).status_code == status
    assert (await hub.as_token(got["access_token"]).get("/user")).status_code == 200


async def test_the_client_secret_opens_nothing_else(hub: Any) -> None:
    app = hub.world.app
    client = hub.running.client(None)
    for method, path in (("GET", "/repos/octo/sample"), ("GET", "/user"), ("GET", "/app")):
        answer = await client.request(method, path, auth=(app.client_id, app.client_secret))
        assert answer.status_code in (401, 403, 404)
    hub.repo.private = False
    wrote = await client.post(
        "/repos/octo/sample/issues", json={"title": "x"}, auth=(app.client_id, app.client_secret)
    )
    assert wrote.status_code in (401, 403)
