"""Who multiplies matrices is not held up by another thread that starts a process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

PROGRAM = """
import os, threading
import numpy as np
from threadpoolctl import threadpool_limits
from infra.blas import in_one_thread

threadpool_limits(2, user_api="blas")
in_one_thread()
at_work = threading.Event()

def multiply():
    matrix = np.random.default_rng(0).normal(size=(384, 384))
    for _ in range(60):
        np.linalg.qr(matrix)
        at_work.set()

thread = threading.Thread(target=multiply, daemon=True)
thread.start()
at_work.wait(20)
while thread.is_alive():
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    thread.join(0.002)
"""


def test_a_fork_beside_it_does_not_stop_it() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, timeout=120, check=False)
    assert done.returncode == 0
