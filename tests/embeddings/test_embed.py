"""Texts become vectors in windows of like length; a cancellation waits for no more than one of them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from embeddings.embed import EncoderError, embed


class Lengths:
    """Encodes a text as the direction of its length; remembers what it was asked."""

    name, dimension, max_tokens = "lengths", 2, 100

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.asked.append(list(texts))
        rows = np.array([[1, len(text)] for text in texts], dtype=np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@settings(deadline=None)
@given(st.lists(st.integers(0, 300)), st.integers(1, 500))
def test_each_text_has_its_own_vector_in_the_texts_order(lengths: list[int], window: int) -> None:
    encoder = Lengths()
    vectors = asyncio.run(embed(encoder, ["x" * length for length in lengths], window=window))
    assert vectors.shape == (len(lengths), 2)
    assert vectors.dtype == np.float32
    for row, length in enumerate(lengths):
        assert vectors[row, 1] / vectors[row, 0] == pytest.approx(length, rel=1e-5)


@settings(deadline=None)
@given(st.lists(st.integers(0, 300)), st.integers(1, 500))
def test_windows_hold_texts_of_like_length_and_not_much_more_than_they_may(
    lengths: list[int], window: int
) -> None:
    encoder = Lengths()
    asyncio.run(embed(encoder, ["x" * length for length in lengths], window=window))
    asked = [len(text) for texts in encoder.asked for text in texts]
    assert asked == sorted(lengths)
    assert all(sum(len(text) + 1 for text in texts[:-1]) < window for texts in encoder.asked)


async def test_nothing_is_asked_for_no_texts() -> None:
    encoder = Lengths()
    assert (await embed(encoder, [])).shape == (0, 2)
    assert encoder.asked == []


class Slow(Lengths):
    def __init__(self) -> None:
        super().__init__()
        self.entered, self.go = threading.Event(), threading.Event()

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.entered.set()
        self.go.wait(10)
        return super().encode(texts)


async def test_a_cancellation_takes_effect_between_two_windows() -> None:
    encoder = Slow()
    running = asyncio.create_task(embed(encoder, ["some text"] * 100, window=100))
    await asyncio.to_thread(encoder.entered.wait)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    encoder.go.set()
    await asyncio.sleep(0.05)
    assert len(encoder.asked) <= 1


async def test_the_event_loop_goes_on_while_the_model_computes() -> None:
    encoder = Slow()
    running = asyncio.create_task(embed(encoder, ["some text"]))
    await asyncio.to_thread(encoder.entered.wait)
    encoder.go.set()
    assert (await running).shape == (1, 2)


class Wrong(Lengths):
    def __init__(self, answer: NDArray[np.float32]) -> None:
        super().__init__()
        self.answer = answer

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self.answer


@pytest.mark.parametrize(
    "answer",
    [
        np.ones((1, 2), dtype=np.float32),
        np.ones((2, 3), dtype=np.float32),
        np.full((2, 2), np.nan, dtype=np.float32),
        np.array([[1, np.inf], [1, 1]], dtype=np.float32),
    ],
)
async def test_a_model_that_answers_nonsense_is_refused(answer: NDArray[np.float32]) -> None:
    with pytest.raises(EncoderError):
        await embed(Wrong(answer), ["a", "b"])


async def test_vectors_that_are_not_of_length_one_are_made_so_and_nothing_stays_nothing() -> None:
    vectors = await embed(Wrong(np.array([[3, 4], [0, 0]], dtype=np.float32)), ["a", "b"])
    assert np.allclose(vectors, [[0.6, 0.8], [0, 0]])
