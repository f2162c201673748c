"""Turns texts into vectors, texts of like length together, in a thread, so that the event loop goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]

WINDOW = 1 << 17
"""Characters that are encoded between two moments at which a cancellation takes effect: about a second's work, and
enough for several batches on each core."""


class Encoder(Protocol):
    """One embedding model. `encode` blocks; it returns one normalised float32 row for each text.

    A text's vector may differ in the third digit with the texts beside it: a model in bfloat16 is free to.
    """

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


async def embed(encoder: Encoder, texts: Sequence[str], *, window: int = WINDOW) -> Vectors:
    """One unit vector for each text, in the texts' order. A cancellation takes effect after each `window` characters.

    Raises EncoderError.
    """
    width = await dimension(encoder)
    out = np.zeros((len(texts), width), dtype=np.float32)
    for rows in _windows([len(text) for text in texts], window):
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


def _windows(lengths: Sequence[int], window: int) -> Iterator[list[int]]:
    """Rows in the order of their lengths, in groups that hold `window` characters or a little more."""
    rows: list[int] = []
    room = window
    for row in sorted(range(len(lengths)), key=lambda row: lengths[row]):
        rows.append(row)
        room -= lengths[row] + 1
        if room <= 0:
            yield rows
            rows, room = [], window
    if rows:
        yield rows
