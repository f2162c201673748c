"""The scorer of tests/bench/localization.py: what counts as right, and that trees come from git's objects alone."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

BENCH = Path(__file__).parents[1] / "bench"
sys.path.insert(0, str(BENCH))

from baselines import Texts, Windows, bm25, by_words, functions_of, windows, words
from product import PRODUCT, Product
from scoring import (
    Gold,
    Outcome,
    Question,
    Ranking,
    compared,
    fused,
    is_candidate,
    outcome,
    paired,
    read_instances,
    some_of,
    summary,
)
from trees import GitRepository, find
from vectors import CachedEncoder, identity


def git(folder: Path, *arguments: str) -> str:
    told = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main", *arguments]
    return subprocess.run(told, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def made(tmp_path: Path) -> tuple[Path, str, str]:
    """A folder with owner+name, and its two commits."""
    work = tmp_path / "repos" / "owner+name"
    (work / "pkg").mkdir(parents=True)
    git(work, "init", "-q")
    (work / "pkg" / "reader.py").write_text("class Reader:\n    def read_header(self):\n        return 1\n")
    (work / "pkg" / "writer.py").write_text("def write_footer():\n    return 2\n")
    (work / "link.py").symlink_to("pkg/reader.py")
    git(work, "add", ".")
    git(work, "commit", "-q", "-m", "one")
    first = git(work, "rev-parse", "HEAD")
    (work / "pkg" / "writer.py").write_text("def write_trailer():\n    return 3\n")
    git(work, "commit", "-q", "-a", "-m", "two")
    return tmp_path / "repos", first, git(work, "rev-parse", "HEAD")


@pytest.mark.parametrize(
    ("path", "candidate"),
    [
        ("a/b.py", True), ("setup.py", True), ("a/tests/b.py", False), ("tests/b.py", False), ("test/b.py", False),
        ("testing/b.py", False), ("testsuite/b.py", False), ("a/test/b.py", True), ("a/testing/b.py", True),
        ("a/test_b.py", False), ("a/b_test.py", False), ("conftest.py", False), ("a/tests.py", False),
        ("a/latest.py", True), ("a/b.pyi", False), ("a/b.md", False), ("contest.py", True),
    ],
)  # fmt: skip
def test_candidates_are_python_files_that_are_no_tests(path: str, candidate: bool) -> None:
    assert is_candidate(path) is candidate


def test_a_file_is_found_within_k_only_when_all_gold_files_are() -> None:
    told = outcome(Gold(frozenset({"a", "c"}), frozenset({"a:f"})), Ranking(("a", "b", "c"), ("x:g", "a:f")))
    assert told == Outcome(first=1, last=3, recall_10=1.0, last_function=2, has_functions=True)
    figures = summary([told])
    assert (figures["file@1"], figures["file@3"], figures["mrr"], figures["function@5"]) == (0, 100, 100, 100)


def test_a_gold_file_that_is_not_ranked_is_never_right() -> None:
    told = outcome(Gold(frozenset({"a", "z"}), frozenset()), Ranking(("a",), ()))
    assert told == Outcome(first=1, last=None, recall_10=0.5, last_function=None, has_functions=False)


def test_instances_without_gold_functions_do_not_count_for_functions() -> None:
    right = Outcome(1, 1, 1.0, 1, True)
    figures = summary([right, Outcome(1, 1, 1.0, None, False)])
    assert figures["functions_n"] == 1
    assert figures["function@5"] == 100


def test_mcnemar_is_exact_and_two_sided() -> None:
    assert paired([True] * 5 + [False], [False] * 5 + [False]).p == pytest.approx(2 / 32)
    assert paired([True, False], [False, True]).p == 1
    assert paired([True], [True]).p == 1
    with pytest.raises(ValueError, match="zip"):
        paired([True], [])


def test_two_methods_are_compared_on_the_instances_that_both_have() -> None:
    near, far = Outcome(1, 1, 1.0, 1, True), Outcome(20, 20, 0.0, 20, True)
    pair = compared({"x": near, "y": near}, {"x": far, "z": near})["file@5"]
    assert (pair.first_only, pair.second_only) == (1, 0)


def test_fusion_prefers_what_both_rank_high() -> None:
    both = fused([Ranking(("a", "b", "c"), ()), Ranking(("b", "c", "d"), ("d:f",))])
    assert both.files[0] == "b"
    assert both.functions == ("d:f",)


def test_a_part_of_the_instances_holds_each_repository_in_proportion_and_is_always_the_same() -> None:
    questions = [
        Question(f"{repo}-{n}", repo, "", "")
        for repo, count in (("a/a", 8), ("b/b", 4))
        for n in range(count)
    ]
    some = some_of(questions, 6)
    assert [sum(one.repo == repo for one in some) for repo in ("a/a", "b/b")] == [4, 2]
    assert some == some_of(questions, 6)
    assert some_of(questions, None) == questions
    assert len(some_of(questions, 100)) == 12


def test_the_questions_hold_nothing_of_what_is_right(tmp_path: Path) -> None:
    row = {
        "id": "i",
        "repo": "o/n",
        "base_commit": "c",
        "query": "q",
        "gold_files": ["secret.py"],
        "gold_functions": [],
    }
    (tmp_path / "i.jsonl.gz").write_bytes(gzip.compress((json.dumps(row) + "\n").encode()))
    questions, gold = read_instances(tmp_path / "i.jsonl.gz")
    assert "secret" not in repr(questions)
    assert gold["i"].files == {"secret.py"}


def test_words_are_whole_and_in_their_parts() -> None:
    assert words("readHTTPHeader_x 404") == ["readhttpheader_x", "read", "http", "header", "x", "404"]


def test_bm25_prefers_the_rare_word_and_the_short_text() -> None:
    scores = bm25(
        "common rare", [{"common": 3}, {"common": 1, "rare": 1}, {"common": 1, "rare": 1, "noise": 50}]
    )
    assert scores[1] > scores[2] > scores[0] > 0
    assert bm25("x", []) == []


def test_functions_carry_their_classes_and_not_what_is_inside_of_them() -> None:
    text = b"@d\ndef f():\n    def inner(): pass\nclass A:\n    if x:\n        def m(self): pass\n    class B:\n        async def n(self): pass\n"
    assert [(one.name, one.start_line) for one in functions_of(text)] == [("f", 1), ("A.m", 6), ("A.B.n", 8)]


def test_functions_of_old_python_are_read_by_indentation() -> None:
    text = b"class A:\n    def m(self):\n        print 'x'\n        def inner(): pass\n    def n(self):\n        pass\ndef f():\n    pass\n"
    found = [(one.name, one.start_line, one.end_line) for one in functions_of(text)]
    assert found == [("A.m", 2, 4), ("A.n", 5, 6), ("f", 7, 8)]


def test_windows_do_not_overlap_and_stand_below_the_path() -> None:
    cut = windows("a.py", b"\n".join(b"x%d" % n for n in range(90)))
    assert [start for start, _ in cut] == [0, 40, 80]
    assert cut[1][1].startswith("a.py\nx40\n")
    assert windows("a.py", b"") == []


def test_a_tree_is_that_of_its_commit_without_links(made: tuple[Path, str, str]) -> None:
    repos, first, second = made
    place = find(repos, "owner/name", first)
    assert place is not None
    repository = GitRepository(place)
    assert [blob.path for blob in repository.tree(first).entries()] == ["pkg/reader.py", "pkg/writer.py"]
    assert b"footer" in repository.tree(first).read("pkg/writer.py")
    assert b"trailer" in repository.tree(second).read("pkg/writer.py")
    with pytest.raises(OSError, match="not in the repository"):
        repository.blob("0" * 40)
    assert b"Reader" in repository.tree(first).read("pkg/reader.py")
    repository.close()


def test_repositories_are_found_in_the_usual_layouts(made: tuple[Path, str, str], tmp_path: Path) -> None:
    repos, first, _ = made
    source = repos / "owner+name"
    for layout in ("owner/name", "owner__name.git", "name", "moved+name/repo"):
        there = tmp_path / layout.replace("/", "-") / "all"
        git(tmp_path, "clone", "-q", "--bare", str(source), str(there / layout))
        assert find(there, "owner/name", first) == there / layout
    assert find(tmp_path / "nowhere", "owner/name", first) is None
    assert find(repos, "owner/name", "0" * 40) is None


def test_history_holds_the_commit_and_its_ancestors_and_nothing_later(made: tuple[Path, str, str]) -> None:
    repos, first, second = made
    repository = GitRepository(repos / "owner+name" / ".git")
    assert repository.history(second).changed(10)[0] == ["pkg/writer.py"]
    assert [sorted(paths) for paths in repository.history(first).changed(10)] == [
        ["link.py", "pkg/reader.py", "pkg/writer.py"]
    ]
    assert len(repository.history(second).changed(1)) == 1


class _Letters:
    """A model of 26 dimensions; counts what it is given."""

    name, dimension, max_tokens, given = "letters", 26, 256, 0

    def encode(self, texts: list[str]) -> np.ndarray:
        self.given += len(texts)
        out = np.full((len(texts), 26), 0.01, np.float32)
        for row, text in enumerate(texts):
            for letter in text.lower():
                if "a" <= letter <= "z":
                    out[row, ord(letter) - 97] += 1
        return out / np.linalg.norm(out, axis=1, keepdims=True)


def test_no_text_is_encoded_twice_nor_in_the_next_run(tmp_path: Path) -> None:
    model = _Letters()
    one = CachedEncoder(model, "letters", tmp_path)
    first = one.encode(["abc", "xyz", "abc"])
    one.close()
    again = CachedEncoder(model, "letters", tmp_path)
    assert np.allclose(again.encode(["xyz", "abc"]), first[[1, 0]])
    assert (model.given, again.encoded, again.cached) == (2, 0, 2)
    again.close()
    other = CachedEncoder(model, "other letters", tmp_path)
    other.encode(["abc"])
    assert model.given == 3


def test_a_folders_identity_changes_with_its_weights(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"1")
    before = identity(str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"2")
    assert identity(str(tmp_path)) != before
    assert identity("some-name") == "some-name"


def test_the_baselines_find_the_file_and_the_function(made: tuple[Path, str, str]) -> None:
    repos, first, _ = made
    place = find(repos, "owner/name", first)
    assert place is not None
    repository = GitRepository(place)
    tree = repository.tree(first)
    question = Question("i", "owner/name", first, "the footer is wrong: write_footer")
    by_bm25 = by_words(Texts(), question, tree, tree.entries())
    assert by_bm25.files[0] == "pkg/writer.py"
    assert by_bm25.functions[0] == "pkg/writer.py:write_footer"
    near = Windows(_Letters().encode).rank(question, tree, tree.entries())
    assert set(near.files) == {"pkg/reader.py", "pkg/writer.py"}
    assert set(near.functions) == {"pkg/reader.py:Reader.read_header", "pkg/writer.py:write_footer"}
    repository.close()


async def test_the_product_is_brought_from_tree_to_tree_and_ranks_files_and_functions(
    made: tuple[Path, str, str],
) -> None:
    repos, first, second = made
    repository = GitRepository(repos / "owner+name" / ".git")
    encoder = CachedEncoder(_Letters(), "letters", None)
    product = Product(encoder, {PRODUCT: (), "without words": ("words",)}, "python")
    one, cost = await product.rank(
        Question("1", "owner/name", first, "`write_footer` writes nothing"),
        repository,
        repository.tree(first),
    )
    assert one[PRODUCT].files[0] == "pkg/writer.py"
    assert one[PRODUCT].functions[0] == "pkg/writer.py:write_footer"
    assert set(one) == {PRODUCT, "without words"}
    assert cost.chunks == 3
    two, cost = await product.rank(
        Question("2", "owner/name", second, "`write_trailer` writes nothing"),
        repository,
        repository.tree(second),
    )
    assert two[PRODUCT].functions[0] == "pkg/writer.py:write_trailer"
    assert cost.chunks == 1
    await product.close()
    encoder.close()
    repository.close()


def test_a_part_that_there_is_not_is_refused() -> None:
    with pytest.raises(KeyError):
        Product(CachedEncoder(_Letters(), "letters", None), {PRODUCT: ("magic",)}, "python")
