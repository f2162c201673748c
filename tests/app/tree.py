"""A tree in memory that satisfies the Workspace port; tests/contracts/test_workspace.py holds it to the real one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha1

from app.nouns import TreeEntry


class Tree:
    """A Workspace in memory. `others` are entries that cannot be read: links and submodules."""

    def __init__(
        self,
        files: Mapping[str, bytes],
        others: Mapping[str, str] | None = None,
        executable: Sequence[str] = (),
    ) -> None:
        self._files = dict(files)
        modes = {path: "100755" if path in executable else "100644" for path in files} | dict(others or {})
        self._entries = {
            path: TreeEntry(
                path,
                mode,
                sha1(files.get(path, b"")).hexdigest(),
                len(files[path]) if path in files else None,
            )
            for path, mode in sorted(modes.items())
        }

    @property
    def sha(self) -> str:
        return "a" * 40

    def entries(self) -> Sequence[TreeEntry]:
        return [entry for path, entry in self._entries.items() if path in self._files]

    def entry(self, path: str) -> TreeEntry | None:
        return self._entries.get(path)

    def read(self, path: str) -> bytes:
        return self._files[path]
