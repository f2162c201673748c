"""A question becomes ranked places: the nearest chunks, and those whose names the question says outright.

Only what is in the given tree is found, whatever other commits have left in the store. Nothing is kept of a question.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from embeddings.chunk import CODE, Chunk, chunk
from embeddings.collection import Entry, Shelf, Tree
from embeddings.embed import embed
from embeddings.located import Cuts

_ASK = 4  # as many nearest neighbours as wanted places, times this; then more if other commits crowd them out
_ASK_AT_MOST = 4000
_NAMES = 24
_SCAN_BYTES = 64 << 20
_SCAN_FILES = 30
_SYMBOL, _PATH, _LINE, _TEXT, _BOOST = 0.5, 0.25, 0.3, 0.15, 0.8

_SPAN = re.compile(r"`([^`\n]{1,200})`")
# Begins at a word's beginning and repeats a bounded number of times: questions are strangers' text of any length.
_FILE_NAME = re.compile(
    r"(?<![\w.@+-])[\w.@+-]{1,100}(?:(?:/[\w.@+-]{1,100}){0,30}\.[A-Za-z]\w{0,9}(?![\w/])|(?:/[\w.@+-]{1,100}){1,30})"
)
_IDENTIFIER = re.compile(r"[A-Za-z_]\w*(?:(?:\.|::|#)[A-Za-z_]\w*)*")
_LINE_NUMBER = re.compile(r":([1-9]\d{0,6})\b|\"?,? line ([1-9]\d{0,6})\b|#L([1-9]\d{0,6})\b")
_FRAME = re.compile(r"\bline \d+, in (?:[\w.]+\.)?([A-Za-z_]\w*)")
_TELLING = re.compile(r"_|[a-z0-9][A-Z]|[A-Z]{2}[a-z]|\.|::|#")


@dataclass(frozen=True, slots=True)
class Found:
    """A place in the tree (lines 1-based, inclusive). `score` ranks, best first; it is a cosine plus a boost."""

    path: str
    start_line: int
    end_line: int
    symbol: str
    score: float


@dataclass(frozen=True, slots=True)
class Names:
    """What a question names outright: files, lines of files (1-based), and identifiers by their last part."""

    files: tuple[str, ...]
    symbols: tuple[str, ...]
    lines: tuple[tuple[str, int], ...] = ()


def names_in(question: str) -> Names:
    """Paths and file names with the lines that follow them, a traceback's functions, words in backticks, words before
    `(`, and words that only code has (`a_b`, `aB`, `a.b`)."""
    files: dict[str, None] = {}
    lines: list[tuple[str, int]] = []
    for found in _FILE_NAME.finditer(question):
        name = found[0].strip("./")
        files[name] = None
        if number := _LINE_NUMBER.match(question, found.end()):
            lines.append((name, int(number[1] or number[2] or number[3])))
    symbols = dict.fromkeys(frame[1] for frame in _FRAME.finditer(question))
    prose = _FILE_NAME.sub(
        lambda found: " " if "/" in found[0] or CODE.search(found[0]) else found[0], question
    )
    for span in _SPAN.finditer(prose):
        symbols.update(dict.fromkeys(_last(word[0]) for word in _IDENTIFIER.finditer(span[1])))
    for word in _IDENTIFIER.finditer(prose):
        called = prose[word.end() : word.end() + 1] == "("
        if called or _TELLING.search(word[0]):
            symbols[_last(word[0])] = None
    telling = [name for name in symbols if len(name) >= 3]
    return Names(
        tuple(name for name in files if name)[:_NAMES], tuple(telling[:_NAMES]), tuple(lines[:_NAMES])
    )


def _last(name: str) -> str:
    return re.split(r"\.|::|#", name)[-1]


async def search(shelf: Shelf, tree: Tree, question: str, limit: int) -> list[Found]:
    """At most `limit` places, best first, overlapping ones merged into the better.

    Raises embeddings.embed.EncoderError and the store's own errors.
    """
    if limit <= 0 or not question.strip():
        return []
    names = names_in(question)
    cuts = Cuts(shelf, tree)
    near = await _nearest(shelf, cuts, question, limit)
    named = await asyncio.to_thread(_named, tree, cuts.entries.values(), names)
    return _ranked(near, named, limit)


async def _nearest(shelf: Shelf, cuts: Cuts, question: str, limit: int) -> list[Found]:
    vectors = shelf.protection.rotate(await embed(shelf.encoder, [question]))
    ask = limit * _ASK
    while True:
        hits = (await shelf.points.search(shelf.chunks, vectors, ask))[0]
        inside = await asyncio.to_thread(cuts.located, hits)
        if len(inside) >= 2 * limit or len(hits) < ask or ask >= _ASK_AT_MOST:
            break
        ask = min(ask * 4, _ASK_AT_MOST)
    return [
        Found(one.path, one.chunk.start_line, one.chunk.end_line, one.chunk.symbol, one.score)
        for one in inside
    ]


def _named(tree: Tree, entries: Iterable[Entry], names: Names) -> list[tuple[Found, float]]:
    """Chunks that hold what the question names, each with its boost; scores are 0 here."""
    if not names.files and not names.symbols:
        return []
    paths: dict[str, float] = {}
    holders: dict[str, list[str]] = {name: [] for name in names.symbols}
    scanned = 0
    for entry in entries:
        if _is_named(entry.path, names.files):
            paths[entry.path] = _PATH
        if names.symbols and scanned < _SCAN_BYTES:
            content = tree.read(entry.path)
            scanned += len(content)
            for name, held in holders.items():
                if name.encode() in content:
                    held.append(entry.path)
    rarity = {name: 1 / (1 + math.log2(len(held))) for name, held in holders.items() if held}
    for name, weight in rarity.items():
        for path in holders[name]:
            paths[path] = paths.get(path, 0.0) + weight
    best = sorted(paths, key=lambda path: (-paths[path], path))[:_SCAN_FILES]
    return [
        (Found(path, piece.start_line, piece.end_line, piece.symbol, 0.0), boost)
        for path in best
        for piece in chunk(path, tree.read(path)).chunks
        if (boost := _boost(path, piece, names, rarity)) > 0
    ]


def _is_named(path: str, files: Sequence[str]) -> bool:
    """By its path, by the end of it, or by a path on somebody's machine that ends with it (as in a traceback)."""
    return any(path == name or path.endswith(f"/{name}") or name.endswith(f"/{path}") for name in files)


def _boost(path: str, piece: Chunk, names: Names, rarity: Mapping[str, float]) -> float:
    boost = _PATH if _is_named(path, names.files) else 0.0
    if any(
        piece.start_line <= line <= piece.end_line and _is_named(path, [file]) for file, line in names.lines
    ):
        boost += _LINE
    own = re.split(r"\.|::", piece.symbol)
    for name, weight in rarity.items():
        if own[-1] == name:
            boost += _SYMBOL
        elif name in own:
            boost += _SYMBOL / 3
        elif re.search(rf"(?<!\w){re.escape(name)}(?!\w)", piece.text):
            boost += _TEXT * weight
    return min(boost, _BOOST)


def _ranked(near: Sequence[Found], named: Sequence[tuple[Found, float]], limit: int) -> list[Found]:
    """One list. A chunk that is named but not near starts from the least of the near scores."""
    floor = min((found.score for found in near), default=0.0)
    boosts = {(found.path, found.start_line, found.end_line): boost for found, boost in named}
    cosines = {(found.path, found.start_line, found.end_line): found.score for found in near}
    places = {
        (found.path, found.start_line, found.end_line): found
        for found in [*near, *(found for found, _ in named)]
    }
    scored = [
        Found(
            found.path,
            found.start_line,
            found.end_line,
            found.symbol,
            cosines.get(at, floor) + boosts.get(at, 0.0),
        )
        for at, found in places.items()
    ]
    scored.sort(key=lambda found: (-found.score, found.path, found.start_line))
    out: list[Found] = []
    for found in scored:
        if len(out) == limit:
            break
        if not any(_overlap(found, better) for better in out):
            out.append(found)
    return out


def _overlap(one: Found, other: Found) -> bool:
    if one.path != other.path:
        return False
    shared = min(one.end_line, other.end_line) - max(one.start_line, other.start_line) + 1
    return 2 * shared >= min(one.end_line - one.start_line, other.end_line - other.start_line) + 1
