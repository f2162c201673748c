"""What is a customer's own, in a real browser: a setting that the next run obeys, the log verified and taken home, all of it exported, and
all of it destroyed with a receipt."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from app.cli import cli
from app.nouns import RunState
from tests.app.web.chromium import Tab, chromium
from tests.line.conftest import Stages
from tests.line.conversations import ask, notes
from tests.line.stage import Stage

pytestmark = pytest.mark.long

WIDE = {"width": 1440, "height": 900}


@pytest.fixture
async def stage(raise_stage: Stages, sample: Path) -> Stage:
    """Where one run has ended."""
    stage = await raise_stage({"octo/fairshare": sample}, notes())
    await ask(stage)
    (run,) = await stage.ended()
    assert run.state is RunState.OPENED
    return stage


async def there(tab: Tab, stage: Stage, room: str) -> None:
    """By the list of installations, and GitHub's word about the organization."""
    await tab.page.get_by_role("link", name="Installations", exact=True).click()
    await tab.page.get_by_label("The organization's login").fill("octo")
    await tab.page.get_by_role("button", name="Open").click()
    await tab.page.get_by_role("navigation").get_by_role("link", name=room, exact=True).click()


async def saved(tab: Tab, link: Any, folder: Path) -> Path:
    """What a click on the link downloads."""
    async with tab.page.expect_download() as coming:
        await link.click()
    download = await coming.value
    path = folder / download.suggested_filename
    await download.save_as(path)
    return path


def magicode(*arguments: object) -> Any:
    """On the customer's own machine: nothing of the service is asked."""
    return CliRunner().invoke(cli, [str(one) for one in arguments])


async def test_the_next_run_obeys_a_setting_that_was_changed(stage: Stage) -> None:
    async with chromium(stage, viewport=WIDE) as tab:
        await tab.sign_in("ada")
        await there(tab, stage, "Settings")
        await tab.page.locator("#value-providers").fill("openai")
        await tab.page.locator("#providers").get_by_role("button", name="Save").click()
        assert await tab.page.locator("#value-providers").input_value() == "openai"
        await tab.screenshot("a setting, changed")
        await ask(stage)
        _, run = await stage.ended(2)
        assert run.state is RunState.REFUSED
        await tab.page.get_by_role("navigation").get_by_role("link", name="Runs").click()
        await tab.page.locator("tbody a").first.click()
        await tab.page.locator(".headline .refused").wait_for()
        await tab.screenshot("a run, refused by the setting")
        await there(tab, stage, "Settings")
        await tab.page.locator("#value-providers").fill("any")
        await tab.page.locator("#providers").get_by_role("button", name="Save").click()
        await ask(stage)
        assert (await stage.ended(3))[-1].state is RunState.OPENED
        assert (tab.wrong, tab.elsewhere) == ([], [])


async def test_the_log_is_verified_on_the_page_and_once_more_at_home(stage: Stage, tmp_path: Path) -> None:
    async with chromium(stage, viewport=WIDE) as tab:
        await tab.sign_in("ada")
        await there(tab, stage, "Action log")
        await tab.page.get_by_label("Kind").select_option("run.ended")
        async with tab.page.expect_navigation():
            await tab.page.get_by_role("button", name="Show").click()
        assert await tab.page.locator("tbody tr").count() == 1
        await tab.page.get_by_role("link", name="All entries").click()
        await tab.page.get_by_role("button", name="Recompute the whole chain").click()
        await tab.page.get_by_text("Sound", exact=True).wait_for()
        await tab.screenshot("the log, verified")
        await tab.page.get_by_role("link", name="Back to the log").click()
        files = {
            form: await saved(tab, tab.page.get_by_role("link", name=form, exact=True), tmp_path)
            for form in ("jsonl", "json", "csv")
        }
        assert (tab.wrong, tab.elsewhere) == ([], [])
    for form, path in files.items():
        assert magicode("actions", "verify", path).exit_code == 0, form
    whole = files["jsonl"].read_text(encoding="utf-8")
    files["jsonl"].write_text(whole.replace('"wim"', '"ada"', 1), encoding="utf-8")
    assert magicode("actions", "verify", files["jsonl"]).exit_code == 1


async def test_all_that_is_held_is_asked_for_watched_and_fetched(stage: Stage, tmp_path: Path) -> None:
    async with chromium(stage, viewport=WIDE) as tab:
        await tab.sign_in("ada")
        await there(tab, stage, "Export")
        await tab.page.get_by_role("button", name="Ask for an export").click()
        await tab.page.get_by_role("link", name="Download", exact=True).wait_for()
        await tab.screenshot("an export, made")
        said = await tab.page.get_by_text("SHA-256 of the file").locator("code").inner_text()
        path = await saved(tab, tab.page.get_by_role("link", name="Download", exact=True), tmp_path)
        assert (tab.wrong, tab.elsewhere) == ([], [])
    assert hashlib.sha256(path.read_bytes()).hexdigest() == said
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        archive.extract("actions.jsonl", tmp_path)
        runs = archive.read("runs.csv").decode()
    assert str((await stage.runs())[0].id) in runs
    assert magicode("actions", "verify", tmp_path / "actions.jsonl").exit_code == 0


async def test_all_that_is_held_is_destroyed_and_the_receipt_taken_home(stage: Stage, tmp_path: Path) -> None:
    async with chromium(stage, viewport=WIDE) as tab:
        await tab.sign_in("ada")
        await there(tab, stage, "Deletion")
        await tab.page.get_by_label("To confirm").fill("octa")
        await tab.page.get_by_role("button", name="Destroy all that is held").click()
        await tab.page.get_by_role("alert").wait_for()
        assert len(await stage.runs()) == 1, "a slip destroys nothing"
        await tab.page.get_by_label("To confirm").fill("octo")
        await tab.page.get_by_role("button", name="Destroy all that is held").click()
        await tab.page.get_by_role("heading", name="The receipt").wait_for()
        await tab.screenshot("a deletion, with its receipt")
        here = tab.page.url
        receipt = await saved(tab, tab.page.get_by_role("link", name="Download the signed receipt"), tmp_path)
        await tab.open(f"/installations/{stage.installation}/runs")
        assert await tab.page.locator("tbody a").count() == 0
        await tab.page.goto(here)
        await tab.page.get_by_role("heading", name="The receipt").wait_for()
        assert tab.elsewhere == []
    key = tmp_path / "key.json"
    async with httpx.AsyncClient(base_url=stage.url, trust_env=False, timeout=60) as client:
        key.write_text((await client.get("/.well-known/magicode-receipts.json")).text, encoding="utf-8")
    assert magicode("data", "verify-receipt", receipt, "--public-key", key).exit_code == 0
    signed = json.loads(receipt.read_text(encoding="utf-8"))
    assert magicode("data", "verify-receipt", receipt, "--json").exit_code == 0
    receipt.write_text(json.dumps(signed | {"installation_id": 1}), encoding="utf-8")
    assert magicode("data", "verify-receipt", receipt).exit_code == 1
