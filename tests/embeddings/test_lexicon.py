"""A word of a request and the identifier that it means become the same term."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embeddings.lexicon import MAX_TERMS, STOP_WORDS, terms


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("readHTTPFiles", ["readhttpfiles", "read", "http", "file"]),
        ("total_price", ["total_price", "total", "price"]),
        ("_private__name", ["private__name", "name"]),
        ("Basket", ["basket"]),
        (
            "the baskets of an entry and two entries, classes, boxes",
            ["basket", "entry", "two", "entry", "box"],
        ),
        ("status analysis process", ["status", "analysis", "process"]),
        ("utf8 404 7", ["utf8", "utf", "404"]),
        ("E501", ["e501", "501"]),
        ("größe_alt", ["größe_alt", "größe", "alt"]),
        ("def f(self): return None", []),
        ("", []),
    ],
)
def test_identifiers_give_themselves_and_their_parts(text, expected):
    assert terms(text) == expected


def test_one_spelling_in_prose_finds_another_in_code():
    assert set(terms("read the files over sockets")) <= set(terms("read_file(overSocket)")) | {"socket"}


def test_repeated_words_are_repeated_terms():
    assert terms("fruit fruit fruit") == ["fruit"] * 3


@given(st.text(max_size=400))
def test_terms_are_short_lower_case_and_never_stop_words(text):
    found = terms(text)
    assert all(1 < len(term) <= 90 and term not in STOP_WORDS for term in found if term.isascii())
    assert found == terms(text)


@given(st.lists(st.from_regex(r"[a-z]{3,9}", fullmatch=True), min_size=2, max_size=4))
def test_camel_and_snake_case_share_their_parts(words):
    snake, camel = "_".join(words), words[0] + "".join(word.title() for word in words[1:])
    assert terms(snake)[1:] == terms(camel)[1:]


@pytest.mark.parametrize("part", ["(", "a", "A", "aA", "_", "a_", "9", "é", "a b ", "\x00"])
def test_a_hostile_text_is_read_at_once(part):
    began = time.thread_time()
    assert len(terms(part * (1_000_000 // len(part)))) <= MAX_TERMS
    assert time.thread_time() - began < 3


def test_no_more_terms_than_the_limit():
    assert len(terms("alpha " * (MAX_TERMS + 5))) == MAX_TERMS
