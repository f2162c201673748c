"""The client that is written from the API's description, against the service."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import pytest
import pytest_asyncio

import client.generate
from app.actionlog.verify import parse, verify
from app.web.access import Scope
from client.api import Client, Export
from client.connection import Connection, ProblemError, connect
from tests.app.web.browser import Browser, opened
from tests.app.web.test_api import token
from tests.line.stage import Stage

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module")
async def program(ada: Browser, shared: Stage) -> AsyncIterator[Client]:
    """With a token that may do everything a token may."""
    async with connect(shared.url, await token(shared, ada, *Scope)) as connection:
        yield Client(connection)


async def test_the_client_is_the_one_that_the_description_makes(ada: Browser) -> None:
    document = (await ada.api("GET", "/openapi.json")).json()
    written = client.generate.OUT.read_text(encoding="utf-8")
    assert client.generate.source(document) == written, (
        "The API has changed: save /api/openapi.json and run `python -m client.generate` on it."
    )


async def test_every_call_of_the_description_has_a_name_of_its_own(ada: Browser) -> None:
    document = (await ada.api("GET", "/openapi.json")).json()
    names = [told["operationId"] for methods in document["paths"].values() for told in methods.values()]
    assert len(set(names)) == len(names)
    assert set(names) <= set(dir(Client))


async def test_what_a_program_reads_comes_typed(program: Client, shared: Stage) -> None:
    tenant = shared.installation
    summary = await program.get_installation(tenant)
    assert (summary.id, summary.account) == (tenant, "octo")
    settings = await program.get_settings(tenant)
    assert {one.name for one in settings.settings} >= {"keep-log", "legal-hold"}
    assert (await program.get_usage(tenant, days=7)).days == 7
    page = await program.list_actions(tenant, limit=1)
    assert [one.seq for one in page.entries] == [1]
    assert (await program.list_actions(tenant, after=1, limit=1)).entries[0].seq == 2
    assert (await program.list_runs(tenant)).runs == []
    assert (await program.verify_actions(tenant)).ok


async def test_what_a_program_changes_is_changed_once(program: Client, shared: Stage) -> None:
    tenant = shared.installation
    changed = await program.change_setting(tenant, "keep-runs", value="6 months")
    assert (changed.old, changed.new) == ("12 months", "6 months")
    assert (await program.change_setting(tenant, "keep-runs", value="12 months")).old == "6 months"
    await program.remove_provider_key(tenant, "openai")


async def test_a_no_says_why(program: Client, shared: Stage) -> None:
    with pytest.raises(ProblemError) as told:
        await program.change_setting(shared.installation, "keep-the-log/../..?x", value="1")
    assert (told.value.status, told.value.reason) == (404, "not_found")
    with pytest.raises(ProblemError) as told:
        await program.change_setting(shared.installation, "keep-logz", value="1")
    assert told.value.reason == "setting_unknown"
    assert "keep-log" in told.value.detail
    with pytest.raises(ProblemError) as told:
        await program.get_export(shared.installation, uuid4())
    assert told.value.status == 404
    with pytest.raises(ProblemError) as told:
        await program.make_token(shared.installation)
    assert told.value.status == 403


async def test_the_log_is_downloaded_and_holds(program: Client, shared: Stage) -> None:
    got = b""
    async with program.download_actions(shared.installation, format="json") as pieces:
        async for piece in pieces:
            got += piece
    assert verify(parse(got.decode())).ok


async def test_an_export_is_asked_for_and_fetched(program: Client, shared: Stage) -> None:
    made = await until_made(
        program, shared.installation, (await program.ask_for_export(shared.installation)).id
    )
    got = b""
    async with program.download_export(shared.installation, made.id) as pieces:
        async for piece in pieces:
            got += piece
    assert got.startswith(b"PK")
    assert len(got) == made.size


async def until_made(program: Client, tenant: int, export_id: UUID) -> Export:
    async with asyncio.timeout(60):
        while (found := await program.get_export(tenant, export_id)).state == "asked":
            await asyncio.sleep(0.1)
    assert found.state == "made"
    return found


async def test_a_person_s_browser_may_use_it_too(ada: Browser, shared: Stage) -> None:
    """What is for a session alone, such as tokens."""
    headers = {"X-Form-Key": await ada.form_key()}
    async with httpx.AsyncClient(
        base_url=shared.url, cookies=ada.client.cookies, headers=headers, trust_env=False
    ) as http:
        person = Client(Connection(http))
        assert (await person.get_session()).login == "ada"
        made = await person.make_token(shared.installation, scopes=("log",), days=1)
        assert made.token.startswith(f"mgc_{shared.installation}_")
        await person.remove_token(shared.installation, made.id)
        assert made.id not in {one.id for one in await person.list_tokens(shared.installation)}


# --- the command line ------------------------------------------------------------------------------------------------


def names(folder: Path) -> list[str]:
    return sorted(one.name for one in folder.iterdir())


async def magicode(*arguments: str | Path, folder: Path, given: str = "") -> tuple[int, str, str]:
    """In a folder where no service is set up."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "app.cli",
        *map(str, arguments),
        cwd=folder,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, said = await process.communicate(given.encode())
    return process.returncode or 0, out.decode(), said.decode()


@pytest_asyncio.fixture(loop_scope="module")
async def far(ada: Browser, shared: Stage, tmp_path: Path) -> list[str]:
    """The options of somebody who holds a token of the installation."""
    file = tmp_path / "token"
    file.write_text(await token(shared, ada, Scope.LOG, Scope.EXPORT) + "\n", encoding="ascii")
    return ["--server", shared.url, "--token-file", str(file), "--installation", str(shared.installation)]


async def test_the_command_line_downloads_a_log_that_it_verifies(far: list[str], tmp_path: Path) -> None:
    out = tmp_path / "log.jsonl"
    code, _, said = await magicode("actions", "export", *far, "--out", out, folder=tmp_path)
    assert code == 0, said
    assert (await magicode("actions", "verify", out, folder=tmp_path))[0] == 0
    code, text, _ = await magicode("actions", "export", *far, "--kind", "setting", "--json", folder=tmp_path)
    document = json.loads(text)
    assert (code, document["whole"]) == (0, False)
    assert {one["action"] for one in document["entries"]} == {"setting.changed"}


async def test_the_command_line_fetches_an_export_whole(far: list[str], tmp_path: Path) -> None:
    out = tmp_path / "all.zip"
    code, text, said = await magicode("data", "export", *far, "--out", out, "--json", folder=tmp_path)
    assert code == 0, said
    told = json.loads(text)
    assert out.stat().st_size == told["bytes"]
    assert out.read_bytes().startswith(b"PK")
    assert names(tmp_path) == ["all.zip", "token"]


async def test_the_command_line_says_what_the_service_said_no_to(
    far: list[str], shared: Stage, tmp_path: Path
) -> None:
    """And prints no token."""
    secret = (tmp_path / "token").read_text().strip()
    code, out, said = await magicode("data", "delete", *far, "--confirm", "octo", folder=tmp_path)
    assert (code, out) == (1, "")
    assert "This token may not do this" in said
    wrong = [*far[:-1], "9"]
    code, out, said = await magicode("actions", "export", *wrong, folder=tmp_path)
    assert (code, out) == (1, "")
    assert "not one of this installation's" in said
    assert secret not in said


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"--server": "http://magicode.test"}, "https"),
        ({"--token-file": "nowhere"}, "cannot be read"),
        ({"--token-file": None}, "--token-file"),
        ({"--installation": None}, "--installation"),
    ],
)
async def test_the_command_line_refuses_wrong_use(
    far: list[str], tmp_path: Path, changed: dict[str, str | None], says: str
) -> None:
    given = dict(zip(far[::2], far[1::2], strict=True)) | changed
    options = [part for name, value in given.items() if value is not None for part in (name, value)]
    code, out, said = await magicode("actions", "export", *options, folder=tmp_path)
    assert (code, out) == (2, "")
    assert says in said
    assert names(tmp_path) == ["token"]


async def test_the_command_line_destroys_all_of_it_and_the_receipt_holds(
    shared: Stage, tmp_path: Path
) -> None:
    """The token is gone with the rest, and the receipt needs none."""
    async with opened(shared) as sol:
        await sol.sign_in("sol")
        (own,) = (await sol.api("GET", "/installations")).json()
        sent = {"scopes": ["delete"], "days": 1}
        key = await sol.form_key()
        made = await sol.api("POST", f"/installations/{own['id']}/tokens", sent, form_key=key)
    (tmp_path / "token").write_text(made.json()["token"], encoding="ascii")
    there = ["--server", shared.url, "--token-file", "token", "--installation", str(own["id"])]
    code, out, said = await magicode("data", "delete", *there, "--confirm", "octo", folder=tmp_path)
    assert (code, out) == (1, "")
    assert "login" in said
    code, text, said = await magicode(
        "data", "delete", *there, "--confirm", "sol", "--wait", "--json", folder=tmp_path
    )
    assert code == 0, said
    told = json.loads(text)
    assert (told["installation"], told["state"]) == (own["id"], "deleted")
    (tmp_path / "receipt.json").write_text(json.dumps(told["receipt"]), encoding="utf-8")
    code, out, _ = await magicode("data", "verify-receipt", "receipt.json", folder=tmp_path)
    assert code == 0, out
    code, out, said = await magicode("data", "delete", *there, "--confirm", "sol", folder=tmp_path)
    assert (code, out) == (1, "")
