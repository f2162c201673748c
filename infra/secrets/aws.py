"""AWS's clients for keys and secrets, and what their errors mean here.

Credentials, region and endpoint come from AWS's own places: its environment variables, its files, the machine's role.
https://docs.aws.amazon.com/sdkref/latest/guide/settings-reference.html
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    HTTPClientError,
    NoAuthTokenError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
)
from botocore.exceptions import ConnectionError as UnreachableError

from app.errors import RefusedError, TransientError

if TYPE_CHECKING:
    from types_boto3_kms import KMSClient
    from types_boto3_secretsmanager import SecretsManagerClient

_PASSING = frozenset(
    {
        "DependencyTimeoutException",
        "InternalFailure",
        "InternalServiceError",
        "InternalServiceErrorException",
        "KMSInternalException",
        "KeyUnavailableException",
        "LimitExceededException",
        "RequestLimitExceeded",
        "ServiceUnavailable",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)
"""Besides every answer of 429 or from 500 on.

https://docs.aws.amazon.com/kms/latest/APIReference/CommonErrors.html
https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_GetSecretValue.html#API_GetSecretValue_Errors
"""


class AwsAwayError(TransientError):
    """AWS cannot be reached or asks to be left alone for a while; the step is tried again."""


class AwsRefusedError(RefusedError):
    """AWS refused to use the master key or to hand out the App's secrets."""


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds to wait for a connection and for an answer, and how often a call is made in all."""

    connect: float = 3.0
    answer: float = 5.0
    calls: int = 3


PATIENCE = Patience()
BRIEF = Patience(connect=2.0, answer=3.0, calls=1)
"""Where somebody waits for an answer of ours meanwhile."""


def kms(key: str, patience: Patience = PATIENCE) -> KMSClient:
    """A client in the region of the key's ARN, or in the environment's. Raises AwsRefusedError."""
    with translated(_REGION_REMEDY):
        return boto3.session.Session().client("kms", region_name=_region(key), config=_config(patience))


def secrets_manager(secret: str, patience: Patience = PATIENCE) -> SecretsManagerClient:
    """A client in the region of the secret's ARN, or in the environment's. Raises AwsRefusedError."""
    with translated(_REGION_REMEDY):
        return boto3.session.Session().client(
            "secretsmanager", region_name=_region(secret), config=_config(patience)
        )


_REGION_REMEDY = "Set AWS_REGION, and give the service's role or AWS's environment variables credentials."


@contextmanager
def translated(remedy: str) -> Iterator[None]:
    """AWS's errors as ours, by their code alone: their texts name accounts and principals.

    Raises AwsAwayError for what passes by itself, else AwsRefusedError, whose message ends with the `remedy`.
    """
    try:
        yield
    except ClientError as error:
        code, status = error_code(error), error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if code in _PASSING or status == 429 or status >= 500:
            raise AwsAwayError(reason="aws_away") from None
        raise AwsRefusedError(f"AWS refused: {code}. {remedy}", reason="aws_refused") from None
    except (NoCredentialsError, PartialCredentialsError, NoAuthTokenError, NoRegionError) as error:
        raise AwsRefusedError(
            f"AWS cannot be asked: {type(error).__name__}. {_REGION_REMEDY}", reason="aws_unconfigured"
        ) from None
    except (UnreachableError, HTTPClientError, CredentialRetrievalError):
        raise AwsAwayError(reason="aws_away") from None
    except BotoCoreError as error:
        raise AwsRefusedError(
            f"AWS cannot be asked: {type(error).__name__}. {remedy}", reason="aws_unconfigured"
        ) from None


def error_code(error: ClientError) -> str:
    """AWS's name for an error, such as `AccessDeniedException`."""
    code = error.response.get("Error", {}).get("Code", "")
    return code if code.isalnum() else "an answer without a code"


def _region(named: str) -> str | None:
    """An ARN's own region, `arn:aws:kms:REGION:…`; boto3 itself does not read AWS_REGION, which AWS's containers set.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference-arns.html
    """
    parts = named.split(":")
    if parts[0] == "arn" and len(parts) > 5 and parts[3]:
        return parts[3]
    return os.environ.get("AWS_REGION") or None


def _config(patience: Patience) -> Config:
    return Config(
        connect_timeout=patience.connect,
        read_timeout=patience.answer,
        retries={"mode": "standard", "total_max_attempts": patience.calls},
    )
