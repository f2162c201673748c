"""Deletion on the page and by API, from the typed confirmation to a receipt that is verified offline."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from app.custody.receipt import read_public_keys, read_receipt, verify
from app.errors import ErasedError
from tests.app.web.browser import Browser, opened
from tests.line.conversations import ask
from tests.line.stage import Stage

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def keys_of(stage: Stage) -> Sequence[str]:
    async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
        return read_public_keys((await client.get(f"{stage.url}/.well-known/magicode-receipts.json")).text)


async def test_what_is_typed_has_to_be_the_accounts_login(ada: Browser, shared: Stage) -> None:
    where = f"/installations/{shared.installation}/deletion"
    page = await ada.get(where)
    for said in ("requests with their figures", "backups of this service", "type the account's login"):
        assert said in page.text
    for typed in ("fairshare", "oct", "octo/fairshare", "<b>octo</b>"):
        wrong = await ada.submit(page, where, account=typed)
        assert wrong.status_code == 400
        assert "Nothing is deleted" in wrong.text
        assert "<b>octo" not in wrong.text
    assert (await ada.get(f"/installations/{shared.installation}")).status_code == 200
    sent = {"account": "octo2"}
    by_api = await ada.api(
        "POST", f"/installations/{shared.installation}/deletion", sent, form_key=await ada.form_key()
    )
    assert (by_api.status_code, by_api.json()["type"]) == (400, "urn:magicode:delete_wrong_name")


async def test_a_deletion_ends_with_a_receipt_at_an_address_that_nobody_guesses(
    ada: Browser, shared: Stage, tmp_path: Path
) -> None:
    await ask(shared)
    await shared.ended()
    tenant = shared.installation
    where = f"/installations/{tenant}/deletion"
    page = await ada.submit(await ada.get(where), where, account="Octo")
    assert re.fullmatch(rf"/receipts/{tenant}/[0-9a-f-]{{36}}", page.url.path)
    address = page.url.path
    async with opened(shared) as anybody:
        async with asyncio.timeout(60):
            while "receipt.json" not in page.text:
                assert '<meta http-equiv="refresh"' in page.text
                early = await anybody.get(f"{address}/receipt.json")
                assert early.status_code in (200, 404)
                await asyncio.sleep(0.1)
                page = await anybody.get(address)
        assert '<meta http-equiv="refresh"' not in page.text
        file = await anybody.get(f"{address}/receipt.json")
        by_api = (await anybody.api("GET", address)).json()
        for wrong in (
            f"/receipts/{tenant}/{uuid4()}",
            f"/receipts/{tenant + 1}/{address[-36:]}",
            "/receipts/1/x",
        ):
            assert (await anybody.get(wrong)).status_code == 404
            assert (await anybody.api("GET", wrong)).status_code == 404

    receipt = read_receipt(file.text)
    verdict = verify(receipt, await keys_of(shared))
    assert verdict.ok
    assert verdict.key_known
    assert verdict.erasure_id == address[-36:]
    assert by_api["done"]
    assert by_api["receipt"] == receipt
    changed: dict[str, Any] = {**receipt, "account_id": 1}
    assert not verify(changed).ok
    for name in ("ada", "octo", "fairshare", "wim"):
        assert not re.search(rf"\b{name}\b", file.text), "as a word: digests hold each short row of letters"
    assert json.loads(file.text)["destroyed"]["rows"]["runs"] == 1

    for path in ("", "/settings", "/tokens", "/actions", "/exports", "/deletion"):
        assert (await ada.get(f"/installations/{tenant}{path}")).status_code == 404
    assert (await ada.get("/installations?account=octo")).status_code == 404
    with pytest.raises(ErasedError):
        async with shared.house.store.transaction(tenant):
            pass


async def test_after_the_app_is_uninstalled_its_owner_still_deletes_and_a_second_time_changes_nothing(
    shared: Stage,
) -> None:
    shared.github.uninstall("sol")
    await shared.settled()
    async with opened(shared) as sol:
        await sol.sign_in("sol")
        (link,) = re.findall(r"/installations/[0-9]+", (await sol.get("/installations")).text)
        assert "the App was uninstalled or its plan ended" in (await sol.get(link)).text
        sent: dict[str, Any] = {"scopes": ["delete"], "days": 1}
        made = await sol.api("POST", f"{link}/tokens", sent, form_key=await sol.form_key())
    bearer = {"Authorization": f"Bearer {made.json()['token']}"}
    async with httpx.AsyncClient(base_url=shared.url, headers=bearer, trust_env=False, timeout=60) as program:
        begun = await program.post(f"/api{link}/deletion", json={"account": "sol"})
        assert begun.status_code == 202
        where = begun.json()["receipt_url"]
        async with asyncio.timeout(60):
            while not (found := (await program.get(where)).json())["done"]:
                await asyncio.sleep(0.1)
        assert verify(found["receipt"], await keys_of(shared)).ok
        assert (await program.post(f"/api{link}/deletion", json={"account": "sol"})).status_code == 401
        assert (await program.get(where)).json()["receipt"] == found["receipt"]
