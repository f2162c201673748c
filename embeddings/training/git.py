"""Reads the history of a bare repository with few processes; runs nothing that the repository brings along."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_SAFE = ("-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-c", "core.quotePath=false")
_FIELDS = "%x01%H%x02%P%x02%s%x02%b%x03"
_HUNK = re.compile(rb"@@ -(\d+)(?:,(\d+))? \+\d+(?:,(\d+))? @@")
_SHA = re.compile(rb"[0-9a-f]{40}")
_MISSING = "0" * 40


class GitError(Exception):
    """git could not read the repository."""


@dataclass(frozen=True, slots=True)
class Change:
    """A file that a commit changes. `old`: its blob before, `""` when the commit adds the file; `new`: after."""

    path: str
    old: str
    new: str
    status: str


@dataclass(frozen=True, slots=True)
class Commit:
    sha: str
    parents: tuple[str, ...]
    subject: str
    body: str
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class Hunk:
    """Lines that changed together. `at`: the first removed line (1-based); where nothing is removed, the line after
    which the new ones stand."""

    at: int
    removed: tuple[str, ...]
    added: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Repository:
    """A bare repository, or the `.git` of one."""

    folder: Path

    def head(self) -> str:
        return self._run("rev-parse", "HEAD").decode().strip()

    def files(self, tip: str) -> dict[str, str]:
        """The blobs of a commit's ordinary files, by their paths."""
        told = self._run("ls-tree", "-r", "-z", "--full-tree", tip).split(b"\0")
        rows = [row.partition(b"\t") for row in told if row.startswith(b"100")]
        return {
            path.decode("utf-8", "surrogateescape"): meta.split(b" ")[2].decode() for meta, _, path in rows
        }

    def commits(self, tip: str, at_most: int) -> Iterator[Commit]:
        """Without merges, newest first."""
        told = self._run(
            "log", tip, f"--max-count={at_most}", "--no-merges", "--raw", "--no-abbrev", "--no-renames", "-r", "-z",
            f"--format={_FIELDS}",
        )  # fmt: skip
        for record in told.split(b"\x01")[1:]:
            head, _, raw = record.partition(b"\x03")
            fields = head.decode("utf-8", "replace").split("\x02")
            if len(fields) == 4 and raw:
                sha, parents, subject, body = fields
                yield Commit(sha, tuple(parents.split()), subject, body, tuple(_changes(raw)))

    def patches(self, commits: Sequence[Commit]) -> Iterator[tuple[Commit, dict[str, tuple[Hunk, ...]]]]:
        """What each commit changes, by path. A commit whose patch cannot be told apart is passed over, and so is one of
        which this copy lacks something."""
        blobs = sorted({name for commit in commits for name in _blobs(commit)})
        lacking = {blob for blob, there in zip(blobs, self.present(blobs), strict=True) if not there}
        commits = [commit for commit in commits if lacking.isdisjoint(_blobs(commit))]
        asked = "".join(f"{commit.sha}\n" for commit in commits).encode()
        told = self._run(
            "diff-tree", "--stdin", "-r", "-p", "-U0", "--no-renames", "--no-ext-diff", "--no-textconv",
            "--no-color", "--full-index", asked=asked,
        )  # fmt: skip
        known = {commit.sha.encode(): commit for commit in commits}
        lines = told.split(b"\n")
        starts = [number for number, line in enumerate(lines) if len(line) == 40 and _SHA.fullmatch(line)]
        for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
            commit = known[lines[start]]
            files = _files(lines[start + 1 : end])
            if len(files) == len(commit.changes):
                yield commit, dict(zip((change.path for change in commit.changes), files, strict=True))

    def blobs(self, names: Sequence[str]) -> dict[str, bytes]:
        """The contents of those that are there."""
        told = self._run("cat-file", "--batch", asked="".join(f"{name}\n" for name in names).encode())
        out: dict[str, bytes] = {}
        at = 0
        for name in names:
            end = told.index(b"\n", at)
            head, at = told[at:end], end + 1
            if not head.endswith((b" missing", b" ambiguous")):
                size = int(head.rsplit(b" ", 1)[1])
                out[name], at = told[at : at + size], at + size + 1
        return out

    def present(self, names: Sequence[str]) -> list[str]:
        """For each, such as `<revision>:<path>`, the blob's name, `""` where there is none."""
        asked = "".join(f"{name}\n" for name in names).encode()
        lines = self._run("cat-file", "--batch-check", asked=asked).split(b"\n")[: len(names)]
        return [line[:40].decode() if line[40:46] == b" blob " else "" for line in lines]

    def _run(self, *arguments: str, asked: bytes = b"") -> bytes:
        surroundings = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "GIT_CONFIG_NOSYSTEM": "1"}
        surroundings |= {
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_NO_LAZY_FETCH": "1",
        }
        done = subprocess.run(
            ["git", f"--git-dir={self.folder}", *_SAFE, *arguments],
            input=asked, capture_output=True, check=False, env=surroundings,
        )  # fmt: skip
        if done.returncode != 0:
            raise GitError(f"git {arguments[0]}: {done.stderr.decode('utf-8', 'replace').strip()[:300]}")
        return done.stdout


def _blobs(commit: Commit) -> set[str]:
    return {name for change in commit.changes for name in (change.old, change.new) if name}


def _changes(raw: bytes) -> Iterator[Change]:
    """`:100644 100644 <old> <new> M\\0path\\0` …, see https://git-scm.com/docs/diff-format"""
    fields = raw.lstrip(b"\n\0").split(b"\0")
    for about, path in zip(fields[::2], fields[1::2], strict=False):
        parts = about.decode("ascii", "replace").lstrip("\n:").split(" ")
        if len(parts) == 5:
            old, new = ("" if name == _MISSING else name for name in parts[2:4])
            yield Change(path.decode("utf-8", "surrogateescape"), old, new, parts[4])


def _files(lines: Sequence[bytes]) -> list[tuple[Hunk, ...]]:
    """The hunks of each file of a patch without context lines."""
    files: list[list[Hunk]] = []
    at, removed, added, left = 0, list[str](), list[str](), 0
    for line in lines:
        if left > 0 and line[:1] in (b"-", b"+"):
            (removed if line[:1] == b"-" else added).append(line[1:].decode("utf-8", "replace").rstrip("\r"))
            left -= 1
            if left == 0:
                files[-1].append(Hunk(at, tuple(removed), tuple(added)))
        elif line.startswith(b"diff --git "):
            files.append([])
        elif files and (hunk := _HUNK.match(line)):
            at, removed, added = int(hunk[1]), [], []
            left = int(hunk[2] or 1) + int(hunk[3] or 1)
    return [tuple(hunks) for hunks in files]
