"""A write of the API that is sent again under the same `Idempotency-Key`: done once, and answered as before."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
import pytest_asyncio
from fastapi.routing import APIRoute

from app.custody.settings import read, shown
from app.errors import DefectError, MagicodeError, TransientError
from app.main import create
from app.nouns import KeptAnswer
from app.web import shapes
from app.web.access import Scope
from app.web.once import HEADER, LASTS, TAKEN_OVER_AFTER
from app.web.session import COOKIE
from app.web.writes import REPLAYED, ApiRoute
from infra.embedded.postgres import SUPERUSER, EmbeddedPostgres
from infra.postgres.store import PostgresStore, PostgresTransaction
from tests.app.custody.test_export import a_run
from tests.app.web.browser import Browser
from tests.app.web.test_api import base, token
from tests.attacks.test_web import BODIES, _flat, filled
from tests.line.stage import Stage

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module")
async def program(ada: Browser, shared: Stage) -> AsyncIterator[httpx.AsyncClient]:
    """With a token that may do everything a token may."""
    bearer = {"Authorization": f"Bearer {await token(shared, ada, *Scope)}"}
    async with httpx.AsyncClient(
        base_url=f"{shared.url}/api", headers=bearer, trust_env=False, timeout=60
    ) as client:
        yield client


def under(key: str) -> dict[str, str]:
    return {HEADER: key}


async def put(client: httpx.AsyncClient, stage: Stage, name: str, value: str, key: str) -> httpx.Response:
    return await client.put(base(stage, f"/settings/{name}"), json={"value": value}, headers=under(key))


async def counted(stage: Stage, table: str) -> int:
    async with stage.house.store.transaction(stage.installation) as transaction:
        return (await transaction.row_counts())[table]


def same(one: httpx.Response, other: httpx.Response) -> bool:
    return (one.status_code, one.content, one.headers.get("content-type")) == (
        other.status_code,
        other.content,
        other.headers.get("content-type"),
    )


# --- the same again --------------------------------------------------------------------------------------------------


async def test_the_same_is_answered_again_and_not_done_again(
    program: httpx.AsyncClient, shared: Stage
) -> None:
    first = await put(program, shared, "limit-run", "$7", "one")
    entries = await counted(shared, "entries")
    again = [await put(program, shared, "limit-run", "$7", "one") for _ in range(3)]
    assert first.status_code == 200
    assert REPLAYED not in first.headers
    assert all(same(first, one) and one.headers[REPLAYED] == "true" for one in again)
    assert await counted(shared, "entries") == entries, (
        "the same value again is no entry either, but a look is"
    )
    anew = await put(program, shared, "limit-run", "$7", "two")
    assert anew.json() == {"name": "limit-run", "old": "$7", "new": "$7"}
    assert REPLAYED not in anew.headers


async def test_an_answer_without_a_body_is_given_again_without_one(
    program: httpx.AsyncClient, shared: Stage
) -> None:
    answers = [
        await program.delete(base(shared, "/provider-keys/openai"), headers=under("gone")) for _ in range(2)
    ]
    assert [one.status_code for one in answers] == [204, 204]
    assert answers[1].headers[REPLAYED] == "true"
    assert answers[1].content == b""


async def test_what_was_refused_for_good_is_refused_again_in_the_same_words(
    program: httpx.AsyncClient, shared: Stage
) -> None:
    first, again = [await put(program, shared, "regions", "mars", "mars") for _ in range(2)]
    assert (first.status_code, again.headers[REPLAYED]) == (400, "true")
    assert same(first, again)


@pytest.mark.parametrize("what", ["method", "path", "body"])
async def test_another_request_under_the_same_key_is_refused(
    program: httpx.AsyncClient, shared: Stage, what: str
) -> None:
    key = f"reused-{what}"
    assert (await put(program, shared, "limit-day", "$9", key)).status_code == 200
    if what == "method":
        other = await program.delete(base(shared, "/provider-keys/openai"), headers=under(key))
    elif what == "path":
        other = await put(program, shared, "limit-month", "$9", key)
    else:
        other = await put(program, shared, "limit-day", "$8", key)
    assert other.status_code == 422
    assert other.json()["type"] == "urn:magicode:idempotency_key_reused"
    assert REPLAYED not in other.headers
    async with shared.house.store.transaction(shared.installation) as transaction:
        chosen = await read(transaction)
    assert shown(chosen)["limit-day"] == "$9"


async def test_a_key_is_one_callers_in_one_installation(
    program: httpx.AsyncClient, ada: Browser, shared: Stage
) -> None:
    """A token, another token and the person who made both."""
    path, sent, form_key = base(shared, "/settings/limit-run"), {"value": "$4"}, await ada.form_key()
    other = {"Authorization": f"Bearer {await token(shared, ada, Scope.SETTINGS)}", **under("mine")}
    for number in range(2):
        answers = [
            await program.put(path, json=sent, headers=under("mine")),
            await program.put(path, json=sent, headers=other),
            await ada.client.put(
                f"{ada.url}/api{path}", json=sent, headers={**under("mine"), "X-Form-Key": form_key}
            ),
        ]
        assert [REPLAYED in one.headers for one in answers] == [number == 1] * 3, number
    assert (await program.put(path, json={"value": "$5"}, headers=other)).status_code == 422


@pytest.mark.parametrize("key", [b"", b"a" * 256, b"a b", b"\xc3\xa9", b"a\tb", b"\x7f"])
async def test_a_key_that_is_none_is_refused_behind_the_question_who_asks(
    program: httpx.AsyncClient, shared: Stage, key: bytes
) -> None:
    headers = [(HEADER.encode(), key)]
    path, sent = base(shared, "/settings/limit-run"), {"value": "$4"}
    entries = await counted(shared, "entries")
    answer = await program.put(path, json=sent, headers=headers)
    assert answer.status_code == 400
    if answer.headers.get("content-type", "").startswith("application/problem+json"):
        assert answer.json()["type"] == "urn:magicode:idempotency_key"
    assert await counted(shared, "entries") == entries
    async with httpx.AsyncClient(base_url=f"{shared.url}/api", trust_env=False, timeout=60) as nobody:
        assert (await nobody.put(path, json=sent, headers=headers)).status_code in (400, 401)


async def test_a_key_that_is_sent_twice_is_none_and_the_longest_is_one(
    program: httpx.AsyncClient, shared: Stage
) -> None:
    path, sent = base(shared, "/settings/limit-run"), {"value": "$4"}
    twice = [(HEADER.encode(), b"a"), (HEADER.encode(), b"b")]
    assert (await program.put(path, json=sent, headers=twice)).status_code == 400
    longest = "!~" * 127 + "x"
    assert [(await put(program, shared, "limit-run", "$4", longest)).status_code for _ in range(2)] == [
        200
    ] * 2


# --- who may hear it -------------------------------------------------------------------------------------------------


async def test_nobody_hears_an_answer_who_may_not_ask_now(ada: Browser, shared: Stage) -> None:
    made = await ada.api(
        "POST",
        base(shared, "/tokens"),
        {"scopes": ["settings", "log"], "days": 1},
        form_key=await ada.form_key(),
    )
    bearer = {"Authorization": f"Bearer {made.json()['token']}"}
    async with httpx.AsyncClient(
        base_url=f"{shared.url}/api", headers=bearer, trust_env=False, timeout=60
    ) as client:
        assert (await put(client, shared, "limit-run", "$6", "removed")).status_code == 200
        await ada.api("DELETE", base(shared, f"/tokens/{made.json()['id']}"), form_key=await ada.form_key())
        after = await put(client, shared, "limit-run", "$6", "removed")
    assert after.status_code == 401
    assert REPLAYED not in after.headers
    path, sent = f"{ada.url}/api{base(shared, '/settings/limit-run')}", {"value": "$6"}
    first = await ada.client.put(
        path, json=sent, headers={**under("form"), "X-Form-Key": await ada.form_key()}
    )
    assert first.status_code == 200
    without = await ada.client.put(path, json=sent, headers=under("form"))
    assert without.status_code == 403
    assert REPLAYED not in without.headers


async def test_a_token_is_shown_once(ada: Browser, shared: Stage, postgres: EmbeddedPostgres) -> None:
    sent, headers = (
        {"scopes": ["log"], "days": 1},
        {**under("a-token"), "X-Form-Key": await ada.form_key()},
    )
    path, before = f"{ada.url}/api{base(shared, '/tokens')}", await counted(shared, "api_tokens")
    first = await ada.client.post(path, json=sent, headers=headers)
    again = await ada.client.post(path, json=sent, headers=headers)
    assert (first.status_code, again.status_code) == (201, 409)
    assert again.json()["type"] == "urn:magicode:shown_once"
    assert first.json()["id"] in again.json()["detail"]
    assert first.json()["token"] not in again.text
    assert again.headers[REPLAYED] == "true"
    assert await counted(shared, "api_tokens") == before + 1


async def test_a_stolen_table_says_neither_the_key_nor_the_request_nor_the_answer(
    program: httpx.AsyncClient, shared: Stage, shared_database: str, postgres: EmbeddedPostgres
) -> None:
    answer = await put(program, shared, "limit-run", "$1234", "a-key-of-mine")
    assert answer.status_code == 200
    # With its sign: four digits alone stand in one of so many keyed hashes by chance.
    assert b"$1234" in answer.request.content
    assert b"$1234" in answer.content
    name = shared_database.rpartition("/")[2].partition("?")[0]
    with psycopg.connect(postgres.url(SUPERUSER, name)) as connection:
        rows = connection.execute("SELECT key, fingerprint, sealed FROM magicode.kept_answers").fetchall()
    assert rows
    for row in rows:
        for column in row:
            text = bytes(column) if isinstance(column, bytes | memoryview) else str(column or "").encode()
            for word in (b"a-key-of-mine", b"$1234", b"limit-run", b"token:", b"person:"):
                assert word not in text


async def test_an_answer_that_was_moved_under_another_key_is_not_given(
    program: httpx.AsyncClient, shared: Stage, shared_database: str, postgres: EmbeddedPostgres
) -> None:
    await put(program, shared, "limit-run", "$21", "from")
    await put(program, shared, "limit-run", "$22", "to")
    name = shared_database.rpartition("/")[2].partition("?")[0]
    with psycopg.connect(postgres.url(SUPERUSER, name), autocommit=True) as connection:
        newest = connection.execute(
            "SELECT key FROM magicode.kept_answers ORDER BY made_at DESC LIMIT 2"
        ).fetchall()
        connection.execute(
            "UPDATE magicode.kept_answers SET sealed = (SELECT sealed FROM magicode.kept_answers WHERE key = %s) WHERE key = %s",
            [newest[1][0], newest[0][0]],
        )
    moved = await put(program, shared, "limit-run", "$22", "to")
    assert moved.status_code == 500
    assert "21" not in moved.text


# --- at once ---------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def two_applications(
    stage: Stage, database: str, headers: httpx.Headers
) -> AsyncIterator[Sequence[httpx.AsyncClient]]:
    """On one database, each with connections of its own."""
    beside = PostgresStore(database)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(beside.close)
        yield [
            await stack.enter_async_context(
                httpx.AsyncClient(
                    transport=httpx.ASGITransport(app=create(house)),
                    base_url=f"{stage.url}/api",
                    headers=headers,
                    timeout=60,
                )
            )
            for house in (stage.house, replace(stage.house, store=beside))
        ]


async def test_twenty_that_ask_at_once_for_an_export_get_one(
    program: httpx.AsyncClient, shared: Stage, shared_database: str
) -> None:
    before = await counted(shared, "exports")
    async with two_applications(shared, shared_database, program.headers) as clients:
        asking = [
            clients[number % 2].post(base(shared, "/exports"), headers=under("at-once"))
            for number in range(20)
        ]
        answers = await asyncio.gather(*asking)
        last = await clients[1].post(base(shared, "/exports"), headers=under("at-once"))
    done = [one for one in answers if one.status_code == 202 and REPLAYED not in one.headers]
    again = [one for one in (*answers, last) if REPLAYED in one.headers]
    waiting = [one for one in answers if one.status_code == 409]
    assert len(done) == 1
    assert len(done) + len(again) + len(waiting) == 21
    assert all(same(done[0], one) for one in again)
    assert all(one.headers["retry-after"] == "2" for one in waiting)
    assert last in again
    assert await counted(shared, "exports") == before + 1


async def test_twenty_that_ask_at_once_for_a_token_make_one(
    ada: Browser, shared: Stage, shared_database: str
) -> None:
    """Without the key each of them would be one."""
    before = await counted(shared, "api_tokens")
    headers = httpx.Headers(
        {"Cookie": f"{COOKIE}={ada.cookie(COOKIE)}", "X-Form-Key": await ada.form_key(), **under("tokens")}
    )
    sent = {"scopes": ["log"], "days": 1}
    async with two_applications(shared, shared_database, headers) as clients:
        answers = await asyncio.gather(
            *(clients[number % 2].post(base(shared, "/tokens"), json=sent) for number in range(20))
        )
    assert Counter(one.status_code for one in answers) == {201: 1, 409: 19}
    assert await counted(shared, "api_tokens") == before + 1


async def test_whatever_is_sent_in_whatever_order_is_done_once_for_each_key(
    program: httpx.AsyncClient, shared: Stage
) -> None:
    """Against a model of a few lines, with chance that is the same each time."""
    chance, known = Random(20261122), dict[str, tuple[tuple[str, str], httpx.Response]]()
    for _ in range(120):
        key = f"model-{chance.randrange(12)}"
        asked = (chance.choice(["limit-run", "limit-day"]), chance.choice(["$11", "$12", "many"]))
        answer = await put(program, shared, *asked, key)
        if key not in known:
            assert REPLAYED not in answer.headers
            assert answer.status_code == (400 if asked[1] == "many" else 200)
            known[key] = asked, answer
        elif known[key][0] == asked:
            assert same(answer, known[key][1])
            assert answer.headers[REPLAYED] == "true"
        else:
            assert answer.status_code == 422


# --- what did not come to an end -------------------------------------------------------------------------------------


@asynccontextmanager
async def later(
    stage: Stage, client: httpx.AsyncClient, passed: timedelta, *, since: datetime | None = None
) -> AsyncIterator[httpx.AsyncClient]:
    """An application whose clock goes ahead by `passed`; where it is said since when, it stands still that far behind it."""
    web = create(replace(stage.house, clock=lambda: (since or datetime.now(UTC)) + passed))
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=web), base_url=f"{stage.url}/api", headers=client.headers
    ) as found:
        yield found


async def test_a_claim_that_a_dead_process_left_is_taken_over_after_a_minute(
    program: httpx.AsyncClient, shared: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: Any) -> bool:
        raise TransientError(reason="away")

    began = datetime.now(UTC)
    with monkeypatch.context() as patch:
        patch.setattr(PostgresTransaction, "keep_answer", away)
        first = await put(program, shared, "limit-run", "$31", "left")
    assert first.status_code == 200, "it was done, and is answered"
    waits = await put(program, shared, "limit-run", "$31", "left")
    assert (waits.status_code, waits.headers["retry-after"]) == (409, "2")
    assert waits.json()["type"] == "urn:magicode:still_at_work"
    assert (await put(program, shared, "limit-run", "$32", "left")).status_code == 422
    # However long the requests before took: by a clock that goes on, the claim would be a minute old at some time.
    within = TAKEN_OVER_AFTER - timedelta(seconds=10)
    async with later(shared, program, within, since=began) as soon:
        assert (await put(soon, shared, "limit-run", "$31", "left")).status_code == 409
    async with later(shared, program, TAKEN_OVER_AFTER + timedelta(seconds=1)) as after:
        assert (await put(after, shared, "limit-run", "$32", "left")).status_code == 422
        done = await put(after, shared, "limit-run", "$31", "left")
        assert done.json() == {"name": "limit-run", "old": "$31", "new": "$31"}
        assert REPLAYED not in done.headers
        assert same(done, await put(after, shared, "limit-run", "$31", "left"))


async def test_who_was_taken_over_does_not_answer_for_who_took_over(shared: Stage) -> None:
    began = datetime.now(UTC)
    first = KeptAnswer("k", "f", began, began + LASTS)
    second = replace(first, made_at=began + TAKEN_OVER_AFTER)
    async with shared.house.store.transaction(shared.installation) as transaction:
        assert await transaction.claim_answer(first, began - TAKEN_OVER_AFTER) is None
        assert await transaction.claim_answer(second, began - timedelta(seconds=1)) == first
        assert await transaction.claim_answer(second, began) is None
        assert not await transaction.keep_answer(replace(first, status=200, sealed=b"first"))
        await transaction.release_answer(first.key, first.made_at)
        assert await transaction.keep_answer(replace(second, status=200, sealed=b"second"))
        assert not await transaction.keep_answer(replace(second, status=201, sealed=b"again"))
        await transaction.release_answer(second.key, second.made_at)
        almost = began + LASTS - timedelta(minutes=1)
        found = await transaction.claim_answer(replace(first, made_at=almost), almost)
    assert found is not None
    assert (found.status, found.sealed) == (200, b"second")


async def test_what_went_wrong_on_our_side_may_be_tried_again_under_the_same_key(
    program: httpx.AsyncClient, shared: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, (error, status) in enumerate(
        ((TransientError(reason="away"), 503), (DefectError(reason="ours"), 500))
    ):

        async def broken(*_: Any, error: MagicodeError = error) -> None:
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(PostgresTransaction, "put_settings", broken)
            assert (
                await put(program, shared, "limit-run", f"$4{number}", f"wrong-{number}")
            ).status_code == status
        done = await put(program, shared, "limit-run", f"$4{number}", f"wrong-{number}")
        assert (done.status_code, REPLAYED in done.headers) == (200, False)


async def test_a_key_is_free_again_after_a_day(program: httpx.AsyncClient, shared: Stage) -> None:
    await put(program, shared, "limit-run", "$51", "a-day")
    async with later(shared, program, LASTS - timedelta(minutes=1)) as within:
        assert REPLAYED in (await put(within, shared, "limit-run", "$51", "a-day")).headers
    # A token of a day has ended by then: another one's answer is looked at.
    async with shared.house.store.transaction(shared.installation) as transaction:
        now = datetime.now(UTC)
        old = KeptAnswer("day", "f", now - LASTS, now)
        assert await transaction.claim_answer(old, now - LASTS) is None
        assert await transaction.keep_answer(replace(old, status=200, sealed=b"x"))
        assert await transaction.claim_answer(replace(old, fingerprint="g", made_at=now), now) is None


# --- no write is left out --------------------------------------------------------------------------------------------


def writes(stage: Stage) -> list[tuple[str, APIRoute]]:
    found = [
        (method, route)
        for route in _flat(create(stage.house).routes)
        for method in sorted(route.methods - {"GET", "HEAD", "OPTIONS"})
        if route.path.startswith("/api/")
    ]
    assert len(found) >= 9
    return found


async def test_no_write_of_the_api_is_left_out(ada: Browser, shared: Stage) -> None:
    """Each is sent twice under one key, by somebody who may."""
    (repo,) = [one for one in shared.github.world.repositories.values() if one.owner == "octo"]
    ended = replace(
        a_run(shared.installation), id=uuid4(), repository_id=repo.id, meaning="once", reason="merged"
    )
    async with shared.house.store.transaction(shared.installation) as transaction:
        assert await transaction.add_run(ended)
    key = await ada.form_key()
    for number, (method, route) in enumerate(writes(shared)):
        assert isinstance(route, ApiRoute)
        assert route.writes, route.path
        bodies = {**BODIES, "/deletion": {"account": "not-octo"}}
        body = next((what for end, what in bodies.items() if route.path.endswith(end)), None)
        path = filled(route.path, shared.installation, run_id=ended.id)
        headers = {"X-Form-Key": key, **under(f"each-{number}")}
        first, again = [
            await ada.client.request(method, f"{ada.url}{path}", json=body, headers=headers) for _ in range(2)
        ]
        assert first.status_code < 500, (path, first.text)
        assert again.headers.get(REPLAYED) == "true", (method, path, first.text, again.text)


async def test_the_document_says_it_of_each_write_and_of_no_read(ada: Browser) -> None:
    document = (await ada.api("GET", "/openapi.json")).json()
    for methods in document["paths"].values():
        for method, told in methods.items():
            named = [one for one in told.get("parameters", []) if one["name"] == HEADER]
            assert len(named) == (method != "get")
            if named:
                assert (named[0]["in"], named[0]["required"]) == ("header", False)
                assert named[0]["example"]
                assert "application/problem+json" in told["responses"]["422"]["content"]
                assert "24 hours" in told["responses"]["422"]["description"]


async def test_an_answer_with_a_secret_says_that_it_is_shown_once(shared: Stage) -> None:
    for _, route in writes(shared):
        model = route.response_model
        if isinstance(model, type) and issubclass(model, shapes.Shape):
            secret = {name for name in model.model_fields if re.search("token$|secret|password|^key$", name)}
            assert bool(secret) == issubclass(model, shapes.ShownOnce), (route.path, secret)
