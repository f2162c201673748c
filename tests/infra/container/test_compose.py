"""The composition: who reaches what, who may what, which settings and secrets go where; its roles and secrets are made for real."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from app import settings
from infra.embedded.postgres import SERVICE_ROLE, SUPERUSER, EmbeddedPostgres
from infra.postgres.dumps import dump, require_all_rows, restore
from infra.postgres.migrate import migrate, require_current, require_service_role, unprotected_tables
from infra.secrets.apps import parsed
from infra.secrets.choose import open_secrets
from tests.infra.container.described import COMPOSE, ROOM, SERVICES, said, service_environ

CHECKS: Mapping[str, Any] = yaml.safe_load((ROOM / "compose.checks.yaml").read_text())
EXAMPLE = (ROOM / "env.example").read_text()


# --- confined --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SERVICES)
def test_every_container_is_confined(name: str) -> None:
    one = SERVICES[name]
    assert one["read_only"] is True
    assert one["cap_drop"] == ["ALL"]
    assert one.get("cap_add", []) == (["NET_BIND_SERVICE"] if name == "proxy" else [])
    assert one["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "network_mode", "pid", "ipc", "devices", "userns_mode"} & one.keys()
    assert one["mem_limit"]
    assert one["pids_limit"]
    assert re.fullmatch(r"\d+:\d+", one["user"])
    assert name in ("proxy", "qdrant") or not one["user"].startswith("0:")
    assert not any("docker.sock" in volume or volume.startswith("/") for volume in one.get("volumes", []))


@pytest.mark.parametrize("name", SERVICES)
def test_what_is_in_memory_has_a_size(name: str) -> None:
    for one in SERVICES[name].get("tmpfs", []):
        assert re.search(r":size=\S+?(,|$)", one), one


def test_only_the_proxy_has_a_port() -> None:
    assert [name for name, one in SERVICES.items() if "ports" in one or "expose" in one] == ["proxy"]
    assert SERVICES["proxy"]["ports"] == ["80:8080", "443:8443"]


def networks(name: str) -> set[str]:
    return set(SERVICES[name]["networks"])


def test_the_stores_are_reached_by_the_service_alone_and_reach_nobody() -> None:
    assert COMPOSE["networks"]["stores"]["internal"] is True
    assert COMPOSE["networks"]["edge"]["internal"] is True
    for store in ("postgres", "qdrant", "migrate"):
        assert networks(store) == {"stores"}
    assert networks("proxy") == {"outside", "edge"}
    assert {name for name in SERVICES if "edge" in networks(name)} == {"proxy", "web"}


def test_the_proxy_is_the_one_whose_word_about_clients_is_believed() -> None:
    address = said(SERVICES["proxy"]["networks"]["edge"]["ipv4_address"])
    environ = SERVICES["web"]["environment"]
    assert said(environ["MAGICODE_TRUSTED_PROXIES"]) == address
    (subnet,) = COMPOSE["networks"]["edge"]["ipam"]["config"]
    assert said(subnet["subnet"]).startswith(address.rpartition(".")[0])


# --- what runs where -------------------------------------------------------------------------------------------------


def test_one_image_has_two_commands_and_two_that_end() -> None:
    ours = {name: one for name, one in SERVICES.items() if one["image"].startswith("${IMAGE:?")}
    assert {name: one["command"] for name, one in ours.items()} == {
        "web": ["serve"],
        "worker": ["worker"],
        "migrate": ["migrate"],
        "backup": ["backup"],
    }
    assert SERVICES["backup"]["profiles"] == ["backup"], "started by the clock, and by nothing else"
    assert SERVICES["backup"]["restart"] == "no"
    assert {one["user"] for one in ours.values()} == {"10001:10001"}
    assert SERVICES["worker"]["deploy"] == {"replicas": 2}
    assert SERVICES["web"]["environment"]["MAGICODE_WORKER"] == "false"


def test_every_other_image_is_named_by_a_digest_that_must_be_given() -> None:
    for name, one in SERVICES.items():
        if not one["image"].startswith("${IMAGE:?"):
            assert re.fullmatch(r"docker\.io/[a-z/]+@\$\{[A-Z]+_DIGEST:\?[^}]+\}", one["image"]), name


def test_nobody_works_before_the_schema_is_there_and_a_worker_has_time_to_stop() -> None:
    for name in ("web", "worker"):
        waits = SERVICES[name]["depends_on"]
        assert waits["migrate"] == {"condition": "service_completed_successfully"}
        assert waits["postgres"] == waits["qdrant"] == {"condition": "service_healthy"}
        assert SERVICES[name]["stop_grace_period"] == "40s"
    assert SERVICES["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    assert SERVICES["proxy"]["depends_on"] == {"web": {"condition": "service_healthy"}}
    assert all("healthcheck" in SERVICES[name] for name in ("postgres", "qdrant"))


def test_the_trees_of_runs_are_in_memory() -> None:
    for name in ("web", "worker"):
        assert any(one.startswith("/workspace:size=") for one in SERVICES[name]["tmpfs"])


# --- settings and secrets --------------------------------------------------------------------------------------------


def named() -> set[str]:
    """Every setting that stands in a composition or in the example."""
    texts = [(ROOM / name).read_text() for name in ("compose.yaml", "compose.checks.yaml")]
    return {name for text in [*texts, EXAMPLE] for name in re.findall(r"\bMAGICODE_[A-Z_]+", text)}


def test_every_setting_that_is_named_is_one() -> None:
    known = {settings.PREFIX + field.upper() for field in settings.Settings.model_fields}
    assert len(named()) > 8
    assert named() - known == set()


@pytest.mark.parametrize("name", ["web", "worker", "migrate", "backup"])
def test_the_service_takes_the_settings_as_they_stand(name: str) -> None:
    read, ends = settings.read(service_environ(name)), name in ("migrate", "backup")
    assert read.secrets == f"file:/run/secrets/{name if ends else 'magicode'}"
    assert ends or not read.sandbox
    assert read.backups == (None if name == "migrate" else "/var/lib/magicode/backups"), "one list for all"


def test_every_variable_of_the_composition_stands_in_the_example_or_has_its_reason() -> None:
    used = {
        name
        for text in ("compose.yaml", "compose.checks.yaml")
        for name in re.findall(r"\$\{(\w+)", (ROOM / text).read_text())
    }
    given = set(re.findall(r"^#?([A-Z_]+)=", EXAMPLE, re.MULTILINE))
    assert used <= given
    assert {name for name in given if not name.startswith("MAGICODE_")} <= used


def test_each_secret_is_a_file_and_goes_to_whom_it_is_for() -> None:
    assert all(set(one) == {"file"} for one in COMPOSE["secrets"].values())
    holders = {
        name: {one if isinstance(one, str) else one["source"] for one in service.get("secrets", [])}
        for name, service in SERVICES.items()
    }
    assert holders == {
        "proxy": set(),
        "web": {"magicode"},
        "worker": {"magicode"},
        "migrate": {"migrate"},
        "backup": {"backup"},
        "postgres": {"postgres_superuser", "postgres_migrator", "postgres_service", "postgres_backup"},
        "qdrant": {"qdrant"},
    }
    for name in SERVICES:
        for key in SERVICES[name].get("environment", {}):
            assert not re.search(r"PASSWORD$|_KEY$|SECRET$|TOKEN$", key), key


def test_checks_are_switched_on_for_the_workers_alone_and_by_a_profile_that_is_not_unconfined() -> None:
    assert CHECKS["services"].keys() == {"worker"}
    worker = CHECKS["services"]["worker"]
    assert worker["environment"] == {"MAGICODE_SANDBOX": "true"}
    assert worker.keys() == {"environment", "security_opt"}
    assert worker["security_opt"][:3] == [
        "no-new-privileges:true",
        "seccomp=./seccomp.json",
        "systempaths=unconfined",
    ]


# --- made for real ---------------------------------------------------------------------------------------------------


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    """What `prepare` makes, where this is root; otherwise with the owners left as they are."""
    prepare(tmp_path)
    return tmp_path / "secrets"


def prepare(folder: Path) -> None:
    environ = {"PATH": os.environ["PATH"]}
    if os.geteuid() != 0:
        (folder / "chown").write_text("#!/bin/sh\n")
        (folder / "chown").chmod(0o755)
        environ["PATH"] = f"{folder}:{environ['PATH']}"
    subprocess.run([ROOM / "prepare", folder / "secrets"], env=environ, check=True)


def test_the_secrets_are_made_once_each_for_its_reader_alone(secrets: Path, tmp_path: Path) -> None:
    files = {path.name: path for path in secrets.iterdir()}
    assert files.keys() == {Path(one["file"]).name for one in COMPOSE["secrets"].values()}
    assert {path.stat().st_mode & 0o777 for path in files.values()} == {0o600}
    if os.geteuid() == 0:
        for secret, name in (
            ("magicode", "web"),
            ("migrate", "migrate"),
            ("postgres_superuser", "postgres"),
            ("qdrant.yaml", "qdrant"),
        ):
            owner = files[secret].stat()
            assert f"{owner.st_uid}:{owner.st_gid}" == SERVICES[name]["user"]
    before = {name: path.read_bytes() for name, path in files.items()}
    assert len(set(before.values())) == len(before)
    (secrets / "magicode").write_text("APP_ID=7\n")
    prepare(tmp_path)
    assert {name: path.read_bytes() for name, path in files.items()} == {**before, "magicode": b"APP_ID=7\n"}


def test_the_service_reads_its_secrets_and_only_who_migrates_has_the_owners(secrets: Path) -> None:
    if os.geteuid() == 0:
        os.chown(secrets / "magicode", 0, 0)
    found = open_secrets(f"file:{secrets / 'magicode'}").read()
    assert found.keys() == {"DATABASE_URL", "QDRANT_API_KEY"}
    read, _ = settings.filled(settings.Settings(), found)
    assert read.database_owner_url is None
    owners, _ = settings.filled(settings.Settings(), parsed((secrets / "migrate").read_bytes()))
    assert owners.model_fields_set == {"database_owner_url", "secrets"}
    backup, _ = settings.filled(settings.Settings(), parsed((secrets / "backup").read_bytes()))
    assert backup.model_fields_set == {"database_url", "database_backup_url", "secrets"}
    assert yaml.safe_load((secrets / "qdrant.yaml").read_text()) == {
        "service": {"api_key": found["QDRANT_API_KEY"]}
    }


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    """A PostgreSQL of its own: roles are the whole server's."""
    with EmbeddedPostgres(tmp_path / "pg", durable=False) as server:
        yield server


def psql() -> Path:
    program = shutil.which("psql", path=str(EmbeddedPostgres(Path("/nonexistent"))._bin))
    assert program is not None
    return Path(program)


def test_the_roles_that_are_made_migrate_serve_and_back_up_and_who_writes_passes_no_policy(
    server: EmbeddedPostgres, secrets: Path
) -> None:
    parts = psycopg.conninfo.conninfo_to_dict(server.owner_url)
    made = subprocess.run(
        ["/bin/sh", ROOM / "roles.sh"],
        env={
            "PATH": f"{psql().parent}:{os.environ['PATH']}",
            "PGHOST": str(parts["host"]),
            "POSTGRES_DB": "magicode",
            "SECRETS": str(secrets),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert (made.returncode, made.stdout, made.stderr) == (0, "", "")
    migrator, service = (server.url(role, "magicode") for role in ("magicode_migrator", SERVICE_ROLE))
    migrate(migrator)
    require_current(service)
    require_service_role(service)
    with psycopg.connect(server.url(SUPERUSER, "magicode")) as connection:
        roles = connection.execute(
            "SELECT rolname, rolcanlogin, rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolreplication"
            " FROM pg_roles WHERE rolname LIKE 'magicode%' ORDER BY 1"
        ).fetchall()
        kept = connection.execute(
            "SELECT rolname, rolpassword FROM pg_authid WHERE rolpassword IS NOT NULL"
        ).fetchall()
        strangers = connection.execute(
            "SELECT count(*) FROM pg_database, aclexplode(datacl) WHERE datname = 'magicode' AND grantee = 0"
        ).fetchone()
    assert roles == [
        ("magicode_backup", True, True),
        ("magicode_migrator", True, False),
        ("magicode_owner", False, False),
        (SERVICE_ROLE, True, False),
    ]
    assert {name for name, _ in kept} == {"magicode_backup", "magicode_migrator", SERVICE_ROLE}
    assert all(password.startswith("SCRAM-SHA-256$") for _, password in kept)
    assert strangers == (0,)
    with psycopg.connect(service) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("SET ROLE magicode_owner")
    backup = server.url("magicode_backup", "magicode")
    require_all_rows(backup)
    with psycopg.connect(backup) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("DELETE FROM magicode.runs")
    held = read_whole(dump(backup))
    with psycopg.connect(server.url(SUPERUSER, "postgres"), autocommit=True) as connection:
        connection.execute("DROP DATABASE magicode")
        connection.execute("CREATE DATABASE magicode")
        connection.execute("GRANT CONNECT, CREATE ON DATABASE magicode TO magicode_migrator")

    async def again() -> AsyncIterator[bytes]:
        yield held

    asyncio.run(restore(migrator, again))
    require_current(service)
    require_service_role(service)
    assert unprotected_tables(server.url(SUPERUSER, "magicode")) == []


def read_whole(pieces: AsyncIterator[bytes]) -> bytes:
    async def read() -> bytes:
        return b"".join([piece async for piece in pieces])

    return asyncio.run(read())
