"""One bare repository on disk, by git's plumbing: objects, trees, commits, refs, archives.

Git runs with an environment of its own (no system or user configuration, no hooks, no filters), so that bytes stay
as they are. Nothing here knows permissions, rules or HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import stat
import tempfile
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar, cast

from infra.simulator import loose

T = TypeVar("T")

EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
_DIFF_SECONDS = 5.0
_MOST_REMEMBERED = 4096
_SETTINGS = {
    "core.autocrlf": "false",
    "core.hooksPath": os.devnull,
    "core.protectHFS": "false",
    "core.protectNTFS": "false",
    "core.quotePath": "false",
    "gc.auto": "0",
    "init.defaultBranch": "main",
    "protocol.file.allow": "always",
    "safe.directory": "*",
    "tar.umask": "0022",
}


class GitError(Exception):
    """Git said no; the message is its standard error."""


class DiffTooLongError(Exception):
    """A few folders can unfold into more differences than anybody can list."""


@dataclass(frozen=True)
class Entry:
    """One row of a tree. `path` is bytes as git has them, decoded with surrogateescape."""

    mode: str
    type: str
    sha: str
    size: int | None
    path: str


@dataclass(frozen=True)
class Person:
    name: str
    email: str
    date: datetime

    def line(self) -> str:
        zone = self.date.strftime("%z") or "+0000"
        return f"{self.name} <{self.email}> {int(self.date.timestamp())} {zone}"


@dataclass(frozen=True)
class CommitObject:
    sha: str
    tree: str
    parents: tuple[str, ...]
    author: Person
    committer: Person
    message: str
    signature: str | None
    payload: str  # what was signed: the commit without its signature


def environment() -> dict[str, str]:
    """Git's environment: the search path and nothing else of ours."""
    pairs = {
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "HOME": os.devnull,
        "LC_ALL": "C.UTF-8",
        "PATH": os.environ.get("PATH", os.defpath),
        "TZ": "UTC",
        "GIT_CONFIG_COUNT": str(len(_SETTINGS)),
    }
    for number, (name, value) in enumerate(_SETTINGS.items()):
        pairs[f"GIT_CONFIG_KEY_{number}"] = name
        pairs[f"GIT_CONFIG_VALUE_{number}"] = value
    return pairs


async def run(
    *arguments: str, stdin: bytes = b"", extra: Mapping[str, str] | None = None, directory: Path | None = None
) -> bytes:
    """Runs git to its end, or for as long as somebody waits, and returns its standard output. Raises GitError when it fails."""
    process = await asyncio.create_subprocess_exec(
        "git",
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**environment(), **(extra or {})},
        cwd=directory,
    )
    try:
        out, err = await process.communicate(stdin)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        raise GitError(err.decode("utf-8", "replace").strip())
    return out


class Git:
    """A bare repository. Shas are full and lower-case; refs are full names (`refs/heads/main`)."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._remembered: dict[tuple[str, ...], object] = {}

    async def run(self, *arguments: str, stdin: bytes = b"", extra: Mapping[str, str] | None = None) -> bytes:
        return await run(*arguments, stdin=stdin, extra={"GIT_DIR": str(self.directory), **(extra or {})})

    # refs

    async def resolve(self, revision: str) -> str | None:
        """The commit that a sha (7 letters or more), branch, tag or full ref names; None when there is none."""
        if any(mark in revision for mark in ("^", "~", ":", "@{", " ", "..", "\n")) or revision.startswith(
            "-"
        ):
            return None
        for candidate in (f"refs/heads/{revision}", f"refs/tags/{revision}", revision):
            if loose.is_plain(candidate) and loose.ref(self.directory, candidate) is None:
                continue
            if (named := self._commit_named(candidate)) is not None:
                return named
            try:
                out = await self.run("rev-parse", "--verify", "-q", candidate + "^{commit}")
            except GitError:
                continue
            return out.decode().strip()
        return None

    def _commit_named(self, candidate: str) -> str | None:
        """The commit that a full ref or a sha names, where that can be told without git."""
        if not loose.is_sha(candidate) and not loose.is_plain(candidate):
            return None
        sha = candidate if loose.is_sha(candidate) else loose.ref(self.directory, candidate)
        return sha if sha is not None and loose.kind(self.directory, sha) == "commit" else None

    async def ref(self, name: str) -> str | None:
        """What a full ref points at; None when there is no such ref."""
        if loose.is_plain(name):
            return loose.ref(self.directory, name)
        try:
            out = await self.run("show-ref", "--verify", "--hash", "--", name)
        except GitError:
            return None
        return out.decode().strip()

    async def branch(self, name: str) -> str | None:
        return await self.ref(f"refs/heads/{name}")

    async def refs(self, prefix: str = "refs/") -> list[tuple[str, str, str]]:
        """(full ref, sha, object type) of all refs that begin with `prefix` (by letters), sorted by name."""
        out = await self.run("for-each-ref", "--format=%(refname)%00%(objectname)%00%(objecttype)")
        rows = [line.split("\0") for line in out.decode("utf-8", "surrogateescape").splitlines()]
        return sorted((name, sha, kind) for name, sha, kind in rows if name.startswith(prefix))

    async def is_empty(self) -> bool:
        return not loose.any_ref(self.directory)

    async def valid_ref(self, name: str) -> bool:
        try:
            await self.run("check-ref-format", name)
        except GitError:
            return False
        return True

    async def update_ref(self, name: str, new: str, old: str) -> bool:
        """Compare and swap; `old` all zeros: create, `new` all zeros: delete. False when it was not at `old`."""
        arguments = ("-d", name, old) if set(new) == {"0"} else (name, new, old)
        try:
            await self.run("update-ref", *arguments)
        except GitError:
            return False
        return True

    # objects

    async def kind(self, sha: str) -> str | None:
        """ "blob", "tree", "commit", "tag", or None."""
        if loose.is_sha(sha) and (found := loose.kind(self.directory, sha)) is not None:
            return found
        try:
            return (await self.run("cat-file", "-t", sha)).decode().strip()
        except GitError:
            return None

    async def read(self, sha: str, kind: str) -> bytes | None:
        """An object's bytes; None when there is no such object of this kind."""
        if loose.is_sha(sha) and (found := loose.content(self.directory, sha, kind)) is not None:
            return found
        try:
            return await self.run("cat-file", kind, sha)
        except GitError:
            return None

    async def write(self, kind: str, content: bytes) -> str:
        out = await self.run("hash-object", "-w", "-t", kind, "--stdin", stdin=content)
        return out.decode().strip()

    async def tree_of(self, commit: str) -> str:
        return (await self.run("rev-parse", "--verify", commit + "^{tree}")).decode().strip()

    async def entries(self, tree: str, *, recursive: bool = False, limit: int | None = None) -> list[Entry]:
        """A tree's rows in git's order; with `recursive`, folders and all that is below them.

        With `limit` no more than that are read: a few folders can unfold into more than any disk holds.
        """
        flags = ["-r", "-t"] if recursive else []
        if limit is None:
            out = await self.run("ls-tree", "-z", "-l", *flags, tree)
        else:
            out = await self._first_rows(limit, "ls-tree", "-z", "-l", *flags, tree)
        return [_entry(row) for row in out.decode("utf-8", "surrogateescape").split("\0") if row]

    async def _first_rows(self, limit: int, *arguments: str) -> bytes:
        """So many rows that end with NUL. Raises GitError when git fails."""
        process = await asyncio.create_subprocess_exec(
            "git",
            *arguments,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={**environment(), "GIT_DIR": str(self.directory)},
        )
        assert process.stdout is not None
        out, rows = bytearray(), 0
        while rows < limit and (chunk := await process.stdout.read(1 << 18)):
            out += chunk
            rows += chunk.count(b"\0")
        if rows >= limit:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        if await process.wait() != 0 and rows < limit:
            raise GitError("the tree cannot be read")
        return b"\0".join(bytes(out).split(b"\0")[:limit])

    async def entry(self, tree: str, path: str) -> Entry | None:
        """What stands at `path` of a tree or commit."""
        out = await self.run("--literal-pathspecs", "ls-tree", "-z", "-l", tree, "--", path)
        rows = [_entry(row) for row in out.decode("utf-8", "surrogateescape").split("\0") if row]
        return next((row for row in rows if row.path == path), None)

    async def write_tree(self, base: str | None, rows: Iterable[tuple[str, str, str | None]]) -> str:
        """A tree made of `base` and (path, mode, sha) rows; sha None removes. Raises GitError for what cannot be.

        A row for a path replaces whatever stood there, a folder too.
        """
        with tempfile.TemporaryDirectory(prefix="index-", dir=self.directory) as folder:
            extra = {"GIT_INDEX_FILE": f"{folder}/index"}
            if base is not None:
                await self.run("read-tree", base, extra=extra)
            lines: list[str] = []
            for path, mode, sha in rows:
                if mode == "040000" and sha is not None:
                    below = await self.run("ls-tree", "-r", "-z", sha)
                    found = [
                        _entry(row, sized=False)
                        for row in below.decode("utf-8", "surrogateescape").split("\0")
                        if row
                    ]
                    lines.extend(f"{e.mode} {e.sha}\t{path}/{e.path}" for e in found)
                elif sha is not None:
                    lines.append(f"{mode} {sha}\t{path}")
                else:
                    lines.append(f"0 {'0' * 40}\t{path}")
            if lines:
                packed = "\0".join(lines).encode("utf-8", "surrogateescape") + b"\0"
                await self.run("update-index", "-z", "--replace", "--index-info", stdin=packed, extra=extra)
            return (await self.run("write-tree", extra=extra)).decode().strip()

    async def write_commit(
        self,
        *,
        tree: str,
        parents: Sequence[str],
        author: Person,
        committer: Person,
        message: str,
        signature: str | None = None,
    ) -> str:
        payload = commit_payload(tree, parents, author, committer, message)
        if signature is not None:
            head, _, rest = payload.partition("\n\n")
            folded = "\n ".join(signature.strip("\n").split("\n"))
            payload = f"{head}\ngpgsig {folded}\n\n{rest}"
        return await self.write("commit", payload.encode("utf-8", "surrogateescape"))

    async def commit(self, sha: str) -> CommitObject | None:
        raw = await self.read(sha, "commit")
        return None if raw is None else parse_commit(sha, raw)

    async def commits(
        self, *revisions: str, paths: Sequence[str] = (), limit: int | None = None
    ) -> list[str]:
        """Shas reachable from the revisions (`^sha` leaves out), newest first."""
        count = [f"--max-count={limit}"] if limit is not None else []
        asked = ("--literal-pathspecs", "rev-list", *count, "--end-of-options", *revisions, "--", *paths)
        return list(await self._once(asked, revisions, self._shas(asked)))

    async def _shas(self, asked: Sequence[str]) -> list[str]:
        return (await self.run(*asked)).decode().split()

    async def _once(
        self, asked: tuple[str, ...], revisions: Sequence[str], answer: Coroutine[None, None, T]
    ) -> T:
        """What was answered before, where all revisions are shas: that never changes. What fails is asked again."""
        constant = all(loose.is_sha(one.removeprefix("^")) for one in revisions)
        if not constant:
            return await answer
        if asked in self._remembered:
            answer.close()
            return cast("T", self._remembered[asked])
        found = await answer
        if len(self._remembered) >= _MOST_REMEMBERED:
            self._remembered.clear()
        self._remembered[asked] = found
        return found

    async def is_ancestor(self, old: str, new: str) -> bool:
        try:
            await self.run("merge-base", "--is-ancestor", old, new)
        except GitError:
            return False
        return True

    async def merge_base(self, one: str, other: str) -> str | None:
        asked = ("merge-base", one, other)
        try:
            return (await self._once(asked, (one, other), self._shas(asked)))[0]
        except GitError:
            return None

    async def changes(self, before: str, after: str) -> list[Changed]:
        """What differs between two trees or commits, renames found, with added and removed lines and the patch. Raises
        DiffTooLongError."""
        return list(
            await self._once(("changes", before, after), (before, after), self._changes(before, after))
        )

    async def _changes(self, before: str, after: str) -> list[Changed]:
        common = ("diff-tree", "-r", "-M", "--no-ext-diff", "--no-textconv", before, after)
        raw = await self._in_time(*common, "-z", "--raw", "--abbrev=40")
        counted = await self.run(*common, "-z", "--numstat")
        return await self._patched(_changes(raw, counted), before, after)

    async def _in_time(self, *arguments: str) -> bytes:
        """Raises DiffTooLongError, and GitError when git fails."""
        try:
            async with asyncio.timeout(_DIFF_SECONDS):
                return await self.run(*arguments)
        except TimeoutError:
            raise DiffTooLongError from None

    async def _patched(self, found: list[Changed], before: str, after: str) -> list[Changed]:
        out = await self.run("diff-tree", "-r", "-M", "-p", "--no-ext-diff", "--no-textconv", before, after)
        patches = _patches(out)
        if len(patches) != len(found):
            return found
        return [
            Changed(c.status, c.path, c.previous, c.sha, c.added, c.removed, patch)
            for c, patch in zip(found, patches, strict=True)
        ]

    async def diff(self, before: str, after: str) -> bytes:
        """The unified diff, as `application/vnd.github.diff` has it. Raises DiffTooLongError."""
        return await self._in_time(
            "diff-tree", "-r", "-M", "-p", "--no-ext-diff", "--no-textconv", "--full-index", before, after
        )

    async def merge_tree(self, base_side: str, other_side: str) -> str | None:
        """The tree of a merge without conflicts; None when there are some."""
        try:
            out = await self.run(
                "merge-tree", "--write-tree", "--allow-unrelated-histories", base_side, other_side
            )
        except GitError:
            return None
        return out.decode().split("\n", 1)[0].strip()

    async def archive(self, commit: str, prefix: str, kind: str = "tar.gz") -> AsyncIterator[bytes]:
        """`git archive`, streamed."""
        process = await asyncio.create_subprocess_exec(
            "git",
            "archive",
            "-1",
            f"--format={kind}",
            f"--prefix={prefix}/",
            commit,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={**environment(), "GIT_DIR": str(self.directory)},
        )
        assert process.stdout is not None
        whole = False
        try:
            while chunk := await process.stdout.read(65536):
                yield chunk
            whole = True
        finally:
            # Not after its end: signalling would reap a process that asyncio is about to reap.
            if not whole and process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.terminate()
            await process.wait()

    async def size_kb(self) -> int:
        out = await self.run("count-objects", "-v")
        figures = dict(line.split(": ") for line in out.decode().splitlines() if ": " in line)
        return int(figures.get("size", 0)) + int(figures.get("size-pack", 0))


@dataclass(frozen=True)
class Changed:
    """One file of a diff. `status`: added, removed, modified, renamed, changed. Counts are None for binary files."""

    status: str
    path: str
    previous: str | None
    sha: str | None
    added: int | None
    removed: int | None
    patch: str | None = None


_STATUS = {"A": "added", "D": "removed", "M": "modified", "R": "renamed", "T": "changed", "C": "copied"}


def _changes(raw: bytes, counted: bytes) -> list[Changed]:
    fields = raw.decode("utf-8", "surrogateescape").split("\0")
    counts = counted.decode("utf-8", "surrogateescape").split("\0")
    out: list[Changed] = []
    at = tally = 0
    while at < len(fields) and fields[at]:
        _, _, old, new, letter = fields[at].split(" ")
        moved = letter[0] in "RC"
        path = fields[at + 2] if moved else fields[at + 1]
        previous = fields[at + 1] if moved else None
        at += 3 if moved else 2
        added, removed, _ = counts[tally].split("\t", 2)
        tally += 3 if moved else 1
        out.append(
            Changed(
                status=_STATUS[letter[0]],
                path=path,
                previous=previous,
                sha=old if letter[0] == "D" else new,
                added=None if added == "-" else int(added),
                removed=None if removed == "-" else int(removed),
            )
        )
    return out


def _patches(diff: bytes) -> list[str | None]:
    """The hunks of each file of a diff, in order; None where there are none (binary, or a mode alone)."""
    out: list[str | None] = []
    hunks: list[str] = []
    begun = inside = False
    for line in diff.decode("utf-8", "replace").split("\n"):
        if line.startswith("diff --git "):
            if begun:
                out.append("\n".join(hunks) or None)
            hunks, begun, inside = [], True, False
        elif line.startswith("@@ "):
            inside = True
        if inside:
            hunks.append(line)
    if begun:
        while hunks and hunks[-1] == "":
            hunks.pop()
        out.append("\n".join(hunks) or None)
    return out


def _entry(row: str, *, sized: bool = True) -> Entry:
    head, _, path = row.partition("\t")
    parts = head.split()
    size = parts[3] if sized else "-"
    return Entry(parts[0], parts[1], parts[2], None if size == "-" else int(size), path)


def commit_payload(tree: str, parents: Sequence[str], author: Person, committer: Person, message: str) -> str:
    """A commit object without a signature; this is what a signature signs."""
    lines = [f"tree {tree}", *(f"parent {sha}" for sha in parents)]
    lines += [f"author {author.line()}", f"committer {committer.line()}"]
    return "\n".join(lines) + "\n\n" + message


def parse_commit(sha: str, raw: bytes) -> CommitObject:
    head, _, message = raw.decode("utf-8", "surrogateescape").partition("\n\n")
    fields: list[tuple[str, str]] = []
    for line in head.split("\n"):
        if line.startswith(" ") and fields:
            fields[-1] = (fields[-1][0], fields[-1][1] + "\n" + line[1:])
        else:
            name, _, value = line.partition(" ")
            fields.append((name, value))
    named = dict(fields)
    unsigned = "\n".join(f"{k} {v}".replace("\n", "\n ") for k, v in fields if k != "gpgsig")
    return CommitObject(
        sha=sha,
        tree=named["tree"],
        parents=tuple(value for name, value in fields if name == "parent"),
        author=_person(named["author"]),
        committer=_person(named["committer"]),
        message=message,
        signature=named.get("gpgsig"),
        payload=f"{unsigned}\n\n{message}",
    )


def _person(value: str) -> Person:
    who, _, rest = value.rpartition("> ")
    name, _, email = who.partition("<")
    seconds = rest.split(" ")[0]
    return Person(name.strip(), email, datetime.fromtimestamp(int(seconds or 0), UTC))


# --- making repositories ---------------------------------------------------------------------------------------------


async def bring_in(source: Path, target: Path, author: Person) -> tuple[Git, str]:
    """A bare repository at `target` from a local git repository, or from a plain folder as one first commit.

    Returns it with its default branch. Raises FileNotFoundError when there is no such folder. A folder inside
    another repository is a plain folder. What stood at `target` is replaced.
    """
    await asyncio.to_thread(_make_room, source, target)
    if await _is_repository(source):
        await run("clone", "-q", "--bare", "--no-hardlinks", "--template=", "--", str(source), str(target))
        git = Git(target)
        return git, await _default_branch(git)
    await run("init", "-q", "--bare", "--template=", "--", str(target))
    git = Git(target)
    await _commit_folder(git, source, author)
    await git.run("symbolic-ref", "HEAD", "refs/heads/main")
    return git, "main"


def _make_room(source: Path, target: Path) -> None:
    if not source.is_dir():
        raise FileNotFoundError(f"there is no folder {source}")
    if target.exists():
        shutil.rmtree(target)
    target.parent.mkdir(parents=True, exist_ok=True)


async def _is_repository(source: Path) -> bool:
    try:
        out = await run("rev-parse", "--is-bare-repository", "--show-cdup", directory=source)
    except GitError:
        return False
    bare, up = (*out.decode().split("\n"), "", "")[:2]
    if bare == "true":
        return (await run("rev-parse", "--git-dir", directory=source)).decode().strip() == "."
    return up == ""


async def _default_branch(git: Git) -> str:
    try:
        return (await git.run("symbolic-ref", "--short", "HEAD")).decode().strip()
    except GitError:
        names = [name.removeprefix("refs/heads/") for name, _, _ in await git.refs("refs/heads/")]
        chosen = next((name for name in ("main", "master", *names) if name in names), "main")
        await git.run("symbolic-ref", "HEAD", f"refs/heads/{chosen}")
        return chosen


async def _commit_folder(git: Git, source: Path, author: Person) -> None:
    rows = await asyncio.to_thread(_walk, source)
    if not rows:
        return
    files = [(path, mode) for path, mode, link in rows if link is None]
    names = b"".join(os.fsencode(source / path) + b"\n" for path, _ in files if "\n" not in path)
    shas = iter(
        (await git.run("hash-object", "-w", "--no-filters", "--stdin-paths", stdin=names)).decode().split()
    )
    listed: list[tuple[str, str, str | None]] = []
    for path, mode, link in rows:
        if link is not None:
            listed.append((path, mode, await git.write("blob", link)))
        elif "\n" in path:
            listed.append((path, mode, await git.write("blob", (source / path).read_bytes())))
        else:
            listed.append((path, mode, next(shas)))
    tree = await git.write_tree(None, listed)
    sha = await git.write_commit(
        tree=tree, parents=(), author=author, committer=author, message="Initial commit\n"
    )
    await git.run("update-ref", "refs/heads/main", sha)


def _walk(source: Path) -> list[tuple[str, str, bytes | None]]:
    """(path, mode, target of a link) of all files below a folder, `.git` left out."""
    rows: list[tuple[str, str, bytes | None]] = []
    for folder, folders, names in os.walk(source):
        folders[:] = sorted(name for name in folders if name != ".git")
        links = [name for name in folders if (Path(folder) / name).is_symlink()]
        for name in sorted([*names, *links]):
            path = Path(folder) / name
            told = path.lstat().st_mode
            relative = path.relative_to(source).as_posix()
            if stat.S_ISLNK(told):
                rows.append((relative, "120000", os.fsencode(path.readlink())))
            elif stat.S_ISREG(told) and name != ".git":
                rows.append((relative, "100755" if told & stat.S_IXUSR else "100644", None))
    return rows
