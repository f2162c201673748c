"""`app.ports.Objects` in a bucket of S3, or of what speaks its language.

Region, endpoint and credentials come from AWS's own environment. Every object is encrypted by the server as well.
https://docs.aws.amazon.com/sdkref/latest/guide/settings-reference.html
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError, IncompleteReadError, ResponseStreamingError

from app.errors import MissingError, TransientError, UserError
from infra.objects.names import PIECE_BYTES, parts
from infra.secrets.aws import PATIENCE, AwsAwayError, Patience, error_code, translated

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client
    from types_boto3_s3.type_defs import CompletedPartTypeDef

PART_BYTES = 16 << 20
"""Ten thousand parts at most, of 5 MiB at least: https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html"""

_GONE = frozenset({"NoSuchKey", "NoSuchUpload", "404"})
_REMEDY = "Give the service's role s3:PutObject, s3:GetObject, s3:DeleteObject, s3:AbortMultipartUpload and s3:ListBucket there."


class BucketAddressError(UserError):
    """A place in a bucket is named s3://BUCKET/PREFIX, with ?kms-key=ID where a key of AWS KMS encrypts what is put there."""


def open_s3(address: str, patience: Patience = PATIENCE) -> S3Objects:
    """What `s3://BUCKET/PREFIX?kms-key=ID` names; both ends are optional. Raises BucketAddressError, AwsRefusedError."""
    bucket, prefix, kms_key = address_of(address)
    return S3Objects(client(patience), bucket, prefix, kms_key=kms_key)


def address_of(address: str) -> tuple[str, str, str | None]:
    """Bucket, prefix and key. Raises BucketAddressError."""
    try:
        read = urlsplit(address)
        options = parse_qs(read.query, strict_parsing=bool(read.query))
    except ValueError:
        raise BucketAddressError from None
    keys = options.pop("kms-key", [])
    if read.scheme != "s3" or not read.netloc or read.fragment or options or len(keys) > 1:
        raise BucketAddressError
    return read.netloc, read.path.strip("/"), keys[0] if keys else None


def client(patience: Patience = PATIENCE) -> S3Client:
    """boto3 itself does not read AWS_REGION, which AWS's containers set. Raises AwsRefusedError."""
    config = Config(
        connect_timeout=patience.connect,
        read_timeout=max(patience.answer, 30.0),  # a part takes a while to be taken in
        retries={"mode": "standard", "total_max_attempts": patience.calls},
    )
    with translated(_REMEDY):
        session = boto3.session.Session()
        return session.client("s3", region_name=os.environ.get("AWS_REGION") or None, config=config)


class S3Objects:
    """An object for each name below the prefix. What a crash left half put is no object, but has its name, and goes
    with it."""

    def __init__(
        self,
        client: S3Client,
        bucket: str,
        prefix: str = "",
        *,
        kms_key: str | None = None,
        part_bytes: int = PART_BYTES,
    ) -> None:
        """`kms_key` is the id or ARN of a key of AWS KMS; without one S3's own keys encrypt (AES256)."""
        self._client = client
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._part_bytes = part_bytes
        # https://docs.aws.amazon.com/AmazonS3/latest/userguide/serv-side-encryption.html
        self._encryption: dict[str, Any] = (
            {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms_key}
            if kms_key
            else {"ServerSideEncryption": "AES256"}
        )

    async def put(self, name: str, pieces: AsyncIterator[bytes]) -> int:
        """In parts where it is more than one, which become an object all at once, or none does."""
        where = self._where(name)
        held, size = bytearray(), 0
        upload: str | None = None
        done: list[CompletedPartTypeDef] = []
        try:
            async for piece in pieces:
                held += piece
                size += len(piece)
                while len(held) > self._part_bytes:
                    if upload is None:
                        upload = await asyncio.to_thread(self._begin, where)
                    done.append(
                        await self._part(where, upload, len(done) + 1, bytes(held[: self._part_bytes]))
                    )
                    del held[: self._part_bytes]
            if upload is None:
                await asyncio.to_thread(self._whole, where, bytes(held))
            else:
                done.append(await self._part(where, upload, len(done) + 1, bytes(held)))
                await asyncio.to_thread(self._complete, where, upload, done)
        except BaseException:
            if upload is not None:
                # Also where this task was cancelled: parts that nobody completes are paid for until they are aborted.
                await asyncio.shield(asyncio.to_thread(self._abort, where, upload))
            raise
        return size

    async def get(self, name: str) -> AsyncIterator[bytes]:
        body = await asyncio.to_thread(self._opened, self._where(name))
        try:
            while piece := await asyncio.to_thread(self._read, body):
                yield piece
        finally:
            body.close()

    async def names(self, within: str) -> Sequence[str]:
        return await asyncio.to_thread(self._names, f"{self._where(within)}/")

    async def delete(self, name: str) -> None:
        await asyncio.to_thread(self._delete, self._where(name))

    # --- in a thread -------------------------------------------------------------------------------------------------

    def _begin(self, where: str) -> str:
        with _translated():
            begun = self._client.create_multipart_upload(
                Bucket=self._bucket, Key=where, ContentType="application/octet-stream", **self._encryption
            )
            return begun["UploadId"]

    async def _part(self, where: str, upload: str, number: int, body: bytes) -> CompletedPartTypeDef:
        return await asyncio.to_thread(self._sent, where, upload, number, body)

    def _sent(self, where: str, upload: str, number: int, body: bytes) -> CompletedPartTypeDef:
        with _translated():
            sent = self._client.upload_part(
                Bucket=self._bucket, Key=where, UploadId=upload, PartNumber=number, Body=body
            )
            return {"PartNumber": number, "ETag": sent["ETag"]}

    def _complete(self, where: str, upload: str, done: list[CompletedPartTypeDef]) -> None:
        with _translated():
            self._client.complete_multipart_upload(
                Bucket=self._bucket, Key=where, UploadId=upload, MultipartUpload={"Parts": done}
            )

    def _abort(self, where: str, upload: str) -> None:
        with _translated(), _unless_gone():
            self._client.abort_multipart_upload(Bucket=self._bucket, Key=where, UploadId=upload)

    def _whole(self, where: str, body: bytes) -> None:
        with _translated():
            self._client.put_object(
                Bucket=self._bucket,
                Key=where,
                Body=body,
                ContentType="application/octet-stream",
                **self._encryption,
            )

    def _opened(self, where: str) -> Any:
        with _translated():
            return self._client.get_object(Bucket=self._bucket, Key=where)["Body"]

    def _read(self, body: Any) -> bytes:
        with _translated():
            return bytes(body.read(PIECE_BYTES))

    def _names(self, prefix: str) -> Sequence[str]:
        with _translated():
            listed = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=prefix
            )
            found = {one["Key"] for page in listed for one in page.get("Contents", [])}
        found |= {key for key, _ in self._uploads(prefix)}
        return sorted(key.removeprefix(self._prefix) for key in found)

    def _delete(self, where: str) -> None:
        with _translated():
            self._client.delete_object(Bucket=self._bucket, Key=where)
        for key, upload in self._uploads(where):
            if key == where:
                self._abort(where, upload)

    def _uploads(self, prefix: str) -> list[tuple[str, str]]:
        """Key and id of what was begun and neither completed nor aborted."""
        with _translated():
            listed = self._client.get_paginator("list_multipart_uploads").paginate(
                Bucket=self._bucket, Prefix=prefix
            )
            return [(one["Key"], one["UploadId"]) for page in listed for one in page.get("Uploads", [])]

    def _where(self, name: str) -> str:
        return self._prefix + "/".join(parts(name))


@contextmanager
def _translated() -> Iterator[None]:
    """As infra.secrets.aws translates; what is not there raises MissingError."""
    with translated(_REMEDY):
        try:
            yield
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") in _GONE:
                raise MissingError("This export is not there (any more).", reason="export_gone") from None
            if error_code(error) in ("SlowDown", "RequestTimeout", "OperationAborted"):
                raise AwsAwayError(reason="aws_away") from None
            raise
        except (IncompleteReadError, ResponseStreamingError):
            raise TransientError(reason="objects_away") from None


@contextmanager
def _unless_gone() -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") not in _GONE:
            raise
