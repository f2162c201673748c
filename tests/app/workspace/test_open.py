"""A real commit, through a real `git archive`, byte for byte; and nothing is left behind."""

from __future__ import annotations

import asyncio
import errno
import io
import os
import shutil
import tarfile
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from types import SimpleNamespace

import pytest

from app.errors import DefectError, LimitedError, RefusedError, TransientError
from app.nouns import TreeEntry
from app.ports import Workspace
from app.workspace.open import open_workspace
from app.workspace.tree import LeftOut
from app.workspace.unpack import Limits

AWKWARD: dict[str | bytes, bytes] = {
    "plain.py": b"print('hello')\n",
    "crlf.txt": b"one\r\ntwo\r\n",
    "mixed.txt": b"one\r\ntwo\nthree",
    "no-newline.txt": b"the end",
    "empty": b"",
    "latin1.txt": "caf\xe9\n".encode("latin-1"),
    "binary.bin": bytes(range(256)) * 9,
    "größe/日本語.md": b"# x\n",
    b"bad-\xff-name.txt": b"kept\n",
    "new\nline.txt": b"odd\n",
    "run.sh": b"#!/bin/sh\n",
    "trailing.": b"dot\n",
    "Case.txt": b"upper\n",
    "case.txt": b"lower\n",
    "a" * 90 + "/" + "b" * 120 + "/" + "c" * 120: b"long\n",
}

ATTRIBUTES: dict[str | bytes, bytes] = {
    ".gitattributes": b"secret/ export-ignore\ntests/** export-ignore\nversion.txt export-subst\n*.win text eol=crlf\n*.id ident\n",
    "secret/inner.txt": b"left out of archives\n",
    "tests/test_a.py": b"def test_a(): ...\n",
    "version.txt": b"$Format:%H$\n",
    "lines.win": b"a\nb\n",
    "some.id": b"$Id$\n",
}


@pytest.mark.parametrize(
    "files", [AWKWARD, ATTRIBUTES, AWKWARD | ATTRIBUTES], ids=["awkward", "attributes", "both"]
)
async def test_every_file_is_what_git_has_byte_for_byte(commit, root, files):
    reader, sha = commit(files)
    async with open_workspace(reader, sha, root=root, run_id="r1") as workspace:
        checked: Workspace = workspace
        assert {entry.path: checked.read(entry.path) for entry in checked.entries()} == reader.truth(sha)
        assert [entry.path for entry in workspace.entries()] == sorted(reader.truth(sha))
        assert workspace.left_out == ()
        assert workspace.files == len(files)
        assert workspace.bytes == sum(map(len, files.values()))
        assert workspace.sha == sha


async def test_only_what_the_archive_changed_or_dropped_is_fetched(commit, root):
    reader, sha = commit(ATTRIBUTES | {f"f{n}.py": b"%d\n" % n for n in range(50)})
    async with open_workspace(reader, sha, root=root, run_id="r1"):
        pass
    assert (
        len(reader.fetched) == 4
    )  # two ignored, export-subst, ident; the line endings are turned back without asking


async def test_what_is_over_the_fetch_cap_is_listed_and_unreadable(commit, root):
    reader, sha = commit(ATTRIBUTES)
    async with open_workspace(reader, sha, root=root, run_id="r1", limits=Limits(fetch_files=1)) as workspace:
        assert len(reader.fetched) == 1
        assert {left.reason for left in workspace.left_out} == {"over_fetch_cap"}
        assert len(workspace.left_out) == 3
        for left in workspace.left_out:
            assert workspace.entry(left.path) is not None
            with pytest.raises(KeyError):
                workspace.read(left.path)


async def test_what_github_no_longer_has_is_listed_as_missing(commit, root):
    reader, sha = commit(ATTRIBUTES)
    gone = next(entry for entry in (await reader.tree(sha)).entries if entry.path == "secret/inner.txt")
    reader.missing = {gone.sha}
    async with open_workspace(reader, sha, root=root, run_id="r1") as workspace:
        assert workspace.left_out == (LeftOut("secret/inner.txt", "missing"),)


async def test_links_and_submodules_are_entries_but_cannot_be_read(commit, root):
    reader, sha = commit({"a.txt": b"x", "link-out": b"/etc/passwd", "link-in": b"a.txt"})
    entries = (await reader.tree(sha)).entries
    reader.entries = (*entries, TreeEntry("vendored", "160000", "1" * 40, None))
    async with open_workspace(reader, sha, root=root, run_id="r1") as workspace:
        assert [entry.path for entry in workspace.entries()] == ["a.txt"]
        assert {(left.path, left.reason) for left in workspace.left_out} == {
            ("link-in", "link"),
            ("link-out", "link"),
            ("vendored", "submodule"),
        }
        for path in ("link-in", "link-out", "vendored", "../a.txt", "/etc/passwd", "lock", ""):
            with pytest.raises(KeyError):
                workspace.read(path)
        assert workspace.entry("link-out").mode == "120000"
    assert reader.fetched == []


async def test_a_file_over_the_size_cap_is_left_out_and_the_rest_is_read(commit, root):
    reader, sha = commit({"big.bin": os.urandom(5000), "small.txt": b"x"})
    async with open_workspace(
        reader, sha, root=root, run_id="r1", limits=Limits(file_bytes=1000)
    ) as workspace:
        assert workspace.left_out == (LeftOut("big.bin", "too_large"),)
        assert workspace.read("small.txt") == b"x"
    assert reader.fetched == []


@pytest.mark.parametrize(
    ("limits", "reason"),
    [(Limits(files=2), "repository_too_many_files"), (Limits(unpacked_bytes=10), "repository_too_large")],
)
async def test_a_commit_over_the_caps_is_refused_before_anything_is_downloaded(commit, root, limits, reason):
    reader, sha = commit({f"{n}.txt": b"12345" for n in range(3)})
    with pytest.raises(RefusedError) as refusal:
        async with open_workspace(reader, sha, root=root, run_id="r1", limits=limits):
            pass
    assert refusal.value.reason == reason
    assert reader.archives == 0
    assert list(root.iterdir()) == []


async def test_an_archive_over_the_compressed_cap_is_refused_while_it_streams(commit, root):
    reader, sha = commit({"a.bin": os.urandom(20_000)})
    with pytest.raises(RefusedError) as refusal:
        async with open_workspace(reader, sha, root=root, run_id="r1", limits=Limits(compressed_bytes=5000)):
            pass
    assert refusal.value.reason == "archive_too_large"
    assert list(root.iterdir()) == []


async def test_a_tree_that_names_a_path_outside_is_refused(commit, root):
    reader, sha = commit({"a.txt": b"x"})
    for bad in ("../a.txt", "/a.txt", "a//b", "a/./b", "a/../../b", "a\0b", ""):
        reader.entries = (TreeEntry(bad, "100644", "1" * 40, 1),)
        with pytest.raises(RefusedError) as refusal:
            async with open_workspace(reader, sha, root=root, run_id="r1"):
                pass
        assert refusal.value.reason == "archive_unsafe_path"


async def test_content_that_does_not_match_gits_hash_is_never_read(commit, root):
    reader, sha = commit({"a.txt": b"true\n"})
    reader.tarball = await _gathered(reader, sha)
    entry = (await reader.tree(sha)).entries[0]
    reader.entries = (replace(entry, sha="2" * 40),)
    reader.missing = {"2" * 40}
    async with open_workspace(reader, sha, root=root, run_id="r1") as workspace:
        assert workspace.entries() == ()
        assert workspace.left_out == (LeftOut("a.txt", "missing"),)


def tarball(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(f"owner-repo-sha/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


async def test_large_objects_that_stand_in_for_their_pointers_do_not_refuse_the_commit(commit, root):
    files = {".gitattributes": b"*.bin filter=lfs\n", "big.bin": b"version https://git-lfs\n", "a.py": b"x\n"}
    reader, sha = commit(files)
    reader.tarball = tarball(files | {"big.bin": os.urandom(9 << 20)})
    async with open_workspace(
        reader, sha, root=root, run_id="r1", limits=Limits(file_bytes=1 << 20)
    ) as workspace:
        assert workspace.read("big.bin") == files["big.bin"]
        assert workspace.left_out == ()


async def test_an_archive_larger_than_gits_own_account_is_refused(commit, root):
    reader, sha = commit({"a.py": b"x\n"})
    reader.tarball = tarball({"a.py": b"x\n", "stranger.bin": os.urandom(9 << 20)})
    with pytest.raises(RefusedError) as refusal:
        async with open_workspace(reader, sha, root=root, run_id="r1"):
            pass
    assert refusal.value.reason == "archive_too_large"


async def test_a_file_that_is_not_in_the_tree_is_not_kept(commit, root):
    reader, sha = commit({"a.py": b"x\n"})
    reader.tarball = tarball({"a.py": b"x\n", "stranger.py": b"y\n"})
    async with open_workspace(reader, sha, root=root, run_id="r1") as workspace:
        assert [entry.path for entry in workspace.entries()] == ["a.py"]
        assert len([path for path in root.glob("*/*") if path.name != "lock"]) == 1


async def _gathered(reader, sha) -> bytes:
    reader.tarball = None
    return b"".join([chunk async for chunk in reader.archive(sha)])


async def test_a_download_that_breaks_off_is_transient(commit, root):
    reader, sha = commit({f"{n}.bin": os.urandom(500) for n in range(20)})
    whole = await _gathered(reader, sha)
    for cut in (0, 5, 30, len(whole) // 2, len(whole) - 4):
        reader.tarball = whole[:cut]
        with pytest.raises(TransientError) as trouble:
            async with open_workspace(reader, sha, root=root, run_id="r1"):
                pass
        assert trouble.value.reason == "archive_incomplete"
        assert list(root.iterdir()) == []


async def test_the_directory_is_private_and_holds_no_name_of_the_repository(commit, root):
    reader, sha = commit(AWKWARD)
    async with open_workspace(reader, sha, root=root, run_id="r1"):
        (directory,) = root.iterdir()
        assert directory.stat().st_mode & 0o777 == 0o700
        assert directory.name == f"magicode-r1-{os.getpid()}"
        assert all(len(path.name) == 40 or path.name == "lock" for path in directory.iterdir())


async def test_everything_is_gone_after_an_exception_in_the_block(commit, root):
    reader, sha = commit(AWKWARD)
    with pytest.raises(ZeroDivisionError):
        async with open_workspace(reader, sha, root=root, run_id="r1") as workspace:
            1 / 0  # noqa: B018
    assert list(root.iterdir()) == []
    with pytest.raises(DefectError):
        workspace.read("plain.py")


async def test_everything_is_gone_after_a_cancellation_during_the_download(commit, root):
    reader, sha = commit(AWKWARD)
    begun = asyncio.Event()

    async def slow(_: str) -> AsyncIterator[bytes]:
        yield b"\x1f\x8b"
        begun.set()
        await asyncio.sleep(60)

    reader.archive = slow

    async def work() -> None:
        async with open_workspace(reader, sha, root=root, run_id="r1"):
            pass

    task = asyncio.create_task(work())
    await begun.wait()
    assert len(list(root.iterdir())) == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert list(root.iterdir()) == []


async def test_everything_is_gone_after_a_cancellation_while_unpacking(commit, root):
    reader, sha = commit({f"{n}.txt": os.urandom(3000) for n in range(400)})

    async def work() -> None:
        async with open_workspace(reader, sha, root=root, run_id="r1"):
            await asyncio.sleep(60)

    task = asyncio.create_task(work())
    while not any(len(path.name) == 40 for path in root.glob("*/*")):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert list(root.iterdir()) == []


async def test_an_error_of_the_reader_comes_out_as_it_is(commit, root):
    reader, sha = commit(ATTRIBUTES)

    async def broken(_: str) -> bytes:
        raise TransientError(reason="github_away")

    reader.blob = broken
    with pytest.raises(TransientError) as trouble:
        async with open_workspace(reader, sha, root=root, run_id="r1"):
            pass
    assert trouble.value.reason == "github_away"
    assert list(root.iterdir()) == []


async def test_without_room_nothing_is_downloaded(commit, root, monkeypatch):
    reader, sha = commit({"a": b"x"})
    entry = (await reader.tree(sha)).entries[0]
    reader.entries = (replace(entry, size=20),)
    # Enough were it empty, and too little as it is: what this machine's disk has is neither for certain.
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(total=100, free=29))
    with pytest.raises(TransientError) as trouble:
        async with open_workspace(reader, sha, root=root, run_id="r1"):
            pass
    assert trouble.value.reason == "workspace_full"
    assert reader.archives == 0


async def test_full_storage_is_transient(commit, root):
    reader, sha = commit({"a": b"x"})

    async def full(_: str) -> AsyncIterator[bytes]:
        yield b"\x1f\x8b"
        raise OSError(errno.ENOSPC, "no room")

    reader.archive = full
    with pytest.raises(TransientError) as trouble:
        async with open_workspace(reader, sha, root=root, run_id="r1"):
            pass
    assert trouble.value.reason == "workspace_full"
    assert list(root.iterdir()) == []


async def test_the_same_run_cannot_open_two_workspaces_at_once(commit, root):
    reader, sha = commit({"a": b"x"})
    async with open_workspace(reader, sha, root=root, run_id="r1") as workspace:
        with pytest.raises(LimitedError):
            async with open_workspace(reader, sha, root=root, run_id="r1"):
                pass
        assert workspace.read("a") == b"x"


async def test_an_empty_tree_is_an_empty_workspace(commit, root):
    reader, sha = commit({"a": b"x"})
    reader.entries = ()
    async with open_workspace(reader, sha, root=root, run_id="r1") as workspace:
        assert workspace.entries() == ()
    assert reader.archives == 0


async def test_five_thousand_files_open_within_seconds(commit, root):
    reader, sha = commit({f"package{n % 70}/module_{n}.py": b"x = %d\n" % n * 100 for n in range(5000)})
    began = time.process_time()  # ours alone: neither git's nor what the machine does beside
    async with open_workspace(reader, sha, root=root, run_id="r1") as workspace:
        assert workspace.files == 5000
    assert time.process_time() - began < 20
    assert reader.fetched == []
