"""The App's own secrets, in a file and in AWS Secrets Manager."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from app.errors import MagicodeError
from infra.secrets.apps import SecretsUnreadableError, parsed
from infra.secrets.aws import AwsRefusedError
from infra.secrets.choose import SecretSettingError, files, open_master_key, open_secrets
from tests.aws import Aws, aws, moto_url

__all__ = ["aws", "moto_url"]

PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIE=\n-----END RSA PRIVATE KEY-----\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "secrets"
    path.touch(0o600)
    return path


def test_lines_are_names_and_values(path: Path) -> None:
    path.write_text(
        '# ours\n\nWEBHOOK_SECRET = a=b#c \nCLIENT_SECRET="  two words "\nAPP_ID=7\nOPENAI_API_KEY=\n'
    )
    secrets = open_secrets(f"file:{path}")
    assert secrets is not None
    assert secrets.read() == {
        "WEBHOOK_SECRET": "a=b#c",
        "CLIENT_SECRET": "  two words ",
        "APP_ID": "7",
        "OPENAI_API_KEY": "",
    }


def test_json_is_names_and_values_and_may_hold_lines(path: Path) -> None:
    path.write_text(json.dumps({"PRIVATE_KEY": PEM, "APP_ID": 7}))
    secrets = open_secrets(f"file:{path}")
    assert secrets is not None
    assert secrets.read() == {"PRIVATE_KEY": PEM, "APP_ID": "7"}
    path.write_text('{"PRIVATE_KEY": "another"}')
    assert secrets.read() == {"PRIVATE_KEY": "another"}


@pytest.mark.parametrize(
    "content",
    [
        PEM,
        "hunter2",
        "WEBHOOK_SECRET: hunter2",
        "hunter2=",
        "A=hunter2\nA=hunter2",
        "{hunter2",
        '{"A": {"b": "hunter2"}}',
        '{"A": true, "B": "hunter2"}',
        '{"a": "hunter2"}',
        b"A=hunter2\xff",
    ],
)
def test_what_is_no_list_of_secrets_is_refused_without_a_word_of_it(content: str | bytes) -> None:
    with pytest.raises(SecretsUnreadableError) as refused:
        parsed(content.encode() if isinstance(content, str) else content)
    assert refused.value.reason == "secrets_malformed"
    assert "hunter2" not in refused.value.message
    assert "MIIE" not in refused.value.message
    assert refused.value.__cause__ is None


def test_a_file_that_others_can_read_or_that_is_not_there_is_refused(path: Path, tmp_path: Path) -> None:
    path.write_text("WEBHOOK_SECRET=hunter2")
    path.chmod(0o640)
    for name, reason in ((path, "secrets_exposed"), (tmp_path / "none", "secrets_unreadable")):
        secrets = open_secrets(f"file:{name}")
        assert secrets is not None
        with pytest.raises(SecretsUnreadableError) as refused:
            secrets.read()
        assert refused.value.reason == reason
        assert "0600" in refused.value.message


def test_a_secret_in_aws_is_read_anew_each_time(aws: Aws) -> None:
    name = aws.secret('{"WEBHOOK_SECRET": "one"}')
    secrets = open_secrets(f"aws-secretsmanager:{name}")
    assert secrets is not None
    assert secrets.read() == {"WEBHOOK_SECRET": "one"}
    aws.put(name, '{"WEBHOOK_SECRET": "two", "WEBHOOK_SECRET_PREVIOUS": "one"}')
    assert secrets.read() == {"WEBHOOK_SECRET": "two", "WEBHOOK_SECRET_PREVIOUS": "one"}


def test_a_secret_that_aws_does_not_have_is_said_with_what_would_help(aws: Aws) -> None:
    secrets = open_secrets("aws-secretsmanager:none/such")
    assert secrets is not None
    with pytest.raises(AwsRefusedError, match=r"ResourceNotFoundException.*MAGICODE_SECRETS"):
        secrets.read()


@pytest.mark.parametrize("setting", ["secrets", "file:", "vault:x", "aws-kms:x", ":x", "aws-secretsmanager:"])
def test_a_setting_that_names_no_place_for_secrets_is_refused(setting: str) -> None:
    with pytest.raises(SecretSettingError):
        open_secrets(setting)


@pytest.mark.parametrize(
    "setting", ["key", "file:", "vault:x", ",", "file:a,", "aws-kms:", "aws-secretsmanager:"]
)
def test_a_setting_that_names_no_master_key_is_refused(
    setting: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MagicodeError, match="MAGICODE_MASTER_KEY"):
        open_master_key(setting, tmp_path / "master.key")


def test_the_files_that_settings_name_are_known() -> None:
    named = files("file:/a/b, aws-kms:alias/x,file:/c", "file:/d/e", "", "aws-secretsmanager:f")
    assert named == [Path("/a/b"), Path("/c"), Path("/d/e")]


# --- what is kept ----------------------------------------------------------------------------------------------------


def test_what_is_kept_joins_what_stands_there_in_its_own_form(path: Path) -> None:
    secrets = open_secrets(f"file:{path}")
    path.write_text("# ours\nWEBHOOK_SECRET = one\n\nOPENAI_API_KEY=o\n")
    secrets.keep({"WEBHOOK_SECRET": "two", "PRIVATE_KEY": PEM})
    assert path.read_text().startswith("# ours\n\nOPENAI_API_KEY=o\n")
    escaped = PEM.replace("\n", "\\n")
    assert secrets.read() == {"OPENAI_API_KEY": "o", "WEBHOOK_SECRET": "two", "PRIVATE_KEY": escaped}
    path.write_text('{"WEBHOOK_SECRET": "one", "APP_ID": 7}')
    secrets.keep({"WEBHOOK_SECRET": "two", "PRIVATE_KEY": PEM})
    assert secrets.read() == {"WEBHOOK_SECRET": "two", "APP_ID": "7", "PRIVATE_KEY": PEM}
    assert json.loads(path.read_text())["PRIVATE_KEY"] == PEM
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_is_made_where_none_is_and_one_that_others_read_is_not_written(tmp_path: Path) -> None:
    made = tmp_path / "deep" / "secrets"
    open_secrets(f"file:{made}").keep({"APP_ID": "7"})
    assert made.stat().st_mode & 0o777 == 0o600
    assert open_secrets(f"file:{made}").read() == {"APP_ID": "7"}
    made.chmod(0o644)
    with pytest.raises(SecretsUnreadableError) as refused:
        open_secrets(f"file:{made}").keep({"APP_ID": "8"})
    assert refused.value.reason == "secrets_exposed"
    made.chmod(0o600)
    made.write_text("no secrets")
    with pytest.raises(SecretsUnreadableError):
        open_secrets(f"file:{made}").keep({"APP_ID": "8"})
    assert made.read_text() == "no secrets"


def test_in_aws_what_is_kept_is_a_new_version_of_a_secret_that_is_there(aws: Aws) -> None:
    name = aws.secret('{"WEBHOOK_SECRET": "one", "OPENAI_API_KEY": "o"}')
    secrets = open_secrets(f"aws-secretsmanager:{name}")
    secrets.keep({"WEBHOOK_SECRET": "two", "PRIVATE_KEY": PEM})
    assert secrets.read() == {"OPENAI_API_KEY": "o", "WEBHOOK_SECRET": "two", "PRIVATE_KEY": PEM}
    empty = open_secrets(f"aws-secretsmanager:{aws.secret()}")
    empty.keep({"APP_ID": "7"})
    assert empty.read() == {"APP_ID": "7"}
    with pytest.raises(AwsRefusedError, match=r"ResourceNotFoundException.*PutSecretValue"):
        open_secrets("aws-secretsmanager:none/such").keep({"APP_ID": "7"})
