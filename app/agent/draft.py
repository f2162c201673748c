"""What the model has changed so far: a layer in memory over the read-only workspace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from app.agent.edits import ToolError
from app.nouns import FileEdit
from app.ports import Workspace

NEW_FILE_MODE = "100644"


class Draft:
    """Reads through to the workspace where nothing was changed. Raises ToolError for paths that cannot be."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._base = {entry.path: entry for entry in workspace.entries()}
        self._changed: dict[str, bytes | None] = {}

    def paths(self) -> list[str]:
        """Every file there is now, sorted."""
        here = (self._base.keys() - self._changed.keys()) | {
            p for p, d in self._changed.items() if d is not None
        }
        return sorted(here)

    def size(self, path: str) -> int | None:
        """In bytes, where it is known without reading."""
        changed = self._changed.get(path)
        if changed is not None:
            return len(changed)
        return self._base[path].size if path in self._base else None

    def mode(self, path: str) -> str:
        """Git's mode of a file, as it will be committed."""
        entry = self._base.get(path)
        return entry.mode if entry is not None else NEW_FILE_MODE

    @contextmanager
    def all_or_nothing(self) -> Iterator[None]:
        """What is changed inside stays only if the block comes to its end."""
        before, done = dict(self._changed), False
        try:
            yield
            done = True
        finally:
            if not done:
                self._changed = before

    def read(self, path: str) -> bytes:
        if path in self._changed:
            data = self._changed[path]
            if data is None:
                raise ToolError(f"`{path}` was deleted in this change.")
            return data
        if path not in self._base:
            raise ToolError(self._why_missing(path))
        return self._workspace.read(path)

    def write(self, path: str, data: bytes) -> None:
        self.read(path)
        self._changed[path] = data

    def create(self, path: str, data: bytes) -> None:
        _check_form(path)
        paths = set(self.paths())
        if path in paths:
            raise ToolError(f"`{path}` exists already; change it with `edit`.")
        if path not in self._base and self._workspace.entry(path) is not None:
            raise ToolError(self._why_missing(path))
        if any(other.startswith(f"{path}/") for other in paths):
            raise ToolError(f"`{path}` is a folder; a file cannot have its name.")
        for parent in _parents(path):
            if parent in paths or self._workspace.entry(parent) is not None:
                raise ToolError(f"`{parent}` is not a folder, so `{path}` cannot be inside it.")
        self._changed[path] = data

    def delete(self, path: str) -> None:
        self.read(path)
        self._changed[path] = None

    def edits(self) -> tuple[FileEdit, ...]:
        """What differs from the workspace, sorted by path, with exact bytes and the tree's own modes."""
        out: list[FileEdit] = []
        for path, after in sorted(self._changed.items()):
            entry = self._base.get(path)
            before = self._workspace.read(path) if entry is not None else None
            if before != after:
                out.append(FileEdit(path, before, after, self.mode(path)))
        return tuple(out)

    def _why_missing(self, path: str) -> str:
        entry = self._workspace.entry(path)
        if entry is not None and entry.mode == "120000":
            return f"`{path}` is a symbolic link; links are neither followed nor changed."
        if entry is not None and entry.mode == "160000":
            return f"`{path}` is a submodule; its files are not here and it cannot be changed."
        if entry is not None:
            return f"`{path}` is too large to be read here, and cannot be changed."
        if any(other.startswith(f"{path.rstrip('/')}/") for other in self._base):
            return f"`{path}` is a folder; `list` shows what is in it."
        plain = path.replace("\\", "/").removeprefix("./").lstrip("/")
        if plain != path and plain in self.paths():
            return f"There is no file `{path}`. Write it `{plain}`."
        name = plain.rpartition("/")[2].casefold()
        near = [other for other in self._base if name and other.rpartition("/")[2].casefold() == name][:5]
        hint = (
            f" Files of that name: {', '.join(f'`{n}`' for n in near)}."
            if near
            else " Look with `list` or `grep`."
        )
        return f"There is no file `{path}`.{hint}"


def _check_form(path: str) -> None:
    parts = path.split("/")
    if any(part in ("", ".", "..") for part in parts) or "\\" in path or not path.isprintable():
        raise ToolError(f"{path!r} is not a path in the repository; write it like `folder/file.py`.")


def _parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:i]) for i in range(1, len(parts))]
