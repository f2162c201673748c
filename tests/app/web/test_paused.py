"""While an installation is paused its pages and its API show nothing, and say so to whoever may look at it alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import httpx
import pytest
import pytest_asyncio

from app.nouns import Account
from app.web.access import Access, Scope, make_token
from tests.app.web.browser import Browser, opened
from tests.line.stage import Stage

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", params=["by itself", "with everybody"])
async def paused(shared: Stage, request: pytest.FixtureRequest) -> AsyncIterator[int]:
    whom = shared.installation if request.param == "by itself" else 0
    await shared.house.store.pause(whom)
    yield whom
    await shared.house.store.resume(whom)


async def token(shared: Stage) -> str:
    ada = shared.github.account("ada")
    person = Account(ada.id, ada.login, "User")
    allowed = await Access(shared.house).administrator(shared.installation, person, anew=True)
    made, _ = await make_token(shared.house, allowed, [Scope.RUNS, Scope.EXPORT], timedelta(days=1))
    return made


async def test_whoever_administers_it_is_told_that_it_is_paused(
    ada: Browser, shared: Stage, paused: int
) -> None:
    for page in ("", "/settings", "/members", "/actions", "/usage"):
        answer = await ada.get(f"/installations/{shared.installation}{page}")
        assert answer.status_code == 503, page
        assert answer.headers["retry-after"] == "60"
        assert "paused" in answer.text
        answer = await ada.api("GET", f"/installations/{shared.installation}{page}")
        assert answer.status_code == 503, page
        assert answer.json()["type"] == "urn:magicode:paused"


async def test_whoever_may_not_look_at_it_learns_nothing(shared: Stage, paused: int) -> None:
    async with opened(shared) as sol:
        await sol.sign_in("sol")
        for path in (
            f"/installations/{shared.installation}/runs",
            f"/api/installations/{shared.installation}/runs",
        ):
            answer = await sol.get(path)
            assert answer.status_code == 404
            assert "paused" not in answer.text
    async with httpx.AsyncClient(trust_env=False, base_url=shared.url, timeout=60) as nobody:
        answer = await nobody.get(f"/api/installations/{shared.installation}/runs")
        assert answer.status_code == 401


async def test_a_token_opens_nothing_until_it_goes_on(shared: Stage) -> None:
    made = await token(shared)
    headers = {"Authorization": f"Bearer {made}"}
    async with httpx.AsyncClient(
        trust_env=False, base_url=shared.url, headers=headers, timeout=60
    ) as program:
        path = f"/api/installations/{shared.installation}/runs"
        assert (await program.get(path)).status_code == 200
        await shared.house.store.pause(shared.installation)
        assert (await program.get(path)).status_code == 503
        assert (await program.post(f"/api/installations/{shared.installation}/exports")).status_code == 503
        await shared.house.store.resume(shared.installation)
        assert (await program.get(path)).status_code == 200
