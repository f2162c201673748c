"""What an object may be called, in a folder and in a bucket alike."""

from __future__ import annotations

from collections.abc import Sequence

from app.errors import DefectError

PIECE_BYTES = 1 << 20
"""How much of an object is read at a time."""

_LONGEST = 200


def parts(name: str) -> Sequence[str]:
    """The parts between the slashes. Raises DefectError for what could lead elsewhere, or could be called differently
    elsewhere."""
    found = name.split("/")
    if not all(part and part[0] != "." and part.isprintable() and "\\" not in part for part in found):
        raise DefectError(reason="object_name")
    if any(len(part.encode("utf-8", "surrogatepass")) > _LONGEST for part in found):
        raise DefectError(reason="object_name")
    return found
