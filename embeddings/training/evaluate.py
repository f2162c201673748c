"""Measures weights on repositories that training never met: is the code that a commit changed found by what the commit says?

Each query looks for its passage among passages of the same repository. What the same commit changed besides, and other
versions of the same function, are neither right nor wrong: they are left out of the ranking.

    python -m embeddings.training.evaluate --pairs DIR --base DIR --tuned FILE --factors 0,0.5,0.7,1
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from embeddings.training import pairs as mined
from embeddings.training.average import average
from embeddings.training.bert import Shape, means, shape_of, weights_of
from embeddings.training.train import micro_batches

if TYPE_CHECKING:
    import torch

MICRO_TOKENS = 4096


@dataclass(frozen=True, slots=True)
class Sample:
    """Of one repository: pairs to ask, and the texts among which each pair's positive is looked for."""

    data: mined.Pairs
    asked: tuple[mined.Pair, ...]
    pool: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Figures:
    """Means over repositories, each counting alike, in percent. `file`: the first file is the right one, a file being as
    near as its nearest passage."""

    queries: int
    mrr: float
    at_1: float
    at_5: float
    at_10: float
    file_at_1: float
    file_at_5: float


def sample(data: Sequence[mined.Pairs], queries: int, passages: int, seed: int) -> list[Sample]:
    """At most so many queries and passages of each repository, the same for the same arguments."""
    out = []
    for each in data:
        draw = np.random.default_rng([seed, len(each.pairs)])
        order = draw.permutation(len(each.pairs))
        asked = [each.pairs[index] for index in order[:queries]]
        pool = dict.fromkeys(pair.positive for pair in asked)
        for index in order:
            for text in (each.pairs[index].positive, each.pairs[index].negative):
                if len(pool) < passages:
                    pool.setdefault(text)
        if asked:
            out.append(Sample(each, tuple(asked), tuple(pool)))
    return out


def ranks(
    chosen: Sample, queries: NDArray[np.float32], passages: NDArray[np.float32]
) -> list[tuple[int, int]]:
    """For each query the rank of its passage and of its file, from 1."""
    data = chosen.data
    places = {text: place for place, text in enumerate(chosen.pool)}
    scores = queries @ passages.T
    out = []
    for row, pair in zip(scores, chosen.asked, strict=True):
        own = places[pair.positive]
        aside = [not pair.related.isdisjoint(data.marks[text]) for text in chosen.pool]
        others = np.where(aside, -np.inf, row)
        others[own] = -np.inf
        best: dict[str, float] = {}
        for text, score in zip(chosen.pool, others, strict=True):
            best[data.paths[text]] = max(best.get(data.paths[text], -np.inf), float(score))
        right = max(best.pop(data.paths[pair.positive]), float(row[own]))
        passage_rank = 1 + int((others > row[own]).sum())
        out.append((passage_rank, 1 + sum(score > right for score in best.values())))
    return out


def figures(each: Sequence[Sequence[tuple[int, int]]]) -> Figures:
    """Of the ranks in each repository."""

    def mean(measure: int, within: int | None) -> float:
        parts = []
        for ranked in each:
            own = np.array([rank[measure] for rank in ranked], dtype=np.float64)
            parts.append(float(np.mean(1 / own if within is None else own <= within)))
        return round(100 * float(np.mean(parts)), 2)

    return Figures(
        queries=sum(len(ranked) for ranked in each),
        mrr=mean(0, None),
        at_1=mean(0, 1),
        at_5=mean(0, 5),
        at_10=mean(0, 10),
        file_at_1=mean(1, 1),
        file_at_5=mean(1, 5),
    )


def measure(
    samples: Sequence[Sample],
    weights: Mapping[str, torch.Tensor],
    shape: Shape,
    *,
    threads: int,
    device: str = "cpu",
    query_tokens: int = 192,
    code_tokens: int = mined.LONGEST,
) -> tuple[Figures, dict[str, Figures]]:
    """All together, and by repository."""
    import torch  # noqa: PLC0415

    ready = {name: weight.to(device, torch.bfloat16) for name, weight in weights.items()}
    found: dict[str, list[tuple[int, int]]] = {}
    for chosen in samples:
        texts = chosen.data.texts
        asked = [texts.cut(pair.query, query_tokens) for pair in chosen.asked]
        pool = [texts.cut(text, code_tokens) for text in chosen.pool]
        vectors = _vectors([*asked, *pool], ready, shape, threads, device)
        found[chosen.data.repository] = ranks(chosen, vectors[: len(asked)], vectors[len(asked) :])
    return figures(list(found.values())), {name: figures([ranked]) for name, ranked in found.items()}


def _vectors(
    texts: Sequence[NDArray[np.int32]],
    weights: Mapping[str, torch.Tensor],
    shape: Shape,
    threads: int,
    device: str,
) -> NDArray[np.float32]:
    import torch  # noqa: PLC0415

    out = np.empty((len(texts), shape.hidden), dtype=np.float32)

    def fill(share: Sequence[Sequence[int]]) -> None:
        for micro in share:
            lengths = [len(texts[index]) for index in micro]
            block = torch.zeros(len(micro), max(lengths), dtype=torch.int64)
            for row, index in enumerate(micro):
                block[row, : lengths[row]] = torch.from_numpy(texts[index].astype(np.int64))
            with torch.inference_mode():
                got = means(weights, shape, block.to(device), torch.tensor(lengths, device=device))
            out[list(micro)] = got.cpu().numpy()

    shares = micro_batches([len(text) for text in texts], MICRO_TOKENS, threads)
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        list(pool.map(fill, shares))
    return out


def _table(rows: Sequence[tuple[str, Figures]]) -> str:
    head = "| weights | n | MRR | @1 | @5 | @10 | file @1 | file @5 |\n|---|---|---|---|---|---|---|---|\n"
    return head + "\n".join(
        f"| {name} | {row.queries} | {row.mrr:.1f} | {row.at_1:.1f} | {row.at_5:.1f} | {row.at_10:.1f} | "
        f"{row.file_at_1:.1f} | {row.file_at_5:.1f} |"
        for name, row in rows
    )


def main(arguments: Sequence[str] | None = None) -> int:
    import torch  # noqa: PLC0415
    from tokenizers import Tokenizer  # noqa: PLC0415

    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument(
        "--pairs", type=Path, required=True, help="validation pairs, repositories training never met"
    )
    parser.add_argument("--base", type=Path, required=True, help="model folder that training started from")
    parser.add_argument(
        "--tuned", type=Path, action="append", default=[], help="weights to mix into the base"
    )
    parser.add_argument("--factors", default="0.5,0.7,1", help="shares of the tuned weights")
    parser.add_argument("--cache", type=Path, help="keeps token numbers between runs")
    parser.add_argument("--queries", type=int, default=100, help="of each repository")
    parser.add_argument("--passages", type=int, default=500, help="of each repository")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--json", action="store_true")
    told = parser.parse_args(arguments)
    data = mined.read(told.pairs, Tokenizer.from_file(str(told.base / "tokenizer.json")), told.cache)
    samples = sample(data, told.queries, told.passages, told.seed)
    base, shape = weights_of(told.base), shape_of(told.base)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    rows: list[tuple[str, Figures]] = []
    by_repository: dict[str, dict[str, Figures]] = {}
    variants = [("original", base)]
    for file in told.tuned:
        tuned = weights_of(file)
        variants += [
            (f"{file.stem} × {factor}", average(base, tuned, float(factor)))
            for factor in told.factors.split(",")
        ]
    for name, weights in variants:
        print(f"{name} …", file=sys.stderr, flush=True)
        whole, parts = measure(samples, weights, shape, threads=told.threads, device=device)
        rows.append((name, whole))
        by_repository[name] = parts
    if told.json:
        print(json.dumps({
            "all": {name: asdict(row) for name, row in rows},
            "repositories": {
                name: {each: asdict(row) for each, row in parts.items()} for name, parts in by_repository.items()
            },
        }, indent=2))  # fmt: skip
    else:
        print(_table(rows))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
