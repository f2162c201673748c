"""A request becomes ranked places: near by meaning, by words, and by what it names, read and weighed in the given tree.

Only what is in that tree is found, whatever other commits have left in the store. Nothing is kept of a question.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

import numpy as np

from embeddings.chunk import CODE, Chunk, passage, text_of
from embeddings.collection import PLACE, Entry, Hit, Shelf, Tree
from embeddings.embed import Vectors, embed
from embeddings.history import History, past
from embeddings.imports import Modules
from embeddings.lexicon import terms
from embeddings.located import Cuts
from embeddings.question import Question, read
from embeddings.rank import WEIGHTS, Ranked, Weights, rank
from embeddings.signals import Evidence, Named, Near, Views, Vocabulary, is_test, sample

ASK = 300
"""The nearest chunks that are asked for, for each view of the request; more if other commits crowd them out."""
_ASK_AT_MOST = 4800
_ASK_FILES = 150
_SCAN_BYTES = 64 << 20
_KEPT = 64
_UNSTORED = 64  # chunks that a search itself embeds
_RERANKED = 30

_CANDIDATES = 110  # by meaning and words; those that are named come on top
_NAMED = 15
_BY_PATH = 10


@dataclass(frozen=True, slots=True)
class Found:
    """A place in the tree (lines 1-based, inclusive). `score` orders, and is 1 for the best."""

    path: str
    start_line: int
    end_line: int
    symbol: str
    score: float


class Reranker(Protocol):
    """Reads a request and passages together, as a cross-encoder or a language model can. `scores` blocks."""

    def scores(self, question: str, passages: Sequence[str]) -> Sequence[float]:
        """One figure for each passage, larger for better."""
        ...


class Asked:
    """The vectors of what was lately asked, under a hash of the text, in memory alone."""

    def __init__(self) -> None:
        self._vectors: OrderedDict[bytes, Vectors] = OrderedDict()

    async def embed(self, shelf: Shelf, texts: Sequence[str]) -> Vectors:
        """One unit vector for each text. Raises embeddings.embed.EncoderError."""
        keys = [
            hashlib.sha256(f"{shelf.encoder.name}\0{text}".encode("utf-8", "replace")).digest()
            for text in texts
        ]
        new = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._vectors}
        if new:
            self._vectors.update(zip(new, await embed(shelf.encoder, list(new.values())), strict=True))
        found = np.stack([self._vectors[key] for key in keys])
        while len(self._vectors) > _KEPT:
            self._vectors.popitem(last=False)
        return found


async def search(
    shelf: Shelf,
    tree: Tree,
    question: str,
    limit: int,
    *,
    history: History | None = None,
    weights: Weights = WEIGHTS,
    reranker: Reranker | None = None,
    asked: Asked | None = None,
) -> list[Found]:
    """At most `limit` places, best first, none twice. `history` are the commits that led to the tree, where at hand.

    Raises embeddings.embed.EncoderError and the store's own errors.
    """
    if limit <= 0 or not question.strip():
        return []
    evidence = await gathered(shelf, tree, question, asked=asked)
    return await asyncio.to_thread(
        places, evidence, limit, history=history, weights=weights, reranker=reranker
    )


async def gathered(shelf: Shelf, tree: Tree, question: str, *, asked: Asked | None = None) -> Evidence:
    """The candidates, and what speaks for each of them. Raises as `search` does."""
    asking = read(question)
    cuts = Cuts(shelf, tree)
    names, vectors = await asyncio.gather(
        asyncio.to_thread(_read, cuts, tree, asking), (asked or Asked()).embed(shelf, views(asking))
    )
    named, vocabulary = names
    hits = await _nearest(shelf, cuts, shelf.protection.rotate(vectors))
    weighted = {shelf.protection.term(term): weight for term, weight in vocabulary.sparse().items()}
    worded = await shelf.points.search_sparse(shelf.files, weighted, _ASK_FILES) if weighted else ()

    by_words = {cuts.files[one].path: score for one, score, _ in worded if one in cuts.files}
    candidates = await asyncio.to_thread(shortlist, named, _by_file(hits), by_words)
    near = await asyncio.to_thread(_near, cuts, candidates, hits)
    near = _with(near, await _unstored(shelf, cuts, candidates), vectors)
    return Evidence(asking, vocabulary, as_views(near), named, _Files(cuts, tree), candidates)


def places(
    evidence: Evidence,
    limit: int,
    *,
    history: History | None = None,
    weights: Weights = WEIGHTS,
    reranker: Reranker | None = None,
) -> list[Found]:
    """The order that `search` gives, of evidence that is there already. Blocks."""
    ranked = rank(evidence, past(history, evidence.candidates), weights)
    if reranker is not None:
        ranked = iter(_reranked(ranked, reranker, evidence.question.text))
    return _places(ranked, limit)


def views(question: Question) -> list[str]:
    """What is embedded of a request: all of it as far as the model reads, its title, and its windows."""
    return [question.text, question.title, *question.windows()]


def as_views(near: Sequence[Near]) -> Views:
    """The answers to `views`, in its order."""
    return Views(near[0], near[1], near[2:])


def shortlist(named: Named, near: Sequence[Mapping[str, float]], worded: Mapping[str, float]) -> list[str]:
    """The files that are worth reading for this request. `near` tells for each view how near each file's best chunk is."""
    votes: defaultdict[str, float] = defaultdict(float)
    for scores in [*near, worded, worded]:
        for place, path in enumerate(sorted(scores, key=lambda path: (-scores[path], path))):
            votes[path] += (0.5 if is_test(path) or not CODE.search(path) else 1.0) / (20 + place)
    out = dict.fromkeys(sorted(votes, key=lambda path: (-votes[path], path))[:_CANDIDATES])
    for scores in (named.files, {path: 1.0 for path, _, _ in named.frames}, named.in_modules, named.defining):
        out.update(dict.fromkeys(sorted(scores, key=lambda path: (-scores[path], path))[:_NAMED]))
    out.update(dict.fromkeys(_by_path(named)))
    return list(out)


def _by_path(named: Named) -> list[str]:
    """The files whose paths share the most telling words with the request's title."""
    holders: defaultdict[str, list[str]] = defaultdict(list)
    wanted = set(terms(named.question.title))
    for path in named.paths:
        for term in wanted.intersection(terms(path)):
            holders[term].append(path)
    scores: defaultdict[str, float] = defaultdict(float)
    for held in holders.values():
        for path in held:
            scores[path] += (0.5 if is_test(path) or not CODE.search(path) else 1.0) / len(held) ** 0.5
    return sorted(scores, key=lambda path: (-scores[path], path))[:_BY_PATH]


class _Files:
    """Implements `embeddings.signals.Files` over a tree."""

    def __init__(self, cuts: Cuts, tree: Tree) -> None:
        self._cuts = cuts
        self._tree = tree

    @property
    def paths(self) -> Sequence[str]:
        return list(self._cuts.entries)

    def text(self, path: str) -> str:
        return text_of(self._tree.read(path))

    def chunks(self, path: str) -> Sequence[Chunk]:
        return self._cuts.of(path)


def _read(cuts: Cuts, tree: Tree, question: Question) -> tuple[Named, Vocabulary]:
    """What the tree's files have to do with the names in the question, and how rare its words are in them."""
    files = _Files(cuts, tree)
    entries = cuts.entries
    vocabulary = Vocabulary(question)
    vocabulary.weigh(files.text(path) for path in sample(files.paths, lambda path: entries[path].sha))
    holders, defining = scan(question, ((path, tree.read(path)) for path in _to_scan(entries, question)))
    return Named(question, Modules(files.paths), files.paths, holders, defining), vocabulary


def _to_scan(entries: Mapping[str, Entry], question: Question) -> Iterable[str]:
    room = _SCAN_BYTES if question.names.symbols else 0
    for path, entry in entries.items():
        room -= entry.size or 0
        if room <= 0:
            return
        yield path


def scan(
    question: Question, contents: Iterable[tuple[str, bytes]]
) -> tuple[dict[str, list[str]], dict[str, float]]:
    """Which files hold each symbol of the question, and how many of the symbols, the rare ones counting more, each file
    seems to define."""
    wanted = [(name, name.encode()) for name in question.names.symbols]
    ways = [(name, [way + name.encode() for way in _DEFINING]) for name in question.names.symbols]
    holders: dict[str, list[str]] = {name: [] for name, _ in wanted}
    definers: defaultdict[str, list[str]] = defaultdict(list)
    for path, content in contents:
        for (name, word), (_, definitions) in zip(wanted, ways, strict=True):
            if word in content:
                holders[name].append(path)
                if any(definition in content for definition in definitions):
                    definers[name].append(path)
    defining: defaultdict[str, float] = defaultdict(float)
    for held in definers.values():
        for path in held:
            defining[path] += 1 / len(held)
    return holders, dict(defining)


_DEFINING = (
    b"def ",
    b"class ",
    b"function ",
    b"func ",
    b"fn ",
    b"interface ",
    b"struct ",
    b"enum ",
    b"trait ",
    b"type ",
)


async def _nearest(shelf: Shelf, cuts: Cuts, vectors: Vectors) -> list[list[tuple[str, Hit]]]:
    """For each vector the nearest chunks with their paths, as far as these are in the tree."""
    ask = ASK
    while True:
        answers = await shelf.points.search(shelf.chunks, vectors, ask)
        inside = await asyncio.to_thread(_inside, shelf, cuts, answers)
        crowded = any(
            len(hits) == ask and 2 * len(here) < ask for hits, here in zip(answers, inside, strict=True)
        )
        if not crowded or ask >= _ASK_AT_MOST:
            return inside
        ask *= 4


def _inside(shelf: Shelf, cuts: Cuts, answers: Sequence[Sequence[Hit]]) -> list[list[tuple[str, Hit]]]:
    paths: dict[str, str | None] = {}
    for point, _, payload in (hit for hits in answers for hit in hits):
        if point not in paths:
            paths[point] = shelf.protection.unseal(payload.get(PLACE, ""), point)
    return [
        [(path, hit) for hit in hits if (path := paths[hit[0]]) is not None and path in cuts.entries]
        for hits in answers
    ]


def _by_file(hits: Sequence[Sequence[tuple[str, Hit]]]) -> list[dict[str, float]]:
    """For each view how near each file's best chunk is."""
    out = []
    for answer in hits:
        nearest: dict[str, float] = {}
        for path, (_, score, _) in answer:
            nearest[path] = max(nearest.get(path, -1.0), score)
        out.append(nearest)
    return out


def _near(cuts: Cuts, candidates: Iterable[str], hits: Sequence[Sequence[tuple[str, Hit]]]) -> list[Near]:
    """For each view where in the candidates the nearest chunks are."""
    wanted = set(candidates)
    near = []
    for answer in hits:
        places = cuts.located(hit for path, hit in answer if path in wanted)
        cosines = {(place.path, place.chunk.start_line): place.score for place in places}
        near.append(Near(cosines, min((hit[1] for _, hit in answer), default=0.0)))
    return near


async def _unstored(shelf: Shelf, cuts: Cuts, candidates: Sequence[str]) -> dict[tuple[str, int], Vectors]:
    """The vectors of candidates that the store does not know yet, as far as they are made at once."""
    ids = {shelf.file_id(cuts.entries[path]): path for path in candidates if path in cuts.entries}
    stored = await shelf.points.get(shelf.files, list(ids), [])
    pieces = [
        (path, piece)
        for one, path in ids.items()
        if one not in stored
        for piece in await asyncio.to_thread(cuts.of, path)
    ][:_UNSTORED]
    if not pieces:
        return {}
    vectors = await embed(shelf.encoder, [passage(path, piece) for path, piece in pieces])
    return {(path, piece.start_line): vector for (path, piece), vector in zip(pieces, vectors, strict=True)}


def _with(near: Sequence[Near], more: Mapping[tuple[str, int], Vectors], views: Vectors) -> list[Near]:
    return [
        Near({**view.cosines, **{at: float(vector @ asked) for at, vector in more.items()}}, view.floor)
        for view, asked in zip(near, views, strict=True)
    ]


def _reranked(ranked: Iterable[Ranked], reranker: Reranker, question: str) -> list[Ranked]:
    """The first places in the reranker's order, and the rest after them as they were."""
    places = list(ranked)
    first, rest = places[:_RERANKED], places[_RERANKED:]
    scores = reranker.scores(question, [passage(one.path, one.chunk) for one in first])
    order = sorted(range(len(first)), key=lambda row: -scores[row])
    steps = [one.score for one in first]
    return [
        Ranked(first[row].path, first[row].chunk, step) for row, step in zip(order, steps, strict=True)
    ] + rest


def _places(ranked: Iterable[Ranked], limit: int) -> list[Found]:
    """The first `limit` places that do not overlap a better one."""
    of: defaultdict[str, list[Found]] = defaultdict(list)

    def apart() -> Iterable[Found]:
        for one in ranked:
            found = Found(one.path, one.chunk.start_line, one.chunk.end_line, one.chunk.symbol, one.score)
            if not any(_overlap(found, better) for better in of[one.path]):
                of[one.path].append(found)
                yield found

    return list(islice(apart(), limit))


def _overlap(one: Found, other: Found) -> bool:
    shared = min(one.end_line, other.end_line) - max(one.start_line, other.start_line) + 1
    return 2 * shared >= min(one.end_line - one.start_line, other.end_line - other.start_line) + 1
