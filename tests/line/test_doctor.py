"""What the doctor finds: nothing on a service that is well, and of each thing that is not what to do about it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx
import psycopg
import pytest
import yaml
from starlette.responses import Response

from app import settings
from app.doctor import Finding, examine
from app.grants import EVENTS, PERMISSIONS
from infra.simulator.state import RequestRecord
from tests.conftest import Database
from tests.line.conftest import Stages
from tests.line.conversations import ask, notes
from tests.line.seen import until
from tests.line.stage import Stage

ROOT = Path(__file__).parents[2]


@pytest.fixture
async def stage(raise_stage: Stages, sample: Path) -> Stage:
    """Whose webhook address is the one that people come to."""
    return await raise_stage({"octo/fairshare": sample}, notes())


async def examined(stage: Stage, **changed: str) -> Sequence[Finding]:
    environ = {**stage.environ, **changed}
    return await examine(settings.read(environ), environ)


def wrong(found: Sequence[Finding]) -> dict[str, str]:
    """What is to be done, by what is not well."""
    assert all(one.do for one in found if one.well is False), "nobody is left with a mistake alone"
    return {one.name: f"{one.said} | {one.do}" for one in found if one.well is False}


async def test_a_service_that_is_well_is_found_to_be(stage: Stage) -> None:
    found = await examined(stage)
    assert wrong(found) == {}
    assert [one.name for one in found if one.well] == [
        "GitHub App", "permissions", "webhook", "pages", "clock", "PostgreSQL", "master key", "Qdrant", "disk", "workspace",
        "models", "embedding model", "sandbox",
    ]  # fmt: skip


async def test_the_last_backup_is_looked_at(stage: Stage, tmp_path: Path) -> None:
    kept = tmp_path / "kept"

    async def said(place: str = str(kept)) -> Finding:
        found = await examined(stage, MAGICODE_BACKUPS=place)
        (one,) = [one for one in found if one.name == "backups"]
        return one

    assert (await said("")).well is None
    assert (await said()).well is None, "those of the database's own keeper are not seen from here"
    (kept / "dumps").mkdir(parents=True)
    for hours, well in ((25, True), (27, False)):
        for old in (kept / "dumps").iterdir():
            old.unlink()
        made = datetime.now(UTC) - timedelta(hours=hours)
        (kept / "dumps" / f"{made:%Y%m%dT%H%M%SZ}").write_bytes(b"sealed")
        assert (await said()).well is well
    assert "magicode backup" in (await said()).do


async def test_a_database_that_lacks_deletions_is_found(stage: Stage, tmp_path: Path) -> None:
    listed = tmp_path / "kept" / "tombstones"
    listed.mkdir(parents=True)
    (listed / "4242-of-a-database-that-was-lost").write_text("{}")
    found = wrong(await examined(stage, MAGICODE_BACKUPS=str(listed.parent)))
    assert "magicode restored" in found.pop("deletions")
    assert found == {}


def test_what_it_asks_for_is_what_the_manifest_asks_for() -> None:
    manifest = yaml.safe_load((ROOT / "app-manifest.yml").read_text(encoding="utf-8"))
    assert manifest["default_permissions"] == PERMISSIONS
    assert set(manifest["default_events"]) == EVENTS


WRONG: Sequence[tuple[str, Mapping[str, str], str]] = (
    ("GitHub App", {"MAGICODE_APP_ID": "999999"}, "MAGICODE_APP_ID"),
    ("GitHub App", {"MAGICODE_PRIVATE_KEY_PATH": "/nowhere.pem", "MAGICODE_PRIVATE_KEY": ""}, "/nowhere.pem"),
    ("App's name", {"MAGICODE_APP_SLUG": "magik"}, "MAGICODE_APP_SLUG=magicode"),
    ("webhook", {"MAGICODE_WEBHOOK_SECRET": ""}, "MAGICODE_WEBHOOK_SECRET"),
    ("pages", {"MAGICODE_PUBLIC_URL": "http://127.0.0.1:9"}, "did not answer"),
    ("pages", {"MAGICODE_CLIENT_SECRET": ""}, "MAGICODE_CLIENT_SECRET"),
    (
        "PostgreSQL",
        {"MAGICODE_DATABASE_URL": "postgresql://nobody@127.0.0.1:9/none"},
        "MAGICODE_DATABASE_URL",
    ),
    ("Qdrant", {"MAGICODE_QDRANT_URL": "http://127.0.0.1:9"}, "MAGICODE_QDRANT_URL"),
    ("models", {"MAGICODE_MODEL": "openai"}, "MAGICODE_MODEL"),
    ("embedding model", {"MAGICODE_EMBEDDING_MODEL": "no-such-model"}, "MAGICODE_EMBEDDING_MODEL"),
)


@pytest.mark.parametrize(("name", "changed", "told"), WRONG, ids=[f"{one[0]}-{one[2]}" for one in WRONG])
async def test_each_mistake_is_found_alone_and_named(
    stage: Stage, name: str, changed: Mapping[str, str], told: str
) -> None:
    found = wrong(await examined(stage, **changed))
    assert told in found.pop(name)
    found.pop("webhook", None) if "MAGICODE_PUBLIC_URL" in changed else None  # GitHub delivers elsewhere then
    assert found == {}


async def test_what_the_app_may_not_or_need_not_do_is_found(stage: Stage) -> None:
    app = stage.github.world.app
    app.permissions = {**app.permissions, "checks": "write", "workflows": "write"}
    del app.permissions["statuses"]
    app.events = [one for one in app.events if one != "push"]
    told = [one.said for one in await examined(stage) if one.name == "permissions"]
    assert told == [
        "the App lacks statuses: read, the event push",
        "the App may do more than it needs: checks: write, workflows: write",
    ]


async def test_what_was_not_delivered_is_found(stage: Stage) -> None:
    await ask(stage)
    await stage.ended()
    for one in stage.github.world.deliveries:
        one.status_code = 401
    assert "401 says that the two webhook secrets differ" in wrong(await examined(stage))["deliveries"]


async def test_a_clock_that_is_wrong_is_found(stage: Stage) -> None:
    told: list[str] = []

    def look(request: RequestRecord, answer: Response) -> None:
        if request.path == "/app":
            told.append(answer.headers["Date"])

    def late() -> datetime:
        return parsedate_to_datetime(told[-1]) - timedelta(minutes=5)

    stage.github.simulator.observers.append(look)
    found = wrong(await examine(settings.read(stage.environ), stage.environ, now=late))
    assert "this machine is 300 s behind GitHub" in found["clock"]


async def test_a_table_without_a_policy_is_found(stage: Stage, database: Database) -> None:
    with psycopg.connect(database.owner_url, autocommit=True) as connection:
        connection.execute("ALTER TABLE magicode.runs NO FORCE ROW LEVEL SECURITY")
    assert "runs" in wrong(await examined(stage))["PostgreSQL"]


async def test_the_command_says_it_all_and_ends_accordingly(stage: Stage) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        assert (await client.get(f"{stage.url}/healthz")).status_code == 200

    def told(*arguments: str, **changed: str) -> subprocess.CompletedProcess[str]:
        environ = {**os.environ, **stage.environ, **changed}
        command = [sys.executable, "-m", "app.cli", "doctor", *arguments]
        return subprocess.run(command, env=environ, capture_output=True, text=True, check=False, cwd=ROOT)

    well = await asyncio.to_thread(told, "--json")
    assert (well.returncode, json.loads(well.stdout)["ok"]) == (0, True), well.stderr
    ill = await asyncio.to_thread(lambda: told(MAGICODE_APP_SLUG="magik"))
    assert ill.returncode == 1
    assert "WRONG  App's name:" in ill.stdout
    assert "MAGICODE_APP_SLUG=magicode" in ill.stdout


async def test_an_installation_that_no_worker_of_its_own_works_for_is_told(stage: Stage) -> None:
    tenant, store = stage.installation, stage.house.store
    await store.dedicate(tenant)
    told = wrong(await examined(stage))
    assert list(told) == ["own workers"]
    assert f"MAGICODE_DEDICATED_TO={tenant}" in told["own workers"]
    assert f"magicode dedicate --installation {tenant} --end" in told["own workers"]
    async with stage.at_work(only=[tenant]):

        async def heard() -> bool:
            return (await store.dedicated())[0].heard_seconds is not None

        await until(heard)
        assert wrong(await examined(stage)) == {}
    await store.share(tenant)
    told = wrong(await examined(stage, MAGICODE_DEDICATED_TO=f"{tenant}, {tenant + 1}"))
    assert f"magicode dedicate --installation {tenant + 1}" in told["own workers"]
    assert "own workers" not in wrong(await examined(stage))
