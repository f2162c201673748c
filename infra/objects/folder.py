"""`app.ports.Objects` in a folder that only its owner can read."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from app.errors import MissingError, TransientError
from infra.objects.names import PIECE_BYTES, parts

_DRAFT = re.compile(r"\.draft-(?P<name>.+)-[0-9a-f]{16}")


class FolderAwayError(TransientError):
    """The folder of the exports or of the backups cannot be written or read just now: it is full, or it is not there."""


class FolderObjects:
    """A file for each object. A draft that a crash left behind is no object, but has its name, and goes with it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def put(self, name: str, pieces: AsyncIterator[bytes]) -> int:
        path = self._path(name)
        draft = path.with_name(f".draft-{path.name}-{secrets.token_hex(8)}")
        size = 0
        with _translated():
            await asyncio.to_thread(path.parent.mkdir, parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                async for piece in pieces:
                    with _translated():
                        size += await asyncio.to_thread(file.write, piece)
                with _translated():
                    file.flush()
                    await asyncio.to_thread(os.fsync, file.fileno())
            with _translated():
                await asyncio.to_thread(os.replace, draft, path)
                await asyncio.to_thread(_sync_folder, path.parent)
        finally:
            draft.unlink(missing_ok=True)
        return size

    async def get(self, name: str) -> AsyncIterator[bytes]:
        try:
            file = self._path(name).open("rb")
        except (FileNotFoundError, IsADirectoryError):
            raise MissingError("This export is not there (any more).", reason="export_gone") from None
        with file:
            while True:
                with _translated():
                    piece = await asyncio.to_thread(file.read, PIECE_BYTES)
                if not piece:
                    return
                yield piece

    async def names(self, within: str) -> Sequence[str]:
        return await asyncio.to_thread(self._names, self._path(within))

    def _names(self, folder: Path) -> Sequence[str]:
        found = set()
        for path in folder.rglob("*") if folder.is_dir() else ():
            if path.is_file():
                draft = _DRAFT.fullmatch(path.name)
                whole = path if draft is None else path.with_name(draft["name"])
                found.add(whole.relative_to(self._folder).as_posix())
        return sorted(found)

    async def delete(self, name: str) -> None:
        with _translated():
            await asyncio.to_thread(self._delete, self._path(name))

    def _delete(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        for other in list(path.parent.iterdir()) if path.parent.is_dir() else ():
            draft = _DRAFT.fullmatch(other.name)
            if draft is not None and draft["name"] == path.name:
                other.unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return self._folder.joinpath(*parts(name))


def _sync_folder(folder: Path) -> None:
    """Without it a power cut can forget the name of a file whose bytes are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _translated() -> Iterator[None]:
    """The folder's own errors; their texts name paths. A draft that somebody deleted meanwhile is such an error too."""
    try:
        yield
    except OSError:
        raise FolderAwayError(reason="objects_away") from None
