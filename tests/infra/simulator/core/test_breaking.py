"""The ways in which an answer is lost, spoilt, refused or late, and what the simulated GitHub remembers of it."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import pytest

from infra.simulator.serve import Running

SAMPLE = "/repos/octo/sample"


async def fault(sim: Running, **fields: Any) -> None:
    answer = await sim.client().post("/_simulator/faults", json=fields)
    assert answer.status_code == 200, answer.text


async def put(client: httpx.AsyncClient, **how: Any) -> httpx.Response:
    return await client.put(f"{SAMPLE}/contents/n", json={"message": "m", "content": "YQ=="}, **how)


async def exists(sim: Running) -> bool:
    return (await sim.client().get(f"{SAMPLE}/contents/n")).status_code == 200


async def test_a_status_after_the_effect_says_nothing_of_the_effect(sim: Running) -> None:
    await fault(sim, kind="status_after", method="PUT", status=502)
    assert (await put(sim.client("wim"))).status_code == 502
    assert await exists(sim)


@pytest.mark.parametrize("kind", ["hang_before", "hang_after"])
async def test_a_request_that_hangs_has_its_effect_or_not(sim: Running, kind: str) -> None:
    await fault(sim, kind=kind, method="PUT")
    with pytest.raises(httpx.ReadTimeout):
        await put(sim.client("wim"), timeout=httpx.Timeout(30, read=0.3))
    if kind == "hang_before":
        assert not await exists(sim)
        return
    async with asyncio.timeout(60):  # the effect may take longer than its caller stays
        while not await exists(sim):
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("kind", ["reset_before", "reset_after"])
async def test_a_connection_is_reset_and_not_closed(sim: Running, kind: str) -> None:
    await fault(sim, kind=kind, method="PUT")
    with pytest.raises(httpx.ReadError):
        await put(sim.client("wim"))
    assert await exists(sim) == (kind == "reset_after")


@pytest.mark.parametrize(
    ("form", "unreadable"),
    [
        ("truncated", True),
        ("html", True),
        ("empty", True),
        ("not_utf8", True),
        ("shape", False),
    ],
)
async def test_a_spoilt_answer_has_its_status_and_its_effect(
    sim: Running, form: str, unreadable: bool
) -> None:
    await fault(sim, kind="malformed", form=form, method="PUT")
    answer = await put(sim.client("wim"))
    assert answer.status_code == 201
    if unreadable:
        with pytest.raises(ValueError):  # noqa: PT011 - JSON's and UTF-8's errors
            answer.json()
    else:
        assert answer.json() == [{"message": "OK"}]
    assert await exists(sim)


@pytest.mark.parametrize(
    ("form", "error"), [("too_long", httpx.RemoteProtocolError), ("gzip", httpx.DecodingError)]
)
async def test_an_answer_that_belies_its_headers_cannot_be_read(
    sim: Running, form: str, error: type[Exception]
) -> None:
    await fault(sim, kind="malformed", form=form, method="PUT")
    with pytest.raises(error):
        await put(sim.client("wim"))
    assert await exists(sim)


@pytest.mark.parametrize("kind", ["revoked", "expired"])
async def test_a_token_is_refused_from_then_on(sim: Running, kind: str) -> None:
    client, other = await sim.installation_client(), await sim.installation_client()
    await fault(sim, kind=kind, route="README")
    assert (await client.get(SAMPLE)).status_code == 200
    refused = await client.get(f"{SAMPLE}/contents/README.md")
    assert (refused.status_code, refused.json()["message"]) == (401, "Bad credentials")
    assert (await client.get(SAMPLE)).status_code == 401
    assert (await other.get(SAMPLE)).status_code == 200
    await fault(sim, kind="revoked", route="^/app$")
    assert [(await sim.app_client().get("/app")).status_code for _ in range(2)] == [401, 200]


async def test_what_is_late_is_seen_by_people_and_by_the_app_after_a_while(sim: Running) -> None:
    wim, app = sim.client("wim"), await sim.installation_client()
    number = (await wim.post(f"{SAMPLE}/issues", json={"title": "t"})).json()["number"]
    await fault(sim, kind="late", method="POST", route="/comments$", seconds=500)
    comments = f"{SAMPLE}/issues/{number}/comments"
    made = await app.post(comments, json={"body": "b"})
    one = f"{SAMPLE}/issues/comments/{made.json()['id']}"
    assert (await app.get(one)).status_code == 404
    assert (await app.patch(one, json={"body": "c"})).status_code == 404
    assert (await app.get(comments)).json() == []
    assert (await wim.get(one)).json()["body"] == "b"
    sim.world.clock_offset += timedelta(seconds=501)
    assert (await app.patch(one, json={"body": "c"})).status_code == 200
    assert [each["body"] for each in (await app.get(comments)).json()] == ["c"]


async def test_a_late_branch_and_a_late_commit_are_not_found(sim: Running) -> None:
    app = await sim.installation_client()
    head = (await app.get(f"{SAMPLE}/git/ref/heads/main")).json()["object"]["sha"]
    tree = (await app.get(f"{SAMPLE}/git/commits/{head}")).json()["tree"]["sha"]
    await fault(sim, kind="late", method="POST", route="/git/", seconds=500, times=2)
    said = {"message": "m", "tree": tree, "parents": [head]}
    made = (await app.post(f"{SAMPLE}/git/commits", json=said)).json()["sha"]
    ref = await app.post(f"{SAMPLE}/git/refs", json={"ref": "refs/heads/magicode/x", "sha": made})
    assert ref.status_code == 201
    places = [f"/git/commits/{made}", f"/commits/{made}", "/branches/magicode/x", "/git/ref/heads/magicode/x"]
    assert {(await app.get(SAMPLE + place)).status_code for place in places} == {404}
    sim.world.clock_offset += timedelta(seconds=501)
    assert {(await app.get(SAMPLE + place)).status_code for place in places} == {200}


@pytest.mark.parametrize("status", [403, 429])
async def test_the_hours_requests_can_be_spent_at_once(sim: Running, status: int) -> None:
    client = await sim.installation_client()
    await fault(sim, kind="primary_limit", status=status, seconds=3000, route="README")
    over = await client.get(f"{SAMPLE}/contents/README.md")
    assert (over.status_code, over.headers["x-ratelimit-remaining"]) == (status, "0")
    assert 2990 < int(over.headers["x-ratelimit-reset"]) - time.time() < 3010
    assert "retry-after" not in over.headers
    assert (await client.get(SAMPLE)).status_code == status
    assert (await sim.client("wim").get(SAMPLE)).status_code == 200
    sim.world.clock_offset += timedelta(seconds=3001)
    assert (await client.get(SAMPLE)).status_code == 200


@pytest.mark.parametrize("status", [403, 429])
@pytest.mark.parametrize("header", ["retry-after", "date", "reset", "none"])
async def test_a_secondary_limit_says_more_or_less_of_its_end(sim: Running, header: str, status: int) -> None:
    client = sim.client("wim")
    await fault(sim, kind="secondary_limit", seconds=30, header=header, status=status, holds=True)
    for _ in range(2):
        over = await client.get(SAMPLE)
        assert over.status_code == status
        assert "secondary rate limit" in over.json()["message"]
        assert ("retry-after" in over.headers) == (header in ("retry-after", "date"))
        assert (over.headers.get("x-ratelimit-remaining") == "0") == (header == "reset")
    sim.world.clock_offset += timedelta(seconds=31)
    assert (await client.get(SAMPLE)).status_code == 200


async def test_a_fault_can_wait_for_one_installations_requests(sim: Running) -> None:
    client = await sim.installation_client()
    await fault(sim, kind="status", status=500, installation=sim.installation_id, times=3)
    assert (await sim.client("wim").get(SAMPLE)).status_code == 200
    assert (await client.get(SAMPLE)).status_code == 500
    minting = f"/app/installations/{sim.installation_id}/access_tokens"
    assert (await sim.app_client().post(minting)).status_code == 500
    assert (await sim.app_client().get("/app")).status_code == 200


async def test_the_date_is_the_worlds(sim: Running) -> None:
    sim.world.clock_offset += timedelta(days=400)
    before = sim.world.now().replace(microsecond=0)
    answer = await sim.client().get(SAMPLE)
    assert before <= parsedate_to_datetime(answer.headers["date"]) <= sim.world.now()


async def test_which_limits_were_met_is_remembered(sim: Running) -> None:
    client = sim.client("wim")
    await client.post("/_simulator/settings", json={"limits": {"points_per_minute": 1}})
    await client.get(SAMPLE)
    await client.get(SAMPLE)
    assert [what for _, _, what in sim.simulator.usage.met] == ["points"]


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "malformed", "form": "odd"},
        {"kind": "secondary_limit", "header": "x"},
        {"kind": "status", "unknown": 1},
    ],
)
async def test_a_fault_that_is_none_is_refused(sim: Running, fields: dict[str, Any]) -> None:
    assert (await sim.client().post("/_simulator/faults", json=fields)).status_code == 422
