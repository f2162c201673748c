"""Fits the weights of `embeddings/rank.py` on past changes and issues, and says what each part brings.

    python -m embeddings.training.weights --mirrors DIR --model DIR --cache DIR QUERIES.jsonl ...

Each line of a QUERIES file is an object with `repo` (`owner/name`, whose mirror is `DIR/owner+name/repo`), `base_commit`, `query` and
`gold_files`; `weight` says how much it counts. Rows of a repository that is ruled out for training are refused. Figures are
strict file accuracies over the files that are no tests, each repository scored with weights that were fitted on the others.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embeddings.chunk import Chunk, chunk, passage, text_of
from embeddings.history import past
from embeddings.imports import Modules
from embeddings.index import weighted
from embeddings.question import Question, read
from embeddings.rank import PARTS, WEIGHTS, strengths
from embeddings.rules import left_out_by_name
from embeddings.search import ASK, as_views, scan, shortlist, views
from embeddings.signals import (
    BESIDE_SIGNALS,
    FILE_SIGNALS,
    Beside,
    Evidence,
    Named,
    Near,
    Row,
    Vocabulary,
    is_test,
    sample,
)
from embeddings.training.git import Repository
from embeddings.training.ruled_out import ruled_out

NAMES = (*FILE_SIGNALS, *BESIDE_SIGNALS)
_OWN = len(FILE_SIGNALS)
_WORDED = 150

Encode = Any  # a callable from texts to one unit vector each; the model's own library has no types


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, and the files that answered it."""

    repository: str
    base: str
    query: str
    gold: tuple[str, ...]
    weight: float


@dataclass(frozen=True, slots=True)
class Case:
    """A request's candidates as figures: `gold` are the numbers of the right ones, -1 for one that is no candidate."""

    repository: str
    own: Row
    beside: Beside
    gold: tuple[int, ...]
    counts: NDArray[np.bool_]
    weight: float

    def signals(self, weights: Row) -> Row:
        """All columns of `NAMES`, those of neighbours by what `weights` make of the candidates without them."""
        return np.hstack([self.own, self.beside.signals(strengths(self.own @ weights[:_OWN]))])


class Snapshot:
    """One commit's files of a mirror. Implements `embeddings.signals.Files` and `embeddings.history.History`."""

    def __init__(self, git: Repository, tip: str, vectors: Vectors) -> None:
        self._git = git
        self._tip = tip
        self._vectors = vectors
        listed = git.files(tip)
        self.blobs = {path: blob for path, blob in listed.items() if left_out_by_name(path, None) is None}
        held = git.blobs(sorted(set(self.blobs.values())))
        self.contents = {path: held[blob] for path, blob in self.blobs.items() if blob in held}
        self._chunks: dict[str, tuple[Chunk, ...]] = {}

    @property
    def paths(self) -> Sequence[str]:
        return list(self.contents)

    def text(self, path: str) -> str:
        return text_of(self.contents[path])

    def chunks(self, path: str) -> Sequence[Chunk]:
        if path not in self._chunks:
            self._chunks[path] = chunk(path, self.contents[path]).chunks
        return self._chunks[path]

    def changed(self, limit: int) -> Sequence[Sequence[str]]:
        return [[change.path for change in one.changes] for one in self._git.commits(self._tip, limit)]

    @cached_property
    def modules(self) -> Modules:
        return Modules(self.paths)

    @cached_property
    def dense(self) -> tuple[list[tuple[str, int]], NDArray[np.float32]]:
        """Where each chunk of a program is, and its vector. Tests are left out: they are half of the work and no answers."""
        pieces = [(path, piece) for path in self.paths if not is_test(path) for piece in self.chunks(path)]
        return (
            [(path, piece.start_line) for path, piece in pieces],
            self._vectors.of([passage(path, piece) for path, piece in pieces]),
        )

    @cached_property
    def words(self) -> Mapping[str, Mapping[str, float]]:
        return {path: weighted(path, content) for path, content in self.contents.items()}


class Vectors:
    """Vectors of texts, each made once and kept in a folder under the text's hash."""

    def __init__(self, folder: Path, encode: Encode) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._encode = encode
        self._at: dict[str, int] = {}
        self._rows: list[NDArray[np.float16]] = []
        for part in sorted(folder.glob("*.npz")):
            with np.load(part) as held:
                self._add(held["keys"].tolist(), held["rows"])

    def of(self, texts: Sequence[str]) -> NDArray[np.float32]:
        keys = [hashlib.sha256(text.encode("utf-8", "replace")).hexdigest() for text in texts]
        new = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._at}
        if new:
            rows = np.asarray(self._encode(list(new.values())), dtype=np.float16)
            np.savez(self._folder / f"{len(self._rows):06d}.npz", keys=np.array(list(new)), rows=rows)
            self._add(list(new), rows)
        joined = np.concatenate(self._rows) if self._rows else np.zeros((0, 1), np.float16)
        self._rows = [joined] if len(self._rows) > 1 and not new else self._rows
        return joined[[self._at[key] for key in keys]].astype(np.float32)

    def _add(self, keys: Sequence[str], rows: NDArray[np.float16]) -> None:
        start = sum(map(len, self._rows))
        self._at.update({key: start + number for number, key in enumerate(keys)})
        self._rows.append(rows)


def case(asked: Asked, tree: Snapshot, vectors: Vectors) -> Case:
    """What a search would see of the request, without a store."""
    question = read(asked.query)
    vocabulary = Vocabulary(question)
    vocabulary.weigh(tree.text(path) for path in sample(tree.paths, tree.blobs.__getitem__))
    holders, defining = scan(question, tree.contents.items())
    named = Named(question, tree.modules, tree.paths, holders, defining)
    near, nearest = _near(question, tree, vectors)
    candidates = shortlist(named, nearest, _worded(vocabulary, tree))
    evidence = Evidence(question, vocabulary, as_views(near), named, tree, candidates)
    gold = tuple(candidates.index(path) if path in candidates else -1 for path in asked.gold)
    shown = np.array([not is_test(path) and path.endswith(".py") for path in candidates], dtype=np.bool_)
    beside = evidence.beside(past(tree, candidates))
    return Case(asked.repository, evidence.file_signals(), beside, gold, shown, asked.weight)


def _near(question: Question, tree: Snapshot, vectors: Vectors) -> tuple[list[Near], list[dict[str, float]]]:
    keys, matrix = tree.dense
    near: list[Near] = []
    nearest: list[dict[str, float]] = []
    for vector in vectors.of(views(question)):
        cosines = matrix @ vector
        order = np.argsort(-cosines)[:ASK]
        near.append(Near({keys[row]: float(cosines[row]) for row in order}, float(cosines[order[-1]])))
        best: dict[str, float] = {}
        for row in order:
            best.setdefault(keys[row][0], float(cosines[row]))
        nearest.append(best)
    return near, nearest


def _worded(vocabulary: Vocabulary, tree: Snapshot) -> dict[str, float]:
    asked = vocabulary.sparse()
    scores = {
        path: sum(held[term] * weight for term, weight in asked.items() if term in held)
        for path, held in tree.words.items()
    }
    best = sorted((path for path in scores if scores[path] > 0), key=lambda path: -scores[path])
    return {path: scores[path] for path in best[:_WORDED]}


# --- the fit ---------------------------------------------------------------------------------------------------------


def fit(cases: Sequence[Case], prior: Row, pull: float, off: Iterable[str] = (), rounds: int = 2) -> Row:
    """The weights under which the right candidates are likeliest among theirs (a multinomial logit), pulled towards
    `prior` by `pull` times the squared distance."""
    from scipy.optimize import minimize  # type: ignore[import-untyped]  # noqa: PLC0415

    on = np.array([name not in set(off) for name in NAMES], dtype=np.float64)
    weights = prior * on
    for _ in range(rounds):
        data = [(one.signals(weights), [at for at in one.gold if at >= 0], one.weight) for one in cases]
        data = [(x, gold, weight) for x, gold, weight in data if gold]
        total = sum(weight for _, _, weight in data)

        def loss(at: Row, data: Any = data, total: float = total) -> tuple[float, Row]:
            at = at * on
            value, slope = 0.0, np.zeros(len(at))
            for x, gold, weight in data:
                scores = x @ at
                share = strengths(scores)
                value -= weight * float(np.log(np.maximum(share[gold], 1e-30)).mean())
                slope += weight * (share @ x - x[gold].mean(axis=0))
            away = (at - prior) * on
            return value / total + pull * float(away @ away), (slope / total + 2 * pull * away) * on

        weights = np.asarray(minimize(loss, weights, jac=True, method="L-BFGS-B").x) * on
    return weights


def accuracy(cases: Sequence[Case], weights: Mapping[str, Row]) -> dict[str, float]:
    """Strict accuracies in percent and the mean reciprocal rank; `weights` by repository."""
    hits: dict[str, list[float]] = {"@1": [], "@3": [], "@5": [], "@10": [], "MRR": []}
    for one in cases:
        used = weights[one.repository]
        scores = np.where(one.counts, one.signals(used) @ used, -np.inf)
        place = {int(row): at for at, row in enumerate(np.argsort(-scores, kind="stable"))}
        places = [place[at] if at >= 0 else 10**6 for at in one.gold]
        for name, at_most in (("@1", 1), ("@3", 3), ("@5", 5), ("@10", 10)):
            hits[name].append(max(places) < at_most)
        hits["MRR"].append(1 / (1 + min(places)))
    return {name: round(100 * float(np.mean(values)), 1) for name, values in hits.items()}


def left_out(cases: Sequence[Case], prior: Row, pull: float, off: Iterable[str] = ()) -> dict[str, Row]:
    """For each repository the weights fitted on all the others."""
    off = tuple(off)
    return {
        name: fit([one for one in cases if one.repository != name], prior, pull, off)
        for name in sorted({one.repository for one in cases})
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Fit the ranking's weights.")
    parser.add_argument("queries", nargs="+", type=Path)
    parser.add_argument("--mirrors", required=True, type=Path)
    parser.add_argument("--model", required=True, type=Path)
    parser.add_argument("--cache", required=True, type=Path)
    parser.add_argument("--pull", type=float, default=0.01)
    options = parser.parse_args(arguments)
    asked = [
        _asked(json.loads(line))
        for file in options.queries
        for line in file.read_text("utf-8").splitlines()
        if line
    ]
    refused = sorted({one.repository for one in asked if ruled_out(one.repository)})
    if refused:
        parser.error(f"ruled out for training: {', '.join(refused)}")
    cases = _cases(asked, options.mirrors, Vectors(options.cache, _encoder(options.model)))
    prior = np.array([WEIGHTS.file.get(name, 0.0) for name in NAMES])
    found = {
        "cases": len(cases),
        "as they are": accuracy(cases, dict.fromkeys({one.repository for one in cases}, prior)),
        "fitted on the others": accuracy(cases, left_out(cases, prior, options.pull)),
        **{
            f"without {part}": accuracy(cases, left_out(cases, prior, options.pull, off))
            for part, off in PARTS.items()
        },
        "weights": dict(zip(NAMES, np.round(fit(cases, prior, options.pull), 2).tolist(), strict=True)),
    }
    json.dump(found, sys.stdout, indent=1)
    return 0


def _asked(row: Mapping[str, Any]) -> Asked:
    return Asked(
        row["repo"], row["base_commit"], row["query"], tuple(row["gold_files"]), float(row.get("weight", 1.0))
    )


def _cases(asked: Sequence[Asked], mirrors: Path, vectors: Vectors) -> list[Case]:
    """In the order of their trees, each of which is read once."""
    out: list[Case] = []
    tree: tuple[str, str, Snapshot] | None = None
    for one in sorted(asked, key=lambda one: (one.repository, one.base)):
        if tree is None or tree[:2] != (one.repository, one.base):
            bare = mirrors / one.repository.replace("/", "+") / "repo"
            git = Repository(bare / ".git" if (bare / ".git").is_dir() else bare)
            tree = (one.repository, one.base, Snapshot(git, one.base, vectors))
            print(f"{one.repository} {one.base[:10]} ({len(out)} of {len(asked)})", file=sys.stderr)
        out.append(case(one, tree[2], vectors))
    return out


def _encoder(folder: Path) -> Encode:
    from sentence_transformers import SentenceTransformer  # noqa: PLC0415

    model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    return lambda texts: model.encode(texts, normalize_embeddings=True, show_progress_bar=False)


if __name__ == "__main__":
    sys.exit(main())
