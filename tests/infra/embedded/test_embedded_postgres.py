"""The embedded PostgreSQL: shared by processes, back after a crash, and careful with other people's folders."""

from __future__ import annotations

import os
import pwd
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from pathlib import Path

import psutil
import psycopg
import pytest

from infra.embedded.postgres import SUPERUSER, EmbeddedPostgres, EmbeddedPostgresError, _processes_in

AS_ROOT = os.geteuid() == 0


STAYS = """
import sys
from pathlib import Path
from infra.embedded.postgres import EmbeddedPostgres
with EmbeddedPostgres(Path(sys.argv[1]), durable=False):
    print((Path(sys.argv[1]) / "postgres/postmaster.pid").read_text().split()[0], flush=True)
    sys.stdin.read()
"""
DIES = """
import os, sys
from pathlib import Path
from infra.embedded.postgres import EmbeddedPostgres
EmbeddedPostgres(Path(sys.argv[1]), durable=False).start()
os.kill(os.getpid(), 9)
"""


def embedded(folder: Path) -> EmbeddedPostgres:
    return EmbeddedPostgres(folder, durable=False)


def says(server: EmbeddedPostgres, query: str) -> object:
    with psycopg.connect(server.owner_url, autocommit=True) as connection:
        row = connection.execute(query).fetchone()
    return row[0] if row else None


def _parents(processes: list[int], *, but: int) -> set[int]:
    """Of those that still are: a server's workers come and go."""
    found = set()
    for pid in processes:
        with suppress(psutil.NoSuchProcess):
            if pid != but:
                found.add(psutil.Process(pid).ppid())
    return found


def postmaster(folder: Path) -> int:
    return int((folder / "postgres" / "postmaster.pid").read_text().split()[0])


def killed_server(folder: Path) -> int:
    """Its process id, once it is gone: a signal is sent, and obeyed a moment later."""
    pid = postmaster(folder)
    os.kill(pid, 9)
    while pid in _processes_in(folder / "postgres"):
        time.sleep(0.01)
    return pid


def none_is_left(folder: Path) -> bool:
    """Whether the server's processes end within a minute: it takes its pid file away a moment before it is gone."""
    deadline = time.monotonic() + 60
    while _processes_in(folder / "postgres"):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "data"
    yield folder
    embedded(folder).start().stop()


def test_it_listens_on_a_private_socket_and_nowhere_else(folder: Path) -> None:
    with embedded(folder) as server:
        assert says(server, "SHOW listen_addresses") == ""
        assert says(server, "SHOW server_encoding") == "UTF8"
        assert stat.S_IMODE((folder / "postgres").stat().st_mode) == 0o700
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(f"postgresql://{SUPERUSER}@localhost/magicode", connect_timeout=2)


def test_what_was_written_is_there_after_a_stop(folder: Path) -> None:
    with embedded(folder) as server, psycopg.connect(server.owner_url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS x")
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(server.owner_url)
    with embedded(folder) as server:
        assert says(server, "SELECT x FROM kept") == 42


def test_the_last_user_turns_off_the_light(folder: Path) -> None:
    first = embedded(folder).start()
    other = subprocess.Popen(
        [sys.executable, "-c", STAYS, folder],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert other.stdin is not None
    assert other.stdout is not None
    assert int(other.stdout.readline()) == postmaster(folder)
    first.stop()
    assert says(first, "SELECT 1") == 1
    other.stdin.close()
    assert other.wait(120) == 0
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(first.owner_url)


def test_a_user_that_was_killed_does_not_keep_it_running(folder: Path) -> None:
    killed = subprocess.Popen(
        [sys.executable, "-c", DIES, folder],
    )  # fmt: skip
    assert killed.wait(120) == -9
    running = postmaster(folder)
    server = embedded(folder).start()
    assert postmaster(folder) == running
    server.stop()
    assert not (folder / "postgres" / "postmaster.pid").exists()


def test_two_that_start_at_once_share_one_server(folder: Path) -> None:
    both = [
        subprocess.Popen([sys.executable, "-c", STAYS, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    found = [each.stdout.readline() for each in both if each.stdout]
    assert len(found) == 2
    assert found[0] == found[1]
    for each in both:
        each.communicate()
        assert each.returncode == 0


def test_a_crash_leaves_nothing_that_stops_the_next_start(folder: Path) -> None:
    server = embedded(folder).start()
    with psycopg.connect(server.owner_url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS x")
    killed_server(folder)
    with embedded(folder) as again:
        assert says(again, "SELECT x FROM kept") == 42
    server.stop()


def test_one_that_was_killed_is_revived_by_whoever_uses_it_and_leaves_no_orphan(folder: Path) -> None:
    with embedded(folder) as server, embedded(folder) as other:
        assert not server.revive(), "it lives"
        first = killed_server(folder)
        with ThreadPoolExecutor() as threads:
            revived = list(threads.map(lambda one: one.revive(), [server, other]))
        assert revived.count(True) == 1, "one of them, not both"
        assert postmaster(folder) != first
        assert says(other, "SELECT 1") == 1
        again = postmaster(folder)
        assert _parents(_processes_in(folder / "postgres"), but=again) == {again}
    assert not server.revive(), "who has left starts nothing"
    assert none_is_left(folder)


def test_who_leaves_while_it_is_about_to_be_revived_leaves_no_server(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = embedded(folder).start()
    killed_server(folder)
    starting = server._starting

    def stopped_before() -> AbstractContextManager[None]:
        monkeypatch.setattr(server, "_starting", starting)
        server.stop()
        return starting()

    monkeypatch.setattr(server, "_starting", stopped_before)
    assert not server.revive()
    assert not _processes_in(folder / "postgres")


def test_a_server_that_lets_nobody_in_is_shut_down_by_its_last_user(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = embedded(folder).start()
    monkeypatch.setattr(server, "_answers", lambda: False)
    server.stop()
    assert not (folder / "postgres" / "postmaster.pid").exists()
    assert none_is_left(folder)


@pytest.mark.parametrize("left", ["its own id", "nothing", "half a line"])
def test_after_a_power_cut_a_recycled_process_id_is_not_taken_for_the_server(folder: Path, left: str) -> None:
    with embedded(folder):
        before = (folder / "postgres" / "postmaster.pid").read_text().splitlines()
    stale = {
        "its own id": "\n".join([str(os.getpid()), *before[1:]]) + "\n",
        "nothing": "",
        "half a line": "12",
    }[left]
    (folder / "postgres" / "postmaster.pid").write_text(stale)
    (folder / "postgres" / ".s.PGSQL.5432.lock").write_text(stale)
    with embedded(folder) as server:
        assert says(server, "SELECT 1") == 1


def test_an_initialisation_that_was_cut_short_is_begun_anew(folder: Path) -> None:
    (folder / "postgres.unfinished").mkdir(parents=True)
    (folder / "postgres.unfinished" / "PG_VERSION").write_text("18\n")
    with embedded(folder) as server:
        assert says(server, "SELECT 1") == 1


def test_data_of_another_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "PG_VERSION").write_text("16\n")
    with pytest.raises(EmbeddedPostgresError, match="PostgreSQL 16"):
        embedded(tmp_path).start()
    assert [path.name for path in (tmp_path / "postgres").iterdir()] == ["PG_VERSION"]


def test_a_path_too_long_for_a_socket_gets_a_private_folder_for_it(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 100) / "a folder with spaces, 100 % ünïcode & quotes'"
    with embedded(folder) as server:
        assert says(server, "SELECT 1") == 1
        socket = Path(str(says(server, "SHOW unix_socket_directories")).strip('"'))
        assert stat.S_IMODE(socket.stat().st_mode) == 0o700
    assert not socket.exists(), "nothing is left behind"


@pytest.mark.skipif(not AS_ROOT, reason="only root is refused by PostgreSQL and needs another user let in")
def test_as_root_parents_may_be_passed_but_not_listed_and_siblings_stay_closed(tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    (private / "other").mkdir(mode=0o700)
    with embedded(private / "data") as server:
        assert says(server, "SELECT 1") == 1
        assert stat.S_IMODE(private.stat().st_mode) == 0o701
        assert stat.S_IMODE((private / "data").stat().st_mode) == 0o701
        assert stat.S_IMODE((private / "other").stat().st_mode) == 0o700
        assert (private / "data" / "postgres").stat().st_uid == pwd.getpwnam("pgserver").pw_uid
