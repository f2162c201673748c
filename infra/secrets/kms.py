"""The master key in AWS KMS: it never leaves there, and each data key is wrapped and unwrapped by a call."""

from __future__ import annotations

import re
import secrets
from threading import Lock
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from app.errors import DefectError, WrongMasterKeyError
from infra.secrets.aws import error_code, translated
from infra.secrets.ring import CHANGED

if TYPE_CHECKING:
    from types_boto3_kms import KMSClient

_CONTEXT = {"purpose": "magicode/data-key"}
"""Bound to each wrapped key, and written into CloudTrail:
https://docs.aws.amazon.com/kms/latest/developerguide/encrypt_context.html"""

_ARN = re.compile(r"arn:[a-z-]+:kms:[a-z0-9-]+:[0-9]{12}:")

_WRONG = frozenset({"InvalidCiphertextException", "IncorrectKeyException"})

_REMEDY = (
    "Let the service's role kms:Encrypt and kms:Decrypt with the key that MAGICODE_MASTER_KEY names and with the one "
    "before it, and see that they are enabled, symmetric keys of this account and region."
)


class KmsMasterKey:
    """Implements app.ports.MasterKey by Encrypt and Decrypt; the id is the key's ARN.

    https://docs.aws.amazon.com/kms/latest/APIReference/API_Encrypt.html
    https://docs.aws.amazon.com/kms/latest/APIReference/API_Decrypt.html
    """

    def __init__(self, key: str, client: KMSClient) -> None:
        """`key` is a key's id, ARN or alias. Wraps and unwraps once, so that a missing permission is told at the start.

        Raises AwsAwayError, AwsRefusedError.
        """
        self._key = key
        self._client = client
        self._lock = Lock()  # what was answered later is remembered later
        self._id = ""
        probe = secrets.token_bytes(32)
        if self._unwrap(self._id, self.wrap(probe)) != probe:
            raise DefectError("KMS returned other bytes than it was given.", reason="master_key_unsound")

    def __repr__(self) -> str:
        return f"KmsMasterKey({self._id})"

    @property
    def id(self) -> str:
        return self._id

    def wrap(self, key: bytes) -> bytes:
        """Under the key that the alias names now; `id` says afterwards which that is. Raises as the constructor."""
        with translated(_REMEDY), self._lock:
            answer = self._client.encrypt(KeyId=self._key, Plaintext=key, EncryptionContext=_CONTEXT)
            self._id = answer["KeyId"]
        return answer["CiphertextBlob"]

    def unwrap(self, master_key_id: str, wrapped: bytes) -> bytes:
        """Raises WrongMasterKeyError for bytes that were changed, and without asking for a key of another account or
        region: who can write into the database must not choose whom we ask."""
        here = _ARN.match(self._id)
        if here is None or not master_key_id.startswith(here[0]):
            raise WrongMasterKeyError
        return self._unwrap(master_key_id, wrapped)

    def begin(self) -> None:
        """See where the alias points now."""
        self.wrap(secrets.token_bytes(32))

    def finish(self, under: str, *, keep_old: bool) -> int:
        """0: a key of KMS is disabled and deleted there, by whoever owns it."""
        del under, keep_old
        return 0

    def _unwrap(self, master_key_id: str, wrapped: bytes) -> bytes:
        with translated(_REMEDY):
            try:
                answer = self._client.decrypt(
                    KeyId=master_key_id or self._id, CiphertextBlob=wrapped, EncryptionContext=_CONTEXT
                )
            except ClientError as error:
                if error_code(error) in _WRONG:
                    raise WrongMasterKeyError("A wrapped data key was changed.", reason=CHANGED) from None
                raise
        return answer["Plaintext"]
