"""Writes a change into the files of a folder: all of it or nothing, and never over what is there uncommitted.

It follows no link, enters no `.git`, and runs nothing.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from app.errors import DefectError, RefusedError
from app.nouns import FileEdit

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class InTheWayError(RefusedError):
    """A file of the folder is not as the commit has it, or cannot be written, so the change was not written."""


@dataclass(frozen=True, slots=True)
class _Step:
    """One file: what it is to hold afterwards (None: it goes), and what it is now (None: it is not there)."""

    path: str
    mode: str
    after: bytes | None
    now: os.stat_result | None
    held: bytes | None


def apply(root: Path, edits: Sequence[FileEdit]) -> None:
    """Make each file that `edits` names as it is after them. Each has to be as it is before them now; where git has
    written CRLF for LF on checking it out, CRLF is kept. Modes and owners stay.

    Raises InTheWayError that names the file, or says why the folder cannot be written; then it is as it was.
    """
    try:
        steps = [_step(root, edit) for edit in edits]
        with ExitStack() as undo:
            ready = [(step, _prepare(root, step, undo)) for step in steps]
            for step, temporary in ready:
                _put(root, step, temporary, undo)
            undo.pop_all()
    except OSError as error:
        raise InTheWayError(
            f"The change cannot be written: {error.strerror}. Nothing was written.",
            reason="work_tree_unwritable",
        ) from error
    for step in steps:
        if step.after is None:
            _remove_empty_parents(root, step.path)


def _step(root: Path, edit: FileEdit) -> _Step:
    """Raises InTheWayError where the folder does not hold what the edit was made from."""
    _require_plain(edit.path)
    now, held = _look(root, edit.path)
    if edit.before is None:
        if now is not None:
            raise _in_the_way(edit.path, "is there already and not in the commit; move it away")
        return _Step(edit.path, edit.mode, edit.after, None, None)
    if held is None:
        raise _in_the_way(edit.path, "is not there, though the commit holds it; restore it")
    after = edit.after
    if held != edit.before:
        if b"\r" in edit.before or held != edit.before.replace(b"\n", b"\r\n"):
            raise _in_the_way(edit.path, "has uncommitted changes; commit or stash them")
        after = None if after is None else after.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    return _Step(edit.path, edit.mode, after, now, held)


def _require_plain(path: str) -> None:
    """The guards have refused such paths before; here is where one would do harm."""
    parts = path.split("/")
    if any(part in ("", ".", "..") or part.casefold() == ".git" or "\0" in part for part in parts):
        raise DefectError("A path outside of the work tree was about to be written.", reason="unsafe_path")


def _look(root: Path, path: str) -> tuple[os.stat_result | None, bytes | None]:
    """What is at the path; two Nones where nothing is. Raises InTheWayError for anything but a regular file."""
    try:
        with _parent(root, path) as (folder, name):
            # Without O_NONBLOCK, opening a named pipe would wait for its writer.
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            descriptor = os.open(name, flags, dir_fd=folder)
            try:
                now = os.fstat(descriptor)
                if not stat.S_ISREG(now.st_mode):
                    raise _in_the_way(path, "is no regular file in the folder; move it away")
                with os.fdopen(descriptor, "rb", closefd=False) as file:
                    return now, file.read()
            finally:
                os.close(descriptor)
    except FileNotFoundError:
        return None, None
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise _in_the_way(path, "is a link, or lies behind one or below a file; move that away") from None
        if error.errno == errno.ENXIO:  # a socket
            raise _in_the_way(path, "is no regular file in the folder; move it away") from None
        raise


@contextmanager
def _parent(root: Path, path: str, made: ExitStack | None = None) -> Iterator[tuple[int, str]]:
    """The descriptor of the path's folder, each part of it entered by hand so that no link is followed, and the last part.
    With `made`, folders that are missing are made, and `made` removes them again when it is unwound."""
    *parents, last = path.split("/")
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for depth, part in enumerate(parents, 1):
            if made is not None:
                with suppress(FileExistsError):
                    os.mkdir(part, dir_fd=folder)
                    made.callback(_remove_folder, root / "/".join(parents[:depth]))
            inner = os.open(part, _FOLDER, dir_fd=folder)
            os.close(folder)
            folder = inner
        yield folder, last
    finally:
        os.close(folder)


def _prepare(root: Path, step: _Step, undo: ExitStack) -> str | None:
    """Writes what the file is to hold beside it, under another name. None for a file that goes."""
    if step.after is None:
        return None
    temporary = f".magicode-{secrets.token_hex(8)}"
    with _parent(root, step.path, undo) as (folder, _):
        # A new file gets what the umask leaves, as git gives it.
        plain = 0o777 if step.mode == "100755" else 0o666
        descriptor = os.open(
            temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, plain, dir_fd=folder
        )
        undo.callback(_within(root, step.path, lambda folder, _: _remove(temporary, folder)))
        with os.fdopen(descriptor, "wb") as file:
            file.write(step.after)
            if step.now is not None:
                with suppress(PermissionError):  # only root may give a file away
                    os.fchown(descriptor, step.now.st_uid, step.now.st_gid)
                os.fchmod(descriptor, stat.S_IMODE(step.now.st_mode))
            file.flush()
            os.fsync(descriptor)
    return temporary


def _put(root: Path, step: _Step, temporary: str | None, undo: ExitStack) -> None:
    with _parent(root, step.path) as (folder, name):
        if temporary is not None:
            os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
        else:
            os.unlink(name, dir_fd=folder)
    undo.callback(_within(root, step.path, lambda folder, name: _restore(step, folder, name)))


def _within(root: Path, path: str, work: Callable[[int, str], None]) -> Callable[[], None]:
    def again() -> None:
        with _parent(root, path) as (folder, name):
            work(folder, name)

    return again


def _restore(step: _Step, folder: int, name: str) -> None:
    _remove(name, folder)
    if step.held is None or step.now is None:
        return
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=folder)
    with os.fdopen(descriptor, "wb") as file:
        file.write(step.held)
        with suppress(PermissionError):
            os.fchown(descriptor, step.now.st_uid, step.now.st_gid)
        os.fchmod(descriptor, stat.S_IMODE(step.now.st_mode))


def _remove(name: str, folder: int) -> None:
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)


def _remove_folder(path: Path) -> None:
    with suppress(OSError):
        path.rmdir()


def _remove_empty_parents(root: Path, path: str) -> None:
    """As git does: a folder is there for its files."""
    *parents, _ = path.split("/")
    while parents:
        try:
            (root / "/".join(parents)).rmdir()
        except OSError:
            return
        parents.pop()


def _in_the_way(path: str, what: str) -> InTheWayError:
    return InTheWayError(
        f"`{path}` {what}, and apply again. Nothing was written.", reason="work_tree_differs"
    )
