"""What the kernel may write down of this process: nothing, since its memory holds code and keys.

Refuses nothing by itself where a system has no such switch; the size of a core is then the limit that the system sets.
"""

from __future__ import annotations

import ctypes
import resource
import sys

_PR_SET_DUMPABLE = 4


def leave_no_core() -> None:
    """No core for this process when it crashes, and none for the programs that it starts.

    The limit is one byte and not zero, since a core that is piped to a program ignores a limit of zero. A process that
    may not be dumped cannot be attached to by others of its user either. https://man7.org/linux/man-pages/man5/core.5.html
    """
    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    least = 1 if most == resource.RLIM_INFINITY else min(1, most)
    resource.setrlimit(resource.RLIMIT_CORE, (least, least))
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
