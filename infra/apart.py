"""Does a function of bytes in processes apart, whose memory and time are limited: for what strangers' bytes may bring down.

Such a process has no more than its request: no environment, no open file of ours, no way to leave a core. It refuses to outlive
whoever asks it, and ends when it was not asked for a while, and what it read with it. `multiprocessing` would unpickle what a
process says that a stranger may have taken over.
"""

from __future__ import annotations

import importlib
import logging
import os
import resource
import select
import signal
import struct
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import IO, Final

from infra.process import leave_no_core

MEMORY_BYTES: Final = 512 << 20
"""Of a process, what the interpreter and a grammar take among it."""
SECONDS: Final = 10.0
"""Of processor time, for one request."""
ANSWERED_WITHIN_SECONDS: Final = 120.0
"""By the clock on the wall: one whose own limits were taken off, or that stands still, is ended all the same."""
LONGEST: Final = 64 << 20
"""Of a request and of an answer, in bytes."""
UNASKED_SECONDS: Final = 60.0

_ENDS_SECONDS: Final = 2.0
_LENGTH: Final = struct.Struct(">I")
_UNASKED: Final = 3
"""The exit status of one that was not asked for so long."""

log = logging.getLogger(__name__)


class Apart:
    """Calls `function` (`module:name`, bytes to bytes) elsewhere. Threads may call at once: `at_most` processes answer them, each
    begun when there is need of it."""

    def __init__(
        self,
        function: str,
        *,
        at_most: int = 2,
        memory_bytes: int = MEMORY_BYTES,
        seconds: float = SECONDS,
        unasked_seconds: float = UNASKED_SECONDS,
        answered_within_seconds: float = ANSWERED_WITHIN_SECONDS,
    ) -> None:
        self._told = [function, str(memory_bytes), str(seconds), str(unasked_seconds)]
        self._within = answered_within_seconds
        self._room = threading.BoundedSemaphore(at_most)
        self._idle: deque[_Child] = deque()
        self._closed = False

    def __call__(self, request: bytes) -> bytes | None:
        """None where the process ended over it: by the limits, by a crash or by an exception. Raises OSError where none can be
        started."""
        with self._room:
            while True:
                child = self._child()
                answer = child.ask(request, self._within)
                if answer is not None:
                    self._idle.append(child)
                    if self._closed:
                        self.close()
                    return answer
                ended = child.end()
                if ended == _UNASKED:
                    continue
                log.warning("a process apart ended over a request (exit status %d)", ended)
                return None

    def close(self) -> None:
        """Ends the processes; one that is at work when its answer is there."""
        self._closed = True
        with suppress(IndexError):
            while True:
                self._idle.pop().end()

    def _child(self) -> _Child:
        try:
            return self._idle.pop()
        except IndexError:
            return _Child(self._told)


class _Child:
    def __init__(self, told: list[str]) -> None:
        self._late = False
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", __name__, *told],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # it would show what was asked
            cwd="/",
            env={"PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path)), "LANG": "C.UTF-8"},
            start_new_session=True,  # a terminal's signals are for whoever asks
        )
        if self._process.stdout is None or _framed(self._process.stdout) is None:
            raise ChildProcessError(f"no process apart for {told[0]}: exit status {self.end()}")

    def ask(self, request: bytes, within_seconds: float) -> bytes | None:
        """None where it is no more, answers what it should not, or was ended for its time while it answered."""
        to, back = self._process.stdin, self._process.stdout
        if to is None or back is None:
            raise AssertionError("both are pipes")
        late = threading.Timer(within_seconds, self._end_late)
        late.daemon = True
        late.start()
        try:
            _frame(to, request)
            answer = _framed(back)
        except BrokenPipeError:
            answer = None
        finally:
            late.cancel()
            late.join()  # what has begun to end it ends it now, and not over the next request
        return None if self._late else answer

    def _end_late(self) -> None:
        self._late = True
        self._process.kill()

    def end(self) -> int:
        """Its exit status."""
        if self._process.stdin is not None:
            with suppress(BrokenPipeError):
                self._process.stdin.close()  # at which it ends
        if self._process.stdout is not None:
            self._process.stdout.close()
        try:
            return self._process.wait(_ENDS_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


def _frame(file: IO[bytes], body: bytes) -> None:
    file.write(_LENGTH.pack(len(body)) + body)
    file.flush()


def _framed(file: IO[bytes]) -> bytes | None:
    """What is behind its length; None at the end, and where that is too long."""
    head = file.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    if length > LONGEST:
        return None
    body = file.read(length)
    return body if len(body) == length else None


def serve(function: str, memory_bytes: int, seconds: float, unasked_seconds: float) -> int:
    """In the process apart: one request after the other, as long as there are any. Returns its exit status."""
    leave_no_core()
    module, _, name = function.partition(":")
    answer: Callable[[bytes], bytes] = getattr(importlib.import_module(module), name)
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    limit = memory_bytes if most == resource.RLIM_INFINITY else min(memory_bytes, most)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    asked, answers = sys.stdin.buffer, sys.stdout.buffer
    _frame(answers, b"")
    while select.select([asked], [], [], unasked_seconds)[0]:
        request = _framed(asked)
        if request is None:
            return 0
        signal.setitimer(signal.ITIMER_PROF, seconds)  # its signal ends a process that does not catch it
        answered = answer(request)
        signal.setitimer(signal.ITIMER_PROF, 0)
        _frame(answers, answered)
    return _UNASKED


if __name__ == "__main__":
    sys.exit(serve(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])))
