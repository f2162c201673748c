"""An export of a long action log: how long it takes, and how much memory beyond what the program itself takes.

python tests/bench/export.py [--entries 1000000]

The log is a real one, the ZIP is sealed as it is for a download, and written to a folder.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

sys.path.insert(0, str(Path(__file__).parents[2]))

from app.custody.export import Made, archive
from app.custody.keys import Keys
from app.custody.sealing import Sealed
from app.exporting import gather
from infra.embedded.postgres import EmbeddedPostgres
from infra.objects.folder import FolderObjects
from infra.postgres.migrate import migrate
from infra.postgres.store import PostgresStore
from infra.qdrant import QdrantPoints
from infra.secrets import FileMasterKey
from tests.bench.actionlog import log_of, memory, say


def exported(url: str, folder: Path) -> tuple[float, float, int]:
    """Seconds, MiB and bytes of the ZIP; in a process of its own."""

    async def export() -> int:
        store, keys = PostgresStore(url), Keys(FileMasterKey(folder / "master.key"))
        points = QdrantPoints(path=folder / "qdrant")
        house: Any = SimpleNamespace(store=store, keys=keys, points=points, clock=lambda: datetime.now(UTC))
        async with store.transaction(1) as transaction:
            key = await keys.data_key(transaction)
        contents, made = await gather(house, 1, uuid4()), Made()
        sealed = Sealed(keys, key, 1, contents.export_id).seal(archive(contents, made))
        await FolderObjects(folder / "objects").put("1/export", sealed)
        await store.close()
        await points.close()
        return made.size

    before, began = memory("VmRSS"), time.perf_counter()
    size = asyncio.run(export())
    return time.perf_counter() - began, memory("VmHWM") - before, size


async def main(entries: int) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="magicode-bench-") as kept,
        EmbeddedPostgres(Path(kept), database="template", durable=False) as server,
    ):
        migrate(server.owner_url)
        for size in (entries // 10, entries):
            log = await log_of(size, server, Path(kept))
            await log.store.close()
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as apart:
                seconds, mib, whole = apart.submit(exported, log.service_url, Path(kept)).result()
            say(f"{size:>9,} entries exported in {seconds:.0f} s, {whole / 1e6:.0f} MB, {mib:.0f} MiB beyond")


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--entries", type=int, default=1_000_000)
    asyncio.run(main(options.parse_args().entries))
