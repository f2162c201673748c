"""Opens a commit: git's tree first, then the archive, then blob by blob what the archive does not hold as git has it.

GitHub's tarball is `git archive`: `export-ignore` drops files, `export-subst`, `eol` and `ident` change bytes
(https://git-scm.com/docs/gitattributes). So the tree's hashes decide, and the archive is only a quick way to the bytes.
"""

from __future__ import annotations

import asyncio
import errno
import shutil
import threading
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol, TypeVar

from app.errors import SHORT, MissingError, RefusedError, ShortError, TransientError
from app.nouns import TreeEntry
from app.ports import RepositoryReader
from app.workspace.storage import run_directory
from app.workspace.tree import REGULAR, LeftOut, SnapshotWorkspace, blob_sha
from app.workspace.unpack import Limits, check_path, unpack

T = TypeVar("T")

_ARCHIVE = "archive"
_NO_ROOM = (
    "There is no room for a workspace: enlarge the memory-backed storage, or set MAGICODE_WORKSPACE_DIR."
)
_FETCHES_AT_ONCE = 8


@asynccontextmanager
async def open_workspace(
    reader: RepositoryReader, sha: str, *, root: Path, run_id: str, limits: Limits | None = None
) -> AsyncIterator[SnapshotWorkspace]:
    """The tree of commit `sha` in a directory of its own below `root`, gone when the block ends, however it ends.

    Raises RefusedError (`repository_too_large`, `repository_too_large_here`, `repository_too_many_files`, and what `unpack` refuses),
    LimitedError (`workspace_in_use`), TransientError (`archive_incomplete`, `workspace_full`), DefectError, and the reader's own errors.
    """
    caps = limits or Limits()
    with _room(), run_directory(root, run_id) as directory:
        entries = (await reader.tree(sha)).entries
        left_out = _refuse_or_leave_out(entries, caps)
        skip = {left.path for left in left_out}
        sizes = {entry.sha: entry.size or 0 for entry in entries if entry.path not in skip}
        shelf = _Shelf(directory, set(sizes))
        _refuse_without_room(sum(sizes.values()), shutil.disk_usage(directory))
        if shelf.wanted:
            await _filled_from_archive(reader, sha, shelf, caps, unpacked_cap=_expected(entries, caps))
        left_out += await _fill_by_blob(
            reader, shelf, [entry for entry in entries if entry.path not in skip], caps
        )
        workspace = SnapshotWorkspace(sha, directory, entries, shelf.held, left_out)
        try:
            yield workspace
        finally:
            workspace.close()


class _Shelf:
    """Blobs by sha in one directory. Keeps what the tree names and nothing else."""

    def __init__(self, directory: Path, wanted: set[str]) -> None:
        self.directory = directory
        self.wanted = wanted
        self.held: dict[str, int] = {}

    def keep_member(self, _path: str, content: bytes) -> None:
        self.keep(content)

    def keep(self, content: bytes) -> bool:
        """Whether it was wanted. Line endings that `git archive` turned to CRLF are turned back if the hash then agrees."""
        sha = blob_sha(content)
        if sha not in self.wanted and b"\r\n" in content:
            content = content.replace(b"\r\n", b"\n")
            sha = blob_sha(content)
        if sha not in self.wanted:
            return False
        if sha not in self.held:
            (self.directory / sha).write_bytes(content)
            self.held[sha] = len(content)
        return True


def _refuse_or_leave_out(entries: Sequence[TreeEntry], limits: Limits) -> list[LeftOut]:
    """Judge git's own account of the commit before a byte of it is downloaded."""
    if len(entries) > limits.files:
        raise RefusedError(
            f"This commit holds {len(entries)} files; at most {limits.files} can be worked on.",
            reason="repository_too_many_files",
        )
    left_out = []
    total = 0
    for entry in entries:
        check_path(entry.path, limits)
        total += entry.size or 0
        if entry.mode not in REGULAR:
            left_out.append(LeftOut(entry.path, "submodule" if entry.mode == "160000" else "link"))
        elif (entry.size or 0) > limits.file_bytes:
            left_out.append(LeftOut(entry.path, "too_large"))
    if total > limits.unpacked_bytes:
        raise RefusedError(
            f"This commit holds {total} bytes; at most {limits.unpacked_bytes} can be worked on.",
            reason="repository_too_large",
        )
    return left_out


class _Usage(Protocol):
    @property
    def total(self) -> int: ...
    @property
    def free(self) -> int: ...


def _refuse_without_room(needed: int, usage: _Usage) -> None:
    """The files and their archive lie side by side for a moment. Containers often have 64 MB of shared memory: what would not
    fit there were it empty is not waited for."""
    if needed + needed // 2 > usage.total:
        raise RefusedError(
            f"The files of this commit hold {needed} bytes, and this service has {usage.total} bytes of memory for a "
            "repository and its archive; whoever runs it can give it more.",
            reason="repository_too_large_here",
        )
    if needed + needed // 2 > usage.free:
        raise TransientError(_NO_ROOM, reason="workspace_full")


def _expected(entries: Sequence[TreeEntry], limits: Limits) -> int:
    """An upper bound for the archive, in bytes: the content, and headers for files and folders.

    With attributes there is none but the limit: they let content grow, up to whole LFS objects in place of their
    pointers (https://docs.github.com/repositories/managing-your-repositorys-settings-and-features/managing-repository-settings/managing-git-lfs-objects-in-archives-of-your-repository).
    """
    blobs = [entry for entry in entries if entry.mode in REGULAR]
    if any(entry.size is None or entry.path.rpartition("/")[2] == ".gitattributes" for entry in blobs):
        return limits.unpacked_bytes
    return sum(entry.size or 0 for entry in blobs) + 8192 * len(entries) + (4 << 20)


async def _filled_from_archive(
    reader: RepositoryReader, sha: str, shelf: _Shelf, limits: Limits, *, unpacked_cap: int
) -> None:
    """GitHub packs the archive itself, so one that is malformed was more likely spoilt on its way: it is fetched once more."""
    try:
        await _fill_from_archive(reader, sha, shelf, limits, unpacked_cap=unpacked_cap)
    except RefusedError as error:
        if error.reason != "archive_malformed":
            raise
        await _fill_from_archive(reader, sha, shelf, limits, unpacked_cap=unpacked_cap)


async def _fill_from_archive(
    reader: RepositoryReader, sha: str, shelf: _Shelf, limits: Limits, *, unpacked_cap: int
) -> None:
    path = shelf.directory / _ARCHIVE
    with path.open("w+b") as file:
        await _download(reader.archive(sha), file, limits)
        file.seek(0)
        await _in_thread(
            lambda stopped: unpack(
                file,
                shelf.keep_member,
                limits,
                unpacked_cap=unpacked_cap,
                stopped=stopped,
            )
        )
    path.unlink()


async def _download(chunks: AsyncIterator[bytes], file: BinaryIO, limits: Limits) -> None:
    size = 0
    async for chunk in chunks:
        size += len(chunk)
        if size > limits.compressed_bytes:
            raise RefusedError("The archive is larger than can be worked on.", reason="archive_too_large")
        await asyncio.to_thread(file.write, chunk)


async def _in_thread(work: Callable[[Callable[[], bool]], T]) -> T:
    """Run `work(stopped)` in a thread. When the task is cancelled the thread is told and waited for, because the
    directory it writes to is removed next."""
    stop = threading.Event()
    task = asyncio.ensure_future(asyncio.to_thread(work, stop.is_set))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        stop.set()
        await asyncio.wait([task])
        raise


async def _fill_by_blob(
    reader: RepositoryReader, shelf: _Shelf, entries: Collection[TreeEntry], limits: Limits
) -> list[LeftOut]:
    """Fetch what is still missing, smallest first, up to the caps; return what stays unreadable."""
    sizes = {entry.sha: entry.size or 0 for entry in entries if entry.sha not in shelf.held}
    chosen: list[str] = []
    room = limits.fetch_bytes
    for sha, size in sorted(sizes.items(), key=lambda item: (item[1], item[0])):
        if len(chosen) >= limits.fetch_files or size > room:
            break
        room -= size
        chosen.append(sha)
    turn = asyncio.Semaphore(_FETCHES_AT_ONCE)

    async def fetch(sha: str) -> None:
        async with turn:
            try:
                content = await reader.blob(sha)
            except MissingError:
                return
            if len(content) <= limits.file_bytes:
                await asyncio.to_thread(shelf.keep, content)

    try:
        async with asyncio.TaskGroup() as group:
            for sha in chosen:
                group.create_task(fetch(sha))
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from errors
    asked = set(chosen)
    return [
        LeftOut(entry.path, "missing" if entry.sha in asked else "over_fetch_cap")
        for entry in entries
        if entry.sha not in shelf.held
    ]


@contextmanager
def _room() -> Iterator[None]:
    """Full storage is the machine's trouble of the moment, not the repository's fault."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise TransientError(_NO_ROOM, reason="workspace_full") from error
        if error.errno in SHORT:
            raise ShortError(reason="machine_short") from error
        raise
