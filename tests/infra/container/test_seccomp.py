"""What bubblewrap needs of a container's seccomp profile: each call that is added is needed, and they are all."""

from __future__ import annotations

import asyncio
import ctypes
import json
import multiprocessing
import os
import platform
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from infra.container.seccomp import CALLS, NotDockersError, widened
from infra.sandbox.bubblewrap import BubblewrapSandbox

# https://github.com/torvalds/linux/blob/master/arch/x86/entry/syscalls/syscall_64.tbl
NUMBERS = {
    "clone": 56,
    "mount": 165,
    "pivot_root": 155,
    "sethostname": 170,
    "setns": 308,
    "umount2": 166,
    "unshare": 272,
}
NEW_NAMESPACES = 0x7E020000  # of clone(2): what Docker's profile looks at
_LOAD, _EQUAL, _ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050001
_FIRST_ARGUMENT = 16

needs_bubblewrap = pytest.mark.skipif(
    shutil.which("bwrap") is None or platform.machine() != "x86_64", reason="no bubblewrap, or other numbers"
)


def refusing(call: str) -> bytes:
    """A filter that refuses one call, `clone` where it makes namespaces, as Docker's profile does."""
    code = [(_LOAD, 0, 0, 0)]
    if call == "clone":
        code += [
            (_EQUAL, 0, 2, NUMBERS[call]),
            (_LOAD, 0, 0, _FIRST_ARGUMENT),
            (_ANY_BIT, 1, 0, NEW_NAMESPACES),
        ]
    else:
        code += [(_EQUAL, 1, 0, NUMBERS[call])]
    code += [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _REFUSE)]
    return b"".join(struct.pack("=HBBI", *one) for one in code)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_char_p))


def _look(code: bytes, told: Any) -> None:
    """In a process of its own, since a filter is never taken off: why no room can be made under it."""
    libc = ctypes.CDLL(None, use_errno=True)
    program = _Program(len(code) // 8, code)
    assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
    assert libc.prctl(22, 2, ctypes.byref(program), 0, 0) == 0  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
    told.send(asyncio.run(BubblewrapSandbox().why_not()))


def why_not(code: bytes) -> str | None:
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("forkserver").Process(target=_look, args=(code, there))
    process.start()
    process.join(60)
    assert process.exitcode == 0
    found: str | None = here.recv()
    return found


@needs_bubblewrap
@pytest.mark.parametrize("call", CALLS)
def test_without_one_of_the_calls_there_is_no_room(call: str) -> None:
    assert why_not(refusing(call)) is not None


@needs_bubblewrap
def test_a_filter_alone_is_no_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(NUMBERS, "reboot", 169)
    assert why_not(refusing("reboot")) is None


DOCKERS = {
    "defaultAction": "SCMP_ACT_ERRNO",
    "archMap": [{"architecture": "SCMP_ARCH_X86_64"}],
    "syscalls": [{"names": ["read", "write"], "action": "SCMP_ACT_ALLOW"}],
}


def test_one_rule_is_added_and_everything_else_stays() -> None:
    found = widened(DOCKERS)
    *before, added = found.pop("syscalls")
    assert before == DOCKERS["syscalls"]
    assert found == {name: value for name, value in DOCKERS.items() if name != "syscalls"}
    assert (added["names"], added["action"]) == (list(CALLS), "SCMP_ACT_ALLOW")
    assert "args" not in added


@pytest.mark.parametrize(
    "profile", [{}, {**DOCKERS, "defaultAction": "SCMP_ACT_ALLOW"}, {"defaultAction": "SCMP_ACT_ERRNO"}]
)
def test_a_profile_that_allows_what_it_does_not_name_is_not_dockers(profile: dict[str, Any]) -> None:
    with pytest.raises(NotDockersError):
        widened(profile)


def test_the_program_needs_nothing_but_python(tmp_path: Path) -> None:
    (tmp_path / "default.json").write_text(json.dumps(DOCKERS))
    program = Path(__file__).parents[3] / "infra" / "container" / "seccomp.py"
    done = subprocess.run(
        [sys.executable, "-I", "-S", program, tmp_path / "default.json"],
        capture_output=True,
        check=True,
        env={"PATH": os.defpath},
    )
    assert json.loads(done.stdout) == widened(DOCKERS)
