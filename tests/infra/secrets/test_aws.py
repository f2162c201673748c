"""What AWS's answers mean here: what is tried again, what is refused and with which words."""

from __future__ import annotations

import base64
import io
import logging
import socket
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest
from botocore.exceptions import ClientError, NoCredentialsError, ReadTimeoutError

from app.errors import RefusedError, TransientError, WrongMasterKeyError
from infra.secrets.aws import AwsAwayError, AwsRefusedError, Patience, kms, secrets_manager, translated
from infra.secrets.choose import open_secrets
from infra.secrets.kms import KmsMasterKey
from infra.secrets.secretsmanager import MasterKeySecretError, SecretsManagerMasterKey
from infra.telemetry import set_up
from tests.aws import Aws, aws, moto_url

__all__ = ["aws", "moto_url"]

ARN = "arn:aws:kms:eu-central-1:123456789012:key/1"


def refusal(code: str, status: int = 400) -> ClientError:
    return ClientError(
        {
            "Error": {"Code": code, "Message": "user arn:aws:iam::1:user/mona hunter2"},
            "ResponseMetadata": {
                "HTTPStatusCode": status,
                "RequestId": "1",
                "HostId": "",
                "HTTPHeaders": {},
                "RetryAttempts": 0,
            },
        },
        "Decrypt",
    )


@pytest.mark.parametrize(
    "error",
    [
        refusal("ThrottlingException"),
        refusal("KMSInternalException", 500),
        refusal("DependencyTimeoutException", 500),
        refusal("KeyUnavailableException"),
        refusal("Unheard", 503),
        refusal("Unheard", 429),
        ReadTimeoutError(endpoint_url="http://hunter2"),
    ],
)
def test_what_passes_by_itself_is_transient(error: Exception) -> None:
    with pytest.raises(AwsAwayError) as away, translated("help"):
        raise error
    assert isinstance(away.value, TransientError)
    assert "hunter2" not in str(away.value)


@pytest.mark.parametrize(
    "error",
    [
        refusal("AccessDeniedException"),
        refusal("DisabledException"),
        refusal("KMSInvalidStateException"),
        refusal("hunter2 <!doctype html>"),
        NoCredentialsError(),
    ],
)
def test_what_does_not_is_refused_with_what_would_help_and_without_aws_own_words(error: Exception) -> None:
    with pytest.raises(AwsRefusedError) as refused, translated("Let the role do it."):
        raise error
    assert isinstance(refused.value, RefusedError)
    assert "hunter2" not in str(refused.value)
    assert refused.value.__cause__ is None
    assert "role" in refused.value.message


class Kms:
    """As much of AWS as the master key asks; `answers` are what decrypt says, errors are raised."""

    def __init__(self, arn: str = ARN) -> None:
        self.arn = arn
        self.error: Exception | None = None
        self.asked: list[str] = []

    def encrypt(self, **given: Any) -> dict[str, Any]:
        return {"KeyId": self.arn, "CiphertextBlob": given["Plaintext"][::-1]}

    def decrypt(self, **given: Any) -> dict[str, Any]:
        self.asked.append(given["KeyId"])
        if self.error:
            raise self.error
        return {"KeyId": given["KeyId"], "Plaintext": given["CiphertextBlob"][::-1]}


@pytest.mark.parametrize("code", ["InvalidCiphertextException", "IncorrectKeyException"])
def test_bytes_that_kms_did_not_make_are_a_wrong_master_key(code: str) -> None:
    there: Any = Kms()
    key = KmsMasterKey("alias/x", there)
    there.error = refusal(code)
    with pytest.raises(WrongMasterKeyError):
        key.unwrap(ARN, b"wrapped")


def test_kms_is_not_asked_for_keys_of_other_accounts_regions_and_partitions() -> None:
    there: Any = Kms()
    key = KmsMasterKey("alias/x", there)
    there.asked.clear()
    for other in (
        ARN.replace("123456789012", "999999999999"),
        ARN.replace("eu-central-1", "us-east-1"),
        ARN.replace("aws:", "aws-cn:"),
        "alias/theirs",
        "",
    ):
        with pytest.raises(WrongMasterKeyError):
            key.unwrap(other, b"wrapped")
    assert there.asked == []
    assert key.unwrap(ARN.replace("key/1", "key/2"), b"wrapped") == b"depparw"


def test_a_key_that_may_not_be_used_is_said_at_the_start(aws: Aws) -> None:
    with pytest.raises(AwsRefusedError, match=r"NotFoundException.*kms:Encrypt and kms:Decrypt"):
        KmsMasterKey("alias/none", kms("alias/none"))
    with pytest.raises(AwsRefusedError, match=r"ResourceNotFoundException.*MAGICODE_MASTER_KEY"):
        SecretsManagerMasterKey("none", secrets_manager("none"))


def test_a_secret_that_holds_something_else_is_refused_and_left_alone(aws: Aws) -> None:
    secret = aws.secret("hunter2")
    with pytest.raises(MasterKeySecretError) as refused:
        SecretsManagerMasterKey(secret, secrets_manager(secret))
    assert "hunter2" not in refused.value.message
    assert aws.text(secret) == "hunter2"


def test_thirty_two_bytes_that_somebody_put_there_are_a_master_key(aws: Aws) -> None:
    name = aws.secret()
    aws.client("secretsmanager").put_secret_value(SecretId=name, SecretBinary=bytes(range(32)))
    one, other = (SecretsManagerMasterKey(name, secrets_manager(name)) for _ in range(2))
    assert other.unwrap(one.id, one.wrap(bytes(32))) == bytes(32)


def test_a_version_that_somebody_else_put_is_moved_to_and_not_followed_by_another(aws: Aws) -> None:
    """AWS's own rotation, or a person in the console."""
    name = aws.secret()
    master = SecretsManagerMasterKey(name, secrets_manager(name))
    old, wrapped = master.id, master.wrap(bytes(32))
    aws.client("secretsmanager").put_secret_value(SecretId=name, SecretBinary=bytes(range(32)))
    fresh = SecretsManagerMasterKey(name, secrets_manager(name))
    assert fresh.id != old
    master.begin()
    assert master.id == fresh.id
    assert master.unwrap(old, wrapped) == fresh.unwrap(old, wrapped) == bytes(32)
    assert aws.labels(name) == [["AWSCURRENT"], ["AWSPREVIOUS"]]


def test_two_who_start_at_once_on_an_empty_secret_agree(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    name = aws.secret()
    first = SecretsManagerMasterKey(name, secrets_manager(name))
    with monkeypatch.context() as patch:
        looks = [True]
        versions = SecretsManagerMasterKey._versions
        patch.setattr(
            SecretsManagerMasterKey, "_versions", lambda self: [] if looks and looks.pop() else versions(self)
        )
        second = SecretsManagerMasterKey(name, secrets_manager(name))
    assert second.id == first.id


def test_the_region_is_the_arns_own_or_the_environments(monkeypatch: pytest.MonkeyPatch, aws: Aws) -> None:
    assert kms(ARN.replace("eu-central-1", "us-west-2")).meta.region_name == "us-west-2"
    assert kms("alias/x").meta.region_name == "eu-central-1"
    monkeypatch.delenv("AWS_REGION")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "sa-east-1")
    assert kms("alias/x").meta.region_name == "sa-east-1"
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    with pytest.raises(AwsRefusedError, match="AWS_REGION"):
        kms("alias/x")


def test_no_credentials_are_said(monkeypatch: pytest.MonkeyPatch, aws: Aws) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(AwsRefusedError, match=r"NoCredentialsError.*credentials"):
        KmsMasterKey("alias/x", kms("alias/x"))


def test_an_aws_that_does_not_answer_is_given_up_on(monkeypatch: pytest.MonkeyPatch, aws: Aws) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        # Built beforehand: AWS's library reads its own descriptions for that, at the pace of the machine.
        clients = [kms("alias/x", Patience(connect=0.2, answer=0.2, calls=1)) for _ in range(2)]
        started = time.monotonic()
        with pytest.raises(AwsAwayError):
            KmsMasterKey("alias/x", clients[0])
    with pytest.raises(AwsAwayError):
        KmsMasterKey("alias/x", clients[1])
    assert time.monotonic() - started < 10, "less than the patience that nobody has named takes"


@pytest.fixture
def out() -> Iterator[io.StringIO]:
    """What the service logs, with the root logger put back afterwards."""
    root = logging.getLogger()
    handlers, level, hook = root.handlers[:], root.level, sys.excepthook
    stream = io.StringIO()
    set_up("debug", stream)
    yield stream
    root.handlers[:], sys.excepthook = handlers, hook
    root.setLevel(level)
    logging.captureWarnings(False)


def test_the_services_log_shows_no_key_even_where_awss_library_would_tell_all(
    aws: Aws, out: io.StringIO, caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger().addHandler(caplog.handler)
    data_key = bytes(range(100, 132))
    named, secret = aws.key(), aws.secret()
    for key in (KmsMasterKey(named, kms(named)), SecretsManagerMasterKey(secret, secrets_manager(secret))):
        assert key.unwrap(key.id, key.wrap(data_key)) == data_key
    said = base64.b64encode(data_key).decode()
    assert said in caplog.text, "boto3 logs what it sends, for those who ask it to"
    digits = aws.text(secret).split()[1]
    for shown in (said, digits, data_key.hex(), repr(data_key)[2:-1]):
        assert shown not in out.getvalue()


class Broken(BaseHTTPRequestHandler):
    """An AWS that fails each time, and counts."""

    asked: ClassVar[list[str]] = []

    def do_POST(self) -> None:
        self.asked.append(self.headers["X-Amz-Target"])
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(500)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        return


def test_an_aws_that_fails_is_asked_three_times_and_once_where_somebody_waits(
    monkeypatch: pytest.MonkeyPatch, aws: Aws
) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Broken) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        with pytest.raises(AwsAwayError):
            KmsMasterKey("alias/x", kms("alias/x"))
        assert Broken.asked == ["TrentService.Encrypt"] * 3
        Broken.asked.clear()
        secrets = open_secrets("aws-secretsmanager:x")
        assert secrets is not None
        with pytest.raises(AwsAwayError):
            secrets.read()
        assert Broken.asked == ["secretsmanager.GetSecretValue"]
        server.shutdown()
