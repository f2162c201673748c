"""The sandbox attacked from inside, one test for each thing that a stranger's tests might try. None succeeds."""

# What is outside of the room is small and quick, and none of it is waited for by anything else.
# ruff: noqa: ASYNC220, ASYNC240, ASYNC251, PTH208

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from app.errors import DefectError, RefusedError
from app.ports import Room
from infra.sandbox.bubblewrap import BubblewrapSandbox

ROOT = Path(__file__).parents[3]
Kit = Any


@pytest.fixture
def word() -> str:
    return f"planted{secrets.token_hex(12)}"


# --- the network -----------------------------------------------------------------------------------------------------


async def test_no_tcp_connection_reaches_this_machine_or_another(room: Room, kit: Kit) -> None:
    with socket.create_server(("0.0.0.0", 0)) as server:
        server.settimeout(0.2)
        port = server.getsockname()[1]
        finished = await kit.attack(
            room,
            f"""
            import socket
            for host in ("127.0.0.1", "{_address()}", "1.1.1.1", "::1"):
                try:
                    socket.create_connection((host, {port}), timeout=2)
                    print("REACHED", host)
                except OSError as error:
                    print(error)
            """,
        )
        assert finished.exit_code == 0
        assert "REACHED" not in finished.output
        with pytest.raises(TimeoutError):
            server.accept()


async def test_no_datagram_leaves(room: Room, kit: Kit) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("0.0.0.0", 0))
        server.settimeout(0.2)
        port = server.getsockname()[1]
        await kit.attack(
            room,
            f"""
            import socket
            for host in ("127.0.0.1", "{_address()}", "255.255.255.255"):
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
                    try:
                        s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
                        s.sendto(b"out", (host, {port}))
                    except OSError as error:
                        print(error)
            """,
        )
        with pytest.raises(TimeoutError):
            server.recv(10)


async def test_no_name_is_looked_up(room: Room, kit: Kit) -> None:
    finished = await kit.attack(
        room,
        """
        import socket
        for name in ("github.com", "pypi.org"):
            try:
                print("FOUND", socket.getaddrinfo(name, 443))
            except OSError as error:
                print(error)
        print(open("/etc/resolv.conf").read())
        """,
    )
    assert finished.exit_code == 0
    assert "FOUND" not in finished.output
    assert "nameserver" not in finished.output


async def test_the_clouds_metadata_address_is_out_of_reach(room: Room, kit: Kit) -> None:
    finished = await kit.attack(
        room,
        """
        import socket
        for host in ("169.254.169.254", "fd00:ec2::254"):
            try:
                socket.create_connection((host, 80), timeout=2)
                print("REACHED", host)
            except OSError as error:
                print(error.errno)
        """,
    )
    assert finished.output.split() == ["101", "101"]  # ENETUNREACH: there is no way, not even a slow one


async def test_no_socket_of_this_machine_is_reached_by_path_or_by_abstract_name(
    room: Room, kit: Kit, word: str
) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder, socket.socket(socket.AF_UNIX) as named:
        Path(folder).chmod(0o777)
        named.bind(f"{folder}/socket")
        Path(f"{folder}/socket").chmod(0o777)
        named.listen()
        with socket.socket(socket.AF_UNIX) as abstract:
            abstract.bind(f"\0{word}")
            abstract.listen()
            finished = await kit.attack(
                room,
                f"""
                import socket
                for name in ("{folder}/socket", chr(0) + "{word}", "/run/docker.sock", "/var/run/docker.sock"):
                    try:
                        socket.socket(socket.AF_UNIX).connect(name)
                        print("REACHED")
                    except OSError as error:
                        print(error)
                """,
            )
    assert finished.exit_code == 0
    assert "REACHED" not in finished.output


async def test_sockets_that_no_network_namespace_holds_cannot_be_made(room: Room, kit: Kit) -> None:
    finished = await kit.attack(
        room,
        """
        import socket
        for family in (40, 38, 17, 31, 29, 44):  # VSOCK, ALG, PACKET, BLUETOOTH, CAN, XDP
            try:
                socket.socket(family, socket.SOCK_STREAM)
                print("MADE", family)
            except OSError as error:
                print(error.errno)
        """,
    )
    assert set(finished.output.split()) == {"97"}


# --- what the service knows ------------------------------------------------------------------------------------------


async def test_the_services_environment_is_not_seen(
    sandbox: BubblewrapSandbox, kit: Kit, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", word)
    async with sandbox.open(kit.SMALL) as room:
        finished = await kit.attack(
            room,
            """
            import glob, os
            print(sorted(os.environ))
            for name in glob.glob("/proc/*/environ") + glob.glob("/proc/*/cmdline") + glob.glob("/proc/*/task/*/environ"):
                try:
                    print(name, open(name).read())
                except OSError as error:
                    print(name, error)
            """,
        )
    assert finished.exit_code == 0
    assert "/proc/1/environ" in finished.output
    assert word not in finished.output
    assert "ANTHROPIC" not in finished.output


async def test_no_process_of_this_machine_is_seen(room: Room) -> None:
    finished = await room.run("ls /proc | grep -E '^[0-9]+$' | wc -l; cat /proc/1/comm", seconds=5)
    count, first = finished.output.split()
    assert int(count) < 10
    assert first == "sh"


async def test_files_of_the_service_are_not_there(room: Room, kit: Kit, word: str) -> None:
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory(dir="/dev/shm") as shared:
        paths = [Path(folder) / "master.key", Path(shared) / "workspace"]
        for path in paths:
            path.parent.chmod(0o755)
            path.write_text(word)
            path.chmod(0o644)
        names = [
            *map(str, paths),
            str(Path.home()),
            str(ROOT),
            str(ROOT / "app" / "line.py"),
            "/etc/shadow",
            "/root",
        ]
        finished = await kit.attack(
            room,
            f"""
            import os
            for name in {names!r}:
                print(name in ("/root",) or not os.path.exists(name), name)
            for folder in ("/", "/home", "/root", "/tmp", "/dev/shm", "/var", "/run", "/etc", "/mnt", "/srv"):
                print(folder, os.listdir(folder) if os.path.isdir(folder) else None)
            """,
        )
    assert finished.exit_code == 0
    assert "False" not in finished.output
    assert "/root None" in finished.output
    assert "/home None" in finished.output


async def test_the_tree_of_another_run_is_not_there(sandbox: BubblewrapSandbox, kit: Kit, word: str) -> None:
    async with sandbox.open(kit.SMALL) as one, sandbox.open(kit.SMALL) as other:
        await one.lay({"secret.txt": "100644"}, lambda _path: word.encode())
        await one.run("cp secret.txt /tmp; cp secret.txt /dev/shm; cp secret.txt $HOME", seconds=5)
        finished = await other.run(
            f"grep -rl {word[:7]} /room /tmp /dev/shm /etc /run /var 2>/dev/null; ls -A / /tmp /dev/shm $HOME",
            seconds=10,
        )
        assert finished.ended == "exited"
        assert "secret" not in finished.output
        assert word in (await one.run("cat /tmp/secret.txt", seconds=5)).output


async def test_nothing_is_written_to_this_machines_disk_or_shared_memory(room: Room, word: str) -> None:
    before = set(os.listdir("/dev/shm")) | set(os.listdir(tempfile.gettempdir()))
    await room.lay({f"{word}.py": "100644"}, lambda _path: word.encode())
    await room.run(f"touch /tmp/{word} $HOME/{word} /dev/shm/{word}", seconds=5)
    after = set(os.listdir("/dev/shm")) | set(os.listdir(tempfile.gettempdir()))
    assert not any(word in name for name in after - before)


async def test_hidden_folders_are_empty_where_a_tool_holds_them(kit: Kit, word: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        tool = Path(folder)
        (tool / "bin").mkdir()
        (tool / "data").mkdir()
        (tool / "bin" / "greet").write_text("#!/bin/sh\necho hello\n")
        (tool / "data" / "master.key").write_text(word)
        for path in (tool, tool / "bin", tool / "data", tool / "bin" / "greet"):
            path.chmod(0o755)
        sandbox = BubblewrapSandbox(tools=[tool], hidden=[tool / "data"])
        async with sandbox.open(kit.SMALL) as room:
            finished = await room.run(f"greet; ls -A {tool}/data; touch {tool}/data/x {tool}/x", seconds=5)
    assert finished.output.startswith("hello\n")
    assert "master.key" not in finished.output
    assert finished.output.count("Read-only file system") == 2


# --- using everything up ---------------------------------------------------------------------------------------------


async def test_a_fork_bomb_is_ended_and_the_room_lives_on(room: Room, kit: Kit) -> None:
    finished = await kit.attack(
        room,
        """
        import os
        while True:
            try:
                os.fork()
            except OSError:
                pass
        """,
    )
    assert finished.ended == "processes"
    assert finished.seconds < 10
    assert (await room.run("echo still here", seconds=10)).output == "still here\n"


async def test_a_bomb_of_threads_is_ended(room: Room, kit: Kit) -> None:
    finished = await kit.attack(
        room,
        """
        import threading, time
        while True:
            try:
                threading.Thread(target=time.sleep, args=(60,)).start()
            except RuntimeError:
                time.sleep(0.01)
        """,
    )
    assert finished.ended == "processes"


async def test_more_processes_than_allowed_never_run(room: Room, kit: Kit) -> None:
    finished = await kit.attack(
        room,
        """
        import os, time
        made = 0
        try:
            for _ in range(2000):
                if os.fork() == 0:
                    time.sleep(60)
                    os._exit(0)
                made += 1
        except OSError:
            pass
        print(made, flush=True)
        time.sleep(60)
        """,
    )
    assert finished.ended == "processes"
    assert int(finished.output or 0) <= kit.SMALL.processes + 32


async def test_memory_of_one_process_is_limited(room: Room, kit: Kit) -> None:
    finished = await kit.attack(room, "held = []\nwhile True: held.append(bytearray(1 << 20))")
    assert finished.ended == "memory" or "MemoryError" in finished.output


async def test_memory_of_many_processes_together_is_limited(room: Room, kit: Kit) -> None:
    finished = await kit.attack(
        room,
        """
        import os, time
        for _ in range(20):
            if os.fork() == 0:
                held = bytearray(os.urandom(1 << 20) * 30)
                time.sleep(60)
        time.sleep(60)
        """,
    )
    assert finished.ended == "memory"


async def test_shared_memory_is_counted_too(room: Room, kit: Kit) -> None:
    finished = await kit.attack(
        room,
        """
        import mmap, time
        held = []
        for _ in range(100):
            held.append(mmap.mmap(-1, 8 << 20))
            held[-1].write(b"x" * (8 << 20))
        time.sleep(60)
        """,
    )
    assert finished.ended == "memory"


async def test_memory_that_no_limit_sees_cannot_be_had(room: Room, kit: Kit) -> None:
    finished = await kit.attack(
        room,
        """
        import ctypes, os
        libc = ctypes.CDLL(None, use_errno=True)
        print(libc.shmget(0, 1 << 20, 0o1600), ctypes.get_errno())
        try:
            os.memfd_create("held")
            print("MADE")
        except OSError as error:
            print(error.errno)
        """,
    )
    assert finished.output.split() == ["-1", "38", "38"]


async def test_no_folder_takes_more_than_the_limit(room: Room, kit: Kit) -> None:
    finished = await kit.attack(
        room,
        """
        import os
        block, total = b"x" * (1 << 20), 0
        for folder in ("/room/tree", "/room", "/tmp", "/room/home", "/room/installed", "/dev/shm", "/", "/dev", "/etc",
                       "/usr", "/run", "/var", "/var/tmp", "/proc", "/home", "/dev/pts", "/dev/mqueue"):
            for n in range(40):
                try:
                    with open(f"{folder}/fill{n}", "wb", buffering=0) as file:
                        for _ in range(4):
                            total += file.write(block)
                except OSError:
                    break
        os.unlink("/room/tree/fill0")
        print(total)
        """,
    )
    assert finished.ended in ("exited", "disk")
    if finished.ended == "exited":
        assert int(finished.output) <= 3 * kit.SMALL.disk_bytes  # the room's folder, /tmp and shared memory


async def test_a_full_disk_ends_the_command_by_name(room: Room) -> None:
    finished = await room.run(
        "for n in 1 2 3 4 5 6 7 8; do dd if=/dev/zero of=f$n bs=1M count=7; done; sleep 60", seconds=20
    )
    assert finished.ended == "disk"
    assert (await room.run("rm f*; echo again > f; cat f", seconds=5)).ended in ("exited", "disk")


async def test_one_large_file_is_cut_short(room: Room) -> None:
    finished = await room.run("exec dd if=/dev/zero of=large bs=1M count=20", seconds=20)
    assert (finished.ended, finished.exit_code) != ("exited", 0)
    size = (await room.run("stat -c %s large", seconds=5)).output
    assert int(size) <= 8 << 20


async def test_too_many_files_end_the_command(room: Room) -> None:
    finished = await room.run("i=0; while :; do i=$((i+1)); : > f$i; done", seconds=30)
    assert finished.ended == "disk"


async def test_too_many_files_in_a_small_folder_end_the_command_too(room: Room) -> None:
    finished = await room.run("i=0; while :; do i=$((i+1)); mkdir /tmp/f$i /dev/shm/f$i; done", seconds=30)
    assert finished.ended == "disk"


async def test_endless_output_is_ended_and_its_ends_are_kept(room: Room, kit: Kit) -> None:
    finished = await room.run("echo first; yes", seconds=20)
    assert finished.ended == "output"
    assert finished.output.startswith("first\ny\n")
    assert "bytes left out" in finished.output
    assert len(finished.output) < kit.SMALL.kept_output + 100


async def test_output_that_is_no_text_is_made_text(room: Room) -> None:
    finished = await room.run(r"printf 'a\377b'", seconds=5)
    assert finished.output == "a\ufffdb"


# --- breaking out ----------------------------------------------------------------------------------------------------


async def test_links_lead_nowhere_outside(room: Room, word: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        target = Path(folder) / "target"
        target.write_text(word)
        await room.lay({"a/x.py": "100644", "b.py": "100644"}, lambda _path: b"1\n")
        await room.run(f"rm -r a b.py; ln -s {folder} a; ln -s {target} b.py; ln -s / root", seconds=5)
        read = await room.run("cat b.py a/target root/etc/shadow; ls root/root", seconds=5)
        assert word not in read.output
        assert "root:" not in read.output
        await room.lay({"a/x.py": "100644", "b.py": "100644", "a/target": "100644"}, lambda _path: b"new\n")
        assert target.read_text() == word
        assert sorted(os.listdir(folder)) == ["target"]
        laid = await room.run("cat a/x.py b.py a/target; find . -type l", seconds=5)
        assert laid.output == "new\nnew\nnew\n"


async def test_a_link_cannot_turn_what_is_laid_into_what_was_kept(room: Room) -> None:
    await room.lay({"a/x.py": "100644"}, lambda _path: b"1\n")
    await room.run(
        "mkdir -p $HOME/elsewhere; rm -r a; ln -s $HOME/elsewhere a; touch junk; mkdir -p d/e; chmod 000 d",
        seconds=5,
    )
    await room.lay({"a/x.py": "100644"}, lambda _path: b"2\n")
    finished = await room.run("ls $HOME/elsewhere; find . -type f", seconds=5)
    assert finished.output == "./a/x.py\n"


@pytest.mark.parametrize(
    "command",
    [
        "rm -rf /room/* || true",
        "cd /; rm -rf /room/tree /room/temporary; ln -s /usr /room/tree; ln -s /etc /room/temporary",
        "mv /room/tree /room/other; touch /room/tree",
        "chmod 000 /room/tree /room/temporary /tmp /dev/shm",
        "mkdir a; chmod 000 a; chattr +i a 2>/dev/null; mkfifo fifo; mknod sock p || true",
    ],
)
async def test_the_tree_is_laid_again_whatever_became_of_its_folder(room: Room, command: str) -> None:
    await room.lay({"a/b": "100644"}, lambda _path: b"first\n")
    await room.run(command, seconds=5)
    await room.lay({"a/b": "100644"}, lambda _path: b"again\n")
    finished = await room.run("cat a/b; find . ! -type d; pwd; ls -ld /usr/bin | cut -c1-4", seconds=5)
    assert finished.output == "again\n./a/b\n/room/tree\ndrwx\n"


async def test_folders_too_deep_to_clear_end_the_room_and_nothing_else(
    sandbox: BubblewrapSandbox, kit: Kit
) -> None:
    async with sandbox.open(kit.SMALL) as room:
        await kit.attack(
            room,
            """
            import os
            for _ in range(1500):
                os.mkdir("d" * 3)
                os.chdir("d" * 3)
            """,
        )
        with pytest.raises(DefectError):
            await room.lay({"a": "100644"}, lambda _path: b"")


async def test_system_files_cannot_be_linked_changed_or_covered(room: Room, kit: Kit) -> None:
    finished = await kit.attack(
        room,
        """
        import ctypes, os, stat
        libc = ctypes.CDLL(None, use_errno=True)
        def attempt(name, act):
            try:
                result = act()
                print("DONE" if not (isinstance(result, int) and result < 0) else "refused", name)
            except OSError as error:
                print("refused", name)
        attempt("link", lambda: os.link("/usr/bin/python3", "/room/tree/python3"))
        attempt("write", lambda: open("/usr/bin/new", "w"))
        attempt("chmod", lambda: os.chmod("/usr/bin/env", 0o777))
        attempt("passwd", lambda: open("/etc/passwd", "a"))
        attempt("mount", lambda: libc.mount(b"/usr", b"/room/home", None, 4096, None))
        attempt("remount", lambda: libc.mount(None, b"/usr", None, 32 | 4096, None))
        attempt("umount", lambda: libc.umount2(b"/proc", 2))
        attempt("tmpfs", lambda: libc.mount(b"none", b"/room/home", b"tmpfs", 0, None))
        attempt("chroot", lambda: os.chroot("/room"))
        attempt("pivot", lambda: libc.syscall(155, b"/room", b"/room/home"))
        attempt("block device", lambda: os.mknod("/room/tree/disk", 0o666 | stat.S_IFBLK, os.makedev(8, 0)))
        attempt("char device", lambda: os.mknod("/room/tree/mem", 0o666 | stat.S_IFCHR, os.makedev(1, 1)))
        attempt("root", lambda: os.setuid(0))
        attempt("groups", lambda: os.setgroups([0]))
        attempt("user namespace", lambda: libc.unshare(0x10000000))
        attempt("clone", lambda: libc.syscall(56, 0x10000000 | 17, None, None, None, None))
        attempt("setns", lambda: libc.setns(os.open("/proc/1/ns/net", 0), 0))
        attempt("sysctl", lambda: open("/proc/sys/kernel/hostname", "w").write("x"))
        attempt("core pattern", lambda: open("/proc/sys/kernel/core_pattern", "w"))
        attempt("sysrq", lambda: open("/proc/sysrq-trigger", "w"))
        attempt("kernel memory", lambda: open("/proc/kcore", "rb"))
        attempt("module", lambda: libc.syscall(175, b"", 0, b""))
        attempt("clock", lambda: libc.settimeofday(b"0" * 16, None))
        attempt("hostname", lambda: libc.sethostname(b"x", 1))
        attempt("keyring", lambda: libc.syscall(250, 0, -3, 1))
        attempt("disks", lambda: open("/dev/vda", "rb"))
        """,
    )
    assert finished.exit_code == 0
    assert finished.output.count("refused") == 26
    assert "DONE" not in finished.output


async def test_no_process_of_this_machine_is_traced_or_killed(room: Room, kit: Kit) -> None:
    with subprocess.Popen(["sleep", "60"]) as victim:
        finished = await kit.attack(
            room,
            f"""
            import ctypes, os, signal
            libc = ctypes.CDLL(None, use_errno=True)
            for pid in ({victim.pid}, {os.getpid()}, {os.getppid()}):
                if pid < 30:
                    continue
                print(libc.ptrace(16, pid, None, None), ctypes.get_errno())
                try:
                    os.kill(pid, signal.SIGKILL)
                    print("KILLED")
                except ProcessLookupError:
                    print("no such process")
                print(os.path.exists(f"/proc/{{pid}}"))
            """,
        )
        alive = victim.poll() is None
        victim.kill()
    assert alive
    assert finished.exit_code == 0
    assert "KILLED" not in finished.output
    assert "True" not in finished.output
    assert "\n0 0" not in finished.output


async def test_the_first_process_of_the_room_cannot_be_made_to_live_on_for_a_command(
    room: Room, kit: Kit
) -> None:
    finished = await kit.attack(
        room,
        """
        import ctypes, os
        libc = ctypes.CDLL(None, use_errno=True)
        for pid in (1, 2):
            print(libc.ptrace(16, pid, None, None), ctypes.get_errno())
            for name in ("mem", "environ", "root/etc/passwd", "fd/0"):
                try:
                    open(f"/proc/{pid}/{name}", "r+b")
                    print("OPENED", name)
                except PermissionError as error:
                    print(error.errno)
        """,
    )
    assert finished.exit_code == 0, finished.output
    assert finished.output.split() == ["-1", "1", "13", "13", "13", "13"] * 2


async def test_no_core_is_dumped_to_this_machine(room: Room) -> None:
    finished = await room.run("ulimit -c; cat /proc/self/limits | grep core; kill -ABRT $$", seconds=5)
    assert finished.output.split()[-4:-1] == ["size", "1", "1"]


async def test_what_one_tree_leaves_in_temporary_folders_is_gone_for_the_next(room: Room) -> None:
    await room.lay({"a": "100644"}, lambda _path: b"")
    await room.run(
        "mkdir -p /tmp/x/y && touch /tmp/x/y/z /dev/shm/s $TMPDIR/t && chmod 000 /tmp/x", seconds=5
    )
    await room.lay({"a": "100644"}, lambda _path: b"")
    finished = await room.run(
        "find /tmp /var/tmp /dev/shm $TMPDIR -mindepth 1; touch /tmp/again && echo ok", seconds=5
    )
    assert finished.output == "ok\n"


async def test_a_room_whose_launcher_is_killed_is_closed_with_all_that_it_left(
    sandbox: BubblewrapSandbox, kit: Kit, word: str
) -> None:
    async with sandbox.open(kit.SMALL) as room:
        running = asyncio.create_task(
            room.run(f": {word}; setsid sh -c ': {word}; sleep 300' & sleep 300", seconds=60)
        )
        while not kit.running(word):
            await asyncio.sleep(0.02)
        launcher = next(
            pid for pid in _children() if b"inside.py" in Path(f"/proc/{pid}/cmdline").read_bytes()
        )
        os.kill(launcher, signal.SIGKILL)
        assert (await running).ended == "killed"
        assert kit.gone_within(1, word)
        with pytest.raises(DefectError):
            await room.run("true", seconds=5)


async def test_killing_all_that_can_be_killed_leaves_the_room_as_it_was(room: Room) -> None:
    await room.lay({"a.txt": "100644"}, lambda _path: b"here\n")
    killed = await room.run("kill -9 -1; kill -9 1; echo still", seconds=5)
    assert killed.ended in ("exited", "killed")
    assert (await room.run("cat a.txt", seconds=5)).output == "here\n"


@pytest.mark.parametrize("path", ["/etc/x", "../x", "a/../../x", "a//b", "./a", "a/.", "", "a/", "a\0b", "/"])
async def test_a_path_that_git_would_not_have_is_refused_before_anything_is_written(
    room: Room, path: str
) -> None:
    with pytest.raises(DefectError) as caught:
        await room.lay({"fine": "100644", path: "100644"}, lambda _path: b"")
    assert caught.value.reason == "sandbox_path"


async def test_every_name_that_git_can_have_is_laid_as_it_is(room: Room) -> None:
    names = ["a b", "new\nline", "..a/...", "\udcff.bin", "ü/ß", "-rf", ".git", "a" * 255, "CON", "x\\y"]
    await room.lay(dict.fromkeys(names, "100644"), os.fsencode)
    finished = await room.run("find . -type f | wc -l; cat -- -rf ./..a/... 'a b'", seconds=5)
    assert finished.output == f"{len(names) + 1}\n-rf..a/...a b"  # one name has two lines


async def test_a_tree_that_does_not_fit_is_refused(room: Room) -> None:
    with pytest.raises(RefusedError) as caught:
        await room.lay({f"f{n}": "100644" for n in range(40)}, lambda _path: b"x" * (1 << 20))
    assert caught.value.reason == "sandbox_full"


async def test_executables_keep_their_mode(room: Room) -> None:
    await room.lay({"run.sh": "100755", "plain.sh": "100644"}, lambda _path: b"#!/bin/sh\necho ran\n")
    finished = await room.run("./run.sh; ./plain.sh", seconds=5)
    assert finished.output.startswith("ran\n")
    assert finished.exit_code == 126


# --- outliving -------------------------------------------------------------------------------------------------------

_DAEMONS = """
import os, signal, subprocess, sys, time
WORD = sys.argv[1] if len(sys.argv) > 1 else "{word}"
for ignored in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
    signal.signal(ignored, signal.SIG_IGN)
subprocess.Popen(["nohup", "sh", "-c", f": {word}; sleep 300"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
subprocess.Popen(["setsid", "sh", "-c", f": {word}; sleep 300"])
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execvp("sh", ["sh", "-c", f": {word}; trap '' TERM; while :; do sleep 1; done"])
    os._exit(0)
time.sleep(0.3)
print("left behind")
"""


async def test_what_a_command_leaves_running_dies_with_the_command(room: Room, kit: Kit, word: str) -> None:
    finished = await kit.attack(room, _DAEMONS.format(word=word))
    assert finished.output == "left behind\n"
    assert finished.seconds < 5
    assert kit.gone_within(1, word)
    seen = await room.run("cat /proc/[0-9]*/cmdline", seconds=5)
    assert word not in seen.output.replace("/proc/[0-9]", "")


async def test_time_is_up_for_one_that_ignores_every_signal(room: Room, kit: Kit, word: str) -> None:
    finished = await kit.attack(
        room,
        f"""
        import signal, subprocess, time
        for number in range(1, 65):
            try:
                signal.signal(number, signal.SIG_IGN)
            except (OSError, ValueError):
                pass
        print("{word}", flush=True)
        subprocess.Popen(["sh", "-c", ": {word}; sleep 300"])
        time.sleep(300)
        """,
        seconds=1,
    )
    assert finished.ended == "timed_out"
    assert finished.exit_code is None
    assert finished.seconds < 3
    assert word in finished.output
    assert kit.gone_within(1, word)


async def test_closing_its_output_does_not_make_a_command_forgotten(room: Room, kit: Kit, word: str) -> None:
    finished = await room.run(f": {word}; exec >&- 2>&- <&-; sleep 300", seconds=1)
    assert finished.ended == "timed_out"
    assert finished.seconds < 3
    assert kit.gone_within(1, word)


async def test_cancelling_kills_the_room_within_a_second(
    sandbox: BubblewrapSandbox, kit: Kit, word: str
) -> None:
    async def check() -> None:
        async with sandbox.open(kit.SMALL) as room:
            await kit.attack(room, _DAEMONS.format(word=word) + "time.sleep(300)", seconds=300)

    task = asyncio.create_task(check())
    while not len(kit.running(word)) >= 3:
        await asyncio.sleep(0.05)
    begun = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - begun < 1
    assert kit.gone_within(0.5, word)


async def test_a_busy_room_that_is_cancelled_while_it_is_filled_leaves_nothing(
    sandbox: BubblewrapSandbox, kit: Kit
) -> None:
    children = set(_children())
    started = asyncio.Event()

    def read(_path: str) -> bytes:
        started.set()
        return b"x" * 4096

    async def fill() -> None:
        async with sandbox.open(kit.SMALL) as room:
            await room.lay({f"f{n}": "100644" for n in range(50_000)}, read)

    task = asyncio.create_task(fill())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert set(_children()) <= children


async def test_nothing_outlives_a_service_that_is_killed(kit: Kit, word: str) -> None:
    program = f"""
    import asyncio, sys
    sys.path.insert(0, {str(ROOT)!r})
    from app.nouns import RoomLimits
    from infra.sandbox.bubblewrap import BubblewrapSandbox
    async def main():
        async with BubblewrapSandbox().open(RoomLimits()) as room:
            await room.run(": {word}x; setsid sh -c ': {word}x; sleep 300' & sleep 300", seconds=300)
    asyncio.run(main())
    """
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)]) as service:
        until = time.monotonic() + 10
        while len(kit.running(f": {word}x; sleep")) < 1 and time.monotonic() < until:
            time.sleep(0.05)
        assert kit.running(f": {word}x; sleep")
        service.send_signal(signal.SIGKILL)
    assert kit.gone_within(2, word)


def _children() -> list[int]:
    return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]


def _address() -> str:
    """This machine's own address, as far as it has one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.2"
        return str(probe.getsockname()[0])


# --- as an ordinary user ---------------------------------------------------------------------------------------------


def test_an_ordinary_user_gets_the_same_sandbox() -> None:
    """With rights of root or without, the service must not need them."""
    program = """
    import asyncio, os, sys
    from app.nouns import RoomLimits
    from infra.sandbox.bubblewrap import BubblewrapSandbox
    async def main():
        sandbox = BubblewrapSandbox()
        print(os.getuid(), await sandbox.why_not())
        async with sandbox.open(RoomLimits(processes=40, memory_bytes=128 << 20)) as room:
            await room.lay({"a.sh": "100755"}, lambda path: b"id -u; cat /proc/self/status | grep CapEff; cat /proc/net/dev | wc -l")
            print((await room.run("./a.sh || sh a.sh", seconds=10)).output)
            print((await room.run("while :; do sh -c 'sleep 60' & done", seconds=10)).ended)
            print((await room.run("sleep 60", seconds=1)).ended)
            print((await room.run("python3 -c 'import time; x = bytearray(300 << 20); time.sleep(60)'", seconds=10)).ended)
    asyncio.run(main())
    """
    with tempfile.TemporaryDirectory() as folder:
        for name in ("app/__init__.py", "app/errors.py", "app/nouns.py", "infra/__init__.py", "app/py.typed"):
            _copied(name, folder)
        for path in (ROOT / "infra" / "sandbox").glob("*.py"):
            _copied(f"infra/sandbox/{path.name}", folder)
        for path in [Path(folder), *Path(folder).rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)
        user = 65534 if os.getuid() == 0 else None
        done = subprocess.run(
            [_python(user), "-B", "-c", textwrap.dedent(program)],
            cwd=folder, user=user, group=user, extra_groups=None if user is None else (),
            env={"PYTHONPATH": folder, "PATH": os.environ["PATH"]}, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert done.stderr == ""
    words = done.stdout.split()
    assert words[0] != "0"
    assert words[1] == "None"
    assert words[2:5] == ["1000", "CapEff:", "0000000000000000"]
    assert words[6:] == ["processes", "timed_out", "memory"]


def _copied(name: str, folder: str) -> None:
    target = Path(folder) / name
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes((ROOT / name).read_bytes())


def _python(user: int | None) -> str:
    """One that this user can start: root's own interpreter may lie in root's home."""
    if user is None:
        return sys.executable
    try:
        subprocess.run([sys.executable, "-c", ""], user=user, group=user, check=True, capture_output=True)
    except (PermissionError, subprocess.CalledProcessError):
        return "/usr/bin/python3"
    return sys.executable


# --- where there is none ---------------------------------------------------------------------------------------------


async def test_a_machine_without_bubblewrap_says_so() -> None:
    sandbox = BubblewrapSandbox(executable="bwrap-that-is-not-there")
    assert await sandbox.why_not() == "bubblewrap is not installed where MagiCode runs"


@pytest.mark.parametrize(
    ("said", "because"),
    [
        (
            "bwrap: No permissions to create new namespace, likely because …",
            "lets it make no user namespaces",
        ),
        ("bwrap: setting up uid map: Permission denied", "lets it make no user namespaces"),
        ("bwrap: Unknown option --disable-userns", "older than 0.8"),
        ("bwrap: Cannot mount proc on /newroot/proc: Operation not permitted", "bubblewrap does not work"),
    ],
)
async def test_a_machine_that_forbids_it_says_so(said: str, because: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        fake = Path(folder) / "bwrap"
        fake.write_text(f"#!/bin/sh\necho '{said}' >&2\nexit 1\n")
        fake.chmod(0o755)
        assert because in (await BubblewrapSandbox(executable=str(fake)).why_not() or "")
