"""Refs and loose objects as they lie in a repository's files, without a process of git for each question.

It writes nothing, and leaves to git what is packed, what is large and what has no plain name.
https://git-scm.com/docs/gitrepository-layout
"""

from __future__ import annotations

import re
import zlib
from pathlib import Path

_SHA = re.compile(r"[0-9a-f]{40}")
_PLAIN = re.compile(r"refs(?:/[A-Za-z0-9_-][A-Za-z0-9_.+-]*)+")
_SMALL_BYTES = 1 << 20
_HEADER_BYTES = 256
_LINKS = 5


def is_sha(name: str) -> bool:
    """Whether it is a whole object name, which always means the same object."""
    return _SHA.fullmatch(name) is not None


def is_plain(name: str) -> bool:
    """Whether a full ref has a name that cannot mean anything but a file below `refs/`."""
    return _PLAIN.fullmatch(name) is not None and ".." not in name and ".lock" not in name


def ref(directory: Path, name: str) -> str | None:
    """The object that a plain ref points at; None when there is no such ref."""
    for _ in range(_LINKS):
        try:
            said = (directory / name).read_text("ascii").strip()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return _packed(directory).get(name)
        if not said.startswith("ref: "):
            return said if is_sha(said) else None
        name = said.removeprefix("ref: ")
        if not is_plain(name):
            return None
    return None


def any_ref(directory: Path) -> bool:
    """Whether there is a ref at all."""
    written = (path for path in (directory / "refs").rglob("*") if path.suffix != ".lock")
    return any(path.is_file() for path in written) or bool(_packed(directory))


def kind(directory: Path, sha: str) -> str | None:
    """What a loose object is ("blob", "tree", "commit", "tag"); None when it is not loose."""
    try:
        with _file(directory, sha).open("rb") as file:
            head = zlib.decompressobj().decompress(file.read(_HEADER_BYTES), _HEADER_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return head.split(b" ", 1)[0].decode("ascii")


def content(directory: Path, sha: str, wanted: str) -> bytes | None:
    """A small loose object's bytes; None when there is none of this kind."""
    path = _file(directory, sha)
    try:
        if path.stat().st_size > _SMALL_BYTES:
            return None
        head, _, body = zlib.decompress(path.read_bytes()).partition(b"\0")
    except (FileNotFoundError, NotADirectoryError):
        return None
    return body if head.split(b" ", 1)[0].decode("ascii") == wanted else None


def _file(directory: Path, sha: str) -> Path:
    return directory / "objects" / sha[:2] / sha[2:]


def _packed(directory: Path) -> dict[str, str]:
    try:
        lines = (directory / "packed-refs").read_text("utf-8", "surrogateescape").splitlines()
    except FileNotFoundError:
        return {}
    rows = (line.split(" ", 1) for line in lines if line and line[0] not in "#^")
    return {name: sha for sha, name in rows}
