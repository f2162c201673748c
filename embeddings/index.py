"""Brings the index up to a tree: only files whose content is not there yet are read, cut and embedded.

A file counts as indexed when its first chunk is there, and that one is written after all the others: a crash costs
the files of one group, and what it left half is written again under the same ids.
"""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from embeddings.chunk import CODE, Chunk, chunk, left_out_by_name, passage
from embeddings.collection import FILE, HEAD, PLACE, REPOSITORY, Entry, Shelf, Tree
from embeddings.embed import dimension, embed
from embeddings.protect import Location

GROUP_CHUNKS = 64
_DELETE_AT_ONCE = 500
_WORD = re.compile(r"\w{4,40}")
_WORDS = 30

Progress = Callable[[int, int], None]
"""Called with the files done and the files to do."""


@dataclass(frozen=True, slots=True)
class IndexReport:
    """`files` can be searched now; `embedded` of them were new and made `chunks` chunks, `reused` were there already.
    `removed` files are no longer in the tree. `pending` ones were not reached in time and are taken up by the next
    update; until then they are found by name alone. `left_out` counts files by reason. Holds figures only."""

    files: int
    chunks: int
    embedded: int
    reused: int
    removed: int
    pending: int
    left_out: Mapping[str, int]
    seconds: float


@dataclass(frozen=True, slots=True)
class _File:
    key: str
    path: str
    chunks: tuple[Chunk, ...]


async def update(
    shelf: Shelf,
    tree: Tree,
    *,
    prune: bool,
    within_seconds: float | None = None,
    question: str = "",
    progress: Progress = lambda _done, _all: None,
    group: int = GROUP_CHUNKS,
    clock: Callable[[], float] = time.monotonic,
) -> IndexReport:
    """Index what `tree` holds and the store does not. `prune` removes this repository's files that are not in it:
    for the default branch only, since branches share what they have in common. After `within_seconds` no further
    group of files is begun; what holds most of the question's words comes first, code before prose and data, and
    tests after what they test.

    Raises embeddings.embed.EncoderError and the store's own errors.
    """
    began = clock()
    left_out: Counter[str] = Counter()
    await shelf.points.ensure(shelf.collection, await dimension(shelf.encoder))
    present = await shelf.points.values(shelf.collection, FILE, {REPOSITORY: shelf.repository, HEAD: "1"})
    keyed = await asyncio.to_thread(_keyed, shelf, tree, left_out)
    new = [(key, entry) for key, entry in keyed.items() if key not in present]
    todo = await asyncio.to_thread(_most_urgent_first, new, tree, question)
    embedded = chunks = done = 0
    for batch in _groups(todo, group):
        if within_seconds is not None and clock() - began >= within_seconds:
            break
        files = await asyncio.to_thread(_read, batch, tree, left_out)
        await _store(shelf, files)
        embedded += len(files)
        chunks += sum(len(file.chunks) for file in files)
        done += len(batch)
        progress(done, len(todo))
    removed = await _prune(shelf, keyed) if prune else 0
    reused = len(keyed) - len(todo)
    pending = len(todo) - done
    return IndexReport(
        reused + embedded, chunks, embedded, reused, removed, pending, dict(left_out), clock() - began
    )


def keyed_files(shelf: Shelf, tree: Tree) -> dict[str, Entry]:
    """The tree's files that are worth reading, by their keys."""
    return _keyed(shelf, tree, Counter())


def _keyed(shelf: Shelf, tree: Tree, left_out: Counter[str]) -> dict[str, Entry]:
    out = {}
    for entry in tree.entries():
        reason = left_out_by_name(entry.path, entry.size)
        if reason is None:
            out[shelf.file(entry)] = entry
        else:
            left_out[reason] += 1
    return out


def _most_urgent_first(
    new: Sequence[tuple[str, Entry]], tree: Tree, question: str
) -> list[tuple[str, Entry]]:
    words = [word.encode() for word in dict.fromkeys(_WORD.findall(question.lower()))][:_WORDS]

    def urgency(item: tuple[str, Entry]) -> tuple[float, bool, bool, str]:
        path = item[1].path
        text = path.lower().encode("utf-8", "surrogatepass") + tree.read(path).lower() if words else b""
        code, test = CODE.search(path) is not None, "test" in path.lower()
        held = sum(word in text for word in words) / math.log2(64 + len(text))  # large files hold every word
        return -held * (1.0 if code else 0.7) * (0.5 if test else 1.0), not code, test, path

    return sorted(new, key=urgency)


def _groups(todo: Sequence[tuple[str, Entry]], chunks: int) -> Iterator[list[tuple[str, Entry]]]:
    """Files in groups of about `chunks` chunks, by their sizes: a chunk is near 1,000 bytes."""
    batch: list[tuple[str, Entry]] = []
    room = chunks
    for key, entry in todo:
        batch.append((key, entry))
        room -= 1 + (entry.size or 0) // 1000
        if room <= 0:
            yield batch
            batch, room = [], chunks
    if batch:
        yield batch


def _read(batch: Sequence[tuple[str, Entry]], tree: Tree, left_out: Counter[str]) -> list[_File]:
    files = []
    for key, entry in batch:
        found = chunk(entry.path, tree.read(entry.path))
        if found.left_out is None:
            files.append(_File(key, entry.path, found.chunks))
        else:
            left_out[found.left_out] += 1
    return files


async def _store(shelf: Shelf, files: Sequence[_File]) -> None:
    pieces = [(file, number, piece) for file in files for number, piece in enumerate(file.chunks)]
    if not pieces:
        return
    vectors = await embed(shelf.encoder, [as_embedded(file.path, piece) for file, _, piece in pieces])
    rotated = await asyncio.to_thread(shelf.protection.rotate, vectors)
    ids = [shelf.protection.point(file.key, number) for file, number, _ in pieces]
    payloads = [
        {
            REPOSITORY: shelf.repository,
            FILE: file.key,
            PLACE: shelf.protection.seal(
                Location(file.path, piece.start_line, piece.end_line, piece.symbol), point
            ),
            **({HEAD: "1"} if number == 0 else {}),
        }
        for point, (file, number, piece) in zip(ids, pieces, strict=True)
    ]
    for heads in (False, True):
        rows = [row for row, (_, number, _) in enumerate(pieces) if (number == 0) == heads]
        rows.sort(key=lambda row: ids[row])  # keyed ids: the order of writing says nothing about the files
        if rows:
            await shelf.points.upsert(
                shelf.collection, [ids[row] for row in rows], rotated[rows], [payloads[row] for row in rows]
            )


def as_embedded(path: str, piece: Chunk) -> str:
    """What the model reads: the chunk under its path and name."""
    return passage(path, piece)


async def _prune(shelf: Shelf, keyed: Mapping[str, Entry]) -> int:
    stored = await shelf.points.values(shelf.collection, FILE, {REPOSITORY: shelf.repository})
    gone = sorted(stored - keyed.keys())
    for start in range(0, len(gone), _DELETE_AT_ONCE):
        await shelf.points.delete(
            shelf.collection, {REPOSITORY: shelf.repository, FILE: gone[start : start + _DELETE_AT_ONCE]}
        )
    return len(gone)
