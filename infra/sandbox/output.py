"""Keeps the beginning and the end of what a command says, whatever it says in between."""

from __future__ import annotations


class Kept:
    """At most `most` bytes: the first half of them from the beginning, the rest from the end."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._head = bytearray()
        self._tail = bytearray()
        self.total = 0

    def add(self, data: bytes) -> None:
        self.total += len(data)
        room = self._most // 2 - len(self._head)
        if room > 0:
            self._head += data[:room]
            data = data[room:]
        self._tail += data
        excess = len(self._tail) - (self._most - self._most // 2)
        if excess > 0:
            del self._tail[:excess]

    def text(self) -> str:
        """As UTF-8, with what is not UTF-8 replaced; a line says how many bytes were left out."""
        left_out = self.total - len(self._head) - len(self._tail)
        head, tail = bytes(self._head), bytes(self._tail)
        if not left_out:
            return (head + tail).decode("utf-8", "replace")
        between = f"\n[... {left_out} bytes left out ...]\n"
        return head.decode("utf-8", "replace") + between + tail.decode("utf-8", "replace")
