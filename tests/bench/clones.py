"""Throw-away clones that patches are tried on, and the command that says whether they are right."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from app.nouns import RoomLimits
from app.ports import Sandbox

SECRETS = ("MAGICODE_", "ANTHROPIC_", "OPENAI_", "GIT_", "AWS_", "GITHUB_", "GH_")
"""How the names begin of what a test command is not told."""

_ROOM = RoomLimits(memory_bytes=4 << 30, disk_bytes=4 << 30)
_TOLD = 2_000
_SETTINGS = {
    "core.autocrlf": "false",
    "core.fsmonitor": "false",
    "core.hooksPath": os.devnull,
    "advice.detachedHead": "false",
    "safe.directory": "*",
}


class CloneError(Exception):
    """An instance cannot be set up; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Tested:
    """How a test command ended. `told` is the end of what it wrote."""

    passed: bool
    ended: str
    exit_code: int | None
    seconds: float
    told: str


class Clone:
    """A work tree at one commit, with what git needs of the repository that it comes from and nothing of its settings."""

    def __init__(self, folder: Path, commit: str) -> None:
        self.folder = folder
        self.commit = commit

    def reset(self) -> None:
        """As the commit has it, whatever a test left behind."""
        self._git("reset", "-q", "--hard", self.commit)
        self._git("clean", "-q", "-f", "-d", "-x")

    def apply(self, patch: bytes, what: str) -> None:
        """Raises CloneError that says that `what` does not apply."""
        if patch.strip():
            self._git("apply", "--whitespace=nowarn", "-", stdin=patch, what=what)

    def restore(self, patch: bytes) -> None:
        """The files that `patch` changes, as the commit has them: a test patch replaces whatever else was done to them."""
        if not patch.strip():
            return
        told = self._git("apply", "--numstat", "-z", "-", stdin=patch, what="test_patch cannot be read")
        for row in told.split(b"\0")[:-1]:
            path = os.fsdecode(row.split(b"\t", 2)[2])
            if self._git("ls-tree", "--name-only", self.commit, "--", path):
                self._git("checkout", "-q", self.commit, "--", path)
            else:
                (self.folder / path).unlink(missing_ok=True)

    def _git(self, *arguments: str, stdin: bytes = b"", what: str = "") -> bytes:
        return _git(self.folder, *arguments, stdin=stdin, what=what)


@contextmanager
def cloned(repository: Path, commit: str, below: Path) -> Iterator[Clone]:
    """A clone below `below`, gone when the block ends. Its objects stay where they are. Raises CloneError."""
    folder = below / "clone"
    source = ["clone", "-q", "--shared", "--no-checkout", "--no-tags", "--template=", "--", str(repository)]
    try:
        _git(below, *source, str(folder), what=f"{repository} cannot be cloned")
        _git(folder, "checkout", "-q", "--detach", commit, what=f"{commit} cannot be checked out")
        yield Clone(folder, commit)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def judged(folder: Path, command: str, *, seconds: float, sandbox: Sandbox | None) -> Tested:
    """Runs the command on the folder's files: in a room of the sandbox, or with None in the folder itself."""
    if sandbox is None:
        return await _plainly(folder, command, seconds)
    modes = _modes(folder)
    async with sandbox.open(_ROOM) as room:
        await room.lay(modes, lambda path: (folder / path).read_bytes())
        done = await room.run(command, seconds=seconds)
    return Tested(
        done.ended == "exited" and done.exit_code == 0,
        done.ended,
        done.exit_code,
        done.seconds,
        done.output[-_TOLD:],
    )


async def _plainly(folder: Path, command: str, seconds: float) -> Tested:
    began = time.monotonic()
    environ = {name: value for name, value in os.environ.items() if not name.startswith(SECRETS)}
    process = await asyncio.create_subprocess_shell(
        command, cwd=folder, env=environ, start_new_session=True, stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    ended, told = "exited", b""
    try:
        told, _ = await asyncio.wait_for(process.communicate(), seconds)
    except TimeoutError:
        ended = "timed_out"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    code = process.returncode if ended == "exited" else None
    text = told.decode("utf-8", "replace")[-_TOLD:]
    return Tested(code == 0, ended, code, time.monotonic() - began, text)


def _modes(folder: Path) -> dict[str, str]:
    """git's mode of every regular file, without git's own."""
    found = {}
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name != ".git"]
        for name in files:
            path = Path(place) / name
            mode = path.lstat().st_mode
            if stat.S_ISREG(mode) and name != ".git":
                found[path.relative_to(folder).as_posix()] = "100755" if mode & stat.S_IXUSR else "100644"
    return found


def _git(folder: Path, *arguments: str, stdin: bytes = b"", what: str = "") -> bytes:
    settings = [part for name, value in _SETTINGS.items() for part in ("-c", f"{name}={value}")]
    environ = {
        "PATH": os.environ.get("PATH", os.defpath), "HOME": str(folder), "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull, "GIT_NO_LAZY_FETCH": "1", "GIT_TERMINAL_PROMPT": "0",
    }  # fmt: skip
    done = subprocess.run(
        ["git", *settings, *arguments], cwd=folder, env=environ, input=stdin, capture_output=True, check=False
    )
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise CloneError(": ".join([what or f"git {arguments[0]}", *said[-1:]]))
    return done.stdout
