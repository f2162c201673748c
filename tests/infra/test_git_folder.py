"""A repository's commit is read as git has it, whatever its folder holds, and nothing of it is run."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra import git_folder
from infra.git_folder import CommittedTree, NotARepositoryError, committed, find


def git(folder: Path, *arguments: str, stdin: bytes = b"") -> str:
    environ = {
        "PATH": os.environ["PATH"], "HOME": str(folder), "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_NAME": "A", "GIT_AUTHOR_EMAIL": "a@example.com",
        "GIT_COMMITTER_NAME": "A", "GIT_COMMITTER_EMAIL": "a@example.com",
    }  # fmt: skip
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], env=environ, input=stdin, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().strip()


def commit(folder: Path) -> str:
    git(folder, "add", "-A", "-f")
    git(folder, "commit", "-q", "-m", "A commit")
    return git(folder, "rev-parse", "HEAD")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "code"
    (root / "bill").mkdir(parents=True)
    (root / "bill" / "share.py").write_bytes(b"one\r\ntwo")
    (root / "run.sh").write_bytes(b"#!/bin/sh\n")
    (root / "run.sh").chmod(0o755)
    (root / "na\u00efve name.txt").write_bytes(b"\xff\x00")
    (root / "link").symlink_to("run.sh")
    git(tmp_path, "init", "-q", "-b", "trunk", str(root))
    commit(root)
    return root


@pytest.fixture
def tree(repository: Path) -> Iterator[CommittedTree]:
    with committed(find(repository)) as found:
        yield found


def test_every_file_is_there_with_its_mode_size_and_bytes(tree: CommittedTree) -> None:
    assert [(one.path, one.mode, one.size) for one in tree.entries()] == [
        ("bill/share.py", "100644", 8),
        ("na\u00efve name.txt", "100644", 2),
        ("run.sh", "100755", 10),
    ]
    assert tree.read("bill/share.py") == b"one\r\ntwo"
    assert tree.read("na\u00efve name.txt") == b"\xff\x00"
    assert tree.read("run.sh") == b"#!/bin/sh\n"


def test_links_and_submodules_are_entries_that_cannot_be_read(repository: Path) -> None:
    sha = git(repository, "rev-parse", "HEAD")
    git(repository, "update-index", "--add", "--cacheinfo", f"160000,{sha},vendored")
    git(repository, "commit", "-q", "-m", "A submodule")
    with committed(find(repository)) as tree:
        for path, mode in (("link", "120000"), ("vendored", "160000")):
            entry = tree.entry(path)
            assert entry is not None
            assert entry.mode == mode
            with pytest.raises(KeyError):
                tree.read(path)
        assert tree.left_out == {"link": 1, "submodule": 1}
        assert {one.path for one in tree.all_entries()} >= {"link", "vendored", "run.sh"}


def test_what_is_too_large_is_an_entry_that_cannot_be_read(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(git_folder, "LARGEST_FILE", 9)
    with committed(find(repository)) as tree:
        assert "run.sh" not in {one.path for one in tree.entries()}
        assert tree.left_out["too_large"] == 1
        with pytest.raises(KeyError):
            tree.read("run.sh")


def test_an_object_that_is_not_here_is_left_out_and_not_fetched(repository: Path) -> None:
    sha = git(repository, "rev-parse", "HEAD:run.sh")
    git(repository, "config", "extensions.partialClone", "origin")
    git(repository, "config", "remote.origin.promisor", "true")
    git(repository, "config", "remote.origin.url", str(repository))
    git(repository, "config", "remote.origin.uploadpack", f"touch {repository / 'ran'};")
    (repository / ".git" / "objects" / sha[:2] / sha[2:]).unlink()
    with committed(find(repository)) as tree:
        assert tree.left_out["missing"] == 1
        assert "run.sh" not in {one.path for one in tree.entries()}
        assert tree.read("bill/share.py") == b"one\r\ntwo"
    assert not (repository / "ran").exists()


def test_what_is_not_committed_is_not_seen(repository: Path) -> None:
    (repository / "bill" / "share.py").write_text("changed")
    (repository / "staged.py").write_text("new")
    git(repository, "add", "staged.py")
    with committed(find(repository)) as tree:
        assert tree.read("bill/share.py") == b"one\r\ntwo"
        assert tree.entry("staged.py") is None


def test_an_earlier_commit_can_be_read(repository: Path) -> None:
    first = find(repository)
    (repository / "new.py").write_text("new")
    commit(repository)
    with committed(find(repository), first.head) as tree:
        assert tree.sha == first.head
        assert tree.entry("new.py") is None
    with pytest.raises(NotARepositoryError, match="holds no commit"), committed(first, "0" * 40):
        pass


def test_nothing_that_the_repository_names_is_run(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = repository.parent / "ran"
    program = repository.parent / "program"
    program.write_text(f"#!/bin/sh\ntouch {ran}\ncat\n")
    program.chmod(0o755)
    (repository / ".gitattributes").write_text("* filter=f diff=d text eol=crlf ident\n")
    commit(repository)
    for key in (
        "core.fsmonitor", "core.pager", "core.sshCommand", "filter.f.clean", "filter.f.smudge", "filter.f.process",
        "diff.d.textconv", "diff.d.command", "diff.external", "core.alternateRefsCommand", "core.editor",
    ):  # fmt: skip
        git(repository, "config", key, str(program))
    git(repository, "config", "core.hooksPath", str(repository.parent))
    monkeypatch.setenv("GIT_EXTERNAL_DIFF", str(program))
    monkeypatch.setenv("GIT_PAGER", str(program))
    with committed(find(repository)) as tree:
        assert all(tree.read(one.path) is not None for one in tree.entries())
        assert tree.read("run.sh") == b"#!/bin/sh\n"
    assert not ran.exists()


def test_the_callers_environment_does_not_choose_the_repository(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    git(tmp_path, "init", "-q", str(other))
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other))
    assert find(repository).root == repository.resolve()


def test_replaced_objects_are_not_followed(repository: Path) -> None:
    sha = git(repository, "rev-parse", "HEAD:run.sh")
    other = git(repository, "hash-object", "-w", "--stdin", stdin=b"replaced")
    git(repository, "replace", sha, other)
    with committed(find(repository)) as tree:
        assert tree.read("run.sh") == b"#!/bin/sh\n"


def test_a_folder_inside_and_a_linked_work_tree_are_found(repository: Path, tmp_path: Path) -> None:
    found = find(repository / "bill")
    assert (found.root, found.branch, found.name) == (repository.resolve(), "trunk", "code")
    git(repository, "worktree", "add", "-q", "--detach", str(tmp_path / "linked"))
    linked = find(tmp_path / "linked")
    assert (linked.root, linked.branch, linked.head) == (
        (tmp_path / "linked").resolve(),
        None,
        found.head,
    )


def test_what_is_no_repository_is_said_with_what_would_help(tmp_path: Path, repository: Path) -> None:
    with pytest.raises(NotARepositoryError, match="no such folder"):
        find(tmp_path / "nowhere")
    plain = tmp_path / "plain"
    plain.mkdir()
    with pytest.raises(NotARepositoryError, match="git init"):
        find(plain)
    git(tmp_path, "init", "-q", "--bare", str(tmp_path / "bare"))
    for inside in (tmp_path / "bare", repository / ".git"):
        with pytest.raises(NotARepositoryError, match="no work tree"):
            find(inside)
    git(tmp_path, "init", "-q", str(tmp_path / "unborn"))
    with pytest.raises(NotARepositoryError, match="no commit yet"):
        find(tmp_path / "unborn")


def test_a_repository_that_names_another_folder_as_its_work_tree_is_refused(
    repository: Path, tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    git(repository, "config", "core.worktree", str(victim))
    with pytest.raises(NotARepositoryError):
        find(repository)
    git(repository, "config", "core.worktree", str(tmp_path))
    with pytest.raises(NotARepositoryError, match="elsewhere"):
        find(repository)


def test_without_git_that_is_said(repository: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotARepositoryError, match="git was not found"):
        find(repository)
