"""Webhooks on their page and by the API: made, tried, removed; the secret shown once, and the address never again."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest

from app.custody import hooks
from app.custody.hooks import KnownHook
from tests.app.web.browser import Browser
from tests.line.stage import Stage
from tests.receiver import answers, receiving

pytestmark = pytest.mark.asyncio(loop_scope="module")

SECRET = re.compile(r"whsec_[A-Za-z0-9+/]{43}=")


def at(stage: Stage, path: str = "") -> str:
    return f"/installations/{stage.installation}/hooks{path}"


async def known(stage: Stage) -> list[KnownHook]:
    return list(await hooks.known_hooks(stage.house.store, stage.house.keys, stage.installation))


async def made_on_page(stage: Stage, ada: Browser, url: str, **how: Any) -> tuple[httpx.Response, str]:
    """The page that answers, and the secret on it."""
    filled = {"form_key": await ada.form_key(), "url": url, "event": "run.ended", **how}
    page = await ada.post(at(stage), filled)
    found = SECRET.search(page.text.replace("&#43;", "+").replace("&#x2F;", "/"))
    return page, "" if found is None else found[0]


async def test_a_webhook_is_made_tried_and_removed_on_its_page(ada: Browser, shared: Stage) -> None:
    async with receiving() as receiver:
        page, secret = await made_on_page(shared, ada, receiver.url)
        assert page.status_code == 200
        assert secret
        (one,) = await known(shared)
        assert one.events == ("run.ended",)
        again = await ada.get(at(shared))
        for text in (again.text, page.text):
            assert f"127.0.0.1:{receiver.port}" in text
            assert "of-the-address" not in text
        assert "whsec_" not in again.text
        assert "nothing sent yet" in again.text

        tried = await ada.submit(again, at(shared, f"/{one.id}/ping"))
        assert "The test was sent and taken: the receiver answered 204." in tried.text
        (got,) = receiver.got
        assert got.signed_with(secret)
        assert (got.told["type"], got.told["data"]) == ("ping", {})
        assert got.told["installation_id"] == shared.installation

        receiver.always = answers(500)
        refused = await ada.submit(tried, at(shared, f"/{one.id}/ping"))
        assert "not taken: the receiver answered 500" in refused.text
        assert receiver.got[1].id != got.id
    away = await ada.submit(refused, at(shared, f"/{one.id}/ping"))
    assert "it could not be reached" in away.text
    removed = await ada.submit(away, at(shared, f"/{one.id}/remove"))
    assert "There is none." in removed.text
    assert await known(shared) == []
    sent = [entry for entry in await shared.log() if entry.action == "webhook.sent"]
    assert [(one.actor, (one.details or {})["status"]) for one in sent] == [
        ("ada", 204),
        ("ada", 500),
        ("ada", None),
    ]
    assert "of-the-address" not in str(await shared.log())


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("https://10.0.0.1/", "Nothing is sent to this address: it leads into a network that is not public."),
        ("http://hooks.example.com/", "it has to begin with https://"),
        ("two words", "That is no address"),
    ],
)
async def test_an_address_that_nothing_is_sent_to_is_not_kept(
    ada: Browser, shared: Stage, url: str, said: str
) -> None:
    page, secret = await made_on_page(shared, ada, url)
    assert page.status_code == 400
    assert said in page.text
    assert secret == ""
    assert await known(shared) == []


async def test_a_program_makes_tries_and_removes_one(ada: Browser, shared: Stage) -> None:
    key = await ada.form_key()
    async with receiving() as receiver:
        made = (await ada.api("POST", at(shared), {"url": receiver.url}, form_key=key)).json()
        assert SECRET.fullmatch(made["secret"])
        assert made["events"] == ["run.accepted", "run.started", "run.ended"]
        (listed,) = (await ada.api("GET", at(shared))).json()
        assert listed == {name: value for name, value in made.items() if name != "secret"}
        assert listed["host"] == f"127.0.0.1:{receiver.port}"
        where = at(shared, f"/{made['id']}")
        sent = await ada.api("POST", f"{where}/ping", form_key=key)
        assert sent.json() == {"taken": True, "status": 204, "why": ""}
        assert receiver.got[0].signed_with(made["secret"])
    lost = await ada.api("POST", f"{where}/ping", form_key=key)
    assert lost.json() == {"taken": False, "status": None, "why": "hook_unreachable"}
    assert (await ada.api("GET", at(shared))).json()[0]["last_status"] is None
    for _ in range(2):
        assert (await ada.api("DELETE", where, form_key=key)).status_code == 204
    assert (await ada.api("POST", f"{where}/ping", form_key=key)).status_code == 404
    wrong = await ada.api("POST", at(shared), {"url": receiver.url, "events": ["run.code"]}, form_key=key)
    assert wrong.status_code == 400
    assert "of-the-address" not in wrong.text


async def test_the_sixth_is_refused(ada: Browser, shared: Stage) -> None:
    key = await ada.form_key()
    made = []
    for number in range(hooks.AT_MOST + 1):
        answer = await ada.api("POST", at(shared), {"url": f"http://127.0.0.1:9/{number}"}, form_key=key)
        made.append(answer.status_code)
    assert made == [201] * hooks.AT_MOST + [400]
    for one in await known(shared):
        await ada.api("DELETE", at(shared, f"/{one.id}"), form_key=key)
