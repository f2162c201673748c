"""Which master key and which secrets the settings MAGICODE_MASTER_KEY and MAGICODE_SECRETS name.

AWS's library is loaded only where AWS is named. What is opened here may ask AWS, so it is called in a thread.
"""

from __future__ import annotations

from pathlib import Path

from app.errors import UserError
from infra.secrets.apps import AppSecrets, FileSecrets
from infra.secrets.file import FileMasterKey
from infra.secrets.several import OneMasterKey, SeveralMasterKeys

FILE, KMS, SECRETS_MANAGER = "file", "aws-kms", "aws-secretsmanager"


class SecretSettingError(UserError):
    """MAGICODE_MASTER_KEY is file:PATH, aws-kms:KEY or aws-secretsmanager:SECRET, or several of them with commas between;
    MAGICODE_SECRETS is file:PATH or aws-secretsmanager:SECRET."""


def open_master_key(setting: str, default: Path) -> OneMasterKey:
    """The master key that the setting names; where it is empty, the file `default`. With several, the first wraps.

    Raises SecretSettingError, MasterKeyFileError, AwsAwayError, AwsRefusedError.
    """
    if not setting.strip():
        return FileMasterKey(default)
    opened = [_master_key(one) for one in setting.split(",")]
    return opened[0] if len(opened) == 1 else SeveralMasterKeys(*opened)


def open_secrets(setting: str) -> AppSecrets:
    """Where the setting says that the App's secrets are. Raises SecretSettingError."""
    kind, name = _parts(setting)
    if kind == FILE:
        return FileSecrets(Path(name))
    if kind != SECRETS_MANAGER:
        raise SecretSettingError
    from infra.secrets import aws  # noqa: PLC0415 (see the module's docstring)
    from infra.secrets.secretsmanager import SecretsManagerSecrets  # noqa: PLC0415

    # A delivery of GitHub's may wait for it, and GitHub waits ten seconds.
    return SecretsManagerSecrets(name, aws.secrets_manager(name, aws.BRIEF))


def files(*settings: str) -> list[Path]:
    """The files that the settings name: what no sandbox may see."""
    pairs = (one.strip().partition(":") for setting in settings for one in setting.split(","))
    return [Path(name) for kind, _, name in pairs if kind == FILE and name]


def _master_key(setting: str) -> OneMasterKey:
    kind, name = _parts(setting)
    if kind == FILE:
        return FileMasterKey(Path(name))
    from infra.secrets import aws  # noqa: PLC0415 (see the module's docstring)
    from infra.secrets.kms import KmsMasterKey  # noqa: PLC0415
    from infra.secrets.secretsmanager import SecretsManagerMasterKey  # noqa: PLC0415

    if kind == KMS:
        return KmsMasterKey(name, aws.kms(name))
    if kind == SECRETS_MANAGER:
        return SecretsManagerMasterKey(name, aws.secrets_manager(name))
    raise SecretSettingError


def _parts(setting: str) -> tuple[str, str]:
    kind, _, name = setting.strip().partition(":")
    if not name:
        raise SecretSettingError
    return kind, name
