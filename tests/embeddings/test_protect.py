"""Cosines stay; ids, paths and lines cannot be read."""

from __future__ import annotations

import hashlib
import uuid

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embeddings.protect import Location, Protection, rotation

KEY = b"k" * 32
PLACE = Location("secret/path.py", 3, 17, "Hidden.symbol")


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


@pytest.mark.parametrize("other", [Protection(b"x" * 32, 1), Protection(KEY, 2)])
def test_another_key_or_installation_shares_no_name(other):
    mine = Protection(KEY, 1)
    assert mine.collection() != other.collection()
    assert mine.repository(5) != other.repository(5)
    assert mine.file(5, "a", "b", "c") != other.file(5, "a", "b", "c")
    assert other.unseal(mine.seal(PLACE, "p"), "p") is None


def test_names_depend_on_each_part_and_not_on_where_it_ends():
    mine = Protection(KEY, 1)
    names = [
        mine.file(1, "a", "b", "c"), mine.file(2, "a", "b", "c"), mine.file(1, "ab", "", "c"),
        mine.file(1, "", "ab", "c"), mine.file(1, "a", "bc", ""), mine.file(1, "a", "b", "d"),
    ]  # fmt: skip
    assert len(set(names)) == len(names)
    assert mine.file(1, "a", "b", "c") == names[0]


def test_a_name_is_keyed_and_not_just_a_hash():
    mine = Protection(KEY, 1)
    assert hashlib.sha256(b"a").hexdigest()[:32] != mine.file(1, "a", "b", "c")
    assert len(mine.point("f", 0)) == 36
    assert uuid.UUID(mine.point("f", 0)) != uuid.UUID(mine.point("f", 1))


def test_a_location_opens_at_its_own_point_only():
    mine = Protection(KEY, 1)
    sealed = mine.seal(PLACE, "point")
    assert mine.unseal(sealed, "point") == PLACE
    assert mine.unseal(sealed, "other") is None
    assert mine.unseal(sealed[:-8] + "AAAAAAA=", "point") is None
    assert mine.unseal("no base64!", "point") is None
    assert mine.unseal("", "point") is None


def test_sealing_twice_gives_two_texts_of_one_length():
    mine = Protection(KEY, 1)
    assert mine.seal(PLACE, "p") != mine.seal(PLACE, "p")
    assert len(mine.seal(Location("a", 1, 2, ""), "p")) == len(mine.seal(Location("a" * 40, 1, 2, ""), "p"))


@given(st.text(), st.text(), st.integers(1, 10**6))
@settings(max_examples=100, deadline=None)
def test_any_location_comes_back(path, symbol, line):
    mine = Protection(KEY, 1)
    place = Location(path, line, line + 1, symbol)
    assert mine.unseal(mine.seal(place, "p"), "p") == place


def test_a_path_that_is_not_utf_8_comes_back():
    mine = Protection(KEY, 1)
    place = Location("bad-\udcff.txt", 1, 1, "")
    assert mine.unseal(mine.seal(place, "p"), "p") == place
    assert mine.file(1, place.path, "b", "c")


def test_a_short_key_is_refused():
    with pytest.raises(ValueError, match="32 bytes"):
        Protection(b"short", 1)
