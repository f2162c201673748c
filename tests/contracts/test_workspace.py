"""What every Workspace keeps: the one over a commit's blobs, and the one in memory that other tests use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from app.nouns import TreeEntry
from app.ports import Workspace
from app.workspace.tree import SnapshotWorkspace, blob_sha
from tests.app.tree import Tree

FILES = {"b.py": b"print()\r\n", "a/ü.bin": bytes(range(256)), "a/run.sh": b"#!/bin/sh", "empty": b""}
OTHERS = {"link": "120000", "module": "160000"}
EXECUTABLE = ("a/run.sh",)


def in_memory(_folder: Path) -> Workspace:
    return Tree(FILES, OTHERS, EXECUTABLE)


def over_blobs(folder: Path) -> Workspace:
    held: Mapping[str, int] = {blob_sha(content): len(content) for content in FILES.values()}
    for content in FILES.values():
        (folder / blob_sha(content)).write_bytes(content)
    entries = [
        TreeEntry(path, "100755" if path in EXECUTABLE else "100644", blob_sha(content), len(content))
        for path, content in FILES.items()
    ]
    entries += [TreeEntry(path, mode, "f" * 40, None) for path, mode in OTHERS.items()]
    return SnapshotWorkspace("a" * 40, folder, entries, dict(held), [])


@pytest.fixture(params=[in_memory, over_blobs])
def workspace(request: pytest.FixtureRequest, tmp_path: Path) -> Workspace:
    make: Callable[[Path], Workspace] = request.param
    return make(tmp_path)


def test_its_entries_are_what_can_be_read_sorted_by_path(workspace: Workspace) -> None:
    entries = workspace.entries()
    assert [entry.path for entry in entries] == sorted(FILES)
    assert {entry.path: entry.size for entry in entries} == {path: len(data) for path, data in FILES.items()}


def test_it_reads_the_exact_bytes(workspace: Workspace) -> None:
    assert {path: workspace.read(path) for path in FILES} == FILES


@pytest.mark.parametrize("path", ["link", "module", "nowhere", "", "a", "../b.py", "/b.py"])
def test_what_is_no_readable_file_is_a_key_error(workspace: Workspace, path: str) -> None:
    with pytest.raises(KeyError):
        workspace.read(path)


def test_it_knows_every_entry_of_the_tree_links_and_submodules_too(workspace: Workspace) -> None:
    modes = {path: entry.mode for path in (*FILES, *OTHERS) if (entry := workspace.entry(path)) is not None}
    assert modes == {"b.py": "100644", "a/ü.bin": "100644", "a/run.sh": "100755", "empty": "100644", **OTHERS}
    assert workspace.entry("nowhere") is None


def test_it_says_which_commit_it_is(workspace: Workspace) -> None:
    assert workspace.sha == "a" * 40
