"""Signing in with GitHub, before the whole service and the simulated GitHub, as a browser does it."""

from __future__ import annotations

import asyncio
from base64 import urlsafe_b64decode
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import psycopg
import pytest
import pytest_asyncio

from app.main import create
from app.nouns import Account
from app.web.session import AT_MOST, COOKIE, LASTS, SIGNING_IN, Cookies
from infra.embedded.postgres import SUPERUSER, EmbeddedPostgres
from infra.postgres.store import PostgresStore
from tests.app.web.browser import Browser, opened
from tests.line.stage import Stage

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module")
async def browser(shared: Stage) -> AsyncIterator[Browser]:
    async with opened(shared) as browser:
        yield browser


async def test_who_signs_in_is_who_github_says_and_nothing_of_theirs_is_kept(
    browser: Browser, shared: Stage
) -> None:
    page = await browser.sign_in("ada")
    assert page.status_code == 200
    assert "ada" in page.text
    session = browser.cookie(COOKIE)
    assert session is not None
    assert len(urlsafe_b64decode(session + "=")) == 32, "256 bits, and nothing beside them"
    tokens = [token for token in shared.github.world.tokens.values() if token.user_id is not None]
    assert not [token for token in tokens if token.value.startswith("ghu_")], "the person's token is revoked"
    assert browser.cookie(SIGNING_IN) is None


async def test_a_sign_in_that_another_browser_began_is_refused(browser: Browser, shared: Stage) -> None:
    begun = await browser.get("/signin", follow=False)
    async with opened(shared) as other:
        code, state = await other.agree(begun.headers["location"], "ada")
        answer = await other.get(f"/signin/github?code={code}&state={state}")
    assert answer.status_code == 400
    assert "another browser" in answer.text
    for wrong in (f"code={code}&state=x", f"state={state}", "code=x"):
        assert (await browser.get(f"/signin/github?{wrong}")).status_code == 400
    assert browser.cookie(COOKIE) is None


@pytest.mark.parametrize(
    "then", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:x", "x"]
)
async def test_nobody_is_sent_elsewhere_afterwards(browser: Browser, then: str) -> None:
    page = await browser.sign_in("ada", then=then)
    assert urlsplit(str(page.url)).path == "/"
    assert str(page.url).startswith(browser.url)


async def test_a_cookie_that_was_changed_is_nobodys(browser: Browser) -> None:
    await browser.sign_in("ada")
    cookie = browser.cookie(COOKIE)
    assert cookie is not None
    changed = cookie[:-2] + ("BA" if cookie.endswith("AA") else "AA")
    for wrong in (changed, cookie[1:], "x", "", "é", "A" * 5000):
        async with httpx.AsyncClient(base_url=browser.url, trust_env=False, timeout=60) as client:
            page = await client.get("/", headers=[(b"cookie", f"{COOKIE}={wrong}".encode())])
        assert page.status_code == 200
        assert "Sign in with GitHub" in page.text


async def test_signing_out_needs_a_form_of_ours(browser: Browser) -> None:
    page = await browser.sign_in("ada")
    assert (await browser.post("/signout", {"form_key": "x"})).status_code == 403
    assert "Sign out" in (await browser.get("/")).text
    left = await browser.submit(page, "/signout")
    assert "Sign in with GitHub" in left.text
    assert browser.cookie(COOKIE) is None


async def test_signing_out_everywhere_ends_each_session_of_the_person_and_nobody_elses(shared: Stage) -> None:
    async with opened(shared) as one, opened(shared) as other, opened(shared) as wim:
        await one.sign_in("ada")
        await other.sign_in("ada")
        await wim.sign_in("wim")
        page = await one.get("/installations")
        assert "Sign out everywhere" in page.text
        assert (await one.post("/signout", {"form_key": "x", "everywhere": "yes"})).status_code == 403
        assert "Sign out" in (await other.get("/")).text
        await one.post("/signout", {"form_key": await one.form_key(), "everywhere": "yes"})
        for left in (one, other):
            assert "Sign in with GitHub" in (await left.get("/")).text
        assert "Sign out" in (await wim.get("/")).text
    async with opened(shared) as again:
        await again.sign_in("ada")
        assert "Sign out" in (await again.get("/")).text, "a session that is begun afterwards"


async def test_signing_out_in_one_process_is_signing_out_in_all(browser: Browser, shared: Stage) -> None:
    await browser.sign_in("ada")
    transport = httpx.ASGITransport(app=create(shared.house))
    async with httpx.AsyncClient(
        transport=transport, base_url=shared.url, cookies={COOKIE: browser.cookie(COOKIE) or ""}
    ) as beside:
        for _ in range(2):
            assert (await beside.get("/api/session")).status_code == 200
        await browser.post("/signout", {"form_key": await browser.form_key()})
        assert (await beside.get("/api/session")).status_code == 401


async def test_of_one_person_the_twenty_latest_sessions_stay(shared: Stage) -> None:
    now = datetime.now(UTC)
    cookies = Cookies(shared.house.store, shared.house.keys, lambda: now)
    eve, zoe = Account(70001, "eve", "User"), Account(70002, "zoe", "User")
    (other, _), begun = await cookies.begin(zoe), []
    for _ in range(AT_MOST + 3):
        now += timedelta(seconds=1)
        begun.append((await cookies.begin(eve))[0])
    there = [await cookies.session(one) is not None for one in begun]
    assert there == [False] * 3 + [True] * AT_MOST
    assert await cookies.session(other) is not None


async def test_many_that_sign_in_at_once_are_no_more_than_twenty(shared: Stage) -> None:
    cookies = Cookies(shared.house.store, shared.house.keys, lambda: datetime.now(UTC))
    eve = Account(70003, "eve", "User")
    begun = await asyncio.gather(*(cookies.begin(eve) for _ in range(2 * AT_MOST)))
    assert sum([await cookies.session(cookie) is not None for cookie, _ in begun]) == AT_MOST


async def test_a_session_that_is_long_over_goes_when_another_one_begins(
    shared: Stage, postgres: EmbeddedPostgres, shared_database: str
) -> None:
    def kept() -> int:
        name = shared_database.rpartition("/")[2].partition("?")[0]
        with psycopg.connect(postgres.url(SUPERUSER, name)) as connection:
            found = connection.execute(
                "SELECT count(*) FROM magicode_jobs.sessions WHERE ends < now()"
            ).fetchone()
        assert found is not None
        return int(found[0])

    past = datetime.now(UTC) - LASTS - timedelta(minutes=61)
    store, keys = shared.house.store, shared.house.keys
    await Cookies(store, keys, lambda: past).begin(Account(70004, "eve", "User"))
    assert kept() == 1
    await Cookies(store, keys, lambda: datetime.now(UTC)).begin(Account(70005, "zoe", "User"))
    assert kept() == 0


async def test_looking_a_session_up_asks_the_database_twice(
    browser: Browser, shared: Stage, shared_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For the row and for the key that opens it; and once for a cookie that nothing was kept of."""
    await browser.sign_in("ada")
    asked = 0
    opening = PostgresStore._entered
    beside = PostgresStore(shared_database)  # the service's own rounds ask as well, by the service's store

    async def counted(store: PostgresStore, *given: Any, **named: Any) -> Any:
        nonlocal asked
        asked += store is beside
        return await opening(store, *given, **named)

    monkeypatch.setattr(PostgresStore, "_entered", counted)
    cookies = Cookies(beside, shared.house.keys, shared.house.clock)
    try:
        for cookie, there, times in (
            (browser.cookie(COOKIE), True, 2),
            ("A" * 43, False, 1),
            ("A" * 44, False, 0),
        ):
            asked = 0
            assert (await cookies.session(cookie) is not None) is there
            assert asked == times
    finally:
        await beside.close()


async def test_pages_say_what_a_browser_must_not_do(browser: Browser) -> None:
    page = await browser.get("/")
    assert page.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in page.headers["content-security-policy"]
    begun = await browser.get("/signin", follow=False)
    assert "HttpOnly" in begun.headers["set-cookie"]
    assert "SameSite=lax" in begun.headers["set-cookie"]
    asked = parse_qs(urlsplit(begun.headers["location"]).query)
    assert asked["code_challenge_method"] == ["S256"]


async def test_without_credentials_signing_in_says_what_is_missing(shared: Stage) -> None:
    transport = httpx.ASGITransport(app=create(replace(shared.house, sign_in=None)))
    async with httpx.AsyncClient(transport=transport, base_url=shared.url) as browser:
        page = await browser.get("/signin")
    assert page.status_code == 501
    assert "MAGICODE_CLIENT_ID" in page.text


async def test_where_people_come_by_https_nothing_goes_without(shared: Stage) -> None:
    web = create(replace(shared.house, public_url="https://magicode.example"))
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=web), base_url="https://magicode.example"
    ) as browser:
        begun = await browser.get("/signin")
    assert "Secure" in begun.headers["set-cookie"]
    assert begun.headers["strict-transport-security"].startswith("max-age=")


async def test_a_session_ends_by_itself(browser: Browser, shared: Stage) -> None:
    await browser.sign_in("ada")
    cookies = {COOKIE: browser.cookie(COOKIE) or ""}
    for hours, there in ((7.9, True), (8.1, False)):
        now = datetime.now(UTC) + timedelta(hours=hours)
        web = create(replace(shared.house, clock=lambda now=now: now))  # type: ignore[misc]
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app=web), base_url=shared.url, cookies=cookies
        ) as later:
            assert ("Sign out" in (await later.get("/")).text) is there
