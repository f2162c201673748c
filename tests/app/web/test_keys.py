"""A customer's own keys and where code may go, set on the page, and what the next run does."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from infra.simulator.model.serve import running as running_model
from tests.app.web.browser import Browser, opened
from tests.line.conversations import ask, notes, ours
from tests.line.stage import Stage

pytestmark = pytest.mark.asyncio(loop_scope="module")

OWN = "customers-own-key-0123456789-wxYZ"


async def asked_of(url: str) -> list[Mapping[str, Any]]:
    async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
        return list((await client.get(f"{url}/_simulator/requests")).json())


@asynccontextmanager
async def with_own_key(stage: Stage, browser: Browser) -> AsyncIterator[str]:
    """A provider that takes the customer's key alone, and the key set on the page; gives the provider's address."""
    page = f"/installations/{stage.installation}/settings"
    form = f"/installations/{stage.installation}/provider-keys"
    async with running_model(notes(), api_key=OWN) as url:
        filled = {"provider": "anthropic", "key": OWN, "base_url": url}
        kept = await browser.submit(await browser.get(page), form, **filled)
        assert kept.status_code == 200, kept.text
        yield url
        removed = await browser.submit(await browser.get(page), f"{form}/remove")
        assert removed.status_code == 200
        assert "the service's own keys pay" in removed.text


async def test_the_next_run_uses_the_own_key_and_no_answer_ever_holds_it(ada: Browser, shared: Stage) -> None:
    async with with_own_key(shared, ada) as url:
        before = len(await asked_of(shared.model_url))
        done = len([run for run in await shared.runs() if run.state.ended])
        await ask(shared)
        run = (await shared.ended(done + 1))[-1]
        assert run.state.value == "opened"
        assert [one for one in await asked_of(url) if one["path"] == "/v1/messages"]
        assert len(await asked_of(shared.model_url)) == before, "the service's own key paid for nothing"
        pages = [
            await ada.get(f"/installations/{shared.installation}{path}")
            for path in ("", "/settings", "/tokens", "/actions", "/deletion")
        ]
        pages += [
            await ada.api("GET", f"/installations/{shared.installation}{path}")
            for path in ("", "/settings", "/provider-keys", "/actions?limit=1000", "/actions/download")
        ]
        for page in pages:
            assert page.status_code == 200
            assert OWN not in page.text
        assert "…wxYZ" in pages[1].text
    assert OWN not in json.dumps([entry.model_dump() for entry in await shared.log()])


async def test_a_key_that_the_provider_refuses_is_not_kept_and_not_said_again(
    ada: Browser, shared: Stage
) -> None:
    page = f"/installations/{shared.installation}/settings"
    form = f"/installations/{shared.installation}/provider-keys"
    for filled, said in (
        (
            {"provider": "anthropic", "key": OWN, "base_url": "http://10.0.0.1/"},
            "No key is sent to this address",
        ),
        ({"provider": "anthropic", "key": "two words of it"}, "That is no key"),
    ):
        answer = await ada.submit(await ada.get(page), form, **filled)
        assert answer.status_code == 400
        assert said in answer.text
        assert filled["key"] not in answer.text
    unknown = await ada.submit(await ada.get(page), form, provider="nobody", key=OWN)
    assert unknown.status_code == 400
    async with shared.house.store.transaction(shared.installation) as transaction:
        assert not await transaction.provider_keys()


async def test_a_provider_that_is_withdrawn_gets_nothing_more(ada: Browser, shared: Stage) -> None:
    where = f"/installations/{shared.installation}/settings"
    key = await ada.form_key()
    page = await ada.post(where, {"form_key": key, "name": "providers", "value": "none"})
    assert 'value="none"' in page.text
    before = len(await asked_of(shared.model_url))
    done = len([run for run in await shared.runs() if run.state.ended])
    number = await ask(shared)
    run = (await shared.ended(done + 1))[-1]
    assert (run.state.value, run.reason) == ("refused", "consent")
    assert len(await asked_of(shared.model_url)) == before
    assert "Nothing was sent to any model" in (await ours(shared, number))[-1]
    await ada.post(where, {"form_key": key, "name": "providers", "value": "any"})


async def test_who_is_no_administrator_sets_no_key(shared: Stage) -> None:
    async with opened(shared) as browser:
        await browser.sign_in("rita")
        form = {"form_key": await browser.form_key(), "provider": "anthropic", "key": OWN}
        where = f"/installations/{shared.installation}/provider-keys"
        assert (await browser.post(where, form)).status_code == 404
