"""The App's secrets from where MAGICODE_SECRETS says, and the master key from where MAGICODE_MASTER_KEY says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from pydantic import ValidationError

from app import settings
from app.errors import MagicodeError, WrongMasterKeyError
from app.main import create
from app.settings import UnknownSettingError
from app.wiring import filled, open_house, open_records, open_sandbox
from infra.secrets import aws as aws_clients
from infra.secrets.aws import AwsRefusedError, Patience
from infra.secrets.choose import open_secrets
from infra.secrets.file import FileMasterKey
from infra.secrets.kms import KmsMasterKey
from tests.aws import Aws, aws, moto_url
from webhooks.signature import Secrets

__all__ = ["aws", "moto_url"]


def read(**environ: str) -> settings.Settings:
    return settings.read({f"MAGICODE_{name}": value for name, value in environ.items()})


# --- names and values ------------------------------------------------------------------------------------------------


def test_names_stand_with_and_without_the_prefix() -> None:
    full, providers = settings.filled(
        read(SECRETS="file:x"),
        {"WEBHOOK_SECRET": "w", "MAGICODE_CLIENT_SECRET": "c", "APP_ID": "7", "ANTHROPIC_API_KEY": "a"},
    )
    assert full.webhook_secret is not None
    assert full.webhook_secret.get_secret_value() == "w"
    assert full.client_secret is not None
    assert full.client_secret.get_secret_value() == "c"
    assert full.app_id == 7
    assert full.secrets == ""
    assert providers == {"ANTHROPIC_API_KEY": "a"}


async def test_what_the_environment_sets_wins(tmp_path: Path) -> None:
    path = tmp_path / "secrets"
    path.touch(0o600)
    path.write_text(
        "WEBHOOK_SECRET=theirs\nWEBHOOK_SECRET_PREVIOUS=before\nOPENAI_API_KEY=theirs\nANTHROPIC_API_KEY=a\n"
    )
    given = read(SECRETS=f"file:{path}", WEBHOOK_SECRET="ours")
    full, environ, _ = await filled(given, {"OPENAI_API_KEY": "ours", "ANTHROPIC_API_KEY": "", "HOME": "/"})
    assert full.webhook_secret is not None
    assert full.webhook_secret.get_secret_value() == "ours"
    assert full.webhook_secret_previous is not None
    assert full.webhook_secret_previous.get_secret_value() == "before"
    assert environ == {"OPENAI_API_KEY": "ours", "ANTHROPIC_API_KEY": "a", "HOME": "/"}


def test_a_private_key_that_the_environment_names_by_its_path_wins_too() -> None:
    full, _ = settings.filled(read(SECRETS="file:x", PRIVATE_KEY_PATH="/key.pem"), {"PRIVATE_KEY": "theirs"})
    assert full.private_key is None


@pytest.mark.parametrize(
    "name", ["WEBHOOK_SECRT", "MAGICODE_PORT", "DATA_DIR", "SECRETS", "AWS_ACCESS_KEY_ID"]
)
def test_an_unknown_name_refuses_to_start_and_says_which_are_known(name: str) -> None:
    with pytest.raises(
        UnknownSettingError, match=f"{name}.*WEBHOOK_SECRET_PREVIOUS.*OPENAI_API_KEY"
    ) as refused:
        settings.filled(read(SECRETS="file:x"), {name: "hunter2"})
    assert "hunter2" not in str(refused.value)


def test_a_bad_value_is_refused_without_being_shown() -> None:
    with pytest.raises(ValidationError) as refused:
        settings.filled(read(SECRETS="file:x"), {"APP_ID": "hunter2", "WEBHOOK_SECRET": "hunter2"})
    assert "hunter2" not in str(refused.value) + repr(refused.value)


def test_no_secret_is_in_what_the_settings_show() -> None:
    full, _ = settings.filled(
        read(SECRETS="file:x"),
        dict.fromkeys(
            ["PRIVATE_KEY", "WEBHOOK_SECRET", "CLIENT_SECRET", "DATABASE_URL", "QDRANT_API_KEY"], "hunter2"
        ),
    )
    assert "hunter2" not in repr(full) + str(full) + full.model_dump_json()


# --- a house ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time for an AWS that is a thread of a busy process."""
    monkeypatch.setattr(aws_clients, "BRIEF", Patience(connect=30.0, answer=30.0, calls=1))


@pytest.fixture(scope="module")
def pem() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()).decode()


async def post(web: Any, secret: str) -> int:
    body = json.dumps({"zen": "Half measures are as bad as nothing at all.", "hook_id": 1}).encode()
    headers = {
        "x-github-event": "ping",
        "x-github-delivery": "72d3162e-cc78-11e3-81ab-4c9367dc0958",
        "x-hub-signature-256": Secrets(secret).sign(body),
        "content-type": "application/json",
    }
    async with httpx.AsyncClient(transport=httpx.ASGITransport(web), base_url="http://app") as client:
        return (await client.post("/webhooks/github", content=body, headers=headers)).status_code


@pytest.mark.usefixtures("patience")
async def test_a_service_starts_with_aws_alone_and_its_webhook_secret_changes_under_it(
    aws: Aws, database: Any, pem: str, tmp_path: Path
) -> None:
    held = {
        "APP_ID": 7,
        "PRIVATE_KEY": pem,
        "WEBHOOK_SECRET": "first",
        "DATABASE_URL": database.service_url,
        "ANTHROPIC_API_KEY": "key",
    }
    name, alias = aws.secret(json.dumps(held)), aws.alias(aws.key())
    given = read(SECRETS=f"aws-secretsmanager:{name}", MASTER_KEY=f"aws-kms:{alias}", DATA_DIR=str(tmp_path))
    async with open_house(given, {}) as house:
        web = create(house)
        assert await post(web, "first") == 202
        assert await post(web, "second") == 401
        aws.put(name, json.dumps({**held, "WEBHOOK_SECRET": "second", "WEBHOOK_SECRET_PREVIOUS": "first"}))
        house.webhook_secrets._asked_at -= 10  # type: ignore[attr-defined]
        assert await post(web, "second") == 202
        assert await post(web, "first") == 202
        assert [one.provider for one in house.models.where()] == ["anthropic"]
        async with house.store.transaction(0) as transaction:
            await house.keys.data_key(transaction)
            stored = await transaction.wrapped_key()
    assert stored is not None
    assert stored[0].startswith("arn:aws:kms:")
    assert not (tmp_path / "master.key").exists()


@pytest.mark.usefixtures("patience")
async def test_the_records_open_with_the_secrets_and_the_master_key_of_the_settings(
    aws: Aws, database: Any, tmp_path: Path
) -> None:
    name, key = aws.secret(json.dumps({"DATABASE_URL": database.service_url})), aws.key()
    given = read(SECRETS=f"aws-secretsmanager:{name}", DATA_DIR=str(tmp_path), MASTER_KEY=f"aws-kms:{key}")
    async with open_records(given) as records:
        await records.store.ping()
        assert isinstance(records.master, KmsMasterKey)
        assert records.master.id == key
    async with open_records(read(DATABASE_URL=database.service_url, DATA_DIR=str(tmp_path))) as records:
        assert isinstance(records.master, FileMasterKey)


@pytest.mark.usefixtures("patience")
async def test_a_service_whose_secrets_or_master_key_cannot_be_had_says_so_at_once(
    aws: Aws, database: Any, tmp_path: Path
) -> None:
    for changes in (
        {"SECRETS": "aws-secretsmanager:none"},
        {"SECRETS": f"file:{tmp_path / 'none'}"},
        {"SECRETS": "vault:x"},
        {"MASTER_KEY": "aws-kms:alias/none"},
        {"MASTER_KEY": "none"},
    ):
        given = read(DATABASE_URL=database.service_url, DATA_DIR=str(tmp_path), **changes)
        with pytest.raises(MagicodeError, match=f"MAGICODE_{next(iter(changes))}") as refused:
            async with open_records(given):
                pass
        assert refused.value.message
    assert issubclass(AwsRefusedError, MagicodeError)


async def test_a_service_refuses_to_start_under_a_master_key_that_is_not_its_own(
    aws: Aws, database: Any, pem: str, tmp_path: Path
) -> None:
    held = {"APP_ID": "7", "PRIVATE_KEY": pem, "WEBHOOK_SECRET": "w", "DATABASE_URL": database.service_url}
    held |= {"DATA_DIR": str(tmp_path), "WORKER": "false"}
    async with open_house(read(**held), {}) as house, house.store.transaction(0) as transaction:
        before = await house.keys.data_key(transaction)
    key = aws.key()
    with pytest.raises(WrongMasterKeyError, match="MAGICODE_MASTER_KEY"):
        async with open_house(read(**held, MASTER_KEY=f"aws-kms:{key}"), {}):
            pass
    both = f"aws-kms:{key},file:{tmp_path / 'master.key'}"
    async with (
        open_house(read(**held, MASTER_KEY=both), {}) as house,
        house.store.transaction(0) as transaction,
    ):
        assert await house.keys.existing_key(transaction) == before


async def test_a_service_with_its_secrets_in_a_file_hides_them_from_the_sandbox(
    database: Any, pem: str, tmp_path: Path
) -> None:
    place = tmp_path / "apart" / "secrets"
    open_secrets(f"file:{place}").keep(
        {"APP_ID": "7", "PRIVATE_KEY": pem, "WEBHOOK_SECRET": "w", "DATABASE_URL": database.service_url}
    )
    given = read(SECRETS=f"file:{place}", DATA_DIR=str(tmp_path / "data"), MODEL="anthropic:m")
    async with open_house(given, {"ANTHROPIC_API_KEY": "key"}) as house:
        assert place.parent in house.sandbox._hidden  # type: ignore[union-attr]


async def test_what_setting_up_left_beside_the_data_is_read_where_nothing_else_is_named(
    tmp_path: Path,
) -> None:
    assert await filled(read(DATA_DIR=str(tmp_path)), {}) == (read(DATA_DIR=str(tmp_path)), {}, None)
    open_secrets(f"file:{tmp_path}/app.secrets").keep({"APP_ID": "7", "RELAY_URL": "https://relay.example/c"})
    full, _, _ = await filled(read(DATA_DIR=str(tmp_path)), {})
    assert (full.app_id, full.relay_url) == (7, "https://relay.example/c")
    place = tmp_path / "named"
    open_secrets(f"file:{place}").keep({"APP_ID": "8"})
    full, _, _ = await filled(read(DATA_DIR=str(tmp_path), SECRETS=f"file:{place}"), {})
    assert (full.app_id, full.relay_url) == (8, None)


def test_the_folders_of_the_secrets_are_hidden_from_the_sandbox(tmp_path: Path) -> None:
    sandbox = open_sandbox(read(MASTER_KEY=f"file:{tmp_path}/a/key", SECRETS=f"file:{tmp_path}/b/secrets"))
    assert sandbox is not None
    assert {tmp_path / "a", tmp_path / "b"} <= set(sandbox._hidden)
