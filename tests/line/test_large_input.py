"""Published packages of real size come through with exactly the intended change, byte for byte."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import tarfile
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from app.nouns import Run, RunState
from infra.encoder import BundledEncoder
from infra.models.playbook import Playbook, parse
from tests.line.conftest import Stages
from tests.line.conversations import approving
from tests.line.stage import Stage

SDISTS = Path(__file__).parents[2] / ".cache" / "sdists"

ODD: dict[bytes, bytes] = {
    b"odd/windows.py": b'"""CRLF."""\r\n\r\nLIMIT = 10\r\nNAME = "caf\xc3\xa9"',  # no final newline
    b"odd/latin-1.txt": "r\xe9sum\xe9 of 1998\n".encode("latin-1"),
    b"odd/bom.txt": b"\xef\xbb\xbffirst\nsecond\n",
    b"odd/blob.bin": bytes(range(256)) * 64,
    b"odd/no-newline": b"the end",
    "odd/naïve 日本語 \U0001f600.md".encode(): b"# A name beyond ASCII\n",
    b"odd/kept-out.txt": b"export-ignore drops this from archives\n",
    b"odd/version.txt": b"commit $Format:%H$\n",
    b"odd/native.txt": b"line\nline\n",
    b"odd/run.sh": b"#!/bin/sh\nexit 0\n",
    b"odd/.gitattributes": (
        b"kept-out.txt export-ignore\nversion.txt export-subst\nnative.txt text eol=crlf\nrun.sh text eol=lf\n"
    ),
}


@dataclass(frozen=True)
class Package:
    """`old` occurs once in `path` and becomes `new`."""

    archive: str
    repository: str
    title: str
    path: str
    old: str
    new: str
    at_least: int


PACKAGES = (
    Package(
        "requests-2.32.3.tar.gz",
        "psf/requests",
        "copy of a CaseInsensitiveDict shares its class",
        "src/requests/structures.py",
        "return CaseInsensitiveDict(self._store.values())",
        "return type(self)(self._store.values())",
        at_least=80,
    ),
    Package(
        "pytest-8.3.4.tar.gz",
        "pytest-dev/pytest",
        "stash setdefault looks up twice",
        "src/_pytest/stash.py",
        "            self[key] = default\n            return default",
        "            self._storage[key] = default\n            return default",
        at_least=500,
    ),
    Package(
        "requests-2.32.3.tar.gz",
        "octo/windows",
        "the limit is too low",
        "odd/windows.py",
        "LIMIT = 10\nNAME",
        "LIMIT = 20\nNAME",
        at_least=80,
    ),
)


def playbook() -> Playbook:
    scenarios = [
        {
            "name": package.repository,
            "when": {"contains": package.title},
            "turns": [
                {"calls": [{"tool": "read", "arguments": {"path": package.path}}]},
                {
                    "when": {"tool_result_of": "read", "tool_failed": False},
                    "calls": [
                        {
                            "tool": "edit",
                            "arguments": {"path": package.path, "old": package.old, "new": package.new},
                        }
                    ],
                },
                {
                    "when": {"tool_failed": False},
                    "calls": [
                        {
                            "tool": "finish",
                            "arguments": {
                                "title": "Small fix",
                                "summary": "As asked.",
                                "checked_how": "By reading.",
                            },
                        }
                    ],
                },
            ],
        }
        for package in PACKAGES
    ]
    return parse(json.dumps({"scenarios": [approving(), *scenarios]}))


def git(folder: Path, *arguments: str) -> bytes:
    environ = {
        **os.environ,
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        **{
            f"GIT_{who}_{what}": "a@example.org"
            for who in ("AUTHOR", "COMMITTER")
            for what in ("NAME", "EMAIL")
        },
    }
    return subprocess.run(
        ["git", "-C", str(folder), *arguments], check=True, capture_output=True, env=environ
    ).stdout


def unpack(package: Package, target: Path) -> Path:
    """A git repository of the distribution and of files that are easily damaged, its blobs exactly these bytes."""
    if not (SDISTS / package.archive).is_file():
        pytest.fail(f"{package.archive} is not in .cache/sdists: `make tests` fetches it")
    with tarfile.open(SDISTS / package.archive) as archive:
        archive.extractall(target, filter="data")
    (top,) = target.iterdir()
    for name, content in ODD.items():
        file = os.path.join(os.fsencode(top), name)  # noqa: PTH118 (bytes)
        os.makedirs(os.path.dirname(file), exist_ok=True)  # noqa: PTH103, PTH120
        with open(file, "wb") as out:  # noqa: PTH123
            out.write(content)
    (top / "odd/run.sh").chmod(0o755)
    (top / "odd/link").symlink_to("no-newline")
    git(top, "init", "-q", "-b", "main")
    (top / ".git/info/attributes").write_text("* -text -filter -ident\n")  # the bytes go in as they are
    git(top, "add", "--all", "--force")
    git(top, "commit", "-q", "-m", "As published")
    return top


def tree(folder: Path, ref: str) -> dict[bytes, tuple[bytes, bytes]]:
    """path -> (mode, blob sha), as git has it."""
    rows = git(folder, "ls-tree", "-r", "-z", ref).split(b"\0")[:-1]
    return {path: (head.split()[0], head.split()[2]) for head, path in (row.split(b"\t", 1) for row in rows)}


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_two_published_packages_get_exactly_the_intended_change(
    raise_stage: Stages, tmp_path: Path, bundled: BundledEncoder
) -> None:
    folders = {one.repository: unpack(one, tmp_path / one.repository.replace("/", "-")) for one in PACKAGES}
    for package in PACKAGES:
        assert len(tree(folders[package.repository], "main")) >= package.at_least
    stage = await raise_stage(folders, playbook(), encoder=bundled, environ={"MAGICODE_INDEX_SECONDS": "20"})
    for package in PACKAGES:
        number = await stage.open_issue(
            package.title, "Please see to it.", user="ada", repository=package.repository
        )
        await stage.comment(number, "@magicode fix this", user="ada", repository=package.repository)
    await all_ended(stage)
    for package in PACKAGES:
        await assert_exactly_changed(stage, package)


async def all_ended(stage: Stage) -> None:
    """The packages belong to different accounts, so each has an installation of its own."""
    runs: list[Run] = []
    deadline = time.monotonic() + 500
    while time.monotonic() < deadline:
        runs = []
        for installation in stage.github.world.installations:
            async with stage.house.store.transaction(installation) as transaction:
                runs += await transaction.runs()
        if sum(run.state.ended for run in runs) == len(PACKAGES):
            break
        await asyncio.sleep(0.1)
    assert [(run.state, run.reason) for run in runs] == [(RunState.OPENED, "opened")] * len(PACKAGES)


async def assert_exactly_changed(stage: Stage, package: Package) -> None:
    (pull,) = await stage.pulls(repository=package.repository)
    repo = next(
        one for one in stage.github.world.repositories.values() if one.full_name == package.repository
    )
    folder = repo.git.directory
    before, after = tree(folder, "main"), tree(folder, pull["head"]["ref"])
    changed = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    assert changed == {package.path.encode()}
    old = git(folder, "cat-file", "blob", f"main:{package.path}")
    new = git(folder, "cat-file", "blob", f"{pull['head']['ref']}:{package.path}")
    ending = b"\r\n" if b"\r\n" in old else b"\n"
    was, becomes = (text.encode().replace(b"\n", ending) for text in (package.old, package.new))
    assert old.count(was) == 1
    assert new == old.replace(was, becomes)
    assert before[package.path.encode()][0] == after[package.path.encode()][0], "the mode is kept"
