"""The system calls that a repository's commands cannot make, as a classic BPF program for seccomp.

A list of what is refused, not of what is allowed: builds and tests of every language are to run. Refused is what
reaches beyond the namespaces (sockets to the virtual machine's host, kernel keys) or holds memory where no limit
sees it (memfd, System V shared memory, io_uring). https://man7.org/linux/man-pages/man2/seccomp.2.html
"""

from __future__ import annotations

import errno
import platform
import struct
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Machine:
    """AUDIT_ARCH of linux/audit.h, and the numbers of the calls that are refused there."""

    audit: int
    socket: int
    socketpair: int
    refused: tuple[int, ...]


# The same on every machine since they are newer than the common table: io_uring (3), pidfd_getfd, memfd_secret,
# open_tree, move_mount, fsopen, fsconfig, fsmount, fspick, mount_setattr.
_COMMON = (425, 426, 427, 438, 447, 428, 429, 430, 431, 432, 433, 442)
MACHINES = {
    # https://github.com/torvalds/linux/blob/master/arch/x86/entry/syscalls/syscall_64.tbl:
    # shmget, shmat, msgget, mount, umount2, pivot_root, swapon, add_key, request_key, keyctl, unshare, perf_event_open,
    # setns, memfd_create, bpf, userfaultfd
    "x86_64": Machine(
        0xC000003E,
        41,
        53,
        (*_COMMON, 29, 30, 68, 165, 166, 155, 167, 248, 249, 250, 272, 298, 308, 319, 321, 323),
    ),
    # https://github.com/torvalds/linux/blob/master/include/uapi/asm-generic/unistd.h, in the same order
    "aarch64": Machine(
        0xC00000B7,
        198,
        199,
        (*_COMMON, 194, 196, 186, 40, 39, 41, 224, 217, 218, 219, 97, 241, 268, 279, 280, 282),
    ),
}
# AF_UNIX, AF_INET, AF_INET6 and AF_NETLINK, by Linux's numbers (linux/socket.h): other systems import this too.
_FAMILIES = (1, 2, 10, 16)

_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_NUMBER, _AUDIT, _FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data
_X32 = 0x40000000


def knows(machine: str | None = None) -> bool:
    """Whether the calls of this machine have numbers here."""
    return (machine or platform.machine()) in MACHINES


def program(machine: str | None = None) -> bytes:
    """The filter for this machine, as an array of struct sock_filter. Raises KeyError where `knows` is False."""
    known = MACHINES[machine or platform.machine()]
    code: list[tuple[int, int, int, int]] = [
        (_LOAD, 0, 0, _AUDIT),
        (_JUMP_EQUAL, 1, 0, known.audit),
        (_RETURN, 0, 0, _ERRNO | errno.ENOSYS),  # the 32-bit calls, which have other numbers
        (_LOAD, 0, 0, _NUMBER),
        (_JUMP_AT_LEAST, 0, 1, _X32),
        (_RETURN, 0, 0, _ERRNO | errno.ENOSYS),
    ]
    for number in known.refused:
        code += [(_JUMP_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ERRNO | errno.ENOSYS)]
    code += [
        (_JUMP_EQUAL, 2, 0, known.socket),
        (_JUMP_EQUAL, 1, 0, known.socketpair),
        (_RETURN, 0, 0, _ALLOW),
        (_LOAD, 0, 0, _FIRST_ARGUMENT),
    ]
    for family in _FAMILIES:
        code += [(_JUMP_EQUAL, 0, 1, family), (_RETURN, 0, 0, _ALLOW)]
    code.append((_RETURN, 0, 0, _ERRNO | errno.EAFNOSUPPORT))
    return b"".join(struct.pack("=HBBI", *one) for one in code)
