"""Looks at what a room uses, from outside, and names the limit that was passed.

The kernel holds a process to its own limits and the room's folders to their size; what all processes use together is
counted here, since control groups cannot be relied on to be ours to write.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from app.nouns import RoomLimits

_PAGE = os.sysconf("SC_PAGE_SIZE")
_FULL = 1 << 16
_MACHINE = Path("/proc/meminfo")
_SPARE_BYTES = 512 << 20
_SPARE_PART = 20


@dataclass(frozen=True, slots=True)
class Use:
    """What a room uses now. `tasks` counts threads."""

    memory_bytes: int
    tasks: int
    free_bytes: int
    files: int


class Watch:
    """`processes` is the room's own /proc, `disks` its folder and the smaller ones that can be written, as open
    descriptors, which are closed with this: a number of a process may be another's by the time that it is looked at, and
    these cannot. Threads may share it. `machine` is the kernel's account of the machine's own memory.
    """

    def __init__(
        self, processes: int, disks: Sequence[int], limits: RoomLimits, machine: Path = _MACHINE
    ) -> None:
        self._processes = processes
        self._disks = tuple(disks)
        self._limits = limits
        self._machine = machine
        self._closed = False
        self._turn = threading.Lock()

    def close(self) -> None:
        with self._turn:
            if not self._closed:
                self._closed = True
                for number in (self._processes, *self._disks):
                    os.close(number)

    def passed(self) -> str | None:
        """`memory`, `processes` or `disk`, or None. Blocking, some milliseconds."""
        with self._turn:
            return None if self._closed else self._passed()

    def full(self) -> bool:
        """Whether nothing more fits into the room's folder."""
        with self._turn:
            return not self._closed and self._use().free_bytes < _FULL

    def use(self) -> Use:
        """Raises ValueError after `close`."""
        with self._turn:
            if self._closed:
                raise ValueError("closed")
            return self._use()

    def _passed(self) -> str | None:
        use = self._use()
        if use.tasks > self._limits.processes:
            return "processes"
        if use.memory_bytes > self._limits.memory_bytes or self._scarce():
            return "memory"
        if use.free_bytes < _FULL or use.files > self._limits.files:
            return "disk"
        return None

    def _use(self) -> Use:
        numbers = [name for name in self._names() if name.isdecimal()]
        figures = [self._figures(number) for number in numbers]
        memory = sum(resident for resident, _ in figures)
        if memory > self._limits.memory_bytes:
            # What processes share was counted once for each; the exact answer costs more and is asked for only here.
            memory = sum(self._share(number) for number in numbers)
        disks = [os.fstatvfs(disk) for disk in self._disks]
        return Use(
            memory_bytes=memory,
            tasks=sum(tasks for _, tasks in figures),
            free_bytes=disks[0].f_bavail * disks[0].f_frsize,
            files=sum(disk.f_files - disk.f_ffree for disk in disks),
        )

    def _scarce(self) -> bool:
        """Whether the machine itself runs out: what fills sockets and pipes is the kernel's memory and nobody's process's.

        /proc/meminfo, proc(5); a machine that does not tell is not scarce.
        """
        try:
            lines = self._machine.read_text("ascii").splitlines()
            told = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
            return told["MemAvailable"] * 1024 < min(_SPARE_BYTES, told["MemTotal"] * 1024 // _SPARE_PART)
        except (OSError, ValueError, KeyError, IndexError):
            return False

    def _names(self) -> list[str]:
        try:
            return os.listdir(self._processes)  # noqa: PTH208 - a descriptor, no path
        except OSError:
            return []

    def _figures(self, number: str) -> tuple[int, int]:
        """Resident bytes and threads; none for a process that has ended meanwhile (proc(5), /proc/pid/stat)."""
        fields = self._read(f"{number}/stat").rpartition(b")")[2].split()
        return (int(fields[21]) * _PAGE, int(fields[17])) if len(fields) > 21 else (0, 0)

    def _share(self, number: str) -> int:
        """Bytes of memory, each shared page counted in part (proc(5), /proc/pid/smaps_rollup)."""
        for line in self._read(f"{number}/smaps_rollup").splitlines():
            if line.startswith(b"Pss:"):
                return int(line.split()[1]) * 1024
        return self._figures(number)[0]

    def _read(self, name: str) -> bytes:
        with suppress(OSError):
            file = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._processes)
            try:
                return os.read(file, 1 << 14)
            finally:
                os.close(file)
        return b""
