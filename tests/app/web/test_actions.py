"""The log on a page: filtered, turned page by page, downloaded, verified; and one run's entries for who may write."""

from __future__ import annotations

import asyncio
import html
import io
import re
from typing import Any

import pytest

from app.actionlog.verify import parse, verify, verify_stream
from app.jobs.accept import NOBODY
from app.nouns import Action
from tests.app.web.browser import Browser, opened
from tests.line import accounts
from tests.line.conversations import ask
from tests.line.stage import Stage
from tests.line.test_log_complete import close_own, quiet

pytestmark = pytest.mark.asyncio(loop_scope="module")


def at(stage: Stage, path: str = "") -> str:
    return f"/installations/{stage.installation}/actions{path}"


def numbers(page: Any) -> list[int]:
    return [int(seq) for seq in re.findall(r'<tr id="e([0-9]+)">', page.text)]


def link(page: Any, label: str) -> str | None:
    found = re.search(rf'href="([^"]*)">{label}</a>', page.text)
    return html.unescape(found[1]) if found else None


async def longer(stage: Stage, count: int) -> None:
    for at in range(count):
        await stage.house.ledger.record(
            stage.installation, Action.MODEL_CALLED, "tess" if at % 2 else "magicode", None, {"n": at}
        )


async def test_all_entries_are_met_once_while_going_back(ada: Browser, shared: Stage) -> None:
    await longer(shared, 230)
    page = await ada.get(at(shared))
    head = (await shared.house.ledger.head(shared.installation)).seq
    met = numbers(page)
    assert met == list(range(head, head - 100, -1))
    while (older := link(page, "Older entries")) is not None:
        page = await ada.get(older)
        met += numbers(page)
    assert met == list(range(head, 0, -1))
    newer = await ada.get(link(page, "Newer entries") or "")
    assert numbers(newer)[-1] == numbers(page)[0] + 1


async def test_a_part_is_met_once_while_going_on(ada: Browser, shared: Stage) -> None:
    await longer(shared, 230)
    page = await ada.get(at(shared, "?kind=model.called&actor=TESS"))
    met = numbers(page)
    while (later := link(page, "Later entries")) is not None:
        page = await ada.get(later)
        met += numbers(page)
    wanted = [one.seq for one in await shared.log() if (one.actor, one.action) == ("tess", "model.called")]
    assert len(wanted) > 100
    assert met == wanted


@pytest.mark.parametrize(
    "query",
    ["since=yesterday", "kind=nothing", "run=x", "after=-1&kind=model", "repository=octo/none", "actor=a b"],
)
async def test_what_cannot_be_read_is_said(ada: Browser, shared: Stage, query: str) -> None:
    page = await ada.get(at(shared, f"?{query}"))
    assert page.status_code == 400
    assert 'role="alert"' in page.text


async def test_a_repository_is_named_as_people_know_it(ada: Browser, shared: Stage) -> None:
    done = len([run for run in await shared.runs() if run.state.ended])
    await ask(shared)
    run = (await shared.ended(done + 1))[-1]
    named = await ada.get(at(shared, "?repository=Octo/FairShare"))
    assert numbers(named)
    by_id = numbers(await ada.get(at(shared, f"?repository={run.repository_id}")))
    assert by_id[: len(numbers(named))] == numbers(named)


async def test_each_download_can_be_verified_and_is_written_down(ada: Browser, shared: Stage) -> None:
    for form in ("json", "jsonl", "csv"):
        file = await ada.get(at(shared, f"/download?format={form}"))
        assert (
            f'filename="magicode-actions-{shared.installation}.{form}"' in file.headers["content-disposition"]
        )
        report = verify_stream(io.StringIO(file.text, newline=""))
        assert report.ok
        assert report.whole
        taken = [one for one in parse(file.text) if (one.action, one.actor) == ("data.exported", "ada")]
        assert (taken[-1].details or {})["format"] == form
    part = verify_stream(io.StringIO((await ada.get(at(shared, "/download?kind=model"))).text, newline=""))
    assert part.ok
    assert not part.whole
    text = await ada.get(at(shared, "/download?format=text"))
    assert text.headers["content-type"] == "text/plain; charset=utf-8"
    assert (await ada.get(at(shared, "/download?format=xml"))).status_code == 400


async def test_salts_leave_in_downloads_alone(ada: Browser, shared: Stage) -> None:
    await longer(shared, 1)
    salts = [one.salt for one in await shared.log() if one.salt]
    pages = [(await ada.get(at(shared))).text, (await ada.api("GET", at(shared, "?limit=1000"))).text]
    assert not [salt for salt in salts if any(salt in page for page in pages)]
    assert salts[0] in (await ada.api("GET", at(shared, "/download"))).text


async def test_the_chain_is_recomputed_before_ones_eyes(ada: Browser, shared: Stage) -> None:
    async with asyncio.timeout(120):
        before = None
        while before != (head := await shared.house.ledger.head(shared.installation)):
            before = (
                head  # a look and the rounds are written down as well: the page of a log at rest is meant
            )
            page = await ada.get(at(shared))
    assert str(head) in page.text
    sound = await ada.submit(page, at(shared, "/verify"), heads=f"{head}")
    assert sound.status_code == 200
    assert "<strong>Sound</strong>" in sound.text
    assert "Compared with 1 quoted heads" in sound.text
    forged = await ada.submit(page, at(shared, "/verify"), heads=f"{head.seq}:{'0' * 64}")
    assert "NOT sound" in forged.text
    assert (await ada.submit(page, at(shared, "/verify"), heads="x")).status_code == 400


async def test_who_may_write_sees_the_entries_of_one_run_and_no_other(shared: Stage) -> None:
    done = len([run for run in await shared.runs() if run.state.ended])
    await ask(shared)
    run = (await shared.ended(done + 1))[-1]
    async with opened(shared) as browser:
        await browser.sign_in("wim")
        page = await browser.get(at(shared, f"?run={run.id}"))
        assert page.status_code == 200, page.text
        entries = {one.seq: one for one in await shared.log()}
        assert numbers(page)
        assert all(entries[seq].run_id == str(run.id) for seq in numbers(page))
        more = await browser.get(at(shared, f"?run={run.id}&repository=1&actor=ada"))
        assert numbers(more)[: len(numbers(page))] == numbers(page), "no other filter is looked at"
        file = await browser.get(at(shared, f"/download?run={run.id}&format=jsonl"))
        assert {one.run_id for one in parse(file.text)} == {str(run.id)}
        assert verify(parse(file.text), whole=False).ok
        by_api = await browser.api("GET", at(shared, f"?run={run.id}&repository=1"))
        assert {one["run_id"] for one in by_api.json()["entries"]} == {str(run.id)}
        for path in ("", "?run=x", "/download"):
            assert (await browser.api("GET", at(shared, path))).status_code == 404
        assert (await browser.get(at(shared))).status_code == 404
        assert (await browser.get(at(shared, "/download"))).status_code == 404
        assert (await browser.get(at(shared, f"?run={run.id}&run="))).status_code == 404
        key = await browser.form_key()
        assert (await browser.post(at(shared, "/verify"), {"form_key": key})).status_code == 404
    looks = [one for one in await shared.log() if one.action == "data.looked" and one.actor == "wim"]
    assert [(one.details or {})["run"] for one in looks] == [str(run.id)]
    async with opened(shared) as browser:
        await browser.sign_in("rita")
        assert (await browser.get(at(shared, f"?run={run.id}"))).status_code == 404


async def test_every_question_to_github_about_access_is_written_down(ada: Browser, shared: Stage) -> None:
    await ada.get(at(shared))
    for user in ("wim", "rita"):
        async with opened(shared) as browser:
            await browser.sign_in(user)
            assert (await browser.get(at(shared))).status_code == 404
    entries = await shared.log()
    asked = [
        one for one in entries if one.action == "permission.checked" and (one.details or {}).get("scope")
    ]
    assert {(one.details or {})["login"] for one in asked} >= {"ada", "wim", "rita"}
    await quiet(shared)
    # Before the log is closed and read: what a round asks from now on need not stand in it yet.
    seen = accounts.recorded(shared)
    await close_own(shared)
    _, told = await accounts.said(shared)
    assert seen[shared.installation, accounts.MINT] >= 3, "one for each of the three people"
    ours = {what: count for what, count in (seen - told).items() if what[0] in (shared.installation, NOBODY)}
    assert ours == {}, "no request to GitHub is missing in the log"
