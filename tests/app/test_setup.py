"""Setting the App up: what GitHub is asked for, what comes back and where it is kept, and what is refused."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from app import settings
from app.errors import MagicodeError
from app.settings import Settings
from app.setup import (
    AlreadySetUpError,
    Choice,
    PortTakenError,
    SaidElsewhereError,
    Setup,
    create,
    manifest,
    prepare,
    register,
)
from app.wiring import filled
from infra.secrets.apps import FileSecrets, SecretsUnreadableError
from infra.simulator.relay import relaying
from infra.simulator.serve import Running, running

ROOT = Path(__file__).parents[2]
OWN = "http://127.0.0.1:8123"


def read(folder: Path, github: Running | None = None, **environ: str) -> Settings:
    given = {
        "MAGICODE_DATA_DIR": str(folder),
        **{f"MAGICODE_{name}": value for name, value in environ.items()},
    }
    if github is not None:
        given |= {"MAGICODE_GITHUB_API_URL": github.base_url, "MAGICODE_GITHUB_WEB_URL": github.base_url}
    return settings.read(given)


@pytest.fixture
async def github(tmp_path: Path) -> AsyncIterator[Running]:
    async with running(tmp_path / "github", {}) as github:
        yield github


@dataclass
class Visit:
    """A browser on the page."""

    setup: Setup
    github: Running
    client: httpx.AsyncClient

    async def fill(self, **said: str) -> httpx.Response:
        form = {"name": "Acme", "address": "https://magicode.example", "reach": "public", **said}
        return await self.client.post(f"/{self.setup.key}", data=form)

    async def registered(self, **said: str) -> str:
        """Where GitHub sends the browser back to, as a path of ours."""
        page = await self.fill(**said)
        assert page.status_code == 200, page.text
        (action,) = re.findall(r'action="([^"]*)"', page.text)
        (asked,) = re.findall(r'name="manifest" value="([^"]*)"', page.text)
        form = {
            "manifest": unescape(asked),
            "name": json.loads(unescape(asked)).get("name", "Typed"),
            "person": "ada",
        }
        answer = await self.github.client(None).post(unescape(action), data=form)
        assert answer.status_code == 302, answer.text
        return answer.headers["location"].removeprefix(OWN)

    def kept(self) -> Mapping[str, str]:
        return self.setup.kept.read()


@pytest.fixture
async def visit(github: Running, tmp_path: Path) -> AsyncIterator[Visit]:
    setup = await prepare(read(tmp_path / "data", github), OWN, replace=False)
    transport = httpx.ASGITransport(create(setup), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url=OWN) as client:
        yield Visit(setup, github, client)


# --- what GitHub is asked for ----------------------------------------------------------------------------------------


def test_github_is_asked_for_what_the_manifest_says_and_for_nothing_else() -> None:
    said = yaml.safe_load((ROOT / "app-manifest.yml").read_text(encoding="utf-8"))
    asked = manifest(Choice("MagiCode", None, "https://magicode.example", None), OWN)
    assert asked.pop("redirect_url") == f"{OWN}/created"
    assert {**asked, "url": said["url"]} == said


def test_by_a_relay_github_delivers_there_and_people_come_here() -> None:
    asked = manifest(Choice("", "acme", "http://127.0.0.1:8646", "https://smee.io/c"), OWN)
    assert asked["hook_attributes"] == {"url": "https://smee.io/c", "active": True}
    assert asked["callback_urls"] == ["http://127.0.0.1:8646/signin/github"]
    assert "name" not in asked


# --- what comes back -------------------------------------------------------------------------------------------------


async def test_the_keys_are_kept_where_the_service_reads_them_and_shown_nowhere(visit: Visit) -> None:
    answer = await visit.client.get(await visit.registered())
    app = visit.github.world.app
    assert answer.headers["location"] == f"{visit.github.base_url}/apps/acme/installations/new"
    full, _, _ = await filled(visit.setup.read, {})
    assert (full.app_id, full.app_slug, full.client_id) == (app.id, "acme", app.client_id)
    assert full.public_url == "https://magicode.example"
    assert full.relay_url is None
    said = {
        "private_key": app.private_key_pem,
        "webhook_secret": app.webhook_secret,
        "client_secret": app.client_secret,
    }
    for name, value in said.items():
        assert getattr(full, name).get_secret_value().replace("\\n", "\n") == value
        assert value not in answer.text + str(answer.headers)
        assert value not in repr(visit.setup.made)
    assert (visit.setup.read.data_dir / "app.secrets").stat().st_mode & 0o777 == 0o600
    assert visit.setup.done.is_set()


async def test_with_a_relay_it_gets_a_channel_of_its_own(visit: Visit) -> None:
    async with relaying() as relay:
        await visit.client.get(
            await visit.registered(reach="relay", relay=relay.url, address="http://127.0.0.1:8646")
        )
        full, _, _ = await filled(visit.setup.read, {})
        assert full.relay_url == visit.github.world.app_url
        assert full.relay_url is not None
        assert full.relay_url.startswith(f"{relay.url}/")


async def test_loaded_once_more_the_way_back_registers_nothing_twice(visit: Visit) -> None:
    back = await visit.registered()
    answers = await asyncio.gather(*(visit.client.get(back) for _ in range(3)))
    assert {one.status_code for one in answers} == {303}
    assert (
        len([one for one in visit.github.world.requests if one.route == "/app-manifests/{code}/conversions"])
        == 1
    )


async def test_keys_that_did_not_arrive_are_asked_for_again(visit: Visit) -> None:
    back = await visit.registered()
    async with httpx.AsyncClient(trust_env=False) as desk:
        fault = {"method": "POST", "route": "/app-manifests/.*", "kind": "status", "status": 502}
        await desk.post(f"{visit.github.base_url}/_simulator/faults", json=fault)
    assert (await visit.client.get(back)).status_code == 503
    assert "APP_ID" not in visit.kept()
    assert (await visit.client.get(back)).status_code == 303
    assert visit.kept()["APP_ID"] == str(visit.github.world.app.id)


async def test_a_spent_code_is_told_with_what_to_do(visit: Visit) -> None:
    back = await visit.registered()
    visit.github.world.registered = None
    answer = await visit.client.get(back)
    assert answer.status_code == 400
    assert f"Delete the App at {visit.github.base_url}/settings/apps" in unescape(answer.text)
    assert not visit.setup.done.is_set()


async def test_keys_that_cannot_be_kept_are_told_with_what_to_do(
    visit: Visit, monkeypatch: pytest.MonkeyPatch
) -> None:
    back = await visit.registered()

    def full(*_: object) -> None:
        raise SecretsUnreadableError(reason="secrets_unreadable")

    monkeypatch.setattr(FileSecrets, "keep", full)
    answer = await visit.client.get(back)
    assert answer.status_code == 400
    assert "its keys could not be kept" in answer.text
    assert visit.github.world.app.webhook_secret not in answer.text


async def test_in_a_place_with_other_secrets_they_stay_and_names_keep_their_spelling(
    github: Running, tmp_path: Path
) -> None:
    place = tmp_path / "secrets"
    place.touch(0o600)
    place.write_text("# ours\nANTHROPIC_API_KEY=a\nMAGICODE_APP_ID=1\nWEBHOOK_SECRET_PREVIOUS=old\n")
    given = read(tmp_path / "data", github, SECRETS=f"file:{place}")
    setup = await prepare(given, OWN, replace=True)
    transport = httpx.ASGITransport(create(setup))
    async with httpx.AsyncClient(transport=transport, base_url=OWN) as client:
        visit = Visit(setup, github, client)
        await client.get(await visit.registered())
    kept = visit.kept()
    assert (kept["ANTHROPIC_API_KEY"], kept["MAGICODE_APP_ID"]) == ("a", str(github.world.app.id))
    assert kept["WEBHOOK_SECRET_PREVIOUS"] == ""
    assert "APP_ID" not in kept
    assert place.read_text().startswith("# ours\n")


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"name": "x" * 35}, "34 characters"),
        ({"organization": "a/b"}, "its address on GitHub"),
        ({"organization": "../settings"}, "its address on GitHub"),
        ({"address": "magicode.example"}, "begins with https://"),
        ({"address": "http://magicode.example"}, "begins with https://"),
        ({"address": "https://user:pass@magicode.example"}, "begins with https://"),
        ({"address": "https://magicode.example/?a=b"}, "begins with https://"),
        ({"address": "javascript:alert(1)"}, "begins with https://"),
        ({"address": "https://"}, "begins with https://"),
        ({"address": "https://[::1"}, "begins with https://"),
        ({"reach": "pigeon"}, "how GitHub is to reach"),
        ({"reach": "relay", "relay": "http://relay.example"}, "begins with https://"),
        ({"reach": "relay", "relay": "http://127.0.0.1:9"}, "could not be reached"),
    ],
)
async def test_what_cannot_be_used_is_said_and_what_was_typed_stays(
    visit: Visit, said: dict[str, str], why: str
) -> None:
    answer = await visit.fill(**{"name": 'A "name"'} | said)
    assert answer.status_code == 400
    assert why in unescape(answer.text)
    assert visit.setup.asked == {}
    assert unescape(answer.text).count(said.get("name", 'A "name"')) == 1


async def test_github_itself_cannot_be_told_an_address_of_this_machine(tmp_path: Path) -> None:
    setup = await prepare(read(tmp_path), OWN, replace=False)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(create(setup)), base_url=OWN) as client:
        form = {"address": "http://127.0.0.1:8646", "reach": "public"}
        answer = await client.post(f"/{setup.key}", data=form)
    assert "GitHub cannot reach this machine" in answer.text


async def test_nobody_else_finds_the_page_or_brings_an_answer(visit: Visit) -> None:
    for path in ("/", "/x", f"/{visit.setup.key[:-1]}", f"/{visit.setup.key}x"):
        assert (await visit.client.get(path)).status_code == 404
    assert (await visit.client.post("/x", data={"address": "https://a.example"})).status_code == 404
    back = await visit.registered()
    for path in (
        "/created",
        "/created?code=c&state=s",
        back.replace("state=", "state=x"),
        back.split("&")[0],
    ):
        assert (await visit.client.get(path)).status_code == 404
    assert "APP_ID" not in visit.kept()
    elsewhere = {"Host": "rebound.example:8123"}
    assert (await visit.client.get(f"/{visit.setup.key}", headers=elsewhere)).status_code == 400


async def test_the_pages_load_nothing_from_elsewhere_and_lead_to_github_alone(visit: Visit) -> None:
    for answer in (await visit.client.get(f"/{visit.setup.key}"), await visit.fill()):
        said = answer.headers["content-security-policy"]
        assert f"form-action 'self' {visit.github.base_url}" in said
        assert "unsafe" not in said
        assert answer.headers["referrer-policy"] in ("no-referrer", "same-origin")


async def test_an_app_that_is_there_is_replaced_only_where_somebody_says_so(visit: Visit) -> None:
    await visit.client.get(await visit.registered())
    with pytest.raises(AlreadySetUpError):
        await prepare(visit.setup.read, OWN, replace=False)
    await prepare(visit.setup.read, OWN, replace=True)


@pytest.mark.parametrize(
    ("name", "value"),
    [("APP_ID", "7"), ("WEBHOOK_SECRET", "s"), ("PRIVATE_KEY_PATH", "/key.pem"), ("APP_SLUG", "x")],
)
async def test_what_the_environment_says_would_win_so_it_is_told(
    tmp_path: Path, name: str, value: str
) -> None:
    with pytest.raises(SaidElsewhereError, match=f"MAGICODE_{name}"):
        await prepare(read(tmp_path, **{name: value}), OWN, replace=True)


async def test_a_place_that_cannot_be_written_to_is_told_before_anything_is_registered(
    tmp_path: Path,
) -> None:
    place = tmp_path / "secrets"
    place.write_text("A=1")
    place.chmod(0o644)
    with pytest.raises(MagicodeError) as refused:
        await prepare(read(tmp_path / "data", SECRETS=f"file:{place}"), OWN, replace=False)
    assert refused.value.reason == "secrets_exposed"


async def test_a_port_that_is_taken_is_told(tmp_path: Path, github: Running) -> None:
    async def begun(_: str) -> Any:
        pytest.fail("nothing can have begun")

    taken = int(github.base_url.rsplit(":", 1)[1])
    with pytest.raises(PortTakenError):
        await register(read(tmp_path), port=taken, replace=False, begun=begun)
