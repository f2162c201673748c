"""Failures on request, the record of requests, the clock."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest

from infra.simulator.serve import Running

SAMPLE = "/repos/octo/sample"


async def fault(sim: Running, **fields: Any) -> None:
    answer = await sim.client().post("/_simulator/faults", json=fields)
    assert answer.status_code == 200, answer.text


async def put(client: httpx.AsyncClient) -> httpx.Response:
    return await client.put(f"{SAMPLE}/contents/n", json={"message": "m", "content": "YQ=="})


async def exists(sim: Running) -> bool:
    return (await sim.client().get(f"{SAMPLE}/contents/n")).status_code == 200


async def test_a_status_is_answered_n_times_without_an_effect(sim: Running) -> None:
    client = sim.client("wim")
    await fault(sim, kind="status", method="PUT", route="/contents/", times=2, status=502)
    assert [(await put(client)).status_code for _ in range(2)] == [502, 502]
    assert not await exists(sim)
    assert (await put(client)).status_code == 201


async def test_a_fault_waits_for_its_route_and_method(sim: Running) -> None:
    await fault(sim, kind="status", method="DELETE", route="^/repos/octo/second", status=500)
    assert (await sim.client().get("/repos/octo/second")).status_code == 200
    assert (await sim.client().get(SAMPLE)).status_code == 200


async def test_a_fault_can_let_some_pass_first(sim: Running) -> None:
    await fault(sim, kind="status", route=f"{SAMPLE}$", skip=1, status=503)
    assert [(await sim.client().get(SAMPLE)).status_code for _ in range(3)] == [200, 503, 200]


async def test_a_connection_dropped_before_has_had_no_effect(sim: Running) -> None:
    await fault(sim, kind="drop_before", method="PUT")
    with pytest.raises(httpx.RemoteProtocolError):
        await put(sim.client("wim"))
    assert not await exists(sim)


async def test_a_connection_dropped_after_has_had_its_effect(sim: Running) -> None:
    await fault(sim, kind="drop_after", method="PUT")
    with pytest.raises(httpx.RemoteProtocolError):
        await put(sim.client("wim"))
    assert await exists(sim)
    record = next(one for one in sim.world.requests if one.fault == "drop_after")
    assert record.status is None


async def test_a_delay_is_waited_for(sim: Running) -> None:
    await fault(sim, kind="delay", seconds=0.3)
    began = time.monotonic()
    assert (await sim.client().get(SAMPLE)).status_code == 200
    assert time.monotonic() - began >= 0.3


async def test_a_secondary_limit_comes_with_its_seconds(sim: Running) -> None:
    await fault(sim, kind="secondary_limit", seconds=7)
    answer = await sim.client().get(SAMPLE)
    assert (answer.status_code, answer.headers["retry-after"]) == (403, "7")
    assert (await sim.client().get(SAMPLE)).status_code == 200


@pytest.mark.parametrize(
    "fields", [{}, {"kind": "fire"}, {"kind": "status", "route": "("}, {"kind": "delay", "seconds": "x"}]
)
async def test_a_fault_that_is_none_is_refused(sim: Running, fields: dict[str, Any]) -> None:
    assert (await sim.client().post("/_simulator/faults", json=fields)).status_code == 422


async def test_faults_can_be_called_off(sim: Running) -> None:
    await fault(sim, kind="status")
    assert len((await sim.client().get("/_simulator/faults")).json()) == 1
    await sim.client().delete("/_simulator/faults")
    assert (await sim.client().get(SAMPLE)).status_code == 200


async def test_every_request_is_on_record_with_its_caller_and_the_permission_asked_for(sim: Running) -> None:
    client = await sim.installation_client({"contents": "read"})
    await client.get(f"{SAMPLE}/contents/README.md?ref=main")
    await client.post(f"{SAMPLE}/git/blobs", json={"content": "x"})
    told = (await sim.client().get("/_simulator/requests")).json()
    read, refused = told[-2:]
    assert (read["method"], read["path"], read["query"], read["status"]) == (
        "GET",
        f"{SAMPLE}/contents/README.md",
        "ref=main",
        200,
    )
    assert (read["caller"], read["login"], read["permissions"]) == (
        "installation",
        "magicode[bot]",
        ["contents:read"],
    )
    assert (refused["status"], refused["permissions"]) == (403, ["contents:write"])
    assert refused["route"] == "/repos/{owner}/{repo}/git/blobs"


async def test_the_clock_is_moved_and_set(sim: Running) -> None:
    client = sim.client()
    before = sim.world.now()
    await client.post("/_simulator/clock", json={"advance_seconds": 3600})
    assert 3599 < (sim.world.now() - before).total_seconds() < 3660
    told = (await client.post("/_simulator/clock", json={"now": "2030-01-01T00:00:00Z"})).json()
    assert told["now"].startswith("2030-01-01T00:00:0")
    assert (await client.post("/_simulator/clock", json={"now": "soon"})).status_code == 422
