"""A folder of this machine as a tree: what is listed, under which names, and what is never entered."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from infra.folder import LARGEST_FILE, FolderHistory, FolderTree, NotAFolderError


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments],
        check=True,
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"},
    )
    return done.stdout.strip()


def written(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def paths(tree: FolderTree) -> list[str]:
    return [entry.path for entry in tree.entries()]


def test_a_plain_folder_is_walked_without_what_others_installed_there(tmp_path: Path) -> None:
    folder = written(tmp_path / "a", b="1", src__c="2", node_modules__d="3")
    written(folder / ".git", HEAD="not a repository")
    assert paths(FolderTree(folder)) == ["b", "src/c"]


def test_what_is_ignored_is_not_listed_and_what_is_new_is(tmp_path: Path) -> None:
    folder = written(tmp_path / "a", tracked="1", new="2", secret="3", deep__er="4", build__out="5")
    (folder / ".gitignore").write_text("secret\nbuild/\n")
    git(folder, "init", "-q")
    git(folder, "add", "tracked")
    assert paths(FolderTree(folder)) == [".gitignore", "deep/er", "new", "tracked"]
    assert paths(FolderTree(folder / "deep")) == ["er"]


def test_a_folder_that_a_repository_around_it_ignores_can_still_be_asked_for(tmp_path: Path) -> None:
    folder = written(tmp_path / "a", build__out="5")
    (folder / ".gitignore").write_text("build/\n")
    git(folder, "init", "-q")
    assert paths(FolderTree(folder / "build")) == ["out"]


def test_files_are_named_as_git_names_them(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    contents = {"empty": b"", "text": b"one\r\ntwo", "bytes": bytes(range(256))}
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    tree = FolderTree(folder)
    for entry in tree.entries():
        assert entry.sha == git(folder, "hash-object", "--no-filters", entry.path)
        assert (entry.size, tree.read(entry.path)) == (len(contents[entry.path]), contents[entry.path])
    assert len(tree.entries()) == 3


def test_links_pipes_and_huge_files_are_passed_over(tmp_path: Path) -> None:
    outside = written(tmp_path / "outside", secret="s")
    folder = written(tmp_path / "a", plain="1")
    (folder / "link").symlink_to(outside / "secret")
    (folder / "linked").symlink_to(outside)
    os.mkfifo(folder / "pipe")
    with (folder / "huge").open("wb") as huge:
        huge.truncate(LARGEST_FILE + 1)
    assert paths(FolderTree(folder)) == ["plain"]
    git(folder, "init", "-q")
    tree = FolderTree(folder)
    assert paths(tree) == ["plain"]
    assert tree.left_out == {"link": 2, "very_large": 1}  # git lists no pipes


def test_a_submodule_is_counted_and_not_entered(tmp_path: Path) -> None:
    inner = written(tmp_path / "a" / "lib", code="1")
    folder = tmp_path / "a"
    git(inner, "init", "-q")
    git(inner, "add", "code")
    git(inner, "-c", "user.name=a", "-c", "user.email=a@example.com", "commit", "-q", "-m", "1")
    git(folder, "init", "-q")
    git(folder, "-c", "advice.addEmbeddedRepo=false", "add", "lib")
    tree = FolderTree(folder)
    assert (paths(tree), tree.left_out) == ([], {"submodule": 1})


def test_a_folder_that_became_a_link_is_not_followed(tmp_path: Path) -> None:
    outside = written(tmp_path / "outside", file="secret")
    folder = written(tmp_path / "a", deep__file="ours")
    tree = FolderTree(folder)
    (folder / "deep" / "file").unlink()
    (folder / "deep").rmdir()
    (folder / "deep").symlink_to(outside)
    assert tree.read("deep/file") == b""
    git(folder, "init", "-q")
    assert paths(FolderTree(folder)) == []


def test_what_was_not_listed_cannot_be_read(tmp_path: Path) -> None:
    tree = FolderTree(written(tmp_path / "a", plain="1"))
    for name in ("other", "../a/plain", "/etc/hostname", ""):
        with pytest.raises(KeyError):
            tree.read(name)


def test_the_repositorys_own_programs_are_not_run(tmp_path: Path) -> None:
    folder = written(tmp_path / "a", plain="1")
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    program.chmod(0o755)
    git(folder, "init", "-q")
    git(folder, "config", "core.fsmonitor", str(program))
    git(folder, "config", "core.hooksPath", str(tmp_path))
    assert paths(FolderTree(folder)) == ["plain"]
    assert not (tmp_path / "ran").exists()


def test_a_name_that_is_no_text_is_listed(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    name = os.fsdecode(b"caf\xe9\n")
    (folder / name).write_bytes(b"1")
    assert paths(FolderTree(folder)) == [name]
    git(folder, "init", "-q")
    tree = FolderTree(folder)
    assert paths(tree) == [name]
    assert tree.read(name) == b"1"


def test_our_own_data_is_left_out(tmp_path: Path) -> None:
    folder = written(tmp_path / "a", plain="1", data__master="2", database="3")
    assert paths(FolderTree(folder, without=[folder / "data"])) == ["database", "plain"]


def test_a_folder_that_is_none_is_said(tmp_path: Path) -> None:
    with pytest.raises(NotAFolderError, match="nowhere"):
        FolderTree(tmp_path / "nowhere")
    (tmp_path / "file").write_text("1")
    with pytest.raises(NotAFolderError):
        FolderTree(tmp_path / "file")


def test_a_folders_history_tells_what_changed_below_it_newest_first(tmp_path: Path) -> None:
    folder = written(tmp_path / "a", lib__one="1", lib__two="1", other="1")
    git(folder, "init", "-q")
    as_somebody = ("-c", "user.name=a", "-c", "user.email=a@example.com")
    for changed in (["lib/one", "lib/two"], ["other"], ["lib/two", "other"]):
        for name in changed:
            with (folder / name).open("a") as file:
                file.write("2")
        git(folder, "add", *changed)
        git(folder, *as_somebody, "commit", "-q", "-m", "1")
    assert FolderHistory(folder).changed(2) == [["lib/two", "other"], ["other"]]
    assert FolderHistory(folder / "lib").changed(9) == [["two"], ["one", "two"]]


def test_a_folder_without_commits_has_no_history(tmp_path: Path) -> None:
    folder = written(tmp_path / "a", plain="1")
    assert FolderHistory(folder).changed(9) == []
    git(folder, "init", "-q")
    assert FolderHistory(folder).changed(9) == []
