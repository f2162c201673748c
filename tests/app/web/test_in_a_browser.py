"""The pages in a real browser: signing in, a run watched live, everything readable small and large, light and dark, by keyboard."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from app.nouns import RunState
from tests.app.web.chromium import Tab, chromium
from tests.line.conftest import Stages
from tests.line.conversations import ask, create, finish, notes, playbook, scenario
from tests.line.stage import Stage

pytestmark = pytest.mark.long

PAGES = (
    "/runs",
    "/usage",
    "",
    "/settings",
    "/members",
    "/tokens",
    "/hooks",
    "/actions",
    "/exports",
    "/deletion",
)
NARROW, WIDE = {"width": 360, "height": 740}, {"width": 1440, "height": 900}
SLOW = create("NOTES.md", "A note.\n") | {"slow": {"seconds": 20}}


async def names_of_stations(tab: Tab, standing: str) -> list[str]:
    return [one.strip() for one in await tab.page.locator(f".stations .{standing} strong").all_inner_texts()]


async def test_a_run_is_watched_live_from_the_comment_to_the_pull_request(
    raise_stage: Stages, sample: Path
) -> None:
    stage = await raise_stage({"octo/fairshare": sample}, playbook(scenario(SLOW, finish())))
    async with chromium(stage, viewport=WIDE) as tab:
        await tab.sign_in("ada")
        await tab.open(f"/installations/{stage.installation}/runs")
        await tab.page.get_by_text("Nobody has asked for anything yet.").wait_for()
        number = await ask(stage)
        await stage.settled()
        await tab.page.reload()
        await tab.page.locator("tbody a").first.click()
        await tab.page.get_by_role("heading", name=f"fix octo/fairshare#{number}").wait_for()
        await tab.page.locator("[aria-current=step]", has_text="Asking the model").wait_for()
        assert "Fetching the code" in await names_of_stations(tab, "done")
        await tab.screenshot("a run, live")
        here = tab.page.url
        await tab.page.locator(".headline .opened").wait_for()
        await tab.page.wait_for_load_state()  # the headline is there before the stations are
        assert tab.page.url == here, "nobody loaded the page again but its own script"
        assert len(await names_of_stations(tab, "done")) == 8
        (run,) = await stage.ended()
        pull = tab.page.get_by_role("link", name=f"pull request #{run.pull_request}")
        assert (
            await pull.get_attribute("href")
            == f"{stage.house.github_web_url}/octo/fairshare/pull/{run.pull_request}"
        )
        assert "NOTES.md" not in await tab.page.content()
        await tab.screenshot("a run, opened")
        assert (tab.wrong, tab.elsewhere) == ([], [])


async def test_a_run_is_stopped_and_tried_again_by_its_buttons(raise_stage: Stages, sample: Path) -> None:
    silent = create("NOTES.md", "A note.\n") | {"slow": {"seconds": 120}}
    slowly = scenario(silent, finish(), when="Take your time")
    quickly = scenario(create("NOTES.md", "A note.\n"), finish())
    stage = await raise_stage({"octo/fairshare": sample}, playbook(slowly, quickly))
    number = await ask(stage, body="Take your time.")
    await stage.settled()
    (run,) = await stage.runs()
    async with chromium(stage, viewport=NARROW) as tab:
        await tab.sign_in("wim")
        await tab.open(f"/installations/{stage.installation}/runs/{run.id}")
        await tab.page.locator("[aria-current=step]", has_text="Asking the model").wait_for()
        await tab.page.get_by_role("button", name="Stop this run").press("Enter")
        await tab.page.locator(".headline .cancelled").wait_for()
        there = f"/repos/octo/fairshare/issues/{number}"
        (await stage.client().patch(there, json={"body": "A note is missing."})).raise_for_status()
        await tab.page.get_by_role("button", name="Try again").press("Enter")
        await tab.page.locator(".headline .opened").wait_for()
        await tab.screenshot("a run, tried again")
        assert (tab.wrong, tab.elsewhere) == ([], [])
    assert [one.state for one in await stage.ended(2)] == [RunState.CANCELLED, RunState.OPENED]


@pytest.fixture
async def told(raise_stage: Stages, sample: Path) -> Stage:
    """A run that ended, and an export."""
    stage = await raise_stage({"octo/fairshare": sample}, notes())
    await ask(stage)
    await stage.ended()
    return stage


async def addresses(stage: Stage) -> list[str]:
    """Every kind of page."""
    here = f"/installations/{stage.installation}"
    (run,) = await stage.runs()
    return ["/", "/installations", "/nothing", f"{here}/runs/{run.id}", *(f"{here}{one}" for one in PAGES)]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [NARROW, WIDE], ids=["360", "1440"])
async def test_every_page_is_readable(told: Stage, size: Any, scheme: str) -> None:
    found: dict[str, list[str]] = {}
    async with chromium(told, viewport=size, color_scheme=scheme) as tab:
        await tab.open("/")
        signed_out = await tab.unreadable()
        await tab.screenshot(f"landing {size['width']} {scheme}")
        await tab.sign_in("ada")
        for path in await addresses(told):
            await tab.open(path)
            wrong = await tab.unreadable() + (["it is scrolled sideways"] if await tab.overflows() else [])
            if wrong:
                found[path] = wrong
            name = re.sub(r"installations/\d+", "installation", re.sub(r"runs/.*", "run", path)).strip("/")
            await tab.screenshot(f"{name.replace('/', ' ') or 'home'} {size['width']} {scheme}")
        assert (signed_out, found, tab.elsewhere) == ([], {}, [])


async def test_every_page_is_gone_through_by_keyboard_alone(told: Stage) -> None:
    """Tab comes to each link, button and field in turn, in the order in which they stand, and each shows that it is there."""
    stops = """() => [...document.querySelectorAll("a[href], button, input, select, textarea, [tabindex='0']")]
        .filter(one => one.type !== "hidden" && one.checkVisibility()).length"""
    now = """() => { const one = document.activeElement, style = getComputedStyle(one);
        return [one === document.body, style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2]; }"""
    async with chromium(told, viewport=WIDE) as tab:
        await tab.sign_in("ada")
        for path in await addresses(told):
            await tab.open(path)
            for stop in range(await tab.page.evaluate(stops)):
                await tab.page.keyboard.press("Tab")
                nowhere, shown = await tab.page.evaluate(now)
                assert not nowhere, (path, stop)
                assert shown, (path, stop)
            await asyncio.sleep(0)
