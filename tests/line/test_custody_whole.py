"""An installation's whole life as its people see it: on GitHub, in a browser, and with the tools that need no service."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Any

import httpx
import psycopg
import pytest
from psycopg import sql
from typer.testing import CliRunner

from app import retaining
from app.actionlog.anchors import quoted_heads
from app.cli import cli
from app.custody.receipt import read_receipt
from app.house import House
from app.nouns import Erasure
from infra.models.playbook import Playbook
from infra.simulator.model.serve import running as running_model
from tests.app.web.browser import Browser, opened
from tests.line.conftest import Stages
from tests.line.conversations import ASK, BODY, TITLE, create, finish, ours, playbook, scenario
from tests.line.seen import comment_of_ours, until
from tests.line.stage import Stage

LOCAL = {"MAGICODE_MODEL_HOSTS": "127.0.0.1"}
OWN = "sk-of-this-customer-alone-0123456789-wxYZ"
SECRET = "quincunx"
PATH = "hushhush/NOTES.md"


def book() -> Playbook:
    """Writes a note; where the request says `slowly`, for as long as anybody waits."""
    slow = create(PATH, f"{SECRET}\n") | {"slow": {"seconds": 120}}
    return playbook(
        scenario(slow, finish(), when="slowly"), scenario(create(PATH, f"{SECRET}\n"), finish("Write it"))
    )


@pytest.fixture
async def stage(raise_stage: Stages, sample: Path) -> Stage:
    """acme is an organization that ada owns; sol a person with an installation of their own."""
    stage = await raise_stage({"octo/fairshare": sample}, book(), environ=LOCAL)
    await stage.github.add_account("sol", {"own": sample}, people={"wim": "write"})
    await stage.github.add_account(
        "acme", {"shop": sample}, owners=["ada"], people={"wim": "write", "rita": "read"}
    )
    await stage.settled()
    return stage


def at(stage: Stage, repository: str) -> Stage:
    """The same service, seen from another repository."""
    return replace(stage, repository=repository)


async def asked(stage: Stage, words: str = ASK, *, user: str = "wim", body: str = BODY) -> int:
    number = await stage.open_issue(TITLE, body, user="wim")
    await stage.comment(number, words, user=user)
    return number


async def fixed(stage: Stage, body: str = BODY) -> int:
    """The number of an issue whose pull request is open, by what its status comment says."""
    number = await asked(stage, body=body)
    await comment_of_ours(stage, number, "**Pull request opened**")
    return number


async def requests_of(url: str) -> list[Mapping[str, Any]]:
    async with httpx.AsyncClient(trust_env=False) as client:
        return list((await client.get(f"{url}/_simulator/requests")).json())


async def prompted(url: str) -> int:
    """How often a model was asked for something."""
    return sum(one["path"] == "/v1/messages" for one in await requests_of(url))


def link_to(stage: Stage, body: str, what: str) -> str:
    """The path of the one link that a comment holds to a page of ours."""
    (found,) = {
        one.removeprefix(stage.url) for one in re.findall(r"\((http[^)\s]+)\)", body) if f"/{what}" in one
    }
    return found


async def said_by_us(stage: Stage) -> str:
    """Every comment of ours in the repository, and the bodies of our pull requests, as GitHub's API answers them."""
    pulls = await stage.pulls()
    comments = []
    for number in range(1, await _newest(stage) + 1):
        comments += await stage.comments(number)
    return json.dumps([one for one in (*comments, *pulls) if one["user"]["login"] == "magicode[bot]"])


async def _newest(stage: Stage) -> int:
    """The highest number that an issue or a pull request has: what is opened next has the one behind it."""
    return await stage.open_issue("The last one") - 1


def magicode(*arguments: object) -> tuple[int, dict[str, Any]]:
    """A command that needs no service, as `--json` answers it."""
    done = CliRunner().invoke(cli, [*map(str, arguments), "--json"])
    return done.exit_code, json.loads(done.stdout)


def verified(log: Path, heads: Path) -> None:
    """Sound and whole, and every head that is quoted there is one of it."""
    code, report = magicode("actions", "verify", log, "--anchors", heads)
    assert (code, report["whole"]) == (0, True), report
    assert report["anchors"] == len(quoted_heads(heads.read_text())) > 1


# --- what the owner of the database finds ----------------------------------------------------------------------------


def rows(owner_url: str, tenant: int) -> dict[str, list[str]]:
    """The rows of a tenant in every table that has such a column, as text."""
    found: dict[str, list[str]] = {}
    with psycopg.connect(owner_url) as connection:
        for schema, table in connection.execute(
            "SELECT table_schema, table_name FROM information_schema.columns JOIN information_schema.tables "
            "USING (table_schema, table_name) WHERE column_name = 'installation_id' AND table_type = 'BASE TABLE'"
        ).fetchall():
            name = sql.Identifier(schema, table)
            query = sql.SQL("SELECT t::text FROM {} t WHERE installation_id = %s ORDER BY 1").format(name)
            found[f"{schema}.{table}"] = [row[0] for row in connection.execute(query, [tenant]).fetchall()]
    return {name: lines for name, lines in found.items() if lines}


def told_of(owner_url: str, words: Sequence[str]) -> dict[str, int]:
    """In which tables, all schemas, a word stands as a whole, in any column; and in how many rows."""
    pattern = rf"\y({'|'.join(re.escape(one) for one in words)})\y"
    found: dict[str, int] = {}
    with psycopg.connect(owner_url) as connection:
        for schema, table in connection.execute(
            "SELECT schemaname, tablename FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
        ).fetchall():
            query = sql.SQL("SELECT count(*) FROM {} t WHERE t::text ~* %s").format(
                sql.Identifier(schema, table)
            )
            ((count,),) = connection.execute(query, [pattern]).fetchall()
            if count:
                found[f"{schema}.{table}"] = count
    return found


def shelves(stage: Stage) -> set[str]:
    """What lies in Qdrant."""
    return {str(path) for path in (stage.folder / "data" / "qdrant").rglob("*") if path.is_file()} - {
        str(path) for path in (stage.folder / "data" / "qdrant").glob("*")
    }


# --- from the first installation to the last receipt -----------------------------------------------------------------


@pytest.mark.long
async def test_a_customer_comes_works_looks_takes_everything_along_and_is_forgotten(
    stage: Stage, database: Any, tmp_path: Path
) -> None:
    acme, sol = at(stage, "acme/shop"), at(stage, "sol/own")
    await fixed(sol)
    first = await fixed(acme)
    tenant = await _they_choose(acme, first)
    async with opened(stage) as browser, running_model(book(), api_key=OWN) as theirs:
        await browser.sign_in("ada")
        await _their_own_key_pays(acme, browser, tenant, theirs)
        await _they_withdraw(acme, first, theirs)
        await _they_read_the_log(acme, browser, first)
        log_head = await _they_take_everything_along(acme, browser, first, tmp_path)
        before, shelved = rows(database.owner_url, min(await _tenants(stage, "sol"))), shelves(stage)
        receipt = await _they_delete(acme, first, tmp_path)
    assert int(receipt["log_head"].split(":")[0]) > log_head
    _nothing_is_left(stage, database.owner_url, tenant, receipt)
    assert shelves(stage) < shelved
    after = rows(database.owner_url, min(await _tenants(stage, "sol")))
    assert after == before, "another account's rows are as they were"
    await _the_others_log_is_sound(sol, tmp_path)
    await _a_comment_starts_nothing(acme, first, database.owner_url, tenant)
    await _they_begin_afresh(acme, tenant, first, tmp_path)


async def _tenants(stage: Stage, login: str) -> Sequence[int]:
    return await stage.house.store.tenants_of_account(stage.github.account(login).id)


async def _they_choose(acme: Stage, number: int) -> int:
    """Settings, looked at and changed in comments. Returns the installation's id, which the pages go by."""
    await acme.comment(number, "@magicode settings", user="ada")
    shown = await comment_of_ours(acme, number, "**Settings**", "| `keep-runs` | `12 months` |")
    for said in ("No code, no prompt and no comment is kept here", "region", "30 days"):
        assert said in shown["body"]
    await acme.comment(number, "@magicode settings keep-runs 6 months", user="ada")
    await comment_of_ours(acme, number, "`keep-runs` is `6 months` now; it was `12 months`")
    await acme.comment(number, "@magicode logs")
    logs = await comment_of_ours(acme, number, "All entries, with their details")
    found = re.search(r"/installations/([0-9]+)/actions", logs["body"])
    assert found is not None
    return int(found[1])


async def _their_own_key_pays(acme: Stage, browser: Browser, tenant: int, theirs: str) -> None:
    found = await browser.get("/installations?account=acme")
    assert found.url.path == f"/installations/{tenant}"
    page = await browser.get(f"/installations/{tenant}/settings")
    assert 'value="6 months"' in page.text, "what the comment changed"
    form = f"/installations/{tenant}/provider-keys"
    kept = await browser.submit(page, form, provider="anthropic", key=OWN, base_url=theirs)
    assert kept.status_code == 200
    assert "…wxYZ" in kept.text
    assert OWN not in kept.text
    before = await prompted(acme.model_url)
    await fixed(acme)
    assert await prompted(theirs) > 0
    assert await prompted(acme.model_url) == before, "the service's own key paid for nothing"


async def _they_withdraw(acme: Stage, number: int, theirs: str) -> None:
    """The provider, while it is writing an answer."""
    before = await prompted(theirs)
    pulls = len(await acme.pulls())
    slow = await asked(acme, body="Please do it slowly.")

    async def at_work() -> bool:
        return await prompted(theirs) > before

    await until(at_work)
    await acme.comment(number, "@magicode settings providers openai", user="ada")
    began = monotonic()
    stopped = await comment_of_ours(acme, slow, "**Cancelled**", "no longer allows")
    assert monotonic() - began < 15, "the answer would have taken two minutes"
    assert "**Next:**" in stopped["body"]
    sent = await prompted(theirs)
    await asyncio.sleep(1)
    assert (await prompted(theirs), len(await acme.pulls())) == (sent, pulls)
    refused = await asked(acme)
    await comment_of_ours(acme, refused, "Nothing was sent to any model")
    assert await prompted(theirs) == sent


async def _they_read_the_log(acme: Stage, browser: Browser, number: int) -> None:
    """In public figures alone; behind the link, after signing in, the entries; for strangers nothing."""
    await acme.comment(number, "@magicode logs", user="wim")
    said = await comment_of_ours(acme, number, "All entries, with their details", "`model.called`")
    for private in (SECRET, PATH, "hushhush", OWN, "wxYZ"):
        assert private not in said["body"]
    link = link_to(acme, said["body"], "actions")
    page = await browser.get(link)
    assert page.status_code == 200
    assert "model.called" in page.text
    async with opened(acme) as nobody:
        turned = await nobody.get(link, follow=False)
        assert (turned.status_code, "/signin" in turned.headers["location"]) == (303, True)
    for login, status in (("rita", 404), ("sol", 404), ("wim", 200)):
        async with opened(acme) as somebody:
            await somebody.sign_in(login)
            assert (await somebody.get(link)).status_code == status, login


async def _they_take_everything_along(acme: Stage, browser: Browser, number: int, folder: Path) -> int:
    """The export, checked with nothing but itself and what stands on GitHub. Returns the number of its last entry."""
    heads, later = folder / "said.json", folder / "said-later.json"
    heads.write_text(await said_by_us(acme))
    await acme.comment(number, "@magicode export", user="ada")
    said = await comment_of_ours(acme, number, "/exports/", "SHA-256 of the ZIP")
    assert "shop" not in said["body"].replace(f"{acme.url}/", "")
    link = link_to(acme, said["body"], "exports")
    page = await browser.get(link)
    assert f"{link}/download" in page.text
    file = await browser.get(f"{link}/download")
    assert file.headers["content-type"] == "application/zip"
    assert hashlib.sha256(file.content).hexdigest() in said["body"]
    async with opened(acme) as outsider:
        await outsider.sign_in("wim")
        assert (await outsider.get(f"{link}/download")).status_code == 404

    with zipfile.ZipFile(io.BytesIO(file.content)) as archive:
        assert archive.testzip() is None
        archive.extractall(folder / "export")
    manifest = json.loads((folder / "export" / "manifest.json").read_text())
    there = {path.name: path for path in (folder / "export").iterdir()}
    assert {one["name"] for one in manifest["files"]} == there.keys() - {"manifest.json"}
    for one in manifest["files"]:
        assert hashlib.sha256(there[one["name"]].read_bytes()).hexdigest() == one["sha256"], one["name"]
    readme = next(path for name, path in there.items() if name.startswith("README")).read_text()
    for name in there:
        assert name in readme, f"{name} is explained nowhere"
    for path in there.values():
        content = path.read_text()
        assert SECRET not in content, path.name
        assert OWN not in content, path.name
    verified(folder / "export" / "actions.jsonl", heads)
    later.write_text(await said_by_us(acme))
    code, report = magicode("actions", "verify", folder / "export" / "actions.jsonl", "--anchors", later)
    assert code == 1
    assert "unless that was quoted after this log was handed out" in json.dumps(report["findings"])
    anew = await browser.get(f"{link.partition('/exports/')[0]}/actions/download?format=jsonl")
    (folder / "anew.jsonl").write_text(anew.text)
    verified(folder / "anew.jsonl", later)
    return int(manifest["log_head"].split(":")[0])


async def _they_delete(acme: Stage, number: int, folder: Path) -> dict[str, Any]:
    await acme.comment(number, "@magicode delete", user="ada")
    told = await comment_of_ours(acme, number, "**Not deleted yet**", "`delete acme`")
    assert "1 key of a model provider" in told["body"]
    await acme.comment(number, "@magicode delete acne", user="ada")
    await comment_of_ours(acme, number, "you wrote `acne`, and the account is `acme`")
    await acme.comment(number, "@magicode delete acme", user="ada")
    said = await comment_of_ours(acme, number, "**Deleted.**", "magicode-receipt/1")
    async with httpx.AsyncClient(trust_env=False) as client:
        published = await client.get(f"{acme.url}/.well-known/magicode-receipts.json")
    comment, key = folder / "comment.md", folder / "keys.json"
    comment.write_text(said["body"])
    key.write_text(published.text)
    code, verdict = magicode("data", "verify-receipt", comment, "--public-key", key)
    assert (code, verdict["ok"], verdict["key_known"]) == (0, True, True)
    comment.write_text(said["body"].replace('"reason": "asked"', '"reason": "uninstalled"'))
    assert magicode("data", "verify-receipt", comment, "--public-key", key)[0] == 1
    receipt = read_receipt(said["body"])
    destroyed = receipt["destroyed"]
    assert destroyed["rows"]["provider_keys"] == 1
    assert destroyed["rows"]["data_keys"] == 1
    assert destroyed["vectors"] > 0
    assert destroyed["objects"] == 1
    return receipt


def _nothing_is_left(stage: Stage, owner_url: str, tenant: int, receipt: Mapping[str, Any]) -> None:
    account = stage.github.account("acme").id
    repository = stage.github.world.repository("acme/shop")
    assert repository is not None
    assert rows(owner_url, tenant).keys() <= {"magicode.erasures"}
    named = [str(tenant), str(account), str(repository.id), "acme", "shop"]
    assert told_of(owner_url, named) == {"magicode.erasures": 1}, "the tombstone with the receipt alone"
    with psycopg.connect(owner_url) as connection:
        ((kept,),) = connection.execute(
            "SELECT receipt FROM magicode.erasures WHERE installation_id = %s", [tenant]
        ).fetchall()
    assert json.loads(kept) == receipt
    exports = stage.folder / "data" / "exports"
    assert [path for path in exports.rglob("*") if path.is_file()] == []


async def _the_others_log_is_sound(sol: Stage, folder: Path) -> None:
    async with opened(sol) as browser:
        await browser.sign_in("sol")
        (link,) = re.findall(r"/installations/[0-9]+", (await browser.get("/installations")).text)
        log = await browser.get(f"{link}/actions/download?format=jsonl")
    (folder / "sol.jsonl").write_text(log.text)
    (folder / "sol.json").write_text(await said_by_us(sol))
    verified(folder / "sol.jsonl", folder / "sol.json")


async def _a_comment_starts_nothing(acme: Stage, number: int, owner_url: str, tenant: int) -> None:
    before = len(await ours(acme, number))
    await acme.comment(number, ASK)
    await acme.settled()
    await asyncio.sleep(1)
    assert len(await ours(acme, number)) == before
    assert rows(owner_url, tenant).keys() <= {"magicode.erasures"}


async def _they_begin_afresh(acme: Stage, tenant: int, old: int, folder: Path) -> None:
    acme.github.uninstall("acme")
    acme.github.install("acme")
    await acme.settled()
    number = await fixed(acme)
    await acme.comment(number, "@magicode settings", user="ada")
    await comment_of_ours(
        acme, number, "**Settings**", "| `keep-runs` | `12 months` |", "this service's key pays"
    )
    await acme.comment(number, "@magicode logs", user="ada")
    said = await comment_of_ours(acme, number, "All entries, with their details")
    link = link_to(acme, said["body"], "actions").partition("?")[0]
    assert f"/{tenant}/" not in link
    async with opened(acme) as browser:
        await browser.sign_in("ada")
        log = folder / "afresh.jsonl"
        log.write_text((await browser.get(f"{link}/download?format=jsonl")).text)
        assert (await browser.get(f"/installations/{tenant}")).status_code == 404
    assert json.loads(log.read_text().splitlines()[0])["seq"] == 1
    code, report = magicode("actions", "verify", log)
    assert (code, report["whole"]) == (0, True)
    assert len([one for one in await ours(acme, old) if "**Deleted.**" in one]) == 1


# --- away, and back again --------------------------------------------------------------------------------------------


def later(house: House, days: float) -> House:
    return replace(house, clock=lambda: datetime.now(UTC) + timedelta(days=days))


async def swept(stage: Stage, days: float) -> None:
    """What the worker's hourly look does, so much later."""
    await retaining.sweep_house(later(stage.house, days))


async def tombstone(stage: Stage, tenant: int) -> Erasure | None:
    async with stage.house.store.transaction(tenant, erasing=True) as transaction:
        return await transaction.erasure()


async def destroyed(stage: Stage, tenant: int, folder: Path) -> Erasure:
    """What remains, once its receipt holds against the key that the service publishes."""

    async def over() -> Erasure | None:
        found = await tombstone(stage, tenant)
        return found if found is not None and found.ended_at is not None else None

    found: Erasure = await until(over)
    async with httpx.AsyncClient(trust_env=False) as client:
        published = await client.get(f"{stage.url}/.well-known/magicode-receipts.json")
    receipt, key = folder / "receipt.json", folder / "keys.json"
    receipt.write_text(found.receipt or "")
    key.write_text(published.text)
    code, verdict = magicode("data", "verify-receipt", receipt, "--public-key", key)
    assert (code, verdict["ok"], verdict["key_known"]) == (0, True, True)
    return found


async def left(stage: Stage) -> None:
    stage.github.uninstall("acme")
    await stage.settled()


async def came_back(stage: Stage) -> None:
    stage.github.install("acme")
    await stage.settled()


async def settle_for(stage: Stage, words: str, said: str) -> None:
    number = await asked(stage, f"@magicode settings {words}", user="ada")
    await comment_of_ours(stage, number, said)


async def entries(stage: Stage, browser: Browser, tenant: int, kind: str) -> list[dict[str, Any]]:
    answer = await browser.api("GET", f"/installations/{tenant}/actions?kind={kind}&limit=1000")
    assert answer.status_code == 200, answer.text
    return list(answer.json()["entries"])


@pytest.mark.long
async def test_who_leaves_finds_everything_again_within_ninety_days_and_nothing_after(
    stage: Stage, database: Any, tmp_path: Path
) -> None:
    acme = at(stage, "acme/shop")
    await fixed(acme)
    await settle_for(acme, "keep-runs 6 months", "`keep-runs` is `6 months` now")
    (tenant,) = await _tenants(stage, "acme")
    async with opened(stage) as browser, running_model(book(), api_key=OWN) as theirs:
        await browser.sign_in("ada")
        page = await browser.get(f"/installations/{tenant}/settings")
        form = f"/installations/{tenant}/provider-keys"
        await browser.submit(page, form, provider="anthropic", key=OWN, base_url=theirs)
        slow = await asked(acme, body="Please do it slowly.")

        async def at_work() -> bool:
            return await prompted(theirs) > 0

        await until(at_work)
        await _they_leave_in_the_middle(acme, browser, tenant, slow, theirs)
        await came_back(acme)
        await _they_find_everything_again(acme, browser, tenant, theirs, tmp_path)
    await _they_leave_for_good(acme, tenant, database.owner_url, tmp_path)


async def _they_leave_in_the_middle(
    acme: Stage, browser: Browser, tenant: int, slow: int, theirs: str
) -> None:
    said = await ours(acme, slow)
    began = monotonic()
    await left(acme)

    async def stopped() -> bool:
        ends = await entries(acme, browser, tenant, "run.ended")
        return bool(ends[-1]["details"]["state"] == "cancelled")

    await until(stopped)
    assert monotonic() - began < 15, "the answer would have taken two minutes"
    sent = await prompted(theirs)
    await acme.comment(slow, ASK)
    await acme.settled()
    await asyncio.sleep(1)
    assert await prompted(theirs) == sent
    assert await ours(acme, slow) == said, "nobody can be told anything"


async def _they_find_everything_again(
    acme: Stage, browser: Browser, tenant: int, theirs: str, folder: Path
) -> None:
    (present,) = [one.id for one in acme.github.world.installations.values() if one.account_id == _id(acme)]
    assert present != tenant, "GitHub's id is another one"
    before = await prompted(theirs)
    await fixed(acme)
    assert await prompted(theirs) > before, "by their own key, which is still there"
    first, *_, last = (one["details"] for one in await entries(acme, browser, tenant, "index.updated"))
    assert first["embedded"] > 0
    assert (last["embedded"], last["reused"] > 0) == (0, True), "by the vectors that are still there"
    number = await asked(acme, "@magicode settings", user="ada")
    await comment_of_ours(acme, number, "| `keep-runs` | `6 months` |", "`…wxYZ`")
    runs = await browser.get(f"/installations/{tenant}")
    assert "paused" not in runs.text
    log, heads = folder / "one.jsonl", folder / "one.json"
    heads.write_text(await said_by_us(acme))
    log.write_text((await browser.get(f"/installations/{tenant}/actions/download?format=jsonl")).text)
    verified(log, heads)
    changes = [
        json.loads(line)["details"]["reason"]
        for line in log.read_text().splitlines()
        if json.loads(line)["action"] == "installation.changed"
    ]
    assert changes == ["created", "deleted", "installed_again"]


def _id(stage: Stage) -> int:
    return stage.github.account("acme").id


async def _they_leave_for_good(acme: Stage, tenant: int, owner_url: str, folder: Path) -> None:
    await settle_for(acme, "legal-hold on", "`legal-hold` is `on")
    await left(acme)
    for days in (91, 300):  # those who stay keep their log for longer, and by the database's clock
        await swept(acme, days)
    assert await tombstone(acme, tenant) is None, "a legal hold stops it"
    await came_back(acme)
    await settle_for(acme, "legal-hold off", "`legal-hold` is `off`")
    await left(acme)
    await swept(acme, 89)
    assert await tombstone(acme, tenant) is None
    assert "magicode.runs" in rows(owner_url, tenant)
    await swept(acme, 91)
    found = await destroyed(acme, tenant, folder)
    _nothing_is_left(acme, owner_url, tenant, json.loads(found.receipt or ""))
    assert found.reason == "uninstalled"
    await came_back(acme)
    number = await fixed(acme)
    await acme.comment(number, "@magicode settings", user="ada")
    await comment_of_ours(acme, number, "| `keep-runs` | `12 months` |", "this service's key pays")


@pytest.mark.long
async def test_a_plan_that_ended_stops_the_work_and_thirty_days_later_destroys_what_was_kept(
    stage: Stage, database: Any, tmp_path: Path
) -> None:
    acme = at(stage, "acme/shop")
    first = await fixed(acme)
    (tenant,) = await _tenants(stage, "acme")
    stage.github.change_plan("acme", "cancelled")
    await stage.settled()
    refused = await asked(acme)
    await comment_of_ours(acme, refused, "**Not done**", "plan on GitHub's Marketplace has ended", "`export`")
    for words, said in (
        ("settings", "**Settings**"),
        ("logs", "All entries, with their details"),
        ("export", "SHA-256 of the ZIP"),
        ("delete", "**Not deleted yet**"),
    ):
        await acme.comment(first, f"@magicode {words}", user="ada")
        await comment_of_ours(acme, first, said)
    stage.github.change_plan("acme", "purchased")
    await stage.settled()
    await fixed(acme)
    stage.github.change_plan("acme", "cancelled")
    await stage.settled()
    await swept(acme, 28)
    assert await tombstone(stage, tenant) is None
    await swept(acme, 30)
    found = await destroyed(stage, tenant, tmp_path)
    assert found.reason == "plan_cancelled"
    _nothing_is_left(stage, database.owner_url, tenant, json.loads(found.receipt or ""))


@pytest.mark.long
async def test_after_its_plan_ended_an_account_still_deletes_itself(stage: Stage, tmp_path: Path) -> None:
    acme = at(stage, "acme/shop")
    (tenant,) = await _tenants(stage, "acme")
    stage.github.change_plan("acme", "cancelled")
    await stage.settled()
    number = await asked(acme, "@magicode delete", user="ada")
    await comment_of_ours(acme, number, "**Not deleted yet**")
    await acme.comment(number, "@magicode delete acme", user="ada")
    await comment_of_ours(acme, number, "**Deleted.**", "magicode-receipt/1")
    assert (await destroyed(stage, tenant, tmp_path)).reason == "asked"
