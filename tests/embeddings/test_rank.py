"""What a request names, what belongs together, and what kind of file it is decide the order, each as far as it weighs."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embeddings.chunk import chunk
from embeddings.history import past
from embeddings.imports import Modules
from embeddings.question import read
from embeddings.rank import PARTS, WEIGHTS, place_scores, rank, strengths
from embeddings.search import scan, shortlist
from embeddings.signals import (
    BESIDE_SIGNALS,
    CHUNK_SIGNALS,
    FILE_SIGNALS,
    Evidence,
    Named,
    Near,
    Views,
    Vocabulary,
    is_test,
)

SOURCES = {
    "shop/till.py": "from shop.coin import Coin\n\n\ndef pay(coins):\n    raise ValueError('too few coins were given here')\n\n\ndef change(coins):\n    return sorted(coins)\n",
    "shop/coin.py": "class Coin:\n    worth = 1\n\n    def melt(self):\n        return None\n",
    "shop/__init__.py": "from shop.till import pay\n",
    "shop/lamp.py": "def light(lamp):\n    return lamp\n",
    "other/coin.py": "def flip():\n    return 'heads'\n",
    "tests/test_till.py": "def test_pay():\n    pay(['coin'])\n",
    "docs/coins.md": "# Coins\n\nPay with coins.\n",
}


class Sources(dict):
    @property
    def paths(self):
        return list(self)

    def text(self, path):
        return self[path]

    def chunks(self, path):
        return chunk(path, self[path].encode()).chunks


def evidence(question: str, sources=None) -> Evidence:
    """Without a store: by words and names alone."""
    files = Sources(sources or SOURCES)
    asked = read(question)
    vocabulary = Vocabulary(asked)
    vocabulary.weigh(files.values())
    holders, defining = scan(asked, ((path, text.encode()) for path, text in files.items()))
    named = Named(asked, Modules(files), files.paths, holders, defining)
    nothing = Near({}, 0.0)
    return Evidence(asked, vocabulary, Views(nothing, nothing, [nothing]), named, files, sorted(files))


def signal(found: Evidence, name: str) -> dict[str, float]:
    return dict(zip(found.candidates, found.file_signals()[:, FILE_SIGNALS.index(name)], strict=True))


def order(question: str, weights=WEIGHTS, sources=None) -> list[str]:
    ranked = rank(evidence(question, sources), past(None, []), weights)
    return list(dict.fromkeys(one.path for one in ranked))


def test_every_weight_is_of_a_signal_and_every_signal_of_a_part():
    assert set(WEIGHTS.file) <= {*FILE_SIGNALS, *BESIDE_SIGNALS}
    assert set(WEIGHTS.chunk) <= set(CHUNK_SIGNALS)
    parts = {name for names in PARTS.values() for name in names}
    assert {*FILE_SIGNALS, *BESIDE_SIGNALS} <= parts
    assert set(CHUNK_SIGNALS) - parts == {"nameless"}


def test_a_part_that_is_switched_off_has_no_weight():
    for part, names in PARTS.items():
        without = WEIGHTS.without(part)
        assert not set(names) & {*without.file, *without.chunk}
    with pytest.raises(KeyError):
        WEIGHTS.without("luck")


@pytest.mark.parametrize(
    ("question", "first"),
    [
        ("broken: see shop/lamp.py", "shop/lamp.py"),
        ("`melt` returns nothing", "shop/coin.py"),
        ('Fails\n  File "/x/shop/till.py", line 2, in pay\n  File "/x/shop/lamp.py", line 2, in light\n', "shop/lamp.py"),
        ("the lamp does not light", "shop/lamp.py"),
        ("import shop.lamp is slow", "shop/lamp.py"),
    ],
)  # fmt: skip
def test_what_is_named_comes_first(question, first):
    assert order(question)[0] == first


def test_a_path_of_another_machine_means_the_longest_end_that_is_here():
    named = evidence("x").named
    assert named.resolve("/home/me/shop/coin.py", strict=True) == ["shop/coin.py"]
    assert sorted(named.resolve("coin.py", strict=False)) == ["other/coin.py", "shop/coin.py"]
    assert named.resolve("/usr/lib/python3/json/coin.py", strict=True) == []
    assert named.resolve("nowhere.py", strict=False) == []


def test_tests_and_prose_come_after_programs_unless_asked_for():
    assert {"tests/test_till.py", "docs/coins.md"}.isdisjoint(order("pay with coins")[:2])
    assert signal(evidence("pay"), "test")["tests/test_till.py"] == 1
    assert signal(evidence("the test of pay is flaky"), "test")["tests/test_till.py"] < 1
    assert signal(evidence("documentation of coins"), "prose")["docs/coins.md"] < 1


def test_a_named_test_lifts_its_program():
    found = evidence("tests/test_till.py fails")
    beside = found.beside(past(None, [])).signals(np.full(len(found.candidates), 0.1))
    pairs = dict(zip(found.candidates, beside[:, BESIDE_SIGNALS.index("pair")], strict=True))
    assert {path for path, value in pairs.items() if value} == {"shop/till.py"}


def test_what_a_strong_candidate_imports_is_lifted_by_its_strength():
    found = evidence("pay")
    strength = np.array([float(path == "shop/till.py") for path in found.candidates])
    beside = found.beside(past(None, [])).signals(strength)
    imported = dict(zip(found.candidates, beside[:, BESIDE_SIGNALS.index("imported")], strict=True))
    assert {path for path, value in imported.items() if value} == {"shop/coin.py"}


def test_a_file_stands_where_its_best_place_stands_and_its_others_come_later():
    found = evidence("pay coins")
    files = np.linspace(0, 1, len(found.candidates))
    chunks = np.linspace(1, 0, len(found.chunks))
    scores = place_scores(found, files, chunks, again=0.2)
    for number in set(found.owner.tolist()):
        own = sorted(scores[found.owner == number], reverse=True)
        assert own[0] == pytest.approx(files[number])
        assert all(better - worse >= 0.2 - 1e-9 for better, worse in pairwise(own))


def test_a_place_of_which_nothing_speaks_is_not_shown():
    assert "shop/lamp.py" not in order("melt")


def test_scores_fall_from_one():
    scores = [one.score for one in rank(evidence("pay coins"), past(None, []))]
    assert scores[0] == 1
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize(
    ("path", "test"),
    [
        ("tests/a.py", True), ("src/test_a.py", True), ("a_test.go", True), ("web/a.spec.ts", True), ("java/ATest.java", True),
        ("src/testing.py", False), ("src/latest.py", False), ("contest/a.py", False),
    ],
)  # fmt: skip
def test_tests_are_told_by_their_paths(path, test):
    assert is_test(path) is test


def test_the_shortlist_holds_what_is_named_though_nothing_is_near():
    found = evidence("see shop/lamp.py and `melt`")
    assert {"shop/lamp.py", "shop/coin.py"} <= set(shortlist(found.named, [], {}))


@given(st.lists(st.floats(-50, 50), max_size=20))
def test_strengths_are_shares_of_one(scores):
    shares = strengths(np.array(scores))
    assert not scores or shares.sum() == pytest.approx(1)


@given(
    st.text(max_size=200),
    st.dictionaries(
        st.sampled_from(["a.py", "b/a.py", "c.md", "tests/test_a.py"]), st.text(max_size=200), min_size=1
    ),
)
@settings(deadline=None, max_examples=50)
def test_no_request_and_no_tree_makes_it_fail(question, sources):
    found = evidence(question, sources)
    assert np.isfinite(found.file_signals()).all()
    assert np.isfinite(found.chunk_signals()).all()
    assert len(list(rank(found, past(None, [])))) <= len(found.chunks)
