"""From ranked files and functions to figures: which are right, how often, and whether a difference is more than chance.

Pure functions over what has been ranked already; nothing here reads a repository.
"""

from __future__ import annotations

import gzip
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

FILE_KS = (1, 3, 5, 10)
FUNCTION_KS = (5, 10)
FUSION = 60  # Cormack, Clarke and Buettcher, 2009: the constant of reciprocal-rank fusion

_TEST_NAME = re.compile(r"test_.*\.py|.*_test\.py|conftest\.py|tests\.py")
_TEST_ROOTS = ("test", "testing", "testsuite")


@dataclass(frozen=True, slots=True)
class Question:
    """What a ranker is given of an instance. What is right is not part of it."""

    id: str
    repo: str
    base_commit: str
    text: str


@dataclass(frozen=True, slots=True)
class Gold:
    """What is right. `functions` are `path:Class.method`."""

    files: frozenset[str]
    functions: frozenset[str]


@dataclass(frozen=True, slots=True)
class Ranking:
    """Candidate files, and functions as `path:Class.method`, best first, none twice."""

    files: tuple[str, ...]
    functions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One instance: the rank (from 1) of the first and of the last gold file, the share of gold files among the first
    ten, and the rank of the last gold function. None where one was not ranked; `has_functions` says whether any is gold."""

    first: int | None
    last: int | None
    recall_10: float
    last_function: int | None
    has_functions: bool


def read_instances(path: Path) -> tuple[list[Question], dict[str, Gold]]:
    """Questions and, apart from them by id, what is right. `.jsonl` or `.jsonl.gz`; raises OSError, ValueError, KeyError."""
    raw = path.read_bytes()
    text = (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode("utf-8")
    questions, gold = [], {}
    for line in text.split("\n"):
        if not line.strip():
            continue
        row = json.loads(line)
        questions.append(Question(row["id"], row["repo"], row["base_commit"], row["query"]))
        gold[row["id"]] = Gold(frozenset(row["gold_files"]), frozenset(row.get("gold_functions") or ()))
    return questions, gold


def is_candidate(path: str) -> bool:
    """A `.py` file that is no test: not below a `tests/` directory, nor a top-level `test/`, `testing/` or `testsuite/`,
    and not named like a test."""
    pure = PurePosixPath(path)
    if pure.suffix != ".py" or _TEST_NAME.fullmatch(pure.name):
        return False
    return "tests" not in pure.parts[:-1] and (len(pure.parts) == 1 or pure.parts[0] not in _TEST_ROOTS)


def some_of(questions: Sequence[Question], limit: int | None) -> list[Question]:
    """`limit` of them, each repository in proportion (largest remainders) and spread over its questions; the same
    ones each time."""
    if limit is None or limit >= len(questions):
        return list(questions)
    by_repo: dict[str, list[Question]] = {}
    for question in questions:
        by_repo.setdefault(question.repo, []).append(question)
    shares = {repo: limit * len(held) / len(questions) for repo, held in by_repo.items()}
    taken = {repo: math.floor(share) for repo, share in shares.items()}
    by_remainder = sorted(shares, key=lambda repo: (taken[repo] - shares[repo], repo))
    for repo in by_remainder[: limit - sum(taken.values())]:
        taken[repo] += 1
    chosen = {
        held[int((number + 0.5) * len(held) / taken[repo])].id
        for repo, held in by_repo.items()
        for number in range(taken[repo])
    }
    return [question for question in questions if question.id in chosen]


def outcome(gold: Gold, ranking: Ranking) -> Outcome:
    places = {path: rank for rank, path in enumerate(ranking.files, 1)}
    ranks = [places.get(path) for path in gold.files]
    found = [rank for rank in ranks if rank is not None]
    near = sum(rank <= 10 for rank in found)
    functions = {name: rank for rank, name in enumerate(ranking.functions, 1)}
    last_function = _last(functions.get(name) for name in gold.functions)
    return Outcome(
        min(found, default=None), _last(ranks), near / len(ranks) if ranks else 0.0, last_function, bool(gold.functions)
    )  # fmt: skip


def _last(ranks: Iterable[int | None]) -> int | None:
    """None when one is missing: strict."""
    known = list(ranks)
    present = [rank for rank in known if rank is not None]
    return max(present) if present and len(present) == len(known) else None


def within(rank: int | None, k: int) -> bool:
    return rank is not None and rank <= k


def summary(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """Percentages over the instances; `functions_n` of them have gold functions."""
    out: dict[str, float] = {"n": len(outcomes)}
    for k in FILE_KS:
        out[f"file@{k}"] = _percent([within(one.last, k) for one in outcomes])
    out["recall@10"] = _percent([one.recall_10 for one in outcomes])
    out["mrr"] = _percent([1 / one.first if one.first else 0.0 for one in outcomes])
    with_functions = [one for one in outcomes if one.has_functions]
    out["functions_n"] = len(with_functions)
    for k in FUNCTION_KS:
        out[f"function@{k}"] = _percent([within(one.last_function, k) for one in with_functions])
    return out


def _percent(values: Sequence[float]) -> float:
    return 100 * math.fsum(values) / len(values) if values else 0.0


def fused(rankings: Sequence[Ranking]) -> Ranking:
    """Reciprocal-rank fusion with equal weights; what a ranking does not hold gets nothing from it."""

    def fuse(lists: Sequence[Sequence[str]]) -> tuple[str, ...]:
        scores: dict[str, float] = {}
        for ranked in lists:
            for rank, name in enumerate(ranked, 1):
                scores[name] = scores.get(name, 0.0) + 1 / (FUSION + rank)
        return tuple(sorted(scores, key=lambda name: (-scores[name], name)))

    return Ranking(fuse([one.files for one in rankings]), fuse([one.functions for one in rankings]))


@dataclass(frozen=True, slots=True)
class Paired:
    """The same instances by two methods: right by the first alone, by the second alone, and the two-sided exact
    probability of so uneven a split if neither were better (McNemar's test)."""

    first_only: int
    second_only: int
    p: float


def paired(first: Sequence[bool], second: Sequence[bool]) -> Paired:
    """Raises ValueError for sequences of different lengths."""
    one = sum(a and not b for a, b in zip(first, second, strict=True))
    other = sum(b and not a for a, b in zip(first, second, strict=True))
    count = one + other
    tail = sum(math.comb(count, kept) for kept in range(min(one, other) + 1))
    return Paired(one, other, min(1.0, 2 * tail / 2**count))


def compared(first: Mapping[str, Outcome], second: Mapping[str, Outcome]) -> dict[str, Paired]:
    """For each strict measure, over the instances that both have."""
    shared = sorted(first.keys() & second.keys())
    out = {
        f"file@{k}": paired([within(first[i].last, k) for i in shared], [within(second[i].last, k) for i in shared])
        for k in FILE_KS
    }  # fmt: skip
    told = [i for i in shared if first[i].has_functions]
    for k in FUNCTION_KS:
        out[f"function@{k}"] = paired(
            [within(first[i].last_function, k) for i in told], [within(second[i].last_function, k) for i in told]
        )  # fmt: skip
    return out
