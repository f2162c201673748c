"""What the repository's own checks do to whoever runs them: each on a whole request, in the real sandbox.

What is asserted: the pull request says what ran and how that ended and never that it passed, the model is shown no secret, nothing is
left running, and the check behind it runs as if nothing had happened.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from app.change import checks
from app.change.checks import CheckLimits
from app.nouns import RoomLimits
from infra.embedded.postgres import EmbeddedPostgres
from tests.attacks import hostile
from tests.attacks.hostile import BLOB, EXECUTABLE, standing
from tests.attacks.plays import Played, Theatre, book, named, theatre
from tests.claims import case, claim
from tests.line.conversations import approving, create, finish, repo_of, scenario

GROUP = "What the repository holds"
pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(700)]

SECONDS = 12.0
LIMITS = CheckLimits(
    seconds=60,
    command_seconds=SECONDS,
    room=RoomLimits(
        memory_bytes=256 << 20, processes=96, disk_bytes=96 << 20, files=20_000, output_bytes=4 << 20
    ),
)
SECRET = "amberwillow-of-the-service"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(
    tmp_path_factory: pytest.TempPathFactory, postgres: EmbeddedPostgres
) -> AsyncIterator[Theatre]:
    scripts = book(approving(), scenario(create("NOTES.md", "A note.\n"), finish(), finish()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checks, "CheckLimits", lambda: LIMITS)
        patch.setenv("MAGICODE_TEST_SECRET", SECRET)
        async with theatre(
            tmp_path_factory.mktemp("checks"), postgres, scripts, settings={"second_look": False}
        ) as raised:
            yield raised


async def played(house: Theatre, program: str) -> Played:
    """One request on a repository whose first check is this program, and whose second looks whether all is well."""
    stage, repo = house.stage, repo_of(house.stage)
    rules = {"checks": ["sh attack.sh", "test -f NOTES.md -a -f README.md"], "second_look": False}
    rows = [
        (BLOB, b".github/magicode.yml", await hostile.blob(repo.git, json.dumps(rules).encode())),
        (EXECUTABLE, b"attack.sh", await hostile.blob(repo.git, program.encode())),
    ]
    async with standing(repo, rows):
        before = {run.id for run in await stage.runs()}
        number = await stage.open_issue(named("any"), "It is wrong.")
        house.names[number] = "any"
        await stage.comment(number, "@magicode fix this")
        return await house.ended(number, before, within=600)


def results(said: Played) -> list[tuple[str, str]]:
    assert said.pull is not None, said.said
    body = str(said.pull["body"]).replace("\u200b", "")
    return [
        (one[1], one[2]) for one in re.finditer(r"^\| `(.+?)` \| (.+?) \| \d+\.\d s \|$", body, re.MULTILINE)
    ]


def running(words: str) -> list[bytes]:
    """Command lines of this machine's processes that hold these words."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            line = (folder / "cmdline").read_bytes()
            if words.encode() in line.replace(b"\0", b" "):
                found.append(line)
    return found


PYTHON = "exec python3 -c '{}'"
SLOW, OUTPUT, PROCESSES, MEMORY, DISK, KILLED, FAILED = (
    r"stopped: too slow", r"stopped: too much output", r"stopped: too many processes", r"stopped: too much memory",
    r"stopped: too much written", r"killed", r"failed \(exit \d+\)",
)  # fmt: skip
ENDED = f"{SLOW}|{OUTPUT}|{PROCESSES}|{MEMORY}|{DISK}|{KILLED}|{FAILED}"
CHECKS: dict[str, tuple[str, str, str]] = {
    "never ends": ("Stopped when its time is up, and said so", SLOW, "sleep 73.25"),
    "never ends and ignores every signal that can be ignored": ("Stopped when its time is up, and said so", SLOW, "trap '' TERM INT HUP QUIT; while :; do sleep 73.5; done"),
    "prints without end, in one line": ("Stopped, and said so; the model is shown its two ends", OUTPUT, "exec tr '\\0' a < /dev/zero"),
    "prints without end to standard error, binary and terminal escapes": ("Stopped, and said so; the model is shown its two ends", OUTPUT, "exec cat /dev/urandom >&2"),
    "forks without end": ("Stopped as a whole, and said so", ENDED, "f() { f | f & }; f; sleep 73.75"),
    "starts threads without end": ("Stopped as a whole, and said so", ENDED, PYTHON.format("import threading, time\nwhile True:\n threading.Thread(target=time.sleep, args=(74,)).start()")),
    "takes all memory": ("Stopped, and said so", ENDED, PYTHON.format("x = []\nwhile True:\n x.append(bytearray(1 << 24))")),
    "fills the disk": ("Stopped, and said so", ENDED, "cat /dev/zero > full; cat /dev/zero > $HOME/full"),
    "makes files without end": ("Stopped, and said so", ENDED, PYTHON.format("import os\nn = 0\nwhile True:\n n += 1\n open(str(n), \"x\").close()")),
}  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize(
    ("ended", "program"),
    [case(GROUP, f"A check that {what}", outcome, *given) for what, (outcome, *given) in CHECKS.items()],
)
async def test_a_check_without_end(house: Theatre, ended: str, program: str) -> None:
    said = await played(house, program)
    assert said.run.state.value == "opened", said.said
    first = results(said)[0]
    assert first[0] == "sh attack.sh"
    assert re.search(ended, first[1]), first
    assert "passed" not in first[1]
    assert len(said.words) < 400_000
    async with asyncio.timeout(30):
        while running("attack.sh") or running("sleep 73.") or running("sleep 74"):
            await asyncio.sleep(0.1)


LOOKS = r"""
env; cat /proc/*/environ; cat /proc/1/cmdline; ls -la / /root /home /run /var /tmp /dev/shm
find / -xdev \( -name '*.key' -o -name 'master*' -o -name 'qdrant' -o -name 'magicode-*' \) -not -path '/proc/*' -not -path '/usr/*' 2>/dev/null
python3 - <<'E'
import socket, os
def tried(name, work):
    try:
        work(); print(name, "GOT-OUT")
    except Exception as error:
        print(name, type(error).__name__)
tried("metadata", lambda: socket.create_connection(("169.254.169.254", 80), 2))
tried("dns", lambda: socket.getaddrinfo("example.com", 80))
tried("udp", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("1.1.1.1", 53)))
tried("database", lambda: [socket.create_connection(("127.0.0.1", port), 1) for port in (%d, %d)])
tried("abstract", lambda: socket.socket(socket.AF_UNIX).connect("\0amberwillow"))
tried("unix", lambda: socket.socket(socket.AF_UNIX).connect("/run/docker.sock"))
tried("vsock", lambda: socket.socket(40, socket.SOCK_STREAM))
tried("setuid", lambda: os.setuid(0))
tried("namespace", lambda: os.unshare(0x10000000) if hasattr(os, "unshare") else (_ for _ in ()).throw(OSError()))
tried("root", lambda: os.chroot("/"))
E
unshare -Ur true 2>/dev/null && echo GOT-OUT; mount -t tmpfs x /mnt 2>/dev/null && echo GOT-OUT
(setsid sh -c 'sleep 75.25; echo later' &) ; (setsid setsid sleep 75.5 &)
test ! -e NOTES.md
"""


@claim(
    GROUP,
    "A check that looks for secrets, networks, sockets, namespaces and other processes, and leaves daemons behind",
    "It finds none of them, what it prints reaches the model without a secret, and its daemons die with it",
)
async def test_a_check_that_looks_for_a_way_out(house: Theatre) -> None:
    stage = house.stage
    database = re.search(r":(\d+)/", stage.environ["MAGICODE_DATABASE_URL"])
    port = int(stage.url.rpartition(":")[2])
    said = await played(house, LOOKS % (int(database[1]) if database else port, port))
    assert results(said)[0] == ("sh attack.sh", "**failed (exit 1)**")
    printed = said.words.rpartition("<findings-")[2]
    assert "HOME=/room/home" in printed, "what it printed was shown to the author"
    assert "metadata OSError" in printed or "metadata" in printed
    for secret in (SECRET, stage.environ["MAGICODE_WEBHOOK_SECRET"], "PRIVATE KEY", "GOT-OUT", "master.key"):
        assert secret not in printed
    async with asyncio.timeout(30):
        while running("sleep 75."):
            await asyncio.sleep(0.1)


@claim(
    GROUP,
    "A check that exits with 0 although it says that tests failed",
    "Told as what it is: the command and its exit; no word about tests",
)
async def test_a_check_that_lies(house: Theatre) -> None:
    said = await played(house, "echo '12 failed, 0 passed'; exit 0")
    assert results(said) == [("sh attack.sh", "passed"), ("test -f NOTES.md -a -f README.md", "passed")]
    assert said.pull is not None
    assert "commands passed in a sandbox" in said.pull["body"].replace("\u200b", "")
    body = str(said.pull["body"]).replace("\u200b", "")
    assert "12 failed" not in body
    ours = [
        line for line in body.splitlines() if not line.startswith("- [ ]")
    ]  # the template's own boxes stay empty
    assert not re.search(r"\btests? pass", "\n".join(ours), re.IGNORECASE)


@claim(
    GROUP,
    "A check that rewrites the tree, deletes it, and puts links where its files were",
    "What is published is the change that was proposed, and nothing that the check did",
)
async def test_a_check_that_rewrites_the_tree(house: Theatre) -> None:
    said = await played(
        house,
        "rm -rf README.md fairshare tests; ln -s /etc fairshare; echo changed > NOTES.md; echo x > NEW.md; exit 0",
    )
    assert said.commit is not None
    repo = repo_of(house.stage)
    head, base = said.commit["sha"], said.commit["parents"][0]["sha"]
    changed = await repo.git.run("diff-tree", "-r", "--name-only", "--no-commit-id", base, head)
    assert changed == b"NOTES.md\n"
    assert await repo.git.run("cat-file", "blob", f"{head}:NOTES.md") == b"A note.\n"
