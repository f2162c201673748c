"""A folder of this machine as a tree of files, named as git would name them.

It follows no link, runs no hook or filter of the folder's, and honours .gitignore where git knows the folder.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from app.errors import UserError
from app.nouns import TreeEntry

LARGEST_FILE = 4 << 20
_SKIPPED = frozenset({".git", ".hg", ".svn", ".venv", "__pycache__", "node_modules"})
_GONE = "gone"
_REASONS = {errno.ELOOP: "link", errno.ENOTDIR: "link", errno.ENOENT: _GONE, errno.ENXIO: "special"}
_SETTINGS = {
    "core.fsmonitor": "false",  # would run a program that the folder names
    "core.hooksPath": os.devnull,
    "core.quotePath": "false",
    "core.untrackedCache": "false",
    "safe.directory": "*",
    "log.showSignature": "false",  # would run a program to check signatures
}


class NotAFolderError(UserError):
    """There is no such folder, or it cannot be read."""


class FolderTree:
    """Implements `embeddings.collection.Tree`. Paths are relative to the folder, with `/` between their parts.

    What is listed is what was there when this was made; `read` gives what is there now.
    """

    def __init__(self, folder: Path, *, without: Iterable[Path] = ()) -> None:
        """Reads every file once, to name it; blocks meanwhile. Nothing below `without` is listed.

        Raises NotAFolderError.
        """
        self._root = folder.resolve()
        try:
            os.scandir(self._root).close()
        except OSError as error:
            raise NotAFolderError(f"{folder}: {error.strerror}.") from None
        not_ours = [path.resolve() for path in without]
        # A folder of which git lists nothing is ignored by a repository around it, and still it was asked for.
        names = _known_to_git(self._root) or list(_walked(self._root))
        self._entries: dict[str, TreeEntry] = {}
        self._left_out: Counter[str] = Counter()
        for name in sorted(names):
            if not _below(self._root / name, not_ours):
                self._enter(name)

    @property
    def root(self) -> Path:
        return self._root

    def entries(self) -> Sequence[TreeEntry]:
        return tuple(self._entries.values())

    @property
    def left_out(self) -> Mapping[str, int]:
        """How many names are not listed, by reason: `link`, `submodule`, `special`, `very_large`, `unreadable`."""
        return self._left_out

    def read(self, path: str) -> bytes:
        """Raises KeyError for what was not listed. A file that is gone since then is empty."""
        content = _content(self._root, self._entries[path].path)
        return content if isinstance(content, bytes) else b""

    def _enter(self, name: str) -> None:
        content = _content(self._root, name)
        if isinstance(content, bytes):
            sha = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
            self._entries[name] = TreeEntry(name, "100644", sha, len(content))
        elif content != _GONE:
            self._left_out[content] += 1


def _content(root: Path, name: str) -> bytes | str:
    """The bytes, or why there are none. Each part of the path is entered by hand, so that no link is followed."""
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        *parents, last = name.split("/")
        for part in parents:
            inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            os.close(folder)
            folder = inner
        # Without O_NONBLOCK, opening a named pipe would wait for its writer.
        descriptor = os.open(last, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                return "submodule" if stat.S_ISDIR(status.st_mode) else "special"
            if status.st_size > LARGEST_FILE:
                return "very_large"
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                return file.read(LARGEST_FILE)
        finally:
            os.close(descriptor)
    except OSError as error:
        return _REASONS.get(error.errno or 0, "unreadable")
    finally:
        os.close(folder)


def _below(path: Path, folders: Sequence[Path]) -> bool:
    return any(path.is_relative_to(folder) for folder in folders)


class FolderHistory:
    """Implements `embeddings.history.History`: what git says of the commits that led to the folder."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def changed(self, limit: int) -> Sequence[Sequence[str]]:
        """The paths below the folder that each of the last `limit` commits changed, the newest first; none where git is
        missing or knows no commit. Merges say nothing of their own. https://git-scm.com/docs/git-log"""
        told = _git(
            self._root,
            *("log", "--no-merges", "--no-renames", "--relative", "--name-only", "--format=%x00"),
            *(f"--max-count={limit}", "--", "."),
        )
        commits = (one.strip(b"\n").split(b"\n") for one in told.split(b"\0")[1:])
        return [[os.fsdecode(path) for path in paths if path] for paths in commits]


def _known_to_git(root: Path) -> list[str]:
    """Tracked files and those that are neither tracked nor ignored; none where git is missing or knows no repository.

    https://git-scm.com/docs/git-ls-files
    """
    told = _git(root, "ls-files", "--cached", "--others", "--exclude-standard", "-z")
    # A path in a conflict is listed once for each side.
    return list(dict.fromkeys(os.fsdecode(name) for name in told.split(b"\0") if name))


def _git(root: Path, *arguments: str) -> bytes:
    """What git answers, or nothing; it runs no program that the folder names."""
    settings = {f"GIT_CONFIG_KEY_{n}": name for n, name in enumerate(_SETTINGS)}
    settings |= {f"GIT_CONFIG_VALUE_{n}": value for n, value in enumerate(_SETTINGS.values())}
    environ = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    environ |= settings
    environ |= {
        "GIT_CONFIG_COUNT": str(len(_SETTINGS)),
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_TERMINAL_PROMPT": "0",
    }
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments],
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
    except FileNotFoundError:
        return b""
    return b"" if done.returncode else done.stdout


def _walked(root: Path) -> Iterator[str]:
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if name not in _SKIPPED]
        for name in files:
            yield (Path(folder) / name).relative_to(root).as_posix()
