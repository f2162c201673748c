"""Those who want to break custody: by comments, names, sessions, tokens and addresses that are not theirs, and by timing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from app import retaining
from app.custody.erase import Wish
from app.erasing import begin
from app.nouns import Erasure
from tests.app.web.browser import Browser, opened
from tests.line.conftest import Stages
from tests.line.conversations import ASK, BODY, TITLE, asked_of_the_model, branches, notes, ours
from tests.line.seen import act, comment_of_ours, until
from tests.line.stage import Stage
from tests.line.test_retention import magicode

REFUSED = "GitHub does not say that"


@pytest.fixture
async def stage(raise_stage: Stages, sample: Path) -> Stage:
    """acme is an organization of olga's; ada administers one of its two repositories. sol is a person with an own one."""
    return await _peopled(await raise_stage({"octo/fairshare": sample}, notes()), sample)


@pytest.fixture
async def idle(raise_stage: Stages, sample: Path) -> Stage:
    """The same, and nobody works before a test says so."""
    return await _peopled(await raise_stage({"octo/fairshare": sample}, notes(), working=False), sample)


async def _peopled(stage: Stage, sample: Path) -> Stage:
    await stage.github.add_account(
        "acme",
        {"one": sample, "two": sample},
        owners=["olga", "otto"],
        people={"wim": "write", "ada": "read"},
    )
    await stage.github.add_account("sol", {"own": sample}, people={"wim": "write"})
    one = stage.github.world.repository("acme/one")
    assert one is not None
    one.collaborators["ada"] = "admin"
    await stage.settled()
    return replace(stage, repository="acme/one")


async def tenant_of(stage: Stage, login: str) -> int:
    (found,) = await stage.house.store.tenants_of_account(stage.github.account(login).id)
    return found


async def erasure_of(stage: Stage, tenant: int) -> Erasure | None:
    async with stage.house.store.transaction(tenant, erasing=True) as transaction:
        return await transaction.erasure()


async def destroyed(stage: Stage, tenant: int) -> Erasure:
    async def over() -> Erasure | None:
        found = await erasure_of(stage, tenant)
        return found if found is not None and found.ended_at is not None else None

    found: Erasure = await until(over)
    async with stage.house.store.transaction(tenant, erasing=True) as transaction:
        assert not any((await transaction.row_counts()).values())
        assert await transaction.wrapped_key() is None
    assert list(await stage.house.objects.names(str(tenant))) == []
    return found


async def asked(stage: Stage, words: str = ASK, *, user: str = "wim") -> int:
    number = await stage.open_issue(TITLE, BODY, user="wim")
    await stage.comment(number, words, user=user)
    return number


async def announced(stage: Stage, *, user: str = "olga") -> int:
    number = await asked(stage, "@magicode delete", user=user)
    await comment_of_ours(stage, number, "**Not deleted yet**")
    return number


async def quiet(stage: Stage) -> None:
    """Whatever was asked has been answered, or never will be."""
    await stage.settled()
    await asyncio.sleep(1.5)


# --- by comments -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", ["export", "delete", "settings keep-log 1 month"])
async def test_who_administers_one_repository_of_several_gets_and_changes_nothing(
    stage: Stage, words: str
) -> None:
    number = await asked(stage, f"@magicode {words}", user="ada")
    await comment_of_ours(stage, number, "**Not done**", REFUSED)
    tenant = await tenant_of(stage, "acme")
    assert await erasure_of(stage, tenant) is None
    async with stage.house.store.transaction(tenant) as transaction:
        assert (await transaction.exports(), await transaction.settings()) == ([], None)


async def test_who_lost_the_right_between_the_two_comments_deletes_nothing(stage: Stage) -> None:
    number = await announced(stage)
    stage.github.account("acme").owner_ids.remove(stage.github.account("olga").id)
    for name in ("one", "two"):
        held = stage.github.world.repository(f"acme/{name}")
        assert held is not None
        held.collaborators["olga"] = "write"
    await stage.comment(number, "@magicode delete acme", user="olga")
    await comment_of_ours(stage, number, "**Not done**", "olga's permission is `write`")
    assert await erasure_of(stage, await tenant_of(stage, "acme")) is None


async def test_another_administrator_may_confirm_and_nobody_else(stage: Stage) -> None:
    """Whoever confirms is asked for the same right as who announced: either could have done both."""
    number = await announced(stage)
    await stage.comment(number, "@magicode delete acme", user="ada")
    await comment_of_ours(stage, number, "**Not done**", REFUSED)
    await stage.comment(number, "@magicode delete acme", user="otto")
    await comment_of_ours(stage, number, "**Deleted.**")
    await destroyed(stage, await tenant_of_erased(stage, "acme"))


async def tenant_of_erased(stage: Stage, login: str) -> int:
    """The first installation of an account: what its rows no longer say."""
    account = stage.github.account(login).id
    return min(one.id for one in stage.github.world.installations.values() if one.account_id == account)


@pytest.mark.parametrize(
    "words",
    [
        "> @magicode delete acme",
        "```\n@magicode delete acme\n```",
        "`@magicode delete acme`",
        "<!-- @magicode delete acme -->",
        "<details><summary>x</summary><code>@magicode delete acme</code></details>",
        "@magicode-bot delete acme",
    ],
)
async def test_what_is_quoted_or_shown_as_code_confirms_nothing(stage: Stage, words: str) -> None:
    number = await announced(stage)
    said = await ours(stage, number)
    await stage.comment(number, words, user="olga")
    await quiet(stage)
    assert await ours(stage, number) == said
    assert await erasure_of(stage, await tenant_of(stage, "acme")) is None


async def test_a_confirmation_elsewhere_confirms_nothing(stage: Stage) -> None:
    await announced(stage)
    other = await asked(stage, "@magicode delete acme", user="olga")
    await comment_of_ours(stage, other, "**Not deleted yet**", "written once more")
    two = replace(stage, repository="acme/two")
    third = await asked(two, "@magicode delete acme", user="olga")
    await comment_of_ours(two, third, "**Not deleted yet**", "written once more")
    assert await erasure_of(stage, await tenant_of(stage, "acme")) is None


@pytest.mark.parametrize("editor", ["wim", "ada"])
async def test_who_edits_an_administrators_comment_into_a_confirmation_confirms_nothing(
    stage: Stage, editor: str
) -> None:
    """On GitHub whoever may write can edit the comments of others."""
    number = await announced(stage)
    written = await stage.comment(number, "Let us think about it.", user="olga")
    await act(stage, "PATCH", f"/issues/comments/{written}", user=editor, body="@magicode delete acme")
    await quiet(stage)
    assert len(await ours(stage, number)) == 1
    assert await erasure_of(stage, await tenant_of(stage, "acme")) is None


async def test_confirmations_at_once_are_one_deletion_with_one_receipt(idle: Stage) -> None:
    async with idle.at_work(4):
        number = await announced(idle)
    tenant = await tenant_of(idle, "acme")
    for user in ("olga", "otto", "olga"):
        await idle.comment(number, "@magicode delete acme", user=user)
    await idle.settled()
    async with idle.at_work(4):
        await destroyed(idle, tenant)
    assert sum("**Deleted.**" in one for one in await ours(idle, number)) == 1


# --- by timing -------------------------------------------------------------------------------------------------------


async def test_an_export_that_is_asked_for_while_all_is_deleted_leaves_nothing(idle: Stage) -> None:
    async with idle.at_work(4):
        number = await announced(idle)
    tenant = await tenant_of(idle, "acme")
    await idle.comment(number, "@magicode export", user="olga")
    await idle.comment(number, "@magicode delete acme", user="olga")
    await idle.comment(number, "@magicode export", user="otto")
    await idle.settled()
    async with idle.at_work(4):
        await destroyed(idle, tenant)
        await quiet(idle)
        await destroyed(idle, tenant)
    exports = idle.folder / "data" / "exports"
    assert [path for path in exports.rglob("*") if path.is_file()] == []


async def test_what_waits_behind_a_request_is_dropped_with_it(idle: Stage) -> None:
    """Looks at the pull request after a push, after CI, after a review."""
    async with idle.at_work():
        number = await asked(idle)
        await comment_of_ours(idle, number, "**Pull request opened**")
    (pull,) = await idle.pulls()
    tenant = await tenant_of(idle, "acme")
    await act(idle, "PATCH", f"/pulls/{pull['number']}", title="Another title")
    await idle.comment(pull["number"], "@magicode revise this, once more")
    await act(idle, "PATCH", f"/pulls/{pull['number']}", state="closed")
    await idle.settled()
    before = [one["body"] for one in await idle.comments(pull["number"])]
    await begin(idle.house, tenant, Wish("operator", "operator"))
    async with idle.at_work():
        await destroyed(idle, tenant)
        await quiet(idle)
        await destroyed(idle, tenant)
    async with idle.house.store.transaction(tenant, erasing=True) as transaction:
        assert await transaction.drop_jobs("none", timedelta(0)) == 0
    after = [one["body"] for one in await idle.comments(pull["number"])]
    assert after[: len(before)] == before
    assert all("**Cancelled.**" in one for one in after[len(before) :])


async def test_a_run_that_is_stopped_with_its_branch_written_takes_it_back_or_names_it(stage: Stage) -> None:
    tenant = await tenant_of(stage, "acme")
    await stage.fault(kind="delay", method="POST", route="/pulls$", seconds=5)
    number = await asked(stage)

    async def written() -> list[str]:
        return await branches(stage)

    (branch,) = await until(written)
    await begin(stage.house, tenant, Wish("operator", "operator"))
    await destroyed(stage, tenant)
    (said,) = await ours(stage, number)
    assert "**Cancelled.**" in said
    assert await branches(stage) == [] or f"`{branch}`" in said


async def test_who_installs_anew_while_the_old_data_is_destroyed_begins_afresh_at_once(idle: Stage) -> None:
    tenant = await tenant_of(idle, "acme")
    await begin(idle.house, tenant, Wish("operator", "operator"))
    idle.github.uninstall("acme")
    idle.github.install("acme")
    await idle.settled()
    number = await asked(idle)
    await idle.settled()
    async with idle.at_work():
        await comment_of_ours(idle, number, "**Pull request opened**")
        await destroyed(idle, tenant)
    assert await tenant_of(idle, "acme") > tenant


# --- by names --------------------------------------------------------------------------------------------------------


def rename(stage: Stage, old: str, new: str) -> None:
    """As an owner does it on GitHub's pages: the ids stay, and the old login is free for others."""
    stage.github.account(old).login = new
    for repo in stage.github.world.repositories.values():
        if repo.owner == old:
            repo.owner = new


async def test_an_account_that_was_renamed_is_confirmed_by_its_present_name(stage: Stage) -> None:
    number = await announced(stage)
    rename(stage, "acme", "apex")
    there, tenant = replace(stage, repository="apex/one"), await tenant_of(stage, "apex")
    await there.comment(number, "@magicode delete acme", user="olga")
    await comment_of_ours(there, number, "you wrote `acme`, and the account is `apex`")
    await there.comment(number, "@magicode delete apex", user="olga")
    await comment_of_ours(there, number, "**Deleted.**")
    await destroyed(stage, tenant)


async def test_who_takes_a_name_over_has_nothing_of_who_had_it(stage: Stage, sample: Path) -> None:
    """Neither finds the other's pages, and deleting one leaves the other as it is."""
    number = await asked(stage)
    await comment_of_ours(stage, number, "**Pull request opened**")
    old = await tenant_of(stage, "acme")
    rename(stage, "acme", "apex")
    await stage.github.add_account("acme", {"mine": sample}, owners=["mallory"], people={"wim": "write"})
    await stage.settled()
    new = await tenant_of(stage, "acme")
    assert new != old
    async with opened(stage) as mallory:
        await mallory.sign_in("mallory")
        assert (await mallory.get("/installations?account=acme")).url.path == f"/installations/{new}"
        assert (await mallory.get("/installations?account=apex")).status_code == 404
        assert (await mallory.get(f"/installations/{old}")).status_code == 404
    theirs = replace(stage, repository="acme/mine")
    there = await asked(theirs)
    await comment_of_ours(theirs, there, "**Pull request opened**")
    await theirs.comment(there, "@magicode delete", user="mallory")
    await comment_of_ours(theirs, there, "**Not deleted yet**")
    await theirs.comment(there, "@magicode delete acme", user="mallory")
    await comment_of_ours(theirs, there, "**Deleted.**")
    await destroyed(stage, new)
    assert await erasure_of(stage, old) is None
    again = await asked(replace(stage, repository="apex/one"))
    await comment_of_ours(replace(stage, repository="apex/one"), again, "**Pull request opened**")
    assert len(await stage.log(old)) > 0


# --- by sessions, tokens and addresses -------------------------------------------------------------------------------


async def _token(browser: Browser, tenant: int, scopes: Sequence[str]) -> str:
    made = await browser.api(
        "POST", f"/installations/{tenant}/tokens", {"scopes": scopes}, form_key=await browser.form_key()
    )
    assert made.status_code == 201, made.text
    return str(made.json()["token"])


async def test_what_opens_one_installation_opens_no_other(stage: Stage) -> None:
    acme, sol = await tenant_of(stage, "acme"), await tenant_of(stage, "sol")
    paths = ("", "/settings", "/tokens", "/actions", "/exports", "/deletion", "/actions/download")
    async with opened(stage) as browser:
        await browser.sign_in("sol")
        assert (await browser.get(f"/installations/{sol}")).status_code == 200
        for path in paths:
            assert (await browser.get(f"/installations/{acme}{path}")).status_code == 404, path
        key = await browser.form_key()
        gone = await browser.api("POST", f"/installations/{acme}/deletion", {"account": "acme"}, form_key=key)
        assert gone.status_code == 404
        token = await _token(browser, sol, ["log", "export", "settings", "delete"])
    forged = token.replace(f"mgc_{sol}_", f"mgc_{acme}_")
    for shown in (token, forged):
        bearer = {"Authorization": f"Bearer {shown}"}
        async with httpx.AsyncClient(base_url=f"{stage.url}/api", headers=bearer, trust_env=False) as program:
            for path in ("", "/settings", "/actions", "/exports", "/provider-keys"):
                assert (await program.get(f"/installations/{acme}{path}")).status_code == 401, path
            deleted = await program.post(f"/installations/{acme}/deletion", json={"account": "acme"})
            assert deleted.status_code == 401
            export = await program.post(f"/installations/{sol}/exports")
            if shown == token:
                where = f"/installations/{acme}/exports/{export.json()['id']}"
                assert (await program.get(f"{where}/download")).status_code == 401
            else:
                assert export.status_code == 401
    assert await erasure_of(stage, acme) is None


async def test_a_receipt_is_found_by_its_own_address_alone(stage: Stage) -> None:
    acme, sol = await tenant_of(stage, "acme"), await tenant_of(stage, "sol")
    await begin(stage.house, sol, Wish("operator", "operator"))
    found = await destroyed(stage, sol)
    async with httpx.AsyncClient(base_url=stage.url, trust_env=False) as anybody:
        for page in ("/receipts/{}/{}", "/receipts/{}/{}/receipt.json", "/api/receipts/{}/{}"):
            assert (await anybody.get(page.format(sol, found.id))).status_code == 200
            for tenant, named in ((acme, found.id), (sol, "0" * 8 + str(found.id)[8:]), (sol, "x")):
                assert (await anybody.get(page.format(tenant, named))).status_code == 404, (page, named)


# --- under a legal hold ----------------------------------------------------------------------------------------------


@pytest.mark.long
async def test_a_legal_hold_stands_at_every_door(stage: Stage) -> None:
    tenant = await tenant_of(stage, "acme")
    number = await announced(stage)
    await stage.comment(number, "@magicode settings legal-hold on", user="olga")
    await comment_of_ours(stage, number, "`legal-hold` is `on, by olga")
    await stage.comment(number, "@magicode delete acme", user="olga")
    await comment_of_ours(stage, number, "**Not done**", "olga put a legal hold on")
    async with opened(stage) as browser:
        await browser.sign_in("olga")
        key = await browser.form_key()
        page = await browser.post(f"/installations/{tenant}/deletion", {"form_key": key, "account": "acme"})
        assert page.status_code == 409
        token = await _token(browser, tenant, ["delete"])
    bearer = {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(base_url=f"{stage.url}/api", headers=bearer, trust_env=False) as program:
        refused = await program.post(f"/installations/{tenant}/deletion", json={"account": "acme"})
        assert refused.status_code in (403, 409)
        assert "legal hold" in refused.json()["detail"]
    code, _, err = await magicode(
        stage, "data", "delete", "--installation", str(tenant), "--confirm", "acme", "--wait"
    )
    assert (code, "legal hold" in err) == (1, True), err
    stage.github.uninstall("acme")
    stage.github.change_plan("acme", "cancelled")
    await stage.settled()
    later = replace(stage.house, clock=lambda: datetime.now(UTC) + timedelta(days=3650))
    await retaining.sweep_house(later)
    assert await erasure_of(stage, tenant) is None
    refusals = [one for one in await stage.log(tenant) if one.action == "erasure.refused"]
    assert [one.actor.partition(":")[0] for one in refusals] == ["olga", "token", "operator"]


# --- what is sent to nobody ------------------------------------------------------------------------------------------


async def test_with_no_provider_allowed_every_request_says_so_and_the_rest_still_works(stage: Stage) -> None:
    number = await asked(stage, "@magicode settings providers none", user="olga")
    await comment_of_ours(stage, number, "`providers` is `none` now")
    for words in ("fix this", "plan", "explain why"):
        there = await asked(stage, f"@magicode {words}")
        await comment_of_ours(stage, there, "Nothing was sent to any model")
    for words, said in (("logs", "All entries"), ("settings", "**not allowed**"), ("help", "settings")):
        await stage.comment(number, f"@magicode {words}", user="olga")
        await comment_of_ours(stage, number, said)
    assert await branches(stage) == []


@pytest.mark.parametrize("words", ["provider-keys set anthropic {}", "please use {} from now on"])
async def test_a_key_behind_words_that_are_no_setting_goes_to_no_model(stage: Stage, words: str) -> None:
    key = "sk-ant-api03-AbCdEf0123456789AbCdEf0123456789"
    number = await asked(stage, f"@magicode {words.format(key)}")
    said = await comment_of_ours(stage, number, "**A key in public**", "revoke it")
    assert key not in said["body"]
    assert await asked_of_the_model(stage) == []
    assert key not in str([one.details for one in await stage.log(await tenant_of(stage, "acme"))])


# --- without the master key ------------------------------------------------------------------------------------------


async def test_while_the_master_keys_file_is_away_nothing_is_lost_and_no_second_one_is_made(
    stage: Stage, sample: Path
) -> None:
    """Known customers are served on; who comes meanwhile is heard once GitHub is asked to tell it again."""
    file = stage.folder / "data" / "master.key"
    kept = file.rename(file.with_name("kept"))
    number = await asked(stage)
    await comment_of_ours(stage, number, "**Pull request opened**")
    await stage.github.add_account("nova", {"new": sample}, people={"wim": "write"})
    nova = replace(stage, repository="nova/new")
    there = await asked(nova)
    await quiet(nova)
    assert await ours(nova, there) == []
    assert not file.exists()
    failed = [one for one in await _deliveries(stage) if one["status_code"] >= 500]
    assert failed, "GitHub is told that it was not heard"
    kept.rename(file)
    for one in sorted(failed, key=lambda one: int(one["id"])):
        answer = await stage.github.app_client().post(f"/app/hook/deliveries/{one['id']}/attempts")
        assert answer.is_success
        await stage.settled()
    await comment_of_ours(nova, there, "**Pull request opened**")


async def _deliveries(stage: Stage) -> list[dict[str, Any]]:
    answer = await stage.github.app_client().get("/app/hook/deliveries", params={"per_page": 100})
    assert answer.is_success
    return list(answer.json())
