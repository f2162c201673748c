"""Two sides that parted at one commit: which files each of them has changed, and which both have, differently.

GitHub says that a merge is in conflict and never where: this tells it from the trees. A file that both sides changed may
still merge cleanly, line by line; nothing here reads what is in it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from app.nouns import TreeEntry
from app.ports import RepositoryReader

Files = Mapping[str, TreeEntry]


async def files(reader: RepositoryReader, sha: str) -> dict[str, TreeEntry]:
    """By path, the files of a commit."""
    return {entry.path: entry for entry in (await reader.tree(sha)).entries}


async def touched_by_both(reader: RepositoryReader, parted: str, one: str, other: str) -> tuple[str, ...]:
    """Paths that both sides have changed since `parted`, and not alike, sorted."""
    before, ours, theirs = await asyncio.gather(*(files(reader, sha) for sha in (parted, one, other)))
    changed_here, changed_there = changed(before, ours), changed(before, theirs)
    both = {path for path in changed_here & changed_there if not same(ours.get(path), theirs.get(path))}
    return tuple(
        sorted(both | _in_the_way(ours, changed_there, theirs) | _in_the_way(theirs, changed_here, ours))
    )


def changed(before: Files, after: Files) -> set[str]:
    return {path for path in before.keys() | after.keys() if not same(before.get(path), after.get(path))}


def same(one: TreeEntry | None, other: TreeEntry | None) -> bool:
    """The same bytes in the same mode, or both absent."""
    if one is None or other is None:
        return one is other
    return (one.sha, one.mode) == (other.sha, other.mode)


def _in_the_way(files_here: Files, changed_there: set[str], files_there: Files) -> set[str]:
    """A file on one side where the other has made a folder of the same name."""
    folders = {
        path[:place]
        for path in changed_there
        if path in files_there
        for place, sign in enumerate(path)
        if sign == "/"
    }
    return {folder for folder in folders if folder in files_here and folder not in files_there}
