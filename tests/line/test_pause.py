"""What an operator does when something is wrong: pause, end what opens doors, say whom it met, and let everything go on."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Any

import httpx
import pytest

from app.nouns import Action, ApiToken, RunState
from app.rounds import catch_up
from infra.simulator.auth import new_installation_token
from tests.line.conftest import Stages
from tests.line.conversations import (
    ask,
    asked_of_the_model,
    create,
    ended_well_told,
    finish,
    notes,
    playbook,
    repository_file,
    scenario,
    writes_of,
)
from tests.line.seen import until
from tests.line.stage import Stage


async def up(raise_stage: Stages, sample: Path, *, slow: float = 0.0, **how: Any) -> Stage:
    repository_file(sample, checks=["true"])
    first = create("NOTES.md", "A note.\n")
    book = playbook(scenario(first | {"slow": {"seconds": slow}}, finish())) if slow else notes()
    return await raise_stage({"octo/fairshare": sample}, book, **how)


async def magicode(stage: Stage, *arguments: str) -> tuple[int, str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    program = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "app.cli",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**kept, **stage.environ},
    )
    out, err = await program.communicate()
    return program.returncode or 0, out.decode(), err.decode()


def alive(stage: Stage) -> list[str]:
    """The installation's tokens that GitHub would still take."""
    world = stage.github.world
    return [one.value for one in world.tokens.values() if one.installation_id == stage.installation]


@pytest.mark.parametrize("whom", ["this one", "everybody"])
async def test_what_is_asked_of_a_paused_service_is_kept_and_done_later(
    raise_stage: Stages, sample: Path, whom: str
) -> None:
    stage = await up(raise_stage, sample)
    tenant = stage.installation if whom == "this one" else 0
    assert await stage.house.store.pause(tenant)
    number = await ask(stage)
    await stage.settled()
    await asyncio.sleep(3)
    (run,) = await stage.runs()
    assert run.state is RunState.QUEUED
    assert await writes_of(stage) == []
    assert await asked_of_the_model(stage) == []
    assert await stage.house.store.resume(tenant)
    (run,) = await stage.ended()
    assert run.state is RunState.OPENED
    assert len(await stage.pulls()) == 1
    await ended_well_told(stage, run, number)


async def test_another_installations_pause_keeps_nobody_else_waiting(
    raise_stage: Stages, sample: Path
) -> None:
    stage = await up(raise_stage, sample, working=False)
    await stage.house.store.pause(stage.installation + 1)
    for _ in range(2):
        await ask(stage)
    await stage.settled()
    async with stage.at_work():
        assert {run.state for run in await stage.ended(2)} == {RunState.OPENED}


@pytest.mark.parametrize("whom", ["this one", "everybody"])
async def test_a_run_at_work_stops_at_once_gives_its_tokens_back_and_goes_on_later_as_one(
    raise_stage: Stages, sample: Path, whom: str
) -> None:
    stage = await up(raise_stage, sample, slow=20)
    tenant = stage.installation if whom == "this one" else 0
    number = await ask(stage)

    async def asked() -> bool:
        return bool(await asked_of_the_model(stage))

    await until(asked)
    assert alive(stage)
    await stage.house.store.pause(tenant)
    began = monotonic()

    async def given_back() -> bool:
        return not alive(stage)

    await until(given_back, within=15)
    assert monotonic() - began < 10, "the model would have taken twenty seconds"
    written = await writes_of(stage)
    await asyncio.sleep(4)
    assert await writes_of(stage) == written
    assert len(await asked_of_the_model(stage)) == 1
    (run,) = await stage.runs()
    assert not run.state.ended
    await stage.house.store.resume(tenant)
    (run,) = await stage.ended()
    assert run.state is RunState.OPENED
    assert len(await stage.pulls()) == 1
    await ended_well_told(stage, run, number)


async def test_while_everybody_is_paused_nothing_is_asked_of_github(
    raise_stage: Stages, sample: Path
) -> None:
    stage = await up(raise_stage, sample)
    await stage.house.store.pause(0)
    await asyncio.sleep(1)
    before = len(stage.github.world.requests)
    await asyncio.sleep(5)
    assert len(stage.github.world.requests) == before
    await catch_up(stage.house, datetime.now(UTC) - timedelta(hours=1))
    assert len(stage.github.world.requests) > before, "a look is seen here"


async def test_an_incident_is_contained_recovered_from_and_told_by_the_manual(
    raise_stage: Stages, sample: Path
) -> None:
    """Each step as infra/operating/README.md says it: somebody's API token is used by somebody else."""
    stage = await up(raise_stage, sample)
    tenant, since = stage.installation, datetime.now(UTC) - timedelta(minutes=1)
    await ask(stage)
    await stage.ended()
    now = datetime.now(UTC)
    async with stage.house.store.transaction(tenant) as transaction:
        # As it is kept: the hash of what was shown once.
        token = ApiToken(stage.house.new_id(), "a" * 64, "runs", "ada", now, now + timedelta(days=9))
        await transaction.put_api_token(token)

    code, said, told = await magicode(stage, "pause", "--installation", str(tenant), "--revoke", "--json")
    assert code == 0, told
    assert json.loads(said) == {
        "installation_id": tenant,
        "changed": True,
        "tokens": 1,
        "sessions": False,
        "at_github": False,
    }
    async with stage.house.store.transaction(tenant) as transaction:
        assert await transaction.api_tokens() == []
    second = await ask(stage)
    await stage.settled()
    await asyncio.sleep(2)
    assert len([one for one in await stage.runs() if not one.state.ended]) == 1

    code, said, told = await magicode(stage, "affected", "--since", since.isoformat(), "--json")
    assert code == 0, told
    (met,) = json.loads(said)
    assert (met["installation_id"], met["account"]) == (tenant, "octo")
    assert met["actions"]["run.started"] == 1
    assert met["actions"]["service.paused"] == 1
    assert since.isoformat() < met["first"] <= met["last"]
    code, said, _ = await magicode(stage, "affected", "--since", since.isoformat(), "--kind", "pull_request")
    assert code == 0
    assert said.split(":")[0] == f"{tenant} octo"
    assert "1 pull_request.opened" in said
    assert "run.started" not in said
    code, said, _ = await magicode(
        stage, "affected", "--since", "2020-01-01", "--until", "2020-01-02", "--json"
    )
    assert (code, json.loads(said)) == (0, [])

    code, said, _ = await magicode(stage, "resume", "--installation", str(tenant))
    assert (code, said) == (0, f"Installation {tenant}: goes on.\n")
    assert [run.state for run in await stage.ended(2)] == [RunState.OPENED, RunState.OPENED]
    assert len(await stage.pulls()) == 2
    assert second
    logged = [(one.action, one.actor) for one in await stage.log() if one.action.startswith("service.")]
    assert logged == [(Action.SERVICE_PAUSED, "operator"), (Action.SERVICE_RESUMED, "operator")]


async def test_a_stolen_token_opens_nothing_once_it_is_suspended_too(
    raise_stage: Stages, sample: Path
) -> None:
    """Each step as infra/operating/README.md says it: what was in a worker's memory is in somebody else's hands."""
    stage = await up(raise_stage, sample, slow=20)
    tenant = str(stage.installation)
    number = await ask(stage)

    async def asked() -> bool:
        return bool(await asked_of_the_model(stage))

    await until(asked)
    installation = stage.github.world.installations[stage.installation]
    stolen = new_installation_token(stage.github.world, installation, {"contents": "read"}, None).value
    async with httpx.AsyncClient(trust_env=False, base_url=stage.github.base_url) as thief:

        async def opens() -> int:
            headers = {"Authorization": f"Bearer {stolen}"}
            return (await thief.get("/repos/octo/fairshare/contents/README.md", headers=headers)).status_code

        assert await opens() == 200
        code, said, told = await magicode(stage, "pause", "--installation", tenant)
        assert code == 0, told
        assert await opens() == 200, "a pause of ours is nothing to GitHub"
        code, said, told = await magicode(stage, "pause", "--installation", tenant, "--suspend")
        assert (code, said) == (
            0,
            f"Installation {tenant}: was paused already. GitHub refuses its tokens.\n",
        ), told
        assert await opens() == 403
        await stage.settled()
        await asyncio.sleep(3)
        (run,) = await stage.runs()
        assert not run.state.ended, "what is refused meanwhile is not the run's end"
        async with stage.house.store.transaction(stage.installation) as transaction:
            known = await transaction.installation()
        assert known is not None
        assert known.suspended, "GitHub has told so"
        assert list(await stage.house.store.pauses()) == [stage.installation]

        code, said, told = await magicode(stage, "resume", "--installation", tenant)
        assert (code, said) == (0, f"Installation {tenant}: goes on.\n"), told
        assert await opens() == 200
    (run,) = await stage.ended()
    assert run.state is RunState.OPENED
    assert len(await stage.pulls()) == 1
    await ended_well_told(stage, run, number)
    await stage.settled()
    async with stage.house.store.transaction(stage.installation) as transaction:
        known = await transaction.installation()
    assert known is not None
    assert not known.suspended
    log = [one for one in await stage.log() if one.action.startswith("service.")]
    assert [(one.details or {})["suspended"] for one in log] == [False, True, True]
    requests = [
        request for one in await stage.log() for request in one.details or {} if "suspended" in request
    ]
    route = "/app/installations/{installation_id}/suspended"
    assert {f"PUT {route}", f"DELETE {route}"} <= set(requests)


@pytest.mark.parametrize(("where", "times"), [("/access_tokens", 2), (r"/issues/\d+$", 1), ("/tarball", 1)])
async def test_what_github_refuses_a_run_since_it_was_suspended_is_not_its_end(
    raise_stage: Stages, sample: Path, where: str, times: int
) -> None:
    """GitHub says no in the middle of a request, before the run has looked whether it is paused."""
    stage = await up(raise_stage, sample)
    store, tenant = stage.house.store, stage.installation
    await stage.fault(kind="delay", seconds=6, route=where, times=times)
    await ask(stage)

    async def under_way() -> bool:
        return sum(one.fault == "delay" for one in stage.github.world.requests) == times

    await until(under_way)
    await store.pause(tenant)
    await store.note_suspension(tenant)
    await stage.house.github.suspend(tenant)
    await asyncio.sleep(9)
    (run,) = await stage.runs()
    assert not run.state.ended
    assert any(one.status == 403 and re.search(where, one.path) for one in stage.github.world.requests), (
        "it was refused there"
    )
    assert (await magicode(stage, "resume", "--installation", str(tenant)))[0] == 0
    (run,) = await stage.ended()
    assert run.state is RunState.OPENED


async def test_an_answer_that_is_lost_is_asked_for_again_and_a_resumption_that_fails_leaves_it_paused(
    raise_stage: Stages, sample: Path
) -> None:
    stage = await up(raise_stage, sample, working=False)
    tenant = str(stage.installation)
    world, store = stage.github.world, stage.house.store
    there = world.installations[stage.installation]
    await stage.fault(kind="drop_after", method="PUT", route="/suspended$")
    code, _, told = await magicode(stage, "pause", "--installation", tenant, "--suspend")
    assert code == 0, told
    assert there.suspended_at is not None
    await stage.fault(kind="status", status=502, method="DELETE", route="/suspended$", times=4)
    code, _, _ = await magicode(stage, "resume", "--installation", tenant)
    assert code == 1
    assert there.suspended_at is not None
    assert list(await store.pauses()) == [stage.installation]
    code, _, told = await magicode(stage, "resume", "--installation", tenant)
    assert code == 0, told
    assert there.suspended_at is None
    assert await store.pauses() == {}


async def test_who_was_suspended_by_somebody_else_stays_so(raise_stage: Stages, sample: Path) -> None:
    """A customer's own suspension is not ours to end."""
    stage = await up(raise_stage, sample, working=False)
    there = stage.github.world.installations[stage.installation]
    await stage.house.store.pause(stage.installation)
    there.suspended_at = stage.github.world.now()
    assert (await magicode(stage, "resume", "--installation", str(stage.installation)))[0] == 0
    assert there.suspended_at is not None


async def test_everybody_is_signed_out_where_all_are_paused_and_doors_shut(
    raise_stage: Stages, sample: Path
) -> None:
    stage = await up(raise_stage, sample, working=False)
    store = stage.house.store
    await store.begin_session("a-hash", "a-person", b"sealed", datetime.now(UTC) + timedelta(hours=1), most=5)
    code, said, told = await magicode(stage, "pause", "--all", "--revoke")
    assert (code, said) == (0, "Everybody: paused. 0 API tokens removed, everybody is signed out.\n"), told
    assert await store.session("a-hash") is None
    assert (await magicode(stage, "pause", "--all"))[1] == "Everybody: was paused already.\n"
    assert (await magicode(stage, "resume", "--all"))[1] == "Everybody: goes on.\n"
    assert (await magicode(stage, "resume", "--all"))[1] == "Everybody: was not paused.\n"
    assert await store.pauses() == {}


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["pause"], 2, "say whom"),
        (["pause", "--all", "--installation", "7"], 2, "say whom"),
        (["resume", "--installation", "0"], 2, "greater than 0"),
        (["pause", "--all", "--suspend"], 2, "for one installation"),
        (["pause", "--installation", "999999"], 1, "No installation with this id"),
        (["affected", "--since", "yesterday"], 2, ""),
        (["affected", "--since", "2026-01-01", "--kind", "nothing.such"], 2, ""),
    ],
)
async def test_wrong_use_is_told(
    raise_stage: Stages, sample: Path, arguments: list[str], code: int, said: str
) -> None:
    stage = await up(raise_stage, sample, working=False)
    came_to, out, err = await magicode(stage, *arguments)
    assert (came_to, out) == (code, "")
    assert said in " ".join(err.replace("│", " ").split())
    assert await stage.house.store.pauses() == {}
