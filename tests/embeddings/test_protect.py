"""Cosines stay; ids, paths and lines cannot be read."""

from __future__ import annotations

import hashlib
import uuid

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embeddings.protect import Protection, rotation

KEY = b"k" * 32
PATH = "secret/path.py"


@pytest.mark.parametrize("dimension", [1, 2, 48, 384])
def test_a_rotation_keeps_every_cosine(dimension):
    generator = np.random.default_rng(1)
    vectors = generator.standard_normal((50, dimension)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rotated = Protection(KEY, 1).rotate(vectors)
    assert rotated.dtype == np.float32
    assert np.abs(vectors @ vectors.T - rotated @ rotated.T).max() < 1e-5
    assert np.abs(np.linalg.norm(rotated, axis=1) - 1).max() < 1e-5


def test_a_rotated_vector_says_nothing_without_the_key():
    vectors = np.random.default_rng(2).standard_normal((200, 384)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    one, other = Protection(KEY, 1).rotate(vectors), Protection(b"x" * 32, 1).rotate(vectors)
    for first, second in ((vectors, one), (one, other)):
        assert np.abs(np.sum(first * second, axis=1)).max() < 0.3  # chance, for 384 dimensions


def test_the_matrix_is_the_same_for_ever():
    """A changed matrix would make every stored vector worthless."""
    matrix = rotation(b"seed", 4)
    assert np.allclose(matrix[0], [0.219282, -0.079183, -0.049724, -0.971171], atol=1e-5)
    assert np.allclose(rotation(b"seed", 384)[5, :3], [0.00092626, 0.08636352, 0.02765359], atol=1e-5)
    assert np.allclose(matrix @ matrix.T, np.eye(4), atol=1e-6)
    assert not np.allclose(rotation(b"other", 4), matrix, atol=0.01)


def nearest(queries: np.ndarray, stored: np.ndarray) -> np.ndarray:
    return np.argmax(queries @ stored.T, axis=1)


def test_without_the_key_known_vectors_find_their_stored_twins_no_better_than_chance():
    """As near as real ones are: code's vectors lie in a narrow cone, which is what could give a rotation away."""
    generator = np.random.default_rng(3)
    count = 2000
    cone = generator.standard_normal(384) + 0.5 * generator.standard_normal((count, 384))
    known = (cone / np.linalg.norm(cone, axis=1, keepdims=True)).astype(np.float32)
    stored = Protection(KEY, 1).rotate(known)
    twins = np.arange(count)
    assert (
        nearest(known, stored) == twins
    ).sum() <= 8  # 1 is expected; 9 or more come in a millionth of all cases
    ranks = (known @ stored.T > np.sum(known * stored, axis=1, keepdims=True)).sum(axis=1)
    assert 0.45 * count < np.median(ranks) < 0.55 * count
    assert (nearest(Protection(KEY, 2).rotate(known), stored) == twins).sum() <= 8
    with_the_key = Protection(KEY, 1).rotate(known)
    assert (nearest(with_the_key, stored) == twins).all()
    assert np.abs(with_the_key @ stored.T - known @ known.T).max() < 1e-5


@pytest.mark.parametrize("other", [Protection(b"x" * 32, 1), Protection(KEY, 2)])
def test_another_key_or_installation_shares_no_name_and_no_term(other):
    mine = Protection(KEY, 1)
    assert mine.installation() != other.installation()
    assert mine.repository(5) != other.repository(5)
    assert mine.generation("c") != other.generation("c")
    assert mine.point("a", "b") != other.point("a", "b")
    assert other.unseal(mine.seal(PATH, "p"), "p") is None
    words = [f"word{n}" for n in range(1000)]
    assert {mine.term(word) for word in words}.isdisjoint(other.term(word) for word in words)


def test_names_depend_on_each_part_and_not_on_where_it_ends():
    mine = Protection(KEY, 1)
    names = [mine.point(*parts) for parts in (["a", "b"], ["ab", ""], ["", "ab"], ["ab"], ["a", "b", ""])]
    assert len(set(names)) == len(names)
    assert mine.point("a", "b") == names[0]
    assert uuid.UUID(names[0])


def test_names_and_terms_are_keyed_and_not_just_hashes():
    mine = Protection(KEY, 1)
    for digest in (hashlib.sha256(b"a"), hashlib.md5(b"a"), hashlib.sha1(b"a")):
        assert digest.hexdigest()[:32] != mine.point("a").replace("-", "")
        assert mine.term("a") not in (
            int.from_bytes(digest.digest()[:4], order) for order in ("big", "little")
        )


def test_a_terms_position_has_32_bits_and_is_the_same_for_ever():
    mine = Protection(KEY, 1)
    positions = {mine.term(f"word{n}") for n in range(20_000)}
    assert len(positions) > 19_995
    assert 0 <= min(positions) < 2**24
    assert 2**32 - 2**24 < max(positions) < 2**32
    assert mine.term("total") == Protection(KEY, 1).term("total") == 4005882027


def test_a_path_opens_at_its_own_point_only():
    mine = Protection(KEY, 1)
    sealed = mine.seal(PATH, "point")
    assert mine.unseal(sealed, "point") == PATH
    assert mine.unseal(sealed, "other") is None
    assert mine.unseal(sealed[:-8] + "AAAAAAA=", "point") is None
    assert mine.unseal("no base64!", "point") is None
    assert mine.unseal("", "point") is None


def test_sealing_twice_gives_two_texts_of_one_length():
    mine = Protection(KEY, 1)
    assert mine.seal(PATH, "p") != mine.seal(PATH, "p")
    assert len(mine.seal("a", "p")) == len(mine.seal("a" * 40, "p"))


@given(st.text())
@settings(max_examples=100, deadline=None)
def test_any_path_comes_back(path):
    mine = Protection(KEY, 1)
    assert mine.unseal(mine.seal(path, "p"), "p") == path


def test_a_path_that_is_not_utf_8_comes_back():
    mine = Protection(KEY, 1)
    path = "bad-\udcff.txt"
    assert mine.unseal(mine.seal(path, "p"), "p") == path
    assert mine.point(path, "b", "c")
    assert mine.term(path)


def test_a_short_key_is_refused():
    with pytest.raises(ValueError, match="32 bytes"):
        Protection(b"short", 1)
