"""Removes a repository or an installation from the store, and counts again to prove it."""

from __future__ import annotations

from dataclasses import dataclass

from embeddings.collection import REPOSITORY, Points, Shelf
from embeddings.protect import Protection


class NotForgottenError(Exception):
    """The store still holds points after a deletion; run it again, and look at the store if that does not help."""


@dataclass(frozen=True, slots=True)
class Forgotten:
    """Points before and after; `remaining` was counted and is 0."""

    removed: int
    remaining: int


async def forget_repository(shelf: Shelf) -> Forgotten:
    """Raises NotForgottenError."""
    where = {REPOSITORY: shelf.repository}
    before = await shelf.points.count(shelf.collection, where)
    await shelf.points.delete(shelf.collection, where)
    return _proved(before, await shelf.points.count(shelf.collection, where))


async def forget_installation(points: Points, key: bytes, installation_id: int) -> Forgotten:
    """Every repository of the installation. Call it before the key is destroyed: the collection's name comes from it.

    Raises NotForgottenError.
    """
    collection = Protection(key, installation_id).collection()
    before = await points.count(collection, {})
    await points.drop(collection)
    return _proved(before, await points.count(collection, {}))


def _proved(before: int, after: int) -> Forgotten:
    if after:
        raise NotForgottenError(f"The store still holds {after} of {before} points.")
    return Forgotten(before, after)
