"""Makes training pairs of public histories: what a commit says, and the pieces of code that it then changed.

The pairs hold other people's code and words: they are written where the command line says and are never committed here.
Repositories on which this project is measured are refused (`ruled_out`).

    python -m embeddings.training.mine --repositories embeddings/training/repositories.json --mirrors DIR --out DIR
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import math
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from random import Random
from typing import Any

from embeddings.chunk import CODE, Chunk, chunk, passage
from embeddings.lexicon import terms
from embeddings.rules import left_out_by_name
from embeddings.training.git import Change, Commit, GitError, Hunk, Repository
from embeddings.training.queries import Message, message, query, quoted
from embeddings.training.ruled_out import ruled_out

PER_REPOSITORY = 600
MAX_COMMITS_READ = 20_000
MAX_SOURCES = 3
MAX_CHUNKS = 5
PAIRS_PER_COMMIT = 3
MAX_CHANGED_LINES = 150
MAX_FILES = 25
MAX_BYTES = 150_000
BATCH = 150
POOL_BESIDE = 6
NEAREST = 8
_NEWEST_OVER_OLDEST = 3.0
_TELLING = (
    2.0  # commits with a body, and those with tests, make the longer queries: so much likelier to be drawn
)

_TEST = re.compile(
    r"(^|/)(tests?|specs?|__tests__|test_?data|fixtures|testsuite|e2e|[\w-]*[-_.]tests?)(/|$)|(^|/)(test_[^/]*|conftest\.py|tests?\.\w+)$|"
    r"[_.-](tests?|spec)\.\w+$|(Tests?|Spec|TestCase)\.(java|kts?|scala|cs|swift|php|m)$",
)
_ASIDE = re.compile(
    r"(^|/)(docs?|docs_src|documentation|examples?|samples|demos?|benchmarks?|bench|asv_bench|_?vendor(ed)?|patched|extern(als?)?|third[-_]party|"
    r"\.github|locale|dist|scripts/release)(/|$)|(^|/)(setup|conf|versioneer|_version|__version__|version)\.py$",
    re.IGNORECASE,
)
_IDLE = re.compile(
    r"\s*($|#(?!\[|\s*(define|if))|//|/?\*|import\b|from\b.*\bimport\b|use\b.*;|using\b.*;|package\b|require\b|const \w+ = require|__version__|"
    r"version\b|[\W_]+$)"
)
_LANGUAGES = {
    "pyi": "py", "jsx": "js", "mjs": "js", "cjs": "js", "tsx": "ts", "mts": "ts", "cts": "ts", "kts": "kt", "h": "c", "cc": "cpp",
    "cxx": "cpp", "hh": "cpp", "hpp": "cpp", "hxx": "cpp", "exs": "ex", "bash": "sh", "zsh": "sh", "mm": "m",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Pair:
    """`positives_of_commit`: digests of all that the commit changed, none of which is a negative for its query."""

    repo: str
    sha: str
    lang: str
    path: str
    query: str
    positive: str
    negative: str
    positives_of_commit: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Mined:
    repository: str
    commit: str
    at_most: int
    pairs: int
    languages: dict[str, int]


@dataclass(frozen=True, slots=True)
class _Piece:
    """A chunk as it was at a commit. `order`: the commit's place in the history, newest first."""

    path: str
    symbol: str
    text: str
    order: int


@dataclass(slots=True)
class _Found:
    commit: Commit
    order: int
    told: Message
    positives: list[_Piece]
    beside: list[_Piece]
    tests: list[str] = field(default_factory=list)


def digest(positive: str) -> str:
    """By which a passage is known in `positives_of_commit`."""
    return hashlib.sha256(positive.encode("utf-8", "replace")).hexdigest()[:12]


def mine(repository: str, git: Repository, *, tip: str, at_most: int, seed: int) -> Iterator[Pair]:
    """At most so many pairs, the same for the same arguments.

    Raises ValueError for a ruled-out repository, and GitError.
    """
    if ruled_out(repository):
        raise ValueError(f"{repository} is ruled out: this project is measured on it")
    random = Random(f"{seed} {repository}")  # noqa: S311  # a draw that can be drawn again
    found = _found(git, tip, at_most, random)
    drafts = [(item, piece) for item in found for piece in item.positives[:PAIRS_PER_COMMIT]][:at_most]
    queries = [
        query(item.told, item.tests, [name for name in re.split(r"[.>: ]+", piece.symbol) if name], random)
        for item, piece in drafts
    ]
    negatives = _negatives(git, found, [item for item, _ in drafts], queries, random)
    for (item, piece), asked, negative in zip(drafts, queries, negatives, strict=True):
        if negative:
            marks = tuple(sorted({digest(positive.text) for positive in item.positives}))
            yield Pair(
                repository,
                item.commit.sha,
                language(piece.path),
                piece.path,
                asked,
                piece.text,
                negative,
                marks,
            )


def language(path: str) -> str:
    suffix = PurePosixPath(path).suffix.lower().lstrip(".")
    return _LANGUAGES.get(suffix, suffix)


# --- commits that qualify --------------------------------------------------------------------------------------------


def _found(git: Repository, tip: str, at_most: int, random: Random) -> list[_Found]:
    """Commits in a drawn order: newer and telling ones come earlier, more often than not, until there are enough pairs."""
    candidates: list[tuple[float, int, Commit, Message]] = []
    seen: set[str] = set()
    commits = list(git.commits(tip, MAX_COMMITS_READ))
    for order, commit in enumerate(commits):
        told = message(commit.subject, commit.body)
        if told is None or told.subject in seen or not _changes_few_sources(commit):
            continue
        seen.add(told.subject)
        weight = _NEWEST_OVER_OLDEST + (1 - _NEWEST_OVER_OLDEST) * order / len(commits)
        weight *= _TELLING if told.body else 1.0
        weight *= _TELLING if any(_TEST.search(change.path) for change in commit.changes) else 1.0
        candidates.append((random.random() ** (1 / weight), order, commit, told))
    candidates.sort(key=lambda candidate: (-candidate[0], candidate[1]))
    out: list[_Found] = []
    pairs = 0
    for start in range(0, len(candidates), BATCH):
        for item in _examined(git, candidates[start : start + BATCH], random):
            out.append(item)
            pairs += min(len(item.positives), PAIRS_PER_COMMIT)
            if pairs >= at_most * 1.05:
                return out
    return out


def is_source(path: str) -> bool:
    """Whether it is part of a program itself, not of its tests, documentation or what it brings along of others."""
    plain = path.isprintable() and not path.startswith('"')
    return (
        plain
        and CODE.search(path) is not None
        and _TEST.search(path) is None
        and _ASIDE.search(path) is None
        and left_out_by_name(path, None) is None
    )


def _changes_few_sources(commit: Commit) -> bool:
    if len(commit.changes) > MAX_FILES or len(commit.parents) != 1:
        return False
    sources = [change for change in commit.changes if is_source(change.path)]
    return 1 <= len(sources) <= MAX_SOURCES and any(change.status == "M" for change in sources)


def _examined(
    git: Repository, candidates: Sequence[tuple[float, int, Commit, Message]], random: Random
) -> Iterator[_Found]:
    known = {commit.sha: (order, told) for _, order, commit, told in candidates}
    fits: list[tuple[Commit, dict[str, tuple[Hunk, ...]], list[Change]]] = []
    for commit, patch in git.patches([commit for _, _, commit, _ in candidates]):
        sources = [change for change in commit.changes if is_source(change.path) and change.old]
        lines = sum(
            len(hunk.removed) + len(hunk.added)
            for path, hunks in patch.items() if is_source(path)
            for hunk in hunks
        )  # fmt: skip
        if sources and lines <= MAX_CHANGED_LINES:
            fits.append((commit, patch, sources))
    blobs = git.blobs(sorted({change.old for _, _, sources in fits for change in sources}))
    for commit, patch, sources in fits:
        order, told = known[commit.sha]
        positives, beside = _pieces(patch, sources, blobs, order, random)
        if 1 <= len(positives) <= MAX_CHUNKS:
            yield _Found(commit, order, told, positives, beside, quoted(_of_tests(patch), random))


def _of_tests(patch: dict[str, tuple[Hunk, ...]]) -> tuple[str, ...]:
    """What the largest change of a test adds."""
    added = [
        hunk.added
        for path, hunks in patch.items()
        if _TEST.search(path) and CODE.search(path)
        for hunk in hunks
    ]
    return max(added, key=len, default=())


def _pieces(
    patch: dict[str, tuple[Hunk, ...]],
    sources: Sequence[Change],
    blobs: dict[str, bytes],
    order: int,
    random: Random,
) -> tuple[list[_Piece], list[_Piece]]:
    """What the commit changes, most changed first, and some of what stands beside it."""
    weighed: list[tuple[int, _Piece]] = []
    beside: list[_Piece] = []
    for change in sources:
        content = blobs.get(change.old, b"")
        if len(content) > MAX_BYTES:
            return [], []  # part of an answer is no answer
        touched: Counter[int] = Counter()
        for hunk in patch[change.path]:
            touched.update(_lines(hunk))
        if not touched:
            continue
        chunks = chunk(change.path, content).chunks
        counts = _touched(chunks, touched)
        pieces = [_Piece(change.path, piece.symbol, passage(change.path, piece), order) for piece in chunks]
        weighed += [(count, pieces[number]) for number, count in counts.items()]
        others = [piece for number, piece in enumerate(pieces) if number not in counts]
        beside += random.sample(others, min(POOL_BESIDE, len(others)))
    weighed.sort(key=lambda pair: (-pair[0], pair[1].path, pair[1].text))
    return [piece for _, piece in weighed], beside


def _lines(hunk: Hunk) -> Iterator[int]:
    """The old lines that say what was changed, negative for the line after which lines were put in."""
    stirring = [number for number, line in enumerate(hunk.removed) if not _IDLE.match(line)]
    new = sum(not _IDLE.match(line) for line in hunk.added)
    if [line.split() for line in hunk.removed] == [line.split() for line in hunk.added]:
        return
    if stirring:
        yield from (hunk.at + number for number in stirring)
    elif new and hunk.removed:
        yield hunk.at
    elif new:
        yield from [-hunk.at] * new


def _touched(chunks: Sequence[Chunk], lines: Counter[int]) -> Counter[int]:
    """How often each chunk is meant; new lines between two chunks mean neither."""
    out: Counter[int] = Counter()
    for line, count in lines.items():
        at = abs(line)
        for number, piece in enumerate(chunks):
            if piece.start_line <= at <= piece.end_line - (line < 0):
                out[number] += count
                break
    return out


# --- hard negatives --------------------------------------------------------------------------------------------------


def _negatives(
    git: Repository, found: Sequence[_Found], items: Sequence[_Found], queries: Sequence[str], random: Random
) -> list[str]:
    """For each query a passage that its words speak for, of a file that was there at the time, and that its commit left
    alone; of another file where there is one. `""` where there is none."""
    pool = _Pool(piece for item in found for piece in (*item.positives, *item.beside))
    near = [pool.nearest(asked, item) for asked, item in zip(queries, items, strict=True)]
    asked = [
        f"{item.commit.sha}^:{piece.path}"
        for item, pieces in zip(items, near, strict=True)
        for piece in pieces
    ]
    there = iter(git.present(asked))
    out = []
    for item, pieces in zip(items, near, strict=True):
        present = [piece for piece in pieces if next(there)]
        own = {piece.path for piece in item.positives}
        elsewhere = [piece for piece in present if piece.path not in own]
        out.append(random.choice(elsewhere or present).text if present else "")
    return out


class _Pool:
    """BM25 over the passages that were read anyway; of one path and name, the version nearest to the commit's time."""

    def __init__(self, pieces: Iterable[_Piece]) -> None:
        self._versions: dict[tuple[str, str], list[_Piece]] = defaultdict(list)
        for piece in pieces:
            self._versions[piece.path, piece.symbol].append(piece)
        self._keys = list(self._versions)
        counts = [Counter(terms(self._versions[key][0].text)) for key in self._keys]
        self._postings: dict[str, list[tuple[int, float]]] = defaultdict(list)
        mean = sum(count.total() for count in counts) / max(len(counts), 1)
        for number, count in enumerate(counts):
            length = 0.3 + 0.9 * count.total() / max(mean, 1.0)
            for term, times in count.items():
                self._postings[term].append((number, times * 2.2 / (times + length)))

    def nearest(self, asked: str, item: _Found) -> list[_Piece]:
        """Those of other files, then those of the files that the commit changes."""
        scores: dict[int, float] = defaultdict(float)
        for term in sorted(set(terms(asked))):
            postings = self._postings.get(term, ())
            if 0 < len(postings) <= max(len(self._keys) // 5, 20):
                weight = math.log(1 + len(self._keys) / len(postings))
                for number, part in postings:
                    scores[number] += weight * part
        paths = {piece.path for piece in item.positives}
        same = {(piece.path, piece.symbol) for piece in item.positives}
        texts = {piece.text for piece in item.positives}
        out: list[_Piece] = []
        beside: list[_Piece] = []
        for number in sorted(scores, key=lambda number: (-scores[number], number))[: NEAREST * 8]:
            versions = self._versions[self._keys[number]]
            piece = min(versions, key=lambda piece: (abs(piece.order - item.order), piece.text))
            if piece.text in texts or (piece.path, piece.symbol) in same:
                continue
            (beside if piece.path in paths else out).append(piece)
            if len(out) == NEAREST:
                break
        return out + beside[:NEAREST]


# --- the program -----------------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m embeddings.training.mine", description=__doc__)
    parser.add_argument("--repositories", type=Path, required=True, help="a list like repositories.json")
    parser.add_argument(
        "--mirrors", type=Path, required=True, help="holds OWNER+NAME/repo, bare repositories"
    )
    parser.add_argument("--out", type=Path, required=True, help="gets train/ and validation/")
    parser.add_argument("--per-repository", type=int, default=PER_REPOSITORY)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--record", action="store_true", help="write commits and counts into the list")
    options = parser.parse_args(arguments)
    listed: list[dict[str, Any]] = json.loads(options.repositories.read_text())
    if refused := [entry["repository"] for entry in listed if ruled_out(entry["repository"])]:
        print(f"refused, this project is measured on: {', '.join(refused)}", file=sys.stderr)
        return 2
    failed = 0
    with ProcessPoolExecutor(options.processes) as pool:
        tasks = {
            pool.submit(
                mine_into, options.out, options.mirrors, entry, options.per_repository, options.seed
            ): entry
            for entry in listed
        }
        for done in as_completed(tasks):
            entry = tasks[done]
            try:
                mined = done.result()
            except (GitError, OSError) as error:
                failed += 1
                print(f"{entry['repository']}: {error}", file=sys.stderr)
                continue
            entry.update(
                commit=mined.commit, at_most=mined.at_most, pairs=mined.pairs, languages=mined.languages
            )
            print(f"{mined.repository}: {mined.pairs} pairs {mined.languages}", file=sys.stderr, flush=True)
    if options.record:
        rows = ",\n".join(f"  {json.dumps(entry, sort_keys=False)}" for entry in listed)
        options.repositories.write_text(f"[\n{rows}\n]\n")
    return 1 if failed else 0


def mine_into(out: Path, mirrors: Path, entry: dict[str, Any], at_most: int, seed: int) -> Mined:
    """One repository's file; what is there already stays.

    Raises ValueError for a ruled-out repository, GitError and OSError.
    """
    repository: str = entry["repository"]
    at_most = entry.get("at_most", at_most)
    name = repository.replace("/", "+")
    target = out / entry["split"] / f"{name}.jsonl.gz"
    about = out / entry["split"] / f"{name}.json"
    if target.exists():
        return Mined(**json.loads(about.read_text()))
    folder = mirrors / name / "repo"
    git = Repository(folder / ".git" if (folder / ".git").exists() else folder)
    tip: str = entry.get("commit") or git.head()
    pairs = list(mine(repository, git, tip=tip, at_most=at_most, seed=seed))
    languages = dict(
        sorted(Counter(pair.lang for pair in pairs).items(), key=lambda item: (-item[1], item[0]))
    )
    mined = Mined(repository, tip, at_most, len(pairs), languages)
    target.parent.mkdir(parents=True, exist_ok=True)
    about.write_text(json.dumps(asdict(mined)) + "\n")
    unfinished = target.with_suffix(".part")
    with unfinished.open("wb") as raw, gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed:
        for row in pairs:
            packed.write(json.dumps(asdict(row), ensure_ascii=False).encode("utf-8", "replace") + b"\n")
    unfinished.rename(target)
    return mined


if __name__ == "__main__":
    raise SystemExit(main())
