"""The API: JSON for programs, with a token or with a browser's session."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import jsonschema
import pytest
import pytest_asyncio

from app.actionlog.verify import parse, verify
from app.main import create
from app.web.access import Scope
from tests.app.web.browser import Browser
from tests.line.stage import Stage

pytestmark = pytest.mark.asyncio(loop_scope="module")


def base(stage: Stage, path: str = "") -> str:
    return f"/installations/{stage.installation}{path}"


async def token(stage: Stage, ada: Browser, *scopes: Scope, days: int = 1) -> str:
    sent = {"scopes": list(scopes), "days": days}
    made = await ada.api("POST", base(stage, "/tokens"), sent, form_key=await ada.form_key())
    assert made.status_code == 201, made.text
    return str(made.json()["token"])


@pytest_asyncio.fixture(loop_scope="module")
async def program(ada: Browser, shared: Stage) -> AsyncIterator[httpx.AsyncClient]:
    """With a token that may do everything a token may."""
    bearer = {"Authorization": f"Bearer {await token(shared, ada, *Scope)}"}
    async with httpx.AsyncClient(
        base_url=f"{shared.url}/api", headers=bearer, trust_env=False, timeout=60
    ) as client:
        yield client


# --- the document ----------------------------------------------------------------------------------------------------


async def test_the_document_describes_every_route_with_an_example_and_its_problems(ada: Browser) -> None:
    document = (await ada.api("GET", "/openapi.json")).json()
    assert document["openapi"].startswith("3.")
    assert len(document["paths"]) >= 12
    for path, methods in document["paths"].items():
        assert path.startswith("/api/")
        for method, told in methods.items():
            assert told["description"], (method, path)
            assert "404" in told["responses"]
            assert "application/problem+json" in told["responses"]["404"]["content"]
    for name, shape in document["components"]["schemas"].items():
        if shape.get("type") == "object" and name not in ("HTTPValidationError", "ValidationError"):
            text = json.dumps(shape)
            assert '"examples"' in text or '"$ref"' in text or name == "ReportShape", name
    jsonschema.Draft202012Validator.check_schema(document["components"]["schemas"]["SummaryShape"])


async def test_what_is_answered_is_what_the_document_says(program: httpx.AsyncClient, shared: Stage) -> None:
    document = (await program.get("/openapi.json")).json()
    for path in ("", "/settings", "/members", "/provider-keys", "/actions", "/exports"):
        answer = await program.get(base(shared, path))
        assert answer.status_code == 200, answer.text
        told = document["paths"][f"/api/installations/{{tenant}}{path}"]["get"]["responses"]["200"]
        schema = told["content"]["application/json"]["schema"] | {"components": document["components"]}
        jsonschema.validate(answer.json(), schema)


# --- who may ---------------------------------------------------------------------------------------------------------


async def test_nobody_and_strangers_get_problems_that_say_nothing_of_what_is_there(
    ada: Browser, shared: Stage
) -> None:
    async with httpx.AsyncClient(base_url=f"{shared.url}/api", trust_env=False, timeout=60) as nobody:
        for path in ("", "/settings", "/actions", "/tokens", "/actions/download"):
            there, nowhere = await nobody.get(base(shared, path)), await nobody.get(f"/installations/9{path}")
            assert there.status_code == nowhere.status_code == 401
            assert there.json() == nowhere.json()
            assert there.headers["www-authenticate"] == "Bearer"
            assert there.headers["content-type"] == "application/problem+json"
        for wrong in (
            "x",
            "mgc_1_",
            f"mgc_{shared.installation}_{'A' * 43}",
            "Bearer",
            "é".encode().decode("latin-1"),
        ):
            answer = await nobody.get(
                base(shared), headers={"Authorization": f"Bearer {wrong}".encode("latin-1")}
            )  # type: ignore[dict-item]
            assert answer.status_code == 401
        assert (await nobody.get("/nothing")).headers["content-type"] == "application/problem+json"
        assert (await nobody.get("/nothing")).status_code == 404
        assert (await nobody.get("/installations/x/actions")).status_code == 404
        assert (await nobody.get(f"/installations/{2**70}/actions")).status_code == 404
        assert (await nobody.post(base(shared))).status_code == 405


@pytest.mark.parametrize("scope", list(Scope))
async def test_a_token_does_what_its_scope_says_and_nothing_else(
    ada: Browser, shared: Stage, scope: Scope
) -> None:
    doors: list[tuple[Scope | None, str, str, Any]] = [
        (Scope.LOG, "GET", "/actions", None),
        (Scope.LOG, "GET", "/actions/download", None),
        (Scope.LOG, "POST", "/actions/verify", {}),
        (Scope.SETTINGS, "GET", "/settings", None),
        (Scope.SETTINGS, "PUT", "/settings/keep-log", {"value": "12 months"}),
        (Scope.SETTINGS, "GET", "/provider-keys", None),
        (Scope.SETTINGS, "PUT", "/provider-keys/openai", {"key": "x"}),
        (Scope.SETTINGS, "DELETE", "/provider-keys/openai", None),
        (Scope.SETTINGS, "GET", "/hooks", None),
        (Scope.SETTINGS, "POST", "/hooks", {"url": "http://ci.example.com"}),
        (Scope.SETTINGS, "DELETE", "/hooks/3f2b6c1e-8a55-4c9b-9d2e-0c7f6a1b2c3d", None),
        (Scope.EXPORT, "GET", "/exports", None),
        (Scope.DELETE, "POST", "/deletion", {"account": "not octo"}),
        (Scope.SETTINGS, "GET", "/members", None),
        (None, "PUT", "/members/wim", {"role": "administrator"}),
        (None, "DELETE", "/members/wim", None),
        (None, "GET", "/tokens", None),
        (None, "POST", "/tokens", {"scopes": ["delete"]}),
        (None, "DELETE", "/tokens/3f2b6c1e-8a55-4c9b-9d2e-0c7f6a1b2c3d", None),
    ]
    bearer = {"Authorization": f"Bearer {await token(shared, ada, scope)}"}
    async with httpx.AsyncClient(
        base_url=f"{shared.url}/api", headers=bearer, trust_env=False, timeout=60
    ) as client:
        for needed, method, path, sent in doors:
            answer = await client.request(method, base(shared, path), json=sent)
            if needed is scope:
                assert answer.status_code in (200, 204, 400), (method, path, answer.text)
            else:
                assert answer.status_code == 403, (method, path, answer.text)
                assert answer.json()["type"] == "urn:magicode:scope"
        assert (await client.get(base(shared))).status_code == 200


async def test_a_session_changes_something_only_with_its_form_key(ada: Browser, shared: Stage) -> None:
    where, sent = base(shared, "/settings/limit-run"), {"value": "$3"}
    assert (await ada.api("PUT", where, sent)).status_code == 403
    assert (await ada.api("PUT", where, sent, form_key="x")).status_code == 403
    done = await ada.api("PUT", where, sent, form_key=await ada.form_key())
    assert done.json() == {"name": "limit-run", "old": "none", "new": "$3"}


async def test_a_token_that_has_ended_opens_nothing(ada: Browser, shared: Stage) -> None:
    bearer = {"Authorization": f"Bearer {await token(shared, ada, Scope.LOG, days=2)}"}
    now = datetime.now(UTC)
    transport = httpx.ASGITransport(app=create(replace(shared.house, clock=lambda: now)))
    async with httpx.AsyncClient(transport=transport, base_url=f"{shared.url}/api", headers=bearer) as client:
        assert (await client.get(base(shared))).status_code == 200
        now += timedelta(days=2, minutes=1)
        assert (await client.get(base(shared))).status_code == 401


async def test_asking_about_access_again_and_again_ends(ada: Browser, shared: Stage) -> None:
    now = datetime.now(UTC)
    transport = httpx.ASGITransport(app=create(replace(shared.house, clock=lambda: now)))
    cookies = dict(ada.client.cookies.items())
    async with httpx.AsyncClient(
        transport=transport, base_url=f"{shared.url}/api", cookies=cookies
    ) as client:
        statuses = [(await client.get(f"/installations?account=nobody{n}")).status_code for n in range(61)]
        assert statuses == [200] * 60 + [429]
        late = await client.get("/installations?account=octo")
        assert 0 < int(late.headers["retry-after"]) <= 600
        now += timedelta(minutes=10)
        assert [one["account"] for one in (await client.get("/installations?account=octo")).json()] == [
            "octo"
        ]


# --- what is sent and given ------------------------------------------------------------------------------------------


async def test_what_cannot_be_read_is_named_and_never_said_again(
    program: httpx.AsyncClient, shared: Stage
) -> None:
    secret = "sk-planted-0123456789"
    for sent in (
        {"key": [secret]},
        {"key": secret, "more": secret},
        {"base_url": secret},
        {"key": secret, "base_url": {"a": secret}},
        [secret],
    ):
        answer = await program.put(base(shared, "/provider-keys/openai"), json=sent)
        assert answer.status_code == 400
        assert answer.headers["content-type"] == "application/problem+json"
        assert secret not in answer.text
    broken = await program.put(base(shared, "/provider-keys/openai"), content=f'{{"key": "{secret}')
    assert broken.status_code == 400
    assert secret not in broken.text
    for query in ("after=-1", "limit=0", "limit=1001", "after=x", "run=x", "kind=x", f"after={2**70}"):
        assert (await program.get(base(shared, f"/actions?{query}"))).status_code == 400, query
    wrong = await program.put(base(shared, "/settings/regions"), json={"value": "mars"})
    assert (wrong.status_code, wrong.json()["type"]) == (400, "urn:magicode:setting_value")
    unknown = await program.put(base(shared, "/settings/regoins%20eu"), json={"value": "mars"})
    assert (unknown.status_code, unknown.json()["type"]) == (400, "urn:magicode:setting_unknown")


async def test_the_log_is_read_page_by_page_to_its_end(program: httpx.AsyncClient, shared: Stage) -> None:
    met: list[int] = []
    after: int | None = 0
    while after is not None:
        page = (await program.get(base(shared, f"/actions?after={after}&limit=3"))).json()
        assert len(page["entries"]) <= 3
        met += [one["seq"] for one in page["entries"]]
        after = page["next"]
    assert met == list(range(1, len(met) + 1))
    assert page["head"].startswith(f"{met[-1]}:")


async def test_the_log_is_downloaded_and_verified(program: httpx.AsyncClient, shared: Stage) -> None:
    file = await program.get(base(shared, "/actions/download?format=json"))
    entries = parse(file.text)
    assert verify(entries).ok
    assert entries[-1].actor.startswith("token:")
    report = (await program.post(base(shared, "/actions/verify"), json={"heads": []})).json()
    assert report["ok"]
    assert report["entries"] >= len(entries)
    told = await program.post(base(shared, "/actions/verify"), json={"heads": [f"1:{'0' * 64}"]})
    assert told.json()["findings"][0]["kind"] == "rewritten"


async def test_no_answer_holds_a_hash_of_a_token(
    program: httpx.AsyncClient, ada: Browser, shared: Stage
) -> None:
    async with shared.house.store.transaction(shared.installation) as transaction:
        kept = await transaction.api_tokens()
    assert kept
    answers = [await program.get(base(shared, path)) for path in ("", "/settings", "/actions?limit=1000")]
    answers.append(await ada.api("GET", base(shared, "/tokens")))
    assert len(answers[-1].json()) == len(kept)
    for one in kept:
        assert re.fullmatch("[0-9a-f]{64}", one.hash)
        assert not [answer for answer in answers if one.hash in answer.text]
