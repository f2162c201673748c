"""From signals to an order: a linear model over the signals of each file, and one over those of its chunks.

The weights are constants of this file. `embeddings/training/weights.py` fits them, on repositories that are part of no
benchmark; each part can be switched off to see what it brings.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from embeddings.chunk import Chunk
from embeddings.history import Past
from embeddings.signals import BESIDE_SIGNALS, CHUNK_SIGNALS, FILE_SIGNALS, Evidence, Row

PARTS: Mapping[str, tuple[str, ...]] = {
    "meaning": ("near", "near_title", "near_window", "near_mean", "near_several", "near_rank"),
    "words": ("words", "words_title", "words_chunk", "words_rank"),
    "path words": ("path_title", "path_text", "path_stem"),
    "named files": ("named", "module", "named_line"),
    "stack traces": ("frame", "frame_last"),
    "named symbols": ("defines", "holds", "names_words"),
    "kind of file": ("test", "prose", "aside", "package"),
    "imports": ("imports", "imported"),
    "folder": ("folder",),
    "tests and sources": ("pair",),
    "recency": ("recent",),
    "co-change": ("together",),
}
"""What can be switched off, and the signals that go with it."""


@dataclass(frozen=True, slots=True)
class Weights:
    """How much each signal counts, by its name, for a file and for a chunk of it. `again` is what each further place of a
    file costs, in the same measure, so that the first places show several files."""

    file: Mapping[str, float]
    chunk: Mapping[str, float]
    again: float = 0.2

    def without(self, part: str) -> Weights:
        """The same with one of `PARTS` switched off. Raises KeyError for another name."""
        off = PARTS[part]
        return replace(
            self,
            file={name: weight for name, weight in self.file.items() if name not in off},
            chunk={name: weight for name, weight in self.chunk.items() if name not in off},
        )


# Set by hand, then fitted with a pull of 0.1 towards that, on 200 past changes of five projects (click, httpx, werkzeug, black,
# pip) and 41 issues of these, poetry and tornado: none is part of a benchmark or of training. Too few hold stack traces
# to say anything about those weights and that of `pair`: they are as set by hand. With the trained model's vectors a second fit
# moved no figure.
WEIGHTS = Weights(
    file={
        "near": 0.75, "near_title": 0.37, "near_window": 0.75, "near_mean": 1.8, "near_several": 0.8, "near_rank": 0.7,
        "words": 0.9, "words_title": 0.75, "words_chunk": 0.95, "words_rank": 0.4, "names_words": 0.3,
        "path_title": 0.85, "path_text": 0.73, "path_stem": 0.55, "named": 3.0, "module": 0.6, "frame": 1.5, "frame_last": 1.0,
        "defines": 1.55, "holds": 0.74, "test": -2.9, "prose": -2.0, "aside": -1.5, "package": -0.95,
        "imports": 0.5, "imported": 0.65, "folder": 0.4, "pair": 1.0, "recent": 0.48, "together": 1.03,
    },
    chunk={
        "near": 0.24, "near_title": 0.28, "near_mean": 0.78, "words": 1.07, "words_title": 0.11, "names_words": 0.52,
        "defines": 1.3, "holds": 0.33, "frame": 2.05, "named_line": 2.0, "nameless": -1.0,
    },
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Ranked:
    """A place: `score` orders, and is 1 for the first."""

    path: str
    chunk: Chunk
    score: float


def rank(evidence: Evidence, past: Past, weights: Weights = WEIGHTS) -> Iterator[Ranked]:
    """The candidates' places, best first. A file stands where its best place stands."""
    if not evidence.chunks:
        return
    spoken = evidence.spoken_for()
    files = file_scores(evidence, past, weights)
    chunks = chunk_scores(evidence, weights)
    scores = place_scores(evidence, files, chunks, weights.again)
    best = float(scores.max())
    for row in np.argsort(-scores, kind="stable"):
        number, piece = evidence.chunks[row]
        if not spoken[row]:
            continue
        yield Ranked(evidence.candidates[number], piece, float(np.exp(scores[row] - best)))


def file_scores(evidence: Evidence, past: Past, weights: Weights) -> Row:
    own = evidence.file_signals() @ _vector(FILE_SIGNALS, weights.file)
    beside = evidence.beside(past).signals(strengths(own))
    return np.asarray(own + beside @ _vector(BESIDE_SIGNALS, weights.file), dtype=np.float64)


def chunk_scores(evidence: Evidence, weights: Weights) -> Row:
    return np.asarray(evidence.chunk_signals() @ _vector(CHUNK_SIGNALS, weights.chunk), dtype=np.float64)


def place_scores(evidence: Evidence, files: Row, chunks: Row, again: float) -> Row:
    """A file's best chunk has the file's score; the others less, by how much worse they are and by how many come before."""
    owner = evidence.owner
    order = np.lexsort((-chunks, owner))
    starts = np.searchsorted(owner[order], np.arange(len(files)))
    place = np.empty(len(order), dtype=np.float64)
    place[order] = np.arange(len(order)) - starts[owner[order]]
    best = np.full(len(files), -np.inf)
    np.maximum.at(best, owner, chunks)
    return np.asarray(files[owner] - (best[owner] - chunks) - again * place, dtype=np.float64)


def strengths(scores: Row) -> Row:
    """Scores as shares of one."""
    if not len(scores):
        return scores
    raised = np.exp(scores - scores.max())
    return np.asarray(raised / raised.sum(), dtype=np.float64)


def _vector(names: tuple[str, ...], weights: Mapping[str, float]) -> Row:
    return np.array([weights.get(name, 0.0) for name in names], dtype=np.float64)
