"""Deletion from the comment to the receipt, on GitHub alone."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from click.testing import Result
from typer.testing import CliRunner

from app.cli import cli
from app.custody.erase import LegalHoldError, Wish
from app.custody.receipt import FORMAT, Signer, fingerprint, read_public_keys, read_receipt, verify
from app.erasing import begin, erase
from app.nouns import Erasure, Run, RunState, StoredSettings
from infra.postgres.queue import WorkerLimits
from tests.app.custody.fuse import CrashError, Fuse, FusedGitHub
from tests.line.conftest import Stages
from tests.line.conversations import ask, create, finish, notes, ours, playbook, scenario
from tests.line.stage import Stage
from tests.line.test_once import a_worker_process, until


@pytest.fixture
async def stage(raise_stage: Stages, sample: Path) -> Stage:
    return await raise_stage({"octo/fairshare": sample}, notes())


@pytest.fixture
async def idle(raise_stage: Stages, sample: Path) -> Stage:
    """Accepts, and works when a test says so."""
    return await raise_stage({"octo/fairshare": sample}, notes(), working=False)


async def erasure_of(stage: Stage, tenant: int) -> Erasure | None:
    async with stage.house.store.transaction(tenant, erasing=True) as transaction:
        return await transaction.erasure()


async def erased(stage: Stage, tenant: int | None = None) -> Erasure:
    """The tombstone, once it is one."""
    async with asyncio.timeout(60):
        while True:
            found = await erasure_of(stage, stage.installation if tenant is None else tenant)
            if found is not None and found.ended_at is not None:
                return found
            await asyncio.sleep(0.05)


async def rows_left(stage: Stage) -> int:
    async with stage.house.store.transaction(stage.installation, erasing=True) as transaction:
        return sum((await transaction.row_counts()).values())


async def say(stage: Stage, number: int, words: str, *, user: str = "ada") -> Run:
    """The run that these words were."""
    count = len(await stage.runs())
    await stage.comment(number, f"@magicode {words}", user=user)
    return (await stage.ended(count + 1))[-1]


# --- the comments ----------------------------------------------------------------------------------------------------


async def test_two_comments_destroy_everything_and_leave_a_receipt(stage: Stage) -> None:
    number = await ask(stage)
    (first,) = await stage.ended()
    assert first.state is RunState.OPENED
    qdrant = stage.folder / "data" / "qdrant"
    assert list(qdrant.rglob("storage.sqlite")), "there is an index to be destroyed"

    told = await say(stage, number, "delete")
    assert (told.state, told.reason) == (RunState.ANSWERED, "delete_announced")
    said = (await ours(stage, number))[-1]
    assert "**Not deleted yet**" in said
    assert "2 requests with their figures" in said
    assert "vectors of the index" in said
    assert "`delete octo`" in said
    assert "gone by" in said

    await stage.comment(number, "@magicode delete OCTO", user="ada")
    erasure = await erased(stage)
    *_, deleting, receipt = await ours(stage, number)
    assert "**Deleting**" in deleting
    assert "**Deleted.**" in receipt
    assert not list(qdrant.rglob("storage.sqlite"))
    assert await rows_left(stage) == 0

    async with httpx.AsyncClient(trust_env=False) as client:
        published = (await client.get(f"{stage.url}/.well-known/magicode-receipts.json")).text
    document = read_receipt(receipt)
    verdict = verify(document, read_public_keys(published))
    assert verdict.ok
    assert verdict.key_known
    assert document["destroyed"]["rows"]["runs"] == 3
    assert document["destroyed"]["vectors"] > 0
    assert json.loads(erasure.receipt or "") == document
    assert (erasure.asked_by, erasure.number) == (None, None)


async def test_what_is_not_a_confirmation_deletes_nothing_and_is_answered(stage: Stage) -> None:
    number = await stage.open_issue("Delete", user="ada")
    never = await say(stage, number, "delete octo")
    assert never.reason == "delete_announced", "named before anything was told"
    assert "written once more" in (await ours(stage, number))[-1]
    other = await say(stage, number, "delete octopus")
    assert (other.state, other.reason) == (RunState.ANSWERED, "delete_wrong_name")
    assert "`octopus`" in (await ours(stage, number))[-1]
    elsewhere = await stage.open_issue("Elsewhere", user="ada")
    assert (await say(stage, elsewhere, "delete octo")).reason == "delete_announced"
    assert await erasure_of(stage, stage.installation) is None


async def test_a_confirmation_that_comes_late_is_told_once_more(raise_stage: Stages, sample: Path) -> None:
    stage = await raise_stage({"octo/fairshare": sample}, notes(), working=False)
    later = timedelta(0)
    house = replace(stage.house, clock=lambda: stage.house.clock() + later)
    early = Stage(stage.github, house, stage.url, stage.repository, stage.model_url)
    async with early.at_work():
        number = await stage.open_issue("Delete", user="ada")
        assert (await say(stage, number, "delete")).reason == "delete_announced"
        later = timedelta(minutes=61)
        assert (await say(stage, number, "delete octo")).reason == "delete_announced"
        assert await erasure_of(stage, stage.installation) is None
        await stage.comment(number, "@magicode delete octo", user="ada")
        await erased(stage)


@pytest.mark.parametrize("user", ["wim", "rita"])
async def test_who_does_not_administer_deletes_nothing(stage: Stage, user: str) -> None:
    number = await stage.open_issue("Delete", user="ada")
    await say(stage, number, "delete")
    refused = await say(stage, number, "delete octo", user=user)
    assert (refused.state, refused.reason) == (RunState.REFUSED, "not_an_administrator")
    assert await erasure_of(stage, stage.installation) is None


async def test_who_administers_one_repository_of_several_deletes_nothing(
    raise_stage: Stages, sample: Path
) -> None:
    stage = await raise_stage({"octo/fairshare": sample}, notes())
    await stage.github.add_account(
        "acme", {"one": sample, "two": sample}, owners=["olga"], people={"ada": "write"}
    )
    await stage.settled()
    world = stage.github.world
    one = world.repository("acme/one")
    assert one is not None
    one.collaborators["ada"] = "admin"
    tenant = max(world.installations)
    number = await stage.open_issue("Delete", user="ada", repository="acme/one")
    await stage.comment(number, "@magicode delete", user="ada", repository="acme/one")
    async with asyncio.timeout(30):
        while not (runs := await runs_of(stage, tenant)) or not runs[0].state.ended:
            await asyncio.sleep(0.05)
    assert runs[0].reason == "not_an_administrator"
    await stage.comment(number, "@magicode delete", user="olga", repository="acme/one")
    async with asyncio.timeout(30):
        while (runs := await runs_of(stage, tenant))[0].reason != "delete_announced":
            await asyncio.sleep(0.05)


async def runs_of(stage: Stage, tenant: int) -> list[Run]:
    async with stage.house.store.transaction(tenant) as transaction:
        return list(await transaction.runs())


async def test_a_comment_that_was_edited_since_confirms_nothing(idle: Stage) -> None:
    number = await idle.open_issue("Delete", user="ada")
    async with idle.at_work():
        await say(idle, number, "delete")
    comment = await idle.comment(number, "@magicode delete", user="ada")
    await idle.settled()
    answer = await idle.client("wim").patch(
        f"/repos/{idle.repository}/issues/comments/{comment}", json={"body": "@magicode delete octo"}
    )
    answer.raise_for_status()
    async with idle.at_work():
        run = (await idle.ended(2))[1]
    assert run.reason == "edited_since"
    assert await erasure_of(idle, idle.installation) is None


async def test_a_legal_hold_refuses_it_and_says_whose_it_is(stage: Stage) -> None:
    number = await stage.open_issue("Delete", user="ada")
    await say(stage, number, "delete")
    async with stage.house.store.transaction(stage.installation) as transaction:
        await transaction.put_settings(StoredSettings("{}", True, "lea", stage.house.clock()))
    refused = await say(stage, number, "delete octo")
    assert (refused.state, refused.reason) == (RunState.REFUSED, "legal_hold")
    assert "lea" in (await ours(stage, number))[-1]
    with pytest.raises(LegalHoldError):
        await begin(stage.house, stage.installation, Wish("uninstalled"))
    assert [entry.action for entry in await stage.log()].count("erasure.refused") == 1
    assert await erasure_of(stage, stage.installation) is None


# --- what it meets ---------------------------------------------------------------------------------------------------


async def test_a_run_at_work_is_broken_off_and_says_so(raise_stage: Stages, sample: Path) -> None:
    slow = playbook(scenario(create("NOTES.md", "A note.\n") | {"slow": {"seconds": 30}}, finish()))
    stage = await raise_stage({"octo/fairshare": sample}, slow)
    number = await ask(stage)
    async with asyncio.timeout(30):
        while not any(entry.action == "index.searched" for entry in await stage.log()):
            await asyncio.sleep(0.05)
    began = asyncio.get_running_loop().time()
    await begin(stage.house, stage.installation, Wish("operator", "operator"))
    erasure = await erased(stage)
    assert asyncio.get_running_loop().time() - began < 10
    (status,) = await ours(stage, number)
    assert "**Cancelled.**" in status
    assert "being deleted" in status
    assert await rows_left(stage) == 0
    assert erasure.receipt is not None
    assert await stage.pulls() == []


@pytest.mark.parametrize("route", ["/git/blobs$", "/git/refs$", "/pulls$"])
async def test_a_write_that_is_under_way_is_over_before_the_receipt(stage: Stage, route: str) -> None:
    await stage.fault(kind="delay", method="POST", route=route, seconds=1.5)
    await ask(stage)
    world = stage.github.world

    async def met() -> bool:
        return any(one.fault for one in world.requests)

    await until(met)
    await begin(stage.house, stage.installation, Wish("operator", "operator"))
    erasure = await erased(stage)
    (slow,) = (one for one in world.requests if one.fault)
    assert erasure.ended_at is not None
    assert erasure.ended_at > slow.at + timedelta(seconds=1.5)
    assert slow.status == 201, "it was let through, and waited for"
    after = [one.path for one in world.requests if one.method != "GET" and one.at > erasure.ended_at]
    assert after == []
    assert await rows_left(stage) == 0


async def test_webhooks_afterwards_write_nothing_but_the_services_own_log(stage: Stage) -> None:
    number = await stage.open_issue("Delete", user="ada")
    await begin(stage.house, stage.installation, Wish("operator", "operator"))
    await erased(stage)
    before = len(await stage.log(0))
    await stage.comment(number, "@magicode fix this", user="ada")
    await stage.settled()
    assert await rows_left(stage) == 0
    assert len(await stage.log(0)) > before
    assert await ours(stage, number) == []


async def test_where_the_app_is_gone_the_deletion_ends_and_the_receipt_is_kept(stage: Stage) -> None:
    number, tenant = await stage.open_issue("Delete", user="ada"), stage.installation
    repository = stage.github.world.repository(stage.repository)
    assert repository is not None
    stage.github.world.app_url = None
    stage.github.uninstall("octo")
    await begin(stage.house, tenant, Wish("asked", "ada", repository.id, number))
    erasure = await erased(stage, tenant)
    assert verify(json.loads(erasure.receipt or "")).ok
    assert await ours(stage, number) == []


async def test_github_that_is_away_is_waited_for(idle: Stage) -> None:
    number = await ask(idle)
    await idle.settled()
    repository = idle.github.world.repository(idle.repository)
    assert repository is not None
    await begin(idle.house, idle.installation, Wish("asked", "ada", repository.id, number))
    await idle.fault(kind="status", method="POST", route="/issues/1/comments$", status=502, times=2)
    async with idle.at_work(retry_after=lambda error, taken: timedelta(milliseconds=100)):
        await erased(idle)
    bodies = await ours(idle, number)
    assert sum("**Deleted.**" in body for body in bodies) == 1


# --- crashes ---------------------------------------------------------------------------------------------------------


async def test_a_crash_before_or_after_every_call_of_github_ends_in_one_comment_of_each_kind(
    idle: Stage, sample: Path
) -> None:
    """The other places are crashed at in tests/app/custody/test_erase.py."""
    calls = 1
    at = 0
    while at < calls:
        for after in (False, True):
            login = f"acme{at}{'a' if after else 'b'}"
            fuse = Fuse(at, after)
            tenant, number = await customer(idle, login, sample)
            house = replace(idle.house, github=FusedGitHub(idle.house.github, fuse))
            with pytest.raises(CrashError):
                await erase(house, tenant)
            whole = Fuse()
            again = replace(idle.house, github=FusedGitHub(idle.house.github, whole))
            erasure = await erase(again, tenant)
            assert verify(json.loads(erasure.receipt or "")).ok
            comments = await idle.comments(number, repository=f"{login}/one")
            bodies = [one["body"] for one in comments if one["user"]["login"] == "magicode[bot]"]
            told = f"{fuse.met[-1]} ({at}, {'after' if after else 'before'})"
            assert [("**Cancelled.**" in body, "**Deleted.**" in body) for body in bodies] == [
                (True, False),
                (False, True),
            ], told
            if at == 0:
                calls = len(whole.met)
        at += 1
    assert calls >= 8


async def customer(stage: Stage, login: str, folder: Path) -> tuple[int, int]:
    """A tenant with a request that waits, whose deletion has begun; and the number of the issue where it was asked."""
    where = f"{login}/one"
    installation = await stage.github.add_account(login, {"one": folder}, people={"wim": "write"})
    await stage.settled()
    number = await stage.open_issue("Wanted", repository=where)
    await stage.comment(number, "@magicode fix this", repository=where)
    await stage.settled()
    repository = stage.github.world.repository(where)
    assert repository is not None
    await begin(stage.house, installation.id, Wish("asked", login, repository.id, number))
    return installation.id, number


@pytest.mark.long
async def test_a_worker_killed_while_it_hands_the_receipt_over_is_followed_by_another(
    idle: Stage, tmp_path: Path
) -> None:
    number = await ask(idle)
    await idle.settled()
    repository = idle.github.world.repository(idle.repository)
    assert repository is not None
    await begin(idle.house, idle.installation, Wish("asked", "ada", repository.id, number))
    await idle.fault(kind="delay", method="POST", route="/issues/1/comments$", seconds=60, skip=1)

    async def met() -> bool:
        return any(one.fault for one in idle.github.world.requests)

    async with a_worker_process(idle, tmp_path / "worker") as process:
        await until(met)
        process.kill()
        await process.wait()
    found = await erasure_of(idle, idle.installation)
    assert found is not None
    assert (found.step, found.ended_at) == ("signed", None)
    limits = WorkerLimits(heartbeat=timedelta(seconds=0.2), stalled_after=timedelta(seconds=2))
    async with idle.at_work(limits=limits):
        erasure = await erased(idle)
    assert erasure.receipt == found.receipt, "signed once"
    bodies = await ours(idle, number)
    assert [("**Cancelled.**" in body, "**Deleted.**" in body) for body in bodies] == [
        (True, False),
        (False, True),
    ]


# --- the command line ------------------------------------------------------------------------------------------------


@pytest.mark.long
async def test_the_operator_deletes_and_verifies_from_the_command_line(idle: Stage, tmp_path: Path) -> None:
    await ask(idle)
    await idle.settled()
    asked = ["data", "delete", "--installation", str(idle.installation)]

    async def magicode(*arguments: str) -> subprocess.CompletedProcess[str]:
        kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "app.cli", *arguments),
            env=kept | idle.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        said, told = await process.communicate()
        return subprocess.CompletedProcess(arguments, process.returncode or 0, said.decode(), told.decode())

    unasked, wrong = await asyncio.gather(magicode(*asked), magicode(*asked, "--confirm", "octopus"))
    assert (unasked.returncode, wrong.returncode) == (2, 2), (
        "nobody is there to be asked; that is not its name"
    )
    assert await erasure_of(idle, idle.installation) is None
    done = await magicode(*asked, "--confirm", "octo", "--wait", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["state"] == "deleted"
    assert await rows_left(idle) == 0
    again = await magicode(*asked, "--wait")
    assert json.loads(again.stdout) == document["receipt"]

    receipt = tmp_path / "receipt.json"
    receipt.write_text(again.stdout, encoding="utf-8")
    async with httpx.AsyncClient(trust_env=False) as client:
        published = (await client.get(f"{idle.url}/.well-known/magicode-receipts.json")).text
    key = tmp_path / "key.json"
    key.write_text(published, encoding="utf-8")
    known = verified(receipt, "--public-key", key, "--json")
    assert (known.exit_code, json.loads(known.stdout)["key_known"]) == (0, True)


def verified(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["data", "verify-receipt", *(str(one) for one in arguments)])


def test_receipts_are_verified_from_the_command_line(tmp_path: Path) -> None:
    signer = Signer(bytes(32))
    signed = signer.sign({"format": FORMAT, "erasure_id": "e", "searched_again": {"found": {"runs": 0}}})
    receipt, changed, key = tmp_path / "receipt.md", tmp_path / "changed.json", tmp_path / "key.json"
    receipt.write_text(f"**Deleted.**\n\n```json\n{json.dumps(signed, indent=2)}\n```\n", encoding="utf-8")
    changed.write_text(json.dumps(signed | {"erasure_id": "f"}), encoding="utf-8")
    key.write_text(json.dumps(signer.keys_document()), encoding="utf-8")
    alone = verified(receipt)
    assert alone.exit_code == 0
    assert fingerprint(signer.public_key) in alone.stdout
    assert verified(receipt, "--public-key", key).exit_code == 0
    assert verified(receipt, "--public-key", signer.public_key).exit_code == 0
    assert verified(receipt, "--public-key", "ab" * 32).exit_code == 1
    assert verified(changed).exit_code == 1
    told = verified(changed, "--json")
    assert (told.exit_code, json.loads(told.stdout)["ok"]) == (1, False)
    for wrong in ([receipt, "--public-key", "nothing"], [key], [tmp_path / "none"], [tmp_path]):
        assert verified(*wrong).exit_code == 2, wrong
