"""Rate limits: the hour's, and the secondary ones that say less."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from infra.simulator.serve import Running

SAMPLE = "/repos/octo/sample"


async def lower(sim: Running, **limits: Any) -> None:
    answer = await sim.client().post("/_simulator/settings", json={"limits": limits, "forget_usage": True})
    assert answer.status_code == 200, answer.text


async def test_the_hours_requests_are_counted_and_then_refused_until_the_hour_is_over(sim: Running) -> None:
    client = await sim.installation_client()
    await lower(sim, installation_per_hour=3)
    left = [(await client.get(SAMPLE)).headers["x-ratelimit-remaining"] for _ in range(3)]
    assert left == ["2", "1", "0"]
    over = await client.get(SAMPLE)
    assert over.status_code == 403
    assert over.json()["message"] == f"API rate limit exceeded for installation ID {sim.installation_id}."
    assert over.headers["x-ratelimit-remaining"] == "0"
    assert int(over.headers["x-ratelimit-reset"]) > sim.world.now().timestamp()
    assert "retry-after" not in over.headers
    assert (await sim.client("wim").get(SAMPLE)).status_code == 200
    sim.world.clock_offset += timedelta(minutes=59)
    assert (await client.get(SAMPLE)).status_code == 403
    await lower(sim, installation_per_hour=3)
    assert (await client.get(SAMPLE)).status_code == 200


async def test_the_window_opens_again_by_itself(sim: Running) -> None:
    client = sim.client("wim")
    await lower(sim, user_per_hour=1)
    assert [(await client.get(SAMPLE)).status_code for _ in range(2)] == [200, 403]
    sim.world.clock_offset += timedelta(hours=1, seconds=1)
    assert (await client.get(SAMPLE)).status_code == 200


async def test_nobody_in_particular_gets_sixty(sim: Running) -> None:
    answer = await sim.client(None).get("/users/wim")
    assert answer.headers["x-ratelimit-limit"] == "60"


async def test_writes_cost_five_points_and_the_minute_has_only_so_many(sim: Running) -> None:
    client = sim.client("wim")
    await lower(sim, points_per_minute=12)
    blobs = [await client.post(f"{SAMPLE}/git/blobs", json={"content": "x"}) for _ in range(3)]
    assert [answer.status_code for answer in blobs] == [201, 201, 403]
    assert blobs[2].json()["message"].startswith("You have exceeded a secondary rate limit.")
    assert blobs[2].headers["retry-after"] == "60"
    assert (await client.get(SAMPLE)).status_code == 200
    sim.world.clock_offset += timedelta(seconds=61)
    assert (await client.post(f"{SAMPLE}/git/blobs", json={"content": "x"})).status_code == 201


async def test_content_has_a_limit_of_its_own(sim: Running) -> None:
    client = sim.client("wim")
    await lower(sim, content_per_minute=2)
    made = [await client.post(f"{SAMPLE}/issues", json={"title": "t"}) for _ in range(3)]
    assert [answer.status_code for answer in made] == [201, 201, 403]
    assert (await client.post(f"{SAMPLE}/git/blobs", json={"content": "x"})).status_code == 201


async def test_too_many_requests_at_once_are_refused(sim: Running) -> None:
    client = sim.client("wim")
    await lower(sim, concurrent=2)
    answers = await asyncio.gather(*(client.get(f"{SAMPLE}/commits/main") for _ in range(8)))
    assert {answer.status_code for answer in answers} == {200, 403}


async def test_an_unknown_setting_is_refused(sim: Running) -> None:
    assert (await sim.client().post("/_simulator/settings", json={"limits": {"x": 1}})).status_code == 422
