"""How long a proof goes on: as short as a developer waits for, or at length (`--at-length`, which `make prove` gives)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Lengths:
    """`at_length` is whether somebody asked for the whole proof."""

    at_length: bool

    def choose(self, *, suite: T, prove: T) -> T:
        """What `make test` does, or what `make prove` does."""
        return prove if self.at_length else suite
