"""A commit's tree, read-only: git's own list of paths, and content that was checked against git's own hashes.

It reads by path only what that list names, from files named by hash; it follows no link and enters no submodule.
"""

from __future__ import annotations

import builtins
import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from app.errors import DefectError
from app.nouns import TreeEntry

REGULAR = frozenset({"100644", "100755", "100664"})
"""git's modes of readable blobs; 100664 is in old histories (https://git-scm.com/docs/git-fsck, badFilemode)."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A path of the commit that cannot be read here: `link`, `submodule`, `too_large`, `over_fetch_cap`, `missing`."""

    path: str
    reason: str


def blob_sha(content: bytes) -> str:
    """git's name of a blob (https://git-scm.com/book/en/v2/Git-Internals-Git-Objects)."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


class SnapshotWorkspace:
    """`app.ports.Workspace` over one run's directory. Paths are POSIX, relative, and exactly as git has them."""

    def __init__(
        self,
        sha: str,
        directory: Path,
        entries: Iterable[TreeEntry],
        held: Mapping[str, int],
        left_out: Collection[LeftOut],
    ) -> None:
        """`held` are the sizes in bytes of the blobs in `directory`, by sha."""
        self._sha = sha
        self._directory: Path | None = directory
        self._all = {entry.path: entry for entry in entries}
        self._readable = tuple(
            TreeEntry(entry.path, entry.mode, entry.sha, held[entry.sha])
            for _, entry in sorted(self._all.items())
            if entry.mode in REGULAR and entry.sha in held
        )
        self._blobs = {entry.path: entry.sha for entry in self._readable}
        self._left_out = tuple(sorted(left_out, key=lambda left: left.path))

    @property
    def sha(self) -> str:
        return self._sha

    @property
    def files(self) -> int:
        return len(self._readable)

    @property
    def bytes(self) -> int:
        return sum(entry.size or 0 for entry in self._readable)

    @property
    def left_out(self) -> tuple[LeftOut, ...]:
        """What the commit holds and this workspace cannot read, sorted by path."""
        return self._left_out

    def entries(self) -> Sequence[TreeEntry]:
        """Every blob that can be read here, sorted by path."""
        return self._readable

    def entry(self, path: str) -> TreeEntry | None:
        """Any entry of the commit's tree, links and submodules too."""
        return self._all.get(path)

    def read(self, path: str) -> builtins.bytes:
        """Raises KeyError for what is not a readable blob of this tree, DefectError after the workspace was closed."""
        if self._directory is None:
            raise DefectError("This workspace has been forgotten.", reason="workspace_closed")
        return (self._directory / self._blobs[path]).read_bytes()

    def close(self) -> None:
        self._directory = None
