"""What a case of the corpus is: a file, what a model sends, and the bytes or the refusal that have to come of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from app.agent.matching import Tolerance

EXACT, ENDS = Tolerance.EXACT, Tolerance.LINE_ENDS
TRAIL, INDENT = Tolerance.TRAILING_SPACE, Tolerance.INDENTATION


@dataclass(frozen=True)
class No:
    """A refusal; each of these parts has to be in what the model is told."""

    shows: tuple[str, ...]


@dataclass(frozen=True)
class Edit:
    name: str
    language: str
    path: str
    before: bytes
    old: str
    new: str
    after: bytes | No
    via: Tolerance = EXACT
    lines: tuple[int, int] | None = None


@dataclass(frozen=True)
class Patching:
    """`after` holds the files that are different from before; None is a deleted one."""

    name: str
    language: str
    before: Mapping[str, bytes]
    patch: str
    after: Mapping[str, bytes | None] | No
    notes: tuple[str, ...] = field(default=())


def no(*shows: str) -> No:
    return No(shows)


def _bytes(text: bytes | str) -> bytes:
    return text.encode() if isinstance(text, str) else text


def edit(
    name: str,
    language: str,
    path: str,
    before: bytes | str,
    old: str,
    new: str,
    after: bytes | str | No,
    via: Tolerance = EXACT,
    lines: tuple[int, int] | None = None,
) -> Edit:
    told = after if isinstance(after, No) else _bytes(after)
    return Edit(name, language, path, _bytes(before), old, new, told, via, lines)


def patch(
    name: str,
    language: str,
    before: Mapping[str, bytes | str],
    lines: str,
    after: Mapping[str, bytes | str | None] | No,
    *notes: str,
) -> Patching:
    """`lines` is what stands between the patch's first line and its last, unless it has them itself."""
    whole = (
        lines
        if "*** Begin" in lines or "*** End Patch" in lines
        else f"*** Begin Patch\n{lines}*** End Patch\n"
    )
    told = (
        after
        if isinstance(after, No)
        else {path: None if data is None else _bytes(data) for path, data in after.items()}
    )
    return Patching(name, language, {path: _bytes(data) for path, data in before.items()}, whole, told, notes)
