"""A sandbox that works, or a failure that says why it does not: nothing here is skipped."""

from __future__ import annotations

import os
import textwrap
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.nouns import Finished, RoomLimits
from app.ports import Room
from infra.sandbox.bubblewrap import BubblewrapSandbox

SMALL = RoomLimits(
    memory_bytes=192 << 20,
    processes=40,
    disk_bytes=32 << 20,
    files=2000,
    file_bytes=8 << 20,
    output_bytes=1 << 20,
    kept_output=8192,
)


class Kit:
    """What test files use from here, since they cannot import each other."""

    SMALL = SMALL

    @staticmethod
    async def attack(room: Room, program: str, *, seconds: float = 15, indexes: bool = False) -> Finished:
        """Runs a Python program in the room."""
        source = textwrap.dedent(program).encode()
        await room.lay({"attack.py": "100644"}, lambda _path: source)
        return await room.run("python3 attack.py", seconds=seconds, indexes=indexes)

    @staticmethod
    def running(word: str) -> list[int]:
        """The processes of this machine that have the word among their arguments."""
        found = []
        for folder in Path("/proc").iterdir():
            if folder.name.isdecimal() and int(folder.name) != os.getpid():
                try:
                    arguments = (folder / "cmdline").read_bytes()
                except OSError:
                    continue
                if word.encode() in arguments:
                    found.append(int(folder.name))
        return found

    @classmethod
    def gone_within(cls, seconds: float, word: str) -> bool:
        until = time.monotonic() + seconds
        while cls.running(word):
            if time.monotonic() > until:
                return False
            time.sleep(0.02)
        return True


@pytest.fixture
def kit() -> type[Kit]:
    return Kit


@pytest.fixture
async def sandbox() -> BubblewrapSandbox:
    sandbox = BubblewrapSandbox()
    why_not = await sandbox.why_not()
    if why_not is not None:
        pytest.fail(
            f"There is no sandbox to attack, because {why_not}. On Debian: apt-get install bubblewrap."
        )
    return sandbox


@pytest.fixture
async def room(sandbox: BubblewrapSandbox) -> AsyncIterator[Room]:
    async with sandbox.open(SMALL) as room:
        yield room
