"""How numpy multiplies matrices in this process: in the thread that asks for it, and in no other."""

from __future__ import annotations

from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]


def in_one_thread() -> None:
    """For the whole process, from now on, whatever BLAS numpy has loaded.

    OpenBLAS ends its own threads whenever the process forks, as it does to start a sandbox for another user: whoever multiplies
    at that moment waits without end for a thread that is no more. https://github.com/OpenMathLib/OpenBLAS/issues/5520
    Its makers want it to have one thread wherever a program has threads of its own.
    https://github.com/OpenMathLib/OpenBLAS/blob/develop/USAGE.md
    """
    threadpool_limits(1, user_api="blas")
