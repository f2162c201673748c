"""Trees of commits read from git's objects alone: nothing is checked out, and nothing of the repository is run."""

from __future__ import annotations

import os
import subprocess
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_HELD_BYTES = 96 << 20


@dataclass(frozen=True, slots=True)
class Blob:
    """A regular file of a tree. Implements `embeddings.collection.Entry`."""

    path: str
    sha: str
    size: int | None


class GitRepository:
    """One repository's objects. `close` ends its process. Reads may come from any thread."""

    def __init__(self, git_dir: Path) -> None:
        self._git = ["git", "-c", "safe.directory=*", "--git-dir", str(git_dir)]
        self._environment = {
            "PATH": os.environ.get("PATH", os.defpath), "GIT_NO_LAZY_FETCH": "1", "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C",
        }  # fmt: skip
        self._reader: subprocess.Popen[bytes] | None = None
        self._reading = threading.Lock()
        self._held: OrderedDict[str, bytes] = OrderedDict()
        self._held_bytes = 0

    def has(self, commit: str) -> bool:
        asked = [*self._git, "cat-file", "-e", f"{commit}^{{tree}}"]
        return subprocess.run(asked, env=self._environment, capture_output=True, check=False).returncode == 0

    def time_of(self, commit: str) -> int:
        """When it was committed, in seconds since 1970."""
        return int(self.run("show", "-s", "--format=%ct", commit).split()[-1])

    def run(self, *arguments: str) -> bytes:
        """Raises subprocess.CalledProcessError."""
        return subprocess.run(
            [*self._git, *arguments], env=self._environment, capture_output=True, check=True
        ).stdout

    def tree(self, commit: str) -> GitTree:
        """Regular files whose content is here; symbolic links and submodules are none."""
        blobs = []
        for entry in self.run("ls-tree", "-r", "-z", "-l", commit).split(b"\0"):
            head, _, path = entry.partition(b"\t")
            fields = head.split()
            if len(fields) == 4 and fields[0] in (b"100644", b"100755") and fields[3].isdigit():
                blobs.append(Blob(os.fsdecode(path), fields[2].decode(), int(fields[3])))
        return GitTree(self, tuple(blobs))

    def history(self, commit: str) -> GitHistory:
        """What led to the commit, and nothing that came after it."""
        return GitHistory(self, commit)

    def blob(self, sha: str) -> bytes:
        """Raises OSError when the object is not here."""
        with self._reading:
            held = self._held.get(sha)
            if held is not None:
                self._held.move_to_end(sha)
                return held
            content = self._read(sha)
            self._held[sha] = content
            self._held_bytes += len(content)
            while self._held_bytes > _HELD_BYTES and len(self._held) > 1:
                self._held_bytes -= len(self._held.popitem(last=False)[1])
            return content

    def close(self) -> None:
        with self._reading:
            if self._reader is not None:
                self._reader.communicate()
                self._reader = None
            self._held.clear()
            self._held_bytes = 0

    def _read(self, sha: str) -> bytes:
        if self._reader is None:
            self._reader = subprocess.Popen(
                [*self._git, "cat-file", "--batch"],
                env=self._environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            )  # fmt: skip
        asked, answer = self._reader.stdin, self._reader.stdout
        assert asked is not None
        assert answer is not None
        asked.write(f"{sha}\n".encode())
        asked.flush()
        head = answer.readline().split()
        if len(head) != 3:
            raise OSError(f"{sha} is not in the repository")
        content = answer.read(int(head[2]))
        answer.read(1)
        return content


class GitHistory:
    """The commit and its ancestors without merges. Implements `embeddings.history.History`."""

    def __init__(self, repository: GitRepository, commit: str) -> None:
        self._repository = repository
        self._commit = commit
        self._known: tuple[int, list[list[str]]] | None = None

    def changed(self, limit: int) -> Sequence[Sequence[str]]:
        if self._known is None or self._known[0] != limit:
            told = self._repository.run(
                "-c", "core.quotePath=false", "log", "--no-merges", "--no-renames", "--name-only", "--format=%x00",
                f"--max-count={limit}", self._commit,
            )  # fmt: skip
            commits = [one.strip(b"\n").split(b"\n") for one in told.split(b"\0")[1:]]
            self._known = limit, [[os.fsdecode(path) for path in paths if path] for paths in commits]
        return self._known[1]


class GitTree:
    """The files of one commit, or some of them. Implements `embeddings.collection.Tree`."""

    def __init__(self, repository: GitRepository, blobs: Sequence[Blob]) -> None:
        self._repository = repository
        self._blobs = tuple(blobs)
        self._by_path = {blob.path: blob for blob in blobs}

    def entries(self) -> Sequence[Blob]:
        return self._blobs

    def read(self, path: str) -> bytes:
        return self._repository.blob(self._by_path[path].sha)

    def sha(self, path: str) -> str:
        return self._by_path[path].sha

    def only(self, blobs: Sequence[Blob]) -> GitTree:
        return GitTree(self._repository, blobs)


def find(folder: Path, repo: str, commit: str) -> Path | None:
    """The git directory of `owner/name` below `folder` that has the commit, bare or with a work tree: `owner/name`,
    `owner+name`, `owner__name`, `owner-name`, `name`, each also with `.git` behind it or with the repository one folder
    further down; then whatever else ends in the name, since repositories change their owners."""
    for place in _places(folder, repo):
        for git_dir in (place, place / ".git", place / "repo", place / "repo" / ".git", place / "repo.git"):
            if (
                (git_dir / "HEAD").is_file()
                and (git_dir / "objects").is_dir()
                and GitRepository(git_dir).has(commit)
            ):
                return git_dir  # fmt: skip
    return None


def _places(folder: Path, repo: str) -> Iterator[Path]:
    owner, _, name = repo.rpartition("/")
    for form in (
        f"{owner}/{name}",
        f"{owner}+{name}",
        f"{owner}__{name}",
        f"{owner}-{name}",
        f"{owner}_{name}",
        name,
    ):
        yield folder / form  # fmt: skip
        yield folder / f"{form}.git"
    if not folder.is_dir():
        return
    for place in sorted(folder.iterdir()):
        here = place.name.lower().removesuffix(".git")
        if any(here.endswith(f"{mark}{name.lower()}") for mark in ("+", "__", "-")):
            yield place
        elif (place / name).is_dir():
            yield place / name
