"""What an index costs: its rate beside the model's own, one changed file, searches by size, bytes and memory.

    python tests/bench/indexing.py [DIR] [--sizes 1000,10000,100000] [--files 5000] [--json]

- A folder (default: this repository) is indexed by the default model into an empty store on disk, then again after one
  file of it has changed. The same texts go through the model alone in the same process, before and after, since other
  programs make a machine slower now and then: the ratio of processor time does not depend on them.
- A tree of `--files` files is made up, indexed, and indexed again after one file has changed: what listing and comparing
  cost. Its vectors and those of the searches by size are random, so these two say nothing about the model, and searching
  leaves the question's own encoding out.

Each part runs in a process of its own, so that its peak of memory is its own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from app.settings import Settings
from embeddings.collection import Entry, Shelf, Tree
from embeddings.embed import Encoder, dimension
from embeddings.index import IndexReport
from embeddings.protect import Protection
from embeddings.repository import RepositoryIndex
from embeddings.shipped import SHIPPED
from infra.encoder import BundledEncoder
from infra.folder import FolderTree
from infra.qdrant import QdrantPoints

KEY = bytes(range(32))
DIMENSION = 384
QUESTION = "method_{n} of Thing{n} gives a wrong total when `value_{n}` is empty"
QUESTIONS = 30


# --- what is measured with ----------------------------------------------------------------------------------------------


@dataclass
class Spent:
    """Seconds on the clock and of all processors."""

    wall: float = 0.0
    processor: float = 0.0


@contextmanager
def spending() -> Iterator[Spent]:
    spent = Spent()
    wall, processor = time.monotonic(), time.process_time()
    try:
        yield spent
    finally:
        spent.wall, spent.processor = time.monotonic() - wall, time.process_time() - processor


class Listening:
    """An encoder that keeps the texts that it was given."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self.name, self.dimension, self.max_tokens = encoder.name, encoder.dimension, encoder.max_tokens
        self.texts: list[str] = []

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.texts.extend(texts)
        return self._encoder.encode(texts)


class Noise:
    """An encoder of random directions, for what does not depend on a model."""

    name, dimension, max_tokens = "noise", DIMENSION, 256

    def __init__(self) -> None:
        self._random = np.random.default_rng(1)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        rows = self._random.standard_normal((len(texts), DIMENSION)).astype(np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@dataclass(frozen=True)
class Changed:
    """`tree` with other content in one file."""

    tree: Tree
    path: str
    content: bytes

    def entries(self) -> list[Entry]:
        return [
            _Entry(self.path, "f" * 40, len(self.content)) if entry.path == self.path else entry
            for entry in self.tree.entries()
        ]

    def read(self, path: str) -> bytes:
        return self.content if path == self.path else self.tree.read(path)


@dataclass(frozen=True)
class _Entry:
    path: str
    sha: str
    size: int | None


def opened(folder: Path, encoder: Encoder) -> tuple[QdrantPoints, RepositoryIndex]:
    points = QdrantPoints(path=folder)
    return points, RepositoryIndex(points, encoder, KEY, 1, 1)


def bytes_below(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def peak_mebibytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


def quantile(values: Sequence[float], at: float) -> float:
    return sorted(values)[min(len(values) - 1, round(at * (len(values) - 1)))]


# --- the parts ----------------------------------------------------------------------------------------------------------


async def folder_part(folder: Path, store: Path) -> dict[str, Any]:
    with spending() as loading:
        encoder = BundledEncoder(Settings().embedding_model, shipped=SHIPPED)
        await dimension(encoder)
        encoder.encode(["warm"] * 64)
    at_rest = peak_mebibytes()
    with spending() as listing:
        tree = FolderTree(folder)
    heard = Listening(encoder)
    points, index = opened(store, heard)
    with spending() as cold:
        report = await index.update(tree, prune=True)
    peak = peak_mebibytes()
    texts = list(heard.texts)
    raw = [_alone(encoder, texts)]
    heard.texts.clear()
    largest = max(
        (entry for entry in tree.entries() if entry.path.endswith(".py")), key=lambda entry: entry.size
    )
    changed = Changed(tree, largest.path, tree.read(largest.path) + b"\n\ndef quite_new():\n    return 1\n")
    with spending() as again:
        second = await index.update(changed, prune=True)
    await points.close()
    raw.append(_alone(encoder, texts))
    wall, processor = (sum(one) / 2 for one in zip(*((r.wall, r.processor) for r in raw), strict=True))
    return {
        "model": encoder.name,
        "load_seconds": loading.wall,
        "list_seconds": listing.wall,
        "files": report.files,
        "chunks": report.chunks,
        "cold_seconds": cold.wall,
        "chunks_per_second": report.chunks / cold.wall,
        "model_chunks_per_second": len(texts) / wall,
        "ratio_of_rates": wall / cold.wall,
        "ratio_of_processor_time": processor / cold.processor,
        "one_change_seconds": again.wall,
        "one_change_chunks": second.chunks,
        "bytes_per_chunk": bytes_below(store) / max(1, report.chunks),
        "loaded_mebibytes": at_rest,
        "peak_mebibytes": peak,
    }


def _alone(encoder: Encoder, texts: Sequence[str]) -> Spent:
    """The model at its best: all texts at once, so that it may sort them all."""
    with spending() as spent:
        encoder.encode(texts)
    return spent


async def change_part(files: int, folder: Path, store: Path) -> dict[str, Any]:
    _write_files(folder, files, methods=4)
    points, index = opened(store, Noise())
    with spending() as listing:
        tree = FolderTree(folder)
    with spending() as cold:
        first = await index.update(tree, prune=True)
    path = folder / "part_0" / "file_0.py"
    path.write_text(path.read_text() + "\n\ndef quite_new():\n    return 1\n")
    with spending() as listing_again:
        tree = FolderTree(folder)
    with spending() as again:
        second = await index.update(tree, prune=True)
    await points.close()
    _expect(second, embedded=1, removed=1)
    return {
        "files": first.files,
        "chunks": first.chunks,
        "list_seconds": listing.wall,
        "cold_seconds_without_model": cold.wall,
        "list_again_seconds": listing_again.wall,
        "one_change_seconds": again.wall,
        "one_change_and_listing_seconds": again.wall + listing_again.wall,
        "peak_mebibytes": peak_mebibytes(),
    }


def _expect(report: IndexReport, **figures: int) -> None:
    if any(getattr(report, name) != value for name, value in figures.items()):
        raise SystemExit(f"expected {figures}, and it was {report}")


async def search_part(chunks: int, folder: Path, store: Path) -> dict[str, Any]:
    _write_files(folder, max(1, chunks // 10), methods=10)
    encoder = Noise()
    points, index = opened(store, encoder)
    tree = FolderTree(folder)
    with spending() as cold:
        report = await index.update(tree, prune=True)
    numbers = random.Random(1).sample(range(max(QUESTIONS + 1, chunks // 10)), QUESTIONS + 1)
    whole = await _timed(
        [lambda n=n: index.search(tree, QUESTION.format(n=n), 20) for n in numbers]  # type: ignore[misc]
    )
    collection = Shelf(points, encoder, Protection(KEY, 1), 1).chunks
    vectors = encoder.encode([""] * (QUESTIONS + 1))
    store_alone = await _timed(
        [
            lambda row=row: points.search(collection, vectors[row : row + 1], 100)
            for row in range(len(vectors))
        ]  # type: ignore[misc]
    )
    await points.close()
    return {
        "chunks": report.chunks,
        "cold_seconds_without_model": cold.wall,
        "search_p50_ms": quantile(whole, 0.5) * 1000,
        "search_p99_ms": quantile(whole, 0.99) * 1000,
        "store_p50_ms": quantile(store_alone, 0.5) * 1000,
        "store_p99_ms": quantile(store_alone, 0.99) * 1000,
        "bytes_per_chunk": bytes_below(store) / max(1, report.chunks),
        "peak_mebibytes": peak_mebibytes(),
    }


async def _timed(calls: Sequence[Callable[[], Awaitable[object]]]) -> list[float]:
    """Without the first, which opens files."""
    out = []
    for call in calls:
        began = time.monotonic()
        await call()
        out.append(time.monotonic() - began)
    return out[1:]


def _write_files(folder: Path, files: int, *, methods: int) -> None:
    words = [f"{one}_{other}" for one in ("row", "page", "user", "tax", "item") for other in range(400)]
    draw = random.Random(1)
    for number in range(files):
        body = "".join(
            f"    def method_{number}_{n}(self, value_{number}):\n"
            + "".join(
                f"        {draw.choice(words)} = self.{draw.choice(words)}(value_{number})\n"
                for _ in range(8)
            )
            + "\n"
            for n in range(methods)
        )
        file = folder / f"part_{number % 50}" / f"file_{number}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"class Thing{number}:\n{body}")


# --- the program --------------------------------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT)
    parser.add_argument("--sizes", default="1000,10000,100000", help="chunks to search in; empty for none")
    parser.add_argument(
        "--files", type=int, default=5000, help="files of the tree that is made up; 0 for none"
    )
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    told = parser.parse_args()
    if told.part is not None:
        _run_part(told.part, told.folder)
        return
    sizes = [int(size) for size in told.sizes.split(",") if size]
    folder = str(told.folder)
    figures = {
        "folder": _in_a_process("folder", folder),
        "change": _in_a_process(f"change:{told.files}", folder) if told.files else None,
        "search": [_in_a_process(f"search:{size}", folder) for size in sizes],
    }
    sys.stdout.write(json.dumps(figures, indent=2) + "\n" if told.json else _table(figures))


def _in_a_process(part: str, folder: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", __file__, folder, "--part", part],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _run_part(part: str, folder: Path) -> None:
    kind, _, size = part.partition(":")
    with tempfile.TemporaryDirectory(prefix="magicode-bench-") as name:
        made, store = Path(name) / "tree", Path(name) / "store"
        made.mkdir()
        if kind == "folder":
            figures = asyncio.run(folder_part(folder, store))
        elif kind == "change":
            figures = asyncio.run(change_part(int(size), made, store))
        else:
            figures = asyncio.run(search_part(int(size), made, store))
    sys.stdout.write(json.dumps(figures) + "\n")


def _table(figures: Mapping[str, Any]) -> str:
    one = figures["folder"]
    lines = [
        f"{one['files']} files, {one['chunks']} chunks, {one['model']}",
        f"  loading the model                {one['load_seconds']:8.2f} s",
        f"  listing the folder               {one['list_seconds']:8.2f} s",
        f"  indexing into an empty store     {one['cold_seconds']:8.2f} s   {one['chunks_per_second']:.0f} chunks a second",
        f"  the model alone, the same texts  {one['model_chunks_per_second']:8.0f} chunks a second",
        f"  index over model                 {one['ratio_of_rates']:8.2f} by the clock, {one['ratio_of_processor_time']:.2f} by processor time (goal 0.9)",
        f"  after one changed file           {one['one_change_seconds']:8.2f} s   {one['one_change_chunks']} chunks",
        f"  stored                           {one['bytes_per_chunk']:8.0f} bytes a chunk",
        f"  memory, model loaded and at most {one['loaded_mebibytes']:8.0f} and {one['peak_mebibytes']} MiB",
    ]
    if (two := figures["change"]) is not None:
        lines += [
            f"{two['files']} made-up files, {two['chunks']} chunks, random vectors",
            f"  indexing into an empty store     {two['cold_seconds_without_model']:8.2f} s",
            f"  after one changed file           {two['one_change_seconds']:8.2f} s, and {two['list_again_seconds']:.2f} s to list the folder (goal: under 1 s)",
            f"  memory at most                   {two['peak_mebibytes']:8.0f} MiB",
        ]
    if figures["search"]:
        lines += [
            "searching random vectors, milliseconds; a search reads the question's candidates from the tree",
            "    chunks   search p50      p99   store p50      p99   bytes a chunk   peak MiB",
        ]
    lines += [
        f"  {row['chunks']:>8}   {row['search_p50_ms']:>10.0f} {row['search_p99_ms']:>8.0f}  {row['store_p50_ms']:>10.1f} {row['store_p99_ms']:>8.1f}"
        f"   {row['bytes_per_chunk']:>13.0f}   {row['peak_mebibytes']:>8}"
        for row in figures["search"]
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
