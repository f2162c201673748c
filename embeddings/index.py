"""Brings the index up to a tree: only files whose content is not there yet are read, and only chunks whose text is not
there yet are embedded.

A file is written after its chunks, in one group with others: a crash costs the group that was being encoded and the one
that was being written, and what they left half is taken up by the next update.
"""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from embeddings.chunk import CODE, chunk, passage, text_of
from embeddings.collection import (
    CHUNKS,
    COUNT,
    LEFT_OUT,
    PATH,
    PLACE,
    Entry,
    Shelf,
    Tree,
    packed,
    unpacked,
)
from embeddings.embed import Vectors, dimension, embed
from embeddings.lexicon import terms
from embeddings.rules import MAX_FILE_BYTES, Reason, Rules

GROUP_BYTES = 256 << 10
_GROUP_FILES = 1000
_WORD = re.compile(r"\w{4,40}")
_WORDS = 30

# BM25's usual constants; the usual length stands for the corpus' average, which would have to be stored.
_SATURATION, _LENGTH, _USUAL_TERMS = 1.2, 0.75, 1500
_MOST_TERMS = 8000  # different ones of a file


@dataclass(frozen=True, slots=True)
class IndexReport:
    """`files` can be searched now; `embedded` of them were new and `reused` were there already. `chunks` were embedded
    for the new ones, whose `reused_chunks` were there already. `removed` files are no longer in the tree. `pending` ones
    were not reached in time and are taken up by the next update; until then they are found by name alone. `left_out`
    counts files by reason. Holds figures only."""

    files: int
    chunks: int
    reused_chunks: int
    embedded: int
    reused: int
    removed: int
    pending: int
    left_out: Mapping[str, int]
    seconds: float


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an update is: new files that were read and stored, of how many, and chunks embedded so far."""

    files: int
    of_files: int
    chunks: int
    seconds: float

    @property
    def chunks_per_second(self) -> float:
        return self.chunks / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """As if the remaining files took as long as those that are done; None before the first."""
        return self.seconds * (self.of_files - self.files) / self.files if self.files else None


Tell = Callable[[Progress], None]


def untold(_: Progress) -> None:
    """For who does not want to be told."""


@dataclass(frozen=True, slots=True)
class _File:
    id: str
    path: str
    chunks: Mapping[str, str]
    """What the model is to read, by the chunks' ids."""
    weights: Mapping[int, float]
    left_out: str | None


async def update(
    shelf: Shelf,
    tree: Tree,
    *,
    prune: bool,
    within_seconds: float | None = None,
    question: str = "",
    progress: Tell = untold,
    group: int = GROUP_BYTES,
    clock: Callable[[], float] = time.monotonic,
) -> IndexReport:
    """Index what `tree` holds and the store does not. `prune` removes this repository's files that are not in it, and what
    other encoders and chunkers have made: for the default branch only, since branches share what they have in common.
    After `within_seconds` no further group of about `group` bytes is begun; what holds most of the question's words comes
    first, code before prose and data, and tests after what they test.

    Raises embeddings.embed.EncoderError and the store's own errors.
    """
    began = clock()
    await shelf.points.ensure(shelf.chunks, await dimension(shelf.encoder))
    await shelf.points.ensure(shelf.files, 0)
    present = await _present(shelf)
    worth = await asyncio.to_thread(readable, tree)
    keyed = await asyncio.to_thread(lambda: {shelf.file_id(entry): entry for entry in worth.entries})
    new = [(one, entry) for one, entry in keyed.items() if one not in present]
    todo = await asyncio.to_thread(_most_urgent_first, new, tree, "" if within_seconds is None else question)
    run = _Run(shelf, tree, worth.rules, len(todo), progress, clock, clock())
    await run.through(_groups(todo, group), None if within_seconds is None else began + within_seconds)
    pending = todo[run.files :]
    removed = await _prune(shelf, keyed, pending) if prune else 0
    known = [present[one] for one in keyed if one in present]
    reused = sum(LEFT_OUT not in payload for payload in known)
    left_out = Counter(worth.left_out) + run.left_out
    left_out.update(payload[LEFT_OUT] for payload in known if LEFT_OUT in payload)
    return IndexReport(
        files=reused + run.embedded,
        chunks=run.chunks,
        reused_chunks=run.reused_chunks,
        embedded=run.embedded,
        reused=reused,
        removed=removed,
        pending=len(pending),
        left_out=dict(left_out),
        seconds=clock() - began,
    )


@dataclass(frozen=True, slots=True)
class Readable:
    """What of a tree is worth reading by names, sizes and the tree's own `rules`; what is not, counted by reason."""

    entries: Sequence[Entry]
    rules: Rules
    left_out: Mapping[str, int]


def readable(tree: Tree) -> Readable:
    """Reads the files that hold the tree's rules, and no others."""
    entries = tree.entries()
    small = {entry.path for entry in entries if (entry.size or 0) <= MAX_FILE_BYTES}
    rules = Rules.of(
        lambda path: tree.read(path) if path in small else None, (entry.path for entry in entries)
    )
    reasons = [rules.reason(entry.path, entry.size) for entry in entries]
    return Readable(
        [entry for entry, reason in zip(entries, reasons, strict=True) if reason is None],
        rules,
        Counter(str(reason) for reason in reasons if reason is not None),
    )


def weighted(path: str, content: bytes) -> dict[str, float]:
    """A file's terms, those of its path among them, by BM25 without the rarity, which the question brings."""
    found = terms(path) + terms(text_of(content))
    much = _SATURATION * (1 - _LENGTH + _LENGTH * len(found) / _USUAL_TERMS)
    counted = Counter(found).most_common(_MOST_TERMS)
    return {term: count * (1 + _SATURATION) / (count + much) for term, count in counted}


# --- what is to be done ----------------------------------------------------------------------------------------------


async def _present(shelf: Shelf) -> dict[str, Mapping[str, str]]:
    """The files that are whole. Where the store has lost chunks, those whose chunks are all there."""
    files = await shelf.points.scan(shelf.files, [COUNT, LEFT_OUT])
    if await shelf.points.count(shelf.chunks) >= sum(int(payload[COUNT]) for payload in files.values()):
        return files
    chunks = await shelf.points.scan(shelf.chunks, [])
    of_files = await shelf.points.scan(shelf.files, [CHUNKS])
    return {
        one: files[one]
        for one, payload in of_files.items()
        if chunks.keys() >= set(unpacked(payload[CHUNKS]))
    }


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


def _groups(todo: Sequence[tuple[str, Entry]], size: int) -> Iterator[list[tuple[str, Entry]]]:
    batch: list[tuple[str, Entry]] = []
    room = size
    for one, entry in todo:
        batch.append((one, entry))
        room -= entry.size or 1
        if room <= 0 or len(batch) >= _GROUP_FILES:
            yield batch
            batch, room = [], size
    if batch:
        yield batch


# --- doing it --------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Run:
    """Groups of files on their way: while one is encoded, the next is read and cut, and the last is written."""

    shelf: Shelf
    tree: Tree
    rules: Rules
    of_files: int
    progress: Tell
    clock: Callable[[], float]
    began: float
    files: int = 0
    embedded: int = 0
    chunks: int = 0
    reused_chunks: int = 0
    left_out: Counter[str] = field(default_factory=Counter)

    async def through(self, groups: Iterator[list[tuple[str, Entry]]], until: float | None) -> None:
        reading = _begun(self._read, next(groups, None))
        writing: asyncio.Task[None] | None = None
        try:
            while reading is not None and (until is None or self.clock() < until):
                files = await reading
                reading = _begun(self._read, next(groups, None))
                texts = await self._unknown(files)
                vectors = await embed(self.shelf.encoder, list(texts.values()))
                if writing is not None:
                    await writing
                writing = asyncio.create_task(self._write(files, list(texts), vectors))
            if writing is not None:
                await writing
        finally:
            # What was encoded is still written, also when the next group fails.
            await asyncio.gather(*(task for task in (reading, writing) if task), return_exceptions=True)

    async def _read(self, batch: Sequence[tuple[str, Entry]]) -> list[_File]:
        return await asyncio.to_thread(
            lambda: [_file(self.shelf, self.tree, self.rules, *item) for item in batch]
        )

    async def _unknown(self, files: Sequence[_File]) -> dict[str, str]:
        texts = {one: text for file in files for one, text in file.chunks.items()}
        known = await self.shelf.points.get(self.shelf.chunks, list(texts), [])
        return {one: text for one, text in texts.items() if one not in known}

    async def _write(self, files: Sequence[_File], ids: Sequence[str], vectors: Vectors) -> None:
        shelf = self.shelf
        paths = {one: file.path for file in files for one in file.chunks}
        order = sorted(range(len(ids)), key=lambda row: ids[row])  # says nothing of the files' order
        rotated, payloads = await asyncio.to_thread(
            lambda: (
                shelf.protection.rotate(vectors[order]),
                [{PLACE: shelf.protection.seal(paths[ids[row]], ids[row])} for row in order],
            )
        )
        await shelf.points.upsert(shelf.chunks, [ids[row] for row in order], rotated, payloads)
        # Whether a file is a program's work may be for its tree to say, and so is asked of each tree anew.
        whole = sorted(
            (file for file in files if file.left_out != Reason.GENERATED), key=lambda file: file.id
        )
        await shelf.points.upsert_sparse(
            shelf.files,
            [file.id for file in whole],
            [file.weights for file in whole],
            [_payload(shelf, file) for file in whole],
        )
        self.files += len(files)
        self.chunks += len(ids)
        self.reused_chunks += sum(len(file.chunks) for file in files) - len(ids)
        self.embedded += sum(file.left_out is None for file in files)
        self.left_out.update(file.left_out for file in files if file.left_out is not None)
        self.progress(Progress(self.files, self.of_files, self.chunks, self.clock() - self.began))


def _begun(
    read: Callable[[Sequence[tuple[str, Entry]]], Coroutine[None, None, list[_File]]],
    batch: Sequence[tuple[str, Entry]] | None,
) -> asyncio.Task[list[_File]] | None:
    return None if batch is None else asyncio.create_task(read(batch))


def _file(shelf: Shelf, tree: Tree, rules: Rules, one: str, entry: Entry) -> _File:
    content = tree.read(entry.path)
    cut = chunk(entry.path, content, rules, shelf.structure)
    chunks = {shelf.chunk_id(entry.path, piece): passage(entry.path, piece) for piece in cut.chunks}
    weights: dict[int, float] = {}
    if cut.left_out is None:
        for term, weight in weighted(entry.path, content).items():
            position = shelf.protection.term(term)
            weights[position] = weights.get(position, 0.0) + weight
    return _File(one, entry.path, chunks, weights, None if cut.left_out is None else str(cut.left_out))


def _payload(shelf: Shelf, file: _File) -> dict[str, str]:
    out = {
        PATH: shelf.path_key(file.path),
        CHUNKS: packed(sorted(file.chunks)),
        COUNT: str(len(file.chunks)),
    }
    return out if file.left_out is None else {**out, LEFT_OUT: file.left_out}


# --- what is no longer wanted ----------------------------------------------------------------------------------------


async def _prune(shelf: Shelf, keyed: Mapping[str, Entry], pending: Sequence[tuple[str, Entry]]) -> int:
    """Removes files that are not in the tree, their chunks, and other generations once this one is whole. The version
    before a pending file stays until that is done, which needs its chunks."""
    waiting = {shelf.path_key(entry.path) for _, entry in pending}
    stored = await shelf.points.scan(shelf.files, [COUNT])
    others = await shelf.points.get(
        shelf.files, sorted(stored.keys() - keyed.keys()), [PATH, CHUNKS, LEFT_OUT]
    )
    gone = {one: payload for one, payload in others.items() if payload[PATH] not in waiting}
    if gone:
        await _remove(shelf, gone, keyed)
    if not pending:
        counts = (int(payload[COUNT]) for one, payload in stored.items() if one not in gone)
        if await shelf.points.count(shelf.chunks) != sum(counts):
            await _sweep(shelf)
        for name in await shelf.points.names(shelf.repository):
            if not name.startswith(f"{shelf.generation}/"):
                await shelf.points.drop(name)
    return sum(LEFT_OUT not in payload for payload in gone.values())


async def _remove(shelf: Shelf, gone: Mapping[str, Mapping[str, str]], keyed: Mapping[str, Entry]) -> None:
    """A chunk's id names its path, so only the tree's file at the same path can share it."""
    paths = {payload[PATH] for payload in gone.values()}
    heirs = [one for one, entry in keyed.items() if shelf.path_key(entry.path) in paths]
    kept = await shelf.points.get(shelf.files, heirs, [CHUNKS])
    chunks = {one for payload in gone.values() for one in unpacked(payload[CHUNKS])}
    chunks -= {one for payload in kept.values() for one in unpacked(payload[CHUNKS])}
    await shelf.points.delete(shelf.files, sorted(gone))
    await shelf.points.delete(shelf.chunks, sorted(chunks))


async def _sweep(shelf: Shelf) -> None:
    """Removes chunks that no file has: what a crash left between chunks and their file."""
    files = await shelf.points.scan(shelf.files, [CHUNKS])
    held = {one for payload in files.values() for one in unpacked(payload[CHUNKS])}
    stored = await shelf.points.scan(shelf.chunks, [])
    await shelf.points.delete(shelf.chunks, sorted(stored.keys() - held))
