"""How much memory a process of the service takes: one of its own, freshly loaded, that shares nothing with who measures it.

What lies in memory-backed storage, such as a run's tree, belongs to no process and is not counted here.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import psutil

from embeddings.collection import NoPoints
from tests.line.stage import Stage

ROOT = Path(__file__).parents[2]
_WORDS = """
import sys
import app.cli, app.wiring
from tests.faults.measured import Elsewhere
from tests.line.conftest import Words
app.wiring.BundledEncoder = lambda *_, **__: Words()
if sys.argv[1:] == ["elsewhere"]:
    app.wiring.QdrantPoints = Elsewhere
sys.argv = ["magicode", "worker"]
app.cli.main()
"""
_SETTLED = 0.02
"""What share of a core a process takes that has nothing to do."""


class Elsewhere(NoPoints):
    """A store whose vectors are not in this process. It keeps none at all: what a server's client buffers is not counted."""

    def __init__(self, **_: object) -> None: ...

    async def close(self) -> None: ...


@asynccontextmanager
async def measured(
    stage: Stage, role: str, folder: Path, environ: Mapping[str, str] | None = None
) -> AsyncIterator[psutil.Process]:
    """`magicode serve` or `magicode worker`, or a worker that counts words in the place of the embedding model (`words`) and
    keeps no vectors in its own process either (`elsewhere`), once it has loaded what it loads at its start. `folder` is its own.
    Raises TimeoutError."""
    program = ["-c", _WORDS, role] if role in ("words", "elsewhere") else ["-m", "app.cli", role]
    given = {
        "MAGICODE_WORKER": "true",
        "MAGICODE_CONCURRENCY": "1",
        "MAGICODE_PORT": "0",
        "MAGICODE_MASTER_KEY": f"file:{stage.folder / 'data' / 'master.key'}",
        "MAGICODE_DATA_DIR": str(folder),
        "PYTHONPATH": str(ROOT),
    }
    log = _log(folder)
    with log.open("wb") as said:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *program,
            env={**os.environ, **stage.environ, **given, **(environ or {})},
            cwd=ROOT,
            stdout=said,
            stderr=said,
        )
    try:
        watched = psutil.Process(process.pid)
        async with asyncio.timeout(240):
            await _settled(watched)
        yield watched
    except psutil.NoSuchProcess:
        raise AssertionError(f"it ended: {log.read_text()[-2000:]}") from None
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        await process.wait()


def _log(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder.with_suffix(".log")


async def _settled(process: psutil.Process) -> None:
    """Once it is there and has done next to nothing for two seconds."""
    spent = -1.0
    while True:
        await asyncio.sleep(2)
        used = process.cpu_times()
        before, spent = spent, used.user + used.system
        if spent > 1 and spent - before < 2 * _SETTLED + 0.05:
            return


def large(folder: Path, files: int) -> Path:
    """A repository of so many small modules, some ten million bytes in all."""
    for number in range(files):
        path = folder / f"package{number // 100}" / f"module{number}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        steps = [
            f'def step_{number}_{each}(count: int) -> int:\n    """Step {each} of module {number}: add and go on."""\n'
            f"    total = count + {number * each}\n    return total % {number + each + 2}\n\n"
            for each in range(14)
        ]
        path.write_text("\n".join(steps))
    (folder / "README.md").write_text("# Many steps\n")
    return folder


def resident(pid: int) -> int:
    """Its resident memory, in MB."""
    return round(psutil.Process(pid).memory_info().rss / 2**20)


def reset_peak(pid: int) -> None:
    """Linux keeps the most memory that a process had until it is told to begin anew (proc(5), clear_refs)."""
    for one in (pid, *_apart(pid)):
        Path(f"/proc/{one}/clear_refs").write_text("5")


def peak(pid: int) -> int:
    """The most resident memory that it had since, and those that work for it apart, in MB."""
    total = 0
    for one in (pid, *_apart(pid)):
        told = Path(f"/proc/{one}/status").read_text().split("\n")
        total += next(round(int(line.split()[1]) / 1024) for line in told if line.startswith("VmHWM:"))
    return total


def _apart(pid: int) -> list[int]:
    return [child.pid for child in psutil.Process(pid).children() if "infra.apart" in _command(child)]


def _command(process: psutil.Process) -> list[str]:
    """Of one that has ended in this moment: nothing."""
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []
