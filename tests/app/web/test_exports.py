"""An export on the page and by API: asked for, watched, fetched and verified offline."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import re
import zipfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import httpx
import pytest

from app.actionlog.verify import verify_stream
from app.main import create
from app.nouns import DataExport
from tests.app.web.browser import Browser, opened
from tests.line.stage import Stage

pytestmark = pytest.mark.asyncio(loop_scope="module")

REFRESH = '<meta http-equiv="refresh"'


def at(stage: Stage, path: str = "") -> str:
    return f"/installations/{stage.installation}/exports{path}"


def sound(archive: bytes) -> dict[str, bytes]:
    """The files of an export whose manifest's hashes and whose log hold."""
    with zipfile.ZipFile(io.BytesIO(archive)) as opened_archive:
        assert opened_archive.testzip() is None
        files = {name: opened_archive.read(name) for name in opened_archive.namelist()}
    manifest = json.loads(files["manifest.json"])
    told = {one["name"]: one["sha256"] for one in manifest["files"]}
    assert told == {
        name: hashlib.sha256(content).hexdigest()
        for name, content in files.items()
        if name != "manifest.json"
    }
    report = verify_stream(io.StringIO(files["actions.jsonl"].decode(), newline=""))
    assert report.ok
    assert report.whole
    assert manifest["log_head"].startswith(f"{report.head_seq}:{report.head}")
    return files


async def made(ada: Browser, shared: Stage) -> httpx.Response:
    """The page of an export that she asked for, once it is made."""
    page = await ada.submit(await ada.get(at(shared)), at(shared))
    assert re.fullmatch(at(shared, "/[0-9a-f-]{36}"), page.url.path)
    async with asyncio.timeout(60):
        while "/download" not in page.text:
            assert REFRESH in page.text, "it loads itself again while it is being made"
            await asyncio.sleep(0.1)
            page = await ada.get(page.url.path)
    return page


async def test_an_export_is_asked_for_watched_fetched_and_verified(ada: Browser, shared: Stage) -> None:
    before = len(await shared.log())
    page = await made(ada, shared)
    assert REFRESH not in page.text, "it does so no longer"
    file = await ada.get(f"{page.url.path}/download")
    assert file.headers["content-type"] == "application/zip"
    assert hashlib.sha256(file.content).hexdigest() in page.text
    files = sound(file.content)
    assert b"octo" in files["installation.json"]
    taken = [
        one.details or {}
        for one in (await shared.log())[before:]
        if (one.action, one.actor) == ("data.exported", "ada")
    ]
    assert [one.get("where") for one in taken] == ["held for download", None], "made, and fetched"
    assert page.url.path.endswith(str(taken[1]["export"]))


async def test_a_program_does_the_same_with_its_token(ada: Browser, shared: Stage) -> None:
    base = f"/api/installations/{shared.installation}"
    token = await ada.api(
        "POST", base.removeprefix("/api") + "/tokens", {"scopes": ["export"]}, form_key=await ada.form_key()
    )
    bearer = {"Authorization": f"Bearer {token.json()['token']}"}
    async with httpx.AsyncClient(base_url=shared.url, headers=bearer, trust_env=False, timeout=60) as program:
        asked = await program.post(f"{base}/exports")
        assert asked.status_code == 202
        where = f"{base}/exports/{asked.json()['id']}"
        async with asyncio.timeout(60):
            while (export := (await program.get(where)).json())["state"] == "asked":
                early = await program.get(f"{where}/download")
                assert early.status_code in (200, 404)
                await asyncio.sleep(0.1)
        assert export["state"] == "made"
        file = await program.get(f"{where}/download")
        assert (len(file.content), hashlib.sha256(file.content).hexdigest()) == (
            export["size"],
            export["sha256"],
        )
        sound(file.content)
        assert (await program.get(f"{base}/exports/{uuid4()}/download")).status_code == 404


async def test_nobody_else_gets_it_and_after_a_week_nobody_does(ada: Browser, shared: Stage) -> None:
    export = (await made(ada, shared)).url.path.rpartition("/")[2]
    for login in ("wim", "sol"):
        async with opened(shared) as browser:
            await browser.sign_in(login)
            for path in ("", f"/{export}", f"/{export}/download"):
                assert (await browser.get(at(shared, path))).status_code == 404
            key = {"form_key": await browser.form_key()}
            assert (await browser.post(at(shared), key)).status_code == 404
    assert (await ada.post(at(shared), {})).status_code == 403
    async with opened(shared) as nobody:
        assert (await nobody.get(at(shared, f"/{export}/download"), follow=False)).status_code == 303

    later = datetime.now(UTC) + timedelta(days=7, minutes=1)
    cookie, _ = await _session_at(shared, later)
    transport = httpx.ASGITransport(app=create(replace(shared.house, clock=lambda: later)))
    async with httpx.AsyncClient(
        transport=transport, base_url=shared.url, cookies={"magicode_session": cookie}
    ) as browser:
        assert "expired" in (await browser.get(at(shared, f"/{export}"))).text
        assert (await browser.get(at(shared, f"/{export}/download"))).status_code == 404


async def _session_at(stage: Stage, now: datetime) -> tuple[str, object]:
    """A session of ada's that began then."""
    from app.nouns import Account
    from app.web.session import Cookies

    person = stage.github.account("ada")
    cookies = Cookies(stage.house.store, stage.house.keys, lambda: now)
    return await cookies.begin(Account(person.id, person.login, "User"))


async def test_one_that_is_being_made_shows_how_far_it_is(ada: Browser, shared: Stage) -> None:
    """By itself, without a script."""
    half = DataExport(uuid4(), "asked", "ada", datetime.now(UTC), percent=40)
    async with shared.house.store.transaction(shared.installation) as transaction:
        await transaction.put_export(half)
    try:
        page = await ada.get(at(shared, f"/{half.id}"))
        assert REFRESH in page.text
        assert '<progress max="100" value="40" aria-label="How much is written">40 %</progress>' in page.text
        told = await ada.api("GET", f"/installations/{shared.installation}/exports/{half.id}")
        assert (told.json()["state"], told.json()["percent"]) == ("asked", 40)
    finally:
        async with shared.house.store.transaction(shared.installation) as transaction:
            await transaction.remove_export(half.id)
    page = await made(ada, shared)
    assert "<progress" not in page.text
