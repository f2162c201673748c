"""`app.ports.Objects` in a folder that only its owner can read."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from app.errors import DefectError, MissingError

_PIECE = 1 << 20
_DRAFT = ".draft-"


class FolderObjects:
    """A file for each object. A draft that a crash left behind is no object, and goes with the next look."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def put(self, name: str, pieces: AsyncIterator[bytes]) -> int:
        path = self._path(name)
        await asyncio.to_thread(path.parent.mkdir, parents=True, exist_ok=True, mode=0o700)
        draft = path.with_name(f"{_DRAFT}{path.name}-{secrets.token_hex(8)}")
        size = 0
        try:
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                async for piece in pieces:
                    size += await asyncio.to_thread(file.write, piece)
                file.flush()
                await asyncio.to_thread(os.fsync, file.fileno())
            await asyncio.to_thread(os.replace, draft, path)
        finally:
            draft.unlink(missing_ok=True)
        return size

    async def get(self, name: str) -> AsyncIterator[bytes]:
        try:
            file = self._path(name).open("rb")
        except FileNotFoundError:
            raise MissingError("This export is not there (any more).", reason="export_gone") from None
        with file:
            while piece := await asyncio.to_thread(file.read, _PIECE):
                yield piece

    async def names(self, within: str) -> Sequence[str]:
        folder = self._path(within)
        if not folder.is_dir():
            return []
        return sorted(
            path.relative_to(self._folder).as_posix()
            for path in folder.rglob("*")
            if path.is_file() and not path.name.startswith(_DRAFT)
        )

    async def delete(self, name: str) -> None:
        path = self._path(name)
        path.unlink(missing_ok=True)
        for draft in path.parent.glob(f"{_DRAFT}{path.name}-*") if path.parent.is_dir() else ():
            draft.unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        parts = name.split("/")
        if not all(part and part not in (".", "..") and part.isprintable() for part in parts):
            raise DefectError(reason="object_name")
        return self._folder.joinpath(*parts)
