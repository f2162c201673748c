"""Which packages of requirements.lock the service itself needs, so that no tool of its developers is in the image.

Run as a program it prints infra/container/runtime.lock: `.ci/lock` does. It asks the packages that are installed.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

ROOT = Path(__file__).parents[2]
_HEAD = "# Written by .ci/lock: the part of requirements.lock that the service needs at run time, on Linux and Python 3.11.\n"
_IMAGE = {
    "implementation_name": "cpython",
    "os_name": "posix",
    "platform_python_implementation": "CPython",
    "platform_system": "Linux",
    "python_full_version": "3.11.0",
    "python_version": "3.11",
    "sys_platform": "linux",
}
"""https://packaging.python.org/en/latest/specifications/dependency-specifiers/#environment-markers"""
_MACHINES = ("x86_64", "aarch64")
_PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;\\]+)")
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


class LockedError(ValueError):
    """A lock has a line that is neither a pin nor the hash of one."""


@dataclass(frozen=True, slots=True)
class Locked:
    """One package of a lock: the lines that name it, and the SHA-256 of each file that may be installed for it."""

    name: NormalizedName
    version: str
    hashes: tuple[str, ...]
    lines: tuple[str, ...]


def packages(lock: str) -> Iterator[Locked]:
    """What a lock names, in its order. Raises LockedError."""
    for part in re.split(r"\n(?!\s)", lock):
        if not part.strip() or part.startswith("#"):
            continue
        lines = tuple(part.rstrip().split("\n"))
        pin, hashes = _PIN.match(lines[0]), tuple(_HASH.findall(part))
        if pin is None or not hashes or part.count("--hash=") != len(hashes):
            raise LockedError(lines[0])
        yield Locked(canonicalize_name(pin[1]), pin[2], hashes, lines)


def needed(requirements: Sequence[str]) -> frozenset[NormalizedName]:
    """What these requirements bring with them into the image, themselves included, by the word of the installed packages.

    Raises importlib.metadata.PackageNotFoundError where one is not installed.
    """
    left = [(one, frozenset[str]()) for one in map(Requirement, requirements)]
    seen: set[tuple[NormalizedName, frozenset[str]]] = set()
    while left:
        requirement, asked = left.pop()
        if not _applies(requirement, asked):
            continue
        name, extras = canonicalize_name(requirement.name), frozenset(requirement.extras)
        if (name, extras) not in seen:
            seen.add((name, extras))
            left += [(Requirement(one), extras) for one in distribution(name).requires or ()]
    return frozenset(name for name, _ in seen)


def runtime_lock(lock: str, project: str) -> str:
    """The part of `lock` that is needed for what `project`, a pyproject.toml, asks for without any extra, and to build it."""
    found = tomllib.loads(project)
    names = needed([*found["project"]["dependencies"], *found["build-system"]["requires"]])
    return _HEAD + "".join(line + "\n" for one in packages(lock) if one.name in names for line in one.lines)


def _applies(requirement: Requirement, extras: frozenset[str]) -> bool:
    marker = requirement.marker
    return marker is None or any(
        marker.evaluate({**_IMAGE, "platform_machine": machine, "extra": extra})
        for machine in _MACHINES
        for extra in extras or {""}
    )


if __name__ == "__main__":
    sys.stdout.write(
        runtime_lock((ROOT / "requirements.lock").read_text(), (ROOT / "pyproject.toml").read_text())
    )
