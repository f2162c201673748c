"""Vectors kept by the model's identity and the text's hash, so that no text is encoded twice, by this run or the next.

The file holds vectors and hashes; it belongs into a scratch folder outside the repository.
"""

from __future__ import annotations

import hashlib
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embeddings.embed import Encoder

_AT_ONCE = 500
_ENCODED_AT_ONCE = 1024


def identity(model: str | Path) -> str:
    """The name; for a folder its weights' hash, since a folder's content may change under its name."""
    folder = Path(model)
    if not folder.is_dir():
        return str(model)
    digest = hashlib.blake2b(digest_size=16)
    for file in sorted(folder.rglob("*.safetensors")):
        digest.update(file.read_bytes())
    return f"weights {digest.hexdigest()}"


class CachedEncoder:
    """Implements `embeddings.embed.Encoder` by another one. `encoded`, `cached` and `seconds` (spent in the model) are
    counted from the start."""

    def __init__(
        self, encoder: Encoder, known_as: str, folder: Path | None, told: Callable[[int, int], None] | None = None
    ) -> None:  # fmt: skip
        """`told` hears the texts done and the texts to do during a long call."""
        self._encoder = encoder
        self.told = told
        self.encoded = self.cached = 0
        self.seconds = 0.0
        self._using = threading.Lock()
        if folder is None:
            place = ":memory:"
        else:
            folder.mkdir(parents=True, exist_ok=True)
            place = str(folder / f"{hashlib.blake2b(known_as.encode(), digest_size=8).hexdigest()}.sqlite")
        self._store = sqlite3.connect(place, check_same_thread=False, timeout=120)
        self._store.execute("PRAGMA journal_mode=WAL")
        self._store.execute("PRAGMA synchronous=OFF")
        self._store.execute(
            "CREATE TABLE IF NOT EXISTS vectors (text BLOB PRIMARY KEY, vector BLOB) WITHOUT ROWID"
        )
        self._store.commit()

    @property
    def name(self) -> str:
        return self._encoder.name

    @property
    def dimension(self) -> int:
        return self._encoder.dimension

    @property
    def max_tokens(self) -> int:
        return self._encoder.max_tokens

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        with self._using:
            keys = [
                hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
                for text in texts
            ]
            held = self._held(keys)
            missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in held}
            self.cached += len(texts) - len(missing)
            self.encoded += len(missing)
            todo = sorted(missing.items(), key=lambda item: len(item[1]))
            for start in range(0, len(todo), _ENCODED_AT_ONCE):
                part = todo[start : start + _ENCODED_AT_ONCE]
                began = time.monotonic()
                vectors = self._encoder.encode([text for _, text in part]).astype(np.float16)
                self.seconds += time.monotonic() - began
                rows = [(key, vector.tobytes()) for (key, _), vector in zip(part, vectors, strict=True)]
                self._store.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?)", rows)
                self._store.commit()
                held.update(zip((key for key, _ in part), vectors, strict=True))
                if self.told is not None:
                    self.told(start + len(part), len(todo))
        out = np.zeros((len(texts), self.dimension), np.float32)
        for row, key in enumerate(keys):
            out[row] = held[key]
        norms = np.linalg.norm(out, axis=1, keepdims=True)
        return (out / np.where(norms > 0, norms, 1)).astype(np.float32)

    def close(self) -> None:
        self._store.close()

    def _held(self, keys: Sequence[bytes]) -> dict[bytes, NDArray[np.float16]]:
        held: dict[bytes, NDArray[np.float16]] = {}
        for start in range(0, len(keys), _AT_ONCE):
            part = keys[start : start + _AT_ONCE]
            marks = ",".join("?" * len(part))
            found = self._store.execute(f"SELECT text, vector FROM vectors WHERE text IN ({marks})", part)
            held.update((key, np.frombuffer(vector, np.float16)) for key, vector in found)
        return held
