"""The right place comes first, and only from the tree that was asked about."""

from __future__ import annotations

import sysconfig
from pathlib import Path

import numpy as np
import pytest

from embeddings.question import names_in
from embeddings.rank import WEIGHTS
from embeddings.repository import RepositoryIndex
from embeddings.search import Found, search
from infra.encoder import BundledEncoder
from infra.qdrant import QdrantPoints


@pytest.fixture
def repository(points, encoder, key) -> RepositoryIndex:
    return RepositoryIndex(points, encoder, key, 1, 10)


@pytest.mark.parametrize(
    ("question", "files", "symbols"),
    [
        ("fix the total", (), ()),
        ("`total` is wrong", (), ("total",)),
        ("total_price and renderBasket and HTTPServer", (), ("total_price", "renderBasket", "HTTPServer")),
        ("call total() twice", (), ("total",)),
        ("Basket.add_fruit, std::sort, Foo#bar", ("Basket.add_fruit",), ("add_fruit", "sort", "bar")),
        ("see shop/prices.py, please", ("shop/prices.py",), ()),
        ("in ./web/app.js:12 it breaks", ("web/app.js",), ()),
        ("the folder src/deep/er", ("src/deep/er",), ()),
        ("", (), ()),
    ],
)
def test_names_are_what_only_code_would_say(question, files, symbols):
    found = names_in(question)
    assert found.files == files
    assert found.symbols == symbols


TRACEBACK = """
Traceback (most recent call last):
  File "/home/me/app/shop/prices.py", line 14, in Basket.add_fruit
    self.fruit = fruit
TypeError: no
"""


def test_a_traceback_names_its_files_lines_and_functions():
    found = names_in(TRACEBACK)
    assert found.lines == (("home/me/app/shop/prices.py", 14),)
    assert found.symbols == ("add_fruit", "fruit", "TypeError")
    assert names_in("web/app.js:12 and docs/guide.md#L3").lines == (("web/app.js", 12), ("docs/guide.md", 3))


async def test_the_place_of_a_traceback_comes_first(repository, tree):
    await repository.update(tree)
    for question in (TRACEBACK, "it breaks at prices.py:14", 'File "/srv/shop/prices.py", line 14'):
        best = (await repository.search(tree, question, 3))[0]
        assert (best.path, best.symbol) == ("shop/prices.py", "Basket.add_fruit")
        assert best.start_line <= 14 <= best.end_line


async def test_a_symbol_named_outright_comes_first(repository, tree):
    await repository.update(tree)
    best = (await repository.search(tree, "what does `send_receipt` do with a basket of fruit", 3))[0]
    assert (best.path, best.start_line, best.end_line, best.symbol) == ("shop/mail.py", 1, 2, "send_receipt")


async def test_a_file_named_outright_is_found(repository, tree):
    await repository.update(tree)
    assert (await repository.search(tree, "look at app.js", 1))[0].path == "web/app.js"


async def test_a_name_is_found_even_where_the_store_does_not_know_the_file(repository, tree):
    """The tree is scanned for names during the run, so a store that lags behind does not hide them."""
    await repository.update(tree)
    newer = tree.changed({"shop/late.py": b"def brand_new_thing():\n    return 1\n"})
    best = (await repository.search(newer, "fix brand_new_thing", 3))[0]
    assert (best.path, best.symbol) == ("shop/late.py", "brand_new_thing")


async def test_only_what_is_in_the_tree_is_found(repository, tree):
    await repository.update(tree)
    without = tree.changed({"shop/mail.py": None, "docs/guide.md": b"# Other\n"})
    for question in ("send_receipt customer deliver", "paying with coins"):
        found = await repository.search(without, question, 50)
        assert found
        assert {hit.path for hit in found} <= {"shop/prices.py", "web/app.js", "docs/guide.md"}
        assert all(hit.end_line == 1 for hit in found if hit.path == "docs/guide.md")


async def test_other_commits_do_not_crowd_the_tree_out(repository, tree, memory_tree):
    await repository.update(tree)
    others = {
        f"old/{n}.py": b"def send_receipt(customer):\n    deliver(customer)\n# %d\n" % n for n in range(60)
    }
    await repository.update(memory_tree(others))
    found = await repository.search(tree, "deliver a customer", 2)
    assert found[0].path == "shop/mail.py"
    assert {hit.path for hit in found} <= set(tree.files)


async def test_places_do_not_overlap_and_are_ranked(repository, tree):
    await repository.update(
        tree.changed({"long.py": b"def long():\n" + b"".join(b"    basket(%d)\n" % n for n in range(300))})
    )
    tree = tree.changed({"long.py": b"def long():\n" + b"".join(b"    basket(%d)\n" % n for n in range(300))})
    found = await repository.search(tree, "`long` basket", 50)
    assert [hit.score for hit in found] == sorted((hit.score for hit in found), reverse=True)
    for one in found:
        for other in found:
            if one is not other and one.path == other.path:
                shared = min(one.end_line, other.end_line) - max(one.start_line, other.start_line) + 1
                assert 2 * shared < min(one.end_line - one.start_line, other.end_line - other.start_line) + 1


async def test_no_more_places_than_asked_for(repository, tree):
    await repository.update(tree)
    assert len(await repository.search(tree, "basket", 2)) == 2
    assert await repository.search(tree, "basket", 0) == []
    assert await repository.search(tree, "  ", 5) == []


async def test_a_search_before_any_index_finds_what_is_named(repository, tree):
    assert await repository.search(tree, "coins", 5) == []
    found = await repository.search(tree, "`total_price`", 5)
    assert found[0].symbol == "total_price"
    assert {hit.path for hit in found} == {"shop/prices.py"}


async def test_what_the_store_lacks_is_embedded_by_the_search_itself(repository, encoder, tree):
    await repository.update(tree)
    encoder.texts.clear()
    await repository.search(tree, "fix `brand_new_thing`", 3)
    asked = len(encoder.texts)
    newer = tree.changed({"shop/late.py": b"def brand_new_thing():\n    return 1\n"})
    await repository.search(newer, "why is `brand_new_thing` late", 3)
    assert any(text.startswith("shop/late.py brand_new_thing") for text in encoder.texts[asked:])


async def test_a_question_asked_again_is_not_embedded_again(repository, encoder, tree):
    await repository.update(tree)
    first = await repository.search(tree, "a basket of fruit", 3)
    encoder.texts.clear()
    assert await repository.search(tree, "a basket of fruit", 3) == first
    assert encoder.texts == []


class Letters:
    """A reranker that likes nothing but letters."""

    def scores(self, question, passages):
        return [float("deliver" in passage) for passage in passages]


async def test_a_reranker_has_the_last_word_on_the_first_places(points, encoder, key, tree):
    repository = RepositoryIndex(points, encoder, key, 1, 10)
    await repository.update(tree)
    plain = await search(repository._shelf, tree, "basket", 50)
    again = await search(repository._shelf, tree, "basket", 50, reranker=Letters())
    assert {(hit.path, hit.start_line) for hit in plain} == {(hit.path, hit.start_line) for hit in again}
    assert [hit.score for hit in again] == [hit.score for hit in plain]
    assert again[0].path == "shop/mail.py" != plain[0].path


class Commits:
    """Each commit changed the mail and the script together."""

    def changed(self, limit):
        return [["shop/mail.py", "web/app.js"]] * min(limit, 30)


async def test_the_past_lifts_what_changed(repository, tree):
    await repository.update(tree)

    async def score(history):
        found = await repository.search(tree, "basket", 50, history=history)
        return max(hit.score for hit in found if hit.path == "shop/mail.py")

    assert await score(Commits()) > await score(None)


async def test_a_part_that_is_switched_off_weighs_nothing(repository, tree):
    await repository.update(tree)
    question = "look at shop/mail.py"
    assert (await repository.search(tree, question, 1))[0].path == "shop/mail.py"
    found = await repository.search(tree, question, 50)
    less = await repository.search(tree, question, 50, weights=WEIGHTS.without("named files"))
    assert max(hit.score for hit in less if hit.path != "shop/mail.py") > max(
        hit.score for hit in found if hit.path != "shop/mail.py"
    )


async def test_what_another_key_sealed_is_passed_over(points, encoder, key, tree):
    repository = RepositoryIndex(points, encoder, key, 1, 10)
    await repository.update(tree)
    shelf = repository._shelf
    vectors = shelf.protection.rotate(encoder.encode(["basket"]))
    hits = (await points.search(shelf.chunks, vectors, 50))[0]
    await points.upsert(
        shelf.chunks,
        [hit[0] for hit in hits],
        np.repeat(vectors, len(hits), axis=0),
        [{**hit[2], "place": "AAAA" * 20} for hit in hits],
    )
    assert await repository.search(tree, "nothing but cosines", 5) == []


QUESTIONS = [
    ("wrap a paragraph so that lines are at most so many characters", "textwrap.py", "wrap"),
    ("remove common leading whitespace from every line", "textwrap.py", "dedent"),
    ("does a file name match a shell wildcard pattern", "fnmatch.py", "fnmatch"),
    ("turn an HSV colour into RGB", "colorsys.py", "hsv_to_rgb"),
    ("insert an item into a sorted list", "bisect.py", "insort"),
]


@pytest.fixture(scope="session")
def bundled() -> BundledEncoder:
    return BundledEncoder()


async def test_the_bundled_model_finds_the_right_function_by_its_meaning(bundled, key, memory_tree):
    folder = Path(sysconfig.get_paths()["stdlib"])
    names = ("textwrap.py", "fnmatch.py", "colorsys.py", "bisect.py")
    tree = memory_tree({name: (folder / name).read_bytes() for name in names})
    points = QdrantPoints()
    repository = RepositoryIndex(points, bundled, key, 1, 10)
    await repository.update(tree)
    firsts = 0
    for question, path, symbol in QUESTIONS:
        found = await repository.search(tree, question, 5)
        assert any(hit.path == path and symbol in hit.symbol for hit in found), (question, found)
        firsts += found[0].path == path
    assert firsts == len(QUESTIONS)
    assert all(isinstance(hit, Found) for hit in found)
    await points.close()
