"""A tree in memory, an encoder that counts, and points in memory."""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from numpy.typing import NDArray

from infra.qdrant import QdrantPoints

KEY = bytes(range(32))


@dataclass(frozen=True)
class File:
    path: str
    sha: str
    mode: str
    size: int


@dataclass
class MemoryTree:
    files: dict[str, bytes]
    reads: list[str] = field(default_factory=list)

    def entries(self) -> Sequence[File]:
        return [
            File(
                path, hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest(), "100644", len(content)
            )
            for path, content in sorted(self.files.items())
        ]

    def read(self, path: str) -> bytes:
        self.reads.append(path)
        return self.files[path]

    def changed(self, changes: Mapping[str, bytes | None]) -> MemoryTree:
        merged: dict[str, bytes | None] = {**self.files, **changes}
        return MemoryTree({path: content for path, content in merged.items() if content is not None})


class CountingEncoder:
    """A bag of hashed words: alike texts get alike vectors. `texts` is all it was ever asked to encode."""

    def __init__(self, dimension: int = 48, name: str = "words") -> None:
        self.name = name
        self.dimension = dimension
        self.max_tokens = 256
        self.texts: list[str] = []
        self.fails_after: int | None = None

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.texts.extend(texts)
        if self.fails_after is not None and len(self.texts) > self.fails_after:
            raise RuntimeError("the machine went down")
        out = np.full((len(texts), self.dimension), 0.01, dtype=np.float32)
        for row, text in enumerate(texts):
            for word in re.findall(r"\w+", text.lower()):
                out[row, int(hashlib.md5(word.encode()).hexdigest(), 16) % self.dimension] += 1
        return out / np.linalg.norm(out, axis=1, keepdims=True)


@pytest.fixture
def encoder() -> CountingEncoder:
    return CountingEncoder()


@pytest.fixture
async def points() -> AsyncIterator[QdrantPoints]:
    store = QdrantPoints()
    yield store
    await store.close()


@pytest.fixture
def key() -> bytes:
    return KEY


@pytest.fixture
def tree() -> MemoryTree:
    return MemoryTree(
        {
            "shop/prices.py": (
                b"import decimal\n\nRATE = 3\n\n\ndef total_price(basket):\n    return sum(basket)\n\n\n"
                b'class Basket:\n    """Holds fruit."""\n\n    def add_fruit(self, fruit):\n        self.fruit = fruit\n'
            ),
            "shop/mail.py": b"def send_receipt(customer):\n    deliver(customer)\n",
            "docs/guide.md": b"# Guide\n\nHello.\n\n## Paying\n\nPay with coins.\n",
            "web/app.js": b"export function renderBasket(items) {\n  return items.length\n}\n",
            "logo.png": b"\x89PNG\0",
            "package-lock.json": b"{}",
            "vendor/lib.py": b"def vendored(): ...\n",
            "empty.py": b"",
        }
    )


@pytest.fixture
def memory_tree() -> type[MemoryTree]:
    return MemoryTree


@pytest.fixture
def counting_encoder() -> type[CountingEncoder]:
    return CountingEncoder
