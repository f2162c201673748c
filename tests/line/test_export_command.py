"""`magicode data export`, as a program beside a service that is at work."""

from __future__ import annotations

import asyncio
import io
import json
import os
import stat
import sys
import zipfile
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from app.nouns import Action
from tests.aws import Aws, aws, moto_url
from tests.line.conftest import Stages
from tests.line.conversations import ask, notes
from tests.line.stage import Stage

__all__ = ["aws", "moto_url"]


@pytest.fixture
async def stage(raise_stage: Stages, sample: Path) -> Stage:
    stage = await raise_stage({"octo/fairshare": sample}, notes())
    await ask(stage)
    await stage.ended()
    return stage


async def magicode(stage: Stage, *arguments: str, **more: str) -> tuple[int, str, str]:
    kept = {name: os.environ[name] for name in os.environ if name in ("PATH", "HOME", "LANG")}
    program = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "app.cli",
        "data",
        "export",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**kept, **stage.environ, **more},
    )
    out, err = await program.communicate()
    return program.returncode or 0, out.decode(), err.decode()


async def exported(stage: Stage) -> list[Any]:
    return [one for one in await stage.log() if one.action == Action.DATA_EXPORTED]


async def test_it_writes_one_file_for_its_owner_alone_and_the_log_says_so(
    stage: Stage, tmp_path: Path
) -> None:
    out = tmp_path / "all.zip"
    code, said, told = await magicode(
        stage, "--installation", str(stage.installation), "--out", str(out), "--json"
    )
    assert code == 0, told
    found = json.loads(said)
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert not list(tmp_path.glob(".draft-*"))  # noqa: ASYNC240
    archive = zipfile.ZipFile(out)
    assert archive.testzip() is None
    assert {one["name"] for one in found["files"]} | {"manifest.json"} == set(archive.namelist())
    (entry,) = await exported(stage)
    assert entry.actor == "operator"
    assert entry.details["sha256"] == found["sha256"]
    assert entry.details["where"] == "file"
    assert str(tmp_path) not in json.dumps(entry.details)


@pytest.mark.parametrize("named", [False, True])
async def test_it_writes_to_s3_encrypted_by_the_server(stage: Stage, aws: Aws, named: bool) -> None:
    bucket = f"exports-{uuid4().hex}"
    s3 = aws.client("s3")
    s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    key = aws.key()
    more = ("--kms-key", key) if named else ()
    given = {name: os.environ[name] for name in os.environ if name.startswith("AWS_")}
    code, said, told = await magicode(
        stage, "--installation", str(stage.installation), "--out", f"s3://{bucket}/a/all.zip", *more, **given
    )
    assert code == 0, told
    assert "SHA-256" in said
    there = s3.get_object(Bucket=bucket, Key="a/all.zip")
    assert there["ServerSideEncryption"] == ("aws:kms" if named else "AES256")
    assert there.get("SSEKMSKeyId") == (key if named else None)
    assert zipfile.ZipFile(io.BytesIO(there["Body"].read())).testzip() is None
    (entry,) = await exported(stage)
    assert entry.details["where"] == "s3"
    assert bucket not in json.dumps(entry.details)


@pytest.mark.parametrize(
    ("out", "code"), [("nowhere/at/all.zip", 2), ("s3://bucket", 2), ("s3:x", 2), (".hidden.zip", 2)]
)
async def test_a_place_that_is_none_is_wrong_use_and_nothing_is_written_down(
    stage: Stage, out: str, code: int
) -> None:
    ended, _, told = await magicode(stage, "--installation", str(stage.installation), "--out", out)
    assert ended == code, told
    assert await exported(stage) == []


async def test_an_installation_that_nobody_knows_is_said_to_be_unknown(stage: Stage, tmp_path: Path) -> None:
    code, _, told = await magicode(stage, "--installation", "4711", "--out", str(tmp_path / "all.zip"))
    assert code == 1
    assert "Nothing is stored of an installation 4711" in told
    assert not (tmp_path / "all.zip").exists()
