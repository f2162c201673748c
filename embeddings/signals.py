"""What speaks for each file, and for each of its chunks, as figures: how near it is by meaning and by words, what the
request names of it, what kind of file it is, and what it belongs together with. Decides nothing.

All figures are between 0 and about 1 and relative to the other candidates of the same search.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from embeddings.chunk import CODE, Chunk
from embeddings.history import Past
from embeddings.imports import Modules
from embeddings.lexicon import terms
from embeddings.question import Question

Row = NDArray[np.float64]

FILE_SIGNALS = (
    "near", "near_title", "near_window", "near_mean", "near_several", "near_rank",
    "words", "words_title", "words_chunk", "words_rank", "names_words",
    "path_title", "path_text", "path_stem",
    "named", "module", "frame", "frame_last", "defines", "holds",
    "test", "prose", "aside", "package",
)  # fmt: skip
BESIDE_SIGNALS = ("imports", "imported", "folder", "pair", "recent", "together")
"""Of files by what they belong together with; those of the strong candidates among them count by their strength."""
CHUNK_SIGNALS = (
    "near", "near_title", "near_mean", "words", "words_title", "names_words", "defines", "holds", "frame", "named_line", "nameless",
)  # fmt: skip


_K1, _B = 1.2, 0.75
_SAMPLE = 400
_TOKEN = re.compile(r"\w+")
_QUERY_TERMS = 200
_TEST = re.compile(
    r"(?:^|/)(?:tests?|testing|testsuite|__tests__|specs?|e2e|fixtures)/|"
    r"(?:^|/)(?:test_[^/]*|[^/]*_test|conftest|tests?)\.\w+$|[^/]\.(?:test|spec)\.\w+$|(?:Tests?|IT|Spec)\.(?:java|kt|scala|cs|swift)$"
)
_ASIDE = re.compile(
    r"(?:^|/)(?:docs?|doc_src|examples?|demos?|samples?|benchmarks?|benches|scripts?|tools|contrib|tutorials?|notebooks?|\.github|"
    r"asv_bench|perf|ci|build|packaging)/|(?:^|/)(?:setup|conf|noxfile|tasks|fabfile|versioneer|_version|__version__)\.py$"
)
_PACKAGE = re.compile(r"(?:^|/)(?:__init__\.pyi?|index\.[jt]sx?|mod\.rs|doc\.go|package-info\.java)$")
_TESTS = frozenset(["test", "pytest", "unittest", "spec", "fixture"])
_PROSE = frozenset(["doc", "docs", "documentation", "readme", "changelog", "tutorial", "guide", "typo"])
_ASKED_FOR = 0.3  # what remains of being a test or prose, where the title asks for such


class Files(Protocol):
    """The files of the tree that are worth reading, cut when asked for."""

    @property
    def paths(self) -> Sequence[str]: ...

    def text(self, path: str) -> str: ...

    def chunks(self, path: str) -> Sequence[Chunk]: ...


@dataclass(frozen=True, slots=True)
class Near:
    """Cosines of the nearest chunks by their path and first line, and the least that the store answered."""

    cosines: Mapping[tuple[str, int], float]
    floor: float


@dataclass(frozen=True, slots=True)
class Views:
    """The nearest chunks to the request as a whole, to its title, and to each window of its prose."""

    whole: Near
    title: Near
    windows: Sequence[Near]

    def all(self) -> list[Near]:
        return [self.whole, self.title, *self.windows]


def is_test(path: str) -> bool:
    return _TEST.search(path) is not None


class Vocabulary:
    """The request's terms with their weights, rarity included. Counts them in texts without naming any others."""

    def __init__(self, question: Question) -> None:
        fields = (terms(question.title), terms(question.prose), terms("\n".join(question.code))[:400])
        counts = [Counter(field) for field in fields]
        ordered = dict.fromkeys(term for field in fields for term in field)
        self.terms = tuple(ordered)[:_QUERY_TERMS]
        self._at = {term: number for number, term in enumerate(self.terms)}
        self._known: dict[str, tuple[int, ...]] = {}
        self.rarity = np.ones(len(self.terms))
        self.length = 300.0
        self.weights = {
            name: np.array([min(count[term], 3) ** 0.5 for term in self.terms], dtype=np.float64)
            for name, count in zip(("title", "prose", "code"), counts, strict=True)
        }
        text = np.maximum(1.5 * (self.weights["title"] > 0), self.weights["prose"])
        self.weights["all"] = text + 0.4 * self.weights["code"]

    def count(self, text: str) -> tuple[Row, int]:
        """How often each term stands in the text, and the text's length in words."""
        out = np.zeros(len(self.terms))
        tokens = Counter(_TOKEN.findall(text))
        for word, times in tokens.items():
            at = self._known.get(word)
            if at is None:
                at = self._known[word] = tuple(self._at[term] for term in terms(word) if term in self._at)
            for number in at:
                out[number] += times
        return out, tokens.total()

    def weigh(self, texts: Iterable[str]) -> None:
        """Estimate each term's rarity and the usual length from a sample of the tree's files."""
        holders = np.zeros(len(self.terms))
        lengths = []
        for text in texts:
            found, length = self.count(text)
            holders += found > 0
            lengths.append(length)
        self.rarity = np.log1p((len(lengths) - holders + 0.5) / (holders + 0.5))
        self.length = max(sum(lengths) / max(len(lengths), 1), 1.0)

    def score(self, counts: Row, lengths: Row, usual: float, field: str) -> Row:
        """BM25 of each row of counts for one field of the request."""
        if not len(self.terms) or not len(counts):
            return np.zeros(len(counts))
        norm = _K1 * (1 - _B + _B * lengths / max(usual, 1.0))
        saturated = counts * (_K1 + 1) / (counts + norm[:, None])
        return np.asarray(saturated @ (self.weights[field] * self.rarity), dtype=np.float64)

    def sparse(self) -> dict[str, float]:
        """The request as weighted terms, for a search that multiplies them with the files' own weights."""
        weights = self.weights["all"] * self.rarity
        return {term: float(weight) for term, weight in zip(self.terms, weights, strict=True) if weight > 0}


def sample(paths: Sequence[str], order: Callable[[str], str]) -> list[str]:
    """Program files that stand for the whole tree, chosen by `order`: the same for the same tree."""
    code = [path for path in paths if CODE.search(path) and not is_test(path)] or list(paths)
    return sorted(code, key=order)[:_SAMPLE]


@dataclass(frozen=True)
class Named:
    """Which files of the tree hold each symbol that the request names, which seem to define some, and which it names by
    path."""

    question: Question
    modules: Modules
    paths: Sequence[str]
    holders: Mapping[str, Sequence[str]]
    defining: Mapping[str, float]

    @cached_property
    def _by_name(self) -> Mapping[str, Sequence[str]]:
        out: defaultdict[str, list[str]] = defaultdict(list)
        for path in self.paths:
            out[path.rsplit("/", 1)[-1]].append(path)
        return out

    @cached_property
    def files(self) -> Mapping[str, float]:
        """Files named by path: 1 for a name that can only mean this one, less for one of several."""
        out: dict[str, float] = {}
        for name in self.question.names.files:
            found = self.resolve(name, strict=False)
            for path in found:
                out[path] = max(out.get(path, 0.0), 1 / len(found))
        return out

    @cached_property
    def in_modules(self) -> Mapping[str, float]:
        """Files named by dotted names."""
        out: dict[str, float] = {}
        for name in self.question.modules:
            found = self.modules.named(name)
            for path in found:
                out[path] = max(out.get(path, 0.0), 1 / len(found))
        return out

    @cached_property
    def frames(self) -> Sequence[tuple[str, int, str]]:
        """The stack frames that are in the tree, the innermost first."""
        out = []
        for frame in reversed(self.question.frames):
            found = self.resolve(frame.file, strict=True)
            if len(found) == 1:
                out.append((found[0], frame.line, frame.function))
        return out

    @cached_property
    def lines(self) -> Sequence[tuple[str, int]]:
        return [
            (path, line)
            for name, line in self.question.names.lines
            for path in self.resolve(name, strict=False)
        ]

    def resolve(self, name: str, *, strict: bool) -> list[str]:
        """The files that a name can mean: by the path, by the end of it, or by a path on somebody's machine that ends with
        it. `strict` wants folders too, where the name has some: a stack trace also goes through other people's files."""
        parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..", "~")]
        if not parts:
            return []
        best: dict[str, int] = {}
        for path in self._by_name.get(parts[-1], ()):
            own = path.split("/")
            shared = 0
            for mine, theirs in zip(reversed(own), reversed(parts), strict=False):
                if mine != theirs:
                    break
                shared += 1
            whole = shared in (len(own), len(parts))
            if whole or (strict and shared >= 2):
                best[path] = shared
        if strict and len(parts) > 1:
            best = {path: shared for path, shared in best.items() if shared > 1 or "/" not in path}
        most = max(best.values(), default=0)
        return [path for path, shared in best.items() if shared == most][:20]

    def rarity(self, symbol: str) -> float:
        held = len(self.holders.get(symbol, ()))
        return 1 / (1 + math.log2(held)) if held else 0.0


@dataclass(frozen=True, slots=True)
class Beside:
    """What candidates, by their numbers, have to do with each other: their folders, which imports which, whether the
    request names each one's test or program, when each changed, and how probably the one changes with the other."""

    folders: Sequence[str]
    links: Sequence[tuple[int, int]]
    pairs: Row
    recent: Row
    together: Sequence[tuple[int, int, float]]

    def signals(self, strength: Row) -> Row:
        """A row for each candidate, a column for each of `BESIDE_SIGNALS`. `strength` of the candidates sums to 1."""
        imports, imported, together = (np.zeros(len(self.folders)) for _ in range(3))
        for importer, target in self.links:
            imported[target] = max(imported[target], strength[importer])
            imports[importer] = max(imports[importer], strength[target])
        in_folder: defaultdict[str, float] = defaultdict(float)
        for row, name in enumerate(self.folders):
            in_folder[name] += strength[row]
        for row, other, share in self.together:
            together[row] += strength[other] * share
        folder = np.array([in_folder[name] for name in self.folders]) - strength
        return np.stack([imports, imported, folder, self.pairs, self.recent, together], axis=1)


@dataclass(frozen=True)
class Evidence:
    """All that was gathered for one search: the candidates and what their files hold."""

    question: Question
    vocabulary: Vocabulary
    views: Views
    named: Named
    files: Files
    candidates: Sequence[str]

    @cached_property
    def chunks(self) -> list[tuple[int, Chunk]]:
        """Each candidate's chunks, with the number of the candidate; a file without any has none."""
        return [
            (number, piece)
            for number, path in enumerate(self.candidates)
            for piece in self.files.chunks(path)
        ]

    @cached_property
    def owner(self) -> NDArray[np.intp]:
        return np.array([number for number, _ in self.chunks], dtype=np.intp)

    def per_file(self, values: Row) -> Row:
        """The largest of each candidate's chunks; 0 for a candidate without chunks."""
        out = np.zeros(len(self.candidates))
        np.maximum.at(out, self.owner, values)
        return out

    @cached_property
    def counts(self) -> tuple[Row, Row]:
        """The request's terms in each chunk, and the chunks' lengths."""
        found = [self.vocabulary.count(f"{piece.symbol}\n{piece.text}") for _, piece in self.chunks]
        if not found:
            return np.zeros((0, len(self.vocabulary.terms))), np.zeros(0)
        return np.array([one for one, _ in found]), np.array(
            [length for _, length in found], dtype=np.float64
        )

    @cached_property
    def file_counts(self) -> tuple[Row, Row]:
        counts, lengths = self.counts
        out = np.zeros((len(self.candidates), len(self.vocabulary.terms)))
        total = np.zeros(len(self.candidates))
        np.add.at(out, self.owner, counts)
        np.add.at(total, self.owner, lengths)
        return out, total

    def near(self, view: Near) -> Row:
        """How near each chunk is, from 0 (the farthest that the store answered, or farther) to 1."""
        room = max(view.cosines.values(), default=view.floor) - view.floor
        cosines = np.array(
            [
                view.cosines.get((self.candidates[at], piece.start_line), view.floor)
                for at, piece in self.chunks
            ]
        )
        return np.asarray(np.maximum(cosines - view.floor, 0.0) / max(room, 1e-6), dtype=np.float64)

    @cached_property
    def near_mean(self) -> Row:
        views = [self.views.whole, self.views.title, *self.views.windows]
        return np.asarray(np.mean([self.near(view) for view in views], axis=0), dtype=np.float64)

    @cached_property
    def symbols(self) -> tuple[Row, Row]:
        """For each chunk how many of the named symbols it defines and how many it holds, the rare ones counting more."""
        defines, holds = np.zeros(len(self.chunks)), np.zeros(len(self.chunks))
        wanted = {name: self.named.rarity(name) for name in self.question.names.symbols}
        patterns = {name: re.compile(rf"(?<!\w){re.escape(name)}(?!\w)") for name in wanted}
        for row, (_, piece) in enumerate(self.chunks):
            own = re.split(r"\.|::|#| > ", piece.symbol)
            for name, weight in wanted.items():
                if own[-1] == name:
                    defines[row] += weight + 0.3
                elif name in own:
                    defines[row] += (weight + 0.3) / 3
                elif weight and name in piece.text and patterns[name].search(piece.text):
                    holds[row] += weight
        return np.minimum(defines, 2.0) / 2, np.minimum(holds, 2.0) / 2

    @cached_property
    def names_words(self) -> Row:
        """How much of each chunk's own name the request says, the rare words counting more."""
        weights = dict(
            zip(self.vocabulary.terms, self.vocabulary.weights["all"] * self.vocabulary.rarity, strict=True)
        )
        known: dict[str, float] = {}
        out = np.zeros(len(self.chunks))
        for row, (_, piece) in enumerate(self.chunks):
            if piece.symbol not in known:
                known[piece.symbol] = sum(weights.get(term, 0.0) for term in set(terms(piece.symbol)))
            out[row] = known[piece.symbol]
        return _relative(out)

    @cached_property
    def framed(self) -> Row:
        """For each chunk the weight of the stack frames in it, by line or by function; the innermost counts most."""
        out = np.zeros(len(self.chunks))
        at: defaultdict[str, list[tuple[float, int, str]]] = defaultdict(list)
        for depth, (path, line, function) in enumerate(self.named.frames):
            at[path].append((0.85**depth, line, function))
        for row, (number, piece) in enumerate(self.chunks):
            last = re.split(r"\.|::|#", piece.symbol)[-1]
            for weight, line, function in at.get(self.candidates[number], ()):
                by_line = piece.start_line <= line <= piece.end_line
                by_name = bool(function) and function == last
                out[row] = max(out[row], weight * (by_name + 0.5 * by_line) / 1.5)
        return out

    def spoken_for(self) -> NDArray[np.bool_]:
        """Whether anything at all speaks for each chunk, be it that its file is named."""
        named = {*self.named.files, *self.named.in_modules, *(path for path, _, _ in self.named.frames)}
        counts, _ = self.counts
        answered = {at for view in self.views.all() for at, cosine in view.cosines.items() if cosine > 0}
        near = np.array(
            [(self.candidates[at], piece.start_line) in answered for at, piece in self.chunks], dtype=np.bool_
        )
        words = (counts > 0).any(axis=1)
        by_file = np.array([self.candidates[at] in named for at, _ in self.chunks], dtype=np.bool_)
        return np.asarray(near | words | by_file, dtype=np.bool_)

    def chunk_signals(self) -> Row:
        """A row for each chunk of `chunks`, a column for each of `CHUNK_SIGNALS`."""
        counts, lengths = self.counts
        usual = float(lengths.mean()) if len(lengths) else 1.0
        defines, holds = self.symbols
        named_line = np.array(
            [
                any(
                    self.candidates[at] == path and piece.start_line <= line <= piece.end_line
                    for path, line in self.named.lines
                )
                for at, piece in self.chunks
            ],
            dtype=np.float64,
        )
        columns = (
            self.near(self.views.whole), self.near(self.views.title), self.near_mean,
            _relative(self.vocabulary.score(counts, lengths, usual, "all")),
            _relative(self.vocabulary.score(counts, lengths, usual, "title")),
            self.names_words, defines, holds, self.framed, named_line,
            np.array([not piece.symbol for _, piece in self.chunks], dtype=np.float64),
        )  # fmt: skip
        return np.stack(columns, axis=1) if self.chunks else np.zeros((0, len(CHUNK_SIGNALS)))

    def file_signals(self) -> Row:
        """A row for each candidate, a column for each of `FILE_SIGNALS`."""
        columns = [
            *self._by_meaning(),
            *self._by_words(),
            *self._by_path(),
            *self._by_name(),
            *self._by_kind(),
        ]
        return np.stack(columns, axis=1) if self.candidates else np.zeros((0, len(FILE_SIGNALS)))

    def _by_meaning(self) -> list[Row]:
        def best(views: Sequence[Near]) -> Row:
            out = np.zeros(len(self.candidates))
            for view in views:
                out = np.maximum(out, self.per_file(self.near(view)))
            return out

        mean = self.per_file(self.near_mean)
        rank = np.empty(len(mean))
        rank[np.argsort(-mean, kind="stable")] = 1 / (1.0 + np.arange(len(mean)))
        return [
            best([self.views.whole]), best([self.views.title]), best(self.views.windows),
            mean, self._top(self.near_mean), rank,
        ]  # fmt: skip

    def _top(self, values: Row, several: int = 3) -> Row:
        """The mean of each candidate's three largest."""
        out = np.zeros(len(self.candidates))
        order = np.lexsort((-values, self.owner))
        owner = self.owner[order]
        starts = np.searchsorted(owner, np.arange(len(self.candidates)))
        place = np.arange(len(order)) - starts[owner]
        keep = place < several
        np.add.at(out, owner[keep], values[order][keep])
        return out / several

    def _by_words(self) -> list[Row]:
        counts, lengths = self.file_counts
        chunk_counts, chunk_lengths = self.counts
        usual = float(chunk_lengths.mean()) if len(chunk_lengths) else 1.0
        score = self.vocabulary.score
        whole = score(counts, lengths, self.vocabulary.length, "all")
        rank = np.empty(len(whole))
        rank[np.argsort(-whole, kind="stable")] = 1 / (1.0 + np.arange(len(whole)))
        return [
            _relative(whole),
            _relative(score(counts, lengths, self.vocabulary.length, "title")),
            _relative(self.per_file(score(chunk_counts, chunk_lengths, usual, "all"))),
            rank,
            self.per_file(self.names_words),
        ]

    def _by_path(self) -> list[Row]:
        own = [set(terms(path)) for path in self.candidates]
        spread = Counter(term for path in self.named.paths for term in set(terms(path)))
        rarity = {
            term: math.log1p(len(self.named.paths) / (1 + spread[term])) for term in self.vocabulary.terms
        }
        title = dict.fromkeys(terms(self.question.title))
        text = {**title, **dict.fromkeys(terms(self.question.prose))}
        said = set(self.vocabulary.terms)
        stems = [set(terms(_stem(path))) for path in self.candidates]
        return [
            _relative(np.array([sum(rarity.get(term, 0.0) for term in title if term in one) for one in own])),
            _relative(np.array([sum(rarity.get(term, 0.0) for term in text if term in one) for one in own])),
            np.array([len(stem & said) / len(stem) if stem else 0.0 for stem in stems]),
        ]

    def _by_name(self) -> list[Row]:
        framed: dict[str, float] = {}
        for depth, (path, _, _) in enumerate(self.named.frames):
            framed.setdefault(path, 0.85**depth)
        last = self.named.frames[0][0] if self.named.frames else None
        defines, holds = self.symbols
        return [
            np.array([self.named.files.get(path, 0.0) for path in self.candidates]),
            np.array([self.named.in_modules.get(path, 0.0) for path in self.candidates]),
            np.array([framed.get(path, 0.0) for path in self.candidates]),
            np.array([float(path == last) for path in self.candidates]),
            self.per_file(defines),
            self.per_file(holds),
        ]

    def _by_kind(self) -> list[Row]:
        paths = self.candidates
        asked = set(terms(self.question.title))
        test = _ASKED_FOR if asked & _TESTS else 1.0
        prose = _ASKED_FOR if asked & _PROSE else 1.0
        return [
            np.array([test * is_test(path) for path in paths]),
            np.array([prose * (CODE.search(path) is None) for path in paths]),
            np.array([float(_ASIDE.search(path) is not None) for path in paths]),
            np.array([float(_PACKAGE.search(path) is not None) for path in paths]),
        ]

    @cached_property
    def _links(self) -> list[tuple[int, int]]:
        """Which candidate imports which."""
        at = {path: number for number, path in enumerate(self.candidates)}
        return [
            (number, at[other])
            for number, path in enumerate(self.candidates)
            for other in self.named.modules.imported(path, self.files.text(path))
            if other in at
        ]

    def beside(self, past: Past) -> Beside:
        """What the candidates have to do with each other."""
        together = [
            (row, other, share)
            for row, path in enumerate(self.candidates)
            for other, beside in enumerate(self.candidates)
            if row != other and (share := past.together(path, beside)) > 0
        ]
        return Beside(
            tuple(str(PurePosixPath(path).parent) for path in self.candidates),
            self._links,
            self._pairs(),
            np.array([past.recent.get(path, 0.0) for path in self.candidates]),
            together,
        )

    def _pairs(self) -> Row:
        """1 for the program of a test that the request names by path or in a stack trace, and for the test of a program."""
        named = {*self.named.files, *(path for path, _, _ in self.named.frames)}
        keys = {(is_test(path), _bare(path)) for path in named}
        return np.array([float((not is_test(path), _bare(path)) in keys) for path in self.candidates])


def _relative(values: Row) -> Row:
    most = float(values.max()) if len(values) else 0.0
    return np.asarray(values / most if most > 0 else values, dtype=np.float64)


def _stem(path: str) -> str:
    pure = PurePosixPath(path)
    return pure.parent.name if _PACKAGE.search(path) else pure.stem


def _bare(path: str) -> str:
    """The name that a test and what it tests have in common."""
    return re.sub(r"^tests?_|_tests?$|[._-](?:test|spec)$|Tests?$|Spec$", "", _stem(path)).strip("_").lower()
