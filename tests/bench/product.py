"""The product as production runs it: an index brought from one tree of a repository to the next, and searched.

It is shown questions and trees, and never what is right.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

from baselines import functions_of
from scoring import Question, Ranking, is_candidate
from trees import Blob, GitRepository, GitTree
from vectors import CachedEncoder

from embeddings import index, search
from embeddings.collection import Shelf
from embeddings.history import COMMITS
from embeddings.protect import Protection
from embeddings.rank import WEIGHTS
from embeddings.search import Asked
from infra.qdrant import QdrantPoints

PRODUCT = "product"
PLACES = 400
"""So many places are asked of the product, enough for more than ten different files."""
_KEY = bytes(range(32))


@dataclass(slots=True)
class Cost:
    """Seconds and bytes of one instance by the product."""

    update_seconds: float
    encoding_seconds: float
    search_seconds: float
    chunks: int
    peak_bytes: int


class Product:
    """The product over one repository's trees, one after the other: each updates the index that the last one left."""

    def __init__(self, encoder: CachedEncoder, variants: Mapping[str, Sequence[str]], indexed: str) -> None:
        """`variants` say which parts of the ranking are off. Raises KeyError for a part that there is not."""
        self._encoder = encoder
        self._weights = {
            name: reduce(lambda weights, part: weights.without(part), off, WEIGHTS)
            for name, off in variants.items()
        }
        self._indexed = indexed
        self._points = QdrantPoints()
        self._shelf = Shelf(self._points, encoder, Protection(_KEY, 1), 1)
        self._asked = Asked()
        self._functions: dict[str, frozenset[str]] = {}

    async def rank(
        self, question: Question, repository: GitRepository, tree: GitTree
    ) -> tuple[dict[str, Ranking], Cost]:
        shown = tree.only([blob for blob in tree.entries() if _is_indexed(blob, self._indexed)])
        history = repository.history(question.base_commit)
        history.changed(COMMITS)
        _reset_peak()
        in_model, began = self._encoder.seconds, time.monotonic()
        report = await index.update(self._shelf, shown, prune=True)
        encoding, updated = self._encoder.seconds - in_model, time.monotonic()
        rankings: dict[str, Ranking] = {}
        searched, peak = updated, 0
        evidence = await search.gathered(self._shelf, shown, question.text, asked=self._asked)
        for name, weights in self._weights.items():
            found = await asyncio.to_thread(search.places, evidence, PLACES, history=history, weights=weights)
            if not rankings:
                searched, peak = time.monotonic(), _peak()
            rankings[name] = self._ranking(tree, [(one.path, one.symbol) for one in found])
        return rankings, Cost(updated - began, encoding, searched - updated, report.chunks, peak)

    async def close(self) -> None:
        await self._points.close()

    def _ranking(self, tree: GitTree, places: Sequence[tuple[str, str]]) -> Ranking:
        """Candidate files and, of their symbols, those that are functions, in the product's order."""
        kept = [(path, symbol) for path, symbol in places if is_candidate(path)]
        functions = dict.fromkeys(
            f"{path}:{symbol}" for path, symbol in kept if symbol in self._functions_in(tree, path)
        )
        return Ranking(tuple(dict.fromkeys(path for path, _ in kept)), tuple(functions))

    def _functions_in(self, tree: GitTree, path: str) -> frozenset[str]:
        sha = tree.sha(path)
        if sha not in self._functions:
            self._functions[sha] = frozenset(one.name for one in functions_of(tree.read(path)))
        return self._functions[sha]


def _is_indexed(blob: Blob, what: str) -> bool:
    return what == "all" or (blob.path.endswith(".py") if what == "python" else is_candidate(blob.path))


def _reset_peak() -> None:
    """Linux keeps the most memory that a process had until it is told to begin anew (proc(5), clear_refs)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def _peak() -> int:
    for line in Path("/proc/self/status").read_text().split("\n"):
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) << 10
    return 0
