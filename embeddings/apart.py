"""A file's definitions as a process apart finds them: grammars are programs over strangers' text, and what one takes of memory
in a single step cannot be stopped from within.

Refuses to believe what such a process answers: it must be what `definitions` could have said.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Final

from pydantic import TypeAdapter, ValidationError

from embeddings.languages import Definition, Structure, known

FUNCTION: Final = "embeddings.languages:answered"
"""For who begins the process: what it does there."""
_FOUND: Final = TypeAdapter(list[tuple[str, int, int, str]] | None)


def apart(call: Callable[[bytes], bytes | None]) -> Structure:
    """`definitions`, where `call` has `FUNCTION` done elsewhere; None where that ended without an answer."""

    def found(path: str, lines: Sequence[str]) -> list[Definition] | None:
        if not known(path, lines):
            return None
        answer = call(json.dumps([path, lines]).encode("ascii"))
        return None if answer is None else _believed(answer, len(lines))

    return found


def _believed(answer: bytes, lines: int) -> list[Definition] | None:
    try:
        rows = _FOUND.validate_json(answer, strict=True)
    except ValidationError:
        return None
    if rows is None:
        return None
    found = [Definition(*row) for row in rows]
    starts = [one.start for one in found]
    if starts != sorted(starts) or not all(0 <= one.start < one.end <= lines for one in found):
        return None
    return found
