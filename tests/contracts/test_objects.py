"""What every place where exports wait must do, run on a folder and on a bucket (moto's, over real HTTP)."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from app.errors import DefectError, MagicodeError, MissingError, TransientError
from app.ports import Objects
from infra.objects.choose import open_objects
from infra.objects.folder import FolderObjects
from infra.objects.s3 import BucketAddressError, S3Objects, address_of, client
from infra.secrets.aws import AwsRefusedError, Patience
from tests.aws import Aws, aws, moto_url

__all__ = ["aws", "moto_url"]

PART = 5 << 20
"""The least that S3 takes as a part that is not the last one."""


@pytest.fixture
def bucket(aws: Aws) -> str:
    name = f"exports-{uuid4().hex}"
    aws.client("s3").create_bucket(
        Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
    )
    return name


@pytest.fixture(params=["folder", "bucket"])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> Objects:
    if request.param == "folder":
        return FolderObjects(tmp_path / "objects")
    bucket = request.getfixturevalue("bucket")  # and with it the environment that names the server
    return S3Objects(client(), bucket, "some/prefix", part_bytes=PART)


async def pieces(*given: bytes) -> AsyncIterator[bytes]:
    for one in given:
        yield one


async def breaking(*given: bytes) -> AsyncIterator[bytes]:
    for one in given:
        yield one
    raise TransientError(reason="broke_off")


async def whole(objects: Objects, name: str) -> bytes:
    return b"".join([piece async for piece in objects.get(name)])


async def test_what_is_put_is_got_again(objects: Objects) -> None:
    assert await objects.put("7/one", pieces(b"ab", b"", b"cd")) == 4
    assert await whole(objects, "7/one") == b"abcd"


async def test_nothing_at_all_is_an_object_too(objects: Objects) -> None:
    assert await objects.put("7/empty", pieces()) == 0
    assert await whole(objects, "7/empty") == b""
    assert await objects.names("7") == ["7/empty"]


async def test_what_is_larger_than_a_part_comes_back_byte_for_byte(objects: Objects) -> None:
    given = [os.urandom(3 << 20) for _ in range(5)]
    assert await objects.put("7/large", pieces(*given)) == 15 << 20
    assert await whole(objects, "7/large") == b"".join(given)


async def test_what_is_put_again_takes_the_place_of_the_first(objects: Objects) -> None:
    await objects.put("7/one", pieces(b"first"))
    await objects.put("7/one", pieces(b"2nd"))
    assert await whole(objects, "7/one") == b"2nd"
    assert await objects.names("7") == ["7/one"]


@pytest.mark.parametrize("size", [1, PART + 1, 2 * PART + 1])
async def test_what_breaks_off_leaves_nothing(objects: Objects, size: int) -> None:
    with pytest.raises(TransientError) as raised:
        await objects.put("7/one", breaking(bytes(size)))
    assert raised.value.reason == "broke_off"
    assert await objects.names("7") == []
    with pytest.raises(MissingError):
        await whole(objects, "7/one")


async def test_what_breaks_off_leaves_what_was_there_before(objects: Objects) -> None:
    await objects.put("7/one", pieces(b"first"))
    with pytest.raises(TransientError):
        await objects.put("7/one", breaking(bytes(2 * PART)))
    assert await whole(objects, "7/one") == b"first"


async def test_who_is_cancelled_leaves_nothing(objects: Objects) -> None:
    begun = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield bytes(2 * PART)
        begun.set()
        await asyncio.Event().wait()

    putting = asyncio.create_task(objects.put("7/one", endless()))
    await begun.wait()
    putting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await putting
    assert await objects.names("7") == []


async def test_names_are_those_of_one_folder_alone(objects: Objects) -> None:
    for name in ("7/b", "7/a", "77/c", "8/d"):
        await objects.put(name, pieces(b"x"))
    assert await objects.names("7") == ["7/a", "7/b"]
    assert await objects.names("9") == []


async def test_there_can_be_more_names_than_a_page_holds(aws: Aws, bucket: str) -> None:
    s3 = aws.client("s3")
    for number in range(1001):
        s3.put_object(Bucket=bucket, Key=f"7/{number:04}", Body=b"")
    assert len(await S3Objects(client(), bucket).names("7")) == 1001


async def test_what_is_deleted_is_gone_and_deleting_it_again_is_nothing(objects: Objects) -> None:
    await objects.put("7/one", pieces(b"x"))
    await objects.put("7/two", pieces(b"y"))
    for _ in range(2):
        await objects.delete("7/one")
    assert await objects.names("7") == ["7/two"]
    with pytest.raises(MissingError) as raised:
        await whole(objects, "7/one")
    assert raised.value.reason == "export_gone"


@pytest.mark.parametrize(
    "name", ["", "/", "7/", "7//x", "../x", "7/..", "7/.draft", "7/a\nb", "7\\x", "7/" + "x" * 300]
)
async def test_a_name_leads_nowhere_else(objects: Objects, name: str) -> None:
    for call in (objects.put(name, pieces(b"x")), objects.delete(name), whole(objects, name)):
        with pytest.raises(DefectError):
            await call


# --- what a crash leaves half put ------------------------------------------------------------------------------------


async def half_put(objects: Objects, name: str) -> None:
    """As by a process that ended: nobody tidied up behind it."""
    if isinstance(objects, FolderObjects):
        folder, _, last = name.rpartition("/")
        path = objects._folder / folder / f".draft-{last}-0123456789abcdef"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
    else:
        assert isinstance(objects, S3Objects)
        where = f"some/prefix/{name}"
        upload = objects._begin(where)
        objects._sent(where, upload, 1, bytes(PART))


async def test_what_is_half_put_is_no_object_but_has_its_name_and_is_deleted_by_it(objects: Objects) -> None:
    await half_put(objects, "7/one")
    await half_put(objects, "7/one-more")
    assert await objects.names("7") == ["7/one", "7/one-more"]
    with pytest.raises(MissingError):
        await whole(objects, "7/one")
    await objects.delete("7/one")
    assert await objects.names("7") == ["7/one-more"]


async def test_what_is_half_put_does_not_stand_in_the_way(objects: Objects) -> None:
    await half_put(objects, "7/one")
    await objects.delete("7/one")
    await objects.put("7/one", pieces(b"whole"))
    assert await whole(objects, "7/one") == b"whole"


# --- the folder alone ------------------------------------------------------------------------------------------------


async def test_only_the_owner_can_read_what_lies_in_the_folder(tmp_path: Path) -> None:
    await FolderObjects(tmp_path / "objects").put("7/one", pieces(b"x"))
    for path in (tmp_path / "objects").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)


async def test_a_draft_that_was_taken_away_meanwhile_is_no_crash(tmp_path: Path) -> None:
    objects = FolderObjects(tmp_path)

    async def robbed() -> AsyncIterator[bytes]:
        yield b"x"
        await objects.delete("7/one")

    with pytest.raises(TransientError):
        await objects.put("7/one", robbed())
    assert await objects.names("7") == []


# --- the bucket alone ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2 * PART])
async def test_the_server_encrypts_with_its_own_key_or_with_the_one_that_is_named(
    aws: Aws, bucket: str, size: int
) -> None:
    key = aws.key()
    for kms_key, wanted in ((None, "AES256"), (key, "aws:kms")):
        objects = S3Objects(client(), bucket, kms_key=kms_key, part_bytes=PART)
        await objects.put("7/one", pieces(bytes(size)))
        there = aws.client("s3").head_object(Bucket=bucket, Key="7/one")
        assert there["ServerSideEncryption"] == wanted
        assert there.get("SSEKMSKeyId") == kms_key


async def test_no_upload_is_left_open_behind_one_that_broke_off(aws: Aws, bucket: str) -> None:
    with pytest.raises(TransientError):
        await S3Objects(client(), bucket, part_bytes=PART).put("7/one", breaking(bytes(3 * PART)))
    assert "Uploads" not in aws.client("s3").list_multipart_uploads(Bucket=bucket)


async def test_a_bucket_that_is_not_there_is_refused_by_aws_name_for_it(aws: Aws) -> None:
    objects = S3Objects(client(), f"nobodys-{uuid4().hex}")
    for call in (objects.put("7/one", pieces(b"x")), whole(objects, "7/one"), objects.names("7")):
        with pytest.raises(AwsRefusedError, match="NoSuchBucket"):
            await call


async def test_a_server_that_is_away_is_asked_a_few_times_and_then_is_transient(
    aws: Aws, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    objects = S3Objects(client(Patience(connect=0.2, answer=0.2, calls=2)), "bucket")
    with pytest.raises(TransientError):
        await objects.put("7/one", pieces(b"x"))


@pytest.mark.parametrize(
    ("address", "means"),
    [
        ("s3://bucket", ("bucket", "", None)),
        ("s3://bucket/a/b/", ("bucket", "a/b", None)),
        ("s3://bucket/a?kms-key=alias/mine", ("bucket", "a", "alias/mine")),
    ],
)
def test_an_address_names_a_bucket_a_prefix_and_a_key(address: str, means: Any) -> None:
    assert address_of(address) == means


@pytest.mark.parametrize(
    "address", ["s3:bucket", "s3:///a", "s3://b?x=1", "s3://b/a#f", "s3://b?kms-key=1&kms-key=2"]
)
def test_an_address_that_is_none_is_not_guessed_at(address: str) -> None:
    with pytest.raises(BucketAddressError):
        address_of(address)


def test_the_setting_names_a_folder_or_a_bucket(aws: Aws, tmp_path: Path) -> None:
    assert isinstance(open_objects(None, tmp_path), FolderObjects)
    assert isinstance(open_objects(str(tmp_path), tmp_path / "other"), FolderObjects)
    assert isinstance(open_objects("s3://bucket/prefix", tmp_path), S3Objects)
    with pytest.raises(MagicodeError):
        open_objects("s3://", tmp_path)
