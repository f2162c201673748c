"""A PostgreSQL of a test's own, to be stopped, killed and started again: that of the session is shared and stays."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import psycopg

from infra.embedded.postgres import EmbeddedPostgres
from infra.postgres.migrate import migrate

CRASH, IMMEDIATE, FAST = signal.SIGKILL, signal.SIGQUIT, signal.SIGINT
"""https://www.postgresql.org/docs/18/server-shutdown.html"""


class Server:
    """`url` is for the service's role, `admin_url` for the superuser."""

    def __init__(self, embedded: EmbeddedPostgres, folder: Path) -> None:
        self._embedded = embedded
        self.folder = folder / "postgres"
        self.url = embedded.service_url
        self.admin_url = embedded.owner_url

    @property
    def pid(self) -> int:
        return int((self.folder / "postmaster.pid").read_text().split()[0])

    async def stop(self, how: signal.Signals) -> None:
        """Returns once nothing of it lives any more."""
        pid = self.pid
        os.kill(pid, how)
        while psutil.pid_exists(pid):
            await asyncio.sleep(0.02)

    async def start(self) -> None:
        await asyncio.to_thread(self._embedded.revive)

    @contextmanager
    def standing_still(self) -> Iterator[None]:
        """It neither answers nor refuses: connections are taken by the kernel, and nobody is at home."""
        everyone = [psutil.Process(self.pid), *psutil.Process(self.pid).children(recursive=True)]
        for process in everyone:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()
        try:
            yield
        finally:
            for process in everyone:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.resume()

    def says(self, *statements: str) -> None:
        """As its superuser, each statement by itself."""
        with psycopg.connect(self.admin_url, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)


@contextmanager
def own_server() -> Iterator[Server]:
    """Migrated, empty. Not below pytest's own temporary folder, which other runs of pytest tidy up."""
    with tempfile.TemporaryDirectory(prefix="magicode-faults-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        with EmbeddedPostgres(folder, durable=False) as embedded:
            migrate(embedded.owner_url)
            yield Server(embedded, folder)
