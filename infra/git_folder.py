"""A local git repository: the tree of a commit, read from git's objects alone.

Nothing is checked out, no program that the repository names is run (hooks, filters, monitors, text conversions), nothing
is fetched, and nothing is written; the user's and the system's own configuration is not read.
"""

from __future__ import annotations

import os
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from app.errors import UserError
from app.nouns import TreeEntry

LARGEST_FILE = 16 << 20
"""Bytes; what is larger is listed and cannot be read, as in a workspace of the service."""

_READABLE = frozenset(
    {"100644", "100755", "100664"}
)  # the last is in old histories: git-fsck(1), badFilemode
_SETTINGS = {
    "core.fsmonitor": "false",  # would run a program that the repository names
    "core.hooksPath": os.devnull,
    "core.quotePath": "false",
    "core.untrackedCache": "false",
    "protocol.allow": "never",
    "safe.directory": "*",
}


class NotARepositoryError(UserError):
    """There is no git repository with a work tree and a commit."""


@dataclass(frozen=True, slots=True)
class GitFolder:
    """A repository with a work tree: its top folder, the branch that is checked out (None: none is), and HEAD's commit."""

    root: Path
    branch: str | None
    head: str

    @property
    def name(self) -> str:
        return self.root.name or "repository"


def find(folder: Path) -> GitFolder:
    """The repository that `folder` lies in. Blocks while git answers, a few milliseconds.

    Raises NotARepositoryError that says what is missing.
    """
    if not folder.is_dir():
        raise NotARepositoryError(f"{folder}: there is no such folder.", reason="not_a_folder")
    inside = _said(folder, "rev-parse", "--is-inside-work-tree")
    if inside is None:
        raise NotARepositoryError(
            f"{folder} is not in a git repository. `git init` makes one; then commit what is there.",
            reason="not_a_repository",
        )
    if inside != "true":
        raise NotARepositoryError(
            f"{folder} is a bare repository, or the inside of one: it has no work tree. Clone it, and name the clone.",
            reason="repository_bare",
        )
    root = Path(_said(folder, "rev-parse", "--show-toplevel") or folder).resolve()
    if not os.path.lexists(root / ".git"):
        # `core.worktree` of a repository can name any folder of this machine.
        raise NotARepositoryError(
            f"The repository of {folder} says that its work tree is elsewhere ({root}). Name a plain clone.",
            reason="work_tree_elsewhere",
        )
    head = _said(root, "rev-parse", "--verify", "--quiet", "HEAD^{commit}")
    if not head:
        raise NotARepositoryError(
            f"{root} holds no commit yet, and the work starts from a commit. Commit what is there.",
            reason="no_commit",
        )
    return GitFolder(root, _said(root, "symbolic-ref", "--quiet", "--short", "HEAD") or None, head)


@contextmanager
def committed(folder: GitFolder, commit: str | None = None) -> Iterator[CommittedTree]:
    """The tree of `commit` (HEAD's when left out) until the block ends. Raises NotARepositoryError for no such commit."""
    tree = CommittedTree(folder.root, commit or folder.head)
    try:
        yield tree
    finally:
        tree.close()


class CommittedTree:
    """Implements `app.ports.Workspace`. Links, submodules, files over LARGEST_FILE and objects that are not here (a
    partial clone) are entries and cannot be read. `read` may be called from any thread."""

    def __init__(self, root: Path, commit: str) -> None:
        """Blocks while git lists the tree."""
        self._root = root
        self._sha = commit
        self._reading = threading.Lock()
        self._reader: subprocess.Popen[bytes] | None = None
        listed = _listed(root, commit)
        sizes = _sizes(root, [entry.sha for entry in listed if entry.mode in _READABLE])
        self._all: dict[str, TreeEntry] = {}
        self._readable: dict[str, TreeEntry] = {}
        self._left_out: Counter[str] = Counter()
        for one in listed:
            entry = TreeEntry(one.path, one.mode, one.sha, sizes.get(one.sha))
            self._all[entry.path] = entry
            if (reason := _unreadable(entry)) is not None:
                self._left_out[reason] += 1
            else:
                self._readable[entry.path] = entry

    @property
    def sha(self) -> str:
        return self._sha

    @property
    def left_out(self) -> Mapping[str, int]:
        """How many entries cannot be read, by reason: `link`, `submodule`, `too_large`, `missing`."""
        return self._left_out

    def all_entries(self) -> Sequence[TreeEntry]:
        """Every entry of the commit's tree, links and submodules too, sorted by path."""
        return tuple(self._all.values())

    def entries(self) -> Sequence[TreeEntry]:
        return tuple(self._readable.values())

    def entry(self, path: str) -> TreeEntry | None:
        return self._all.get(path)

    def read(self, path: str) -> bytes:
        """Raises KeyError for what is not a readable blob of this tree."""
        entry = self._readable[path]
        with self._reading:
            content = _blob(self._process(), entry.sha)
        if content is None:
            raise KeyError(path)
        return content

    def close(self) -> None:
        """Ends git's process. A later `read` begins another."""
        with self._reading:
            if self._reader is not None:
                self._reader.communicate()
                self._reader = None

    def _process(self) -> subprocess.Popen[bytes]:
        if self._reader is None:
            self._reader = subprocess.Popen(
                _command(self._root, "cat-file", "--batch"),
                env=_environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        return self._reader


def _unreadable(entry: TreeEntry) -> str | None:
    if entry.mode not in _READABLE:
        return "submodule" if entry.mode == "160000" else "link"
    if entry.size is None:
        return "missing"
    return "too_large" if entry.size > LARGEST_FILE else None


def _listed(root: Path, commit: str) -> list[TreeEntry]:
    """Sorted by path. https://git-scm.com/docs/git-ls-tree#_output_format"""
    told = _git(root, "ls-tree", "-r", "-z", "--full-tree", commit)
    if told is None:
        raise NotARepositoryError(f"{root} holds no commit {commit}.", reason="no_such_commit")
    entries = []
    for row in told.split(b"\0")[:-1]:
        head, _, path = row.partition(b"\t")
        mode, _, sha = head.decode("ascii").split(" ")
        entries.append(TreeEntry(path.decode("utf-8", "surrogateescape"), mode, sha, None))
    return sorted(entries, key=lambda entry: entry.path)


def _sizes(root: Path, shas: Sequence[str]) -> dict[str, int]:
    """In bytes, of those that are here. https://git-scm.com/docs/git-cat-file#_batch_output"""
    asked = "".join(f"{sha}\n" for sha in dict.fromkeys(shas)).encode("ascii")
    told = _git(root, "cat-file", "--batch-check", "--buffer", stdin=asked) or b""
    rows = (row.split(" ") for row in told.decode("ascii").splitlines())
    return {row[0]: int(row[2]) for row in rows if len(row) == 3 and row[1] == "blob"}


def _blob(process: subprocess.Popen[bytes], sha: str) -> bytes | None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{sha}\n".encode("ascii"))
    process.stdin.flush()
    head = process.stdout.readline().split()
    if len(head) != 3:
        return None
    content = process.stdout.read(int(head[2]))
    process.stdout.read(1)
    return content


# --- git itself ------------------------------------------------------------------------------------------------------


def _said(folder: Path, *arguments: str) -> str | None:
    """One line, or None where git says no."""
    told = _git(folder, *arguments)
    return None if told is None else os.fsdecode(told.removesuffix(b"\n"))


def _git(folder: Path, *arguments: str, stdin: bytes = b"") -> bytes | None:
    try:
        done = subprocess.run(
            _command(folder, *arguments), env=_environment(), input=stdin, capture_output=True, check=False
        )
    except FileNotFoundError:
        raise NotARepositoryError("git was not found on the PATH.", reason="git_missing") from None
    return None if done.returncode else done.stdout


def _command(folder: Path, *arguments: str) -> list[str]:
    return ["git", "-C", str(folder), "--no-pager", "--no-replace-objects", *arguments]


def _environment() -> dict[str, str]:
    """Built from nothing: no variable of the caller's changes which repository is read, or how."""
    settings = {f"GIT_CONFIG_KEY_{n}": name for n, name in enumerate(_SETTINGS)}
    settings |= {f"GIT_CONFIG_VALUE_{n}": value for n, value in enumerate(_SETTINGS.values())}
    return settings | {
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_CONFIG_COUNT": str(len(_SETTINGS)),
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_TERMINAL_PROMPT": "0",
        "LC_ALL": "C.UTF-8",
        "PATH": os.environ.get("PATH", os.defpath),
    }
