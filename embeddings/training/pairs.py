"""Mined pairs as token numbers, read once and kept beside the data; and the order in which training meets them.

A batch holds pairs of one repository: what else stands in the same project is what retrieval has to tell apart.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tokenizers import Tokenizer

LONGEST = 256
"""Tokens kept of a text at most; each use may cut shorter."""

_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Texts:
    """Token numbers of many texts, one after the other, each with its first and last special token."""

    ids: NDArray[np.int32]
    ends: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.ends)

    def cut(self, index: int, longest: int) -> NDArray[np.int32]:
        """At most `longest` tokens; the last one stays the last."""
        start = int(self.ends[index - 1]) if index else 0
        text = self.ids[start : int(self.ends[index])]
        if len(text) <= longest:
            return text
        return np.concatenate([text[: longest - 1], text[-1:]])


@dataclass(frozen=True, slots=True)
class Pair:
    """Numbers into `Texts`. `related`: heads and digests of all positives of the same commit, none of which is a negative."""

    query: int
    positive: int
    negative: int
    related: frozenset[str]


@dataclass(frozen=True, slots=True)
class Pairs:
    """One repository's pairs. `marks`: for each text what it is known by in `Pair.related`; `paths`: where it is from."""

    repository: str
    texts: Texts
    pairs: tuple[Pair, ...]
    marks: tuple[frozenset[str], ...]
    paths: tuple[str, ...]


def read(folder: Path, tokenizer: Tokenizer, cache: Path | None) -> list[Pairs]:
    """All `*.jsonl` and `*.jsonl.gz` of a folder, by name. Raises OSError, and ValueError for a line that is no pair."""
    files = sorted([*folder.glob("*.jsonl"), *folder.glob("*.jsonl.gz")])
    return [_repository(file, tokenizer, cache) for file in files]


def _repository(file: Path, tokenizer: Tokenizer, cache: Path | None) -> Pairs:
    rows = _rows(file)
    texts: dict[str, int] = {}
    for row in rows:
        for part in ("query", "positive", "negative"):
            texts.setdefault(row[part], len(texts))
    known: dict[str, set[str]] = {}
    for row in rows:
        related = known.setdefault(row["sha"], set())
        related.update(row["positives_of_commit"], _marks(row["positive"]))
    pairs = tuple(
        Pair(
            texts[row["query"]], texts[row["positive"]], texts[row["negative"]], frozenset(known[row["sha"]])
        )
        for row in rows
    )
    return Pairs(
        repository=rows[0]["repo"] if rows else file.name,
        texts=_tokens(list(texts), tokenizer, cache),
        pairs=pairs,
        marks=tuple(frozenset(_marks(text)) for text in texts),
        paths=tuple(text.split("\n", 1)[0].split(" ", 1)[0] for text in texts),
    )


def _rows(file: Path) -> list[dict[str, Any]]:
    content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    return [json.loads(line) for line in content.splitlines()]


def _marks(passage: str) -> tuple[str, str]:
    """The digest that mining writes, and the first line: an older version of the same function is no negative either."""
    digest = hashlib.sha256(passage.encode("utf-8", "replace")).hexdigest()[:12]
    return digest, passage.split("\n", 1)[0]


def _tokens(texts: Sequence[str], tokenizer: Tokenizer, cache: Path | None) -> Texts:
    key = hashlib.sha256(f"{_FORMAT} {LONGEST} {tokenizer.get_vocab_size()}".encode())
    for text in texts:
        key.update(hashlib.sha256(text.encode("utf-8", "replace")).digest())
    kept = cache / f"{key.hexdigest()[:24]}.npz" if cache else None
    if kept and kept.exists():
        with np.load(kept) as arrays:
            return Texts(arrays["ids"], arrays["ends"])
    tokenizer.no_padding()
    tokenizer.enable_truncation(LONGEST)
    encoded = [encoding.ids for encoding in tokenizer.encode_batch(list(texts))] if texts else []
    lengths = np.array([len(ids) for ids in encoded], dtype=np.int64)
    ids = np.fromiter(
        (number for each in encoded for number in each), dtype=np.int32, count=int(lengths.sum())
    )
    out = Texts(ids, np.cumsum(lengths))
    if kept:
        kept.parent.mkdir(parents=True, exist_ok=True)
        partial = kept.with_suffix(".partial.npz")
        np.savez(partial, ids=out.ids, ends=out.ends)
        partial.rename(kept)
    return out


def batches(data: Sequence[Pairs], size: int, seed: int) -> Iterator[tuple[Pairs, tuple[Pair, ...]]]:
    """Without end; each pass draws anew what goes together and what comes first. A repository's rest of less than half a
    batch waits for the next pass."""
    turn = 0
    while True:
        draw = np.random.default_rng([seed, turn])
        cut: list[tuple[Pairs, tuple[Pair, ...]]] = []
        for each in data:
            order = draw.permutation(len(each.pairs))
            for start in range(0, len(order), size):
                chosen = order[start : start + size]
                if 2 * len(chosen) >= size:
                    cut.append((each, tuple(each.pairs[index] for index in chosen)))
        if not cut:
            raise ValueError("no repository has half a batch of pairs")
        for index in draw.permutation(len(cut)):
            yield cut[index]
        turn += 1


def batches_in_a_pass(data: Sequence[Pairs], size: int) -> int:
    return sum(len(each.pairs) // size + (2 * (len(each.pairs) % size) >= size) for each in data)


def forbidden(data: Pairs, chosen: Sequence[Pair], candidates: Sequence[int]) -> NDArray[np.bool_]:
    """(pairs, candidates): which candidate may not count as a negative for which pair. The first `len(chosen)` candidates
    are the positives in order; a pair's own stays allowed."""
    out = np.zeros((len(chosen), len(candidates)), dtype=np.bool_)
    for row, pair in enumerate(chosen):
        for column, text in enumerate(candidates):
            out[row, column] = column != row and not pair.related.isdisjoint(data.marks[text])
    return out
