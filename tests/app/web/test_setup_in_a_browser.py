"""From nothing to the first pull request: the App is set up in a browser, and a comment on the App's repository is answered."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from infra.simulator.model.serve import environment
from infra.simulator.model.serve import running as running_model
from infra.simulator.relay import SimulatedRelay, relaying
from infra.simulator.serve import Running, running
from tests.app.web.chromium import Tab, chromium
from tests.line.conversations import notes

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[3]
NARROW, WIDE = {"width": 360, "height": 740}, {"width": 1440, "height": 900}


@contextlib.asynccontextmanager
async def magicode(environ: Mapping[str, str], *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """The command line as somebody types it."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "app.cli", *arguments,
        cwd=ROOT, env={**{name: os.environ[name] for name in ("PATH", "HOME")}, **environ},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
            await process.communicate()


async def told(process: asyncio.subprocess.Process) -> str:
    """The page's address."""
    assert process.stderr is not None
    async with asyncio.timeout(180):
        while line := await process.stderr.readline():
            if line.startswith(b"Open "):
                return line.removeprefix(b"Open ").decode().strip()
    raise AssertionError("it ended")


@pytest.fixture
async def github(tmp_path: Path, sample: Path) -> AsyncIterator[Running]:
    async with running(tmp_path / "github", {"octo/fairshare": sample}) as github:
        github.account("octo").owner_ids.add(github.account("ada").id)
        yield github


@pytest.fixture
def environ(github: Running, tmp_path: Path) -> Mapping[str, str]:
    return {
        "MAGICODE_GITHUB_API_URL": github.base_url,
        "MAGICODE_GITHUB_WEB_URL": github.base_url,
        "MAGICODE_DATA_DIR": str(tmp_path / "data"),
        "MAGICODE_READY_AFTER_SECONDS": "0",
        "MAGICODE_WRITE_INTERVAL_SECONDS": "0",
        "MAGICODE_PORT": "0",
    }


async def three_clicks(tab: Tab, relay: SimulatedRelay, address: str) -> None:
    page = tab.page
    await page.goto(address)
    await page.get_by_label("Name", exact=True).fill("Acme MagiCode")
    await page.get_by_label("Organization").fill("octo")
    await page.get_by_label("The relay").fill(relay.url)
    await tab.screenshot("set up")
    await page.get_by_role("button", name="Go on to GitHub").click()
    await page.get_by_role("button", name="Create GitHub App as ada").click()
    await page.get_by_role("button", name="Install on octo").click()
    await page.get_by_role("heading", name="Installed").wait_for()
    await tab.screenshot("set up, installed")


async def test_three_clicks_lead_to_a_service_that_answers_a_comment(
    github: Running, environ: Mapping[str, str]
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        relay = await stack.enter_async_context(relaying())
        script = notes()
        model = environment(await stack.enter_async_context(running_model(script)))
        async with magicode(environ, "setup", "--no-browser", "--json") as setting_up:
            address = await told(setting_up)
            seen: Any = SimpleNamespace(url=address.rsplit("/", 1)[0], github=github)
            async with chromium(seen, viewport=WIDE) as tab:
                await three_clicks(tab, relay, address)
                assert (tab.wrong, tab.elsewhere) == ([], [])
            out, _ = await asyncio.wait_for(setting_up.communicate(), 60)
            assert setting_up.returncode == 0
        said = json.loads(out)
        assert (said["slug"], said["app_id"]) == ("acme-magicode", github.world.app.id)
        assert github.world.app.webhook_secret not in out.decode()

        serving = {**environ, **model, "MAGICODE_MODEL": f"anthropic:{script.models[0]}"}
        await stack.enter_async_context(magicode(serving, "serve"))
        channel = str(github.world.app_url).rsplit("/", 1)[1]
        async with asyncio.timeout(120):
            while not relay.listening[channel]:
                await asyncio.sleep(0.05)
        there, ada = "/repos/octo/fairshare", github.client("ada")
        number = (await ada.post(f"{there}/issues", json={"title": "A note", "body": "Add one."})).json()[
            "number"
        ]
        said = await ada.post(f"{there}/issues/{number}/comments", json={"body": "@acme-magicode fix this"})
        assert said.status_code == 201
        async with asyncio.timeout(180):
            while not (pulls := (await ada.get(f"{there}/pulls")).json()):
                await asyncio.sleep(0.2)
        assert [one["user"]["login"] for one in pulls] == ["acme-magicode[bot]"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [NARROW, WIDE], ids=["360", "1440"])
async def test_the_page_is_readable_and_gone_through_by_keyboard(
    github: Running, environ: Mapping[str, str], size: Any, scheme: str
) -> None:
    async with magicode(environ, "setup", "--no-browser") as setting_up:
        address = await told(setting_up)
        seen: Any = SimpleNamespace(url=address.rsplit("/", 1)[0], github=github)
        async with chromium(seen, viewport=size, color_scheme=scheme) as tab:
            await tab.page.goto(address)
            assert (await tab.unreadable(), await tab.overflows()) == ([], False)
            await tab.screenshot(f"set up {size['width']} {scheme}")
            await tab.page.get_by_label("Where people reach").fill("http://acme.example")
            await tab.page.keyboard.press("Enter")
            await tab.page.get_by_role("alert").wait_for()
            assert (await tab.unreadable(), await tab.overflows()) == ([], False)
            assert (tab.elsewhere, [one for one in tab.wrong if "400" not in one]) == ([], [])
        async with httpx.AsyncClient(trust_env=False, timeout=60) as stranger:
            assert (await stranger.get(f"{address}x")).status_code == 404
