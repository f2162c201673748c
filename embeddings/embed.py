"""Turns texts into vectors, in batches of like length, in a thread, so that the event loop goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]

BATCH = 32


class Encoder(Protocol):
    """One embedding model. `encode` blocks; it returns one normalised float32 row for each text."""

    @property
    def name(self) -> str: ...

    @property
    def dimension(self) -> int: ...

    @property
    def max_tokens(self) -> int:
        """What the model reads of a text; the rest is not seen."""
        ...

    def encode(self, texts: Sequence[str]) -> Vectors: ...


class EncoderError(Exception):
    """The embedding model returned something that is not one finite vector for each text."""


async def dimension(encoder: Encoder) -> int:
    """The model's dimension; asking may load the model, so it is asked in a thread."""
    return await asyncio.to_thread(lambda: encoder.dimension)


async def embed(encoder: Encoder, texts: Sequence[str], *, batch: int = BATCH) -> Vectors:
    """One unit vector for each text, in the texts' order. A cancellation takes effect between two batches.

    Raises EncoderError.
    """
    width = await dimension(encoder)
    out = np.zeros((len(texts), width), dtype=np.float32)
    order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        vectors = np.asarray(
            await asyncio.to_thread(encoder.encode, [texts[row] for row in rows]), dtype=np.float32
        )
        if vectors.shape != (len(rows), width) or not np.isfinite(vectors).all():
            raise EncoderError(
                f"The embedding model {encoder.name} did not return one finite vector for each text."
            )
        out[rows] = vectors
    norms = np.linalg.norm(out, axis=1, keepdims=True)
    return (out / np.where(norms > 0, norms, 1)).astype(np.float32)
