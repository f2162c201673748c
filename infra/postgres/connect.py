"""Where a database is, said to the two libraries that connect to it: SQLAlchemy's engine and Procrastinate's pool.

libpq alone reads the address, so whatever it understands works: sockets, several hosts, certificates, passwords.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator
from contextlib import asynccontextmanager
from typing import Any, Self

import psycopg
from psycopg import conninfo
from psycopg.pq import ConnStatus, PipelineStatus

from app.errors import MagicodeError
from infra.postgres.tables import JOBS_SCHEMA, SCHEMA

_OPTIONS = (
    f"-c search_path={SCHEMA},{JOBS_SCHEMA} -c lock_timeout=10s -c idle_in_transaction_session_timeout=15s"
    " -c timezone=UTC"
)
"""A process that is stopped in the middle of a transaction holds up its tenant's log, and with it whoever brings a request."""


_HEARD = {
    "keepalives_idle": 20,
    "keepalives_interval": 5,
    "keepalives_count": 4,
    "tcp_user_timeout": 40_000,  # milliseconds
}
"""https://www.postgresql.org/docs/18/libpq-connect.html; a Unix socket has no need of them."""


class BadAddressError(MagicodeError):
    """MAGICODE_DATABASE_URL is not an address that PostgreSQL understands (postgresql://user@host/database)."""


def parameters(url: str) -> dict[str, Any]:
    """The address as libpq's keywords, with what every connection of ours is set to.

    A dialect in the scheme (`postgresql+psycopg://`) is accepted and ignored. Raises BadAddressError; its message
    leaves the address out, since it may hold a password.
    """
    scheme, mark, rest = url.partition("://")
    plain = f"{scheme.partition('+')[0]}{mark}{rest}"
    try:
        found = conninfo.conninfo_to_dict(plain)
    except psycopg.ProgrammingError:
        raise BadAddressError from None
    given = found.get("options")
    found["options"] = f"{_OPTIONS} {given}" if given else _OPTIONS
    found.setdefault("application_name", "magicode")
    found.setdefault("connect_timeout", 10)
    # A standby that a name leads to for a moment takes no writes: another address is tried, or the same one later.
    found.setdefault("target_session_attrs", "read-write")
    # Over TCP a machine that vanished says nothing: without these a query waits for it for two hours.
    for name, value in _HEARD.items():
        found.setdefault(name, value)
    return dict(found)


def in_step(driver: psycopg.AsyncConnection[Any]) -> bool:
    """Whether each statement is answered before the next one is sent: not so where somebody left a pipeline behind."""
    return driver.pgconn.pipeline_status == PipelineStatus.OFF


class Connection(psycopg.AsyncConnection[Any]):
    """psycopg's, whose pipelines end with Sync.

    psycopg sends a request to flush behind it, and PostgreSQL stops its clock for idle transactions at whatever it reads and
    starts it again at the next Sync alone (exec loop of `src/backend/tcop/postgres.c`): a process that is stopped behind a
    pipeline would hold its locks for ever.
    """

    @asynccontextmanager
    async def pipeline(self) -> AsyncIterator[psycopg.AsyncPipeline]:
        if self._pipeline is None:
            self._pipeline = _Pipeline(self)
        ours = self._pipeline
        try:
            async with super().pipeline() as pipeline:
                yield pipeline
        finally:
            # It could not begin: whatever is asked next would be sent through it, and nobody would read the answer.
            if self._pipeline is ours and ours.level == 0:
                self._pipeline = None


class _Pipeline(psycopg.AsyncPipeline):
    async def __aenter__(self) -> Self:
        """psycopg may give others a turn when it has begun already (`wait_async` in its waiting.py): whoever is cancelled there would
        never leave it, and whoever is given the connection next would find no result in what PostgreSQL answers."""
        outer = self.level
        try:
            return await super().__aenter__()
        except BaseException as error:
            if self.level > outer:
                self._exit(error)
            raise

    def _exit_gen(self) -> Generator[Any, Any, None]:
        try:
            self._enqueue_sync()
            yield from self._communicate_gen()
        finally:
            # Of a lost connection libpq makes up a result without an SQLSTATE, which would take the place of the error.
            if self.pgconn.status != ConnStatus.BAD:
                yield from self._fetch_gen(flush=False)  # Sync has flushed
