"""AWS as moto plays it, over real HTTP: one server for the process, its keys and secrets made by each test."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any
from uuid import uuid4

import boto3
import pytest
from moto.secretsmanager.responses import SecretsManagerResponse
from moto.server import ThreadedMotoServer

REGION = "eu-central-1"


@cache
def _client(service: str, url: str) -> Any:
    return boto3.session.Session().client(
        service,
        region_name=REGION,
        endpoint_url=url,
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
    )


@dataclass(frozen=True)
class Aws:
    """What a test makes there. The environment names the server, as it names a real endpoint."""

    url: str

    def client(self, service: str) -> Any:
        return _client(service, self.url)

    def key(self) -> str:
        """A new key's ARN."""
        return str(self.client("kms").create_key()["KeyMetadata"]["Arn"])

    def alias(self, key: str) -> str:
        name = f"alias/{uuid4().hex}"
        self.client("kms").create_alias(AliasName=name, TargetKeyId=key)
        return name

    def move_alias(self, alias: str, key: str) -> None:
        self.client("kms").update_alias(AliasName=alias, TargetKeyId=key)

    def secret(self, text: str | None = None) -> str:
        """A new secret's name."""
        name = f"magicode/{uuid4().hex}"
        given = {} if text is None else {"SecretString": text}
        self.client("secretsmanager").create_secret(Name=name, **given)
        return name

    def put(self, secret: str, text: str) -> None:
        self.client("secretsmanager").put_secret_value(SecretId=secret, SecretString=text)

    def text(self, secret: str) -> str:
        return str(self.client("secretsmanager").get_secret_value(SecretId=secret)["SecretString"])

    def labels(self, secret: str) -> list[list[str]]:
        """Of each version that has any."""
        found = self.client("secretsmanager").list_secret_version_ids(SecretId=secret)["Versions"]
        return sorted(sorted(version["VersionStages"]) for version in found if version["VersionStages"])


@pytest.fixture(scope="session")
def moto_url() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SecretsManagerResponse, "call_action", _one_at_a_time)
        server.start()
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
        server.stop()


_playing = threading.Lock()
_call_action = SecretsManagerResponse.call_action


def _one_at_a_time(response: SecretsManagerResponse) -> Any:
    """Each call is atomic at AWS; moto looks first and writes then, and other threads between."""
    with _playing:
        return _call_action(response)


@pytest.fixture
def aws(moto_url: str, monkeypatch: pytest.MonkeyPatch) -> Aws:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto_url)
    monkeypatch.setenv("AWS_REGION", REGION)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    return Aws(moto_url)
