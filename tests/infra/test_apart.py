"""What strangers' bytes bring down, they bring down elsewhere."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from infra.apart import Apart

FUNCTION = f"{__name__}:does"
ROOT = Path(__file__).parents[2]


def does(request: bytes) -> bytes:
    """In the process apart."""
    what, _, rest = request.partition(b" ")
    match what:
        case b"memory":
            return str(len(bytearray(int(rest)))).encode()
        case b"ever":
            while True:
                pass
        case b"crash":
            ctypes.string_at(0)
        case b"stand":
            os.kill(os.getpid(), signal.SIGSTOP)
        case b"claim":
            os.write(1, b"\xff\xff\xff\xff" + b"x" * 4096)
            time.sleep(600)
        case b"raise":
            raise ValueError(rest)
        case b"exit":
            os._exit(0)
        case b"tell":
            return json.dumps(
                {
                    "pid": os.getpid(),
                    "environ": dict(os.environ),
                    "files": sorted(int(one.name) for one in Path("/proc/self/fd").iterdir()),
                    "folder": str(Path.cwd()),
                    "core": resource.getrlimit(resource.RLIMIT_CORE)[0],
                }
            ).encode()
    return rest


def children() -> list[psutil.Process]:
    return [one for one in psutil.Process().children() if "infra.apart" in _command(one)]


def _command(process: psutil.Process) -> list[str]:
    """Of one that has ended in this moment: nothing."""
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


def more_than(before: list[psutil.Process]) -> list[psutil.Process]:
    """Others' processes apart may be there before, and may end meanwhile."""
    return [one for one in children() if one not in before]


@pytest.fixture
def apart() -> Iterator[Apart]:
    before = children()
    made = Apart(FUNCTION, memory_bytes=256 << 20, seconds=0.5, answered_within_seconds=30)
    yield made
    made.close()
    assert more_than(before) == []


def pid(apart: Apart) -> int:
    answer = apart(b"tell")
    assert answer is not None
    return int(json.loads(answer)["pid"])


def test_what_is_asked_is_answered_by_one_process_after_the_other_request(apart: Apart) -> None:
    assert apart(b"echo hello") == b"hello"
    assert apart(b"echo ") == b""
    assert pid(apart) == pid(apart) != os.getpid()


def test_a_large_request_and_a_large_answer_come_whole(apart: Apart) -> None:
    much = os.urandom(8 << 20)
    assert apart(b"echo " + much) == much


@pytest.mark.parametrize(
    "request_", [b"memory 1000000000", b"ever", b"crash", b"raise x", b"exit", b"stand", b"claim"]
)
def test_what_brings_a_process_down_has_no_answer_and_the_next_one_has(
    apart: Apart, request_: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = pid(apart)
    began = time.monotonic()
    with monkeypatch.context() as patch:
        patch.setattr(apart, "_within", 3)
        assert apart(request_) is None
    assert time.monotonic() - began < 30
    assert pid(apart) != first


def test_so_much_memory_as_is_allowed_can_be_had(apart: Apart) -> None:
    assert apart(b"memory 100000000") == b"100000000"


def test_it_has_nothing_of_ours(apart: Apart, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAGICODE_SECRET", "hunter2")
    with Path(__file__).open("rb") as ours:
        os.set_inheritable(ours.fileno(), True)
        answer = apart(b"tell")
    assert answer is not None
    told = json.loads(answer)
    assert "hunter2" not in answer.decode()
    assert set(told["environ"]) <= {"PYTHONPATH", "LANG", "LC_CTYPE"}
    assert told["files"][:3] == [0, 1, 2]
    assert len(told["files"]) == 4, "the fourth lists them"
    assert (told["folder"], told["core"] <= 1) == ("/", True)


def test_threads_ask_at_once_and_each_has_its_own_answer(apart: Apart) -> None:
    before = children()
    asked = [b"%d" % one * 1000 for one in range(200)]
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(lambda one: apart(b"echo " + one), asked)) == asked
    assert 1 <= len(more_than(before)) <= 2


def test_one_that_was_not_asked_for_a_while_ends_and_another_answers() -> None:
    apart = Apart(FUNCTION, unasked_seconds=0.2)
    first = pid(apart)
    process = psutil.Process(first)
    while process.status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    assert pid(apart) != first
    apart.close()


def test_one_that_was_killed_while_nobody_asked_costs_one_answer(apart: Apart) -> None:
    psutil.Process(pid(apart)).kill()
    assert apart(b"echo a") is None
    assert apart(b"echo b") == b"b"


class LateTimer(threading.Timer):
    """Has begun to fire when it is cancelled, and does so right after."""

    def run(self) -> None:
        self.finished.wait()
        self.function(*self.args, **self.kwargs)


def test_one_that_is_ended_while_it_answers_is_not_asked_again(
    apart: Apart, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(threading, "Timer", LateTimer)
        assert apart(b"echo a") is None
    assert apart(b"echo b") == b"b"


def test_a_function_that_is_not_there_is_told() -> None:
    with pytest.raises(ChildProcessError, match="nowhere"):
        Apart("nowhere:nothing")(b"")


def test_it_ends_with_whoever_asks() -> None:
    script = (
        "import os; from infra.apart import Apart;"
        f" apart = Apart({FUNCTION!r}); print(apart(b'tell').decode(), flush=True); os.abort()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == -6
    try:
        psutil.Process(json.loads(done.stdout)["pid"]).wait(timeout=20)
    except psutil.NoSuchProcess:
        return
