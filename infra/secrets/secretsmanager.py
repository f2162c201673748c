"""In AWS Secrets Manager: the master key, a version of its secret for each key of the ring, the current one AWSCURRENT;
and the App's own secrets.

https://docs.aws.amazon.com/secretsmanager/latest/userguide/whats-in-a-secret.html
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from threading import RLock
from typing import TYPE_CHECKING
from uuid import NAMESPACE_URL, uuid5

from botocore.exceptions import ClientError

from infra.secrets.apps import parsed
from infra.secrets.aws import AwsRefusedError, error_code, translated
from infra.secrets.ring import KEY_BYTES, DamagedError, Ring, line, new_key
from infra.secrets.ring import read as read_ring

if TYPE_CHECKING:
    from types_boto3_secretsmanager import SecretsManagerClient

_HOLDER = "aws-secretsmanager"
_CURRENT, _PREVIOUS = "AWSCURRENT", "AWSPREVIOUS"
_KEPT = "MAGICODE_KEPT_"
"""With a part of the version's id behind it, since a label stands at one version at a time."""

_REMEDY = (
    "Make the secret that MAGICODE_MASTER_KEY names, empty, and let the service's role secretsmanager:GetSecretValue, "
    "DescribeSecret, PutSecretValue and UpdateSecretVersionStage on it."
)

_APPS_REMEDY = "Make the secret that MAGICODE_SECRETS names, and let the service's role secretsmanager:GetSecretValue on it."

_KEEPING_REMEDY = (
    "Make the secret that MAGICODE_SECRETS names, empty, and let whoever sets the App up secretsmanager:GetSecretValue and "
    "PutSecretValue on it."
)


class MasterKeySecretError(AwsRefusedError):
    """The secret holds no master key. Bring back the version that did, or name another secret in MAGICODE_MASTER_KEY.

    Without it nothing that was sealed for a customer can be opened again, so it is never replaced silently.
    """


@dataclass(frozen=True, slots=True)
class _Version:
    id: str
    labels: frozenset[str]

    @property
    def kept(self) -> bool:
        return any(label.startswith(_KEPT) for label in self.labels)


class SecretsManagerMasterKey:
    """Implements app.ports.MasterKey, and its rotation. Raises AwsAwayError, AwsRefusedError, MasterKeySecretError."""

    def __init__(self, secret: str, client: SecretsManagerClient) -> None:
        """Reads the current key; a secret without any version is given one."""
        self._secret = secret
        self._client = client
        self._lock = RLock()  # what was read later is remembered later
        if not self._versions():
            self._put("")
        self._ring = Ring(_HOLDER, (self._current(),))

    def __repr__(self) -> str:
        return f"SecretsManagerMasterKey({self.id})"

    @property
    def id(self) -> str:
        return self._ring.id

    def wrap(self, key: bytes) -> bytes:
        """Under the version that is AWSCURRENT now."""
        with self._lock:
            current = Ring(_HOLDER, (self._current(),))
            if current.id != self.id:
                self._again()
        return current.wrap(key)

    def unwrap(self, master_key_id: str, wrapped: bytes) -> bytes:
        """Raises WrongMasterKeyError when no labelled version wrapped it, or the bytes were changed."""
        ring = self._ring
        if master_key_id not in ring and master_key_id.startswith(_HOLDER):
            ring = self._again()
        return ring.unwrap(master_key_id, wrapped)

    def begin(self) -> None:
        """A new version, unless the one before is not yet done with: a rotation of ours or somebody else's."""
        versions = self._versions()
        if not any(_PREVIOUS in version.labels and not version.kept for version in versions):
            current = next((version.id for version in versions if _CURRENT in version.labels), "")
            self._put(current)
        self._again()

    def finish(self, under: str, *, keep_old: bool) -> int:
        """Takes every label off the versions before `under`, which Secrets Manager then deletes in its own time; or marks
        them as kept. Returns how many were let go: none where `under` is no longer the current one."""
        if self._again().id != under:
            return 0
        old = [version for version in self._versions() if _CURRENT not in version.labels]
        for version in old:
            if not keep_old:
                for label in sorted(version.labels):
                    self._unlabel(version, label)
            elif not version.kept:
                self._label(version, _KEPT + version.id[:8])
        self._again()
        return 0 if keep_old else len(old)

    def _again(self) -> Ring:
        """Every labelled version, the current one first."""
        with self._lock:
            held = sorted(
                self._versions(), key=lambda one: (_CURRENT not in one.labels, _PREVIOUS not in one.labels)
            )
            self._ring = ring = Ring(_HOLDER, tuple(self._key(VersionId=version.id) for version in held))
        return ring

    def _current(self) -> bytes:
        return self._key(VersionStage=_CURRENT)

    def _key(self, **which: str) -> bytes:
        """One version's key: the file's line, or 32 bytes as they are."""
        with translated(_REMEDY):
            answer = self._client.get_secret_value(SecretId=self._secret, **which)
        raw = answer.get("SecretBinary", b"")
        if len(raw) == KEY_BYTES:
            return raw
        try:
            ring = read_ring(_HOLDER, answer.get("SecretString", "").encode())
        except DamagedError:
            raise MasterKeySecretError(reason="master_key_damaged") from None
        if len(ring.keys) != 1:
            raise MasterKeySecretError(reason="master_key_damaged")
        return ring.keys[0]

    def _versions(self) -> list[_Version]:
        """Those with a label; the others are on their way out.

        https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_DescribeSecret.html
        """
        with translated(_REMEDY):
            answer = self._client.describe_secret(SecretId=self._secret)
        found = answer.get("VersionIdsToStages", {})
        return [_Version(name, frozenset(labels)) for name, labels in found.items() if labels]

    def _put(self, behind: str) -> None:
        """A new key behind the version `behind`. The token makes the version's id: of two who do this at once the second
        is told that it exists already, and takes the first one's.

        https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_PutSecretValue.html
        """
        token = str(
            uuid5(NAMESPACE_URL, f"magicode:{behind or hashlib.sha256(self._secret.encode()).hexdigest()}")
        )
        with translated(_REMEDY):
            try:
                self._client.put_secret_value(
                    SecretId=self._secret, SecretString=line(new_key()), ClientRequestToken=token
                )
            except ClientError as error:
                if error_code(error) != "ResourceExistsException":
                    raise

    def _label(self, version: _Version, label: str) -> None:
        with translated(_REMEDY):
            self._client.update_secret_version_stage(
                SecretId=self._secret, VersionStage=label, MoveToVersionId=version.id
            )

    def _unlabel(self, version: _Version, label: str) -> None:
        with translated(_REMEDY):
            self._client.update_secret_version_stage(
                SecretId=self._secret, VersionStage=label, RemoveFromVersionId=version.id
            )


class SecretsManagerSecrets:
    """Implements infra.secrets.apps.AppSecrets by the current version of a secret."""

    def __init__(self, secret: str, client: SecretsManagerClient) -> None:
        self._secret = secret
        self._client = client

    def read(self) -> Mapping[str, str]:
        """Raises SecretsUnreadableError, AwsAwayError, AwsRefusedError."""
        with translated(_APPS_REMEDY):
            return self._held()

    def keep(self, found: Mapping[str, str]) -> None:
        """As a new version, in JSON. The secret is there already; it may be empty."""
        with translated(_KEEPING_REMEDY):
            try:
                held = self._held()
            except ClientError as error:
                if error_code(error) != "ResourceNotFoundException":
                    raise
                held = {}  # no version yet; of a secret that is not there nothing can be kept either
            document = json.dumps({**held, **found})
            self._client.put_secret_value(SecretId=self._secret, SecretString=document)

    def _held(self) -> Mapping[str, str]:
        answer = self._client.get_secret_value(SecretId=self._secret)
        return parsed(answer.get("SecretString", "").encode() or answer.get("SecretBinary", b""))
