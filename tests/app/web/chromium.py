"""A real browser: Debian's Chromium, driven by Playwright. It tells all that went wrong on a page, and all that was asked for."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import BrowserContext, ConsoleMessage, Page, async_playwright

from tests.line.stage import Stage

ROOT = Path(__file__).parents[3]
SCREENS = ROOT / "build" / "screens"
"""Where each test leaves a picture that a person can look at."""
AXE = ROOT / ".cache" / "axe" / "axe.min.js"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SERIOUS = ("serious", "critical")


@dataclass
class Tab:
    """One window of a person. `wrong` is what the browser complained of, `asked` each address that it fetched."""

    page: Page
    stage: Stage
    wrong: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    async def open(self, path: str) -> None:
        await self.page.goto(f"{self.stage.url}{path}")

    async def sign_in(self, login: str) -> None:
        """From our landing page, by the button, over GitHub's own page, and back."""
        await self.open("/")
        await self.page.get_by_role("link", name="Sign in with GitHub").click()
        await self.page.get_by_role("button", name=f"Sign in as {login}", exact=True).click()
        await self.page.get_by_role("button", name="Sign out").wait_for()

    async def screenshot(self, name: str) -> None:
        SCREENS.mkdir(parents=True, exist_ok=True)
        await self.page.screenshot(path=SCREENS / f"{name}.png", full_page=True)

    async def unreadable(self) -> list[str]:
        """What axe-core finds that keeps somebody from reading this page."""
        await self.page.evaluate(AXE.read_text(encoding="utf-8"))
        found: Any = await self.page.evaluate("axe.run().then(found => found.violations)")
        return [
            f"{one['impact']}: {one['help']}: {one['nodes'][0]['html'][:200]}"
            for one in found
            if one["impact"] in SERIOUS
        ]

    async def overflows(self) -> bool:
        """Whether one has to scroll sideways."""
        wide = "document.scrollingElement.scrollWidth > document.scrollingElement.clientWidth"
        return bool(await self.page.evaluate(wide))

    @property
    def elsewhere(self) -> list[str]:
        """What was fetched neither from us nor from GitHub."""
        ours = (self.stage.url, self.stage.github.base_url, "data:")
        return [one for one in self.asked if not one.startswith(ours)]


@contextlib.asynccontextmanager
async def chromium(stage: Stage, **how: Any) -> AsyncIterator[Tab]:
    """A window in a browser that nobody has used before; `how` as Playwright's `new_context` takes it."""
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip("there is no Chromium here")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--disable-gpu"]
        )
        try:
            context: BrowserContext = await browser.new_context(**how)
            context.set_default_timeout(60_000)
            tab = Tab(await context.new_page(), stage)
            tab.page.on("console", lambda said: _complained(tab, said))
            tab.page.on("pageerror", lambda error: tab.wrong.append(str(error)))
            tab.page.on("request", lambda request: tab.asked.append(request.url))
            yield tab
        finally:
            await browser.close()


def _complained(tab: Tab, said: ConsoleMessage) -> None:
    """Of our own pages."""
    if said.type in ("error", "warning") and said.location["url"].startswith(tab.stage.url):
        tab.wrong.append(f"{said.location['url']}: {said.text}")
