"""From an issue's text to the files and functions that its fix touches: how often the product is right, next to BM25
and a plain sentence model over fixed windows, on the same instances in the same run.

    python tests/bench/localization.py INSTANCES --repos DIR [--limit N] [--json] [--cache DIR]
        [--only baseline|bm25|windows|product] [--model NAME_OR_FOLDER] [--without PART ...] [--each-without] [--index WHAT]

INSTANCES is .jsonl or .jsonl.gz, one object a line: `id`, `repo` (owner/name), `base_commit`, `query`, `gold_files`,
`gold_functions` (`path:Class.method`). DIR holds the repositories, bare or not, as owner/name, owner+name or owner__name.

Each tree is read from git's objects at its base commit. The rankers are given the question and the tree and never the
gold; a ranking is scored when it is there. Candidates are the non-test `.py` files.
File Acc@k is strict: all gold files within the first k. Instances without gold functions do not count in function Acc@k.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from baselines import WINDOW_LINES, Texts, Windows, by_words
from product import PRODUCT, Cost, Product
from scoring import (
    FILE_KS,
    FUNCTION_KS,
    Outcome,
    Question,
    Ranking,
    compared,
    fused,
    is_candidate,
    outcome,
    read_instances,
    some_of,
    summary,
)  # fmt: skip
from trees import GitRepository, find
from vectors import CachedEncoder, identity

from embeddings.rank import PARTS
from embeddings.shipped import SHIPPED
from infra.encoder import BundledEncoder

PLAIN = "all-MiniLM-L6-v2"
WORDS, WINDOWS, BOTH = "bm25", "windows", "bm25+windows"


@dataclass(slots=True)
class Run:
    """What was measured: rankings by method and instance, then outcomes; costs by instance."""

    outcomes: dict[str, dict[str, Outcome]] = field(default_factory=lambda: defaultdict(dict))
    costs: dict[str, Cost] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)


class Progress:
    """One line of standard error at a time: where the run is and what is left."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._done = 0
        self._began = time.monotonic()
        self._doing = ""
        self._told = 0.0

    def doing(self, what: str) -> None:
        self._doing = what
        self._tell("")

    def encoding(self, done: int, all_of_them: int) -> None:
        if time.monotonic() - self._told > 5:
            self._tell(f", {done:,} of {all_of_them:,} texts encoded")

    def step(self) -> None:
        self._done += 1

    def _tell(self, more: str) -> None:
        self._told = time.monotonic()
        spent = self._told - self._began
        left = f"{spent / self._done * (self._steps - self._done) / 60:.1f} min left" if self._done else "…"
        print(f"[{self._done}/{self._steps}] {left}: {self._doing}{more}", file=sys.stderr, flush=True)


async def measure(
    questions: Sequence[Question],
    repos: Path,
    run: Run,
    score: Callable[[str, Question, Ranking], None],
    *,
    plain: CachedEncoder | None,
    product: CachedEncoder | None,
    variants: Mapping[str, Sequence[str]],
    indexed: str,
    words: bool,
) -> None:
    by_repo: dict[str, list[Question]] = defaultdict(list)
    for question in questions:
        by_repo[question.repo].append(question)
    progress = Progress(len(questions) * ((product is not None) + (words or plain is not None)))
    for encoder in (plain, product):
        if encoder is not None:
            encoder.told = progress.encoding
    for repo, held in by_repo.items():
        git_dir = next((place for one in held if (place := find(repos, repo, one.base_commit))), None)
        repository = GitRepository(git_dir) if git_dir is not None else None
        here = [one for one in held if repository is not None and repository.has(one.base_commit)]
        lacking = [one.id for one in held if one not in here]
        if lacking:
            why = "its base commit is not there" if git_dir else f"no repository below {repos.name}/"
            print(f"left out, {why}: {repo}: {', '.join(lacking)}", file=sys.stderr)
            run.missing.extend(lacking)
        if repository is None or not here:
            continue
        here.sort(key=lambda one: (repository.time_of(one.base_commit), one.id))
        try:
            if product is not None:
                await _by_product(here, repository, run, score, progress, Product(product, variants, indexed))
            if words or plain is not None:
                _by_baselines(here, repository, score, progress, plain, words)
        finally:
            repository.close()


async def _by_product(
    questions: Sequence[Question],
    repository: GitRepository,
    run: Run,
    score: Callable[[str, Question, Ranking], None],
    progress: Progress,
    product: Product,
) -> None:
    try:
        for question in questions:
            progress.doing(f"{question.id}, product")
            rankings, run.costs[question.id] = await product.rank(
                question, repository, repository.tree(question.base_commit)
            )
            for name, ranking in rankings.items():
                score(name, question, ranking)
            progress.step()
    finally:
        await product.close()


def _by_baselines(
    questions: Sequence[Question],
    repository: GitRepository,
    score: Callable[[str, Question, Ranking], None],
    progress: Progress,
    plain: CachedEncoder | None,
    words: bool,
) -> None:
    texts, near = Texts(), Windows(plain.encode) if plain is not None else None
    for question in questions:
        progress.doing(f"{question.id}, baselines")
        tree = repository.tree(question.base_commit)
        candidates = [blob for blob in tree.entries() if is_candidate(blob.path)]
        rankings = {}
        if words:
            rankings[WORDS] = by_words(texts, question, tree, candidates)
        if near is not None:
            rankings[WINDOWS] = near.rank(question, tree, candidates)
        if len(rankings) == 2:
            rankings[BOTH] = fused(list(rankings.values()))
        for name, ranking in rankings.items():
            score(name, question, ranking)
        progress.step()


def document(run: Run, arguments: argparse.Namespace) -> dict[str, Any]:
    product = {name: held for name, held in run.outcomes.items() if name not in (WORDS, WINDOWS, BOTH)}
    costs = list(run.costs.values())
    return {
        "instances": len(set().union(*run.outcomes.values())) if run.outcomes else 0,
        "missing": run.missing,
        "model": arguments.model,
        "without": arguments.without,
        "indexed": arguments.index,
        "windows": f"{PLAIN}, {WINDOW_LINES} lines",
        "methods": {name: summary(list(held.values())) for name, held in run.outcomes.items()},
        "paired": {
            name: {
                other: {
                    measure: asdict(pair) for measure, pair in compared(held, run.outcomes[other]).items()
                }
                for other in (WORDS, WINDOWS, BOTH, PRODUCT)
                if other in run.outcomes and other != name
            }
            for name, held in product.items()
        },
        "cost": {
            "update_seconds": _mean([one.update_seconds for one in costs]),
            "encoding_seconds": _mean([one.encoding_seconds for one in costs]),
            "search_seconds": _mean([one.search_seconds for one in costs]),
            "peak_bytes_mean": _mean([one.peak_bytes for one in costs]),
            "peak_bytes_most": max((one.peak_bytes for one in costs), default=0),
        },
        "outcomes": {
            name: {one: asdict(result) for one, result in held.items()} for name, held in run.outcomes.items()
        },
        "costs": {one: asdict(cost) for one, cost in run.costs.items()},
    }


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def table(told: Mapping[str, Any]) -> str:
    lines = [
        f"n = {told['instances']}" + (f", left out {len(told['missing'])}" if told["missing"] else "")
        + f"; product's model {told['model']}, indexed: {told['indexed']}; windows: {told['windows']}",
        f"{'method':24}" + "".join(f"{name:>9}" for name in _COLUMNS) + "   functions n",
    ]  # fmt: skip
    for name, figures in told["methods"].items():
        shown = "".join(f"{figures[column]:9.1f}" for column in _COLUMNS)
        lines.append(f"{name:24}{shown}   {figures['functions_n']}")
    for name, others in told["paired"].items():
        for other, pairs in others.items():
            shown = ", ".join(
                f"{measure} +{pair['first_only']} -{pair['second_only']} p {pair['p']:.2g}"
                for measure, pair in pairs.items()
            )
            lines.append(f"{name} against {other}, paired: {shown}")
    cost = told["cost"]
    if told["costs"]:
        lines.append(
            f"seconds an instance: update {cost['update_seconds']:.2f} (in the model {cost['encoding_seconds']:.2f}, "
            f"the rest from the cache), search {cost['search_seconds']:.2f}; "
            f"peak memory: mean {cost['peak_bytes_mean'] / 2**20:.0f} MiB, most {cost['peak_bytes_most'] / 2**20:.0f} MiB"
        )
    return "\n".join(lines)


_COLUMNS = [*(f"file@{k}" for k in FILE_KS), "recall@10", "mrr", *(f"function@{k}" for k in FUNCTION_KS)]


def _arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("instances", type=Path)
    parser.add_argument("--repos", type=Path, required=True, help="the folder that holds the repositories")
    parser.add_argument("--limit", type=int, help="so many instances, each repository in proportion")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    parser.add_argument(
        "--cache", type=Path, help="keeps vectors there, so that a second run encodes nothing twice"
    )
    parser.add_argument("--only", choices=["baseline", "bm25", "windows", "product"])
    parser.add_argument("--model", default=next(iter(SHIPPED)), help="the product's; a name or a folder")
    parser.add_argument("--index", choices=["candidates", "python", "all"], default="candidates",
                        help="which files the product is shown: candidates, all Python files, everything")  # fmt: skip
    parser.add_argument("--without", nargs="+", default=[], choices=list(PARTS), metavar="PART",
                        help=f"switches parts of the ranking off: {', '.join(PARTS)}")  # fmt: skip
    parser.add_argument(
        "--each-without", action="store_true", help="also ranks without each part, one after the other"
    )
    return parser.parse_args(given)


def main(given: Sequence[str] | None = None) -> int:
    arguments = _arguments(given)
    try:
        questions, gold = read_instances(arguments.instances)
    except (OSError, ValueError, KeyError) as error:
        print(f"{arguments.instances.name} cannot be read as instances: {error!r}", file=sys.stderr)
        return 2
    plain = product = None
    if arguments.only in (None, "baseline", "windows"):
        plain = CachedEncoder(BundledEncoder(PLAIN), PLAIN, arguments.cache)
    if arguments.only in (None, "product"):
        encoder = BundledEncoder(arguments.model, shipped=SHIPPED)
        known_as = identity(SHIPPED.get(arguments.model, arguments.model))
        product = CachedEncoder(encoder, known_as, arguments.cache)
    variants: dict[str, Sequence[str]] = {PRODUCT: arguments.without}
    if arguments.each_without:
        variants |= {
            f"without {part}": [*arguments.without, part] for part in PARTS if part not in arguments.without
        }
    run = Run()

    def score(method: str, question: Question, ranking: Ranking) -> None:
        run.outcomes[method][question.id] = outcome(gold[question.id], ranking)

    try:
        asyncio.run(
            measure(
                some_of(questions, arguments.limit), arguments.repos, run, score,
                plain=plain, product=product, variants=variants, indexed=arguments.index,
                words=arguments.only not in ("product", "windows"),
            )
        )  # fmt: skip
    except KeyboardInterrupt:
        print("interrupted: the figures are of what was measured until now", file=sys.stderr)
    told = document(run, arguments)
    print(json.dumps(told, indent=1) if arguments.json else table(told))
    return 0 if run.outcomes else 1


if __name__ == "__main__":
    sys.exit(main())
