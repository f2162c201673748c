"""Removes a repository or an installation from the store, and counts again to prove it."""

from __future__ import annotations

from dataclasses import dataclass

from embeddings.collection import Points, Shelf
from embeddings.protect import Protection


class NotForgottenError(Exception):
    """The store still holds points after a deletion; run it again, and look at the store if that does not help."""


@dataclass(frozen=True, slots=True)
class Forgotten:
    """Points before and after; `remaining` was counted and is 0."""

    removed: int
    remaining: int


def shelf_of(key: bytes, installation_id: int) -> str:
    """The folder of all that is stored of the installation. Its name comes from the key, so it is asked for while there
    is one."""
    return Protection(key, installation_id).installation()


async def forget_repository(shelf: Shelf) -> Forgotten:
    """Every generation of it. Raises NotForgottenError."""
    return await drop(shelf.points, shelf.repository)


async def drop(points: Points, within: str) -> Forgotten:
    """All that is in a folder, by its name alone. Raises NotForgottenError."""
    before = await points.count(within)
    await points.drop(within)
    after = await points.count(within)
    if after:
        raise NotForgottenError(f"The store still holds {after} of {before} points.")
    return Forgotten(before, after)
