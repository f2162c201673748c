"""Adds to Docker's own seccomp profile the system calls that bubblewrap makes a room with, for compose.checks.yaml.

`python3 seccomp.py default.json > seccomp.json`, with the default.json that the engine was built with, from
https://github.com/moby/profiles/tree/main/seccomp. It needs nothing but Python. Docker refuses these calls to whoever has no
CAP_SYS_ADMIN; in a user namespace of one's own the kernel allows them, and nothing outside is reached by them. What is opened is
the kernel's code behind them, to whoever is in the container.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

CALLS = ("clone", "mount", "pivot_root", "sethostname", "setns", "umount2", "unshare")
"""Measured: with any of them refused no room is made or entered (tests/infra/container/test_seccomp.py)."""


class NotDockersError(ValueError):
    """The profile does not refuse what it does not name, as Docker's does."""


def widened(profile: Mapping[str, Any]) -> dict[str, Any]:
    """The profile with one rule more. Raises NotDockersError."""
    if profile.get("defaultAction") != "SCMP_ACT_ERRNO" or not isinstance(profile.get("syscalls"), list):
        raise NotDockersError
    rule = {
        "names": list(CALLS),
        "action": "SCMP_ACT_ALLOW",
        "comment": "MagiCode: rooms for a repository's own checks",
    }
    return {**profile, "syscalls": [*profile["syscalls"], rule]}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(widened(json.loads(Path(sys.argv[1]).read_text())), indent=1) + "\n")
