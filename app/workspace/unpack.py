"""Reads the members of a gzipped tar, within caps, and hands their bytes on.

It extracts nothing: tarfile's own filters were bypassed more than once, so tarfile only parses headers here, every
path is checked by our own rule, and no path from the archive ever becomes a path on this machine.
"""

from __future__ import annotations

import gzip
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any, BinaryIO, Never, cast

from app.errors import RefusedError, TransientError

_CHUNK = 1 << 18
_REGULAR = (tarfile.REGTYPE, tarfile.AREGTYPE)
_LINKS = {tarfile.SYMTYPE: "symlink", tarfile.LNKTYPE: "hard_link"}


@dataclass(frozen=True, slots=True)
class Limits:
    """Caps on one commit. Sizes are bytes; `ratio` is unpacked to compressed, judged after `ratio_from` bytes.

    A file over `file_bytes` is left out; every other cap refuses the whole commit. `fetch_files` and `fetch_bytes`
    bound what is asked for one by one because the archive does not hold it as git has it.
    """

    compressed_bytes: int = 512 << 20
    unpacked_bytes: int = 1 << 30
    files: int = 50_000
    file_bytes: int = 16 << 20
    ratio: int = 400
    ratio_from: int = 16 << 20
    path_bytes: int = 4096
    depth: int = 128
    header_bytes: int = 1 << 20
    fetch_files: int = 500
    fetch_bytes: int = 64 << 20


@dataclass(frozen=True, slots=True)
class Member:
    """A member that was not handed on as content: its path below the top folder, and what it is."""

    path: str
    kind: str


@dataclass(frozen=True, slots=True)
class Unpacked:
    """What the archive held: regular files handed on, and everything else by name."""

    files: int
    unpacked_bytes: int
    ignored: tuple[Member, ...]


def check_path(name: str, limits: Limits) -> tuple[str, ...]:
    """Split a repository path into its parts.

    Raises RefusedError (`archive_unsafe_path`) for an absolute path, an empty, `.` or `..` part, a NUL, or one that
    is too long or too deep.
    """
    parts = tuple(name.split("/"))
    unsafe = (
        "\0" in name
        or any(part in ("", ".", "..") for part in parts)
        or len(name.encode("utf-8", "surrogateescape")) > limits.path_bytes
        or len(parts) > limits.depth
    )
    if unsafe:
        raise RefusedError(
            "The archive names a path that git would not have; nothing of it was used.",
            reason="archive_unsafe_path",
        )
    return parts


class _Meter:
    """The decompressed stream, forward only, counted. tarfile reads headers from it; we read the content."""

    def __init__(
        self, source: BinaryIO, limits: Limits, unpacked_cap: int, stopped: Callable[[], bool]
    ) -> None:
        self._source = source
        self._gzip = cast("IO[bytes]", gzip.GzipFile(fileobj=source, mode="rb"))
        self._limits = limits
        self._cap = min(unpacked_cap, limits.unpacked_bytes)
        self._stopped = stopped
        self._position = 0
        self._header = 0

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = 0) -> int:
        """Only to where the stream already is: members are read in order, and nothing is read twice."""
        if whence != 0 or offset != self._position:
            _malformed()
        return self._position

    def read(self, size: int = -1) -> bytes:
        """What tarfile calls, for headers; a header as large as a file is a bomb."""
        self._header += size
        if size < 0 or self._header > self._limits.header_bytes:
            raise RefusedError(
                "The archive's headers are larger than any real ones.", reason="archive_header_too_large"
            )
        return self._take(size)

    def content(self, size: int) -> bytes:
        data = self._take(size)
        if len(data) != size:
            raise EOFError
        return data

    def skip_to(self, offset: int) -> None:
        while self._position < offset:
            self.content(min(_CHUNK, offset - self._position))
        self._header = 0

    def finish(self) -> None:
        """Read to the end, so that gzip's checksum is compared. Raises RefusedError when more than padding is left."""
        left = self._limits.header_bytes
        while data := self._take(_CHUNK):
            left -= len(data)
            if left < 0 or data.strip(b"\0"):
                _malformed()

    def _take(self, size: int) -> bytes:
        """Exactly `size` bytes, or fewer at the end of the stream."""
        got = bytearray()
        while len(got) < size:
            if self._stopped():
                raise TransientError("The download was stopped.", reason="archive_stopped")
            data = self._gzip.read(min(_CHUNK, size - len(got)))
            if not data and self._position == 0:
                raise EOFError  # an empty answer is a broken download, not an empty archive
            if not data:
                break
            got += data
            self._position += len(data)
            self._judge()
        return bytes(got)

    def _judge(self) -> None:
        if self._position > self._cap:
            raise RefusedError(
                "The archive unpacks to more than the commit can hold.", reason="archive_too_large"
            )
        compressed = max(self._source.tell(), 1)
        if self._position > self._limits.ratio_from and self._position > self._limits.ratio * compressed:
            raise RefusedError(
                "The archive is packed like a bomb, not like source code.", reason="archive_bomb"
            )


def _malformed() -> Never:
    raise RefusedError("The archive is not a well-formed gzipped tar.", reason="archive_malformed")


def unpack(
    source: BinaryIO,
    keep: Callable[[str, bytes], None],
    limits: Limits,
    *,
    unpacked_cap: int | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> Unpacked:
    """Read GitHub's tarball (one top folder, https://docs.github.com/rest/repos/contents#download-a-repository-archive-tar)
    and call `keep(path, content)` for each regular file that is not over `limits.file_bytes`.

    `path` is below the top folder; bytes that are not UTF-8 are kept as surrogates. `stopped` is asked between reads.
    Blocking: call it in a thread. Raises RefusedError (`archive_too_large`, `archive_bomb`, `archive_malformed`,
    `archive_too_many_files`, `archive_header_too_large`, `archive_unsafe_path`), TransientError
    (`archive_incomplete`, `archive_stopped`).
    """
    meter = _Meter(
        source, limits, unpacked_cap if unpacked_cap is not None else limits.unpacked_bytes, stopped
    )
    try:
        found = _members(meter, keep, limits)
        meter.finish()
    except EOFError as error:
        raise TransientError("The archive ended before its end.", reason="archive_incomplete") from error
    except (
        tarfile.TarError,
        gzip.BadGzipFile,
        zlib.error,
        ValueError,
        RecursionError,
        OverflowError,
    ) as error:
        raise RefusedError(
            "The archive is not a well-formed gzipped tar.", reason="archive_malformed"
        ) from error
    return found


def _members(meter: _Meter, keep: Callable[[str, bytes], None], limits: Limits) -> Unpacked:
    files = 0
    count = 0
    ignored: list[Member] = []
    top: str | None = None
    with tarfile.TarFile(
        fileobj=cast("IO[bytes]", meter), mode="r", encoding="utf-8", errors="surrogateescape"
    ) as archive:
        while (member := archive.next()) is not None:
            cast("Any", archive).members.clear()  # tarfile remembers every header otherwise
            count += 1
            if count > 2 * limits.files:  # folders are members too
                raise RefusedError("The archive holds too many files.", reason="archive_too_many_files")
            parts = check_path(member.name, limits)
            top = top if top is not None else parts[0]
            if parts[0] != top:
                _malformed()
            path = "/".join(parts[1:])
            if member.type in _REGULAR and not member.issparse():
                files += 1
                if files > limits.files:
                    raise RefusedError("The archive holds too many files.", reason="archive_too_many_files")
                if not path:
                    _malformed()
                if member.size <= limits.file_bytes:
                    keep(path, meter.content(member.size))
                else:
                    ignored.append(Member(path, "too_large"))
            elif not member.isdir():
                ignored.append(Member(path, _LINKS.get(member.type, "special")))
            meter.skip_to(archive.offset)
    return Unpacked(files, meter.tell(), tuple(ignored))
