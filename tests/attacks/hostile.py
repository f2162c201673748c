"""Trees and archives that no honest repository has: made by git's plumbing, or byte by byte where git itself would refuse."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
import zlib
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from infra.simulator.git import Git
from infra.simulator.state import Repo

AUTHOR = "Ada <ada@example.com> 1760000000 +0000"
BLOB, EXECUTABLE, LINK, SUBMODULE, FOLDER = "100644", "100755", "120000", "160000", "40000"
Row = tuple[str, bytes, str]
"""Mode, name, sha."""


@dataclass(frozen=True)
class Member:
    """One member of a handmade tar, below the archive's top folder unless `name` says otherwise."""

    name: str
    content: bytes = b"planted\n"
    kind: bytes = tarfile.REGTYPE
    link: str = ""
    pax: tuple[tuple[str, str], ...] = ()
    size: int | None = None


async def blob(git: Git, content: bytes) -> str:
    return await git.write("blob", content)


async def raw_tree(git: Git, rows: Iterable[Row]) -> str:
    """A tree with exactly these rows, in git's order, whatever git thinks of their names: written as an object file."""
    ordered = sorted(rows, key=lambda row: row[1] + (b"/" if row[0] == FOLDER else b""))
    body = b"".join(mode.encode() + b" " + name + b"\0" + bytes.fromhex(sha) for mode, name, sha in ordered)
    return _object(git.directory, b"tree", body)


def _object(directory: Path, kind: bytes, body: bytes) -> str:
    whole = kind + b" %d\0" % len(body) + body
    sha = hashlib.sha1(whole, usedforsecurity=False).hexdigest()
    file = directory / "objects" / sha[:2] / sha[2:]
    file.parent.mkdir(exist_ok=True)
    if not file.exists():
        file.write_bytes(zlib.compress(whole, 1))
    return sha


def zeros(git: Git, size: int) -> str:
    """A blob of so many zero bytes, which is small on disk."""
    head = b"blob %d\0" % size
    digest, packer = hashlib.sha1(head, usedforsecurity=False), zlib.compressobj(1)
    packed, chunk = [packer.compress(head)], bytes(1 << 22)
    for _ in range(size // len(chunk)):
        digest.update(chunk)
        packed.append(packer.compress(chunk))
    sha = digest.hexdigest()
    file = git.directory / "objects" / sha[:2] / sha[2:]
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(b"".join([*packed, packer.flush()]))
    return sha


async def rows_of(git: Git, tree: str) -> list[Row]:
    return [
        (
            FOLDER if entry.type == "tree" else entry.mode,
            entry.path.encode("utf-8", "surrogateescape"),
            entry.sha,
        )
        for entry in await git.entries(tree)
    ]


async def with_files(git: Git, tree: str, files: Iterable[tuple[str, bytes, str]]) -> str:
    """`tree` with rows (mode, path as bytes, sha) laid over it, folder by folder, with no check of their names."""
    here: dict[bytes, Row] = (
        {name: (mode, name, sha) for mode, name, sha in await rows_of(git, tree)} if tree else {}
    )
    below: dict[bytes, list[tuple[str, bytes, str]]] = {}
    for mode, path, sha in files:
        head, slash, rest = path.partition(b"/")
        if slash:
            below.setdefault(head, []).append((mode, rest, sha))
        else:
            here[head] = (mode, head, sha)
    for head, inner in below.items():
        old = here.get(head)
        base = old[2] if old is not None and old[0] == FOLDER else ""
        here[head] = (FOLDER, head, await with_files(git, base, inner))
    return await raw_tree(git, here.values())


async def commit(repo: Repo, tree: str, parents: Iterable[str]) -> str:
    lines = [
        f"tree {tree}",
        *(f"parent {one}" for one in parents),
        f"author {AUTHOR}",
        f"committer {AUTHOR}",
        "",
        "Hostile\n",
    ]
    return _object(repo.git.directory, b"commit", "\n".join(lines).encode())


async def move(repo: Repo, sha: str, branch: str = "main") -> None:
    """Moves a branch without telling anybody."""
    await repo.git.run("update-ref", f"refs/heads/{branch}", sha)


@asynccontextmanager
async def standing(repo: Repo, rows: Iterable[tuple[str, bytes, str]]) -> AsyncIterator[str]:
    """The default branch with these rows laid over it, for the length of the block."""
    before = await repo.git.branch(repo.default_branch)
    assert before is not None
    tree = await with_files(repo.git, await repo.git.tree_of(before), rows)
    sha = await commit(repo, tree, [before])
    await move(repo, sha, repo.default_branch)
    try:
        yield sha
    finally:
        await move(repo, before, repo.default_branch)


# --- archives --------------------------------------------------------------------------------------------------------


async def honest(repo: Repo, sha: str) -> bytes:
    """What git itself makes of a commit, not compressed."""
    return await repo.git.run("archive", "--format=tar", f"--prefix={top(repo, sha)}/", sha)


def top(repo: Repo, sha: str) -> str:
    return f"{repo.owner}-{repo.name}-{sha[:7]}"


def tar(members: Iterable[Member], *, under: str, before: bytes = b"") -> bytes:
    """The members behind those of `before`, a whole tar without its end."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for member in members:
            info = tarfile.TarInfo(member.name if under == "" else f"{under}/{member.name}")
            info.type, info.linkname = member.kind, member.link
            info.size = len(member.content) if member.size is None else member.size
            info.pax_headers = dict(member.pax)
            if member.kind == tarfile.REGTYPE and member.size is None:
                archive.addfile(info, io.BytesIO(member.content))
            else:
                archive.addfile(info)
                if member.size is not None:
                    out.write(member.content)
    return without_end(before) + out.getvalue()


def without_end(packed: bytes) -> bytes:
    """A tar without the empty blocks that end it."""
    while packed.endswith(bytes(512)):
        packed = packed[:-512]
    return packed


@asynccontextmanager
async def served(repo: Repo, make: Callable[[bytes, str], bytes]) -> AsyncIterator[list[str]]:
    """`make` of git's own tar and its top folder in the place of every archive, for the length of the block; of which commits it
    was asked for."""
    asked: list[str] = []

    async def archive(sha: str, _prefix: str, _kind: str = "tar.gz") -> AsyncIterator[bytes]:
        asked.append(sha)
        content = make(await honest(repo, sha), top(repo, sha))
        for at in range(0, len(content), 1 << 16):
            yield content[at : at + (1 << 16)]

    repo.git.archive = archive  # type: ignore[method-assign]
    try:
        yield asked
    finally:
        del repo.git.archive


def zipped(content: bytes, level: int = 6) -> bytes:
    return gzip.compress(content, level, mtime=0)
