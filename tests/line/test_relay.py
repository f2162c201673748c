"""A request that comes by a relay, since GitHub cannot reach this machine."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from app.nouns import RunState
from infra.relay import new_channel
from infra.simulator.relay import relaying
from tests.line.conftest import Stages
from tests.line.conversations import ask, notes


async def test_a_comment_that_is_told_by_a_relay_becomes_one_pull_request(
    raise_stage: Stages, sample: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with relaying() as relay:
        channel = await new_channel(relay.url)
        stage = await raise_stage(
            {"octo/fairshare": sample}, notes(), environ={"MAGICODE_RELAY_URL": channel}
        )
        stage.github.world.app_url = channel
        name = channel.rsplit("/", 1)[1]
        async with asyncio.timeout(20):
            while not relay.listening[name]:
                await asyncio.sleep(0.01)
        await ask(stage)
        (run,) = await stage.ended()
        assert run.state is RunState.OPENED
        assert relay.told[name] > 0
        async with httpx.AsyncClient(trust_env=False) as client:
            forged = {
                "X-GitHub-Event": "issues",
                "X-GitHub-Delivery": "g",
                "X-Hub-Signature-256": "sha256=" + "0" * 64,
            }
            await client.post(channel, json={"action": "labeled"}, headers=forged)
        async with asyncio.timeout(20):
            while "A delivery was refused." not in caplog.messages:
                await asyncio.sleep(0.01)
        assert len(await stage.runs()) == 1
