"""What is counted from outside, and what the ends of an output are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.nouns import RoomLimits
from infra.sandbox import seccomp
from infra.sandbox.output import Kept
from infra.sandbox.watch import Watch

PLENTY = "MemTotal: 8000000 kB\nMemFree: 1 kB\nMemAvailable: 4000000 kB\n"


def watch(
    folder: Path, stats: dict[int, tuple[int, int]], limits: RoomLimits, meminfo: str = PLENTY
) -> Watch:
    """Over a made-up /proc with these processes: (pages, threads) by number."""
    for number, (pages, threads) in stats.items():
        (folder / "proc" / str(number)).mkdir(parents=True)
        fields = ["S", *["0"] * 16, str(threads), "0", "0", "0", str(pages), "0"]
        (folder / "proc" / str(number) / "stat").write_text(f"{number} (a ) b (c) {' '.join(fields)}\n")
    (folder / "proc" / "self").mkdir(parents=True)
    (folder / "meminfo").write_text(meminfo)
    return Watch(
        os.open(folder / "proc", os.O_RDONLY), [os.open(folder, os.O_RDONLY)], limits, folder / "meminfo"
    )


def test_memory_and_threads_of_all_processes_are_added_up(tmp_path: Path) -> None:
    looking = watch(tmp_path, {1: (10, 2), 22: (30, 3)}, RoomLimits(files=1 << 60))
    assert looking.use().memory_bytes == 40 * os.sysconf("SC_PAGE_SIZE")
    assert looking.use().tasks == 5
    assert looking.passed() is None
    looking.close()


def test_too_many_threads_are_told_as_processes(tmp_path: Path) -> None:
    looking = watch(tmp_path, {1: (1, 3), 2: (1, 3)}, RoomLimits(processes=5, files=1 << 60))
    assert looking.passed() == "processes"
    looking.close()


def test_what_processes_share_is_counted_once_before_they_are_ended_for_it(tmp_path: Path) -> None:
    page = os.sysconf("SC_PAGE_SIZE")
    looking = watch(tmp_path, {1: (100, 1), 2: (100, 1)}, RoomLimits(memory_bytes=150 * page, files=1 << 60))
    assert looking.passed() == "memory"
    for number in (1, 2):
        (tmp_path / "proc" / str(number) / "smaps_rollup").write_text(
            f"Rss: 1 kB\nPss:  {page * 60 // 1024} kB\n"
        )
    assert looking.passed() is None
    looking.close()


def test_a_machine_that_runs_out_of_memory_ends_the_command(tmp_path: Path) -> None:
    looking = watch(
        tmp_path, {1: (1, 1)}, RoomLimits(files=1 << 60), "MemTotal: 8000000 kB\nMemAvailable: 300000 kB\n"
    )
    assert looking.passed() == "memory"
    looking.close()


@pytest.mark.parametrize("meminfo", ["", "MemTotal:\n", "nothing", "MemAvailable: x kB\n"])
def test_a_machine_that_does_not_tell_is_not_scarce(tmp_path: Path, meminfo: str) -> None:
    looking = watch(tmp_path, {1: (1, 1)}, RoomLimits(files=1 << 60), meminfo)
    assert looking.passed() is None
    looking.close()


def test_a_closed_watch_says_nothing(tmp_path: Path) -> None:
    looking = watch(tmp_path, {1: (1, 9)}, RoomLimits(processes=1))
    looking.close()
    looking.close()
    assert looking.passed() is None
    assert not looking.full()


@given(st.lists(st.binary(max_size=300), max_size=20), st.integers(2, 400))
def test_the_ends_of_an_output_are_kept_whatever_comes_in_what_pieces(pieces: list[bytes], most: int) -> None:
    kept = Kept(most)
    for piece in pieces:
        kept.add(piece)
    whole = b"".join(pieces)
    text = kept.text()
    if len(whole) <= most:
        assert text == whole.decode("utf-8", "replace")
    else:
        assert f"[... {len(whole) - most} bytes left out ...]" in text
        assert text.startswith(whole[: most // 2].decode("utf-8", "replace"))
        assert text.endswith(whole[-(most - most // 2) :].decode("utf-8", "replace"))


@pytest.mark.parametrize("machine", sorted(seccomp.MACHINES))
def test_every_jump_of_the_filter_lands_inside_of_it(machine: str) -> None:
    code = seccomp.program(machine)
    steps = [code[at : at + 8] for at in range(0, len(code), 8)]
    assert len(steps) < 4096  # BPF_MAXINSNS
    for at, step in enumerate(steps):
        if step[0] in (0x15, 0x35):
            assert at + 1 + max(step[2], step[3]) < len(steps)
    assert steps[-1][0] == 0x06


def test_a_processor_without_numbers_is_said_to_be_unknown() -> None:
    assert not seccomp.knows("riscv64")
