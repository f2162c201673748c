"""The demonstration that stays: whoever opens its address is signed in and finds the run."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.app.web.chromium import chromium

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[3]


@pytest.fixture
async def kept(tmp_path: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    environ = {name: os.environ[name] for name in ("PATH", "HOME")} | {"TMPDIR": str(tmp_path)}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "app.cli", "demo", "--keep",
        cwd=ROOT, env=environ, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


def left_in(folder: Path) -> list[Path]:
    return list(folder.glob("magicode-demo-*"))


async def test_the_dashboard_of_a_demonstration_that_stays_is_signed_in(
    kept: asyncio.subprocess.Process, tmp_path: Path
) -> None:
    assert kept.stdout is not None
    address, said = "", b""
    async with asyncio.timeout(240):
        while "/_simulator/enter" not in address:
            line = await kept.stdout.readline()
            assert line, f"it ended: {said.decode()[-3000:]}"
            said += line
            address = line.decode().strip()
    seen: Any = SimpleNamespace(url="http://127.0.0.1", github=SimpleNamespace(base_url="http://127.0.0.1"))
    async with chromium(seen, viewport={"width": 1440, "height": 900}) as tab:
        await tab.page.goto(address)
        await tab.page.get_by_role("button", name="Sign out").wait_for()
        await tab.page.locator("tbody a").first.click()
        await tab.page.locator(".headline .opened").wait_for()
        await tab.screenshot("the demonstration, kept")
        assert (tab.wrong, tab.elsewhere) == ([], [])
    kept.terminate()
    await asyncio.wait_for(kept.communicate(), 60)
    assert kept.returncode == 0
    assert left_in(tmp_path) == []
