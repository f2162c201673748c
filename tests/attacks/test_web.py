"""What somebody tries at the pages and the API: with no session, with a stolen, forged or foreign one, and from another site.

What has to hold of each route is asked of each route that the application has, so that a new one cannot escape.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import parse_qs, quote, urlsplit
from uuid import UUID

import httpx
import psycopg
import pytest
import pytest_asyncio
import schemathesis
from fastapi.routing import APIRoute
from hypothesis import HealthCheck, given, settings
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import ignored_auth, positive_data_acceptance

from app.actionlog.verify import parse
from app.main import create
from app.nouns import Installation
from app.telling import ping
from app.web import access
from app.web.access import Allowed, Scope
from app.web.attempts import FROM_ALL_AT_MOST, FROM_ONE_AT_MOST, REMEMBERED, Attempts, TooManySignInsError
from app.web.hooks import make_hook
from app.web.session import COOKIE, SIGNING_IN
from infra.embedded.postgres import SERVICE_ROLE, SUPERUSER, EmbeddedPostgres
from infra.models.guarded import Guard
from infra.receivers import HttpReceivers
from tests.app.web.browser import Browser, opened
from tests.claims import case, claim
from tests.lengths import Lengths
from tests.line.conftest import SIMULATOR, Words
from tests.line.conversations import notes
from tests.line.stage import Stage, staged
from tests.receiver import answers, receiving

pytestmark = pytest.mark.asyncio(loop_scope="module")

GROUP = "Web and API"
NOWHERE = 987_654_321
"""An installation that is not there."""
NO_ID: Final = UUID(int=7)


@asynccontextmanager
async def _raised(
    tmp_path_factory: pytest.TempPathFactory, postgres: EmbeddedPostgres, name: str, **environ: str
) -> AsyncIterator[Stage]:
    folder = tmp_path_factory.mktemp(name)
    source = folder / "fairshare"
    shutil.copytree(SIMULATOR / "sample", source, ignore=shutil.ignore_patterns("__pycache__"))
    with psycopg.connect(postgres.url(SUPERUSER, "postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template STRATEGY FILE_COPY")
    async with staged(
        folder / "stage",
        {"octo/fairshare": source},
        notes(),
        database_url=postgres.url(SERVICE_ROLE, name),
        encoder=Words(),
        working=False,
        environ={"MAGICODE_MODEL_HOSTS": "127.0.0.1", "MAGICODE_HOOK_HOSTS": "127.0.0.1:9", **environ},
    ) as stage:
        stage.github.world.limits.anonymous_per_hour = 1_000_000  # people on GitHub's own pages
        await stage.github.add_account("sol", {"own": source})
        await stage.settled()
        yield stage
    with psycopg.connect(postgres.url(SUPERUSER, "postgres"), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(
    tmp_path_factory: pytest.TempPathFactory, postgres: EmbeddedPostgres
) -> AsyncIterator[Stage]:
    """`octo` is an organization whose repository ada administers; `sol` is a person with an installation of their own. The
    machine itself is trusted as a proxy, so that each browser here has an address of its own."""
    async with _raised(tmp_path_factory, postgres, "pages", MAGICODE_TRUSTED_PROXIES="127.0.0.1") as stage:
        yield stage


_addresses = iter(range(1, 1_000_000))


@asynccontextmanager
async def browsing(stage: Stage, login: str | None = None) -> AsyncIterator[Browser]:
    """A browser at an address that nobody else has; signed in as `login`."""
    async with opened(stage) as browser:
        number = next(_addresses)
        browser.client.headers["X-Forwarded-For"] = (
            f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
        )
        if login is not None:
            await browser.sign_in(login)
        yield browser


@pytest_asyncio.fixture(loop_scope="module")
async def ada(shared: Stage) -> AsyncIterator[Browser]:
    async with browsing(shared, "ada") as browser:
        yield browser


@pytest_asyncio.fixture(loop_scope="module")
async def sol(shared: Stage) -> AsyncIterator[Browser]:
    async with browsing(shared, "sol") as browser:
        yield browser


def own_installation(stage: Stage, login: str) -> int:
    world = stage.github.world
    account = stage.github.account(login)
    return next(one.id for one in world.installations.values() if one.account_id == account.id)


# --- the routes ------------------------------------------------------------------------------------------------------

READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
BODIES: Final[dict[str, dict[str, Any]]] = {
    "/settings/{name}": {"value": "1 month"},
    "/provider-keys/{provider}": {"key": "sk-of-nobody-at-all-1234567890"},
    "/hooks": {"url": "https://127.0.0.1/hook"},
    "/members/{login}": {"role": "viewer"},
    "/tokens": {"scopes": ["log"], "days": 1},
    "/actions/verify": {"heads": []},
    "/deletion": {"account": "octo"},
    "/exports": {},
}
FORM: Final = {
    "name": "keep-runs",
    "value": "1 month",
    "provider": "openai",
    "key": "sk-of-nobody-at-all-1234567890",
    "url": "https://127.0.0.1/hook",
    "event": "run.ended",
    "login": "wim",
    "role": "viewer",
    "person": "1",
    "scope": "log",
    "days": "1",
    "heads": "",
    "account": "octo",
}


def routes(stage: Stage) -> list[tuple[str, str]]:
    """Method and template of each route of the pages and the API."""
    found = [
        (method, route.path)
        for route in _flat(create(stage.house).routes)
        for method in sorted(route.methods)
        if not route.path.startswith("/webhooks/")
    ]
    assert len(found) > 35, found
    return found


def _flat(found: Any) -> Iterator[APIRoute]:
    for route in found:
        if isinstance(route, APIRoute):
            yield route
        elif (inside := getattr(route, "original_router", None)) is not None:
            yield from _flat(inside.routes)


def filled(template: str, tenant: int, **known: object) -> str:
    values = {"tenant": tenant, "name": "keep-runs", "provider": "openai", "login": "wim", **known}
    return re.sub(r"\{(\w+)(?::\w+)?\}", lambda found: str(values.get(found[1], NO_ID)), template)


async def send(
    browser: Browser, method: str, path: str, template: str, key: str | None, **headers: str
) -> httpx.Response:
    """As the pages' own forms and scripts send it."""
    if template.startswith("/api/"):
        body = next((what for end, what in BODIES.items() if template.endswith(end)), None)
        told = {**headers, **({"X-Form-Key": key} if key is not None else {})}
        sent = None if method in READS or method == "DELETE" else body
        return await browser.client.request(method, f"{browser.url}{path}", json=sent, headers=told)
    form = {**FORM, **({"form_key": key} if key is not None else {})}
    return await browser.client.request(
        method, f"{browser.url}{path}", data=None if method in READS else form, headers=headers
    )


async def state_of(stage: Stage, tenant: int) -> dict[str, int]:
    """How many rows there are of each kind; what is only looked at leaves entries alone."""
    async with stage.house.store.transaction(tenant) as transaction:
        counts = dict(await transaction.row_counts())
        stored = await transaction.settings()
    for made_by_looking in ("entries", "data_keys"):
        counts.pop(made_by_looking, None)
    return counts | {"settings": hash(str(stored))}


# --- nobody, strangers and other tenants -----------------------------------------------------------------------------


@claim(
    GROUP,
    "Every route without a session: pages, downloads and the API, reading and writing",
    "The way to sign in, 401, or what everybody may see; nothing of any installation",
)
async def test_nobody_sees_nothing(shared: Stage) -> None:
    async with browsing(shared) as nobody:
        before = await state_of(shared, shared.installation)
        for method, template in routes(shared):
            if "{tenant}" not in template or "receipt" in template or "erasure_id" in template:
                continue
            answer = await send(nobody, method, filled(template, shared.installation), template, "a-key")
            if template.startswith("/api/") or method not in READS:
                assert answer.status_code in (401, 403), (method, template, answer.text)
            else:
                assert answer.status_code == 303, (method, template, answer.text)
                assert answer.headers["location"].startswith("/signin?then=%2Finstallations")
            assert "octo" not in answer.text
        assert await state_of(shared, shared.installation) == before


@claim(
    GROUP,
    "Every route of another tenant's installation, by somebody who has one, with a right form key",
    "Exactly the answer that is given for an installation that is not there",
)
async def test_another_tenants_installation_is_not_there(shared: Stage, sol: Browser) -> None:
    key, before = await sol.form_key(), await state_of(shared, shared.installation)
    asked = 0
    for method, template in routes(shared):
        if "{tenant}" not in template:
            continue
        told = []
        for tenant in (shared.installation, NOWHERE):
            answer = await send(sol, method, filled(template, tenant), template, key)
            told.append(
                (
                    answer.status_code,
                    answer.text.replace(str(tenant), "N"),
                    dict(answer.headers) | {"date": ""},
                )
            )
        assert told[0] == told[1], (method, template)
        assert told[0][0] == 404, (method, template, told[0])
        asked += 1
    assert asked > 25
    assert await state_of(shared, shared.installation) == before


@claim(
    GROUP,
    "Another tenant's ids of exports, tokens, webhooks, runs and repositories inside one's own installation",
    "As ids that nobody has: 404, or an empty answer; and the other tenant's token still works",
)
async def test_another_tenants_ids_are_nobodys(shared: Stage, ada: Browser, sol: Browser) -> None:
    octo, own, key = shared.installation, own_installation(shared, "sol"), await ada.form_key()
    export = (await ada.api("POST", f"/installations/{octo}/exports", {}, form_key=key)).json()
    token = (
        await ada.api("POST", f"/installations/{octo}/tokens", {"scopes": ["log"], "days": 1}, form_key=key)
    ).json()
    address = {"url": "http://127.0.0.1:9/of-octo"}
    hook = (await ada.api("POST", f"/installations/{octo}/hooks", address, form_key=key)).json()
    mine = await sol.form_key()
    for method, template in routes(shared):
        if not any(one in template for one in ("{export_id}", "{token_id}", "{hook_id}")):
            continue
        told = []
        for of_another, of_nobody in ((export["id"], NO_ID), (token["id"], NO_ID), (hook["id"], NO_ID)):
            for one in (of_another, of_nobody):
                path = filled(template, own, export_id=one, token_id=one, hook_id=one)
                answer = await send(sol, method, path, template, mine)
                told.append((answer.status_code, answer.text.replace(str(one), "N")))
        assert len(set(told)) == 1, (method, template, told)
    known = (await ada.api("GET", f"/installations/{octo}/hooks")).json()
    assert [(one["id"], one["last_at"]) for one in known] == [(hook["id"], None)], (
        "not removed, and sent nothing"
    )
    await ada.api("DELETE", f"/installations/{octo}/hooks/{hook['id']}", form_key=key)
    theirs = {"Authorization": f"Bearer {token['token']}"}
    async with httpx.AsyncClient(trust_env=False, headers=theirs) as program:
        assert (await program.get(f"{shared.url}/api/installations/{octo}/actions")).status_code == 200
        for path in (
            f"/api/installations/{own}",
            f"/api/installations/{own}/actions",
            f"/api/installations/{NOWHERE}",
        ):
            assert (await program.get(f"{shared.url}{path}")).status_code == 401, path
    for query in (f"run={NO_ID}", f"repository={next(iter(shared.github.world.repositories))}"):
        found = await sol.api("GET", f"/installations/{own}/actions?{query}")
        assert found.json()["entries"] == []


@claim(
    GROUP,
    "Webhooks whose address leads to the service itself or into its network: loopback, private, link-local, the cloud's metadata, "
    "as a number, in IPv6, with a password, without TLS",
    "400 each, on the page and by the API; nothing is kept and nothing is sent",
)
async def test_no_webhook_leads_inside(shared: Stage, ada: Browser) -> None:
    octo, key = shared.installation, await ada.form_key()
    before = await state_of(shared, octo)
    port = shared.url.rpartition(":")[2]
    for address in (
        f"{shared.url}/webhooks/github",
        f"https://127.0.0.1:{port}/",
        f"https://localhost:{port}/",
        f"https://[::1]:{port}/",
        f"https://[::ffff:127.0.0.1]:{port}/",
        "https://2130706433/",
        "https://0.0.0.0/",
        "https://10.0.0.1/",
        "https://172.16.0.1/",
        "https://192.168.1.1/",
        "https://169.254.169.254/latest/meta-data/",
        "https://[fd00:ec2::254]/",
        "https://100.64.0.1/",
        "https://ada:word@8.8.8.8/",
        "http://8.8.8.8/",
        "file:///etc/passwd",
        "gopher://8.8.8.8/",
    ):
        told = await ada.api("POST", f"/installations/{octo}/hooks", {"url": address}, form_key=key)
        assert told.status_code == 400, (address, told.text)
        assert told.json()["type"] == "urn:magicode:hook_address", (address, told.text)
        form = {"form_key": key, "url": address, "event": "run.ended"}
        page = await ada.post(f"/installations/{octo}/hooks", form)
        assert page.status_code == 400, address
        assert "whsec_" not in page.text
    assert await state_of(shared, octo) == before


@claim(
    GROUP,
    "A webhook whose name leads to the service itself once it was saved, and a receiver that redirects there",
    "The name is looked up anew and the request does not leave; a redirect is no answer that is followed",
)
async def test_no_webhook_turns_inside(shared: Stage, ada: Browser) -> None:
    octo, key, found = shared.installation, await ada.form_key(), ["8.8.8.8"]

    async def turning(_host: str, _port: int) -> list[str]:
        return found

    async with receiving() as inside, receiving() as receiver:
        allowed = f"127.0.0.1:{receiver.port}"
        house = replace(shared.house, receivers=HttpReceivers(Guard([allowed], resolve=turning)))
        administrator = Allowed(Installation(octo, 1, "octo", suspended=False), "ada")
        name, _ = await make_hook(
            house, administrator, f"https://hooks.example.com:{inside.port}/", ["run.ended"]
        )
        found[:] = ["127.0.0.1"]
        assert (await ping(house, octo, name.id, "ada")).why == "hook_refused"
        receiver.always = answers(307, f"Location: {inside.url}")
        redirecting, _ = await make_hook(house, administrator, receiver.url, ["run.ended"])
        assert (await ping(house, octo, redirecting.id, "ada")).status == 307
        assert (len(receiver.got), inside.got) == (1, [])
        for one in (name, redirecting):
            await ada.api("DELETE", f"/installations/{octo}/hooks/{one.id}", form_key=key)


@claim(
    GROUP,
    "An API token without the scope, and one that is used where only a person may act",
    "403 on each route; a token makes no tokens",
)
async def test_a_token_does_no_more_than_it_says(shared: Stage, ada: Browser) -> None:
    octo, key = shared.installation, await ada.form_key()
    made = await ada.api(
        "POST", f"/installations/{octo}/tokens", {"scopes": ["export"], "days": 1}, form_key=key
    )
    bearer = f"Bearer {made.json()['token']}"
    before = await state_of(shared, octo)
    async with browsing(shared) as program:
        for method, template in routes(shared):
            if not template.startswith("/api/installations/{tenant}/") or "/exports" in template:
                continue
            answer = await send(program, method, filled(template, octo), template, None, Authorization=bearer)
            assert answer.status_code == 403, (method, template, answer.text)
    assert await state_of(shared, octo) == before


@claim(
    GROUP,
    "API tokens that are missing, cut, changed in one character, of another installation, ended or removed",
    "401, with the same words for each",
)
async def test_tokens_that_are_none(shared: Stage, ada: Browser) -> None:
    octo, key = shared.installation, await ada.form_key()
    made = (
        await ada.api("POST", f"/installations/{octo}/tokens", {"scopes": ["log"], "days": 1}, form_key=key)
    ).json()
    token = made["token"]
    other = token.replace(str(octo), str(own_installation(shared, "sol")))
    tried = ["", "x", token[:-1], token[:-1] + ("A" if token[-1] != "A" else "B"), token + "A", other, token.upper(), f"{token} {token}", "mgc_" + "9" * 30 + "_" + "a" * 43, "\u0130" * 20]  # fmt: skip
    said = set()
    async with httpx.AsyncClient(trust_env=False) as program:
        url = f"{shared.url}/api/installations/{octo}/actions"
        for one in tried:
            answer = await program.get(url, headers=[(b"Authorization", f"Bearer {one}".strip().encode())])
            assert answer.status_code == 401, one
            said.add(answer.json()["detail"])
        right = {"Authorization": f"Bearer {token}"}
        assert (await program.get(url, headers=right)).status_code == 200
        assert (await program.get(f"{url}?token={token}")).status_code == 401, (
            "an address is no place for a token"
        )
        await ada.api("DELETE", f"/installations/{octo}/tokens/{made['id']}", form_key=key)
        answer = await program.get(url, headers=right)
        assert answer.status_code == 401
        assert said - {"Nobody is signed in."} == {answer.json()["detail"]}


# --- forms of other sites --------------------------------------------------------------------------------------------


@claim(
    GROUP,
    "Every route that changes something, with a right session and no form key, or that of another session, as another site would send it",
    "403 each, and nothing is changed",
)
async def test_no_other_site_changes_anything(shared: Stage, ada: Browser) -> None:
    octo, before = shared.installation, await state_of(shared, shared.installation)
    async with browsing(shared, "ada") as elsewhere:
        foreign = await elsewhere.form_key()
    asked = 0
    for method, template in routes(shared):
        if method in READS:
            continue
        for key in (None, "", "x", foreign):
            answer = await send(ada, method, filled(template, octo), template, key)
            assert answer.status_code == 403, (method, template, key, answer.status_code, answer.text)
        asked += 1
    assert asked >= 14
    assert await state_of(shared, octo) == before
    assert (await ada.api("GET", "/session")).status_code == 200, "and nobody was signed out"


@claim(
    GROUP,
    "Every route that is read, opened by an address in another site, an image or a link",
    "Nothing is changed by reading: the rows are what they were, but for entries that say who looked",
)
async def test_reading_changes_nothing(shared: Stage, ada: Browser) -> None:
    octo, before = shared.installation, await state_of(shared, shared.installation)
    for method, template in routes(shared):
        if method == "GET":
            query = (
                "?" + "&".join(f"{name}={quote(value)}" for name, value in FORM.items()) + "&_method=DELETE"
            )
            overridden = dict.fromkeys(
                ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"), "DELETE"
            )
            await ada.client.get(f"{ada.url}{filled(template, octo)}{query}", headers=overridden)
    assert await state_of(shared, octo) == before


@claim(
    GROUP,
    "A document sent as text/plain or as a form to the API, which a page of another site may send without being asked",
    "Refused, and nothing is changed",
)
async def test_a_document_that_says_it_is_text(shared: Stage, ada: Browser) -> None:
    octo, before = shared.installation, await state_of(shared, shared.installation)
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        answer = await ada.client.put(
            f"{ada.url}/api/installations/{octo}/settings/keep-runs",
            content=b'{"value": "1 month"}',
            headers={"Content-Type": kind, "Origin": "https://evil.example"},
        )
        assert answer.status_code in (400, 403), kind
        assert "access-control-allow-origin" not in answer.headers
    assert await state_of(shared, octo) == before


# --- signing in ------------------------------------------------------------------------------------------------------


@claim(
    GROUP,
    "Session fixation: a browser that brings a session of somebody's, or one that was made up, and then signs in",
    "A new session with a new form key; the one that it brought is nobody's or another person's, and never becomes theirs",
)
async def test_a_session_that_was_there_before(shared: Stage, sol: Browser) -> None:
    brought = sol.cookie(COOKIE)
    assert brought is not None
    for planted in ("fixed", brought):
        async with browsing(shared) as victim:
            victim.client.cookies.set(COOKIE, planted, domain="127.0.0.1", path="/")
            await victim.sign_in("ada")
            assert victim.cookie(COOKIE) not in (planted, None)
            assert (await victim.api("GET", "/session")).json()["login"] == "ada"
    assert (await sol.api("GET", "/session")).json()["login"] == "sol"


@claim(
    GROUP,
    "Login CSRF: somebody else's code and state, opened in a victim's browser",
    "400; the victim is signed in as nobody",
)
async def test_another_browsers_way_back(shared: Stage) -> None:
    async with browsing(shared) as attacker, browsing(shared) as victim:
        begun = await attacker.get("/signin", follow=False)
        code, state = await attacker.agree(begun.headers["location"], "sol")
        for _ in range(2):
            answer = await victim.get(f"/signin/github?code={code}&state={state}")
            assert answer.status_code == 400
            assert victim.cookie(COOKIE) is None
            await victim.get("/signin", follow=False)  # and once it has begun a sign-in of its own
        assert (await attacker.get(f"/signin/github?code={code}&state={state}")).status_code == 200


@claim(
    GROUP,
    "Two browsers that sign in at once and exchange their codes, each with its own state",
    "400 in both: a code is bound to the browser that asked for it (PKCE)",
)
async def test_codes_that_were_exchanged(shared: Stage) -> None:
    async with browsing(shared) as one, browsing(shared) as other:
        of_one = await one.agree((await one.get("/signin", follow=False)).headers["location"], "ada")
        of_other = await other.agree((await other.get("/signin", follow=False)).headers["location"], "sol")
        for browser, code, state in ((one, of_other[0], of_one[1]), (other, of_one[0], of_other[1])):
            answer = await browser.get(f"/signin/github?code={code}&state={state}")
            assert answer.status_code == 400
            assert browser.cookie(COOKIE) is None


@claim(
    GROUP,
    "The way back from GitHub opened a second time, with the cookie of the sign-in kept",
    "400: the code is used up, and so is the sign-in",
)
async def test_a_way_back_that_is_replayed(shared: Stage) -> None:
    async with browsing(shared) as browser:
        begun = await browser.get("/signin", follow=False)
        kept = browser.cookie(SIGNING_IN)
        code, state = await browser.agree(begun.headers["location"], "ada")
        assert (await browser.get(f"/signin/github?code={code}&state={state}")).status_code == 200
        assert browser.cookie(SIGNING_IN) is None
        browser.client.cookies.clear()
        browser.client.cookies.set(SIGNING_IN, kept or "", domain="127.0.0.1", path="/")
        answer = await browser.get(f"/signin/github?code={code}&state={state}")
        assert answer.status_code == 400
        assert browser.cookie(COOKIE) is None


@claim(
    GROUP,
    "A way back with no code, no state, an error, a state of ten thousand characters, of another alphabet, twice",
    "400 each; nobody is signed in",
)
async def test_ways_back_that_are_none(shared: Stage) -> None:
    async with browsing(shared) as browser:
        begun = await browser.get("/signin", follow=False)
        state = parse_qs(urlsplit(begun.headers["location"]).query)["state"][0]
        for query in (
            "", "code=x", f"state={state}", "error=access_denied", f"code=&state={state}", f"code=x&state={state}x",
            f"code=x&state={'a' * 10_000}", "code=x&state=%C3%A9%F0%9F%92%A9", f"code=x&state=y&state={state}x", "code=%00&state=%00",
        ):  # fmt: skip
            answer = await browser.get(f"/signin/github?{query}")
            assert answer.status_code == 400, query
            assert browser.cookie(COOKIE) is None


@claim(
    GROUP,
    "A sign-in that is to end at another host, by every spelling that a browser may take for one",
    "It ends at our first page",
)
async def test_nobody_is_sent_to_another_host(shared: Stage) -> None:
    thens = (
        "https://evil.example", "//evil.example", "/\\evil.example", "\\\\evil.example", "/\t/evil.example", "/\n/evil.example",
        " //evil.example", "javascript:alert(1)", "data:text/html,x", "/%09/evil.example\r\nLocation: //evil.example", "///evil.example",
        "evil.example", "@evil.example", "/\u2028//evil.example", "http:evil.example", "/\x00//evil.example",
    )  # fmt: skip
    for then in thens:
        async with browsing(shared) as browser:
            page = await browser.sign_in("ada", then=then)
            assert urlsplit(str(page.url)).netloc == urlsplit(shared.url).netloc, then
            assert urlsplit(str(page.url)).path in ("/", "/%09/evil.example"), then


@claim(
    GROUP,
    "A Host header, an absolute address or a forwarded host of somebody else's",
    "No answer leads there: what we link to is our own configured address",
)
async def test_the_request_does_not_say_where_we_are(shared: Stage) -> None:
    async with browsing(shared) as browser:
        for path in (
            "/signin",
            "/installations",
            "/installations/",
            "/signin/",
            f"/installations/{shared.installation}/",
            "//evil.example",
            "//evil.example/..",
            "/api/session/",
        ):
            for headers in (
                {"Host": "evil.example"},
                {"X-Forwarded-Host": "evil.example", "Forwarded": "host=evil.example"},
                {"X-Forwarded-Proto": "javascript", "X-Original-URL": "//evil.example"},
            ):
                answer = await browser.client.get(f"{shared.url}{path}", headers=headers)
                led = answer.headers.get("location", "")
                assert "evil.example" not in led.replace("%2F%2Fevil.example", ""), (path, headers, led)
                assert not led.startswith("//"), (path, led)
                if led.startswith("http"):
                    assert led.startswith(shared.github.base_url)
                    assert parse_qs(urlsplit(led).query)["redirect_uri"] == [f"{shared.url}/signin/github"]


@claim(
    GROUP,
    "Signing in again and again from one address",
    "429 with Retry-After beyond two hundred in ten minutes; others still sign in",
)
async def test_signing_in_from_one_address(shared: Stage) -> None:
    async with browsing(shared) as browser, browsing(shared) as other:
        for _ in range(FROM_ONE_AT_MOST):
            assert (await browser.get("/signin", follow=False)).status_code == 303
        for path in ("/signin", "/signin/github?code=x&state=y"):
            stopped = await browser.get(path, follow=False)
            assert stopped.status_code == 429
            assert 0 < int(stopped.headers["retry-after"]) <= 600
            assert "set-cookie" not in stopped.headers
        await other.sign_in("ada")
        assert other.cookie(COOKIE)


@claim(
    GROUP,
    "Signing in again and again with an X-Forwarded-For that is made up, where no proxy is trusted",
    "It counts for nothing: 429 all the same",
)
async def test_an_address_that_is_made_up(
    tmp_path_factory: pytest.TempPathFactory, postgres: EmbeddedPostgres
) -> None:
    async with _raised(tmp_path_factory, postgres, "unproxied") as stage, opened(stage) as browser:
        statuses = set()
        for number in range(FROM_ONE_AT_MOST + 5):
            told = {
                "X-Forwarded-For": f"203.0.113.{number}",
                "X-Real-IP": f"203.0.113.{number}",
                "Forwarded": f"for=203.0.113.{number}",
            }
            answer = await browser.client.get(f"{stage.url}/signin", headers=told)
            statuses.add(answer.status_code)
        assert answer.status_code == 429
        assert statuses == {303, 429}


@claim(
    GROUP,
    "Signing in from very many addresses, and from very many of one IPv6 network",
    "All of them together have a limit too, one network counts as one, and what is remembered stays small",
)
async def test_signing_in_from_everywhere() -> None:
    now = datetime(2026, 11, 21, tzinfo=UTC)
    attempts = Attempts(lambda: now)
    for number in range(FROM_ONE_AT_MOST):
        attempts.count(f"2001:db8::{number:x}")
    with pytest.raises(TooManySignInsError):
        attempts.count("2001:db8:0:0:ffff::1")
    attempts.count("2001:db8:0:1::1")
    for number in range(FROM_ALL_AT_MOST - FROM_ONE_AT_MOST - 1):
        attempts.count(f"10.0.{number >> 8}.{number & 255}")
    with pytest.raises(TooManySignInsError) as told:
        attempts.count("10.1.1.1")
    assert told.value.retry_after is not None
    for number in range(2 * REMEMBERED):
        with pytest.raises(TooManySignInsError):
            attempts.count(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    assert len(attempts._from) <= REMEMBERED
    assert len(attempts._all) <= FROM_ALL_AT_MOST
    now += timedelta(minutes=10)
    attempts.count("10.0.0.1")
    assert len(attempts._all) == 1


# --- cookies ---------------------------------------------------------------------------------------------------------


@claim(
    GROUP,
    "A session's cookie changed in every third of its bytes, cut at many places, or with something behind it",
    "Nobody's, each",
)
async def test_a_cookie_that_was_tampered_with(shared: Stage, ada: Browser) -> None:
    cookie = ada.cookie(COOKIE) or ""
    held = base64.urlsafe_b64decode(cookie + "=")
    changed = [
        base64.urlsafe_b64encode(held[:at] + bytes([held[at] ^ 1]) + held[at + 1 :]).decode().rstrip("=")
        for at in range(0, len(held), 3)
    ]
    cut = [cookie[:at] for at in range(0, len(cookie), 4)]
    others = [cookie + "A", f'"{cookie}"x', cookie.swapcase(), "é", "=" * 50, "A" * 7_000, "null", "{}"]
    async with httpx.AsyncClient(trust_env=False) as client:
        for one in (*changed, *cut, *others):
            told = [(b"Cookie", f"{COOKIE}={one}".encode())]
            answer = await client.get(f"{shared.url}/api/session", headers=told)
            assert answer.status_code in (400, 401), one
    assert (await ada.api("GET", "/session")).status_code == 200


@claim(
    GROUP,
    "The cookie of a sign-in used as a session, a session's used as a sign-in, and one that another service sealed",
    "Nobody's",
)
async def test_cookies_that_were_exchanged(shared: Stage, ada: Browser) -> None:
    async with browsing(shared) as browser:
        await browser.get("/signin", follow=False)
        begun = browser.cookie(SIGNING_IN) or ""
        browser.client.cookies.set(COOKIE, begun, domain="127.0.0.1", path="/")
        assert (await browser.api("GET", "/session")).status_code == 401
        browser.client.cookies.clear()
        browser.client.cookies.set(SIGNING_IN, ada.cookie(COOKIE) or "", domain="127.0.0.1", path="/")
        assert (await browser.get("/signin/github?code=x&state=y")).status_code == 400


def rows_of_sessions(postgres: EmbeddedPostgres) -> list[tuple[str, str, bytes]]:
    """As somebody reads them who stole the database."""
    with psycopg.connect(postgres.url(SUPERUSER, "pages")) as connection:
        found = connection.execute("SELECT hash, person, sealed FROM magicode_jobs.sessions").fetchall()
    return [(hashed, person, bytes(sealed)) for hashed, person, sealed in found]


@claim(
    GROUP,
    "The table of sessions, stolen: each hash, each sealed row and pieces of them, sent as a cookie of either kind and as a form key",
    "Nobody's, each; neither a cookie, nor a form key, nor whose session it is stands there in any form",
)
async def test_a_table_of_sessions_that_was_stolen(
    shared: Stage, ada: Browser, postgres: EmbeddedPostgres
) -> None:
    cookie, form_key = ada.cookie(COOKIE) or "", await ada.form_key()
    stolen = rows_of_sessions(postgres)
    assert stolen
    bytes_of_cookie = base64.urlsafe_b64decode(cookie + "=")
    for hashed, person, sealed in stolen:
        for told in (hashed.encode(), person.encode(), sealed):
            for secret in (
                cookie.encode(),
                bytes_of_cookie,
                bytes_of_cookie.hex().encode(),
                form_key.encode(),
            ):
                assert secret not in told
        assert b"ada" not in sealed
        digests = [bytes.fromhex(hashed), bytes.fromhex(person), sealed, sealed[:32], sealed[-32:]]
        tried = [hashed, person, hashed[:43], *(base64.urlsafe_b64encode(one).decode() for one in digests)]
        async with httpx.AsyncClient(trust_env=False) as client:
            for one in (*tried, *(one.rstrip("=") for one in tried)):
                answer = await client.get(f"{shared.url}/api/session", headers={"Cookie": f"{COOKIE}={one}"})
                assert answer.status_code == 401, one
                for told_as in (SIGNING_IN, COOKIE):
                    again = await client.get(
                        f"{shared.url}/signin/github?code=x&state=y", headers={"Cookie": f"{told_as}={one}"}
                    )
                    assert again.status_code in (400, 429)
        assert (await ada.post("/signout", {"form_key": hashed})).status_code == 403
    assert (await ada.api("GET", "/session")).status_code == 200


@claim(
    GROUP,
    "Somebody who may write into the table puts an administrator's sealed row under the hash of a cookie of their own",
    "Nobody's: a row opens under its own cookie's hash alone",
)
async def test_a_row_that_was_moved(shared: Stage, ada: Browser, postgres: EmbeddedPostgres) -> None:
    hashed = hashlib.sha256((ada.cookie(COOKIE) or "").encode()).hexdigest()
    mine = base64.urlsafe_b64encode(bytes(32)).decode().rstrip("=")
    with psycopg.connect(postgres.url(SUPERUSER, "pages"), autocommit=True) as connection:
        put = connection.execute(
            "INSERT INTO magicode_jobs.sessions SELECT %s, person, sealed, ends FROM magicode_jobs.sessions WHERE hash = %s",
            [hashlib.sha256(mine.encode()).hexdigest(), hashed],
        )
        assert put.rowcount == 1
    async with httpx.AsyncClient(trust_env=False, cookies={COOKIE: mine}) as thief:
        assert (await thief.get(f"{shared.url}/api/session")).status_code == 401
    assert (await ada.api("GET", "/session")).status_code == 200


@claim(
    GROUP,
    "A session's cookie as it was before sessions were rows: an id and a login, sealed under the service's own key for that purpose",
    "Nobody's",
)
async def test_a_sealed_cookie_of_before(shared: Stage) -> None:
    keys = shared.house.keys
    held = {"id": shared.github.account("ada").id, "login": "ada", "type": "User", "form": "x", "ends": 2e9}
    async with shared.house.store.transaction(0) as transaction:
        key = keys.derive(await keys.data_key(transaction), b"magicode/sessions")
    old = base64.urlsafe_b64encode(keys.seal(key, json.dumps(held).encode(), COOKIE.encode())).decode()
    async with httpx.AsyncClient(trust_env=False, cookies={COOKIE: old}) as client:
        assert (await client.get(f"{shared.url}/api/session")).status_code == 401


@claim(
    GROUP,
    "A session that has ended, by the service's clock, though the browser still sends its cookie",
    "Nobody's: pages lead to the sign-in, the API answers 401",
)
async def test_a_session_that_has_ended(shared: Stage, ada: Browser) -> None:
    later = replace(shared.house, clock=lambda: datetime.now(UTC) + timedelta(hours=8, seconds=1))
    transport = httpx.ASGITransport(create(later))
    cookies = {COOKIE: ada.cookie(COOKIE) or ""}
    async with httpx.AsyncClient(transport=transport, base_url=shared.url, cookies=cookies) as client:
        assert (await client.get("/api/session")).status_code == 401
        assert (await client.get(f"/installations/{shared.installation}")).status_code == 303


@claim(GROUP, "A session that was signed out, whose cookie somebody had copied", "Nobody's, from then on")
async def test_a_session_that_was_signed_out(shared: Stage) -> None:
    async with browsing(shared, "ada") as browser, browsing(shared, "ada") as other:
        copied = browser.cookie(COOKIE) or ""
        form_key = await browser.form_key()
        await browser.post("/signout", {"form_key": form_key})
        async with httpx.AsyncClient(trust_env=False, cookies={COOKIE: copied}) as thief:
            assert (await thief.get(f"{shared.url}/api/session")).status_code == 401
            page = await thief.get(f"{shared.url}/installations/{shared.installation}")
            assert page.status_code == 303
        assert (await other.api("GET", "/session")).status_code == 200, "the person's other browser stays"


@claim(
    GROUP,
    "The cookies' flags, over http and where people come by https",
    "HttpOnly, SameSite=Lax, Path=/ and no Domain; Secure with https, and HSTS",
)
async def test_what_cookies_are_set_with(shared: Stage) -> None:
    async with browsing(shared) as browser:
        begun = await browser.get("/signin", follow=False)
        code, state = await browser.agree(begun.headers["location"], "ada")
        back = await browser.get(f"/signin/github?code={code}&state={state}", follow=False)
    for told in (*begun.headers.get_list("set-cookie"), *back.headers.get_list("set-cookie")):
        flags = {part.strip().lower() for part in told.split(";")[1:]}
        assert {"path=/", "samesite=lax"} <= flags, told
        assert not any(flag.startswith("domain") for flag in flags)
    assert "httponly" in begun.headers["set-cookie"].lower()
    secure = replace(shared.house, public_url="https://magicode.example")
    transport = httpx.ASGITransport(create(secure))
    async with httpx.AsyncClient(transport=transport, base_url="https://magicode.example") as client:
        begun = await client.get("/signin")
        assert "secure" in begun.headers["set-cookie"].lower()
        assert "max-age=" in begun.headers["strict-transport-security"]


# --- who lost their rights -------------------------------------------------------------------------------------------


@claim(
    GROUP,
    "Somebody who administered an organization's repositories, and no longer does, with a session of before",
    "They change nothing from that moment on: each route that changes something answers 404",
)
async def test_a_session_of_somebody_who_lost_their_rights(shared: Stage) -> None:
    world = shared.github.world
    (repo,) = [one for one in world.repositories.values() if one.owner == "octo"]
    former = world.add_user("former")
    repo.collaborators["former"] = "admin"
    async with browsing(shared, "former") as browser:
        assert (await browser.get(f"/installations/{shared.installation}")).status_code == 200
        key, before = await browser.form_key(), await state_of(shared, shared.installation)
        repo.collaborators["former"] = "write"
        for method, template in routes(shared):
            if method in READS or "{tenant}" not in template:
                continue
            answer = await send(browser, method, filled(template, shared.installation), template, key)
            assert answer.status_code == 404, (method, template, answer.text)
        assert await state_of(shared, shared.installation) == before
    assert former.login == "former"


# --- what is shown ---------------------------------------------------------------------------------------------------

MARKUP: Final = '"><script>alert(1)</script><img src=x onerror=alert(1)>{{7*7}}'


@claim(
    GROUP,
    "Markup and formulas in what GitHub tells: an account's login, an actor in the log",
    "Shown as text on every page; in the CSV no cell begins a formula, and it is read back as it was",
)
async def test_markup_from_github_is_text(shared: Stage) -> None:
    world = shared.github.world
    evil = world.add_user(MARKUP)
    formula = '=HYPERLINK("https://evil.example","x")'
    tenant = own_installation(shared, "sol")
    async with shared.house.store.transaction(tenant) as transaction:
        known = await transaction.installation()
        assert known is not None
        await transaction.put_installation(replace(known, account_login=MARKUP))
        from app.nouns import Action

        for actor in (MARKUP, formula, "+1", "-1", "@SUM(A1)", "\t=1"):
            details = {"what": actor, "number": 1}
            await shared.house.ledger.append(transaction, tenant, Action.DATA_LOOKED, actor, None, details)
    async with browsing(shared, "sol") as sol:
        for method, template in routes(shared):
            if method != "GET" or template.startswith(("/api/", "/signin", "/static")):
                continue
            page = await sol.get(
                filled(template, tenant)
                + f"?account={quote(MARKUP)}&actor={quote(MARKUP)}&kind={quote(MARKUP)}"
            )
            if "html" in page.headers.get("content-type", ""):
                assert "<script" not in page.text, template
                assert "<img" not in page.text, template
                assert ">49" not in page.text
        sheet = await sol.get(f"/installations/{tenant}/actions/download?format=csv")
        import csv
        import io

        rows = list(csv.reader(io.StringIO(sheet.text, newline="")))
        assert not [cell for row in rows for cell in row if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]
        actors = {entry.actor for entry in parse(sheet.text)}
        assert {MARKUP, formula, "\t=1"} <= actors
    async with shared.house.store.transaction(tenant) as transaction:
        await transaction.put_installation(known)
    assert evil.id


@claim(
    GROUP,
    "The headers of each route's answer, of pages, documents, errors and addresses that are none",
    "CSP without unsafe-inline, frame-ancestors none, nosniff, no referrer; nothing private is kept by a cache",
)
async def test_each_answer_says_what_a_browser_must_not_do(shared: Stage, ada: Browser) -> None:
    paths = [(method, filled(template, shared.installation)) for method, template in routes(shared)]
    paths += [
        ("GET", "/nothing"),
        ("POST", "/nothing"),
        ("DELETE", "/"),
        ("GET", "/api/nothing"),
        ("GET", "/installations/x"),
    ]
    for method, path in paths:
        answer = await ada.client.request(method, f"{ada.url}{path}")
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "base-uri 'none'" in policy
        assert "unsafe" not in policy
        assert "script-src" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "server" not in answer.headers
        if not path.startswith("/static/"):
            assert answer.headers["cache-control"] == "no-store", path


# --- the protocol ----------------------------------------------------------------------------------------------------


@claim(
    GROUP,
    "TRACE, HEAD, OPTIONS, CONNECT and methods that are none, on each page and route of the API",
    "405 or 404: none of them is answered with what GET shows, and nothing is echoed",
)
async def test_methods_that_are_not_offered(shared: Stage, ada: Browser) -> None:
    for template in {template for _, template in routes(shared)}:
        for method in ("TRACE", "OPTIONS", "HEAD", "PROPFIND", "DEBUG"):
            answer = await ada.client.request(
                method,
                f"{ada.url}{filled(template, shared.installation)}",
                headers={"X-Echo": "planted-word"},
            )
            assert answer.status_code in (404, 405), (method, template)
            assert "planted-word" not in answer.text
            assert "access-control-allow-origin" not in answer.headers


@claim(GROUP, "Ways out of the folder of static files, and out of an installation's downloads", "404 each")
async def test_no_path_leads_out(shared: Stage, ada: Browser) -> None:
    at = urlsplit(shared.url)
    cookie = ada.cookie(COOKIE) or ""
    for path in (
        "/static/../app/settings.py", "/static/..%2f..%2fsettings.py", "/static/%2e%2e/%2e%2e/etc/passwd", "/static/....//style.css",
        "/static//etc/passwd", "/static/style.css%00.py", "/static/", f"/installations/{shared.installation}/exports/..%2f..%2f{NOWHERE}/download",
        f"/installations/{shared.installation}/exports/{NO_ID}%2f..%2f/download", "/receipts/../installations", "/.git/config", "/.env", "/api/../.env",
        f"/installations/{shared.installation}/../{NOWHERE}", "/installations/%31%30%30%30%30%30%37/../../x", "/installations/1e6", "/installations/0x10",
        "/installations/-1", f"/installations/{2**63}", "/installations/９",
    ):  # fmt: skip
        reader, writer = await asyncio.open_connection(at.hostname, at.port)
        target = quote(path, safe="/%.")
        writer.write(
            f"GET {target} HTTP/1.1\r\nHost: x\r\nCookie: {COOKIE}={cookie}\r\nConnection: close\r\n\r\n".encode()
        )
        answer = await asyncio.wait_for(reader.read(), 60)
        writer.close()
        assert answer.split(b" ", 2)[1] == b"404", (path, answer[:100])


@claim(
    GROUP,
    "Ranges, conditions and encodings asked of a download and of the stylesheet",
    "The whole, once: no part of it can be asked for again and again at once",
)
async def test_ranges_are_not_served(shared: Stage, ada: Browser) -> None:
    whole = await ada.get("/static/style.css")
    many = "bytes=" + ",".join("0-" for _ in range(1_000))
    for value in ("bytes=0-0", "bytes=-1", many, "bytes=5-1", "lines=1-2"):
        for path in ("/static/style.css", f"/installations/{shared.installation}/actions/download"):
            answer = await ada.client.get(f"{ada.url}{path}", headers={"Range": value, "If-Range": "x"})
            assert answer.status_code == 200
        assert (
            await ada.client.get(f"{ada.url}/static/style.css", headers={"Range": value})
        ).content == whole.content


@claim(
    GROUP,
    "Addresses of forty thousand characters, four thousand parameters, a thousand fields and files in a form, JSON a hundred thousand levels deep",
    "Refused with 400, 403 or 413, or read as far as they mean something: never an error of ours",
)
async def test_sizes_that_nobody_needs(shared: Stage, ada: Browser) -> None:
    octo, key = shared.installation, await ada.form_key()
    before = await state_of(shared, octo)
    for query in (
        "actor=" + "a" * 40_000,
        "&".join(f"kind={n}" for n in range(4_000)),
        "since=" + "9" * 5_000,
        "after=" + "9" * 4_000,
        "repository=%00",
        "actor=%F0%9F%92%A9%00",
        "run=" + "0" * 3_000,
        "limit=-1",
        "limit=" + "9" * 400,
    ):
        for path in (
            f"/installations/{octo}/actions",
            f"/api/installations/{octo}/actions",
            f"/installations/{octo}/actions/download",
        ):
            answer = await ada.client.get(f"{ada.url}{path}?{query}")
            assert answer.status_code in (200, 400), (path, query[:40], answer.status_code)
    url = f"{ada.url}/installations/{octo}/settings"
    fields = {f"f{n}": "x" for n in range(1_000)} | {"form_key": key}
    assert (await ada.client.post(url, data=fields)).status_code in (400, 413)
    files = {f"f{n}": (f"{n}.txt", b"x") for n in range(100)}
    assert (await ada.client.post(url, data={"form_key": key}, files=files)).status_code in (400, 403)
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    assert (
        await ada.client.post(url, content=b"name=%00&value=%ff%fe&form_key=" + key.encode(), headers=kind)
    ).status_code == 400
    for body in (
        b"[" * 60_000,
        b'{"value":' * 7_000,
        b'{"value": ' + b"9" * 50_000 + b"}",
        b'{"value": "\\ud800"}',
        b'{"value": "\\u0000"}',
        b'{"value": 1e999}',
        b"\xff\xfe{}",
    ):
        answer = await ada.client.put(
            f"{ada.url}/api/installations/{octo}/settings/keep-runs",
            content=body,
            headers={"Content-Type": "application/json", "X-Form-Key": key},
        )
        assert answer.status_code == 400, (body[:30], answer.text)
    assert await state_of(shared, octo) == before


# --- the description -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "who",
    [
        case(GROUP, "schemathesis over our own OpenAPI description, with a token that may do everything", "Each answer is one that the description names, in its form; no error of ours", "token"),
        case(GROUP, "schemathesis over our own OpenAPI description, with the session of an administrator and its form key", "Each answer is one that the description names, in its form; no error of ours", "session"),
        case(GROUP, "schemathesis over our own OpenAPI description, by nobody", "401 or what the description names; no error of ours, nothing changed", "nobody"),
    ],
)  # fmt: skip
@pytest.mark.timeout(1800)
async def test_the_api_is_what_it_says_it_is(
    shared: Stage,
    ada: Browser,
    who: str,
    lengths: Lengths,
    record_property: Callable[[str, object], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(access, "CALLS_AT_MOST", 1_000_000)  # what lies behind it is looked at here
    octo, key = shared.installation, await ada.form_key()
    headers: dict[str, str] = {}
    if who == "token":
        sent = {"scopes": [scope.value for scope in Scope], "days": 1}
        made = await ada.api("POST", f"/installations/{octo}/tokens", sent, form_key=key)
        headers["Authorization"] = f"Bearer {made.json()['token']}"
    elif who == "session":
        headers |= {"Cookie": f"{COOKIE}={ada.cookie(COOKIE)}", "X-Form-Key": key}
    before = await state_of(shared, octo)
    calls = await asyncio.to_thread(_described, shared.url, octo, headers, lengths.choose(suite=4, prove=300))
    record_property("calls", calls)
    assert calls > 40
    if who == "nobody":
        assert await state_of(shared, octo) == before


def _described(url: str, tenant: int, headers: dict[str, str], examples: int) -> int:
    """Generated calls of each operation, half of them of this installation; how many there were."""
    # What a setting or a filter may say has a grammar of its own, which no schema holds.
    excluded = [positive_data_acceptance]
    if "Cookie" in headers:
        excluded.append(ignored_auth)  # it takes the description's `token` away, and the session stays
    schema = schemathesis.openapi.from_url(f"{url}/api/openapi.json", config=SchemathesisConfig())
    calls = 0
    for found in schema.get_all_operations():
        operation = found.ok()

        @settings(
            max_examples=examples,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def called(case: Any) -> None:
            nonlocal calls
            calls += 1
            if calls % 2 and "tenant" in (case.path_parameters or {}):
                case.path_parameters["tenant"] = tenant
            if case.path.endswith("/deletion") and isinstance(case.body, dict):
                case.body["account"] = (
                    "somebody-else"  # the one thing that nobody would be left to answer after
                )
            case.call_and_validate(headers=headers, timeout=60, excluded_checks=excluded)

        called()
    return calls
