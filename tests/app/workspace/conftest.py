"""A reader over a real git repository: its tree is `git ls-tree`, its archive `git archive`, as GitHub's are."""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import pytest

from app.errors import MissingError
from app.nouns import Tree, TreeEntry


def git(where: Path, *words: str | bytes, stdin: bytes = b"") -> bytes:
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(where),
        "GIT_CONFIG_NOSYSTEM": "1",
        **{
            f"GIT_{who}_{what}": value
            for who in ("AUTHOR", "COMMITTER")
            for what, value in (("NAME", "A"), ("EMAIL", "a@b.c"))
        },
    }
    return subprocess.run(
        ["git", *words], cwd=where, input=stdin, env=environment, check=True, capture_output=True
    ).stdout


class GitReader:
    """The parts of `RepositoryReader` that a workspace uses."""

    def __init__(self, where: Path) -> None:
        self.where = where
        self.fetched: list[str] = []
        self.archives = 0
        self.missing: set[str] = set()
        self.entries: tuple[TreeEntry, ...] | None = None
        self.tarball: bytes | None = None

    async def tree(self, sha: str) -> Tree:
        if self.entries is not None:
            return Tree(sha, self.entries)
        entries = []
        for line in git(self.where, "ls-tree", "-r", "-z", "-l", sha).split(b"\0")[:-1]:
            facts, path = line.split(b"\t", 1)
            mode, _, blob, size = facts.split()
            entries.append(
                TreeEntry(
                    path.decode("utf-8", "surrogateescape"),
                    mode.decode(),
                    blob.decode(),
                    None if size == b"-" else int(size),
                )
            )
        return Tree(sha, tuple(entries))

    async def blob(self, sha: str) -> bytes:
        self.fetched.append(sha)
        if sha in self.missing:
            raise MissingError
        return git(self.where, "cat-file", "blob", sha)

    async def archive(self, sha: str) -> AsyncIterator[bytes]:
        self.archives += 1
        data = self.tarball
        if data is None:
            data = git(self.where, "archive", "--format=tar.gz", f"--prefix=owner-repo-{sha[:7]}/", sha)
        for start in range(0, len(data), 1000):
            yield data[start : start + 1000]

    def truth(self, sha: str) -> dict[str, bytes]:
        """Every regular file of the commit, by git itself."""
        out = {}
        for line in git(self.where, "ls-tree", "-r", "-z", sha).split(b"\0")[:-1]:
            facts, path = line.split(b"\t", 1)
            mode, _, blob = facts.split()
            if mode in (b"100644", b"100755"):
                out[path.decode("utf-8", "surrogateescape")] = git(self.where, "cat-file", "blob", blob)
        return out


Commit = Callable[[Mapping[str | bytes, bytes]], tuple[GitReader, str]]


@pytest.fixture
def commit(tmp_path: Path) -> Commit:
    """Commits these files to a new repository as they are, past any attribute's conversion; returns reader and sha."""

    def make(files: Mapping[str | bytes, bytes]) -> tuple[GitReader, str]:
        where = tmp_path / "repository"
        where.mkdir()
        git(where, "init", "-q", "-b", "main")
        stream = b"commit refs/heads/main\ncommitter A <a@b.c> 1700000000 +0000\ndata 1\nx\n"
        for name, content in files.items():
            path = name if isinstance(name, bytes) else name.encode()
            quoted = (
                b'"'
                + b"".join(
                    bytes([byte]) if 32 <= byte < 127 and byte not in b'"\\' else b"\\%03o" % byte
                    for byte in path
                )
                + b'"'
            )
            mode = b"120000" if b"link" in path else b"100755" if path.endswith(b".sh") else b"100644"
            stream += b"M %s inline %s\ndata %d\n%s\n" % (mode, quoted, len(content), content)
        git(where, "fast-import", "--quiet", stdin=stream)
        return GitReader(where), git(where, "rev-parse", "main").decode().strip()

    return make


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "root"
    path.mkdir()
    return path
